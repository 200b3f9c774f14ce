"""How long the recordings are that a run was trained on, so that predicting can warn about one that is much longer.

A network learns from recordings that show one action each. In a recording many times as long, the same number of frames
is spread over several actions, and one label stands for all of them.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from muybridge.core.errors import DataError
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig
from muybridge.engine.checkpoint import RunFolder
from muybridge.media.video import Video

FILE = "durations.json"

SAMPLE = 100
"""Recordings that are measured, evenly spread over the training part; opening a video reads its packets."""

LONGER, FASTER = 3.0, 1.8
"""How many times as long as the longest, and as fast as the median, a recording is before there is a warning."""


@dataclass(frozen=True, slots=True)
class Durations:
    """The length of training recordings: of videos in seconds, of skeletons, which have no clock, in frames.

    Attributes:
        median, longest: of a sample of the training part, in ``unit``.
        unit: "seconds" or "frames".
        fps: median frames per second; 0 where there is no clock.
    """

    median: float
    longest: float
    unit: str
    fps: float = 0.0

    def warnings_for(self, recording: SkeletonSequence | Video, *, check_rate: bool = True) -> list[str]:
        """Messages about the length and the frame rate of a recording; empty if both are like those of training.

        Args:
            recording: the recording.
            check_rate: whether the frame rate matters, as it does to models that read consecutive frames. It is known
                of files alone: a folder of images and an array have none.
        """
        length = float(len(recording)) if isinstance(recording, SkeletonSequence) else recording.duration
        messages = []
        if length > LONGER * self.longest:
            messages.append(
                f"the recording is {self._words(length)} long, the training recordings {self._words(self.median)} "
                f"(median) to {self._words(self.longest)} (longest): one label stands for all of it. Cut it into parts "
                "of about the training length, and predict each"
            )
        if check_rate and self.fps and isinstance(recording, Video) and recording.path.is_file():
            factor = recording.fps / self.fps
            if not 1 / FASTER < factor < FASTER:
                messages.append(
                    f"the recording has {recording.fps:.4g} frames per second, the training recordings {self.fps:.4g} "
                    f"(median): motion from frame to frame is {1 / factor:.2g} times as large. Convert it to "
                    f"{self.fps:.4g} frames per second"
                )
        return messages

    def _words(self, length: float) -> str:
        return f"{length:.0f} frames" if self.unit == "frames" else _seconds(length)


def measure_durations(data: DatasetConfig, records: Sequence[Record]) -> Durations | None:
    """The durations of a sample of recordings; those that cannot be opened are passed over.

    Returns:
        None if none can be opened.
    """
    lengths, rates, unit = [], [], "frames"
    for recording in open_sample(data, records, SAMPLE):
        if isinstance(recording, SkeletonSequence):
            lengths.append(float(len(recording)))
            continue
        with recording:
            unit = "seconds"
            lengths.append(recording.duration)
            rates += [recording.fps] if recording.path.is_file() else []
    if not lengths:
        return None
    return Durations(median(lengths), max(lengths), unit, median(rates) if rates else 0.0)


def open_sample(data: DatasetConfig, records: Sequence[Record], most: int) -> Iterator[SkeletonSequence | Video]:
    """At most so many recordings, evenly spread; those that cannot be opened are passed over."""
    places = np.unique(np.linspace(0, len(records) - 1, min(most, len(records))).round().astype(int))
    for place in places.tolist():
        try:
            yield data.open(records[place])
        except DataError:
            continue


def write_durations(run: RunFolder, durations: Durations | None) -> None:
    """Keep the durations in a run folder, if there are any."""
    if durations is not None:
        run.write_json(FILE, asdict(durations))


def read_durations(run: Path) -> Durations | None:
    """The durations that a training left in its run folder; None where there are none."""
    try:
        return Durations(**json.loads((run / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _seconds(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.1f} s"
