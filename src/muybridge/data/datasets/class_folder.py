"""What a folder with a folder for each class means, whatever kind of recordings lie in it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from muybridge.core.errors import DataError
from muybridge.core.rng import derive_seed
from muybridge.core.types import Record
from muybridge.data.datasets.base import DatasetConfig, Index, LabelPairs, Split, parse_swap_pairs


class ClassFolder(DatasetConfig):
    """Recordings ``class/name`` (or deeper).

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
        mirror_labels: pairs of classes that are each other's mirror image, by name or number; [] where no class has a
            side. Unless this is given, recordings are not mirrored.
    """

    recordings: ClassVar[str]
    root: Path
    group: str = ""
    test_groups: tuple[str, ...] = ()
    fold: str = ""
    test_fraction: float = Field(default=0.25, gt=0.0, lt=1.0)
    val_fraction: float = Field(default=0.0, ge=0.0, lt=1.0)
    classes: tuple[str, ...] = ()
    mirror_labels: LabelPairs | None = None

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

    def search(self, folder: Path) -> list[Path]:
        """The recordings anywhere below a class folder, sorted."""
        raise NotImplementedError

    def unusable(self, path: Path) -> str | None:
        """Why a recording is left out, where that can be exchanged_as_told beforehand."""

    def labels(self) -> tuple[str, ...]:
        """Class names: those given, or those of the folders."""
        return self.classes or tuple(sorted(self._class_folders()))

    def mirror(self) -> Mapping[int, int] | None:
        """As ``mirror_labels`` says; forbidden where it says nothing."""
        return parse_swap_pairs(self.mirror_labels, self.labels(), "mirror_labels", self.root)

    def folds(self) -> tuple[str, ...]:
        """The groups, each of which can be left out; none without groups."""
        return tuple(sorted({self._group(path) for path in self.files()})) if self.group else ()

    def index(self, split: Split) -> Index:
        """The recordings of one split."""
        label = {name: index for index, name in enumerate(self.labels())}
        self.holds()
        records, unusable = [], {}
        for path in self.files():
            inside = path.relative_to(self.root)
            identity = inside.as_posix()
            records.append(Record(identity, path, label[inside.parts[0]], self._group(path)))
            if reason := self.unusable(path):
                unusable[identity] = reason
        test, val = self._draw_groups(records) if self.group else self._draw_recordings(records)
        return self.split_records(
            split,
            records,
            is_test=lambda record: (record.group if self.group else record.id) in test,
            is_val=lambda record: (record.group if self.group else record.id) in val,
            excluded=unusable,
        )

    def files(self) -> list[Path]:
        """Every recording, by class.

        Raises:
            DataError: there is no such folder, it has no class folders, or one of them has no recording.
        """
        files = []
        for name, folder in self._class_folders().items():
            found = self.search(folder)
            if not found:
                raise DataError(
                    f"the class {name!r} has no recordings",
                    expected=self.recordings,
                    hint="add recordings, or take the folder out",
                    where=folder,
                )
            files += found
        return files

    def _draw_groups(self, records: list[Record]) -> tuple[set[str], set[str]]:
        """The groups that test and those that validate."""
        groups = {record.group for record in records}
        test = set(self.test_groups) or ({self.fold} if self.fold else set())
        if unknown := sorted(test - groups):
            raise DataError(
                f"there are no recordings of {', '.join(unknown)}",
                expected=f"groups among {', '.join(sorted(groups))}",
                hint="correct data.test_groups, data.fold or data.group",
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
                hint="set data.group, or leave the others out",
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
                hint="correct data.group, or rename the file",
                where=path,
            )
        return match[1]

    def _class_folders(self) -> dict[str, Path]:
        if not self.root.is_dir():
            raise DataError(
                "there is no such folder",
                expected="a folder that contains one folder for each class",
                hint="correct data.root (or --data)",
                where=self.root,
            )
        folders = {
            path.name: path for path in sorted(self.root.iterdir()) if path.is_dir() and path.name[0] not in "._"
        }
        if not folders:
            raise DataError(
                "the folder has no class folders",
                expected=f"a folder for each class, with {self.recordings}",
                hint="make a folder for each class, and move its recordings there",
                where=self.root,
            )
        if self.classes and (odd := sorted(set(folders) ^ set(self.classes))):
            unknown = odd[0] in folders
            raise DataError(
                f"the class {odd[0]!r} " + ("is not among data.classes" if unknown else "has no folder"),
                expected=f"a folder for each of {', '.join(self.classes)}, and no other",
                hint="correct data.classes, or rename the folder (a leading underscore hides it)",
                where=self.root,
            )
        return folders


def _drawn(names: set[str], purpose: str, count: float) -> set[str]:
    """About ``count`` of the names, at least one unless it is zero, and never all."""
    whole = min(max(1, round(count)), len(names) - 1) if count else 0
    return set(sorted(names, key=lambda name: derive_seed(purpose, name))[:whole])
