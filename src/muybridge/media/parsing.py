"""Shared by the readers of skeletons and annotations: text to numbers, numbers to sequences, error messages.

Legend: R rows, N numbers in a row, T frames, P people, J joints, D coordinates.
"""

import codecs
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence

DOWNLOAD_AGAIN = "fetch or record the file again, or take it out of the data set"
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class NoPersonError(DataError):
    """A recording in which nobody is seen; an index excludes it and counts it."""


def read_bytes(path: Path) -> bytes:
    """The content of a file.

    Raises:
        DataError: it does not exist, cannot be read, or is empty.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.readall()
    except OSError as problem:
        raise DataError(
            f"the file cannot be read ({problem.strerror})",
            expected="a readable recording",
            hint="check the path and its permissions",
            where=path,
        ) from None
    if not content or content.isspace():
        raise _empty(path)
    return content


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark; bytes that are no text become U+FFFD.

    Raises:
        DataError: it does not exist, cannot be read, or is empty.
    """
    content = read_bytes(path)
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if content.startswith(mark)), "utf-8")
    text = content.decode(encoding, errors="replace")
    if not text.strip():
        raise _empty(path)
    return text


def _empty(path: Path) -> DataError:
    return DataError("the file is empty", expected="a recording", hint=DOWNLOAD_AGAIN, where=path)


def rows_of_numbers(
    path: Path, per_row: int, row_means: str, separator: str | None = None
) -> Float64[np.ndarray, "R N"]:
    """The table of numbers in a text file; empty lines are skipped.

    Args:
        path: the file.
        per_row: how many numbers each line must have.
        row_means: what a line is, for messages.
        separator: between numbers; None is any white space.

    Raises:
        DataError: with the line, where the file is not like that.
    """
    text = read_text(path)
    lines = text.splitlines()
    rows = [line.split(separator) for line in lines if line and not line.isspace()]
    try:
        table = np.array(rows, dtype=np.float64)
    except ValueError:
        table = np.empty((0, 0))
    if table.ndim == 2 and table.shape[1] == per_row and "_" not in text:
        return table
    for number, line in enumerate(lines, start=1):
        words = line.split(separator)
        if not line.strip():
            continue
        for word in words:
            if not is_number(word):
                raise DataError(
                    f"line {number} has {word.strip()!r} where a number belongs",
                    expected=f"{per_row} numbers, {row_means}",
                    hint="check that the file is of this format, and fix the line",
                    where=path,
                )
        if len(words) != per_row:
            last = all(not rest.strip() for rest in lines[number:])
            raise DataError(
                f"line {number} has {len(words)} numbers" + (", so the last frame is cut short" if last else ""),
                expected=f"{per_row} numbers, {row_means}",
                hint=DOWNLOAD_AGAIN,
                where=path,
            )
    raise AssertionError("a table that cannot be parsed has a line that cannot be parsed")


def is_number(word: str) -> bool:
    """Whether a word is a number, NaN and infinities included; Python's digit groups (1_000) are not."""
    try:
        float(word)
    except ValueError:
        return False
    return "_" not in word


def to_sequence(joints: np.ndarray, path: Path | None, present: np.ndarray | None = None) -> SkeletonSequence:
    """A sequence from ``T P J D`` positions.

    Args:
        joints: positions; a person whose coordinates are all zero in a frame counts as absent there.
        path: the file, for messages.
        present: ``T P``; where False, positions are ignored.

    Raises:
        DataError: a position is NaN, infinite or beyond 32-bit floats.
        NoPersonError: nobody is seen in any frame.
    """
    assert joints.ndim == 4
    if not len(joints):
        raise DataError("the recording has no frames", expected="at least one frame", hint=DOWNLOAD_AGAIN, where=path)
    seen = np.asarray(joints.any(axis=(2, 3)))
    seen = seen if present is None else present & seen
    joints = np.where(seen[..., None, None], joints, 0.0)
    usable = np.abs(joints) <= np.finfo(np.float32).max
    if not usable.all():
        frame, person, joint, _ = np.argwhere(~usable)[0]
        raise DataError(
            f"joint {joint} of person {person} in frame {frame} is {joints[frame, person, joint].tolist()}",
            expected="finite coordinates (frames, people and joints are counted from 0)",
            hint="fill the gap, write zeros for a whole person who is absent, or take the recording out",
            where=path,
        )
    if not seen.any():
        raise nobody_seen(len(joints), path)
    return SkeletonSequence(torch.from_numpy(joints.astype(np.float32)), torch.from_numpy(seen))


def nobody_seen(frames: int, path: Path | None, reason: str = "all coordinates are zero") -> NoPersonError:
    """The error for a recording of ``frames`` frames without a person, and how that shows in the file."""
    return NoPersonError(
        f"nobody is seen in any of the {frames} frames ({reason})",
        expected="a person in at least one frame",
        hint="take the recording out of the data set",
        where=path,
    )


def truncated(path: Path, rows: int, per_frame: int, unit: str) -> DataError:
    """The error for a last frame with too few rows."""
    complete, rest = divmod(rows, per_frame)
    return DataError(
        f"the last frame (number {complete}, counted from 0) has {rest} of {per_frame} {unit}",
        expected=f"{per_frame} {unit} in every frame",
        hint=DOWNLOAD_AGAIN,
        where=path,
    )


def shape_text(shape: tuple[int, ...]) -> str:
    """The lengths of an array's axes, for messages."""
    return " x ".join(map(str, shape)) or "a single number"
