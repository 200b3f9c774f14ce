"""The training loop: one readable page over Fabric.

All dice are thrown by name (seed, stage, step), and the learning rate is a function of the step. So the whole state of
a training is where it stands, the parameters and the optimizer, and a resumed run equals an uninterrupted one.
"""

import copy
import math
import shutil
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from muybridge.core.errors import DataError, RecipeError, RunError
from muybridge.core.rng import derive_seed, make_generator
from muybridge.core.types import Batch
from muybridge.data.datasets.base import Excluded
from muybridge.data.loader import BatchPlan, SampleDataset, make_loader, sequential_plan
from muybridge.engine.checkpoint import RunFolder, load_weights, read_weights
from muybridge.engine.durations import measure_durations, write_durations
from muybridge.engine.evaluate import check_features, make_samples, predict_split, to_device
from muybridge.engine.init_from import load_parameters_from, with_checksums
from muybridge.engine.journal import Journal, Reporter
from muybridge.engine.metrics import score
from muybridge.engine.mixing import mix
from muybridge.engine.optim import build_optimizer, rate_factor
from muybridge.engine.runtime import Runtime
from muybridge.models.base import Model, ModelConfig, Targets
from muybridge.recipe import Recipe, SourceRun, Stage, dump


class InterruptedTrainingError(RunError):
    """The training was asked to stop; everything up to here is saved."""

    exit_status = 130


@dataclass
class TrainState:
    """Where a training stands; all of it goes into ``state.pt``."""

    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float = -1.0
    sums: dict[str, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


MAX_FAILED_SHARE = 0.01
"""Share of the training recordings that may turn out to be unreadable, where they are skipped at all."""


@dataclass(frozen=True)
class Session:
    """What stays the same for a stage of a training, and but for the samples for all of it."""

    recipe: Recipe
    run: RunFolder
    runtime: Runtime
    report: Reporter
    journal: Journal
    train: SampleDataset
    plain: SampleDataset
    val: SampleDataset | None

    def of(self, stage: Stage) -> "Session":
        """The samples as the model of a stage takes them."""
        model = self.recipe.stage_model(stage)
        return replace(
            self,
            train=make_samples(self.recipe, "train", augment=True, model=model),
            plain=make_samples(self.recipe, "train", model=model),
            val=self.val and make_samples(self.recipe, "val", model=model),
        )


def train(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    runtime: Runtime | None = None,
    report: Reporter | None = None,
) -> RunFolder:
    """Train a recipe into a run folder.

    Args:
        recipe: what to train.
        folder: the run folder; made if needed.
        resume: go on with the run that is there; without one, start.
        runtime: device and processes; by default those of the recipe's precision.
        report: where progress is shown; by default nowhere.

    Raises:
        RunError: the folder holds another run or cannot be written, or the loss is no longer finite.
        DataError: the training part is empty or a recording cannot be read.
        InterruptedTrainingError: stopped by Ctrl-C or SIGTERM; the run can be resumed.
    """
    runtime = runtime or Runtime(recipe.train.precision)
    recipe = with_checksums(recipe.resolved())
    run = RunFolder(folder)
    if run.exists:
        _check_same(recipe, RunFolder.open(folder), resume)
        if run.finished:
            return run
    indexes = {split: recipe.data.index(split) for split in ("train", "val")}
    if len(indexes["train"]) < runtime.world_size:
        raise DataError(
            f"{len(indexes['train'])} training recordings",
            expected=f"at least one for each of {runtime.world_size} processes",
            hint="check the data set's folder and its split",
        )
    if recipe.train.checkpoint == "best" and not len(indexes["val"]):
        raise DataError(
            'no validation part for train.checkpoint = "best"',
            expected="recordings in the split val",
            hint='name people in data.val_groups, or set train.checkpoint = "last"',
        )
    made = runtime.is_main_process and not folder.exists()
    if runtime.is_main_process and not run.exists:
        excluded = {split: index.excluded for split, index in indexes.items()}
        RunFolder.create(folder, recipe, recipe.data.labels(), excluded, _state(TrainState(), 0))
        write_durations(run, measure_durations(recipe.data, indexes["train"].records))
    session = Session(
        recipe,
        run,
        runtime,
        report or Reporter(quiet=True),
        Journal(folder / "journal.jsonl"),
        make_samples(recipe, "train", augment=True),
        make_samples(recipe, "train"),
        make_samples(recipe, "val") if len(indexes["val"]) else None,
    )
    runtime.fabric.barrier()
    state = run.read_state()
    position = TrainState(**state["position"])
    try:
        with session.report, stop_requests() as stop:
            if runtime.is_main_process:
                session.journal.cut(state["journal"])
            for number, stage in enumerate(recipe.stages()):
                if number == position.stage:
                    position = train_stage(session.of(stage), stage, position, state, stop)
                    state = {}
    except RecipeError:
        if made and (position.stage, position.step) == (0, 0):  # a model that cannot be built leaves no run behind
            shutil.rmtree(folder)
        raise
    if runtime.is_main_process:
        run.clear_state()
    runtime.fabric.barrier()
    return run


def train_stage(
    session: Session, stage: Stage, position: TrainState, state: dict[str, Any], stop: list[int]
) -> TrainState:
    """Train one stage, from its beginning or from a saved state, and say where the next one begins."""
    recipe, run, runtime, knobs = session.recipe, session.run, session.runtime, session.recipe.train
    resumed = "model" in state
    model = initialize_model(session, stage, position.stage, resumed)
    optimizer_knobs, schedule = stage.optimizer or knobs.optimizer, stage.schedule or knobs.schedule
    optimizer = build_optimizer(optimizer_knobs, model, knobs.param_groups, runtime.fused)
    average = copy.deepcopy(model).requires_grad_(False) if knobs.ema_decay else None
    kept = model if average is None else average
    if resumed:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.load_state_dict(state["average"])
    check_features(session.train, recipe.stage_model(stage), model)
    run.check_disk_space(model)
    run_as = cast("nn.Module", torch.compile(model)) if knobs.compile else model
    wrapped, optimizer = runtime.fabric.setup(run_as, optimizer)
    kept.to(runtime.device)

    plan_seed = derive_seed(knobs.seed, "stage", position.stage)
    plan = BatchPlan(len(session.train), knobs.batch_size, plan_seed, runtime.rank, runtime.world_size)
    loader = make_loader(session.train, plan, knobs.num_workers)
    steps_per_epoch = len(plan.steps())
    total = stage.iterations or (stage.epochs or 0) * steps_per_epoch
    last_stage = position.stage == len(recipe.stages()) - 1
    sums: dict[str, Any] = defaultdict(float, position.sums if runtime.is_main_process else {})
    session.report.begin(f"training {stage.name}", total, position.step)
    started = time.monotonic() - position.seconds
    saved_at = waited_from = time.monotonic()
    for batch, size in iterate_batches(plan, loader, position.step, total):
        sums["data_seconds"] += time.monotonic() - waited_from
        factor = rate_factor(schedule, position.step / steps_per_epoch, total / steps_per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = optimizer_knobs.lr * factor * group["lr_mult"]
        torch.manual_seed(derive_seed(knobs.seed, "step", position.stage, position.step, runtime.rank))
        if knobs.partial_bn:
            freeze_batch_norm(model)
        batch, size = drop_failed(session, batch, size, position)
        if size:
            batch = to_device(batch, runtime)
            inputs, targets = batch.inputs, batch.labels
            if knobs.mixup or knobs.cutmix:
                rng = make_generator(knobs.seed, "mix", position.stage, position.step, runtime.rank)
                classes = len(recipe.data.labels())
                inputs, targets = mix(inputs, targets, classes, rng, mixup=knobs.mixup, cutmix=knobs.cutmix)
            told = train_step(
                session, wrapped, model, optimizer, inputs, targets, len(batch) * runtime.world_size / size
            )
            if average is not None:
                update_ema(average, model, knobs.ema_decay, position.step)
            for name, value in told.items():
                sums[name] += value
        position.step += 1
        session.report.step()
        if position.step % steps_per_epoch == 0 or position.step == total:
            row = _epoch_row(session, stage, math.ceil(position.step / steps_per_epoch), position.step, sums)
            row |= {"lost": len(position.failed)} if knobs.on_error == "skip" else {}
            row |= {"lr": optimizer_knobs.lr * factor, "seconds": round(time.monotonic() - started, 3)}
            if session.val and (position.step == total or row["epoch"] % knobs.val_interval == 0):
                answers = predict_split(runtime, kept, session.val, knobs.batch_size, knobs.num_workers)
                top1 = score(answers.probabilities, answers.labels, recipe.data.labels()).top1
                row["val"] = {"loss": answers.loss, "top1": top1}
                if knobs.checkpoint == "best" and last_stage and top1 > position.best:
                    position.best = top1
                    if runtime.is_main_process:
                        run.write_weights("weights", kept)
            if runtime.is_main_process:
                session.journal.write(**row)
                session.report.epoch(row, math.ceil(total / steps_per_epoch))
            sums = defaultdict(float)
        asked, due = runtime.any_process(bool(stop), time.monotonic() - saved_at > knobs.save_seconds)
        if asked or due:
            position.sums = _totals(session, sums)
            position.seconds = time.monotonic() - started
            if runtime.is_main_process:
                parts = {"model": model, "optimizer": optimizer} | ({"average": average} if average else {})
                run.write_state(_state(position, session.journal.size, **parts))
            sums = defaultdict(float, position.sums if runtime.is_main_process else {})
            saved_at = time.monotonic()
        if asked:
            raise InterruptedTrainingError(
                f"stopped in stage {stage.name}, step {position.step} of {total}; all of it is saved",
                expected="to be resumed",
                hint=f"go on with `muybridge train --run {run.path} --resume`",
            )
        waited_from = time.monotonic()
    following = TrainState(stage=position.stage + 1, failed=position.failed)
    if runtime.is_main_process:
        run.write_weights(f"stages/{stage.name}", kept)
        if last_stage and knobs.checkpoint == "last":
            run.write_weights("weights", kept)
        run.write_state(_state(following, session.journal.size))
    runtime.fabric.barrier()
    return following


def iterate_batches(plan: BatchPlan, loader: DataLoader[Any], step: int, total: int) -> Iterator[tuple[Batch, int]]:
    """The batches from a step on, through as many epochs as it takes, each with its size over all processes."""
    while step < total:
        epoch, first = divmod(step, len(plan.steps()))
        plan.start_at(epoch, first)
        sizes = [len(indices) for indices in plan.steps()[first:]]
        yield from zip(islice(loader, total - step), sizes, strict=False)
        step += len(sizes)


def drop_failed(session: Session, batch: Batch, size: int, position: TrainState) -> tuple[Batch, int]:
    """The batch without what cannot be read, and its size over all processes; 0 where one of them has nothing left.

    Raises:
        DataError: a recording cannot be read, and is not to be skipped or is one too many.
    """
    if session.recipe.train.on_error == "raise":
        return batch.raise_on_failure(), size
    shares = session.runtime.all_gather((len(batch), batch.failed))
    failed = {one.id: one for _, some in shares for one in some if one.id not in position.failed}
    if failed:
        position.failed = sorted({*position.failed, *failed})
        if session.runtime.is_main_process:
            rows = [Excluded(one.id, one.path, f"cannot be read: {one.problem.problem}") for one in failed.values()]
            session.run.exclude("train", rows)
        if len(position.failed) > MAX_FAILED_SHARE * len(session.train):
            raise DataError(
                f"{len(position.failed)} of {len(session.train)} training recordings cannot be read",
                expected=f"{MAX_FAILED_SHARE:.0%} of them at most",
                hint=f"mend or remove them; {session.run.path / 'excluded.tsv'} lists them",
            ) from next(iter(failed.values())).problem
    sizes = [count for count, _ in shares]
    return batch, sum(sizes) if all(sizes) else 0


def initialize_model(session: Session, stage: Stage, number: int, resumed: bool) -> Model:
    """The stage's model as it begins: fresh, calibrated, with what it takes from earlier stages, frozen where told."""
    recipe = session.recipe
    model = build_model(recipe, stage, number, fetch=not resumed)
    if not resumed:
        plain = make_loader(
            session.plain, sequential_plan(len(session.plain), recipe.train.batch_size), recipe.train.num_workers
        )
        skip = recipe.train.on_error == "skip"
        batches = (batch if skip else batch.raise_on_failure() for batch in plain)
        model.calibrate(batch.inputs for batch in batches if len(batch))
        tensors = model.state_dict()
        for prefix, source in stage.init_from.items():
            if isinstance(source, SourceRun):
                continue
            path = session.run.path / "stages" / f"{source}.safetensors"
            tensors |= {name: one for name, one in read_weights(path).items() if name.startswith(prefix)}
            load_weights(model, tensors, path)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not name.startswith(stage.freeze))
    if recipe.train.partial_bn:
        freeze_batch_norm(model)
    return model


def build_model(recipe: Recipe, stage: Stage, number: int, *, fetch: bool = True) -> Model:
    """The model of a stage with weights drawn, or fetched from where pretrained ones and those of other runs are."""
    torch.manual_seed(derive_seed(recipe.train.seed, "init", number))
    config: ModelConfig = recipe.stage_model(stage)
    model = (config if fetch else config.without_pretrained()).build(len(recipe.data.labels()), recipe.data.holds())
    if fetch:
        load_parameters_from(model, stage.init_from)
    return model


def freeze_batch_norm(model: nn.Module) -> None:
    """Keep all batch normalisations but the first as they are (partial BN of TSN, Wang et al., ECCV 2016)."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms[1:]:
        norm.eval().requires_grad_(False)


def train_step(
    session: Session,
    wrapped: Any,
    model: Model,
    optimizer: Optimizer,
    inputs: dict[str, Tensor],
    targets: Targets,
    share: float,
) -> dict[str, Tensor | float]:
    """One optimizer step; gives sums over the batch: each loss term, the right answers, the samples, the seconds.

    Args:
        session: the training.
        wrapped: the model as Fabric runs it.
        model: the model itself, which names its losses.
        optimizer: over the parameters that learn.
        inputs: of this process's samples.
        targets: the right class of each, or a probability for every class.
        share: weight of this process's mean loss, so that the mean over processes is the mean over all samples.
    """
    started = time.monotonic()
    runtime, knobs = session.runtime, session.recipe.train
    count = len(targets)
    told: dict[str, Tensor | float] = defaultdict(float, count=count)
    pieces = torch.arange(count, device=runtime.device).chunk(knobs.accumulate_steps)
    for number, piece in enumerate(pieces, start=1):
        part = {name: value[piece] for name, value in inputs.items()} if len(pieces) > 1 else inputs
        target = targets[piece]
        with runtime.fabric.no_backward_sync(wrapped, enabled=number < len(pieces)):
            output = wrapped(**part)
            if knobs.label_smoothing:
                soft = target if target.ndim == 2 else F.one_hot(target, output.logits.shape[1])
                soft = soft.to(output.logits.dtype)
                soft = torch.lerp(soft, torch.full_like(soft, 1 / soft.shape[1]), knobs.label_smoothing)
                terms = model.losses(output, soft, part)
            else:
                terms = model.losses(output, target, part)
            loss = torch.stack(list(terms.values())).sum()
            runtime.fabric.backward(loss * (share * len(piece) / count))
        for name, value in {"loss": loss, **terms}.items():
            told[name] += value.detach() * len(piece)
        told["right"] += (output.logits.detach().argmax(1) == (target.argmax(1) if target.ndim == 2 else target)).sum()
    if knobs.clip_grad_norm:
        runtime.fabric.clip_gradients(wrapped, optimizer, max_norm=knobs.clip_grad_norm, error_if_nonfinite=False)
    optimizer.step()
    optimizer.zero_grad()
    told["model_seconds"] = time.monotonic() - started
    return told


def update_ema(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the running average of the weights; early on it follows faster, so that it forgets where it began."""
    rate = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for kept, now in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(now, rate)
            else:
                kept.copy_(now)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """A list that fills when somebody presses Ctrl-C or sends SIGTERM; a second Ctrl-C stops at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask_once(signum: int, _frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(signum)

    before = {kind: signal.signal(kind, ask_once) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _state(position: TrainState, journal: int, **parts: Any) -> dict[str, Any]:
    return {"position": asdict(position), "journal": journal} | {k: part.state_dict() for k, part in parts.items()}


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
            hint="lower train.optimizer.lr, or set train.clip_grad_norm; what was saved before is whole",
            where=session.run.path,
        )
    return totals


def _epoch_row(session: Session, stage: Stage, epoch: int, step: int, sums: dict[str, Any]) -> dict[str, Any]:
    totals = _totals(session, sums)
    count = totals.pop("count")
    seconds = {name: round(totals.pop(name), 3) for name in ("data_seconds", "model_seconds")}
    top1 = 100 * totals.pop("right") / count
    means = {name: value / count for name, value in totals.items()}
    return {
        "event": "epoch",
        "stage": stage.name,
        "epoch": epoch,
        "step": step,
        "train": means | {"top1": top1},
    } | seconds


def _check_same(recipe: Recipe, run: RunFolder, resume: bool) -> None:
    """Refuse to go on with a run that was started from another recipe."""
    if not resume:
        raise RunError(
            "holds a run already",
            expected="a new folder",
            hint="add --resume to go on with it, or choose another --run folder",
            where=run.path,
        )
    theirs, ours = _flat(dump(run.recipe())), _flat(dump(recipe))
    free = ("title", "expects.", "train.num_workers", "train.save_seconds")
    differ = [k for k in sorted(theirs | ours) if theirs.get(k) != ours.get(k) and not k.startswith(free)]
    if differ:
        raise RunError(
            f"was started with another recipe ({', '.join(differ[:5])} differ)",
            expected="the recipe in its recipe.toml",
            hint="resume with `--run DIR --resume` and no recipe, or choose another --run folder",
            where=run.path,
        )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
