"""The training loop: one readable page over Lightning Fabric.

Random generators are seeded from (seed, stage, step), and the learning rate is a function of the step. So the state of
a training is its position, the parameters and the optimizer, and a resumed training equals an uninterrupted one.
"""

import math
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from muybridge.baseline import BaselineTable
from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import DataError, RecipeError, RunError
from muybridge.core.types import Batch
from muybridge.data.datasets.base import Excluded, Index, Split
from muybridge.data.loader import BatchPlan
from muybridge.engine.baselines import write_baselines
from muybridge.engine.bodies import measure_bodies, write_bodies
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.durations import measure_durations, write_durations
from muybridge.engine.features import with_features
from muybridge.engine.init_from import with_checksums
from muybridge.engine.interrupt import InterruptedTrainingError, TimeUsedUpError, stop_requests
from muybridge.engine.journal import Reporter
from muybridge.engine.loggers import Loggers
from muybridge.engine.metrics import METRICS
from muybridge.engine.runtime import Runtime, explained_errors
from muybridge.engine.saved_split import SavedSplit
from muybridge.engine.session import Session
from muybridge.engine.stage import StageTrainer
from muybridge.engine.start import (
    check_folder,
    check_processes,
    check_resume,
    check_resumed_data,
    check_sources,
    check_training_data,
    resume_notes,
    training_precision,
)
from muybridge.engine.warm_up import with_warm_up
from muybridge.recipe import Recipe, Stage

MAX_FAILED_SHARE = 0.01
"""Share of the training recordings that may turn out to be unreadable, where they are skipped at all."""

_RUNNING = threading.Lock()
"""Held during a training: all threads of a process share PyTorch's global random generator, which each step seeds."""


@dataclass
class TrainState:
    """The position of a training; all of it is saved in ``state.pt``.

    Attributes:
        stage: number of the current stage, from 0.
        step: optimizer steps of this stage so far.
        seconds: time spent on this stage so far.
        best: highest top-1 (of several labels, mean average precision) on ``val`` in the last stage; -1 without one.
        best_epoch: the epoch with that.
        last: that of the last validation in the last stage; -1 without one.
        sums: of the metrics of the current epoch so far.
        failed: ids of the recordings that could not be read.
    """

    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    best_epoch: int = 0
    last: float = -1.0
    sums: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    runtime: Runtime | None = None,
    report: Reporter | None = None,
    baselines: BaselineTable | None = None,
    seconds: float = math.inf,
) -> RunFolder:
    """Train a recipe into a run folder.

    Args:
        recipe: what to train.
        folder: the run folder; made if needed.
        resume: resume the run in the folder; without one, start.
        runtime: device and processes; by default those of :func:`training_precision`.
        report: where progress is shown; by default nowhere.
        baselines: of its data; kept in a new run's folder, and shown beside the results of its test.
        seconds: time limit, after which the training is saved and stopped.

    Raises:
        RunError: the folder contains another run or cannot be written, another training runs in this process or
            trains into the folder, the loss is not finite, memory runs out, or a loading process dies.
        DataError: the training part is empty, a recording cannot be read, or recordings differ from those that the
            training was started with.
        InterruptedTrainingError: stopped by Ctrl-C or SIGTERM, or at the time limit; the run can be resumed.
    """
    run, deadline = RunFolder(folder), time.monotonic() + seconds
    runtime = runtime or Runtime(training_precision(recipe, folder), strategy=recipe.train.strategy)
    report = report or Reporter(quiet=True)
    recipe = recipe.resolved()
    if not run.exists:
        check_folder(recipe, run.path)  # before anything is written

    def train_warm_up(warm: Recipe, at: Path, again: bool) -> RunFolder:
        return train(warm, at, resume=again, runtime=runtime, report=report, seconds=deadline - time.monotonic())

    recipe = with_checksums(with_warm_up(recipe, run, runtime, report, train_warm_up))
    if not run.exists or resume:
        recipe = with_features(recipe, runtime, report)
    if run.exists:
        check_resume(recipe, RunFolder.open(folder), resume=resume)
        if run.finished:
            return run
    is_new_folder = not run.path.exists()
    with _alone(), _locked(run, runtime), explained_errors():
        session = replace(_open_session(recipe, run, runtime, report), deadline=deadline)
        if baselines and runtime.is_main_process:
            write_baselines(run, baselines)
        runtime.fabric.barrier()
        saved = run.read_state()
        state = TrainState(**saved["progress"])
        try:
            _train_stages(session, state, saved)
        except RecipeError:
            if runtime.is_main_process and is_new_folder and (state.stage, state.step) == (0, 0):
                shutil.rmtree(run.path)  # a model that cannot be built leaves no run behind
            raise
        if runtime.is_main_process:
            run.clear_state()
        runtime.fabric.barrier()
    return run


def _open_session(recipe: Recipe, run: RunFolder, runtime: Runtime, report: Reporter) -> Session:
    """Check recordings and folder, and create the run where there is none yet."""
    indexes: dict[Split, Index] = {split: recipe.data.index(split) for split in ("train", "val")}
    try:
        indexes["test"] = recipe.data.index("test")
    except DataError as error:  # training does without; testing will say so again
        report.say(f"no test part: {error}")
    check_training_data(recipe, indexes, runtime.world_size)
    check_processes(recipe, run, indexes, runtime)
    if run.exists:
        check_resumed_data(recipe, run, indexes)
        for note in resume_notes(run, runtime):
            report.say(note)
        return Session.start(recipe, run, runtime, report, indexes)
    check_sources(recipe, indexes)
    session = Session.start(recipe, run, runtime, report, indexes)
    if runtime.is_main_process:
        RunFolder.create(
            run.path,
            recipe,
            recipe.data.labels(),
            {split: index.excluded for split, index in indexes.items()},
            _saved_state(TrainState(), 0),
            split=SavedSplit.of(recipe.data, indexes),
            precision=runtime.precision,
            device=runtime.device.type,
        )
        write_durations(run, measure_durations(recipe.data, indexes["train"].records))
        if isinstance(holds := recipe.data.holds(), SkeletonData):
            write_bodies(run, measure_bodies(recipe.data, indexes["train"].records, holds.layout))
    return session


def _train_stages(session: Session, state: TrainState, saved: dict[str, Any]) -> None:
    """Train all stages from where the saved state is."""
    with session.report, stop_requests() as stop, ExitStack() as resources:
        if session.runtime.is_main_process:
            session.journal.cut(saved["journal"])
            if session.recipe.train.warm_up and (state.stage, state.step) == (0, 0):
                session.journal.write(event="warm_up", **_start_row(session.recipe))
            loggers = Loggers(session.recipe.train.loggers, session.run, session.recipe.model_dump(mode="json"))
            session = replace(session, loggers=resources.enter_context(loggers))
        for number, stage in enumerate(session.recipe.stages()):
            if number == state.stage:
                state = train_stage(session.for_stage(stage), stage, state, saved, stop)
                saved = {}


def _start_row(recipe: Recipe) -> dict[str, str]:
    """Which warm-up a training starts from."""
    source = next(iter(recipe.train.init_from.values()))
    return {"kind": recipe.train.warm_up, "run": str(source.run), "checksum": source.checksum}


def train_stage(
    session: Session, stage: Stage, state: TrainState, saved: dict[str, Any], stop: list[int]
) -> TrainState:
    """Train one stage, from its beginning or from a saved state; returns the state in which the next one begins."""
    trainer = StageTrainer.start(session, stage, state.stage, saved)
    try:
        return _train_steps(session, trainer, state, stop)
    finally:
        trainer.close()


def _train_steps(session: Session, trainer: StageTrainer, state: TrainState, stop: list[int]) -> TrainState:
    """The steps of a stage that remain, and its end."""
    runtime, stage = session.runtime, trainer.stage
    sums: dict[str, Any] = defaultdict(float, state.sums if runtime.is_main_process else {})
    session.report.begin(f"training {stage.name}", trainer.total, state.step)
    started = time.monotonic() - state.seconds
    saved_at = waited_from = time.monotonic()
    for batch, size in iterate_batches(trainer.plan, trainer.loader, state.step, trainer.total):
        sums["data_seconds"] += time.monotonic() - waited_from
        lr = trainer.begin_step(state.step)
        batch, size = drop_failed(session, batch, size, state)
        if size:
            for name, value in trainer.step(batch, size, state.step).items():
                sums[name] += value
        state.step += 1
        session.report.step()
        if state.step % trainer.steps_per_epoch == 0 or state.step == trainer.total:
            state.seconds = time.monotonic() - started
            _end_epoch(session, trainer, state, sums, lr)
            sums = defaultdict(float)
        now = time.monotonic()
        asked, late, due = runtime.any_process(
            bool(stop),
            now > session.deadline and state.step < trainer.total,
            now - saved_at > session.recipe.train.save_seconds,
        )
        if asked or late or due:
            state.sums, state.seconds = _totals(session, sums), time.monotonic() - started
            _save(session, trainer, state)
            sums = defaultdict(float, state.sums if runtime.is_main_process else {})
            saved_at = time.monotonic()
        if asked or late:
            raise (InterruptedTrainingError if asked else TimeUsedUpError)(
                f"stopped in stage {stage.name}, step {state.step} of {trainer.total}; everything up to here is saved",
                expected="all steps",
                hint=f"resume with `muybridge train --run {session.run.path} --resume`",
            )
        waited_from = time.monotonic()
    return _end_stage(session, trainer, state)


def iterate_batches(plan: BatchPlan, loader: DataLoader[Any], step: int, total: int) -> Iterator[tuple[Batch, int]]:
    """The batches from a step on, through as many epochs as it takes, each with its size over all processes."""
    while step < total:
        epoch, first = divmod(step, len(plan.steps()))
        plan.start_at(epoch, first)
        sizes = [len(indices) for indices in plan.steps()[first:]]
        yield from zip(islice(loader, total - step), sizes, strict=False)
        step += len(sizes)


def drop_failed(session: Session, batch: Batch, size: int, state: TrainState) -> tuple[Batch, int]:
    """The batch without what cannot be read, and its size over all processes; 0 where one of them has nothing left.

    Raises:
        DataError: a recording cannot be read, and is not to be skipped or is one too many.
    """
    if session.recipe.train.on_error == "raise":
        return batch.raise_on_failure(), size
    shares = session.runtime.all_gather((len(batch), batch.failed))
    failed = {sample.id: sample for _, part in shares for sample in part if sample.id not in state.failed}
    if failed:
        state.failed = sorted({*state.failed, *failed})
        if session.runtime.is_main_process:
            rows = [
                Excluded(sample.id, sample.path, f"cannot be read: {sample.error.problem}")
                for sample in failed.values()
            ]
            session.run.exclude("train", rows)
        if len(state.failed) > MAX_FAILED_SHARE * len(session.train):
            raise DataError(
                f"{len(state.failed)} of {len(session.train)} training recordings cannot be read",
                expected=f"{MAX_FAILED_SHARE:.0%} of them at most",
                hint=f"repair or remove them; {session.run.path / 'excluded.tsv'} lists them",
            ) from next(iter(failed.values())).error
    sizes = [count for count, _ in shares]
    return batch, sum(sizes) if all(sizes) else 0


def _end_epoch(session: Session, trainer: StageTrainer, state: TrainState, sums: dict[str, Any], lr: float) -> None:
    """Validate, keep the best weights, and write the row of an epoch."""
    settings, epoch = session.recipe.train, math.ceil(state.step / trainer.steps_per_epoch)
    row = _train_row(session, trainer.stage, epoch, state.step, sums)
    if settings.on_error == "skip":
        row["failed"] = len(state.failed)
    row |= {"lr": lr, "seconds": round(state.seconds, 3)}
    if session.val and (state.step == trainer.total or epoch % settings.val_interval == 0):
        row["val"] = trainer.validate()
        if trainer.is_last:
            state.last = row["val"][trainer.metric]
        if trainer.is_last and row["val"][trainer.metric] > state.best:
            state.best, state.best_epoch = row["val"][trainer.metric], epoch
            best = trainer.tested_model() if settings.checkpoint == "best" else None
            if best is not None and session.runtime.is_main_process:
                session.run.write_weights("weights", best)
    if session.runtime.is_main_process:
        session.journal.write(**row)
        if session.loggers:
            session.loggers.epoch(row)
        session.report.epoch(row, math.ceil(trainer.total / trainer.steps_per_epoch))


def _end_stage(session: Session, trainer: StageTrainer, state: TrainState) -> TrainState:
    """Save the weights of a stage; returns the state in which the next one begins."""
    run, settings = session.run, session.recipe.train
    following, trained = TrainState(stage=state.stage + 1, failed=state.failed), trainer.tested_model()
    if session.runtime.is_main_process:
        run.write_weights(f"stages/{trainer.stage.name}", trained)
        if trainer.is_last and settings.checkpoint == "last":
            run.write_weights("weights", trained)
        if trainer.is_last and session.val and trainer.total:
            session.report.say(_describe_checkpoint(settings.checkpoint, state, METRICS[trainer.metric]))
        run.write_state(_saved_state(following, session.journal.size))
    session.runtime.fabric.barrier()
    return following


def _describe_checkpoint(checkpoint: str, state: TrainState, metric: str) -> str:
    best = f"epoch {state.best_epoch}, val {metric} {state.best:.1f} %"
    if checkpoint == "last" and state.last >= state.best:
        return f"saved: the weights of the last epoch, with the highest {metric} on val ({state.best:.1f} %)"
    if checkpoint == "best":
        return f"saved: the weights of the best epoch ({best})"
    return (
        f'saved: the weights of the last epoch, not the best one on val ({best}); train.checkpoint = "best" saves that'
    )


def _save(session: Session, trainer: StageTrainer, state: TrainState) -> None:
    parts = trainer.state_dicts()
    if session.runtime.is_main_process:
        session.run.write_state(_saved_state(state, session.journal.size, **parts))


def _saved_state(state: TrainState, journal: int, **parts: Any) -> dict[str, Any]:
    return {"progress": asdict(state), "journal": journal} | parts


def _totals(session: Session, sums: dict[str, Any]) -> dict[str, float]:
    """The sums over all processes, as numbers; RunError where one is not finite any more."""
    names = sorted(sums)
    runtime = session.runtime
    numbers = torch.tensor([float(sums[name]) for name in names], dtype=torch.float64, device=runtime.device)
    totals = dict(zip(names, runtime.all_reduce_sum(numbers).tolist(), strict=True))
    wrong = [name for name, value in totals.items() if not math.isfinite(value)]
    if wrong:
        raise RunError(
            f"the training diverged ({', '.join(wrong)} is no longer finite)",
            expected="finite losses",
            hint="lower train.optimizer.lr, or set train.clip_grad_norm; what was saved before is intact",
            where=session.run.path,
        )
    return totals


def _train_row(session: Session, stage: Stage, epoch: int, step: int, sums: dict[str, Any]) -> dict[str, Any]:
    """The training part of an epoch's row: means of the loss terms, accuracy, seconds."""
    totals = _totals(session, sums)
    count = totals.pop("count")
    seconds = {name: round(totals.pop(name), 3) for name in ("data_seconds", "model_seconds")}
    accuracy = {"top1": 100 * totals.pop("correct") / count} if "correct" in totals else {}
    means = {name: value / count for name, value in totals.items()}
    return {
        "event": "epoch",
        "stage": stage.name,
        "epoch": epoch,
        "step": step,
        "train": means | accuracy,
    } | seconds


@contextmanager
def _alone() -> Iterator[None]:
    """Refuse a second training in this process: each would draw from the random numbers of the other.

    Raises:
        RunError: a training runs in another thread.
    """
    if not _RUNNING.acquire(blocking=False):
        raise RunError(
            "another training runs in this process",
            expected="one training at a time, as both would draw from the same random generator",
            hint="start it in a process of its own, such as with `muybridge repeat --jobs 2`",
        )
    try:
        yield
    finally:
        _RUNNING.release()


@contextmanager
def _locked(run: RunFolder, runtime: Runtime) -> Iterator[None]:
    """The run folder, made where needed, for this training alone."""
    if runtime.is_main_process:
        run.make()
    with run.lock() if runtime.is_main_process else nullcontext():
        yield
