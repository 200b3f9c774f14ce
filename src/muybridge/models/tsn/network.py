"""The network of TSN and TSM.

Legend: B clips, T frames = S segments, C channels, H and W pixels, N = B T images.
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
        if config.shift:
            shift_blocks(self.trunk, config.segments, config.shift_div)
        self.to(memory_format=torch.channels_last)

    def features(self, video: Float[Tensor, "B T C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The trunk's last feature maps; adds nothing to ``maps``."""
        return self.trunk(as_images(video))
