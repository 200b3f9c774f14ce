"""The user's own recordings: a folder for each class."""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from muybridge.core.contracts import SkeletonData
from muybridge.core.dice import seed_of
from muybridge.core.errors import DataError
from muybridge.core.skeletons import customary_layout, layout_named
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig, Index, Split
from muybridge.data.skeleton_ops import conform
from muybridge.media.parsing import NobodySeenError
from muybridge.media.skeleton import SUFFIXES, read_skeleton


class Folder(DatasetConfig):
    """Files ``class/name.ext`` (or deeper) of any format that :func:`read_skeleton` knows.

    With groups, no group is split: ``test_groups`` or ``fold`` name those that test, or else a share of the groups is
    drawn. Without, a share of each class is drawn. Drawing depends on names alone: a file added later moves no other
    group, and of the files of its class few.

    Attributes:
        root: the folder that contains the class folders; those that begin with a dot or underscore are not classes.
        group: regular expression with one group of parentheses, searched in ``class/name.ext``; what it captures (a
            person, say) is the recording's group. Empty: no groups.
        test_groups: the groups that test.
        fold: one group that tests, for leaving each group out in turn.
        test_fraction: share of the groups, or of each class, that is drawn to test where neither is given.
        val_fraction: share of all groups, or of each class, that is drawn from the rest to choose settings; with
            ``val_groups`` it is not used.
        classes: names in label order; empty takes the sorted names of the class folders.
        layout: what the joints are; empty takes the customary one for their number.
        people: per recording; 0 takes the largest number in any.
        coordinates: 2 or 3; 0 takes what the files have.
        mirror_labels: pairs of classes that are each other's mirror image; [] where no class has a side. Unless this
            is given, recordings are not mirrored.
    """

    name: Literal["folder"] = "folder"
    root: Path
    group: str = ""
    test_groups: tuple[str, ...] = ()
    fold: str = ""
    test_fraction: float = Field(default=0.25, gt=0.0, lt=1.0)
    val_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    classes: tuple[str, ...] = ()
    layout: str = ""
    people: int = Field(default=0, ge=0)
    coordinates: Literal[0, 2, 3] = 0
    mirror_labels: tuple[tuple[str, str], ...] | None = None

    @field_validator("group")
    @classmethod
    def _one_capture(cls, pattern: str) -> str:
        try:
            captures = re.compile(pattern).groups
        except re.error as problem:
            raise ValueError(f"{pattern!r} is no regular expression ({problem})") from None
        if pattern and captures != 1:
            raise ValueError(f"{pattern!r} has {captures} groups of parentheses and needs one, such as '_(s\\d+)_'")
        return pattern

    @field_validator("root")
    @classmethod
    def _home(cls, root: Path) -> Path:
        return root.expanduser()

    @model_validator(mode="after")
    def _one_way_to_test(self) -> Self:
        if self.test_groups and self.fold:
            raise ValueError("test_groups and fold both say which groups test; give one of them")
        return self

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

    def labels(self) -> tuple[str, ...]:
        """Class names: those given, or those of the folders."""
        return self.classes or tuple(sorted(self._class_folders()))

    def holds(self) -> SkeletonData:
        """What is given, completed by reading the files."""
        if self.layout and self.people and self.coordinates:
            return SkeletonData(layout_named(self.layout), self.people, self.coordinates)
        usable = [(path, facts) for path in self._files() if not isinstance(facts := _facts(*_stamp(path)), str)]
        if not usable:
            raise DataError(
                "nobody is seen in any recording", expected="people", cure="check the coordinates", where=self.root
            )
        first, (_, joints, dims) = usable[0]
        layout = layout_named(self.layout) if self.layout else customary_layout(joints)
        people = self.people or max(facts[0] for _, facts in usable)
        holds = SkeletonData(layout, people, self.coordinates or dims)
        for path, (_, other_joints, other_dims) in usable:
            if (other_joints, other_dims) != (len(layout), holds.coordinates):
                raise DataError(
                    f"the recording has {other_joints} joints of {other_dims} coordinates",
                    expected=f"{len(layout)} joints of {holds.coordinates}"
                    + (f" (layout {layout.name})" if self.layout else f", as in {first}"),
                    cure="keep recordings of one kind of skeleton in the folder, or correct data.layout",
                    where=path,
                )
        return holds

    def mirror(self) -> Mapping[int, int] | None:
        """As ``mirror_labels`` says; forbidden where it says nothing."""
        if self.mirror_labels is None:
            return None
        labels = self.labels()
        if unknown := sorted({one for pair in self.mirror_labels for one in pair} - set(labels)):
            raise DataError(
                f"mirror_labels names the class {unknown[0]!r}",
                expected=f"classes among {', '.join(labels)}",
                cure="correct data.mirror_labels",
                where=self.root,
            )
        pairs = [(labels.index(one), labels.index(other)) for one, other in self.mirror_labels]
        return dict(pairs) | {other: one for one, other in pairs}

    def folds(self) -> tuple[str, ...]:
        """The groups, each of which can be left out; none without groups."""
        return tuple(sorted({self._group(path) for path in self._files()})) if self.group else ()

    def index(self, split: Split) -> Index:
        """The recordings of one split; reads every file once, to leave out those in which nobody is seen."""
        label = {name: index for index, name in enumerate(self.labels())}
        self.holds()
        records, unusable = [], {}
        for path in self._files():
            inside = path.relative_to(self.root)
            identity = inside.as_posix()
            records.append(Record(identity, path, label[inside.parts[0]], self._group(path)))
            if isinstance(facts := _facts(*_stamp(path)), str):
                unusable[identity] = facts
        test, val = self._draw_groups(records) if self.group else self._draw_recordings(records)
        return self.divide(
            split,
            records,
            testing=lambda record: (record.group if self.group else record.id) in test,
            validating=lambda record: (record.group if self.group else record.id) in val,
            unusable=unusable,
        )

    def open(self, record: Record) -> SkeletonSequence:
        """See :func:`read_skeleton`."""
        return conform(read_skeleton(record.path), self.holds(), where=str(record.path))

    def _draw_groups(self, records: list[Record]) -> tuple[set[str], set[str]]:
        """The groups that test and those that validate."""
        groups = {record.group for record in records}
        test = set(self.test_groups) or ({self.fold} if self.fold else set())
        if unknown := sorted(test - groups):
            raise DataError(
                f"there are no recordings of {', '.join(unknown)}",
                expected=f"groups among {', '.join(sorted(groups))}",
                cure="correct data.test_groups, data.fold or data.group",
                where=self.root,
            )
        test = test or _drawn(groups, "test", self.test_fraction * len(groups))
        val = set(self.val_groups) or _drawn(groups - test, "val", self.val_fraction * len(groups))
        return test, val

    def _draw_recordings(self, records: list[Record]) -> tuple[set[str], set[str]]:
        """The ids that test and those that validate, of every class the same share."""
        if self.test_groups or self.fold:
            raise DataError(
                "test_groups or fold is given, and there are no groups",
                expected="data.group, which tells the group from the file name",
                cure="set data.group, or leave the others out",
                where=self.root,
            )
        test, val = set(), set()
        for label in {record.label for record in records}:
            ids = {record.id for record in records if record.label == label}
            tested = _drawn(ids, "test", self.test_fraction * len(ids))
            test |= tested
            val |= _drawn(ids - tested, "val", self.val_fraction * len(ids))
        return test, val

    def _group(self, path: Path) -> str:
        if not self.group:
            return ""
        name = path.relative_to(self.root).as_posix()
        match = re.search(self.group, name)
        if match is None:
            raise DataError(
                f"data.group {self.group!r} is not found in {name!r}",
                expected="a group in every name",
                cure="correct data.group, or rename the file",
                where=path,
            )
        return match[1]

    def _class_folders(self) -> dict[str, Path]:
        if not self.root.is_dir():
            raise DataError(
                "there is no such folder",
                expected="a folder that contains one folder for each class",
                cure="correct data.root (or --data)",
                where=self.root,
            )
        folders = {
            path.name: path for path in sorted(self.root.iterdir()) if path.is_dir() and path.name[0] not in "._"
        }
        if not folders:
            raise DataError(
                "the folder has no class folders",
                expected="files as class/name.npz (or .npy, .json, .csv)",
                cure="make a folder for each class, and move its recordings there",
                where=self.root,
            )
        if self.classes and (odd := sorted(set(folders) ^ set(self.classes))):
            unknown = odd[0] in folders
            raise DataError(
                f"the class {odd[0]!r} " + ("is not among data.classes" if unknown else "has no folder"),
                expected=f"a folder for each of {', '.join(self.classes)}, and no other",
                cure="correct data.classes, or rename the folder (a leading underscore hides it)",
                where=self.root,
            )
        return folders

    def _files(self) -> list[Path]:
        files = []
        for name, folder in self._class_folders().items():
            found = sorted(
                path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
            )
            if not found:
                raise DataError(
                    f"the class {name!r} has no recordings",
                    expected=f"files that end in {', '.join(SUFFIXES)}",
                    cure="add recordings, or take the folder out",
                    where=folder,
                )
            files += found
        return files


def _drawn(names: set[str], purpose: str, count: float) -> set[str]:
    """About ``count`` of the names, at least one unless it is zero, and never all."""
    whole = min(max(1, round(count)), len(names) - 1) if count else 0
    return set(sorted(names, key=lambda name: seed_of(purpose, name))[:whole])


def _stamp(path: Path) -> tuple[Path, int, int]:
    state = path.stat()
    return path, state.st_mtime_ns, state.st_size


@lru_cache(maxsize=1_000_000)
def _facts(path: Path, changed: int, size: int) -> tuple[int, int, int] | str:
    """People, joints and coordinates of a recording, or why it is of no use; asked again when the file changes."""
    del changed, size
    try:
        _, people, joints, dims = read_skeleton(path).joints.shape
    except NobodySeenError as problem:
        return problem.came
    return people, joints, dims
