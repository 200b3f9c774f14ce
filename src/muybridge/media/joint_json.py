"""Reader for joints that users write as JSON.

Legend: T frames, P people, J joints, C numbers of a joint: 2 or 3 coordinates, and perhaps a score.

``{"joints": frames}`` or just ``frames``: a list of frames, each a list of people, each a list of J joints ``[x, y]``
or ``[x, y, z]``; null stands for an absent person, and a frame may list fewer people than another. With one person a
frame may be that person's list of joints. Beside ``joints`` there may be ``scores``, nested likewise with a number for
each joint (how sure an estimator was of it, null where it does not say), ``joint_names`` (J texts) and ``bones`` (rows
of parent and child, from the root outwards).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.arrays import ReadOptions, sequence_from_array
from muybridge.media.joint_names import name_stated_joints
from muybridge.media.parsing import read_text, shape_text
from muybridge.media.poses import is_pose_json, read_pose_json, refuse_frame

_SPARSEST = 1000  # places of an array for each that is listed


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
    beside = content if isinstance(content, dict) else {}
    if "present" in beside:
        raise DataError(
            "the file has present, which is not read in JSON",
            expected="null in joints for an absent person",
            hint="write null for whoever is absent, or save the arrays as .npz",
            where=path,
        )
    if options.axes:
        scores = _rectangular(beside["scores"], path) if beside.get("scores") is not None else None
        sequence = sequence_from_array(_rectangular(frames, path), None, options, path, scores)
    else:
        people = [[_person(person, path, frame) for person in _people(listed)] for frame, listed in enumerate(frames)]
        scores = None if beside.get("scores") is None else _scores(beside["scores"], people, path)
        sequence = sequence_from_array(_dense(people, path), None, options, path, scores)
    names, bones = (_as_stated(beside.get(name)) for name in ("joint_names", "bones"))
    return name_stated_joints(sequence, names, bones, path)


def _dense(people: Sequence[Sequence[np.ndarray | None]], path: Path) -> np.ndarray:
    """Positions ``T P J C`` of the people of each frame; zeros where somebody is absent."""
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
    return joints


def _scores(frames: Any, people: Sequence[Sequence[np.ndarray | None]], path: Path) -> np.ndarray:
    """Scores ``T P J`` of the people of each frame; NaN where there is none."""
    if not isinstance(frames, list) or len(frames) != len(people):
        number = f"{len(frames)} frames" if isinstance(frames, list) else "no list"
        raise _unlike_joints(f"scores has {number}, and joints {len(people)} frames", path)
    joints = next((len(person) for group in people for person in group if person is not None), 0)
    scores = np.full((len(people), max(map(len, people), default=0), joints), np.nan)
    for frame, (given, group) in enumerate(zip(frames, people, strict=True)):
        alone = isinstance(given, list) and bool(given) and not any(isinstance(each, list) for each in given)
        listed = [given] if alone and len(group) == 1 and given != [None] else given or []
        if not isinstance(listed, list) or len(listed) != len(group):
            raise _unlike_joints(f"the scores of frame {frame} are not of {len(group)} people", path)
        for index, (numbers, person) in enumerate(zip(listed, group, strict=True)):
            if numbers is None or person is None:
                continue
            try:
                row = np.array(numbers, dtype=np.float64)
            except (ValueError, TypeError, OverflowError):
                row = np.empty(0)
            if row.shape != (len(person),):
                raise _unlike_joints(
                    f"the scores of person {index} in frame {frame} are not {len(person)} numbers", path
                )
            if len(person) == joints:  # otherwise the joints are refused
                scores[frame, index] = row
    return scores


def _unlike_joints(problem: str, path: Path) -> DataError:
    return DataError(
        problem,
        expected="for each person of each frame a number for each joint, nested as joints is",
        hint="write the scores so, or leave them out",
        where=path,
    )


def _as_stated(value: Any) -> np.ndarray | None:
    """A list of a JSON file as an array, as it is; of no shape where it is none."""
    if value is None:
        return None
    try:
        return np.array(value)
    except (ValueError, OverflowError):
        return np.empty(())


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
