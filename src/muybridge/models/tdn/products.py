"""The long-term module's training step in matrix products: with so few channels, convolutions are slow.

Legend: N images, P channels of the block, Q = P / reduction, C and D channels, h and w positions, R = N h w rows,
Z directions in time (2, or 1).
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def use_matmul(x: Tensor) -> bool:
    """Whether these implementations apply: in eager mode without autocast."""
    return not (torch.compiler.is_compiling() or torch.is_autocast_enabled(x.device.type))


def pointwise(x: Float[Tensor, "N C h w"], weight: Float[Tensor, "D C 1 1"]) -> Float[Tensor, "N D h w"]:
    """A convolution of kernel 1."""
    y = F.linear(rearrange(x, "n c h w -> n h w c"), rearrange(weight, "d c 1 1 -> d c"))
    return rearrange(y, "n h w d -> n d h w")


def narrow_conv(x: Float[Tensor, "N C h w"], weight: Float[Tensor, "D C 3 3"]) -> Float[Tensor, "N D h w"]:
    """A convolution of kernel 3 that keeps the size, for few channels."""
    return cast("Tensor", _NarrowConv.apply(x, weight))


class _NarrowConv(torch.autograd.Function):
    """Computes the input's gradient as a forward convolution and the weight's as one product over all positions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        grad_x = F.conv2d(gradient, rearrange(weight, "d c u v -> c d u v").flip(2, 3), padding=1)
        padded = F.pad(rearrange(x, "n c h w -> n h w c"), (0, 0, 1, 1, 1, 1))
        patches = rearrange(padded.unfold(1, 3, 1).unfold(2, 3, 1), "n h w c u v -> (n h w) (u v c)")
        grad_weight = rearrange(gradient, "n d h w -> d (n h w)") @ patches
        return grad_x, rearrange(grad_weight, "d (u v c) -> d c u v", u=3, v=3)


def gated_expansion(
    x: Float[Tensor, "R P"],
    narrow: Float[Tensor, "Z R Q"],
    weight: Float[Tensor, "P Q"],
    norm: nn.BatchNorm2d,
    base: float,
) -> Float[Tensor, "R P"]:
    """``x (base + sigmoid(norm(narrow weight^T)))``; sigmoids averaged over directions, batch statistics of each.

    Mean and variance of a product follow from the mean and the covariance C of the few channels: the variances are the
    diagonal of ``weight C weight^T``. So the normalization is one more product, and no tensor of P channels besides
    ``x`` is stored. Running statistics are updated once per direction, in order.
    """
    mean = narrow.mean(1, keepdim=True)
    centered = narrow - mean
    covariance = centered.mT @ centered / narrow.shape[1]
    variance = ((weight @ covariance) * weight).sum(2)
    gain = norm.weight * torch.rsqrt(variance + norm.eps)
    _update_running_statistics(norm, (mean @ weight.T).squeeze(1), variance, narrow.shape[1])
    bias = norm.bias.expand(len(narrow), 1, -1)
    weight_and_bias = torch.cat([(weight * gain[:, :, None]).mT, bias], dim=1)
    return cast("Tensor", _GatedExpansion.apply(x, F.pad(centered, (0, 1), value=1.0), weight_and_bias, base))


@torch.no_grad()
def _update_running_statistics(
    norm: nn.BatchNorm2d, means: Float[Tensor, "Z P"], variances: Float[Tensor, "Z P"], count: int
) -> None:
    assert norm.momentum is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    for mean, variance in zip(means, variances, strict=True):
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
        norm.num_batches_tracked.add_(1)


_CHUNK_NUMEL = 2**19  # numbers of P channels that fit into a processor's cache a few times


class _GatedExpansion(torch.autograd.Function):
    """``x (base + mean of sigmoid(narrow[z] weight[z]))``, in chunks of rows that stay in the cache."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, narrow: Tensor, weight: Tensor, base: float) -> Tensor:
        ctx.save_for_backward(x, narrow, weight)
        ctx.base = base
        out = torch.empty_like(x)
        for rows in _chunks(x):
            total = _sum(_gates(narrow, weight, rows)).add_(base * len(narrow))
            torch.mul(x[rows], total.div_(len(narrow)), out=out[rows])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, narrow, weight = ctx.saved_tensors
        grad_x, grad_narrow, grad_weight = torch.empty_like(x), torch.empty_like(narrow), torch.zeros_like(weight)
        for rows in _chunks(x):
            gates = _gates(narrow, weight, rows)
            grad_gate = gradient[rows] / len(gates)
            torch.mul(grad_gate, _sum(gates).add_(ctx.base * len(gates)), out=grad_x[rows])
            grad_gate *= x[rows]
            for z, gate in enumerate(gates):
                grad_logit = torch.ops.aten.sigmoid_backward(grad_gate, gate)
                grad_narrow[z, rows] = (weight[z] @ grad_logit.T).T  # much faster than the transposed product
                grad_weight[z] += narrow[z, rows].T @ grad_logit
        return grad_x, grad_narrow, grad_weight, None


def _gates(narrow: Float[Tensor, "Z R Q"], weight: Float[Tensor, "Z Q P"], rows: slice) -> list[Tensor]:
    return [(inputs[rows] @ matrix).sigmoid_() for inputs, matrix in zip(narrow, weight, strict=True)]


def _sum(gates: list[Tensor]) -> Tensor:
    return gates[0] + gates[1] if len(gates) == 2 else gates[0].clone()


def _chunks(x: Float[Tensor, "R P"]) -> list[slice]:
    step = max(1, _CHUNK_NUMEL // x.shape[1])
    return [slice(first, first + step) for first in range(0, len(x), step)]
