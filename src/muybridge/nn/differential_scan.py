"""The fast scan of a differential LSTM: all steps of forward and backward, by hand, in as few products as possible.

Legend: B batch, T frames, D input size, H hidden size, G = 4H gate rows in torch's order (input i, forget f, cell
input c, output o), L lags of the memory, K = H + L * H columns of one step's product.

Derivatives of the memory are sums of its last values, so their weights can be added up beforehand to weights of
s_{t-1}, s_{t-2}, ... One product a step then serves the last output and all lags in all gates; a second serves the
output gate's view of the memory of its own step.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable

Truncate = Literal[False, "soft", "strict"]


def _onednn(x: Tensor) -> bool:
    """Whether oneDNN's products apply; on flat matrices they take half the time of the general ones."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias."""
    if _onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def _outer(error: Tensor, seen: Tensor) -> Tensor:
    """Weight gradient: the outer products of error (T B m) and seen (T B n), summed over steps and batch."""
    left, right = (rearrange(x, "t b n -> (t b) n") for x in (error, seen))
    # A weight that is neither contiguous nor the transpose of such is left to oneDNN's slow reference code.
    return _linear(left.t(), right.contiguous().t())


def _product(weight: Tensor, rows: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A function (addend, x) -> addend + x @ weight.T that lays out ``weight`` once, ahead of a scan."""
    if _onednn(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        fused = torch.ops.mkldnn._linear_pointwise.binary
        return lambda addend, x: fused(x, addend, packed, None, "add")
    transposed = weight.t()
    return lambda addend, x: torch.addmm(addend, x, transposed)


def _running(stacked: Tensor, active: list[int]) -> list[Tensor]:
    """Each step's rows that are still running."""
    return [rows if n == len(rows) else rows[:n] for rows, n in zip(stacked.unbind(), active, strict=False)]


class DifferentialScan(torch.autograd.Function):
    """All steps of a differential LSTM, time first, with a hand-written backward scan.

    ``window[t]`` holds [h_{t-1}, s_{t-1}, ..., s_{t-L}]: the input of step t's product and, all steps stacked, one
    factor of the weight gradients. Step t works on the first ``active[t]`` rows. ``weight`` (G K) meets the window,
    ``now`` (H H) the current memory in the output gate; ``weight`` is zero where c would see memory, and where o would
    see s_{t-L}.
    """

    @staticmethod
    def forward(
        ctx: Any,
        sequence: Tensor,
        input_weight: Tensor,
        bias: Tensor,
        weight: Tensor,
        now: Tensor | None,
        active: list[int],
        truncate: Truncate,
    ) -> tuple[Tensor, Tensor]:
        """Outputs and memories (T B H) of sequences sorted longest first; zero where a sequence has ended."""
        (frames, batch, _), (rows, columns) = sequence.shape, weight.shape
        size = rows // 4
        blank = sequence.new_zeros if active[-1] < batch else sequence.new_empty  # what no step writes stays zero
        gates, window = blank(frames, batch, rows), blank(frames, batch, columns)
        hidden, squashed = blank(frames, batch, size), blank(frames, batch, size)  # squashed: tanh(s)
        state = blank(frames + 1, batch, size)  # one frame of zero history first
        window[0], state[0] = 0, 0
        step = _product(weight, batch)
        step_now = _product(now, batch) if now is not None else None
        projected = _running(_linear(sequence, input_weight, bias), active)
        i, f, c, o = (_running(gate, active) for gate in gates.chunk(4, dim=-1))
        both = _running(gates[..., : 2 * size], active)
        windows, outputs, wide = (_running(stack, active) for stack in (window, hidden, squashed))
        s_before, s_after = _running(state[:-1], active), _running(state[1:], active)
        for t, seen in enumerate(windows):
            raw, s = step(projected[t], seen), s_after[t]
            torch.sigmoid(raw[:, : 2 * size], out=both[t])
            torch.tanh(raw[:, 2 * size : 3 * size], out=c[t])
            torch.mul(f[t], s_before[t], out=s).addcmul_(i[t], c[t])
            raw_o = raw[:, 3 * size :]
            torch.sigmoid(raw_o if step_now is None else step_now(raw_o, s), out=o[t])
            torch.mul(o[t], torch.tanh(s, out=wide[t]), out=outputs[t])
            if t + 1 < len(windows):
                following = windows[t + 1]
                n = len(following)
                following[:, :size] = outputs[t][:n]
                if now is not None:
                    following[:, size : 2 * size] = s[:n]
                    following[:, 2 * size :] = seen[:n, size:-size]
        ctx.save_for_backward(sequence, input_weight, weight, now, window, gates, state, squashed)
        ctx.active, ctx.truncate = active, truncate
        return hidden, state[1:]

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_hidden: Tensor, grad_state: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of sequence, input_weight, bias, weight and now."""
        sequence, input_weight, weight, now, window, gates, state, squashed = ctx.saved_tensors
        active: list[int] = ctx.active
        size = gates.shape[-1] // 4
        i, f, c, o = gates.chunk(4, dim=-1)
        # What a unit error of the memory (i, f, c) or of the output (o) does to each gate before its squashing.
        slope = torch.empty_like(gates)
        slope_i, slope_f, slope_c, slope_o = slope.chunk(4, dim=-1)
        torch.ops.aten.sigmoid_backward.grad_input(c, i, grad_input=slope_i)
        torch.ops.aten.sigmoid_backward.grad_input(state[:-1], f, grad_input=slope_f)
        torch.ops.aten.tanh_backward.grad_input(i, c, grad_input=slope_c)
        torch.ops.aten.sigmoid_backward.grad_input(squashed, o, grad_input=slope_o)
        through = _running(torch.ops.aten.tanh_backward(o, squashed), active)  # d h_t / d s_t past the output gate

        blank = torch.zeros_like if active[-1] < gates.shape[1] else torch.empty_like
        error = blank(gates)  # of the gates before their squashing
        back = _product(weight.t(), gates.shape[1]) if not ctx.truncate else None
        back_now = _product(now.t(), gates.shape[1]) if now is not None and ctx.truncate != "strict" else None
        errors, forgets = _running(error, active), _running(f, active)
        slopes_o, errors_o = _running(slope_o, active), _running(error[..., 3 * size :], active)
        # i, f and c as one block of three, each times the same error of the memory
        slopes_ifc, errors_ifc = (
            _running(rearrange(x, "t b (g h) -> t b g h", g=4)[:, :, :3], active) for x in (slope, error)
        )
        grads_h, grads_s = _running(grad_hidden, active), _running(grad_state, active)
        carried = gates.new_zeros(0, size)  # error of s_t that came along the memory from t + 1
        pending = gates.new_zeros(0, weight.shape[1])  # errors of h_t, s_t, s_{t-1}, ... from later products
        nothing = torch.zeros_like(window[0])
        for t in reversed(range(len(errors))):
            n = len(errors[t])
            if len(carried) < n:  # sequences that end here join
                carried, pending = (F.pad(x, (0, 0, 0, n - len(x))) for x in (carried, pending))
            d_h, d_s = grads_h[t] + pending[:, :size], carried.add_(grads_s[t])
            torch.mul(d_h, slopes_o[t], out=errors_o[t])
            d_s.addcmul_(d_h, through[t])
            if now is not None:
                d_s.add_(pending[:, size : 2 * size])
            if back_now is not None:
                d_s = back_now(d_s, errors_o[t])
            torch.mul(d_s[:, None], slopes_ifc[t], out=errors_ifc[t])
            carried = d_s.mul_(forgets[t])
            if back is not None:
                later, pending = pending, back(nothing[:n], errors[t])
                pending[:, size:-size].add_(later[:, 2 * size :])

        d_sequence = _linear(error, input_weight.t()) if ctx.needs_input_grad[0] else None
        d_input_weight, d_bias = _outer(error, sequence), error.sum((0, 1))
        d_weight, d_now = torch.zeros_like(weight), None
        d_weight[:, :size] = _outer(error, window[..., :size])
        if now is not None:
            d_weight[: 2 * size, size:] = _outer(error[..., : 2 * size], window[..., size:])
            d_weight[3 * size :, size:-size] = _outer(error[..., 3 * size :], window[..., size:-size])
            d_now = _outer(error[..., 3 * size :], state[1:])
        return d_sequence, d_input_weight, d_bias, d_weight, d_now, None, None
