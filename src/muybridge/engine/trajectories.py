"""The dense trajectories of all videos of a folder, as the original program writes them: on all cores, resumable."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from muybridge.core.errors import DataError, RunError
from muybridge.core.files import atomic_write, fingerprint
from muybridge.core.processes import available_cores, run_parallel
from muybridge.core.types import FailedSample
from muybridge.engine.journal import Reporter
from muybridge.media.flow import FlowSolver, Method
from muybridge.media.trajectory_file import TrajectoryTable, write_trajectories
from muybridge.media.video import Video, videos_in
from muybridge.nn.camera_motion import estimate_homography
from muybridge.nn.trajectories import DenseTracker, Trajectories, camera_flow
from muybridge.nn.trajectory_config import TrajectoryConfig

SUFFIX = ".trajectories.txt.gz"
_SETTINGS = "trajectories.json"
_SOURCES = "sources.jsonl"  # a line for each file that was written, with the fingerprint of its video
_CHUNK = 32  # frames read at a time


@dataclass(frozen=True, slots=True)
class TrajectoryCount:
    """What was made.

    Attributes:
        videos: that have new files.
        frames: of these videos.
        trajectories: in these files.
        existing: videos whose files existed and were of them as they are.
        failed: videos that cannot be read, or whose files cannot be written.
    """

    videos: int = 0
    frames: int = 0
    trajectories: int = 0
    existing: int = 0
    failed: tuple[FailedSample, ...] = ()


class _Job(NamedTuple):
    name: str
    source: Path
    target: Path
    config: TrajectoryConfig
    method: Method
    compensate_camera: bool


def make_trajectories(
    source: Path,
    out: Path,
    config: TrajectoryConfig | None = None,
    *,
    method: Method = "dis",
    compensate_camera: bool = True,
    jobs: int | None = None,
    report: Reporter | None = None,
) -> TrajectoryCount:
    """Write the trajectories of every video as ``out/ID.trajectories.txt.gz``; files of the same videos are kept.

    Args:
        source: a video, or a folder of videos.
        out: a folder; created where it does not exist. It remembers the settings, and refuses others.
        config: what is followed and left out; by default as in the papers.
        method: of optical flow, see :class:`~muybridge.media.flow.FlowSolver`.
        compensate_camera: whether the motion of the camera is taken out.
        jobs: processes; None uses one for each core.
        report: where progress is shown; by default nowhere.

    Raises:
        DataError: there are no videos.
        RunError: ``out`` was made with other settings, or cannot be written.
        MissingExtraError: OpenCV is not installed, or lacks TV-L1.
    """
    report, config = report or Reporter(quiet=True), config or TrajectoryConfig()
    FlowSolver(method)  # which tells what is missing
    if not source.exists():
        raise DataError(
            "there is no such file or folder",
            expected="a video, or a folder of videos",
            hint="check the path",
            where=source,
        )
    root = source if source.is_dir() else source.parent
    videos = {path.relative_to(root).as_posix(): path for path in ([source] if source.is_file() else videos_in(source))}
    if not videos:
        raise DataError("no video here", expected="a video, or a folder of videos", hint="check the path", where=source)
    _remember_settings(out, config, method, compensate_camera)
    every = {
        name: _Job(name, path, out / f"{name}{SUFFIX}", config, method, compensate_camera)
        for name, path in videos.items()
    }
    known = _read_sources(out)
    waiting = {name: job for name, job in every.items() if not (job.target.exists() and _is_of(job, known))}
    count = TrajectoryCount(existing=len(every) - len(waiting))
    with report:
        report.begin("trajectories", len(waiting))
        for name, outcome in run_parallel(_write, waiting, jobs or available_cores()):
            report.step()
            if isinstance(outcome, FailedSample):
                count = replace(count, failed=(*count.failed, outcome))
                continue
            frames, made, source_print = outcome
            _note_source(out, name, source_print)
            count = replace(
                count, videos=count.videos + 1, frames=count.frames + frames, trajectories=count.trajectories + made
            )
    return count


def trajectories_of(
    video: Video, config: TrajectoryConfig, method: Method = "dis", compensate_camera: bool = True
) -> Iterator[Trajectories]:
    """The trajectories of a video as they end, frame by frame; memory does not grow with its length.

    Args:
        video: of one channel.
        config: what is followed and left out.
        method: of optical flow.
        compensate_camera: whether the motion of the camera is taken out.

    Raises:
        DataError: a frame that is damaged, or frames smaller than a patch.
    """
    height, width = video.size
    try:
        tracker = DenseTracker((height, width), config)
    except ValueError as error:
        raise DataError(
            str(error), expected="larger frames", hint="lower trajectories.cell_size", where=video.path
        ) from None
    solve = FlowSolver(method)
    for before, after in pairwise(_frames(video)):
        flow = solve(before, after)
        camera = None
        if compensate_camera:
            camera = camera_flow(estimate_homography(before, after, flow), height, width)[None]
        yield tracker.push(torch.from_numpy(before).float()[None], torch.from_numpy(flow)[None], camera)


def as_table(found: Trajectories, frames: int, size: tuple[int, int]) -> TrajectoryTable:
    """Trajectories as a file holds them.

    Args:
        found: of one video.
        frames: of the video.
        size: its height and width.
    """
    points = found.points.numpy()
    steps = np.diff(points, axis=1)
    mean, lengths = points.mean(1), np.linalg.norm(steps, axis=2).sum(1)
    middle = (found.end.numpy() - (points.shape[1] - 1) / 2) / frames
    height, width = size
    position = np.column_stack([mean[:, 0] / width, mean[:, 1] / height, middle]).clip(0, 0.999)
    return TrajectoryTable(
        found.end.numpy(),
        mean,
        points.std(1),
        lengths.astype(np.float32),
        found.scale.numpy(),
        position.astype(np.float32),
        *(each.numpy() for each in found.descriptors()),
    )


def _is_of(job: _Job, known: Mapping[str, str]) -> bool:
    """Whether the file of a video was made of it as it is."""
    try:
        return known.get(job.name) == fingerprint(job.source)
    except OSError:  # which is said when it is read
        return False


def _read_sources(out: Path) -> dict[str, str]:
    """The fingerprints of the videos that files were made of; a line that was cut off when a process ended is none."""
    known = {}
    with suppress(OSError):
        for line in (out / _SOURCES).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                known[str(row["video"])] = str(row["fingerprint"])
    return known


def _note_source(out: Path, name: str, source_print: str) -> None:
    """Adds a line for a file that was written; without it the file is written again, so that it may be lost."""
    line = json.dumps({"video": name, "fingerprint": source_print})
    with suppress(OSError), (out / _SOURCES).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}" if file.tell() else line)


def _write(job: _Job) -> tuple[int, int, str] | FailedSample:
    """Writes those of one video: how many frames and trajectories it has, and the video's fingerprint; or what is
    wrong, which is not raised."""
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        with Video(job.source) as recording, recording.grayscale() as video:
            frames, size, source_print = len(video), video.size, fingerprint(job.source)
            parts = trajectories_of(video, job.config, job.method, job.compensate_camera)
            with atomic_write(job.target) as draft:
                number = write_trajectories(draft, (as_table(found, frames, size) for found in parts if len(found)))
            return frames, number, source_print
    except DataError as problem:
        return FailedSample(job.name, job.source, problem)
    except OSError as problem:
        cannot = DataError(
            f"cannot be written ({problem.strerror or problem})",
            expected="a folder that can be written, with free space",
            hint="free some space, or choose another folder with --out",
            where=job.target,
        )
        return FailedSample(job.name, job.source, cannot)


def _frames(video: Video) -> Iterator[np.ndarray]:
    for begin in range(0, len(video), _CHUNK):
        yield from video.read(range(begin, min(begin + _CHUNK, len(video)))).pixels[:, 0].numpy()


def _remember_settings(out: Path, config: TrajectoryConfig, method: Method, compensate_camera: bool) -> None:
    """Notes the settings in a new folder; refuses one that was made with others."""
    path = out / _SETTINGS
    settings = {**config.model_dump(), "flow.method": method, "compensate_camera": compensate_camera}
    try:
        if not path.exists():
            out.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as draft:
                draft.write_text(json.dumps(settings, indent=1))
            return
        earlier = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise RunError(
            f"cannot be written or read ({problem})",
            expected="a folder for trajectories alone",
            hint="choose another folder with --out",
            where=path,
        ) from None
    if other := [f"{name} = {earlier.get(name)}" for name, value in settings.items() if earlier.get(name) != value]:
        raise RunError(
            f"these trajectories were made with other settings: {', '.join(other)}",
            expected="one folder for each choice of settings",
            hint="choose another folder with --out",
            where=out,
        )
