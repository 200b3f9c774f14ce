"""What stays the same while a stage is trained."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from muybridge.data.datasets.base import Index, Split
from muybridge.data.loader import SampleDataset
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import make_samples
from muybridge.engine.journal import Journal, Reporter
from muybridge.engine.loggers import Loggers
from muybridge.engine.runtime import Runtime
from muybridge.recipe import Recipe, Stage


@dataclass(frozen=True)
class Session:
    """What stays the same during a stage: recipe, folder, device, progress, samples.

    Attributes:
        train: the training set with augmentation.
        plain: the training set without augmentation.
        val: the validation set; None without one.
        loggers: other tools that are told of each epoch; None in other processes than the main one.
        deadline: when the training is stopped, on the clock of ``time.monotonic``.
    """

    recipe: Recipe
    run: RunFolder
    runtime: Runtime
    report: Reporter
    journal: Journal
    loggers: Loggers | None
    indexes: Mapping[Split, Index]
    train: SampleDataset
    plain: SampleDataset
    val: SampleDataset | None
    deadline: float = math.inf

    @classmethod
    def start(
        cls, recipe: Recipe, run: RunFolder, runtime: Runtime, report: Reporter, indexes: Mapping[Split, Index]
    ) -> "Session":
        """A session for the first stage."""
        first = recipe.stages()[0]
        samples = _make_samples(recipe, indexes, first)
        return cls(recipe, run, runtime, report, Journal(run.path / "journal.jsonl"), None, indexes, *samples)

    def for_stage(self, stage: Stage) -> "Session":
        """The session with samples as the model of a stage takes them."""
        train, plain, val = _make_samples(self.recipe, self.indexes, stage)
        return replace(self, train=train, plain=plain, val=val)


def _make_samples(
    recipe: Recipe, indexes: Mapping[Split, Index], stage: Stage
) -> tuple[SampleDataset, SampleDataset, SampleDataset | None]:
    """The training set with and without augmentation, and the validation set, as a stage's model takes them."""
    model = recipe.stage_model(stage)
    train, val = indexes["train"].records, indexes["val"].records
    return (
        make_samples(recipe, "train", train, augment=True, model=model),
        make_samples(recipe, "train", train, model=model),
        make_samples(recipe, "val", val, model=model) if val else None,
    )
