"""The group of each recording (the person, or the video it was cut from), from a pattern or from a table."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from muybridge.core.errors import DataError
from muybridge.core.files import read_numbered_lines, read_once
from muybridge.data.datasets.lists import split_fields

TABLE_SUFFIXES = (".csv", ".tsv")
_FILE_COLUMNS = ("file", "filename", "path", "name", "recording", "video", "id")
_GROUP_COLUMNS = ("group", "person", "subject", "source")
_EXPECTED = "a table with the columns file and group, such as walk/a_0.mp4,anna"


def is_table(group: str) -> bool:
    """Whether the setting ``group`` names a table; a regular expression needs parentheses and may end alike."""
    if not group.lower().endswith(TABLE_SUFFIXES):
        return False
    return "(" not in group or Path(group).expanduser().is_file()


def group_of(group: str, name: str, path: Path) -> str:
    """The group of a recording.

    Args:
        group: a regular expression with one group of parentheses, or the path of a table.
        name: ``class/name.ext``.
        path: of the recording, for the message.

    Raises:
        DataError: the pattern does not match, or the table cannot be read or lacks the recording.
    """
    if is_table(group):
        file = Path(group).expanduser()
        return _look_up(_read(file), name, file)
    match = re.search(group, name)
    if match is None:
        raise DataError(
            f"data.group '{group}' is not found in {name!r}",
            expected="a group in every name, which is that of the class folder and that of the file, class/name.ext",
            hint="correct data.group, or rename the file",
            where=path,
        )
    return match[1]


def _look_up(groups: Mapping[str, str | None], name: str, file: Path) -> str:
    """The group by ``class/name.ext``, by that without suffix, by ``name.ext``, or by ``name``, in this order."""
    for key in _keys(name):
        if group := groups.get(key):
            return group
        if key in groups:
            break
    several = any(key in groups for key in _keys(name))
    raise DataError(
        f"{name!r} is {'in the table with several groups' if several else 'not in the table'}",
        expected="one group for every recording",
        hint="write the class folder too, as in walk/a_0.mp4" if several else "add a line for it",
        where=file,
    )


def _keys(name: str) -> list[str]:
    parts = PurePosixPath(name)
    return list(dict.fromkeys([name, str(parts.with_suffix("")), parts.name, parts.stem]))


def _read(file: Path) -> Mapping[str, str | None]:
    """Groups by every name of their recording; None where recordings of one name have different groups."""
    if not file.is_file():
        raise DataError("there is no such file", expected=_EXPECTED, hint="correct data.group (--group)", where=file)
    return _read_table(file)


@read_once
def _read_table(file: Path) -> Mapping[str, str | None]:
    lines = read_numbered_lines(file, expected=_EXPECTED, hint="correct the table")
    delimiter = max(",;\t", key=(lines[0][1] if lines else "").count)
    rows = [(number, split_fields(line, delimiter)) for number, line in lines]
    columns = [cell.lower() for cell in rows[0][1]] if rows else []
    chosen = [
        next((columns.index(name) for name in names if name in columns), None)
        for names in (_FILE_COLUMNS, _GROUP_COLUMNS)
    ]
    if None in chosen:
        raise DataError(
            f"the first line names the columns {', '.join(columns) or 'none'}",
            expected=_EXPECTED,
            hint=f"name the columns, the first one of {', '.join(_FILE_COLUMNS)} and the other one of "
            f"{', '.join(_GROUP_COLUMNS)}",
            where=file,
        )
    file_column, group_column = (column for column in chosen if column is not None)
    groups: dict[str, str | None] = {}
    for number, cells in rows[1:]:
        if len(cells) <= max(file_column, group_column) or not cells[file_column] or not cells[group_column]:
            raise DataError(f"line {number} lacks a value", expected=_EXPECTED, hint="complete the line", where=file)
        group = cells[group_column]
        for key in _keys(str(PurePosixPath(cells[file_column].replace("\\", "/")))):
            groups[key] = group if groups.get(key, group) == group else None
    return groups
