"""STA-LSTM frame by frame.

Legend: B recordings, T frames, P people, J joints, D numbers of a joint, V numbers that describe a joint, C classes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from muybridge.core.types import Output
from muybridge.models.base import Steps
from muybridge.models.sta_lstm.network import STALSTM, Carried
from muybridge.nn.feature_steps import FeatureState, FeatureSteps


class Summed(NamedTuple):
    """The states after a number of frames, and the sum of their weighted scores."""

    carried: Carried
    total: Float[Tensor, "B C"]
    frames: int


class STALSTMState(NamedTuple):
    """What is carried from frame to frame.

    Attributes:
        features: of the features; None where joints are taken as they are.
        summed: after all frames whose vectors are final.
        pending: vectors of the last frames, as if the recording ended there.
    """

    features: FeatureState | None
    summed: Summed
    pending: Float[Tensor, "B T P J V"] | None


class STALSTMSteps(Steps[STALSTMState]):
    """See :class:`~muybridge.models.base.Steps`.

    Args:
        model: in evaluation mode; the body is measured in the frames so far.
    """

    def __init__(self, model: STALSTM) -> None:
        self._model = model
        features = model.features
        self._features = None if features is None else FeatureSteps(features, confidence=model.config.confidence)

    def initial_state(self, inputs: dict[str, Tensor]) -> STALSTMState:
        """That before the first of the ``joints``."""
        joints = inputs["joints"]
        features = None if self._features is None else self._features.initial_state(joints)
        total = joints.new_zeros(len(joints), self._model.main.classifier.out_features)
        return STALSTMState(features, Summed(Carried(), total, 0), None)

    def advance(self, inputs: dict[str, Tensor], state: STALSTMState) -> STALSTMState:
        """The state after more ``joints``, ``B T P J D``."""
        joints = inputs["joints"]
        if self._features is None or state.features is None:
            return STALSTMState(None, self._add(joints, state.summed), None)
        new, features = self._features(joints, state.features)
        summed = self._add(self._model.vectors_of(new.final, new.joints), state.summed)
        return STALSTMState(features, summed, self._model.vectors_of(new.pending, new.pending_joints))

    def answer(self, state: STALSTMState) -> Output:
        """The scores of the frames so far."""
        summed = state.summed if state.pending is None else self._add(state.pending, state.summed)
        return Output(summed.total / summed.frames if self._model.config.mean_over_time else summed.total, {})

    def _add(self, vectors: Float[Tensor, "B T P J V"], before: Summed) -> Summed:
        if not vectors.shape[1]:
            return before
        gated = self._model.run(vectors, before.carried if before.frames else None)
        weights = gated.scores.new_ones(gated.scores.shape[:2]) if gated.beta is None else gated.beta
        total = before.total + torch.einsum("btc,bt->bc", gated.scores, weights)
        return Summed(gated.carried, total, before.frames + vectors.shape[1])
