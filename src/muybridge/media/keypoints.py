"""Readers for the keypoint files users bring: ``.npz``, ``.npy``, ``.json`` and ``.csv``.

Legend: T frames, P people, J joints, D coordinates (2 or 3).

``.npz``: array ``joints`` (T P J D, or T J D for one person) and, if wanted, ``present`` (T P, or T).
``.npy``: the array alone.
``.json``: ``{"joints": frames}`` or just ``frames``: a list of frames, each a list of people, each a list of J joints
``[x, y]`` or ``[x, y, z]``; null stands for an absent person, and a frame may list fewer people than another. With one
person a frame may be that person's list of joints.
``.csv``: a header naming the columns ``frame``, ``joint``, ``x``, ``y`` and, if wanted, ``person`` and ``z``, then one
line for each joint. Frames, people and joints are whole numbers; people and joints count from 0; a frame, or a person
within a frame, that is not listed is absent.
"""

import csv
import json
import tokenize
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.parsing import DOWNLOAD_AGAIN, read_bytes, read_text, to_sequence

# What NumPy, zipfile and zlib raise on damaged files, found by damaging files at random.
_NUMPY_PROBLEMS = (
    *(ValueError, TypeError, SyntaxError, RuntimeError, OSError, EOFError, KeyError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
_SPARSEST = 1000
_SHAPE = "an array of frames x people x joints x 2 or 3 coordinates (or without people)"


def read_npy(path: Path) -> SkeletonSequence:
    """A sequence from a ``.npz`` or ``.npy`` file, as the module says.

    Raises:
        DataError: the file is damaged, lacks ``joints``, or an array has another shape.
    """
    content = read_bytes(path)
    try:
        loaded = np.load(BytesIO(content), allow_pickle=False)
        arrays = {"joints": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except _NUMPY_PROBLEMS as problem:
        raise DataError(
            f"not readable as NumPy arrays ({problem})", expected=_SHAPE, hint=DOWNLOAD_AGAIN, where=path
        ) from None
    if "joints" not in arrays:
        raise DataError(
            f"the file holds {', '.join(arrays) or 'nothing'}",
            expected=f"{_SHAPE} called joints",
            hint="save it with numpy.savez(path, joints=..., present=...)",
            where=path,
        )
    joints, present = arrays["joints"], arrays.get("present")
    if joints.ndim == 3:
        joints = joints[:, None]
    if joints.ndim != 4 or joints.shape[-1] not in (2, 3) or not np.issubdtype(joints.dtype, np.number):
        raise DataError(
            f"joints is {_shape(joints.shape)} of {joints.dtype}",
            expected=_SHAPE,
            hint="rearrange and save the array again",
            where=path,
        )
    if present is not None:
        present = present[:, None] if present.ndim == 1 else present
        if present.shape != joints.shape[:2]:
            raise DataError(
                f"present is {_shape(present.shape)}",
                expected=f"frames x people, here {_shape(joints.shape[:2])}",
                hint="save the array again, or leave it out",
                where=path,
            )
        present = present.astype(bool)
    return to_sequence(joints.astype(np.float64), path, present)


def read_json(path: Path) -> SkeletonSequence:
    """A sequence from a ``.json`` file, as the module says.

    Raises:
        DataError: not JSON, or, with the frame, nested in another way, or joints of differing number.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as problem:
        raise DataError(
            f"line {problem.lineno} is not JSON ({problem.msg})",
            expected="JSON",
            hint="mend the line, or write the file again",
            where=path,
        ) from None
    frames = content.get("joints") if isinstance(content, dict) else content
    if not isinstance(frames, list):
        raise DataError(
            "the file has no list of frames",
            expected='a list of frames, alone or as "joints"',
            hint="write the file so",
            where=path,
        )
    people = [[_person(person, path, frame) for person in _people(listed)] for frame, listed in enumerate(frames)]
    shape = next((person.shape for listed in people for person in listed if person is not None), (0, 3))
    joints = np.zeros((len(people), max(map(len, people), default=0), *shape))
    for frame, listed in enumerate(people):
        for index, person in enumerate(listed):
            if person is None:
                continue
            if person.shape != shape:
                raise DataError(
                    f"frame {frame} has a person of {_shape(person.shape)}",
                    expected=f"joints x coordinates as before, {_shape(shape)}",
                    hint="write null for an absent person, and all joints of a present one",
                    where=path,
                )
            joints[frame, index] = person
    return to_sequence(joints, path)


def _people(listed: Any) -> list:
    """The people of one JSON frame; a bare list of joints is one person."""
    if listed is None:
        return []
    if (
        isinstance(listed, list)
        and listed
        and isinstance(listed[0], list)
        and listed[0]
        and not isinstance(listed[0][0], list)
    ):
        return [listed]
    return listed if isinstance(listed, list) else [listed]


def _person(person: Any, path: Path, frame: int) -> np.ndarray | None:
    if person is None:
        return None
    try:
        array = np.array(person, dtype=np.float64)
    except (ValueError, TypeError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[-1] not in (2, 3):
        raise DataError(
            f"frame {frame} has a person that is no list of joints [x, y] or [x, y, z]",
            expected="numbers, the same count for every joint",
            hint="write null for an absent person, and mend the frame",
            where=path,
        )
    return array


def read_csv(path: Path) -> SkeletonSequence:
    """A sequence from a ``.csv`` file, as the module says.

    Raises:
        DataError: a column is missing; or, with the line or the frame, a value is no number or a joint is missing.
    """
    reader = csv.reader(read_text(path).splitlines())
    try:
        (_, first_row), *rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as problem:
        raise DataError(
            f"line {reader.line_num} is not CSV ({problem})",
            expected="values separated by commas",
            hint=DOWNLOAD_AGAIN,
            where=path,
        ) from None
    header = [name.strip().lower() for name in first_row]
    axes = ["x", "y", "z"] if "z" in header else ["x", "y"]
    missing = [name for name in ("frame", "joint", "x", "y") if name not in header]
    if missing:
        raise DataError(
            f"the header has no column {' or '.join(missing)}",
            expected="columns frame, joint, x, y and, if wanted, person and z",
            hint="name the columns in the first line",
            where=path,
        )
    column = {name: header.index(name) for name in header}
    keys: list[tuple[int, int, int]] = []
    points: list[list[float]] = []
    for line, row in rows:
        try:
            person = int(row[column["person"]]) if "person" in column else 0
            keys.append((int(row[column["frame"]]), person, int(row[column["joint"]])))
            points.append([float(row[column[axis]]) for axis in axes])
        except (ValueError, IndexError):
            raise DataError(
                f"line {line} is {','.join(row)!r}",
                expected=f"numbers for {', '.join(header)}; whole ones for frame, person and joint",
                hint="mend the line; leave absent people out",
                where=path,
            ) from None
        if not all(0 <= number < 2**31 for number in keys[-1]):
            raise DataError(
                f"line {line} has frame, person and joint {', '.join(map(str, keys[-1]))}",
                expected="frames, people and joints counted from 0",
                hint="mend the line",
                where=path,
            )
    if not keys:
        raise DataError(
            "the file has a header and no lines", expected="a line for each joint", hint=DOWNLOAD_AGAIN, where=path
        )
    table = np.array(keys)
    first = table[:, 0].min()
    table[:, 0] -= first
    frames, people, count = table.max(axis=0) + 1
    if float(frames) * people * count > _SPARSEST * len(keys):
        raise DataError(
            f"{len(keys)} lines speak of {frames} frames, {people} people and {count} joints",
            expected="a line for most joints of most frames",
            hint="look for a frame, person or joint number that is much too large",
            where=path,
        )
    joints = np.zeros((frames, people, count, len(axes)))
    joints[tuple(table.T)] = points
    listed = np.zeros((frames, people, count), dtype=bool)
    listed[tuple(table.T)] = True
    some, every = np.asarray(listed.any(axis=2)), np.asarray(listed.all(axis=2))
    if (some != every).any():
        frame, person = np.argwhere(some != every)[0]
        raise DataError(
            f"frame {frame + first} has {listed[frame, person].sum()} of {count} joints of person {person}",
            expected="all joints of a person, or none",
            hint="write the missing joints, or leave this person out of this frame",
            where=path,
        )
    return to_sequence(joints, path, some)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
