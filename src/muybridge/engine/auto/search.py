"""The search: short trainings of all candidates, longer ones of the better half, then other validation parts.

The answer is the best network, the linear model, or both fused, trained on all training recordings. Nothing of the test
part is opened before the answer is trained.
"""

import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from muybridge.baseline import BaselineTable
from muybridge.core.errors import MuybridgeError, RecipeError, RunError
from muybridge.data.datasets.base import require_one_label
from muybridge.engine.auto.candidates import (
    attempt_recipe,
    can_be_fused,
    candidate_recipes,
    final_fused,
    final_linear,
    final_network,
    models_of,
    short_epochs,
)
from muybridge.engine.auto.folds import Fold, Searched, make_folds, training_records
from muybridge.engine.auto.fusion import accuracy, learn_mixture
from muybridge.engine.auto.linear import ValidatedLinear, validate_linear
from muybridge.engine.auto.table import Attempt, SearchTable
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.fuse import read_predictions
from muybridge.engine.interrupt import InterruptedTrainingError, TimeUsedUpError
from muybridge.engine.journal import Reporter
from muybridge.engine.metrics import Scores
from muybridge.engine.runtime import Runtime
from muybridge.engine.start import check_folder, training_precision
from muybridge.engine.train import train
from muybridge.recipe import Recipe

ATTEMPTS = "candidates"
"""The folder of the candidates' runs in the run folder, until the answer is trained."""

FINALISTS = 2
"""Networks that are validated on all parts."""


def search(
    root: Path,
    folder: Path,
    *,
    starter: str,
    settings: Mapping[str, Any] | None = None,
    minutes: float = 10.0,
    resume: bool = False,
    device: str = "auto",
    report: Reporter | None = None,
    baselines: BaselineTable | None = None,
) -> RunFolder:
    """Choose and train the model of a folder of recordings.

    Args:
        root: the folder of the class folders, a table, or a pack (one at an address as ``data.root`` of the settings).
        folder: the run folder; made if needed.
        starter: a model that takes the kind of recordings, such as "drnn" or "tdn".
        settings: of the data and the training, by dotted names; ``model.size`` and ``model.pretrained`` for models that
            have them.
        minutes: time limit of the search and the training of its answer, as far as its time can be foreseen.
        resume: resume the search in the folder; attempts that ended are not repeated.
        device: where to compute.
        report: where progress is shown; by default nowhere.
        baselines: of the data; kept in the run folder.

    Raises:
        RecipeError: a setting is unknown, or belongs to one model.
        RunError: the folder has another run, or cannot be written.
        DataError: the training part is empty, or a recording cannot be read.
        InterruptedTrainingError: stopped by Ctrl-C or SIGTERM; the search can be resumed.
    """
    report, run = report or Reporter(quiet=True), RunFolder(folder)
    if run.exists:  # the answer is chosen, and perhaps not trained to its end
        return train(run.recipe(), folder, resume=resume, report=report)
    (first,) = candidate_recipes([starter], root, settings or {}).values()
    assert isinstance(first.data, Searched)
    require_one_label(first.data, "a search (--model auto)")
    recipes = candidate_recipes(models_of(first.data), root, settings or {})
    if any(recipe.train.stages for recipe in recipes.values()):
        raise RecipeError(
            "train.stages with --model auto", expected="one stage", hint="leave it out, or name one model"
        )
    check_folder(first, folder)
    table = SearchTable.start(run.path, {"data.root": str(root), **(settings or {})}, minutes, resume=resume)
    attempts = RunFolder(run.path / ATTEMPTS)
    attempts.make()
    with attempts.lock():
        table.write()
        answer = _Search(recipes, table, device, report).answer()
    report.say("\n".join(table.lines()))
    trained = train(answer, folder, runtime=_runtime(answer, folder, device), report=report, baselines=baselines)
    shutil.rmtree(attempts.path, ignore_errors=True)
    return trained


@dataclass(frozen=True, slots=True)
class _Validated:
    """A network's scores of the recordings of some validation parts."""

    attempts: Sequence[Attempt]
    scores: Tensor
    labels: Tensor
    linear: Tensor


class _Search:
    """One search, whose state is its table."""

    def __init__(self, recipes: Mapping[str, Recipe], table: SearchTable, device: str, report: Reporter) -> None:
        self.recipes, self.table, self.device, self.report = recipes, table, device, report
        self.started = time.monotonic() - table.seconds
        self.data = next(iter(recipes.values())).data
        assert isinstance(self.data, Searched)
        self.records = training_records(self.data)
        self.folds: Sequence[Fold] = make_folds(self.data)

    def answer(self) -> Recipe:
        """The recipe of the answer."""
        linear = self._validate_linear()
        finalists = self._halve() if self.folds else []
        recipe, name, reason = self._choose(linear, finalists)
        self.table.choice = {"model": name, "reason": reason}
        self._save()
        return recipe

    def _validate_linear(self) -> ValidatedLinear:
        """The linear model, which is always among the candidates."""
        started = time.monotonic()
        with self.report:
            self.report.begin("reading recordings for the linear model")
            linear = validate_linear(self.data, self.records, self.folds, self.report.update)
        seconds = time.monotonic() - started
        labels = {record.id: record.label for record in self.records}
        ids = [(part, id_) for part, rows in linear.scores.items() for id_ in rows]
        if not ids:
            return linear
        scores = torch.cat([linear.of(part, [id_]) for part, id_ in ids])
        truth = torch.tensor([labels[id_] for _, id_ in ids])
        loss = float(F.cross_entropy(scores, truth))
        self._add(Attempt("linear", 0, None, "done", seconds, accuracy(scores, truth), loss, len(ids)))
        return linear

    def _halve(self) -> list[str]:
        """Train candidates; returns those that were trained longest on the most validation parts, the best first."""
        for name, recipe in self.recipes.items():
            self._attempt(name, short_epochs(recipe), 0)
        ranked = self._rank({name: short_epochs(recipe) for name, recipe in self.recipes.items()}, [0])
        longer = ranked[: max(FINALISTS, -(-len(ranked) // 2))]
        for name in longer:
            self._attempt(name, self.recipes[name].train.epochs, 0)
        full = {name: self.recipes[name].train.epochs for name in longer}
        finalists = self._rank(full, [0])[:FINALISTS]
        for part in range(1, len(self.folds)):
            for name in finalists:
                self._attempt(name, full[name], part)
        if not finalists:
            return ranked
        return self._rank({name: full[name] for name in finalists}, self._common_parts(full, finalists))

    def _common_parts(self, epochs: Mapping[str, int], names: Sequence[str]) -> list[int]:
        """The validation parts on which all of these networks were validated."""
        return [part for part in range(len(self.folds)) if all(self._done(name, epochs[name], part) for name in names)]

    def _rank(self, epochs: Mapping[str, int], parts: Sequence[int]) -> list[str]:
        """Names of the networks that were validated on all of these parts, the best first."""
        rows = {name: [self._done(name, count, part) for part in parts] for name, count in epochs.items()}
        done = {name: [one for one in attempts if one] for name, attempts in rows.items() if all(attempts)}
        return sorted(done, key=lambda name: _order(done[name]))

    def _done(self, name: str, epochs: int, part: int) -> Attempt | None:
        attempt = self.table.find(name, epochs, part)
        return attempt if attempt and attempt.state == "done" else None

    def _attempt(self, name: str, epochs: int, part: int) -> None:
        """Train and validate a network, if there is time, and keep the outcome in the table."""
        if self.table.find(name, epochs, part):
            return
        limit, expected = self._limit(name, part), self._expected(name, epochs)
        attempt = Attempt(name, epochs, part, "skipped", note="no time left")
        if limit <= 0 or expected > limit:
            self._add(attempt)
            return
        started = time.monotonic()
        try:
            self._add(self._train(replace(attempt, state="done", note=""), limit))
        except TimeUsedUpError:
            self._add(replace(attempt, state="stopped", seconds=time.monotonic() - started))
        except InterruptedTrainingError as stopped:
            self._save()
            raise InterruptedTrainingError(
                f"stopped while {name} was trained; everything up to here is saved",
                expected="a search to its end",
                hint=f"resume with `muybridge train --run {self.table.path} --resume`",
            ) from stopped
        except MuybridgeError as problem:
            self._add(replace(attempt, state="failed", seconds=time.monotonic() - started, note=str(problem)))

    def _train(self, attempt: Attempt, limit: float) -> Attempt:
        """Train and validate a network within so many seconds; returns the attempt with its outcome."""
        title = (
            f"{attempt.model}, {attempt.epochs} epochs, validation part {(attempt.part or 0) + 1} of {len(self.folds)}"
        )
        self.report.say(title)
        recipe = attempt_recipe(self.recipes[attempt.model], attempt.epochs, self.folds[attempt.part or 0].settings)
        folder, started = self.table.path / ATTEMPTS / attempt.folder, time.monotonic()
        runtime, resume = _runtime(recipe, folder, self.device), RunFolder(folder).exists
        self.report.brief = True
        try:
            run = train(recipe, folder, resume=resume, runtime=runtime, report=self.report, seconds=limit)
            scores = evaluate(run, "val", runtime, self.report)
            assert isinstance(scores, Scores)
        finally:
            self.report.brief = False
        predictions = read_predictions(run, "val")
        loss = float(F.nll_loss(_scores(predictions.probabilities), predictions.labels))
        seconds = time.monotonic() - started
        self.report.say(f"  top-1 {scores.top1:.1f} % of {scores.count} recordings, {seconds:.0f} s")
        return replace(attempt, seconds=seconds, top1=scores.top1, loss=loss, count=scores.count)

    def _limit(self, name: str, part: int) -> float:
        """Seconds that an attempt may take, so that there is time to train the answer on all recordings."""
        more = len(self.records) / len(self.folds[part].train)
        left = 60 * self.table.minutes - (time.monotonic() - self.started)
        done = (one for one in self.table.attempts if one.part is not None and one.state == "done")
        longest = max((one.seconds for one in done), default=0.0)
        return min(left / (1 + more), left - more * longest)

    def _expected(self, name: str, epochs: int) -> float:
        """Seconds that an attempt will probably take; 0 where nothing is known."""
        known = [one for one in self.table.attempts if one.model == name and one.state == "done"]
        each = [one.seconds / max(1, one.epochs) for one in known]
        return statistics.fmean(each) * max(1, epochs) if each else 0.0

    def _choose(self, linear: ValidatedLinear, finalists: Sequence[str]) -> tuple[Recipe, str, str]:
        """The recipe of the answer, its name and the reason."""
        first = next(iter(self.recipes.values()))
        floor = final_linear(first, linear.config)
        if not self.folds:
            return floor, "linear", "linear, as the training part is too small to validate anything else on"
        if not finalists:
            why = (
                "failed"
                if all(one.state == "failed" for one in self.table.attempts if one.part is not None)
                else "ended in time"
            )
            text = "all candidates failed" if why == "failed" else "no candidate ended within the time limit"
            return floor, "linear", f"linear, as {text}"
        name = finalists[0]
        known = self._validated(name, linear)
        epochs = known.attempts[0].epochs
        options = {
            name: (accuracy(known.scores, known.labels), float(F.nll_loss(known.scores, known.labels))),
            "linear": (accuracy(known.linear, known.labels), float(F.cross_entropy(known.linear, known.labels))),
        }
        answers = {name: final_network(self.recipes[name], epochs), "linear": floor}
        if can_be_fused(self.recipes[name]):
            mixture = learn_mixture(known.scores, known.linear, known.labels)
            options["fused"] = mixture.top1, mixture.loss
            answers["fused"] = final_fused(self.recipes[name], epochs, linear.config, mixture)
            self._add(Attempt("fused", epochs, None, "done", 0.0, mixture.top1, mixture.loss, len(known.labels)))
        best = min(options, key=lambda option: (-round(options[option][0], 6), options[option][1]))
        figures = ", ".join(f"{option} {top1:.1f} %" for option, (top1, _) in options.items())
        what = f"{name} fused with the linear model" if best == "fused" else best
        return answers[best], best, f"{what}, for its top-1 on the same {len(known.labels)} recordings: {figures}"

    def _validated(self, name: str, linear: ValidatedLinear) -> _Validated:
        """What the best network and the linear model score of the recordings of all its validation parts."""
        longest = max(one.epochs for one in self.table.attempts if one.model == name and one.state == "done")
        attempts = [one for part in range(len(self.folds)) if (one := self._done(name, longest, part))]
        read = [read_predictions(RunFolder(self.table.path / ATTEMPTS / one.folder), "val") for one in attempts]
        return _Validated(
            attempts,
            torch.cat([_scores(one.probabilities) for one in read]),
            torch.cat([one.labels for one in read]),
            torch.cat([linear.of(one.part or 0, run.ids) for one, run in zip(attempts, read, strict=True)]),
        )

    def _add(self, attempt: Attempt) -> None:
        self.table.seconds = time.monotonic() - self.started
        self.table.add(attempt)

    def _save(self) -> None:
        self.table.seconds = time.monotonic() - self.started
        self.table.write()


def _order(attempts: Sequence[Attempt]) -> tuple[float, float]:
    """For sorting: higher accuracy over all parts first, then lower loss."""
    count = sum(one.count for one in attempts)
    top1, loss = (sum((getattr(one, name) or 0.0) * one.count for one in attempts) / count for name in ("top1", "loss"))
    return -round(top1, 6), loss


def _scores(probabilities: Tensor) -> Tensor:
    """Logarithms of probabilities, which are read with six digits."""
    return probabilities.clamp(min=1e-7).log()


def _runtime(recipe: Recipe, folder: Path, device: str) -> Runtime:
    """Raises RunError in a training of several processes, whose searches could differ."""
    runtime = Runtime(training_precision(recipe, folder), device)
    if runtime.world_size > 1:
        raise RunError(
            f"--model auto in {runtime.world_size} processes",
            expected="one process",
            hint="start it without torchrun, or name one model",
        )
    return runtime
