"""The network of TSN and TSM.

Legend: B clips, T frames = S segments, C channels, H and W pixels, N = B S segments.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from muybridge.models.clips import ClipModel, Maps, as_images, build_trunk
from muybridge.models.tsn import TSNConfig
from muybridge.nn.shift import shift_blocks


class TSN(ClipModel):
    """Classifies a clip by the mean of its frames' scores."""

    def __init__(self, config: TSNConfig, num_classes: int, channels: int) -> None:
        super().__init__(config, num_classes, build_trunk(config, channels))
        self.config: TSNConfig = config
        if config.shift:
            shift_blocks(self.trunk, config.segments, config.shift_div)
        self.to(memory_format=torch.channels_last)

    def early(self, segments: Float[Tensor, "N 1 C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The whole trunk, or with temporal shift its stem; adds nothing to ``maps``."""
        images = as_images(segments)
        return self.trunk.forward_stem(images) if self.config.shift else self.trunk(images)

    def late(self, x: Float[Tensor, "N D h w"], maps: Maps | None) -> Float[Tensor, "N D2 h2 w2"]:
        """With temporal shift the trunk's stages; adds nothing to ``maps``."""
        return self.trunk.forward_stages(x) if self.config.shift else x
