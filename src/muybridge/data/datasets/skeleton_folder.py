"""The user's own recordings of skeletons: a folder for each class."""

from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.skeletons import default_layout, get_layout
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.class_folder import ClassFolder
from muybridge.data.skeleton_ops import match_layout
from muybridge.media.parsing import NoPersonError
from muybridge.media.skeleton import SUFFIXES, read_skeleton


class SkeletonFolder(ClassFolder):
    """Files ``class/name.ext`` (or deeper) of any format that :func:`read_skeleton` knows.

    Attributes:
        layout: what the joints are; empty takes the customary one for their number.
        people: per recording; 0 takes the largest number in any.
        coordinates: 2 or 3; 0 takes what the files have.
    """

    recordings: ClassVar[str] = f"files that end in {', '.join(SUFFIXES)}"
    name: Literal["skeleton_folder"] = "skeleton_folder"
    layout: str = ""
    people: int = Field(default=0, ge=0)
    coordinates: Literal[0, 2, 3] = 0

    def resolved(self) -> Self:
        """With an absolute root, and classes, layout, people and coordinates written out."""
        holds = self.holds()
        found = {
            "root": self.root.resolve(),
            "classes": self.labels(),
            "layout": holds.layout.name,
            "people": holds.people,
            "coordinates": holds.coordinates,
        }
        return self.model_copy(update=found)

    def holds(self) -> SkeletonData:
        """What is given, completed by reading the files."""
        if self.layout and self.people and self.coordinates:
            return SkeletonData(get_layout(self.layout), self.people, self.coordinates)
        usable = [(path, facts) for path in self.files() if not isinstance(facts := _facts(*_stamp(path)), str)]
        if not usable:
            raise DataError(
                "nobody is seen in any recording", expected="people", hint="check the coordinates", where=self.root
            )
        first, (_, joints, dims) = usable[0]
        layout = get_layout(self.layout) if self.layout else default_layout(joints)
        people = self.people or max(facts[0] for _, facts in usable)
        holds = SkeletonData(layout, people, self.coordinates or dims)
        for path, (_, other_joints, other_dims) in usable:
            if (other_joints, other_dims) != (len(layout), holds.coordinates):
                raise DataError(
                    f"the recording has {other_joints} joints of {other_dims} coordinates",
                    expected=f"{len(layout)} joints of {holds.coordinates}"
                    + (f" (layout {layout.name})" if self.layout else f", as in {first}"),
                    hint="keep recordings of one kind of skeleton in the folder, or correct data.layout",
                    where=path,
                )
        return holds

    def open(self, record: Record) -> SkeletonSequence:
        """See :func:`read_skeleton`."""
        return match_layout(read_skeleton(record.path), self.holds(), where=str(record.path))

    def search(self, folder: Path) -> list[Path]:
        """See :func:`skeletons_in`."""
        return skeletons_in(folder)

    def unusable(self, path: Path) -> str | None:
        """Nobody is seen in it; each file is read once to know."""
        facts = _facts(*_stamp(path))
        return facts if isinstance(facts, str) else None


def skeletons_in(folder: Path) -> list[Path]:
    """The files with known endings anywhere below a folder, sorted."""
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def _stamp(path: Path) -> tuple[Path, int, int]:
    state = path.stat()
    return path, state.st_mtime_ns, state.st_size


@lru_cache(maxsize=1_000_000)
def _facts(path: Path, changed: int, size: int) -> tuple[int, int, int] | str:
    """People, joints and coordinates of a recording, or why it is of no use; asked again when the file changes."""
    del changed, size
    try:
        _, people, joints, dims = read_skeleton(path).joints.shape
    except NoPersonError as problem:
        return problem.problem
    return people, joints, dims
