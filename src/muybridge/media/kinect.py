"""Readers for the skeleton files of MSR Action3D, SBU Kinect Interaction and UTD-MHAD.

All three give metres in the frame of the Kinect: x towards the right hand of someone who faces the camera, y up,
z away from the camera.
"""

from pathlib import Path

import numpy as np
from einops import rearrange

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.matlab import read_mat
from muybridge.media.parsing import rows_of_numbers, to_sequence, truncated


def read_msr(path: Path) -> SkeletonSequence:
    """One person of 20 joints (layout ``msr20``) from a ``*_skeleton3D.txt`` of MSR Action3D.

    Each line is x, y, z and a confidence, which is dropped; 20 lines make a frame. A frame of zeros is a frame in
    which the person was lost: absent.

    Raises:
        DataError: with line or frame, where the file is not like that.
    """
    table = rows_of_numbers(path, 4, "x y z confidence of one joint")
    if len(table) % 20:
        raise truncated(path, len(table), 20, "joints")
    return to_sequence(rearrange(table[:, :3], "(t p j) d -> t p j d", p=1, j=20), path)


@np.errstate(all="ignore")  # what is not finite is refused in the end
def read_sbu(path: Path) -> SkeletonSequence:
    """Two people of 15 joints (layout ``sbu15``) from a ``skeleton_pos.txt`` of SBU Kinect Interaction.

    Each line is a frame number, then x, y, z of the first person's joints and of the second's. The file stores
    x' = (1.28 - x) / 2.56, y' = (0.96 - y) / 1.92, z' = z / 1.28 (x, y, z in metres; from the authors' page); undoing
    this gives limbs of constant length, so that a rotation about the vertical is one.

    Raises:
        DataError: with line or frame, where the file is not like that.
    """
    table = rows_of_numbers(path, 91, "a frame number, then 2 people x 15 joints x 3 coordinates", separator=",")
    order = np.flatnonzero(np.diff(table[:, 0]) != 1)
    if order.size:
        before, after = table[order[0] : order[0] + 2, 0]
        raise DataError(
            f"frame {after:g} follows frame {before:g}",
            expected="frames in order, each once",
            hint="sort the lines by the first number; write zeros for frames in which nobody is seen",
            where=path,
        )
    stored = rearrange(table[:, 1:], "t (p j d) -> t p j d", p=2, j=15)
    metres = np.array([1.28, 0.96, 0.0]) + stored * np.array([-2.56, -1.92, 1.28])
    return to_sequence(np.where(stored.any(axis=(2, 3), keepdims=True), metres, 0.0), path)


def read_utd(path: Path) -> SkeletonSequence:
    """One person of 20 joints (layout ``kinect20``) from a ``*_skeleton.mat`` of UTD-MHAD, key ``d_skel``.

    Raises:
        DataError: the file is no MATLAB file, lacks the key, or its array is not joints x 3 x frames.
    """
    content = read_mat(path)
    if "d_skel" not in content:
        keys = ", ".join(key for key in content if not key.startswith("__")) or "nothing"
        raise DataError(
            f"the file contains {keys}",
            expected="the array d_skel",
            hint="check that it is a skeleton file of UTD-MHAD",
            where=path,
        )
    array = np.asarray(content["d_skel"])
    if array.ndim == 2:  # MATLAB drops the last axis of a recording of one frame
        array = array[..., None]
    if array.shape[:2] != (20, 3) or array.ndim != 3 or array.dtype.kind not in "iuf":
        raise DataError(
            f"d_skel is {' x '.join(map(str, array.shape))} of {array.dtype}",
            expected="20 joints x 3 coordinates x frames",
            hint="check that it is a skeleton file of UTD-MHAD",
            where=path,
        )
    return to_sequence(rearrange(array.astype(np.float64), "j d t -> t 1 j d"), path)
