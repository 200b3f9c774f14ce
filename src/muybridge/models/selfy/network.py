"""The network of SELFYNet: a ResNet, with temporal shift, and SELFY blocks after some of its stages.

Legend: B clips, T frames = S segments, C channels, H and W pixels, N = B S segments.
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
        blocks = [stage - 2 for stage in config.similarity_stages]
        self._alone = 0 if config.shift else min([*blocks, len(trunk.stages)])  # stages that see no other segment
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

    def early(self, segments: Float[Tensor, "N 1 C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The stem, and without temporal shift the stages before the first block; adds nothing to ``maps``."""
        return self.trunk.forward_stages(self.trunk.forward_stem(as_images(segments)), end=self._alone)

    def late(self, x: Float[Tensor, "N D h w"], maps: Maps | None) -> Float[Tensor, "N D2 h2 w2"]:
        """The other stages, with motion added after the configured ones.

        Adds ``similarity_res*`` (``B T X Y L U V``) of each block to ``maps``.
        """
        for index in range(self._alone, len(self.trunk.stages)):
            x = self.trunk.stages[index](x)
            if f"res{index + 2}" in self.selfy:
                block = cast("SelfSimilarityBlock", self.selfy[f"res{index + 2}"])
                if maps is not None:
                    maps[f"similarity_res{index + 2}"] = block.similarity(x)
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
