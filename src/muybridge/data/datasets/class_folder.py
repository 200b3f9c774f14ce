"""A folder with a subfolder for each class, or a table of recordings, whatever kind of recordings these are."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, PositiveFloat, field_validator, model_validator

from muybridge.core.errors import DataError
from muybridge.core.files import FoundFiles, is_system_name, natural_key
from muybridge.core.types import NONE_OF_THESE, Record
from muybridge.data.annotations.exports import ExportOptions
from muybridge.data.annotations.read import is_annotation_file
from muybridge.data.datasets.background import add_background
from muybridge.data.datasets.base import (
    DatasetConfig,
    Index,
    LabelPairs,
    Split,
    check_class_names,
    parse_swap_pairs,
    preview,
)
from muybridge.data.datasets.drawing import MIN_TRAINING_GROUPS, draw_names, draw_per_class, draw_val
from muybridge.data.datasets.folder_layout import Layout, Reader, Source, SplitSource
from muybridge.data.datasets.groups import group_of, is_table
from muybridge.data.datasets.table_layout import TableReader

_SEPARATORS = (";", "|", ",", "+")
"""What usually separates several labels in one cell of a table."""

VAL_FRACTION = 0.1
"""The share that is drawn for validation where nothing else is said."""

Name = Annotated[str, Field(coerce_numbers_to_str=True)]
"""A name that may be a number in TOML, as those of people and folds often are."""


class ClassFolder(DatasetConfig):
    """Recordings ``class/name``, in deeper folders too, or ``train/class/name`` and ``class/train/name``.

    Or those that a table names, with the columns ``path,label[,start,end][,group][,split][,fold]``.

    Folders called train, val, test and the like, in any case, are taken as the split. Otherwise the split is drawn:
    with groups, whole groups, so that no group is in two parts; without groups, a share of each class. Drawing depends
    on names alone: a file added later moves no other group, and few files of its class.

    Attributes:
        root: the folder that contains the class folders. Hidden and system folders are never searched; an underscore at
            the start of its name hides a class folder. Or a table (.csv, .tsv, .json, .jsonl):
            the part of a file from start to end, in seconds, is a recording of its own.
            Or labelled segments of CVAT (.xml), ELAN (.eaf), Label Studio or ActivityNet (.json).
        base: the folder that paths of a table are relative to; without it, that of the table.
        label_fps: frames per second at which CVAT or Label Studio counted frames.
        tier: the tier of ELAN, or the control of Label Studio, that has the labels, where there are several.
        split: "folders" if there are folders train, test, ..., or a column split; "drawn" if such folders are classes,
            or the column is to be ignored; "auto" takes them where they are.
        group: regular expression with one group of parentheses, searched in ``class/name.ext``; what it captures (such
            as a person) is the recording's group. Or the path of a table (.csv, .tsv) with the columns file and group,
            for names that do not show who or which source it is. Empty: the column group of a table, or no groups.
        test_groups: the groups of the test part.
        fold: one group that is the test part, for leaving each group out in turn; in a table with a column fold, the
            value of it, by default the first.
        test_fraction: share of the groups, or of each class, that is drawn for testing if neither is given; 0 tests
            nothing, to train on everything.
        val_fraction: share of all groups, or of each class, that is drawn from the rest for validation, at least one
            unless it is 0; ignored with ``val_groups`` or a folder of validation recordings. A group is drawn only if
            two others remain for training. By default a tenth; of a table whose column split names a test part,
            nothing: what the column says of each recording holds.
        val_part: which of such shares is drawn for validation, from 0; others give other recordings, to validate in
            turn.
        exclude: ids of recordings that are left out: their paths below the root, or those that a table gives.
        classes: names in label order; empty takes the names of the class folders, or the labels of the table, numbers
            in them sorted by value. Labels of a table may be numbers from 0 or 1 of these names.
        label_separator: what separates the labels of a table where a recording may have several, such as ";": each
            class is then there or not, for itself. Lists of labels in JSON need it too, and several lines of the same
            recording are one. Empty: every recording has one label.
        background: so many recordings of the class "none of these" for each labelled segment of a table, cut from the
            time of the same files in which nothing is labelled; 0 cuts none. See
            :func:`~muybridge.data.datasets.background.add_background`.
        mirror_labels: pairs of classes that are each other's mirror image, by name or number; [] if no class has a
            side. Unless this is given, recordings are not mirrored.
    """

    recordings: ClassVar[str]
    suffixes: ClassVar[Collection[str]]
    root: Path
    base: Path | None = None
    label_fps: PositiveFloat | None = None
    tier: str = ""
    split: SplitSource = "auto"
    group: str = ""
    test_groups: tuple[Name, ...] = ()
    fold: Name = ""
    test_fraction: float = Field(default=0.25, ge=0.0, lt=1.0)
    val_fraction: float | None = Field(default=None, ge=0.0, lt=1.0)
    val_part: int = Field(default=0, ge=0)
    exclude: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    label_separator: str = ""
    background: float = Field(default=0.0, ge=0.0, le=10.0)
    mirror_labels: LabelPairs | None = None

    @field_validator("group")
    @classmethod
    def _one_capture(cls, pattern: str) -> str:
        if is_table(pattern):
            return pattern
        try:
            captures = re.compile(pattern).groups
        except re.error as problem:
            raise ValueError(f"{pattern!r} is no regular expression ({problem})") from None
        if pattern and captures != 1:
            raise ValueError(f"{pattern!r} has {captures} groups of parentheses and needs one, such as '_(s\\d+)_'")
        return pattern

    @field_validator("root", "base")
    @classmethod
    def _expand_user(cls, path: Path | None) -> Path | None:
        return path.expanduser() if path else None

    @model_validator(mode="after")
    def _one_test_setting(self) -> Self:
        if self.test_groups and self.fold:
            raise ValueError("test_groups and fold both say which groups test; give one of them")
        if self.base and not self.is_table:
            raise ValueError("base is the folder that paths of a table are relative to, and root is no table")
        if self.label_separator and not self.is_table:
            raise ValueError("label_separator separates the labels of a table, and root is no table")
        if self.background and (not self.is_table or self.label_separator):
            reason = "a recording may have several labels" if self.is_table else "root is no table"
            raise ValueError(f"background is cut from files whose segments a table labels, and {reason}")
        if self.label_separator and self.mirror_labels:
            raise ValueError("mirror_labels swaps one label for another, and with label_separator there may be several")
        return self

    def multi_label(self) -> bool:
        """Where labels have a separator."""
        return bool(self.label_separator)

    @property
    def is_table(self) -> bool:
        """Whether the recordings are named by a table."""
        return is_annotation_file(self.root)

    def search(self, folder: Path) -> FoundFiles:
        """The recordings anywhere below a class folder."""
        raise NotImplementedError

    def seconds_of(self, path: Path) -> float:
        """The length of a file in seconds, for background; raises DataError if it cannot be read."""
        raise NotImplementedError

    def _length_of(self, path: Path) -> float | None:
        """The length of a file; None if it cannot be read, which is said when its segments are."""
        try:
            return self.seconds_of(path)
        except DataError:
            return None

    def unusable(self, record: Record) -> str | None:
        """Why a recording is excluded, where that is known without training on it."""

    def resolved(self) -> Self:
        """With an absolute root, and the split and the classes written out."""
        layout = self.scan()
        self._check(layout)
        split, classes = "folders" if layout.folders else "drawn", self._names(layout)
        group = str(Path(self.group).expanduser().resolve()) if is_table(self.group) else self.group
        written = {"root": self.root.resolve(), "split": split, "classes": classes, "group": group}
        written["val_fraction"] = self._val_share(layout)
        return self.model_copy(update={**written, "base": self.base.resolve() if self.base else None})

    def scan(self) -> Layout:
        """All recordings with their classes, and the parts of the split if folders or the table say them.

        Raises:
            DataError: see :meth:`Reader.read` and :meth:`TableReader.read`.
        """
        if self.is_table:
            given = tuple(name for name in self.classes if name != NONE_OF_THESE or not self.background)
            layout = self._table().read(given, self.split, self.exclude)
            if self.background:
                layout = add_background(layout, self.background, self._length_of, self.root)
        else:
            layout = Reader(self.search, self.suffixes, self.recordings).read(self.root, self.split)
        if unknown := sorted(set(self.exclude) - {source.id for source in layout.sources} - layout.lost):
            raise DataError(
                f"data.exclude names {preview(unknown)}, and there is no such recording",
                expected="ids of recordings, such as walk/a_0.mp4",
                hint="correct data.exclude",
                where=self.root,
            )
        return replace(layout, sources=tuple(each for each in layout.sources if each.id not in self.exclude))

    def _table(self) -> TableReader:
        options = ExportOptions(self.label_fps, self.tier)
        base = self.base or self.root.parent
        return TableReader(self.root, base, self.suffixes, self.recordings, options, self.label_separator)

    def missing(self) -> list[tuple[str, Path, str]]:
        """Id, path and line of each recording that a table names and that does not exist; none of a folder."""
        return self._table().missing() if self.is_table else []

    def labels(self) -> tuple[str, ...]:
        """Class names: those given, or those of the folders."""
        return self._with_background(self.classes or self._labels(self.scan()))

    def mirror(self) -> Mapping[int, int] | None:
        """As ``mirror_labels`` says; forbidden where it says nothing."""
        return parse_swap_pairs(self.mirror_labels, self.labels(), "mirror_labels", self.root)

    def folds(self) -> tuple[str, ...]:
        """The groups, each of which can be left out; none without groups."""
        sources = self.scan().sources
        return tuple(sorted({source.fold or self._group(source) for source in sources} - {""}, key=natural_key))

    def files(self) -> list[Path]:
        """The file of every recording, each once.

        Raises:
            DataError: there is no such folder, it has no class folders, or one of them has no recording.
        """
        layout = self.scan()
        self._check(layout)
        return list(dict.fromkeys(source.path for source in layout.sources))

    def index(self, split: Split) -> Index:
        """The recordings of one split; see :meth:`~muybridge.data.datasets.base.DatasetConfig.index`."""
        layout = self.scan()
        self._check(layout)
        self.holds()
        label = {name: number for number, name in enumerate(self._names(layout))}
        records = [
            Record(
                source.id,
                source.path,
                label[source.label],
                self._group(source),
                span=source.span,
                labels=tuple(label[name] for name in source.labels),
            )
            for source in layout.sources
        ]
        excluded = {record.id: reason for record in records if (reason := self.unusable(record))}
        test, val = self._draw(records, layout)
        return self.split_records(
            split,
            records,
            is_test=lambda record: record.id in test,
            is_val=lambda record: record.id in val,
            excluded=excluded,
        )

    def describe_split(self) -> str:
        """How the split was made, in words."""
        layout = self.scan()
        folders, grouped = layout.folders, self._has_groups(layout)
        given, parts = set(folders.values()), []
        if folders:
            source = "the column split," if self.is_table else "the folders"
            parts.append(f"given by {source} " + ", ".join(f"{name} ({part})" for name, part in folders.items()))
        if given and "test" not in given and "val" in given:
            parts.append("without a test part, the validation part is the test part")
        elif "test" not in given:
            parts.append(self._describe_test(layout, grouped))
        if not {"val", "test"} <= given:
            parts.append(self._describe_val(layout, grouped))
        if not grouped:
            column = "add a column group, or " if self.is_table else ""
            parts.append(
                f"no groups are known, so the same person may be in several parts: {column}set data.group (--group)"
            )
        return "; ".join(parts)

    def _describe_test(self, layout: Layout, grouped: bool) -> str:
        if self.test_groups:
            return "the groups in data.test_groups test"
        if fold := self._fold(layout):
            return f"the fold {fold} tests (data.fold chooses it)"
        if self.fold:
            return f"the group {self.fold} tests (data.fold)"
        if not self.test_fraction:
            return "nothing tests (data.test_fraction = 0)"
        return f"{self.test_fraction:.0%} of {'the groups' if grouped else 'each class'} test, drawn by name"

    def _val_share(self, layout: Layout) -> float:
        """The share that is drawn for validation; by default none where a table says which recordings test."""
        if self.val_fraction is not None:
            return self.val_fraction
        return 0.0 if self.is_table and "test" in layout.folders.values() else VAL_FRACTION

    def _describe_val(self, layout: Layout, grouped: bool) -> str:
        if self.val_groups:
            return "the groups in data.val_groups validate"
        share = self._val_share(layout)
        if not share and self.val_fraction is None:
            return "nothing validates, as the column says (data.val_fraction = 0.1 draws a tenth of the training part)"
        if not share:
            return "nothing validates (data.val_fraction = 0)"
        words = f"{share:.0%} of {'the groups' if grouped else 'each class'} validate, drawn by name"
        return words + (f", if {MIN_TRAINING_GROUPS} others remain for training" if grouped else "")

    def unread(self) -> Mapping[str, int]:
        """Files below the class folders that are no recordings, by suffix."""
        return self.scan().unread

    def notices(self) -> tuple[str, ...]:
        """What a user should know about the folder before training."""
        layout, notices = self.scan(), []
        if layout.stray:
            paths = preview([str(path) for path in layout.stray])
            notices.append(f"{len(layout.stray)} recordings lie in no class folder and are ignored: {paths}")
        if layout.ignored:
            notices.append(f"folders that are ignored: {preview(layout.ignored)}")
        if self.background:
            notices.append(self._describe_background(layout))
        if layout.grouped_by_file and not self.group:
            notices.append("no groups are known, so the parts of each file stay together in the split")
        if self.is_table and (several := self._joined_labels(layout)):
            separator, names = next(sep for sep in _SEPARATORS if sep in several[0]), preview(list(map(repr, several)))
            notices.append(
                f"the labels {names} look like several in one: if they are, set data.label_separator='{separator}'"
            )
        if layout.folders and self._has_groups(layout):
            notices += self._shared_groups(layout)
        return tuple(notices)

    def _describe_background(self, layout: Layout) -> str:
        spans = [each.span for each in layout.sources if each.label == NONE_OF_THESE and each.span]
        seconds = sum(end - start for start, end in spans)
        wanted = round(
            self.background * sum(each.span is not None for each in layout.sources if each.label != NONE_OF_THESE)
        )
        lacking = f"; there is no room for {wanted - len(spans)} more" if len(spans) < wanted else ""
        return f"{len(spans)} recordings of {NONE_OF_THESE!r}, {seconds:.1f} s, are cut from unlabelled time{lacking}"

    def _joined_labels(self, layout: Layout) -> list[str]:
        """Labels of a table that others of its labels make up, with a separator between them."""
        if self.label_separator:
            return []
        names = set(layout.classes)
        parts = {
            name: [part.strip() for sep in _SEPARATORS if sep in name for part in name.split(sep)] for name in names
        }
        return sorted(name for name, words in parts.items() if words and set(words) <= names)

    def _has_groups(self, layout: Layout) -> bool:
        return bool(self.group) or any(source.group for source in layout.sources)

    def _fold(self, layout: Layout) -> str:
        """The fold of a table that tests; empty if the table has no folds."""
        folds = {source.fold for source in layout.sources} - {""}
        return (self.fold or min(folds, key=natural_key)) if folds else ""

    def _names(self, layout: Layout) -> tuple[str, ...]:
        """Class names in label order; that of background is the last."""
        return self._with_background(self.classes or self._labels(layout))

    def _with_background(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return (*(name for name in names if name != NONE_OF_THESE), NONE_OF_THESE) if self.background else names

    def _labels(self, layout: Layout) -> tuple[str, ...]:
        return tuple(sorted(layout.classes, key=natural_key))

    def _check(self, layout: Layout) -> None:
        """Refuse classes without recordings, names that are probably one class, and a single class."""
        names = self._labels(layout)
        used = {label for source in layout.sources for label in source.classes}
        if self.is_table:
            self._check_table(used)
        elif empty := [name for name in names if name not in used]:
            folder = layout.classes[empty[0]][0]
            unread = ", ".join(f"{count} {kind}" for kind, count in sorted(self.search(folder).unread.items()))
            raise DataError(
                f"the class {empty[0]!r} has no recordings" + (f", but {unread}" if unread else ""),
                expected=self.recordings,
                hint="add recordings, or remove the folder (an underscore before its name hides it)",
                where=folder,
            )
        elif self.classes and (odd := sorted(set(names) ^ set(self.classes), key=natural_key)):
            raise DataError(
                f"the class {odd[0]!r} " + ("is not among data.classes" if odd[0] in names else "has no folder"),
                expected=f"a folder for each of {', '.join(self.classes)}, and no other",
                hint="rename the folder back, hide it by an underscore before its name, or correct data.classes",
                where=self.root,
            )
        similar, hint = bool(self.classes), self._hint(layout)
        check_class_names(self.classes or names, self.root, similar=similar, hint=hint, places=self._places)
        trained = {label for source in layout.sources if source.split in ("train", None) for label in source.classes}
        if unknown := [
            (label, source) for source in layout.sources for label in source.classes if label not in trained
        ]:
            raise DataError(
                f"the class {unknown[0][0]!r} has no training recordings",
                expected=f"classes among {preview(sorted(trained, key=natural_key), most=12)}",
                hint="rename the class folder, or add training recordings",
                where=self.root if self.is_table else unknown[0][1].path.parent,
            )

    def _places(self) -> dict[str, str]:
        """Where a table first names each label; empty of a folder."""
        return self._table().places_of_labels() if self.is_table else {}

    def _check_table(self, used: Collection[str]) -> None:
        """Refuse a table that lacks a class."""
        if lacking := [name for name in self.classes if name not in used]:
            raise DataError(
                f"the class {lacking[0]!r} has no recordings",
                expected="a recording of each of data.classes at least",
                hint="add recordings, or correct data.classes or the labels",
                where=self.root,
            )

    def _hint(self, layout: Layout) -> str:
        """What to do about a single class: give the folder in it, if that has class folders."""
        if self.is_table:
            return "add recordings of another class, such as of anything else"
        (folder, *_) = next(iter(layout.classes.values()))
        inner = sorted(path.name for path in folder.iterdir() if path.is_dir() and not is_system_name(path.name))
        if len(inner) > 1:
            return f"if {preview(inner)} are the classes, give the folder {folder.resolve()}"
        return "add a folder with recordings of another class, such as of anything else"

    def _draw(self, records: list[Record], layout: Layout) -> tuple[set[str], set[str]]:
        """Ids of the test part and of the validation part."""
        given = {source.id: source.split for source in layout.sources}
        test = {id_ for id_, part in given.items() if part == "test"}
        val = {id_ for id_, part in given.items() if part == "val"}
        if (test or val) and (self.test_groups or self.fold or (self.val_groups and test and val)):
            raise DataError(
                f"{'the column split' if self.is_table else 'folders'} make{'s' * self.is_table} up the split, and "
                "data.test_groups, data.fold or data.val_groups make up another",
                expected="one of them",
                hint='set data.split = "drawn" to ignore the column, or leave these settings out'
                if self.is_table
                else "leave these settings out, or move all recordings into class folders",
                where=self.root,
            )
        if val and not test:
            test, val = val, set()
        test = test or self._fold_ids(layout) or self._draw_test(records)
        rest = [record for record in records if record.id not in test]
        val = val or draw_val(records, rest, self._val_share(layout), self.val_part, self.val_groups)
        return test, val

    def _fold_ids(self, layout: Layout) -> set[str]:
        """Ids of the recordings of the fold that tests, if a table has folds and no groups are named."""
        fold = self._fold(layout)
        if not fold or self.test_groups:
            return set()
        folds = {source.fold for source in layout.sources}
        if fold not in folds:
            raise DataError(
                f"there are no recordings of the fold {fold}",
                expected=f"one of the folds {', '.join(sorted(folds, key=natural_key))}",
                hint="correct data.fold",
                where=self.root,
            )
        return {source.id for source in layout.sources if source.fold == fold}

    def _draw_test(self, records: list[Record]) -> set[str]:
        """Ids of the recordings of the test groups, or of a share of each class."""
        if not any(record.group for record in records):
            if self.test_groups or self.fold:
                raise DataError(
                    "test_groups or fold is given, and there are no groups",
                    expected="data.group, which finds the group in the file name",
                    hint="set data.group, or leave the others out",
                    where=self.root,
                )
            return draw_per_class(records, records, "test", self.test_fraction)
        groups = {record.group for record in records}
        test = set(self.test_groups) or ({self.fold} if self.fold else set())
        if unknown := sorted(test - groups):
            raise DataError(
                f"there are no recordings of {', '.join(unknown)}",
                expected=f"groups among {', '.join(sorted(groups))}",
                hint="correct data.test_groups, data.fold or data.group",
                where=self.root,
            )
        test = test or draw_names(groups, "test", self.test_fraction * len(groups), spare=1)
        return {record.id for record in records if record.group in test}

    def _shared_groups(self, layout: Layout) -> list[str]:
        """A notice for groups that are in more than one folder of the split."""
        parts: dict[str, set[str]] = defaultdict(set)
        for source in layout.sources:
            parts[self._group(source)].add(source.split or "train")
        shared = sorted((group for group, where in parts.items() if len(where) > 1), key=natural_key)
        return [f"{len(shared)} groups are in several parts of the split: {preview(shared)}"] if shared else []

    def _group(self, source: Source) -> str:
        return group_of(self.group, source.name, source.path) if self.group else source.group
