"""Testing: every recording of a split once, whatever the number of processes."""

import csv
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from muybridge.core.errors import DataError, MuybridgeWarning, RunError
from muybridge.core.types import Batch, Record, join_labels
from muybridge.data.datasets import Playback
from muybridge.data.datasets.base import Split
from muybridge.data.feature_store import FeatureStore
from muybridge.data.loader import SampleDataset, make_loader, sequential_plan
from muybridge.data.playback import PlaybackPreparation
from muybridge.engine.calibration import Calibration, reliability
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluated_part import EvaluatedPart, Missing, edited_recipe_note, find_evaluated_part
from muybridge.engine.journal import Reporter
from muybridge.engine.metrics import THRESHOLD, AnyScores, Scores, score, score_multi_label
from muybridge.engine.runtime import Runtime, explained_errors
from muybridge.engine.weights import checksum
from muybridge.models.base import Model
from muybridge.models.config import ModelConfig
from muybridge.recipe import Recipe


@dataclass(frozen=True, slots=True)
class SplitPredictions:
    """Predictions for every sample, in index order, on every process alike; means over a sample's views.

    Attributes:
        log_probabilities: ``N K``, float32.
        labels: ``N``; where there may be several, ``N K``, 1 for each class that is there.
        ids: record ids.
        loss: mean cross-entropy of the probabilities.
    """

    log_probabilities: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    loss: float

    @property
    def probabilities(self) -> Tensor:
        """``N K``, float32."""
        return self.log_probabilities.exp()


def predict_split(
    runtime: Runtime,
    model: Model,
    samples: SampleDataset,
    batch_size: int,
    workers: int = 0,
    loader: DataLoader[Any] | None = None,
    report: Reporter | None = None,
) -> SplitPredictions:
    """Apply a model to every sample exactly once; the processes share the work.

    Args:
        runtime: device and processes.
        model: on the device.
        samples: prepared as for testing.
        batch_size: views that the model sees at once.
        workers: processes that load samples.
        loader: of this process's share of the samples; by default a new one.
        report: where progress is shown, in batches of this process.

    Raises:
        DataError: a recording cannot be read.
        RunError: the model's scores are not finite.
    """
    if loader is None:
        plan = sequential_plan(len(samples), eval_batch_size(samples, batch_size), runtime.rank, runtime.world_size)
        loader = make_loader(samples, plan, workers)
    rows: list[Tensor] = []
    labels: list[Tensor] = []
    was_training = model.training
    dtype = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    model.eval()
    if report:
        report.begin("testing", len(loader))
    with torch.inference_mode():
        for batch in loader:
            inputs = to_device(batch.raise_on_failure(), runtime).inputs
            inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
            with runtime.fabric.autocast():
                output = model(**inputs)
            rows.append(samples.prepare.average_views(output.logits, samples.num_classes is not None).cpu())
            labels.append(batch.labels)
            if report:
                report.step()
    model.train(was_training)
    return _gather(runtime, samples, torch.cat(rows) if rows else None, torch.cat(labels) if labels else None)


def eval_batch_size(samples: SampleDataset, batch_size: int) -> int:
    """Recordings of a batch whose views are at most ``batch_size``, or one."""
    return max(1, batch_size // samples.prepare.views)


def _gather(runtime: Runtime, samples: SampleDataset, rows: Tensor | None, labels: Tensor | None) -> SplitPredictions:
    """Log-probabilities of all processes in index order: process r has samples r, r + world size, ..."""
    shares = [share for share in runtime.all_gather((rows, labels)) if share[0] is not None]
    all_rows = torch.empty(len(samples), shares[0][0].shape[1])
    all_labels = torch.empty(len(samples), *shares[0][1].shape[1:], dtype=shares[0][1].dtype)
    for rank, (part, part_labels) in enumerate(shares):
        all_rows[rank :: runtime.world_size], all_labels[rank :: runtime.world_size] = part, part_labels
    wrong = ~all_rows.exp().isfinite().all(1)
    if wrong.any():
        first = samples.records[int(wrong.nonzero()[0])].id
        raise RunError(
            f"the scores of {int(wrong.sum())} recordings are not finite, {first!r} among them",
            expected="finite weights and recordings",
            hint="check the weights and these recordings; a training that diverged has to be repeated with a lower "
            "train.optimizer.lr",
        )
    if samples.num_classes is None:
        loss = F.nll_loss(all_rows, all_labels).item()
    else:
        loss = F.binary_cross_entropy(all_rows.exp().clamp(max=1.0), all_labels).item()
    return SplitPredictions(all_rows, all_labels, tuple(record.id for record in samples.records), loss)


def evaluate(
    run: RunFolder,
    split: Split = "test",
    runtime: Runtime | None = None,
    report: Reporter | None = None,
    *,
    pixels: bool = False,
    data: Path | None = None,
    missing: Missing = "raise",
) -> AnyScores:
    """Test a trained run on one split, and write ``SPLIT.json`` and ``SPLIT-predictions.csv`` into its folder.

    The recordings are those of the split that the run was trained with, so that none of them was trained on. New
    recordings are reported and not tested.

    Args:
        run: what was trained.
        split: the part of the data.
        runtime: device and processes; by default of the recipe's precision, "auto" being decided anew.
        report: where progress is shown; by default nowhere.
        pixels: read the videos themselves also where the recipe names a feature store.
        data: the folder of the recordings, if they have moved.
        missing: what to do if recordings of the split are gone: "raise", or "exclude" and count them.

    Raises:
        RunError: the run is not trained or damaged, or the scores are not finite.
        DataError: the split is empty, recordings are gone or cannot be read, or the feature store belongs to another
            CNN; nothing is ever skipped or replaced in testing.

    Warns:
        MuybridgeWarning: the results cannot be written into the folder.
    """
    runtime = runtime or Runtime(run.recipe(data).precision)
    calibration = run.calibration()
    predictions, part, recipe = predict_part(run, split, runtime, report, pixels=pixels, data=data, missing=missing)
    uncalibrated = predictions
    if calibration:
        predictions = replace(predictions, log_probabilities=calibration.apply(predictions.log_probabilities))
    scores = score_predictions(predictions, recipe, run.labels(), excluded=part.excluded, precision=runtime.precision)
    if calibration and isinstance(scores, Scores):
        before, after = (_calibration_error(one) for one in (uncalibrated, predictions))
        facts = {"temperature": calibration.temperature, "error_before": before, "error_after": after}
        scores = replace(scores, calibration=facts)
    if runtime.is_main_process:
        _write_results(run, split, scores, predictions, part)
    return scores


def score_predictions(
    predictions: SplitPredictions, recipe: Recipe, names: tuple[str, ...], *, excluded: int = 0, precision: str = ""
) -> AnyScores:
    """The scores of the predictions of a recipe's model, as its recordings have one label each or several."""
    truth = predictions.labels
    if recipe.data.multi_label():
        return score_multi_label(predictions.probabilities, truth, names, excluded=excluded, precision=precision)
    above = recipe.data.superclasses()
    return score(predictions.probabilities, truth, names, excluded=excluded, superclasses=above, precision=precision)


def predict_part(
    run: RunFolder,
    split: Split,
    runtime: Runtime,
    report: Reporter | None = None,
    *,
    pixels: bool = False,
    data: Path | None = None,
    missing: Missing = "raise",
) -> tuple[SplitPredictions, EvaluatedPart, Recipe]:
    """The predictions of a run for one of its parts, not calibrated; see :func:`evaluate` for arguments and errors."""
    recipe = run.recipe(data)
    part = find_evaluated_part(run, recipe, split, missing)
    if not part.records:
        raise DataError(
            f"there are no recordings in the part {split}",
            expected="a part with recordings",
            hint="choose another --split",
            where=run.path,
        )
    model = run.model(torch.float64 if runtime.precision == "64-true" else torch.float32)
    assert isinstance(model, Model)
    samples = make_samples(recipe, split, part.records, pixels=pixels)
    check_features(samples, recipe.model, model)
    _check_processes(run, part, runtime)
    report, settings = report or Reporter(quiet=True), recipe.train
    for note in (*edited_recipe_note(run, recipe), *part.notes):
        report.say(note)
    report.say(f"testing {len(samples)} recordings of {split}")
    model = model.to(runtime.device)
    with explained_errors(), report:
        predictions = predict_split(runtime, model, samples, settings.batch_size, settings.num_workers, report=report)
    return predictions, part, recipe


def _check_processes(run: RunFolder, part: EvaluatedPart, runtime: Runtime) -> None:
    """Refuse processes that would test other weights or other recordings, as where the run folder changes meanwhile."""
    if runtime.world_size > 1:
        records = repr([(record.id, record.classes, record.span) for record in part.records])
        runtime.require_same(
            {
                "the checksum of the weights": run.weights_checksum(),
                "the checksum of ids and labels of the recordings": hashlib.sha256(records.encode()).hexdigest()[:12],
            }
        )


def is_tested(run: RunFolder, split: Split, calibration: Calibration | None) -> bool:
    """Whether the folder has the results of a test on a part, with this calibration."""
    if not (run.path / f"{split}-predictions.csv").is_file():
        return False
    try:
        used = json.loads((run.path / f"{split}.json").read_text(encoding="utf-8")).get("calibration")
    except (OSError, ValueError):
        return calibration is None
    return (used or {}).get("temperature") == (calibration.temperature if calibration else None)


def _calibration_error(predictions: SplitPredictions) -> float:
    return reliability(predictions.probabilities.numpy(), predictions.labels.numpy()).error


def make_samples(
    recipe: Recipe,
    split: Split,
    records: Sequence[Record] | None = None,
    *,
    augment: bool = False,
    model: ModelConfig | None = None,
    pixels: bool = False,
) -> SampleDataset:
    """The samples of a split as the recipe's model takes them.

    Args:
        recipe: what is trained.
        split: the part of the data.
        records: its recordings; by default those that the data set has now.
        augment: whether training samples are prepared.
        model: the config of a stage, which may take less than the recipe's.
        pixels: read the videos themselves also where the recipe names a feature store.

    Raises:
        DataError: the feature store is missing, was made with other settings, or lacks recordings.
    """
    records = recipe.data.index(split).records if records is None else records
    model = model or recipe.model
    classes = len(recipe.data.labels()) if recipe.data.multi_label() else None
    store = None if pixels else recipe.feature_store(model)
    if store is None:
        prepare = recipe.preparation(augment, model)
        played = PlaybackPreparation(prepare) if isinstance(recipe.data, Playback) else prepare
        return SampleDataset(records, recipe.data, played, recipe.train.seed, classes)
    if split != "train" or recipe.train.on_error == "raise":
        store.check_complete(records)
    return SampleDataset(records, store, recipe.feature_preparation(augment, model), recipe.train.seed, classes)


def check_features(samples: SampleDataset, config: ModelConfig, model: nn.Module) -> None:
    """Refuse a model whose frozen parts are not those that the stored features were computed with.

    Raises:
        DataError: a part has other weights than the metadata of the store says.
    """
    if isinstance(samples.data, FeatureStore):
        for part in config.frozen_parts():
            weights = checksum(model.get_submodule(part.name).state_dict())
            samples.data.parts[part.output].check({"weights": weights})


def to_device(batch: Batch, runtime: Runtime) -> Batch:
    """The batch on the device of a runtime."""
    if runtime.device.type == "cpu":
        return batch
    inputs = {name: value.to(runtime.device, non_blocking=True) for name, value in batch.inputs.items()}
    return replace(batch, inputs=inputs, labels=batch.labels.to(runtime.device, non_blocking=True))


def _write_results(
    run: RunFolder, split: Split, scores: AnyScores, predictions: SplitPredictions, part: EvaluatedPart
) -> None:
    changes = {"changes": str(part.changes)} if part.changes else {}
    try:
        with run.writing(f"{split}-predictions.csv") as path:
            _write_predictions(path, predictions, run.labels())
        run.write_json(f"{split}.json", asdict(scores) | changes)
    except RunError as error:  # the scores of a long test are worth more than their files
        warnings.warn(
            f"the results are not saved: {error.where}: {error.problem}. Make the run folder writable, or copy it to a "
            "place with free space, and test again to save them",
            MuybridgeWarning,
            stacklevel=3,
        )


def _write_predictions(path: Path, predictions: SplitPredictions, names: tuple[str, ...]) -> None:
    """A row for each recording: id, true class or classes, predicted ones, and the probability of every class."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "true", "predicted", *names])
        rows = zip(predictions.ids, predictions.labels.tolist(), predictions.probabilities, strict=True)
        for id_, label, probabilities in rows:
            if isinstance(label, list):  # 1 for each class that is there
                true, best = (_names_from(values, names) for values in (label, probabilities.tolist()))
            else:
                true, best = names[label], names[int(probabilities.argmax())]
            writer.writerow([id_, true, best, *(f"{value:.6f}" for value in probabilities.tolist())])


def _names_from(values: Sequence[float], names: tuple[str, ...]) -> str:
    return join_labels(name for name, value in zip(names, values, strict=True) if value >= THRESHOLD)
