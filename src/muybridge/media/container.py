"""What a video file holds, learned by reading its packets without decoding any.

A frame is known by its time stamp where the container keeps true ones (mp4, mkv, webm, gif, AVI without B-frames),
and otherwise by counting from the first. Time stamps, keyframes and the number of frames come from the packets
themselves; what the header claims about them is not believed.
"""

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from jaxtyping import Float64

from muybridge.core.errors import DataError

FORMATS = "mov,mp4,avi,matroska,webm,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,h264,hevc,m4v"
"""Containers that are opened: no playlists or pictures, which would lead to other files than the one named."""

MIN_SIDE = 8
MAX_PIXELS = 4096 * 4096
"""Frames outside these bounds are refused before anything is decoded."""

REPAIR = "fetch it again, re-encode it (ffmpeg -i OLD -c:v libx264 -pix_fmt yuv420p NEW.mp4), or leave it out"

Places = dict[int, int]


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """The frames of a file in the order in which they are shown.

    Attributes:
        seconds: when each frame is shown.
        duration: seconds from the first frame to the end of the last.
        ticks: the time stamp of each frame in the stream's own unit; empty where frames must be counted instead.
        places: how many packets lie before the one with a given time stamp.
        keys: time stamps of the packets that decoding can start from, rising.
        packets: packets in the file, those of frames that are not shown included.
    """

    seconds: Float64[np.ndarray, " T"]
    duration: float
    ticks: list[int]
    places: Places
    keys: list[int]
    packets: int

    def __len__(self) -> int:
        return len(self.seconds)

    def runs(self, ranks: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Rising frame numbers, grouped by the place of the keyframe from which they are decoded."""
        runs: list[tuple[int, list[int]]] = []
        for rank in ranks:
            before = bisect_right(self.keys, self.ticks[rank]) - 1
            start = self.places[self.keys[before]] if before >= 0 else 0
            if not runs or runs[-1][0] != start:
                runs.append((start, []))
            runs[-1][1].append(rank)
        return runs


@contextmanager
def readable(path: Path, doing: str):
    """What the decoder's libraries raise in here becomes a DataError that says during what."""
    try:
        yield
    except DataError:
        raise
    except (av.error.FFmpegError, OSError, ValueError, OverflowError, MemoryError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise DataError(
            f"{doing} failed ({reason})", expected="an undamaged video", hint=REPAIR, where=path
        ) from problem


def open_container(path: Path) -> tuple[InputContainer, VideoStream]:
    """The file with its video stream, after the checks that need no decoding.

    Raises:
        DataError: the file is missing, empty, cut off, holds no video, or its frames are too large or too small.
    """
    _check_bytes(path)
    with readable(path, "opening it as a video"):
        # The prefix keeps FFmpeg from taking a colon in the name for a protocol.
        container = av.open(f"file:{path}", metadata_errors="ignore", options={"format_whitelist": FORMATS})
    try:
        return container, _video_stream(path, container)
    except DataError:
        container.close()
        raise


def index_packets(path: Path, container: InputContainer, stream: VideoStream) -> PacketIndex:
    """Reads every packet of the stream once.

    Raises:
        DataError: the file ends early, or holds fewer than two frames.
    """
    # Every packet takes a byte at least; damaged tables can promise billions.
    most = path.stat().st_size
    shown: list[tuple[int | None, int | None, int]] = []
    places: Places = {}
    keys: list[int] = []
    place = entries = 0
    stamped, cut = True, False
    vp8 = stream.codec_context.name == "vp8"
    with readable(path, "reading its packets"):
        for packet in container.demux(stream):
            pts, size = packet.pts, packet.size
            if not size:
                entries += packet.dts is not None
                continue
            cut = cut or packet.is_corrupt or place > most
            if cut:
                break
            if pts is None or pts in places:
                stamped = False
            else:
                places[pts] = place
                if packet.is_keyframe:
                    keys.append(pts)
            # A VP8 packet may hold a reference picture that is never shown.
            if not packet.is_discard and not (vp8 and not bytes(packet)[0] & 0x10):
                shown.append((pts, packet.dts, packet.duration or 0))
            place += 1
            entries += 1
    # The tables of an mp4 name every sample, also those that a cut file no longer has.
    if cut or (container.format.name.startswith("mov") and entries < len(stream.index_entries)):
        raise _cut_off(path, f"after {len(shown)} readable frames")
    if len(shown) < 2:
        raise DataError(
            f"it holds {'no frame' if not shown else 'a single frame'}",
            expected="a video of at least two frames, as motion takes two",
            hint=REPAIR,
            where=path,
        )
    # AVI stores no display times; where pictures are stored out of order, FFmpeg's guesses at them are not to be used.
    guessed = container.format.name == "avi" and any(pts != dts for pts, dts, _ in shown)
    stamps = [pts for pts, _, _ in shown if pts is not None] if stamped and not guessed else []
    return _index(shown, stamps, places, sorted(keys), place, stream)


def _index(
    shown: list[tuple[int | None, int | None, int]],
    stamps: list[int],
    places: Places,
    keys: list[int],
    packets: int,
    stream: VideoStream,
) -> PacketIndex:
    ticks = sorted(stamps)
    clock = ticks or sorted({dts for _, dts, _ in shown if dts is not None})
    unit, rate = stream.time_base, stream.average_rate or stream.guessed_rate or Fraction(25)
    if len(clock) == len(shown) and unit:
        seconds = np.array(clock, dtype=np.float64) * float(unit)
        last = max(shown, key=lambda packet: packet[0] or 0)[2] * float(unit)
    else:
        seconds, last = np.arange(len(shown)) / float(rate), 0.0
    span = float(seconds[-1] - seconds[0])
    return PacketIndex(seconds, span + (last or span / (len(shown) - 1)), ticks, places, keys, packets)


def _video_stream(path: Path, container: InputContainer) -> VideoStream:
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        kinds = sorted({stream.type for stream in container.streams}) or ["nothing"]
        raise DataError(
            f"the file holds {' and '.join(kinds)} but no video",
            expected="a video stream",
            hint=REPAIR,
            where=path,
        )
    stream = streams[0]
    if stream.codec_context is None:
        raise DataError(
            "its video is coded in a way that no decoder here knows",
            expected="a common codec such as H.264, HEVC, VP9, MPEG-4 or MJPEG",
            hint=REPAIR,
            where=path,
        )
    check_size(path, stream.codec_context.height, stream.codec_context.width)
    return stream


def check_size(path: Path, height: int, width: int) -> None:
    """Raises DataError for frames that are no pictures of anything, or too large to hold many of."""
    if min(height, width) < MIN_SIDE or height * width > MAX_PIXELS:
        raise DataError(
            f"its frames are {width}x{height} pixels",
            expected=f"sides of {MIN_SIDE} pixels or more, and at most 4096x4096 pixels",
            hint="re-encode it smaller (ffmpeg -i OLD -vf scale=-2:720 NEW.mp4), or leave it out",
            where=path,
        )


def _check_bytes(path: Path) -> None:
    """The file exists, holds something, and is as long as it says; an mp4 says so in its tables, checked later."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
            file.seek(max(0, size - 64))
            tail = file.read(64)
    except OSError as problem:
        raise DataError(
            f"the file cannot be read ({problem.strerror})",
            expected="a readable video",
            hint="check the path and its permissions; index the folder again if files have moved",
            where=path,
        ) from None
    if not size:
        raise DataError("the file is empty", expected="a video", hint=REPAIR, where=path)
    promised = _promised_size(head)
    if promised is not None and promised > size + 16:  # some writers miscount the padding at the end
        raise _cut_off(path, f"at byte {size} of {promised}")
    if head[:4] == b"GIF8" and not tail.rstrip(b"\0\r\n").endswith(b";"):
        raise _cut_off(path, "without the mark that closes a GIF")


def _promised_size(head: bytes) -> int | None:
    """How many bytes the file says it has; None where it does not say."""
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
    """Where the content of an EBML element starts and how long it is (None: unknown), from its length field."""
    first = head[at] if at < len(head) else 0
    width = 9 - first.bit_length()
    bits = 7 * width
    value = int.from_bytes(head[at : at + width], "big") & ((1 << bits) - 1)
    return at + width, None if width > 8 or value == (1 << bits) - 1 else value


def _cut_off(path: Path, where: str) -> DataError:
    return DataError(f"the file is cut off: it ends {where}", expected="a whole video", hint=REPAIR, where=path)
