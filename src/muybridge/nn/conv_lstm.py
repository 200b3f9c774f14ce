"""The convolutional LSTM: gates are computed by convolutions, states are feature maps.

Legend: B videos, T steps, C input, H hidden, S source and D result channels, h and w map size, k kernel size, G = 4H
gate channels in torch's order: input i, forget f, cell candidate g, output o.

    i, f, o = sigmoid(W_x * x_t + W_h * h_{t-1} + b),  g = tanh(...),  c_t = f c_{t-1} + i g,  h_t = o tanh(c_t)

with * a zero-padded convolution that keeps the size. On maps of 1x1 with k = 1 this is the LSTM of ``torch.nn.LSTM``,
which then computes it where possible.

Two optimizations over the equations step by step: convolutions of the input do not depend on the state and run for all
steps in one call. The recurrent convolution runs step by step in :class:`SharedConvolution`, which prepacks its weight
once for all steps and computes the weight's gradient for all steps together, at the end of the backward pass.

Source: Shi et al., NIPS 2015; the form without peepholes is that of Li et al., VideoLSTM, CVIU 2018.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from muybridge.nn.packed import PackedConv

_CHUNK_IMAGES = 64  # images per matrix product of the weight's gradient
Step = Callable[[Tensor, Sequence[Tensor], Tensor], tuple[Tensor, Tensor]]


class SharedConvolution:
    """A convolution shared by the steps of a recurrence: prepared once, called at every step.

    Args:
        weight: k is odd; the result has the size of the input.
    """

    def __init__(self, weight: Float[Tensor, "D S k k"]) -> None:
        device = weight.device.type
        self._dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        self._compiling = torch.compiler.is_compiling()
        self._calls = _Calls()
        weight = weight.to(self._dtype)
        # Every call depends on this alias, so autograd reaches it after the last call: then it computes the gradient.
        self._weight = weight if self._compiling else _WeightAlias.apply(weight, self._calls)

    def __call__(self, x: Float[Tensor, "B S h w"]) -> Float[Tensor, "B D h w"]:
        """The convolution of one step's input."""
        x = x.to(self._dtype)
        return convolve(x, self._weight) if self._compiling else _Call.apply(x, self._weight, self._calls)


class ConvLSTM(nn.Module):
    """A ConvLSTM layer over sequences of feature maps.

    Args:
        in_channels: C.
        hidden_channels: H.
        kernel_size: k, odd, for all convolutions.
        context_channels: channels of another map that the gates take at each step, the state of another layer; 0 for
            none.
        peephole: whether the gates also take the cell state, with one weight per channel: i and f take c_{t-1}, o c_t.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int = 3,
        *,
        context_channels: int = 0,
        peephole: bool = False,
    ) -> None:
        super().__init__()
        assert kernel_size % 2, "an even kernel cannot keep the size"
        gates, kernel = 4 * hidden_channels, (kernel_size, kernel_size)
        self.hidden_channels = hidden_channels
        self.input_weight = nn.Parameter(torch.empty(gates, in_channels, *kernel))
        self.hidden_weight = nn.Parameter(torch.empty(gates, hidden_channels, *kernel))
        self.context_weight = nn.Parameter(torch.empty(gates, context_channels, *kernel)) if context_channels else None
        self.bias = nn.Parameter(torch.empty(gates))
        self.peephole = nn.Parameter(torch.empty(3, hidden_channels, 1, 1)) if peephole else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights uniform within 1 / sqrt(fan-in of the state); biases and peepholes 0."""
        bound = self.hidden_weight[0].numel() ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        for parameter in (self.bias, self.peephole):
            if parameter is not None:
                nn.init.zeros_(parameter)

    def forward(
        self,
        maps: Float[Tensor, "B T C h w"],
        initial_state: tuple[Float[Tensor, "B H h w"], Float[Tensor, "B H h w"]] | None = None,
    ) -> tuple[Float[Tensor, "B T H h w"], Float[Tensor, "B H h w"]]:
        """The hidden states of all steps and the last cell state; ``initial_state`` is (h_0, c_0), by default zeros."""
        assert self.context_weight is None, "a layer with context is stepped by its owner"
        h, c = initial_state or self.zero_state(maps)
        if self.peephole is None and _is_linear(self.hidden_weight, maps) and maps.device.type == "cpu":
            return self._forward_linear(maps, h, c)
        step, states = self.make_step(self.hidden_weight), []
        for projected in self.project_input(maps):
            h, c = step(projected, [h], c)
            states.append(h)
        return torch.stack(states, 1), c

    def _forward_linear(self, maps: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Maps of 1x1 by torch's LSTM."""
        weights = [self.input_weight.flatten(1), self.hidden_weight.flatten(1), self.bias, torch.zeros_like(self.bias)]
        initial_state = [rearrange(x, "b h 1 1 -> 1 b h") for x in (h, c)]
        vectors = rearrange(maps, "b t c 1 1 -> b t c")
        states, _, c = torch.lstm(vectors, initial_state, weights, True, 1, 0.0, self.training, False, True)
        return states[..., None, None], rearrange(c, "1 b h -> b h 1 1")

    def zero_state(self, maps: Float[Tensor, "B T C h w"]) -> tuple[Float[Tensor, "B H h w"], Float[Tensor, "B H h w"]]:
        """(h_0, c_0) of zeros for maps of this size."""
        # In the parameters' precision even under autocast: the cell state is a sum over all steps.
        zeros = self.bias.new_zeros(maps.shape[0], self.hidden_channels, *maps.shape[3:])
        return zeros, zeros

    def project_input(self, maps: Float[Tensor, "B T C h w"]) -> tuple[Tensor, ...]:
        """The input's contribution to the gates, with the bias: ``B G h w`` for each step, from one convolution."""
        convolution = SharedConvolution(self.input_weight)
        return apply_to_steps(lambda x: convolution(x) + rearrange(self.bias, "g -> g 1 1"), maps)

    def make_step(self, *weights: Float[Tensor, "D _ k k"]) -> Step:
        """A function for one step of this layer: (projected input, sources, c) -> (h, c).

        Args:
            weights: one per source, ``hidden_weight`` for h_{t-1}.
        """
        convolution = SharedConvolution(torch.cat(weights, 1))

        def step(projected: Tensor, sources: Sequence[Tensor], c: Tensor) -> tuple[Tensor, Tensor]:
            return self.cell(projected + convolution(torch.cat(list(sources), 1)), c)

        return step

    def cell(
        self, gates: Float[Tensor, "B G h w"], c: Float[Tensor, "B H h w"]
    ) -> tuple[Float[Tensor, "B H h w"], Float[Tensor, "B H h w"]]:
        """The next h and c from the gates before their nonlinearities."""
        i, f, g, o = gates.split(self.hidden_channels, dim=1)
        if self.peephole is not None:
            i, f = i + self.peephole[0] * c, f + self.peephole[1] * c
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        if self.peephole is not None:
            o = o + self.peephole[2] * c
        return o.sigmoid() * c.tanh(), c


def convolve(
    x: Float[Tensor, "N C h w"], weight: Float[Tensor, "D C k k"], bias: Float[Tensor, " D"] | None = None
) -> Float[Tensor, "N D h w"]:
    """The zero-padded convolution that keeps the size; for maps of 1x1 a matrix product, four times faster."""
    if _is_linear(weight, x):
        return F.linear(x.flatten(1), weight.flatten(1), bias)[..., None, None]
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def apply_to_steps(layer: Callable[[Tensor], Tensor], maps: Float[Tensor, "B T C h w"]) -> tuple[Tensor, ...]:
    """Applies a layer to the maps of all steps in one call; returns the result of each step, ``B D h w``."""
    images = rearrange(maps, "b t c h w -> (t b) c h w").contiguous(memory_format=torch.channels_last)
    return rearrange(layer(images), "(t b) d h w -> t b d h w", b=maps.shape[0]).unbind()


def _is_linear(weight: Tensor, maps: Tensor) -> bool:
    """Whether the convolution is a matrix product: kernel 1 on maps of 1x1."""
    return weight.shape[-1] == 1 and maps.shape[-2:] == (1, 1)


class _Calls:
    """What the calls of a shared convolution have in common in the forward and backward pass."""

    def __init__(self) -> None:
        # (input, gradient of the result) of the calls already differentiated, by backward pass.
        self.pending: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        self.forward: Callable[[Tensor], Tensor] | None = None
        self.backward: Callable[[Tensor], Tensor] | None = None


class _WeightAlias(torch.autograd.Function):
    """An alias of the weight; its gradient is computed from ``calls.pending``, not from the gradient of the alias."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, calls: _Calls) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(weight)
        ctx.calls = calls
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *_: None
    ) -> tuple[Tensor | None, None]:
        pending = ctx.calls.pending.pop(torch._C._current_graph_task_id(), None)
        if pending is None:
            return None, None
        return _weight_gradient(pending, *ctx.saved_tensors), None


class _Call(torch.autograd.Function):
    """One call: computes the gradient of the input at once, and defers that of the weight to ``calls.pending``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, calls: _Calls) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.calls = calls
        if calls.forward is None:
            calls.forward = _prepare(weight, x)
        return calls.forward(x)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, gradient: Tensor
    ) -> tuple[Tensor | None, None, None]:
        (x, weight), calls = ctx.saved_tensors, ctx.calls
        if ctx.needs_input_grad[1]:
            calls.pending[torch._C._current_graph_task_id()].append((x, gradient))
        if not ctx.needs_input_grad[0]:
            return None, None, None
        if calls.backward is None:
            calls.backward = _prepare(weight.flip(2, 3).transpose(0, 1), gradient)
        return calls.backward(gradient), None, None


def _prepare(weight: Tensor, example: Tensor) -> Callable[[Tensor], Tensor]:
    """The convolution with ``weight``, its memory layout prepared for inputs like the example."""
    if _is_linear(weight, example) or not _use_onednn(example):
        weight = weight.contiguous(memory_format=torch.channels_last)
        return lambda x: convolve(x, weight)
    return PackedConv(weight, None, example, padding=(weight.shape[-1] // 2,) * 2)


def _weight_gradient(pending: list[tuple[Tensor, Tensor]], weight: Tensor) -> Tensor:
    """The gradient of ``weight`` from (input, gradient of the result) of all calls."""
    kernel, (x, _) = weight.shape[-1], pending[0]
    if _use_onednn(x) and not _is_linear(weight, x):
        return _weight_gradient_by_taps(pending, weight)
    inputs, gradients = (torch.cat(tensors) for tensors in zip(*pending, strict=True))
    if _is_linear(weight, x):
        return (gradients.flatten(1).t() @ inputs.flatten(1))[..., None, None]
    options = [1, 1], [kernel // 2] * 2, [1, 1], False, [0, 0], 1, [False, True, False]
    return torch.ops.aten.convolution_backward(gradients, inputs, weight, [0], *options)[1]


def _weight_gradient_by_taps(pending: list[tuple[Tensor, Tensor]], weight: Tensor) -> Tensor:
    """One matrix product per kernel position, in three quarters of the time of oneDNN's own gradient.

    In chunks, because each product needs a copy of its inputs and gradients.
    """
    kernel, (x, _) = weight.shape[-1], pending[0]
    total = weight.new_zeros(kernel, kernel, *weight.shape[:2])
    calls = max(1, _CHUNK_IMAGES // len(x))
    for first in range(0, len(pending), calls):
        inputs, gradients = (torch.cat(tensors) for tensors in zip(*pending[first : first + calls], strict=True))
        for x, gradient in zip(inputs.split(_CHUNK_IMAGES), gradients.split(_CHUNK_IMAGES), strict=True):
            rows = rearrange(gradient, "n d h w -> d (n h w)").contiguous()
            padded = F.pad(rearrange(x, "n s h w -> s n h w").contiguous(), [kernel // 2] * 4)
            shifted = padded.unfold(2, kernel, 1).unfold(3, kernel, 1)
            for v in range(kernel):
                for u in range(kernel):
                    columns = rearrange(shifted[..., v, u], "s n h w -> s (n h w)").contiguous()
                    total[v, u] += torch.ops.mkldnn._linear_pointwise(rows, columns, None, "none", [], "")
    return rearrange(total, "v u d s -> d s v u")


def _use_onednn(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()
