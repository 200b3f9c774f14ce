"""Classes that a single frame, or the background alone, already tells: then movement is not what is learned.

Legend: N recordings, D numbers that describe one.
"""

from collections.abc import Sequence

import numpy as np

from muybridge.baseline.classifiers import fit_linear
from muybridge.data.datasets.base import Split
from muybridge.doctor.findings import Finding, Item
from muybridge.doctor.observe import Observed

TOLD = 90.0
"""Percent of a class, or of all recordings, that a still picture gets right, from which on movement is not needed."""

_FEWEST = 5  # tested recordings of a class of which a share is said
_NAMES = {"one frame": "a single random frame", "background": "the background alone"}


def check_shortcuts(observed: Sequence[Observed], labels: Sequence[str]) -> list[Finding]:
    """How far a linear classifier gets on one frame, and on the background, fitted on train and tested on the test."""
    seen = [one for one in observed if one.described is not None]
    train = [one for one in seen if one.split == "train"]
    test = [one for one in seen if one.split == _tested(seen)]
    if len({one.record.label for one in train}) < 2 or not test:
        return []
    known, truth = (np.array([one.record.label for one in part]) for part in (train, test))
    groups = [one.record.group for one in train]
    chance = 100 * max(np.bincount(truth)) / len(truth)
    findings = []
    for name, words in _NAMES.items():
        if train[0].described is None or name not in train[0].described.vectors:
            continue
        fitted = fit_linear(_features(train, name), known, groups)
        right = fitted.model.predict(_features(test, name)[fitted.description]) == truth
        findings.append(_finding(words, right, truth, labels, chance))
    return findings


def _tested(seen: Sequence[Observed]) -> Split:
    return "test" if any(one.split == "test" for one in seen) else "val"


def _features(part: Sequence[Observed], name: str) -> dict[str, np.ndarray]:
    """The alternative descriptions of recordings for one baseline."""
    vectors = [one.described.vectors[name] for one in part if one.described is not None]
    return {key: np.stack([each[key] for each in vectors]) for key in vectors[0]}


def _finding(words: str, right: np.ndarray, truth: np.ndarray, labels: Sequence[str], chance: float) -> Finding:
    shares = {
        int(label): 100 * float(right[truth == label].mean())
        for label in np.unique(truth)
        if (truth == label).sum() >= _FEWEST
    }
    told = sorted((label for label, share in shares.items() if share >= TOLD), key=lambda label: -shares[label])
    items = tuple(Item((), (), f"{labels[label]}: {shares[label]:.0f} % of its recordings") for label in told)
    accuracy = 100 * float(right.mean())
    problem = f"{words} tells {accuracy:.0f} % of the tested recordings (the most frequent class is {chance:.0f} %)"
    cure = (
        "record the same people and places doing all actions, so that only the movement differs"
        if accuracy >= TOLD
        else "compare a trained model with this; it has learned movement only where it is better"
    )
    return Finding(f"what {words} tells", "warning" if accuracy >= TOLD else "note", problem, cure, items)
