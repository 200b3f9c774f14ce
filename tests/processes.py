"""Processes that train together, forked from one that has imported torch: a test waits for its import only once."""

import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CONTEXT: Any = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["muybridge.engine.train", "muybridge.engine.sharding"])

STOPPED, LOST = 130, 3
"""The exit status of a process that was asked to stop, and of one that has lost another."""

NAMESPACE, CLOCK = "MUYBRIDGE_TEST_NAMESPACE", "MUYBRIDGE_TEST_CLOCK"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def started(target: Any, environments: list[dict[str, str]], *arguments: object) -> Iterator[list[Any]]:
    """Processes that call a function, each with its environment; those that still run are ended with the block."""
    processes = [_CONTEXT.Process(target=_run, args=(target, each, *arguments)) for each in environments]
    try:
        for process in processes:
            process.start()
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()


def run_together(target: Any, environments: list[dict[str, str]], *arguments: object) -> list[int]:
    """The exit status of each process."""
    with started(target, environments, *arguments) as processes:
        for process in processes:
            process.join(120)
        return [process.exitcode for process in processes]


def torchrun(world: int) -> list[dict[str, str]]:
    """What torchrun sets for each process of this machine."""
    same = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "TORCHELASTIC_RUN_ID": "none"}
    same |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    return [same | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(world)]


def in_namespaces(names: list[str], addresses: list[str], links: list[str]) -> list[dict[str, str]]:
    """What torchrun sets for one process on each of several hosts: network namespaces, whose clocks are a day apart."""
    same = {"MASTER_ADDR": addresses[0], "MASTER_PORT": "29500", "TORCHELASTIC_RUN_ID": "none", "LOCAL_RANK": "0"}
    same |= {"WORLD_SIZE": str(len(names)), "LOCAL_WORLD_SIZE": "1"}
    places = enumerate(zip(names, links, strict=True))
    return [
        same | {"RANK": str(rank), NAMESPACE: name, CLOCK: str(rank * 86_400), "GLOO_SOCKET_IFNAME": link}
        for rank, (name, link) in places
    ]


def slurm(world: int) -> list[dict[str, str]]:
    """What ``srun`` sets for each task of a job on one machine."""
    same = {"SLURM_JOB_ID": "1", "SLURM_NODELIST": "127.0.0.1", "SLURM_NODEID": "0", "SLURM_NNODES": "1"}
    same |= dict.fromkeys(("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"), str(world))
    same["MASTER_PORT"] = str(free_port())
    return [same | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(world)]


def _run(target: Any, environment: Mapping[str, str], *arguments: object) -> None:
    os.environ.update(environment)
    if CLOCK in environment:
        now = time.time
        time.time = lambda: now() + float(environment[CLOCK])
    if name := environment.get(NAMESPACE):
        with Path("/run/netns", name).open() as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")
    target(*arguments)


# What they do


def gather(folder: Path, seconds: float = 60.0) -> None:
    """Leave a file with what every process has said, or why none has."""
    from muybridge.core.errors import RunError
    from muybridge.engine.runtime import Runtime

    try:
        runtime = Runtime("32-true", "cpu", time_limit=seconds)
    except RunError as problem:
        (folder / "error").write_text(str(problem))
        sys.exit(LOST)
    (folder / str(runtime.rank)).write_text(f"{runtime.all_gather(runtime.rank)} {runtime.world_size}")


def evaluate_run(run: Path, changed: str) -> None:
    """Test a run, whose weights one process may see changed."""
    from muybridge.core.errors import RunError
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.evaluate import evaluate
    from muybridge.engine.runtime import Runtime

    if changed and os.environ["RANK"] == "1":
        RunFolder.weights_checksum = lambda self: changed
    try:
        evaluate(RunFolder.open(run), runtime=Runtime("64-true", "cpu"))
    except RunError as problem:
        sys.exit(LOST if "the processes differ: the checksum of the weights is" in str(problem) else 1)


def train_until(recipe: Any, run: Path, event: str) -> None:
    """Train, or go on; at the third step one process is stopped, killed or hangs."""
    from muybridge.core.errors import RunError
    from muybridge.engine import runtime as engine
    from muybridge.engine.interrupt import InterruptedTrainingError
    from muybridge.engine.journal import Reporter
    from muybridge.engine.train import train

    class Report(Reporter):
        done = 0

        def step(self) -> None:
            self.done += 1
            if self.done == 3:
                _happen(event, os.environ["RANK"])

    limit = 5.0 if event == "hang" else 100.0
    runtime = engine.Runtime("32-true", "cpu", recipe.train.strategy, time_limit=limit)
    try:
        train(recipe, run, resume=run.exists(), report=Report(quiet=True), runtime=runtime)
    except InterruptedTrainingError:
        sys.exit(STOPPED)
    except RunError as problem:
        sys.exit(LOST if engine.LOST in str(problem) else 1)


def _happen(event: str, rank: str) -> None:
    if (event, rank) == ("stop", "0"):
        os.kill(os.getpid(), signal.SIGTERM)
    if (event, rank) == ("kill", "1"):
        os.kill(os.getpid(), signal.SIGKILL)
    if (event, rank) == ("hang", "1"):
        time.sleep(1000)
