"""Which recordings a run was trained and is tested on, kept in its folder and compared with what is there later."""

import csv
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from muybridge.core.errors import RunError
from muybridge.core.files import fingerprint
from muybridge.core.packed import PackedPath
from muybridge.core.types import Record, Span, span_text, spans_overlap
from muybridge.data.datasets.base import DatasetConfig, Index, Split, preview

SPLITS: tuple[Split, ...] = ("train", "val", "test")

MAX_READ = 2**22
"""Bytes of a file that is read in full for its fingerprint, as files of skeletons are."""

MAX_FINGERPRINTS = 50_000
"""In larger data sets the contents are not read: files are compared by size and by time of change alone."""


@dataclass(frozen=True, slots=True)
class SavedRecord:
    """One recording when the training started.

    Attributes:
        split: train, val or test.
        id: see :class:`Record`.
        path: relative to the folder of the data where possible.
        label: class name, or several.
        group: see :class:`Record`.
        bytes: size of the file; of a folder, 0.
        modified: time of the last change, in nanoseconds; 0 if there is no such file, or its time is not known.
        fingerprint: hash of the content; empty where it was not read.
        span: start and end in seconds, as ``1.5-3.25``; empty for the whole file.
    """

    split: str
    id: str
    path: str
    label: str
    group: str
    bytes: int
    modified: int
    fingerprint: str
    span: str = ""

    def is_content_of(self, record: Record) -> bool:
        """Whether a recording is still what it was; the file is read only if it was written since."""
        if self.span != span_text(record.span):
            return False
        path = record.path
        size, modified = _stamp(path)
        if not (self.modified or self.fingerprint) or (modified and (size, modified) == (self.bytes, self.modified)):
            return True
        if size != self.bytes or not self.fingerprint:
            return False
        return self.fingerprint == _fingerprint(path)


_NUMBERS = ("bytes", "modified")


@dataclass(frozen=True, slots=True)
class SplitChanges:
    """How the recordings of a data set differ from those that a run was started with, by ids.

    Attributes:
        removed: recordings that are gone.
        changed: files with another content.
        relabeled: recordings of another class.
        added: new recordings.
    """

    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    relabeled: tuple[str, ...] = ()
    added: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.removed or self.changed or self.relabeled or self.added)

    def __str__(self) -> str:
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        return "; ".join(f"{len(ids)} {name}: {preview(ids)}" for name, ids in parts.items() if ids)


class SavedSplit:
    """The recordings of all splits, as ``split.csv`` of a run folder holds them."""

    def __init__(self, records: Iterable[SavedRecord]) -> None:
        self.records = tuple(records)

    @classmethod
    def of(cls, data: DatasetConfig, indexes: Mapping[Split, Index]) -> "SavedSplit":
        """What a data set holds now."""
        labels, base = data.labels(), _base(data)
        pairs = [(split, record) for split, index in indexes.items() for record in index.records]
        paths = list(dict.fromkeys(record.path for _, record in pairs))
        with ThreadPoolExecutor(8) as pool:
            stamps = dict(zip(paths, pool.map(_stamp, paths), strict=True))
            read = len(paths) <= MAX_FINGERPRINTS
            prints = dict(zip(paths, pool.map(_fingerprint, paths) if read else [""] * len(paths), strict=True))
        return cls(
            SavedRecord(
                split,
                record.id,
                _relative(record.path, base),
                record.label_text(labels),
                record.group,
                *stamps[record.path],
                prints[record.path],
                span_text(record.span),
            )
            for split, record in pairs
        )

    @classmethod
    def read(cls, path: Path) -> "SavedSplit":
        """Read ``split.csv``; raises RunError if it is damaged."""
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return cls.parse(file, path)
        except (OSError, ValueError) as error:
            raise _damaged(error, path) from None

    @classmethod
    def parse(cls, lines: Iterable[str], where: Path) -> "SavedSplit":
        """The lines of ``split.csv`` of a run at ``where``; raises RunError if they are damaged."""
        try:
            rows = list(csv.DictReader(lines))
            records = [SavedRecord(**{**row, **{name: int(row[name]) for name in _NUMBERS}}) for row in rows]  # pyright: ignore[reportArgumentType]
            for record in records:
                _parse_span(record.span)
            return cls(records)
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            raise _damaged(error, where) from None

    def write(self, path: Path) -> None:
        """Write ``split.csv``."""
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(SavedRecord)])
            writer.writeheader()
            writer.writerows([asdict(record) for record in self.records])

    def ids(self, *splits: str) -> set[str]:
        """Ids of the recordings of some splits."""
        return {record.id for record in self.records if record.split in splits}

    def changes(self, data: DatasetConfig, current: Mapping[str, Record]) -> SplitChanges:
        """How the data set differs now from what this says.

        Args:
            data: the data set.
            current: its recordings of all splits by id, from :func:`current_records`.
        """
        labels = data.labels()
        saved = {record.id: record for record in self.records}
        both = [(record, current[id_]) for id_, record in saved.items() if id_ in current]
        return SplitChanges(
            removed=tuple(id_ for id_ in saved if id_ not in current),
            changed=tuple(record.id for record, now in both if not record.is_content_of(now)),
            relabeled=tuple(record.id for record, now in both if record.label != now.label_text(labels)),
            added=tuple(sorted(current.keys() - saved.keys())),
        )

    def trained_on(self, records: Iterable[Record]) -> list[str]:
        """Ids of those recordings that are in the training part, by id or by content, parts of files by the time."""
        trained = [record for record in self.records if record.split == "train"]
        ids, spans = {record.id for record in trained}, defaultdict[str, list[Span | None]](list)
        for record in trained:
            if record.fingerprint:
                spans[record.fingerprint].append(_parse_span(record.span))
        return [record.id for record in records if record.id in ids or (spans and _was_shown(record, spans))]


def _was_shown(record: Record, spans: Mapping[str, list[Span | None]]) -> bool:
    """Whether a part of the recording is among spans of files, by the fingerprints of these."""
    return any(spans_overlap(record.span, span) for span in spans.get(_fingerprint(record.path), ()))


def _parse_span(text: str) -> Span | None:
    """The span that a text of :func:`_span_text` means; raises ValueError where it means none."""
    if not text:
        return None
    start, end = text.split("-")
    return float(start), float(end)


def _damaged(error: Exception, where: Path) -> RunError:
    return RunError(
        f"damaged ({error})",
        expected="the table of recordings that the training wrote",
        hint="restore it or train again",
        where=where,
    )


def current_indexes(data: DatasetConfig) -> dict[Split, Index]:
    """The index of every split as the data set holds it now; raises DataError if there is no training part."""
    return {split: data.index(split) for split in SPLITS}


def current_records(indexes: Mapping[Split, Index]) -> dict[str, Record]:
    """The recordings of all splits by id."""
    return {record.id: record for index in indexes.values() for record in index.records}


def _base(data: DatasetConfig) -> Path | None:
    """The folder that paths of recordings are written relative to."""
    root = getattr(data, "root", None) or os.environ.get("MUYBRIDGE_DATA")
    folder = Path(root).expanduser().resolve() if root else None
    return folder.parent if folder and folder.is_file() else folder


def _relative(path: Path, base: Path | None) -> str:
    path = Path(os.path.abspath(path))  # not resolved: a link stands for its own name
    return (path.relative_to(base) if base and path.is_relative_to(base) else path).as_posix()


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change; zeros where there is no such file."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return (0 if path.is_dir() else status.st_size), status.st_mtime_ns


def _fingerprint(path: Path) -> str:
    """A hash of the content, of large files of their ends alone; empty if it cannot be read."""
    if isinstance(path, PackedPath):
        return path.checksum
    try:
        if path.is_dir() or path.stat().st_size > MAX_READ:
            return fingerprint(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "blake2b").hexdigest()[:32]
    except OSError:
        return ""
