"""The timeline of a recording of any length: a trained run on sliding windows.

Legend: W windows, N bins of time, K classes.
"""

import math
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from muybridge.core.errors import RecipeError
from muybridge.core.types import SkeletonSequence
from muybridge.data.datasets.base import require_one_label
from muybridge.data.decoded import DecodedVideo
from muybridge.data.prepare import ClipPreparation, collate_inputs
from muybridge.media.video import Video
from muybridge.predict import Item, Predictor
from muybridge.timeline.reuse import Plan, SegmentReuse, reuse_of
from muybridge.timeline.segments import Segment, average_windows, find_segments, smooth
from muybridge.timeline.windows import Window, cut_decoded, cut_skeletons, cut_video, slide

DEFAULT_WINDOW = 2.0
"""Seconds of a window where the run does not know how long its training recordings were."""

SHORTEST_HOP = 1e-3
"""Seconds; shorter than a frame of any camera for people."""

DEFAULT_FPS = 30.0
"""Frames a second of skeletons, whose files have no clock."""

Progress = Callable[[int, int], None]
"""Called with how many windows are done, and of how many."""

Crop = Callable[[Window], tuple[int, int, int, int]]
"""From a window to the top, left, height and width of a part of its frames, in pixels."""


@dataclass(frozen=True, slots=True)
class TimelineConfig:
    """How a timeline is made; all times are in seconds.

    Attributes:
        window: length of the sliding window; 0 takes the median length of the training recordings.
        hop: from one window to the next, and the resolution of the timeline; 0 takes a quarter of the window.
        smoothing: standard deviation of the Gaussian that smooths probabilities along time.
        high: a segment reaches this probability somewhere.
        low: a segment ends where its probability falls below this.
        shortest: segments and gaps shorter than this are removed; a negative value takes half the window.
        ignored: classes that give no segments.
        fps: frames a second of recordings without a clock, such as skeletons; 0 takes 30.
        batch: windows that are computed together.
    """

    window: float = 0.0
    hop: float = 0.0
    smoothing: float = 0.0
    high: float = 0.5
    low: float = 0.3
    shortest: float = -1.0
    ignored: tuple[str, ...] = ()
    fps: float = 0.0
    batch: int = 8

    def __post_init__(self) -> None:
        times = (self.window, self.hop, self.smoothing, self.fps)
        if not all(0 <= time < math.inf for time in times) or self.batch < 1:
            raise RecipeError(
                "a negative time, an endless one, or a batch of less than 1",
                expected="finite window, hop, smoothing and fps of 0 or more, batch of 1 or more",
                hint="correct the option",
            )
        if 0 < min(self.window or 1, self.hop or 1) < SHORTEST_HOP:
            raise RecipeError(
                f"window = {self.window:g} and hop = {self.hop:g}",
                expected=f"0, which chooses, or at least {SHORTEST_HOP:g} seconds",
                hint="a hop shorter than a frame computes the same windows again",
            )
        if not 0 <= self.low <= self.high <= 1:
            raise RecipeError(
                f"low = {self.low:g} and high = {self.high:g}",
                expected="0 <= low <= high <= 1",
                hint="a segment reaches high and ends below low: set both",
            )


@dataclass(frozen=True, slots=True)
class Timeline:
    """The probabilities of all classes over the time of a recording, and the segments.

    Attributes:
        path: of the recording, or its name.
        labels: class names.
        edges: of the bins of time in seconds.
        probabilities: mean of the windows that cover each bin, smoothed.
        segments: in order of time.
        window, hop: in seconds.
        person: whose it is, where each person of the recording has a timeline; the edges then begin when they appear.
    """

    path: str
    labels: tuple[str, ...]
    edges: Float64[np.ndarray, " N+1"]
    probabilities: Float64[np.ndarray, "N K"]
    segments: tuple[Segment, ...]
    window: float
    hop: float
    person: str = ""

    @property
    def duration(self) -> float:
        """Of the recording in seconds."""
        return float(self.edges[-1])


class TimelinePredictor:
    """A trained run that says when actions happen.

    Args:
        predictor: of the run.
        config: how.

    Raises:
        RecipeError: ``config.ignored`` names no class of the run.
    """

    def __init__(self, predictor: Predictor, config: TimelineConfig | None = None) -> None:
        require_one_label(predictor.recipe.data, "a timeline")
        self.predictor = predictor
        config = config or TimelineConfig()
        if unknown := [name for name in config.ignored if name not in predictor.labels]:
            raise RecipeError(
                f"the run has no class {unknown[0]!r}",
                expected=f"one of {', '.join(predictor.labels)}",
                hint="correct the class to ignore",
            )
        window = config.window or training_length(predictor, config.fps or DEFAULT_FPS)
        hop = config.hop or window / 4
        shortest = config.shortest if config.shortest >= 0 else window / 2
        self.config = replace(config, window=window, hop=min(hop, window), shortest=shortest)

    def __call__(self, recording: Item, progress: Progress | None = None, crop: Crop | None = None) -> Timeline:
        """The timeline of a recording; see :meth:`Predictor.__call__` for what that may be, and for errors.

        Args:
            recording: of any length; of a video no more than a window is in memory at any time.
            progress: called after each batch of windows.
            crop: the part of the frames of a video that each window is read from.
        """
        config = self.config
        with self.predictor.open(recording) as (opened, name):
            if isinstance(opened, SkeletonSequence):
                fps = config.fps or DEFAULT_FPS
                seconds, duration = np.arange(len(opened)) / fps, len(opened) / fps
            else:
                seconds, duration = opened.seconds.numpy() - float(opened.seconds[0]), opened.duration
            windows = slide(seconds, duration, config.window, config.hop)
            self._warn(opened, windows[len(windows) // 2], name)
            rows = []
            with closing(self._score(opened, windows, crop)) as parts:  # its thread ends before the recording is closed
                for part in parts:
                    rows.append(part)
                    if progress:
                        progress(sum(map(len, rows)), len(windows))
        probabilities = np.concatenate(rows)
        count = max(1, round(duration / config.hop))
        edges = np.append(np.arange(count) * config.hop, duration)
        averaged = smooth(average_windows(windows, probabilities, edges), config.smoothing / config.hop)
        segments = find_segments(
            averaged,
            edges,
            self.predictor.labels,
            high=config.high,
            low=config.low,
            shortest=min(config.shortest, duration),
            ignored=config.ignored,
        )
        return Timeline(name, self.predictor.labels, edges, averaged, tuple(segments), config.window, config.hop)

    def _score(
        self, recording: SkeletonSequence | Video, windows: list[Window], crop: Crop | None
    ) -> Generator[Float64[np.ndarray, "B K"]]:
        """Probabilities of the classes in each window, a batch at a time; a thread reads the next one meanwhile."""
        predictor, reuse = self.predictor, None if crop else reuse_of(self.predictor)
        if reuse is not None and not isinstance(recording, SkeletonSequence) and len(recording) > 1:
            yield from self._score_segments(recording, windows, reuse)
            return
        cut = self._cut(recording, windows, crop)

        def read() -> dict[str, Tensor]:
            parts = [predictor.prepare(part)[0] for part in islice(cut, self.config.batch)]
            return collate_inputs(parts) if parts else {}

        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(read)
            while inputs := waiting.result():
                waiting = thread.submit(read)
                output = predictor.forward(inputs)
                yield predictor.probabilities(output.logits).double().cpu().numpy()

    def _score_segments(
        self, recording: Video, windows: list[Window], reuse: SegmentReuse
    ) -> Generator[Float64[np.ndarray, "B K"]]:
        """The same from the features of segments, of which those that windows share are computed once."""
        predictor, size = self.predictor, self.config.batch
        cut, flow = self._cut(recording, windows, None), reuse.prepare.takes.flow
        parts = [windows[start : start + size] for start in range(0, len(windows), size)]

        def plan(part: list[Window]) -> Plan:
            ends = (max(window.end, min(window.first + 1 + flow, len(recording))) for window in part)
            return reuse.plan((window.first, end - window.first - flow) for window, end in zip(part, ends, strict=True))

        def read(part: list[Window], planned: Plan) -> list[dict[str, Tensor]]:
            frames = []
            for window, segments in zip(part, planned.new, strict=True):
                video = next(cut)
                assert not isinstance(video, SkeletonSequence)
                if segments:
                    frames.append(reuse.read(video, window.first, segments))
            return frames

        with ThreadPoolExecutor(1) as thread:
            planned = plan(parts[0])
            waiting = thread.submit(read, parts[0], planned)
            for part in [*parts[1:], None]:
                frames, following = waiting.result(), None
                if part is not None:
                    following = plan(part)
                    waiting = thread.submit(read, part, following)
                logits = reuse.logits(planned, frames, following)
                yield predictor.probabilities(logits).double().cpu().numpy()
                planned = following or planned

    def _cut(
        self, recording: SkeletonSequence | Video, windows: list[Window], crop: Crop | None
    ) -> Iterator[SkeletonSequence | Video | DecodedVideo]:
        if isinstance(recording, SkeletonSequence):
            return cut_skeletons(recording, windows)
        prepare = self.predictor.prepare
        assert isinstance(prepare, ClipPreparation)
        if crop is not None:
            pairs = zip(windows, cut_video(recording, windows), strict=True)
            return (part.crop(*crop(window)) for window, part in pairs)
        if prepare.takes.flow:
            return cut_video(recording, windows)
        return cut_decoded(recording, windows, prepare.short_side(training=False))

    def _warn(self, recording: SkeletonSequence | Video, window: Window, name: str) -> None:
        """Warn about a window that is unlike the recordings of training."""
        part = next(
            iter(
                cut_skeletons(recording, [window])
                if isinstance(recording, SkeletonSequence)
                else cut_video(recording, [window])
            )
        )
        self.predictor.warn_if_unlike(part, name)


def training_length(predictor: Predictor, fps: float) -> float:
    """Median length of the training recordings in seconds; ``fps`` is that of skeletons, which have no clock."""
    durations = predictor.training_durations
    if durations is None:
        return DEFAULT_WINDOW
    return durations.median if durations.unit == "seconds" else durations.median / fps
