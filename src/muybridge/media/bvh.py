"""Motion capture in BVH files: a skeleton and its rotations, from which the joints' positions follow.

Legend: T frames, J joints, C channels of a frame.

Source: the format is Biovision's; Lander, "Working with Motion Capture File Formats", Game Developer, January 1998.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.arrays import ReadOptions, turn_up
from muybridge.media.joint_names import name_joints
from muybridge.media.parsing import DOWNLOAD_AGAIN, read_text, to_sequence

_CHANNEL = re.compile(r"([xyz])(position|rotation)")
_MOTION = re.compile(r"^[ \t]*MOTION[ \t]*$", re.IGNORECASE | re.MULTILINE)
_FRAMES = re.compile(r"\s*Frames:\s*(\d{1,9})\s+Frame\s+Time:\s*(\S+)", re.IGNORECASE)


@dataclass
class _Joint:
    """A joint of the hierarchy.

    Attributes:
        name: as the file gives it, without a namespace such as ``mixamorig:``.
        parent: its number; -1 for the root.
        offset: from its parent.
        channels: of a frame, in this order: an axis and whether it is a rotation.
    """

    name: str
    parent: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: list[tuple[int, bool]] = field(default_factory=list)


def read_bvh(path: Path, options: ReadOptions | None = None) -> SkeletonSequence:
    """The positions of all named joints, in the unit of the file; usually y points up.

    The layout is that of the file: its joints' names and its bones. End sites, which have no name, are no joints.

    Args:
        path: the file.
        options: ``up`` alone has a meaning.

    Raises:
        DataError: it is no BVH file, has several skeletons or unknown channels, or fewer or more numbers than it
            announces.
    """
    text = "\n".join(read_text(path).splitlines())
    motion = _MOTION.search(text)
    if motion is None:
        raise _no_bvh("there is no line MOTION", path)
    joints = _read_hierarchy(text[: motion.start()], path)
    values = _read_motion(text[motion.end() :], sum(len(joint.channels) for joint in joints), path)
    sequence = to_sequence(_positions(joints, values)[:, None], path)
    bones = [(joint.parent, number) for number, joint in enumerate(joints) if joint.parent >= 0]
    named = name_joints(sequence, [joint.name for joint in joints], path, bones)
    return turn_up(named, (options or ReadOptions()).up)


def _read_hierarchy(text: str, path: Path) -> list[_Joint]:
    """The joints, each after its parent."""
    joints: list[_Joint] = []
    open_blocks: list[int] = []  # the joints whose braces are open; -1 for an end site
    lines = _lines(text)
    for number, words in lines:
        keyword = words[0].upper()
        if keyword in ("ROOT", "JOINT", "END"):
            if (keyword == "ROOT") != (not open_blocks) or (keyword == "ROOT" and joints) or -1 in open_blocks:
                several = keyword == "ROOT" and joints and not open_blocks
                raise _no_bvh(f"line {number} begins {'a second skeleton' if several else ' '.join(words)}", path)
            if keyword == "END":
                open_blocks.append(-1)
            else:
                joints.append(_Joint(" ".join(words[1:]).rpartition(":")[2], open_blocks[-1] if open_blocks else -1))
                open_blocks.append(len(joints) - 1)
            if next(lines, (0, [""]))[1] != ["{"]:
                raise _no_bvh(f"line {number} is followed by no brace", path)
        elif keyword == "}" and open_blocks:
            open_blocks.pop()
        elif keyword == "OFFSET" and open_blocks:
            offset = _numbers(words[1:], 3, number, path)
            if open_blocks[-1] >= 0:
                joints[open_blocks[-1]].offset = offset
        elif keyword == "CHANNELS" and open_blocks and open_blocks[-1] >= 0:
            joints[open_blocks[-1]].channels = _channels(words[1:], number, path)
        elif keyword != "HIERARCHY":
            raise _no_bvh(f"line {number} is {' '.join(words)[:60]!r}", path)
    if open_blocks or not joints:
        raise _no_bvh("a brace is not closed" if open_blocks else "there is no ROOT", path)
    return joints


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """The words of each line with its number; braces are lines of their own, wherever they stand."""
    for number, line in enumerate(text.splitlines(), start=1):
        for part in re.split(r"([{}])", line):
            if words := part.split():
                yield number, words


def _channels(words: list[str], line: int, path: Path) -> list[tuple[int, bool]]:
    names = [word.lower() for word in words[1:]]
    matches = [_CHANNEL.fullmatch(name) for name in names]
    if words[:1] != [str(len(names))] or not all(matches) or len(set(names)) < len(names):
        raise _no_bvh(f"line {line} has the channels {' '.join(words)!r}", path)
    return [("xyz".index(match[1]), match[2] == "rotation") for match in matches if match]


def _numbers(words: list[str], count: int, line: int, path: Path) -> tuple[float, float, float]:
    try:
        x, y, z = map(float, words)
    except ValueError:
        raise _no_bvh(f"line {line} has {' '.join(words)[:60]!r} in place of {count} numbers", path) from None
    return x, y, z


def _read_motion(text: str, channels: int, path: Path) -> Float64[np.ndarray, "T C"]:
    """The channels of each frame."""
    head = _FRAMES.match(text)
    if head is None:
        raise _no_bvh("MOTION is not followed by Frames and Frame Time", path)
    frames, words = int(head[1]), text[head.end() :].split()
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError:
        wrong = next(word for word in words if not _is_number(word))
        raise _no_bvh(f"a frame has {wrong[:40]!r} in place of a number", path) from None
    if len(values) != frames * channels:
        raise DataError(
            f"{frames} frames of {channels} channels are announced, and {len(values)} numbers follow",
            expected=f"{frames * channels} numbers",
            hint=DOWNLOAD_AGAIN,
            where=path,
        )
    return values.reshape(frames, channels)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _positions(joints: list[_Joint], values: Float64[np.ndarray, "T C"]) -> Float64[np.ndarray, "T J 3"]:
    """Forward kinematics: a joint lies at its translation, rotated by all joints above it.

    Rotations of a joint are multiplied in the order in which its channels are listed. The root's position is added to
    its offset; positions of another joint take the place of its offset, as tools write them that have such channels.
    """
    positions = np.zeros((len(values), len(joints), 3))
    rotations = np.zeros((len(joints), len(values), 3, 3))
    place = 0
    for number, joint in enumerate(joints):
        translation = np.tile(np.array(joint.offset), (len(values), 1))
        if joint.parent >= 0 and any(not rotates for _, rotates in joint.channels):
            translation[:, [axis for axis, rotates in joint.channels if not rotates]] = 0
        rotation = np.tile(np.eye(3), (len(values), 1, 1))
        for axis, rotates in joint.channels:
            if rotates:
                rotation = rotation @ _about(axis, np.deg2rad(values[:, place]))
            else:
                translation[:, axis] += values[:, place]
            place += 1
        if joint.parent >= 0:
            above = rotations[joint.parent]
            translation = positions[:, joint.parent] + np.einsum("tij,tj->ti", above, translation)
            rotation = above @ rotation
        positions[:, number], rotations[number] = translation, rotation
    return positions


def _about(axis: int, angle: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, "T 3 3"]:
    """Rotations about an axis, counter-clockwise for who looks against it; for column vectors."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
    matrix[:, second, first] = np.sin(angle)
    matrix[:, first, second] = -matrix[:, second, first]
    return matrix


def _no_bvh(problem: str, path: Path) -> DataError:
    return DataError(
        problem,
        expected="a BVH file of one skeleton: HIERARCHY with ROOT, JOINT, OFFSET and CHANNELS, then MOTION",
        hint="export the recording again",
        where=path,
    )
