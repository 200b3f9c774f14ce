"""The base class of networks over segments of a video: from features to scores, and the conversion of checkpoints.

Legend: B clips, T frames = S segments x F frames, C channels, H and W pixels, K classes, N = B S images.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from muybridge.core.types import Output
from muybridge.models.base import Model, Parts
from muybridge.models.config import ClipModelConfig
from muybridge.nn.backbones import Trunk, resnet
from muybridge.nn.checkpoint_keys import KeyPatterns, State, check_same_network, rename_keys, resnet_key_patterns
from muybridge.nn.consensus import Consensus

Maps = dict[str, Tensor]


class ClipModel(Model):
    """A ResNet over segments whose scores are averaged.

    Attributes:
        key_patterns: from the authors' parameter names outside the ResNet to ours, as (pattern, replacement).
    """

    key_patterns: ClassVar[KeyPatterns] = ()

    def __init__(self, config: ClipModelConfig, num_classes: int, trunk: Trunk) -> None:
        super().__init__()
        self.config = config
        self.frames_per_segment = config.takes().frames_per_segment
        self.trunk = trunk
        self.head = Consensus(trunk.widths[-1], num_classes, config.segments, config.dropout)

    def early(self, segments: Float[Tensor, "N F C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The feature maps of each segment before the first exchange between segments; may add to ``maps``."""
        raise NotImplementedError

    def late(self, x: Float[Tensor, "N D h w"], maps: Maps | None) -> Float[Tensor, "N D2 h2 w2"]:
        """The last feature maps of every segment from those of :meth:`early`; may add to ``maps``."""
        raise NotImplementedError

    def forward(self, video: Float[Tensor, "B T C H W"]) -> Output:
        """Class scores; with ``return_maps`` also maps, including ``class_activation`` (``B S h w``)."""
        maps: Maps = {}
        wanted = maps if self.return_maps else None
        segments = rearrange(video, "b (s f) c h w -> (b s) f c h w", f=self.frames_per_segment)
        features = self.late(self.early(segments, wanted), wanted)
        logits = self.head(features)
        if self.return_maps:
            maps["class_activation"] = self.head.class_activation(features, logits)
        return Output(logits, maps)

    def parts(self) -> Parts | None:
        """The stages before the first exchange between segments, and those after it."""
        return Parts(self.frames_per_segment, self._early_part, self._late_part)

    def _early_part(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"features": self.early(inputs["video"], None)}

    def _late_part(self, features: dict[str, Tensor]) -> Output:
        maps = rearrange(features["features"], "b s d h w -> (b s) d h w")
        return Output(self.head(self.late(maps.contiguous(memory_format=torch.channels_last), None)), {})

    def convert_released(self, state: Mapping[str, Tensor]) -> State:
        """The authors' state dict with our keys and shapes.

        Raises:
            RunError: the state dict is that of another network.
        """
        check_same_network(state, self.config.backbone, self.head.classifier.out_features)
        renamed = rename_keys(state, resnet_key_patterns(self.key_patterns))
        weight = renamed.get("head.classifier.weight")
        if weight is not None and weight.ndim == 3:  # some classify by a convolution with kernel 1
            renamed["head.classifier.weight"] = weight.squeeze(-1)
        return renamed


def build_trunk(config: ClipModelConfig, channels: int, *, zero_init_last: bool = True) -> Trunk:
    """The configured ResNet for images with ``channels`` channels; see :func:`muybridge.nn.backbones.resnet`."""
    return resnet(
        config.backbone,
        channels,
        stages=config.stages,
        width=config.width,
        pretrained=config.pretrained,
        zero_init_last=zero_init_last,
    )


def as_images(segments: Float[Tensor, "N F C H W"]) -> Float[Tensor, "N C H W"]:
    """The middle frame of each segment, channels-last in memory, the fastest layout for convolutions."""
    return segments[:, segments.shape[1] // 2].contiguous(memory_format=torch.channels_last)
