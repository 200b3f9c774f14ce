"""Recordings played forwards or backwards, at one of several speeds, which a model learns to tell: labels for free.

Which of them a sample is, and which part of the recording it shows, is drawn. Every speed shows the same number of
frames, so that their number tells nothing.

Source: Misra, Zitnick, Hebert, "Shuffle and Learn", ECCV 2016, and Wei et al., "Learning and Using the Arrow of Time",
CVPR 2018, for the order of frames; Benaim et al., "SpeedNet", CVPR 2020, for the speed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from muybridge.core.rng import make_generator
from muybridge.core.types import SkeletonSequence
from muybridge.data.datasets.playback import PLAYBACKS, SPEEDS
from muybridge.data.feature_store import StoredFrames
from muybridge.data.prepare import Preparation, Recording, Sample


@dataclass(frozen=True, slots=True)
class PlaybackPreparation(Preparation[tuple[Any, int]]):
    """Plays a recording in a way that is drawn, then prepares it as any other; the label says how it was played.

    The draws are those of the sample's generator; in testing, without one, those of the recording's id.

    Attributes:
        inner: prepares what is shown.
    """

    inner: Preparation[Any]

    @property
    def views(self) -> int:
        """Inputs that testing makes of one recording."""
        return self.inner.views

    def decoded_side(self) -> int | None:
        """See :meth:`Preparation.decoded_side`."""
        return self.inner.decoded_side()

    def read(
        self, recording: Recording, rng: torch.Generator | None = None, name: str | None = None
    ) -> tuple[Any, int]:
        """The first half of a call: what is shown, and the label."""
        shown, label = play(recording, rng or make_generator("playback", name or ""))
        return self.inner.read(shown, rng, name), label

    def transform(self, read: tuple[Any, int], label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The second half of a call; the given label is not used."""
        shown, drawn = read
        return self.inner.transform(shown, drawn, rng)

    def undo_reversal(self, scores: Float[Tensor, "B V K"]) -> Float[Tensor, "B V K"]:
        """See :meth:`Preparation.undo_reversal`."""
        return self.inner.undo_reversal(scores)


def play(recording: Recording, rng: torch.Generator) -> tuple[Recording, int]:
    """A part of a recording, played forwards or backwards at one of the speeds; and which of ``PLAYBACKS`` that is.

    Args:
        recording: frames that can be shown in any order, not stored features.
        rng: of the sample.
    """
    assert not isinstance(recording, StoredFrames)
    label = int(torch.randint(len(PLAYBACKS), (), generator=rng))
    backwards, speed = label >= len(SPEEDS), SPEEDS[label % len(SPEEDS)]
    shown = max(1, len(recording) // SPEEDS[-1])
    span = (shown - 1) * speed + 1
    first = int(torch.randint(len(recording) - span + 1, (), generator=rng))
    if not isinstance(recording, SkeletonSequence):
        return recording.slice_frames(first, first + span, step=speed, backwards=backwards), label
    frames = range(first, first + span, speed)
    order = list(frames[::-1] if backwards else frames)
    return recording.take_frames(order), label
