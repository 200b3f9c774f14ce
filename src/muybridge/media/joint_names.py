"""Joints that a file names: the known layout that they are, in whatever order, or a layout of the file's own.

Legend: J joints.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS, Layout, unnamed_layout
from muybridge.core.types import SkeletonSequence
from muybridge.media.parsing import shape_text

Bones = Sequence[tuple[int, int]]

# What other tools call the joints of a known layout: COCO-WholeBody, MPII and Human3.6M as MMPose writes them, and
# MediaPipe's own names.
_ALSO = {
    "pelvis": "hip",
    "root": "hip",
    "upper_neck": "neck",
    "neck_base": "neck",
    "head_top": "head",
    "mouth_left": "left_mouth",
    "mouth_right": "right_mouth",
    "left_foot_index": "left_foot",
    "right_foot_index": "right_foot",
    "left_foot": "left_ankle",
    "right_foot": "right_ankle",
    "left_hand_root": "left_hand",
    "right_hand_root": "right_hand",
} | {f"face_{number}": name for number, name in enumerate(LAYOUTS["coco133"].joints[23:91])}
_FINGER = re.compile(r"(left|right)_(fore|middle_|ring_|pinky_)finger([1-4])")
_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))
_LETTER = re.compile(r"(?<![A-Za-z])([lL])(?=[A-Z]|[^A-Za-z]|$)|(?<=[_.\- ])([lL])$")


def layout_of_names(names: Sequence[str], bones: Bones = ()) -> tuple[Layout, tuple[int, ...]]:
    """The layout of joints with these names, and which of them each of its joints is.

    Args:
        names: in the order of the file, each once.
        bones: parent and child of each bone, from the root outwards, where the file says them.

    Returns:
        A known layout with just these joints, if need be in another order; else ``plainN`` with the file's names and
        bones, in the order of the file, whose sides, torso and shoulders are told by the names.
    """
    for read in (_plain, _alias):
        words = [read(name) for name in names]
        same = [layout for layout in LAYOUTS.values() if sorted(layout.joints) == sorted(words)]
        if same:
            layout = next((one for one in same if list(one.joints) == words), same[0])
            return layout, tuple(words.index(joint) for joint in layout.joints)
    return _own_layout(tuple(names), tuple(bones)), tuple(range(len(names)))


def name_joints(
    sequence: SkeletonSequence, names: Sequence[str], where: Path | None, bones: Bones = ()
) -> SkeletonSequence:
    """The recording with the layout that its file states, and the joints in the order of that.

    Raises:
        DataError: there are more or fewer names than joints, or two joints of one name.
    """
    joints = sequence.joints.shape[2]
    twice = next((name for name in names if list(names).count(name) > 1), "")
    if len(names) != joints or twice:
        raise DataError(
            f"two joints are called {twice!r}" if twice else f"{len(names)} joints are named, and there are {joints}",
            expected="a name of its own for each joint",
            hint="correct the names in the file",
            where=where,
        )
    layout, order = layout_of_names(names, bones)
    return replace(sequence.take_joints(order), layout=layout)


def name_stated_joints(
    sequence: SkeletonSequence, names: np.ndarray | None, bones: np.ndarray | None, where: Path | None
) -> SkeletonSequence:
    """The recording with the names that its file gives the joints, where it does.

    Args:
        sequence: the recording.
        names: a text for each joint; None where the file has none.
        bones: rows of parent and child, from the root outwards; None where the file has none.
        where: the file, for messages.

    Raises:
        DataError: they are something else, or see :func:`name_joints`.
    """
    if names is None:
        return sequence
    rows = np.zeros((0, 2), np.int64) if bones is None else bones
    if not (names.dtype.kind == "U" and names.ndim == 1 and _is_tree(rows, sequence.joints.shape[2])):
        raise DataError(
            f"joint_names is {shape_text(names.shape)} of {names.dtype}, "
            f"bones {shape_text(rows.shape)} of {rows.dtype}",
            expected="a name of each joint, and a row of parent and child for each bone, from the root outwards",
            hint="correct them, or leave them out",
            where=where,
        )
    return name_joints(sequence, names.tolist(), where, [(int(parent), int(child)) for parent, child in rows])


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


def _plain(name: str) -> str:
    """A name as layouts write it: ``Left Shoulder`` is ``left_shoulder``."""
    return re.sub(r"[\s.\-]+", "_", name.strip()).lower()


def _alias(name: str) -> str:
    word = _plain(name)
    if match := _FINGER.fullmatch(word):
        finger = {"fore": "index"}.get(match[2], match[2].rstrip("_"))
        return f"{match[1]}_{finger}{match[3]}"
    return _ALSO.get(word, word)


def _own_layout(names: tuple[str, ...], bones: Bones) -> Layout:
    """A layout of names that no known one has."""
    plain = unnamed_layout(len(names))
    if not bones:
        return replace(plain, joints=names)
    index = {name: number for number, name in enumerate(names)}
    mirror = tuple((index[name], index[other]) for name in names if (other := _opposite(name)) in index)
    children = {child for _, child in bones}
    root = next(number for number in range(len(names)) if number not in children)
    neck = next((number for name, number in index.items() if "neck" in name.lower()), None)
    return Layout(
        name=plain.name,
        joints=names,
        bones=tuple(bones),
        mirror=mirror,
        root=root,
        torso=None if neck in (None, root) else (root, neck),
        shoulders=_pair(names, mirror, lambda name: name.endswith("arm") and "fore" not in name and "lower" not in name)
        or _pair(names, mirror, lambda name: "shoulder" in name or "shldr" in name),
    )


def _pair(names: Sequence[str], mirror: Bones, is_wanted: Callable[[str], bool]) -> tuple[int, int] | None:
    return next((pair for pair in mirror if is_wanted(names[pair[0]].lower())), None)


def _opposite(name: str) -> str:
    """The name of the right joint for that of a left one; empty for any other."""
    for left, right in _SIDES:
        if left in name:
            return name.replace(left, right, 1)
    match = _LETTER.search(name)
    if match is None:
        return ""
    letter = {"l": "r", "L": "R"}[name[match.start()]]
    return name[: match.start()] + letter + name[match.start() + 1 :]
