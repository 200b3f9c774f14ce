"""VideoLSTM frame by frame.

Legend: B videos, T frames, C and M channels of maps, K classes, h and w map size.
"""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from muybridge.core.types import Output
from muybridge.models.base import Steps
from muybridge.models.video_lstm import INPUTS, Stream
from muybridge.models.video_lstm.network import VideoLSTM
from muybridge.models.video_lstm.recurrent import States


class VideoLSTMState(NamedTuple):
    """What is carried from frame to frame.

    Attributes:
        bottom, top: h and c of each layer; None of one that does not exist.
        total: logarithm of the sum of the frames' probabilities.
        frames: how many there were.
    """

    bottom: States | None
    top: States | None
    total: Float[Tensor, "B K"]
    frames: int


class VideoLSTMSteps(Steps[VideoLSTMState]):
    """See :class:`~muybridge.models.base.Steps`.

    Args:
        model: in evaluation mode; its initial state is zero.
    """

    def __init__(self, model: VideoLSTM) -> None:
        self._model, network = model, model.recurrent
        self._network = network
        self._step_bottom = self._step_top = self._attend = None
        if network.bottom is not None:
            lstm = network.bottom.lstm
            context = [] if lstm.context_weight is None else [lstm.context_weight]
            self._step_bottom = lstm.make_step(lstm.hidden_weight, *context)
        if network.top is not None:
            assert network.top.attention is not None
            lstm = network.top.lstm
            self._step_top = lstm.make_step(lstm.input_weight, lstm.hidden_weight)
            self._attend = network.top.attention.make_step()

    def encode(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The feature maps of the frames and of their flow."""
        return {INPUTS[stream][1]: maps for stream, maps in self._maps(inputs).items() if maps is not None}

    def initial_state(self, inputs: dict[str, Tensor]) -> VideoLSTMState:
        """That before the first of these frames."""
        maps, network, config = self._maps(inputs), self._network, self._model.config
        bottom = top = None
        if network.bottom is not None:
            below = maps["motion" if network.top is not None else config.stream]
            assert below is not None
            bottom = network.bottom.lstm.zero_state(network.pool_to_states(below))
        classified = maps[config.stream]
        assert classified is not None
        if network.top is not None:
            top = network.top.lstm.zero_state(network.pool_to_states(classified))
        classes = network.head.classifier.out_features
        return VideoLSTMState(bottom, top, classified.new_full((len(classified), classes), -torch.inf), 0)

    def advance(self, inputs: dict[str, Tensor], state: VideoLSTMState) -> VideoLSTMState:
        """The state after more frames."""
        by_stream = self._maps(inputs)
        maps, motion = by_stream[self._model.config.stream], by_stream["motion"]
        assert maps is not None
        for t in range(maps.shape[1]):
            part = slice(t, t + 1)
            state = self._advance_one(maps[:, part], None if motion is None else motion[:, part], state)
        return state

    def answer(self, state: VideoLSTMState) -> Output:
        """The scores of the frames so far."""
        return Output(state.total - math.log(state.frames), {})

    def _maps(self, inputs: dict[str, Tensor]) -> dict[Stream, Tensor | None]:
        given = {name: inputs.get(name) for pair in INPUTS.values() for name in pair}
        return self._model.maps_by_stream(**given)

    def _advance_one(
        self, maps: Float[Tensor, "B 1 C h w"], motion: Float[Tensor, "B 1 M _ _"] | None, state: VideoLSTMState
    ) -> VideoLSTMState:
        network, bottom, top = self._network, state.bottom, state.top
        if network.bottom is not None:
            assert bottom is not None
            below = maps if network.top is None else motion
            assert below is not None
            context = [top[0]] if network.top is not None and network.coupled and top is not None else []
            bottom = self._run_bottom(below, bottom, context)
        if network.top is not None:
            assert top is not None
            top = self._run_top(maps, top, bottom)
        classified = top or bottom
        assert classified is not None
        scores = network.head(classified[0].unsqueeze(1))[:, 0].log_softmax(-1)
        return VideoLSTMState(bottom, top, torch.logaddexp(state.total, scores), state.frames + 1)

    def _run_bottom(self, maps: Tensor, state: States, context: list[Tensor]) -> States:
        assert self._network.bottom is not None
        assert self._step_bottom is not None
        (projected,) = self._network.bottom.lstm.project_input(self._network.pool_to_states(maps))
        h, c = state
        return self._step_bottom(projected, [h, *context], c)

    def _run_top(self, maps: Tensor, state: States, bottom: States | None) -> States:
        top, (h, c) = self._network.top, state
        assert top is not None
        assert top.attention is not None
        assert self._step_top is not None
        assert self._attend is not None
        (projected,) = top.attention.project_maps(maps)
        guides = [h] if bottom is None else [bottom[0]] if self._network.coupled else [bottom[0], h]
        weighted = self._network.weight_map(self._attend(projected, guides), maps[:, 0])
        return self._step_top(rearrange(top.lstm.bias, "g -> 1 g 1 1"), [weighted, h], c)
