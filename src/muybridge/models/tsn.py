"""TSN and TSM: a ResNet on one frame of each segment, its scores averaged; with shifted channels it sees motion.

Legend: B clips, T frames = S segments, C channels, H and W pixels, N = B T images.
Source: Wang et al., ECCV 2016 (TSN); Lin et al., ICCV 2019 (TSM, ``shift = true``).
"""

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from muybridge.core.contracts import ClipData, Holds
from muybridge.core.spec import ModelSpec
from muybridge.models.clips import ClipModel, ClipModelConfig, Maps, as_images
from muybridge.nn.shift import shift_blocks

SPEC = ModelSpec(
    name="tsn",
    title="Segment consensus over a ResNet (TSN), with temporal shift (TSM)",
    paper="Wang et al., Temporal Segment Networks, ECCV 2016; Lin et al., TSM: Temporal Shift Module, ICCV 2019",
    link="https://arxiv.org/abs/1811.08383",
    code="https://github.com/mit-han-lab/temporal-shift-module",
    departures={
        "backbone": "ResNet, as TSM uses; TSN's paper has BN-Inception and a second stream over optical flow",
    },
)


class TSNConfig(ClipModelConfig):
    """The knobs of TSN and TSM.

    Attributes:
        shift: shift channels along time before the first convolution of every block; this is TSM.
        shift_part: one in this many channels looks a segment ahead, one in this many looks back.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["tsn"] = "tsn"
    shift: bool = False
    shift_part: PositiveInt = 8

    def build(self, num_classes: int, holds: Holds | None = None) -> "TSN":
        """The model for videos of the channels that the data set holds; without one, for RGB."""
        holds = holds or ClipData()
        assert isinstance(holds, ClipData)
        return TSN(self, num_classes, holds.channels).to(memory_format=torch.channels_last)


class TSN(ClipModel):
    """Classifies a clip by the mean of its frames' scores."""

    def __init__(self, config: TSNConfig, num_classes: int, channels: int) -> None:
        super().__init__(config, num_classes, config.build_trunk(channels))
        if config.shift:
            shift_blocks(self.trunk, config.segments, config.shift_part)

    def features(self, video: Float[Tensor, "B T C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The trunk's last features; there is nothing to draw on the way."""
        x = self.trunk.start(as_images(video))
        for stage in self.trunk.stages:
            x = stage(x)
        return x
