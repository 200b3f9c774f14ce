"""The frames of one client on their way to a process, and its answers on their way back."""

import asyncio
import math
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from muybridge.core.errors import RequestError
from muybridge.serve.pool import Pool, died, too_slow
from muybridge.serve.stream_worker import NAME, StreamSettings

CREDITS = 8
"""Frames that a client may have sent and the server not looked at yet."""


class LiveStream:
    """The frames of one client on their way to a process, and what it answers.

    Frames that wait are taken together and answered once, so that an answer is never older than the newest of them.

    Args:
        pool: starts the process, and computes outputs for it.
        model: its name.
        settings: of the stream.

    Attributes:
        messages: what the process says, by kind; ``end`` with an error or None is the last.
        process: its number, once it runs.
    """

    def __init__(self, pool: Pool, model: str, settings: StreamSettings) -> None:
        self.pool, self.model = pool, model
        self.messages: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[bytes, float, float]] = []
        self._outstanding = 0
        self._idle_since = math.inf  # until the process is ready
        self._changed = threading.Condition()
        self._closed = False
        self.process: int | None = None
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, args=(settings,), daemon=True)
        self._thread.start()

    def put(self, frame: bytes, seconds: float | None) -> None:
        """Take a frame.

        Args:
            frame: a JPEG image.
            seconds: its time by the client's clock; None takes that of its arrival.

        Raises:
            RequestError: the client has no credit left.
        """
        if self._outstanding >= CREDITS:
            raise violation(
                "a frame without a credit", f"at most {CREDITS} frames ahead", "wait for a message with credit"
            )
        self._outstanding += 1
        now = time.monotonic()
        with self._changed:
            self._waiting.append((frame, now - self._began if seconds is None else seconds, now))
            self._changed.notify()

    def told(self, kind: str, content: Any) -> None:
        """The client was sent a message, such as that the process is ready or that so many frames were looked at."""
        if kind == "credit":
            self._outstanding -= content
        if kind in ("ready", "credit"):
            self._idle_since = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """For how long the client has sent nothing though it could."""
        return 0.0 if self._outstanding else max(0.0, time.monotonic() - self._idle_since)

    def close(self) -> None:
        """End the process; what it computes is lost."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self, settings: StreamSettings) -> None:
        problem: Exception | None = None
        worker = None
        try:
            worker = self.pool.start_stream(self.model, settings)
            self.process = worker.process.pid
            self._follow(worker)
        except (EOFError, ConnectionResetError, BrokenPipeError):
            assert worker is not None
            worker.process.join(1)
            problem = died(NAME, worker.process.exitcode)
        except Exception as error:  # noqa: BLE001 - it belongs to the client
            problem = error
        finally:
            if worker is not None:
                worker.close()
        self._deliver("end", problem)

    def _follow(self, worker: Any) -> None:
        """Answers what the process asks for, and passes on what it says, until the stream is closed."""
        connection, arrived = worker.connection, 0.0
        while not self._closed:
            if not connection.poll(self.pool.limits.opening_seconds):
                raise too_slow(NAME, self.pool.limits.opening_seconds)
            kind, content = connection.recv()
            match kind:
                case "next":
                    if not (frames := self._take()):
                        return
                    arrived = frames[-1][2]
                    connection.send([(frame, seconds) for frame, seconds, _ in frames])
                    self._deliver("credit", len(frames))
                case "forward":
                    connection.send(self.pool.forward(self.model, *content))
                case "answer":
                    self._deliver(kind, replace(content, lag=time.monotonic() - arrived))
                case "failed":
                    raise content
                case _:
                    self._deliver(kind, content)

    def _take(self) -> list[tuple[bytes, float, float]]:
        """All frames that wait, as soon as there are any; none once the stream is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            taken, self._waiting = self._waiting, []
            return [] if self._closed else taken

    def _deliver(self, kind: str, content: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.messages.put_nowait, (kind, content))


def violation(problem: str, expected: str, hint: str, status: int = 400) -> RequestError:
    """The error of a client that does what is not allowed."""
    return RequestError(problem, expected=expected, hint=hint, status=status)
