"""The frames of a video file, known from its packets without decoding any.

A frame is identified by its time stamp where the container stores true ones (mp4, mkv, webm, gif, AVI without
B-frames), and otherwise by counting from the first. Time stamps, keyframes and the number of frames are read from the
packets themselves; what the header states about them is ignored.

Legend: T frames that are shown, P packets, K packets that decoding can start from.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from numbers import Rational
from pathlib import Path

import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from jaxtyping import Float64, Int64

from muybridge.core.errors import DataError
from muybridge.media.container import REPAIR, cut_off, encrypted, readable
from muybridge.media.transport_stream import find_gaps

_NO_STAMP = -(1 << 63)
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class PacketIndex:
    """The frames of a file in the order in which they are shown.

    Attributes:
        seconds: when each frame is shown, counted as players do: from the start of the file.
        duration: seconds from the first frame to the end of the last.
        ticks: the time stamp of each frame in the stream's own unit; empty where frames must be counted instead.
        places: the place of each frame's packet, which is the number of packets before it in the file; empty likewise.
        stamps: time stamp of the packet at each place, those of frames that are not shown included; empty likewise.
        keys: places of the packets that decoding can start from, by rising time stamp, or else by rising place.
        packets: number of packets in the file.
    """

    seconds: Float64[np.ndarray, " T"]
    duration: float
    ticks: Int64[np.ndarray, " _"]
    places: Int64[np.ndarray, " _"]
    stamps: Int64[np.ndarray, " _"]
    keys: Int64[np.ndarray, " K"]
    packets: int

    def __len__(self) -> int:
        return len(self.seconds)

    @property
    def first_key(self) -> int:
        """The place of the first packet that decoding can start from; 0 where none is marked."""
        return int(self.keys.min()) if len(self.keys) else 0

    @property
    def stamped(self) -> bool:
        """Whether frames are identified by their time stamps."""
        return len(self.ticks) > 0

    def rank_of(self, tick: int | None) -> int | None:
        """The number of the frame with this time stamp; None where there is none."""
        if tick is None:
            return None
        rank = int(np.searchsorted(self.ticks, tick))
        return rank if rank < len(self.ticks) and self.ticks[rank] == tick else None

    def groups(self, ranks: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Rising frame numbers, grouped by the place of the keyframe from which they are decoded."""
        before = np.searchsorted(self.stamps[self.keys], self.ticks[list(ranks)], side="right") - 1
        groups: list[tuple[int, list[int]]] = []
        for rank, key in zip(ranks, before.tolist(), strict=True):
            start = int(self.keys[key]) if key >= 0 else 0
            if not groups or groups[-1][0] != start:
                groups.append((start, []))
            groups[-1][1].append(rank)
        return groups

    def leading(self) -> list[int]:
        """The frames before the first keyframe, in the file or on the screen; they may refer to what is missing.

        The first keyframe is meant in the order of the file.
        """
        if not self.stamped or not len(self.keys):
            return []
        key = self.first_key
        return np.flatnonzero((self.places < key) | (self.ticks < self.stamps[key])).tolist()

    def without(self, ranks: Sequence[int]) -> "PacketIndex":
        """The index of the file without some leading frames, which no decoder shows."""
        if not ranks:
            return self
        kept = np.setdiff1d(np.arange(len(self)), ranks)
        if not len(kept):
            return self
        lost = float(self.seconds[kept[0]] - self.seconds[0])
        return replace(
            self,
            seconds=self.seconds[kept],
            duration=self.duration - lost,
            ticks=self.ticks[kept] if self.stamped else self.ticks,
            places=self.places[kept] if self.stamped else self.places,
        )


@dataclass(slots=True)
class _Packets:
    """What is collected while the packets of a stream are read; ``shown`` are places of packets with a frame to show.

    Packets without a time stamp carry ``_NO_STAMP``, those without a known offset in the file -1.
    """

    pts: array = field(default_factory=lambda: array("q"))
    dts: array = field(default_factory=lambda: array("q"))
    shown: array = field(default_factory=lambda: array("q"))
    keys: array = field(default_factory=lambda: array("q"))
    offsets: array = field(default_factory=lambda: array("q"))
    last_duration: int = 0
    last_pts: int = _NO_STAMP
    damaged: array = field(default_factory=lambda: array("q"))
    entries: int = 0
    endless: bool = False

    def add(self, packet: Packet, is_shown: bool) -> None:
        """Adds the next packet of the file."""
        place = len(self.pts)
        pts = _NO_STAMP if packet.pts is None else packet.pts
        self.pts.append(pts)
        self.dts.append(_NO_STAMP if packet.dts is None else packet.dts)
        self.offsets.append(-1 if packet.pos is None else packet.pos)
        if packet.is_keyframe:
            self.keys.append(place)
        if packet.is_corrupt:
            self.damaged.append(place)
        if is_shown:
            self.shown.append(place)
            if pts >= self.last_pts:
                self.last_pts, self.last_duration = pts, packet.duration or 0


def index_packets(path: Path, container: InputContainer, stream: VideoStream) -> PacketIndex:
    """Reads every packet of the stream once.

    Raises:
        DataError: the file ends early, lacks packets in the middle, or has fewer than two frames.
    """
    packets = _read_packets(path, container, stream)
    _check_damage(path, container, stream, packets)
    check_length(path, len(packets.shown))
    index = _build_index(container, stream, packets)
    check_length(path, len(index))
    return index


def check_length(path: Path, frames: int) -> None:
    """Raises a DataError for fewer than two frames."""
    if frames < 2:
        raise DataError(
            f"it has {'a single' if frames else 'no'} frame",
            expected="a video of at least two frames, since motion takes two",
            hint=REPAIR,
            where=path,
        )


def _read_packets(path: Path, container: InputContainer, stream: VideoStream) -> _Packets:
    packets = _Packets()
    most = path.stat().st_size  # a packet takes at least a byte; damaged tables can state billions of packets
    vp8 = stream.codec_context.name == "vp8"
    with readable(path, "reading its packets"):
        for packet in container.demux(stream):
            if not packet.size:
                packets.entries += packet.dts is not None
                continue
            if len(packets.pts) > most:
                packets.endless = True
                break
            if packet.has_sidedata("encryption_info"):
                raise encrypted(path)
            # A VP8 packet may contain a reference frame that is never shown.
            packets.add(packet, not packet.is_discard and not (vp8 and not bytes(packet)[0] & 0x10))
            packets.entries += 1
    return packets


def _check_damage(path: Path, container: InputContainer, stream: VideoStream, packets: _Packets) -> None:
    """Refuses files that are cut off, and transport streams that lack packets.

    FFmpeg marks a frame as damaged where a file ends within it, and mostly where packets are missing before its end.
    """
    damaged, is_cut = _damaged_places(path, container, stream, packets)
    # The tables of an mp4 list every sample, also those that a cut file no longer has.
    missing = container.format.name.startswith("mov") and packets.entries < len(stream.index_entries)
    at_end = damaged == [len(packets.pts) - 1]
    if packets.endless or missing or at_end or (is_cut and not damaged):
        frames = len(packets.shown) - at_end
        raise cut_off(path, f"after {frames} readable frames")
    if damaged:
        place = damaged[0]
        second = _seconds_of(packets.pts[place], packets.dts[place], container, stream)
        more = f" and {len(damaged) - 1} more place{'s' if len(damaged) > 2 else ''}" if len(damaged) > 1 else ""
        raise DataError(
            f"the video is damaged at {second:.2f} s{more}: data is missing, or two recordings are joined there",
            expected="a continuous video",
            hint="fetch it again, keep the part before or after it (ffmpeg -ss START -t SECONDS -i OLD -c:v libx264 "
            "NEW.mp4), or leave it out",
            where=path,
        )


def _damaged_places(
    path: Path, container: InputContainer, stream: VideoStream, packets: _Packets
) -> tuple[list[int], bool]:
    """Rising places of the packets of which data is missing, and whether a transport stream ends within a packet."""
    if container.format.name != "mpegts" or not packets.offsets:
        return list(packets.damaged), False
    with readable(path, "reading the file"):
        gaps, is_cut = find_gaps(path, stream.id)
    if not gaps:
        return list(packets.damaged), is_cut
    # Data that is missing belongs to the frame that begins before the gap, or to one that is missing as a whole. FFmpeg
    # marks earlier frames, those that its parser still held.
    before = (np.searchsorted(np.array(packets.offsets), gaps) - 1).clip(0)
    return sorted(set(before.tolist())), is_cut


def _seconds_of(pts: int, dts: int, container: InputContainer, stream: VideoStream) -> float:
    """When a packet is shown, counted from the start of the file."""
    stamp = pts if pts != _NO_STAMP else dts
    if stamp == _NO_STAMP or not stream.time_base:
        return 0.0
    return max(0.0, float(stamp * stream.time_base) - (container.start_time or 0) / _MICROSECONDS)


def _build_index(container: InputContainer, stream: VideoStream, packets: _Packets) -> PacketIndex:
    pts, dts = (np.array(stamps, dtype=np.int64) for stamps in (packets.pts, packets.dts))
    shown, keys = (np.array(places, dtype=np.int64) for places in (packets.shown, packets.keys))
    stamped = _has_true_stamps(container, pts, dts, shown)
    if not stamped and len(keys) and keys[0]:
        shown = shown[shown >= keys[0]]  # decoders pass over what comes before the first keyframe
    clock = np.sort(pts[shown] if stamped else np.unique(dts[shown]))
    unit, rate = _fraction(stream.time_base), stream.average_rate or stream.guessed_rate or Fraction(25)
    if unit and len(clock) == len(shown) and clock[0] != _NO_STAMP and (stamped or (np.diff(dts) > 0).all()):
        seconds = (clock - clock[0]).astype(np.float64) * float(unit) + _start(int(clock[0]), unit, container)
        last = packets.last_duration * float(unit)
    else:
        seconds, last = np.arange(len(shown)) / float(rate), 0.0
    span = float(seconds[-1] - seconds[0])
    duration = span + (last or span / max(1, len(shown) - 1))
    if not stamped:
        empty = np.zeros(0, dtype=np.int64)
        return PacketIndex(seconds, duration, empty, empty, empty, keys, len(pts))
    order = shown[np.argsort(pts[shown], kind="stable")]
    keys = keys[np.argsort(pts[keys], kind="stable")]
    return PacketIndex(seconds, duration, pts[order], order, pts, keys, len(pts))


def _fraction(number: Rational | None) -> Fraction | None:
    """A number of PyAV as Python's; None where it is unset, which from PyAV 19 on is a number of its own kind, 0."""
    return Fraction(int(number.numerator), int(number.denominator)) if number else None


def _start(first: int, unit: Fraction, container: InputContainer) -> float:
    """When the first frame is shown: after the start of the file, which another stream may begin."""
    offset = float(first * unit) - (container.start_time or 0) / _MICROSECONDS
    return 0.0 if abs(offset) < 2 / _MICROSECONDS else offset


def _has_true_stamps(container: InputContainer, pts: np.ndarray, dts: np.ndarray, shown: np.ndarray) -> bool:
    """Whether each packet has a time stamp of its own, and the order of the stamps is that of the frames."""
    if (pts == _NO_STAMP).any() or len(np.unique(pts)) < len(pts):
        return False
    # AVI stores no display times; where frames are stored out of order, FFmpeg's guesses at them are not reliable.
    if container.format.name == "avi" and (pts[shown] != dts[shown]).any():
        return False
    # Where the clock is set back, as between recordings that were joined, time stamps do not order the frames.
    known = dts[dts != _NO_STAMP]
    return bool((np.diff(known) >= 0).all())
