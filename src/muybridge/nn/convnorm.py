"""Convolution and batch normalization as one layer: two operations in training, one convolution at inference.

Legend: N images, C and D channels, H and W pixels, R rows of K positions of C channels each.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from muybridge.nn.packed import PackedConv, can_pack

Size = int | tuple[int, int]


class ConvNorm(nn.Module):
    """``norm(conv(x))``; in evaluation without gradients, the normalization is folded into the convolution's weight.

    The folded weight is cached until a parameter, a running statistic, the device or the autocast type changes.

    Attributes:
        pairwise_sum: compute batch statistics by pairwise summation. For layers with few channels and millions of
            positions: torch's channels-last statistics on a CPU add sequentially, lose four digits, and are very slow
            in bfloat16.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, pairwise_sum: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.pairwise_sum = conv, norm, pairwise_sum
        self._folded: tuple[tuple[object, ...], Tensor, Tensor] | None = None
        self._packed: PackedConv | None = None  # the folded convolution, if oneDNN can prepack it

    @classmethod
    def make(
        cls,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        *,
        stride: Size = 1,
        padding: int | None = None,
        pairwise_sum: bool = False,
    ) -> "ConvNorm":
        """A bias-free convolution with Kaiming-normal weights (fan-out) and its norm; 'same' padding by default."""
        if padding is None:
            assert isinstance(kernel_size, int)
            padding = kernel_size // 2
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return cls(conv, nn.BatchNorm2d(out_channels), pairwise_sum)

    def forward(
        self, x: Float[Tensor, "N C H W"], relu: bool = False, residual: Float[Tensor, "N D H2 W2"] | None = None
    ) -> Float[Tensor, "N D H2 W2"]:
        """Convolution and normalization, fused at inference.

        Args:
            x: the images.
            relu: apply a ReLU at the end.
            residual: added to the result, before the ReLU.
        """
        if self.norm.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.normalize(self.conv(x), relu, residual)
        weight, bias = self.folded()
        if self._can_pack(x, weight):
            x = x.to(weight.dtype)
            if self._packed is None:
                padding = cast("tuple[int, int]", self.conv.padding)
                self._packed = PackedConv(weight, bias, x, self.conv.stride, padding)
            return self._packed(x, relu, residual)
        return _add_and_rectify(self.convolve(x, weight, bias), relu, residual)

    def convolve(
        self, x: Float[Tensor, "N C H W"], weight: Float[Tensor, "D C h w"], bias: Float[Tensor, " D"] | None
    ) -> Float[Tensor, "N D H2 W2"]:
        """The convolution alone, with the given parameters."""
        conv = self.conv
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)  # pyright: ignore[reportArgumentType]

    def normalize(
        self, y: Float[Tensor, "N D H W"], relu: bool = False, residual: Float[Tensor, "N D H W"] | None = None
    ) -> Float[Tensor, "N D H W"]:
        """The normalization alone, then the residual and the ReLU."""
        norm = self.norm
        pairwise = self.pairwise_sum and y.device.type == "cpu" and norm.weight.dtype == torch.float32
        if not (pairwise and norm.training and type(norm) is nn.BatchNorm2d):
            return _add_and_rectify(norm(y), relu, residual)
        fuse_relu = relu and residual is None
        y = self._normalize_pairwise(y, fuse_relu)
        return y if fuse_relu else _add_and_rectify(y, relu, residual)

    def _normalize_pairwise(self, y: Float[Tensor, "N D H W"], relu: bool) -> Float[Tensor, "N D H W"]:
        """Batch normalization in training mode by :class:`_BatchNorm`, which also updates the running statistics."""
        norm = self.norm
        assert norm.momentum is not None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        positions = rearrange(y, "n c h w -> (n h w) c")
        count, per_row = len(positions), math.gcd(len(positions), 32)
        rows = rearrange(positions, "(r k) c -> r (k c)", k=per_row).float()
        rows, mean, var = cast("tuple[Tensor, ...]", _BatchNorm.apply(rows, norm.weight, norm.bias, norm.eps, relu))
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * (count / (count - 1)), norm.momentum)
        norm.num_batches_tracked.add_(1)
        positions = rearrange(rows.to(y.dtype), "r (k c) -> (r k) c", k=per_row)
        return rearrange(positions, "(n h w) c -> n c h w", h=y.shape[2], w=y.shape[3])

    def folded(self) -> tuple[Float[Tensor, "D C h w"], Float[Tensor, " D"]]:
        """Weight and bias of the convolution with the normalization by running statistics folded in."""
        conv, norm = self.conv, self.norm
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None
        assert var is not None
        tensors = (conv.weight, norm.weight, norm.bias, mean, var)
        device = conv.weight.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else conv.weight.dtype
        key = (dtype, *((id(x), x.data_ptr(), 0 if x.is_inference() else x._version) for x in tensors))
        if self._folded is None or self._folded[0] != key:
            gain = norm.weight * torch.rsqrt(var + norm.eps)
            weight = (conv.weight * gain[:, None, None, None]).to(dtype)
            self._folded, self._packed = (key, weight, (norm.bias - mean * gain).to(dtype)), None
        return self._folded[1:]

    def train(self, mode: bool = True) -> "ConvNorm":
        """Switches between training and evaluation; training mode drops the folded weight."""
        if mode:
            self._folded = self._packed = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """The state for copying and pickling, without the folded weight."""
        return self.__dict__ | {"_folded": None, "_packed": None}

    def _can_pack(self, x: Tensor, weight: Tensor) -> bool:
        conv, same_dtype = self.conv, x.dtype == weight.dtype or torch.is_autocast_enabled(x.device.type)
        supported = conv.groups == 1 and conv.dilation == (1, 1) and conv.padding_mode == "zeros"
        return same_dtype and supported and not isinstance(conv.padding, str) and can_pack(weight)


class MatrixConvNorm(ConvNorm):
    """A :class:`ConvNorm` for many very small maps, where one matrix product is several times faster in training."""

    def forward(
        self, x: Float[Tensor, "N C H W"], relu: bool = False, residual: Float[Tensor, "N D H2 W2"] | None = None
    ) -> Float[Tensor, "N D H2 W2"]:
        """Convolution and normalization, fused at inference; see :class:`ConvNorm`."""
        if torch.compiler.is_compiling() or not (self.norm.training or torch.is_grad_enabled()):
            return super().forward(x, relu, residual)
        return self.normalize(self.convolve(x, self.conv.weight, None), relu, residual)

    def _can_pack(self, x: Tensor, weight: Tensor) -> bool:
        return False

    def convolve(
        self, x: Float[Tensor, "N C H W"], weight: Float[Tensor, "D C h w"], bias: Float[Tensor, " D"] | None
    ) -> Float[Tensor, "N D H2 W2"]:
        """The convolution as a matrix product; the rows of the matrix are the responses to one-hot maps."""
        _, channels, height, width = x.shape
        one_hot = torch.eye(channels * height * width, dtype=weight.dtype, device=weight.device)
        one_hot = rearrange(one_hot, "k (h w c) -> k c h w", h=height, w=width)
        responses = super().convolve(one_hot, weight, None)
        matrix = rearrange(responses, "k d p q -> k (p q d)")
        maps = rearrange(x, "n c h w -> n (h w c)")
        positions = responses.shape[2] * responses.shape[3]
        y = maps @ matrix if bias is None else torch.addmm(bias.repeat(positions), maps, matrix)
        return rearrange(y, "n (p q d) -> n d p q", p=responses.shape[2], q=responses.shape[3])


def _add_and_rectify(y: Tensor, relu: bool, residual: Tensor | None) -> Tensor:
    """``y`` plus ``residual`` if given, with a ReLU if ``relu``; in place."""
    if residual is not None:
        y += residual
    return F.relu(y, inplace=True) if relu else y


_CHUNK_NUMEL = 2**19  # numbers that fit into a processor's cache a few times


class _BatchNorm(torch.autograd.Function):
    """Batch normalization with torch's pairwise sums over rows, optionally followed by a ReLU.

    ``x`` is ``R (K C)``: K positions of C channels side by side, so that the innermost loop is long although C is
    small. Rows are processed in chunks that stay in the cache between operations.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, relu: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        channels, per_row = len(weight), x.shape[1] // len(weight)
        count, chunk = x.numel() // channels, max(1, _CHUNK_NUMEL // x.shape[1])
        mean = _per_channel(x.sum(0), channels) / count
        centered, out, squares = torch.empty_like(x), torch.empty_like(x), torch.zeros_like(x[0])
        mean_row = mean.repeat(per_row)
        for rows, centered_rows in zip(x.split(chunk), centered.split(chunk), strict=True):
            squares += torch.sub(rows, mean_row, out=centered_rows).square().sum(0)
        var = _per_channel(squares, channels) / count
        inverse_std = torch.rsqrt(var + eps)
        gain_row, bias_row = (weight * inverse_std).repeat(per_row), bias.repeat(per_row)
        for centered_rows, out_rows in zip(centered.split(chunk), out.split(chunk), strict=True):
            torch.addcmul(bias_row, centered_rows, gain_row, out=out_rows)
            if relu:
                out_rows.clamp_min_(0)
        ctx.save_for_backward(centered, weight, inverse_std, out if relu else None)
        ctx.mark_non_differentiable(mean, var)
        return out, mean, var

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        centered, weight, inverse_std, out = ctx.saved_tensors
        channels, per_row = len(weight), centered.shape[1] // len(weight)
        count, chunk = centered.numel() // channels, max(1, _CHUNK_NUMEL // centered.shape[1])
        grad_x = torch.empty_like(gradient)
        sum_row, product_row = torch.zeros_like(centered[0]), torch.zeros_like(centered[0])
        for first in range(0, len(centered), chunk):
            rows = slice(first, first + chunk)
            grad_rows = grad_x[rows]
            if out is None:
                grad_rows.copy_(gradient[rows])
            else:
                torch.mul(gradient[rows], out[rows] > 0, out=grad_rows)
            sum_row += grad_rows.sum(0)
            product_row += (grad_rows * centered[rows]).sum(0)
        grad_sum, grad_product = _per_channel(sum_row, channels), _per_channel(product_row, channels)
        # dL/dx = gain dL/dy - gain mean(dL/dy) - gain centered mean(dL/dy centered) / variance
        gain = weight * inverse_std
        constant, slope = -gain * grad_sum / count, -gain * inverse_std.square() * grad_product / count
        constant, gain, slope = (values.repeat(per_row) for values in (constant, gain, slope))
        for centered_rows, grad_rows in zip(centered.split(chunk), grad_x.split(chunk), strict=True):
            torch.addcmul(constant, grad_rows, gain, out=grad_rows).addcmul_(centered_rows, slope)
        return grad_x, grad_product * inverse_std, grad_sum, None, None


def _per_channel(row: Float[Tensor, " KC"], channels: int) -> Float[Tensor, " C"]:
    return rearrange(row, "(k c) -> k c", c=channels).sum(0)
