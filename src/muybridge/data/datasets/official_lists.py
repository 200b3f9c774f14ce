"""The forms in which benchmarks of videos publish lists and class names; what is wrong is said with its line."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muybridge.core.errors import DataError
from muybridge.core.files import read_numbered_lines, read_once, read_text
from muybridge.core.types import Span
from muybridge.data.datasets.lists import split_fields

_FETCH = "fetch the official lists again, or correct data.root"


@dataclass(frozen=True, slots=True)
class Listed:
    """One recording of an official list.

    Attributes:
        id: unique in the data set.
        video: the name of its file without suffix, or of its folder of images.
        label: class index from 0.
        tests: whether the list is the one that tests.
        file, line: where it is listed.
        group: the source that it was cut from; empty if unknown.
        span: the part of the video, in seconds; None takes the whole.
        problem: why it cannot be used; empty otherwise.
    """

    id: str
    video: str
    label: int
    tests: bool
    file: Path
    line: int
    group: str = ""
    span: Span | None = None
    problem: str = ""

    @property
    def place(self) -> str:
        """In words; the entries of JSON have numbers in place of lines."""
        return f"{self.file.name}, {'entry' if self.file.suffix == '.json' else 'line'} {self.line}"


def wrong_line(file: Path, line: int, problem: str, expected: str) -> DataError:
    """The error for a line, or an entry of JSON, that is not as it should be."""
    unit = "entry" if file.suffix == ".json" else "line"
    return DataError(f"{unit} {line} {problem}", expected=expected, hint=_FETCH, where=file)


def check_ids(entries: Iterable[Listed]) -> None:
    """Refuse an id that is listed twice; raises DataError with both places."""
    seen: dict[str, Listed] = {}
    for entry in entries:
        if (other := seen.setdefault(entry.id, entry)) is not entry:
            raise DataError(
                f"{entry.id!r} is listed in {other.place}, and in {entry.place}",
                expected="each recording once, in one list",
                hint="remove one of them; a recording that is trained on cannot test",
                where=entry.file,
            )


def first_existing(folder: Path, names: Sequence[str]) -> Path:
    """The first of several names that a file may have in a folder.

    Raises:
        DataError: there is none.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        "it cannot be read (there is no such file)",
        expected=f"the official file {' or '.join(names)} in {folder}",
        hint=_FETCH,
        where=folder / names[0],
    )


@read_once
def read_class_lines(file: Path) -> tuple[str, ...]:
    """Class names, one a line.

    Raises:
        DataError: the file cannot be read, or has a name twice.
    """
    lines = read_numbered_lines(file, expected="a class name on each line", hint=_FETCH)
    names: dict[str, int] = {}
    for line, text in lines:
        name = " ".join(split_fields(text, ";")) if text.startswith('"') else text
        if name in names:
            raise wrong_line(file, line, f"has the class {name!r} of line {names[name]} again", "each class once")
        names[name] = line
    return tuple(names)


@read_once
def read_labelled_ids(file: Path, classes: tuple[str, ...], tests: bool) -> tuple[Listed, ...]:
    """The list of Something-Something V1 and of Jester: a line ``id;class name`` for each video, without a header.

    Brackets in a name, as in the answers to the test of V2, are left out.

    Raises:
        DataError: the file cannot be read, or a line has another form or an unknown class.
    """
    expected = "lines such as 1234;Class name, with one of the official class names"
    labels = {name: label for label, name in enumerate(classes)}
    entries = []
    for line, text in read_numbered_lines(file, expected=expected, hint=_FETCH):
        fields = split_fields(text, ";")
        if len(fields) != 2 or not fields[0]:
            raise wrong_line(file, line, f"is {text!r}", expected)
        id_, name = fields[0], fields[1].replace("[", "").replace("]", "")
        if name not in labels:
            raise wrong_line(file, line, f"has the class {name!r}, which is not among the {len(classes)}", expected)
        entries.append(Listed(id_, check_name(id_, file, line), labels[name], tests, file, line))
    return tuple(entries)


def check_name(name: str, file: Path, line: int) -> str:
    """A name of a video as a list gives it; raises DataError where it would lead to another folder."""
    if "/" in name or "\\" in name or name in ("", ".", "..") or "\0" in name:
        raise wrong_line(file, line, f"names the video {name!r}", "the name of a video, without a folder")
    return name


def read_json(file: Path, kind: type, expected: str) -> Any:
    """The content of a JSON file, which is a list or an object.

    Raises:
        DataError: it cannot be read, is not JSON, or is of another kind.
    """
    text = read_text(file, expected=expected, hint=_FETCH)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"it is not JSON ({problem})", expected=expected, hint=_FETCH, where=file) from None
    if not isinstance(content, kind):
        raise DataError("it has another form", expected=expected, hint=_FETCH, where=file)
    return content


def item_of(items: Sequence[Any], number: int, keys: Mapping[str, type], file: Path) -> list[Any]:
    """The values of one object in a list of JSON, by key.

    Args:
        items: the list.
        number: of the object, from 0.
        keys: with the type of each value.
        file: where it is.

    Raises:
        DataError: it is no object, or lacks a value, or has one of another type.
    """
    item = items[number]
    for key, kind in keys.items():
        value = item.get(key) if isinstance(item, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            form = ", ".join(f'"{name}"' for name in keys)
            raise wrong_line(file, number + 1, f"has no {key!r} as it should be, and is {str(item)[:80]}", form)
    return [item[key] for key in keys]
