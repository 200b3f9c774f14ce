"""Where an action takes place, from the attention of a network that was trained without boxes.

Attention of many clips becomes one map per frame, smoothed in time; the map is enlarged to the frame and thresholded at
several levels into boxes; boxes are linked through time into tubes (VideoLSTM, section 4; the levels, the score of a
box, the link and what is suppressed are ours, as the paper does not give them). The score of a box is the cosine of the
angle between the map and the box drawn as a map: the matched filter. Mean saliency inside, the obvious choice, always
prefers the smallest box around the peak. Two baselines that any use of attention has to beat complete the module: a box
in the middle, and the difference between frames sent through the same steps.

Maps are processed in chunks of consecutive frames. Of each frame only the map as the model gave it and the candidate
boxes are kept, a few kilobytes.

Legend: S steps of a clip, T frames, h and w cells of a map, H and W pixels, C channels, N boxes, U frames in a clip.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Bool, Float, Float32, Float64, Int64, Real, UInt8
from scipy import ndimage
from torch import Tensor

from muybridge.core.tubes import Tube, area, box_iou, overlap

Maps = Float[Tensor, "T h w"]
_FOUR_CONNECTED = ndimage.generate_binary_structure(2, 1)
_TRUNCATE = 4.0  # standard deviations at which the Gaussian in time ends

CHUNK = 256
"""Frames whose maps are enlarged at a time."""


@runtime_checkable
class MapSequence(Protocol):
    """Maps of consecutive frames: a tensor, or an object that computes maps when they are read."""

    def __len__(self) -> int:
        """The number of frames."""
        ...

    def __getitem__(self, frames: slice | Tensor, /) -> Maps:
        """The maps of some frames: a slice, or frame numbers."""
        ...


@dataclass(frozen=True, slots=True)
class Linking:
    """How maps become tubes.

    Attributes:
        smoothing: standard deviation of the Gaussian along time, in frames; 0 leaves maps as they are.
        contrast: power to which the normalized map is raised. Higher powers give smaller boxes around the peaks: the
            best box is about three times as wide as the standard deviation of a smooth peak, and wider on a bright
            background.
        thresholds: levels of the normalized map (0 to 1); each connected region above one is a candidate box.
        min_area: share of the frame below which a box is dropped.
        iou_weight: score of an IoU of 1 with the box before, where a box that matches the map perfectly has score 1.
        max_overlap: a further tube has no box of which more than this share (of the smaller) lies in an earlier tube's,
            so that the IoU of any two tubes stays below it as well.
        max_tubes: at most this many are returned.
        resolution: pixels of the longer side at which maps are thresholded; larger frames are scaled to it.
    """

    smoothing: float = 5.0
    contrast: float = 1.0
    thresholds: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    min_area: float = 0.01
    iou_weight: float = 1.0
    max_overlap: float = 0.3
    max_tubes: int = 1
    resolution: int = 160


LINKING = Linking()


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The boxes of one frame, in cells of the grid, and the score of each (0 to 1)."""

    boxes: Real[np.ndarray, "N 4"]
    scores: Float64[np.ndarray, " N"]

    def without(self, box: Float64[np.ndarray, " 4"], max_overlap: float) -> "_Candidates":
        """Those that lie in ``box``, or contain it, by no more than a share of the smaller one's area."""
        boxes = self.boxes.astype(np.float64)
        others = np.broadcast_to(box, boxes.shape)
        shared = overlap(boxes, others) / np.minimum(area(boxes), area(others))
        return _Candidates(self.boxes[shared <= max_overlap], self.scores[shared <= max_overlap])


def average_over_clips(
    clips: Iterable[tuple[Float[Tensor, "S h w"], Int64[Tensor, " S"]]], length: int
) -> tuple[Float32[Tensor, "U h w"], Int64[Tensor, " T"]]:
    """The mean map of each frame over all clips that contain it.

    Args:
        clips: the maps of each clip's steps, and the frame that each step shows; a clip may repeat a frame.
        length: frames of the video.

    Returns:
        The maps of the frames that are in any clip, in time order; and for each frame of the video the number of its
        map among these, which for a frame in no clip is that of the nearest frame (the earlier of two).
    """
    sums: Tensor | None = None
    counts = torch.zeros(length, dtype=torch.int64)
    for maps, frames in clips:
        if sums is None:
            sums = torch.zeros(length, *maps.shape[1:])
        sums.index_add_(0, frames, maps.float())
        counts.index_add_(0, frames, torch.ones_like(frames))
    assert sums is not None, "a video has at least one clip"
    shown = counts.nonzero()[:, 0]
    maps = sums if len(shown) == length else sums[shown]  # not copied where every frame is shown
    return maps.div_(counts[shown, None, None]), _nearest(shown, length)


def _nearest(shown: Int64[Tensor, " U"], length: int) -> Int64[Tensor, " T"]:
    """For each frame, the place of the nearest of the rising frame numbers ``shown``; of two, the earlier."""
    frames = torch.arange(length)
    after = torch.searchsorted(shown, frames).clamp(max=len(shown) - 1)
    before = (after - 1).clamp(min=0)
    return torch.where((frames - shown[before]).abs() <= (shown[after] - frames).abs(), before, after)


def smooth_in_time(maps: Maps, sigma: float) -> Maps:
    """Maps after a Gaussian along time, mirrored at both ends; ``sigma`` in frames."""
    return torch.from_numpy(
        ndimage.gaussian_filter1d(maps.float().numpy(), sigma, axis=0, mode="reflect", truncate=_TRUNCATE)
    )


def _smooth_chunks(maps: MapSequence, sigma: float) -> Iterator[Maps]:
    """All maps in chunks, smoothed as :func:`smooth_in_time` smooths them as a whole, to the last bit."""
    length, margin = len(maps), int(_TRUNCATE * sigma + 0.5)
    for start in range(0, length, CHUNK):
        stop = min(start + CHUNK, length)
        if not sigma:
            yield maps[start:stop]
            continue
        first = max(0, start - margin)
        smooth = smooth_in_time(maps[first : min(stop + margin, length)], sigma)
        yield smooth[start - first : stop - first]


def saliency(maps: Maps, height: int, width: int) -> Float32[Tensor, "T H W"]:
    """Maps enlarged to the frame (bilinear) and scaled to the range 0 to 1; a constant map becomes 0 throughout."""
    large = F.interpolate(maps.float()[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]
    lowest, highest = large.amin(dim=(1, 2), keepdim=True), large.amax(dim=(1, 2), keepdim=True)
    span = highest - lowest
    return torch.where(span > 1e-6 * highest.abs(), (large - lowest) / span, 0.0)


def attention_to_tubes(
    maps: MapSequence,
    size: tuple[int, int],
    *,
    video: str = "",
    label: int = 0,
    score: float = 1.0,
    linking: Linking = LINKING,
) -> list[Tube]:
    """Tubes through a whole video around the peaks of its maps, best first.

    Where a map has no peak (it is constant, or no region above the thresholds is large enough), the box is the frame.

    Args:
        maps: one for each frame.
        size: height and width of the frames in pixels.
        video: the id of the tubes' video.
        label: the predicted class.
        score: of that class for the video. The best tube has this score; others have the share of it that the score of
            their boxes and links is of the best one's.
        linking: how maps become boxes and boxes tubes.
    """
    height, width = size
    scale = min(1.0, linking.resolution / max(size))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    frames: list[_Candidates] = []
    for chunk in _smooth_chunks(maps, linking.smoothing):
        heat = saliency(chunk, rows, columns) ** linking.contrast
        frames += _packed([_candidates(frame, linking) for frame in heat.numpy()])
    to_pixels = np.array([width / columns, height / rows] * 2)
    tubes: list[Tube] = []
    best = 0.0
    while len(tubes) < linking.max_tubes and all(len(frame.boxes) for frame in frames):
        path, path_score = _best_path(frames, linking.iou_weight)
        best = best or path_score
        tubes.append(Tube(video, label, path * to_pixels, score=score * (path_score / best) if best else score))
        if len(tubes) < linking.max_tubes:
            frames = [frame.without(box, linking.max_overlap) for frame, box in zip(frames, path, strict=True)]
    return tubes


def centered_tube(
    length: int, size: tuple[int, int], share: float = 0.5, *, video: str = "", label: int = 0, score: float = 1.0
) -> Tube:
    """The box in the middle whose sides are ``share`` of the frame's, in every frame: a baseline without an image."""
    height, width = size
    sides = np.array([width, height] * 2)
    box = sides * np.array([1 - share, 1 - share, 1 + share, 1 + share]) / 2
    return Tube(video, label, np.tile(box, (length, 1)), score=score)


def frame_difference(pixels: UInt8[Tensor, "T C H W"], cells: tuple[int, int] = (28, 28)) -> Maps:
    """How much each part of a frame differs from the frame before: a baseline without learning.

    The first frame takes the map of the second. Goes through :func:`attention_to_tubes` as attention does.
    """
    changes = torch.stack([(after.float() - before.float()).abs() for before, after in pairwise(pixels)])
    maps = F.adaptive_avg_pool2d(reduce(changes, "t c h w -> t 1 h w", "mean"), cells)[:, 0]
    return torch.cat([maps[:1], maps])


def _candidates(frame: Float32[np.ndarray, "H W"], linking: Linking) -> _Candidates:
    """The connected regions above each threshold, as boxes with the cosine between box and map."""
    sums = np.zeros((frame.shape[0] + 1, frame.shape[1] + 1))
    sums[1:, 1:] = frame.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    regions = {
        (across.start, down.start, across.stop, down.stop)
        for threshold in linking.thresholds
        for down, across in _connected_regions(frame > threshold)
        if (across.stop - across.start) * (down.stop - down.start) >= linking.min_area * frame.size
    }
    if not regions:
        regions = {(0, 0, frame.shape[1], frame.shape[0])}
    left, top, right, bottom = corners = np.array(sorted(regions)).T
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    length = np.sqrt(np.square(frame, dtype=np.float64).sum())
    cells = ((right - left) * (bottom - top)).astype(np.float64)
    scores = inside / (np.sqrt(cells) * length) if length else np.zeros(len(cells))
    return _Candidates(corners.T.astype(np.int16), scores)  # the grid is small, and a long video has many boxes


def _packed(frames: list[_Candidates]) -> list[_Candidates]:
    """The same candidates as slices of two arrays.

    Kept one by one, the small arrays of each frame would lie between the large ones that computing them takes, so that
    the allocator could not use the space of the large ones again: 150 kB for every frame of a video.
    """
    ends = np.cumsum([len(frame.boxes) for frame in frames])[:-1]
    boxes = np.split(np.concatenate([frame.boxes for frame in frames]), ends)
    scores = np.split(np.concatenate([frame.scores for frame in frames]), ends)
    return [_Candidates(*pair) for pair in zip(boxes, scores, strict=True)]


def _connected_regions(above: Bool[np.ndarray, "H W"]) -> list[tuple[slice, slice]]:
    """Rows and columns of each connected region; cells are neighbours if they share a side."""
    numbered = np.zeros(above.shape, dtype=np.int32)
    ndimage.label(above, _FOUR_CONNECTED, output=numbered)
    return ndimage.find_objects(numbered)


def _best_path(frames: list[_Candidates], iou_weight: float) -> tuple[Float64[np.ndarray, "T 4"], float]:
    """The path through one box per frame that has the highest score (Viterbi), and its mean score over the frames."""
    scores = frames[0].scores
    predecessors: list[np.ndarray] = []
    for before, after in pairwise(frames):
        pairs = len(after.boxes), len(before.boxes)
        later = np.repeat(after.boxes.astype(np.float64), pairs[1], axis=0)
        earlier = np.tile(before.boxes.astype(np.float64), (pairs[0], 1))
        through = scores + iou_weight * box_iou(later, earlier).reshape(pairs)
        predecessors.append(through.argmax(axis=1).astype(np.int32))
        scores = after.scores + through.max(axis=1)
    place = int(scores.argmax())
    total, path = float(scores[place]), [frames[-1].boxes[place]]
    for frame, predecessor in zip(reversed(frames[:-1]), reversed(predecessors), strict=True):
        place = int(predecessor[place])
        path.append(frame.boxes[place])
    return np.array(path[::-1], dtype=np.float64), total / len(frames)
