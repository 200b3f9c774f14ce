"""Profile of a training on this machine with this data: each step timed by itself, and all of them together."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from muybridge.core.rng import make_generator
from muybridge.core.types import Batch
from muybridge.data.loader import BatchPlan, SampleDataset, collate, make_loader
from muybridge.engine.evaluate import make_samples, to_device
from muybridge.engine.optim import build_optimizer
from muybridge.engine.runtime import Runtime, explained_errors
from muybridge.media.video import Video
from muybridge.recipe import Recipe

STEPS = ("open", "decode", "transform", "transfer", "model")
LOADING = STEPS[:3]


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one step for one recording: median and 95th percentile."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class BenchResult:
    """Result of a benchmark.

    Attributes:
        steps: milliseconds for one recording: open it, decode the frames, transform them, transfer a batch to the
            device, and a training step on it. The first three run in ``workers`` processes, if there are any.
        per_second: recordings trained on in a second, all steps together.
        waiting: share of the time that is spent waiting for data.
        bottleneck: the step to improve first.
        advice: how.
        device, precision, batch_size, workers: what it was measured with.
    """

    steps: dict[str, Timing]
    per_second: float
    waiting: float
    bottleneck: str
    advice: str
    device: str
    precision: str
    batch_size: int
    workers: int


ADVICE = {
    "open": "keep the files on a faster disk",
    "decode": "raise train.num_workers, shrink the files once (`ffmpeg -i IN -vf scale=-2:256 -g 16 OUT`), or install "
    "torchcodec",
    "transform": "raise train.num_workers, or lower model.size",
    "transfer": "raise train.batch_size",
    "model": "train on a GPU, or lower model.size or model.segments",
}


def bench(recipe: Recipe, recordings: int = 32, steps: int = 8, runtime: Runtime | None = None) -> BenchResult:
    """Time the steps of a training on the first recordings of its training part.

    Args:
        recipe: what would be trained.
        recordings: how many are opened, decoded and transformed one by one.
        steps: training steps, of the recipe's batch size, that are timed alone and together with loading.
        runtime: where; by default the recipe's.

    Raises:
        DataError: the training part is empty or a recording cannot be read.
        RunError: memory runs out, or a loading process dies.
    """
    runtime = runtime or Runtime(recipe.precision)
    samples = make_samples(recipe, "train", augment=True)
    samples.keep_videos = False  # every epoch is timed as the first one, which decodes
    times: dict[str, list[float]] = defaultdict(list)
    with explained_errors():
        with _threads(1 if recipe.train.num_workers else torch.get_num_threads()):
            for index in range(min(recordings, len(samples))):
                _time_loading(samples, index, times)
        train_step = _make_train_step(recipe, runtime)
        _time_model(recipe, samples, train_step, steps, runtime, times)
        count, waiting, wall = _time_training(recipe, samples, train_step, steps, runtime)
    timings = {step: Timing(*np.percentile(1000 * np.array(times[step]), (50, 95)).tolist()) for step in STEPS}
    # The side that the other one waits for; of it, the longest step.
    side = LOADING if waiting > wall / 2 else STEPS[len(LOADING) :]
    bottleneck = max(side, key=lambda step: timings[step].median)
    return BenchResult(
        steps=timings,
        per_second=count / wall,
        waiting=waiting / wall,
        bottleneck=bottleneck,
        advice=ADVICE[bottleneck],
        device=str(runtime.device),
        precision=runtime.precision,
        batch_size=recipe.train.batch_size,
        workers=recipe.train.num_workers,
    )


def _time_loading(samples: SampleDataset, index: int, times: dict[str, list[float]]) -> None:
    """Load one recording as training does, without the cache."""
    record, prepare = samples.records[index], samples.prepare
    rng = make_generator(samples.seed, "sample", 0, index)
    marks = [time.perf_counter()]
    recording = samples.data.open(record)
    marks.append(time.perf_counter())
    content: Any = prepare.read(recording, rng, record.id)
    marks.append(time.perf_counter())
    prepare.transform(content, record.label, rng)
    marks.append(time.perf_counter())
    if isinstance(recording, Video):
        recording.close()
    for step, seconds in zip(LOADING, np.diff(marks), strict=True):
        times[step].append(float(seconds))


def _time_model(
    recipe: Recipe,
    samples: SampleDataset,
    train_step: Callable[[Batch], None],
    steps: int,
    runtime: Runtime,
    times: dict[str, list[float]],
) -> None:
    """Transfer one batch and train on it, several times."""
    plan = BatchPlan(len(samples), recipe.train.batch_size, recipe.train.seed)
    batch = collate([samples[draw] for draw in next(iter(plan))]).raise_on_failure()
    train_step(batch)  # the first step chooses kernels and allocates memory
    for _ in range(steps):
        with _timed(runtime, times["transfer"], len(batch)):
            moved = to_device(batch, runtime)
        with _timed(runtime, times["model"], len(batch)):
            train_step(moved)


def _time_training(
    recipe: Recipe, samples: SampleDataset, train_step: Callable[[Batch], None], steps: int, runtime: Runtime
) -> tuple[int, float, float]:
    """Load and train together; returns the recordings, the seconds of waiting for data and those in all."""
    plan = BatchPlan(len(samples), recipe.train.batch_size, recipe.train.seed)
    count, waiting, wall = 0, 0.0, 0.0
    asked = time.perf_counter()
    for number, batch in enumerate(islice(_endless(samples, plan, recipe.train.num_workers), steps + 1)):
        received = time.perf_counter()
        train_step(to_device(batch.raise_on_failure(), runtime))
        _synchronize(runtime)
        done = time.perf_counter()
        if number:  # the first one waits for the processes to start
            count, waiting, wall = count + len(batch), waiting + received - asked, wall + done - asked
        asked = time.perf_counter()
    return count, waiting, wall


def _make_train_step(recipe: Recipe, runtime: Runtime) -> Callable[[Batch], None]:
    """A step like :func:`muybridge.engine.stage.train_step`."""
    model = recipe.model.without_pretrained().build(len(recipe.data.labels()), recipe.data.holds())
    optimizer = build_optimizer(recipe.train.optimizer, model, recipe.train.param_groups, runtime.fused)
    wrapped, optimizer = runtime.fabric.setup(model, optimizer)

    def step(batch: Batch) -> None:
        batch = to_device(batch, runtime)
        output = wrapped(**batch.inputs)
        loss = torch.stack(list(model.losses(output, batch.labels, batch.inputs).values())).sum()
        runtime.fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _endless(samples: SampleDataset, plan: BatchPlan, workers: int) -> Iterator[Batch]:
    loader = make_loader(samples, plan, workers)
    try:
        for epoch in range(2**31):
            plan.start_at(epoch)
            yield from loader
    finally:
        loader.close()


@contextmanager
def _timed(runtime: Runtime, times: list[float], samples: int) -> Iterator[None]:
    _synchronize(runtime)
    started = time.perf_counter()
    yield
    _synchronize(runtime)
    times.append((time.perf_counter() - started) / samples)


def _synchronize(runtime: Runtime) -> None:
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
