"""Readers for the keypoint files users bring: ``.npz``, ``.npy``, ``.json`` and ``.csv``.

Legend: T frames, P people, J joints, C numbers of a joint: 2 or 3 coordinates, and perhaps a score.

``.npz``: array ``joints`` (T P J C, or T J C for one person) and, if wanted, ``present`` (T P, or T), ``scores`` (T P
J, or T J: how sure an estimator was of each joint), ``joint_names`` (J texts) and ``bones`` (rows of parent and child,
from the root outwards).
``.npy``: the array alone. Both may be in another order that :class:`ReadOptions` names.
``.json``: ``{"joints": frames}`` or just ``frames``: a list of frames, each a list of people, each a list of J joints
``[x, y]`` or ``[x, y, z]``; null stands for an absent person, and a frame may list fewer people than another. With one
person a frame may be that person's list of joints.
``.csv``: a header with the columns ``frame``, ``joint``, ``x``, ``y`` and, if wanted, ``person`` and ``z``, then one
line for each joint; other columns are not read. Commas, semicolons or tabs separate; with the latter two, numbers may
have decimal commas. Frames and joints are whole numbers, joints from 0; a person is a number or a name; a frame, or a
person within a frame, that is not listed is absent.
"""

import csv
import json
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media import npz
from muybridge.media.arrays import EXPECTED, ReadOptions, assemble, sequence_from_array, shape_text
from muybridge.media.joint_names import name_joints
from muybridge.media.parsing import DOWNLOAD_AGAIN, is_number, read_bytes, read_text
from muybridge.media.poses import (
    is_deeplabcut,
    is_pose_json,
    read_pose_arrays,
    read_pose_json,
    read_pose_table,
    refuse_frame,
)

ARRAYS = ("joints", "present", "scores", "joint_names", "bones")
"""What an ``.npz`` file of a recording may hold."""

_SPARSEST = 1000  # places of an array for each that is listed
_WHOLE = r"([+-]?[0-9]{1,18})(?:\.0*)?"
_FEWEST_FRAMES = 0.1  # share of the frames between the first and the last that a CSV file must list


def read_npy(path: Path, options: ReadOptions | None = None) -> SkeletonSequence:
    """A sequence from a ``.npz`` or ``.npy`` file, as the module says.

    Raises:
        DataError: the file is damaged, lacks ``joints``, or see :func:`sequence_from_array`.
    """
    content = read_bytes(path)
    try:
        if content.startswith(b"PK"):
            arrays, names = npz.read_npz(BytesIO(content), (*ARRAYS, "keypoint", "keypoint_score"))
        else:
            arrays, names = {"joints": npz.read_npy(content)}, []
    except npz.NUMPY_PROBLEMS as problem:
        raise DataError(
            f"not readable as NumPy arrays ({problem})", expected=EXPECTED, hint=DOWNLOAD_AGAIN, where=path
        ) from None
    if "keypoint" in arrays and "joints" not in arrays:
        return read_pose_arrays(arrays["keypoint"], arrays.get("keypoint_score"), options or ReadOptions(), path)
    if "joints" not in arrays:
        raise DataError(
            f"the file contains {', '.join(names) or 'nothing'}",
            expected=f"{EXPECTED} called joints",
            hint="save it with numpy.savez(path, joints=..., present=...)",
            where=path,
        )
    sequence = sequence_from_array(arrays["joints"], arrays.get("present"), options, path, arrays.get("scores"))
    return _named(sequence, arrays, path)


def _named(sequence: SkeletonSequence, arrays: dict[str, np.ndarray], path: Path) -> SkeletonSequence:
    """The recording with the names that the file gives its joints, where it does."""
    if "joint_names" not in arrays:
        return sequence
    names, bones = arrays["joint_names"], arrays.get("bones", np.zeros((0, 2), np.int64))
    if not (names.dtype.kind == "U" and names.ndim == 1 and _is_tree(bones, sequence.joints.shape[2])):
        raise DataError(
            f"joint_names is {shape_text(names.shape)} of {names.dtype}, bones {shape_text(bones.shape)} of "
            f"{bones.dtype}",
            expected="a name of each joint, and a row of parent and child for each bone, from the root outwards",
            hint="correct them, or leave them out",
            where=path,
        )
    return name_joints(sequence, names.tolist(), path, [(int(parent), int(child)) for parent, child in bones])


def _is_tree(bones: np.ndarray, joints: int) -> bool:
    """Whether bones connect all joints from the root outwards; true for none."""
    if bones.ndim != 2 or bones.shape[1] != 2 or bones.dtype.kind not in "iu":
        return False
    reached = {int(bones[0, 0])} if len(bones) else set(range(joints))
    for parent, child in bones.tolist():
        if parent not in reached or child in reached:
            return False
        reached.add(child)
    return reached == set(range(joints))


def read_json(path: Path, options: ReadOptions | None = None) -> SkeletonSequence:
    """A sequence from a ``.json`` file, as the module says.

    Raises:
        DataError: not JSON, or, with the frame, nested in another way, or joints of differing number; see also
            :func:`sequence_from_array`.
    """
    options = options or ReadOptions()
    content = _json_content(path)
    if is_pose_json(content):
        return read_pose_json(content, options, path)
    frames = _json_frames(content, path)
    if options.axes:
        return sequence_from_array(_rectangular(frames, path), None, options, path)
    people = [[_person(person, path, frame) for person in _people(listed)] for frame, listed in enumerate(frames)]
    listed = [person for group in people for person in group if person is not None]
    shape = listed[0].shape if listed else (0, 3)
    most = max(map(len, people), default=0)
    if len(people) * most > _SPARSEST * max(len(listed), 1):
        raise DataError(
            f"{len(listed)} people are listed in {len(people)} frames, and up to {most} in one of them",
            expected="about as many people in every frame",
            hint="look for a frame with far too many people",
            where=path,
        )
    joints = np.zeros((len(people), most, *shape))
    for frame, group in enumerate(people):
        for index, person in enumerate(group):
            if person is None:
                continue
            if person.shape != shape:
                raise DataError(
                    f"frame {frame} has a person of {shape_text(person.shape)}",
                    expected=f"joints x coordinates as before, {shape_text(shape)}",
                    hint="write null for an absent person, and all joints of a present one",
                    where=path,
                )
            joints[frame, index] = person
    return sequence_from_array(joints, None, options, path)


def _json_content(path: Path) -> Any:
    """What a JSON file holds."""
    try:
        return json.loads(read_text(path), object_pairs_hook=_unique)
    except json.JSONDecodeError as problem:
        raise _no_json(f"line {problem.lineno} is not JSON ({problem.msg})", path) from None
    except (ValueError, RecursionError) as problem:  # a number of too many digits; too many brackets
        raise _no_json(f"the file is not JSON that can be read ({problem})", path) from None


def _json_frames(content: Any, path: Path) -> list[Any]:
    """The list of frames in the content of a JSON file."""
    refuse_frame(content, path)
    frames = content.get("joints") if isinstance(content, dict) else content
    if not isinstance(frames, list):
        keys = ", ".join(map(str, list(content)[:6])) if isinstance(content, dict) else ""
        raise DataError(
            "the file has no list of frames" + (f", it has {keys}" if keys else ""),
            expected='a list of frames, alone or as "joints"',
            hint="write the file so",
            where=path,
        )
    return frames


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, refused where a name stands twice, of which Python keeps the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice in one object")
    return content


def _no_json(problem: str, path: Path) -> DataError:
    return DataError(problem, expected="JSON", hint="fix the line, or write the file again", where=path)


def _rectangular(frames: list[Any], path: Path) -> np.ndarray:
    """Nested lists whose axes are named, as an array."""
    try:
        return np.array(frames, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as problem:
        raise DataError(
            f"the lists are not an array of numbers ({problem})",
            expected="lists of equal length at each level, as data.axes is set",
            hint="fix the file, or leave data.axes out and list frames, people, joints and coordinates",
            where=path,
        ) from None


def _people(listed: Any) -> list[Any]:
    """The people of one JSON frame; a list of joints alone is one person."""
    if listed is None:
        return []
    if not isinstance(listed, list):
        return [listed]
    first = listed[0] if listed else None
    return [listed] if isinstance(first, list) and first and not isinstance(first[0], list) else listed


def _person(person: Any, path: Path, frame: int) -> np.ndarray | None:
    """The joints of one person in JSON; None where that person is absent."""
    if person is None:
        return None
    try:
        array = np.array(person, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        array = np.empty(0)
    if array.ndim != 2 or array.shape[-1] not in (2, 3, 4):
        raise DataError(
            f"frame {frame} has a person that is no list of joints [x, y] or [x, y, z]",
            expected="numbers, the same count for every joint",
            hint="write null for an absent person, and fix the frame",
            where=path,
        )
    return array


def read_csv(path: Path, options: ReadOptions | None = None) -> SkeletonSequence:
    """A sequence from a ``.csv`` file, as the module says.

    Raises:
        DataError: a column is missing; or, with the line or the frame, a value is no number, or a joint is missing or
            listed twice; see also :func:`sequence_from_array`.
    """
    options = options or ReadOptions()
    if is_deeplabcut(read_text(path)):
        return read_pose_table(options, path)
    separator, (_, header), rows = _csv_rows(path)
    column = _columns(header, path)
    axes = [axis for axis in "xyz" if axis in column]
    keys: dict[tuple[int, str, int], int] = {}
    points: list[list[float]] = []
    for line, row in rows:
        key, point = _csv_joint(line, row, column, axes, separator, path)
        if key in keys:
            frame, person, joint = key
            raise DataError(
                f"lines {keys[key]} and {line} both give joint {joint} of person {person} in frame {frame}",
                expected="one line for each joint of a person in a frame",
                hint="delete one of them, or tell people apart with a column called person",
                where=path,
            )
        keys[key] = line
        points.append(point)
    if not keys:
        raise DataError(
            "the file has a header and no lines", expected="a line for each joint", hint=DOWNLOAD_AGAIN, where=path
        )
    joints, present = _dense(list(keys), points, path)
    return assemble(joints, options, path, present)


def _csv_rows(path: Path) -> tuple[str, tuple[int, list[str]], list[tuple[int, list[str]]]]:
    """The separator, the header and the other rows with their line numbers; rows without any value are left out."""
    lines = read_text(path).splitlines()
    first = next(index for index, line in enumerate(lines) if line.strip())
    declared = re.fullmatch(r'"?sep=(.)"?,*', lines[first].strip(), re.IGNORECASE)  # Excel's own first line
    start = first + 1 if declared else first
    header = next((line for line in lines[start:] if line.strip()), "")
    separator = declared[1] if declared else max(",;\t", key=header.count)
    reader = csv.reader(lines[start:], delimiter=separator)
    try:
        rows = [(start + reader.line_num, row) for row in reader if any(word.strip() for word in row)]
    except csv.Error as problem:
        raise DataError(
            f"line {start + reader.line_num} is not CSV ({problem})",
            expected="values separated by commas",
            hint=DOWNLOAD_AGAIN,
            where=path,
        ) from None
    if not rows:
        return separator, (start, []), []
    width = len(rows[0][1])
    for line, row in rows[1:]:
        if any(word.strip() for word in row[width:]):
            raise DataError(
                f"line {line} has {len(row)} values, and the header has {width}",
                expected="a value for each column",
                hint="fix the line, or separate values by semicolons where numbers have decimal commas",
                where=path,
            )
    return separator, rows[0], rows[1:]


def _columns(header: list[str], path: Path) -> dict[str, int]:
    """Where each column is, by its name in lower case."""
    names = [name.strip().lower() for name in header]
    missing = [name for name in ("frame", "joint", "x", "y") if name not in names]
    twice = [name for name in ("frame", "person", "joint", "x", "y", "z") if names.count(name) > 1]
    if missing or twice:
        raise DataError(
            f"the header has no column {' or '.join(missing)}"
            if missing
            else f"the header has {' and '.join(twice)} twice",
            expected="columns frame, joint, x, y and, if wanted, person and z",
            hint="name the columns in the first line",
            where=path,
        )
    return {name: index for index, name in enumerate(names)}


def _csv_joint(
    line: int, row: list[str], column: dict[str, int], axes: list[str], separator: str, path: Path
) -> tuple[tuple[int, str, int], list[float]]:
    """Frame, person and joint of one line, and the coordinates."""
    words = {name: row[index].strip() if index < len(row) else "" for name, index in column.items()}
    numbers = [words[axis] for axis in axes]
    if separator != ",":
        numbers = [word.replace(",", ".") for word in numbers]
    whole = [re.fullmatch(_WHOLE, words[name]) for name in ("frame", "joint")]
    person = words.get("person", "0")
    person = str(int(match[1])) if (match := re.fullmatch(_WHOLE, person)) else person
    if not all(whole) or not person or "\ufffd" in person or not all(map(is_number, numbers)):
        wanted = ", ".join(name for name in ("frame", "joint", *axes) if name in column)
        raise DataError(
            f"line {line} is {separator.join(row)!r}",
            expected=f"numbers for {wanted}; whole ones for frame and joint"
            + ("; a number or a name for person" if "person" in column else ""),
            hint="fix the line; leave absent people out",
            where=path,
        )
    frame, joint = (int(match[1]) for match in whole if match)
    if not 0 <= frame < 2**31 or not 0 <= joint < 2**31:
        raise DataError(
            f"line {line} has frame {words['frame']} and joint {words['joint']}",
            expected="frames and joints counted from 0",
            hint="fix the line",
            where=path,
        )
    return (frame, person, joint), [float(word) for word in numbers]


def _dense(keys: list[tuple[int, str, int]], points: list[list[float]], path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Positions ``T P J C`` from lines by frame, person and joint, and who is present."""
    identities = sorted({person for _, person, _ in keys}, key=_by_number)
    number = {person: index for index, person in enumerate(identities)}
    table = np.array([(frame, number[person], joint) for frame, person, joint in keys])
    first = int(table[:, 0].min())
    _check_numbers(table, path)
    table[:, 0] -= first
    frames, people, count = (int(most) + 1 for most in table.max(axis=0))
    if frames * people * count > _SPARSEST * len(keys):
        raise DataError(
            f"{len(keys)} lines are for {frames} frames, {people} people and {count} joints",
            expected="a line for most joints of most frames",
            hint="look for a frame, person or joint number that is much too large",
            where=path,
        )
    joints = np.zeros((frames, people, count, len(points[0])))
    joints[tuple(table.T)] = points
    listed = np.zeros((frames, people, count), dtype=bool)
    listed[tuple(table.T)] = True
    some, every = np.asarray(listed.any(axis=2)), np.asarray(listed.all(axis=2))
    if (some != every).any():
        frame, person = np.argwhere(some != every)[0]
        raise DataError(
            f"frame {frame + first} has {listed[frame, person].sum()} of {count} joints of person {identities[person]}",
            expected="all joints of a person, or none",
            hint="write the missing joints, or leave this person out of this frame",
            where=path,
        )
    return joints, some


def _by_number(person: str) -> tuple[bool, int, str]:
    """Numbers before names, and in the order of their values."""
    number = re.fullmatch(_WHOLE, person)
    return number is None, int(number[1]) if number else 0, person


def _check_numbers(table: np.ndarray, path: Path) -> None:
    """Refuse joints that are not counted from 0, and frames that are not counted."""
    joints, frames = np.unique(table[:, 2]), np.unique(table[:, 0])
    if joints[0] != 0:
        raise DataError(
            f"the first joint is {joints[0]}, and there is no joint 0",
            expected="joints counted from 0",
            hint=f"subtract {joints[0]} from the joint numbers, or write the missing joints",
            where=path,
        )
    span = int(frames[-1] - frames[0]) + 1
    if len(frames) < _FEWEST_FRAMES * span:
        raise DataError(
            f"of the {span} frames from {frames[0]} to {frames[-1]}, {len(frames)} are listed",
            expected="frames that are counted one by one",
            hint="number the frames 0, 1, 2, ... (time stamps are no frame numbers), or look for one that is too large",
            where=path,
        )
