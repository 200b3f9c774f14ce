"""The films of the moving shapes as files: H.264 in mp4, and the boxes of each film beside it.

Every frame is coded on its own and with the same quantiser. Predicted frames would carry traces of where things came
from, and a single decoded frame would then tell the direction of the movement.

Legend: T frames, H and W pixels.
"""

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write
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
"""Changes with the films, so that files of an older kind are not taken for these."""

_CODER = {"preset": "veryfast", "qp": "22", "g": "1", "bf": "0"}


def write_videos(
    folder: Path, stage: SceneConfig, scenes: int, takes: int, progress: Callable[[int, int], None] | None = None
) -> list[Path]:
    """The films as ``videos/motion/sNN_tNN.mp4`` and ``boxes/motion/sNN_tNN.npz``; what exists is not written again.

    Each file appears whole or not at all, boxes first: a film that is there has its boxes, and a run that was killed
    goes on where it stopped.

    Args:
        folder: of this stage and seed alone.
        stage: what the films have in common.
        scenes: how many there are.
        takes: films of each class in each scene.
        progress: told after each scene how many are done, and of how many.

    Returns:
        The videos, by class, scene and take.

    Raises:
        DataError: the folder cannot be written.
    """
    missing = [scene for scene in range(1, scenes + 1) if not all(_done(folder, scene, takes))]
    try:
        for kind in ("videos", "boxes"):
            for motion in MOTIONS:
                (folder / kind / _word(motion)).mkdir(parents=True, exist_ok=True)
        for done, scene in enumerate(missing, start=1 + scenes - len(missing)):
            _write_scene(folder, stage, scene, takes)
            if progress:
                progress(done, scenes)
    except OSError as problem:
        raise DataError(
            f"the moving shapes cannot be written ({problem.strerror})",
            expected="a folder with 100 free kilobytes for each film",
            hint="free some space, or choose another folder with data.root",
            where=folder,
        ) from None
    return [video_path(folder, motion, *name) for motion in MOTIONS for name in _names(scenes, takes)]


def video_path(folder: Path, motion: str, scene: int, take: int) -> Path:
    """Where a film is."""
    return folder / "videos" / _word(motion) / f"s{scene:03}_t{take:02}.mp4"


def boxes_path(video: Path) -> Path:
    """Where the boxes of a film are: ``boxes``, float32 ``T 4``."""
    return video.parents[2] / "boxes" / video.parent.name / f"{video.stem}.npz"


def encode(pixels: UInt8[np.ndarray, "T H W 3"]) -> bytes:
    """An mp4 file, the same for the same frames."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=_CODER)
        stream.height, stream.width, stream.pix_fmt = *pixels.shape[1:3], "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in pixels:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def _write_scene(folder: Path, stage: SceneConfig, number: int, takes: int) -> None:
    scene = make_scene(stage, number)
    for motion in MOTIONS:
        if motion in REVERSED:
            continue
        backwards = [other for other, forwards in REVERSED.items() if forwards == motion]
        for take in range(1, takes + 1):
            videos = [video_path(folder, name, number, take) for name in (motion, *backwards)]
            if all(video.exists() for video in videos):
                continue
            film = render_video(stage, scene, motion, take)
            for video, played in zip(videos, (film, film.backwards()), strict=False):
                if not video.exists():
                    _write_video(video, played)


def _write_video(video: Path, film: SyntheticVideo) -> None:
    boxes = io.BytesIO()
    np.savez(boxes, boxes=film.boxes)
    _put(boxes_path(video), boxes.getvalue())
    _put(video, encode(film.pixels))


def _put(path: Path, content: bytes) -> None:
    with atomic_write(path, shared=True) as draft:
        draft.write_bytes(content)


def _done(folder: Path, scene: int, takes: int) -> list[bool]:
    return [video_path(folder, motion, scene, take).exists() for motion in MOTIONS for take in range(1, takes + 1)]


def _names(scenes: int, takes: int) -> list[tuple[int, int]]:
    return [(scene, take) for scene in range(1, scenes + 1) for take in range(1, takes + 1)]


def _word(motion: str) -> str:
    return motion.replace(" ", "_")
