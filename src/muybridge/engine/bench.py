"""Where the time goes on this machine with this data: every hop of a training, timed, and all of them together."""

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
from muybridge.engine.runtime import Runtime
from muybridge.media.video import Video
from muybridge.recipe import Recipe

STEPS = ("open", "decode", "transform", "transfer", "model")


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one hop for one recording: the median, and what 95 in 100 stay below."""

    median: float
    p95: float


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What a benchmark says.

    Attributes:
        hops: milliseconds for one recording: open it, decode the frames, transform them, transfer a batch to the
            device, and a step of training on it. The first three run in ``workers`` processes, if there are any.
        per_second: recordings trained on in a second, all hops together.
        waiting: share of the time in which the model waits for data.
        bottleneck: the hop to look at first.
        advice: what to do about it.
        device, batch_size, workers: what it was measured with.
    """

    steps: dict[str, Timing]
    per_second: float
    waiting: float
    bottleneck: str
    advice: str
    device: str
    batch_size: int
    workers: int


ADVICE = {
    "open": "keep the files on a faster disk",
    "decode": "raise train.num_workers, shrink the files once (`ffmpeg -i IN -vf scale=-2:256 -g 16 OUT`), or install "
    "torchcodec",
    "transform": "raise train.num_workers, or lower model.size",
    "transfer": "raise train.batch_size",
    "model": 'train on a GPU with train.precision = "bf16-mixed", or lower model.size or model.segments',
}


def bench(recipe: Recipe, recordings: int = 32, steps: int = 8, runtime: Runtime | None = None) -> BenchResult:
    """Time the hops of a training on the first recordings of its training part.

    Args:
        recipe: what would be trained.
        recordings: how many are opened, decoded and transformed one by one.
        steps: training steps, of the recipe's batch size, that are timed alone and together with loading.
        runtime: where; by default the recipe's.

    Raises:
        DataError: the training part is empty or a recording cannot be read.
    """
    runtime = runtime or Runtime(recipe.train.precision)
    samples = make_samples(recipe, "train", augment=True)
    spent: dict[str, list[float]] = defaultdict(list)
    with _threads(1 if recipe.train.num_workers else torch.get_num_threads()):
        for index in range(min(recordings, len(samples))):
            _load_timed(samples, index, spent)
    step = _trainer(recipe, runtime)
    plan = BatchPlan(len(samples), recipe.train.batch_size, recipe.train.seed)
    batch = collate([samples[draw] for draw in next(iter(plan))]).raise_on_failure()
    step(batch)  # kernels are chosen and memory is taken in the first
    for _ in range(steps):
        with _timed(runtime, spent["transfer"], len(batch)):
            moved = to_device(batch, runtime)
        with _timed(runtime, spent["model"], len(batch)):
            step(moved)
    count, waited, wall = 0, 0.0, 0.0
    asked = time.perf_counter()
    for number, one in enumerate(islice(_endless(samples, plan, recipe.train.num_workers), steps + 1)):
        came = time.perf_counter()
        step(to_device(one.raise_on_failure(), runtime))
        _wait(runtime)
        done = time.perf_counter()
        if number:  # the first waits for the workers to start
            count, waited, wall = count + len(one), waited + came - asked, wall + done - asked
        asked = time.perf_counter()
    hops = {hop: Timing(*np.percentile(1000 * np.array(spent[hop]), (50, 95)).tolist()) for hop in STEPS}
    # The hops of the side that the other waits for; within it, the longest.
    side = STEPS[:3] if waited > wall / 2 else STEPS[3:]
    worst = max(side, key=lambda hop: hops[hop].median)
    return BenchResult(
        steps=hops,
        per_second=count / wall,
        waiting=waited / wall,
        bottleneck=worst,
        advice=ADVICE[worst],
        device=str(runtime.device),
        batch_size=recipe.train.batch_size,
        workers=recipe.train.num_workers,
    )


def _load_timed(samples: SampleDataset, index: int, spent: dict[str, list[float]]) -> None:
    """One recording as training loads it, without the cache."""
    record, prepare = samples.records[index], samples.prepare
    rng = make_generator(samples.seed, "sample", 0, index)
    marks = [time.perf_counter()]
    recording = samples.data.open(record)
    marks.append(time.perf_counter())
    read: Any = prepare.read(recording, rng, record.id)
    marks.append(time.perf_counter())
    prepare.transform(read, record.label, rng)
    marks.append(time.perf_counter())
    if isinstance(recording, Video):
        recording.close()
    for hop, seconds in zip(STEPS, np.diff(marks), strict=False):
        spent[hop].append(float(seconds))


def _trainer(recipe: Recipe, runtime: Runtime) -> Callable[[Batch], None]:
    """A step of training, as :func:`muybridge.engine.train.train_step` takes it."""
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
    for epoch in range(2**31):
        plan.start_at(epoch)
        yield from loader


@contextmanager
def _timed(runtime: Runtime, into: list[float], samples: int) -> Iterator[None]:
    _wait(runtime)
    began = time.perf_counter()
    yield
    _wait(runtime)
    into.append((time.perf_counter() - began) / samples)


def _wait(runtime: Runtime) -> None:
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
