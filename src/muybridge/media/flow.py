"""Optical flow: how far each pixel moves from one frame to the next, computed, mapped to bytes, mirrored.

A video of n frames has n - 1 fields; field i leads from frame i to frame i + 1. Flow is in pixels a frame at the
video's own resolution, x to the right and y downwards. Kept as bytes it runs linearly from -bound at 0 to +bound at
255, and values outside are clipped; VideoLSTM's bound, and the default, is 20.

Legend: N fields, H and W pixels; the axis of 2 is x, y.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

from muybridge.core.errors import DataError, MissingExtraError
from muybridge.core.extras import import_extra
from muybridge.core.types import Clip
from muybridge.media.decoders import scaled_size
from muybridge.media.video import Video

Method = Literal["dis", "tvl1"]

Fields = UInt8[Tensor, "N 2 H W"]

BOUND = 20.0


class Flow:
    """Optical flow of one video, stored or computed when read; has the interface of a two-channel :class:`Video`.

    Attributes:
        path: where it is read from.
        bound: in pixels; larger motion is clipped to it.
        seconds: when the first of each field's two frames is shown.
    """

    path: Path
    bound: float
    seconds: Float64[Tensor, " N"]

    def __len__(self) -> int:
        return len(self.seconds)

    def read(self, indices: Sequence[int] | Tensor, short_side: int | None = None) -> Clip:
        """The fields with these numbers in this order, as bytes; the channels are x and y.

        Args:
            indices: from 0; one or more.
            short_side: scale the field down until its shorter side has this many pixels; its values
                stay pixels of the video.

        Raises:
            DataError: a number past the end, or a field that is damaged.
        """
        requested = np.asarray(indices, dtype=np.int64)
        outside = requested[(requested < 0) | (requested >= len(self))]
        if outside.size:
            raise DataError(
                f"flow field {outside[0]} was requested",
                expected=f"0 to {len(self) - 1}, as {len(self) + 1} frames have {len(self)} fields between them",
                hint="sample within the length of the flow, which is one less than that of the video",
                where=self.path,
            )
        numbers, positions = np.unique(requested, return_inverse=True)
        fields = self._fields(numbers.tolist())
        size = scaled_size(fields.shape[2], fields.shape[3], short_side)
        if size != fields.shape[2:]:
            fields = F.interpolate(fields, size=size, mode="bilinear", antialias=True)
        return Clip(fields[torch.from_numpy(positions)], self.seconds[torch.from_numpy(requested)])

    def close(self) -> None:
        """Closes the files; the flow cannot be read afterwards."""
        raise NotImplementedError

    def __enter__(self) -> "Flow":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _fields(self, numbers: Sequence[int]) -> Fields:
        """The fields with these numbers, in rising order."""
        raise NotImplementedError


class FlowSolver:
    """Dense flow by OpenCV, on one thread.

    Args:
        method: "dis" is dense inverse search (Kroeger et al., ECCV 2016; OpenCV's medium preset); "tvl1" is TV-L1
            (Zach et al., DAGM 2007; OpenCV's settings, as two-stream networks use it), about a hundred times slower.

    Raises:
        MissingExtraError: OpenCV is not installed, or lacks TV-L1.
    """

    def __init__(self, method: Method = "dis") -> None:
        self._cv2 = _opencv(method)
        self._method = method

    def __call__(
        self, before: UInt8[np.ndarray, "H W"], after: UInt8[np.ndarray, "H W"]
    ) -> Float32[np.ndarray, "2 H W"]:
        """The flow from a gray frame to the next, in pixels."""
        threads = self._cv2.getNumThreads()
        # More threads slow DIS down on frames of this size, and the cores are better spent on other videos.
        self._cv2.setNumThreads(1)
        try:
            return rearrange(self._new_solver().calc(before, after, None), "h w c -> c h w")
        finally:
            self._cv2.setNumThreads(threads)

    def _new_solver(self) -> Any:
        """A new solver for each pair: on small frames the result of OpenCV's DIS depends on earlier frames."""
        if self._method == "tvl1":
            return self._cv2.optflow.DualTVL1OpticalFlow_create()
        return self._cv2.DISOpticalFlow.create(self._cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


class ComputedFlow(Flow):
    """The flow of a video, computed when it is read.

    Args:
        video: of one channel.
        method: see :class:`FlowSolver`.
        bound: in pixels; larger motion is clipped to it.
    """

    def __init__(self, video: Video, method: Method = "dis", bound: float = BOUND) -> None:
        self.path, self.bound, self.seconds = video.path, bound, video.seconds[:-1]
        self._video, self._solve = video, FlowSolver(method)

    def close(self) -> None:
        """Closes the video."""
        self._video.close()

    def _fields(self, numbers: Sequence[int]) -> Fields:
        needed = sorted({frame for number in numbers for frame in (number, number + 1)})
        frames = dict(zip(needed, self._video.read(needed).pixels[:, 0].numpy(), strict=True))
        fields = [to_bytes(self._solve(frames[number], frames[number + 1]), self.bound) for number in numbers]
        return torch.from_numpy(np.stack(fields))


def flow_between(
    frames: UInt8[Tensor, "T C H W"], method: Method = "dis", bound: float = BOUND
) -> UInt8[Tensor, "T 2 H W"]:
    """The flow from each frame to the next of the same clip, as bytes; the last frame has the flow before it once more.

    Args:
        frames: of one clip, RGB or of any other number of channels; flow is computed from their brightness.
        method: see :class:`FlowSolver`.
        bound: in pixels of these frames; larger motion is clipped to it.

    Raises:
        MissingExtraError: OpenCV is not installed, or lacks TV-L1.
    """
    solve = FlowSolver(method)
    gray = _brightness(frames).numpy()
    fields = [to_bytes(solve(before, after), bound) for before, after in pairwise(gray)]
    still = to_bytes(np.zeros((2, *gray.shape[1:]), np.float32), bound)
    return torch.from_numpy(np.stack([*fields, fields[-1] if fields else still]))


def _brightness(frames: UInt8[Tensor, "T C H W"]) -> UInt8[Tensor, "T H W"]:
    """Luma of RGB (ITU-R BT.601); the mean of any other channels."""
    if frames.shape[1] == 1:
        return frames[:, 0]
    weights = torch.tensor([0.299, 0.587, 0.114]) if frames.shape[1] == 3 else torch.ones(frames.shape[1])
    return torch.einsum("tchw,c->thw", frames.float(), weights / weights.sum()).round().to(torch.uint8).contiguous()


def to_bytes(flow: Float32[np.ndarray, "2 H W"], bound: float = BOUND) -> UInt8[np.ndarray, "2 H W"]:
    """Flow in pixels as bytes, clipped to ``bound``; no motion is 128."""
    return np.rint((np.clip(flow, -bound, bound) + bound) * (255 / (2 * bound))).astype(np.uint8)


def to_pixels(fields: Fields, bound: float = BOUND) -> Float32[Tensor, "N 2 H W"]:
    """Bytes as flow in pixels, right to within ``bound`` / 255."""
    return fields.float() * (2 * bound / 255) - bound


def mirror_flow(fields: UInt8[Tensor, "N 2 H W"] | Float[Tensor, "N 2 H W"]) -> Tensor:
    """The flow of the mirrored video: left and right are exchanged, and x changes its sign (as bytes, 255 - x)."""
    mirrored = fields.flip(-1)
    x = 255 - mirrored[:, :1] if fields.dtype == torch.uint8 else -mirrored[:, :1]
    return torch.cat([x, mirrored[:, 1:]], dim=1)


def _opencv(method: Method) -> Any:
    cv2 = import_extra("cv2", "flow", "optical flow")
    if method == "tvl1" and not hasattr(cv2, "optflow"):
        raise MissingExtraError(
            f"OpenCV {cv2.__version__} was installed without its contributed modules",
            expected="cv2.optflow, which holds TV-L1",
            hint="run pip uninstall -y opencv-python opencv-python-headless and then "
            "pip install 'muybridge[flow]' --force-reinstall; or use DIS",
        )
    return cv2
