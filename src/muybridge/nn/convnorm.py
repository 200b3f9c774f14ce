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

Size = int | tuple[int, int]


class ConvNorm(nn.Module):
    """``norm(conv(x))``; in evaluation without gradients the normalisation is folded into the convolution's weights.

    The folded weights are kept until a parameter, a running statistic, the device or the autocast type changes.

    Attributes:
        exact: where millions of values meet in a few channels, sum them up in steps: torch's own channels-last
            statistics on a CPU are one after the other, and lose four digits.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, exact: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.exact = conv, norm, exact
        self._folded: tuple[tuple[object, ...], Tensor, Tensor] | None = None

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

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H2 W2"]:
        """Both steps, as one where that gives the same."""
        if self.norm.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.normalise(self.conv(x))
        return self.convolve(x, *self.folded())

    def convolve(
        self, x: Float[Tensor, "N C H W"], weight: Float[Tensor, "D C h w"], bias: Float[Tensor, " D"] | None
    ) -> Float[Tensor, "N D H2 W2"]:
        """The convolution alone, with the given parameters."""
        conv = self.conv
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)  # pyright: ignore[reportArgumentType]

    def normalise(self, y: Float[Tensor, "N D H W"]) -> Float[Tensor, "N D H W"]:
        """The normalisation alone."""
        norm = self.norm
        if not (self.exact and norm.training and type(norm) is nn.BatchNorm2d and y.dtype == torch.float32):
            return norm(y)
        assert norm.momentum is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        rows = rearrange(y, "n c h w -> (n h w) c")
        count, beside = len(rows), math.gcd(len(rows), 32)
        wide = rearrange(rows, "(r k) c -> r (k c)", k=beside)
        wide, mean, var = cast("tuple[Tensor, ...]", _BatchNorm.apply(wide, norm.weight, norm.bias, norm.eps))
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * (count / (count - 1)), norm.momentum)
        norm.num_batches_tracked.add_(1)
        rows = rearrange(wide, "r (k c) -> (r k) c", k=beside)
        return rearrange(rows, "(n h w) c -> n c h w", h=y.shape[2], w=y.shape[3])

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
            self._folded = (key, weight, (norm.bias - mean * gain).to(low))
        return self._folded[1:]

    def train(self, mode: bool = True) -> "ConvNorm":
        """Switch between training and evaluation; the folded weights go when training begins."""
        if mode:
            self._folded = None
        return super().train(mode)


class MatrixConvNorm(ConvNorm):
    """The same for very many very small maps, where one matrix product is several times faster than a convolution."""

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H2 W2"]:
        """Both steps, as one where that gives the same."""
        if torch.compiler.is_compiling() or not (self.norm.training or torch.is_grad_enabled()):
            return super().forward(x)
        return self.normalise(self.convolve(x, self.conv.weight, None))

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


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation by sums that torch builds up in steps.

    ``x`` has K positions of C channels side by side, so that the innermost loop is long however few the channels.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        channels, beside = len(gain), x.shape[1] // len(gain)
        count = x.numel() // channels
        mean = _per_channel(x, channels) / count
        centred = x - mean.repeat(beside)
        var = _per_channel(centred.square(), channels) / count
        scale = torch.rsqrt(var + eps)
        ctx.save_for_backward(centred, gain, scale)
        ctx.mark_non_differentiable(mean, var)
        return torch.addcmul(shift.repeat(beside), centred, (gain * scale).repeat(beside)), mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        centred, gain, scale = ctx.saved_tensors
        channels, beside = len(gain), centred.shape[1] // len(gain)
        count = centred.numel() // channels
        total, along = _per_channel(gradient, channels), _per_channel(gradient * centred, channels)
        slope = gain * scale
        to_x = torch.addcmul((-slope * total / count).repeat(beside), gradient, slope.repeat(beside))
        to_x.addcmul_(centred, (-slope * scale.square() * along / count).repeat(beside))
        return to_x, along * scale, total, None


def _per_channel(wide: Float[Tensor, "R KC"], channels: int) -> Float[Tensor, " C"]:
    return rearrange(wide.sum(0), "(k c) -> k c", c=channels).sum(0)
