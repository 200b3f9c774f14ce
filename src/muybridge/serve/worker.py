"""The process that opens and reads what clients send, so that a file that is hostile or damaged ends only that process.

It runs the same predictors as the command line; where these call their model, the inputs travel to the process of the
server and the output comes back. Frames are decoded and prepared here alone.
"""

import copy
import signal
import sys
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import MuybridgeError, RequestError
from muybridge.core.processes import end_with_parent
from muybridge.core.types import Output, SkeletonSequence
from muybridge.media.video import Video
from muybridge.models.base import Model
from muybridge.predict import Predictor
from muybridge.serve.config import Limits
from muybridge.serve.maps import find_maps
from muybridge.timeline import TimelineConfig, TimelinePredictor
from muybridge.timeline.timeline import DEFAULT_FPS


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker does with a file.

    Attributes:
        model: its name.
        path: the file.
        name: what the client calls it, for messages.
        timeline: how its timeline is made; None prepares the whole recording as one input of the model.
        joints: whether only the joints of a recording of skeletons are wanted.
        maps: whether what the model attends to is wanted, in windows of the timeline.
    """

    model: str
    path: Path
    name: str
    timeline: TimelineConfig | None = None
    joints: bool = False
    maps: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a recording once it is open.

    Attributes:
        kind: what it holds.
        frames: how many.
        seconds: duration; of skeletons, which have no clock, by the frame rate of the request.
        width, height: of its frames in pixels; 0 for skeletons.
        people, joints: of skeletons; 0 for videos.
        warnings: in what it is unlike the recordings of training.
    """

    kind: Literal["video", "skeletons"]
    frames: int
    seconds: float
    width: int = 0
    height: int = 0
    people: int = 0
    joints: int = 0
    warnings: tuple[str, ...] = ()


MOST_DRAWN = 3000
"""Frames of a recording of skeletons that are sent to be drawn."""

BEGUN = "begun"
"""What a worker sends first of a job, before it opens the file: until then another may do the job."""

Message = tuple[Literal["opened", "forward", "progress", "done", "failed"], Any]


class RemoteModel(Model):
    """A model whose outputs another process computes.

    Args:
        connection: to that process.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection

    def forward(self, **inputs: Tensor) -> Output:
        """Class scores, and maps if ``return_maps`` is set; raises what the other process raised."""
        arrays = {name: value.numpy() for name, value in inputs.items()}
        self.connection.send(("forward", (arrays, self.return_maps)))
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        logits, maps = answer
        return Output(torch.from_numpy(logits), {name: torch.from_numpy(array) for name, array in maps.items()})


def work(connection: Connection, predictors: Mapping[str, Predictor], limits: Limits) -> None:
    """Answer one job after the other, until the connection is closed.

    Args:
        connection: gives a :class:`Job`, takes messages.
        predictors: by name, without their models.
        limits: of what is read.
    """
    begin_process(connection, predictors.values(), limits)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            job: Job = connection.recv()
            connection.send(BEGUN)
            connection.send(_answer(job, predictors[job.model], limits, connection))


def begin_process(connection: Connection, predictors: Iterable[Predictor], limits: Limits) -> None:
    """What each process of the server does first: it ends with the server, has a limit, and asks it for outputs."""
    # An interrupt in the terminal reaches all processes; the server decides when its workers end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end_with_parent()
    _limit_memory(limits.memory)
    torch.set_num_threads(1)
    for predictor in predictors:
        predictor.model = RemoteModel(connection)
        predictor.device, predictor.rows = torch.device("cpu"), sys.maxsize  # the server parts batches


def _answer(job: Job, predictor: Predictor, limits: Limits, connection: Connection) -> Message:
    try:
        return "done", _run(job, predictor, limits, connection)
    except MuybridgeError as problem:
        return "failed", problem
    except (MemoryError, RuntimeError) as problem:
        if not is_out_of_memory(problem):
            raise
        return "failed", too_large(job.name, limits)


def _run(job: Job, predictor: Predictor, limits: Limits, connection: Connection) -> Any:
    with warnings.catch_warnings(), predictor.open(job.path) as (opened, _):
        warnings.simplefilter("ignore")  # they are part of the facts
        facts = measure(opened, predictor, job, limits)
        connection.send(("opened", facts))
        if job.joints:
            assert isinstance(opened, SkeletonSequence)
            return drawn_joints(opened)
        if job.timeline is None:
            return {name: value.numpy() for name, value in predictor.prepare(opened)[0].items()}
        timelines = TimelinePredictor(predictor, job.timeline)
        check_windows(facts.seconds, timelines.config.hop, job.name, limits)

        def progress(done: int, total: int) -> None:
            connection.send(("progress", (done, total)))

        if not job.maps:
            return timelines(opened, progress)
        assert isinstance(opened, Video)
        try:
            return find_maps(predictor, opened, timelines.config.window, progress)
        finally:
            predictor.model.return_maps = False  # pyright: ignore[reportArgumentType] - a Model has this flag


def drawn_joints(sequence: SkeletonSequence) -> tuple[list[list[list[list[float] | None]]], int]:
    """The joints as a page draws them, in frames, people and joints, and how many frames each stands for.

    Of long recordings every second, third, ... frame is taken, at most ``MOST_DRAWN``; an absent person has no joints.
    """
    step = -(-len(sequence) // MOST_DRAWN)
    rounded = sequence.joints[::step].double().numpy().round(4).tolist()
    present = sequence.present[::step].tolist()
    frames: list[list[list[list[float] | None]]] = [
        [joints if seen else [None for _ in joints] for joints, seen in zip(people, there, strict=True)]
        for people, there in zip(rounded, present, strict=True)
    ]
    return frames, step


def measure(opened: SkeletonSequence | Video, predictor: Predictor, job: Job, limits: Limits) -> Facts:
    """What there is to know of a recording before its frames are read.

    Raises:
        RequestError: it is longer or larger than the limits.
    """
    unlike = () if job.timeline else tuple(predictor.warnings_for(opened))
    if isinstance(opened, SkeletonSequence):
        fps = (job.timeline.fps if job.timeline else 0) or DEFAULT_FPS
        _, people, joints, _ = opened.joints.shape
        facts = Facts("skeletons", len(opened), len(opened) / fps, people=people, joints=joints, warnings=unlike)
    else:
        height, width = opened.size
        facts = Facts("video", len(opened), opened.duration, width, height, warnings=unlike)
    if facts.frames > limits.frames:
        raise beyond(job.name, f"the recording has {facts.frames} frames", f"at most {limits.frames}")
    if facts.seconds > limits.seconds:
        raise beyond(job.name, f"the recording takes {facts.seconds:.0f} s", f"at most {limits.seconds:g} s")
    if max(facts.width, facts.height) > limits.side:
        size = f"its frames are {facts.width}x{facts.height} pixels"
        raise beyond(job.name, size, f"at most {limits.side} pixels in height and in width")
    if facts.width * facts.height > limits.pixels:
        size = f"its frames are {facts.width}x{facts.height} pixels"
        raise beyond(job.name, size, f"at most {limits.pixels} pixels a frame")
    return facts


def check_windows(seconds: float, hop: float, name: str, limits: Limits) -> None:
    """Raises RequestError if a timeline has more windows than the limits allow."""
    if seconds / hop > limits.windows:
        raise RequestError(
            f"{seconds / hop:.0f} windows",
            expected=f"at most {limits.windows}",
            hint="choose a longer hop",
            where=name,
            status=413,
        )


def beyond(name: str, problem: str, expected: str) -> RequestError:
    """The error for a recording that crosses a limit of this server."""
    return RequestError(problem, expected=expected, hint="send a shorter or smaller one", where=name, status=413)


def is_out_of_memory(problem: MemoryError | RuntimeError) -> bool:
    """Whether Python or torch, whose error is a RuntimeError, had no memory."""
    return isinstance(problem, MemoryError) or "alloc" in str(problem)


def too_large(name: str, limits: Limits) -> RequestError:
    """The error for a recording that takes more memory than a process has."""
    problem = f"reading it takes more than {limits.memory >> 20} MiB of memory"
    return beyond(name, problem, "a recording, or a window of time, that fits")


def _limit_memory(extra: int) -> None:
    """Lets this process take so many bytes beyond what it has; where the system cannot, there is no limit."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    except (ImportError, OSError, ValueError):  # Windows; macOS has neither /proc nor such a limit
        return


def without_model(predictor: Predictor) -> Predictor:
    """A copy to send to a worker, which asks the server for outputs."""
    twin = copy.copy(predictor)
    del twin.model
    return twin


def expects_skeletons(predictor: Predictor) -> bool:
    """Whether a run takes skeletons, and not videos."""
    return isinstance(predictor.recipe.data.holds(), SkeletonData)
