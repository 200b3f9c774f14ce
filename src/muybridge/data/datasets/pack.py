"""A data set in shards, as ``muybridge pack`` makes it of any other."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from muybridge.core.addresses import is_address
from muybridge.core.contracts import ClipData, Holds
from muybridge.core.errors import DataError
from muybridge.core.packed import PackedPath
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig, Index, Split
from muybridge.data.datasets.drawing import draw_val
from muybridge.data.datasets.part_table import Parts, read_parts
from muybridge.data.shards.pack_index import Contents, PackIndex, Pairs, read_index
from muybridge.data.shards.skeletons import read_packed_skeleton
from muybridge.media.video import Video


class Pack(DatasetConfig):
    """A pack of any data set: recordings, classes, groups and split are those that it was made of.

    Attributes:
        root: its folder, or the address of it: ``https://...`` on a server that gives parts of files, or one that
            fsspec knows, such as ``s3://bucket/pack``.
        split: a table of `muybridge split` that says which part each recording is in (columns id and split, or fold);
            empty: the parts as they were packed.
        fold: the fold of such a table that tests; empty: its first.
        val_fraction: share of all groups, or of each class, that is drawn for validation from what does not test;
            empty: what was packed as validation, or what the table says.
        val_part: which of such shares is drawn, from 0.
        contents: classes and kind of recordings, as the pack says of itself; a run folder keeps them.
    """

    content_settings: ClassVar[tuple[str, ...]] = ("identity",)
    name: Literal["pack"] = "pack"
    root: str
    split: Path | None = None
    fold: Annotated[str, Field(coerce_numbers_to_str=True)] = ""
    val_fraction: float | None = Field(default=None, ge=0.0, lt=1.0)
    val_part: int = Field(default=0, ge=0)
    contents: Contents | None = None

    @model_validator(mode="after")
    def _fold_of_a_table(self) -> Self:
        if self.fold and self.split is None:
            raise ValueError("fold is that of a table of folds (data.split), which `muybridge split --folds` writes")
        return self

    @field_validator("root", mode="before")
    @classmethod
    def _text(cls, root: str | Path) -> str:
        return str(root).rstrip("/") or "/"

    def resolved(self) -> Self:
        """With an absolute root, and with the contents."""
        split = self.split and self.split.expanduser().resolve()
        return self.model_copy(update={"root": self._place(), "contents": self._contents(), "split": split})

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

    def folds(self) -> tuple[str, ...]:
        """Those of the table, if it has folds."""
        return self._parts(self._pack()).folds

    def describe_split(self) -> str:
        """How the split was made when it was packed, or which table says it, in words."""
        pack = self._pack()
        parts = self._parts(pack)
        words = f"given by {self.split}" if self.split else f"{pack.info.split} (as packed)"
        if parts.folds:
            words = f"the fold {self._fold(parts)} of {self.split} tests (data.fold chooses it)"
        if self.val_groups:
            return f"{words}; held out for validation: {', '.join(self.val_groups)}"
        if self.val_fraction is None:
            return words
        drawn = f"{self.val_fraction:.0%} of the groups or classes validate, drawn by name"
        return f"{words}; {drawn if self.val_fraction else 'nothing validates (data.val_fraction = 0)'}"

    def index(self, split: Split) -> Index:
        """The recordings of one split, as packed or as the table says; ``val_groups`` or ``val_fraction`` divide anew
        what does not test.

        Raises:
            DataError: the table is not of this pack; see also :meth:`DatasetConfig.index`.
        """
        pack = self._pack()
        parts = self._parts(pack)
        records = list(map(pack.record, pack.rows.values()))
        fold = self._fold(parts)
        test = {id_ for id_, part in parts.of.items() if part == (fold or "test")}
        val = {id_ for id_, part in parts.of.items() if part == "val" and not fold}
        if self.val_groups:
            return self.split_records(split, records, is_test=lambda record: record.id in test)
        if self.val_fraction is not None:
            rest = [record for record in records if record.id not in test]
            val = draw_val(records, rest, self.val_fraction, self.val_part)
        return self.split_records(
            split, records, is_test=lambda record: record.id in test, is_val=lambda record: record.id in val
        )

    def _parts(self, pack: PackIndex) -> Parts:
        """The part of each recording, as packed or as the table says."""
        if self.split is None:
            return Parts("split", {id_: row.split for id_, row in pack.rows.items()})
        return read_parts(self.split.expanduser(), pack.rows.keys())

    def _fold(self, parts: Parts) -> str:
        """The fold that tests; empty where there are none."""
        if self.fold and self.fold not in parts.folds:
            raise DataError(
                f"there are no recordings of the fold {self.fold}",
                expected=f"one of the folds {', '.join(parts.folds) or '(the table has none)'}",
                hint="correct data.fold",
                where=self.split,
            )
        return self.fold or next(iter(parts.folds), "")

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
