"""The convolutional LSTM: gates are convolutions, states are maps.

Legend: B videos, T steps, C input, H hidden, S source and D result channels, h and w map size, k kernel, 4H gate rows
in torch's order: input i, forget f, cell input g, output o.

    i, f, o = sigmoid(W_x * x_t + W_h * h_{t-1} + b),  g = tanh(...),  c_t = f c_{t-1} + i g,  h_t = o tanh(c_t)

with * a zero-padded convolution that keeps the size. On maps of 1x1 with k = 1 this is the LSTM of ``torch.nn.LSTM``,
and computed by it where it can be.

Two things make it faster than the equations one after the other. What does not depend on the state is convolved for all
steps in one call. What does is convolved step by step by :class:`SharedConvolution`, which lays out its weight once for
all steps and finds the weight's gradient over all steps together, when the last of them has gone backwards.

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

_IMAGES_AT_ONCE = 64
Step = Callable[[Tensor, Sequence[Tensor], Tensor], tuple[Tensor, Tensor]]


class SharedConvolution:
    """A convolution that the steps of a recurrence share: prepared once, called at every step.

    Args:
        weight: k is odd; the result has the size of the input.
    """

    def __init__(self, weight: Float[Tensor, "D S k k"]) -> None:
        device = weight.device.type
        self._dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        self._plain = torch.compiler.is_compiling()
        self._calls = _Calls()
        weight = weight.to(self._dtype)
        # Every call depends on this alias, so autograd comes to it after the last call: there the gradient is due.
        self._weight = weight if self._plain else _Gather.apply(weight, self._calls)

    def __call__(self, x: Float[Tensor, "B S h w"]) -> Float[Tensor, "B D h w"]:
        """The convolution of one step's input."""
        x = x.to(self._dtype)
        return convolve(x, self._weight) if self._plain else _Call.apply(x, self._weight, self._calls)


class ConvLSTM(nn.Module):
    """A ConvLSTM layer over sequences of maps.

    Args:
        inputs: C.
        hidden: H.
        kernel: k, odd, for all convolutions.
        context: channels of one more map that the gates see each step, the state of another layer; 0 is none.
        peephole: let the gates see the memory, each channel its own with one weight: i and f see c_{t-1}, o sees c_t.
    """

    def __init__(self, inputs: int, hidden: int, kernel: int = 3, *, context: int = 0, peephole: bool = False) -> None:
        super().__init__()
        assert kernel % 2, "an even kernel cannot keep the size"
        self.hidden = hidden
        self.input_weight = nn.Parameter(torch.empty(4 * hidden, inputs, kernel, kernel))
        self.hidden_weight = nn.Parameter(torch.empty(4 * hidden, hidden, kernel, kernel))
        self.context_weight = nn.Parameter(torch.empty(4 * hidden, context, kernel, kernel)) if context else None
        self.bias = nn.Parameter(torch.empty(4 * hidden))
        self.peephole = nn.Parameter(torch.empty(3, hidden, 1, 1)) if peephole else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights uniform within 1 / sqrt(fan in of the state); biases and peepholes 0."""
        bound = self.hidden_weight[0].numel() ** -0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        for parameter in (self.bias, self.peephole):
            if parameter is not None:
                nn.init.zeros_(parameter)

    def forward(
        self,
        maps: Float[Tensor, "B T C h w"],
        start: tuple[Float[Tensor, "B H h w"], Float[Tensor, "B H h w"]] | None = None,
    ) -> tuple[Float[Tensor, "B T H h w"], Float[Tensor, "B H h w"]]:
        """The hidden maps of every step and the memory after the last; ``start`` is (h_0, c_0), zeros without."""
        assert self.context_weight is None, "a layer with context is stepped through by its owner"
        h, c = start or self.zeros(maps)
        if self.peephole is None and _of_vectors(self.hidden_weight, maps) and maps.device.type == "cpu":
            return self._on_vectors(maps, h, c)
        step, states = self.stepper(self.hidden_weight), []
        for seen in self.project(maps):
            h, c = step(seen, [h], c)
            states.append(h)
        return torch.stack(states, 1), c

    def _on_vectors(self, maps: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        weights = [self.input_weight.flatten(1), self.hidden_weight.flatten(1), self.bias, torch.zeros_like(self.bias)]
        start = [rearrange(x, "b h 1 1 -> 1 b h") for x in (h, c)]
        vectors = rearrange(maps, "b t c 1 1 -> b t c")
        states, _, c = torch.lstm(vectors, start, weights, True, 1, 0.0, self.training, False, True)
        return states[..., None, None], rearrange(c, "1 b h -> b h 1 1")

    def zeros(self, maps: Float[Tensor, "B T C h w"]) -> tuple[Float[Tensor, "B H h w"], Float[Tensor, "B H h w"]]:
        """Empty states for maps of this size."""
        # In the parameters' precision even under autocast: the memory is a sum over all steps.
        nothing = self.bias.new_zeros(maps.shape[0], self.hidden, *maps.shape[3:])
        return nothing, nothing

    def project(self, maps: Float[Tensor, "B T C h w"]) -> tuple[Tensor, ...]:
        """What the gates see of the input, bias included: ``B 4H h w`` for each step, all from one convolution."""
        convolution = SharedConvolution(self.input_weight)
        return over_time(lambda x: convolution(x) + rearrange(self.bias, "g -> g 1 1"), maps)

    def stepper(self, *weights: Float[Tensor, "D _ k k"]) -> Step:
        """A step of this layer: (what the gates have seen already, sources, c) -> (h, c).

        Args:
            weights: one for each source, ``hidden_weight`` for h_{t-1}.
        """
        shared = SharedConvolution(torch.cat(weights, 1))

        def step(seen: Tensor, sources: Sequence[Tensor], c: Tensor) -> tuple[Tensor, Tensor]:
            return self.cell(seen + shared(torch.cat(list(sources), 1)), c)

        return step

    def cell(
        self, gates: Float[Tensor, "B G h w"], c: Float[Tensor, "B H h w"]
    ) -> tuple[Float[Tensor, "B H h w"], Float[Tensor, "B H h w"]]:
        """The next h and c from the gates before their squashing."""
        i, f, g, o = gates.split(self.hidden, dim=1)
        if self.peephole is not None:
            i, f = i + self.peephole[0] * c, f + self.peephole[1] * c
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        if self.peephole is not None:
            o = o + self.peephole[2] * c
        return o.sigmoid() * c.tanh(), c


def convolve(
    x: Float[Tensor, "N C h w"], weight: Float[Tensor, "D C k k"], bias: Float[Tensor, " D"] | None = None
) -> Float[Tensor, "N D h w"]:
    """The zero-padded convolution that keeps the size; a matrix product, four times faster, where maps are 1x1."""
    if _of_vectors(weight, x):
        return F.linear(x.flatten(1), weight.flatten(1), bias)[..., None, None]
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def over_time(layer: Callable[[Tensor], Tensor], maps: Float[Tensor, "B T C h w"]) -> tuple[Tensor, ...]:
    """A layer over the maps of all steps in one call; gives its result for each step, ``B D h w``."""
    frames = rearrange(maps, "b t c h w -> (t b) c h w").contiguous(memory_format=torch.channels_last)
    return rearrange(layer(frames), "(t b) d h w -> t b d h w", b=maps.shape[0]).unbind()


def _of_vectors(weight: Tensor, maps: Tensor) -> bool:
    return weight.shape[-1] == 1 and maps.shape[-2:] == (1, 1)


class _Calls:
    """What the calls of a shared convolution have in common while they go forwards and backwards."""

    def __init__(self) -> None:
        # (input, error of the result) of the calls that have gone backwards, for each backward pass.
        self.due: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        self.forwards: Callable[[Tensor], Tensor] | None = None
        self.backwards: Callable[[Tensor], Tensor] | None = None


class _Gather(torch.autograd.Function):
    """An alias of the weight, whose gradient comes from what the calls have left and not from the alias's own."""

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
        due = ctx.calls.due.pop(torch._C._current_graph_task_id(), None)
        if due is None:
            return None, None
        return _weight_gradient(due, *ctx.saved_tensors), None


class _Call(torch.autograd.Function):
    """One call: the error of the input is found at once; what the weight's needs is left with ``calls``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, calls: _Calls) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.calls = calls
        if calls.forwards is None:
            calls.forwards = _prepared(weight, x)
        return calls.forwards(x)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, error: Tensor
    ) -> tuple[Tensor | None, None, None]:
        (x, weight), calls = ctx.saved_tensors, ctx.calls
        if ctx.needs_input_grad[1]:
            calls.due[torch._C._current_graph_task_id()].append((x, error))
        if not ctx.needs_input_grad[0]:
            return None, None, None
        if calls.backwards is None:
            calls.backwards = _prepared(weight.flip(2, 3).transpose(0, 1), error)
        return calls.backwards(error), None, None


def _prepared(weight: Tensor, like: Tensor) -> Callable[[Tensor], Tensor]:
    """The convolution with ``weight``, laid out once for all inputs like the given one."""
    if _of_vectors(weight, like) or not _onednn(like):
        weight = weight.contiguous(memory_format=torch.channels_last)
        return lambda x: convolve(x, weight)
    return PackedConv(weight, None, like, padding=(weight.shape[-1] // 2,) * 2)


def _weight_gradient(due: list[tuple[Tensor, Tensor]], weight: Tensor) -> Tensor:
    """The gradient of ``weight`` from (input, error of the result) of all calls."""
    kernel, (x, _) = weight.shape[-1], due[0]
    if not _onednn(x) or _of_vectors(weight, x):
        inputs, errors = (torch.cat(tensors) for tensors in zip(*due, strict=True))
        if _of_vectors(weight, x):
            return (errors.flatten(1).t() @ inputs.flatten(1))[..., None, None]
        options = [1, 1], [kernel // 2] * 2, [1, 1], False, [0, 0], 1, [False, True, False]
        return torch.ops.aten.convolution_backward(errors, inputs, weight, [0], *options)[1]
    # One matrix product for each tap of the kernel takes oneDNN three quarters of the time of its own gradient. In
    # pieces, because each needs its inputs and errors a second time.
    gradient = weight.new_zeros(kernel, kernel, *weight.shape[:2])
    calls = max(1, _IMAGES_AT_ONCE // len(x))
    for first in range(0, len(due), calls):
        inputs, errors = (torch.cat(tensors) for tensors in zip(*due[first : first + calls], strict=True))
        for some_inputs, some_errors in zip(*(one.split(_IMAGES_AT_ONCE) for one in (inputs, errors)), strict=True):
            rows = rearrange(some_errors, "n d h w -> d (n h w)").contiguous()
            padded = F.pad(rearrange(some_inputs, "n s h w -> s n h w").contiguous(), [kernel // 2] * 4)
            shifted = padded.unfold(2, kernel, 1).unfold(3, kernel, 1)
            for v in range(kernel):
                for u in range(kernel):
                    columns = rearrange(shifted[..., v, u], "s n h w -> s (n h w)").contiguous()
                    gradient[v, u] += torch.ops.mkldnn._linear_pointwise(rows, columns, None, "none", [], "")
    return rearrange(gradient, "v u d s -> d s v u")


def _onednn(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()
