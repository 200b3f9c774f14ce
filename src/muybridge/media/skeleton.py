"""Reads every skeleton file format that muybridge knows."""

from collections.abc import Callable
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.arrays import ReadOptions, sequence_from_array, turn_up
from muybridge.media.bvh import read_bvh
from muybridge.media.c3d_file import read_c3d
from muybridge.media.joint_csv import read_csv
from muybridge.media.joint_json import read_json
from muybridge.media.keypoints import read_npy
from muybridge.media.kinect import read_msr, read_sbu, read_utd
from muybridge.media.ntu import read_ntu
from muybridge.media.parsing import read_text
from muybridge.media.poses import read_frame_folder

__all__ = [
    "SUFFIXES",
    "ReadOptions",
    "read_bvh",
    "read_c3d",
    "read_csv",
    "read_json",
    "read_msr",
    "read_npy",
    "read_ntu",
    "read_sbu",
    "read_skeleton",
    "read_utd",
    "sequence_from_array",
]


def _read_txt(path: Path) -> SkeletonSequence:
    """MSR Action3D separates by spaces, SBU by commas."""
    return (read_sbu if "," in read_text(path).lstrip().partition("\n")[0] else read_msr)(path)


# Formats of one data set, which leave nothing open, and formats of users' own recordings.
_FIXED: dict[str, Callable[[Path], SkeletonSequence]] = {".txt": _read_txt, ".mat": read_utd, ".skeleton": read_ntu}
_OPEN: dict[str, Callable[[Path, ReadOptions], SkeletonSequence]] = {
    ".npz": read_npy,
    ".npy": read_npy,
    ".json": read_json,
    ".csv": read_csv,
    ".bvh": read_bvh,
    ".c3d": read_c3d,
}

SUFFIXES = (*_OPEN, *_FIXED)
"""File name endings of the formats that :func:`read_skeleton` knows."""


def read_skeleton(path: str | Path, options: ReadOptions | None = None) -> SkeletonSequence:
    """The recording in a file, whose name's ending says the format, or in a folder of OpenPose's frames.

    A recording of a single frame is a recording. Positions are in the unit of the file; the formats of the Kinect
    data sets give metres with y up.

    Args:
        path: the file or the folder.
        options: what ``.npz``, ``.npy``, ``.json`` and ``.csv`` do not say about themselves.

    Raises:
        DataError: unknown ending, missing or empty file, or content that is not what the format says, with the line
            or the frame.
    """
    path, options = Path(path), options or ReadOptions()
    if path.is_dir():
        return read_frame_folder(path, options)
    suffix = path.suffix.lower()
    if suffix in _OPEN:
        return _OPEN[suffix](path, options)
    if suffix in _FIXED:
        return turn_up(_FIXED[suffix](path), options.up)
    raise DataError(
        f"files that end in {path.suffix or 'nothing'} are not known",
        expected=f"one of {', '.join(SUFFIXES)}",
        hint="save the joints as .npz with the array joints (frames x people x joints x coordinates)",
        where=path,
    )
