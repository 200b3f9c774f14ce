"""Hand-crafted descriptors of blocks of space and time: oriented gradients, flow, and gradients of flow.

A block is 3 cells of frames by 2 by 2 cells of pixels, and lies on a dense grid of half a cell. What it holds is
told by four descriptors: HOG (gradients of brightness), HOF (flow), MBHx and MBHy (gradients of each part of flow,
which a camera that moves as a whole does not change).

Legend: B clips, T frames, H and W pixels, O orientations, t h w places of the grid, N = t h w blocks.
Source: Wang, Kläser, Schmid, Liu, Dense Trajectories and Motion Boundary Descriptors, IJCV 2013, section 3; the blocks
stand still here, as in its baseline of dense cuboids, and are not carried along trajectories.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

ORIENTATIONS = 8
KINDS = ("hog", "hof", "mbh_x", "mbh_y")
CELLS = (3, 2, 2)
"""Cells of a block along frames, rows and columns."""
STILL = 0.01
"""Flow below this, in its bounds, counts as none: 0.2 pixels a frame where the bound is 20."""


def orientations(
    right: Float[Tensor, "B T H W"], down: Float[Tensor, "B T H W"], still: float = 0.0
) -> Float[Tensor, "B O T H W"]:
    """Lengths of vectors, shared between the two nearest of eight directions; ``still`` adds a bin for shorter ones."""
    length = torch.sqrt(right**2 + down**2)  # not torch.hypot, which ONNX does not know
    moving = torch.where(length > still, length, 0.0)
    turn = torch.atan2(down, right) * (ORIENTATIONS / math.tau)
    whole = torch.floor(turn)
    next_share = moving * (turn - whole)
    own_share, direction = moving - next_share, torch.remainder(whole, ORIENTATIONS)
    own = [direction == one for one in range(ORIENTATIONS)]
    bins = [torch.where(own[one], own_share, torch.where(own[one - 1], next_share, 0.0)) for one in range(ORIENTATIONS)]
    return torch.stack([*bins, torch.where(length > still, 0.0, still)] if still else bins, dim=1)


def gradients(x: Float[Tensor, "*shape H W"]) -> tuple[Float[Tensor, "*shape H W"], Float[Tensor, "*shape H W"]]:
    """Differences between the neighbours on both sides, to the right and downwards; none across the border."""
    right = F.pad(x[..., 2:] - x[..., :-2], (1, 1))
    down = F.pad(x[..., 2:, :] - x[..., :-2, :], (0, 0, 1, 1))
    return right, down


def blocks(bins: Float[Tensor, "B O T H W"], cell: tuple[int, int, int]) -> Float[Tensor, "B N D"]:
    """Histograms of every block, D = 12 O, in roots of shares: their squares add up to 1 where there is anything.

    Args:
        bins: from :func:`orientations`.
        cell: frames, rows and columns of a cell, each 1 or even.
    """
    step = _steps(cell)
    cells = F.avg_pool3d(bins, cell, stride=step)
    apart = [side // each for side, each in zip(cell, step, strict=True)]
    reach = [each * (count - 1) for each, count in zip(apart, CELLS, strict=True)]
    kept = [side - more for side, more in zip(cells.shape[2:], reach, strict=True)]
    starts = [range(0, more + 1, each) for more, each in zip(reach, apart, strict=True)]
    parts = [
        cells[:, :, t : t + kept[0], y : y + kept[1], x : x + kept[2]]
        for t in starts[0]
        for y in starts[1]
        for x in starts[2]
    ]
    histograms = rearrange(parts, "k b o t h w -> b (t h w) (k o)")
    return torch.sqrt(histograms / (histograms.sum(-1, keepdim=True) + 1e-4))


def descriptors(
    video: Float[Tensor, "B T C H W"], flow: Float[Tensor, "B T 2 H W"], cell: tuple[int, int, int]
) -> list[Float[Tensor, "B N _"]]:
    """HOG, HOF, MBHx and MBHy of every block; HOF has a bin more, for what stands still."""
    right, down = flow.unbind(2)
    kinds = (
        orientations(*gradients(video.mean(2))),
        orientations(right, down, STILL),
        orientations(*gradients(right)),
        orientations(*gradients(down)),
    )
    return [blocks(bins, cell) for bins in kinds]


def places(frames: int, size: int, cell: tuple[int, int, int]) -> Float[Tensor, "N 3"]:
    """Where the blocks lie in the clip: time, row and column, -1 to 1 from the first to the last."""
    axes: list[Tensor] = []
    for side, each, count, step in zip((frames, size, size), cell, CELLS, _steps(cell), strict=True):
        number = (side - count * each) // step + 1
        axes.append(torch.linspace(-1, 1, number) if number > 1 else torch.zeros(1))
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def descriptor_sizes() -> tuple[int, ...]:
    """Numbers in a descriptor of each of the :data:`KINDS`."""
    count = math.prod(CELLS)
    return tuple(count * (ORIENTATIONS + (kind == "hof")) for kind in KINDS)


def _steps(cell: tuple[int, int, int]) -> list[int]:
    """How far blocks lie apart, in frames, rows and columns: half a cell."""
    return [max(1, side // 2) for side in cell]
