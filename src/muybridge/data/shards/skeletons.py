"""Skeletons in a pack: NumPy archives of ``joints`` (T P J D), ``present`` (T P), ``filled`` and perhaps ``scores``.

A recording whose file says what its joints are keeps their names, as ``joint_names``, with ``bones`` (rows of parent
and child).
"""

import io
import zipfile

import numpy as np
import torch

from muybridge.core.errors import DataError
from muybridge.core.packed import PackedPath
from muybridge.core.types import SkeletonSequence
from muybridge.media.joint_names import name_stated_joints
from muybridge.media.keypoints import ARRAYS
from muybridge.media.npz import NUMPY_PROBLEMS, read_npz

SKELETON_SUFFIX = ".npz"


def pack_skeleton(sequence: SkeletonSequence) -> bytes:
    """A recording as a NumPy archive, the same bytes whenever it is written."""
    arrays = {
        "joints": sequence.joints.numpy(),
        "present": sequence.present.numpy(),
        "filled": np.array([sequence.filled]),
    }
    if sequence.scores is not None:
        arrays["scores"] = sequence.scores.numpy()
    if sequence.layout is not None:
        arrays["joint_names"] = np.array(sequence.layout.joints)
        arrays["bones"] = np.array(sequence.layout.bones, dtype=np.int64).reshape(-1, 2)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), file.getvalue())
    return content.getvalue()


def read_packed_skeleton(path: PackedPath) -> SkeletonSequence:
    """The recording, equal to what was packed.

    Raises:
        DataError: it is damaged; see also :meth:`PackedPath.on_disk`.
    """
    content = path.read_bytes()
    try:
        arrays, _ = read_npz(io.BytesIO(content), (*ARRAYS, "filled"))
        joints, present = (torch.from_numpy(arrays[name]) for name in ("joints", "present"))
        scores = torch.from_numpy(arrays["scores"]) if "scores" in arrays else None
        sequence = SkeletonSequence(joints, present, scores, int(arrays["filled"][0]))
        return name_stated_joints(sequence, arrays.get("joint_names"), arrays.get("bones"), path)
    except NUMPY_PROBLEMS as problem:
        raise DataError(
            f"the packed skeleton is damaged ({problem!r})",
            expected="an archive as `muybridge pack` writes it",
            hint="make the pack again",
            where=path,
        ) from None
