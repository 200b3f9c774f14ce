"""The differential LSTM layer: its gates also take discrete time derivatives of the cell state.

Legend: B batch, T frames, D input size, H hidden size; gates in torch's order (input i, forget f, cell candidate c,
output o).

With s the cell state and h the output, the n-th derivative is d^(0)_t = s_t, d^(n)_t = d^(n-1)_t - d^(n-1)_{t-1}. The
input and forget gates take d^(n)_{t-1}, the output gate d^(n)_t; the cell state before the first frame is zero.
Without derivatives this is the LSTM of ``torch.nn.LSTM``; with (0,) it is the LSTM with full peepholes.

Source: Veeriah, Zhuang, Qi, "Differential Recurrent Neural Networks for Action Recognition", ICCV 2015, section 3.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from math import comb

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch._higher_order_ops import scan

from muybridge.core.errors import RecipeError
from muybridge.nn.differential_scan import DifferentialScan
from muybridge.nn.options import Truncate


def valid_frames(length: Int64[Tensor, " B"], frames: int | torch.SymInt) -> Bool[Tensor, "B T"]:
    """True for frames before the end of their sequence, False in the padding; in export ``frames`` is a symbol."""
    return torch.arange(frames, device=length.device) < length[:, None]


def last_valid(sequence: Float[Tensor, "B T H"], length: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
    """The last valid frame of each sequence."""
    index = repeat(length - 1, "b -> b 1 h", h=sequence.shape[-1])
    return sequence.gather(1, index).squeeze(1)


def mean_valid(sequence: Float[Tensor, "B T H"], length: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
    """The mean over the valid frames of each sequence."""
    valid = valid_frames(length, sequence.shape[1])
    return sequence.where(valid[..., None], 0).sum(1) / length[:, None]


def max_valid(sequence: Float[Tensor, "B T H"], length: Int64[Tensor, " B"]) -> Float[Tensor, "B H"]:
    """The maximum over the valid frames of each sequence."""
    valid = valid_frames(length, sequence.shape[1])
    return sequence.where(valid[..., None], -torch.inf).amax(1)


def energy_peaks(energy: Float[Tensor, "B T"], length: Int64[Tensor, " B"]) -> Bool[Tensor, "B T"]:
    """The valid frames at which ``energy`` is as high as before and higher than after; at least one of each sequence.

    Source: State Energy Profile, arXiv 1905.04293; a plateau counts once, at its end, and the ends of a sequence count
    as low (ours).
    """
    energy = energy.where(valid_frames(length, energy.shape[1]), -1.0)
    around = F.pad(energy, (1, 1), value=-1.0)
    return (energy >= around[:, :-2]) & (energy > around[:, 2:])


def peak_valid(
    sequence: Float[Tensor, "B T H"], energy: Float[Tensor, "B T"], length: Int64[Tensor, " B"]
) -> Float[Tensor, "B H"]:
    """The mean over the frames at the peaks of ``energy``."""
    peaks = energy_peaks(energy, length)
    return sequence.where(peaks[..., None], 0).sum(1) / peaks.sum(1, keepdim=True)


class DifferentialLSTM(nn.Module):
    """One layer of a dRNN over padded sequences; in the padding h and s keep their last valid value.

    Args:
        input_size: D.
        hidden_size: H.
        derivatives: the orders n of the d^(n) that the gates take, each n >= 0 at most once; empty for a plain LSTM.
        diagonal: whether each cell takes only its own derivatives (H weights per term instead of H * H).
        bounded: whether the gates take the derivatives of tanh(s_t) instead of s_t, whose size has no limit.
        weight_dropout: dropout rate of the weights from h and from the derivatives, the same for all frames of a batch
            (Merity, Keskar, Socher, ICLR 2018).
        truncate: how gradients are truncated. False: full backpropagation through time. "strict": gates and cell
            candidate are treated as constants, so that gradients flow only along s_t = f_t * s_{t-1} + i_t * c_t.
            "soft": as strict, but the output gate passes gradients to s_t of its frame.
        forget_bias: initial value of b_f; the other biases are initialized to 0.
        use_reference: run the step-by-step equations under autograd instead of the fast scan. Export always does.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        derivatives: Sequence[int] = (0, 1, 2),
        *,
        diagonal: bool = False,
        bounded: bool = False,
        weight_dropout: float = 0.0,
        truncate: Truncate = False,
        forget_bias: float = 0.0,
        use_reference: bool = False,
    ) -> None:
        super().__init__()
        if min(derivatives, default=0) < 0 or len(set(derivatives)) < len(derivatives):
            raise RecipeError(
                f"derivatives = {list(derivatives)}",
                expected="each order once, 0 or more",
                hint="set for instance [0, 1, 2] for a second-order network, or [] for an LSTM",
            )
        self.hidden_size = hidden_size
        self.derivatives = tuple(derivatives)
        self.diagonal = diagonal
        self.bounded = bounded
        self.weight_dropout = weight_dropout
        self.truncate: Truncate = truncate
        self.forget_bias = forget_bias
        self.use_reference = use_reference
        self.lags = max(derivatives, default=-1) + 1
        self.input_weight = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.hidden_weight = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        if derivatives:
            columns = () if diagonal else (hidden_size,)
            self.state_weight = nn.Parameter(torch.empty(len(derivatives), 3, hidden_size, *columns))
            self.register_buffer("mixing", self._mixing_matrix(), persistent=False)
        self.mixing: Tensor
        self.reset_parameters()

    def _mixing_matrix(self) -> Tensor:
        """From the weights of the derivatives to the weights of s_{t-k} in the order of the scan."""
        # d^(n)_t is the sum over k of (-1)^k C(n, k) s_{t-k}: one row per lag, one column per term.
        binomial = torch.tensor([[(-1.0) ** k * comb(n, k) for n in self.derivatives] for k in range(self.lags)])
        # From (i, f, o) of each term to the effect of s_t on o_t | i_{t+1}, f_{t+1}, o_{t+1} | ... |
        # i_{t+L}, f_{t+L}, 0. The gate o comes first because it takes s_t where i and f take s_{t-1}.
        return F.pad(torch.kron(binomial, torch.eye(3).roll(1, 0)), (0, 0, 0, 1))

    def reset_parameters(self) -> None:
        """Weights uniform within 1 / sqrt(fan-in); biases 0 except that of the forget gate."""
        for name, parameter in self.named_parameters():
            fan_in = parameter.shape[1] if name == "input_weight" else self.hidden_size
            nn.init.uniform_(parameter, -(fan_in**-0.5), fan_in**-0.5)
        nn.init.zeros_(self.bias)
        nn.init.constant_(self.bias[self.hidden_size : 2 * self.hidden_size], self.forget_bias)

    def forward(
        self, sequence: Float[Tensor, "B T D"], length: Int64[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B T H"]]:
        """Outputs h and cell states s of every frame; without ``length`` all frames are valid."""
        if self.use_reference or torch.compiler.is_compiling():
            return self._step_by_step(sequence, length)
        with torch.autocast(sequence.device.type, enabled=False):
            return self._scan(sequence.to(self.bias.dtype), length)

    def _step_by_step(self, sequence: Tensor, length: Tensor | None) -> tuple[Tensor, Tensor]:
        """The equations one after the other; if the number of frames is symbolic, as in export, as one loop."""
        batch, frames, _ = sequence.shape
        if length is None:
            length = sequence.new_full((batch,), frames, dtype=torch.int64)
        carried = tuple(sequence.new_zeros(batch, self.hidden_size) for _ in range(1 + max(self.lags, 1)))
        step = partial(self._step, *self._state_weights())
        inputs = F.linear(sequence, self.input_weight, self.bias).transpose(0, 1)
        valid = valid_frames(length, frames).transpose(0, 1)[..., None]
        if isinstance(frames, torch.SymInt):
            outputs, states = scan(partial(_unshared, step), carried, (inputs, valid))[1]
            return outputs.transpose(0, 1), states.transpose(0, 1)
        steps = []
        for x, is_valid in zip(inputs.unbind(), valid.unbind(), strict=True):
            carried = step(carried, (x, is_valid))
            steps.append(carried[:2])
        outputs, states = zip(*steps, strict=True)
        return torch.stack(outputs, 1), torch.stack(states, 1)

    def _state_weights(self) -> tuple[Tensor, Tensor | None]:
        """The weights from h and from the derivatives, some of them dropped in training."""
        weights = (self.hidden_weight, self.state_weight if self.derivatives else None)
        hidden, state = (
            weight if weight is None else F.dropout(weight, self.weight_dropout, self.training) for weight in weights
        )
        assert hidden is not None
        return hidden, state

    def _step(
        self,
        hidden_weight: Tensor,
        state_weight: Tensor | None,
        carried: tuple[Tensor, ...],
        frame: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, ...]:
        """One frame: h and the previous cell states, newest first, become those after it; unchanged in the padding."""
        detach = (lambda x: x.detach()) if self.truncate else (lambda x: x)
        (x, valid), (h, *past) = frame, carried
        i, f, c, o = (x + F.linear(detach(h), hidden_weight)).chunk(4, dim=-1)
        if state_weight is not None:
            previous = self._derivatives([detach(s) for s in past])
            i = i + self._derivative_term(previous, state_weight[:, 0])
            f = f + self._derivative_term(previous, state_weight[:, 1])
        s = f.sigmoid() * past[0] + i.sigmoid() * c.tanh()
        history = [s, *past][: len(past)]
        if state_weight is not None:
            current = s.detach() if self.truncate == "strict" else s
            derivatives = self._derivatives([current, *map(detach, history[1:])])
            o = o + self._derivative_term(derivatives, state_weight[:, 2])
        new = (o.sigmoid() * s.tanh(), *history)
        return tuple(after.where(valid, before) for after, before in zip(new, carried, strict=True))

    def _derivatives(self, history: list[Tensor]) -> list[Tensor]:
        """d^(n) of each term from s_t, s_{t-1}, ... by repeated differences."""
        if self.bounded:
            history = [s.tanh() for s in history]
        differences = (history[0],)
        for _ in range(self.lags - 1):
            history = [later - earlier for later, earlier in pairwise(history)]
            differences = (*differences, history[0])
        return [differences[n] for n in self.derivatives]

    def _derivative_term(self, derivatives: list[Tensor], weights: Tensor) -> Tensor:
        """The contribution of the derivatives to one gate, whose weights are one row for each term."""
        multiply = torch.mul if self.diagonal else F.linear
        return torch.stack([multiply(d, w) for d, w in zip(derivatives, weights, strict=True)]).sum(0)

    def _scan(self, sequence: Tensor, length: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same result from two matrix products per step; gate rows are reordered for the scan."""
        hidden_weight, state_weight = self._state_weights()
        weights = (self.scan_rows(rows) for rows in (self.input_weight, self.bias, hidden_weight))
        batch, frames, _ = sequence.shape
        active, rows = [batch] * frames, None
        steps = rearrange(sequence, "b t d -> t b d").contiguous()
        if length is not None:
            # Longest first: the sequences still running at a step are its first rows, and padding is not computed.
            order = length.argsort(descending=True, stable=True)
            active = valid_frames(length, frames).sum(0).tolist()
            steps = steps.index_select(1, order)
            time = torch.minimum(torch.arange(frames, device=length.device)[:, None], length - 1)
            rows = rearrange(time * batch + order.argsort(), "t b -> (t b)")
        lag_weight = None if state_weight is None else self.lag_weight(state_weight)
        h, s = DifferentialScan.apply(steps, *weights, lag_weight, active, self.truncate, self.bounded)
        if rows is not None:
            h, s = (_select_rows(sequence, rows) for sequence in (h, s))
        return rearrange(h, "t b h -> b t h"), rearrange(s, "t b h -> b t h")

    @staticmethod
    def scan_rows(rows: Tensor) -> Tensor:
        """Rows of the gates in the order of the scan: cell candidate, input, forget, output."""
        i, f, c, o = rows.chunk(4)
        return torch.cat([c, i, f, o])

    def lag_weight(self, weight: Tensor) -> Tensor:
        """The weights of the derivatives as weights of s_t, s_{t-1}, ..., in the order of the scan."""
        weight = weight.diag_embed() if self.diagonal else weight
        blocks = self.mixing.to(weight.dtype) @ rearrange(weight, "n g o i -> (n g) (o i)")
        return rearrange(blocks, "b (o i) -> (b o) i", o=self.hidden_size)


def _unshared(
    step: Callable[..., tuple[Tensor, ...]], carried: tuple[Tensor, ...], frame: tuple[Tensor, Tensor]
) -> tuple[tuple[Tensor, ...], tuple[Tensor, Tensor]]:
    """One frame as torch's scan takes it; what it carries and what it collects may not share memory."""
    after = step(carried, frame)
    return after, (after[0].clone(), after[1].clone())


def _select_rows(sequence: Tensor, rows: Tensor) -> Tensor:
    selected = rearrange(sequence, "t b h -> (t b) h").index_select(0, rows)
    return rearrange(selected, "(t b) h -> t b h", b=sequence.shape[1])
