"""Live frames over a WebSocket: JPEG images in, answers out, one credit a frame, always up to the newest frame."""

import asyncio
import json
import math
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import WebSocket

from muybridge.core.errors import MuybridgeError, RequestError
from muybridge.serve.answers import as_request_error, error_answer
from muybridge.serve.guard import TOKEN_PROTOCOL
from muybridge.serve.pool import Pool, died, too_slow
from muybridge.serve.stream_worker import NAME, StreamSettings

if TYPE_CHECKING:
    from muybridge.serve.service import Service

CREDITS = 8
"""Frames that a client may have sent and the server not looked at yet."""

PROTOCOL = "muybridge"
"""The protocol that is accepted where a client offers one, as pages do that send a token."""

_CODES = {413: 1009, 429: 1013, 503: 1013, 500: 1011}
"""The code by which a WebSocket is closed, by the status of the error; for others 1008."""


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
            raise _violation(
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


async def answer_stream(socket: WebSocket, service: "Service", model: str | None, settings: StreamSettings) -> None:
    """Answers one client until it leaves, or does what is not allowed."""
    await accept(socket)
    try:
        name = service.choose(model)
        async with service.stream(name, settings) as stream:
            sending = asyncio.create_task(_send(socket, stream, service, name))
            receiving = asyncio.create_task(_receive(socket, stream, service))
            try:
                done, _ = await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                receiving.cancel()
                await asyncio.gather(sending, receiving, return_exceptions=True)
            for task in done:
                task.result()
    except RequestError as problem:
        await end_with(socket, problem)


async def accept(socket: WebSocket) -> None:
    """Accepts a WebSocket; the token, which was checked, is not repeated."""
    offered = [name for name in socket.scope.get("subprotocols", []) if not name.startswith(TOKEN_PROTOCOL)]
    await socket.accept(subprotocol=PROTOCOL if PROTOCOL in offered else None)


async def end_with(socket: WebSocket, problem: RequestError) -> None:
    """Tells a client why its WebSocket is closed, and closes it."""
    with suppress(Exception):  # it may be gone
        async with asyncio.timeout(5):
            await socket.send_text(error_answer(problem).model_dump_json())
            await socket.close(_CODES.get(problem.status, 1008), problem.problem[:100])


async def _receive(socket: WebSocket, stream: LiveStream, service: "Service") -> None:
    """Takes frames until the client closes; raises RequestError for what is not allowed."""
    limits, seconds = service.config.limits, None
    while True:
        try:
            async with asyncio.timeout(limits.idle_seconds - stream.idle_seconds):
                message = await socket.receive()
        except TimeoutError:
            if stream.idle_seconds < limits.idle_seconds:
                continue
            idle = f"no frame for {limits.idle_seconds:g} s"
            raise _violation(idle, "frames of a live source", "connect again when there are frames", 408) from None
        if message["type"] == "websocket.disconnect":
            return
        if (frame := message.get("bytes")) is None:
            if seconds is not None:
                raise _violation("two times without a frame between them", "one time before a frame", "send the frame")
            seconds = read_time(message.get("text") or "")
            continue
        if len(frame) > limits.frame_bytes:
            raise _violation(
                f"a frame of {len(frame)} bytes", f"at most {limits.frame_bytes} bytes", "send smaller frames", 413
            )
        stream.put(frame, seconds)
        seconds = None


def read_time(text: str) -> float:
    """The time in a text message ``{"seconds": 12.5}``; raises RequestError for anything else."""
    try:
        content = json.loads(text)
        seconds = float(content["seconds"]) if isinstance(content, dict) else math.nan
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        seconds = math.nan
    if not 0 <= seconds < 1e12:
        raise _violation("a text message that is no time", '{"seconds": 12.5}, or only frames', "correct the message")
    return seconds


async def _send(socket: WebSocket, stream: LiveStream, service: "Service", model: str) -> None:
    """Sends what the process says, until it ends; raises RequestError where that is a fault."""
    seconds = service.config.limits.idle_seconds
    while True:
        kind, content = await stream.messages.get()
        message = content
        match kind:
            case "end" if content is None:
                return
            case "end":
                raise as_request_error(content) if isinstance(content, MuybridgeError) else content
            case "ready":
                window, hop = content
                message = {"model": model, "window": round(window, 3), "hop": round(hop, 3), "credits": CREDITS}
            case "answer":
                message = content.as_dict()
        try:
            async with asyncio.timeout(seconds):
                await socket.send_text(json.dumps({kind: message}))
        except TimeoutError:
            reason = f"the client takes no answer for {seconds:g} s"
            raise _violation(reason, "a client that reads what it is sent", "connect again", 408) from None
        stream.told(kind, content)
        if kind == "credit":
            service.metrics.frames.inc(content)


def _violation(problem: str, expected: str, hint: str, status: int = 400) -> RequestError:
    return RequestError(problem, expected=expected, hint=hint, status=status)
