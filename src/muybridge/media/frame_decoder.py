"""From packets to decoded frames: seeking, decoding no more than is needed, and noticing damage."""

import copy
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import av
import av.error
import numpy as np
from av.video.frame import PictureType

from muybridge.core.errors import DataError
from muybridge.media import packet_cache
from muybridge.media.container import REPAIR, open_container, readable
from muybridge.media.packets import PacketIndex, check_length, index_packets

Frame = tuple[int, av.VideoFrame]
"""The number of a frame in the order in which frames are shown, and the frame as it was decoded."""

_EVERY_PACKET_SHOWS = ("hevc", "vvc", "mpeg1video", "mpeg2video")  # may drop a damaged frame without an error


_MOST_LEADING = 32  # more frames than codecs reorder


class FrameDecoder:
    """The frames of a video file by number.

    Frames that depend on one keyframe are decoded together: it seeks there, feeds the packets up to the last frame
    that is requested, and stops. H.264 frames that no other refers to are skipped unless they are requested. Where a
    read continues the one before, decoding continues, and no frame is decoded twice.

    Damage that the codec's decoder reports refuses the damaged frame and all that are predicted from it. Not every
    decoder reports damage: those of HEVC, VP9 and MJPEG turn many flipped bits into wrong pixels.

    Args:
        path: the file.
        threads: threads of the decoder.
        keep_index: whether the index of a large file is kept on disk, since the file will be opened for each of its
            parts.

    Raises:
        DataError: see :func:`open_container` and :func:`index_packets`.
    """

    def __init__(self, path: Path, threads: int, *, keep_index: bool = False) -> None:
        self.path, self.threads = path, threads
        self._playback: _Playback | None = None
        self._open()
        self.pixel_aspect = float(self._stream.sample_aspect_ratio or 1)
        self.pixel_format = self._stream.codec_context.pix_fmt
        self.color_matrix = self._stream.codec_context.colorspace
        # The decoder overwrites it where the size changes within the video.
        self.stated_size = self._stream.codec_context.height, self._stream.codec_context.width
        known = packet_cache.known_index(path) if keep_index else None
        try:
            self.index: PacketIndex = known or index_packets(path, self._container, self._stream)
            if known is None:
                self._drop_leading_frames()
        except DataError:
            self.close()
            raise
        if keep_index and known is None:
            packet_cache.keep_index(path, self.index)

    @property
    def stream_index(self) -> int:
        """The number of the video stream that is read among all streams of the file."""
        return self._stream.index

    def reopen(self) -> "FrameDecoder":
        """The same frames with a file handle and a decoder of its own; the index is shared."""
        twin = copy.copy(self)
        twin._playback = None
        twin._open()
        return twin

    def close(self) -> None:
        """Closes the file and the decoder."""
        self._playback = None
        self._container.close()

    def frames(self, ranks: Sequence[int], *, continues: bool = False) -> Iterator[Frame]:
        """The frames with these rising numbers, in any order.

        Args:
            ranks: one or more.
            continues: whether they follow on those of the previous call without large gaps.

        Raises:
            DataError: one of them is damaged or missing. Some may have been given before that is known, and a frame may
                be given twice.
        """
        if not self.index.stamped:
            yield from self._by_count(ranks)
            return
        if continues:
            try:
                yield from self._onwards(ranks)
            except (DataError, av.error.FFmpegError):
                self._playback = None  # the other way finds out which frames are affected
            else:
                return
        self._playback = None
        for start, group in self.index.groups(ranks):
            yield from self._group(start, group)

    def first_size(self) -> tuple[int, int]:
        """Height and width of the first frame as stored, found by a decoder of its own."""
        container, stream = open_container(self.path)
        with container:
            frame = next(iter(container.decode(stream)))
            return frame.height, frame.width

    def _open(self) -> None:
        self._container, self._stream = open_container(self.path)
        context = self._stream.codec_context
        context.thread_count = self.threads
        context.thread_type = "AUTO" if self.threads > 1 else "NONE"
        context.options = {"err_detect": "crccheck"}

    def _drop_leading_frames(self) -> None:
        """Removes frames at the start that no decoder shows, since they refer to frames that are not in the file."""
        with readable(self.path, "decoding"):
            hidden = self._hidden_stamped() if self.index.stamped else self._hidden_counted()
        self.index = self.index.without(hidden)
        check_length(self.path, len(self.index))

    def _hidden_stamped(self) -> list[int]:
        leading = self.index.leading()
        if not leading:
            return []
        frames = self._numbered(0, int(self.index.places[leading].max()), None, lenient=True)
        shown = {rank for rank, frame in frames if not frame.is_corrupt}
        return [rank for rank in leading if rank not in shown]

    def _hidden_counted(self) -> list[int]:
        """As many frames as do not come out of the first packets from the first keyframe on."""
        start = self.index.first_key
        if not start:
            return []
        last = min(start + _MOST_LEADING, self.index.packets - 1)
        shown = sum(1 for _ in self._decode(start, last, None, lenient=True))
        return list(range(max(0, last + 1 - start - shown)))

    # Three ways to frames

    def _group(self, start: int, group: list[int]) -> Iterator[Frame]:
        """Frames that depend on one keyframe, decoded from there; from the first packet where that fails."""
        index = self.index
        places = dict(zip(group, index.places[group].tolist(), strict=True))
        last = max(places.values())
        shown: set[int] = set()
        for origin in dict.fromkeys((start, 0)):
            needed = set(index.ticks[group].tolist()) if origin == start else None
            damaged: list[int] = []
            shown.clear()
            for rank, frame in self._numbered(origin, last, needed):
                shown.add(rank)
                if frame.is_corrupt:
                    damaged.append(int(index.places[rank]))
                elif rank in places:
                    yield rank, frame
            if self._stream.codec_context.name in _EVERY_PACKET_SHOWS:
                damaged += self._not_shown(origin, last, shown)
            affected = [rank for rank, place in places.items() if damaged and place >= min(damaged)]
            if affected:
                raise self._damage(affected[0])
            if shown.issuperset(places):
                return
        raise self._damage(min(places.keys() - shown))

    def _not_shown(self, origin: int, last: int, shown: set[int]) -> list[int]:
        """Places of packets that went in and whose frames did not come out, although nothing was missing."""
        index = self.index
        due = (index.places >= origin) & (index.places <= last) & (index.ticks >= index.stamps[origin])
        return [int(index.places[rank]) for rank in np.flatnonzero(due).tolist() if rank not in shown]

    def _onwards(self, ranks: Sequence[int]) -> Iterator[Frame]:
        """Frames that follow on those decoded last; decoding continues where it stopped if that is the shorter way.

        Raises:
            DataError: a frame is damaged, or did not come out.
        """
        index, playback = self.index, self._playback
        start = index.groups(ranks[:1])[0][0]
        if playback is None or playback.rank >= ranks[0] or index.places[playback.rank + 1] < start:
            playback = self._playback = _Playback(self._numbered(start, index.packets, None), ranks[0] - 1)
        # These may be predicted from a frame that is shown later, whose damage is known when it comes out.
        through = int(np.flatnonzero(index.places <= index.places[list(ranks)].max()).max())
        wanted = set(ranks)
        for rank, frame in playback.read(ranks[-1], lambda rank, _: rank >= through):
            if frame.is_corrupt:
                raise self._damage(rank)
            if rank in wanted:
                wanted.remove(rank)
                yield rank, frame
        if wanted:
            raise self._damage(min(wanted))

    def _by_count(self, ranks: Sequence[int]) -> Iterator[Frame]:
        """Frames identified by their number among all that come out when all packets go in."""
        playback = self._playback
        if playback is None or playback.rank >= ranks[0]:
            playback = self._playback = _Playback(
                enumerate(self._decode(self.index.first_key, self.index.packets, None)), -1
            )
        wanted = set(ranks)
        waiting: list[Frame] = []
        for rank, frame in playback.read(ranks[-1], lambda _, frame: not _is_bidirectional(frame)):
            waiting.append((rank, frame))
            if _is_bidirectional(frame) and not frame.is_corrupt:
                continue  # it may be predicted from the frame after it
            playback.is_damaged = frame.is_corrupt or (playback.is_damaged and not frame.key_frame)
            yield from self._undamaged(waiting, wanted, playback.is_damaged)
            waiting.clear()
        yield from self._undamaged(waiting, wanted, playback.is_damaged)
        if wanted:
            raise self._damage(min(wanted))

    def _undamaged(self, frames: list[Frame], wanted: set[int], is_damaged: bool) -> Iterator[Frame]:
        """Those of the frames that are wanted; raises a DataError where there are any and they are damaged."""
        for rank, frame in frames:
            if rank in wanted:
                if is_damaged:
                    self._playback = None
                    raise self._damage(rank)
                wanted.remove(rank)
                yield rank, frame

    def _damage(self, rank: int) -> DataError:
        return DataError(
            f"frame {rank} of {len(self.index)} (at {self.index.seconds[rank]:.2f} s) is damaged or missing",
            expected="frames that decode without error",
            hint=REPAIR,
            where=self.path,
        )

    # Packets in, frames out

    def _numbered(
        self, start: int, last: int, needed: Collection[int] | None, *, lenient: bool = False
    ) -> Iterator[Frame]:
        """What :meth:`_decode` gives, with numbers."""
        for frame in self._decode(start, last, needed, lenient=lenient):
            rank = self.index.rank_of(frame.pts)
            if rank is not None:
                yield rank, frame

    def _decode(
        self, start: int, last: int, needed: Collection[int] | None, *, lenient: bool = False
    ) -> Iterator[av.VideoFrame]:
        """The frames that come out when the packets with places ``start`` to ``last`` go in.

        Args:
            start, last: places of packets.
            needed: time stamps; H.264 frames with others are decoded only where another refers to them.
            lenient: pass over packets that cannot be decoded.
        """
        packets = self._packets(start)
        context = self._stream.codec_context
        context.skip_frame = "DEFAULT"
        for place, packet in packets:
            if needed is not None and context.name == "h264":
                context.skip_frame = "DEFAULT" if packet.pts in needed else "NONREF"
            try:
                yield from context.decode(packet)
            except av.error.FFmpegError:
                if not lenient:
                    raise
            if place >= last:
                break
        yield from context.decode(None)

    def _packets(self, start: int) -> Iterator[tuple[int, av.Packet]]:
        """The packets from place ``start`` on, each with its place.

        Seeking may arrive late or fail, where the file's own index is poor; then the file is read from its start.
        """
        arrived, packets = self._seek(start) if self.index.stamped else (None, iter(()))
        if arrived is None or arrived > start:
            self._container.close()
            self._open()
            arrived, packets = 0, self._demux()
        return ((place, packet) for place, packet in enumerate(packets, arrived) if place >= start)

    def _seek(self, start: int) -> tuple[int | None, Iterator[av.Packet]]:
        """Where seeking for the packet at ``start`` arrives (None: unknown), and the packets from there."""
        try:
            self._container.seek(int(self.index.stamps[start]), stream=self._stream)
        except av.error.FFmpegError:
            return None, iter(())
        packets = self._demux()
        first = next(packets, None)
        if first is None or first.pts is None:
            return None, packets
        places = np.flatnonzero(self.index.stamps == first.pts)
        return int(places[0]) if len(places) else None, itertools.chain([first], packets)

    def _demux(self) -> Iterator[av.Packet]:
        return (packet for packet in self._container.demux(self._stream) if packet.size)


class _Playback:
    """Decoding from some frame onwards, suspended between reads.

    Args:
        frames: in rising order of their numbers.
        rank: number of the last frame before those of interest.

    Attributes:
        rank: number of the last frame that was read.
        is_damaged: whether frames that come next are predicted from a damaged one.
    """

    def __init__(self, frames: Iterator[Frame], rank: int) -> None:
        self.rank, self.is_damaged = rank, False
        self._frames = frames
        self._ahead: deque[Frame] = deque()  # came out already, and belong to the next read

    def read(self, last: int, is_settled: Callable[[int, av.VideoFrame], bool]) -> Iterator[Frame]:
        """The next frames up to number ``last``, and as many more as are needed to judge those.

        Args:
            last: frames beyond it are given again by the next read.
            is_settled: whether nothing that comes after a frame beyond or at ``last`` can affect those before.
        """
        ahead: deque[Frame] = deque()
        while (item := self._ahead.popleft() if self._ahead else next(self._frames, None)) is not None:
            rank, frame = item
            if rank > last:
                ahead.append(item)
            else:
                self.rank = rank
            yield item
            if rank >= last and is_settled(rank, frame):
                break
        self._ahead.extendleft(reversed(ahead))


def _is_bidirectional(frame: av.VideoFrame) -> bool:
    return frame.pict_type == PictureType.B
