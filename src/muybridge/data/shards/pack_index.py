"""What a pack says of itself: its description ``pack.json``, and ``index.jsonl`` with a line for each recording."""

import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from muybridge.core.addresses import is_address, read_address
from muybridge.core.contracts import ClipData, Holds, SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.packed import PACK_FILE, PackedPath, checksum_of
from muybridge.core.skeletons import get_layout
from muybridge.core.types import Record
from muybridge.data.joint_settings import JointSettings
from muybridge.media.video import VideoPart

INDEX_FILE = "index.jsonl"
UNFINISHED_FILE = "unfinished.json"
FORMAT = 1

_AGAIN = "copy the pack again, or make it again with `muybridge pack`"

WHOLE = VideoPart()
"""All of a file."""


@dataclass(frozen=True, slots=True)
class Row:
    """A recording of a pack, a line of its index.

    Attributes:
        id: see :class:`Record`.
        key: number of the file in the pack, by which WebDataset names it; parts of one file share it.
        suffix: of the file; empty for a folder of images.
        shard: name of the archive.
        offset, length, checksum: of the file in the archive, see :class:`PackedPath`.
        split: train, val or test.
        labels: class indices; several only where a recording may have several.
        group: see :class:`Record`.
        part: of a video, which part of the file.
        error: why the recording could not be read when it was packed: problem, expectation and hint. It has no bytes.
    """

    id: str
    key: str
    suffix: str
    shard: str
    offset: int
    length: int
    checksum: str
    split: str
    labels: tuple[int, ...]
    group: str = ""
    part: VideoPart = WHOLE
    error: tuple[str, str, str] | None = None

    def as_json(self) -> dict[str, Any]:
        """For JSON, without what is as usual."""
        row = {
            "id": self.id,
            "key": self.key,
            "suffix": self.suffix,
            "shard": self.shard,
            "offset": self.offset,
            "length": self.length,
            "checksum": self.checksum,
            "split": self.split,
            "label": self.labels[0] if len(self.labels) == 1 else list(self.labels),
        }
        optional = {"group": self.group, "span": self.part.span, "frames": self.part.frames, "box": self.part.box}
        row |= {name: value for name, value in optional.items() if value}
        if self.part.fps != WHOLE.fps:
            row["fps"] = self.part.fps
        return row | ({"error": self.error} if self.error else {})

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Row":
        """The recording of a line; raises KeyError, TypeError or ValueError where it is none."""
        labels = row["label"] if isinstance(row["label"], list) else [row["label"]]
        part = VideoPart(*(tuple(row[name]) if name in row else None for name in ("span", "frames", "box")))  # pyright: ignore[reportArgumentType]
        if "fps" in row:
            part = VideoPart(part.span, part.frames, part.box, float(row["fps"]))
        problem, expected, hint = row.get("error", ("", "", ""))
        return cls(
            str(row["id"]),
            str(row["key"]),
            str(row["suffix"]),
            str(row["shard"]),
            int(row["offset"]),
            int(row["length"]),
            str(row["checksum"]),
            str(row["split"]),
            tuple(map(int, labels)),
            str(row.get("group", "")),
            part,
            (problem, expected, hint) if problem else None,
        )


Pairs = tuple[tuple[int, int], ...]


class Contents(BaseModel):
    """The classes and the kind of recordings of a pack.

    Attributes:
        labels: class names.
        channels: of videos, 3 for RGB, 1 for brightness; 0 for skeletons.
        layout, joints, people, coordinates: of skeletons, as in ``skeleton_folder``.
        mirror: pairs of a label and the one that it becomes in a mirror; without it recordings are not mirrored.
        reverse: likewise of playing backwards.
        superclasses: the superclass of each label, where the data set has some.
        multi_label: whether recordings may have several labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    labels: tuple[str, ...]
    channels: Literal[0, 1, 3] = 0
    layout: str = ""
    joints: JointSettings | None = None
    people: int = 0
    coordinates: int = 0
    mirror: Pairs | None = None
    reverse: Pairs | None = None
    superclasses: tuple[str, ...] = ()
    multi_label: bool = False

    def holds(self) -> Holds:
        """The kind of recordings."""
        if self.channels:
            return ClipData(self.channels)
        layout = get_layout(self.layout)
        return SkeletonData(self.joints.layout(layout) if self.joints else layout, self.people, self.coordinates)


class PackInfo(BaseModel):
    """The description of a pack.

    Attributes:
        format: version of the files.
        id: identifier, which every shard carries too.
        source: name of the data set that was packed, as recipes name it.
        split: how the split was made, in words.
        contents: classes and kind of recordings.
        shards: size of each archive in bytes, by name.
        index: checksum of the index.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: int = FORMAT
    id: str = ""
    source: str
    split: str
    contents: Contents
    shards: dict[str, int] = {}
    index: str = ""

    def as_json(self) -> str:
        """For ``pack.json``."""
        return self.model_dump_json(indent=1, exclude_none=True) + "\n"


@dataclass(frozen=True, slots=True)
class PackIndex:
    """A pack as it was read: its place, its description, and its recordings by id in the order of the data set.

    Attributes:
        place: path of the folder, or its address without a slash at the end.
        info: the description.
        rows: the recordings.
    """

    place: str
    info: PackInfo
    rows: Mapping[str, Row]

    def path(self, row: Row) -> PackedPath:
        """The recording of a row, as what reads recordings takes it."""
        name = f"{row.key}{row.suffix}"
        archive = f"{self.place}/{row.shard}"
        return PackedPath(archive, name, row.offset, row.length, row.checksum, self.info.id, folder=not row.suffix)

    def record(self, row: Row) -> Record:
        """The recording of a row, as data sets give it."""
        several = row.labels if self.info.contents.multi_label else ()
        return Record(row.id, self.path(row), row.labels[0], row.group, span=row.part.span, labels=several)


def read_index(place: str) -> PackIndex:
    """A whole pack, as it is now; what did not change since it was read before is not read again.

    Args:
        place: path of its folder, or its address.

    Raises:
        DataError: there is none, it is damaged, of a later version, or its index is that of another pack.
    """
    if is_address(place):
        return _read_parsed(place, 0)
    try:
        return _read_parsed(place, (Path(place) / PACK_FILE).stat().st_mtime_ns)
    except OSError:
        unfinished = (Path(place) / UNFINISHED_FILE).is_file()
        raise DataError(
            "the pack is not finished" if unfinished else f"there is no {PACK_FILE} in it",
            expected="a pack, as `muybridge pack DATA --out DIR` makes it",
            hint="give the same `muybridge pack` command again, which goes on" if unfinished else "correct data.root",
            where=place,
        ) from None


@functools.lru_cache(maxsize=8)
def _read_parsed(place: str, changed: int) -> PackIndex:
    del changed
    text = _content(place, PACK_FILE)
    try:
        tree = json.loads(text)
        if int(tree["format"]) > FORMAT:
            raise DataError(
                f"the pack has format {tree['format']}",
                expected=f"format {FORMAT} at most",
                hint="update muybridge",
                where=place,
            )
        info = PackInfo.model_validate(tree)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        first = problem.errors()[0] if isinstance(problem, ValidationError) else None
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else repr(problem)
        raise DataError(
            f"{PACK_FILE} is damaged ({reason})", expected="the description of a pack", hint=_AGAIN, where=place
        ) from None
    lines = _content(place, INDEX_FILE)
    if checksum_of(lines) != info.index:
        raise DataError(
            f"{INDEX_FILE} is damaged, or that of another pack: its checksum is another than {PACK_FILE} says",
            expected="the index that was made with it",
            hint=_AGAIN,
            where=place,
        )
    return PackIndex(place, info, {row.id: row for row in parse_rows(lines.splitlines())})


def parse_rows(lines: Iterable[bytes]) -> list[Row]:
    """The recordings of an index, whose checksum was compared."""
    return [Row.from_json(json.loads(line)) for line in lines]


def _content(place: str, name: str) -> bytes:
    if is_address(place):
        return read_address(f"{place}/{name}")
    try:
        return (Path(place) / name).read_bytes()
    except OSError as problem:
        raise DataError(
            f"{name} cannot be read ({problem.strerror})", expected="a whole pack", hint=_AGAIN, where=place
        ) from None
