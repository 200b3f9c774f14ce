"""The recurrent half of VideoLSTM: layers over maps, of which one may look where the other's state tells it to.

Legend: B videos, T steps, C channels of the maps X, M channels of the motion maps, H hidden channels, A attention
width, K classes, h and w map size; y and x size of the states: h and w, or 1 and 1 in the family of plain LSTMs.

The symbols beside equations are those of Li et al., CVIU 2018, sections 3 and 4.
"""

from collections.abc import Callable, Sequence

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.nn.conv_lstm import ConvLSTM, SharedConvolution, over_time

States = tuple[Tensor, Tensor]
Look = Callable[[Tensor, Sequence[Tensor]], Tensor]


class Attention(nn.Module):
    """How much of each place of a map is seen, from the map and from states.

    Args:
        channels: C of the maps.
        states: channels of each state that is asked.
        width: A, hidden channels.
        kernel: of the convolutions over maps and states.
        tau: sharpness; scores are multiplied by it.
    """

    def __init__(self, channels: int, states: Sequence[int], width: int, kernel: int, tau: float) -> None:
        super().__init__()
        self.tau = tau
        self.from_map = nn.Conv2d(channels, width, kernel, padding="same")
        self.from_states = nn.ParameterList(torch.empty(width, size, kernel, kernel) for size in states)
        self.score = nn.Conv2d(width, 1, 1, bias=False)  # a softmax does not see a constant

    def make_attention_step(self) -> Look:
        """A function (what the map says, the states) -> weights ``B 1 h w`` that sum to 1."""
        convolution = SharedConvolution(torch.cat(list(self.from_states), 1))

        def look(key: Tensor, states: Sequence[Tensor]) -> Tensor:
            # Z_t = w_z * tanh(W_xa * X_t + W_ha * H + b_a); one state for the whole map where states have no places
            z = self.score(torch.tanh(key + convolution(torch.cat(list(states), 1))))
            return (self.tau * z).flatten(2).softmax(-1).unflatten(2, z.shape[2:])

        return look

    def keys(self, maps: Float[Tensor, "B T C h w"]) -> tuple[Tensor, ...]:
        """What each map says to the question, ``B A h w`` a step."""
        return over_time(self.from_map, maps)


class Start(nn.Module):
    """The first states of a layer, from the mean of all its maps."""

    def __init__(self, channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, hidden, kernel, padding="same")
        self.memory = nn.Conv2d(channels, hidden, kernel, padding="same")

    def forward(self, maps: Float[Tensor, "B T C y x"]) -> States:
        """h_0 and c_0, ``B H y x``."""
        mean = maps.mean(1)
        return torch.tanh(self.hidden(mean)), torch.tanh(self.memory(mean))


class Layer(nn.Module):
    """One recurrent layer, with or without learned first states, with or without attention before it."""

    def __init__(self, lstm: ConvLSTM, start: Start | None, attention: Attention | None = None) -> None:
        super().__init__()
        self.lstm = lstm
        self.start = start
        self.attention = attention

    def begin(self, maps: Float[Tensor, "B T C y x"]) -> States:
        """h_0 and c_0."""
        return self.lstm.zeros(maps) if self.start is None else self.start(maps)


class Head(nn.Module):
    """Class scores of every step from its state, or from the mean of its places."""

    def __init__(
        self, inputs: int, width: int, num_classes: int, input_dropout: float, dropout: float, *, pool: bool = False
    ) -> None:
        super().__init__()
        self.pool = pool
        self.input_dropout = nn.Dropout(input_dropout)
        self.hidden = nn.Linear(inputs, width)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(width, num_classes)

    def forward(self, states: Float[Tensor, "B T H y x"]) -> Float[Tensor, "B T K"]:
        """Scores before softmax."""
        vectors = states.mean((3, 4)) if self.pool else rearrange(states, "b t c y x -> b t (c y x)")
        vectors = self.input_dropout(vectors)
        return self.classify(self.dropout(torch.tanh(self.hidden(vectors))))


class Recurrent(nn.Module):
    """The six architectures, by which layers there are.

    ``bottom`` alone reads maps as they are (LSTM, ConvLSTM). ``top`` alone attends to them by its own last state
    (ALSTM, ConvALSTM). With both, ``bottom`` follows motion and its current state tells ``top`` where to look (motion
    ALSTM, VideoLSTM).

    Args:
        bottom: the layer without attention.
        top: the layer with attention.
        head: from states to scores.
        pooled: states have no places: maps are averaged, attended ones summed up (the family of plain LSTMs).
        coupled: with both layers, ``bottom`` also sees the last state of ``top``; otherwise the attention does.
        rescale: multiply attended maps, where they are not summed up, by the number of places.
    """

    def __init__(
        self, bottom: Layer | None, top: Layer | None, head: Head, *, pooled: bool, coupled: bool, rescale: bool
    ) -> None:
        super().__init__()
        self.bottom, self.top, self.head = bottom, top, head
        self.pooled, self.coupled, self.rescale = pooled, coupled, rescale

    def forward(
        self, maps: Float[Tensor, "B T C h w"], motion: Float[Tensor, "B T M _ _"] | None
    ) -> tuple[Float[Tensor, "B T K"], Float[Tensor, "B T h w"] | None]:
        """Scores of every step, and what was looked at; ``motion`` is for two layers only."""
        if self.top is None:
            assert self.bottom is not None
            maps = self._placed(maps)
            states, _ = self.bottom.lstm(maps, self.bottom.begin(maps))
            return self.head(states), None
        states, looks = self._attended(self.top, maps, motion)
        return self.head(states), looks

    def _attended(self, top: Layer, maps: Tensor, motion: Tensor | None) -> tuple[Tensor, Tensor]:
        assert top.attention is not None
        lstm, look, keys = top.lstm, top.attention.make_attention_step(), top.attention.keys(maps)
        step = lstm.stepper(lstm.input_weight, lstm.hidden_weight)
        bias = rearrange(lstm.bias, "g -> 1 g 1 1")
        h, c = top.begin(self._placed(maps))
        follow = self._follower(motion)
        states, looks = [], []
        for t, x in enumerate(maps.unbind(1)):
            asked = [h] if follow is None else follow(t, h)
            attention = look(keys[t], asked)
            h, c = step(bias, [self._attend(attention, x), h], c)
            states.append(h)
            looks.append(attention)
        return torch.stack(states, 1), torch.cat(looks, 1)

    def _follower(self, motion: Tensor | None) -> Callable[[int, Tensor], list[Tensor]] | None:
        """A function (step, state of the top) -> states the attention asks, when a second layer follows motion."""
        if self.bottom is None:
            return None
        assert motion is not None
        bottom, motion = self.bottom, self._placed(motion)
        lstm, seen = bottom.lstm, bottom.lstm.project(motion)
        weights = [lstm.hidden_weight] + ([lstm.context_weight] if lstm.context_weight is not None else [])
        step = lstm.stepper(*weights)
        state = bottom.begin(motion)

        def follow(t: int, top: Tensor) -> list[Tensor]:
            nonlocal state
            h, c = state
            # W^m_hi * H^m_{t-1} + W^m_ei * H_{t-1}
            state = step(seen[t], [h, top] if self.coupled else [h], c)
            return [state[0]] if self.coupled else [state[0], top]

        return follow

    def _placed(self, maps: Tensor) -> Tensor:
        """Maps of the size that states have."""
        return reduce(maps, "b t c h w -> b t c 1 1", "mean") if self.pooled else maps

    def _attend(self, attention: Tensor, x: Tensor) -> Tensor:
        if self.pooled:
            return (attention * x).sum((2, 3), keepdim=True)
        return attention * x * (x.shape[2] * x.shape[3] if self.rescale else 1)


def initialise(recurrent: Recurrent, family: str) -> None:
    """Draw the parameters as the authors do; biases and peepholes are 0.

    Args:
        recurrent: the network.
        family: "normal", that of the plain LSTMs, is N(0, 0.1²); "uniform", that of the convolutional ones, is within
            1 / sqrt(d), where d is the second axis of the authors' tensors: the inputs of a convolution without its
            kernel's area, but the outputs of a matrix, hence 1 for the score of attention.
    """
    for module in recurrent.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 1 or name == "peephole":
                nn.init.zeros_(parameter)
            elif family == "normal":
                nn.init.normal_(parameter, std=0.1)
            else:
                matrix = isinstance(module, nn.Linear) or len(parameter) == 1
                bound = parameter.shape[0 if matrix else 1] ** -0.5
                nn.init.uniform_(parameter, -bound, bound)
