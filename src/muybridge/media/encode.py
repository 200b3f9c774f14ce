"""Videos that are written: frames of any source, and copies that are small and fast to read at any place."""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.reformatter import VideoReformatter

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write
from muybridge.media.video import Video

KEYFRAMES = 12
"""Frames from each keyframe to the next: at most so many are decoded to show one."""

_CLOCK = 90_000
_CHUNK_BYTES = 32 << 20
_CODER = {"preset": "veryfast", "crf": "20", "g": str(KEYFRAMES), "bf": "0", "sc_threshold": "0"}


def encode_copy(source: Path, target: Path, short_side: int, fps: float = 30.0) -> None:
    """A copy of a video as mp4 (H.264), without sound: the same frames at the same times, upright, and smaller.

    The copy appears whole or not at all, and gets the time of change of its source.

    Args:
        source: a video file, or a folder of numbered images.
        target: the copy; its folder exists.
        short_side: pixels of the shorter side; frames that are smaller keep their size. Sides are even.
        fps: frame rate of a folder.

    Raises:
        DataError: the source is damaged, or the copy has other frames or times.
        OSError: the copy cannot be written.
    """
    with Video(source, fps=fps) as video, atomic_write(target, shared=True, flush=False) as draft:
        changed = source.stat().st_mtime_ns
        try:
            encode(_frames(video, short_side), draft, video.fps)
        except av.error.FFmpegError as problem:
            raise DataError(
                f"its copy cannot be encoded ({problem.strerror or problem})",
                expected="free space, and FFmpeg with libx264",
                hint="free some space, and repeat the command",
                where=source,
            ) from problem
        _compare(video, draft)
        os.utime(draft, ns=(changed, changed))


def is_copied(source: Path, target: Path) -> bool:
    """Whether there is a copy of the source as it is now."""
    try:
        return target.stat().st_mtime_ns == source.stat().st_mtime_ns and target.stat().st_size > 0
    except OSError:
        return False


def encode(frames: Iterable[tuple[np.ndarray, float]], target: Path, fps: float) -> None:
    """Write frames as mp4 (H.264) with a keyframe every few frames, on one thread.

    Args:
        frames: pixels H W 3 of uint8, all of one size, and the time of each in seconds; an odd row or column is lost.
        target: the file, written in place.
        fps: frames a second, on average.

    Raises:
        av.error.FFmpegError: it cannot be encoded or written.
    """
    with av.open(str(target), "w", format="mp4", options={"movflags": "faststart"}) as container:
        rate = Fraction(fps).limit_denominator(1001)
        stream = container.add_stream("libx264", rate=rate, options=_CODER)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # one process for each core encodes
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        scaler = VideoReformatter()  # one for all, on this thread: making one for each frame takes longer than scaling
        for pixels, seconds in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            height, width = pixels.shape[0] // 2 * 2, pixels.shape[1] // 2 * 2
            if not stream.codec_context.is_open:
                stream.height, stream.width = height, width
            frame = scaler.reformat(frame, width, height, "yuv420p", threads=1)
            frame.pts, frame.time_base = round(seconds * _CLOCK), Fraction(1, _CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _frames(video: Video, short_side: int) -> Iterator[tuple[np.ndarray, float]]:
    """Every frame, H W 3, with its time; some are read at a time."""
    height, width = video.size
    step = max(8, _CHUNK_BYTES // (3 * height * width))
    for begin in range(0, len(video), step):
        clip = video.read(range(begin, min(begin + step, len(video))), short_side)
        for pixels, seconds in zip(clip.pixels.permute(0, 2, 3, 1).numpy(), clip.seconds.tolist(), strict=True):
            yield np.ascontiguousarray(pixels), seconds


def _compare(video: Video, copy: Path) -> None:
    """Refuse a copy that has other frames or times than the video."""
    with Video(copy) as written:
        same = len(written) == len(video) and bool((written.seconds - video.seconds).abs().max() < 1e-3)
        if not same:
            raise DataError(
                f"its copy has {len(written)} frames until {written.seconds[-1]:.3f} s",
                expected=f"{len(video)} until {video.seconds[-1]:.3f} s",
                hint="leave it out, or convert it by hand (ffmpeg -i OLD NEW.mp4)",
                where=video.path,
            )
