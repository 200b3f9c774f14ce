"""Video in: a file or a folder of numbered pictures, as frames with the seconds at which they are shown.

Legend: T frames, C channels, H and W pixels.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float64, UInt8
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.core.files import FoundFiles, find_files
from muybridge.core.types import Clip
from muybridge.media.decoders import TorchcodecFile, VideoFile, scaled_size, torchcodec_decoder
from muybridge.media.frames import SUFFIXES as PICTURES
from muybridge.media.frames import FrameFolder

Decoder = Literal["pyav", "torchcodec"]

SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".gif")
"""Endings by which video files are found in folders."""


class Video:
    """A video that knows its length and its clock, and decodes the frames it is asked for.

    Frames come upright (rotation in the file or in EXIF is applied), 8-bit, and at one size. They are scaled while
    they are converted, by FFmpeg's bilinear scaler for files and Pillow's for pictures; both average over all pixels
    that fall into one. What cannot be decoded soundly raises; a frame is never replaced by another.

    Args:
        path: an mp4, avi, webm, mkv or gif file, or a folder of pictures numbered without a gap.
        channels: 3 for RGB, 1 for brightness (depth maps, grey video).
        threads: of the decoder; leave it at 1 where several processes load.
        decoder: "torchcodec" takes torchcodec for full-size RGB frames where it loads. The frames are equal, except
            in damaged files: it shows what FFmpeg paints over damage, which PyAV refuses.
        fps: of a folder of pictures, which keeps no clock.
        prefix: of the pictures' names, where a folder holds several series.

    Raises:
        DataError: missing, empty, cut off, without video, of a single frame, or of frames smaller than 8 pixels or
            larger than 4096x4096.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        channels: Literal[1, 3] = 3,
        threads: int = 1,
        decoder: Decoder = "pyav",
        fps: float = 30.0,
        prefix: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._source: VideoFile | FrameFolder
        if self.path.is_dir():
            self._source = FrameFolder(self.path, channels, fps, prefix)
            self._clock, self.duration = self._source.seconds, self._source.duration
        else:
            reader = TorchcodecFile if decoder == "torchcodec" and torchcodec_decoder() else VideoFile
            self._source = reader(self.path, channels, threads)
            self._clock, self.duration = self._source.index.seconds, self._source.index.duration
        self._numbers = range(len(self._clock))
        self._box: tuple[int, int, int, int] | None = None

    def __len__(self) -> int:
        """Frames that are shown, counted in the file."""
        return len(self._clock)

    def __repr__(self) -> str:
        return f"Video({self.path.name}: {len(self)} frames, {self.duration:.2f} s)"

    @property
    def seconds(self) -> Float64[Tensor, " T"]:
        """When each frame is shown, by the clock of the file."""
        return torch.from_numpy(self._clock)

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        return len(self) / self.duration

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright frames in pixels; decodes the first."""
        return self._source_size if self._box is None else self._box[2:]

    @cached_property
    def _source_size(self) -> tuple[int, int]:
        _, height, width, _ = self._source.read([0], None).shape
        return height, width

    def read(self, indices: Sequence[int] | Tensor, short_side: int | None = None) -> Clip:
        """The frames with these numbers, in this order; repeated numbers give repeated frames.

        Args:
            indices: from 0; one or more.
            short_side: scale frames down until their shorter side has this many pixels; never up. None keeps the size.

        Returns:
            A clip whose pixels lie channels-last in memory.

        Raises:
            DataError: a number past the end, or a frame that is damaged.
        """
        asked = np.asarray(indices, dtype=np.int64)
        numbers = np.asarray(self._numbers, dtype=np.int64)
        outside = asked[(asked < 0) | (asked >= len(self))]
        if outside.size:
            raise DataError(
                f"frame {outside[0]} was asked for",
                expected=f"0 to {len(self) - 1}, as the video has {len(self)} frames",
                hint="sample within the length of the video, or index the folder again if the file has changed",
                where=self.path,
            )
        ranks, slots = np.unique(numbers[asked], return_inverse=True)
        frames = self._source.read(ranks.tolist(), short_side) if self._box is None else self._cut(ranks, short_side)
        if not np.array_equal(ranks, numbers[asked]):
            frames = frames[torch.from_numpy(slots)]
        return Clip(rearrange(frames, "t h w c -> t c h w"), self.seconds[torch.from_numpy(asked)])

    def slice_frames(self, first: int = 0, end: int | None = None, *, backwards: bool = False) -> "Video":
        """The frames from ``first`` up to ``end`` as a video of their own; both share one file and one :meth:`close`.

        Args:
            first: number of the first frame.
            end: number after the last; None takes all that follow.
            backwards: the last frame comes first; the clock runs forwards all the same, in the same steps.
        """
        kept = np.arange(len(self))[first:end]
        assert kept.size, f"nothing between {first} and {end} in {len(self)} frames"
        part = copy.copy(self)
        part.__dict__.pop("size", None)
        clock = self._clock[kept]
        part._numbers = self._numbers[first:end]
        part._clock = clock[0] + clock[-1] - clock[::-1] if backwards else clock
        if backwards:
            part._numbers = part._numbers[::-1]
        part.duration = self.duration * len(kept) / len(self)
        return part

    def grayscale(self) -> "Video":
        """The same frames as brightness, with file handles of its own."""
        twin = copy.copy(self)
        twin._source = self._source.as_channels(1)
        return twin

    def as_channels(self, channels: Literal[1, 3]) -> "Video":
        """This video if it is read with so many channels; else the same frames, with file handles of its own."""
        if self._source.channels == channels:
            return self
        twin = copy.copy(self)
        twin._source = self._source.as_channels(channels)
        return twin

    def crop(self, top: int, left: int, height: int, width: int) -> "Video":
        """What lies in a box of every frame as a video of its own; both share one file and one :meth:`close`.

        Raises:
            DataError: the box is not inside the frame.
        """
        down, across = self.size
        if not (0 <= top < top + height <= down and 0 <= left < left + width <= across):
            raise DataError(
                f"a box of {width}x{height} pixels at ({left}, {top})",
                expected=f"one inside the frame of {across}x{down}",
                hint="cut the box off at the edges of the frame",
                where=self.path,
            )
        if self._box is not None:
            top, left = top + self._box[0], left + self._box[1]
        inside = copy.copy(self)
        inside.__dict__.pop("size", None)
        inside._box = top, left, height, width
        return inside

    def _cut(self, ranks: np.ndarray, short_side: int | None) -> UInt8[Tensor, "T H W C"]:
        """The box of the frames with these rising numbers, scaled as if it were the frame."""
        assert self._box is not None
        top, left, height, width = self._box
        scaled_height, scaled_width = scaled_size(height, width, short_side)
        scale = scaled_height / height
        whole = None if scale == 1 else round(scale * min(self._source_size))
        frames = self._source.read(ranks.tolist(), whole)
        # Rounding may put the far edges a pixel outside.
        top = min(round(top * scale), frames.shape[1] - scaled_height)
        left = min(round(left * scale), frames.shape[2] - scaled_width)
        return frames[:, top : top + scaled_height, left : left + scaled_width].contiguous()

    def close(self) -> None:
        """Gives file handles and decoders back; the video cannot be read afterwards."""
        self._source.close()

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_videos(folder: Path) -> FoundFiles:
    """The videos at or below a folder: files with known suffixes, and folders that contain images but no video files.

    Images beside videos, such as a poster, are counted as unread.
    """
    found = find_files(folder, {*SUFFIXES, *PICTURES})
    videos = {path for path in found.files if path.suffix.lower() in SUFFIXES}
    with_videos = {parent for path in videos for parent in path.parents}
    images = [path for path in found.files if path not in videos]
    frames = {path.parent for path in images} - with_videos
    unread = found.unread + Counter(path.suffix.lower() for path in images if path.parent in with_videos)
    return FoundFiles(tuple(sorted(videos | frames)), unread)


def videos_in(folder: Path) -> list[Path]:
    """The videos at or below a folder, sorted; see :func:`find_videos`."""
    return list(find_videos(folder).files)
