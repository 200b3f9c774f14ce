"""Frames and joints as they come: from cameras, network streams, files at their own pace, and standard input.

Legend: H and W pixels, C channels, P people, J joints, D coordinates.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import av
import av.error
import numpy as np

from muybridge.core.errors import DataError, RecipeError
from muybridge.core.extras import import_extra
from muybridge.media.container import check_size
from muybridge.media.skeleton import SUFFIXES as SKELETON_SUFFIXES
from muybridge.media.video import Video

PixelFormat = Literal["rgb24", "bgr24", "gray"]
"""Of raw frames, as FFmpeg names them."""

NETWORK = ("rtsp://", "rtsps://", "rtmp://", "http://", "https://", "udp://", "tcp://", "srt://")
"""How the addresses of network streams begin."""

PATIENCE = 10.0
"""Seconds that a network stream may send nothing before it counts as broken."""

_LONGEST_WAIT = 2.0  # seconds; times that lie further ahead are a jump of the stream's clock, which is not waited for


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame of a source.

    Attributes:
        content: pixels ``H W C`` of uint8, or joints ``P J D``, NaN where one is missing.
        seconds: when it was recorded, by the clock of the source.
        arrived: when it came here, by ``time.monotonic()``.
    """

    content: np.ndarray
    seconds: float
    arrived: float = field(default_factory=time.monotonic)


@runtime_checkable
class Pipe(Protocol):
    """Bytes as they come, such as those of ``sys.stdin.buffer``."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes; none at the end."""
        ...

    def readline(self) -> bytes:
        """The next line; empty at the end."""
        ...


@runtime_checkable
class LiveSource(Protocol):
    """Where moments come from."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def endless(self) -> bool:
        """Whether it should never end, so that it is opened again when it does."""
        ...

    def moments(self) -> Iterator[Moment]:
        """The moments from now on, each as soon as it is there; raises DataError where the source breaks."""
        ...


@dataclass(slots=True)
class Camera:
    """A camera of this machine, read through OpenCV.

    Args:
        number: 0 for the first.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """

    number: int
    endless: bool = True

    def __post_init__(self) -> None:
        _opencv()

    @property
    def name(self) -> str:
        """In words."""
        return f"camera {self.number}"

    def moments(self) -> Iterator[Moment]:
        """See :class:`LiveSource`."""
        cv2 = _opencv()
        capture = cv2.VideoCapture(self.number)
        try:
            if not capture.isOpened():
                raise self._broken("cannot be opened")
            started = time.monotonic()
            while True:
                found, frame = capture.read()
                if not found:
                    raise self._broken("gives no frames")
                yield Moment(np.ascontiguousarray(frame[..., ::-1]), time.monotonic() - started)
        finally:
            capture.release()

    def _broken(self, problem: str) -> DataError:
        return DataError(
            problem,
            expected="a camera that no other program uses",
            hint="close other programs that use it, or give another number",
            where=self.name,
        )


@dataclass(slots=True)
class NetworkStream:
    """A stream at an address, such as ``rtsp://`` of a network camera, read through PyAV.

    Args:
        name: the address.
    """

    name: str
    endless: bool = True

    def moments(self) -> Iterator[Moment]:
        """See :class:`LiveSource`; what is sent faster than it was recorded is delayed to its own pace."""
        options = {"rtsp_transport": "tcp"} if self.name.startswith("rtsp") else {}
        pace = _Pace()
        try:
            with av.open(self.name, options=options, timeout=(PATIENCE, PATIENCE)) as container:
                if not container.streams.video:
                    raise self._broken("it has no video")
                for frame in container.decode(video=0):
                    pixels = frame.to_ndarray(format="rgb24")
                    seconds = pace.now if frame.time is None else float(frame.time)
                    pace.wait_until(seconds)
                    yield Moment(pixels, seconds)
        except (av.error.FFmpegError, OSError) as problem:
            raise self._broken(getattr(problem, "strerror", None) or str(problem)) from problem

    def _broken(self, reason: str) -> DataError:
        return DataError(
            f"the stream cannot be read ({reason})",
            expected="a stream of video",
            hint="check the address, and that this machine reaches it",
            where=self.name,
        )


@dataclass(slots=True)
class PacedFile:
    """A video file, whose frames come at the pace at which they are shown.

    Args:
        path: the file, or a folder of images.
        paced: False gives the frames as fast as they are read.
        channels: 3 for RGB, 1 for gray.
    """

    path: Path
    paced: bool = True
    channels: Literal[1, 3] = 3
    endless: bool = False

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def moments(self) -> Iterator[Moment]:
        """See :class:`LiveSource`."""
        video = Video(self.path, channels=self.channels)
        try:
            pace = _Pace()
            for number, seconds in enumerate(video.seconds.tolist()):
                pixels = video.read([number]).pixels[0].permute(1, 2, 0).numpy()
                if self.paced:
                    pace.wait_until(seconds)
                yield Moment(pixels, seconds)
        finally:
            video.close()


@dataclass(slots=True)
class RawFrames:
    """Raw frames from a pipe, one after the other without anything between, as ``ffmpeg -f rawvideo -`` writes them.

    Args:
        pipe: where they are read.
        width, height: of each frame, in pixels.
        fps: frames a second.
        pixels: how the bytes are to be understood.
    """

    pipe: Pipe
    width: int
    height: int
    fps: float
    pixels: PixelFormat = "rgb24"
    endless: bool = False
    name: str = "standard input"

    def __post_init__(self) -> None:
        check_size(Path(self.name), self.height, self.width)

    def moments(self) -> Iterator[Moment]:
        """See :class:`LiveSource`."""
        channels = 1 if self.pixels == "gray" else 3
        size, number = self.height * self.width * channels, 0
        while data := _read_exactly(self.pipe, size):
            if len(data) < size:
                raise DataError(
                    f"frame {number} has {len(data)} bytes",
                    expected=f"{self.width} x {self.height} x {channels} = {size} bytes",
                    hint="correct --size and --pixels, or send whole frames",
                    where=self.name,
                )
            frame = np.frombuffer(data, np.uint8).reshape(self.height, self.width, channels)
            yield Moment(frame[..., ::-1] if self.pixels == "bgr24" else frame, number / self.fps)
            number += 1


@dataclass(slots=True)
class JointLines:
    """Joints from a pipe, a line of JSON for each frame.

    A line is an array ``P J D`` (or ``J D`` of one person), or an object with it as ``joints`` and, optionally, the
    time of the frame as ``seconds``; ``null`` stands for a missing number, and ``[]`` for a frame without anybody.

    Args:
        pipe: where they are read.
        fps: frames a second of lines that do not give their time.
    """

    pipe: Pipe
    fps: float
    endless: bool = False
    name: str = "standard input"

    def moments(self) -> Iterator[Moment]:
        """See :class:`LiveSource`."""
        for number, line in enumerate(iter(self.pipe.readline, b""), start=1):
            if line.strip():
                joints, seconds = self._parse(line, number)
                yield Moment(joints, (number - 1) / self.fps if seconds is None else seconds)

    def _parse(self, line: bytes, number: int) -> tuple[np.ndarray, float | None]:
        try:
            value = json.loads(line)
            joints, seconds = (value["joints"], value.get("seconds")) if isinstance(value, dict) else (value, None)
            array = np.array(joints, dtype=np.float64)
            seconds = None if seconds is None else float(seconds)
        except (ValueError, KeyError, TypeError, RecursionError):
            array, seconds = np.empty(()), None
        if array.size == 0 and array.ndim:
            return np.empty((0, 0, 0)), seconds
        if array.ndim not in (2, 3) or (seconds is not None and not np.isfinite(seconds)):
            raise DataError(
                f"line {number} holds no joints",
                expected='JSON such as [[[x, y, z], ...], ...], people x joints x coordinates, or {"joints": ..., '
                '"seconds": 1.5}',
                hint="correct the program that writes it",
                where=self.name,
            )
        return (array[None] if array.ndim == 2 else array), seconds


@dataclass(frozen=True, slots=True)
class PipeFormat:
    """What standard input does not say about itself.

    Attributes:
        size: width and height of raw frames; None where joints are read.
        fps: frames a second.
        pixels: of raw frames.
    """

    size: tuple[int, int] | None = None
    fps: float = 30.0
    pixels: PixelFormat = "rgb24"


def open_source(
    address: str, pipe: Pipe, pipe_format: PipeFormat, *, skeletons: bool, channels: Literal[1, 3], paced: bool
) -> LiveSource:
    """The source that an address names.

    Args:
        address: the number of a camera, the address of a stream, a file, or ``-`` for the pipe.
        pipe: standard input.
        pipe_format: what it holds.
        skeletons: whether joints are wanted, which only the pipe gives.
        channels: of frames.
        paced: whether files are read at their own pace.

    Raises:
        DataError: there is no such file.
        MissingExtraError: a camera, without OpenCV.
        RecipeError: the source does not give what is wanted.
    """
    if address == "-":
        if skeletons:
            return JointLines(pipe, pipe_format.fps)
        if pipe_format.size is None:
            raise RecipeError(
                "raw frames on standard input, and no --size",
                expected="the width and the height of a frame",
                hint="give --size 640x480, and --fps",
            )
        return RawFrames(pipe, *pipe_format.size, pipe_format.fps, pipe_format.pixels)
    if skeletons:
        of_file = Path(address).suffix.lower() in SKELETON_SUFFIXES
        raise RecipeError(
            f"the run takes skeletons, and {address!r} is {'a whole recording' if of_file else 'no source of joints'}",
            expected="-, for lines of joints on standard input",
            hint="use `muybridge timeline` for recordings" if of_file else "let a pose estimator write the lines",
        )
    if address.isdecimal() and not Path(address).exists():
        return Camera(int(address))
    if address.lower().startswith(NETWORK):
        return NetworkStream(address)
    return PacedFile(Path(address).expanduser(), paced, channels)


class _Pace:
    """Waits until frames are due, as the first one said when it came."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first: float | None = None

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def wait_until(self, seconds: float) -> None:
        """Until the frame of this time is due; after a jump of the clock, frames are counted from there."""
        if self._first is None or not 0 <= seconds - self._first - self.now + _LONGEST_WAIT <= 2 * _LONGEST_WAIT:
            self._started, self._first = time.monotonic(), seconds
        time.sleep(max(0.0, seconds - self._first - self.now))


def _read_exactly(pipe: Pipe, size: int) -> bytes:
    """So many bytes, or those that there are before the end."""
    parts, missing = [], size
    while missing and (part := pipe.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _opencv() -> Any:
    return import_extra("cv2", "flow", "cameras", otherwise="give the address of a stream")
