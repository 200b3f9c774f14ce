"""Processes that load samples: a stop signal does not end them before the training has saved."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from muybridge.core.errors import RunError
from muybridge.core.processes import require_main_guard

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class WorkerLoader(DataLoader[Any]):
    """A ``DataLoader`` whose worker processes leave stop signals to the process that started them.

    SLURM, ``docker stop`` and Ctrl-C send a signal to every process of a group. Were workers to end by it, the training
    could not finish its step and save.

    Raises:
        RunError: when workers start, and the main script would run again in each of them.
    """

    def __init__(self, *args: Any, num_workers: int = 0, **options: Any) -> None:
        super().__init__(
            *args,
            num_workers=num_workers,
            worker_init_fn=ignore_stop_signals,
            multiprocessing_context="spawn" if num_workers else None,
            **options,
        )

    def __iter__(self) -> Any:
        if not self.num_workers:
            return super().__iter__()
        require_main_guard("train.num_workers = 0")
        # Processes inherit the blocked signals, which thus cannot end them before they ignore them.
        with _blocked_signals():
            return super().__iter__()

    def close(self) -> None:
        """End the worker processes and wait for them; a loader that is iterated again starts new ones.

        A process that still starts ignores the signal by which PyTorch ends it. It would fail with a traceback where
        the queues that it opens are gone.
        """
        iterator, self._iterator = self._iterator, None
        if not isinstance(iterator, _MultiProcessingDataLoaderIter):
            return
        try:
            iterator._shutdown_workers()
        except RuntimeError as error:  # one that aborts while it is ended has nothing left to do
            if "DataLoader worker" not in str(error):
                raise
        for process in iterator._workers:
            process.kill()
            process.join()


def ignore_stop_signals(_worker: int = 0) -> None:
    """Ignore Ctrl-C and the first SIGTERM, which is meant for the main process; the second one ends this process."""
    received: list[int] = []

    def end_at_second(signum: int, _frame: Any) -> None:
        received.append(signum)
        if len(received) > 1:
            os._exit(128 + signum)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_at_second)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


@contextmanager
def explained_failures() -> Iterator[None]:
    """Turn the death of a loading process, which PyTorch raises in whatever line is running, into a RunError."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "DataLoader worker" not in text:
            raise
        shared = "Bus error" in text or "shared memory" in text
        raise RunError(
            "a loading process died" + (" of a lack of shared memory" if shared else f" ({_reason(text)})"),
            expected="room in /dev/shm for the batches that are handed over" if shared else "enough memory for each",
            hint="set train.num_workers = 0 or lower it"
            + (
                ", or raise the limit, such as with `docker run --shm-size 8g`"
                if shared
                else ", or lower train.batch_size"
            ),
        ) from error


def _reason(text: str) -> str:
    _, _, name = text.partition("killed by signal: ")
    return f"killed by signal {name.split('.')[0]}" if name else "it exited unexpectedly"


@contextmanager
def _blocked_signals() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # it unblocks the signals where it starts, so it starts before
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
