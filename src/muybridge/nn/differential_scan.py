"""The fast scan of a differential LSTM: hand-written forward and backward pass with as few matrix products as possible.

Legend: B batch, T frames, D input size, H hidden size, L lags of the cell state. Gate rows are in the order cell
candidate c, input i, forget f, output o: the gates on which s_t depends (c, i, f) and the gates that take the cell
state (i, f, o) are then contiguous blocks.

Derivatives of the cell state are linear combinations of its last values, so their weights are combined beforehand into
weights of s_{t-1}, s_{t-2}, ... Each step of the forward pass has two products: of h_{t-1} for the gates of step t, and
of s_t for its output gate and the gates of the next L steps. In the backward pass one product takes the gradient of all
gates to h_{t-1}, s_{t-1}, ..., s_{t-L}, and one that of the output gate to s_t.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable

from muybridge.nn.options import Truncate

Product = Callable[[Tensor, Tensor | None], Tensor]


class DifferentialScan(torch.autograd.Function):
    """All steps of a differential LSTM, time first, with a hand-written backward pass.

    ``hidden_weight`` (4H H) multiplies h_{t-1} and ``state_weight`` (H + L * 3H, H) s_t, or tanh(s_t) if ``bounded``:
    first for o of the same step, then for i, f and o of each of the next steps, the last o being zero. Step t computes
    the first ``active[t]`` rows.
    """

    @staticmethod
    def forward(
        ctx: Any,
        sequence: Tensor,
        input_weight: Tensor,
        bias: Tensor,
        hidden_weight: Tensor,
        state_weight: Tensor | None,
        active: list[int],
        truncate: Truncate,
        bounded: bool,
    ) -> tuple[Tensor, Tensor]:
        """Outputs and cell states (T B H) of sequences sorted longest first; zero after the end of a sequence."""
        (frames, batch, _), size = sequence.shape, hidden_weight.shape[1]
        lags = 0 if state_weight is None else len(state_weight) // (3 * size)
        allocate = sequence.new_zeros if active[-1] < batch else sequence.new_empty  # rows never written stay zero
        hidden, state = allocate(frames + 1, batch, size), allocate(frames + max(lags, 1), batch, size)
        hidden[0], state[:-frames] = 0, 0  # initial state
        tanh_state = allocate(frames, batch, size)
        # Initially the input's contribution to the gates; the scan adds that of the cell state and, at step t, replaces
        # the sum by the gates' values. The last cell states contribute to L more frames than there are.
        gates = _linear(F.pad(sequence, (0, 0, 0, 0, 0, lags)), input_weight, bias)
        _scan_forward(gates, hidden, state, tanh_state, hidden_weight, state_weight, active, bounded)
        ctx.save_for_backward(sequence, input_weight, hidden_weight, state_weight, hidden, state, gates, tanh_state)
        ctx.active, ctx.truncate, ctx.bounded = active, truncate, bounded
        return hidden[1:], state[-frames:]

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad_hidden: Tensor, grad_state: Tensor
    ) -> tuple[Tensor | None, ...]:
        """Gradients of sequence, input_weight, bias, hidden_weight and state_weight."""
        sequence, input_weight, hidden_weight, state_weight, hidden, state, gates, tanh_state = ctx.saved_tensors
        (frames, _, size), lags = tanh_state.shape, len(gates) - len(tanh_state)
        grad_gates = _gate_derivatives(gates, state, tanh_state, ctx.active)
        _scan_backward(
            grad_gates,
            grad_hidden,
            grad_state,
            gates,
            tanh_state,
            hidden_weight,
            state_weight,
            ctx.active,
            ctx.truncate,
            ctx.bounded,
        )
        grad_sequence = _linear(grad_gates, input_weight.t()) if ctx.needs_input_grad[0] else None
        by_gate = rearrange(grad_gates, "t b g -> g (t b)").contiguous()
        grad_state_weight = None
        if lags:
            taken = F.pad(tanh_state, (0, 0, 0, 0, lags, 0)) if ctx.bounded else state
            earlier = [_outer(by_gate[size:], taken[lags - lag : len(taken) - lag]) for lag in range(1, lags + 1)]
            grad_state_weight = torch.cat([_outer(by_gate[3 * size :], taken[-frames:]), *earlier])
        grad_input_weight, grad_hidden_weight = _outer(by_gate, sequence), _outer(by_gate, hidden[:-1])
        return grad_sequence, grad_input_weight, by_gate.sum(1), grad_hidden_weight, grad_state_weight, *[None] * 3


def _scan_forward(
    gates: Tensor,
    hidden: Tensor,
    state: Tensor,
    tanh_state: Tensor,
    hidden_weight: Tensor,
    state_weight: Tensor | None,
    active: list[int],
    bounded: bool,
) -> None:
    """All steps forward; writes ``gates``, ``hidden``, ``state`` and ``tanh_state`` in place."""
    (frames, batch, size), lags = tanh_state.shape, len(gates) - len(tanh_state)
    from_hidden = _product(hidden_weight, batch)
    from_state = _product(state_weight, batch) if state_weight is not None else None
    inputs, later = _active_rows(gates, active), []
    if lags:
        later = _active_rows(_sliding_windows(gates[1:, :, size:], lags), active)
    c, i, f, o = (_active_rows(gate, active) for gate in gates.chunk(4, dim=-1))
    i_and_f = _active_rows(gates[..., size : 3 * size], active)
    h_before, outputs, tanh_s = (_active_rows(stack, active) for stack in (hidden, hidden[1:], tanh_state))
    s_before, states = _active_rows(state[-frames - 1 :], active), _active_rows(state[-frames:], active)
    for t, s in enumerate(states):
        raw = from_hidden(h_before[t], inputs[t])
        raw_o = raw[:, 3 * size :]
        torch.tanh(raw[:, :size], out=c[t])
        torch.sigmoid(raw[:, size : 3 * size], out=i_and_f[t])
        torch.mul(f[t], s_before[t], out=s).addcmul_(i[t], c[t])
        torch.tanh(s, out=tanh_s[t])
        if from_state is not None:
            contribution = from_state(tanh_s[t] if bounded else s, None)
            raw_o += contribution[:, :size]
            later[t].add_(contribution[:, size:].unflatten(1, (lags, 3 * size)))
        torch.sigmoid(raw_o, out=o[t])
        torch.mul(o[t], tanh_s[t], out=outputs[t])


def _gate_derivatives(gates: Tensor, state: Tensor, tanh_state: Tensor, active: list[int]) -> Tensor:
    """The derivatives of s (by c, i, f) and of h (by o) with respect to the gates before their nonlinearities."""
    frames, batch, _ = tanh_state.shape
    c, i, f, o = gates[:frames].chunk(4, dim=-1)
    result = torch.empty_like(gates[:frames])
    by_c, by_i, by_f, by_o = result.chunk(4, dim=-1)
    torch.ops.aten.tanh_backward.grad_input(i, c, grad_input=by_c)
    torch.ops.aten.sigmoid_backward.grad_input(c, i, grad_input=by_i)
    torch.ops.aten.sigmoid_backward.grad_input(state[-frames - 1 : -1], f, grad_input=by_f)
    torch.ops.aten.sigmoid_backward.grad_input(tanh_state, o, grad_input=by_o)
    if active[-1] < batch:
        ended = torch.arange(batch) >= torch.tensor(active)[:, None]
        result.masked_fill_(ended[..., None].to(result.device), 0)
    return result


def _scan_backward(
    grad_gates: Tensor,
    grad_hidden: Tensor,
    grad_state: Tensor,
    gates: Tensor,
    tanh_state: Tensor,
    hidden_weight: Tensor,
    state_weight: Tensor | None,
    active: list[int],
    truncate: Truncate,
    bounded: bool,
) -> None:
    """All steps backward; turns ``grad_gates`` from local derivatives into gradients of the loss, in place."""
    (frames, batch, size), lags = tanh_state.shape, len(gates) - len(tanh_state)
    _, _, f, o = gates[:frames].chunk(4, dim=-1)
    h_by_s = _active_rows(torch.ops.aten.tanh_backward(o, tanh_state), active)  # d h_t / d s_t with o_t fixed
    grad_state = F.pad(grad_state, (0, 0, 0, 0, lags, 0))  # later gates add their part
    to_past = None if truncate else _product(_backward_weight(hidden_weight, state_weight), batch)
    # Gradient of what the gates take: of s_t itself, or of tanh(s_t), which the chain rule then brings to s_t.
    grad_taken = torch.zeros_like(grad_state) if bounded else grad_state
    to_current, earlier = None, []
    if state_weight is not None:
        earlier = _active_rows(_sliding_windows(grad_taken[:-1], lags), active)
        to_current = _product(state_weight[:size].t(), batch) if truncate != "strict" else None
    grad_all, forget = _active_rows(grad_gates, active), _active_rows(f, active)
    grad_o = _active_rows(grad_gates[..., 3 * size :], active)
    grad_cif = _active_rows(rearrange(grad_gates, "t b (g h) -> t b g h", g=4)[:, :, :3], active)
    grads_h, grads_s = _active_rows(grad_hidden, active), _active_rows(grad_state[lags:], active)
    grads_taken, slope = _active_rows(grad_taken[lags:], active), _active_rows(1 - tanh_state.square(), active)
    s_from_next = gates.new_zeros(0, size)  # gradient of s_t through s_{t+1}
    h_from_next = gates.new_zeros(0, size)  # gradient of h_t through the gates of t + 1
    for t in reversed(range(frames)):
        rows = len(grad_all[t])
        if len(s_from_next) < rows:  # sequences that end at this step join
            s_from_next, h_from_next = (F.pad(x, (0, 0, 0, rows - len(x))) for x in (s_from_next, h_from_next))
        grad_h, grad_s = grads_h[t] + h_from_next, s_from_next.add_(grads_s[t])
        grad_o[t].mul_(grad_h)
        grad_s.addcmul_(grad_h, h_by_s[t])
        if to_current is not None and bounded:
            grad_s.addcmul_(to_current(grad_o[t], grads_taken[t]), slope[t])
        elif to_current is not None:
            grad_s = to_current(grad_o[t], grad_s)
        grad_cif[t].mul_(grad_s[:, None])
        s_from_next = grad_s.mul_(forget[t])
        if to_past is not None:
            past = to_past(grad_all[t], None)
            h_from_next = past[:, :size]
            if lags:
                earlier[t].add_(past[:, size:].unflatten(1, (lags, size)))


def _use_onednn(x: Tensor) -> bool:
    """Whether oneDNN's products apply; for flat matrices they take half the time of the general ones."""
    return x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkldnn.is_available()


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x @ weight.T + bias."""
    if _use_onednn(x):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return F.linear(x, weight, bias)


def _product(weight: Tensor, rows: int) -> Product:
    """A function (x, addend) -> x @ weight.T + addend that prepacks ``weight`` once, before a scan."""
    if _use_onednn(weight):
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        fused = torch.ops.mkldnn._linear_pointwise.binary
        return lambda x, addend: _linear(x, packed) if addend is None else fused(x, addend, packed, None, "add")
    transposed = weight.t()
    return lambda x, addend: x @ transposed if addend is None else torch.addmm(addend, x, transposed)


def _active_rows(stacked: Tensor, active: list[int]) -> list[Tensor]:
    """The rows of each step that are before the end of their sequence."""
    return [rows if n == len(rows) else rows[:n] for rows, n in zip(stacked.unbind(), active, strict=False)]


def _sliding_windows(stacked: Tensor, lags: int) -> Tensor:
    """A view of ``lags`` consecutive frames: from T + lags - 1 frames (B n) to T (B lags n)."""
    return rearrange(stacked.unfold(0, lags, 1), "t b n l -> t b l n")


def _backward_weight(hidden_weight: Tensor, state_weight: Tensor | None) -> Tensor:
    """Weights ((1 + L) H, 4H) from the gradient of all gates to h_{t-1}, s_{t-L}, ..., s_{t-1}."""
    if state_weight is None:
        return hidden_weight.t()
    size = hidden_weight.shape[1]
    later = rearrange(state_weight[size:], "(l g) h -> l h g", g=3 * size)
    return torch.cat([hidden_weight.t(), rearrange(F.pad(later.flip(0), (size, 0)), "l h g -> (l h) g")])


def _outer(by_gate: Tensor, inputs: Tensor) -> Tensor:
    """Weight gradient: outer products of gradients (m, T B) and inputs (T B n), summed over steps and batch."""
    return _linear(by_gate, rearrange(inputs, "t b n -> (t b) n").t())
