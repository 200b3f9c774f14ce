"""The network of TDN: a ResNet, a short-term module beside its first stages, long-term modules in its blocks.

Legend: B clips, T frames = S segments x F frames, C channels, H and W pixels, N = B S images.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.models.base import Parts
from muybridge.models.clips import ClipModel, Maps, as_images, build_trunk
from muybridge.models.tdn import TDNConfig
from muybridge.models.tdn.long_term import LongTermDifference
from muybridge.models.tdn.short_term import ShortTermDifference, motion_magnitude
from muybridge.nn.backbones import map_size
from muybridge.nn.checkpoint_keys import KeyPatterns, State
from muybridge.nn.shift import TemporalConv


class TDN(ClipModel):
    """Classifies a clip by appearance and by motion at two time scales."""

    key_patterns: ClassVar[KeyPatterns] = (
        (r"^conv1_5\.0\.", "short_term.stem.conv."),
        (r"^conv1_5\.1\.", "short_term.stem.norm."),
        (r"^resnext_layer1\.", "short_term.stages.0."),
        (r"\.mse\.conv1\.", ".after_conv1.long_term.squeeze.conv."),
        (r"\.mse\.bn1\.", ".after_conv1.long_term.squeeze.norm."),
        (r"\.mse\.conv2\.", ".after_conv1.long_term.align."),
        (r"\.mse\.conv3\.", ".after_conv1.long_term.expand.conv."),
        (r"\.mse\.bn3\.", ".after_conv1.long_term.expand.norm."),
        (r"\.mse\.conv3_smallscale2\.", ".after_conv1.long_term.coarse.conv."),
        (r"\.mse\.bn3_smallscale2\.", ".after_conv1.long_term.coarse.norm."),
        (r"\.mse\.conv3_smallscale4\.", ".after_conv1.long_term.fine.conv."),
        (r"\.mse\.bn3_smallscale4\.", ".after_conv1.long_term.fine.norm."),
        (r"\.shift\.conv\.", ".after_conv1.temporal."),
    )

    def __init__(self, config: TDNConfig, num_classes: int, channels: int) -> None:
        trunk = build_trunk(config, channels, zero_init_last=False)
        super().__init__(config, num_classes, trunk)
        nn.init.normal_(self.head.classifier.weight, std=0.001)
        nn.init.zeros_(self.head.classifier.bias)
        self.short_term = self._short_term(config) if config.short_stages else None
        self._parallel = max(0, config.short_stages - 1)  # stages beside the short-term module
        exchanging = [stage - 2 for stage in (*config.long_stages, *config.temporal_stages)]
        self._alone = min([*exchanging, len(trunk.stages)])  # stages that see no other segment
        for number, blocks in enumerate(trunk.blocks(), start=2):
            for block in blocks:
                block.after_conv1 = _temporal_modules(config, block.mid_channels, number)
        if self.short_term is not None and self.short_term.replaces_image:
            for unused in (trunk.stem, *list(trunk.stages)[: len(self.short_term.stages)]):
                unused.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def _short_term(self, config: TDNConfig) -> ShortTermDifference:
        default_weight = 0.5 if config.segments == 8 else 0.75
        return ShortTermDifference(
            self.trunk,
            config.frames_per_segment,
            config.short_stages,
            image_weight=default_weight if config.image_weight is None else config.image_weight,
            fusion=config.short_fusion,
            upsample=config.upsample,
            source=config.short_source,
        )

    def parts(self) -> Parts | None:
        """See :class:`ClipModel`; None where segments are exchanged beside the short-term module already."""
        return super().parts() if self._parallel <= self._alone else None

    def early(self, segments: Float[Tensor, "N F C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The stages beside the short-term module, and those after it before the first that sees other segments.

        Adds ``differences`` to ``maps`` (``B S h w``, mean absolute difference within a segment, at half size).
        """
        x = self._parallel_features(segments, maps)
        return self.trunk.forward_stages(x, self._parallel, self._alone)

    def late(self, x: Float[Tensor, "N D h w"], maps: Maps | None) -> Float[Tensor, "N D2 h2 w2"]:
        """The other stages.

        Adds ``gates_res*`` to ``maps`` (``B S h w``, mean gate of the last block) for each stage with the long-term
        module.
        """
        for index in range(max(self._parallel, self._alone), len(self.trunk.stages)):
            x = self._forward_stage(index, x, maps)
        return x

    def _parallel_features(self, segments: Float[Tensor, "N F C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The features after the stages parallel to the short-term module."""
        images, short_term = as_images(segments), self.short_term
        if short_term is None:
            return self.trunk.forward_stem(images)
        differences = short_term.differences(segments[None])
        if maps is not None:
            magnitude = motion_magnitude(differences)
            maps["differences"] = rearrange(magnitude, "1 (b s) h w -> b s h w", s=self.config.segments)
        motion = short_term.forward_stem(differences)
        if short_term.replaces_image:
            for stage in short_term.stages:
                motion = stage(motion)
            height, width = (map_size(pixels, self._parallel) for pixels in images.shape[2:])
            return F.interpolate(motion, (height, width), mode=short_term.upsample)
        x = short_term.fuse(self.trunk.forward_stem(images), motion)
        for index, stage in enumerate(short_term.stages):
            x, motion = self._forward_stage(index, x, maps), stage(motion)
            x = short_term.fuse(x, motion)
        return x

    def _forward_stage(self, index: int, x: Float[Tensor, "N D H W"], maps: Maps | None) -> Float[Tensor, "N D2 h w"]:
        """The output of one of the trunk's stages, numbered from 0 here and from res2 in the maps."""
        stage = self.trunk.stages[index]
        return stage(x) if maps is None else self._forward_with_gates(stage, x, f"gates_res{index + 2}", maps)

    def _forward_with_gates(self, stage: nn.Module, x: Tensor, name: str, maps: Maps) -> Tensor:
        """The stage's output; adds the gate of its last long-term module to ``maps``."""
        modules = [module for module in stage.modules() if isinstance(module, LongTermDifference)]
        if not modules:
            return stage(x)

        def store_gate(module: nn.Module, inputs: tuple[Tensor]) -> None:
            assert isinstance(module, LongTermDifference)
            maps[name] = reduce(module.gain(*inputs), "(b s) c h w -> b s h w", "mean", s=module.segments)

        with modules[-1].register_forward_pre_hook(store_gate):
            return stage(x)

    def convert_released(self, state: Mapping[str, Tensor]) -> State:
        """The authors' state dict with our keys, without the unused stem, convolution biases moved to running means."""
        renamed = super().convert_released({key: value for key, value in state.items() if "conv1_temp" not in key})
        for key in [key for key in renamed if key.endswith(".conv.bias")]:
            bias = renamed.pop(key)
            mean = key.removesuffix("conv.bias") + "norm.running_mean"
            renamed[mean] = renamed[mean] - bias
        return renamed


def _temporal_modules(config: TDNConfig, channels: int, stage: int) -> nn.Module:
    """The modules after the first convolution of a block of the given stage."""
    layers: dict[str, nn.Module] = {}
    if stage in config.long_stages:
        layers["long_term"] = LongTermDifference(
            channels,
            config.segments,
            reduction=config.reduction,
            gate=config.long_gate,
            source=config.long_source,
            bidirectional=config.bidirectional,
            multi_scale=config.multi_scale,
            upsample=config.upsample,
        )
    if stage in config.temporal_stages:
        layers["temporal"] = TemporalConv(channels, config.segments)
    return nn.Sequential(OrderedDict(layers))
