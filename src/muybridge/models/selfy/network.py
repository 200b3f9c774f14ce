"""The network of SELFYNet: a ResNet, with temporal shift, and SELFY blocks after some of its stages.

Legend: B clips, T frames = S segments, C channels, H and W pixels, N = B T images.
"""

from collections.abc import Mapping
from typing import ClassVar, cast

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.core.errors import RunError
from muybridge.models.clips import ClipModel, Maps, as_images, build_trunk
from muybridge.models.selfy import SELFYConfig
from muybridge.models.selfy.block import SelfSimilarityBlock
from muybridge.nn.checkpoint_keys import KeyPatterns, State
from muybridge.nn.shift import shift_blocks


class SELFYNet(ClipModel):
    """Classifies a clip by appearance and self-similarity."""

    key_patterns: ClassVar[KeyPatterns] = (
        (r"^selfy\.stss_transformation\.downsample\.0\.", "selfy.res3.reduction.conv."),
        (r"^selfy\.stss_transformation\.downsample\.1\.", "selfy.res3.reduction.norm."),
        (r"^selfy\.stss_extraction\.conv(\d)\.0\.", r"selfy.res3.extraction.layers.\1.conv."),
        (r"^selfy\.stss_extraction\.conv(\d)\.1\.", r"selfy.res3.extraction.layers.\1.norm."),
        (r"^selfy\.stss_integration\.conv3_fuse\.1\.", "selfy.res3.offset_fusion.0.conv."),
        (r"^selfy\.stss_integration\.conv3_fuse\.2\.", "selfy.res3.offset_fusion.0.norm."),
        (r"^selfy\.stss_integration\.conv(\d)\.0\.", r"selfy.res3.spatial_integration.\1.conv."),
        (r"^selfy\.stss_integration\.conv(\d)\.1\.", r"selfy.res3.spatial_integration.\1.norm."),
        (r"^selfy\.stss_integration\.upsample\.0\.", "selfy.res3.expansion.conv."),
        (r"^selfy\.stss_integration\.upsample\.1\.", "selfy.res3.expansion.norm."),
    )

    def __init__(self, config: SELFYConfig, num_classes: int, channels: int) -> None:
        trunk = build_trunk(config, channels)
        super().__init__(config, num_classes, trunk)
        if config.shift:
            shift_blocks(trunk, config.segments)
        self.selfy = nn.ModuleDict(
            {
                f"res{stage}": SelfSimilarityBlock(
                    trunk.widths[stage - 1],
                    config.segments,
                    window=config.window,
                    offsets=config.offsets,
                    hidden=config.hidden,
                    extraction=config.extraction,
                    widths=config.extraction_widths,
                    integration=config.integration,
                    integration_width=config.integration_width,
                    temperature=config.temperature,
                    upsample=config.upsample,
                )
                for stage in config.similarity_stages
            }
        )
        self.to(memory_format=torch.channels_last)

    def features(self, video: Float[Tensor, "B T C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The trunk's last feature maps, with motion added after the configured stages.

        Adds ``similarity_res*`` (``B T X Y L U V``) of each block to ``maps``.
        """
        x = self.trunk.forward_stem(as_images(video))
        for number, stage in enumerate(self.trunk.stages, start=2):
            x = stage(x)
            if f"res{number}" in self.selfy:
                block = cast("SelfSimilarityBlock", self.selfy[f"res{number}"])
                if maps is not None:
                    maps[f"similarity_res{number}"] = block.similarity(x)
                x = block(x)
        return x

    def convert_released(self, state: Mapping[str, Tensor]) -> State:
        """The authors' state dict with our keys, in the shapes of 2D convolutions.

        Raises:
            RunError: the state dict is that of another network, or of another number of time offsets.
        """
        renamed = super().convert_released(state)
        for key, value in renamed.items():
            if value.ndim == 5:
                weight = rearrange(value, "d c 1 h w -> d c h w")
                # The authors' expansion is a transposed convolution, whose weight has input channels first.
                renamed[key] = rearrange(weight, "c d 1 1 -> d c 1 1") if "expansion" in key else weight
        fusion = renamed.get("selfy.res3.offset_fusion.0.conv.weight")
        if fusion is not None and "res3" in self.selfy:
            offsets = fusion.shape[1] // fusion.shape[0]
            expected = len(cast("SelfSimilarityBlock", self.selfy["res3"]).offsets)
            if offsets != expected:
                raise RunError(
                    f"the checkpoint has {offsets} time offsets",
                    expected=f"{expected}, as in the model's settings",
                    hint=f"set model.window = [{offsets}, 9, 9]",
                )
        return renamed
