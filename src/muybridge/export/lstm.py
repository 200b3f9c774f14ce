"""``torch.nn.LSTM`` as the operator of ONNX, for any number of frames; PyTorch itself would unroll it to a fixed one.

Legend: B batch, T frames, I inputs, H hidden size.
"""

import copy
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class OnnxLSTM(nn.Module):
    """The outputs of an LSTM, batch first, in evaluation mode; it can only be exported.

    Args:
        lstm: of one direction, without projection.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        assert lstm.batch_first
        assert not lstm.bidirectional
        assert lstm.proj_size == 0
        self.size, self.layers = lstm.hidden_size, lstm.num_layers
        for layer in range(self.layers):
            parts = {name: getattr(lstm, f"{name}_l{layer}").detach() for name in _PARAMETERS}
            bias = torch.cat([_in_onnx_order(parts["bias_ih"]), _in_onnx_order(parts["bias_hh"])])
            self.register_buffer(f"input_weight_{layer}", _in_onnx_order(parts["weight_ih"])[None])
            self.register_buffer(f"hidden_weight_{layer}", _in_onnx_order(parts["weight_hh"])[None])
            self.register_buffer(f"bias_{layer}", bias[None])

    def forward(self, sequence: Float[Tensor, "B T I"], before: None = None) -> tuple[Float[Tensor, "B T H"], None]:
        """The outputs of the last layer, and nothing in place of the last state; the state before is zero."""
        assert before is None
        outputs = sequence.transpose(0, 1)
        for layer in range(self.layers):
            weights = [getattr(self, f"{name}_{layer}") for name in ("input_weight", "hidden_weight", "bias")]
            frames, batch, _ = outputs.shape
            outputs = torch.onnx.ops.symbolic(
                "LSTM",
                (outputs, *weights),
                {"hidden_size": self.size},
                dtype=sequence.dtype,
                shape=(frames, 1, batch, self.size),
            ).squeeze(1)
        return outputs.transpose(0, 1), None


_PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def with_onnx_lstms(model: AnyModule) -> AnyModule:
    """The model with its LSTMs replaced, as a copy; the model itself if it has none."""
    if not any(isinstance(module, nn.LSTM) for module in model.modules()):
        return model
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.LSTM):
                setattr(parent, name, OnnxLSTM(child))
    return model


def _in_onnx_order(rows: Tensor) -> Tensor:
    """Gates in ONNX's order i o f c, from torch's i f c o."""
    i, f, c, o = rows.chunk(4)
    return torch.cat([i, o, f, c])
