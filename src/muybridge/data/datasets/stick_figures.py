"""Generated stick figures: a data set of skeletons that needs no download."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from muybridge.core.contracts import SkeletonData
from muybridge.core.files import cache_folder
from muybridge.core.skeletons import get_layout
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig, Index, Split, swap_map
from muybridge.media.skeleton import read_npy
from muybridge.media.synthetic.retarget import FIGURE, retarget
from muybridge.media.synthetic.stick_figures import ACTIONS, MIRRORED, VERSION, write_stick_figures


class StickFigures(DatasetConfig):
    """Eight actions of generated people; the last people test, the others train. Groups are people, ``p01`` and so on.

    Attributes:
        root: where the files are written on first use; by default a folder in the user's cache.
        people: how many there are.
        test_people: how many of them test.
        repetitions: recordings of each person doing each action.
        seed: another seed gives other people.
        layout: the joints to give; those that the figures lack lie between their neighbors, or at their parent.
        coordinates: 3, or 2 for the view of a camera, as estimators write it: x to the right, y down.
        bodies: people in each recording as models see it; all but the first are absent.
    """

    name: Literal["stick_figures"] = "stick_figures"
    root: Path | None = None
    people: int = Field(default=10, ge=2, le=99)
    test_people: int = Field(default=3, ge=1)
    repetitions: int = Field(default=4, ge=1, le=99)
    seed: int = Field(default=0, ge=0)
    layout: str = "kinect20"
    coordinates: Literal[2, 3] = 3
    bodies: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _someone_trains(self) -> "StickFigures":
        if self.test_people >= self.people:
            raise ValueError(f"of {self.people} people, {self.test_people} test and nobody is left to train")
        if not get_layout(self.layout).known:
            raise ValueError(f"layout {self.layout!r} does not name its joints, so the figures cannot have them")
        return self

    def resolved(self) -> Self:
        """With an absolute root, where one is given."""
        return self.model_copy(update={"root": self.root.expanduser().resolve()}) if self.root else self

    def labels(self) -> tuple[str, ...]:
        """Action names."""
        return ACTIONS

    def holds(self) -> SkeletonData:
        """Stick figures of the chosen layout, in metres."""
        return SkeletonData(get_layout(self.layout), self.bodies, self.coordinates)

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
        root = self.root.expanduser() if self.root else cache_folder("stick_figures")
        return root / f"v{VERSION}-seed{self.seed}"

    def open(self, record: Record) -> SkeletonSequence:
        """See :func:`read_npy` and :func:`retarget`."""
        sequence = read_npy(record.path)
        holds = self.holds()
        return sequence if holds == SkeletonData(FIGURE) else retarget(sequence, holds)


_LABELS = {action.replace(" ", "_"): index for index, action in enumerate(ACTIONS)}
