"""Parameters, gradients and optimizer state in shares, one for each process (FSDP).

A network is one unit: its parameters are gathered for a step, forward and backward, and each process then updates its
share. States are saved whole, as those of any other training, so that they are loaded with any number of processes.

Source: Zhao et al., PyTorch FSDP: experiences on scaling fully sharded data parallel, VLDB 2023; ZeRO-2 of Rajbhandari
et al., SC 2020.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

Module = TypeVar("Module", bound=nn.Module)


def shard_module(module: Module, mesh: DeviceMesh) -> Module:
    """The module with parameters in shares, one for each process of a mesh; the same module."""
    # Shares are parts of rows in memory, which channels-last weights are not.
    module.to(memory_format=torch.contiguous_format)
    processes = mesh["data_parallel"] if "data_parallel" in (mesh.mesh_dim_names or ()) else mesh
    fully_shard(module, mesh=processes, reshard_after_forward=False)
    return module


def shard_like(module: Module, other: nn.Module) -> Module:
    """A module with the same parameters as another one that is in shares, in shares alike; the same module."""
    parameter = next(parameter for parameter in other.parameters() if isinstance(parameter, DTensor))
    return shard_module(module, parameter.device_mesh)


def whole_state(module: nn.Module, *, keep: bool = True) -> dict[str, Tensor]:
    """Parameters and buffers of a module, those in shares put together; buffers are those of process 0.

    Every process has to call it, with modules alike.

    Args:
        module: in shares or not.
        keep: whether this process needs the result; otherwise it is empty.
    """
    whole: dict[str, Tensor] = {}
    sharded = any(isinstance(parameter, DTensor) for parameter in module.parameters())
    for name, value in module.state_dict().items():
        tensor = value
        if isinstance(value, DTensor):
            tensor = value.full_tensor()
        elif sharded:
            torch.distributed.broadcast(value, 0)
        if keep:
            whole[name] = tensor
    return whole


def whole_optimizer_state(optimizer: Optimizer, *, keep: bool = True) -> dict[str, Any]:
    """The state of an optimizer, what is in shares put together; every process has to call it.

    Args:
        optimizer: over parameters in shares or not.
        keep: whether this process needs the result; otherwise it has no tensors.
    """

    def whole(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: whole(inner) for name, inner in value.items()}
        if isinstance(value, DTensor):
            tensor = value.full_tensor()
            return tensor.cpu() if keep else None
        return value

    state = optimizer.state_dict()
    return {**state, "state": whole(state["state"])}


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load a whole state into an optimizer, whose parameters may be in shares; every process has to call it."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def share(value: Any, parameter: Tensor) -> Any:
        if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
            return value
        value = value.to(parameter.device)
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)

    states = {
        number: {name: share(value, parameters[int(number)]) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": states})
