"""Skeleton features of a recording that goes on: those of each new frame, and of the last one as if it ended there.

Legend: B recordings, T new frames, P people, J joints, D numbers of a joint, F features.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from muybridge.nn.skeleton_features import Measured, SkeletonFeatures, split_confidence


class FeatureState(NamedTuple):
    """What is carried from one frame to the next.

    Attributes:
        first: the first frame.
        recent: the last frames, of which those that still change with the next frame come last.
        total, number: of the sizes of all bodies whose features are final.
        frames: how many there were.
    """

    first: Float[Tensor, "B N P J D"]
    recent: Float[Tensor, "B M P J D"]
    total: Float[Tensor, " B"]
    number: Float[Tensor, " B"]
    frames: int


class NewFeatures(NamedTuple):
    """Features after new frames.

    Attributes:
        final: of the frames that no later frame changes any more.
        joints: of these frames.
        pending: of the last frames, as if the recording ended with them; the next frame changes them.
        pending_joints: of these frames.
    """

    final: Float[Tensor, "B T F"]
    joints: Float[Tensor, "B T P J D"]
    pending: Float[Tensor, "B T2 F"]
    pending_joints: Float[Tensor, "B T2 P J D"]


class FeatureSteps:
    """Computes the features of frames as they come, equal to those of the whole recording.

    Args:
        features: whose unit is the body's size so far, or that have no unit.
        confidence: whether a confidence follows the coordinates of each joint.
    """

    def __init__(self, features: SkeletonFeatures, *, confidence: bool = False) -> None:
        self.features, self.confidence = features, confidence
        self._ahead = int("movement" in features.groups)  # frames after a frame that its features take
        self._kept = self._ahead + 1  # one before it, which differences take

    def initial_state(self, joints: Float[Tensor, "B T P J D"]) -> FeatureState:
        """That before the first frame of recordings like these."""
        none, zeros = joints[:, :0], joints.new_zeros(len(joints))
        return FeatureState(none, none, zeros, zeros, 0)

    def __call__(self, joints: Float[Tensor, "B T P J D"], state: FeatureState) -> tuple[NewFeatures, FeatureState]:
        """The features after new frames, of which there is at least one."""
        known = state.recent
        if state.frames > self._kept:  # the first frame, of which some features are differences, comes before the rest
            known = torch.cat([state.first, known], 1)
        sequence = torch.cat([known, joints], 1)
        skip, end = known.shape[1] - min(self._ahead, state.frames), sequence.shape[1] - self._ahead
        positions, _ = split_confidence(sequence, self.confidence)
        length = torch.full((len(sequence),), sequence.shape[1], device=sequence.device)
        raw = self.features.raw(positions, length, Measured(state.total, state.number, skip))
        features = self.features.normalize(raw[:, skip:])
        sums = self.features.sizes(positions[:, skip:end])
        total, number = (before + new.sum(1) for before, new in zip((state.total, state.number), sums, strict=True))
        first = state.first if state.frames else joints[:, :1]
        after = FeatureState(first, sequence[:, -self._kept :], total, number, state.frames + joints.shape[1])
        final = max(0, end - skip)
        return NewFeatures(features[:, :final], sequence[:, skip:end], features[:, final:], sequence[:, end:]), after
