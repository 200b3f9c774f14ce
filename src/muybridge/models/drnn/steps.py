"""A dRNN over skeletons frame by frame.

Legend: B recordings, T frames, P people, J joints, D numbers of a joint, F features, H hidden size.
"""

from typing import NamedTuple, cast

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from muybridge.core.types import Output
from muybridge.models.base import Steps
from muybridge.models.drnn.network import SkeletonDRNN
from muybridge.nn.differential_step import DifferentialState, DifferentialSteps
from muybridge.nn.feature_steps import FeatureState, FeatureSteps
from muybridge.nn.recurrent import DifferentialLSTM


class Pooled(NamedTuple):
    """The outputs so far, as far as the pooling needs them.

    Attributes:
        total: of the outputs, their sum or maximum; with ``pooling = "energy"`` the sum of those at peaks.
        number: how many were added.
        last: the last output.
        energy: the norm of the derivative at the last frame; -1 before the first.
        rising: whether that is as high as the one before, so that the last frame is a peak unless the next is higher.
    """

    total: Float[Tensor, "B H"]
    number: Float[Tensor, " B"]
    last: Float[Tensor, "B H"]
    energy: Float[Tensor, " B"]
    rising: Bool[Tensor, " B"]


class RecurrentState(NamedTuple):
    """The layers, first one first, and the outputs of the last one."""

    layers: tuple[DifferentialState, ...]
    pooled: Pooled


class DRNNState(NamedTuple):
    """What is carried from frame to frame.

    Attributes:
        features: of the features.
        recurrent: after all frames whose features are final.
        pending: features of the last frames, as if the recording ended there.
    """

    features: FeatureState
    recurrent: RecurrentState
    pending: Float[Tensor, "B T F"]


class DRNNSteps(Steps[DRNNState]):
    """See :class:`~muybridge.models.base.Steps`.

    Args:
        model: in evaluation mode; the body is measured in the frames so far.
    """

    def __init__(self, model: SkeletonDRNN) -> None:
        self._pooling, self._confidence = model.config.pooling, model.config.confidence
        self._features = FeatureSteps(model.features, confidence=self._confidence)
        self._layers = [DifferentialSteps(cast("DifferentialLSTM", each)) for each in (model.recurrent, *model.deeper)]
        self._classifier = model.classifier

    def initial_state(self, inputs: dict[str, Tensor]) -> DRNNState:
        """That before the first of the ``joints``."""
        joints = inputs["joints"]
        layers = tuple(layer.initial_state(len(joints)) for layer in self._layers)
        h = layers[-1].h
        total = torch.full_like(h, -torch.inf if self._pooling == "max" else 0.0)
        zeros = h.new_zeros(len(h))
        pooled = Pooled(total, zeros, h, zeros - 1, torch.zeros_like(zeros, dtype=torch.bool))
        return DRNNState(self._features.initial_state(joints), RecurrentState(layers, pooled), h[:, None, :0])

    def advance(self, inputs: dict[str, Tensor], state: DRNNState) -> DRNNState:
        """The state after more ``joints``, ``B T P J D``."""
        new, features = self._features(inputs["joints"], state.features)
        recurrent = self._run(self._with_confidence(new.final, new.joints), state.recurrent)
        return DRNNState(features, recurrent, self._with_confidence(new.pending, new.pending_joints))

    def answer(self, state: DRNNState) -> Output:
        """The scores of the frames so far."""
        pooled = self._run(state.pending, state.recurrent).pooled
        match self._pooling:
            case "last":
                vector = pooled.last
            case "mean":
                vector = pooled.total / pooled.number[:, None]
            case "max":
                vector = pooled.total
            case _:
                peak = pooled.rising[:, None]
                vector = (pooled.total + pooled.last.where(peak, 0)) / (pooled.number[:, None] + peak)
        return Output(self._classifier(vector), {})

    def _run(self, features: Float[Tensor, "B T F"], state: RecurrentState) -> RecurrentState:
        layers, pooled = list(state.layers), state.pooled
        for x in features.unbind(1):
            taken = x
            for number, step in enumerate(self._layers):
                layers[number] = step(taken, layers[number])
                taken = layers[number].h
            pooled = self._pool(pooled, layers[-1])
        return RecurrentState(tuple(layers), pooled)

    def _pool(self, pooled: Pooled, state: DifferentialState) -> Pooled:
        h = state.h
        match self._pooling:
            case "last":
                return pooled._replace(last=h)
            case "mean":
                return pooled._replace(total=pooled.total + h, number=pooled.number + 1)
            case "max":
                return pooled._replace(total=torch.maximum(pooled.total, h))
            case _:
                energy = self._layers[-1].derivative_norm(state)
                peak = pooled.rising & (pooled.energy > energy)
                total = pooled.total + pooled.last.where(peak[:, None], 0)
                return Pooled(total, pooled.number + peak, h, energy, energy >= pooled.energy)

    def _with_confidence(self, features: Tensor, joints: Tensor) -> Tensor:
        if not self._confidence:
            return features
        return torch.cat([features, rearrange(joints[..., -1], "b t p j -> b t (p j)")], dim=-1)
