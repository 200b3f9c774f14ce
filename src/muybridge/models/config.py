"""The base classes of model configs. No module from here to the papers' configs imports torch at run time."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from muybridge.core.contracts import ClipInput, FrozenPart, Holds, Takes
from muybridge.core.spec import ModelSpec
from muybridge.nn.options import Backbone

if TYPE_CHECKING:
    from muybridge.models.base import Model


class ModelConfig(BaseModel):
    """The settings of a model: an immutable config with one method, :meth:`build`. Unknown settings are errors.

    Attributes:
        learns_features: whether parameters other than the classifier's are trained.
        multi_label: whether the scores of classes may be taken each for itself, for recordings of several labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    spec: ClassVar[ModelSpec]
    learns_features: ClassVar[bool] = True
    multi_label: ClassVar[bool] = True

    def _refuse_without_effect(self, names: Iterable[str], choice: str) -> None:
        """Raise ValueError if one of these settings is given, which have no effect with the choice that was made."""
        given = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
        if given:
            raise ValueError(
                f'{", ".join(given)} has no effect with {choice} = "{getattr(self, choice)}"; leave it out'
            )

    def takes(self) -> Takes:
        """The input of the model, which the data layer prepares."""
        raise NotImplementedError

    @property
    def gains_from_bfloat16(self) -> bool:
        """Whether a training is faster in bfloat16 where the device computes in it."""
        return True

    def frozen_parts(self) -> tuple[FrozenPart, ...]:
        """Submodules that are not trained and whose features can be cached; by default none."""
        return ()

    def needs_whole_recording(self) -> str:
        """Why no answer can be carried from frame to frame, in words; empty where the model has ``steps``."""
        return f"a model of the kind {self.spec.name} takes the frames of a recording at once"

    def without_pretrained(self) -> "ModelConfig":
        """This config without pretrained weights, for a model whose parameters are loaded after it is built."""
        return self.model_copy(update={"pretrained": False}) if "pretrained" in type(self).model_fields else self

    def build(self, num_classes: int, holds: Holds | None = None) -> "Model":
        """The model, with parameters initialized from torch's global generator.

        Args:
            num_classes: number of class scores.
            holds: what the data set holds; determines the size of the input. None: as in the paper's main benchmark.
        """
        raise NotImplementedError


class ClipModelConfig(ModelConfig):
    """The settings of every network over segments of a video.

    Attributes:
        backbone: depth of the ResNet.
        stages: how many of its four stages are used. Each but the first halves the maps; with small frames, a stage
            whose maps are smaller than its 3x3 kernels takes most of the time and adds little.
        width: channels of its stem and first stage; each later stage has twice as many. Pretrained weights have 64.
        segments: number of parts of equal length into which a video is divided.
        dropout: before the classifier.
        pretrained: start from ImageNet weights, as the papers do; downloaded once from the Hugging Face hub.
        size, mean, std: of the frames, see :class:`~muybridge.core.contracts.ClipInput`.
    """

    backbone: Backbone = "resnet50"
    stages: int = Field(default=4, ge=1, le=4)
    width: int = Field(default=64, ge=8, multiple_of=8)
    segments: PositiveInt = 8
    dropout: float = Field(default=0.5, ge=0, lt=1)
    pretrained: bool = False
    size: PositiveInt = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def takes(self) -> ClipInput:
        """One normalized frame of each segment."""
        return ClipInput(self.segments, size=self.size, mean=self.mean, std=self.std)
