"""What the official lists of a benchmark name, what is there, and what is missing or broken."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.data.datasets.base import Benchmark, Split
from muybridge.data.datasets.official import OfficialVideos
from muybridge.data.summary import SPLITS
from muybridge.prepare.video_index import IndexedVideo

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One recording that is listed.

    Attributes:
        id: of the recording.
        part: ``train`` or ``test``.
        label: the name of its class.
        path: of its video; None if it does not exist.
    """

    id: str
    part: str
    label: str
    path: Path | None


@dataclass(frozen=True, slots=True)
class Inventory:
    """The counts of a benchmark.

    Attributes:
        expected: recordings as published, by part; empty where that is not known.
        entries: every recording that is listed.
        broken: why videos cannot be read, by their path.
        may_be_missing: whether training goes on without missing videos.
    """

    expected: Mapping[str, int]
    entries: tuple[Entry, ...]
    broken: Mapping[Path, str]
    may_be_missing: bool = False

    @property
    def missing(self) -> tuple[Entry, ...]:
        """The recordings whose video does not exist."""
        return tuple(entry for entry in self.entries if entry.path is None)

    @property
    def ready(self) -> bool:
        """Whether the header of every listed recording can be read, of those that exist where some may be missing."""
        return not self.broken and (self.may_be_missing or not self.missing)

    def rows(self) -> list[dict[str, Any]]:
        """For each part: expected, listed, found, missing, broken."""
        return [self._row(part) for part in ("train", "test")]

    def missing_by_class(self) -> dict[str, tuple[int, int]]:
        """For each class of which recordings are missing, how many, and of how many."""
        listed = Counter(entry.label for entry in self.entries)
        missing = Counter(entry.label for entry in self.missing)
        return {label: (missing[label], listed[label]) for label in sorted(missing)}

    def as_dict(self) -> dict[str, Any]:
        """The inventory as JSON types, with every recording that is missing or broken."""
        return {
            "parts": self.rows(),
            "missing": [{"id": entry.id, "part": entry.part, "label": entry.label} for entry in self.missing],
            "missing_by_class": {
                label: {"missing": missing, "listed": listed}
                for label, (missing, listed) in self.missing_by_class().items()
            },
            "broken": {str(path): error for path, error in self.broken.items()},
        }

    def lines(self) -> list[str]:
        """A table, and the first of what is missing or broken."""
        columns = ("part", "expected", "listed", "found", "missing", "broken")
        lines = [f"  {columns[0]:<6}" + "".join(f"{name:>10}" for name in columns[1:])]
        for row in self.rows():
            words = ("" if row[name] is None else f"{row[name]:,}" for name in columns[1:])
            lines.append(f"  {row['part']:<6}" + "".join(f"{word:>10}" for word in words))
        by_class = self.missing_by_class()
        if by_class:
            worst = sorted(by_class, key=lambda label: (-by_class[label][0] / by_class[label][1], label))
            lines.append(f"missing recordings are of {len(by_class)} of the classes, such as")
            lines += [f"  {label}: {by_class[label][0]} of {by_class[label][1]}" for label in worst[:_SHOWN]]
        if self.broken:
            lines.append("broken videos, such as")
            lines += [f"  {path}: {error}" for path, error in list(self.broken.items())[:_SHOWN]]
        return lines

    def _row(self, part: str) -> dict[str, Any]:
        entries = [entry for entry in self.entries if entry.part == part]
        missing = sum(entry.path is None for entry in entries)
        return {
            "part": part,
            "expected": self.expected.get(part),
            "listed": len(entries),
            "found": len(entries) - missing,
            "missing": missing,
            "broken": sum(entry.path in self.broken for entry in entries),
        }


def list_entries(data: Benchmark) -> tuple[Entry, ...]:
    """Every recording that the lists name, with its video where that exists.

    Raises:
        DataError: a list cannot be read, or there is no folder of videos.
    """
    names = data.labels()
    if isinstance(data, OfficialVideos):
        files = data.files()
        places = [(entry, data.locate(entry, files)) for entry in data.listed()]
        return tuple(
            Entry(entry.id, "test" if entry.tests else "train", names[entry.label], place[0] if place else None)
            for entry, place in places
        )
    parts: dict[Split, str] = {"train": "train", "val": "train", "test": "test"}
    return tuple(
        Entry(record.id, parts[split], names[record.label], record.path if record.path.exists() else None)
        for split in SPLITS
        for record in data.index(split).records
    )


def take_inventory(data: Benchmark, entries: Sequence[Entry], videos: Sequence[IndexedVideo]) -> Inventory:
    """The counts of a benchmark whose videos were indexed."""
    root = data.folder()
    broken = {root / video.path: video.error for video in videos if video.error}
    expected = {part: count for part, count in data.official_counts().items() if part in ("train", "test")}
    may_be_missing = isinstance(data, OfficialVideos) and data.missing_videos == "exclude"
    return Inventory(expected, tuple(entries), broken, may_be_missing)
