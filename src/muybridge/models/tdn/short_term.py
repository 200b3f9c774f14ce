"""The short-term difference module: frame differences around a segment's center frame, in a copy of the first stages.

Legend: B clips, S segments, F frames of a segment, F1 = F - 1, N = B S, C and D channels, H and W pixels.
Source: Wang et al., TDN, CVPR 2021, Eq. 2 and 3; details of each operation from the authors' code.
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
    """A path parallel to the first stages of a trunk, over frame differences at half size, fused after each stage.

    Attributes:
        stages: number of parallel stages; 1 is the stem alone, 2 adds res2, and so on.
        image_weight: the image path's weight in the weighted fusion; the motion path has the rest.
    """

    def __init__(
        self,
        trunk: Trunk,
        frames: int,
        stages: int,
        *,
        image_weight: float,
        fusion: Fusion,
        upsample: Upsample,
        source: Source,
    ) -> None:
        super().__init__()
        self.image_weight, self.fusion, self.upsample, self.source = image_weight, fusion, upsample, source
        image_filters = trunk.stem.conv.weight
        self.stem = ConvNorm.make((frames - 1) * image_filters.shape[1], len(image_filters), 7, stride=2)
        with torch.no_grad():  # initialized, for every channel of every difference, to the mean filters over RGB
            mean = image_filters.mean(dim=1, keepdim=True)
            self.stem.conv.weight.copy_(mean.expand_as(self.stem.conv.weight))
        self.stages = nn.ModuleList(copy.deepcopy(stage) for stage in list(trunk.stages)[: stages - 1])

    @property
    def replaces_image(self) -> bool:
        """Whether the image path has weight 0, so that it need not be computed."""
        return self.fusion == "weighted" and self.image_weight == 0

    def differences(self, video: Segments) -> Float[Tensor, "B S F1 C h w"]:
        """Differences of consecutive frames, averaged over 2 x 2 pixels."""
        height, width = (size // 2 * 2 for size in video.shape[-2:])
        # Adding slices is several times faster than pooling, and before the differences it is half the work.
        rows = video[..., 0:height:2, :width] + video[..., 1:height:2, :width]
        if self.source == "differences":
            change = rows[:, :, 1:] - rows[:, :, :-1]
        else:
            center = video.shape[2] // 2
            change = torch.cat([rows[:, :, :center], rows[:, :, center + 1 :]], dim=2)
        return (change[..., 0::2] + change[..., 1::2]) / 4

    def forward_stem(self, differences: Float[Tensor, "B S F1 C h w"]) -> Float[Tensor, "N D h4 w4"]:
        """The motion path's stem and pooling."""
        stacked = rearrange(differences, "b s f c h w -> (b s) (f c) h w").contiguous(memory_format=torch.channels_last)
        return F.max_pool2d(self.stem(stacked, relu=True), 3, stride=2, padding=1)

    def fuse(self, x: Float[Tensor, "N D H W"], motion: Float[Tensor, "N D h w"]) -> Float[Tensor, "N D H W"]:
        """The image path fused with the upsampled motion path."""
        doubled = x.shape[2:] == (2 * motion.shape[2], 2 * motion.shape[3])
        if self.fusion == "weighted" and self.upsample == "nearest" and doubled and not torch.compiler.is_compiling():
            return cast("Tensor", _UpsampleAndBlend.apply(x, motion, self.image_weight))
        motion = F.interpolate(motion, x.shape[2:], mode=self.upsample)
        if self.fusion == "weighted":
            return torch.lerp(motion, x, self.image_weight)
        return x + motion if self.fusion == "sum" else x * (0.5 + torch.sigmoid(motion))


class _UpsampleAndBlend(torch.autograd.Function):
    """``weight x + (1 - weight) up(motion)`` with nearest-neighbor doubling, without storing the enlarged map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, motion: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        quads = rearrange(x, "n c (h p) (w q) -> n h p w q c", p=2, q=2)
        blend = torch.lerp(rearrange(motion, "n c h w -> n h 1 w 1 c"), quads, weight)
        return rearrange(blend, "n h p w q c -> n c (h p) (w q)")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.weight * gradient, 4 * (1 - ctx.weight) * F.avg_pool2d(gradient, 2), None


def motion_magnitude(differences: Float[Tensor, "B S F1 C h w"]) -> Float[Tensor, "B S h w"]:
    """Mean absolute difference of each pixel of a segment, for visualization."""
    return reduce(differences.abs(), "b s f c h w -> b s h w", "mean")
