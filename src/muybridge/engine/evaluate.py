"""Testing: every recording of a split once, whatever the number of processes."""

from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from muybridge.core.types import Batch
from muybridge.data.datasets.base import Split
from muybridge.data.feature_store import FeatureStore
from muybridge.data.loader import SampleDataset, make_loader, sequential_plan
from muybridge.engine.checkpoint import RunFolder, checksum
from muybridge.engine.journal import Reporter
from muybridge.engine.metrics import Scores, score
from muybridge.engine.runtime import Runtime
from muybridge.models.base import Model, ModelConfig
from muybridge.recipe import Recipe


@dataclass(frozen=True, slots=True)
class SplitPredictions:
    """What a model said of every sample, in index order, on every process alike; the mean over a sample's views.

    Attributes:
        probabilities: ``N K``, float32.
        labels: ``N``.
        ids: record ids.
        loss: mean cross-entropy of ``probabilities``.
    """

    probabilities: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    loss: float


def predict_split(
    runtime: Runtime,
    model: Model,
    samples: SampleDataset,
    batch_size: int,
    workers: int = 0,
    report: Reporter | None = None,
) -> SplitPredictions:
    """Ask the model about every sample exactly once; the processes share the work.

    Args:
        runtime: device and processes.
        model: what is tested.
        samples: prepared without augmentation.
        batch_size: views of one step.
        workers: loading processes.
        report: where progress is shown, in batches of this process.

    Raises:
        DataError: a recording cannot be read.
    """
    views = samples.prepare.views
    plan = sequential_plan(len(samples), max(1, batch_size // views), runtime.rank, runtime.world_size)
    chances: list[Tensor] = []
    labels: list[Tensor] = []
    was_training, dtype = model.training, next(model.parameters()).dtype
    model.eval()
    report = report or Reporter(quiet=True)
    report.begin("testing", len(plan))
    with torch.inference_mode():
        for batch in make_loader(samples, plan, workers):
            inputs = to_device(batch.raise_on_failure(), runtime).inputs
            inputs = {name: one.to(dtype) if one.is_floating_point() else one for name, one in inputs.items()}
            with runtime.fabric.autocast():
                answer = model(**inputs)
            chances.append(samples.prepare.average_views(answer.logits).cpu())
            labels.append(batch.labels)
            report.step()
    model.train(was_training)
    # Process r holds samples r, r + world, ...; dealing its rows back restores index order.
    shares = runtime.all_gather((torch.cat(chances) if chances else None, torch.cat(labels) if labels else None))
    held = [share for share in shares if share[0] is not None]
    all_chances = torch.empty(len(samples), held[0][0].shape[1])
    all_labels = torch.empty(len(samples), dtype=torch.int64)
    for rank, (rows, marks) in enumerate(held):
        all_chances[rank :: runtime.world_size], all_labels[rank :: runtime.world_size] = rows, marks
    loss = torch.nn.functional.nll_loss(all_chances, all_labels).item()
    return SplitPredictions(all_chances.exp(), all_labels, tuple(record.id for record in samples.records), loss)


def evaluate(
    run: RunFolder,
    split: Split = "test",
    runtime: Runtime | None = None,
    report: Reporter | None = None,
    *,
    pixels: bool = False,
) -> Scores:
    """Test a trained run on one split, and leave ``SPLIT.json`` and ``SPLIT-predictions.csv`` in its folder.

    Args:
        run: what was trained.
        split: the part of the data.
        runtime: device and processes; by default those of the recipe's precision.
        report: where progress is shown; by default nowhere.
        pixels: look at the videos themselves also where the recipe names a feature store.

    Raises:
        RunError: the run is not trained or damaged.
        DataError: the split is empty, a recording cannot be read, or the feature store belongs to another CNN; nothing
            is ever skipped or replaced in testing.
    """
    recipe = run.recipe()
    runtime = runtime or Runtime(recipe.train.precision)
    model = run.model()
    assert isinstance(model, Model)
    index = recipe.data.index(split)
    samples = make_samples(recipe, split, pixels=pixels)
    check_features(samples, recipe.model, model)
    report, train = report or Reporter(quiet=True), recipe.train
    report.say(f"testing {len(samples)} recordings of {split}")
    with report:
        answers = predict_split(runtime, model.to(runtime.device), samples, train.batch_size, train.num_workers, report)
    skipped, broader = len(index.excluded), recipe.data.superclasses()
    scores = score(answers.probabilities, answers.labels, run.labels(), skipped, broader)
    if runtime.is_main_process:
        run.write_json(f"{split}.json", asdict(scores))
        with run.writing(f"{split}-predictions.csv") as file:
            file.write_text(_table(answers, run.labels()), encoding="utf-8")
    return scores


def make_samples(
    recipe: Recipe, split: Split, augment: bool = False, model: ModelConfig | None = None, *, pixels: bool = False
) -> SampleDataset:
    """The samples of a split as the recipe's model takes them.

    Args:
        recipe: what is trained.
        split: the part of the data.
        augment: whether training samples are prepared.
        model: that of a stage, which may take less than the recipe's.
        pixels: look at the videos themselves also where the recipe names a feature store.

    Raises:
        DataError: the feature store is missing, was made otherwise, or lacks recordings.
    """
    records, model = recipe.data.index(split).records, model or recipe.model
    store = None if pixels else recipe.feature_store(model)
    if store is None:
        return SampleDataset(records, recipe.data, recipe.preparation(augment, model), recipe.train.seed)
    if split != "train" or recipe.train.on_error == "raise":
        store.check_complete(records)
    return SampleDataset(records, store, recipe.feature_preparation(augment, model), recipe.train.seed)


def check_features(samples: SampleDataset, config: ModelConfig, model: nn.Module) -> None:
    """Refuse a model whose frozen parts are not those that made the features it is to be fed with.

    Raises:
        DataError: a part has other weights than the stamp of the store says.
    """
    if isinstance(samples.data, FeatureStore):
        for part in config.frozen_parts():
            weights = checksum(model.get_submodule(part.name).state_dict())
            samples.data.parts[part.output].check({"weights": weights})


def to_device(batch: Batch, runtime: Runtime) -> Batch:
    """The batch where the model computes."""
    if runtime.device.type == "cpu":
        return batch
    move = {key: value.to(runtime.device, non_blocking=True) for key, value in batch.inputs.items()}
    return replace(batch, inputs=move, labels=batch.labels.to(runtime.device, non_blocking=True))


def _table(answers: SplitPredictions, names: tuple[str, ...]) -> str:
    rows = ["id,true,predicted," + ",".join(f'"{name}"' for name in names)]
    for id_, label, chances in zip(answers.ids, answers.labels.tolist(), answers.probabilities, strict=True):
        best = names[int(chances.argmax())]
        rows.append(f'"{id_}","{names[label]}","{best}",' + ",".join(f"{chance:.6f}" for chance in chances.tolist()))
    return "\n".join(rows) + "\n"
