"""What a data set contains, before anything is trained on it: counts, how it is split, and what is probably wrong."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from muybridge.core.files import describe_unread, find_duplicates
from muybridge.core.types import Record, Span
from muybridge.data.datasets.base import DatasetConfig, Excluded, Split, preview

SPLITS: tuple[Split, ...] = ("train", "val", "test")

MAX_COMPARED = 50_000
"""In larger data sets recordings are not compared by content."""

_MAX_CLASSES, _MAX_GROUPS, _MAX_PAIRS = 30, 12, 3


@dataclass(frozen=True, slots=True)
class DataSummary:
    """Counts of a data set by split, class and group, and notices.

    Attributes:
        name: of the data set.
        labels: class names in label order.
        counts: recordings of each class, by split, in label order.
        groups: recordings of each group (person or source), by split; empty if no groups are known.
        split: how the split was made.
        excluded: recordings that are excluded, by split.
        unread: files in the folder that are no recordings, by suffix.
        warnings: what is probably wrong.
        notices: what else a user should know.
    """

    name: str
    labels: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    groups: Mapping[str, Mapping[str, int]]
    split: str
    excluded: Mapping[str, tuple[Excluded, ...]]
    unread: Mapping[str, int]
    warnings: tuple[str, ...]
    notices: tuple[str, ...]

    @property
    def total(self) -> int:
        """Recordings in all splits."""
        return sum(map(sum, self.counts.values()))

    def lines(self) -> list[str]:
        """The summary as text, a few lines to print before training."""
        groups = {group for part in self.groups.values() for group in part}
        people = f" of {count(len(groups), 'group')}" if groups else ""
        lines = [f"{count(self.total, 'recording')} in {count(len(self.labels), 'class')}{people}"]
        for split in SPLITS:
            members = sorted(self.groups[split])
            named = f", {count(len(members), 'group')}: {preview(members, _MAX_GROUPS)}" if members else ""
            lines.append(f"  {split:<6}{sum(self.counts[split]):>6}{named}")
        lines += self._class_lines()
        lines.append(f"split: {self.split}")
        if excluded := [recording for part in self.excluded.values() for recording in part]:
            first = f"{excluded[0].id}: {excluded[0].reason}"
            lines.append(f"{count(len(excluded), 'recording')} excluded, such as {first}")
        if self.unread:
            lines.append(describe_unread(self.unread))
        return lines + [f"note: {text}" for text in self.notices] + [f"warning: {text}" for text in self.warnings]

    def as_dict(self) -> dict[str, Any]:
        """The summary as JSON types."""
        tree = asdict(self)
        tree["excluded"] = {
            split: [{"id": recording.id, "path": str(recording.path), "reason": recording.reason} for recording in part]
            for split, part in self.excluded.items()
        }
        tree["counts"] = {split: dict(zip(self.labels, part, strict=True)) for split, part in self.counts.items()}
        return tree

    def _class_lines(self) -> list[str]:
        """Recordings of each class by split; of many classes, the smallest and the largest number."""
        if len(self.labels) > _MAX_CLASSES:
            return [
                f"  {split}: {min(part)} to {max(part)} recordings of a class" for split, part in self.counts.items()
            ]
        width = min(40, max(5, *map(len, self.labels)))
        rows = zip(self.labels, *(self.counts[split] for split in SPLITS), strict=True)
        head = f"  {'class':<{width}}" + "".join(f"{split:>7}" for split in SPLITS)
        return [head, *(f"  {name:<{width}}" + "".join(f"{n:>7}" for n in numbers) for name, *numbers in rows)]


def summarize(data: DatasetConfig) -> DataSummary:
    """Count the recordings of a data set by split, class and group, and look for what is probably wrong.

    Recordings of equal size are compared by content.

    Raises:
        DataError: the data set cannot be indexed.
    """
    indexes = {split: data.index(split) for split in SPLITS}
    records = {split: index.records for split, index in indexes.items()}
    labels = data.labels()
    counts = {split: _count_labels(part, len(labels)) for split, part in records.items()}
    return DataSummary(
        name=getattr(data, "name", ""),
        labels=labels,
        counts=counts,
        groups={split: Counter(record.group for record in part if record.group) for split, part in records.items()},
        split=data.describe_split(),
        excluded={split: index.excluded for split, index in indexes.items()},
        unread=dict(data.unread()),
        warnings=(*_rare_classes(labels, counts), *_single_groups(records, labels), *_duplicates(records, labels)),
        notices=data.notices(),
    )


def _count_labels(records: Iterable[Record], classes: int) -> tuple[int, ...]:
    counts = Counter(label for record in records for label in record.classes)
    return tuple(counts[label] for label in range(classes))


def _rare_classes(labels: tuple[str, ...], counts: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Warnings about classes that cannot be learned, or are not tested."""

    def where(split: str, number: int) -> str:
        names = [name for name, seen in zip(labels, counts[split], strict=True) if seen == number]
        return f"{count(len(names), 'class')}: {preview(names)}" if names else ""

    warnings = {
        "no training recordings of": where("train", 0),
        "a single training recording of": where("train", 1),
        "no test recordings of": where("test", 0),
    }
    return [f"{text} {names}" for text, names in warnings.items() if names]


def _single_groups(records: Mapping[str, tuple[Record, ...]], labels: tuple[str, ...]) -> list[str]:
    """A warning about classes all of whose recordings are of one group, in a data set of several groups."""
    groups: dict[int, list[str]] = {}
    for record in (record for part in records.values() for record in part if record.group):
        for label in record.classes:
            groups.setdefault(label, []).append(record.group)
    if len(set().union(*groups.values())) < 2:
        return []
    repeated = {label: set(names) for label, names in sorted(groups.items()) if len(names) > 1}
    single = [f"{labels[label]} ({next(iter(names))})" for label, names in repeated.items() if len(names) == 1]
    if not single:
        return []
    text = "all recordings are of one group, so the person or source cannot be told from the action"
    return [f"{count(len(single), 'class')} of which {text}: {preview(single)}"]


def _duplicates(records: Mapping[str, tuple[Record, ...]], labels: tuple[str, ...]) -> list[str]:
    """Warnings about recordings with equal content: in several splits, with several labels, or just repeated."""
    places: dict[Path, list[tuple[str, Record]]] = {}
    for split, part in records.items():
        for record in part:
            places.setdefault(record.path, []).append((split, record))
    if len(places) > MAX_COMPARED:
        return []
    leaks, conflicts, repeated = [], [], []
    for (first_split, first), (split, record) in equal_recordings(places):
        if split != first_split:
            leaks.append(f"{first.id} ({first_split}) = {record.id} ({split})")
        else:
            repeated.append(f"{first.id} = {record.id}")
        if set(record.classes) != set(first.classes):
            conflicts.append(f"{first.id} ({first.label_text(labels)}) = {record.id} ({record.label_text(labels)})")
    warnings = (
        (leaks, "equal content in several parts of the split, so the test is too easy"),
        (conflicts, "equal content with different labels"),
        (repeated, "equal content in one part of the split"),
    )
    return [f"{text} ({count(len(pairs), 'pair')}): {preview(pairs, _MAX_PAIRS)}" for pairs, text in warnings if pairs]


Placed = tuple[str, Record]
"""A recording with the part of the split that it is in."""


def equal_recordings(places: Mapping[Path, list[Placed]]) -> Iterator[tuple[Placed, Placed]]:
    """Pairs of recordings that are the same: equal files played alike, or parts of one file that overlap."""
    equal = find_duplicates(places)
    repeated = set(places) - {path for group in equal for path in group}
    for paths in [*equal, *((path,) for path in places if path in repeated and len(places[path]) > 1)]:
        for backwards in (False, True):
            group = [placed for path in paths for placed in places[path] if placed[1].backwards == backwards]
            longest: Placed | None = None  # of those so far the one that ends last
            for placed in sorted(group, key=lambda placed: _span_of(placed)[0]):
                if longest and _span_of(placed)[0] < _span_of(longest)[1]:
                    yield longest, placed
                if longest is None or _span_of(placed)[1] > _span_of(longest)[1]:
                    longest = placed


def _span_of(placed: Placed) -> Span:
    return placed[1].span or (0.0, math.inf)


def count(number: int, noun: str) -> str:
    """A number of things, in the singular or the plural."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"
