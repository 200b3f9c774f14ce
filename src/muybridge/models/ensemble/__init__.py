"""Several trained networks whose probabilities are averaged, as one model.

Source: late fusion as in two-stream networks, Simonyan and Zisserman, NIPS 2014.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from muybridge.core.contracts import ClipInput, Holds, SkeletonInput
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ModelConfig
from muybridge.models.drnn import DRNNConfig
from muybridge.models.networks import AnyNetwork

if TYPE_CHECKING:
    from muybridge.models.ensemble.network import Ensemble

SPEC = ModelSpec(
    name="ensemble",
    title="Ensemble: networks for the same recordings, whose probabilities are averaged",
    paper="Simonyan and Zisserman: Two-Stream Convolutional Networks for Action Recognition in Videos. NIPS 2014",
    link="https://arxiv.org/abs/1406.2199",
    differences={"fusion": "the weighted mean of probabilities; the paper's best is an SVM on the scores of both"},
)


class EnsembleConfig(ModelConfig):
    """The settings of an ensemble; ``muybridge fuse RUN RUN --out DIR`` makes one of trained runs.

    Attributes:
        members: the settings of each network, with its name. They read the same frames or joints.
        weights: of their probabilities, one for each; all alike by default.
        temperatures: divide the scores of each before the softmax; 1 by default.
    """

    spec: ClassVar[ModelSpec] = SPEC
    multi_label: ClassVar[bool] = False
    name: Literal["ensemble"] = "ensemble"
    members: tuple[AnyNetwork, ...] = Field((DRNNConfig.model_validate({}),) * 2, min_length=2)
    weights: tuple[NonNegativeFloat, ...] = ()
    temperatures: tuple[PositiveFloat, ...] = ()

    @model_validator(mode="after")
    def _one_number_a_member(self) -> "EnsembleConfig":
        for name in ("weights", "temperatures"):
            numbers = getattr(self, name)
            if numbers and len(numbers) != len(self.members):
                raise ValueError(f"{name} has {len(numbers)} numbers, and there are {len(self.members)} members")
        if self.weights and not any(self.weights):
            raise ValueError("all weights are 0; one has to be larger")
        self.takes()
        return self

    def takes(self) -> SkeletonInput | ClipInput:
        """What all members take: equal, except that one may take frames and another their optical flow."""
        first, *others = (member.takes() for member in self.members)
        for number, other in enumerate(others, 2):
            first = _merged(first, other, number)
        return first

    def without_pretrained(self) -> "EnsembleConfig":
        """See :meth:`ModelConfig.without_pretrained`."""
        return self.model_copy(update={"members": tuple(member.without_pretrained() for member in self.members)})

    def build(self, num_classes: int, holds: Holds | None = None) -> "Ensemble":
        """All members; without ``holds`` each as its own default."""
        from muybridge.models.ensemble.network import Ensemble

        return Ensemble(self, num_classes, holds)


def _merged(one: SkeletonInput | ClipInput, other: SkeletonInput | ClipInput, number: int) -> SkeletonInput | ClipInput:
    """What two members take together; ValueError if they read recordings differently."""
    if isinstance(one, ClipInput) and isinstance(other, ClipInput):
        bound = one.flow_bound if one.flow_bound is not None else other.flow_bound
        shared = {"pixels": one.pixels or other.pixels, "flow": one.flow or other.flow, "flow_bound": bound}
        if not (one.pixels and other.pixels):  # only frames are normalized
            seen = one if one.pixels else other
            shared |= {"mean": seen.mean, "std": seen.std}
        if replace(one, **shared) == replace(other, **shared):
            return replace(one, **shared)
    if one != other:
        raise ValueError(
            f"member {number} reads recordings in another way than those before it ({other}, not {one}); members take "
            "the same joints, or the same frames and their flow"
        )
    return one
