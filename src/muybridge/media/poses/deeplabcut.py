"""DeepLabCut's tables: CSV, and the same as HDF5, as pandas writes it.

Legend: F frames, N columns.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.core.errors import DataError, MissingExtraError
from muybridge.core.extras import import_extra
from muybridge.media.parsing import read_text
from muybridge.media.poses.people import Frames, NumberedFrames, Person
from muybridge.media.poses.pickles import load_plain
from muybridge.media.poses.tables import HDF5_DAMAGE
from muybridge.media.poses.tools import check_span

Columns = Sequence[tuple[str, ...]]
"""Of each column scorer, perhaps individual, body part, and x, y or likelihood."""


def is_deeplabcut(text: str) -> bool:
    """Whether a CSV file is DeepLabCut's, by its first cell."""
    return text.lstrip("\ufeff").startswith("scorer,")


def is_deeplabcut_h5(path: Path) -> bool:
    """Whether an HDF5 file holds a table of pandas; False where that cannot be known without h5py."""
    try:
        with _h5py().File(path) as file:
            return _group(file) is not None
    except (*HDF5_DAMAGE, MissingExtraError):
        return False


def read_deeplabcut(path: Path) -> Frames:
    """DeepLabCut's table: header lines scorer, [individuals,] bodyparts, coords; then frame and x, y, likelihood."""
    rows = list(csv.reader(io.StringIO(read_text(path).lstrip("\ufeff"))))
    heads = {row[0]: row[1:] for row in rows[:4] if row}
    count = 4 if "individuals" in heads else 3
    try:
        names = ("scorer", *(("individuals",) if count == 4 else ()), "bodyparts", "coords")
        columns = list(zip(*(heads[name] for name in names), strict=True))
        values = np.array([[float(cell) if cell else np.nan for cell in row[1:]] for row in rows[count:] if row])
        return _frames(columns, values, range(len(values)))
    except (KeyError, ValueError, IndexError) as problem:
        raise _no_table(problem, path) from None


def read_deeplabcut_h5(path: Path) -> Frames:
    """The same table as HDF5, in pandas' form "table" or "fixed".

    Names of columns, which are pickled, are loaded without running what a pickle may hold.

    Raises:
        DataError: the file is damaged, or no such table.
        MissingExtraError: h5py is not installed.
    """
    h5py = _h5py()
    try:
        with h5py.File(path) as file:
            group = _group(file)
            if group is None:
                raise ValueError("it holds no table of pandas")
            columns, values, numbers = (_of_table if "table" in group else _of_blocks)(group)
        if len(numbers):
            check_span(min(numbers), max(numbers), len(numbers), path)
        return _frames(columns, values, numbers)
    except HDF5_DAMAGE as problem:
        raise _no_table(problem, path) from None


def _h5py() -> Any:
    return import_extra("h5py", "poses", "the .h5 files of DeepLabCut and SLEAP")


def _group(file: Any) -> Any:
    """The first group that is a data frame of pandas; None where there is none."""
    groups = (file[name] for name in file if "pandas_type" in file[name].attrs)
    return next((group for group in groups if "table" in group or "block0_values" in group), None)


def _of_table(group: Any) -> tuple[Columns, np.ndarray, Sequence[int]]:
    table = group["table"]
    blocks = [name for name in table.dtype.names if name.startswith("values_block_")]
    columns = [tuple(column) for name in blocks for column in load_plain(bytes(table.attrs[f"{name}_kind"]))]
    values = np.concatenate([np.asarray(table[name], dtype=np.float64) for name in blocks], axis=1)
    return columns, values, np.asarray(table["index"]).tolist()


def _of_blocks(group: Any) -> tuple[Columns, np.ndarray, Sequence[int]]:
    levels = [
        [names[place].decode() for place in np.asarray(group[f"block0_items_label{level}"]).tolist()]
        for level in range(int(group.attrs["block0_items_nlevels"]))
        for names in [np.asarray(group[f"block0_items_level{level}"]).tolist()]
    ]
    values = np.asarray(group["block0_values"], dtype=np.float64)
    return list(zip(*levels, strict=True)), values, np.asarray(group["axis1"]).tolist()


def _frames(columns: Columns, values: np.ndarray, numbers: Sequence[int]) -> Frames:
    """The people of each frame, from values F N; columns that are not there raise KeyError."""
    if values.ndim != 2 or len(columns) != values.shape[1] or not all(isinstance(number, int) for number in numbers):
        raise ValueError(f"{len(columns)} columns are named, and the values are {values.shape}")
    who = [column[1] if len(column) == 4 else "1" for column in columns]
    keys = {(person, *column[-2:]): place for place, (person, column) in enumerate(zip(who, columns, strict=True))}
    people, joints = list(dict.fromkeys(who)), list(dict.fromkeys(column[-2] for column in columns))
    frames: list[list[Person]] = [[] for _ in values]
    for person in people:
        mine = [joint for joint in joints if (person, joint, "x") in keys]
        x, y, score = (values[:, [keys[person, joint, axis] for joint in mine]] for axis in ("x", "y", "likelihood"))
        for frame, row in enumerate(np.stack([x, y], axis=-1)):
            if np.isfinite(row).any():
                frames[frame].append(Person(row, score[frame], person))
    return NumberedFrames(dict(zip(numbers, frames, strict=True)), joints)


def _no_table(problem: Exception, path: Path) -> DataError:
    return DataError(
        f"not a table of DeepLabCut ({problem})",
        expected="the header lines scorer, bodyparts and coords, then x, y and likelihood of each joint",
        hint="export the table again",
        where=path,
    )
