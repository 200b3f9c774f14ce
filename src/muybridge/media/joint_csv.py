"""Reader for joints that users write as CSV, a line for each joint.

Legend: T frames, P people, J joints, C coordinates.

A header with the columns ``frame``, ``joint``, ``x``, ``y`` and, if wanted, ``person``, ``z`` and ``score`` (how sure
an estimator was of the joint; ``confidence``, ``likelihood`` and ``visibility`` are the same), then one line for each
joint; other columns are not read. Names such as ``frame_id``, ``landmark`` and ``track_id`` are understood. Commas,
semicolons or tabs separate; with the latter two, numbers may have decimal commas. Frames are whole numbers; joints are
whole numbers from 0, or all are names; a person is a number or a name; a frame, or a person within a frame, that is not
listed is absent. An empty score is none.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.arrays import ReadOptions, assemble
from muybridge.media.joint_names import name_joints
from muybridge.media.parsing import DOWNLOAD_AGAIN, is_number, read_text
from muybridge.media.poses import is_deeplabcut, read_pose_table

SCORES = ("score", "confidence", "likelihood", "visibility")
"""Columns that say how sure an estimator was of a joint."""

_ALSO_CALLED = {
    **dict.fromkeys(("frame_id", "frame_index", "frame_number", "frame_no"), "frame"),
    **dict.fromkeys(("landmark", "landmark_name", "keypoint", "keypoint_name", "joint_name", "joint_id"), "joint"),
    **dict.fromkeys(("person_id", "track", "track_id"), "person"),
}
"""What other programs call the columns, taken where no column has our own name."""

_SPARSEST = 1000  # places of an array for each that is listed
_WHOLE = r"([+-]?[0-9]{1,18})(?:\.0*)?"
_FEWEST_FRAMES = 0.1  # share of the frames between the first and the last that a CSV file must list

_Key = tuple[int, str, str]  # frame, person and joint


@dataclass(frozen=True, slots=True)
class _Columns:
    """Where each column is, by its name in lower case; which are coordinates, and which the score, if any."""

    place: Mapping[str, int]
    axes: tuple[str, ...]
    score: str


def read_csv(path: Path, options: ReadOptions | None = None) -> SkeletonSequence:
    """A sequence from a ``.csv`` file, as the module says.

    Raises:
        DataError: a column is missing; or, with the line or the frame, a value is no number, or a joint is missing or
            listed twice; see also ``sequence_from_array``.
    """
    options = options or ReadOptions()
    if is_deeplabcut(read_text(path)):
        return read_pose_table(options, path)
    separator, (_, header), rows = _csv_rows(path)
    columns = _columns(header, path)
    keys: dict[_Key, int] = {}
    points: list[list[float]] = []
    for line, row in rows:
        key, point = _csv_joint(line, row, columns, separator, path)
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
    numbers, names = _numbered_joints(keys, path)
    joints, present = _dense(numbers, points, path)
    scores = joints[..., -1] if columns.score else None
    if scores is not None:
        joints, scores = joints[..., :-1], np.where(present[..., None], scores, np.nan)
    sequence = assemble(joints, options, path, present, scores)
    return name_joints(sequence, names, path) if names else sequence


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


def _columns(header: list[str], path: Path) -> _Columns:
    given = [name.strip().lower() for name in header]
    names = [other if (other := _ALSO_CALLED.get(name)) and other not in given else name for name in given]
    missing = [name for name in ("frame", "joint", "x", "y") if name not in names]
    twice = [name for name in ("frame", "person", "joint", "x", "y", "z", *SCORES) if names.count(name) > 1]
    scores = [name for name in SCORES if name in names]
    if missing or twice or len(scores) > 1:
        raise DataError(
            f"the header has no column {' or '.join(missing)}"
            if missing
            else f"the header has {' and '.join(twice)} twice"
            if twice
            else f"the header has {' and '.join(scores)}, which all say how sure a joint is",
            expected="columns frame, joint, x, y and, if wanted, person, z and score",
            hint="name the columns in the first line" if missing else "rename or delete all of these but one",
            where=path,
        )
    axes = tuple(axis for axis in "xyz" if axis in names)
    return _Columns({name: index for index, name in enumerate(names)}, axes, scores[0] if scores else "")


def _csv_joint(line: int, row: list[str], columns: _Columns, separator: str, path: Path) -> tuple[_Key, list[float]]:
    """Frame, person and joint of one line, and the coordinates with the score; an empty score is NaN."""
    words = {name: row[index].strip() if index < len(row) else "" for name, index in columns.place.items()}
    numbers = [words[axis] for axis in columns.axes]
    numbers += [words[columns.score] or "nan"] if columns.score else []
    if separator != ",":
        numbers = [word.replace(",", ".") for word in numbers]
    frame = re.fullmatch(_WHOLE, words["frame"])
    person, joint = _identity(words.get("person", "0")), _identity(words["joint"])
    named = bool(person and joint) and "\ufffd" not in person + joint
    is_joint = re.fullmatch(_WHOLE, words["joint"]) or not is_number(joint)
    if frame is None or not named or not is_joint or not all(map(is_number, numbers)):
        wanted = ", ".join(filter(None, (*columns.axes, columns.score)))
        raise DataError(
            f"line {line} is {separator.join(row)!r}",
            expected=f"a whole number for frame, a number or a name for joint, numbers for {wanted}"
            + ("; a number or a name for person" if "person" in columns.place else ""),
            hint="fix the line; leave absent people out",
            where=path,
        )
    if not 0 <= int(frame[1]) < 2**31:
        raise _uncounted(f"line {line} has frame {words['frame']}", path)
    return (int(frame[1]), person, joint), [float(word) for word in numbers]


def _identity(word: str) -> str:
    """A number, however it is written, or a name."""
    return str(int(match[1])) if (match := re.fullmatch(_WHOLE, word)) else word


def _uncounted(problem: str, path: Path) -> DataError:
    return DataError(problem, expected="frames and joints counted from 0", hint="fix the line", where=path)


def _numbered_joints(keys: Mapping[_Key, int], path: Path) -> tuple[list[tuple[int, str, int]], list[str]]:
    """Lines by frame, person and the number of the joint, and the names of the joints where they have names.

    Raises:
        DataError: some joints have numbers and others names, or a number is out of range.
    """
    joints = list(dict.fromkeys(joint for _, _, joint in keys))
    are_numbers = [re.fullmatch(_WHOLE, joint) is not None for joint in joints]
    if all(are_numbers):
        for (_, _, joint), line in keys.items():
            if not 0 <= int(joint) < 2**31:
                raise _uncounted(f"line {line} has joint {joint}", path)
        return [(frame, person, int(joint)) for frame, person, joint in keys], []
    if any(are_numbers):
        odd = joints[are_numbers.index(not are_numbers[0])]
        raise DataError(
            f"line {next(line for key, line in keys.items() if key[2] == odd)} has joint {odd!r}, and the first "
            f"{joints[0]!r}",
            expected="numbers of all joints, or names of all",
            hint="fix the line",
            where=path,
        )
    number = {joint: index for index, joint in enumerate(joints)}
    return [(frame, person, number[joint]) for frame, person, joint in keys], joints


def _dense(
    keys: Sequence[tuple[int, str, int]], points: list[list[float]], path: Path
) -> tuple[np.ndarray, np.ndarray]:
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
