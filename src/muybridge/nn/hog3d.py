"""HOG3D: histograms of the directions of brightness gradients in space and time, over cells of a window of a video.

The gradient of a block of pixels is the mean over the block, read from integral videos. It is projected on the axes
through the centers of the faces of a regular polyhedron, and its length is divided among the axes that lie nearest. A
cell is the sum of its blocks, a descriptor all cells of its part of the frame. Every frame begins a window, and blocks
that windows have in common are computed once.

Legend: B clips, T frames, C channels, H and W pixels, O bins, w windows (T - window + 1), N blocks along an axis, D
descriptor length, G descriptors along an axis.
Source: Kläser, Marszałek, Schmid, A Spatio-Temporal Descriptor Based on 3D-Gradients, BMVC 2008, section 2.
"""

import math
from itertools import product

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from muybridge.nn.local_descriptors import gradients
from muybridge.nn.options import Polyhedron, hog3d_bins, hog3d_window

GOLDEN = (1 + math.sqrt(5)) / 2
EPSILON = 1e-6
"""Length below which a gradient or a descriptor counts as zero, and stays zero."""


def face_axes(polyhedron: Polyhedron, *, half_orientation: bool = False) -> Float[Tensor, "O 3"]:
    """Unit vectors (x, y, t) to the centers of the faces; of two opposite ones only the first for half orientation."""
    if polyhedron == "icosahedron":  # its faces lie at the corners of a dodecahedron: a cube and three rectangles
        cube = list(product((-1.0, 1.0), repeat=3))
        sides = [(0.0, y / GOLDEN, t * GOLDEN) for y in (-1, 1) for t in (-1, 1)]
    else:  # the faces of a dodecahedron lie at the corners of an icosahedron: three rectangles
        cube, sides = [], [(0.0, float(y), t * GOLDEN) for y in (-1, 1) for t in (-1, 1)]
    centers = cube + [(*side[turn:], *side[:turn]) for side in sides for turn in range(3)]
    if half_orientation:
        centers = [center for center in centers if center > tuple(-part for part in center)]
    return F.normalize(torch.tensor(centers, dtype=torch.float64), dim=1).float()


def quantize(
    gradient: Float[Tensor, "B 3 *shape"], axes: Float[Tensor, "O 3"], *, half_orientation: bool = False
) -> Float[Tensor, "B O *shape"]:
    """The length of each gradient, divided among the nearest axes.

    The projection on an axis counts as far as it exceeds that of a neighboring axis, so that a gradient along an axis
    has this one bin. The bins have the L2 norm of the gradient.
    """
    cosines = (axes @ axes.T).abs() if half_orientation else axes @ axes.T
    threshold = cosines[cosines < 1 - EPSILON].max()
    length = gradient.norm(dim=1, keepdim=True)
    projection = torch.einsum("od,bd...->bo...", axes, gradient / length.clamp(min=EPSILON))
    excess = F.relu((projection.abs() if half_orientation else projection) - threshold)
    return length * excess / excess.norm(dim=1, keepdim=True).clamp(min=EPSILON)


class HOG3D(nn.Module):
    """The descriptors of every window of a video, without parameters.

    Args:
        polyhedron: "icosahedron" has 20 bins, "dodecahedron" 12.
        half_orientation: opposite directions share a bin, so that light on dark equals dark on light.
        grid: G; the frame is divided into G by G parts, each with a descriptor of its own.
        cells: of a descriptor, along frames, rows and columns.
        blocks: of a cell, along each axis.
        block_frames: frames of a block.
        time_weight: factor on the gradient along time; the paper has none.
        cutoff: entries of a normalized descriptor are cut off there, and the descriptor is normalized again.

    Attributes:
        window: frames of a descriptor, with one at either end for the gradients.
        size: D.
    """

    def __init__(
        self,
        polyhedron: Polyhedron = "icosahedron",
        *,
        half_orientation: bool = False,
        grid: int = 1,
        cells: tuple[int, int, int] = (3, 4, 4),
        blocks: int = 3,
        block_frames: int = 1,
        time_weight: float = 1.0,
        cutoff: float = 0.25,
    ) -> None:
        super().__init__()
        self.half_orientation, self.grid, self.cells = half_orientation, grid, cells
        self.blocks, self.block_frames = blocks, block_frames
        self.time_weight, self.cutoff = time_weight, cutoff
        self.window = hog3d_window(cells, blocks, block_frames)
        self.size = math.prod(cells) * hog3d_bins(polyhedron, half_orientation=half_orientation)
        self.register_buffer("axes", face_axes(polyhedron, half_orientation=half_orientation), persistent=False)
        self.axes: Tensor

    @torch.no_grad()
    def forward(self, video: Float[Tensor, "B T C H W"]) -> Float[Tensor, "B w D G G"]:
        """Descriptors of the windows that begin at each frame; zero where nothing changes in space or time."""
        with torch.autocast(video.device.type, enabled=False):
            means = self._mean_gradients(video.float().mean(2))
            bins = quantize(means, self.axes, half_orientation=self.half_orientation)
            return self._normalize(self._descriptors(bins))

    def _mean_gradients(self, brightness: Float[Tensor, "B T H W"]) -> Float[Tensor, "B 3 t Ny Nx"]:
        """Mean gradient (x, y, t) of each block; blocks begin at every frame but the first."""
        right, down = gradients(brightness[:, 1:-1])
        later = self.time_weight * (brightness[:, 2:] - brightness[:, :-2])
        integral = torch.stack([right, down, later], dim=1).double()
        volume = torch.ones((), dtype=torch.float64, device=brightness.device)
        for axis, count in ((3, self.cells[1]), (4, self.cells[2])):
            edges = block_edges(integral.shape[axis], self.grid * count * self.blocks).to(brightness.device)
            integral = _from_zero(integral.cumsum(axis), axis).index_select(axis, edges).diff(dim=axis)
            volume = volume[..., None] * edges.diff()
        sums = _from_zero(integral.cumsum(2), 2)
        frames = sums.shape[2] - self.block_frames
        return ((sums[:, :, self.block_frames :] - sums[:, :, :frames]) / (volume * self.block_frames)).float()

    def _descriptors(self, bins: Float[Tensor, "B O t Ny Nx"]) -> Float[Tensor, "B w D G G"]:
        """All cells of each window, the sums of their blocks; a cell after the other, the bins of each together."""
        planes = rearrange(bins, "b o t (y i) (x j) -> b o t y x i j", i=self.blocks, j=self.blocks).sum((-2, -1))
        cells = torch.stack(_shifted(planes, self.block_frames, self.blocks)).sum(0)
        windows = torch.stack(_shifted(cells, self.block_frames * self.blocks, self.cells[0]))
        return rearrange(windows, "n b o t (g y) (h x) -> b t (n y x o) g h", g=self.grid, h=self.grid)

    def _normalize(self, descriptors: Float[Tensor, "B w D G G"]) -> Float[Tensor, "B w D G G"]:
        """To unit length, then again after the largest entries are cut off."""
        for cutoff in (self.cutoff, math.inf):
            length = descriptors.norm(dim=2, keepdim=True)
            descriptors = (descriptors / length.clamp(min=EPSILON)).clamp(max=cutoff)
        return descriptors


def block_edges(size: int, count: int) -> Int64[Tensor, " {count}+1"]:
    """Where blocks begin and end that divide an axis into equal parts, to whole pixels."""
    return torch.tensor([(2 * k * size + count) // (2 * count) for k in range(count + 1)])


def _from_zero(integral: Tensor, axis: int) -> Tensor:
    """Cumulative sums along an axis, which begin with 0."""
    return torch.cat([torch.zeros_like(integral.narrow(axis, 0, 1)), integral], dim=axis)


def _shifted(x: Float[Tensor, "B O t Ny Nx"], step: int, count: int) -> list[Float[Tensor, "B O u Ny Nx"]]:
    """``count`` equally long parts along time, each ``step`` later than the one before."""
    length = x.shape[2] - step * (count - 1)
    return [x.narrow(2, step * k, length) for k in range(count)]
