"""What every data set answers: which recordings there are, how one is opened, what it holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from muybridge.core.contracts import Holds
from muybridge.core.types import Record, SkeletonSequence

Split = Literal["train", "val", "test"]


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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
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

    def folds(self) -> tuple[str, ...]:
        """Names of the cross-validation folds; empty where there is one fixed split."""
        return ()

    def index(self, split: Split) -> Index:
        """The recordings of one split.

        Raises:
            DataError: the folder is missing, is not laid out as expected, or the split is empty.
        """
        raise NotImplementedError

    def open(self, record: Record) -> SkeletonSequence:
        """The recording behind a record; raises DataError with file and line or frame if it cannot be read."""
        raise NotImplementedError
