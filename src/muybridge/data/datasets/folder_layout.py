"""Which folders below a root are classes, and which are the parts of a split that someone made already."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from muybridge.core.errors import DataError
from muybridge.core.files import FoundFiles, is_folder, is_system_name
from muybridge.core.types import Span
from muybridge.data.datasets.base import Split

SplitSource = Literal["auto", "folders", "drawn"]

SPLIT_NAMES: Mapping[str, Split] = {
    **dict.fromkeys(("train", "training", "trainset", "train_set"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "eval", "evaluation", "val_set"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "test_set"), "test"),
}
"""Usual names of the folders of a split, in lower case."""

_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"}
_LISTS = {".txt", ".lst", ".xlsx", ".ods"}


@dataclass(frozen=True, slots=True)
class Source:
    """One recording below a root.

    Attributes:
        path: of the recording.
        label: the name of its class.
        split: the part of the split it lies in; None if the split is to be drawn.
        name: ``class/name.ext``, without the folder of the split.
        id: unique below the root.
        span: the part of the file that is the recording; None takes the whole file.
        group, fold: what a table says of it; empty elsewhere.
        labels: the names of all its classes, where there may be several, of which ``label`` is the first; else empty.
    """

    path: Path
    label: str
    split: Split | None
    name: str
    id: str
    span: Span | None = None
    group: str = ""
    fold: str = ""
    labels: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of the class, or of all of them."""
        return self.labels or (self.label,)


@dataclass(frozen=True, slots=True)
class Layout:
    """The recordings below a root or in a table, and what else is there.

    Attributes:
        sources: the recordings, in the order of their paths, or of the table.
        classes: the folders of each class, empty ones included; a table has none.
        folders: the folders that make up a split, such as ``{"valid": "val"}``, or the words of a table; empty if the
            split is to be drawn.
        unread: files that are no recordings, by suffix.
        ignored: folders that were not searched because their names begin with an underscore, or because they lie
            beside the folders of a split and contain no recordings.
        stray: recordings that lie in no class folder.
        grouped_by_file: whether the group of each part of a file is the file, as a table names no groups.
        lost: ids that a table names, whose files do not exist, and which were to be left out.
    """

    sources: tuple[Source, ...]
    classes: Mapping[str, tuple[Path, ...]]
    folders: Mapping[str, Split]
    unread: Counter[str]
    ignored: tuple[str, ...]
    stray: tuple[Path, ...]
    grouped_by_file: bool = False
    lost: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reader:
    """Reads layouts for one kind of recording.

    Attributes:
        find: the recordings below a folder.
        suffixes: of files that are recordings.
        expected: the recordings in words.
    """

    find: Callable[[Path], FoundFiles]
    suffixes: Collection[str]
    expected: str

    def read(self, root: Path, source: SplitSource) -> Layout:
        """The layout of a root.

        Args:
            root: the folder.
            source: "folders" or "drawn" if the user says where the split comes from; "auto" recognizes folders such as
                ``train/class`` and ``class/train``.

        Raises:
            DataError: there is no such folder, it has no class folders, or a split is ambiguous.
        """
        self._check_root(root)
        folders, ignored = _visible_folders(root)
        if not folders:
            raise self._no_classes(root)
        parts = None
        if source != "drawn":
            parts = self._split_above(root, folders) or self._split_below(root, folders)
        if source == "folders" and parts is None:
            raise DataError(
                'data.split = "folders", and there are no folders of a split',
                expected="folders such as train/CLASS and test/CLASS",
                hint='rename the folders, or leave data.split at "auto"',
                where=root,
            )
        parts = parts or [_Part(folder, name, None, "") for name, folder in folders.items()]
        beside = {name for name in folders if parts[0].split_folder and self._beside(folders[name], parts)}
        return self._collect(root, parts, (*ignored, *sorted(beside)))

    def _collect(self, root: Path, parts: list["_Part"], ignored: tuple[str, ...]) -> Layout:
        sources: list[Source] = []
        unread: Counter[str] = Counter()
        classes: dict[str, list[Path]] = defaultdict(list)
        for part in parts:
            search = self.find(part.folder)
            unread += search.unread
            classes[part.label].append(part.folder)
            for path in search.files:
                name = f"{part.label}/{path.relative_to(part.folder).as_posix()}"
                sources.append(Source(path, part.label, part.split, name, path.relative_to(root).as_posix()))
        above = {root} | {part.folder.parent for part in parts}
        return Layout(
            tuple(sorted(sources, key=lambda source: source.path)),
            {label: tuple(folders) for label, folders in classes.items()},
            {part.split_folder: part.split for part in parts if part.split},
            unread,
            ignored,
            tuple(path for folder in sorted(above) for path in self._recordings_in(folder)),
        )

    def _beside(self, folder: Path, parts: list["_Part"]) -> bool:
        return not any(part.folder.is_relative_to(folder) for part in parts)

    def _split_above(self, root: Path, folders: Mapping[str, Path]) -> "list[_Part] | None":
        """``train/class``; None if the folders are classes."""
        split = _split_folders(folders)
        classes = {name: _visible_folders(folders[name])[0] for name in split}
        others = [name for name in folders if name not in split]
        names = [set(classes[name]) for name in split]
        if "train" not in split.values() or (others and (len(names) < 2 or not set.intersection(*names))):
            return None  # classes, one of which happens to be called train
        for name in split:
            direct = self._recordings_in(folders[name])
            if direct and not classes[name] and (len(split) > 1 or others):
                raise DataError(
                    f"the folder {name!r} contains {len(direct)} recordings, and no class folders",
                    expected=f"{name}/CLASS, with {self.expected}",
                    hint="put the recordings into class folders, hide the folder by an underscore before its name, or, "
                    'if it is a class itself, set data.split = "drawn"',
                    where=root,
                )
        if not any(names):
            return None
        _check_one_folder_each(root, split)
        for other in others:
            if self.find(folders[other]).files:
                raise DataError(
                    f"the folder {other!r} with recordings lies beside {_quoted(split)}",
                    expected="folders of classes, or folders of a split",
                    hint="move it elsewhere, hide it by an underscore before its name, or, if all of them are classes, "
                    'set data.split = "drawn"',
                    where=root,
                )
        return [
            _Part(folder, label, part, name) for name, part in split.items() for label, folder in classes[name].items()
        ]

    def _split_below(self, root: Path, folders: Mapping[str, Path]) -> "list[_Part] | None":
        """``class/train``; None if the folders in the classes mean something else."""
        below = {label: _visible_folders(folder)[0] for label, folder in folders.items()}
        splits = {label: _split_folders(inner) for label, inner in below.items()}
        if not any(len(set(split.values())) > 1 and "train" in split.values() for split in splits.values()):
            return None
        for label, split in splits.items():
            if not split or len(split) < len(below[label]) or self._recordings_in(folders[label]):
                example = next(label for label, split in splits.items() if len(split) > 1)
                raise DataError(
                    f"the class {example!r} is split into {_quoted(splits[example])}, and the class {label!r} is not",
                    expected="folders of a split in every class, and nothing beside them, or in none",
                    hint='arrange the classes alike, or, if the folders are no split, set data.split = "drawn"',
                    where=root,
                )
            _check_one_folder_each(folders[label], split)
        return [
            _Part(below[label][name], label, part, name)
            for label, split in splits.items()
            for name, part in split.items()
        ]

    def _recordings_in(self, folder: Path) -> list[Path]:
        """Recordings that lie directly in a folder."""
        return sorted(
            folder / entry.name
            for entry in os.scandir(folder)
            if Path(entry.name).suffix.lower() in self.suffixes and not is_system_name(entry.name) and entry.is_file()
        )

    def _check_root(self, root: Path) -> None:
        if root.is_dir():
            return
        if not root.exists():
            raise DataError(
                "there is no such folder",
                expected="a folder that contains one folder for each class",
                hint="correct data.root (or --data)",
                where=root,
            )
        suffix = root.suffix.lower()
        if suffix in _ARCHIVES:
            problem, hint = "this is an archive", "unpack it, and give the folder"
        elif suffix in self.suffixes:
            problem, hint = "this is a single recording", "give the folder that contains the class folders"
        elif suffix in _LISTS:
            problem, hint = (
                "this is a file",
                'give a folder or a table (.csv, .json); for other lists of videos use name = "video_list"',
            )
        else:
            problem, hint = "this is a file", "give the folder that contains the class folders"
        raise DataError(problem, expected="a folder that contains one folder for each class", hint=hint, where=root)

    def _no_classes(self, root: Path) -> DataError:
        direct = self._recordings_in(root)
        return DataError(
            f"the folder has no class folders{f', but {len(direct)} recordings' if direct else ''}",
            expected=f"a folder for each class, with {self.expected}",
            hint=f"if this is the folder of one class, give its parent folder, {root.resolve().parent}"
            if direct
            else "make a folder for each class, and move its recordings there",
            where=root,
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """The folder of one class in one part of a split; without a split, of one class."""

    folder: Path
    label: str
    split: Split | None
    split_folder: str


def _visible_folders(root: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folders in a folder by name, and those that an underscore hides."""
    try:
        names = sorted(entry.name for entry in os.scandir(root) if is_folder(entry) and not is_system_name(entry.name))
    except OSError as problem:
        raise DataError(
            f"the folder cannot be read ({problem.strerror})",
            expected="a folder that may be searched",
            hint="check its permissions",
            where=root,
        ) from None
    hidden = tuple(name for name in names if name.startswith("_"))
    return {name: root / name for name in names if name not in hidden}, hidden


def _split_folders(folders: Collection[str]) -> dict[str, Split]:
    return {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}


def _check_one_folder_each(root: Path, parts: Mapping[str, Split]) -> None:
    names: dict[Split, list[str]] = defaultdict(list)
    for name, part in parts.items():
        names[part].append(name)
    for part, several in names.items():
        if len(several) > 1:
            raise DataError(
                f"the folders {_quoted(several)} all mean {part}",
                expected=f"one folder for {part}",
                hint="merge them, or put an underscore before the name of the one to be ignored",
                where=root,
            )


def _quoted(names: Collection[str]) -> str:
    return " and ".join(repr(name) for name in sorted(names))
