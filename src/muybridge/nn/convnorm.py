"""Convolution and batch normalisation as one layer: two steps while training, one convolution at inference.

Legend: N images, C and D channels, H and W pixels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Size = int | tuple[int, int]


class ConvNorm(nn.Module):
    """``norm(conv(x))``; in evaluation without gradients the normalisation is folded into the convolution's weights.

    The folded weights are kept until a parameter, a running statistic, the device or the autocast type changes.

    Attributes:
        exact: take the batch statistics channels first. Torch's channels-last sums on a CPU lose four digits where
            millions of values meet in a few channels.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, exact: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.exact = conv, norm, exact
        self._folded: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    @classmethod
    def make(
        cls,
        inputs: int,
        outputs: int,
        kernel: Size,
        *,
        stride: Size = 1,
        padding: int | None = None,
        exact: bool = False,
    ) -> "ConvNorm":
        """A bias-free convolution, Kaiming-normal by its outputs, and its norm; pads for an odd square kernel."""
        if padding is None:
            assert isinstance(kernel, int)
            padding = kernel // 2
        conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return cls(conv, nn.BatchNorm2d(outputs), exact)

    def forward(self, x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N D H2 W2"]:
        """Both steps, as one where that gives the same."""
        if self.norm.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            y = self.conv(x)
            return self.norm(y.contiguous() if self.exact else y)
        weight, bias = self.folded()
        return F.conv2d(x, weight, bias, self.conv.stride, self.conv.padding, self.conv.dilation, self.conv.groups)

    def folded(self) -> tuple[Float[Tensor, "D C h w"], Float[Tensor, " D"]]:
        """Weight and bias of the one convolution that does both steps, from the running statistics."""
        conv, norm = self.conv, self.norm
        mean, var = norm.running_mean, norm.running_var
        assert mean is not None
        assert var is not None
        parts = (conv.weight, norm.weight, norm.bias, mean, var)
        device = conv.weight.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else conv.weight.dtype
        key = (low, *((id(part), part.data_ptr(), 0 if part.is_inference() else part._version) for part in parts))
        if self._folded is None or self._folded[0] != key:
            gain = norm.weight * torch.rsqrt(var + norm.eps)
            weight = (conv.weight * gain[:, None, None, None]).to(low)
            self._folded = (key, weight, (norm.bias - mean * gain).to(low))
        return self._folded[1:]

    def train(self, mode: bool = True) -> "ConvNorm":
        """Switch between training and evaluation; the folded weights go when training begins."""
        if mode:
            self._folded = None
        return super().train(mode)
