"""Splits and folds of a data set: by person or source where these are known, with the classes in equal shares."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from muybridge.core.errors import RecipeError
from muybridge.core.types import Record
from muybridge.data.datasets.base import Split

_FINEST = 20  # parts of equal size from which a share is put together


def draw_folds(records: Sequence[Record], count: int, seed: int = 0) -> list[int]:
    """The fold of each recording, from 0; all recordings of a group are in one fold.

    Folds are drawn by scikit-learn's ``StratifiedGroupKFold``, or ``StratifiedKFold`` where there are no groups.

    Args:
        records: of the whole data set.
        count: folds.
        seed: of the draw; the same one gives the same folds.

    Raises:
        RecipeError: fewer than two folds, or more than there are groups (or recordings).
    """
    labels, groups = np.array([one.label for one in records]), _groups(records)
    available = len(records) if groups is None else len(set(groups.tolist()))
    if not 2 <= count <= available:
        what = "recordings" if groups is None else "groups"
        raise RecipeError(
            f"{count} folds of {available} {what}",
            expected=f"2 to {available} folds",
            hint="choose fewer folds" if available > 1 else "name the groups with --group, or record more people",
        )
    drawn = np.zeros(len(records), dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about classes with fewer recordings than folds
        if groups is None:
            smallest = int(np.bincount(labels)[np.unique(labels)].max())
            if smallest < count:  # which scikit-learn refuses
                order = np.random.default_rng(seed).permutation(len(records))
                drawn[order[np.argsort(labels[order], kind="stable")]] = np.arange(len(records)) % count
                return drawn.tolist()
            parts = StratifiedKFold(count, shuffle=True, random_state=seed).split(labels, labels)
        else:
            parts = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(labels, labels, groups)
        for fold, (_, chosen) in enumerate(parts):
            drawn[chosen] = fold
    return drawn.tolist()


def draw_split(records: Sequence[Record], test: float = 0.25, val: float = 0.1, seed: int = 0) -> list[Split]:
    """The part of each recording; all recordings of a group are in one part.

    Args:
        records: of the whole data set.
        test, val: shares of the recordings, which groups of differing size meet as closely as they can; 0 for none.
        seed: of the draw; the same one gives the same split.

    Raises:
        RecipeError: shares that leave nothing to train on, or too few groups (or recordings) for the parts.
    """
    if min(test, val) < 0 or test + val >= 1:
        raise RecipeError(
            f"{test:g} of the recordings test and {val:g} validate",
            expected="shares of 0 or more whose sum is below 1",
            hint="lower --test or --val",
        )
    parts: list[Split] = ["train"] * len(records)
    remaining = list(range(len(records)))
    wanted: tuple[tuple[Split, float], ...] = (("test", test), ("val", val / (1 - test)))
    for part, share in wanted:
        if share:
            chosen = set(_draw_share([records[number] for number in remaining], share, seed))
            for place in chosen:
                parts[remaining[place]] = part
            remaining = [number for place, number in enumerate(remaining) if place not in chosen]
    return parts


def _draw_share(records: Sequence[Record], share: float, seed: int) -> list[int]:
    """Numbers of about that share of the recordings."""
    groups = _groups(records)
    available = len(records) if groups is None else len(set(groups.tolist()))
    sizes = range(2, min(_FINEST, available) + 1)
    if not sizes:
        raise RecipeError(
            f"{available} group{'s' * (available != 1)} left to draw from",
            expected="at least two people or sources for each part",
            hint="set --test or --val to 0, or record more people",
        )
    count = min(sizes, key=lambda size: (abs(max(1, round(share * size)) / size - share), size))
    folds, taken = draw_folds(records, count, seed), max(1, round(share * count))
    return [number for number, fold in enumerate(folds) if fold < min(taken, count - 1)]


def _groups(records: Sequence[Record]) -> Int[np.ndarray, " N"] | None:
    """A number for the group of each recording; None where there are no groups."""
    names = [record.group for record in records]
    if not any(names):
        return None
    return np.unique(names, return_inverse=True)[1]
