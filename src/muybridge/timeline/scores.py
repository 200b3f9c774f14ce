"""How well segments agree with labelled ones: accuracy of frames, F1 of segments, mean average precision.

Sources: F1 at IoU thresholds, Lea et al., CVPR 2017; average precision at temporal IoU, ActivityNet (Heilbron et al.,
CVPR 2015).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from muybridge.timeline.segments import Segment

F1_THRESHOLDS = (0.1, 0.25, 0.5)
AP_THRESHOLDS = (0.3, 0.5, 0.7)

Segments = Mapping[str, Sequence[Segment]]
"""Segments of each recording."""


@dataclass(frozen=True, slots=True)
class SegmentScores:
    """All in percent.

    Attributes:
        frame_accuracy: share of the labelled and unlabelled time, in steps, with the right label or rightly none.
        f1: by IoU threshold; a labelled segment is found once, and whatever else is found is wrong.
        map: mean average precision over the labelled classes, by IoU threshold.
        recordings, segments: that were labelled.
    """

    frame_accuracy: float
    f1: dict[float, float]
    map: dict[float, float]
    recordings: int
    segments: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def score_segments(
    found: Segments, truth: Segments, durations: Mapping[str, float], step: float = 0.1
) -> SegmentScores:
    """Compare what was found in recordings with what was labelled.

    Args:
        found, truth: segments of each recording, by the same names; recordings without labels do not count.
        durations: of the recordings in seconds.
        step: in which the accuracy of frames is measured, in seconds.
    """
    right = total = 0
    for name, labelled in truth.items():
        times = np.arange(step / 2, durations[name], step)
        agree = _labels_at(found.get(name, ()), times) == _labels_at(labelled, times)
        right, total = right + int(agree.sum()), total + len(times)
    classes = sorted({one.label for labelled in truth.values() for one in labelled})
    precisions = {
        threshold: [average_precision(found, truth, label, threshold) for label in classes]
        for threshold in AP_THRESHOLDS
    }
    return SegmentScores(
        frame_accuracy=100 * right / max(total, 1),
        f1={threshold: 100 * _f1(found, truth, threshold) for threshold in F1_THRESHOLDS},
        map={threshold: 100 * float(np.mean(values)) if values else 0.0 for threshold, values in precisions.items()},
        recordings=len(truth),
        segments=sum(map(len, truth.values())),
    )


def average_precision(found: Segments, truth: Segments, label: str, threshold: float) -> float:
    """Area under the precision-recall curve of a class, precision made falling from the right."""
    wanted = sum(one.label == label for labelled in truth.values() for one in labelled)
    ranked = sorted(
        ((one, name) for name in truth for one in found.get(name, ()) if one.label == label),
        key=lambda pair: -pair[0].score,
    )
    hits = _hits(ranked, truth, threshold)
    correct = np.cumsum(hits)
    precision = correct / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float((precision * hits).sum() / wanted)


def _hits(ranked: Sequence[tuple[Segment, str]], truth: Segments, threshold: float) -> np.ndarray:
    """1 where a segment overlaps a labelled one that no better segment has taken, else 0."""
    taken: set[tuple[str, int]] = set()
    hits = np.zeros(len(ranked))
    for rank, (one, name) in enumerate(ranked):
        overlaps = [
            (overlap(one, other), index)
            for index, other in enumerate(truth[name])
            if other.label == one.label and (name, index) not in taken
        ]
        best, index = max(overlaps, default=(0.0, -1))
        if best >= threshold:
            taken.add((name, index))
            hits[rank] = 1
    return hits


def _f1(found: Segments, truth: Segments, threshold: float) -> float:
    ranked = [(one, name) for name in truth for one in found.get(name, ())]
    hits = _hits(ranked, truth, threshold).sum()
    total = len(ranked) + sum(map(len, truth.values()))
    return float(2 * hits / total) if total else 1.0


def overlap(first: Segment, second: Segment) -> float:
    """Intersection over union of two spans of time."""
    common = max(0.0, min(first.end, second.end) - max(first.start, second.start))
    return common / (first.end - first.start + second.end - second.start - common)


def _labels_at(segments: Sequence[Segment], times: np.ndarray) -> np.ndarray:
    labels = np.full(len(times), "", dtype=object)
    for one in segments:
        labels[(times >= one.start) & (times < one.end)] = one.label
    return labels
