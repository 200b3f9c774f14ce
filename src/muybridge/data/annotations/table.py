"""Tables of recordings with a header, as CSV, as JSON, or as a line of JSON for each recording."""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from muybridge.core.errors import DataError
from muybridge.core.files import read_text
from muybridge.data.annotations.annotation import Annotation, span_of

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl")

FORM = "the columns path,label[,start,end][,group][,split][,fold], named in the first line"
_JSON_FORM = 'a list of objects such as {"path": "a.mp4", "label": "jump", "start": 1.5, "end": 3.0, "group": "anna"}'
_HINT = "correct the table"

COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "video", "video_path", "recording"),
    "label": ("label", "labels", "class", "class_name", "category", "action", "activity", "target"),
    "start": ("start", "start_time", "start_seconds", "start_sec", "begin", "begin_time", "t_start", "onset"),
    "end": ("end", "end_time", "end_seconds", "end_sec", "stop", "t_end", "offset"),
    "group": ("group", "person", "subject", "source", "participant", "actor"),
    "split": ("split", "subset", "set", "part", "partition"),
    "fold": ("fold",),
}
"""What each column may be called, in lower case."""

_OF_FRAMES = re.compile(r".*(start|begin|end|stop|first|last).*frame.*|.*frame.*(start|begin|end|stop|first|last).*")

_Row = Mapping[str, Any]
"""The values of one recording by the names of the columns."""


def read_table(file: Path) -> list[Annotation]:
    """The recordings of a table, in its order.

    Columns may have any order and other usual names, such as ``file`` for ``path``; other columns are ignored. Values
    of CSV are separated by commas, semicolons or tabs, and may be quoted. Times are seconds, or
    ``hours:minutes:seconds``.

    Raises:
        DataError: the table cannot be read, has no path or label in its header or in a line, or has a wrong time.
    """
    suffix = file.suffix.lower()
    expected = _JSON_FORM if suffix.startswith(".json") else FORM
    text = read_text(file, expected=expected, hint="correct the path, or save the table as UTF-8")
    rows = {".json": _json_rows, ".jsonl": _json_line_rows}.get(suffix, _csv_rows)(text, file)
    annotations = [_annotation(row, place, file) for place, row in rows]
    if not annotations:
        raise DataError("the table has no recordings", expected=expected, hint="add recordings", where=file)
    return annotations


def _annotation(row: _Row, place: str, file: Path) -> Annotation:
    values = {column: _text(row[column], column, place, file) for column in COLUMN_NAMES if column in row}
    label = row["label"] if isinstance(row.get("label"), list) else values.get("label", "")
    if not values.get("path") or not label:
        lacking = "label" if values.get("path") else "path"
        raise DataError(f"{place} has no {lacking}", expected="a path and a label", hint="complete it", where=file)
    return Annotation(
        values["path"],
        tuple(label) if isinstance(label, list) else label,
        place,
        span_of(values.get("start", ""), values.get("end", ""), place, file),
        values.get("group", ""),
        values.get("split", ""),
        values.get("fold", ""),
    )


def _text(value: Any, column: str, place: str, file: Path) -> str:
    """A value as text; of a list of labels, nothing."""
    if value is None or (column == "label" and _are_texts(value)):
        return ""
    if isinstance(value, str):
        return value.strip()
    if type(value) is int or (type(value) is float and column in ("start", "end")):
        return str(value)
    raise DataError(
        f"{place} has the {column} {value!r}",
        expected="a text, or a number" if column != "label" else "a class name, a number, or a list of names",
        hint=_HINT,
        where=file,
    )


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name.strip() for name in value)


def _csv_rows(text: str, file: Path) -> Iterator[tuple[str, _Row]]:
    """The lines of CSV by the columns that the first of them names."""
    text = re.sub(r"\r\n?", "\n", text)
    stated = re.match(r"sep=(.)\n", text)  # as Excel writes it
    first = next((line for line in text.split("\n")[bool(stated) :] if not _is_no_data(line)), "")
    delimiter = stated[1] if stated else max(",;\t", key=first.count)
    columns: Mapping[int, str] | None = None
    width = 0
    for number, fields in _csv_lines(text, delimiter, file):
        if stated and number == 1:
            continue
        if columns is None:
            columns, width = _columns(fields, file), len(fields)
            continue
        if any(fields[width:]) or len(fields) <= max(columns):
            raise _odd_line(number, fields, width, file)
        yield f"line {number}", {column: fields[place] for place, column in columns.items()}


def _odd_line(number: int, fields: list[str], width: int, file: Path) -> DataError:
    return DataError(
        f"line {number} has {len(fields)} values, and the header {width}",
        expected="as many values as columns",
        hint="complete the line, or put quotes around a value that contains the separator",
        where=file,
    )


def _csv_lines(text: str, delimiter: str, file: Path) -> Iterator[tuple[int, list[str]]]:
    """The values of each record with the number of its first line; blank lines and comments are left out."""
    lines = text.split("\n")
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, skipinitialspace=True, strict=True)
    number = 1
    try:
        for fields in reader:
            if not _is_no_data(lines[number - 1]):
                yield number, [field.strip() for field in fields]
            number = reader.line_num + 1
    except csv.Error as problem:
        raise DataError(
            f"line {number} is not CSV ({problem})",
            expected='quotes in pairs, and a quote inside quotes doubled, as in "say ""hi"""',
            hint="correct the quotes of the line",
            where=file,
        ) from None


def _is_no_data(line: str) -> bool:
    return not line.strip(" \t,;") or re.match(r"\s*#(\s|#|$)", line) is not None


def _columns(header: list[str], file: Path) -> dict[int, str]:
    """Which column is where."""
    words = [word.lower().replace(" ", "_") for word in header]
    columns: dict[int, str] = {}
    for column, names in COLUMN_NAMES.items():
        places = [place for place, word in enumerate(words) if word == column]
        places = places or [place for place, word in enumerate(words) if word in names]
        if len(places) > 1:
            raise DataError(
                f"the columns {' and '.join(repr(header[place]) for place in places)} may both be the {column}",
                expected=f"one of them, called {column}",
                hint=f"rename the right one to {column}",
                where=file,
            )
        columns |= dict.fromkeys(places, column)
    known = set(columns.values())
    if not {"path", "label"} <= known:
        raise DataError(
            f"the first line, {', '.join(header)!r}, names no {' and no '.join(sorted({'path', 'label'} - known))}",
            expected=FORM,
            hint="write the names of the columns in the first line",
            where=file,
        )
    if "start" not in known:
        _check_frames(words, file)
    return columns


def _check_frames(words: Iterable[str], file: Path) -> None:
    """Refuse parts of files that are given by numbers of frames."""
    for word in words:
        if _OF_FRAMES.fullmatch(word):
            raise DataError(
                f"the column {word!r} seems to count frames",
                expected="the columns start and end, in seconds",
                hint="divide the numbers of frames by the frame rate, or remove the column",
                where=file,
            )


def _json_rows(text: str, file: Path) -> Iterator[tuple[str, _Row]]:
    content = load_json(text, file, "")
    if isinstance(content, dict):
        content = next((content[key] for key in ("recordings", "annotations", "data") if key in content), content)
    if not isinstance(content, list):
        raise _no_table(file)
    for number, item in enumerate(content, start=1):
        yield f"entry {number}", _object(item, f"entry {number}", file)


def _json_line_rows(text: str, file: Path) -> Iterator[tuple[str, _Row]]:
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if line.strip():
            yield f"line {number}", _object(load_json(line, file, f"line {number}: "), f"line {number}", file)


def _object(item: Any, place: str, file: Path) -> _Row:
    if not isinstance(item, dict):
        raise DataError(f"{place} is no object", expected=_JSON_FORM, hint=_HINT, where=file)
    values: dict[str, Any] = {}
    words = {key: key.lower() for key in item}
    for column, names in COLUMN_NAMES.items():
        keys = [key for key, word in words.items() if word == column]
        keys = keys or [key for key, word in words.items() if word in names]
        if keys:
            values[column] = item[keys[0]]
    if "start" not in values:
        _check_frames(words.values(), file)
    return values


def load_json(text: str, file: Path, place: str) -> Any:
    """A JSON text; DataError where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"{place}it is not JSON ({problem})", expected=_JSON_FORM, hint=_HINT, where=file) from None


def _no_table(file: Path) -> DataError:
    return DataError("no recordings are found in it", expected=_JSON_FORM, hint=_HINT, where=file)
