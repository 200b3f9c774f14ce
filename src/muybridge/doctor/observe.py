"""Every recording is opened and looked at once; all checks use what is kept here.

Legend: T frames, P people, J joints, D coordinates.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from muybridge.baseline.descriptors import Descriptors, describe_skeleton, describe_video
from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.processes import map_in_threads
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig, Split
from muybridge.doctor.skeleton_facts import SkeletonFacts, skeleton_facts
from muybridge.media.video import Video

_CHUNK = 64  # frames that are decoded at a time where all are


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What is known of a video beside its pixels.

    Attributes:
        frames: how many are shown.
        seconds: duration.
        size: height and width of the upright frames.
        turned: whether the file asks players to turn or mirror its frames.
        pixel_aspect: width of a pixel divided by its height.
        uneven: share of the frames that are shown much longer or shorter than most.
        still: whether no frame differs from the next, of those that were looked at.
    """

    frames: int
    seconds: float
    size: tuple[int, int]
    turned: bool
    pixel_aspect: float
    uneven: float
    still: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """A recording that was looked at; it has an error, or facts and descriptors."""

    record: Record
    split: Split
    error: DataError | None = None
    video: VideoFacts | None = None
    skeleton: SkeletonFacts | None = None
    described: Descriptors | None = None


def observe(
    data: DatasetConfig,
    records: Sequence[tuple[Split, Record]],
    *,
    every_frame: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Observed]:
    """Look at each recording, in their order, on all cores.

    Args:
        data: where they are opened.
        records: with the part of the split they are in.
        every_frame: decode all frames of videos, which finds damage anywhere.
        progress: called with how many are done, and of how many.
    """
    data = data.resolved()
    holds = data.holds()

    def look(placed: tuple[Split, Record]) -> Observed:
        split, record = placed
        try:
            recording = data.open(record)
            if isinstance(recording, SkeletonSequence):
                assert isinstance(holds, SkeletonData)
                described = describe_skeleton(recording, holds, record)
                return Observed(record, split, skeleton=skeleton_facts(recording, holds), described=described)
            with recording:
                described = describe_video(recording, record)
                facts = _video_facts(recording, described)
                if every_frame:
                    _decode(recording)
            return Observed(record, split, video=facts, described=described)
        except DataError as error:
            return Observed(record, split, error=error)

    yield from map_in_threads(look, records, progress)


def _video_facts(video: Video, described: Descriptors) -> VideoFacts:
    steps = np.diff(video.seconds.numpy())
    usual = float(np.median(steps))
    uneven = float(((steps > 1.6 * usual) | (steps < 0.4 * usual)).mean()) if usual > 0 else 1.0
    return VideoFacts(
        frames=len(video),
        seconds=video.duration,
        size=video.size,
        turned=video.is_turned,
        pixel_aspect=video.pixel_aspect,
        uneven=uneven,
        still=not described.movement.any(),
    )


def _decode(video: Video) -> None:
    for start in range(0, len(video), _CHUNK):
        video.read(range(start, min(start + _CHUNK, len(video))), 16)
