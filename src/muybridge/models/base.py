"""What every model has in common: a frozen config that builds it, and the calls the engine makes."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from muybridge.core.contracts import FrozenPart, Holds, Takes
from muybridge.core.spec import ModelSpec
from muybridge.core.types import Output

Targets = Int64[Tensor, " B"] | Float[Tensor, "B K"]
"""The right class of each sample, or a probability for every class (label smoothing, mixup)."""


class ModelConfig(BaseModel):
    """The knobs of a model: a frozen noun with one verb, :meth:`build`. Unknown knobs are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    spec: ClassVar[ModelSpec]

    def takes(self) -> Takes:
        """What the data layer has to prepare for this model."""
        raise NotImplementedError

    def frozen_parts(self) -> tuple[FrozenPart, ...]:
        """The parts whose answers can be computed once and kept, so that training does without them; often none."""
        return ()

    def without_pretrained(self) -> "ModelConfig":
        """This config without fetching weights, for a model whose parameters are loaded once it is built."""
        return self.model_copy(update={"pretrained": False}) if "pretrained" in type(self).model_fields else self

    def build(self, num_classes: int, holds: Holds | None = None) -> "Model":
        """The model, with fresh parameters drawn from torch's global generator.

        Args:
            num_classes: scores per sample.
            holds: what the data set holds; sizes the input. None takes the layout of the paper's main benchmark.
        """
        raise NotImplementedError


class Model(nn.Module):
    """An ``nn.Module`` that answers with :class:`Output` and can be asked for its losses.

    Attributes:
        return_maps: whether the output carries also those maps that are for pictures alone and cost time; set before a call.
    """

    return_maps: bool = False

    if TYPE_CHECKING:  # each paper has its own arguments; an abstract method here would make each an override error
        forward: Callable[..., Output]
        __call__: Callable[..., Output]

    def losses(self, output: Output, labels: Targets, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named loss terms, scalars averaged over the batch; the engine adds them and journals each."""
        return {"cross_entropy": F.cross_entropy(output.logits, labels)}

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fit whatever is fitted and not learned (means, PCA) on the training set, seen once, without augmentation."""
