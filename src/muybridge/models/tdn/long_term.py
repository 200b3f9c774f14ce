"""The long-term difference module: amplifies features that change from one segment to the next.

Legend: B clips, T segments, N = B T images, P channels of the block, Q = P / reduction (at least 1), h and w positions,
D directions in time (2, or 1), DN = D N.
Source: Wang et al., TDN, CVPR 2021, Eq. 4 to 7; signs, averages and the centered gate from the authors' code.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.models.tdn.products import gated_expansion, narrow_conv, pointwise, use_matmul
from muybridge.nn.convnorm import ConvNorm
from muybridge.nn.shift import images_to_clips

Gate = Literal["centered", "sigmoid", "sum"]
Source = Literal["differences", "features"]
Upsample = Literal["nearest", "bilinear"]

Maps = Float[Tensor, "N P h w"]


class LongTermDifference(nn.Module):
    """Gates each position and channel by the differences to the next and to the previous segment.

    Attributes:
        gate: ``centered``: x (1 + sigmoid - 1/2), as in the authors' code; ``sigmoid``: x (1 + sigmoid), as in the
            paper; ``sum``: x plus the expanded differences, without a gate.
        source: ``features`` takes the neighboring segment itself instead of the difference to it.
        bidirectional: both directions in time, or only the next segment.
        multi_scale: three branches (identity, a 3x3 convolution, the same at half size), or only the first.
    """

    def __init__(
        self,
        channels: int,
        segments: int,
        *,
        reduction: int = 16,
        gate: Gate = "centered",
        source: Source = "differences",
        bidirectional: bool = True,
        multi_scale: bool = True,
        upsample: Upsample = "nearest",
    ) -> None:
        super().__init__()
        self.segments, self.gate, self.source, self.upsample = segments, gate, source, upsample
        self.bidirectional = bidirectional
        narrow = max(1, channels // reduction)
        self.squeeze = ConvNorm.make(channels, narrow, 1)
        self.align = nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow, bias=False)
        nn.init.kaiming_normal_(self.align.weight, mode="fan_out", nonlinearity="relu")
        self.fine = ConvNorm.make(narrow, narrow, 3) if multi_scale else None
        self.coarse = ConvNorm.make(narrow, narrow, 3) if multi_scale else None
        self.expand = ConvNorm.make(narrow, channels, 1)

    def differences(self, x: Maps) -> Float[Tensor, "DN Q h w"]:
        """To the next segment and, after these in the batch, to the previous one; zero at the ends of the clip.

        ``align(z[t+1]) - z[t]`` and ``align(z[t-1]) - z[t]``, with z the squeezed features.
        """
        if self.training and use_matmul(x):
            squeezed = self.squeeze.normalize(pointwise(x, self.squeeze.conv.weight))
        else:
            squeezed = self.squeeze(x)
        current = images_to_clips(squeezed, self.segments)
        neighbor = images_to_clips(self.align(squeezed), self.segments)
        if self.source == "differences":
            # Beyond its ends a clip is continued by itself: the first and last differences are exactly zero.
            neighbor = torch.cat([current[:, :1], neighbor, current[:, -1:]], dim=1)
        else:
            neighbor, current = F.pad(neighbor, (0, 0) * 3 + (1, 1)), torch.zeros_like(current)
        neighbors = (neighbor[:, 2:], neighbor[:, :-2]) if self.bidirectional else (neighbor[:, 2:],)
        return rearrange(torch.stack(neighbors) - current, "d b t h w q -> (d b t) q h w")

    def average_scales(self, difference: Float[Tensor, "DN Q h w"]) -> Float[Tensor, "DN Q h w"]:
        """The mean of the scales."""
        if self.fine is None or self.coarse is None:
            return difference
        height, width = difference.shape[2:]
        coarse = self._branch(self.coarse, F.avg_pool2d(difference, (min(height, 2), min(width, 2))))
        coarse = F.interpolate(coarse, (height, width), mode=self.upsample)
        return (difference + self._branch(self.fine, difference) + coarse) / 3

    def _branch(self, layer: ConvNorm, x: Float[Tensor, "DN Q h w"]) -> Float[Tensor, "DN Q h w"]:
        if not self.training:
            return layer(x)
        y = narrow_conv(x, layer.conv.weight) if use_matmul(x) else layer.conv(x)
        return torch.cat([layer.normalize(part) for part in self._directions(y)])  # separate batch statistics

    def expanded(self, x: Maps) -> Maps:
        """The differences expanded to all channels, with a sigmoid for a gate, averaged over the directions."""
        averaged = self.average_scales(self.differences(x))
        if self.training:
            parts = [self.expand(part) for part in self._directions(averaged)]
        else:
            parts = list(self._directions(self.expand(averaged)))
        if self.gate != "sum":
            parts = [torch.sigmoid(part) for part in parts]
        return 0.5 * (parts[0] + parts[1]) if self.bidirectional else parts[0]

    def _directions(self, x: Float[Tensor, "DN C h w"]) -> Sequence[Float[Tensor, "N C h w"]]:
        return rearrange(x, "(d n) c h w -> d n c h w", d=2 if self.bidirectional else 1).unbind()

    def gain(self, x: Maps) -> Maps:
        """The factor by which x is amplified beyond 1 (or, for ``sum``, what is added to x); for visualization."""
        return self.expanded(x) - (0.5 if self.gate == "centered" else 0)

    def forward(self, x: Maps) -> Maps:
        """The features, amplified where they change."""
        base = 0.5 if self.gate == "centered" else 1.0
        if self._can_fuse(x):
            averaged = self.average_scales(self.differences(x))
            averaged = rearrange(averaged, "(d n) q h w -> d (n h w) q", d=2 if self.bidirectional else 1)
            weight = rearrange(self.expand.conv.weight, "p q 1 1 -> p q")
            gated = gated_expansion(rearrange(x, "n p h w -> (n h w) p"), averaged, weight, self.expand.norm, base)
            return rearrange(gated, "(n h w) p -> n p h w", h=x.shape[2], w=x.shape[3])
        expanded = self.expanded(x)
        return x + expanded if self.gate == "sum" else x * (expanded + base)

    def _can_fuse(self, x: Maps) -> bool:
        """Whether :func:`gated_expansion` applies: in training, with a gate and plain batch normalization."""
        norm = self.expand.norm
        return self.gate != "sum" and type(norm) is nn.BatchNorm2d and norm.training and use_matmul(x)
