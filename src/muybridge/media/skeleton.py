"""One door for every skeleton file that muybridge reads."""

from collections.abc import Callable
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.keypoints import read_csv, read_json, read_npy
from muybridge.media.kinect import read_msr, read_sbu, read_utd
from muybridge.media.ntu import read_ntu
from muybridge.media.parsing import read_text

__all__ = [
    "SUFFIXES",
    "read_csv",
    "read_json",
    "read_msr",
    "read_npy",
    "read_ntu",
    "read_sbu",
    "read_skeleton",
    "read_utd",
]


def _read_txt(path: Path) -> SkeletonSequence:
    """MSR Action3D separates by spaces, SBU by commas."""
    return (read_sbu if "," in read_text(path).partition("\n")[0] else read_msr)(path)


_READERS: dict[str, Callable[[Path], SkeletonSequence]] = {
    ".npz": read_npy,
    ".npy": read_npy,
    ".json": read_json,
    ".csv": read_csv,
    ".txt": _read_txt,
    ".mat": read_utd,
    ".skeleton": read_ntu,
}

SUFFIXES = tuple(_READERS)
"""File name endings of the formats that :func:`read_skeleton` knows."""


def read_skeleton(path: str | Path) -> SkeletonSequence:
    """The recording in a file, whose format its ending tells.

    A recording of a single frame is a recording. Positions are in the unit of the file; the formats of the Kinect
    data sets give metres with y up.

    Raises:
        DataError: unknown ending, missing or empty file, or content that is not what the format says, with the line
            or the frame.
    """
    path = Path(path)
    if path.suffix.lower() not in _READERS:
        raise DataError(
            f"files that end in {path.suffix or 'nothing'} are not known",
            expected=f"one of {', '.join(_READERS)}",
            hint="save the joints as .npz with the array joints (frames x people x joints x coordinates)",
            where=path,
        )
    return _READERS[path.suffix.lower()](path)
