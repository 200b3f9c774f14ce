"""Reader for the ``.skeleton`` files of NTU RGB+D 60 and 120, with the customary choice of the main bodies.

Legend: T frames, P people, J joints, D coordinates.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.parsing import DOWNLOAD_AGAIN, is_number, read_text, to_sequence

JOINTS = 25
_PER_JOINT = 12  # x y z, depth and colour pixel, orientation quaternion, tracking state
_SHORTEST = 11
_WIDEST = 0.8
_WIDE_SHARE = 0.69754


def read_ntu(path: Path, people: int = 2) -> SkeletonSequence:
    """The main bodies of a ``.skeleton`` file (layout ``kinect25``), in metres, y up; see :func:`main_bodies`.

    The file gives the number of frames; for each frame the number of bodies; for each body a line that begins with
    its identity, the number of joints, and a line for each joint that begins with x y z.

    Args:
        path: the file.
        people: bodies to keep; a body that was not seen is absent.

    Raises:
        DataError: with the line, where the file is not like that; or nobody is seen at all.
    """
    bodies = main_bodies(_parse(path), people)
    frames = len(next(iter(bodies))) if bodies else 0
    joints = np.zeros((frames, people, JOINTS, 3))
    for person, body in enumerate(bodies):
        joints[:, person] = np.where(_seen(body)[:, None, None], body, 0.0)
    if not bodies:
        raise DataError(
            "nobody is seen in any frame",
            expected="a body in at least one frame",
            hint="take it out of the data set",
            where=path,
        )
    return to_sequence(joints, path)


def main_bodies(bodies: dict[str, Float64[np.ndarray, "T J D"]], people: int) -> list[Float64[np.ndarray, "T J D"]]:
    """The bodies that are most likely people, the most moving first.

    The Kinect takes chairs and reflections for people. The authors of the data set advise to drop bodies of
    unreasonable width over height, and to take for the main one the body whose x, y and z, over frames and joints,
    have the largest sum of variances (the data set's page, questions and answers). The thresholds are those of the
    public HCN and CTR-GCN preparations: bodies seen in at most 11 frames go, then those wider than 0.8 of their height
    in 69.754 % of their frames or more. A rule that would leave nobody is not applied.

    Args:
        bodies: positions by identity, NaN where the body is not seen.
        people: how many to keep.
    """
    kept = list(bodies.values())
    for rule in (_long_enough, _upright):
        kept = [body for body in kept if rule(body)] or kept
    return sorted(kept, key=_motion, reverse=True)[:people]


def _seen(body: np.ndarray) -> np.ndarray:
    return ~np.isnan(body[:, 0, 0])


def _long_enough(body: np.ndarray) -> bool:
    return bool(_seen(body).sum() > _SHORTEST)


def _upright(body: np.ndarray) -> bool:
    width, height, _ = np.ptp(body[_seen(body)], axis=1).T
    return bool((width > _WIDEST * height).mean() < _WIDE_SHARE)


def _motion(body: np.ndarray) -> float:
    return float(body[_seen(body)].var(axis=(0, 1)).sum())


def _parse(path: Path) -> dict[str, np.ndarray]:
    """Positions ``T J D`` of every body in the file by identity, NaN where it is not seen."""
    lines = read_text(path).splitlines()
    at = 0

    def take(what: str) -> str:
        nonlocal at
        if at >= len(lines):
            raise DataError(
                f"the file ends at line {len(lines)}, where {what} belongs",
                expected="all frames it announces",
                hint=DOWNLOAD_AGAIN,
                where=path,
            )
        at += 1
        return lines[at - 1]

    def count(what: str) -> int:
        word = take(what).strip()
        if not word.isdigit():
            raise _not_numbers(path, at, word, what)
        return int(word)

    frames = count("the number of frames")
    if frames > len(lines):  # before anything of that size is made
        raise DataError(
            f"the file announces {frames} frames in {len(lines)} lines",
            expected="all frames it announces",
            hint=DOWNLOAD_AGAIN,
            where=path,
        )
    bodies: dict[str, np.ndarray] = {}
    for frame in range(frames):
        for _ in range(count("the number of bodies")):
            identity = take("a body").split(maxsplit=1)[0]
            joints = count("the number of joints")
            if joints != JOINTS:
                raise DataError(
                    f"line {at} announces {joints} joints",
                    expected=f"{JOINTS}",
                    hint="check that it is a skeleton file of NTU RGB+D",
                    where=path,
                )
            rows = [take("a joint").split() for _ in range(joints)]
            positions = _positions(rows, path, first_line=at - joints + 1)
            bodies.setdefault(identity, np.full((frames, JOINTS, 3), np.nan))[frame] = positions
    return bodies


def _positions(rows: list[list[str]], path: Path, first_line: int) -> Float64[np.ndarray, "J 3"]:
    """x y z of the joints of one body."""
    try:
        table = np.array(rows, dtype=np.float64)[:, :3]
        if len(rows[0]) == _PER_JOINT and np.isfinite(table).all():
            return table
    except ValueError:
        pass  # said below, with the line
    for line, row in enumerate(rows, start=first_line):
        if len(row) != _PER_JOINT:
            raise DataError(
                f"line {line} has {len(row)} numbers",
                expected=f"{_PER_JOINT}, x y z first",
                hint=DOWNLOAD_AGAIN,
                where=path,
            )
        for word in row:
            if not is_number(word):
                raise _not_numbers(path, line, word, "a joint")
        if not np.isfinite([float(word) for word in row[:3]]).all():
            raise DataError(
                f"line {line} has the position {' '.join(row[:3])}",
                expected="finite coordinates",
                hint=DOWNLOAD_AGAIN,
                where=path,
            )
    raise AssertionError("joints that do not parse have a line that does not")


def _not_numbers(path: Path, line: int, word: str, what: str) -> DataError:
    return DataError(
        f"line {line} has {word!r} where {what} belongs",
        expected="numbers in the layout of NTU RGB+D",
        hint="check that it is a skeleton file of NTU RGB+D, and fetch it again",
        where=path,
    )
