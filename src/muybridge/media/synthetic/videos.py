"""The videos of the moving shapes as files: H.264 in mp4, and the boxes of each video beside it.

Every frame is coded on its own and with the same quantizer. Predicted frames would carry traces of earlier positions,
and a single decoded frame would then show the direction of the movement.

Legend: T frames, H and W pixels.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write
from muybridge.core.processes import run_parallel
from muybridge.media.synthetic.moving_shapes import (
    FPS,
    MOTIONS,
    REVERSED,
    SceneConfig,
    SyntheticVideo,
    make_scene,
    render_video,
)

VERSION = 1
"""Increased with every change of the videos, so that files of an older version are not used."""

_CODER = {"preset": "veryfast", "qp": "22", "g": "1", "bf": "0"}


@dataclass(frozen=True, slots=True)
class _Task:
    """One scene to render and to encode."""

    folder: Path
    config: SceneConfig
    scene: int
    takes: int


def write_videos(
    folder: Path,
    config: SceneConfig,
    scenes: int,
    takes: int,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 1,
) -> list[Path]:
    """Writes ``videos/motion/sNN_tNN.mp4`` and ``boxes/motion/sNN_tNN.npz``; existing files are kept.

    Each file is written atomically, boxes first: a video that exists has its boxes, and an interrupted
    run is continued by the next.

    Args:
        folder: of this configuration and seed alone.
        config: settings that all videos share.
        scenes: number of scenes.
        takes: videos of each class in each scene.
        progress: called after each scene with the number of finished scenes and of all.
        workers: processes; see :func:`muybridge.core.processes.run_parallel`.

    Returns:
        The videos, by class, scene and take.

    Raises:
        DataError: the folder cannot be written.
        RunError: a worker process was killed.
    """
    missing = [scene for scene in range(1, scenes + 1) if not all(_done(folder, scene, takes))]
    try:
        for kind in ("videos", "boxes"):
            for motion in MOTIONS:
                (folder / kind / _word(motion)).mkdir(parents=True, exist_ok=True)
        tasks = {scene: _Task(folder, config, scene, takes) for scene in missing}
        for done, _ in enumerate(run_parallel(_write_scene, tasks, workers), start=1 + scenes - len(missing)):
            if progress:
                progress(done, scenes)
    except OSError as problem:
        raise DataError(
            f"the moving shapes cannot be written ({problem.strerror})",
            expected="a folder with 100 free kilobytes for each video",
            hint="free some space, or choose another folder with data.root",
            where=folder,
        ) from None
    return [video_path(folder, motion, *name) for motion in MOTIONS for name in _names(scenes, takes)]


def video_path(folder: Path, motion: str, scene: int, take: int) -> Path:
    """Where a video is."""
    return folder / "videos" / _word(motion) / f"s{scene:03}_t{take:02}.mp4"


def boxes_path(video: Path) -> Path:
    """Where the boxes of a video are: ``boxes``, float32 ``T 4``."""
    return video.parents[2] / "boxes" / video.parent.name / f"{video.stem}.npz"


def encode(pixels: UInt8[np.ndarray, "T H W 3"]) -> bytes:
    """An mp4 file, the same for the same frames."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=_CODER)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _write_scene(task: _Task) -> None:
    scene = make_scene(task.config, task.scene)
    for motion in MOTIONS:
        if motion in REVERSED:
            continue
        backwards = [name for name, forwards in REVERSED.items() if forwards == motion]
        for take in range(1, task.takes + 1):
            paths = [video_path(task.folder, name, task.scene, take) for name in (motion, *backwards)]
            if all(map(_exists, paths)):
                continue
            video = render_video(task.config, scene, motion, take)
            for path, version in zip(paths, (video, video.backwards()), strict=False):
                if not _exists(path):
                    _write_video(path, version)


def _write_video(path: Path, video: SyntheticVideo) -> None:
    boxes = io.BytesIO()
    np.savez(boxes, boxes=video.boxes)
    _write(boxes_path(path), boxes.getvalue())
    _write(path, encode(video.pixels))


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path, shared=True, flush=False) as draft:
        draft.write_bytes(content)


def _exists(path: Path) -> bool:
    """Whether there is a file that is not empty; a power failure may have left an empty one."""
    return path.exists() and path.stat().st_size > 0


def _done(folder: Path, scene: int, takes: int) -> list[bool]:
    return [_exists(video_path(folder, motion, scene, take)) for motion in MOTIONS for take in range(1, takes + 1)]


def _names(scenes: int, takes: int) -> list[tuple[int, int]]:
    return [(scene, take) for scene in range(1, scenes + 1) for take in range(1, takes + 1)]


def _word(motion: str) -> str:
    return motion.replace(" ", "_")
