"""A data set in shards, as ``muybridge pack`` makes it of any other."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import field_validator

from muybridge.core.contracts import ClipData, Holds
from muybridge.core.errors import DataError
from muybridge.core.packed import PackedPath, is_address
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig, Index, Split
from muybridge.data.shards.pack_index import Contents, PackIndex, Pairs, read_index
from muybridge.data.shards.skeletons import read_packed_skeleton
from muybridge.media.video import Video


class Pack(DatasetConfig):
    """A pack of any data set: recordings, classes, groups and split are those that it was made of.

    Attributes:
        root: its folder, or the address of it (``https://...``) on a server that gives parts of files.
        contents: classes and kind of recordings, as the pack says of itself; a run folder keeps them.
    """

    content_settings: ClassVar[tuple[str, ...]] = ("identity",)
    name: Literal["pack"] = "pack"
    root: str
    contents: Contents | None = None

    @field_validator("root", mode="before")
    @classmethod
    def _text(cls, root: str | Path) -> str:
        return str(root).rstrip("/") or "/"

    def resolved(self) -> Self:
        """With an absolute root, and with the contents."""
        return self.model_copy(update={"root": self._place(), "contents": self._contents()})

    @property
    def identity(self) -> str:
        """The checksum of the index, which holds those of all recordings."""
        return self._pack().info.index

    def labels(self) -> tuple[str, ...]:
        """Those of the data set that was packed."""
        return self._contents().labels

    def holds(self) -> Holds:
        """What the data set holds that was packed."""
        return self._contents().holds()

    def mirror(self) -> Mapping[int, int] | None:
        """As in the data set that was packed."""
        return _map(self._contents().mirror)

    def reverse(self) -> Mapping[int, int] | None:
        """As in the data set that was packed."""
        return _map(self._contents().reverse)

    def multi_label(self) -> bool:
        """As in the data set that was packed."""
        return self._contents().multi_label

    def superclasses(self) -> tuple[str, ...]:
        """As in the data set that was packed."""
        return self._contents().superclasses

    def describe_split(self) -> str:
        """How the split was made when it was packed, in words."""
        held_out = f"; held out for validation: {', '.join(self.val_groups)}" if self.val_groups else ""
        return f"{self._pack().info.split} (as packed){held_out}"

    def index(self, split: Split) -> Index:
        """The recordings of one split, as packed; with ``val_groups``, these validate in place of the packed part."""
        pack = self._pack()
        rows = pack.rows
        records = map(pack.record, rows.values())
        if self.val_groups:
            return self.split_records(split, records, is_test=lambda record: rows[record.id].split == "test")
        return self.split_records(
            split,
            records,
            is_test=lambda record: rows[record.id].split == "test",
            is_val=lambda record: rows[record.id].split == "val",
        )

    def open(self, record: Record) -> SkeletonSequence | Video:
        """The recording, with the content that was packed.

        Raises:
            DataError: it could not be read when it was packed; or the shard is missing, corrupt, of another pack, or
                cannot be reached.
        """
        pack = self._pack()
        row = pack.rows[record.id]
        if row.error is not None:
            problem, expected, hint = row.error
            raise DataError(problem, expected=expected, hint=hint, where=record.path)
        assert isinstance(record.path, PackedPath)
        record.path.on_disk()
        holds = self._contents().holds()
        if isinstance(holds, ClipData):
            return Video.of_part(record.path, 1 if holds.channels == 1 else 3, row.part)
        return read_packed_skeleton(record.path)

    def _place(self) -> str:
        return self.root if is_address(self.root) else str(Path(self.root).expanduser().resolve())

    def _contents(self) -> Contents:
        return self.contents or self._pack().info.contents

    def _pack(self) -> PackIndex:
        """The pack as it is now; raises DataError if it contains something else than it did."""
        pack = read_index(self._place())
        if self.contents is not None and self.contents != pack.info.contents:
            raise DataError(
                "the pack has other classes, or another kind of recordings, than the run",
                expected="the pack that the run was trained on, or one with the same classes",
                hint="correct data.root, or leave data.contents out",
                where=self.root,
            )
        return pack


def _map(pairs: Pairs | None) -> dict[int, int] | None:
    return None if pairs is None else dict(pairs)
