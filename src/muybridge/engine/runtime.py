"""Where a run executes: device, number format and processes. Fabric and ``torch.distributed`` live here alone."""

import atexit
import os
from typing import Any, Literal

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor

Precision = Literal["32-true", "64-true", "bf16-mixed", "16-mixed"]


class Runtime:
    """The device and the processes of a run, over Lightning Fabric.

    Under ``torchrun`` (or SLURM) every started process takes part; otherwise there is one, on the first accelerator or
    else the CPU.

    Args:
        precision: Fabric's name for the number format.
        device: "auto", "cpu" or "cuda".
    """

    def __init__(self, precision: Precision = "32-true", device: str = "auto") -> None:
        world = int(os.environ.get("WORLD_SIZE", "1"))
        local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
        self.fabric = Fabric(
            accelerator=device,
            devices=local,
            num_nodes=max(world // local, 1),
            strategy="ddp" if world > 1 else "auto",
            precision=precision,
        )
        self._precision = precision
        if world > 1:
            self.fabric.launch()
            # Left open, the group's threads can bring a process down on its way out.
            atexit.register(_leave)

    @property
    def rank(self) -> int:
        """This process, from 0."""
        return self.fabric.global_rank

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return self.fabric.world_size

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.fabric.is_global_zero

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.fabric.device

    @property
    def fused(self) -> bool | None:
        """Whether optimizers make fused steps, which on a CPU take a fifth of the time; None leaves it to torch."""
        # Scaled gradients of 16 bits could not be clipped before a fused step.
        return True if self.device.type == "cpu" and self._precision != "16-mixed" else None

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        return self.fabric.all_reduce(numbers, reduce_op="sum") if self.world_size > 1 else numbers  # pyright: ignore[reportReturnType]

    def all_gather(self, thing: Any) -> list[Any]:
        """One object from every process, in rank order, on every process."""
        if self.world_size == 1:
            return [thing]
        gathered: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(gathered, thing)
        return gathered

    def any_process(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is up in any process."""
        if self.world_size == 1:
            return list(flags)
        return (self.all_reduce_sum(torch.tensor(flags, dtype=torch.float32, device=self.device)) > 0).tolist()


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
