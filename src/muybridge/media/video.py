"""Videos as input: a file or a folder of numbered images, as frames with the seconds at which they are shown.

Legend: T frames, C channels, H and W pixels.
"""

import copy
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
from muybridge.core.types import OVERHANG, ROUNDING, Clip, Span, check_span
from muybridge.media.container import IMAGE_SUFFIXES, SUFFIXES
from muybridge.media.decoders import TorchcodecFile, VideoFile, scaled_size, torchcodec_decoder
from muybridge.media.frames import FrameFolder, is_numbered
from muybridge.media.orientation import Orientation

__all__ = ["SUFFIXES", "Decoder", "Video", "VideoPart", "find_videos", "videos_in"]

Decoder = Literal["pyav", "torchcodec"]


@dataclass(frozen=True, slots=True)
class VideoPart:
    """What of a file a :class:`Video` shows.

    Attributes:
        span: see :class:`Video`.
        frames: number of the first frame in the file, number behind the last, and step, which is negative where frames
            are played backwards; None shows all frames of the span.
        box: top, left, height and width in pixels that are shown of each frame; None shows all.
        fps: frame rate of a folder of images.
    """

    span: Span | None = None
    frames: tuple[int, int, int] | None = None
    box: tuple[int, int, int, int] | None = None
    fps: float = 30.0


class Video:
    """A video with a known number of frames and known times, which decodes only the frames that are read.

    Frames are upright (rotation and mirroring in the file or in EXIF are applied), 8-bit, and of one size, that of the
    file. They are scaled while they are converted, by FFmpeg's bilinear scaler for files and Pillow's for images; both
    average over all pixels that fall into one. What cannot be decoded without error raises; a frame is never replaced
    by another. Colors are converted by the matrix and range that the file states, by BT.601 where it states none, as
    FFmpeg does; HDR values are not tone-mapped. Brightness is the BT.601 luma of these colors. Pixels that are not
    square (:attr:`pixel_aspect`) stay so, and interlaced frames stay interlaced.

    Reading in order is cheap: where a read continues or overlaps with the one before, decoding continues, and memory
    does not grow with the length of the video.

    Args:
        path: a file with one of the suffixes in ``SUFFIXES``, or a folder of images numbered without a gap. A file with
            several video streams is read as players do: the default stream, then the largest, never a cover image.
        channels: 3 for RGB, 1 for brightness (depth maps, gray video).
        threads: threads of the decoder; 1 is best where several processes load data.
        decoder: "torchcodec" uses torchcodec for full-size RGB frames where it loads. The frames are equal, except
            in damaged files: it shows FFmpeg's guesses at what is missing, which PyAV refuses.
        fps: frame rate of a folder of images, which stores no times.
        prefix: prefix of the images' names, where a folder contains several series.
        span: start and end in seconds of the part that is meant: the frames that are shown from its start until before
            its end. Frames are numbered from the first of these, times stay those of the file, and other frames are
            decoded only where these are predicted from them. Spans that touch have no frame in common.

    Raises:
        DataError: missing, empty, cut off, damaged, encrypted, without video, of a single frame, or of frames smaller
            than 8 pixels or larger than 4096x4096; or the span is empty, is after the end, or ends more than half a
            second after it.
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
        span: Span | None = None,
    ) -> None:
        self.path, self.span = Path(path) if isinstance(path, str) else path, span
        self._source: VideoFile | FrameFolder
        self._folder_fps = fps
        if self.path.is_dir():
            self._source = FrameFolder(self.path, channels, fps, prefix)
            self._seconds, self.duration = self._source.seconds, self._source.duration
        else:
            reader = TorchcodecFile if decoder == "torchcodec" and torchcodec_decoder() else VideoFile
            self._source = reader(self.path, channels, threads, keep_index=span is not None)
            self._seconds, self.duration = self._source.index.seconds, self._source.index.duration
        self._ranks = range(len(self._seconds))
        self._whole = self._ranks
        self._box: tuple[int, int, int, int] | None = None
        if span is not None:
            try:
                self._limit(*span)
            except DataError:
                self.close()
                raise

    def __len__(self) -> int:
        """Number of frames that are shown, counted in the file."""
        return len(self._seconds)

    def __repr__(self) -> str:
        return f"Video({self.path.name}: {len(self)} frames, {self.duration:.2f} s)"

    @property
    def seconds(self) -> Float64[Tensor, " T"]:
        """When each frame is shown, in seconds from the start of the file, as players count."""
        return torch.from_numpy(self._seconds)

    @property
    def fps(self) -> float:
        """Frames a second, on average."""
        return len(self) / self.duration

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel divided by its height: 1 for square pixels, 1.46 for a PAL DVD in 16:9.

        Players stretch frames by it; here, as in FFmpeg's decoders, frames keep the pixels of the file. Where it
        matters, convert with ``ffmpeg -i OLD -vf scale=iw*sar:ih,setsar=1 NEW.mp4``.
        """
        return self._source.pixel_aspect

    @property
    def is_turned(self) -> bool:
        """Whether stored frames are turned or mirrored to be shown, as here; other tools may not do it."""
        return self._source.orientation != Orientation()

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the upright frames in pixels; decodes the first."""
        return self._source_size if self._box is None else self._box[2:]

    @cached_property
    def _source_size(self) -> tuple[int, int]:
        _, height, width, _ = self._source.read([self._ranks.start], None).shape
        return height, width

    def read(self, indices: Sequence[int] | Tensor, short_side: int | None = None) -> Clip:
        """The frames with these numbers, in this order; repeated numbers give repeated frames.

        Args:
            indices: frame numbers from 0; one or more.
            short_side: scale frames down until their shorter side has this many pixels; never up. None keeps the size.

        Returns:
            A clip whose pixels are channels-last in memory.

        Raises:
            DataError: a number past the end, or a frame that is damaged.
        """
        requested = np.asarray(indices, dtype=np.int64)
        outside = requested[(requested < 0) | (requested >= len(self))]
        if outside.size:
            raise DataError(
                f"frame {outside[0]} was requested",
                expected=f"0 to {len(self) - 1}, since the video has {len(self)} frames",
                hint="sample within the length of the video, or index the folder again if the file has changed",
                where=self.path,
            )
        numbers = self._ranks.start + self._ranks.step * requested
        ranks, slots = np.unique(numbers, return_inverse=True)
        frames = self._source.read(ranks.tolist(), short_side) if self._box is None else self._cut(ranks, short_side)
        if not np.array_equal(ranks, numbers):
            frames = frames[torch.from_numpy(slots)]
        return Clip(rearrange(frames, "t h w c -> t c h w"), self.seconds[torch.from_numpy(requested)])

    def slice_frames(
        self, first: int = 0, end: int | None = None, *, step: int = 1, backwards: bool = False
    ) -> "Video":
        """The frames from ``first`` up to ``end`` as a video of their own; both share one file and one :meth:`close`.

        Args:
            first: number of the first frame.
            end: number after the last; None means the end of the video.
            step: from each frame to the next.
            backwards: reverse the order of the frames; times still increase, by the same steps.
        """
        ranks, seconds = self._ranks[first:end:step], self._seconds[first:end:step]
        assert len(ranks), f"no frames between {first} and {end} of {len(self)}"
        part = copy.copy(self)
        part.__dict__.pop("size", None)
        part._ranks = ranks[::-1] if backwards else ranks
        part._seconds = seconds[0] + seconds[-1] - seconds[::-1] if backwards else seconds
        part.duration = self.duration * min(1.0, step * len(ranks) / len(self))
        return part

    @property
    def part(self) -> VideoPart:
        """What of the file this is; see :meth:`of_part`."""
        ranks = self._ranks
        frames = None if ranks == self._whole else (ranks.start, ranks.stop, ranks.step)
        return VideoPart(self.span, frames, self._box, self._folder_fps)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file, or the images of the folder by rising number."""
        return tuple(self._source.files) if isinstance(self._source, FrameFolder) else (self.path,)

    @classmethod
    def of_part(cls, path: Path, channels: Literal[1, 3], part: VideoPart) -> "Video":
        """The video whose :attr:`part` this is, of a file with the same content.

        Raises:
            DataError: see :class:`Video`.
        """
        video = cls(path, channels=channels, fps=part.fps, span=part.span)
        if part.box is not None:
            video = video.crop(*part.box)
        if part.frames is None:
            return video
        ranks, start = range(*part.frames), video._whole.start
        rising = ranks if ranks.step > 0 else ranks[::-1]
        first, end = rising[0] - start, rising[-1] + 1 - start
        return video.slice_frames(first, end, step=rising.step, backwards=ranks.step < 0)

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
        """A box of every frame as a video of its own; both share one file and one :meth:`close`.

        Raises:
            DataError: the box is not inside the frame.
        """
        frame_height, frame_width = self.size
        if not (0 <= top < top + height <= frame_height and 0 <= left < left + width <= frame_width):
            raise DataError(
                f"a box of {width}x{height} pixels at ({left}, {top})",
                expected=f"one inside the frame of {frame_width}x{frame_height}",
                hint="cut the box off at the edges of the frame",
                where=self.path,
            )
        if self._box is not None:
            top, left = top + self._box[0], left + self._box[1]
        part = copy.copy(self)
        part.__dict__.pop("size", None)
        part._box = top, left, height, width
        return part

    def _limit(self, start: float, end: float) -> None:
        """Keep the frames of a span; raises DataError where the video does not have it."""
        check_span((start, end), self.path)
        shown_until = float(self._seconds[0]) + self.duration
        if end > shown_until + OVERHANG or start >= shown_until:
            raise DataError(
                f"the span {start:g} to {end:g} s is {'outside' if start >= shown_until else 'not all inside'} the "
                f"video, which ends at {shown_until:.2f} s",
                expected="a span within the video, in seconds from its start",
                hint="correct the span; numbers of frames have to be divided by the frame rate",
                where=self.path,
            )
        first, last = np.searchsorted(self._seconds, [start - ROUNDING, end - ROUNDING]).tolist()
        if last - first < 2:
            raise DataError(
                f"{'a single frame' if last > first else 'no frame'} is shown from {start:g} to {end:g} s",
                expected="two frames or more, since motion takes two",
                hint="make the span longer, or leave it out",
                where=self.path,
            )
        until = self._seconds[last] if last < len(self._seconds) else shown_until
        self.duration = float(until - self._seconds[first])
        self._ranks, self._seconds = self._ranks[first:last], self._seconds[first:last]
        self._whole = self._ranks

    def _cut(self, ranks: np.ndarray, short_side: int | None) -> UInt8[Tensor, "T H W C"]:
        """The box of the frames with these rising numbers, scaled as if it were the frame."""
        assert self._box is not None
        top, left, height, width = self._box
        scaled_height, scaled_width = scaled_size(height, width, short_side)
        scale = scaled_height / height
        frame_short_side = None if scale == 1 else round(scale * min(self._source_size))
        frames = self._source.read(ranks.tolist(), frame_short_side)
        # Rounding may put the far edges a pixel outside.
        top = min(round(top * scale), frames.shape[1] - scaled_height)
        left = min(round(left * scale), frames.shape[2] - scaled_width)
        return frames[:, top : top + scaled_height, left : left + scaled_width].contiguous()

    def close(self) -> None:
        """Closes the file and the decoder; the video cannot be read afterwards."""
        self._source.close()

    def __enter__(self) -> "Video":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_videos(folder: Path, *, check_names: bool = True) -> FoundFiles:
    """The videos at or below a folder: files with known suffixes, and folders of several numbered images.

    Images in a folder that contains videos, itself or in its sub-folders, are no frames, and a folder of images is no
    video of its own where a video file beside it has the same name (``jump.mp4`` and its frames in ``jump``). Images
    that belong to no video are counted as unread. See :func:`find_files` for ``check_names`` and errors.
    """
    found = find_files(folder, {*SUFFIXES, *IMAGE_SUFFIXES}, check_names=check_names)
    videos = {path for path in found.files if path.suffix.lower() in SUFFIXES}
    images: dict[Path, list[Path]] = defaultdict(list)
    for path in found.files:
        if path not in videos:
            images[path.parent].append(path)
    extracted = {path.with_suffix("") for path in videos} | videos
    with_videos = {parent for path in videos for parent in path.parents}
    frames = {path for path, files in images.items() if path not in extracted | with_videos and _is_series(files)}
    unread = Counter(path.suffix.lower() for path, files in images.items() if path not in frames for path in files)
    return FoundFiles(tuple(sorted(videos | frames)), found.unread + unread)


def _is_series(images: Iterable[Path]) -> bool:
    """Whether several of the images are numbered; opening the folder finds out whether they are frames."""
    return sum(map(is_numbered, images)) > 1


def videos_in(folder: Path) -> list[Path]:
    """The videos at or below a folder, sorted; see :func:`find_videos`."""
    return list(find_videos(folder).files)
