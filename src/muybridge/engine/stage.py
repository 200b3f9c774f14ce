"""One stage of a training: its model, its optimizer, and a step of both."""

import copy
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from muybridge.core.rng import derive_seed, make_generator
from muybridge.core.types import Batch, Output
from muybridge.data.balance import ClassBalance
from muybridge.data.loader import BatchPlan, make_loader, sequential_plan
from muybridge.data.workers import WorkerLoader
from muybridge.engine.evaluate import check_features, eval_batch_size, predict_split, score_predictions, to_device
from muybridge.engine.initialize import freeze_batch_norm, initialize_model
from muybridge.engine.mixing import mix
from muybridge.engine.optim import build_optimizer, rate_factor
from muybridge.engine.runtime import Runtime
from muybridge.engine.session import Session
from muybridge.engine.sharding import load_optimizer_state, shard_like, whole_optimizer_state, whole_state
from muybridge.models.base import Criterion, Model, Targets
from muybridge.nn.criterion import BinaryCrossEntropy, CrossEntropy
from muybridge.recipe import AnyOptimizer, Schedule, Stage


@dataclass
class StageTrainer:
    """What learns in a stage.

    Attributes:
        session: the training.
        stage: the stage.
        number: of the stage, from 0.
        model: the model itself.
        average: the moving average of the model's weights, which is tested and saved in its place; None without one.
        whole: where parameters are in shares, a model for all of them, for testing and saving; else None.
        wrapped: the model as Fabric runs it.
        optimizer: over the parameters that learn.
        criterion: the loss of class scores.
        plan, loader: the batches.
        val_loader: the validation set, if there is one.
        total: optimizer steps of the stage.
    """

    session: Session
    stage: Stage
    number: int
    model: Model
    average: Model | None
    whole: Model | None
    wrapped: Any
    optimizer: Optimizer
    criterion: Criterion
    plan: BatchPlan
    loader: WorkerLoader
    val_loader: WorkerLoader | None
    total: int

    @classmethod
    def start(cls, session: Session, stage: Stage, number: int, saved: dict[str, Any]) -> "StageTrainer":
        """The stage at its beginning, or as a saved state with the key ``model`` has it."""
        recipe, runtime, settings = session.recipe, session.runtime, session.recipe.train
        resumed = "model" in saved
        model = initialize_model(recipe, session.run, session.plain, stage, number, resumed=resumed)
        average = copy.deepcopy(model).requires_grad_(False) if settings.ema_decay else None
        if resumed:
            model.load_state_dict(saved["model"])
            if average is not None:
                average.load_state_dict(saved["average"])
        check_features(session.train, recipe.stage_model(stage), model)
        session.run.check_disk_space(model)
        whole = copy.deepcopy(model).requires_grad_(False).to(runtime.device) if runtime.is_sharded else None
        compiled = cast("nn.Module", torch.compile(model)) if settings.compile else model
        wrapped = runtime.fabric.setup_module(compiled)
        if average is not None:
            average = average.to(runtime.device, next(model.parameters()).dtype)
            average = shard_like(average, model) if runtime.is_sharded else average
        optimizer = build_optimizer(stage.optimizer or settings.optimizer, model, settings.param_groups, runtime.fused)
        if resumed:
            load_optimizer_state(optimizer, saved["optimizer"])
        optimizer = cast("Optimizer", runtime.fabric.setup_optimizers(optimizer))
        plan_seed = derive_seed(settings.seed, "stage", number)
        balance = class_balance(session)
        if balance and not resumed and not number:
            session.report.say(f"train.balance: {balance}")
        plan = BatchPlan(
            len(session.train),
            settings.batch_size,
            plan_seed,
            runtime.rank,
            runtime.world_size,
            balance if settings.balance == "sampler" else None,
        )
        loader = make_loader(session.train, plan, settings.num_workers)
        total = stage.iterations or (stage.epochs or 0) * len(plan.steps())
        criterion = make_criterion(session, balance)
        trainer = cls(
            session, stage, number, model, average, whole, wrapped, optimizer, criterion, plan, loader, None, total
        )
        trainer.val_loader = trainer._make_val_loader()
        return trainer

    def close(self) -> None:
        """End the processes that load samples."""
        for loader in (self.loader, self.val_loader):
            if loader is not None:
                loader.close()

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps that see as many samples as the training set has."""
        return len(self.plan.steps())

    @property
    def metric(self) -> str:
        """The score on the validation set that epochs are compared by, one of ``muybridge.engine.metrics.METRICS``."""
        return "mean_average_precision" if self.session.recipe.data.multi_label() else "top1"

    @property
    def is_last(self) -> bool:
        """Whether the weights of this stage become those of the run."""
        return self.number == len(self.session.recipe.stages()) - 1

    def begin_step(self, step: int) -> float:
        """Set the learning rate and the seed of a step; returns the learning rate."""
        settings, epochs = self.session.recipe.train, self.total / self.steps_per_epoch
        config: AnyOptimizer = self.stage.optimizer or settings.optimizer
        schedule: Schedule = self.stage.schedule or settings.schedule
        factor = rate_factor(schedule, step / self.steps_per_epoch, epochs)
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * factor * group["lr_mult"]
        torch.manual_seed(derive_seed(settings.seed, "step", self.number, step, self.session.runtime.rank))
        if settings.partial_bn:
            freeze_batch_norm(self.model)
        return config.lr * factor

    def step(self, batch: Batch, size: int, step: int) -> dict[str, Tensor | float]:
        """One optimizer step; returns sums over the batch, see :func:`train_step`.

        Args:
            batch: this process's samples.
            size: samples of the step over all processes.
            step: its number.
        """
        session, settings = self.session, self.session.recipe.train
        batch = to_device(batch, session.runtime)
        inputs, targets = batch.inputs, batch.labels
        if settings.mixup or settings.cutmix:
            rng = make_generator(settings.seed, "mix", self.number, step, session.runtime.rank)
            classes = len(session.recipe.data.labels())
            inputs, targets = mix(inputs, targets, classes, rng, mixup=settings.mixup, cutmix=settings.cutmix)
        metrics = train_step(self, inputs, targets, len(batch) * session.runtime.world_size / size)
        if self.average is not None:
            update_ema(self.average, self.model, settings.ema_decay, step)
        return metrics

    def tested_model(self) -> Model:
        """What is tested and saved, whole: the average, or else the model. Every process has to call it."""
        model = self.model if self.average is None else self.average
        if self.whole is None:
            return model
        self.whole.load_state_dict(whole_state(model))
        return self.whole

    def validate(self) -> dict[str, float]:
        """The loss on the validation set, and the score that epochs are compared by, by its name."""
        session = self.session
        assert session.val is not None
        predictions = predict_split(
            session.runtime, self.tested_model(), session.val, session.recipe.train.batch_size, loader=self.val_loader
        )
        scores = score_predictions(predictions, session.recipe, session.recipe.data.labels())
        return {"loss": predictions.loss, self.metric: getattr(scores, self.metric)}

    def state_dicts(self) -> dict[str, Any]:
        """What is saved to resume the stage, whole in the main process. Every process has to call it."""
        keep = self.session.runtime.is_main_process
        state = {
            "model": whole_state(self.model, keep=keep),
            "optimizer": whole_optimizer_state(self.optimizer, keep=keep),
        }
        return state if self.average is None else state | {"average": whole_state(self.average, keep=keep)}

    def _make_val_loader(self) -> WorkerLoader | None:
        """One loader for all validations, whose processes thus start once."""
        val, settings, runtime = self.session.val, self.session.recipe.train, self.session.runtime
        if val is None:
            return None
        size = eval_batch_size(val, settings.batch_size)
        return make_loader(val, sequential_plan(len(val), size, runtime.rank, runtime.world_size), settings.num_workers)


def train_step(
    trainer: StageTrainer, inputs: dict[str, Tensor], targets: Targets, share: float
) -> dict[str, Tensor | float]:
    """One optimizer step; returns sums over the batch.

    They are each loss term, ``count``, ``model_seconds`` and, of recordings of one label, ``correct``.

    Args:
        trainer: the stage.
        inputs: of this process's samples.
        targets: the label of each, or a probability for every class.
        share: weight of this process's mean loss, so that the mean over processes is the mean over all samples.
    """
    started = time.monotonic()
    fabric, settings = trainer.session.runtime.fabric, trainer.session.recipe.train
    count = len(targets)
    metrics: dict[str, Tensor | float] = defaultdict(float, count=count)
    pieces = _pieces(trainer.session.runtime, torch.arange(count, device=targets.device), settings.accumulate_steps)
    for number, piece in enumerate(pieces, start=1):
        part = {name: value[piece] for name, value in inputs.items()} if len(pieces) > 1 else inputs
        target = targets[piece]
        with fabric.no_backward_sync(trainer.wrapped, enabled=number < len(pieces)):
            output: Output = trainer.wrapped(**part)
            terms = trainer.model.losses(output, target, part, trainer.criterion)
            loss = torch.stack(list(terms.values())).sum()
            fabric.backward(loss * (share * len(piece) / count))
        for name, value in {"loss": loss, **terms}.items():
            metrics[name] += value.detach() * len(piece)
        if trainer.metric == "top1":
            labels = target.argmax(1) if target.ndim == 2 else target
            metrics["correct"] += (output.logits.detach().argmax(1) == labels).sum()
    if settings.clip_grad_norm:
        fabric.clip_gradients(
            trainer.wrapped, trainer.optimizer, max_norm=settings.clip_grad_norm, error_if_nonfinite=False
        )
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()
    metrics["model_seconds"] = time.monotonic() - started
    return metrics


def _pieces(runtime: Runtime, samples: Tensor, number: int) -> tuple[Tensor, ...]:
    """The samples of a batch in so many parts, or fewer; as many in every process where each part needs all of them."""
    if not runtime.is_sharded or number == 1:
        return samples.chunk(number)
    return samples.tensor_split(min(number, *runtime.all_gather(len(samples))))


def class_balance(session: Session) -> ClassBalance | None:
    """How much the classes of the training set count; None where the recipe leaves them as they are."""
    settings, samples = session.recipe.train, session.train
    if not settings.balance:
        return None
    labels, classes = [record.label for record in samples.records], session.recipe.data.labels()
    return ClassBalance.of(labels, len(classes), settings.balance_beta, samples.prepare.relabelling())


def make_criterion(session: Session, balance: ClassBalance | None) -> Criterion:
    """The loss of class scores that the recipe asks for."""
    settings = session.recipe.train
    if session.recipe.data.multi_label():
        return BinaryCrossEntropy(settings.label_smoothing, settings.focal_gamma)
    weights = None
    if balance and settings.balance == "loss":
        weights = torch.tensor(balance.class_weights, dtype=torch.float32, device=session.runtime.device)
    return CrossEntropy(weights, settings.label_smoothing, settings.focal_gamma)


def update_ema(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Update the moving average of the weights; early on with a smaller decay, so that it forgets where it began."""
    rate = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, rate)
            else:
                mean.copy_(value)
