"""From the probabilities of windows to segments with start, end, label and score.

Legend: W windows, N bins of time, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float64
from scipy.ndimage import gaussian_filter1d

from muybridge.timeline.windows import Window


@dataclass(frozen=True, slots=True)
class Segment:
    """An action in a recording.

    Attributes:
        start, end: in seconds.
        label: class name.
        score: mean probability over its time.
    """

    start: float
    end: float
    label: str
    score: float = 1.0


def average_windows(
    windows: Sequence[Window], probabilities: Float64[np.ndarray, "W K"], edges: Float64[np.ndarray, " N+1"]
) -> Float64[np.ndarray, "N K"]:
    """The mean probabilities of the windows that cover the middle of each bin.

    Args:
        windows: in order of time.
        probabilities: of the classes in each window.
        edges: of the bins in seconds.
    """
    middles = (edges[:-1] + edges[1:]) / 2
    starts, stops = np.array([one.start for one in windows]), np.array([one.stop for one in windows])
    sums = np.concatenate([np.zeros((1, probabilities.shape[1])), probabilities.cumsum(0)])
    end = np.searchsorted(starts, middles, side="right")
    begin = np.minimum(np.searchsorted(stops, middles, side="left"), end - 1)
    return (sums[end] - sums[begin]) / (end - begin)[:, None]


def smooth(probabilities: Float64[np.ndarray, "N K"], deviation: float) -> Float64[np.ndarray, "N K"]:
    """Gaussian smoothing along time; ``deviation`` in bins, 0 changes nothing."""
    return gaussian_filter1d(probabilities, deviation, axis=0, mode="nearest") if deviation else probabilities


def find_segments(
    probabilities: Float64[np.ndarray, "N K"],
    edges: Float64[np.ndarray, " N+1"],
    labels: Sequence[str],
    *,
    high: float,
    low: float,
    shortest: float,
    ignored: Sequence[str] = (),
) -> list[Segment]:
    """Runs of bins with the same most probable class.

    A run is as long as the probability stays at ``low`` or above (hysteresis), and counts if it is at least ``high``
    somewhere. Gaps of less than ``shortest`` between runs of a class are closed; shorter segments are dropped.

    Args:
        probabilities: of the classes in each bin.
        edges: of the bins in seconds.
        labels: names of the classes.
        high, low: probabilities from 0 to 1.
        shortest: duration in seconds.
        ignored: classes that are no action, such as a background class; they give no segments.
    """
    best = probabilities.argmax(1)
    level = probabilities[np.arange(len(best)), best]
    silent = np.isin(best, [labels.index(name) for name in ignored])
    marks = np.where((level >= low) & ~silent, best, -1)
    runs = _close_gaps(_runs(marks), edges, shortest)
    segments = []
    for first, end, label in runs:
        scores = probabilities[first:end, label]
        if scores.max() >= high and edges[end] - edges[first] >= shortest - 1e-9:
            segments.append(Segment(float(edges[first]), float(edges[end]), labels[label], float(scores.mean())))
    return segments


def _runs(marks: np.ndarray) -> list[tuple[int, int, int]]:
    """First bin, bin after the last, and class of every run of equal marks; -1 marks nothing."""
    runs, position = [], 0
    for mark, members in groupby(marks.tolist()):
        length = len(list(members))
        if mark >= 0:
            runs.append((position, position + length, mark))
        position += length
    return runs


def _close_gaps(
    runs: Sequence[tuple[int, int, int]], edges: Float64[np.ndarray, " N+1"], shortest: float
) -> list[tuple[int, int, int]]:
    """Consecutive runs of one class with less than ``shortest`` seconds between them as one run."""
    closed: list[tuple[int, int, int]] = []
    for first, end, label in runs:
        if closed and closed[-1][2] == label and edges[first] - edges[closed[-1][1]] < shortest - 1e-9:
            closed[-1] = (closed[-1][0], end, label)
        else:
            closed.append((first, end, label))
    return closed
