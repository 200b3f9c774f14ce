"""Tables of recordings, as :func:`~muybridge.data.annotations.table.read_table` reads them."""

import os
from collections.abc import Sequence
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write
from muybridge.core.packed import PackedPath
from muybridge.core.text import csv_line
from muybridge.core.types import Record


def write_parts(path: Path, records: Sequence[Record], labels: Sequence[str], **columns: Sequence[str]) -> None:
    """Write a CSV file with the columns id, label and group, and those that are given, of the recordings of a pack.

    Args:
        path: of the file; its folder exists.
        records: one for each line.
        labels: class names.
        columns: further values of each recording by the name of the column, such as ``split``.

    Raises:
        OSError: it cannot be written.
    """
    values = zip(*columns.values(), strict=True)
    lines = [["id", "label", "group", *columns]]
    lines += [[one.id, labels[one.label], one.group, *more] for one, more in zip(records, values, strict=True)]
    _write(path, lines)


def write_table(path: Path, records: Sequence[Record], labels: Sequence[str], **columns: Sequence[str]) -> None:
    """Write a CSV file with the columns path, label and group, those that are given, and start and end.

    Paths are relative to the folder of the file where the recordings are below it. Start and end are seconds, and the
    columns are there only where recordings are parts of files.

    Args:
        path: of the file; its folder exists.
        records: one for each line.
        labels: class names.
        columns: further values of each recording by the name of the column, such as ``split``.

    Raises:
        DataError: the recordings are those of a pack.
        OSError: it cannot be written.
    """
    if packed := next((record for record in records if isinstance(record.path, PackedPath)), None):
        raise DataError(
            "a table names files, and the recordings of a pack lie inside of its shards",
            expected="the data set that was packed",
            hint="give its folder, and pack it again afterwards",
            where=packed.path,
        )
    folder, spans = path.resolve().parent, any(record.span for record in records)
    lines = [["path", "label", "group", *columns, *(("start", "end") if spans else ())]]
    for number, record in enumerate(records):
        source = record.path.resolve()
        place = source.relative_to(folder).as_posix() if source.is_relative_to(folder) else os.fspath(source)
        row = [place, labels[record.label], record.group, *(values[number] for values in columns.values())]
        lines.append([*row, *(map(str, record.span or ("", "")))] if spans else row)
    _write(path, lines)


def _write(path: Path, lines: Sequence[Sequence[str]]) -> None:
    with atomic_write(path) as draft:
        draft.write_text("".join(map(csv_line, lines)), encoding="utf-8")
