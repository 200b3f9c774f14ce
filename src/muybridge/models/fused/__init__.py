"""A network and a linear model whose probabilities are averaged, as one model.

Source: late fusion as in two-stream networks, Simonyan and Zisserman, NIPS 2014.
"""

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveFloat, model_validator

from muybridge.core.contracts import ClipInput, Holds, SkeletonInput
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ModelConfig
from muybridge.models.drnn import DRNNConfig
from muybridge.models.linear import LinearConfig
from muybridge.models.networks import AnyNetwork

if TYPE_CHECKING:
    from muybridge.models.fused.network import Fused

SPEC = ModelSpec(
    name="fused",
    title="Fused: a network and a linear model, whose probabilities are averaged",
    paper="Simonyan and Zisserman: Two-Stream Convolutional Networks for Action Recognition in Videos. NIPS 2014",
    link="https://arxiv.org/abs/1406.2199",
    differences={
        "partner": "the second model is linear, on statistics of the whole recording; the paper's is a second network, "
        "on optical flow",
    },
)


class FusedConfig(ModelConfig):
    """The settings of a network and a linear model; ``muybridge train --model auto`` chooses them by validation.

    Attributes:
        network: the settings of the network, with its name.
        linear: the settings of the linear model, of the same kind of recordings.
        weight: share of the linear model in the probabilities; with 0 there is none.
        temperature: divides the scores of the network, before the softmax.
    """

    spec: ClassVar[ModelSpec] = SPEC
    multi_label: ClassVar[bool] = False
    learns_features: ClassVar[bool] = False
    name: Literal["fused"] = "fused"
    network: AnyNetwork = DRNNConfig.model_validate({})
    linear: LinearConfig = LinearConfig()
    weight: float = Field(default=0.5, ge=0, lt=1)
    temperature: PositiveFloat = 1.0

    @model_validator(mode="after")
    def _same_kind(self) -> "FusedConfig":
        of_skeletons = isinstance(self.network.takes(), SkeletonInput)
        if of_skeletons != self.linear.description().of_skeletons:
            kinds = ("videos", "skeletons") if of_skeletons else ("skeletons", "video")
            raise ValueError(f"linear takes statistics of {kinds[0]}, and its network takes {kinds[1]}")
        return self

    def takes(self) -> SkeletonInput | ClipInput:
        """What the network takes, and the statistics that the linear model takes."""
        return replace(self.network.takes(), statistics=self.linear.description() if self.weight else None)

    def without_pretrained(self) -> "FusedConfig":
        """See :meth:`ModelConfig.without_pretrained`."""
        return self.model_copy(update={"network": self.network.without_pretrained()})

    def build(self, num_classes: int, holds: Holds | None = None) -> "Fused":
        """Both models; without ``holds`` as the network's."""
        from muybridge.models.fused.network import Fused

        return Fused(self, num_classes, holds)
