"""Intervals and paired tests of predictions.

Legend: N recordings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy.stats import binomtest

RESAMPLES = 2000


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


def mcnemar(first: Bool[np.ndarray, " N"], second: Bool[np.ndarray, " N"]) -> tuple[int, int, float]:
    """Recordings that only the first gets right, only the second, and the exact two-sided p-value (McNemar, 1947)."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    differing = only_first + only_second
    p = float(binomtest(only_first, differing).pvalue) if differing else 1.0
    return only_first, only_second, p
