"""The base class of all models: what the engine calls."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import Tensor, nn

from muybridge.core.types import Batch, Output
from muybridge.nn.criterion import CROSS_ENTROPY, Criterion, Targets

__all__ = ["CROSS_ENTROPY", "Criterion", "Model", "Parts", "Steps", "Targets"]

State = TypeVar("State")


class Steps(ABC, Generic[State]):
    """A recurrent network that is given frames as they come, and carries a state from one to the next.

    After any number of frames, the answer is that of the network for these frames. The weights are arranged once, when
    this is made; inference only.
    """

    def encode(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What can be computed of each frame by itself, such as the feature maps of a CNN, in place of the frames."""
        return inputs

    @abstractmethod
    def initial_state(self, inputs: dict[str, Tensor]) -> State:
        """That before the first frame of recordings like these."""

    @abstractmethod
    def advance(self, inputs: dict[str, Tensor], state: State) -> State:
        """The state after new frames, of which there is at least one; ``inputs`` are as :meth:`encode` gives them."""

    @abstractmethod
    def answer(self, state: State) -> Output:
        """The scores of the frames so far, without maps."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A network over segments of a video as two parts, of which the first computes each segment by itself.

    What it makes of a segment can so be kept, and used again for another clip that the segment is in.

    Attributes:
        frames: consecutive frames of a segment.
        early: from the frames of segments, ``N F ...`` by the argument names of ``forward``, to features ``N ...``.
        late: from the features of the segments of clips, ``B S ...``, to the output of the network, without maps.
    """

    frames: int
    early: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    late: Callable[[dict[str, Tensor]], Output]


class Model(nn.Module):
    """An ``nn.Module`` that returns an :class:`~muybridge.core.types.Output` and computes its own losses.

    Attributes:
        return_maps: whether the output also contains maps that only serve visualization; set before a call. They are
            not computed otherwise.
    """

    return_maps: bool = False

    if TYPE_CHECKING:  # each paper has its own arguments; an abstract method here would make each an override error
        forward: Callable[..., Output]
        __call__: Callable[..., Output]

    def steps(self) -> "Steps[Any] | None":
        """The network frame by frame; None where an answer needs the whole recording, as its config says."""
        return None

    def parts(self) -> Parts | None:
        """The network as two parts; None where nothing is computed of each segment by itself."""
        return None

    def losses(
        self, output: Output, labels: Targets, inputs: dict[str, Tensor], criterion: Criterion = CROSS_ENTROPY
    ) -> dict[str, Tensor]:
        """Named loss terms, scalars averaged over the batch; the engine adds them up and logs each.

        Args:
            output: of ``forward``.
            labels: of the samples.
            inputs: the arguments of ``forward``.
            criterion: the loss of class scores, as the recipe says (``train.balance``, ``train.focal_gamma``, ...).
        """
        return {criterion.name: criterion(output.logits, labels)}

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fits statistics (mean, PCA) in one pass over the training set without augmentation, before training."""

    def solve(self, batches: Iterable[Batch]) -> None:
        """Computes weights that need no gradient, in one pass over the training set with labels, before training."""
