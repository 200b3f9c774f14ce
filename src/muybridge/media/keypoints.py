"""Reader for the arrays of joints that users save: ``.npz`` and ``.npy``.

Legend: T frames, P people, J joints, C numbers of a joint: 2 or 3 coordinates, and perhaps a score.

``.npz``: array ``joints`` (T P J C, or T J C for one person) and, if wanted, ``present`` (T P, or T), ``scores`` (T P
J, or T J: how sure an estimator was of each joint), ``joint_names`` (J texts) and ``bones`` (rows of parent and child,
from the root outwards).
``.npy``: the array alone. Both may be in another order that :class:`ReadOptions` names.
"""

from io import BytesIO
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media import npz
from muybridge.media.arrays import ReadOptions, sequence_from_array
from muybridge.media.axis_order import EXPECTED
from muybridge.media.joint_names import name_stated_joints
from muybridge.media.parsing import DOWNLOAD_AGAIN, read_bytes
from muybridge.media.poses import read_pose_arrays

ARRAYS = ("joints", "present", "scores", "joint_names", "bones")
"""What an ``.npz`` file of a recording may hold."""


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
    return name_stated_joints(sequence, arrays.get("joint_names"), arrays.get("bones"), path)
