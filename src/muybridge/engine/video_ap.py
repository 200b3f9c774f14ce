"""Video-mAP: how well tubes are detected, by the rules of THUMOS13 and UCF101-24.

Detected tubes are matched in order of decreasing score. Each is compared with the true tubes of its video and class
that are not matched yet; if the best of them has at least the threshold's IoU, the two are matched and the detection is
a true positive. The average precision of a class is the area under its precision-recall curve, with precision made
monotonic (PASCAL VOC 2010); the mean is over the classes that have a true tube.

Legend: N thresholds, K classes, D detected tubes, G true tubes.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from muybridge.core.errors import DataError
from muybridge.core.tubes import Tube, TubeSet, tube_iou

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Spatio-temporal IoU from which on a detection is a true positive."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoMAP:
    """Average precision of each class at each threshold.

    Attributes:
        labels: class names.
        thresholds: of spatio-temporal IoU.
        precision: 0 to 1; NaN for classes without a true tube.
    """

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    precision: Float64[np.ndarray, "N K"]

    @property
    def mean(self) -> dict[float, float]:
        """Video-mAP (0 to 1) at each threshold."""
        return dict(zip(self.thresholds, np.nanmean(self.precision, axis=1).tolist(), strict=True))


def video_map(detected: TubeSet, truth: TubeSet, thresholds: Sequence[float] = THRESHOLDS) -> VideoMAP:
    """Average precision of detected tubes.

    Classes are matched by name; detections of classes that ``truth`` does not have are ignored. Equal scores are ranked
    by video id. Videos of ``truth`` without a detection count as missed.

    Raises:
        DataError: the two have no class in common, a detection is in a video that ``truth`` does not have, or ``truth``
            has no tube.
    """
    if not truth.tubes:
        raise DataError(
            "there is no true tube", expected="at least one", hint="check the annotations and the list of test videos"
        )
    true_tubes = _by_video_and_class(truth.tubes)
    detections = _by_video_and_class(_with_labels_of(truth, detected))
    scores: list[list[float]] = [[] for _ in truth.labels]
    positive: list[list[Bool[np.ndarray, "N D"]]] = [[] for _ in truth.labels]
    for (video, label), tubes in sorted(detections.items()):
        tubes.sort(key=lambda tube: -tube.score)
        overlaps = np.array([[tube_iou(tube, true) for true in true_tubes[video, label]] for tube in tubes])
        scores[label] += [tube.score for tube in tubes]
        positive[label].append(np.stack([_matched(overlaps, threshold) for threshold in thresholds]))
    precision = np.full((len(thresholds), len(truth.labels)), np.nan)
    for label in {tube.label for tube in truth.tubes}:
        total = sum(tube.label == label for tube in truth.tubes)
        order = np.argsort(-np.array(scores[label]), kind="stable")
        flags = np.concatenate([np.zeros((len(thresholds), 0), bool), *positive[label]], axis=1)[:, order]
        precision[:, label] = [average_precision(row, total) for row in flags]
    return VideoMAP(truth.labels, tuple(thresholds), precision)


def average_precision(positive: Bool[np.ndarray, " D"], total: int) -> float:
    """Area under the precision-recall curve.

    Args:
        positive: whether each detection is a true positive, best score first.
        total: number of true tubes.
    """
    precision = np.cumsum(positive) / np.arange(1, len(positive) + 1)
    monotonic = np.maximum.accumulate(precision[::-1])[::-1]
    return float(monotonic[positive].sum() / total)


def _matched(overlaps: Float64[np.ndarray, "D G"], threshold: float) -> Bool[np.ndarray, " D"]:
    """Which detections, best score first, match a true tube that is not matched yet."""
    positive = np.zeros(len(overlaps), dtype=bool)
    if not overlaps.size:
        return positive
    free = overlaps.copy()
    for index, row in enumerate(free):
        best = row.argmax()
        if row[best] >= threshold:
            positive[index] = True
            free[:, best] = -1
    return positive


def _by_video_and_class(tubes: Sequence[Tube]) -> defaultdict[tuple[str, int], list[Tube]]:
    grouped: defaultdict[tuple[str, int], list[Tube]] = defaultdict(list)
    for tube in tubes:
        grouped[tube.video, tube.label].append(tube)
    return grouped


def _with_labels_of(truth: TubeSet, detected: TubeSet) -> list[Tube]:
    """The detected tubes with the labels that their classes have in ``truth``."""
    label_of = {name: label for label, name in enumerate(truth.labels)}
    if not label_of.keys() & set(detected.labels):
        raise DataError(
            f"the classes of the detected tubes are {', '.join(detected.labels[:5])}, ...",
            expected=f"some of those of the true ones: {', '.join(truth.labels[:5])}, ...",
            hint="evaluate on a data set with the classes that the model was trained for",
        )
    for tube in detected.tubes:
        if tube.video not in truth.frames:
            raise DataError(
                f"a tube was detected in {tube.video}, which has no annotation",
                expected=f"annotated videos, such as {next(iter(truth.frames))}",
                hint="localize the videos that the annotations are for, or take the subset of both for one list",
            )
    return [
        replace(tube, label=label_of[detected.labels[tube.label]])
        for tube in detected.tubes
        if detected.labels[tube.label] in label_of
    ]
