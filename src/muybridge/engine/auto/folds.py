"""Validation inside the training part: which of its recordings are held out in turn; the test part takes no part."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muybridge.core.rng import derive_seed
from muybridge.core.types import Record
from muybridge.data.datasets import Pack
from muybridge.data.datasets.class_folder import ClassFolder

MAX_PARTS = 3

Searched = ClassFolder | Pack
"""The data sets whose training part a search divides anew."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One way to hold out recordings for validation.

    Attributes:
        settings: of the data, by dotted names.
        train, val: ids of the recordings.
    """

    settings: Mapping[str, Any]
    train: frozenset[str]
    val: frozenset[str]


FINAL = {"data.val_groups": [], "data.val_fraction": 0.0}
"""Settings with which nothing is held out, for the training of the answer."""


def training_records(data: Searched) -> tuple[Record, ...]:
    """All recordings but those of the test part."""
    everything = data.model_copy(update={"val_groups": (), "val_fraction": 0.0})
    return (*everything.index("train").records, *everything.index("val").records)


def make_folds(data: Searched) -> list[Fold]:
    """Ways to hold out a third of the training part: whole groups where they are known, else a third of each class.

    A folder of validation recordings, and ``val_groups``, are taken as they are; the parts of a pack, which may have
    been drawn, are not. There are none where holding out
    leaves no two classes to train on.
    """
    records = training_records(data)
    groups = Counter(record.group for record in records if record.group)
    if data.val_groups or (isinstance(data, ClassFolder) and {"val", "test"} <= set(data.scan().folders.values())):
        ways: list[dict[str, Any]] = [{}]
    elif groups:
        ways = [{"data.val_groups": sorted(part)} for part in share_groups(groups) if len(part) < len(groups)]
    else:
        total = sum(len(data.index(split).records) for split in ("train", "val", "test"))
        share = len(records) / total / MAX_PARTS
        ways = [{"data.val_fraction": share, "data.val_part": part} for part in range(MAX_PARTS)]
    folds = [_fold(data, settings) for settings in ways]
    labels = {record.id: record.label for record in records}
    usable = (fold for fold in folds if fold.val and len({labels[id_] for id_ in fold.train}) > 1)
    return list({fold.val: fold for fold in usable}.values())


def share_groups(sizes: Mapping[str, int]) -> list[set[str]]:
    """Groups in at most three parts of about as many recordings; the largest are placed first."""
    parts: list[set[str]] = [set() for _ in range(min(MAX_PARTS, len(sizes)))]
    for name in sorted(sizes, key=lambda name: (-sizes[name], derive_seed("val", name))):
        min(parts, key=lambda part: sum(sizes[other] for other in part)).add(name)
    return parts


def _fold(data: Searched, settings: Mapping[str, Any]) -> Fold:
    values = {name.removeprefix("data."): value for name, value in settings.items()}
    changed = type(data).model_validate(data.model_dump() | values)
    train, val = (frozenset(record.id for record in changed.index(split).records) for split in ("train", "val"))
    return Fold(settings, train, val)
