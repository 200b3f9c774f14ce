"""How well a run localises the actions of a data set, beside what knows nothing and what does not learn.

Legend: T frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from muybridge.core.errors import DataError
from muybridge.core.tubes import Tube, TubeSet, clip_to_frame
from muybridge.core.types import Record
from muybridge.data.datasets.base import DatasetConfig, Split
from muybridge.engine.journal import Reporter
from muybridge.engine.video_ap import THRESHOLDS, video_map
from muybridge.localize.linking import attention_to_tubes, centered_tube, frame_difference
from muybridge.localize.locate import Localizer
from muybridge.media.video import Video

CENTERS = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6)
"""Sides of the centered box, as shares of the frame's; the baseline is the best of them at each threshold."""

Precision = dict[float, float]
"""Video-mAP (0 to 1) at each threshold of IoU."""


@dataclass(frozen=True, slots=True, eq=False)
class LocalizationBenchmark:
    """What was found in a split, and how well that agrees with the truth, where it is known.

    Attributes:
        found: the tubes around what the model looked at.
        top1: share of the videos whose class was recognised, in percent.
        truth: the true tubes; None where nobody knows them.
        precision: of the model and of the two baselines, which bear the classes and scores that the model gave.
    """

    found: TubeSet
    top1: float
    truth: TubeSet | None
    precision: dict[str, Precision]


def benchmark(
    localizer: Localizer,
    split: Split = "test",
    truth: TubeSet | None = None,
    report: Reporter | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> LocalizationBenchmark:
    """Localise the action in every video of a split and compare with the true tubes.

    Args:
        localizer: a run.
        split: of the run's data set.
        truth: true tubes, whose videos have the record ids of the data set, with or without the ending of the file;
            videos that it does not have are passed over. None takes the boxes that the data set has, if it has any.
        report: where progress is shown; by default nowhere.
        thresholds: of spatio-temporal IoU.

    Raises:
        DataError: a video cannot be read, ``truth`` has none of the videos, or a true tube leaves its video.
        RunError: the model does not say where it looks.
    """
    data, labels = localizer.predictor.recipe.data, localizer.predictor.labels
    records = data.index(split).records
    if truth is not None:
        records = _annotated(records, truth)
    found: dict[str, list[Tube]] = {"attention": [], "frame differences": []}
    centered: dict[float, list[Tube]] = {share: [] for share in CENTERS}
    true: list[Tube] = []
    frames, fps, right = {}, {}, 0
    report = report or Reporter(quiet=True)
    with report:
        report.begin(f"localising in {split}", len(records))
        for record in records:
            recording = data.open(record)
            assert isinstance(recording, Video)
            with recording:
                located = localizer(recording, record.id)
                length, size = len(recording), recording.size
                changes = frame_difference(recording.read(range(length), short_side=112).pixels)
                true += _true_tubes(data, record, truth, size, length)
            said = {"video": record.id, "label": located.label, "score": float(located.scores.max())}
            found["attention"] += located.tubes
            found["frame differences"] += attention_to_tubes(changes, size, **said, linking=localizer.linking)
            for share, tubes in centered.items():
                tubes.append(centered_tube(length, size, share, **said))
            frames[record.id], fps[record.id] = length, located.fps
            right += located.label == record.label
            report.step()
    sets = {name: TubeSet(labels, tuple(tubes), frames, fps) for name, tubes in found.items()}
    top1 = 100 * right / len(records)
    if not true:
        return LocalizationBenchmark(sets["attention"], top1, None, {})
    known = TubeSet(truth.labels if truth else labels, tuple(true), frames, fps)
    precision = {name: video_map(tubes, known, thresholds).mean for name, tubes in sets.items()}
    boxes = [video_map(TubeSet(labels, tuple(tubes), frames), known, thresholds).mean for tubes in centered.values()]
    precision["centered box"] = {threshold: max(one[threshold] for one in boxes) for threshold in thresholds}
    return LocalizationBenchmark(sets["attention"], top1, known, precision)


def _annotated(records: Sequence[Record], truth: TubeSet) -> list[Record]:
    some = [record for record in records if _called(record, truth) in truth.frames]
    if not some:
        raise DataError(
            f"none of the {len(records)} videos is annotated, not even {records[0].id}",
            expected=f"annotations of some of them; there are such of {next(iter(truth.frames), 'no video')}",
            hint="give annotations whose videos are called as the data set calls them",
        )
    return some


def _true_tubes(
    data: DatasetConfig, record: Record, truth: TubeSet | None, size: tuple[int, int], length: int
) -> list[Tube]:
    if truth is None:
        boxes = data.boxes(record)
        return [] if boxes is None else [Tube(record.id, record.label, boxes.numpy().astype(np.float64))]
    tubes = [tube for tube in truth.tubes if tube.video == _called(record, truth)]
    for tube in tubes:
        outside = np.abs(tube.boxes - clip_to_frame(tube.boxes, *size)).max(axis=1) > 1
        if outside.any() or tube.end > length:
            at = tube.first + int(outside.argmax()) if outside.any() else tube.end - 1
            raise DataError(
                f"a true tube of {record.id} has the box {_words(tube.boxes[at - tube.first])} in frame {at}",
                expected=f"boxes inside {length} frames of {size[1]}x{size[0]} pixels",
                hint="give the annotations that were made for these files, at their size",
            )
    return [replace(tube, video=record.id, boxes=clip_to_frame(tube.boxes, *size)) for tube in tubes]


def _called(record: Record, truth: TubeSet) -> str:
    """What a video is called in annotations, which may leave out the ending of its file."""
    plain = record.id.removesuffix(record.path.suffix)
    return plain if plain in truth.frames else record.id


def _words(box: Float64[np.ndarray, " 4"]) -> str:
    return ", ".join(f"{side:g}" for side in box.tolist())
