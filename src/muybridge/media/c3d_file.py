"""Markers of motion capture in C3D files, read by the library c3d.

Legend: T frames, P people, J markers.

Source: the C3D format, https://www.c3d.org.
"""

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from muybridge.core.errors import DataError
from muybridge.core.extras import import_extra
from muybridge.core.types import SkeletonSequence
from muybridge.media.arrays import ReadOptions, assemble
from muybridge.media.joint_names import name_joints
from muybridge.media.parsing import DOWNLOAD_AGAIN, read_bytes

_METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}
_NO_MARKERS = ("ANGLES", "FORCES", "MOMENTS", "POWERS", "SCALARS")
"""Parameters of the group POINT that list points which are no positions."""

_PROBLEMS = (
    *(struct.error, ValueError, TypeError, IndexError, KeyError, AssertionError, AttributeError, EOFError),
    *(UnboundLocalError, OverflowError, MemoryError, OSError, ZeroDivisionError),
)
"""What the library raises on damaged files, found by damaging files at random."""


def read_c3d(path: Path, options: ReadOptions | None = None) -> SkeletonSequence:
    """The markers of a recording, in metres where the file says its unit; usually z points up.

    A marker that was not seen in a frame (residual -1) is missing. The label ``Anna:LASI`` is the marker LASI of Anna,
    who is a person of her own. Unnamed trajectories (``*12``), and computed angles, forces, moments and powers, are
    left out.

    Args:
        path: the file.
        options: ``up`` alone has a meaning.

    Raises:
        DataError: it is damaged or cut off, people have different markers, or nobody is seen.
        MissingExtraError: the library is not installed.
    """
    points, labels, unit = _read(path)
    people = _people(labels, path)
    names = next(iter(people.values()))
    array = np.stack([points[:, list(markers.values())] for markers in people.values()], axis=1)
    coordinates = ReadOptions(coordinates=3, up=(options or ReadOptions()).up)
    return name_joints(assemble(array * _METRES.get(unit, 1.0), coordinates, path), list(names), path)


def _people(labels: dict[str, int], path: Path) -> dict[str, dict[str, int]]:
    """The markers of each person: their numbers by name, in the same order for all."""
    people: dict[str, dict[str, int]] = {}
    for label, number in labels.items():
        person, _, marker = label.rpartition(":")
        people.setdefault(person, {})[marker] = number
    first, *others = people
    for person in others:
        if unlike := sorted(set(people[first]) ^ set(people[person])):
            raise DataError(
                f"{first or 'one person'} and {person or 'another'} have different markers, such as {unlike[0]}",
                expected="the same markers for all people",
                hint="export one person, or the same markers of all",
                where=path,
            )
    return {person: {name: markers[name] for name in people[first]} for person, markers in people.items()}


def _read(path: Path) -> tuple[Float64[np.ndarray, "T J 3"], dict[str, int], str]:
    """The points of a file, NaN where they were not seen; which of them are markers, by their labels; the unit."""
    c3d = import_extra("c3d", "poses", "C3D files")
    content = read_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it has no analog data
            reader = c3d.Reader(io.BytesIO(content))
            announced = reader.last_frame - reader.first_frame + 1
            rows = [np.array(points[:, :4]) for _, points, _ in reader.read_frames()]
            labels = [str(label).strip() for label in reader.point_labels]
            computed = {label for name in _NO_MARKERS for label in _texts(reader, name)}
            unit = next(iter(_texts(reader, "UNITS")), "")
    except _PROBLEMS as problem:
        raise _damaged(f"not readable as C3D ({problem!r})", path) from None
    if len(rows) != announced or not rows:
        raise _damaged(f"{announced} frames are announced, and {len(rows)} follow", path)
    points = np.stack(rows).astype(np.float64)
    count = min(len(labels), points.shape[1])
    twice = next((label for label in labels if label and labels.count(label) > 1), "")
    named = {labels[number]: number for number in range(count) if labels[number] and labels[number][0] != "*"}
    named = {label: number for label, number in named.items() if label not in computed}
    if not named or twice:
        raise _damaged(f"two points are called {twice}" if twice else "no marker has a name", path)
    return np.where(points[..., 3:] < 0, np.nan, points[..., :3]), named, unit.lower()


def _texts(reader: Any, parameter: str) -> list[str]:
    """The texts of a parameter of the group POINT; none where it is missing."""
    found = reader.get(f"POINT:{parameter}")
    if found is None or not found.num_elements:
        return []
    values = [found.string_value] if len(found.dimensions) < 2 else list(found.string_array)
    return [str(value).strip() for value in np.ravel(values)]


def _damaged(problem: str, path: Path) -> DataError:
    return DataError(problem, expected="a C3D file with named markers", hint=DOWNLOAD_AGAIN, where=path)
