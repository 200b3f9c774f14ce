"""Small videos for tests, written by PyAV, and the slow way to read them."""

import re
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

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


def images(frames: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Frames that all differ: a bright bar that moves over a texture that slides."""
    texture = np.random.default_rng(0).integers(0, 200, (height // 4 + 1, (width + frames) // 4 + 1, 3), dtype=np.uint8)
    texture = texture.repeat(4, 0).repeat(4, 1)
    result = []
    for step in range(frames):
        image = texture[:height, step : step + width].copy()
        image[:, 5 * step % width] = 255
        result.append(image)
    return result


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
        for index, image in enumerate(images(frames, *size)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = stamps[index] if stamps else index
            container.mux(stream.encode(frame.reformat(format=layout)))
        container.mux(stream.encode(None))
    return path


def sequential(path: Path, only: Collection[int] | None = None) -> dict[int, np.ndarray]:
    """The frames of a file, H W C by number, decoded from the first to the last; all, or those in ``only``."""
    with av.open(str(path)) as container:
        return {
            index: frame.to_ndarray(format="rgb24")
            for index, frame in enumerate(container.decode(video=0))
            if only is None or index in only
        }


def ffmpeg_frames(path: Path, *options: str) -> np.ndarray:
    """All frames of a video as the command line of ffmpeg shows them, T H W C; skips the test where it is missing."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("the program ffmpeg is not installed")
    output = ["-vsync", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]
    command = [program, "-v", "error", *options, "-i", str(path), *output]
    content = subprocess.run(command, capture_output=True, check=True).stdout
    frames, at = [], 0
    while at < len(content):
        header = re.compile(rb"P6\s+(\d+)\s+(\d+)\s+255\s").match(content, at)
        assert header is not None
        width, height = map(int, header.groups())
        at = header.end() + 3 * height * width
        frames.append(np.frombuffer(content, np.uint8, 3 * height * width, header.end()).reshape(height, width, 3))
    return np.stack(frames)
