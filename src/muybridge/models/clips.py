"""What the networks that look at segments of a video share: knobs, the way from features to scores, the authors' names.

Legend: B clips, T frames = S segments x F frames, C channels, H and W pixels, K classes, N = B S images.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor

from muybridge.core.contracts import ClipInput
from muybridge.core.types import Output
from muybridge.models.base import Model, ModelConfig
from muybridge.nn.backbones import Backbone, Trunk, resnet
from muybridge.nn.checkpoint_keys import KeyPatterns, State, check_same_network, rename_keys, resnet_key_patterns
from muybridge.nn.consensus import Consensus

Maps = dict[str, Tensor]


class ClipModelConfig(ModelConfig):
    """The knobs of every network over segments.

    Attributes:
        backbone: depth of the ResNet.
        stages: how many of its four stages are kept. Each halves the maps once more; with small frames, a stage whose
            maps are smaller than its 3x3 kernels takes most of the time and adds little.
        width: channels of its stem and first stage; each later stage is twice as wide. Pretrained weights have 64.
        segments: pieces of equal length a video is cut into.
        dropout: before the classifier.
        pretrained: start from ImageNet weights, as the papers do; fetched once from the Hugging Face hub.
        size, mean, std: of the frames, see :class:`ClipInput`.
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
        """One normalised frame from each segment."""
        return ClipInput(self.segments, size=self.size, mean=self.mean, std=self.std)

    def build_trunk(self, channels: int, *, zero_last: bool = True) -> Trunk:
        """The ResNet for images of so many channels; see :func:`muybridge.nn.backbones.resnet`."""
        return resnet(
            self.backbone,
            channels,
            stages=self.stages,
            width=self.width,
            pretrained=self.pretrained,
            zero_last=zero_last,
        )


class ClipModel(Model):
    """A ResNet over segments whose scores are averaged.

    Attributes:
        return_maps: whether the output carries maps for pictures. They are computed only then, so that they cost
            nothing in training and testing; set it before a call.
        key_patterns: the authors' names for what is not ResNet, as (pattern, replacement).
    """

    key_patterns: ClassVar[KeyPatterns] = ()
    return_maps: bool = False

    def __init__(self, config: ClipModelConfig, num_classes: int, trunk: Trunk) -> None:
        super().__init__()
        self.config = config
        self.trunk = trunk
        self.head = Consensus(trunk.widths[-1], num_classes, config.segments, config.dropout)

    def features(self, video: Float[Tensor, "B T C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The last features of every segment; writes what there is to draw into ``maps`` when given."""
        raise NotImplementedError

    def forward(self, video: Float[Tensor, "B T C H W"]) -> Output:
        """Scores; with :attr:`draws` also the maps, each ``B S ...``, ``class_activation`` (``B S h w``) among them."""
        maps: Maps = {}
        features = self.features(video, maps if self.return_maps else None)
        logits = self.head(features)
        if self.return_maps:
            maps["class_activation"] = self.head.class_activation(features, logits)
        return Output(logits, maps)

    def convert_released(self, state: Mapping[str, Tensor]) -> State:
        """The authors' state under our names.

        Raises:
            RunError: it is the state of another network.
        """
        check_same_network(state, self.config.backbone, self.head.classifier.out_features)
        ours = rename_keys(state, resnet_key_patterns(self.key_patterns))
        weight = ours.get("head.classifier.weight")
        if weight is not None and weight.ndim == 3:  # some classify by a convolution of kernel 1
            ours["head.classifier.weight"] = weight.squeeze(-1)
        return ours


def as_images(video: Float[Tensor, "B T C H W"]) -> Float[Tensor, "N C H W"]:
    """The frames as a batch of images, channels last in memory, where convolutions are fastest."""
    return rearrange(video, "b t c h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
