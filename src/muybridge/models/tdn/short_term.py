"""The short-term difference module: what moves around a segment's center frame, seen by a narrow copy of the trunk.

Legend: B clips, S segments, F frames of a segment, N = B S, C and D channels, H and W pixels.
Source: Wang et al., TDN, CVPR 2021, Eq. 2 and 3; the figures of each step from the authors' code.
"""

import copy
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from muybridge.nn.backbones import Trunk
from muybridge.nn.convnorm import ConvNorm

Fusion = Literal["weighted", "sum", "attention"]
Upsample = Literal["nearest", "bilinear"]
Source = Literal["differences", "frames"]

Segments = Float[Tensor, "B S F C H W"]


class ShortTermDifference(nn.Module):
    """Runs beside the first stages of a trunk on stacked frame differences, at half the size, and adds to them.

    Attributes:
        stages: how many stages it runs beside and fuses with; 1 is the stem alone, 2 adds res2, and so on.
        share: the image path's weight in a weighted fusion, the rest is the motion path's.
    """

    def __init__(
        self,
        trunk: Trunk,
        frames: int,
        stages: int,
        *,
        share: float,
        fusion: Fusion,
        upsample: Upsample,
        source: Source,
    ) -> None:
        super().__init__()
        self.share, self.fusion, self.upsample, self.source = share, fusion, upsample, source
        first = trunk.stem.conv.weight
        self.stem = ConvNorm.make((frames - 1) * first.shape[1], len(first), 7, stride=2)
        with torch.no_grad():  # every difference starts with the colour-blind filters of the trunk's own stem
            self.stem.conv.weight.copy_(first.mean(dim=1, keepdim=True).expand_as(self.stem.conv.weight))
        self.stages = nn.ModuleList(copy.deepcopy(stage) for stage in list(trunk.stages)[: stages - 1])

    @property
    def replaces_image(self) -> bool:
        """Whether the image path has no weight at all, so that it need not be computed."""
        return self.fusion == "weighted" and self.share == 0

    def differences(self, video: Segments) -> Float[Tensor, "B S F1 C h w"]:
        """Differences of neighbouring frames, averaged over 2 x 2 pixels."""
        height, width = (size // 2 * 2 for size in video.shape[-2:])
        upper, lower = video[..., 0:height:2, :width], video[..., 1:height:2, :width]
        rows = (
            upper + lower
        )  # adding slices is several times faster than pooling, and before the differences half of it
        if self.source == "differences":
            change = rows[:, :, 1:] - rows[:, :, :-1]
        else:
            center = video.shape[2] // 2
            change = torch.cat([rows[:, :, :center], rows[:, :, center + 1 :]], dim=2)
        return (change[..., 0::2] + change[..., 1::2]) / 4

    def start(self, differences: Float[Tensor, "B S F1 C h w"]) -> Float[Tensor, "N D h4 w4"]:
        """The motion path's own stem."""
        stacked = rearrange(differences, "b s f c h w -> (b s) (f c) h w").contiguous(memory_format=torch.channels_last)
        return F.max_pool2d(self.stem(stacked, rectify=True), 3, stride=2, padding=1)

    def fuse(self, x: Float[Tensor, "N D H W"], motion: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D H W"]:
        """The image path with the motion path, brought to its size, added."""
        doubled = x.shape[2:] == (2 * motion.shape[2], 2 * motion.shape[3])
        if self.fusion == "weighted" and self.upsample == "nearest" and doubled and not torch.compiler.is_compiling():
            return cast("Tensor", _Blend.apply(x, motion, self.share))
        motion = F.interpolate(motion, x.shape[2:], mode=self.upsample)
        if self.fusion == "weighted":
            return torch.lerp(motion, x, self.share)
        return x + motion if self.fusion == "sum" else x * (0.5 + torch.sigmoid(motion))


class _Blend(torch.autograd.Function):
    """``share x + (1 - share) up(motion)`` with nearest-neighbour doubling, without writing the enlarged map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, motion: Tensor, share: float) -> Tensor:
        ctx.share = share
        wide = rearrange(x, "n c (h p) (w q) -> n h p w q c", p=2, q=2)
        blend = torch.lerp(rearrange(motion, "n c h w -> n h 1 w 1 c"), wide, share)
        return rearrange(blend, "n h p w q c -> n c (h p) (w q)")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.share * gradient, 4 * (1 - ctx.share) * F.avg_pool2d(gradient, 2), None


def motion_magnitude(differences: Float[Tensor, "B S F1 C h w"]) -> Float[Tensor, "B S h w"]:
    """How much each pixel of a segment changes, for pictures."""
    return reduce(differences.abs(), "b s f c h w -> b s h w", "mean")
