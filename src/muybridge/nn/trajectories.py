"""Dense trajectories: points that follow the optical flow, and descriptors of the image around them on their way.

In every frame, points are set on a grid wherever the image has structure and no tracked point is near. Each follows the
median-filtered flow for 15 frames. A trajectory is described by its shape and by HOG, HOF, MBHx and MBHy in a patch
around the point, divided into 3 cells of frames by 2 by 2 cells of pixels. Points that stand still, or that jump, are
left out. Where the camera moves, the caller gives its part of the flow: points follow the whole flow, and what is
described is the flow without it.

Legend: B clips of one size, H and W pixels, N points or trajectories, L steps of a trajectory, D numbers of a
descriptor, K bins of all histograms.
Source: Wang, Kläser, Schmid, Liu, Dense Trajectories and Motion Boundary Descriptors, IJCV 2013, sections 2 and 3; Wang
and Schmid, Action Recognition with Improved Trajectories, ICCV 2013.
"""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from muybridge.nn.local_descriptors import gradients, orientation_histogram
from muybridge.nn.options import BLOCK_CELLS, ORIENTATIONS
from muybridge.nn.trajectory_config import TrajectoryConfig

_BINS = (ORIENTATIONS, ORIENTATIONS + 1, ORIENTATIONS, ORIENTATIONS)
"""Of a histogram of HOG, of HOF with its bin of flow near zero, of MBHx and of MBHy."""


@dataclass(frozen=True, slots=True)
class Trajectories:
    """Trajectories and their descriptors.

    Attributes:
        clip: the number of the clip of each.
        end: the frame of its last point.
        scale: the size of a pixel in which it was found, in pixels of the full frame.
        points: x and y of its points, the first to the last, in pixels of the full frame.
        shape: its steps without the camera's, over the sum of their lengths.
        hog, hof, mbh_x, mbh_y: histograms of gradients, flow, and gradients of the horizontal and the vertical flow,
            square-rooted; the squares of each sum to 1 unless all are 0.
    """

    clip: Int64[Tensor, " N"]
    end: Int64[Tensor, " N"]
    scale: Float[Tensor, " N"]
    points: Float[Tensor, "N _ 2"]
    shape: Float[Tensor, "N _"]
    hog: Float[Tensor, "N _"]
    hof: Float[Tensor, "N _"]
    mbh_x: Float[Tensor, "N _"]
    mbh_y: Float[Tensor, "N _"]

    def __len__(self) -> int:
        return len(self.clip)

    def select(self, rows: Tensor) -> "Trajectories":
        """Those at the given rows, or where a mask of them is true."""
        return Trajectories(*(getattr(self, field.name)[rows] for field in fields(self)))

    def descriptors(self) -> list[Float[Tensor, "N _"]]:
        """Shape, HOG, HOF, MBHx and MBHy."""
        return [self.shape, self.hog, self.hof, self.mbh_x, self.mbh_y]

    @staticmethod
    def concatenate(parts: "list[Trajectories]") -> "Trajectories":
        """All of several, one after the other; at least one part is needed."""
        names = [field.name for field in fields(Trajectories)]
        return Trajectories(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


class DenseTracker:
    """Follows points through the frames of clips, which are given one at a time, so that memory does not grow.

    Args:
        size: height and width of the frames.
        config: what is followed and left out.
        clips: B.
        device: of the frames; None means the CPU.

    Attributes:
        frames_seen: how many frames of each clip were given.

    Raises:
        ValueError: frames smaller than a patch.
    """

    def __init__(
        self, size: tuple[int, int], config: TrajectoryConfig, clips: int = 1, device: torch.device | None = None
    ) -> None:
        self.frames_seen = 0
        side = 2 * config.cell_size
        if min(size) < side:
            raise ValueError(f"frames of {size[0]} x {size[1]} pixels are smaller than a patch of {side} x {side}")
        sizes = [[round(full / math.sqrt(2) ** number) for full in size] for number in range(config.scales)]
        self._levels = [
            _Level((height, width), (size[1] / width, size[0] / height), config, clips, device)
            for height, width in sizes
            if min(height, width) >= side
        ]

    def push(
        self,
        frame: Float[Tensor, "B H W"],
        flow: Float[Tensor, "B 2 H W"],
        camera: Float[Tensor, "B 2 H W"] | None = None,
    ) -> Trajectories:
        """Follow all points to the next frame.

        Args:
            frame: brightness, on any scale.
            flow: from it to the next frame, in pixels.
            camera: the part of the flow that the camera's motion causes.

        Returns:
            The trajectories that are complete with the next frame; perhaps none.
        """
        self.frames_seen += 1
        return Trajectories.concatenate([level.push(frame, flow, camera, self.frames_seen) for level in self._levels])


class _Level:
    """The points of one size of the frames.

    ``clip``, ``points``, ``free`` (steps without the camera's), ``sums`` and ``age`` have a row for each point that is
    followed; of ``points`` the first ``age`` + 1 are known, of ``free`` the first ``age``. ``pixel`` is the width and
    height of a pixel in pixels of the full frame.
    """

    def __init__(
        self,
        size: tuple[int, int],
        pixel: tuple[float, float],
        config: TrajectoryConfig,
        clips: int,
        device: torch.device | None,
    ) -> None:
        self.size, self.pixel, self.config = size, torch.tensor(pixel, device=device), config
        rows, columns = (torch.arange(config.stride // 2, side, config.stride, device=device) for side in size)
        self.rows, self.columns = rows[: size[0] // config.stride], columns[: size[1] // config.stride]
        self.clips = clips
        self.clip = torch.zeros(0, dtype=torch.long, device=device)
        self.age = torch.zeros(0, dtype=torch.long, device=device)
        self.points = torch.zeros(0, config.steps + 1, 2, device=device)
        self.free = torch.zeros(0, config.steps, 2, device=device)
        self.sums = torch.zeros(0, BLOCK_CELLS[0], BLOCK_CELLS[1] * BLOCK_CELLS[2], sum(_BINS), device=device)

    def push(self, frame: Tensor, flow: Tensor, camera: Tensor | None, following: int) -> Trajectories:
        pixel = self.pixel[:, None, None]
        frame, flow = _resize(frame[:, None], self.size)[:, 0], _resize(flow, self.size) / pixel
        free = flow if camera is None else flow - _resize(camera, self.size) / pixel
        self._set_points(frame)
        here = self._here()
        self._describe(frame, free, here)
        moved = here + _median_at(flow, self.clip, here)
        known = torch.arange(len(self.age), device=self.age.device)
        column, row = here.round().long().unbind(1)
        self.free[known, self.age] = free.permute(0, 2, 3, 1)[self.clip, row, column]
        self.age = self.age + 1
        self.points[known, self.age] = moved
        height, width = self.size
        x, y = moved.round().unbind(1)
        self._keep((x >= 0) & (x < width) & (y >= 0) & (y < height))
        return self._finish(following, camera is not None)

    def _set_points(self, frame: Tensor) -> None:
        """New points at the grid's places with structure and no other point."""
        stride, shape = self.config.stride, (self.clips, len(self.rows), len(self.columns))
        structure = smallest_eigenvalue(frame)
        largest = structure.amax((1, 2), keepdim=True)
        wanted = structure[:, self.rows[:, None], self.columns] > self.config.quality * largest
        column, row = (self._here().round().long() // stride).unbind(1)
        inside = (row < shape[1]) & (column < shape[2])
        wanted[self.clip[inside], row[inside], column[inside]] = False
        clip, row, column = wanted.nonzero().unbind(1)
        points = self.points.new_zeros(len(clip), *self.points.shape[1:])
        points[:, 0] = torch.stack([self.columns[column], self.rows[row]], dim=1).to(points)
        self.clip, self.age = torch.cat([self.clip, clip]), torch.cat([self.age, torch.zeros_like(clip)])
        self.points = torch.cat([self.points, points])
        self.free = torch.cat([self.free, self.free.new_zeros(len(clip), *self.free.shape[1:])])
        self.sums = torch.cat([self.sums, self.sums.new_zeros(len(clip), *self.sums.shape[1:])])

    def _describe(self, frame: Tensor, flow: Tensor, here: Tensor) -> None:
        """Adds the histograms of this frame around each point to those of its cell of frames."""
        right, down = flow.unbind(1)
        bins = torch.cat(
            [
                orientation_histogram(pair[0][:, None], pair[1][:, None], min_length)[:, :, 0]
                for pair, min_length in (
                    (gradients(frame), 0.0),
                    ((right, down), self.config.min_flow),
                    (gradients(right), 0.0),
                    (gradients(down), 0.0),
                )
            ],
            dim=1,
        )
        part = self.age * BLOCK_CELLS[0] // self.config.steps
        self.sums[torch.arange(len(part), device=part.device), part] += self._cells(bins, here)

    def _cells(self, bins: Float[Tensor, "B K H W"], here: Float[Tensor, "N 2"]) -> Float[Tensor, "N C K"]:
        """Sums of the bins in the four cells around each point; patches stay in the frame."""
        cell = self.config.cell_size
        sums = running_sums(running_sums(bins, cell, 3), cell, 2)
        starts = [
            ((along.round().long() - cell).clamp(0, side - 2 * cell))[:, None]
            + cell * torch.arange(2, device=here.device)
            for along, side in zip(here.flip(1).unbind(1), self.size, strict=True)
        ]
        height, width = sums.shape[2:]
        place = (self.clip[:, None, None] * height + starts[0][:, :, None]) * width + starts[1][:, None]
        by_bin = rearrange(sums, "b k h w -> k (b h w)").index_select(1, place.flatten())
        return rearrange(by_bin, "k (n c) -> n c k", c=BLOCK_CELLS[1] * BLOCK_CELLS[2])

    def _here(self) -> Float[Tensor, "N 2"]:
        """Where each point is now."""
        return self.points[torch.arange(len(self.age), device=self.age.device), self.age]

    def _keep(self, rows: Bool[Tensor, " N"]) -> None:
        for name in ("clip", "age", "points", "free", "sums"):
            setattr(self, name, getattr(self, name)[rows])

    def _finish(self, end: int, camera: bool) -> Trajectories:
        """The trajectories that are complete, less those that are left out; they are followed no longer."""
        complete = self.age == self.config.steps
        points, free = self.points[complete] * self.pixel, self.free[complete] * self.pixel
        good = _moves_steadily(points, free, self.config, camera)
        found = _described(
            self.clip[complete], end, float(self.pixel.mean()), points, free, self.sums[complete]
        ).select(good)
        self._keep(~complete)
        return found


def smallest_eigenvalue(frame: Float[Tensor, "B H W"]) -> Float[Tensor, "B H W"]:
    """Of the structure around each pixel: products of Sobel gradients, summed over 3 by 3 pixels.

    Source: Shi and Tomasi, Good Features to Track, CVPR 1994.
    """
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(frame)
    padded = F.pad(frame[:, None], (1, 1, 1, 1), mode="replicate")
    right, down = F.conv2d(padded, torch.stack([sobel, sobel.T])[:, None]).unbind(1)
    products = torch.stack([right * right, down * down, right * down], dim=1)
    xx, yy, xy = F.avg_pool2d(F.pad(products, (1, 1, 1, 1), mode="replicate"), 3, stride=1).mul(9).unbind(1)
    return (xx + yy) / 2 - torch.sqrt(((xx - yy) / 2) ** 2 + xy**2)


def running_sums(x: Tensor, count: int, dim: int) -> Tensor:
    """Sums over every ``count`` neighbours along a dimension, which has ``count`` - 1 entries fewer afterwards.

    Made from sums of half as many, so that each costs a few additions, and no error of a sum over the whole frame.
    """
    if count == 1:
        return x
    half = running_sums(x, count // 2, dim)
    length = x.shape[dim] - count + 1
    sums = half.narrow(dim, 0, length) + half.narrow(dim, count // 2, length)
    return sums + x.narrow(dim, count - 1, length) if count % 2 else sums


def camera_flow(homography: Float[Tensor, "3 3"], height: int, width: int) -> Float[Tensor, "2 H W"]:
    """How far a homography from one frame to the next moves each pixel."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([x, y, torch.ones_like(x)]).to(homography)
    moved = torch.einsum("ij,jhw->ihw", homography, places)
    return moved[:2] / moved[2:] - places[:2]


def _median_at(flow: Float[Tensor, "B 2 H W"], clip: Tensor, here: Float[Tensor, "N 2"]) -> Float[Tensor, "N 2"]:
    """The flow at the pixel of each point, after a median filter of 3 by 3 pixels; beyond the border it goes on."""
    height, width = flow.shape[2:]
    column, row = here.round().long().unbind(1)
    around = torch.arange(-1, 2, device=here.device)
    rows = (row[:, None] + around).clamp(0, height - 1)
    columns = (column[:, None] + around).clamp(0, width - 1)
    values = flow.permute(0, 2, 3, 1)[clip[:, None, None], rows[:, :, None], columns[:, None]]  # N 3 3 2
    return values.flatten(1, 2).median(1).values


def _moves_steadily(points: Tensor, free: Tensor, config: TrajectoryConfig, camera: bool) -> Bool[Tensor, " N"]:
    """Which trajectories are neither still nor jump, nor only follow the camera."""
    deviation = (points - points.mean(1, keepdim=True)).square().mean(1).sqrt()
    still = (deviation < config.min_deviation).all(1)
    astray = (deviation > config.max_deviation).any(1)
    lengths = points.diff(dim=1).norm(dim=2)
    longest = lengths.amax(1)
    jumps = (longest > config.max_step) & (longest > 0.7 * lengths.sum(1))
    good = ~(still | astray | jumps)
    return good & (free.norm(dim=2).amax(1) > config.min_own_step) if camera else good


def _described(clip: Tensor, end: int, scale: float, points: Tensor, free: Tensor, sums: Tensor) -> Trajectories:
    length = free.norm(dim=2).sum(1).clamp(min=1e-6)
    kinds: list[Tensor] = []
    for bins in sums.split(_BINS, dim=-1):
        flat = bins.flatten(1)
        kinds.append(torch.sqrt(flat.clamp(min=0) / (flat.sum(1, keepdim=True) + 1e-4)))
    ends, scales = torch.full_like(clip, end), torch.full_like(points[:, 0, 0], scale)
    return Trajectories(clip, ends, scales, points, (free / length[:, None, None]).flatten(1), *kinds)


def _resize(maps: Float[Tensor, "B C H W"], size: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    if maps.shape[2:] == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", antialias=True)
