"""What the checks of a data set find, and what follows from it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from muybridge.core.types import Record
from muybridge.data.datasets.base import DatasetConfig

Level = Literal["error", "warning", "note"]
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
"""An error makes training fail, or its result wrong; a warning is worth a look; a note is only information."""


@dataclass(frozen=True, slots=True)
class Item:
    """One recording, or pair of recordings, that a finding is about.

    Attributes:
        ids: of the recordings; empty where none is concerned.
        files: theirs, or the file or folder that is wrong.
        detail: what is wrong with it.
    """

    ids: tuple[str, ...]
    files: tuple[Path, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of fault with all recordings that have it.

    Attributes:
        check: its name in a few words.
        level: how bad it is.
        problem: what is wrong, a sentence.
        cure: what to do.
        items: where.
        remove: ids of the recordings that a cleaned list leaves out.
    """

    check: str
    level: Level
    problem: str
    cure: str
    items: tuple[Item, ...] = ()
    remove: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON types."""
        return {
            "check": self.check,
            "level": self.level,
            "problem": self.problem,
            "cure": self.cure,
            "recordings": [
                {"ids": list(item.ids), "files": list(map(str, item.files)), "detail": item.detail}
                for item in self.items
            ],
            "remove": list(self.remove),
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All findings about a data set.

    Attributes:
        name: of the data set.
        counts: recordings of each part of the split.
        labels: class names.
        findings: the worst first.
        seconds: that the examination took.
        records: all readable recordings with the part they are in; empty where the data set cannot be indexed.
        data: the data set, without files that stop it from being read; None likewise.
    """

    name: str
    counts: Mapping[str, int]
    labels: tuple[str, ...]
    findings: tuple[Finding, ...]
    seconds: float
    records: tuple[tuple[str, Record], ...] = field(default=(), repr=False)
    data: DatasetConfig | None = field(default=None, repr=False)

    @property
    def ready(self) -> bool:
        """Whether a training should start: nothing is an error."""
        return all(finding.level != "error" for finding in self.findings)

    @property
    def removed(self) -> frozenset[str]:
        """Ids of the recordings that a cleaned list leaves out."""
        return frozenset(id_ for finding in self.findings for id_ in finding.remove)

    @property
    def verdict(self) -> str:
        """One sentence."""
        counts = Counter(finding.level for finding in self.findings)
        found = ", ".join(f"{counts[level]} {level}{'s' * (counts[level] != 1)}" for level in LEVELS if counts[level])
        start = "training can start" if self.ready else "do not train on this yet"
        return f"{start}: {found or 'nothing is wrong'}"

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis as JSON types."""
        return {
            "name": self.name,
            "ready": self.ready,
            "verdict": self.verdict,
            "counts": dict(self.counts),
            "classes": list(self.labels),
            "seconds": round(self.seconds, 2),
            "findings": [finding.as_dict() for finding in self.findings],
        }


def item(record: Record, detail: str = "") -> Item:
    """A single recording as part of a finding."""
    return Item((record.id,), (record.path,), detail)


def pair(first: Record, second: Record, detail: str = "") -> Item:
    """Two recordings as part of a finding."""
    return Item((first.id, second.id), (first.path, second.path), detail)


def finding_of(
    check: str, level: Level, problem: str, cure: str, items: Sequence[Item], remove: Iterable[str] = ()
) -> list[Finding]:
    """The finding about some recordings, or none where there are none; see :class:`Finding`."""
    return [Finding(check, level, problem, cure, tuple(items), tuple(dict.fromkeys(remove)))] if items else []


def ordered(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst first, otherwise as they come."""
    return tuple(sorted(findings, key=lambda finding: LEVELS.index(finding.level)))
