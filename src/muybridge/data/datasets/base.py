"""What every data set answers: which recordings there are, how one is opened, what it holds."""

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from muybridge.core.contracts import Holds
from muybridge.core.errors import DataError
from muybridge.core.types import Record, SkeletonSequence
from muybridge.media.arrays import ReadOptions
from muybridge.media.video import Video

Split = Literal["train", "val", "test"]
LabelPairs = tuple[tuple[int | str, int | str], ...]
"""Pairs of classes, by name or number."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A recording left out of an index, and why; the run folder lists them."""

    id: str
    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Index:
    """The recordings of one split, in a stable order, and those left out of it."""

    records: tuple[Record, ...]
    excluded: tuple[Excluded, ...] = ()

    def __len__(self) -> int:
        return len(self.records)


class DatasetConfig(BaseModel):
    """Where a data set lies and which of its protocols is meant: a frozen noun. Unknown knobs are errors.

    Attributes:
        val_groups: people or sources of the training part that are held out for choosing settings; they leave
            ``train`` and make up ``val``. Empty trains on the whole training part and leaves ``val`` empty.
        content_settings: names of the settings that change the frames of a recording, not only which recordings there
            are and how they are split; stored features depend on them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    content_settings: ClassVar[tuple[str, ...]] = ()
    val_groups: tuple[str, ...] = ()

    def resolved(self) -> Self:
        """This config with everything written out that reading the data tells; a run folder keeps this one."""
        return self

    def labels(self) -> tuple[str, ...]:
        """Class names in label order."""
        raise NotImplementedError

    def holds(self) -> Holds:
        """The kind of recording."""
        raise NotImplementedError

    def mirror(self) -> Mapping[int, int] | None:
        """New label of each label that mirroring changes; empty where none does; None where mirroring is forbidden."""
        raise NotImplementedError

    def reverse(self) -> Mapping[int, int] | None:
        """New label of each label that playing backwards changes; empty where none does; None where it is forbidden."""
        return None

    def superclasses(self) -> tuple[str, ...]:
        """For each label the broader class it belongs to, where it is worth knowing how often that is right."""
        return ()

    def folds(self) -> tuple[str, ...]:
        """Values of the field ``fold`` for cross-validation; empty where there is one fixed split."""
        return ()

    def index(self, split: Split) -> Index:
        """The recordings of one split.

        Raises:
            DataError: the folder is missing, is not laid out as expected, or the split is empty.
        """
        raise NotImplementedError

    def open(self, record: Record) -> SkeletonSequence | Video:
        """The recording behind a record; raises DataError with file and line or frame if it cannot be read."""
        raise NotImplementedError

    def read_options(self) -> ReadOptions:
        """How skeleton files and arrays of this kind are read, where they do not say it themselves."""
        return ReadOptions()

    def notices(self) -> tuple[str, ...]:
        """What the recordings show that a user should know before training, a sentence each; reads some of them."""
        return ()

    def boxes(self, record: Record) -> Float32[Tensor, "T 4"] | None:
        """The true box around who acts in each frame (left, top, right, bottom in pixels); None where nobody knows."""
        del record
        return None

    def split_records(
        self,
        split: Split,
        records: Iterable[Record],
        *,
        is_test: Callable[[Record], bool],
        is_val: Callable[[Record], bool] | None = None,
        excluded: Mapping[str, str] | None = None,
    ) -> Index:
        """The part of ``records`` that makes up a split, in the order of their ids.

        Args:
            split: which part.
            records: every recording of the data set.
            is_test: whether a recording belongs to the test part.
            is_val: whether a recording that does not is held out for ``val``; by default, whether its group is in
                ``val_groups``.
            excluded: why a recording is left out, by its id.

        Raises:
            DataError: ``val_groups`` names a group the training part does not have, or the split is empty.
        """
        excluded = excluded or {}
        tested, rest = [], []
        for record in sorted(records, key=lambda record: record.id):
            (tested if is_test(record) else rest).append(record)
        known = {record.group for record in rest}
        if unknown := sorted(set(self.val_groups) - known):
            raise DataError(
                f"val_groups names {', '.join(unknown)}",
                expected=f"groups of the training part: {', '.join(sorted(known)) or 'there are none'}",
                hint="correct data.val_groups",
            )
        is_val = is_val or (lambda record: record.group in self.val_groups)
        part = tested if split == "test" else [record for record in rest if is_val(record) == (split == "val")]
        index = Index(
            tuple(record for record in part if record.id not in excluded),
            tuple(Excluded(record.id, record.path, excluded[record.id]) for record in part if record.id in excluded),
        )
        if not index.records and (split != "val" or self.val_groups):
            raise DataError(
                f"the {split} split is empty",
                expected="at least one usable recording",
                hint="check data.root, data.val_groups and the fold or test groups",
            )
        return index


def swap_map(labels: Sequence[str], pairs: Iterable[tuple[str, str]]) -> dict[int, int]:
    """New label of each label whose class changes places with another one, from the names of such pairs."""
    numbers = [(labels.index(one), labels.index(other)) for one, other in pairs]
    return dict(numbers) | {other: one for one, other in numbers}


def parse_swap_pairs(pairs: LabelPairs | None, labels: Sequence[str], knob: str, where: Path) -> dict[int, int] | None:
    """New label of each label whose class changes places with another one, as the user says it in a knob.

    Args:
        pairs: classes by name or number; None says nothing.
        labels: the names of all classes.
        knob: what the pairs were given as.
        where: the data set's folder.

    Returns:
        As :func:`exchanged`; None where the user said nothing.

    Raises:
        DataError: a pair names no class, or a class is named twice.
    """
    if pairs is None:
        return None
    numbers: list[int] = []
    for one in itertools.chain.from_iterable(pairs):
        number = one if isinstance(one, int) else labels.index(one) if one in labels else -1
        if not 0 <= number < len(labels) or number in numbers:
            raise DataError(
                f"{knob} names the class {one!r}" + (" twice" if number in numbers else ""),
                expected=f"classes among {', '.join(labels)}, or numbers of 0 to {len(labels) - 1}, each once",
                hint=f"correct data.{knob}",
                where=where,
            )
        numbers.append(number)
    names = [labels[number] for number in numbers]
    return swap_map(labels, zip(names[::2], names[1::2], strict=True))


def resolve_data_path(path: Path) -> Path:
    """A folder, looked for under the environment variable MUYBRIDGE_DATA where it is relative and not here."""
    path, data = path.expanduser(), os.environ.get("MUYBRIDGE_DATA", "")
    return Path(data) / path if data and not path.is_absolute() and not path.is_dir() else path


class Benchmark(DatasetConfig):
    """A published data set in a folder of its own.

    Attributes:
        root: its folder; without it, the folder ``folder_name`` under the environment variable MUYBRIDGE_DATA.
    """

    root: Path | None = None
    folder_name: ClassVar[str]

    def resolved(self) -> Self:
        """With an absolute root, where one is given."""
        return self.model_copy(update={"root": self.root.expanduser().resolve()}) if self.root else self

    def folder(self) -> Path:
        """The folder of the data set.

        Raises:
            DataError: it is not known, or does not exist.
        """
        root = self.root.expanduser() if self.root else None
        if root is None:
            data = os.environ.get("MUYBRIDGE_DATA", "")
            if not data:
                raise DataError(
                    f"the folder of {self.folder_name} is not known",
                    expected="data.root in the recipe, or the environment variable MUYBRIDGE_DATA",
                    hint=f"set MUYBRIDGE_DATA to the folder that contains {self.folder_name}, or set data.root",
                )
            root = Path(data) / self.folder_name
        if not root.is_dir():
            raise DataError(
                "there is no such folder",
                expected=f"the folder of {self.folder_name}",
                hint="correct data.root or the environment variable MUYBRIDGE_DATA",
                where=root,
            )
        return root

    def find(self, pattern: str) -> list[Path]:
        """The files in the folder whose path matches a glob pattern, sorted.

        Raises:
            DataError: there are none; see also :meth:`folder`.
        """
        root = self.folder()
        files = sorted(root.rglob(pattern))
        if not files:
            raise DataError(
                "the folder holds no recordings",
                expected=f"files called {pattern}",
                hint="unpack the data set here, or correct data.root",
                where=root,
            )
        return files
