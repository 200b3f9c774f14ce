"""Moving features along time: the fixed shift of TSM, and the learnt temporal convolution that starts as that shift.

Legend: N images = B clips x T segments, C channels, H and W pixels. Images of one clip stand next to each other.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from muybridge.nn.backbones import Trunk

Frames = Float[Tensor, "N C H W"]


def by_clip(x: Frames, segments: int) -> Float[Tensor, "B T H W C"]:
    """The images by clip and time, channels last; a view of a channels-last ``x``."""
    return rearrange(x, "(b t) c h w -> b t h w c", t=segments)


def by_image(x: Float[Tensor, "B T H W C"]) -> Frames:
    """The inverse of :func:`by_clip`; channels-last for a contiguous ``x``."""
    return rearrange(x, "b t h w c -> (b t) c h w")


def temporal_shift(x: Frames, segments: int, part: int = 8) -> Frames:
    """Lets a ``1/part`` of the channels look one segment ahead and another ``1/part`` one back; zeros past the ends.

    Channels [0, C/part) of segment t are those of t+1, channels [C/part, 2C/part) those of t-1.
    Source: Lin et al., TSM, ICCV 2019, section 3.
    """
    fold = x.shape[1] // part
    if not torch.compiler.is_compiling():
        return cast("Tensor", _Shift.apply(x, segments, slice(0, fold), slice(fold, 2 * fold)))
    clips = by_clip(x, segments)
    ahead = F.pad(clips[:, 1:, ..., :fold], (0, 0) * 3 + (0, 1))
    back = F.pad(clips[:, :-1, ..., fold : 2 * fold], (0, 0) * 3 + (1, 0))
    return by_image(torch.cat([ahead, back, clips[..., 2 * fold :]], dim=-1))


class _Shift(torch.autograd.Function):
    """The shift in one copy, and one copy for the gradient, which goes the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: int, ahead: slice, back: slice) -> Tensor:
        ctx.options = segments, back, ahead
        clips = by_clip(x, segments)
        out = torch.empty_like(clips)
        out[:, :-1, ..., ahead], out[:, -1, ..., ahead] = clips[:, 1:, ..., ahead], 0
        out[:, 1:, ..., back], out[:, 0, ..., back] = clips[:, :-1, ..., back], 0
        rest = slice(max(ahead.stop, back.stop), None)
        out[..., rest] = clips[..., rest]
        return by_image(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Shift.forward(ctx, gradient, *ctx.options), None, None, None


class TemporalShift(nn.Module):
    """:func:`temporal_shift` as a layer."""

    def __init__(self, segments: int, part: int = 8) -> None:
        super().__init__()
        self.segments, self.part = segments, part

    def forward(self, x: Frames) -> Frames:
        """The images with some channels moved between segments."""
        return temporal_shift(x, self.segments, self.part)


def shift_blocks(trunk: Trunk, segments: int, part: int = 8) -> None:
    """Makes a trunk see along time: every block's residual branch begins with the shift."""
    for stage in trunk.blocks():
        for block in stage:
            block.before = TemporalShift(segments, part)


class TemporalConv(nn.Module):
    """A convolution of three taps along time for each channel on its own, initialised to the temporal shift."""

    def __init__(self, channels: int, segments: int, part: int = 8) -> None:
        super().__init__()
        self.segments = segments
        weight, fold = torch.zeros(channels, 1, 3), channels // part
        weight[:fold, :, 2] = 1
        weight[fold : 2 * fold, :, 0] = 1
        weight[2 * fold :, :, 1] = 1
        self.weight = nn.Parameter(weight)

    def forward(self, x: Frames) -> Frames:
        """A depthwise convolution over an image whose rows are the segments and whose columns the pixels."""
        # In two steps: in one, a single clip's plane comes out with strides that torch does not take for channels-last.
        plane = rearrange(rearrange(by_clip(x, self.segments), "b t h w c -> b t (h w) c"), "b t p c -> b c t p")
        plane = F.conv2d(plane, self.weight[..., None], padding=(1, 0), groups=x.shape[1])
        return by_image(rearrange(plane, "b c t (h w) -> b t h w c", h=x.shape[2]))
