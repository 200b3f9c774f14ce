"""Hand-crafted descriptors of space-time blocks: histograms of oriented gradients, flow, and gradients of flow.

A block has 3 cells of frames by 2 by 2 cells of pixels; blocks form a dense grid with a stride of half a cell. Each
block has four descriptors: HOG (gradients of brightness), HOF (flow), MBHx and MBHy (gradients of the horizontal and of
the vertical flow, unaffected by a camera that translates).

Legend: B clips, T frames, H and W pixels, O orientations, t h w block positions, N = t h w blocks.
Source: Wang, Kläser, Schmid, Liu, Dense Trajectories and Motion Boundary Descriptors, IJCV 2013, section 3; our blocks
are fixed in space, as in its baseline of dense cuboids, and do not follow trajectories.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from muybridge.nn.options import BLOCK_CELLS, ORIENTATIONS

Cell = tuple[int, int, int]
"""Frames, rows and columns of a cell; each 1 or even."""

MIN_FLOW = 0.01
"""Flow shorter than this, relative to its bound, counts as none: 0.2 pixels per frame where the bound is 20."""


def orientation_histogram(
    right: Float[Tensor, "B T H W"], down: Float[Tensor, "B T H W"], min_length: float = 0.0
) -> Float[Tensor, "B O T H W"]:
    """The length of each vector, divided between the two nearest of eight directions.

    With ``min_length``, shorter vectors go to one additional bin, each with the value ``min_length``.
    """
    length = torch.sqrt(right**2 + down**2)  # not torch.hypot, which ONNX does not support
    magnitude = torch.where(length > min_length, length, 0.0) if min_length else length
    angle = torch.atan2(down, right) * (ORIENTATIONS / math.tau)
    lower = torch.floor(angle)
    upper_value = magnitude * (angle - lower)
    nearest = lower.long()[:, None] & (ORIENTATIONS - 1)  # the remainder of the division by eight, faster
    batch, *rest = magnitude.shape
    bins = magnitude.new_zeros(batch, ORIENTATIONS + bool(min_length), *rest)
    bins.scatter_(1, nearest, (magnitude - upper_value)[:, None])
    bins.scatter_(1, (nearest + 1) & (ORIENTATIONS - 1), upper_value[:, None])
    if min_length:
        bins[:, ORIENTATIONS] = torch.where(length > min_length, 0.0, min_length)
    return bins


def gradients(x: Float[Tensor, "*shape H W"]) -> tuple[Float[Tensor, "*shape H W"], Float[Tensor, "*shape H W"]]:
    """Central differences to the right and downwards; 0 at the border."""
    right = F.pad(x[..., 2:] - x[..., :-2], (1, 1))
    down = F.pad(x[..., 2:, :] - x[..., :-2, :], (0, 0, 1, 1))
    return right, down


def block_histograms(bins: Float[Tensor, "B O T H W"], cell: Cell) -> Float[Tensor, "B N D"]:
    """L1-normalized, square-rooted histograms of every block, D = 12 O; their squares sum to 1 unless all are 0.

    Args:
        bins: from :func:`orientation_histogram`.
        cell: frames, rows and columns of a cell.
    """
    stride = _block_stride(cell)
    # Overlapping cells are means of disjoint ones, which are pooled in an eighth of the time.
    cell_step = [side // step for side, step in zip(cell, stride, strict=True)]
    cells = F.avg_pool3d(F.avg_pool3d(bins, stride), cell_step, stride=1)
    extent = [step * (count - 1) for step, count in zip(cell_step, BLOCK_CELLS, strict=True)]
    blocks = [size - margin for size, margin in zip(cells.shape[2:], extent, strict=True)]
    starts = [range(0, margin + 1, step) for margin, step in zip(extent, cell_step, strict=True)]
    parts = [
        cells[:, :, t : t + blocks[0], y : y + blocks[1], x : x + blocks[2]]
        for t in starts[0]
        for y in starts[1]
        for x in starts[2]
    ]
    histograms = rearrange(parts, "k b o t h w -> b (t h w) (k o)")
    return torch.sqrt(histograms / (histograms.sum(-1, keepdim=True) + 1e-4))


def descriptors(
    video: Float[Tensor, "B T C H W"], flow: Float[Tensor, "B T 2 H W"], cell: Cell
) -> list[Float[Tensor, "B N _"]]:
    """HOG, HOF, MBHx and MBHy of every block; HOF has one more bin, for flow near zero."""
    right, down = flow.unbind(2)
    histograms = (
        orientation_histogram(*gradients(video.mean(2))),
        orientation_histogram(right, down, MIN_FLOW),
        orientation_histogram(*gradients(right)),
        orientation_histogram(*gradients(down)),
    )
    return [block_histograms(bins, cell) for bins in histograms]


def block_positions(frames: int, size: int, cell: Cell) -> Float[Tensor, "N 3"]:
    """Time, row and column of the blocks in the clip, each -1 for the first to 1 for the last."""
    axes: list[Tensor] = []
    for length, side, count, stride in zip((frames, size, size), cell, BLOCK_CELLS, _block_stride(cell), strict=True):
        number = (length - count * side) // stride + 1
        axes.append(torch.linspace(-1, 1, number) if number > 1 else torch.zeros(1))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def _block_stride(cell: Cell) -> list[int]:
    """Distance between blocks in frames, rows and columns: half a cell."""
    return [max(1, side // 2) for side in cell]
