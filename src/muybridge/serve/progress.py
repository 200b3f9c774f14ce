"""An answer in lines of JSON that says how far the work is while it is done."""

import asyncio
import json
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from muybridge.core.errors import RequestError
from muybridge.serve.answers import TimelineAnswer, error_answer
from muybridge.serve.service import Service
from muybridge.timeline import TimelineConfig

LINES = "application/x-ndjson"
"""The content type of lines of JSON."""


class ProgressResponse(Response):
    """Receives the recording of a request and answers with its timeline, in lines.

    A request that is refused before the work begins is answered as any other, by its status.

    Args:
        service: which computes.
        model: the name of the model.
        config: of the timeline.
    """

    media_type = LINES

    def __init__(self, service: Service, model: str, config: TimelineConfig) -> None:
        super().__init__()
        self.service, self.model, self.config = service, model, config
        del self.headers["content-length"]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request."""
        started = False

        async def line(**content: Any) -> None:
            await send({"type": "http.response.body", "body": json.dumps(content).encode() + b"\n", "more_body": True})

        try:
            async with self.service.upload(Request(scope, receive), self.model) as upload:
                changes: asyncio.Queue[float] = asyncio.Queue()
                loop = asyncio.get_running_loop()
                work = asyncio.create_task(
                    self.service.timeline(
                        upload,
                        self.model,
                        self.config,
                        lambda done, total: loop.call_soon_threadsafe(changes.put_nowait, done / total),  # pyright: ignore
                    )
                )
                try:
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                    started = True
                    await line(progress=0.0)
                    while not work.done():
                        change = asyncio.create_task(changes.get())
                        await asyncio.wait({work, change}, return_when=asyncio.FIRST_COMPLETED)
                        if change.done():
                            await line(progress=round(change.result(), 4))
                        change.cancel()
                    found, facts = await work
                finally:
                    work.cancel()
                answer = TimelineAnswer.of(self.model, found, facts)
                await line(timeline=answer.model_dump(mode="json"))
        except RequestError as problem:
            body = error_answer(problem).model_dump()
            if not started:
                headers = {"Retry-After": str(problem.retry_after)} if problem.retry_after else None
                await JSONResponse(body, problem.status, headers=headers)(scope, receive, send)
                return
            await line(**body)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
