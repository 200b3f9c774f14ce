"""The fast scan of a differential LSTM: all steps of forward and backward, by hand, in as few products as possible.

Legend: B batch, T frames, D input size, H hidden size, L lags of the memory. Gate rows come in the order cell input c,
input i, forget f, output o: what s_t answers to (c, i, f) and what sees the memory (i, f, o) are then both one block.

Derivatives of the memory are sums of its last values, so their weights can be added up beforehand to weights of
s_{t-1}, s_{t-2}, ... A step forward takes two products: one of h_{t-1} for its own gates, one of s_t for its own output
gate and the gates of the L steps that follow. Going back, one takes the error of all gates to h_{t-1}, s_{t-1}, ...,
s_{t-L}, and one that of the output gate to s_t.
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


def _product(weight: Tensor, rows: int) -> Callable[[Tensor, Tensor | None], Tensor]:
    """A function (x, addend) -> x @ weight.T + addend that lays out ``weight`` once, ahead of a scan."""
    if _onednn(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        fused = torch.ops.mkldnn._linear_pointwise.binary
        return lambda x, addend: _linear(x, packed) if addend is None else fused(x, addend, packed, None, "add")
    transposed = weight.t()
    return lambda x, addend: x @ transposed if addend is None else torch.addmm(addend, x, transposed)


def _running(stacked: Tensor, active: list[int]) -> list[Tensor]:
    """Each step's rows that are still running."""
    return [rows if n == len(rows) else rows[:n] for rows, n in zip(stacked.unbind(), active, strict=False)]


def _neighbours(stacked: Tensor, lags: int) -> Tensor:
    """View of ``lags`` frames in a row: from T + lags - 1 frames (B n) to T (B lags n)."""
    return rearrange(stacked.unfold(0, lags, 1), "t b n l -> t b l n")


class DifferentialScan(torch.autograd.Function):
    """All steps of a differential LSTM, time first, with a hand-written backward scan.

    ``hidden_weight`` (4H H) meets h_{t-1} and ``memory_weight`` (H + L * 3H, H) s_t: first for o of its own step, then
    for i, f and o of each step that follows, the last o being zero. Step t works on the first ``active[t]`` rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        sequence: Tensor,
        input_weight: Tensor,
        bias: Tensor,
        hidden_weight: Tensor,
        memory_weight: Tensor | None,
        active: list[int],
        truncate: Truncate,
    ) -> tuple[Tensor, Tensor]:
        """Outputs and memories (T B H) of sequences sorted longest first; zero where a sequence has ended."""
        (frames, batch, _), size = sequence.shape, hidden_weight.shape[1]
        lags = 0 if memory_weight is None else len(memory_weight) // (3 * size)
        blank = sequence.new_zeros if active[-1] < batch else sequence.new_empty  # what no step writes stays zero
        hidden, state = blank(frames + 1, batch, size), blank(frames + max(lags, 1), batch, size)
        hidden[0], state[:-frames] = 0, 0  # nothing comes before the first frame
        squashed = blank(frames, batch, size)  # tanh(s)
        # First what the gates see of the input and, as the scan goes on, of the memory; from step t on their values.
        # What the last memories tell later steps goes to L frames more than there are.
        gates = _linear(F.pad(sequence, (0, 0, 0, 0, 0, lags)), input_weight, bias)

        step = _product(hidden_weight, batch)
        remember = _product(memory_weight, batch) if memory_weight is not None else None
        known, later = _running(gates, active), []
        if lags:
            later = _running(_neighbours(gates[1:, :, size:], lags), active)
        c, i, f, o = (_running(gate, active) for gate in gates.chunk(4, dim=-1))
        both = _running(gates[..., size : 3 * size], active)
        h_before, outputs, wide = (_running(stack, active) for stack in (hidden, hidden[1:], squashed))
        s_before, s_after = _running(state[-frames - 1 :], active), _running(state[-frames:], active)
        for t, s in enumerate(s_after):
            raw = step(h_before[t], known[t])
            raw_o = raw[:, 3 * size :]
            torch.tanh(raw[:, :size], out=c[t])
            torch.sigmoid(raw[:, size : 3 * size], out=both[t])
            torch.mul(f[t], s_before[t], out=s).addcmul_(i[t], c[t])
            if remember is not None:
                seen = remember(s, None)
                raw_o += seen[:, :size]
                later[t].add_(seen[:, size:].unflatten(1, (lags, 3 * size)))
            torch.sigmoid(raw_o, out=o[t])
            torch.mul(o[t], torch.tanh(s, out=wide[t]), out=outputs[t])
        ctx.save_for_backward(sequence, input_weight, hidden_weight, memory_weight, hidden, state, gates, squashed)
        ctx.active, ctx.truncate = active, truncate
        return hidden[1:], state[-frames:]

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_hidden: Tensor, grad_state: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of sequence, input_weight, bias, hidden_weight and memory_weight."""
        sequence, input_weight, hidden_weight, memory_weight, hidden, state, gates, squashed = ctx.saved_tensors
        active: list[int] = ctx.active
        (frames, batch, size), lags = squashed.shape, len(gates) - len(squashed)
        c, i, f, o = gates[:frames].chunk(4, dim=-1)
        # Error of the gates before their squashing: to begin with what a unit error of s (c, i, f) or h (o) does there.
        error = torch.empty_like(gates[:frames])
        error_c, error_i, error_f, error_o = error.chunk(4, dim=-1)
        torch.ops.aten.tanh_backward.grad_input(i, c, grad_input=error_c)
        torch.ops.aten.sigmoid_backward.grad_input(c, i, grad_input=error_i)
        torch.ops.aten.sigmoid_backward.grad_input(state[-frames - 1 : -1], f, grad_input=error_f)
        torch.ops.aten.sigmoid_backward.grad_input(squashed, o, grad_input=error_o)
        if active[-1] < batch:
            ended = torch.arange(batch) >= torch.tensor(active)[:, None]
            error.masked_fill_(ended[..., None].to(error.device), 0)
        through = _running(torch.ops.aten.tanh_backward(o, squashed), active)  # d h_t / d s_t past the output gate

        grad_memory = F.pad(grad_state, (0, 0, 0, 0, lags, 0))  # later gates add theirs
        back, back_now, earlier = None, None, []
        if not ctx.truncate:
            back = _product(_towards(hidden_weight, memory_weight), batch)
        if lags:
            earlier = _running(_neighbours(grad_memory[:-1], lags), active)
            back_now = _product(memory_weight[:size].t(), batch) if ctx.truncate != "strict" else None
        errors, errors_o, forgets = _running(error, active), _running(error_o, active), _running(f, active)
        errors_cif = _running(rearrange(error, "t b (g h) -> t b g h", g=4)[:, :, :3], active)
        grads_h, grads_s = _running(grad_hidden, active), _running(grad_memory[lags:], active)
        carried = gates.new_zeros(0, size)  # error of s_t that came along the memory from t + 1
        pending = gates.new_zeros(0, size)  # error of h_t from the gates of t + 1
        for t in reversed(range(frames)):
            n = len(errors[t])
            if len(carried) < n:  # sequences that end here join
                carried, pending = (F.pad(x, (0, 0, 0, n - len(x))) for x in (carried, pending))
            d_h, d_s = grads_h[t] + pending, carried.add_(grads_s[t])
            errors_o[t].mul_(d_h)
            d_s.addcmul_(d_h, through[t])
            if back_now is not None:
                d_s = back_now(errors_o[t], d_s)
            errors_cif[t].mul_(d_s[:, None])
            carried = d_s.mul_(forgets[t])
            if back is not None:
                reached = back(errors[t], None)
                pending = reached[:, :size]
                if lags:
                    earlier[t].add_(reached[:, size:].unflatten(1, (lags, size)))

        d_sequence = _linear(error, input_weight.t()) if ctx.needs_input_grad[0] else None
        flat = rearrange(error, "t b g -> g (t b)").contiguous()
        d_memory_weight = None
        if lags:
            seen = [_outer(flat[size:], state[lags - lag : len(state) - lag]) for lag in range(1, lags + 1)]
            d_memory_weight = torch.cat([_outer(flat[3 * size :], state[-frames:]), *seen])
        d_input_weight, d_hidden_weight = _outer(flat, sequence), _outer(flat, hidden[:-1])
        return d_sequence, d_input_weight, flat.sum(1), d_hidden_weight, d_memory_weight, None, None


def _towards(hidden_weight: Tensor, memory_weight: Tensor | None) -> Tensor:
    """Weights ((1 + L) H, 4H) that take the error of all gates to h_{t-1}, s_{t-L}, ..., s_{t-1}."""
    if memory_weight is None:
        return hidden_weight.t()
    size = hidden_weight.shape[1]
    later = rearrange(memory_weight[size:], "(l g) h -> l h g", g=3 * size)
    return torch.cat([hidden_weight.t(), rearrange(F.pad(later.flip(0), (size, 0)), "l h g -> (l h) g")])


def _outer(flat: Tensor, seen: Tensor) -> Tensor:
    """Weight gradient: the outer products of error (m, T B) and seen (T B n), summed over steps and batch."""
    return _linear(flat, rearrange(seen, "t b n -> (t b) n").t())
