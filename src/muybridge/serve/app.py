"""The HTTP interface: its routes, what they take and answer, and how errors are answered."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query, Request, WebSocket
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as AnyHTTPException

import muybridge
from muybridge.core.errors import MuybridgeError, RequestError
from muybridge.predict import Predictor
from muybridge.serve.answers import (
    ErrorAnswer,
    HealthAnswer,
    JointsAnswer,
    MapsAnswer,
    ModelsAnswer,
    PredictAnswer,
    TimelineAnswer,
    as_request_error,
    error_answer,
)
from muybridge.serve.config import ServeConfig
from muybridge.serve.guard import Guard
from muybridge.serve.metrics import CONTENT_TYPE_LATEST, Metrics
from muybridge.serve.progress import LINES, ProgressResponse
from muybridge.serve.reference import reference_page
from muybridge.serve.service import Service
from muybridge.serve.stream import accept, answer_stream, end_with
from muybridge.serve.stream_worker import StreamSettings
from muybridge.timeline import FORMATS, TimelineConfig
from muybridge.timeline.timeline import DEFAULT_FPS

DESCRIPTION = """Recognize actions in recordings: one label for a recording, or a timeline of a long one.

A recording is the body of a request, or a file in a form (`multipart/form-data`). Of its name, in `filename` or in the
form, only the ending counts. Every error has the three parts `problem`, `expected` and `hint`.

Live frames go to the WebSocket `/v1/stream` (`model`, `window`, `hop`, `top`): JPEG images in, answers out."""

STATIC = Path(__file__).parent / "static"
MEDIA_TYPES = {
    "jsonl": LINES,
    "csv": "text/csv; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "activitynet": "application/json",
}
_STATUSES = {
    400: "Without a recording, or with one that is cut off.",
    401: "The token is missing or wrong.",
    403: "The header Host or Origin is that of another place.",
    404: "There is no such model.",
    408: "The body stopped, or arrives too slowly.",
    413: "The recording crosses a limit of the server.",
    415: "The file is not of a kind that the model takes.",
    422: "The recording cannot be read, or a parameter is not valid.",
    429: "Too many requests are waiting; see the header Retry-After.",
    500: "A fault of the server.",
    503: "The work was not done in time, or its process was ended; see the header Retry-After.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer, "description": text} for status, text in _STATUSES.items()
}
_FILE = {"schema": {"type": "string", "format": "binary"}}
BODY = {
    "requestBody": {
        "required": True,
        "description": "The recording.",
        "content": {
            "application/octet-stream": _FILE,
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": _FILE["schema"]}, "required": ["file"]}
            },
        },
    }
}

ModelName = Annotated[str | None, Query(description="The name of a model; by default the first.")]
Seconds = Annotated[float, Query(ge=0, le=600, allow_inf_nan=False)]
FileName = Annotated[str, Query(max_length=1000, description="The name of the file that is the body.")]


def make_app(predictors: Mapping[str, Predictor], config: ServeConfig | None = None) -> FastAPI:
    """The application, for any ASGI server; its workers run from its startup to its shutdown.

    Args:
        predictors: by the names that requests use; the first is the default.
        config: of the server; ``host`` and ``port`` do not matter here.
    """
    config = config or ServeConfig()
    service = Service(predictors, config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.stop)

    app = FastAPI(
        title="muybridge",
        version=muybridge.__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    _add_errors(app)
    _add_reads(app, service)
    _add_predictions(app, service)
    _add_joints(app, service)
    _add_maps(app, service)
    _add_stream(app, service)
    app.add_middleware(Measured, metrics=service.metrics)
    app.add_middleware(Guard, config=config)
    return app


def _add_reads(app: FastAPI, service: Service) -> None:
    """The routes that need no recording."""

    @app.get("/v1/models", summary="The models and the limits", responses={401: ERRORS[401], 403: ERRORS[403]})
    async def models() -> ModelsAnswer:
        limits = service.config.limits
        sizes = {"bytes": limits.bytes, "seconds": limits.seconds, "frames": limits.frames, "pixels": limits.pixels}
        sizes["frame_bytes"] = limits.frame_bytes
        return ModelsAnswer(models=service.models(), limits=sizes)

    @app.get("/healthz", summary="Whether the server works", responses={403: ERRORS[403]})
    async def health() -> HealthAnswer:
        workers = len(service.pool.processes())
        return HealthAnswer(status="ok" if workers else "starting", workers=workers, requests=service.in_progress)

    @app.get(
        "/metrics",
        summary="Counters for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, 401: ERRORS[401], 403: ERRORS[403], 404: ERRORS[404]},
    )
    async def metrics() -> Response:
        if not service.config.alone:
            raise RequestError(
                "each replica counts for itself",
                expected="the counters of the cluster",
                hint="ask the metrics endpoints of Ray's machines, see docs/scale.md",
                status=404,
            )
        return Response(service.refresh_metrics().text(), media_type=CONTENT_TYPE_LATEST)

    app.mount("/static", StaticFiles(directory=STATIC))

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> FileResponse:
        return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(reference_page(app.openapi()))


def _add_predictions(app: FastAPI, service: Service) -> None:
    """The routes that take a recording."""

    @app.post("/v1/predict", summary="The action in a recording", responses=ERRORS, openapi_extra=BODY)
    async def predict(
        request: Request,
        model: ModelName = None,
        filename: FileName = "",
        top: Annotated[int, Query(ge=1, le=10_000, description="How many classes, best first.")] = 5,
    ) -> PredictAnswer:
        del filename  # the upload reads it
        return await service.predict(request, service.choose(model), top)

    @app.post(
        "/v1/timeline",
        summary="When actions happen in a long recording",
        description=f"With the header `Accept: {LINES}` the answer comes in lines: `progress` (the share that is done) "
        "while it is computed, then `timeline` or `error`.",
        response_model=TimelineAnswer,
        responses=ERRORS,
        openapi_extra=BODY,
    )
    async def timeline(
        request: Request,
        config: Annotated[TimelineConfig, Depends(_timeline_config)],
        model: ModelName = None,
        filename: FileName = "",
        format: Annotated[
            Literal["json", "jsonl", "csv", "vtt", "srt", "activitynet"], Query(description="Of the answer.")
        ] = "json",
    ) -> Response | TimelineAnswer:
        del filename
        name = service.choose(model)
        if LINES in request.headers.get("accept", ""):
            return ProgressResponse(service, name, config)
        async with service.upload(request, name) as upload:
            found, facts = await service.timeline(upload, name, config)
        if format == "json":
            return TimelineAnswer.of(name, found, facts)
        return Response(FORMATS[format]([found]), media_type=MEDIA_TYPES[format])


def _add_joints(app: FastAPI, service: Service) -> None:
    """The route that gives skeletons to draw."""

    @app.post("/v1/joints", summary="The joints of a recording, to draw them", responses=ERRORS, openapi_extra=BODY)
    async def joints(
        request: Request,
        model: ModelName = None,
        filename: FileName = "",
        fps: Annotated[float, Query(ge=0, le=600, description="Frames a second; 0: 30.")] = 0.0,
    ) -> JointsAnswer:
        del filename
        return await service.joints(request, service.choose(model), fps or DEFAULT_FPS)


def _add_maps(app: FastAPI, service: Service) -> None:
    """The route that gives what a model attends to."""

    @app.post(
        "/v1/maps", summary="What the model attends to in a video, over time", responses=ERRORS, openapi_extra=BODY
    )
    async def maps(
        request: Request,
        model: ModelName = None,
        filename: FileName = "",
        window: Annotated[Seconds, Query(description="Of a window; 0: the median of training.")] = 0.0,
    ) -> MapsAnswer:
        del filename
        return await service.maps(request, service.choose(model), window)


def _add_stream(app: FastAPI, service: Service) -> None:
    """The WebSocket that takes live frames."""

    @app.websocket("/v1/stream")
    async def stream(
        socket: WebSocket,
        model: ModelName = None,
        window: Annotated[float, Query(ge=0, le=60, allow_inf_nan=False)] = 0.0,
        hop: Annotated[float | None, Query(ge=0, le=60, allow_inf_nan=False)] = None,
        top: Annotated[int, Query(ge=1, le=10_000)] = 5,
    ) -> None:
        await answer_stream(socket, service, model, StreamSettings(window, hop, top))


Probability = Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)]


def _timeline_config(
    window: Annotated[Seconds, Query(description="Of the window; 0: the median of training.")] = 0.0,
    hop: Annotated[Seconds, Query(description="From a window to the next; 0: a quarter of the window.")] = 0.0,
    fps: Annotated[Seconds, Query(description="Frames a second of skeletons; 0: 30.")] = 0.0,
    smoothing: Annotated[Seconds, Query(description="Standard deviation of the Gaussian along time.")] = 0.0,
    high: Annotated[Probability, Query(description="A segment reaches this probability.")] = 0.5,
    low: Annotated[Probability, Query(description="A segment ends below this probability.")] = 0.3,
    shortest: Annotated[
        Seconds | None, Query(description="Shorter segments and gaps are removed; by default half the window.")
    ] = None,
    ignore: Annotated[list[str] | None, Query(description="Classes that are no action.", max_length=1000)] = None,
) -> TimelineConfig:
    """How a timeline is made, from the query."""
    least = -1.0 if shortest is None else shortest
    return TimelineConfig(window, hop, smoothing, high, low, least, tuple(ignore or ()), fps)


def _add_errors(app: FastAPI) -> None:
    """Every error in the three parts."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, MuybridgeError)
        return error_response(as_request_error(error))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return error_response(_invalid(error.errors()))

    async def invalid_stream(socket: WebSocket, error: Exception) -> None:
        assert isinstance(error, WebSocketRequestValidationError)
        await accept(socket)
        await end_with(socket, _invalid(error.errors()))

    async def of_routing(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, AnyHTTPException)
        problem = RequestError(
            error.detail or "the request is not understood",
            expected="a path and a method of this server",
            hint="see /docs",
            status=error.status_code,
        )
        response = error_response(problem)
        response.headers.update(error.headers or {})
        return response

    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        problem = RequestError(
            f"a fault of the server ({type(error).__name__})",
            expected="an answer",
            hint="the log of the server has the details",
            status=500,
        )
        return error_response(problem)

    app.add_exception_handler(MuybridgeError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(WebSocketRequestValidationError, invalid_stream)  # pyright: ignore[reportArgumentType]
    app.add_exception_handler(AnyHTTPException, of_routing)
    app.add_exception_handler(Exception, unforeseen)


def _invalid(errors: Sequence[Any]) -> RequestError:
    """The first parameter that is wrong."""
    place = ".".join(str(part) for part in errors[0]["loc"][1:])
    return RequestError(
        f"the parameter {place}: {errors[0]['msg']}", expected="valid parameters", hint="see /docs", status=422
    )


def error_response(error: RequestError) -> JSONResponse:
    """The answer for an error."""
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
    return JSONResponse(error_answer(error).model_dump(), error.status, headers=headers)


class Measured:
    """An ASGI middleware that counts requests by route and status.

    Args:
        app: what is measured.
        metrics: where.
    """

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Passes a request on, and counts it at its end."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 500

        async def send_and_note(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.request_seconds.labels(route).observe(time.monotonic() - began)
