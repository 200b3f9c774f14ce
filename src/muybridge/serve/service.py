"""What the server does with a request: admits it, receives its recording, has it read and computed."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from fastapi import Request

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import MuybridgeError, RequestError
from muybridge.data.prepare import collate_inputs
from muybridge.media.skeleton import SUFFIXES as SKELETON_SUFFIXES
from muybridge.media.video import SUFFIXES as VIDEO_SUFFIXES
from muybridge.predict import Predictor
from muybridge.serve.answers import (
    JointsAnswer,
    MapsAnswer,
    ModelAnswer,
    PredictAnswer,
    SkeletonLayout,
    as_request_error,
)
from muybridge.serve.batcher import Batcher
from muybridge.serve.config import ServeConfig
from muybridge.serve.live_stream import LiveStream
from muybridge.serve.metrics import Metrics
from muybridge.serve.pool import Pool, Task, too_slow
from muybridge.serve.receive import Upload, received
from muybridge.serve.stream_worker import StreamSettings
from muybridge.serve.temporary import upload_folder
from muybridge.serve.worker import Facts, Job, expects_skeletons
from muybridge.timeline import Timeline, TimelineConfig, TimelinePredictor

Progress = Callable[[int, int], None]

CLIENT_GONE = 499
"""The status, in the counters alone, of requests whose client closed the connection."""


class Service:
    """The models of a server and what computes with them; works between :meth:`start` and :meth:`stop`.

    Args:
        predictors: by the names that requests use; the first is the default.
        config: of the server.
    """

    def __init__(self, predictors: Mapping[str, Predictor], config: ServeConfig) -> None:
        self.predictors, self.config, self.metrics = dict(predictors), config, Metrics()
        self.in_progress = 0
        self.streams: set[LiveStream] = set()
        self._mean_seconds = 1.0
        self._resources = ExitStack()
        self.folder: Path
        self.pool: Pool
        self.batcher: Batcher

    def start(self) -> None:
        """Starts the workers.

        Raises:
            RunError: a script without ``if __name__ == "__main__":`` would be run again by each of them.
        """
        config = self.config
        self.folder = self._resources.enter_context(upload_folder())
        delay = config.max_delay
        if delay is None:
            delay = 0.0 if all(one.device.type == "cpu" for one in self.predictors.values()) else 0.005
        self.batcher = Batcher(self.predictors, config.batch, delay, self.metrics.batch_size.observe)
        self._resources.callback(self.batcher.close)
        self.pool = Pool(self.predictors, self.batcher, config.workers, config.limits)
        self._resources.callback(self.pool.close)
        self._resources.callback(self._end_streams)

    def stop(self) -> None:
        """Finishes what was begun, ends the workers, and removes the temporary files."""
        self._resources.close()

    @property
    def is_alive(self) -> bool:
        """Whether recordings are read."""
        return self.pool.is_alive

    def choose(self, model: str | None) -> str:
        """The name of the model that a request means; raises RequestError for one that there is not."""
        names = list(self.predictors)
        if model is None or model in names:
            return model or names[0]
        raise RequestError(
            f"there is no model {model!r}", expected=f"one of {', '.join(names)}", hint="see /v1/models", status=404
        )

    def models(self) -> list[ModelAnswer]:
        """The models of the server."""
        return [_describe(name, predictor) for name, predictor in self.predictors.items()]

    async def predict(self, request: Request, model: str, top: int) -> PredictAnswer:
        """The action in the recording that a request has as its body.

        Raises:
            RequestError: it is refused, or cannot be answered.
        """
        predictor = self.predictors[model]
        async with self.upload(request, model) as upload:
            inputs, facts = await self._run(Job(model, upload.path, upload.name), upload)
            collated = collate_inputs([{name: torch.from_numpy(array) for name, array in inputs.items()}])
            output = await self._wait(asyncio.wrap_future(self.batcher.submit(model, collated)), upload)
        scores = predictor.probabilities(output.logits)[0]
        return PredictAnswer.of(model, predictor.answer(upload.name, scores, top), facts)

    async def timeline(
        self, upload: Upload, model: str, config: TimelineConfig, progress: Progress | None = None
    ) -> tuple[Timeline, Facts]:
        """The timeline of a recording that was received.

        Raises:
            RequestError: it is refused, or cannot be answered.
        """
        result, facts = await self._run(Job(model, upload.path, upload.name, config), upload, progress)
        return replace(result, path=upload.name), facts

    async def joints(self, request: Request, model: str, fps: float) -> JointsAnswer:
        """The joints of the recording that a request has as its body, at so many frames a second.

        Raises:
            RequestError: the model takes videos; or it is refused, or cannot be answered.
        """
        self._require_kind(model, "skeletons", "a model of skeletons")
        async with self.upload(request, model) as upload:
            (joints, step), _ = await self._run(Job(model, upload.path, upload.name, joints=True), upload)
        return JointsAnswer(fps=fps / step, joints=joints)

    async def maps(self, request: Request, model: str, window: float) -> MapsAnswer:
        """What the model attends to in the video that a request has as its body, in windows of so many seconds.

        Raises:
            RequestError: the model takes skeletons, or has no maps; or it is refused, or cannot be answered.
        """
        self._require_kind(model, "videos", "a model of videos with attention or class activation")
        async with self.upload(request, model) as upload:
            config = TimelineConfig(window=window, hop=window)
            found, _ = await self._run(Job(model, upload.path, upload.name, config, maps=True), upload)
        return MapsAnswer(model=model, **asdict(found))

    @asynccontextmanager
    async def stream(self, model: str, settings: StreamSettings) -> AsyncIterator[LiveStream]:
        """What looks at the frames of a client until the end of the block.

        Raises:
            RequestError: the model takes skeletons, or there are too many streams already.
        """
        self._require_kind(model, "videos", "a model of videos, for a stream of frames")
        if len(self.streams) >= self.config.streams:
            raise RequestError(
                f"{len(self.streams)} streams are answered already",
                expected=f"at most {self.config.streams} at a time",
                hint="try again later; --streams allows more",
                status=429,
            )
        stream = LiveStream(self.pool, model, settings)
        self.streams.add(stream)
        try:
            yield stream
        finally:
            stream.close()
            self.streams.discard(stream)

    def _end_streams(self) -> None:
        for stream in list(self.streams):
            stream.close()

    @asynccontextmanager
    async def upload(self, request: Request, model: str) -> AsyncIterator[Upload]:
        """The recording of a request, which counts among those in progress until the end of the block.

        Raises:
            RequestError: there are too many already, or it is refused.
        """
        capacity = self.config.workers + self.config.queue
        if self.in_progress >= capacity:
            self.metrics.rejected.inc()
            raise self._overloaded()
        began = asyncio.get_running_loop().time()
        self.in_progress += 1
        try:
            skeletons = expects_skeletons(self.predictors[model])
            async with received(request, self.folder, self.config.limits, skeletons=skeletons) as upload:
                self.metrics.bytes.inc(upload.bytes)
                async with _while_connected(request):
                    yield upload
            self._mean_seconds += 0.1 * (asyncio.get_running_loop().time() - began - self._mean_seconds)
        finally:
            self.in_progress -= 1

    def refresh_metrics(self) -> Metrics:
        """The counters, with those that are read when they are asked for."""
        self.metrics.in_progress.set(self.in_progress)
        self.metrics.streams.set(len(self.streams))
        self.metrics.workers.set(len(self.pool.processes()))
        self.metrics.restarts.set(self.pool.restarts)
        return self.metrics

    def _require_kind(self, model: str, kind: Literal["skeletons", "videos"], expected: str) -> None:
        """Raise RequestError unless a model takes recordings of this kind."""
        takes = "skeletons" if expects_skeletons(self.predictors[model]) else "videos"
        if takes != kind:
            raise RequestError(
                f"the model {model!r} takes {takes}", expected=expected, hint="see /v1/models", status=422
            )

    async def _run(self, job: Job, upload: Upload, progress: Progress | None = None) -> tuple[Any, Facts]:
        """What a worker makes of a job, and what it found; a request that is cancelled ends its work."""
        task = self.pool.submit(job, progress)
        try:
            result = await self._wait(asyncio.wrap_future(task.result), upload, task)
        finally:
            if not task.result.done():
                task.cancel()
        assert task.facts is not None
        self.metrics.recording_seconds.inc(task.facts.seconds)
        return result, task.facts

    async def _wait(self, result: "asyncio.Future[Any]", upload: Upload, task: Task | None = None) -> Any:
        """A result within the time of an answer; errors name the file as the client does."""
        seconds = self.config.limits.answer_seconds
        try:
            async with asyncio.timeout(seconds):
                return await result
        except TimeoutError:
            if task is not None and task.stage in ("opening", "reading"):
                raise too_slow(upload.name, seconds) from None
            raise self._overloaded(f"no answer within {seconds:g} s") from None
        except MuybridgeError as problem:
            raise as_request_error(problem, str(upload.path), upload.name) from problem

    def _overloaded(self, problem: str = "") -> RequestError:
        wait = max(1, min(600, math.ceil(self._mean_seconds * self.in_progress / self.config.workers)))
        return RequestError(
            problem or f"{self.in_progress} requests are waiting or being answered",
            expected=f"at most {self.config.workers + self.config.queue} at a time",
            hint=f"try again in {wait} s",
            status=503 if problem else 429,
            retry_after=wait,
        )


@asynccontextmanager
async def _while_connected(request: Request) -> AsyncIterator[None]:
    """Ends the block where the client closes the connection, since nobody waits for the answer then."""
    task, gone = asyncio.current_task(), False
    assert task is not None

    async def watch() -> None:
        nonlocal gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not gone:
            raise
        task.uncancel()
        raise RequestError(
            "the client is gone", expected="a client that waits", hint="send it again", status=CLIENT_GONE
        ) from None
    finally:
        watcher.cancel()


def _describe(name: str, predictor: Predictor) -> ModelAnswer:
    holds = predictor.recipe.data.holds()
    skeletons = isinstance(holds, SkeletonData)
    return ModelAnswer(
        name=name,
        system=predictor.recipe.model.name,
        takes="skeletons" if skeletons else "video",
        labels=list(predictor.labels),
        suffixes=list(SKELETON_SUFFIXES if skeletons else VIDEO_SUFFIXES),
        layout=SkeletonLayout.of(holds.layout) if skeletons else None,
        window=round(TimelinePredictor(predictor).config.window, 3),
        calibrated=predictor.calibration is not None,
        reject=predictor.reject,
    )
