"""The recurrent network of VideoLSTM: ConvLSTM layers over feature maps, and attention computed from their states.

Legend: B videos, T steps, C channels of the maps X, M channels of the motion maps, H hidden channels, A attention
width, K classes, h and w map size; y and x size of the states: h and w, or 1 and 1 for the architectures whose states
are vectors.

The symbols beside equations are those of Li et al., CVIU 2018, sections 3 and 4.
"""

from collections.abc import Callable, Sequence

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.nn.conv_lstm import ConvLSTM, SharedConvolution, apply_to_steps

States = tuple[Tensor, Tensor]
AttentionStep = Callable[[Tensor, Sequence[Tensor]], Tensor]
MotionStep = Callable[[int, Tensor], list[Tensor]]


class Attention(nn.Module):
    """Attention weights over the positions of a map, from the map and from states.

    Args:
        channels: C of the maps.
        state_channels: channels of each state.
        width: A, hidden channels.
        kernel: kernel size of the convolutions over maps and states.
        inverse_temperature: factor on the scores before the softmax.
    """

    def __init__(
        self, channels: int, state_channels: Sequence[int], width: int, kernel: int, inverse_temperature: float
    ) -> None:
        super().__init__()
        self.inverse_temperature = inverse_temperature
        self.map_projection = nn.Conv2d(channels, width, kernel, padding="same")
        self.state_weights = nn.ParameterList(torch.empty(width, size, kernel, kernel) for size in state_channels)
        self.score = nn.Conv2d(width, 1, 1, bias=False)  # a softmax is invariant to a constant

    def make_step(self) -> AttentionStep:
        """A function (projected map, states) -> weights ``B 1 h w`` that sum to 1."""
        convolution = SharedConvolution(torch.cat(list(self.state_weights), 1))

        def step(projected: Tensor, states: Sequence[Tensor]) -> Tensor:
            # Z_t = w_z * tanh(W_xa * X_t + W_ha * H + b_a); vector states are broadcast over the map
            z = self.score(torch.tanh(projected + convolution(torch.cat(list(states), 1))))
            return (self.inverse_temperature * z).flatten(2).softmax(-1).unflatten(2, z.shape[2:])

        return step

    def project_maps(self, maps: Float[Tensor, "B T C h w"]) -> tuple[Tensor, ...]:
        """W_xa * X_t + b_a of every step, ``B A h w`` each."""
        return apply_to_steps(self.map_projection, maps)


class InitialState(nn.Module):
    """The initial states of a layer, computed from the mean of its maps over time."""

    def __init__(self, channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, hidden, kernel, padding="same")
        self.cell = nn.Conv2d(channels, hidden, kernel, padding="same")

    def forward(self, maps: Float[Tensor, "B T C y x"]) -> States:
        """h_0 and c_0, ``B H y x``."""
        mean = maps.mean(1)
        return torch.tanh(self.hidden(mean)), torch.tanh(self.cell(mean))


class RecurrentLayer(nn.Module):
    """One recurrent layer, optionally with learned initial states and with attention over its input."""

    def __init__(self, lstm: ConvLSTM, initial: InitialState | None, attention: Attention | None = None) -> None:
        super().__init__()
        self.lstm = lstm
        self.initial = initial
        self.attention = attention

    def initial_state(self, maps: Float[Tensor, "B T C y x"]) -> States:
        """h_0 and c_0."""
        return self.lstm.zero_state(maps) if self.initial is None else self.initial(maps)


class Head(nn.Module):
    """Class scores of every step from its state, or from the mean over the state's positions."""

    def __init__(
        self, inputs: int, width: int, num_classes: int, input_dropout: float, dropout: float, *, pool: bool = False
    ) -> None:
        super().__init__()
        self.pool = pool
        self.input_dropout = nn.Dropout(input_dropout)
        self.hidden = nn.Linear(inputs, width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, states: Float[Tensor, "B T H y x"]) -> Float[Tensor, "B T K"]:
        """Scores before softmax."""
        vectors = states.mean((3, 4)) if self.pool else rearrange(states, "b t c y x -> b t (c y x)")
        vectors = self.input_dropout(vectors)
        return self.classifier(self.dropout(torch.tanh(self.hidden(vectors))))


class RecurrentNetwork(nn.Module):
    """All six architectures; which one depends on the layers.

    ``bottom`` alone has no attention (LSTM, ConvLSTM). ``top`` alone computes attention from its own last state (ALSTM,
    ConvALSTM). With both, ``bottom`` runs over motion maps, and its current state determines the attention of ``top``
    (motion ALSTM, VideoLSTM).

    Args:
        bottom: the layer without attention.
        top: the layer with attention.
        head: class scores from states.
        vector_states: states have no positions: maps are averaged, attended maps are summed (the plain LSTM variants).
        coupled: with both layers, ``bottom`` also takes the last state of ``top``; otherwise the attention does.
        rescale_attention: multiply attended maps, unless they are summed, by the number of positions.
    """

    def __init__(
        self,
        bottom: RecurrentLayer | None,
        top: RecurrentLayer | None,
        head: Head,
        *,
        vector_states: bool,
        coupled: bool,
        rescale_attention: bool,
    ) -> None:
        super().__init__()
        self.bottom, self.top, self.head = bottom, top, head
        self.vector_states, self.coupled, self.rescale_attention = vector_states, coupled, rescale_attention

    def forward(
        self, maps: Float[Tensor, "B T C h w"], motion: Float[Tensor, "B T M _ _"] | None
    ) -> tuple[Float[Tensor, "B T K"], Float[Tensor, "B T h w"] | None]:
        """Scores of every step, and the attention; ``motion`` is only used with two layers."""
        if self.top is not None:
            states, attention = self._forward_with_attention(self.top, maps, motion)
            return self.head(states), attention
        assert self.bottom is not None
        maps = self.pool_to_states(maps)
        states, _ = self.bottom.lstm(maps, self.bottom.initial_state(maps))
        return self.head(states), None

    def _forward_with_attention(
        self, top: RecurrentLayer, maps: Tensor, motion: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        assert top.attention is not None
        lstm, attend, projected = top.lstm, top.attention.make_step(), top.attention.project_maps(maps)
        step = lstm.make_step(lstm.input_weight, lstm.hidden_weight)
        bias = rearrange(lstm.bias, "g -> 1 g 1 1")
        h, c = top.initial_state(self.pool_to_states(maps))
        motion_step = self._make_motion_step(motion)
        states, weights = [], []
        for t, x in enumerate(maps.unbind(1)):
            attention = attend(projected[t], [h] if motion_step is None else motion_step(t, h))
            h, c = step(bias, [self.weight_map(attention, x), h], c)
            states.append(h)
            weights.append(attention)
        return torch.stack(states, 1), torch.cat(weights, 1)

    def _make_motion_step(self, motion: Tensor | None) -> MotionStep | None:
        """A function (step, state of the top) -> states for the attention; None without a second layer."""
        if self.bottom is None:
            return None
        assert motion is not None
        bottom, motion = self.bottom, self.pool_to_states(motion)
        lstm, projected = bottom.lstm, bottom.lstm.project_input(motion)
        weights = [lstm.hidden_weight] + ([lstm.context_weight] if lstm.context_weight is not None else [])
        step = lstm.make_step(*weights)
        state = bottom.initial_state(motion)

        def motion_step(t: int, top: Tensor) -> list[Tensor]:
            nonlocal state
            h, c = state
            # W^m_hi * H^m_{t-1} + W^m_ei * H_{t-1}
            state = step(projected[t], [h, top] if self.coupled else [h], c)
            return [state[0]] if self.coupled else [state[0], top]

        return motion_step

    def pool_to_states(self, maps: Tensor) -> Tensor:
        """Maps of the size of the states."""
        return reduce(maps, "b t c h w -> b t c 1 1", "mean") if self.vector_states else maps

    def weight_map(self, attention: Tensor, x: Tensor) -> Tensor:
        """The map weighted by attention, summed over positions if states are vectors."""
        if self.vector_states:
            return (attention * x).sum((2, 3), keepdim=True)
        return attention * x * (x.shape[2] * x.shape[3] if self.rescale_attention else 1)


def initialize(network: RecurrentNetwork, distribution: str) -> None:
    """Initializes the parameters as the authors do; biases and peepholes are 0.

    Args:
        network: the recurrent network.
        distribution: "normal", that of the plain LSTMs, is N(0, 0.1²); "uniform", that of the convolutional ones, is
            within 1 / sqrt(d), where d is the second axis of the authors' tensors: the input channels of a convolution
            without its kernel's area, but the outputs of a matrix, hence 1 for the score of the attention.
    """
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 1 or name == "peephole":
                nn.init.zeros_(parameter)
            elif distribution == "normal":
                nn.init.normal_(parameter, std=0.1)
            else:
                is_matrix = isinstance(module, nn.Linear) or len(parameter) == 1
                bound = parameter.shape[0 if is_matrix else 1] ** -0.5
                nn.init.uniform_(parameter, -bound, bound)
