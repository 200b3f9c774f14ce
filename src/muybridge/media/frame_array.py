"""Videos whose frames are in memory already, as a NumPy array or a torch tensor.

Legend: T frames, H and W pixels, C channels.
"""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.media.arrays import shape_text
from muybridge.media.container import check_size
from muybridge.media.decoders import Images, gather, scaled_size
from muybridge.media.video import Video

ARRAY = Path("array")
"""Stands for the file name in messages about an array."""

_FRAMES = "T H W C of uint8: frames x height x width x channels, 3 (RGB) or 1 (gray)"


class FrameArray:
    """Frames in memory, with the interface of a :class:`~muybridge.media.frames.FrameFolder`.

    Args:
        frames: T H W C.
        channels: of the frames as they are read, 3 for RGB or 1 for gray.
        fps: frames per second.
    """

    def __init__(self, frames: np.ndarray, channels: int, fps: float) -> None:
        self.frames, self.channels = frames, channels
        self.seconds: Float64[np.ndarray, " T"] = np.arange(len(frames)) / fps
        self.duration = len(frames) / fps
        self.pixel_aspect = 1.0

    def __len__(self) -> int:
        return len(self.frames)

    def close(self) -> None:
        """Nothing is held open."""

    def as_channels(self, channels: int) -> "FrameArray":
        """The same frames, read as RGB or as gray."""
        twin = copy.copy(self)
        twin.channels = channels
        return twin

    def read(self, ranks: Sequence[int], short_side: int | None) -> Images:
        """The frames with these rising numbers."""
        return gather(ranks, self._images(ranks, short_side))

    def _images(self, ranks: Sequence[int], short_side: int | None) -> Iterator[tuple[int, np.ndarray]]:
        for rank in ranks:
            yield rank, scale_frame(self.frames[rank], self.channels, short_side)


def scale_frame(frame: UInt8[np.ndarray, "H W C"], channels: int, short_side: int | None) -> UInt8[np.ndarray, "h w c"]:
    """A frame as RGB (3 channels) or gray (1), with its shorter side reduced to ``short_side``; never enlarged."""
    height, width = scaled_size(frame.shape[0], frame.shape[1], short_side)
    if frame.shape == (height, width, channels):
        return frame
    image = Image.fromarray(np.ascontiguousarray(frame[..., 0] if frame.shape[-1] == 1 else frame))
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(height, width, channels)


class ArrayVideo(Video):
    """A :class:`Video` of frames in memory; scaled and converted as a folder of the same frames as images is.

    Args:
        frames: T H W C of uint8, RGB or gray, at least two frames.
        fps: frames per second.

    Raises:
        DataError: another type or shape, a single frame, or frames too small or too large.
    """

    def __init__(self, frames: np.ndarray | Tensor, *, fps: float = 30.0) -> None:
        frames = _numpy(frames)
        _check_frames(frames)
        check_size(ARRAY, frames.shape[1], frames.shape[2])
        self.path, self.span = ARRAY, None
        source = FrameArray(frames, frames.shape[-1], fps)
        self._source = source  # type: ignore[assignment]  # of the same interface
        self._seconds, self.duration = source.seconds, source.duration
        self._ranks = self._whole = range(len(source))
        self._folder_fps = fps
        self._box = None


def _check_frames(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[-1] not in (1, 3):
        raise DataError(
            f"the array is {shape_text(frames.shape)} of {frames.dtype}",
            expected=_FRAMES,
            hint=_frames_hint(frames),
            where=ARRAY,
        )
    if frames.dtype != np.uint8:
        raise DataError(
            f"the array is of {frames.dtype}",
            expected=_FRAMES,
            hint="scale it to 0..255 and convert it: (255 * array).round().astype('uint8') for values of 0 to 1",
            where=ARRAY,
        )
    if len(frames) < 2:
        raise DataError(
            f"the array has {'a single frame' if len(frames) else 'no frame'}",
            expected="at least two frames, as motion takes two",
            hint="pass the frames of a whole recording",
            where=ARRAY,
        )


def _frames_hint(frames: np.ndarray) -> str:
    if frames.ndim == 4 and frames.shape[-1] == 4:
        return "drop the alpha channel: array[..., :3]"
    if frames.ndim == 4 and frames.shape[1] in (1, 3):
        return "move the channels to the end: array.transpose(0, 2, 3, 1), or permute for a tensor"
    if frames.ndim == 4 and frames.shape[0] in (1, 3):
        return "move the channels to the end: array.transpose(1, 2, 3, 0), or permute for a tensor"
    if frames.ndim == 5:
        return "pass one recording at a time: array[0]"
    if frames.ndim == 3 and frames.shape[-1] not in (1, 3):
        return "give gray frames a channel axis: array[..., None]"
    return "stack the frames: numpy.stack(frames)"


def _numpy(array: np.ndarray | Tensor) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else array
