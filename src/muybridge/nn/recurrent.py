"""The differential LSTM scan: gates that also see discrete time derivatives of the memory.

Legend: B batch, T frames, D input size, H hidden size; gates in torch's order (input i, forget f, cell input c,
output o).

With s the memory and h the output, the n-th derivative is d^(0)_t = s_t, d^(n)_t = d^(n-1)_t - d^(n-1)_{t-1}. The input
and forget gates see d^(n)_{t-1}, the output gate sees d^(n)_t; memory before the first frame is zero.
No derivatives at all is the LSTM of ``torch.nn.LSTM``; (0,) is the LSTM with full peepholes.

Source: Veeriah, Zhuang, Qi, "Differential Recurrent Neural Networks for Action Recognition", ICCV 2015, section 3.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import comb

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from muybridge.core.errors import RecipeError
from muybridge.nn.differential_scan import DifferentialScan, Truncate


def valid_frames(length: Int64[Tensor, " B"], frames: int) -> Bool[Tensor, "B {frames}"]:
    """True where a frame lies before the end of its sequence."""
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
    """The largest value over the valid frames of each sequence."""
    valid = valid_frames(length, sequence.shape[1])
    return sequence.where(valid[..., None], -torch.inf).amax(1)


class DifferentialLSTM(nn.Module):
    """One layer of a dRNN over padded sequences; h and s stay at their last valid value through the padding.

    Args:
        input_size: D.
        hidden_size: H.
        derivatives: which d^(n) the gates see, each n >= 0 once; empty for the LSTM without any.
        diagonal: whether each memory cell sees only its own derivatives (H weights a term in place of H * H).
        truncate: how errors travel back in time. False: along every path. "strict": the gates and the cell input are
            taken as given, so that errors stay on s_t = f_t * s_{t-1} + i_t * c_t. "soft": as strict, but the output
            gate still answers for the memory of its own frame.
        forget_bias: the first value of b_f; the other biases begin at 0.
        plain: run the step-by-step equations under autograd in place of the fast scan. Exporting always does.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        derivatives: Sequence[int] = (0, 1, 2),
        *,
        diagonal: bool = False,
        truncate: Truncate = False,
        forget_bias: float = 0.0,
        plain: bool = False,
    ) -> None:
        super().__init__()
        if min(derivatives, default=0) < 0 or len(set(derivatives)) < len(derivatives):
            raise RecipeError(
                f"derivatives = {list(derivatives)}",
                expected="each order once, 0 or more",
                hint="write for instance [0, 1, 2] for a second-order net, or [] for an LSTM",
            )
        self.hidden_size = hidden_size
        self.derivatives = tuple(derivatives)
        self.diagonal = diagonal
        self.truncate: Truncate = truncate
        self.forget_bias = forget_bias
        self.plain = plain
        self.lags = max(derivatives, default=-1) + 1
        self.input_weight = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.hidden_weight = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(4 * hidden_size))
        if derivatives:
            columns = () if diagonal else (hidden_size,)
            self.state_weight = nn.Parameter(torch.empty(len(derivatives), 3, hidden_size, *columns))
            # d^(n)_t is the sum over k of (-1)^k C(n, k) s_{t-k}: one row a lag, one column a term.
            binomial = torch.tensor([[(-1.0) ** k * comb(n, k) for n in derivatives] for k in range(self.lags)])
            # From (i, f, o) of each term to what s_t tells o_t | i_{t+1}, f_{t+1}, o_{t+1} | ... | i_{t+L}, f_{t+L}, 0.
            # The gate o leads, as it sees s_t where i and f see s_{t-1}.
            mixing = F.pad(torch.kron(binomial, torch.eye(3).roll(1, 0)), (0, 0, 0, 1))
            self.register_buffer("mixing", mixing, persistent=False)
        self.mixing: Tensor
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within 1 / sqrt(fan in); biases 0 but for the forget gate."""
        for name, parameter in self.named_parameters():
            bound = parameter.shape[1] if name == "input_weight" else self.hidden_size
            nn.init.uniform_(parameter, -(bound**-0.5), bound**-0.5)
        nn.init.zeros_(self.bias)
        nn.init.constant_(self.bias[self.hidden_size : 2 * self.hidden_size], self.forget_bias)

    def forward(
        self, sequence: Float[Tensor, "B T D"], length: Int64[Tensor, " B"] | None = None
    ) -> tuple[Float[Tensor, "B T H"], Float[Tensor, "B T H"]]:
        """Outputs h and memories s of every frame; without ``length`` all frames are valid."""
        if self.plain or torch.compiler.is_compiling():
            return self._step_by_step(sequence, length)
        with torch.autocast(sequence.device.type, enabled=False):
            return self._scan(sequence.to(self.bias.dtype), length)

    def _step_by_step(self, sequence: Tensor, length: Tensor | None) -> tuple[Tensor, Tensor]:
        """The equations one after the other; the memory's history is kept newest first."""
        given = (lambda x: x.detach()) if self.truncate else (lambda x: x)
        h = sequence.new_zeros(sequence.shape[0], self.hidden_size)
        past = [h] * self.lags or [h]
        outputs, memories = [], []
        for t, x in enumerate(F.linear(sequence, self.input_weight, self.bias).unbind(1)):
            i, f, c, o = (x + F.linear(given(h), self.hidden_weight)).chunk(4, dim=-1)
            if self.derivatives:
                before = self._derivatives([given(s) for s in past])
                i = i + self._seen(before, gate=0)
                f = f + self._seen(before, gate=1)
            s = f.sigmoid() * past[0] + i.sigmoid() * c.tanh()
            history = [s, *past][: len(past)]
            if self.derivatives:
                current = s.detach() if self.truncate == "strict" else s
                o = o + self._seen(self._derivatives([current, *map(given, history[1:])]), gate=2)
            new = o.sigmoid() * s.tanh()
            if length is not None:
                valid = (t < length)[:, None]
                new = new.where(valid, h)
                history = [now.where(valid, old) for now, old in zip(history, past, strict=True)]
            h, past = new, history
            outputs.append(h)
            memories.append(past[0])
        return torch.stack(outputs, 1), torch.stack(memories, 1)

    def _derivatives(self, history: list[Tensor]) -> list[Tensor]:
        """d^(n) of each term from s_t, s_{t-1}, ... by repeated differences."""
        differences = [history[0]]
        for _ in range(self.lags - 1):
            history = [now - before for now, before in pairwise(history)]
            differences.append(history[0])
        return [differences[n] for n in self.derivatives]

    def _seen(self, derivatives: list[Tensor], gate: int) -> Tensor:
        """What one gate (0 input, 1 forget, 2 output) makes of the derivatives."""
        weights = self.state_weight[:, gate]
        times = torch.mul if self.diagonal else F.linear
        return torch.stack([times(d, w) for d, w in zip(derivatives, weights, strict=True)]).sum(0)

    def _scan(self, sequence: Tensor, length: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same numbers from two products a step; the gates' rows are put into the order of the scan."""
        memory_weight = None
        if self.derivatives:
            state = self.state_weight.diag_embed() if self.diagonal else self.state_weight
            blocks = self.mixing.to(state.dtype) @ rearrange(state, "n g o i -> (n g) (o i)")
            memory_weight = rearrange(blocks, "b (o i) -> (b o) i", o=self.hidden_size)
        weights = (_cell_input_first(one) for one in (self.input_weight, self.bias, self.hidden_weight))
        batch, frames, _ = sequence.shape
        active, rows = [batch] * frames, None
        steps = rearrange(sequence, "b t d -> t b d").contiguous()
        if length is not None:
            # Longest first: the rows still running at a step are then the first ones, and no work goes into padding.
            order = length.argsort(descending=True, stable=True)
            active = valid_frames(length, frames).sum(0).tolist()
            steps = steps.index_select(1, order)
            time = torch.minimum(torch.arange(frames, device=length.device)[:, None], length - 1)
            rows = rearrange(time * batch + order.argsort(), "t b -> (t b)")
        h, s = DifferentialScan.apply(steps, *weights, memory_weight, active, self.truncate)
        if rows is not None:
            h, s = (_take_rows(sequence, rows) for sequence in (h, s))
        return rearrange(h, "t b h -> b t h"), rearrange(s, "t b h -> b t h")


def _cell_input_first(rows: Tensor) -> Tensor:
    i, f, c, o = rows.chunk(4)
    return torch.cat([c, i, f, o])


def _take_rows(sequence: Tensor, rows: Tensor) -> Tensor:
    taken = rearrange(sequence, "t b h -> (t b) h").index_select(0, rows)
    return rearrange(taken, "(t b) h -> t b h", b=sequence.shape[1])
