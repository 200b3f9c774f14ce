"""Reader for the ``.skeleton`` files of NTU RGB+D 60 and 120, with the customary choice of the main bodies.

Legend: T frames, P people, J joints, D coordinates.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.parsing import FETCH_AGAIN, read_text, to_sequence

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
            cure="take it out of the data set",
            where=path,
        )
    return to_sequence(joints, path)


def main_bodies(bodies: dict[str, Float64[np.ndarray, "T J D"]], people: int) -> list[Float64[np.ndarray, "T J D"]]:
    """The bodies that are most likely people, the most moving first.

    The Kinect takes chairs and reflections for people. As is customary, among several bodies those seen in at most 11
    frames are dropped, then those that are wider than 0.8 of their height in 69.754 % of their frames or more (the
    rules and numbers of the public HCN and CTR-GCN preparations); the others are ranked by how much they move, the sum
    over x, y, z of the standard deviation over frames and joints (2s-AGCN). A rule that would leave nobody is not
    applied.

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
    return float(body[_seen(body)].std(axis=(0, 1)).sum())


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
                cure=FETCH_AGAIN,
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
    bodies: dict[str, np.ndarray] = {}
    for frame in range(frames):
        for _ in range(count("the number of bodies")):
            identity = take("a body").split(maxsplit=1)[0]
            joints = count("the number of joints")
            if joints != JOINTS:
                raise DataError(
                    f"line {at} announces {joints} joints",
                    expected=f"{JOINTS}",
                    cure="check that it is a skeleton file of NTU RGB+D",
                    where=path,
                )
            words = [take("a joint").split() for _ in range(joints)]
            for offset, row in enumerate(words):
                if len(row) != _PER_JOINT:
                    raise DataError(
                        f"line {at - joints + offset + 1} has {len(row)} numbers",
                        expected=f"{_PER_JOINT}, x y z first",
                        cure=FETCH_AGAIN,
                        where=path,
                    )
            try:
                positions = np.array([row[:3] for row in words], dtype=np.float64)
            except ValueError as problem:
                raise _not_numbers(path, at, str(problem).rpartition(": ")[2], "a joint of this body") from None
            bodies.setdefault(identity, np.full((frames, JOINTS, 3), np.nan))[frame] = positions
    return bodies


def _not_numbers(path: Path, line: int, word: str, what: str) -> DataError:
    return DataError(
        f"line {line} has {word} where {what} belongs",
        expected="numbers in the layout of NTU RGB+D",
        cure="check that it is a skeleton file of NTU RGB+D, and fetch it again",
        where=path,
    )
