"""Video-mAP: how well tubes are found, by the rules of THUMOS13 and UCF101-24.

Tubes are taken by falling score. Each is compared with the true tubes of its video and class that no earlier one has
taken; it is right if the best of them overlaps it by the threshold or more, and takes that one. The average precision
of a class is the area under its curve of precision over recall, precision made to fall (PASCAL VOC 2010); the mean
runs over the classes that have a true tube.

Legend: N thresholds, K classes, D found tubes, G true tubes.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from muybridge.core.errors import DataError
from muybridge.core.tubes import Tube, TubeSet, tube_iou

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
"""Spatio-temporal IoU at which a tube counts as right."""


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


def video_map(found: TubeSet, truth: TubeSet, thresholds: Sequence[float] = THRESHOLDS) -> VideoMAP:
    """How well the found tubes agree with the true ones.

    Classes go by their names; found tubes of classes that ``truth`` does not know are passed over. Equal scores are
    ranked by video id. Videos of ``truth`` in which nothing was found count as missed.

    Raises:
        DataError: the two have no class in common, a found tube lies in a video that ``truth`` does not have, or
            ``truth`` has no tube.
    """
    if not truth.tubes:
        raise DataError(
            "there is no true tube", expected="one at least", hint="check the annotations and the list of test videos"
        )
    true_by, found_by = _by_video_and_class(truth.tubes), _by_video_and_class(_in_terms_of(truth, found))
    scores: list[list[float]] = [[] for _ in truth.labels]
    right: list[list[Bool[np.ndarray, "N D"]]] = [[] for _ in truth.labels]
    for (video, label), tubes in sorted(found_by.items()):
        tubes.sort(key=lambda tube: -tube.score)
        overlaps = np.array([[tube_iou(tube, true) for true in true_by[video, label]] for tube in tubes])
        scores[label] += [tube.score for tube in tubes]
        right[label].append(np.stack([_matched(overlaps, threshold) for threshold in thresholds]))
    precision = np.full((len(thresholds), len(truth.labels)), np.nan)
    for label in {tube.label for tube in truth.tubes}:
        total = sum(tube.label == label for tube in truth.tubes)
        order = np.argsort(-np.array(scores[label]), kind="stable")
        flags = np.concatenate([np.zeros((len(thresholds), 0), bool), *right[label]], axis=1)[:, order]
        precision[:, label] = [average_precision(row, total) for row in flags]
    return VideoMAP(truth.labels, tuple(thresholds), precision)


def average_precision(right: Bool[np.ndarray, " D"], total: int) -> float:
    """Area under precision over recall.

    Args:
        right: whether each found tube is right, best score first.
        total: how many true ones there are.
    """
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[right].sum() / total)


def _matched(overlaps: Float64[np.ndarray, "D G"], threshold: float) -> Bool[np.ndarray, " D"]:
    """Which tubes, best score first, overlap a true one that is still free."""
    right = np.zeros(len(overlaps), dtype=bool)
    if not overlaps.size:
        return right
    free = overlaps.copy()
    for index, row in enumerate(free):
        best = row.argmax()
        if row[best] >= threshold:
            right[index] = True
            free[:, best] = -1
    return right


def _by_video_and_class(tubes: Sequence[Tube]) -> defaultdict[tuple[str, int], list[Tube]]:
    grouped: defaultdict[tuple[str, int], list[Tube]] = defaultdict(list)
    for tube in tubes:
        grouped[tube.video, tube.label].append(tube)
    return grouped


def _in_terms_of(truth: TubeSet, found: TubeSet) -> list[Tube]:
    """The found tubes with the labels that their classes have in ``truth``."""
    label_of = {name: label for label, name in enumerate(truth.labels)}
    if not label_of.keys() & set(found.labels):
        raise DataError(
            f"the classes of the found tubes are {', '.join(found.labels[:5])}, ...",
            expected=f"some of those of the true ones: {', '.join(truth.labels[:5])}, ...",
            hint="evaluate on a data set with the classes that the model was trained for",
        )
    for tube in found.tubes:
        if tube.video not in truth.frames:
            raise DataError(
                f"a tube was found in {tube.video}, which has no annotation",
                expected=f"annotated videos, such as {next(iter(truth.frames))}",
                hint="localise the videos that the annotations are for, or take the part of both for one list",
            )
    return [
        replace(tube, label=label_of[found.labels[tube.label]])
        for tube in found.tubes
        if found.labels[tube.label] in label_of
    ]
