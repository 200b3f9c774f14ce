"""A table that says which part of the split, or which fold, each recording is in, by its id."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from muybridge.core.errors import DataError
from muybridge.core.files import natural_key, read_numbered_lines, read_once
from muybridge.data.datasets.folder_layout import SPLIT_NAMES
from muybridge.data.datasets.lists import split_fields

_EXPECTED = "a table with the columns id and split (or fold), as `muybridge split` writes it of a pack"


@dataclass(frozen=True, slots=True)
class Parts:
    """Where each recording is.

    Attributes:
        column: what the table gives.
        of: the part of the split (train, val or test) or the fold, by the id of the recording.
    """

    column: Literal["split", "fold"]
    of: Mapping[str, str]

    @property
    def folds(self) -> tuple[str, ...]:
        """The folds in their order; empty where the table gives a split."""
        return tuple(sorted(set(self.of.values()), key=natural_key)) if self.column == "fold" else ()


def read_parts(file: Path, ids: Collection[str]) -> Parts:
    """The parts of all recordings.

    Args:
        file: the table, in CSV.
        ids: of the recordings, each of which has to be in the table.

    Raises:
        DataError: it cannot be read, a line lacks a value or names an unknown recording or part, or a recording is in
            no line or in two.
    """
    parts, lines = _read(file)
    known = set(ids)
    if odd := next((id_ for id_ in parts.of if id_ not in known), None):
        raise DataError(
            f"line {lines[odd]} names {odd!r}, and there is no such recording",
            expected="the ids of the recordings of the pack",
            hint="make the table of this pack with `muybridge split`",
            where=file,
        )
    if lacking := [id_ for id_ in ids if id_ not in parts.of]:
        raise DataError(
            f"{len(lacking)} recordings of the pack are in no line, such as {lacking[0]!r}",
            expected="a line for each recording",
            hint="make the table of this pack with `muybridge split`",
            where=file,
        )
    return parts


@read_once
def _read(file: Path) -> tuple[Parts, Mapping[str, int]]:
    """The parts, and the number of the line of each recording."""
    rows = [
        (number, split_fields(line, ","))
        for number, line in read_numbered_lines(file, expected=_EXPECTED, hint="correct data.split")
    ]
    names = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    column: Literal["split", "fold"] | None = "split" if "split" in names else "fold" if "fold" in names else None
    if "id" not in names or column is None:
        raise DataError(
            f"the first line names the columns {', '.join(names) or 'none'}",
            expected=_EXPECTED,
            hint="make the table with `muybridge split`",
            where=file,
        )
    of: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, cells in rows[1:]:
        id_, part = (cells[names.index(name)] if len(cells) == len(names) else "" for name in ("id", column))
        if column == "split":
            part = SPLIT_NAMES.get(part.lower(), "")
        problem = "lacks a value, or has a part that is not train, val or test" if not (id_ and part) else ""
        if id_ in of:
            problem = f"names {id_!r}, as line {lines[id_]} does"
        if problem:
            raise DataError(f"line {number} {problem}", expected=_EXPECTED, hint="correct the line", where=file)
        of[id_], lines[id_] = part, number
    return Parts(column, of), lines
