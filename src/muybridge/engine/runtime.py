"""Where a run executes: device, number format and processes, over Lightning Fabric.

``torch.distributed`` is used here, in :mod:`muybridge.engine.sharding` and in :mod:`muybridge.engine.launch` alone.
"""

import atexit
import logging
import os
import platform
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.distributed
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor

from muybridge.core.errors import MuybridgeWarning, RunError
from muybridge.data.workers import explained_failures

UsedPrecision = Literal["32-true", "64-true", "bf16-mixed", "16-mixed"]
ShareStrategy = Literal["ddp", "fsdp"]
Precision = Literal["auto", "32-true", "64-true", "bf16-mixed", "16-mixed"]

# Fabric tells of the number format, which the run's own summary does, and advises to lower the precision of products.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

TIME_LIMIT = 1800.0
"""Seconds that a process waits for the others; the main one alone measures baselines before a training."""

BFLOAT16_SLOWDOWN = 5.7
"""Time of bfloat16 over that of float32 on a processor that emulates it: ResNet-50, 8 frames, one AVX2 core."""


class Runtime:
    """The device and the processes of a run, over Lightning Fabric.

    Under ``torchrun``, or ``srun`` of SLURM, every started process takes part; otherwise there is one, on the first
    accelerator or else the CPU.

    Args:
        precision: number format, as Fabric names it; "auto" is bfloat16 where the device computes in it, else float32.
        device: "auto", "cpu" or "cuda".
        strategy: what several processes share, see ``train.strategy``.
        time_limit: seconds that a process waits for the others, which end with an error then.

    Raises:
        RunError: there is no such device, it does not have the number format, or the processes do not find each other.
    """

    def __init__(
        self,
        precision: Precision = "32-true",
        device: str = "auto",
        strategy: ShareStrategy = "ddp",
        time_limit: float = TIME_LIMIT,
    ) -> None:
        accelerator = _accelerator(device)
        self.precision = resolve_precision(precision, accelerator)
        world, local = _process_counts()
        self.fabric = Fabric(
            accelerator=accelerator,
            devices=local,
            num_nodes=max(world // local, 1),
            strategy=_strategy(strategy, world, time_limit) if world > 1 else "auto",
            precision=self.precision,
            # One process is one, also inside of a job of SLURM with several tasks.
            plugins=None if world > 1 else [LightningEnvironment()],
        )
        self.is_sharded = world > 1 and strategy == "fsdp"
        if world > 1:
            self._meet(world)
            # Left open, the group's threads can bring a process down when it exits.
            atexit.register(_destroy_process_group)

    def _meet(self, world: int) -> None:
        try:
            with explained_errors():
                self.fabric.launch()
        except RunError as error:
            if error.problem != LOST:
                raise
            place = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
            raise RunError(
                f"{LOST}: the {world} processes did not find each other at {place}",
                expected="all processes started, with an address that each of them reaches",
                hint="check the address, the firewall and the network interface (GLOO_SOCKET_IFNAME, "
                "NCCL_SOCKET_IFNAME), and what the other processes say",
            ) from error

    @property
    def rank(self) -> int:
        """This process, from 0."""
        return self.fabric.global_rank

    @property
    def world_size(self) -> int:
        """The number of processes."""
        return self.fabric.world_size

    @property
    def is_main_process(self) -> bool:
        """Whether this process writes files and reports progress."""
        return self.fabric.is_global_zero

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.fabric.device

    @property
    def fused(self) -> bool | None:
        """Whether optimizers make fused steps, which on a CPU take a fifth of the time; None leaves it to torch."""
        # Scaled gradients of 16 bits could not be clipped before a fused step.
        suits = self.device.type == "cpu" and self.precision != "16-mixed" and not self.is_sharded
        return True if suits else None

    def all_reduce_sum(self, numbers: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        return self.fabric.all_reduce(numbers, reduce_op="sum") if self.world_size > 1 else numbers  # pyright: ignore[reportReturnType]

    def all_gather(self, value: Any) -> list[Any]:
        """One object from every process, in rank order, on every process."""
        if self.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def any_process(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is true in any process."""
        if self.world_size == 1:
            return list(flags)
        return (self.all_reduce_sum(torch.tensor(flags, dtype=torch.float32, device=self.device)) > 0).tolist()

    def require_same(self, facts: Mapping[str, str]) -> None:
        """Refuse processes that differ, such as machines with other versions or other recordings.

        Args:
            facts: what is to be the same, by name.

        Raises:
            RunError: on every process alike; names the first fact that differs, and a process in which it does.
        """
        every = self.all_gather(dict(facts))
        for name in facts:
            for rank, others in enumerate(every):
                if others[name] != every[0][name]:
                    raise RunError(
                        f"the processes differ: {name} is {every[0][name]} in process 0 and {others[name]} in "
                        f"process {rank}",
                        expected="the same on every machine",
                        hint="install the same versions and copy the same recordings and recipe to all machines",
                    )


def _process_counts() -> tuple[int, int]:
    """How many processes there are, and on this machine: as torchrun says, or ``srun`` of SLURM; 1 without them."""
    if "WORLD_SIZE" in os.environ:
        world = int(os.environ["WORLD_SIZE"])
        return world, int(os.environ.get("LOCAL_WORLD_SIZE", world))
    world = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    return world, world // int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))


def _strategy(strategy: ShareStrategy, world: int, time_limit: float) -> Strategy:
    """How processes share the work, for Fabric."""
    limit = timedelta(seconds=time_limit)
    if strategy == "ddp":
        return DDPStrategy(timeout=limit)
    from muybridge.engine.sharding import shard_module  # which takes a while to import

    return ModelParallelStrategy(shard_module, data_parallel_size=world, tensor_parallel_size=1, timeout=limit)


def resolve_precision(precision: Precision, device: str) -> UsedPrecision:
    """The number format that a run computes in.

    Args:
        precision: as the recipe asks for.
        device: "cpu", "cuda" or "mps".

    Raises:
        RunError: the device does not have the number format.

    Warns:
        MuybridgeWarning: the device only emulates bfloat16, many times slower than it computes in float32.
    """
    if precision == "auto":
        return "bf16-mixed" if computes_bfloat16(device) else "32-true"
    if (precision, device) in (("16-mixed", "cpu"), ("64-true", "mps")):
        raise RunError(
            f'train.precision = "{precision}" is not available on {device}',
            expected='"auto", "32-true" or "bf16-mixed"',
            hint='set train.precision = "auto"',
        )
    if precision == "bf16-mixed" and not computes_bfloat16(device):
        factor = f", about {BFLOAT16_SLOWDOWN} times slower than float32" if device == "cpu" else ""
        warnings.warn(
            f"this {'processor' if device == 'cpu' else 'GPU'} only emulates bfloat16{factor}; "
            'train.precision = "auto" chooses float32 here',
            MuybridgeWarning,
            stacklevel=3,
        )
    return precision


def computes_bfloat16(device: str) -> bool:
    """Whether a device multiplies in bfloat16 with units of its own and does not only emulate it.

    Args:
        device: "cpu" (AVX512_BF16, AMX or ARM's BF16 extension), "cuda" (compute capability 8.0 or ROCm), or another
            one, for which the answer is no: it is not known to pay.
    """
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and torch.backends.mkldnn.is_available() and bool(_CPU_FLAGS & _cpu_flags())


_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Linux's names of the instructions; "bf16" is ARM's."""


def _cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """The instruction sets of the processor, by Linux's names."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return {"avx512_bf16"} if _torch_finds_bfloat16() else set()
    line = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return set(line.partition(":")[2].split())


def _torch_finds_bfloat16() -> bool:
    """PyTorch's own answer, which it gives for x86 alone."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(check() for check in checks if check is not None)


@contextmanager
def explained_errors() -> Iterator[None]:
    """Turn lack of memory and the death of loading processes into RunErrors that say what to do."""
    try:
        with explained_failures():
            yield
    except RuntimeError as error:
        text = str(error)
        if _is_of_processes(error, text):
            raise RunError(
                LOST,
                expected="all processes, until the end",
                hint="its own message, further up or in the output of its machine, says why; "
                "`muybridge train --run DIR --resume` goes on from what was saved last",
            ) from error
        on_gpu = isinstance(error, torch.OutOfMemoryError)
        if not on_gpu and "can't allocate memory" not in text and "not enough memory" not in text:
            raise
        raise RunError(
            f"out of memory on the {'GPU' if on_gpu else 'CPU'}",
            expected="room for a batch, its activations and the optimizer",
            hint="raise train.accumulate_steps (of networks with batch normalization that changes results), or lower "
            "train.batch_size or model.size",
        ) from error


LOST = "another process of this training has ended, or did not answer in time"

_SIGNS = (
    *("Connection closed by peer", "Connection reset by peer", "Connection refused", "Broken pipe"),
    *("Timed out waiting", "Timeout waiting", "timed out", "Application timeout", "connectFullMesh failed"),
    *("NCCL", "gloo", "Gloo"),
)
"""What messages of torch contain where another process is gone."""


def _is_of_processes(error: RuntimeError, text: str) -> bool:
    """Whether an error is that of communication with other processes."""
    if isinstance(error, torch.distributed.DistError):
        return True
    return torch.distributed.is_initialized() and any(words in text for words in _SIGNS)


def _accelerator(device: str) -> str:
    """The device that is asked for, or the first that is there; raises RunError if it is not there."""
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    if device not in ("cpu", "cuda", "mps"):
        raise RunError(
            f"there is no device {device!r}",
            expected="auto, cpu or cuda",
            hint="leave the device out, which takes the GPU where there is one",
        )
    if device == "cuda" and not torch.cuda.is_available():
        built = cast("str | None", torch.version.cuda or torch.version.hip)
        raise RunError(
            "--device cuda, and PyTorch finds no GPU" + ("" if built else ": this is its CPU build"),
            expected="a GPU with its driver, and PyTorch's build for it",
            hint="use --device cpu, or install PyTorch for your GPU (`nvidia-smi` shows whether the driver runs)",
        )
    return device


def _destroy_process_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
