"""List files, with a video and its label on each line in any of the usual forms, and files of class names."""

import csv
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from muybridge.core.errors import DataError
from muybridge.core.files import read_numbered_lines
from muybridge.data.datasets.base import preview

Column = Literal["path", "label", "frames", "ignore"]

_DELIMITERS = ("\t", ",", ";")
_HEADERS: dict[str, Column] = {
    **dict.fromkeys(("path", "file", "filename", "file_name", "filepath", "video", "video_path", "clip"), "path"),
    **dict.fromkeys(("label", "class", "class_id", "classid", "label_id", "target", "category", "class_name"), "label"),
    **dict.fromkeys(("frames", "num_frames", "n_frames", "nframes", "frame_count", "total_frames", "length"), "frames"),
}
"""What the columns of a list may be called in its first line, in lower case."""

_NAME_HEADERS = {
    "name",
    "names",
    "class",
    "classes",
    "class_name",
    "classname",
    "label",
    "labels",
    "category",
    "action",
}
_ID_HEADERS = {"id", "index", "class_id", "classid", "label_id", "number", "idx", "label", "class"}
_FORMS = "`path label` or `path frames label`"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list.

    Attributes:
        path: of the video as the list gives it.
        label: from 0.
        line: its number.
    """

    path: str
    label: int
    line: int


@dataclass(frozen=True)
class ListFormat:
    """What is known about a list before it is read.

    Labels are numbers, or class names if no class name is itself a number.

    Attributes:
        classes: class names in label order.
        first_label: the number of the first class.
        columns: what is in the columns; empty if that is to be judged by their values.
        suffixes: of video files, by which the end of a path is recognized.
    """

    classes: tuple[str, ...]
    first_label: int = 0
    columns: tuple[Column, ...] = ()
    suffixes: tuple[str, ...] = ()

    @cached_property
    def _numbers(self) -> dict[str, int]:
        """The labels of class names."""
        numeric = any(map(_NUMBER.fullmatch, self.classes))
        return {} if numeric else {name: label for label, name in enumerate(self.classes)}

    def read(self, file: Path, *, hint: str) -> list[Entry]:
        """The entries of a list.

        Raises:
            DataError: it cannot be read, or a line has no path or no label.
        """
        lines = read_numbered_lines(file, expected=f"a list with a line {_FORMS} for each video", hint=hint)
        lines = [(number, line) for number, line in lines if not re.match(r"#(\s|#|$)", line)]
        if not lines:
            return []
        rows, header = self._split(lines, file)
        columns = self.columns or header or self._judge(rows, file)
        return [self._entry(row, columns, file) for row in rows]

    def _split(self, lines: list[tuple[int, str]], file: Path) -> "tuple[list[_Row], tuple[Column, ...]]":
        """Lines as fields, and what the first line calls them."""
        for delimiter in _DELIMITERS:
            rows = [_Row(number, line, tuple(split_fields(line, delimiter))) for number, line in lines]
            if header := _header(rows[0].fields):
                return rows[1:], header
            if all(delimiter in row.text for row in rows) and self._is_table(rows):
                return rows, ()
        header = _header(lines[0][1].split())
        rows = [self._split_at_spaces(number, line, file) for number, line in (lines[1:] if header else lines)]
        return rows, header

    def _is_table(self, rows: "list[_Row]") -> bool:
        """Whether rows without a header look like paths and labels."""
        paths = all(self._is_file(row.fields[0]) for row in rows)
        return bool(self.columns) or paths or any(map(self._labels_in, _columns(rows)))

    def _split_at_spaces(self, number: int, line: str, file: Path) -> "_Row":
        """A path, which may contain spaces, and the numbers or the class name after it."""
        if self.columns:
            count = len(self.columns) - 1
            fields = line.rsplit(None, count) if self.columns[0] == "path" else line.split(None, count)
            return _Row(number, line, tuple(fields))
        path, last = _split_last(line)
        if not _NUMBER.fullmatch(last):  # class names may contain spaces
            name = next((name for name in self._numbers if line.endswith(f" {name}")), last)
            path, last = line[: -len(name)].rstrip(), name
        before, count = _split_last(path)
        if not before or not _NUMBER.fullmatch(count):
            return _Row(number, line, (_unquote(path), last) if path else (last,))
        if _NUMBER.fullmatch(_split_last(before)[1]) and self._is_file(_split_last(before)[0]):
            raise self._refuse(_Row(number, line, ()), file, "more than two numbers after the path")
        return _Row(number, line, (_unquote(before), count, last))

    def _judge(self, rows: "list[_Row]", file: Path) -> tuple[Column, ...]:
        """What is in the columns of a list without a header."""
        widths = {len(row.fields) for row in rows}
        if widths == {3}:
            return self._judge_three(rows, file)
        if widths == {2, 3} and not any(self._is_file(row.fields[0]) for row in rows if len(row.fields) == 3):
            # Of paths that end in a word of digits some lines look as if they had three columns.
            rows[:] = [_Row(row.line, row.text, (" ".join(row.fields[:-1]), row.fields[-1])) for row in rows]
            widths = {2}
        if widths != {2}:
            odd = next((row for row in rows if len(row.fields) != 2), rows[0])
            raise self._refuse(odd, file, "two numbers after the path" if len(odd.fields) == 3 else "")
        first, second = _columns(rows)
        return ("label", "path") if self._labels_in(first) and not self._labels_in(second) else ("path", "label")

    def _judge_three(self, rows: "list[_Row]", file: Path) -> tuple[Column, ...]:
        """Which column has the labels, usually the last; the other one has numbers of frames."""
        _, second, third = _columns(rows)
        last = self._labels_in(third) and _may_be_frames(second)
        before = self._labels_in(second) and _may_be_frames(third)
        if last and before:
            raise DataError(
                "the lines have two numbers, either of which may be the label or the number of frames",
                expected="values that tell them apart",
                hint='set data.columns = ["path", "frames", "label"], or another order',
                where=file,
            )
        if not before and not last and self._labels_in(second) and self._labels_in(third):
            raise self._refuse(rows[0], file, "two labels")
        return ("path", "label", "frames") if before else ("path", "frames", "label")

    def _labels_in(self, column: Sequence[str]) -> bool:
        return bool(column) and all(self._label(word) is not None for word in column)

    def _label(self, word: str) -> int | None:
        if word in self._numbers:
            return self._numbers[word]
        if not _NUMBER.fullmatch(word) or not 0 <= int(word) - self.first_label < len(self.classes):
            return None
        return int(word) - self.first_label

    def _is_file(self, path: str) -> bool:
        return Path(_unquote(path)).suffix.lower() in self.suffixes

    def _entry(self, row: "_Row", columns: tuple[Column, ...], file: Path) -> Entry:
        if len(row.fields) != len(columns):
            raise self._refuse(row, file, f"{len(row.fields)} columns, not {len(columns)} ({', '.join(columns)})")
        path, word = row.fields[columns.index("path")], row.fields[columns.index("label")]
        label = self._label(word)
        if label is None or not path:
            raise self._refuse(row, file, f"the label {word!r}" if path else "no path")
        return Entry(path, label, row.line)

    def _refuse(self, row: "_Row", file: Path, problem: str) -> DataError:
        last = self.first_label + len(self.classes) - 1
        beyond = self.first_label == 0 and row.fields[-1:] == (str(last + 1),)
        return DataError(
            f"line {row.line}, {row.text!r}" + (f", has {problem}" if problem else ""),
            expected=f"{_FORMS}, with a label of {self.first_label} to {last} or a class name",
            hint="correct the line, or data.classes"
            + (", or set data.first_label = 1 if labels count from 1" if beyond else ""),
            where=file,
        )


_NUMBER = re.compile("[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    text: str
    fields: tuple[str, ...]


def split_fields(line: str, delimiter: str) -> list[str]:
    """The values on a line of a table, with or without quotes; split as it is where the quotes are no CSV."""
    try:
        (row,) = csv.reader([line], delimiter=delimiter)
    except (csv.Error, ValueError):
        return line.split(delimiter)
    return [field.strip() for field in row]


def _columns(rows: Sequence[_Row]) -> list[tuple[str, ...]]:
    """The columns of rows of equal length; none if lengths differ."""
    return list(zip(*(row.fields for row in rows), strict=True)) if len({len(row.fields) for row in rows}) == 1 else []


def _header(words: Iterable[str]) -> tuple[Column, ...]:
    """What a first line calls the columns; empty if it is no header. Of two columns of a kind the first is taken."""
    columns: list[Column] = []
    for word in words:
        column = _HEADERS.get(word.strip().lower(), "ignore")
        columns.append("ignore" if column in columns else column)
    return tuple(columns) if {"path", "label"} <= set(columns) else ()


def _may_be_frames(column: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(word) and int(word) > 0 for word in column)


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def _split_last(line: str) -> tuple[str, str]:
    """What is before the last word, and the last word."""
    *before, last = line.rsplit(None, 1) or ("",)
    return (before[0] if before else ""), last


def normalize_path(text: str, root: Path) -> str:
    """A path of a list in one form: relative to the root if it is inside, without ``./``, ``//`` and ``..``."""
    if "\\" in text and not (root / text).exists():
        text = text.replace("\\", "/")  # written on Windows
    base = os.path.normpath(root)
    full = os.path.normpath(os.path.join(base, os.path.expanduser(text)))
    return os.path.relpath(full, base) if Path(full).is_relative_to(base) else full


# Class names


def read_class_names(file: Path, *, hint: str) -> tuple[tuple[str, ...], int]:
    """Class names in label order, and the number of the first class (0 or 1; 0 if the file has no numbers).

    The file has a name on each line, a number and a name (in either order, separated by spaces, commas or tabs, with or
    without a header), or is JSON: a list of names, or an object that maps names to numbers or numbers to names.

    Raises:
        DataError: it cannot be read, a name is given twice, or numbers are not consecutive.
    """
    lines = read_numbered_lines(file, expected="a file with a class name on each line", hint=hint)
    if file.suffix.lower() == ".json":
        named = _read_json(file, "\n".join(line for _, line in lines))
    else:
        named = _read_name_lines([(number, line) for number, line in lines if not re.match(r"#(\s|#|$)", line)], file)
    seen: dict[str, str] = {}
    for where, _, name in named:
        if name in seen:
            raise DataError(
                f"the class {name!r} is given twice, in {seen[name]} and in {where}",
                expected="each class once",
                hint="remove or rename one of them",
                where=file,
            )
        seen[name] = where
    if any(number is None for _, number, _ in named):
        return tuple(name for _, _, name in named), 0
    numbers = sorted(number for _, number, _ in named if number is not None)
    first = numbers[0] if numbers else 0
    if first not in (0, 1) or numbers != list(range(first, first + len(numbers))):
        raise DataError(
            f"the classes are numbered {preview(list(map(str, numbers)), 8)}",
            expected="consecutive numbers from 0 or 1",
            hint="complete or correct the numbers",
            where=file,
        )
    return tuple(name for _, _, name in sorted(named, key=lambda item: item[1] or 0)), first


_Named = tuple[str, int | None, str]
"""Where a class name was found, its number, the name."""


def _read_json(file: Path, text: str) -> list[_Named]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise DataError(
            f"it is not JSON ({problem})", expected=_JSON_FORMS, hint="correct the file", where=file
        ) from None
    if isinstance(content, list) and all(isinstance(name, str) for name in content):
        return [(f"position {position}", None, name.strip()) for position, name in enumerate(content)]
    if isinstance(content, dict) and content:
        pairs = list(content.items())
        if all(type(number) is int for _, number in pairs):
            return [(f"{name!r}: {number}", number, name.strip()) for name, number in pairs]
        if all(_NUMBER.fullmatch(number) and isinstance(name, str) for number, name in pairs):
            return [(f"{number!r}: {name!r}", int(number), name.strip()) for number, name in pairs]
    raise DataError("no class names are found in it", expected=_JSON_FORMS, hint="correct the file", where=file)


_JSON_FORMS = "a list of names, or an object that maps names to numbers or numbers to names"


def _read_name_lines(lines: list[tuple[int, str]], file: Path) -> list[_Named]:
    """Class names on lines, with or without numbers."""
    header = bool(lines) and _is_name_header(lines[0][1])
    body = lines[1:] if header else lines
    for split in (_split_number_first, _split_number_last):
        pairs = [pair for _, line in body if (pair := split(line))]
        names = {name for _, name in pairs}
        if split is _split_number_last and len(names) < len(pairs):
            continue  # such as "take 1" and "take 2"
        if body and len(pairs) == len(body) and (header or _are_numbered([number for number, _ in pairs])):
            return [(f"line {line}", *pair) for (line, _), pair in zip(body, pairs, strict=True)]
    if lines and _unquote(lines[0][1]).lower() in _NAME_HEADERS:
        raise DataError(
            f"the first line, {lines[0][1]!r}, may be a header or a class",
            expected="class names alone",
            hint="remove the header; if it is a class, list the names in data.classes of the recipe",
            where=file,
        )
    return [(f"line {number}", None, _unquote(line)) for number, line in lines]


def _are_numbered(numbers: list[int]) -> bool:
    """Whether these number classes, rather than being part of their names."""
    complete = sorted(numbers) in (list(range(len(numbers))), list(range(1, len(numbers) + 1)))
    return complete or numbers == sorted(set(numbers))


def _is_name_header(line: str) -> bool:
    words = [_unquote(word.strip()).lower() for word in re.split(r"[,;\t]|\s+", line) if word.strip()]
    if len(words) != 2:
        return False
    return any(first in _ID_HEADERS and second in _NAME_HEADERS for first, second in (words, words[::-1]))


def _split_number_first(line: str) -> tuple[int, str] | None:
    match = re.fullmatch(r'"?([0-9]{1,9})"?(?:\s*[,;:\t]\s*|\s+)(\S.*)', line)
    return (int(match[1]), _unquote(match[2].strip())) if match else None


def _split_number_last(line: str) -> tuple[int, str] | None:
    match = re.fullmatch(r'(.*\S)(?:\s*[,;:\t]\s*|\s+)"?([0-9]{1,9})"?', line)
    return (int(match[2]), _unquote(match[1].strip())) if match else None
