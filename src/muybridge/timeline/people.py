"""A timeline for each person of a recording: from their joints, or from the part of the frames that they are in."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import DataError
from muybridge.media.poses.tracks import PersonTrack, read_tracks
from muybridge.media.video import SUFFIXES, Video
from muybridge.timeline.timeline import DEFAULT_FPS, Progress, Timeline, TimelinePredictor
from muybridge.timeline.windows import Window

SPACE = 1.2
"""Side of the square around a person relative to the longer side of their box."""

_FEWEST_PIXELS = 16
"""Of a side of what is cut out; nothing can be seen on fewer."""


class PeopleTimelines:
    """Timelines of the people of one recording, from a file that follows them.

    A model of skeletons takes their joints. A model of videos takes, in each window, the square around all their boxes
    in it: it does not move within a window, so that what moves in it is the person and not the frame.

    Args:
        predictor: of the run.
        recording: the video; of a model of skeletons it may be the file of people itself, which has no clock.
        people: keypoints or boxes with tracks, see :func:`~muybridge.media.poses.tracks.read_tracks`.

    Raises:
        DataError: one of the files cannot be read, or they are not of the same recording.
    """

    def __init__(self, predictor: TimelinePredictor, recording: Path, people: Path) -> None:
        self.predictor, self.recording, self.people = predictor, recording, people
        recipe = predictor.predictor.recipe
        self.options = recipe.data.read_options()
        self.of_joints = isinstance(recipe.data.holds(), SkeletonData)
        self.fps, self._seconds, size = self._clock()
        self.tracks = read_tracks(people, self.options, size)
        self._check()

    def __iter__(self) -> Iterator[Timeline]:
        """A timeline for each person, the one who is seen longest first; see :meth:`of`."""
        for track in self.tracks:
            yield self.of(track)

    def of(self, track: PersonTrack, progress: Progress | None = None) -> Timeline:
        """The timeline of one person, in seconds of the recording.

        Raises:
            DataError: frames cannot be read, or the model needs joints and the file has boxes alone.
        """
        timeline = self._of_joints(track, progress) if self.of_joints else self._of_crops(track, progress)
        start = track.first / self.fps if self._seconds is None else float(self._seconds[track.first])
        segments = (replace(one, start=one.start + start, end=one.end + start) for one in timeline.segments)
        return replace(
            timeline,
            path=str(self.recording),
            person=track.name,
            edges=timeline.edges + start,
            segments=tuple(segments),
        )

    def _of_joints(self, track: PersonTrack, progress: Progress | None) -> Timeline:
        predictor = TimelinePredictor(self.predictor.predictor, replace(self.predictor.config, fps=self.fps))
        return predictor(track.sequence(self.options, self.people), progress)

    def _of_crops(self, track: PersonTrack, progress: Progress | None) -> Timeline:
        with Video(self.recording) as video:
            part = video.slice_frames(track.first, track.end)

            def crop(window: Window) -> tuple[int, int, int, int]:
                return square_around(track.box(track.first + window.first, track.first + window.end), video.size)

            return self.predictor(part, progress, crop)

    def _clock(self) -> tuple[float, Float64[np.ndarray, " T"] | None, tuple[int, int] | None]:
        """Frames a second; of a video also the time of each frame from the first one, and their width and height."""
        is_video = self.recording.is_dir() or self.recording.suffix.lower() in SUFFIXES
        if not is_video or (self.of_joints and self.recording == self.people):
            if not self.of_joints:
                raise DataError(
                    "this is no video",
                    expected="the video in which the people are seen, which the model takes",
                    hint="give the video, and the file of people with --people",
                    where=self.recording,
                )
            return self.predictor.config.fps or DEFAULT_FPS, None, None
        with Video(self.recording) as video:
            height, width = video.size
            seconds = video.seconds.numpy()
            return video.fps, seconds - seconds[0], (width, height)

    def _check(self) -> None:
        """Refuse people who are seen after the end of the video."""
        last = max(track.end for track in self.tracks)
        if self._seconds is not None and last > len(self._seconds):
            raise DataError(
                f"somebody is seen in frame {last}",
                expected=f"{len(self._seconds)} frames, as {self.recording.name} has",
                hint="give the video that the people were found in, with all its frames",
                where=self.people,
            )


def square_around(box: Float64[np.ndarray, " 4"], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The square around a box with some space, moved and cut so that it is inside the frame.

    Args:
        box: left, top, right and bottom.
        size: height and width of the frame.

    Returns:
        Top, left, height and width in whole pixels.
    """
    left, top, right, bottom = box.tolist()
    side = max(SPACE * max(right - left, bottom - top), _FEWEST_PIXELS)
    places = []
    for middle, limit in (((top + bottom) / 2, size[0]), ((left + right) / 2, size[1])):
        length = min(round(side), limit)
        places.append((min(max(round(middle - length / 2), 0), limit - length), length))
    (top_edge, height), (left_edge, width) = places
    return top_edge, left_edge, height, width
