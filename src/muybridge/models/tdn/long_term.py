"""The long-term difference module: features are amplified where they change from one segment to the next.

Legend: B clips, T segments, N = B T images, P channels of the block, Q = P / reduction, h and w positions,
D directions in time (2, or 1), DN = D N, M images of any number.
Source: Wang et al., TDN, CVPR 2021, Eq. 4 to 7; signs, averages and the gate's centre from the authors' code.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.nn.convnorm import ConvNorm
from muybridge.nn.shift import by_clip

Gate = Literal["centred", "sigmoid", "sum"]
Source = Literal["differences", "features"]
Upsample = Literal["nearest", "bilinear"]

Maps = Float[Tensor, "N P h w"]


class LongTermDifference(nn.Module):
    """Gates each position and channel by the differences to the next and to the previous segment.

    Attributes:
        gate: ``centred``: x (1 + sigmoid - 1/2), as the authors' code; ``sigmoid``: x (1 + sigmoid), as the paper;
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
        gate: Gate = "centred",
        source: Source = "differences",
        both: bool = True,
        scales: bool = True,
        upsample: Upsample = "nearest",
    ) -> None:
        super().__init__()
        self.segments, self.gate, self.source, self.both, self.upsample = segments, gate, source, both, upsample
        narrow = channels // reduction
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
        squeezed = self.squeeze(x)
        here, there = by_clip(squeezed, self.segments), by_clip(self.align(squeezed), self.segments)
        if self.source == "differences":
            # Past its ends a clip goes on as it is: the first and the last difference are exactly zero.
            there = torch.cat([here[:, :1], there, here[:, -1:]], dim=1)
        else:
            there, here = F.pad(there, (0, 0) * 3 + (1, 1)), torch.zeros_like(here)
        neighbours = (there[:, 2:], there[:, :-2]) if self.both else (there[:, 2:],)
        return rearrange(torch.stack(neighbours) - here, "d b t h w q -> (d b t) q h w")

    def enhance(self, difference: Float[Tensor, "M Q h w"]) -> Float[Tensor, "M P h w"]:
        """The mean of the scales, brought back to all channels."""
        if self.fine is not None and self.coarse is not None:
            height, width = difference.shape[2:]
            small = self.coarse(F.avg_pool2d(difference, (min(height, 2), min(width, 2))))
            small = F.interpolate(small, (height, width), mode=self.upsample)
            difference = (difference + self.fine(difference) + small) / 3
        return self.expand(difference)

    def enhanced(self, x: Maps) -> Maps:
        """The enhanced differences, squashed to 0..1 for a gate, averaged over the directions."""
        differences = self.differences(x)
        if self.training:  # each direction has batch statistics of its own
            parts = [self.enhance(part) for part in self._directions(differences)]
        else:
            parts = list(self._directions(self.enhance(differences)))
        if self.gate != "sum":
            parts = [torch.sigmoid(part) for part in parts]
        return 0.5 * (parts[0] + parts[1]) if self.both else parts[0]

    def _directions(self, x: Float[Tensor, "DN C h w"]) -> Sequence[Float[Tensor, "N C h w"]]:
        return rearrange(x, "(d n) c h w -> d n c h w", d=2 if self.both else 1).unbind()

    def change(self, x: Maps) -> Maps:
        """What is multiplied with x (or added to it, for ``sum``) on top of x itself; for pictures."""
        return self.enhanced(x) - (0.5 if self.gate == "centred" else 0)

    def forward(self, x: Maps) -> Maps:
        """The features with those that change made stronger."""
        enhanced = self.enhanced(x)
        if self.gate == "sum":
            return x + enhanced
        return x * (enhanced + (0.5 if self.gate == "centred" else 1))
