"""Recordings of estimators as our own files, with everything that was decided on the way."""

import hashlib
import os
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write
from muybridge.core.types import SkeletonSequence
from muybridge.media import npz
from muybridge.media.arrays import ReadOptions
from muybridge.media.poses.read import Pose, read_poses

SHARES = ("Ultralytics", "MediaPipe")
"""Tools that give positions as shares of the image, so that bodies are stretched unless its size is known."""


def convert(pose: Pose, folder: Path, options: ReadOptions, size: tuple[int, int] | None = None) -> Path:
    """Write the ``.npz`` file of a recording, unless it is there already, of the same files and settings.

    Args:
        pose: the recording.
        folder: the output; class folders of the input are kept, and of a pickle the number of the class is one.
        options: how joints are read.
        size: width and height of the images, by which shares of them are multiplied.

    Returns:
        The file, with the arrays ``joints`` (T P J D) and ``present`` (T P); ``scores`` (T P J) where the estimator
        says how sure it is; ``joint_names`` and ``bones`` where its file names the joints; and ``made_from``, by which
        other files and settings are noticed. A file without it is somebody else's, and kept.

    Raises:
        DataError: the recording cannot be read, or the file cannot be written.
    """
    name = Path(
        *(re.sub(r'[<>:"|?*\\\x00-\x1f]', "_", part) for part in Path(pose.name).parts if part not in ("..", "/"))
    )
    if pose.label >= 0:
        name = Path(f"{pose.label:03d}") / name.name
    path = folder / name.parent / f"{name.name}.npz"
    stamp = _stamp(pose, options, size)
    if path.exists() and _made_from(path) in (None, stamp):
        return path
    sequence = read_poses(pose, options)
    if size is not None and pose.tool in SHARES:
        sequence = _scaled(sequence, size)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as draft, draft.open("wb") as file:
            np.savez_compressed(file, **arrays_of(sequence), made_from=np.array(stamp))  # pyright: ignore[reportArgumentType] its own arguments have other names
    except OSError as problem:
        raise DataError(
            f"cannot be written ({problem.strerror or problem})",
            expected="a folder that can be written",
            hint="choose another --out, or free some space",
            where=path,
        ) from None
    return path


def _stamp(pose: Pose, options: ReadOptions, size: tuple[int, int] | None) -> str:
    """A digest of the settings, and of names, sizes and times of change of the files."""
    digest = hashlib.blake2b(repr((pose.tool, pose.part, pose.label, options, size)).encode(), digest_size=16)
    for file in pose.files:
        status = file.stat()
        digest.update(os.fsencode(f"{file.name} {status.st_size} {status.st_mtime_ns}\n"))
    return digest.hexdigest()


def _made_from(path: Path) -> str | None:
    """What a file was made from; None where it does not say it, empty where it is damaged."""
    try:
        arrays, _ = npz.read_npz(BytesIO(path.read_bytes()), ("made_from",))
    except npz.NUMPY_PROBLEMS:
        return ""
    return str(arrays["made_from"]) if "made_from" in arrays else None


def arrays_of(sequence: SkeletonSequence) -> dict[str, np.ndarray]:
    """What an ``.npz`` file holds of a recording; see :func:`muybridge.media.keypoints.read_npy`."""
    arrays = {"joints": sequence.joints.numpy(), "present": sequence.present.numpy()}
    if sequence.scores is not None:
        arrays["scores"] = sequence.scores.numpy()
    if sequence.layout is not None:
        arrays["joint_names"] = np.array(sequence.layout.joints)
        arrays["bones"] = np.array(sequence.layout.bones, dtype=np.int64).reshape(-1, 2)
    return arrays


def _scaled(sequence: SkeletonSequence, size: tuple[int, int]) -> SkeletonSequence:
    if sequence.joints.shape[-1] != 2 or sequence.joints.abs().max() > 2:
        return sequence  # metres, or pixels already
    return replace(sequence, joints=sequence.joints * torch.tensor(size, dtype=sequence.joints.dtype))
