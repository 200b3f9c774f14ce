"""The images of one video file, decoded by PyAV or torchcodec.

Legend: T frames, H and W pixels, C channels.
"""

import copy
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.core.packed import PackedPath
from muybridge.media.container import check_size, readable
from muybridge.media.frame_decoder import FrameDecoder
from muybridge.media.orientation import Orientation, orientation_of
from muybridge.media.packets import PacketIndex

SCALER = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT
"""Averages over all pixels that fall into one, for color as for brightness.

Color that several pixels share is interpolated from where H.264 places its samples, except in 8-bit frames of full size
with an even number of rows, for which FFmpeg repeats it. FFmpeg 5 places the samples of 10-bit video half a pixel
further right and down, and its command interpolates bicubically: its RGB differs by several levels at edges of color.
"""

Image = UInt8[np.ndarray, "H W C"]
Images = UInt8[Tensor, "T H W C"]

_FULL_COLOR = ("yuv444p", "yuvj444p", "gbrp", "gray", "bgra", "bgr0", "rgb24")
_SHARED_COLOR = ("yuv420p", "yuvj420p", "yuv422p", "yuvj422p")
"""FFmpeg's names of common formats that store a color for each pixel, and one for two or four of them."""

_MATRICES = (0, 1, 2, 4, 5, 6, 7, 9)
"""The color matrices that FFmpeg's scaler knows, as ITU-T H.273 numbers them: RGB, BT.709, none stated (it is taken for
BT.601, as FFmpeg does at any size), FCC, BT.601 twice, SMPTE 240M, BT.2020."""

_CACHE_BYTES = 64 << 20
_GAP = 4  # frames; where they are further apart, seeking may be faster than decoding what lies between


def scaled_size(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    """Height and width with the shorter side reduced to ``short_side``; never enlarged."""
    if short_side is None or short_side >= min(height, width):
        return height, width
    scale = short_side / min(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def gather(ranks: Sequence[int], images: Iterator[tuple[int, Image]]) -> Images:
    """Numbered images of one size as one tensor in the order of ``ranks``."""
    slots = {rank: slot for slot, rank in enumerate(ranks)}
    stack: np.ndarray | None = None
    for rank, image in images:
        if stack is None:
            stack = np.empty((len(ranks), *image.shape), dtype=np.uint8)
        stack[slots[rank]] = image
    assert stack is not None, "no frame was requested"
    return torch.from_numpy(stack)


def another_size(path: Path, rank: int, size: tuple[int, int], first: tuple[int, int]) -> DataError:
    """The error for a frame whose size (height, width) differs from that of the first."""
    return DataError(
        f"frame {rank} has another size than the first ({size[1]}x{size[0]} and {first[1]}x{first[0]})",
        expected="one size throughout",
        hint="re-encode it at one size (ffmpeg -i OLD -vf scale=640:480 NEW.mp4), or leave it out",
        where=path,
    )


class VideoFile:
    """A video file as images: converted, scaled, turned and mirrored as the file says.

    While a video is read in order, the images of the last read are kept (at most 64 MiB), so that windows may overlap.

    Args:
        path: the file.
        channels: 3 for RGB, 1 for brightness.
        threads: threads of the decoder.
        keep_index: see :class:`FrameDecoder`.

    Raises:
        DataError: see :class:`FrameDecoder`.
    """

    def __init__(self, path: Path, channels: int, threads: int, *, keep_index: bool = False) -> None:
        self.path, self.channels, self.threads = path, channels, threads
        self._decoder = FrameDecoder(path, threads, keep_index=keep_index)
        self._frame_size, self._is_size_certain = self._decoder.stated_size, False
        self._begin()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def index(self) -> PacketIndex:
        """What is known of the frames without decoding any."""
        return self._decoder.index

    @functools.cached_property
    def pixel_aspect(self) -> float:
        """Width of a pixel divided by its height, in the frames as they are given."""
        stored = self._decoder.pixel_aspect
        return 1 / stored if self.orientation.transpose else stored

    @functools.cached_property
    def orientation(self) -> Orientation:
        """How stored frames are turned or mirrored to be shown; decodes the first."""
        with readable(self.path, "decoding"):
            _, frame = next(self._decoder.frames([0]))
            return orientation_of(frame, self.path)

    def close(self) -> None:
        """Closes the file and the decoder."""
        self._decoder.close()

    def as_channels(self, channels: int) -> "VideoFile":
        """The same file, opened once more to read RGB (3 channels) or gray (1)."""
        twin = copy.copy(self)
        twin.channels, twin._decoder = channels, self._decoder.reopen()
        twin._begin()
        return twin

    def read(self, ranks: Sequence[int], short_side: int | None) -> Images:
        """The frames with these rising numbers."""
        with readable(self.path, "decoding"):
            images = gather(ranks, self._images(ranks, short_side))
        self._previous = ranks[0], ranks[-1]
        return images

    def _begin(self) -> None:
        """A state in which nothing was read yet."""
        self._scaler = VideoReformatter()
        self._previous: tuple[int, int] | None = None
        self._cache: dict[int, Image] = {}
        self._cached_short_side: int | None = None

    def _images(self, ranks: Sequence[int], short_side: int | None) -> Iterator[tuple[int, Image]]:
        """The frames with these rising numbers, in any order; the same number may come twice."""
        continues = self._continues(ranks)
        known = self._cache if continues and short_side == self._cached_short_side else {}
        self._cache = {rank: known[rank] for rank in ranks if rank in known}
        self._cached_short_side = short_side
        yield from self._cache.items()
        missing = [rank for rank in ranks if rank not in self._cache]
        for rank, frame in self._decoder.frames(missing, continues=continues) if missing else ():
            image = self._image(rank, frame, short_side)
            if continues and (len(self._cache) + 1) * image.nbytes <= _CACHE_BYTES:
                self._cache[rank] = image
            yield rank, image

    def _continues(self, ranks: Sequence[int]) -> bool:
        """Whether the frames follow on those of the previous read, or overlap with its end, without large gaps."""
        if self._previous is None or ranks[-1] - ranks[0] > _GAP * len(ranks):
            return False
        first, last = self._previous
        return first < ranks[0] <= last + _GAP and ranks[-1] > last

    def _image(self, rank: int, frame: av.VideoFrame, short_side: int | None) -> Image:
        """A decoded frame as pixels, scaled in the same pass."""
        self._check_frame_size(rank, frame)
        if frame.colorspace not in _MATRICES:
            raise self._unknown_matrix(frame.colorspace)
        height, width = scaled_size(frame.height, frame.width, short_side)
        # One scaler for all, on this thread: creating one per frame, or starting threads, costs more than scaling.
        layout = "rgb24" if self.channels == 3 else "gray"
        scaled = self._scaler.reformat(frame, width, height, layout, interpolation=SCALER, threads=1)
        image = scaled.to_ndarray().reshape(height, width, self.channels)
        return orientation_of(frame, self.path).apply(image)

    def _unknown_matrix(self, number: int) -> DataError:
        return DataError(
            f"its colors are stored by the matrix with the number {number}, which cannot be converted to RGB",
            expected="RGB, or BT.601, BT.709, BT.2020, SMPTE 240M, FCC, or none stated",
            hint="convert it (ffmpeg -i OLD -vf libplacebo=colorspace=bt709 NEW.mp4), or leave it out",
            where=self.path,
        )

    def _check_frame_size(self, rank: int, frame: av.VideoFrame) -> None:
        """Raises a DataError where the size changes within the video."""
        size = frame.height, frame.width
        if size == self._frame_size:
            return
        check_size(self.path, *size)
        if not self._is_size_certain:  # the header may be wrong
            self._frame_size, self._is_size_certain = self._decoder.first_size(), True
        if size != self._frame_size:
            raise another_size(self.path, rank, size, self._frame_size)


class TorchcodecFile(VideoFile):
    """A video file whose full-size, upright RGB frames torchcodec decodes; PyAV indexes it and does the rest.

    torchcodec does not tell damaged frames from sound ones, and ignores mirroring. Where the color of several pixels is
    stored once, in more than 8 bits or in an odd number of rows, its FFmpeg interpolates it differently, so PyAV reads
    those files; it also reads files that torchcodec cannot read, and its errors say what is wrong with them.
    """

    _torchcodec: Any = None

    def read(self, ranks: Sequence[int], short_side: int | None) -> Images:
        """The frames with these rising numbers."""
        make = torchcodec_decoder()
        assert make is not None, "torchcodec does not load"
        if self.channels != 3 or not self.index.stamped or isinstance(self.path, PackedPath):
            return super().read(ranks, short_side)
        try:
            # From an absolute path FFmpeg never takes the beginning of a name for a protocol.
            self._torchcodec = self._torchcodec or make(
                str(self.path.absolute()), stream_index=self._decoder.stream_index, num_ffmpeg_threads=self.threads
            )
            metadata = self._torchcodec.metadata
            size = metadata.height, metadata.width
            is_plain = metadata.rotation is None and size == self._frame_size == scaled_size(*size, short_side)
            is_plain = is_plain and _converts_alike(self._decoder.pixel_format, size[0])
            is_plain = is_plain and self._decoder.color_matrix in _MATRICES
            if is_plain and len(self._torchcodec) == len(self):
                return rearrange(self._torchcodec.get_frames_at(list(ranks)).data, "t c h w -> t h w c")
        except (RuntimeError, ValueError, IndexError, TypeError):
            pass  # PyAV finds out what is wrong
        return super().read(ranks, short_side)

    def close(self) -> None:
        """Closes the files and the decoders."""
        self._torchcodec = None
        super().close()


def _converts_alike(pixel_format: str | None, height: int) -> bool:
    """Whether torchcodec gives the RGB values that PyAV does, which the tests establish for these formats."""
    return pixel_format in _FULL_COLOR or (pixel_format in _SHARED_COLOR and height % 2 == 0)


@functools.cache
def torchcodec_decoder() -> Any:
    """torchcodec's decoder class, or None where the package or a system FFmpeg is missing; the result is kept."""
    try:
        from torchcodec import ffmpeg_major_version  # pyright: ignore
        from torchcodec.decoders import VideoDecoder  # pyright: ignore
    except (ImportError, OSError, RuntimeError):
        return None
    return VideoDecoder if ffmpeg_major_version else None
