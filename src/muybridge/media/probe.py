"""What a video file or a folder of images says of itself, without decoding a frame."""

import os
from dataclasses import dataclass
from pathlib import Path

from av.container import InputContainer
from av.video.stream import VideoStream

from muybridge.core.errors import DataError
from muybridge.media.container import cut_off, open_container, readable
from muybridge.media.frames import FrameFolder

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Probe:
    """What is known of a video from its header.

    Attributes:
        frames: how many, as the header says, or else counted in its packets.
        fps: frames a second, on average.
        seconds: duration.
        height, width: of the frames as stored, in pixels.
        codec: FFmpeg's name, or ``images``.
        error: why it cannot be read; empty if it can, as far as the header shows.
    """

    frames: int = 0
    fps: float = 0.0
    seconds: float = 0.0
    height: int = 0
    width: int = 0
    codec: str = ""
    error: str = ""


def probe(path: Path, fps: float = 30.0) -> Probe:
    """What a video says of itself; a video that is broken has an error, and none is raised.

    Args:
        path: a file, or a folder of numbered images.
        fps: frame rate of a folder.
    """
    try:
        if path.is_dir():
            folder = FrameFolder(path, 3, fps, None)
            return Probe(len(folder), fps, folder.duration, *folder.size, "images")
        container, stream = open_container(path)
        with container:
            found = _of_stream(path, container, stream)
        if container.format.name.startswith("mov"):
            _check_boxes(path)
    except DataError as problem:
        return Probe(error=problem.problem)
    return found


def _of_stream(path: Path, container: InputContainer, stream: VideoStream) -> Probe:
    rate, clock = stream.average_rate or stream.guessed_rate, stream.time_base
    fps = rate.numerator / rate.denominator if rate else 0.0
    seconds = stream.duration * clock.numerator / clock.denominator if stream.duration and clock else 0.0
    seconds = seconds or (container.duration or 0) / _MICROSECONDS
    frames = stream.frames
    if not frames:
        with readable(path, "reading its packets"):
            frames = sum(1 for packet in container.demux(stream) if packet.size)
    if frames < 2:
        return Probe(error=f"it has {'a single' if frames else 'no'} frame")
    context = stream.codec_context
    return Probe(
        frames, fps or frames / max(seconds, 1e-6), seconds or frames / fps, context.height, context.width, context.name
    )


def _check_boxes(path: Path) -> None:
    """Refuse an mp4 that ends before the data that it begins with, whose index may come first."""
    at = 0
    with readable(path, "reading the file"):
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            size = os.fstat(file).st_size
            while at + 8 <= size:
                os.lseek(file, at, os.SEEK_SET)
                head = os.read(file, 16)
                length = int.from_bytes(head[:4], "big")
                length = int.from_bytes(head[8:], "big") if length == 1 else length
                if length < 8:  # 0: until the end of the file; others are no box
                    return
                at += length
        finally:
            os.close(file)
    if at > size:
        raise cut_off(path, f"at byte {size} of {at}")
