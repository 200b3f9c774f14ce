"""Live frames over a WebSocket: JPEG images in, answers out, one credit a frame, always up to the newest frame."""

import asyncio
import json
import math
from contextlib import suppress

from fastapi import WebSocket

from muybridge.core.errors import MuybridgeError, RequestError
from muybridge.serve.answers import as_request_error, error_answer
from muybridge.serve.guard import TOKEN_PROTOCOL
from muybridge.serve.live_stream import CREDITS, LiveStream, violation
from muybridge.serve.service import Service
from muybridge.serve.stream_worker import StreamSettings

PROTOCOL = "muybridge"
"""The protocol that is accepted where a client offers one, as pages do that send a token."""

_CODES = {413: 1009, 429: 1013, 503: 1013, 500: 1011}
"""The code by which a WebSocket is closed, by the status of the error; for others 1008."""


async def answer_stream(socket: WebSocket, service: Service, model: str | None, settings: StreamSettings) -> None:
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


async def _receive(socket: WebSocket, stream: LiveStream, service: Service) -> None:
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
            raise violation(idle, "frames of a live source", "connect again when there are frames", 408) from None
        if message["type"] == "websocket.disconnect":
            return
        if (frame := message.get("bytes")) is None:
            if seconds is not None:
                raise violation("two times without a frame between them", "one time before a frame", "send the frame")
            seconds = read_time(message.get("text") or "")
            continue
        if len(frame) > limits.frame_bytes:
            raise violation(
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
        raise violation("a text message that is no time", '{"seconds": 12.5}, or only frames', "correct the message")
    return seconds


async def _send(socket: WebSocket, stream: LiveStream, service: Service, model: str) -> None:
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
            raise violation(reason, "a client that reads what it is sent", "connect again", 408) from None
        stream.told(kind, content)
        if kind == "credit":
            service.metrics.frames.inc(content)
