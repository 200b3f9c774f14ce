"""Convolution and batch normalisation as one layer: two steps while training, one convolution at inference.

Legend: N images, C and D channels, H and W pixels.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from muybridge.nn.packed import PackedConv, packable

Size = int | tuple[int, int]


class ConvNorm(nn.Module):
    """``norm(conv(x))``; in evaluation without gradients the normalisation is folded into the convolution's weights.

    The folded weights are kept until a parameter, a running statistic, the device or the autocast type changes.

    Attributes:
        exact: where millions of values meet in a few channels, sum them up in steps: torch's own channels-last
            statistics on a CPU are one after the other, lose four digits, and are very slow in bfloat16.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, exact: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.exact = conv, norm, exact
        self._folded: tuple[tuple[object, ...], Tensor, Tensor] | None = None
        self._packed: PackedConv | None = None  # the folded convolution, where that pays

    @classmethod
    def make(
        cls,
        inputs: int,
        outputs: int,
        kernel: Size,
        *,
        stride: Size = 1,
        padding: int | None = None,
        exact: bool = False,
    ) -> "ConvNorm":
        """A bias-free convolution, Kaiming-normal by its outputs, and its norm; pads for an odd square kernel."""
        if padding is None:
            assert isinstance(kernel, int)
            padding = kernel // 2
        conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return cls(conv, nn.BatchNorm2d(outputs), exact)

    def forward(
        self, x: Float[Tensor, "N C H W"], rectify: bool = False, onto: Float[Tensor, "N D H2 W2"] | None = None
    ) -> Float[Tensor, "N D H2 W2"]:
        """Both steps, as one where that gives the same.

        Args:
            x: the images.
            rectify: what is below zero becomes zero, at the very end.
            onto: is added to the answer.
        """
        if self.norm.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.normalise(self.conv(x), rectify, onto)
        weight, bias = self.folded()
        if self._packs(x, weight):
            x = x.to(weight.dtype)
            if self._packed is None:
                padding = cast("tuple[int, int]", self.conv.padding)
                self._packed = PackedConv(weight, bias, x, self.conv.stride, padding)
            return self._packed(x, rectify, onto)
        return _finished(self.convolve(x, weight, bias), rectify, onto)

    def convolve(
        self, x: Float[Tensor, "N C H W"], weight: Float[Tensor, "D C h w"], bias: Float[Tensor, " D"] | None
    ) -> Float[Tensor, "N D H2 W2"]:
        """The convolution alone, with the given parameters."""
        conv = self.conv
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)  # pyright: ignore[reportArgumentType]

    def normalise(
        self, y: Float[Tensor, "N D H W"], rectify: bool = False, onto: Float[Tensor, "N D H W"] | None = None
    ) -> Float[Tensor, "N D H W"]:
        """The normalisation alone, and what comes after it."""
        norm = self.norm
        exact = self.exact and y.device.type == "cpu" and norm.weight.dtype == torch.float32
        if not (exact and norm.training and type(norm) is nn.BatchNorm2d):
            return _finished(norm(y), rectify, onto)
        assert norm.momentum is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        first = rectify and onto is None  # nothing comes between
        rows = rearrange(y, "n c h w -> (n h w) c")
        count, beside = len(rows), math.gcd(len(rows), 32)
        wide = rearrange(rows, "(r k) c -> r (k c)", k=beside).float()
        wide, mean, var = cast("tuple[Tensor, ...]", _BatchNorm.apply(wide, norm.weight, norm.bias, norm.eps, first))
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * (count / (count - 1)), norm.momentum)
        norm.num_batches_tracked.add_(1)
        rows = rearrange(wide.to(y.dtype), "r (k c) -> (r k) c", k=beside)
        y = rearrange(rows, "(n h w) c -> n c h w", h=y.shape[2], w=y.shape[3])
        return y if first else _finished(y, rectify, onto)

    def folded(self) -> tuple[Float[Tensor, "D C h w"], Float[Tensor, " D"]]:
        """Weight and bias of the one convolution that does both steps, from the running statistics."""
        conv, norm = self.conv, self.norm
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None
        assert var is not None
        parts = (conv.weight, norm.weight, norm.bias, mean, var)
        device = conv.weight.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else conv.weight.dtype
        key = (low, *((id(part), part.data_ptr(), 0 if part.is_inference() else part._version) for part in parts))
        if self._folded is None or self._folded[0] != key:
            gain = norm.weight * torch.rsqrt(var + norm.eps)
            weight = (conv.weight * gain[:, None, None, None]).to(low)
            self._folded, self._packed = (key, weight, (norm.bias - mean * gain).to(low)), None
        return self._folded[1:]

    def train(self, mode: bool = True) -> "ConvNorm":
        """Switch between training and evaluation; the folded weights go when training begins."""
        if mode:
            self._folded = self._packed = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and files take along: all but the folded weights."""
        return self.__dict__ | {"_folded": None, "_packed": None}

    def _packs(self, x: Tensor, weight: Tensor) -> bool:
        conv, known = self.conv, x.dtype == weight.dtype or torch.is_autocast_enabled(x.device.type)
        plain = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
        return known and plain and not isinstance(conv.padding, str) and packable(weight)


class MatrixConvNorm(ConvNorm):
    """The same for very many very small maps, where one matrix product is several times faster than a convolution."""

    def forward(
        self, x: Float[Tensor, "N C H W"], rectify: bool = False, onto: Float[Tensor, "N D H2 W2"] | None = None
    ) -> Float[Tensor, "N D H2 W2"]:
        """Both steps, as one where that gives the same; see :class:`ConvNorm`."""
        if torch.compiler.is_compiling() or not (self.norm.training or torch.is_grad_enabled()):
            return super().forward(x, rectify, onto)
        return self.normalise(self.convolve(x, self.conv.weight, None), rectify, onto)

    def _packs(self, x: Tensor, weight: Tensor) -> bool:
        return False

    def convolve(
        self, x: Float[Tensor, "N C H W"], weight: Float[Tensor, "D C h w"], bias: Float[Tensor, " D"] | None
    ) -> Float[Tensor, "N D H2 W2"]:
        """The convolution as the matrix whose rows are its answers to the maps with a single one in them."""
        _, channels, height, width = x.shape
        single = torch.eye(channels * height * width, dtype=weight.dtype, device=weight.device)
        single = rearrange(single, "k (h w c) -> k c h w", h=height, w=width)
        answers = super().convolve(single, weight, None)
        matrix = rearrange(answers, "k d p q -> k (p q d)")
        maps = rearrange(x, "n c h w -> n (h w c)")
        positions = answers.shape[2] * answers.shape[3]
        y = maps @ matrix if bias is None else torch.addmm(bias.repeat(positions), maps, matrix)
        return rearrange(y, "n (p q d) -> n d p q", p=answers.shape[2], q=answers.shape[3])


def _finished(y: Tensor, rectify: bool, onto: Tensor | None) -> Tensor:
    """``y`` with ``onto`` added, and rectified if wanted; in place."""
    if onto is not None:
        y += onto
    return F.relu(y, inplace=True) if rectify else y


_AT_ONCE = 2**19  # numbers that fit into a processor's cache a few times over


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation by sums that torch builds up in steps, with a rectifier after it or without.

    ``x`` has K positions of C channels side by side, so that the innermost loop is long however few the channels. What
    follows from a few rows is done while these are in the cache.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, eps: float, rectify: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        channels, beside = len(gain), x.shape[1] // len(gain)
        count, step = x.numel() // channels, max(1, _AT_ONCE // x.shape[1])
        mean = _per_channel(x.sum(0), channels) / count
        centered, out, squares = torch.empty_like(x), torch.empty_like(x), torch.zeros_like(x[0])
        middle = mean.repeat(beside)
        for rows, to in zip(x.split(step), centered.split(step), strict=True):
            squares += torch.sub(rows, middle, out=to).square().sum(0)
        var = _per_channel(squares, channels) / count
        scale = torch.rsqrt(var + eps)
        slope, base = (gain * scale).repeat(beside), shift.repeat(beside)
        for rows, to in zip(centered.split(step), out.split(step), strict=True):
            torch.addcmul(base, rows, slope, out=to)
            if rectify:
                to.clamp_min_(0)
        ctx.save_for_backward(centered, gain, scale, out if rectify else None)
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        centered, gain, scale, out = ctx.saved_tensors
        channels, beside = len(gain), centered.shape[1] // len(gain)
        count, step = centered.numel() // channels, max(1, _AT_ONCE // centered.shape[1])
        to_x, totals, alongs = torch.empty_like(gradient), torch.zeros_like(centered[0]), torch.zeros_like(centered[0])
        for first in range(0, len(centered), step):
            rows = slice(first, first + step)
            passed = to_x[rows]
            if out is None:
                passed.copy_(gradient[rows])
            else:
                torch.mul(gradient[rows], out[rows] > 0, out=passed)
            totals += passed.sum(0)
            alongs += (passed * centered[rows]).sum(0)
        total, along, slope = _per_channel(totals, channels), _per_channel(alongs, channels), gain * scale
        base, tilt = -slope * total / count, -slope * scale.square() * along / count
        base, slope, tilt = (one.repeat(beside) for one in (base, slope, tilt))
        for rows, to in zip(centered.split(step), to_x.split(step), strict=True):
            torch.addcmul(base, to, slope, out=to).addcmul_(rows, tilt)
        return to_x, along * scale, total, None, None


def _per_channel(wide: Float[Tensor, " KC"], channels: int) -> Float[Tensor, " C"]:
    return rearrange(wide, "(k c) -> k c", c=channels).sum(0)
