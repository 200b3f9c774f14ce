"""The long-term difference module: features are amplified where they change from one segment to the next.

Legend: B clips, T segments, N = B T images, P channels of the block, Q = P / reduction, h and w positions.
Source: Wang et al., TDN, CVPR 2021, Eq. 4 to 7; signs, averages and the gate's centre from the authors' code.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.nn.convnorm import ConvNorm
from muybridge.nn.shift import by_clip, by_image

Gate = Literal["centred", "sigmoid", "sum"]
Source = Literal["differences", "features"]
Upsample = Literal["nearest", "bilinear"]

Maps = Float[Tensor, "N P h w"]
Squeezed = Float[Tensor, "N Q h w"]


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

    def differences(self, x: Maps) -> tuple[Squeezed, Squeezed]:
        """To the next and to the previous segment; zero where there is none.

        Forwards ``align(z[t+1]) - z[t]``, backwards ``align(z[t-1]) - z[t]``, with z the squeezed features.
        """
        squeezed = self.squeeze(x)
        here, there = by_clip(squeezed, self.segments), by_clip(self.align(squeezed), self.segments)
        subtract = self.source == "differences"
        forwards = there[:, 1:] - here[:, :-1] if subtract else there[:, 1:]
        backwards = there[:, :-1] - here[:, 1:] if subtract else there[:, :-1]
        nothing = torch.zeros_like(here[:, :1])
        return by_image(torch.cat([forwards, nothing], 1)), by_image(torch.cat([nothing, backwards], 1))

    def enhance(self, difference: Squeezed) -> Maps:
        """The mean of the scales, brought back to all channels."""
        if self.fine is not None and self.coarse is not None:
            height, width = difference.shape[2:]
            small = self.coarse(F.avg_pool2d(difference, (min(height, 2), min(width, 2))))
            small = F.interpolate(small, difference.shape[2:], mode=self.upsample)
            difference = (difference + self.fine(difference) + small) / 3
        return self.expand(difference)

    def change(self, x: Maps) -> Maps:
        """What is multiplied with x (or added to it, for ``sum``) on top of x itself."""
        forwards, backwards = self.differences(x)
        enhanced = [self.enhance(one) for one in ((forwards, backwards) if self.both else (forwards,))]
        if self.gate != "sum":
            enhanced = [torch.sigmoid(one) for one in enhanced]
        mean = 0.5 * (enhanced[0] + enhanced[1]) if self.both else enhanced[0]
        return mean - 0.5 if self.gate == "centred" else mean

    def forward(self, x: Maps) -> Maps:
        """The features with those that change made stronger."""
        change = self.change(x)
        return x + change if self.gate == "sum" else x + x * change
