"""Generated stick figures: a data set of skeletons that needs no download."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from muybridge.core.contracts import SkeletonData
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig, Index, Split, swap_map
from muybridge.media.skeleton import read_npy
from muybridge.media.synthetic.stick_figures import ACTIONS, MIRRORED, VERSION, write_stick_figures


class StickFigures(DatasetConfig):
    """Eight actions of generated people; the last people test, the others train. Groups are people, ``p01`` and so on.

    Attributes:
        root: where the files are written on first use; by default a folder in the user's cache.
        people: how many there are.
        test_people: how many of them test.
        repetitions: recordings of each person doing each action.
        seed: another seed gives other people.
    """

    name: Literal["stick_figures"] = "stick_figures"
    root: Path | None = None
    people: int = Field(default=10, ge=2, le=99)
    test_people: int = Field(default=3, ge=1)
    repetitions: int = Field(default=4, ge=1, le=99)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _someone_trains(self) -> "StickFigures":
        if self.test_people >= self.people:
            raise ValueError(f"of {self.people} people, {self.test_people} test and nobody is left to train")
        return self

    def resolved(self) -> Self:
        """With an absolute root, where one is given."""
        return self.model_copy(update={"root": self.root.expanduser().resolve()}) if self.root else self

    def labels(self) -> tuple[str, ...]:
        """Action names."""
        return ACTIONS

    def holds(self) -> SkeletonData:
        """One person, 20 joints, metres."""
        return SkeletonData(LAYOUTS["kinect20"])

    def mirror(self) -> Mapping[int, int]:
        """Left and right are exchanged, and so are the two directions of rotation."""
        return swap_map(ACTIONS, MIRRORED)

    def index(self, split: Split) -> Index:
        """The recordings of one split; writes them first where they do not exist."""
        records = []
        for path in write_stick_figures(self.folder(), self.people, self.repetitions, self.seed):
            label = path.parent.name
            records.append(Record(f"{label}/{path.stem}", path, _LABELS[label], path.stem[:3]))
        first_test = self.people - self.test_people + 1
        return self.split_records(split, records, is_test=lambda record: int(record.group[1:]) >= first_test)

    def folder(self) -> Path:
        """Where the files are; each seed and size has its own."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muybridge" / "stick_figures"
        root = self.root.expanduser() if self.root else cache
        return root / f"v{VERSION}-seed{self.seed}"

    def open(self, record: Record) -> SkeletonSequence:
        """See :func:`read_npy`."""
        return read_npy(record.path)


_LABELS = {action.replace(" ", "_"): index for index, action in enumerate(ACTIONS)}
