"""Testing: every recording of a split once, whatever the number of processes."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from muybridge.core.types import Batch
from muybridge.data.datasets.base import Split
from muybridge.data.loader import Samples, in_order, load
from muybridge.data.prepare import Preparation
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.journal import Reporter
from muybridge.engine.metrics import Scores, score
from muybridge.engine.runtime import Runtime
from muybridge.models.base import Model
from muybridge.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Answers:
    """What a model said of every sample, in index order, on every process alike.

    Attributes:
        probabilities: ``N K``, float32.
        labels: ``N``.
        ids: record ids.
        loss: mean cross-entropy.
    """

    probabilities: Tensor
    labels: Tensor
    ids: tuple[str, ...]
    loss: float


def ask(runtime: Runtime, model: Model, samples: Samples, batch_size: int, workers: int = 0) -> Answers:
    """Ask the model about every sample exactly once; the processes share the work."""
    plan = in_order(len(samples), batch_size, runtime.rank, runtime.world)
    logits: list[Tensor] = []
    labels: list[Tensor] = []
    was_training, dtype = model.training, next(model.parameters()).dtype
    model.eval()
    with torch.inference_mode():
        for batch in load(samples, plan, workers):
            inputs = to_device(batch, runtime).inputs
            inputs = {name: one.to(dtype) if one.is_floating_point() else one for name, one in inputs.items()}
            with runtime.fabric.autocast():
                answer = model(**inputs)
            logits.append(answer.logits.float().cpu())
            labels.append(batch.labels)
    model.train(was_training)
    # Process r holds samples r, r + world, ...; dealing its rows back restores index order.
    shares = runtime.gather((torch.cat(logits) if logits else None, torch.cat(labels) if labels else None))
    held = [share for share in shares if share[0] is not None]
    all_logits = torch.empty(len(samples), held[0][0].shape[1])
    all_labels = torch.empty(len(samples), dtype=torch.int64)
    for rank, (rows, marks) in enumerate(held):
        all_logits[rank :: runtime.world], all_labels[rank :: runtime.world] = rows, marks
    loss = torch.nn.functional.cross_entropy(all_logits, all_labels).item()
    return Answers(all_logits.softmax(1), all_labels, tuple(record.id for record in samples.records), loss)


def evaluate(
    run: RunFolder, split: Split = "test", runtime: Runtime | None = None, report: Reporter | None = None
) -> Scores:
    """Test a trained run on one split, and leave ``SPLIT.json`` and ``SPLIT-answers.csv`` in its folder.

    Raises:
        RunError: the run is not trained or damaged.
        DataError: the split is empty or a recording cannot be read; nothing is ever skipped or replaced in testing.
    """
    recipe = run.recipe()
    runtime = runtime or Runtime(recipe.train.precision)
    model = run.model()
    assert isinstance(model, Model)
    index = recipe.data.index(split)
    samples = make_samples(recipe, split)
    if report:
        report.say(f"testing {len(samples)} recordings of {split}")
    answers = ask(runtime, model.to(runtime.device), samples, recipe.train.batch_size, recipe.train.workers)
    scores = score(answers.probabilities, answers.labels, run.labels(), skipped=len(index.excluded))
    if runtime.leads:
        run.write_json(f"{split}.json", asdict(scores))
        with run.writing(f"{split}-answers.csv") as file:
            file.write_text(_table(answers, run.labels()), encoding="utf-8")
    return scores


def make_samples(recipe: Recipe, split: Split, augment: bool = False) -> Samples:
    """The samples of a split as the recipe's model takes them."""
    prepare = Preparation(
        takes=recipe.model.takes(),
        holds=recipe.data.holds(),
        mirror=recipe.data.mirror(),
        augment=recipe.augment.skeleton if augment else None,
    )
    return Samples(recipe.data.index(split).records, recipe.data, prepare, recipe.train.seed)


def to_device(batch: Batch, runtime: Runtime) -> Batch:
    """The batch where the model computes."""
    if runtime.device.type == "cpu":
        return batch
    move = {key: value.to(runtime.device, non_blocking=True) for key, value in batch.inputs.items()}
    return Batch(move, batch.labels.to(runtime.device, non_blocking=True), batch.ids)


def _table(answers: Answers, names: tuple[str, ...]) -> str:
    rows = ["id,true,predicted," + ",".join(f'"{name}"' for name in names)]
    for id_, label, chances in zip(answers.ids, answers.labels.tolist(), answers.probabilities, strict=True):
        best = names[int(chances.argmax())]
        rows.append(f'"{id_}","{names[label]}","{best}",' + ",".join(f"{chance:.6f}" for chance in chances.tolist()))
    return "\n".join(rows) + "\n"
