"""The frames of one video file, through PyAV or torchcodec.

Legend: T frames, H and W pixels, C channels.
"""

import copy
import functools
import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.media.container import REPAIR, PacketIndex, check_size, index_packets, open_container, readable

SCALER = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT
"""Averages over all pixels that fall into one, in colour as in brightness."""

Picture = UInt8[np.ndarray, "H W C"]
Pictures = UInt8[Tensor, "T H W C"]


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width with the shorter side brought down to ``short_side``; never enlarged."""
    if short_side is None or short_side >= min(height, width):
        return height, width
    scale = short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def gather(path: Path, ranks: Sequence[int], pictures: Iterator[tuple[int, Picture]]) -> Pictures:
    """Numbered pictures as one tensor in the order of ``ranks``.

    Raises:
        DataError: the pictures differ in size.
    """
    slots = {rank: slot for slot, rank in enumerate(ranks)}
    stack: np.ndarray | None = None
    for rank, picture in pictures:
        if stack is None:
            stack = np.empty((len(ranks), *picture.shape), dtype=np.uint8)
        if picture.shape != stack.shape[1:]:
            raise DataError(
                f"frame {rank} has another size than those before it "
                f"({picture.shape[1]}x{picture.shape[0]} and {stack.shape[2]}x{stack.shape[1]})",
                expected="one size throughout",
                hint="re-encode it at one size (ffmpeg -i OLD -vf scale=640:480 NEW.mp4), or leave it out",
                where=path,
            )
        stack[slots[rank]] = picture
    assert stack is not None, "asked for no frame"
    return torch.from_numpy(stack)


class VideoFile:
    """A video file, opened and indexed; decodes what is asked for and nothing that it does not need.

    For each group of frames that hang on one keyframe it seeks there, feeds the packets up to the last frame
    asked for, and stops. H.264 pictures that no other refers to are passed over unless they are asked for.

    Args:
        path: the file.
        channels: 3 for RGB, 1 for brightness.
        threads: of the decoder.

    Raises:
        DataError: see :func:`open_container` and :func:`index_packets`.
    """

    def __init__(self, path: Path, channels: int, threads: int) -> None:
        self.path, self.channels, self.threads = path, channels, threads
        self._scaler = VideoReformatter()
        self._open()
        try:
            self.index: PacketIndex = index_packets(path, self._container, self._stream)
        except DataError:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.index)

    def close(self) -> None:
        """Gives the file handle and the decoder back."""
        self._container.close()

    def as_channels(self, channels: int) -> "VideoFile":
        """The same file, opened once more to read RGB (3 channels) or gray (1)."""
        twin = copy.copy(self)
        twin.channels, twin._scaler = channels, VideoReformatter()
        twin._open()
        return twin

    def read(self, ranks: Sequence[int], short_side: int | None) -> Pictures:
        """The frames with these rising numbers."""
        with readable(self.path, "decoding"):
            return gather(self.path, ranks, self._pictures(ranks, short_side))

    def _open(self) -> None:
        self._container, self._stream = open_container(self.path)
        context = self._stream.codec_context
        context.thread_count = self.threads
        context.thread_type = "AUTO" if self.threads > 1 else "NONE"

    def _pictures(self, ranks: Sequence[int], short_side: int | None) -> Iterator[tuple[int, Picture]]:
        missing = set(ranks)
        for rank, frame in self._by_stamp(ranks) if self.index.ticks else self._by_count(ranks):
            missing.discard(rank)
            yield rank, self._picture(frame, short_side)
        if missing:
            raise DataError(
                f"frame {min(missing)} of {len(self)} is damaged or missing",
                expected="frames that decode without error",
                hint=REPAIR,
                where=self.path,
            )

    def _by_stamp(self, ranks: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames known by their time stamps, from the keyframe before; from the first packet where that fails."""
        index = self.index
        for start, group in index.runs(ranks):
            wanted = {index.ticks[rank]: rank for rank in group}
            last = max(index.places[tick] for tick in wanted)
            for origin, needed in ((start, set(wanted)), (0, None)):
                for frame in self._decode(origin, last, needed):
                    if frame.pts in wanted and not frame.is_corrupt:
                        yield wanted.pop(frame.pts), frame
                        if not wanted:
                            break
                if not wanted:
                    break

    def _by_count(self, ranks: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
        """Frames known by their number among those that come out when everything goes in."""
        wanted = set(ranks)
        for rank, frame in enumerate(self._decode(0, self.index.packets, None)):
            if rank in wanted and not frame.is_corrupt:
                yield rank, frame
            if rank == ranks[-1]:
                return

    def _decode(self, start: int, last: int, needed: Collection[int | None] | None) -> Iterator[av.VideoFrame]:
        """The frames that come out when the packets with places ``start`` to ``last`` go in.

        ``needed`` names time stamps; H.264 pictures with others are decoded only where something refers to them.
        """
        packets = self._packets(start)
        context = self._stream.codec_context
        for place, packet in packets:
            if needed is not None and context.name == "h264":
                context.skip_frame = "DEFAULT" if packet.pts in needed else "NONREF"
            yield from context.decode(packet)
            if place >= last:
                break
        yield from context.decode(None)

    def _packets(self, start: int) -> Iterator[tuple[int, av.Packet]]:
        """The packets from place ``start`` on, each with its place.

        Seeking may land late or nowhere, where the file's own index is poor; then the file is read from its start.
        """
        arrived, packets = self._seek(start) if self.index.ticks else (None, iter(()))
        if arrived is None or arrived > start:
            self.close()
            self._open()
            arrived, packets = 0, self._demux()
        return ((place, packet) for place, packet in enumerate(packets, arrived) if place >= start)

    def _seek(self, start: int) -> tuple[int | None, Iterator[av.Packet]]:
        """Where seeking for the packet at ``start`` leads (None: past all that is known), and what comes from there."""
        stamp = next(itertools.islice(self.index.places, start, None))
        try:
            self._container.seek(stamp, stream=self._stream)
        except av.error.FFmpegError:
            return None, iter(())
        packets = self._demux()
        first = next(packets, None)
        if first is None or first.pts is None:
            return None, packets
        return self.index.places.get(first.pts), itertools.chain([first], packets)

    def _demux(self) -> Iterator[av.Packet]:
        return (packet for packet in self._container.demux(self._stream) if packet.size)

    def _picture(self, frame: av.VideoFrame, short_side: int | None) -> Picture:
        """A decoded frame as pixels, scaled in the same pass, and turned upright as the file says."""
        check_size(self.path, frame.height, frame.width)
        height, width = scaled_size(frame.height, frame.width, short_side)
        # One scaler for all, on this thread: building one per frame, or starting threads, costs more than scaling.
        layout = "rgb24" if self.channels == 3 else "gray"
        scaled = self._scaler.reformat(frame, width, height, layout, interpolation=SCALER, threads=1)
        picture = scaled.to_ndarray().reshape(height, width, self.channels)
        return np.rot90(picture, frame.rotation // 90)


class TorchcodecFile(VideoFile):
    """A video file whose full-size RGB frames torchcodec decodes; PyAV indexes it and does the rest.

    torchcodec does not tell damaged pictures from sound ones; PyAV does. Files it cannot read go to PyAV, which says
    what is the matter with them.
    """

    _decoder: Any = None

    def read(self, ranks: Sequence[int], short_side: int | None) -> Pictures:
        """The frames with these rising numbers."""
        make = torchcodec_decoder()
        assert make is not None, "torchcodec does not load"
        if self.channels != 3 or not self.index.ticks:
            return super().read(ranks, short_side)
        try:
            self._decoder = self._decoder or make(str(self.path), num_ffmpeg_threads=self.threads)
            height, width = self._decoder.metadata.height, self._decoder.metadata.width
            if len(self._decoder) == len(self) and scaled_size(height, width, short_side) == (height, width):
                return rearrange(self._decoder.get_frames_at(list(ranks)).data, "t c h w -> t h w c")
        except (RuntimeError, ValueError, IndexError, TypeError):
            pass  # PyAV finds out what is the matter
        return super().read(ranks, short_side)

    def close(self) -> None:
        """Gives the file handles and the decoders back."""
        self._decoder = None
        super().close()


@functools.cache
def torchcodec_decoder() -> Any:
    """torchcodec's decoder class, or None where the package or a system FFmpeg is missing; looked for once."""
    try:
        from torchcodec import ffmpeg_major_version  # pyright: ignore
        from torchcodec.decoders import VideoDecoder  # pyright: ignore
    except (ImportError, OSError, RuntimeError):
        return None
    return VideoDecoder if ffmpeg_major_version else None
