"""Windows of a video that share segments: what a network computes of each segment by itself is computed once.

Legend: N segments, F frames of a segment, B clips of S segments, K classes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from muybridge.data.decoded import DecodedVideo
from muybridge.data.prepare import ClipPreparation, frame_indices
from muybridge.media.video import Video
from muybridge.models.base import Model, Parts
from muybridge.predict import Predictor, check_finite

MOST_BYTES = 2**28
"""Of features that are kept, beside those that the next windows take."""

Segment = tuple[int, ...]
"""The numbers of its frames in the recording, the first one of which is the lowest."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What windows take.

    Attributes:
        clips: the segments of each clip; those of the first window come first.
        new: of each window, those of its segments that are not known from before.
        first: the first frame of the last window; later windows do not begin before it.
    """

    clips: list[tuple[Segment, ...]]
    new: list[list[Segment]]
    first: int


def reuse_of(predictor: Predictor) -> "SegmentReuse | None":
    """For networks of two parts and a single crop of each frame; None for others."""
    model: object = predictor.model  # of another process there is a stand-in
    parts, prepare = model.parts() if isinstance(model, Model) else None, predictor.prepare
    if parts is None or not isinstance(prepare, ClipPreparation):
        return None
    view = prepare.view
    depends_on_the_clip = prepare.flow.of_clips or prepare.takes.statistics
    if view.crops_per_clip > 1 or view.reverse or depends_on_the_clip:
        return None
    return SegmentReuse(predictor, parts, prepare)


class SegmentReuse:
    """Features of the segments of a recording, in order of time.

    Args:
        predictor: of the run.
        parts: of its network.
        prepare: its preparation.
    """

    def __init__(self, predictor: Predictor, parts: Parts, prepare: ClipPreparation) -> None:
        self.predictor, self.parts, self.prepare = predictor, parts, prepare
        takes = prepare.takes
        self._per_clip = takes.segments * takes.frames_per_segment // parts.frames
        self._features: dict[Segment, dict[str, Tensor]] = {}
        self._underway: set[Segment] = set()

    def clear(self) -> None:
        """Forget all features, as for another recording."""
        self._features.clear()
        self._underway.clear()

    def plan(self, windows: Iterable[tuple[int, int]]) -> Plan:
        """Which segments windows take.

        Args:
            windows: the first frame and the number of frames of each that can be used, in order of time.
        """
        clips: list[tuple[Segment, ...]] = []
        new: list[list[Segment]] = []
        first = 0
        for first, frames in windows:
            numbers = [first + number for number in frame_indices(frames, self.prepare.takes, self.prepare.view, 1.0)]
            step = self.parts.frames
            segments = [tuple(numbers[start : start + step]) for start in range(0, len(numbers), step)]
            clips += [
                tuple(segments[start : start + self._per_clip]) for start in range(0, len(segments), self._per_clip)
            ]
            unknown = [each for each in dict.fromkeys(segments) if not self._is_known(each)]
            self._underway.update(unknown)
            new.append(unknown)
        return Plan(clips, new, first)

    def read(self, video: Video | DecodedVideo, first: int, segments: Sequence[Segment]) -> dict[str, Tensor]:
        """The frames of segments, ``N F ...`` by the arguments of the network.

        Args:
            video: a window.
            first: the number of its first frame in the recording.
            segments: of the window; at least one.
        """
        numbers = [number - first for segment in segments for number in segment]
        frames = self.prepare.frames(video, numbers)
        return {name: rearrange(value, "(n f) ... -> n f ...", n=len(segments)) for name, value in frames.items()}

    def logits(self, plan: Plan, frames: Sequence[dict[str, Tensor]], following: Plan | None) -> Float[Tensor, "B K"]:
        """The scores of all clips of a plan.

        Args:
            plan: the one made first of those that are not computed yet.
            frames: what :meth:`read` gave for the windows that have new segments.
            following: a plan that was made meanwhile.

        Raises:
            RunError: scores are not finite.
        """
        with torch.inference_mode():
            self._add([segment for segments in plan.new for segment in segments], frames)
            rows = max(1, min(self.predictor.rows, len(plan.clips)))
            parts = [plan.clips[start : start + rows] for start in range(0, len(plan.clips), rows)]
            logits = torch.cat([self.parts.late(self._gather(part)).logits for part in parts])
        check_finite(logits, self.predictor.run)
        self._forget(plan.first, set() if following is None else {one for clip in following.clips for one in clip})
        return logits

    def _is_known(self, segment: Segment) -> bool:
        return segment in self._features or segment in self._underway

    def _add(self, segments: list[Segment], frames: Sequence[dict[str, Tensor]]) -> None:
        """Compute the features of new segments."""
        if not segments:
            return
        at_once = min(len(segments), self.predictor.rows * self._per_clip)
        inputs = {name: torch.cat([each[name] for each in frames]) for name in frames[0]}
        for start in range(0, len(segments), at_once):
            part = slice(start, start + at_once)
            features = self.parts.early({name: value[part].to(self.predictor.device) for name, value in inputs.items()})
            for row, segment in enumerate(segments[part]):
                self._features[segment] = {name: value[row].clone() for name, value in features.items()}
        self._underway.difference_update(segments)

    def _gather(self, clips: Sequence[Sequence[Segment]]) -> dict[str, Tensor]:
        """The features ``B S ...`` of clips."""
        names = self._features[clips[0][0]]
        return {
            name: torch.stack([torch.stack([self._features[segment][name] for segment in clip]) for clip in clips])
            for name in names
        }

    def _forget(self, first: int, needed: set[Segment]) -> None:
        """Forget segments that begin before a frame, and the oldest if they are too large together."""
        for segment in [each for each in self._features if each[0] < first and each not in needed]:
            del self._features[segment]
        size = sum(value.nbytes for each in self._features.values() for value in each.values())
        for segment in sorted(each for each in self._features if each not in needed):
            if size <= MOST_BYTES:
                return
            size -= sum(value.nbytes for value in self._features.pop(segment).values())
