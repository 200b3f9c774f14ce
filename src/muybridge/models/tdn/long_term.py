"""The long-term difference module: features are amplified where they change from one segment to the next.

Legend: B clips, T segments, N = B T images, P channels of the block, Q = P / reduction (1 at least), h and w positions,
D directions in time (2, or 1), DN = D N, M images of any number.
Source: Wang et al., TDN, CVPR 2021, Eq. 4 to 7; signs, averages and the gate's center from the authors' code.
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
from muybridge.nn.shift import by_clip

Gate = Literal["centered", "sigmoid", "sum"]
Source = Literal["differences", "features"]
Upsample = Literal["nearest", "bilinear"]

Maps = Float[Tensor, "N P h w"]


class LongTermDifference(nn.Module):
    """Gates each position and channel by the differences to the next and to the previous segment.

    Attributes:
        gate: ``centered``: x (1 + sigmoid - 1/2), as the authors' code; ``sigmoid``: x (1 + sigmoid), as the paper;
            ``sum``: x plus the enhanced differences, without a gate.
        source: ``features`` looks at the neighbour itself instead of the difference to it.
        both: look forwards and backwards in time, or forwards only.
        scales: three branches (as it is, a 3x3 convolution, the same at half size), or only the first.
    """

    def __init__(
        self,
        channels: int,
        segments: int,
        *,
        reduction: int = 16,
        gate: Gate = "centered",
        source: Source = "differences",
        both: bool = True,
        scales: bool = True,
        upsample: Upsample = "nearest",
    ) -> None:
        super().__init__()
        self.segments, self.gate, self.source, self.both, self.upsample = segments, gate, source, both, upsample
        narrow = max(1, channels // reduction)
        self.squeeze = ConvNorm.make(channels, narrow, 1)
        self.align = nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow, bias=False)
        nn.init.kaiming_normal_(self.align.weight, mode="fan_out", nonlinearity="relu")
        self.fine = ConvNorm.make(narrow, narrow, 3) if scales else None
        self.coarse = ConvNorm.make(narrow, narrow, 3) if scales else None
        self.expand = ConvNorm.make(narrow, channels, 1)

    def differences(self, x: Maps) -> Float[Tensor, "DN Q h w"]:
        """To the next segment and, behind these in the batch, to the previous one; zero where there is none.

        Forwards ``align(z[t+1]) - z[t]``, backwards ``align(z[t-1]) - z[t]``, with z the squeezed features.
        """
        if self.training and use_matmul(x):
            squeezed = self.squeeze.normalise(pointwise(x, self.squeeze.conv.weight))
        else:
            squeezed = self.squeeze(x)
        here, there = by_clip(squeezed, self.segments), by_clip(self.align(squeezed), self.segments)
        if self.source == "differences":
            # Past its ends a clip goes on as it is: the first and the last difference are exactly zero.
            there = torch.cat([here[:, :1], there, here[:, -1:]], dim=1)
        else:
            there, here = F.pad(there, (0, 0) * 3 + (1, 1)), torch.zeros_like(here)
        neighbours = (there[:, 2:], there[:, :-2]) if self.both else (there[:, 2:],)
        return rearrange(torch.stack(neighbours) - here, "d b t h w q -> (d b t) q h w")

    def mixed(self, difference: Float[Tensor, "DN Q h w"]) -> Float[Tensor, "DN Q h w"]:
        """The mean of the scales."""
        if self.fine is None or self.coarse is None:
            return difference
        height, width = difference.shape[2:]
        small = self._scale(self.coarse, F.avg_pool2d(difference, (min(height, 2), min(width, 2))))
        small = F.interpolate(small, (height, width), mode=self.upsample)
        return (difference + self._scale(self.fine, difference) + small) / 3

    def _scale(self, layer: ConvNorm, x: Float[Tensor, "DN Q h w"]) -> Float[Tensor, "DN Q h w"]:
        if not self.training:
            return layer(x)
        y = narrow_conv(x, layer.conv.weight) if use_matmul(x) else layer.conv(x)
        return torch.cat([layer.normalise(part) for part in self._directions(y)])  # each has statistics of its own

    def enhanced(self, x: Maps) -> Maps:
        """The differences brought back to all channels, squashed to 0..1 for a gate, averaged over the directions."""
        mixed = self.mixed(self.differences(x))
        if self.training:
            parts = [self.expand(part) for part in self._directions(mixed)]
        else:
            parts = list(self._directions(self.expand(mixed)))
        if self.gate != "sum":
            parts = [torch.sigmoid(part) for part in parts]
        return 0.5 * (parts[0] + parts[1]) if self.both else parts[0]

    def _directions(self, x: Float[Tensor, "DN C h w"]) -> Sequence[Float[Tensor, "N C h w"]]:
        return rearrange(x, "(d n) c h w -> d n c h w", d=2 if self.both else 1).unbind()

    def change(self, x: Maps) -> Maps:
        """What is multiplied with x (or added to it, for ``sum``) on top of x itself; for pictures."""
        return self.enhanced(x) - (0.5 if self.gate == "centered" else 0)

    def forward(self, x: Maps) -> Maps:
        """The features with those that change made stronger."""
        base = 0.5 if self.gate == "centered" else 1.0
        if (
            self.gate != "sum"
            and type(self.expand.norm) is nn.BatchNorm2d
            and self.expand.norm.training
            and use_matmul(x)
        ):
            mixed = rearrange(self.mixed(self.differences(x)), "(d n) q h w -> d (n h w) q", d=2 if self.both else 1)
            weight = rearrange(self.expand.conv.weight, "p q 1 1 -> p q")
            gated = gated_expansion(rearrange(x, "n p h w -> (n h w) p"), mixed, weight, self.expand.norm, base)
            return rearrange(gated, "(n h w) p -> n p h w", h=x.shape[2], w=x.shape[3])
        enhanced = self.enhanced(x)
        return x + enhanced if self.gate == "sum" else x * (enhanced + base)
