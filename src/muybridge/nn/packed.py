"""Convolutions by oneDNN whose weights are laid out once, and which add and rectify in the same pass; on CPUs.

Legend: N images, C and D channels, H and W pixels.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_TYPES = (torch.float32, torch.bfloat16)


class PackedConv:
    """A convolution with fixed parameters, prepared for inputs like the given one; others are as right but slower.

    It has no gradients. oneDNN otherwise lays the weight out anew in every call, and an addition and a rectifier that
    follow each read and write the whole map again.

    Args:
        weight, bias: the parameters; :func:`packable` holds for the weight.
        like: an input.
        stride, padding: each for rows and columns.
    """

    def __init__(
        self,
        weight: Float[Tensor, "D C h w"],
        bias: Float[Tensor, " D"] | None,
        like: Float[Tensor, "N C H W"],
        stride: tuple[int, ...] = (1, 1),
        padding: tuple[int, ...] = (0, 0),
    ) -> None:
        self._options = [*padding], [*stride], [1, 1], 1
        pack = torch.ops.mkldnn._reorder_convolution_weight
        self._weight, self._bias = pack(weight.contiguous(), *self._options, [*like.shape]), bias

    def __call__(
        self, x: Float[Tensor, "N C H W"], rectify: bool = False, onto: Float[Tensor, "N D H2 W2"] | None = None
    ) -> Float[Tensor, "N D H2 W2"]:
        """The convolution, channels-last; ``onto`` is added, and with ``rectify`` what is then below zero is 0."""
        x, run = x.contiguous(memory_format=torch.channels_last), torch.ops.mkldnn._convolution_pointwise
        if onto is None:
            last = "relu" if rectify else "none"
            return run(x, self._weight, self._bias, *self._options, last, [], "")
        onto = onto.to(x.dtype).contiguous(memory_format=torch.channels_last)
        last = "relu" if rectify else None
        return run.binary(x, onto, self._weight, self._bias, *self._options, "add", 1.0, last, [], "")


def packable(weight: Tensor) -> bool:
    """Whether convolutions with a weight like this can be had so: on a CPU with oneDNN, in float32 or bfloat16."""
    if weight.device.type != "cpu" or weight.dtype not in _TYPES or not torch.backends.mkldnn.is_available():
        return False
    return weight.dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
