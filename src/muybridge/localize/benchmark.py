"""How well a run localizes the actions of a data set, beside two baselines: one without images, one without learning.

Legend: T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from muybridge.core.errors import DataError
from muybridge.core.tubes import Tube, TubeSet, clip_to_frame
from muybridge.core.types import Record
from muybridge.data.datasets.base import DatasetConfig, Split
from muybridge.engine.journal import Reporter
from muybridge.engine.video_ap import THRESHOLDS, video_map
from muybridge.localize.linking import CHUNK, Maps, attention_to_tubes, centered_tube, frame_difference
from muybridge.localize.locate import Localizer
from muybridge.media.video import Video

CENTERS = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
"""Sides of the centered box, as shares of the frame's; the baseline is the best of them at each threshold."""

Precision = dict[float, float]
"""Video-mAP (0 to 1) at each threshold of IoU."""


@dataclass(frozen=True, slots=True, eq=False)
class LocalizationBenchmark:
    """The predicted tubes of a split, and how well they agree with the truth, where it is known.

    Attributes:
        predicted: the tubes around the peaks of the model's maps.
        top1: share of the videos whose class was predicted correctly, in percent.
        truth: the true tubes; None where they are not known.
        precision: of the model and of the two baselines, whose tubes have the model's classes and scores.
    """

    predicted: TubeSet
    top1: float
    truth: TubeSet | None
    precision: dict[str, Precision]


class _Results:
    """The tubes of the model and of the baselines, collected video by video."""

    def __init__(self) -> None:
        self.tubes: dict[str, list[Tube]] = {"attention": [], "frame differences": []}
        self.centered: dict[float, list[Tube]] = {share: [] for share in CENTERS}
        self.truth: list[Tube] = []
        self.frames: dict[str, int] = {}
        self.fps: dict[str, float] = {}
        self.correct = 0

    def add(self, localizer: Localizer, record: Record, recording: Video) -> None:
        """Localize in one video by all three."""
        result = localizer(recording, record.id)
        length, size = len(recording), recording.size
        score = float(result.scores.max())
        self.tubes["attention"] += result.tubes
        self.tubes["frame differences"] += attention_to_tubes(
            frame_difference_maps(recording),
            size,
            video=record.id,
            label=result.label,
            score=score,
            linking=localizer.linking,
        )
        for share, tubes in self.centered.items():
            tubes.append(centered_tube(length, size, share, video=record.id, label=result.label, score=score))
        self.frames[record.id], self.fps[record.id] = length, result.fps
        self.correct += result.label == record.label

    def compare(
        self, labels: tuple[str, ...], known: tuple[str, ...], thresholds: Sequence[float]
    ) -> LocalizationBenchmark:
        """All tubes beside the true ones, whose classes are ``known``."""
        sets = {name: TubeSet(labels, tuple(tubes), self.frames, self.fps) for name, tubes in self.tubes.items()}
        top1 = 100 * self.correct / len(self.frames)
        if not self.truth:
            return LocalizationBenchmark(sets["attention"], top1, None, {})
        truth = TubeSet(known, tuple(self.truth), self.frames, self.fps)
        precision = {name: video_map(tubes, truth, thresholds).mean for name, tubes in sets.items()}
        boxes = [
            video_map(TubeSet(labels, tuple(tubes), self.frames), truth, thresholds).mean
            for tubes in self.centered.values()
        ]
        precision["centered box"] = {threshold: max(box[threshold] for box in boxes) for threshold in thresholds}
        return LocalizationBenchmark(sets["attention"], top1, truth, precision)


def benchmark(
    localizer: Localizer,
    split: Split = "test",
    truth: TubeSet | None = None,
    report: Reporter | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    data: DatasetConfig | None = None,
) -> LocalizationBenchmark:
    """Localize the action in every video of a split and compare with the true tubes.

    Args:
        localizer: a run.
        split: of the data set.
        truth: true tubes, whose videos have the record ids of the data set, with or without the suffix of the file;
            videos that it does not have are left out. None takes the tubes or boxes that the data set has, if any.
        report: where progress is shown; by default nowhere.
        thresholds: of spatio-temporal IoU.
        data: the data set; by default that of the run's recipe.

    Raises:
        DataError: a video cannot be read, ``truth`` has none of the videos, or a true tube leaves its video.
        RunError: the model has no maps.
    """
    data = data or localizer.predictor.recipe.data
    labels, records = localizer.predictor.labels, data.index(split).records
    truth = data.tubes() if truth is None else truth
    if truth is not None:
        records = _annotated(records, truth)
    results = _Results()
    report = report or Reporter(quiet=True)
    with report:
        report.begin(f"localizing in {split}", len(records))
        for record in records:
            recording = data.open(record)
            assert isinstance(recording, Video)
            with recording:
                results.add(localizer, record, recording)
                results.truth += _true_tubes(data, record, truth, recording.size, len(recording))
            report.step()
    return results.compare(labels, truth.labels if truth else labels, thresholds)


def frame_difference_maps(video: Video) -> Maps:
    """The :func:`frame_difference` of a whole video at 112 pixels, decoded in chunks."""
    length = len(video)
    first, *chunks = (
        frame_difference(video.read(range(max(0, start - 1), min(start + CHUNK, length)), short_side=112).pixels)
        for start in range(0, length, CHUNK)
    )
    return torch.cat([first, *(chunk[1:] for chunk in chunks)])


def _annotated(records: Sequence[Record], truth: TubeSet) -> list[Record]:
    annotated = [record for record in records if _annotated_name(record, truth) in truth.frames]
    if not annotated:
        raise DataError(
            f"none of the {len(records)} videos is annotated, not even {records[0].id}",
            expected=f"annotations of some of them; there are annotations of {next(iter(truth.frames), 'no video')}",
            hint="give annotations with the video names of the data set",
        )
    return annotated


def _true_tubes(
    data: DatasetConfig, record: Record, truth: TubeSet | None, size: tuple[int, int], length: int
) -> list[Tube]:
    if truth is None:
        boxes = data.boxes(record)
        return [] if boxes is None else [Tube(record.id, record.label, boxes.numpy().astype(np.float64))]
    tubes = [tube for tube in truth.tubes if tube.video == _annotated_name(record, truth)]
    for tube in tubes:
        outside = np.abs(tube.boxes - clip_to_frame(tube.boxes, *size)).max(axis=1) > 1
        if outside.any() or tube.end > length:
            frame = tube.first + int(outside.argmax()) if outside.any() else tube.end - 1
            box = ", ".join(f"{side:g}" for side in tube.boxes[frame - tube.first].tolist())
            raise DataError(
                f"a true tube of {record.id} has the box {box} in frame {frame}",
                expected=f"boxes inside {length} frames of {size[1]}x{size[0]} pixels",
                hint="give the annotations that were made for these files, at their size",
            )
    return [replace(tube, video=record.id, boxes=clip_to_frame(tube.boxes, *size)) for tube in tubes]


def _annotated_name(record: Record, truth: TubeSet) -> str:
    """The name of a video in annotations, which may leave out the suffix of its file."""
    name = record.id.removesuffix(record.path.suffix)
    return name if name in truth.frames else record.id
