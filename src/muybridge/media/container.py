"""Opening a video file: which containers are read, which of several streams, and the checks that need no decoding."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import av.error
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from muybridge.core.errors import DataError
from muybridge.core.packed import PackedPath

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v"),
    *(".avi", ".divx", ".mkv", ".webm", ".mk3d", ".wmv", ".asf", ".flv", ".ogv", ".gif", ".apng"),
    *(".ts", ".mts", ".m2ts", ".m2t", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob"),
    *(".mxf", ".dv", ".rm", ".rmvb", ".ivf", ".y4m", ".mjpeg", ".mjpg"),
    *(".h264", ".264", ".h265", ".265", ".hevc", ".obu"),
)
"""Suffixes of the containers that are read, by which video files are found in folders."""

FORMATS = (
    "mov,mp4,avi,matroska,webm,asf,flv,ogg,gif,apng,mpegts,mpeg,mpegvideo,m4v,mxf,dv,rm,ivf,yuv4mpegpipe,h264,hevc,obu"
)
"""FFmpeg's names of these containers. Playlists are not among them, since they lead to other files than the one named;
neither are images."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
"""Suffixes of the images that can be frames of a folder."""

MIN_SIDE = 8
MAX_PIXELS = 4096 * 4096
"""Frames outside these bounds are refused before anything is decoded."""

REPAIR = "fetch it again, re-encode it (ffmpeg -i OLD -c:v libx264 -pix_fmt yuv420p NEW.mp4), or leave it out"

# PyAV 19 accepts any bytes in titles and comments by itself, and has no such argument any more.
_METADATA_OPTIONS: dict[str, Any] = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}

_ENCRYPTED_TAGS = ("encv", "drmi")
_MP4_BOXES = (b"ftyp", b"mdat", b"moov", b"free", b"skip", b"wide", b"pnot")
"""Types of the boxes with which an mp4 or mov may begin."""

_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


@contextmanager
def readable(path: Path, action: str) -> Iterator[None]:
    """Turns the exceptions of the decoding libraries into a DataError that names the action that failed."""
    try:
        yield
    except DataError:
        raise
    except (av.error.FFmpegError, OSError, ValueError, OverflowError, MemoryError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise DataError(
            f"{action} failed ({reason})", expected="an undamaged video", hint=REPAIR, where=path
        ) from problem


def open_container(path: Path) -> tuple[InputContainer, VideoStream]:
    """The file and its main video stream.

    Raises:
        DataError: the file is missing, not a regular file, empty, cut off, encrypted or without video, or its frames
            are too large or too small.
    """
    _check_bytes(path)
    # A still JPEG is a valid MJPEG stream, so that container is accepted by its suffix only.
    formats = f"{FORMATS},mjpeg" if path.suffix.lower() in (".mjpeg", ".mjpg") else FORMATS
    options = {"format_whitelist": formats, "protocol_whitelist": "file,subfile"}
    try:
        with readable(path, "opening it as a video"):
            container = av.open(_url(path), options=options, **_METADATA_OPTIONS)
        try:
            return container, _video_stream(path, container)
        except DataError:
            container.close()
            raise
    except DataError as problem:
        raise _unfinished_mp4(path) or problem from problem.__cause__


def _url(path: Path) -> str:
    """What FFmpeg opens."""
    # Without the prefix FFmpeg takes a colon in the name for a protocol.
    if not isinstance(path, PackedPath):
        return f"file:{path}"
    file, offset = path.on_disk()
    return f"subfile,,start,{offset},end,{offset + path.length},,:file:{file}"


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    """The video stream that FFmpeg and players take: no cover image, marked as default, largest, first."""
    streams = [stream for stream in container.streams.video if not stream.disposition & _NOT_MOVING]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams if stream not in container.streams.video})
        images = ["a still image"] if container.streams.video else []
        raise DataError(
            f"the file holds {' and '.join([*kinds, *images]) or 'nothing'} but no video",
            expected="a video stream",
            hint=REPAIR,
            where=path,
        )

    def preference(stream: VideoStream) -> tuple[bool, bool, bool, int]:
        context = stream.codec_context
        area = context.width * context.height if context else 0
        return context is not None, stream.frames != 1, bool(stream.disposition & Disposition.default), area

    stream = max(streams, key=preference)
    if stream.codec_context is None:
        raise DataError(
            "no decoder for its video codec is available",
            expected="a common codec such as H.264, HEVC, VP9, MPEG-4 or MJPEG",
            hint=REPAIR,
            where=path,
        )
    if stream.codec_context.codec_tag in _ENCRYPTED_TAGS:
        raise encrypted(path)
    if not (stream.codec_context.height and stream.codec_context.width):
        raise DataError(
            "the size of its frames is unknown: the data from which decoding starts is missing, damaged or encrypted",
            expected="a video with at least one keyframe",
            hint=REPAIR,
            where=path,
        )
    check_size(path, stream.codec_context.height, stream.codec_context.width)
    return stream


def check_size(path: Path, height: int, width: int) -> None:
    """Raises a DataError for frames that are too small to show anything or too large to hold many of in memory."""
    if min(height, width) < MIN_SIDE or height * width > MAX_PIXELS:
        raise DataError(
            f"its frames are {width}x{height} pixels",
            expected=f"sides of {MIN_SIDE} pixels or more, and at most 4096x4096 pixels",
            hint="re-encode it smaller (ffmpeg -i OLD -vf scale=-2:720 NEW.mp4), or leave it out",
            where=path,
        )


def check_regular_file(path: Path, expected: str) -> int:
    """The size of a file in bytes; pipes and devices, on which reading may wait for ever, are refused.

    Raises:
        DataError: it does not exist, cannot be examined, or is not a regular file.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as problem:
        raise DataError(
            f"the file cannot be read ({getattr(problem, 'strerror', None) or problem})",
            expected=expected,
            hint="check the path and its permissions; index the folder again if files have moved",
            where=path,
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(
            "it is a pipe, a socket or a device",
            expected=expected,
            hint="save the stream as a file first (ffmpeg -i SOURCE -c copy FILE.mkv)",
            where=path,
        )
    return status.st_size


def _check_bytes(path: Path) -> None:
    """Checks that the file is a regular one, not empty, and as long as its header says; for mp4 the index checks."""
    size = check_regular_file(path, "a readable video")
    if not size:
        raise DataError("the file is empty", expected="a video", hint=REPAIR, where=path)
    with readable(path, "reading the file"), path.open("rb") as file:
        head = file.read(64)
        file.seek(max(0, size - 64))
        tail = file.read(64)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise DataError(
            "it is a single image",
            expected="a video, or a folder of numbered images",
            hint="name the folder instead of one of its images; convert animated images to mp4",
            where=path,
        )
    stated = _stated_size(head)
    if stated is not None and stated > size + 16:  # some writers miscount the padding at the end
        raise cut_off(path, f"at byte {size} of {stated}")
    if head[:4] == b"GIF8" and not tail.rstrip(b"\0\r\n").endswith(b";"):
        raise cut_off(path, "without the byte that ends a GIF")


def _stated_size(head: bytes) -> int | None:
    """The size in bytes that the file's header states; None where it states none."""
    if head[:4] == b"RIFF":
        size = int.from_bytes(head[4:8], "little")
        return size + 8 if size else None
    if head[:4] == b"\x1a\x45\xdf\xa3":
        at, length = _ebml_size(head, 4)
        segment = at + (length or 0)
        if head[segment : segment + 4] == b"\x18\x53\x80\x67":
            at, length = _ebml_size(head, segment + 4)
            return at + length if length is not None else None
    return None


def _ebml_size(head: bytes, at: int) -> tuple[int, int | None]:
    """Offset of the content of an EBML element and its length (None: unknown), from the length field at ``at``."""
    first = head[at] if at < len(head) else 0
    width = 9 - first.bit_length()
    bits = 7 * width
    value = int.from_bytes(head[at : at + width], "big") & ((1 << bits) - 1)
    return at + width, None if width > 8 or value == (1 << bits) - 1 else value


def _unfinished_mp4(path: Path) -> DataError | None:
    """The error for an mp4 without the whole of its index (the box ``moov``); None for other files.

    A camera writes the index last, so that it is missing where a recording was interrupted or a copy is incomplete.
    """
    size = path.stat().st_size
    with readable(path, "reading the file"), path.open("rb") as file:
        at = 0
        while at + 8 <= size:
            file.seek(at)
            head = file.read(16)
            kind, length = head[4:8], int.from_bytes(head[:4], "big")
            if not at and kind not in _MP4_BOXES:
                return None
            if length == 1:
                length = int.from_bytes(head[8:], "big")
            end = at + length if length else size
            if end > size:
                return cut_off(path, f"at byte {size} of {end} or more, without the whole of its index (moov)")
            if kind in (b"moov", b"moof") or 0 < length < 8:
                return None
            at = end
    return cut_off(path, "without an index (moov), as a recording that was interrupted") if at else None


def encrypted(path: Path) -> DataError:
    """The error for a video with copy protection."""
    return DataError(
        "the video is encrypted", expected="a video without copy protection", hint="leave it out", where=path
    )


def cut_off(path: Path, place: str) -> DataError:
    """The error for a file that ends too early."""
    return DataError(f"the file is cut off: it ends {place}", expected="a complete video", hint=REPAIR, where=path)
