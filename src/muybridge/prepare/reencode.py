"""A copy of a data set whose videos are smaller and fast to read, in the same layout, with the same lists."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write, find_files, is_system_name
from muybridge.core.processes import available_cores, run_parallel
from muybridge.media.encode import encode_copy, is_copied
from muybridge.media.video import SUFFIXES

LISTS = (".csv", ".json", ".txt")
"""Suffixes of the lists of benchmarks, which are copied."""


@dataclass(frozen=True, slots=True)
class Reencoded:
    """What became of the videos.

    Attributes:
        written: how many copies were made.
        existing: how many there were already.
        failed: why others have none, by the path of the video.
    """

    written: int
    existing: int
    failed: tuple[tuple[Path, str], ...]


@dataclass(frozen=True, slots=True)
class _Job:
    source: Path
    target: Path
    short_side: int
    fps: float


def reencode(
    root: Path,
    videos: Sequence[Path],
    out: Path,
    *,
    short_side: int = 256,
    fps: float = 30.0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Reencoded:
    """Copies of videos as ``out/NAME.mp4``, where ``NAME`` is their path below ``root`` without its suffix.

    Copies that exist and are of the present source are kept, so that a run that was killed goes on where it was.
    Videos that cannot be read do not stop the others.

    Args:
        root: the folder of the data set.
        videos: files, or folders of images, in it.
        out: another folder; created where it does not exist.
        short_side: pixels of the shorter side.
        fps: frame rate of folders of images.
        workers: processes; None takes one for each core.
        progress: called with how many videos are finished, and of how many.

    Raises:
        DataError: a video lies elsewhere, or ``out`` cannot be written.
        RunError: a worker was killed, as systems do when memory runs out.
    """
    jobs = {path: _Job(path, _target(path, root, out), short_side, fps) for path in videos}
    missing = {path: job for path, job in jobs.items() if not is_copied(path, job.target)}
    existing, failed = len(jobs) - len(missing), []
    try:
        for folder in {job.target.parent for job in missing.values()}:
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(
            f"the copies cannot be written ({problem.strerror})",
            expected="a folder that can be written",
            hint="choose another one with --out",
            where=out,
        ) from None
    ordered = {path: missing[path] for path in sorted(missing, key=_size, reverse=True)}  # no core waits at the end
    for done, (path, problem) in enumerate(run_parallel(_copy, ordered, workers or available_cores()), existing + 1):
        if problem:
            failed.append((path, problem))
        if progress:
            progress(done, len(jobs))
    return Reencoded(len(missing) - len(failed), existing, tuple(sorted(failed)))


def copy_lists(root: Path, out: Path, *, leave_out: Path | None = None) -> int:
    """Copy the lists of a data set into another folder; returns how many.

    Args:
        root: the folder of the data set.
        out: the other folder.
        leave_out: a folder in ``root`` that is not searched, as that of the videos.
    """
    visible = [path for path in root.iterdir() if not is_system_name(path.name)]
    files = [path for path in visible if path.is_file() and path.suffix.lower() in LISTS]
    for folder in (path for path in visible if path.is_dir() and path not in (out, leave_out)):
        files += find_files(folder, LISTS).files
    for file in files:
        target = out / file.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as draft:
            shutil.copyfile(file, draft)
    return len(files)


def _copy(job: _Job) -> str:
    """Make one copy; returns what is wrong."""
    try:
        encode_copy(job.source, job.target, job.short_side, job.fps)
    except DataError as problem:
        return problem.problem
    except OSError as problem:
        return f"the copy cannot be written ({problem.strerror or problem})"
    return ""


def _target(path: Path, root: Path, out: Path) -> Path:
    if not path.is_relative_to(root):
        raise DataError(
            "the video lies outside of the folder of the data set",
            expected=f"videos below {root}",
            hint="leave data.videos out, or give a folder in the data set",
            where=path,
        )
    name = path.relative_to(root)
    return out / (name.with_suffix(".mp4") if name.suffix.lower() in SUFFIXES else f"{name}.mp4")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
