"""The recordings that a file of annotations names, as sources of a data set."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.core.files import check_name, find_files
from muybridge.core.types import span_text
from muybridge.data.annotations.annotation import Annotation
from muybridge.data.annotations.exports import ExportOptions, file_name
from muybridge.data.annotations.read import read_annotations
from muybridge.data.datasets.base import Split, preview
from muybridge.data.datasets.folder_layout import SPLIT_NAMES, Layout, Source, SplitSource
from muybridge.data.datasets.lists import normalize_path

_REMEDY = "correct the line, or data.classes"


@dataclass(frozen=True)
class TableReader:
    """Reads the recordings of a file of annotations.

    Attributes:
        file: of annotations.
        base: the folder that its paths are relative to.
        suffixes: of files that are recordings.
        expected: the recordings in words.
        separator: between the labels of a recording; empty where each has one. Lines of the same recording are then
            one recording with the labels of all.
    """

    file: Path
    base: Path
    suffixes: Collection[str]
    expected: str
    options: ExportOptions = field(default_factory=ExportOptions)
    separator: str = ""

    def read(self, classes: Sequence[str], source: SplitSource, exclude: Collection[str] = ()) -> Layout:
        """The recordings.

        Args:
            classes: names in label order, which numbers as labels refer to; empty takes the labels as names.
            source: "drawn" ignores what the file says of the split, "folders" demands it, "auto" takes it if it is
                there.
            exclude: ids of recordings that may be missing, as they are left out.

        Raises:
            DataError: the file cannot be read, a recording does not exist or is listed twice, a label is out of range,
                or a column is incomplete.
        """
        annotations = _once(read_annotations(self.file, self.options))
        left_out = [(id_, each) for id_, each in self._missing(annotations) if id_ in exclude] if exclude else []
        gone = {id(each) for _, each in left_out}
        annotations = [each for each in annotations if id(each) not in gone]
        paths = self._paths(annotations)
        splits = {} if source == "drawn" else self._splits(annotations)
        if source == "folders" and not splits:
            raise DataError(
                'data.split = "folders", and no recording has a part of the split',
                expected="the column split",
                hint='add it, or leave data.split at "auto"',
                where=self.file,
            )
        self._check_complete(annotations, "group")
        self._check_complete(annotations, "fold")
        names = self._class_names(annotations, classes)
        by_file = len(paths) < len(annotations) and not any(each.group for each in annotations)
        sources: dict[str, tuple[Annotation, Source]] = {}
        for each in annotations:
            path, labels = paths[each.path], tuple(names[label] for label in self._labels(each))
            label = labels[0]
            id_ = _id_of(each, path)
            found = Source(
                self.base / path,
                label,
                splits.get(each.split),
                f"{label}/{path}",
                id=id_,
                span=each.span,
                group=path if by_file else each.group,
                fold=each.fold,
                labels=labels if self.separator else (),
            )
            if id_ in sources:
                found = self._together(sources[id_], (each, found))
            sources[id_] = each, found
        found = tuple(source for _, source in sources.values())
        labels_used = {label: () for source in found for label in source.classes}
        return Layout(found, labels_used, splits, Counter(), (), (), by_file, frozenset(id_ for id_, _ in left_out))

    def missing(self) -> list[tuple[str, Path, str]]:
        """Id, path and place in the file of each recording that it names and that does not exist."""
        found = self._missing(_once(read_annotations(self.file, self.options)))
        return [(id_, self.base / normalize_path(each.path, self.base), each.place) for id_, each in found]

    def places_of_labels(self) -> dict[str, str]:
        """Where the file first names each label."""
        annotations = read_annotations(self.file, self.options)
        return dict(reversed([(label, each.place) for each in annotations for label in self._labels(each)]))

    def _missing(self, annotations: Sequence[Annotation]) -> list[tuple[str, Annotation]]:
        """The annotations, with their ids, whose files do not exist, except those that are found by name."""
        paths = {each.path: normalize_path(each.path, self.base) for each in annotations if not each.by_name}
        missing = {text for text, path in paths.items() if not os.path.exists(self.base / path)}
        return [(_id_of(each, paths[each.path]), each) for each in annotations if each.path in missing]

    def _paths(self, annotations: Sequence[Annotation]) -> dict[str, str]:
        """The path of every recording in one form, by that of the file; refused if there is no such recording."""
        paths = {each.path: normalize_path(each.path, self.base) for each in annotations}
        self._find_by_name([each for each in annotations if each.by_name], paths)
        missing = {text for text, path in paths.items() if not os.path.exists(self.base / path)}
        for each in annotations:
            path = self.base / paths[each.path]
            check_name(path)
            if each.path in missing:
                raise DataError(
                    f"{each.place}, {each.path!r}: there is no such file"
                    + (f"; {len(missing)} of {len(paths)} recordings are missing" if len(missing) > 1 else ""),
                    expected=f"a path relative to {self.base}",
                    hint="correct the path, set data.base to the folder that paths are relative to, or remove the line",
                    where=self.file,
                )
            if path.suffix.lower() not in self.suffixes and not path.is_dir():
                raise DataError(
                    f"{each.place}, {each.path!r} is no recording",
                    expected=self.expected,
                    hint="correct the path, or remove the line",
                    where=self.file,
                )
        return paths

    def _find_by_name(self, annotations: Sequence[Annotation], paths: dict[str, str]) -> None:
        """Replaces paths that do not exist by the file of the same name, or of that name with a suffix, below the base.

        Label Studio puts eight characters before the name of a file that is uploaded, and ActivityNet's files may begin
        with ``v_``.
        """
        lost = {each.path: each for each in annotations if not os.path.exists(self.base / paths[each.path])}
        if not lost:
            return
        known: dict[str, list[str]] = defaultdict(list)
        for file in find_files(self.base, self.suffixes).files:
            for name in {file.name, file.stem, file.stem.removeprefix("v_")}:
                known[name].append(os.path.relpath(file, self.base))
        for text, each in lost.items():
            name = file_name(text)
            places = known.get(name) or known.get(re.sub("^[0-9a-f]{8}-", "", name)) or []
            if len(places) > 1:
                raise DataError(
                    f"{each.place}, {name!r} may be {' or '.join(places[:3])}",
                    expected="one file of this name",
                    hint="set data.base to the folder that contains the right one",
                    where=self.file,
                )
            paths[text] = places[0] if places else paths[text]

    def _splits(self, annotations: Sequence[Annotation]) -> dict[str, Split]:
        """The parts of the split by the words of the file; empty if it has none."""
        self._check_complete(annotations, "split")
        splits: dict[str, Split] = {}
        for each in annotations:
            if each.split and each.split.lower() not in SPLIT_NAMES:
                raise DataError(
                    f"{each.place} has the split {each.split!r}",
                    expected="train, val or test",
                    hint='correct it, or set data.split = "drawn" to ignore the column',
                    where=self.file,
                )
            if each.split:
                splits[each.split] = SPLIT_NAMES[each.split.lower()]
        return splits

    def _check_complete(self, annotations: Sequence[Annotation], column: str) -> None:
        """Refuse a column that some recordings have a value in and others have not."""
        lacking = [each for each in annotations if not getattr(each, column)]
        if lacking and len(lacking) < len(annotations):
            raise DataError(
                f"{lacking[0].place} has no {column}, and others have one",
                expected=f"a {column} for every recording, or for none",
                hint="complete it",
                where=self.file,
            )

    def _labels(self, annotation: Annotation) -> tuple[str, ...]:
        """The labels of a recording: one, or several where there is a separator; none of them twice."""
        given = annotation.label
        if not self.separator:
            if isinstance(given, str):
                return (given,)
            raise DataError(
                f"{annotation.place} has a list of labels, {', '.join(given)}",
                expected="one label",
                hint='choose one of them, or set data.label_separator, such as ";", for recordings of several labels',
                where=self.file,
            )
        labels = [label.strip() for label in (given.split(self.separator) if isinstance(given, str) else given)]
        if "" in labels:
            raise DataError(
                f"{annotation.place} has the labels {given!r}, one of which is empty",
                expected=f"names with {self.separator!r} between them",
                hint="remove what is between two separators or at the end",
                where=self.file,
            )
        return tuple(dict.fromkeys(labels))

    def _together(self, first: tuple[Annotation, Source], second: tuple[Annotation, Source]) -> Source:
        """Two lines of a recording as one with the labels of both; refused where they differ, or one label is meant."""
        one, other = first[1], second[1]
        if not self.separator:
            raise self._listed_twice(first, second)
        if (one.split, one.group, one.fold) != (other.split, other.group, other.fold):
            raise DataError(
                f"{other.id!r} is listed in {first[0].place} and {second[0].place} with another split, group or fold",
                expected="the same ones in all lines of a recording",
                hint="correct one of the lines",
                where=self.file,
            )
        return replace(one, labels=tuple(dict.fromkeys((*one.labels, *other.labels))))

    def _class_names(self, annotations: Sequence[Annotation], classes: Sequence[str]) -> Mapping[str, str]:
        """The class name that each label stands for: the label itself, or that of the number.

        Numbers count from 0, or from 1 if no label is 0 and one is the number of classes.
        """
        pairs = [(label, each.place) for each in annotations for label in self._labels(each)]
        places = dict(reversed(pairs))  # the first with each label
        if not classes or places.keys() <= set(classes):
            return {label: label for label in places}
        numbers = {int(label) for label in places if _is_number(label)}
        if len(numbers) < len(places):
            label, place = next((label, places[label]) for label in reversed(places) if label not in classes)
            raise self._unknown(place, label, f"one of data.classes, {preview(classes, 12)}")
        first = 1 if 0 not in numbers and len(classes) in numbers else 0
        if max(numbers) - first >= len(classes):
            label = next(label for label in reversed(places) if int(label) - first >= len(classes))
            last = first + len(classes) - 1
            raise self._unknown(places[label], label, f"a number from {first} to {last}, or a name, of data.classes")
        return {label: classes[int(label) - first] for label in places}

    def _unknown(self, place: str, label: str, expected: str) -> DataError:
        return DataError(f"{place} has the label {label!r}", expected=expected, hint=_REMEDY, where=self.file)

    def _listed_twice(self, first: tuple[Annotation, Source], second: tuple[Annotation, Source]) -> DataError:
        labels = [source.label for _, source in (first, second)]
        alike = labels[0] == labels[1]
        return DataError(
            f"{second[1].id!r} is listed in {first[0].place} and in {second[0].place}"
            + ("" if alike else f", as {labels[0]!r} and as {labels[1]!r}"),
            expected="each recording once" if alike else "one label for each recording",
            hint="remove one of them",
            where=self.file,
        )


def _id_of(annotation: Annotation, path: str) -> str:
    return path if annotation.span is None else f"{path}@{span_text(annotation.span)}"


def _once(annotations: Sequence[Annotation]) -> list[Annotation]:
    """The annotations of an export, each segment with the same label once: of two people, both may do the same."""
    seen: dict[object, Annotation] = {}
    for each in annotations:
        seen.setdefault((each.path, each.label, each.span) if each.by_name else id(each), each)
    return list(seen.values())


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdecimal()
