"""The text format of the improved trajectories' original program: a trajectory a line, numbers between tabs.

Ten numbers (last frame, mean x and y, deviation of x and y, length, scale, relative x, y and time) are followed by the
descriptors: 2 numbers a step for the shape, then HOG 96, HOF 108, MBHx 96 and MBHy 96. In a histogram, cells go by
time, then column, then row. Files may be compressed (``.gz``).

Legend: N trajectories, L steps, D numbers of a descriptor.
Source: the documentation of Wang's program "improved_trajectory_release" (2013).
"""

import gzip
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from jaxtyping import Float32, Int64

from muybridge.core.errors import DataError

HISTOGRAMS = (96, 108, 96, 96)
_FACTS = 10
_CELLS = (3, 2, 2)
_EXPECTED = "lines of 10 + 2 L + 396 numbers between tabs, as the program of the improved trajectories writes them"


@dataclass(frozen=True, slots=True)
class TrajectoryTable:
    """What a file holds of each trajectory.

    Attributes:
        end: the frame of its last point, from 0.
        mean, deviation: of x and y over its points, in pixels.
        length: the sum of its steps, in pixels.
        scale: the size of a pixel in which it was found.
        position: x, y and time of its middle, as shares of the video.
        shape: its steps over their length.
        hog, hof, mbh_x, mbh_y: histograms; cells go by time, then row, then column, as everywhere in this package.
    """

    end: Int64[np.ndarray, " N"]
    mean: Float32[np.ndarray, "N 2"]
    deviation: Float32[np.ndarray, "N 2"]
    length: Float32[np.ndarray, " N"]
    scale: Float32[np.ndarray, " N"]
    position: Float32[np.ndarray, "N 3"]
    shape: Float32[np.ndarray, "N _"]
    hog: Float32[np.ndarray, "N _"]
    hof: Float32[np.ndarray, "N _"]
    mbh_x: Float32[np.ndarray, "N _"]
    mbh_y: Float32[np.ndarray, "N _"]

    def __len__(self) -> int:
        return len(self.end)


def write_trajectories(path: Path, tables: Iterable[TrajectoryTable]) -> int:
    """Write tables one after the other, each as soon as it is there; the caller moves the file into place.

    Returns:
        How many trajectories were written.

    Raises:
        OSError: the file cannot be written.
    """
    number = 0
    with _open(path, "wt") as file:
        for table in tables:
            for row in _as_numbers(table):
                file.write("\t".join([f"{row[0]:.0f}", *map("{:.6g}".format, row[1:])]) + "\n")
            number += len(table)
    return number


def read_trajectories(path: Path) -> TrajectoryTable:
    """All trajectories of a file; it may hold none.

    Raises:
        DataError: missing, or no such file.
    """
    rows = [_parse(line, number, path) for number, line in enumerate(_lines(path), 1) if line.strip()]
    width = len(rows[0]) if rows else _FACTS + 30 + sum(HISTOGRAMS)
    if ragged := [number for number, row in enumerate(rows, 1) if len(row) != width]:
        raise _wrong(path, f"line {ragged[0]} has {len(rows[ragged[0] - 1])} numbers, and the first {width}")
    steps = width - _FACTS - sum(HISTOGRAMS)
    if steps < 2 or steps % 2:
        raise _wrong(path, f"{width} numbers a line")
    values = np.array(rows, np.float32).reshape(-1, width)
    facts, shape, *histograms = np.split(values, np.cumsum([_FACTS, steps, *HISTOGRAMS[:-1]]), axis=1)
    return TrajectoryTable(
        facts[:, 0].astype(np.int64),
        facts[:, 1:3],
        facts[:, 3:5],
        facts[:, 5],
        facts[:, 6],
        facts[:, 7:10],
        shape,
        *(_transpose_cells(each) for each in histograms),
    )


def _as_numbers(table: TrajectoryTable) -> list[list[float]]:
    histograms = (_transpose_cells(each) for each in (table.hog, table.hof, table.mbh_x, table.mbh_y))
    facts = (table.end[:, None], table.mean, table.deviation, table.length[:, None], table.scale[:, None])
    return cast("list[list[float]]", np.hstack([*facts, table.position, table.shape, *histograms]).tolist())


def _transpose_cells(histograms: np.ndarray) -> np.ndarray:
    """With rows and columns of cells exchanged."""
    time, rows, columns = _CELLS
    bins = histograms.shape[1] // (time * rows * columns)
    cells = histograms.reshape(len(histograms), time, rows, columns, bins)
    return cells.swapaxes(2, 3).reshape(histograms.shape)


def _parse(line: str, number: int, path: Path) -> list[float]:
    try:
        return [float(value) for value in line.split()]
    except ValueError as error:
        raise _wrong(path, f"line {number}: {error}") from None


def _lines(path: Path) -> Iterator[str]:
    try:
        with _open(path, "rt") as file:
            yield from file
    except FileNotFoundError:
        raise _wrong(path, "no such file") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise _wrong(path, f"cannot be read ({error})") from None


@contextmanager
def _open(path: Path, mode: str) -> Iterator[IO[str]]:
    if ".gz" in path.suffixes:
        with gzip.open(path, mode, compresslevel=1) as file:
            yield cast("IO[str]", file)
    else:
        with path.open(mode, encoding="ascii") as file:
            yield cast("IO[str]", file)


def _wrong(path: Path, problem: str) -> DataError:
    return DataError(problem, expected=_EXPECTED, hint="check the path, or write the file again", where=path)
