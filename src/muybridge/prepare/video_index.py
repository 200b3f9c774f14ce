"""The index of the videos of a data set: frames, rate, size and whether they are readable, each found out once.

It is a Parquet file, which pandas, polars and DuckDB read. A video of another size or time of change is probed again.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from muybridge.core import extras
from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write, cache_folder
from muybridge.core.processes import available_cores, run_parallel
from muybridge.media.probe import Probe, probe

NAME = "video-index.parquet"
"""The file in the folder of the data set; if that cannot be written, a file in the cache folder."""

_SAVE_EVERY = 30.0  # seconds
_TOGETHER = 64  # videos that one process probes in a row
_MANY = 4000  # videos from which on several processes are worth their start
_TYPES = {int: "int64", float: "float64", str: "string"}


@dataclass(frozen=True, slots=True)
class IndexedVideo:
    """One video of the index.

    Attributes:
        path: relative to the folder of the data set, with forward slashes.
        bytes: size of the file; 0 of a folder.
        changed: time of change in nanoseconds.
        frames, fps, seconds, height, width, codec, error: see :class:`Probe`.
    """

    path: str
    bytes: int
    changed: int
    frames: int
    fps: float
    seconds: float
    height: int
    width: int
    codec: str
    error: str


def check_extra() -> None:
    """Raise MissingExtraError unless pyarrow is installed."""
    extras.check_extra("prepare", "pyarrow", purpose="the index of videos")


def index_file(root: Path) -> Path:
    """Where the index of the videos of a folder is: in it, or in the cache folder where it is read-only."""
    if os.access(root, os.W_OK):
        return root / NAME
    return cache_folder("video-index") / f"{hashlib.blake2b(bytes(root.resolve()), digest_size=16).hexdigest()}.parquet"


def index_videos(
    root: Path,
    paths: Sequence[Path],
    *,
    fps: float = 30.0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[tuple[IndexedVideo, ...], int]:
    """The index of some videos, which is kept in their folder, and how many were probed.

    It is saved now and then, so that a run that is interrupted goes on where it was.

    Args:
        root: the folder of the data set.
        paths: files, and folders of images, that exist.
        fps: frame rate of folders.
        workers: processes where there are many videos; None takes one for each core.
        progress: called with how many are probed, and of how many.

    Raises:
        DataError: the index cannot be written.
        RunError: a worker was killed.
        MissingExtraError: pyarrow is not installed.
    """
    check_extra()
    known = {video.path: video for video in read_index(root)}
    stamps = {_relative(path, root): (path, *_stamp(path)) for path in paths}
    videos = {
        name: known[name]
        for name, (_, size, changed) in stamps.items()
        if name in known and (known[name].bytes, known[name].changed) == (size, changed)
    }
    new = {stamps[name][0]: name for name in stamps if name not in videos}
    saved = time.monotonic()
    try:
        for done, (path, found) in enumerate(_probes(list(new), fps, workers or available_cores()), start=1):
            name, size, changed = new[path], *stamps[new[path]][1:]
            videos[name] = IndexedVideo(name, size, changed, **asdict(found))
            if progress:
                progress(done, len(new))
            if time.monotonic() - saved > _SAVE_EVERY:
                _write(root, videos)
                saved = time.monotonic()
    finally:
        if new or len(videos) != len(known):
            _write(root, videos)
    return tuple(videos[name] for name in stamps if name in videos), len(new)


def read_index(root: Path) -> tuple[IndexedVideo, ...]:
    """The index in a folder; empty where there is none, or one that is damaged or of another version."""
    file = index_file(root)
    if not file.is_file():
        return ()
    check_extra()
    from pyarrow import ArrowException, parquet

    try:
        columns = parquet.read_table(file).to_pydict()
        rows = zip(*(columns[field.name] for field in fields(IndexedVideo)), strict=True)
        return tuple(IndexedVideo(*row) for row in rows)
    except (ArrowException, OSError, KeyError, ValueError):
        return ()


def _probes(paths: Sequence[Path], fps: float, workers: int) -> Iterator[tuple[Path, Probe]]:
    """What each video says of itself, in any order, a few videos at a time."""
    parts = {begin: _Part(tuple(paths[begin : begin + _TOGETHER]), fps) for begin in range(0, len(paths), _TOGETHER)}
    for begin, found in run_parallel(_probe_part, parts, workers if len(paths) >= _MANY else 1):
        yield from zip(parts[begin].paths, found, strict=True)


@dataclass(frozen=True, slots=True)
class _Part:
    paths: tuple[Path, ...]
    fps: float


def _probe_part(part: _Part) -> list[Probe]:
    return [probe(path, part.fps) for path in part.paths]


def _write(root: Path, videos: Mapping[str, IndexedVideo]) -> None:
    import pyarrow
    from pyarrow import parquet

    file, rows = index_file(root), [videos[name] for name in sorted(videos)]
    columns: dict[str, Any] = {
        field.name: pyarrow.array([getattr(row, field.name) for row in rows], type=_TYPES[field.type])
        for field in fields(IndexedVideo)
    }
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as draft:
            parquet.write_table(pyarrow.table(columns), draft)
    except OSError as problem:
        raise DataError(
            f"the index cannot be written ({problem.strerror or problem})",
            expected="a folder that can be written",
            hint="check its permissions and the free space",
            where=file,
        ) from None


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return 0 if path.is_dir() else status.st_size, status.st_mtime_ns


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
