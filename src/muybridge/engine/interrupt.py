"""Stopping on request: Ctrl-C or SIGTERM ends the work at the next step, after everything is saved."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from muybridge.core.errors import RunError

_SAME_REQUEST = 1.0  # seconds


class InterruptedTrainingError(RunError):
    """The training was asked to stop; everything up to here is saved."""

    exit_status = 130


class TimeUsedUpError(InterruptedTrainingError):
    """The training reached its time limit; everything up to here is saved."""


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that receives the signal when somebody presses Ctrl-C or sends SIGTERM; a second one stops at once.

    One within a second is the same request: a terminal sends it to all processes, and a launcher passes it on.
    """
    received: list[int] = []
    first = 0.0
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def handle(signum: int, _frame: Any) -> None:
        nonlocal first
        if not received:
            received.append(signum)
            first = time.monotonic()
        elif time.monotonic() - first > _SAME_REQUEST:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
