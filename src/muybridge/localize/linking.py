"""Where an action takes place, from the attention of a network that never saw a box.

Attention of many clips becomes one map a frame, smoothed in time; the map is enlarged to the frame and cut at several
levels into boxes; boxes are linked through time into tubes (VideoLSTM, section 4; the levels, what a box is worth, the
link and what is suppressed are ours, as the paper does not give them). A box is worth the cosine of the angle between
the map and the box drawn as a map: the matched filter. Mean saliency inside, the obvious choice, always prefers the
smallest box around the peak. Beside it stand the two baselines that any use of attention has to beat: a box in the
middle, and the difference between frames sent down the same path.

Legend: V clips, S steps of a clip, T frames, h and w cells of a map, H and W pixels, C channels, N boxes.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from scipy import ndimage
from torch import Tensor

from muybridge.core.tubes import Tube, area, box_iou, overlap

Maps = Float[Tensor, "T h w"]
_SIDES = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True, slots=True)
class Linking:
    """How maps become tubes.

    Attributes:
        smoothing: standard deviation of the Gaussian along time, in frames; 0 leaves maps as they are.
        contrast: power to which the normalised map is raised, which draws boxes closer around its peaks: boxes worth
            most are about three times as wide as the deviation of a smooth peak, and wider on a bright ground.
        levels: cuts through the normalised map (0 to 1); each piece above a cut is a candidate box.
        smallest: share of the frame below which a box is dropped.
        steadiness: what an IoU of 1 with the box before is worth, where a box that is all of the map is worth 1.
        apart: a further tube takes no box of which more than this share (of the smaller) lies in an earlier tube's,
            so that the IoU of any two tubes stays below it as well.
        tubes: at most this many are returned.
        grid: pixels of the longer side at which maps are cut; larger frames are cut at this size.
    """

    smoothing: float = 5.0
    contrast: float = 1.0
    levels: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
    smallest: float = 0.01
    steadiness: float = 1.0
    apart: float = 0.3
    tubes: int = 1
    grid: int = 160


LINKING = Linking()


@dataclass(frozen=True, slots=True)
class _Candidates:
    """The boxes of one frame, in cells of the grid, and what each is worth (0 to 1)."""

    boxes: Float64[np.ndarray, "N 4"]
    scores: Float64[np.ndarray, " N"]

    def but(self, taken: Float64[np.ndarray, " 4"], apart: float) -> "_Candidates":
        """Without those that lie too much in a box, or contain too much of it."""
        others = np.broadcast_to(taken, self.boxes.shape)
        shared = overlap(self.boxes, others) / np.minimum(area(self.boxes), area(others))
        return _Candidates(self.boxes[shared <= apart], self.scores[shared <= apart])


def average_over_clips(maps: Float[Tensor, "V S h w"], frames: Int64[Tensor, "V S"], length: int) -> Maps:
    """One map for each frame of a video: the mean over all clips that show it.

    Args:
        maps: of each step of each clip.
        frames: the frame that each step shows; a clip may repeat one.
        length: frames of the video. One that no clip shows takes the map of the nearest that is shown.
    """
    steps = rearrange(frames, "v s -> (v s)")
    total = torch.zeros(length, *maps.shape[2:]).index_add_(0, steps, rearrange(maps.float(), "v s h w -> (v s) h w"))
    times = torch.bincount(steps, minlength=length)
    shown = times.nonzero()[:, 0]
    nearest = shown[(torch.arange(length)[:, None] - shown).abs().argmin(dim=1)]
    return total[nearest] / times[nearest, None, None]


def smooth_in_time(maps: Maps, sigma: float) -> Maps:
    """Maps after a Gaussian along time, mirrored at both ends; ``sigma`` in frames."""
    return torch.from_numpy(ndimage.gaussian_filter1d(maps.float().numpy(), sigma, axis=0, mode="reflect"))


def saliency(maps: Maps, height: int, width: int) -> Float32[Tensor, "T H W"]:
    """Maps enlarged to the frame (bilinear), each running from 0 to 1; one that is level is 0 throughout."""
    large = F.interpolate(maps.float()[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]
    least, most = large.amin(dim=(1, 2), keepdim=True), large.amax(dim=(1, 2), keepdim=True)
    span = most - least
    return torch.where(span > 1e-6 * most.abs(), (large - least) / span, 0.0)


def attention_to_tubes(
    maps: Maps,
    size: tuple[int, int],
    *,
    video: str = "",
    label: int = 0,
    score: float = 1.0,
    linking: Linking = LINKING,
) -> list[Tube]:
    """Tubes through a whole video around what its maps point at, best first.

    Where a map points nowhere (it is level, or nothing above the cuts is large enough), the whole frame is the box.

    Args:
        maps: one for each frame.
        size: height and width of the frames in pixels.
        video: the id that the tubes bear.
        label: the recognised class.
        score: of that class for the video. The best tube bears it; others that share of it which their boxes and
            links are worth beside the best one's.
        linking: how maps become boxes and boxes tubes.
    """
    if linking.smoothing:
        maps = smooth_in_time(maps, linking.smoothing)
    height, width = size
    scale = min(1.0, linking.grid / max(size))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    heat = saliency(maps, rows, columns) ** linking.contrast
    frames = [_candidates(frame, linking) for frame in heat.numpy()]
    to_pixels = np.array([width / columns, height / rows] * 2)
    tubes: list[Tube] = []
    best = 0.0
    while len(tubes) < linking.tubes and all(len(frame.boxes) for frame in frames):
        path, worth = _best_path(frames, linking.steadiness)
        best = best or worth
        tubes.append(Tube(video, label, path * to_pixels, score=score * (worth / best) if best else score))
        frames = [frame.but(box, linking.apart) for frame, box in zip(frames, path, strict=True)]
    return tubes


def centered_tube(
    length: int, size: tuple[int, int], share: float = 0.5, *, video: str = "", label: int = 0, score: float = 1.0
) -> Tube:
    """The box in the middle whose sides are ``share`` of the frame's, in every frame: a baseline that does not look."""
    height, width = size
    sides = np.array([width, height] * 2)
    box = sides * np.array([1 - share, 1 - share, 1 + share, 1 + share]) / 2
    return Tube(video, label, np.tile(box, (length, 1)), score=score)


def frame_difference(pixels: UInt8[Tensor, "T C H W"], cells: tuple[int, int] = (28, 28)) -> Maps:
    """How much each part of a frame differs from the frame before: a baseline that looks and does not learn.

    The first frame takes the map of the second. Goes through :func:`attention_to_tubes` as attention does.
    """
    changes = torch.stack([(after.float() - before.float()).abs() for before, after in pairwise(pixels)])
    maps = F.adaptive_avg_pool2d(reduce(changes, "t c h w -> t 1 h w", "mean"), cells)[:, 0]
    return torch.cat([maps[:1], maps])


def _candidates(frame: Float32[np.ndarray, "H W"], linking: Linking) -> _Candidates:
    """The pieces above each cut, as boxes with the cosine between box and map."""
    sums = np.zeros((frame.shape[0] + 1, frame.shape[1] + 1))
    sums[1:, 1:] = frame.cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    found = {
        (across.start, down.start, across.stop, down.stop)
        for level in linking.levels
        for down, across in _pieces(frame > level)
        if (across.stop - across.start) * (down.stop - down.start) >= linking.smallest * frame.size
    }
    if not found:
        found = {(0, 0, frame.shape[1], frame.shape[0])}
    left, top, right, bottom = np.array(sorted(found)).T
    boxes = np.stack([left, top, right, bottom], axis=1).astype(np.float64)
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    length = np.sqrt(np.square(frame, dtype=np.float64).sum())
    worth = inside / (np.sqrt(area(boxes)) * length) if length else np.zeros(len(boxes))
    return _Candidates(boxes, worth)


def _pieces(above: Bool[np.ndarray, "H W"]) -> list[tuple[slice, slice]]:
    """Rows and columns of each connected piece; cells touch by their sides."""
    numbered = np.zeros(above.shape, dtype=np.int32)
    ndimage.label(above, _SIDES, output=numbered)
    return ndimage.find_objects(numbered)


def _best_path(frames: list[_Candidates], steadiness: float) -> tuple[Float64[np.ndarray, "T 4"], float]:
    """The path through one box a frame that is worth most (Viterbi), and its worth a frame."""
    worth = frames[0].scores
    chosen: list[np.ndarray] = []
    for before, after in pairwise(frames):
        pairs = len(after.boxes), len(before.boxes)
        these, those = np.repeat(after.boxes, pairs[1], axis=0), np.tile(before.boxes, (pairs[0], 1))
        through = worth + steadiness * box_iou(these, those).reshape(pairs)
        chosen.append(through.argmax(axis=1))
        worth = after.scores + through.max(axis=1)
    at = int(worth.argmax())
    total, path = float(worth[at]), [frames[-1].boxes[at]]
    for frame, back in zip(reversed(frames[:-1]), reversed(chosen), strict=True):
        at = int(back[at])
        path.append(frame.boxes[at])
    return np.array(path[::-1]), total / len(frames)
