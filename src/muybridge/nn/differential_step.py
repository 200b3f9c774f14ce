"""One step of a differential LSTM after the other, for recordings that go on; inference only.

Legend: B sequences, D input size, H hidden size, L lags of the cell state. Gate rows are in the order of the scan: cell
candidate c, input i, forget f, output o.
"""

from math import comb
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from muybridge.nn.recurrent import DifferentialLSTM


class DifferentialState(NamedTuple):
    """What a layer carries from one step to the next.

    Attributes:
        h: the last output.
        past: the last max(L, 1) cell states, newest first.
    """

    h: Float[Tensor, "B H"]
    past: Float[Tensor, "B LH"]


class DifferentialSteps:
    """A layer whose weights are arranged once, so that a step is two matrix products.

    Of all that the gates of step t take, only s_t, which its output gate takes, is not known before it: x_t, h_{t-1}
    and s_{t-1}, ..., s_{t-L} are multiplied by one matrix. Later changes of the layer's weights have no effect.

    Args:
        layer: in evaluation mode.
    """

    def __init__(self, layer: DifferentialLSTM) -> None:
        size, self._lags = layer.hidden_size, layer.lags
        self._size, self._bounded, self._order = size, layer.bounded, max(layer.derivatives, default=0)
        with torch.no_grad():
            weights = [layer.scan_rows(layer.input_weight), layer.scan_rows(layer.hidden_weight)]
            self._to_output = None
            if layer.derivatives:
                state_weight = layer.lag_weight(layer.state_weight)
                self._to_output = state_weight[:size].t().contiguous()
                weights += [F.pad(block, (0, 0, size, 0)) for block in state_weight[size:].chunk(self._lags)]
            self._weight = torch.cat(weights, 1).t().contiguous()
            self._bias = layer.scan_rows(layer.bias).clone()

    def initial_state(self, batch: int) -> DifferentialState:
        """That before the first step: zero."""
        past = self._bias.new_zeros(batch, max(self._lags, 1) * self._size)
        return DifferentialState(past[:, : self._size], past)

    def __call__(self, x: Float[Tensor, "B D"], state: DifferentialState) -> DifferentialState:
        """The state after a step."""
        size, (h, past) = self._size, state
        taken = [x, h]
        if self._to_output is not None:
            taken.append(past.tanh() if self._bounded else past)
        gates = torch.addmm(self._bias, torch.cat(taken, 1), self._weight)
        candidate, raw_o = gates[:, :size].tanh(), gates[:, 3 * size :]
        i, f = gates[:, size : 3 * size].sigmoid().chunk(2, 1)
        s = torch.addcmul(i * candidate, f, past[:, :size])
        tanh_s = s.tanh()
        if self._to_output is not None:
            raw_o = torch.addmm(raw_o, tanh_s if self._bounded else s, self._to_output)
        later = torch.cat([s, past[:, :-size]], 1) if self._lags > 1 else s
        return DifferentialState(raw_o.sigmoid().mul_(tanh_s), later)

    def derivative_norm(self, state: DifferentialState) -> Float[Tensor, " B"]:
        """The norm of the highest derivative of the cell state that the gates take; 0 counts as one."""
        lags = state.past.unflatten(1, (-1, self._size))
        signs = [(-1.0) ** k * comb(self._order, k) for k in range(self._order + 1)]
        return torch.einsum("blh,l->bh", lags[:, : len(signs)], lags.new_tensor(signs)).norm(dim=-1)
