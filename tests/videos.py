"""Small videos for tests, written by PyAV, and the slow way to read them."""

from collections.abc import Collection, Sequence
from pathlib import Path

import av
import numpy as np

CODECS = {
    "h264.mp4": ("libx264", "yuv420p", {}),
    "h264_short_gop.mp4": ("libx264", "yuv420p", {"g": "7"}),
    "h264_open_gop.mkv": ("libx264", "yuv420p", {"x264-params": "open-gop=1:keyint=9:min-keyint=9:scenecut=0"}),
    "h264_b_frames.avi": ("libx264", "yuv420p", {}),
    "h264_odd.mp4": ("libx264", "yuv444p", {}),
    "hevc.mp4": ("libx265", "yuv420p", {"x265-params": "log-level=none:pools=1:keyint=12"}),
    "vp9.webm": ("libvpx-vp9", "yuv420p", {"g": "12", "deadline": "realtime", "cpu-used": "8"}),
    "vp8_hidden.webm": ("libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    "mpeg4.avi": ("mpeg4", "yuv420p", {}),
    "mpeg4_b_frames.avi": ("mpeg4", "yuv420p", {"bf": "2"}),
    "mpeg4_b_frames.mp4": ("mpeg4", "yuv420p", {"bf": "2"}),
    "mjpeg.avi": ("mjpeg", "yuvj420p", {}),
    "palette.gif": ("gif", "rgb8", {}),
}


def pictures(frames: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames that all differ: a bright bar that wanders over a texture that slides."""
    texture = np.random.default_rng(0).integers(0, 200, (height // 4 + 1, (width + frames) // 4 + 1, 3), dtype=np.uint8)
    texture = texture.repeat(4, 0).repeat(4, 1)
    made = []
    for step in range(frames):
        picture = texture[:height, step : step + width].copy()
        picture[:, 5 * step % width] = 255
        made.append(picture)
    return made


def write(
    path: Path,
    frames: int = 40,
    *,
    name: str = "h264.mp4",
    size: tuple[int, int] = (48, 64),
    stamps: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A video coded as ``name`` in CODECS says; ``stamps`` are milliseconds at which its frames are shown."""
    codec, layout, defaults = CODECS[name]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000 if stamps else 25, options=defaults | (options or {}))
        stream.height, stream.width, stream.pix_fmt = *size, layout
        stream.codec_context.thread_count = 1
        for index, picture in enumerate(pictures(frames, *size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = stamps[index] if stamps else index
            container.mux(stream.encode(frame.reformat(format=layout)))
        container.mux(stream.encode(None))
    return path


def sequential(path: Path, only: Collection[int] | None = None) -> dict[int, np.ndarray]:
    """The frames of a file, H W C by number, decoded from the first to the last; all, or only those asked for."""
    with av.open(str(path)) as container:
        return {
            index: frame.to_ndarray(format="rgb24")
            for index, frame in enumerate(container.decode(video=0))
            if only is None or index in only
        }
