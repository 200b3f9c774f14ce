"""Intervals, calibration and paired tests of predictions.

Legend: N recordings, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest

RESAMPLES = 2000
BINS = 10


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % confidence interval, in percent."""

    value: float
    low: float
    high: float


def bootstrap_top1(right: Bool[np.ndarray, " N"], groups: Sequence[str]) -> Interval:
    """Top-1 accuracy, with the interval of resampled groups (people, sources), or recordings where none are known.

    Recordings of one person are alike, so that resampling them one by one would make the interval too narrow.

    Args:
        right: whether each recording is classified correctly.
        groups: of each recording; empty names where unknown.
    """
    _, members = np.unique(groups if len(set(groups)) > 1 else np.arange(len(right)), return_inverse=True)
    counts = np.bincount(members).astype(float)
    hits = np.bincount(members, weights=right)
    draws = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    means = 100 * hits[draws].sum(1) / counts[draws].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(100 * float(right.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far probabilities can be believed.

    Attributes:
        error: expected calibration error in percent (Guo et al., ICML 2017): mean difference of confidence and accuracy
            over the bins, weighted by their recordings.
        confidence, accuracy: means in each bin with recordings, in percent.
        counts: recordings of these bins.
    """

    error: float
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    counts: tuple[int, ...]


def calibration(probabilities: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]) -> Calibration:
    """Confidence beside accuracy, in ten bins of confidence."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    used = counts > 0
    mean = 100 * np.bincount(bins, confidence, BINS)[used] / counts[used]
    share = 100 * np.bincount(bins, right, BINS)[used] / counts[used]
    error = float((np.abs(mean - share) * counts[used]).sum() / counts.sum())
    return Calibration(error, tuple(mean.tolist()), tuple(share.tolist()), tuple(counts[used].tolist()))


def mcnemar(first: Bool[np.ndarray, " N"], second: Bool[np.ndarray, " N"]) -> tuple[int, int, float]:
    """Recordings that only the first gets right, only the second, and the exact two-sided p-value (McNemar, 1947)."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    p = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    return only_first, only_second, p
