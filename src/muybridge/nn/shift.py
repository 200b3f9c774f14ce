"""Motion between segments: the temporal shift of TSM, and the learned temporal convolution initialized to that shift.

Legend: N images = B clips x T segments, C channels, H and W pixels. The images of a clip are consecutive in the batch.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from muybridge.nn.backbones import Trunk

Images = Float[Tensor, "N C H W"]


def images_to_clips(x: Images, segments: int) -> Float[Tensor, "B T H W C"]:
    """The images by clip and segment, channels last; a view of a channels-last ``x``."""
    return rearrange(x, "(b t) c h w -> b t h w c", t=segments)


def clips_to_images(x: Float[Tensor, "B T H W C"]) -> Images:
    """The inverse of :func:`images_to_clips`; channels-last for a contiguous ``x``."""
    return rearrange(x, "b t h w c -> (b t) c h w")


def temporal_shift(x: Images, segments: int, shift_div: int = 8) -> Images:
    """Replaces ``1/shift_div`` of the channels by those of the next segment, and as many by those of the previous one.

    Channels [0, C/shift_div) of segment t are those of t+1, channels [C/shift_div, 2C/shift_div) those of t-1; zeros
    beyond either end of the clip.
    Source: Lin et al., TSM, ICCV 2019, section 3.
    """
    fold = x.shape[1] // shift_div
    if not torch.compiler.is_compiling():
        return cast("Tensor", _Shift.apply(x, segments, slice(0, fold), slice(fold, 2 * fold)))
    clips = images_to_clips(x, segments)
    next_segment = F.pad(clips[:, 1:, ..., :fold], (0, 0) * 3 + (0, 1))
    previous_segment = F.pad(clips[:, :-1, ..., fold : 2 * fold], (0, 0) * 3 + (1, 0))
    return clips_to_images(torch.cat([next_segment, previous_segment, clips[..., 2 * fold :]], dim=-1))


class _Shift(torch.autograd.Function):
    """The shift with a single copy; the gradient is the shift in the opposite direction, also a single copy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: int, from_next: slice, from_previous: slice) -> Tensor:
        ctx.options = segments, from_previous, from_next
        clips = images_to_clips(x, segments)
        out = torch.empty_like(clips)
        out[:, :-1, ..., from_next], out[:, -1, ..., from_next] = clips[:, 1:, ..., from_next], 0
        out[:, 1:, ..., from_previous], out[:, 0, ..., from_previous] = clips[:, :-1, ..., from_previous], 0
        unshifted = slice(max(from_next.stop, from_previous.stop), None)
        out[..., unshifted] = clips[..., unshifted]
        return clips_to_images(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Shift.forward(ctx, gradient, *ctx.options), None, None, None


class TemporalShift(nn.Module):
    """:func:`temporal_shift` as a layer."""

    def __init__(self, segments: int, shift_div: int = 8) -> None:
        super().__init__()
        self.segments, self.shift_div = segments, shift_div

    def forward(self, x: Images) -> Images:
        """The images with some channels shifted between segments."""
        return temporal_shift(x, self.segments, self.shift_div)


def shift_blocks(trunk: Trunk, segments: int, shift_div: int = 8) -> None:
    """Inserts the temporal shift at the start of the residual branch of every block."""
    for stage in trunk.blocks():
        for block in stage:
            block.before_conv1 = TemporalShift(segments, shift_div)


class TemporalConv(nn.Module):
    """A depthwise convolution along time with kernel 3, initialized to the temporal shift."""

    def __init__(self, channels: int, segments: int, shift_div: int = 8) -> None:
        super().__init__()
        self.segments = segments
        weight, fold = torch.zeros(channels, 1, 3), channels // shift_div
        weight[:fold, :, 2] = 1
        weight[fold : 2 * fold, :, 0] = 1
        weight[2 * fold :, :, 1] = 1
        self.weight = nn.Parameter(weight)

    def forward(self, x: Images) -> Images:
        """Computed as a depthwise 2D convolution over an image whose rows are segments and whose columns are pixels."""
        # Two rearrangements: with one, the strides of a single clip's plane are not recognized as channels-last.
        plane = rearrange(
            rearrange(images_to_clips(x, self.segments), "b t h w c -> b t (h w) c"), "b t p c -> b c t p"
        )
        plane = F.conv2d(plane, self.weight[..., None], padding=(1, 0), groups=x.shape[1])
        return clips_to_images(rearrange(plane, "b c t (h w) -> b t h w c", h=x.shape[2]))
