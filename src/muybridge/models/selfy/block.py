"""The SELFY block: similarities of a feature map with itself, read as motion and added to the map.

Legend: B clips, T frames, N = B T images, C and D channels, H and W positions, X and Y positions at half size,
L time offsets, U and V displacements, F features of one offset's similarities.
Source: Kwon et al., ICCV 2021, section 3; widths, kernels and strides from the authors' code.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.models.selfy.similarity import Reach, self_similarity, unit_length
from muybridge.nn.convnorm import ConvNorm, MatrixConvNorm

Extraction = Literal["conv", "mlp", "soft_argmax"]
Integration = Literal["conv", "mlp"]
Upsample = Literal["transposed", "bilinear"]

Similarity = Float[Tensor, "B T X Y L U V"]
Windows = Float[Tensor, "M 1 U V"]  # the similarities of one position and offset are an image; M = B T X Y L
Motion = Float[Tensor, "M F"]


class ConvExtraction(nn.Module):
    """Convolutions over the displacements until one position is left."""

    def __init__(self, window: tuple[int, int], widths: tuple[int, ...]) -> None:
        super().__init__()
        rows, columns = window
        layers: list[ConvNorm] = []
        inputs = 1
        for index, width in enumerate(widths[:-1]):
            stride = (2 if index and rows > 3 else 1, 2 if index and columns > 3 else 1)
            kind = ConvNorm if index else MatrixConvNorm
            layers.append(kind.make(inputs, width, 3, stride=stride, padding=1, exact=True))
            rows, columns = (rows - 1) // stride[0] + 1, (columns - 1) // stride[1] + 1
            inputs = width
        layers.append(MatrixConvNorm.make(inputs, widths[-1], (rows, columns), padding=0, exact=True))
        self.layers = nn.Sequential(*layers)
        self.width = widths[-1]

    def forward(self, windows: Windows) -> Motion:
        """Features of each position and offset."""
        x = windows
        for layer in self.layers:
            x = layer(x, rectify=True)
        return rearrange(x, "m f 1 1 -> m f")


class MLPExtraction(nn.Module):
    """Fully connected layers over the displacements; the paper leaves their number open, three are taken."""

    def __init__(self, window: tuple[int, int], width: int) -> None:
        super().__init__()
        sizes = (window[0] * window[1], width, width, width)
        self.layers = nn.Sequential(*(ConvNorm.make(before, after, 1) for before, after in pairwise(sizes)))
        self.width = width

    def forward(self, windows: Windows) -> Motion:
        """Features of each position and offset."""
        x = rearrange(windows, "m 1 u v -> m (u v) 1 1")
        for layer in self.layers:
            x = layer(x, rectify=True)
        return rearrange(x, "m f 1 1 -> m f")


class SoftArgmax(nn.Module):
    """The displacement to which each position most resembles, in positions: rows, then columns."""

    def __init__(self, window: tuple[int, int], temperature: float) -> None:
        super().__init__()
        self.temperature, self.width = temperature, 2
        rows, columns = (torch.arange(size, dtype=torch.float32) - size // 2 for size in window)
        self.register_buffer("places", torch.cartesian_prod(rows, columns), persistent=False)
        self.places: Float[Tensor, "UV 2"]

    def forward(self, windows: Windows) -> Motion:
        """The displacement of each position and offset."""
        scores = rearrange(windows, "m 1 u v -> m (u v)").float()
        return (scores / self.temperature).softmax(dim=1) @ self.places


class SelfSimilarityBlock(nn.Module):
    """``relu(x + motion)``, where motion is read from the similarities of ``x`` with itself in space and time.

    It starts as the identity (for x of a rectifier): the last normalisation's gain begins at zero.
    """

    def __init__(
        self,
        channels: int,
        segments: int,
        *,
        window: tuple[int, int, int] = (5, 9, 9),
        offsets: tuple[int, ...] | None = None,
        hidden: int = 128,
        extraction: Extraction = "conv",
        widths: tuple[int, ...] = (4, 16, 64, 64),
        integration: Integration = "conv",
        integration_width: int = 64,
        temperature: float = 0.01,
        upsample: Upsample = "transposed",
    ) -> None:
        super().__init__()
        self.segments, self.upsample = segments, upsample
        self.offsets = tuple(range(-(window[0] // 2), window[0] // 2 + 1)) if offsets is None else offsets
        self.reach: Reach = (window[1] // 2, window[2] // 2)
        self.reduce = ConvNorm.make(channels, hidden, 3, stride=2)
        if extraction == "conv":
            self.extract: ConvExtraction | MLPExtraction | SoftArgmax = ConvExtraction(window[1:], widths)
        elif extraction == "mlp":
            self.extract = MLPExtraction(window[1:], widths[-1])
        else:
            self.extract = SoftArgmax(window[1:], temperature)
        # Spatial convolutions that treat each offset alike, then one that mixes the offsets; or, without spatial
        # kernels, the offsets are mixed at once.
        kernel, each, mixed = (3, 3, 1) if integration == "conv" else (1, 0, 3)
        sizes = (self.extract.width, *(integration_width,) * each)
        self.each = nn.Sequential(*(ConvNorm.make(before, after, kernel) for before, after in pairwise(sizes)))
        sizes = (len(self.offsets) * sizes[-1], *(integration_width,) * mixed)
        self.mix = nn.Sequential(*(ConvNorm.make(before, after, kernel) for before, after in pairwise(sizes)))
        self.restore = ConvNorm.make(integration_width, channels, 1)
        nn.init.zeros_(self.restore.norm.weight)

    def similarity(self, x: Float[Tensor, "N C H W"]) -> Similarity:
        """The similarities of the reduced features, cosines."""
        reduced = self.reduce(x, rectify=True)
        features = rearrange(unit_length(reduced).to(reduced.dtype), "(b t) c x y -> b t x y c", t=self.segments)
        return self_similarity(features, self.offsets, self.reach)

    def integrate(self, motion: Float[Tensor, "B T X Y L F"]) -> Float[Tensor, "N D X Y"]:
        """One feature map per image from the features of all offsets."""
        offsets = len(self.offsets)
        y = rearrange(motion, "b t x y l f -> (b t l) f x y").contiguous(memory_format=torch.channels_last)
        for layer in self.each:
            y = layer(y, rectify=True)
        y = rearrange(y, "(n l) f x y -> n (l f) x y", l=offsets).contiguous(memory_format=torch.channels_last)
        for layer in self.mix:
            y = layer(y, rectify=True)
        return y

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """The map with the motion that its similarities show."""
        similarity = self.similarity(x)
        shape = dict(zip("btxyl", similarity.shape[:5], strict=True))
        motion = self.extract(rearrange(similarity, "b t x y l u v -> (b t x y l) 1 u v"))
        y = self.integrate(rearrange(motion, "(b t x y l) f -> b t x y l f", **shape))
        if self.upsample == "bilinear":
            y = F.interpolate(self.restore.conv(y), x.shape[2:], mode="bilinear")
            return F.relu(x + self.restore.norm(y), inplace=True)
        # A transposed convolution of kernel 1 and stride 2 fills one position in four; the others get the norm's shift.
        spread = x.new_zeros(x.shape).contiguous(memory_format=torch.channels_last)
        spread[:, :, ::2, ::2] = self.restore.conv(y)
        return F.relu(x + self.restore.norm(spread), inplace=True)
