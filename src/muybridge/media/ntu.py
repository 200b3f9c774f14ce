"""Reader for the ``.skeleton`` files of NTU RGB+D 60 and 120, with the usual selection of the main bodies.

Legend: T frames, P people, J joints, D coordinates.
"""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.parsing import DOWNLOAD_AGAIN, is_number, nobody_seen, read_text, to_sequence

JOINTS = 25
_PER_JOINT = 12  # x y z, depth and color pixel, orientation quaternion, tracking state
_SHORTEST = 11
_WIDEST = 0.8
_WIDE_SHARE = 0.69754


@np.errstate(all="ignore")  # what is not finite is refused in the end
def read_ntu(path: Path, people: int = 2) -> SkeletonSequence:
    """The main bodies of a ``.skeleton`` file (layout ``kinect25``), in metres, y up; see :func:`main_bodies`.

    The file gives the number of frames; for each frame the number of bodies; for each body a line that begins with
    its identity, the number of joints, and a line for each joint that begins with x y z.

    Args:
        path: the file.
        people: bodies to keep; a body that was not seen is absent.

    Raises:
        DataError: with the line, where the file is not like that.
        NoPersonError: there is no body in any frame.
    """
    frames, bodies = _parse(path)
    if not bodies:
        raise nobody_seen(frames, path)
    positions = {identity: np.stack(list(body.values())) for identity, body in bodies.items()}
    joints = np.zeros((frames, people, JOINTS, 3))
    for person, identity in enumerate(main_bodies(positions, people)):
        joints[list(bodies[identity]), person] = positions[identity]
    return to_sequence(joints, path)


def main_bodies(bodies: dict[str, Float64[np.ndarray, "_ J D"]], people: int) -> list[str]:
    """The identities of the bodies that are most likely people, the one that moves most first.

    The Kinect detects people in chairs and reflections. The authors of the data set advise to drop bodies whose width
    is unreasonable for their height, and to choose as the main one the body whose x, y and z, over frames and joints,
    have the largest sum of variances (the data set's page, questions and answers). The thresholds are those of the
    public HCN and CTR-GCN preparations: bodies seen in at most 11 frames are dropped, then those wider than 0.8 of
    their height in 69.754 % of their frames or more. A rule that would leave nobody is not applied.

    Args:
        bodies: positions by identity, in the frames in which the body is seen.
        people: how many to keep.
    """
    candidates = list(bodies)
    for rule in (_long_enough, _upright):
        candidates = [identity for identity in candidates if rule(bodies[identity])] or candidates
    return sorted(candidates, key=lambda identity: _motion(bodies[identity]), reverse=True)[:people]


def _long_enough(body: np.ndarray) -> bool:
    return len(body) > _SHORTEST


def _upright(body: np.ndarray) -> bool:
    width, height, _ = np.ptp(body, axis=1).T
    return bool((width > _WIDEST * height).mean() < _WIDE_SHARE)


def _motion(body: np.ndarray) -> float:
    return float(body.var(axis=(0, 1)).sum())


class _Lines:
    """The lines of a file one after the other, blank ones skipped, as the data set's own reader skips white space.

    Attributes:
        number: of the last line that was taken, counted from 1.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = [
            (number, line) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()
        ]
        self.taken = 0

    @property
    def number(self) -> int:
        return self.lines[self.taken - 1][0]

    def take(self, what: str) -> str:
        """The next line, which should be ``what``."""
        if self.taken >= len(self.lines):
            raise DataError(
                f"the file ends at line {self.number}, where {what} belongs",
                expected="all frames it announces",
                hint=DOWNLOAD_AGAIN,
                where=self.path,
            )
        self.taken += 1
        return self.lines[self.taken - 1][1]

    def count(self, what: str) -> int:
        """The number on the next line."""
        word = self.take(what).strip()
        if not re.fullmatch(r"[0-9]{1,18}", word):
            raise _not_numbers(self.path, self.number, word, what)
        return int(word)


def _parse(path: Path) -> tuple[int, dict[str, dict[int, np.ndarray]]]:
    """The number of frames, and positions ``J D`` of every body by identity and frame."""
    lines = _Lines(path)
    frames = lines.count("the number of frames")
    if frames > len(lines.lines):  # before anything of that size is allocated
        raise DataError(
            f"the file announces {frames} frames in {len(lines.lines)} lines",
            expected="all frames it announces",
            hint=DOWNLOAD_AGAIN,
            where=path,
        )
    bodies: dict[str, dict[int, np.ndarray]] = {}
    for frame in range(frames):
        for _ in range(lines.count("the number of bodies")):
            identity = lines.take("a body").split(maxsplit=1)[0]
            if frame in bodies.setdefault(identity, {}):
                raise DataError(
                    f"line {lines.number} has the body {identity} for the second time in frame {frame}",
                    expected="each body once in a frame (frames are counted from 0)",
                    hint=DOWNLOAD_AGAIN,
                    where=path,
                )
            bodies[identity][frame] = _body(lines)
    return frames, bodies


def _body(lines: _Lines) -> Float64[np.ndarray, "J 3"]:
    """x y z of the joints of the next body."""
    joints = lines.count("the number of joints")
    if joints != JOINTS:
        raise DataError(
            f"line {lines.number} announces {joints} joints",
            expected=f"{JOINTS}",
            hint="check that it is a skeleton file of NTU RGB+D",
            where=lines.path,
        )
    rows = [(lines.take("a joint").split(), lines.number) for _ in range(joints)]
    return _positions(rows, lines.path)


def _positions(rows: list[tuple[list[str], int]], path: Path) -> Float64[np.ndarray, "J 3"]:
    """x y z of the joints of one body, from the words and the number of each line."""
    try:
        table = np.array([row for row, _ in rows], dtype=np.float64)[:, :3]
        if len(rows[0][0]) == _PER_JOINT and np.isfinite(table).all():
            return table
    except ValueError:
        pass  # reported below, with the line
    for row, line in rows:
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
    raise AssertionError("joints that cannot be parsed have a line that cannot be parsed")


def _not_numbers(path: Path, line: int, word: str, what: str) -> DataError:
    return DataError(
        f"line {line} has {word!r} where {what} belongs",
        expected="numbers in the layout of NTU RGB+D",
        hint="check that it is a skeleton file of NTU RGB+D, and fetch it again",
        where=path,
    )
