"""Convolutions by oneDNN with prepacked weights, fused with a residual addition and a ReLU; on CPUs.

Legend: N images, C and D channels, H and W pixels.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_DTYPES = (torch.float32, torch.bfloat16)


class PackedConv:
    """A convolution with fixed parameters, prepacked for the shape of a given input; other shapes work but are slower.

    Not differentiable. Without prepacking, oneDNN reorders the weight in every call, and a subsequent addition and ReLU
    each read and write the whole feature map again.

    Args:
        weight, bias: the parameters; :func:`can_pack` is true for the weight.
        example: an input.
        stride, padding: along rows and columns.
    """

    def __init__(
        self,
        weight: Float[Tensor, "D C h w"],
        bias: Float[Tensor, " D"] | None,
        example: Float[Tensor, "N C H W"],
        stride: tuple[int, ...] = (1, 1),
        padding: tuple[int, ...] = (0, 0),
    ) -> None:
        self._options = [*padding], [*stride], [1, 1], 1
        pack = torch.ops.mkldnn._reorder_convolution_weight
        self._weight, self._bias = pack(weight.contiguous(), *self._options, [*example.shape]), bias

    def __call__(
        self, x: Float[Tensor, "N C H W"], relu: bool = False, residual: Float[Tensor, "N D H2 W2"] | None = None
    ) -> Float[Tensor, "N D H2 W2"]:
        """``conv(x)``, plus ``residual`` if given, then a ReLU if ``relu``; channels-last."""
        x, run = x.contiguous(memory_format=torch.channels_last), torch.ops.mkldnn._convolution_pointwise
        if residual is None:
            activation = "relu" if relu else "none"
            return run(x, self._weight, self._bias, *self._options, activation, [], "")
        residual = residual.to(x.dtype).contiguous(memory_format=torch.channels_last)
        activation = "relu" if relu else None
        return run.binary(x, residual, self._weight, self._bias, *self._options, "add", 1.0, activation, [], "")


def can_pack(weight: Tensor) -> bool:
    """Whether :class:`PackedConv` supports this weight: on a CPU with oneDNN, in float32 or bfloat16."""
    if weight.device.type != "cpu" or weight.dtype not in _DTYPES or not torch.backends.mkldnn.is_available():
        return False
    return weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
