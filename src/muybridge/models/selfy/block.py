"""The SELFY block: self-similarities of a feature map, converted to motion features and added to the map.

Legend: B clips, T frames, N = B T images, C and D channels, H and W positions, X and Y positions at half size,
L time offsets, U and V displacements, F features of one offset's similarities, M = B T X Y L.
Source: Kwon et al., ICCV 2021, section 3; widths, kernels and strides from the authors' code.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.models.selfy.similarity import Radius, normalize_channels, self_similarity
from muybridge.nn.convnorm import ConvNorm, MatrixConvNorm

Extraction = Literal["conv", "mlp", "soft_argmax"]
Integration = Literal["conv", "mlp"]
Upsample = Literal["transposed", "bilinear"]

Similarity = Float[Tensor, "B T X Y L U V"]
Windows = Float[Tensor, "M 1 U V"]  # the similarities of one position and offset, as an image
Motion = Float[Tensor, "M F"]


class ConvExtraction(nn.Module):
    """Convolutions over the displacements until one position is left."""

    def __init__(self, window: tuple[int, int], widths: tuple[int, ...]) -> None:
        super().__init__()
        rows, columns = window
        layers: list[ConvNorm] = []
        in_channels = 1
        for index, width in enumerate(widths[:-1]):
            stride = (2 if index and rows > 3 else 1, 2 if index and columns > 3 else 1)
            layer_class = ConvNorm if index else MatrixConvNorm
            layers.append(layer_class.make(in_channels, width, 3, stride=stride, padding=1, pairwise_sum=True))
            rows, columns = (rows - 1) // stride[0] + 1, (columns - 1) // stride[1] + 1
            in_channels = width
        layers.append(MatrixConvNorm.make(in_channels, widths[-1], (rows, columns), padding=0, pairwise_sum=True))
        self.layers = nn.Sequential(*layers)
        self.width = widths[-1]

    def forward(self, windows: Windows) -> Motion:
        """Features of each position and offset."""
        x = windows
        for layer in self.layers:
            x = layer(x, relu=True)
        return rearrange(x, "m f 1 1 -> m f")


class MLPExtraction(nn.Module):
    """Fully connected layers over the displacements; three, as the paper does not give their number."""

    def __init__(self, window: tuple[int, int], width: int) -> None:
        super().__init__()
        self.layers = _conv_layers((window[0] * window[1], width, width, width), 1)
        self.width = width

    def forward(self, windows: Windows) -> Motion:
        """Features of each position and offset."""
        x = rearrange(windows, "m 1 u v -> m (u v) 1 1")
        for layer in self.layers:
            x = layer(x, relu=True)
        return rearrange(x, "m f 1 1 -> m f")


class SoftArgmax(nn.Module):
    """The displacement with the highest similarity, by a soft argmax, in positions: rows, then columns."""

    def __init__(self, window: tuple[int, int], temperature: float) -> None:
        super().__init__()
        self.temperature, self.width = temperature, 2
        rows, columns = (torch.arange(size, dtype=torch.float32) - size // 2 for size in window)
        self.register_buffer("displacements", torch.cartesian_prod(rows, columns), persistent=False)
        self.displacements: Float[Tensor, "UV 2"]

    def forward(self, windows: Windows) -> Motion:
        """The displacement of each position and offset."""
        scores = rearrange(windows, "m 1 u v -> m (u v)").float()
        return (scores / self.temperature).softmax(dim=1) @ self.displacements


class SelfSimilarityBlock(nn.Module):
    """``relu(x + motion)``, where motion is computed from the self-similarities of ``x`` in space and time.

    Initially the identity (for x after a ReLU): the scale of the last normalization is initialized to zero.
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
        self.radius: Radius = (window[1] // 2, window[2] // 2)
        self.reduction = ConvNorm.make(channels, hidden, 3, stride=2)
        if extraction == "conv":
            self.extraction: ConvExtraction | MLPExtraction | SoftArgmax = ConvExtraction(window[1:], widths)
        elif extraction == "mlp":
            self.extraction = MLPExtraction(window[1:], widths[-1])
        else:
            self.extraction = SoftArgmax(window[1:], temperature)
        # "conv": spatial convolutions of each offset with shared weights, then one that combines the offsets.
        # "mlp": no spatial kernels; the offsets are combined at once.
        kernel, spatial_layers, fusion_layers = (3, 3, 1) if integration == "conv" else (1, 0, 3)
        widths = (self.extraction.width, *(integration_width,) * spatial_layers)
        self.spatial_integration = _conv_layers(widths, kernel)
        widths = (len(self.offsets) * widths[-1], *(integration_width,) * fusion_layers)
        self.offset_fusion = _conv_layers(widths, kernel)
        self.expansion = ConvNorm.make(integration_width, channels, 1)
        nn.init.zeros_(self.expansion.norm.weight)

    def similarity(self, x: Float[Tensor, "N C H W"]) -> Similarity:
        """Cosine similarities of the reduced features."""
        reduced = self.reduction(x, relu=True)
        features = normalize_channels(reduced).to(reduced.dtype)
        features = rearrange(features, "(b t) c x y -> b t x y c", t=self.segments)
        return self_similarity(features, self.offsets, self.radius)

    def integrate(self, motion: Float[Tensor, "B T X Y L F"]) -> Float[Tensor, "N D X Y"]:
        """One feature map per image from the features of all offsets."""
        offsets = len(self.offsets)
        y = rearrange(motion, "b t x y l f -> (b t l) f x y").contiguous(memory_format=torch.channels_last)
        for layer in self.spatial_integration:
            y = layer(y, relu=True)
        y = rearrange(y, "(n l) f x y -> n (l f) x y", l=offsets).contiguous(memory_format=torch.channels_last)
        for layer in self.offset_fusion:
            y = layer(y, relu=True)
        return y

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        """The feature map with motion added."""
        similarity = self.similarity(x)
        shape = dict(zip("btxyl", similarity.shape[:5], strict=True))
        motion = self.extraction(rearrange(similarity, "b t x y l u v -> (b t x y l) 1 u v"))
        y = self.integrate(rearrange(motion, "(b t x y l) f -> b t x y l f", **shape))
        if self.upsample == "bilinear":
            y = F.interpolate(self.expansion.conv(y), x.shape[2:], mode="bilinear")
            return F.relu(x + self.expansion.norm(y), inplace=True)
        # A transposed convolution of kernel 1 and stride 2 writes one position in four; the others get the norm's bias.
        upsampled = x.new_zeros(x.shape).contiguous(memory_format=torch.channels_last)
        upsampled[:, :, ::2, ::2] = self.expansion.conv(y)
        return F.relu(x + self.expansion.norm(upsampled), inplace=True)


def _conv_layers(widths: tuple[int, ...], kernel: int) -> nn.Sequential:
    """Convolutions with batch normalization from each width to the next."""
    return nn.Sequential(*(ConvNorm.make(inputs, outputs, kernel) for inputs, outputs in pairwise(widths)))
