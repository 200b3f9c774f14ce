"""What a report says of a run, collected from its folder.

Legend: N recordings, K classes.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from muybridge.baseline import BaselineTable
from muybridge.data.datasets.base import Split, require_one_label
from muybridge.engine.baselines import read_baselines
from muybridge.engine.calibration import Calibration
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate, is_tested
from muybridge.engine.fuse import read_predictions
from muybridge.recipe import Recipe


@dataclass(frozen=True, slots=True)
class RunFacts:
    """A tested run.

    Attributes:
        run: its folder.
        recipe: its recipe.
        labels: class names.
        split: the part that was tested on.
        ids: of the recordings.
        groups: person or source of each; empty names where unknown.
        probabilities: of the classes for each.
        truth: class index of each.
        baselines: measured on the same recordings; None without.
        counts: recordings of each part.
        excluded: how many recordings were excluded.
        calibration: of the probabilities; None where the run is not calibrated.
    """

    run: RunFolder
    recipe: Recipe
    labels: tuple[str, ...]
    split: Split
    ids: tuple[str, ...]
    groups: tuple[str, ...]
    probabilities: Float[np.ndarray, "N K"]
    truth: Int[np.ndarray, " N"]
    baselines: BaselineTable | None
    counts: dict[str, int]
    excluded: int
    calibration: Calibration | None = None

    @property
    def title(self) -> str:
        """The recipe's title, or the model's."""
        return self.recipe.title or self.recipe.model.spec.title

    @property
    def predicted(self) -> Int[np.ndarray, " N"]:
        """The most probable class of each recording."""
        return self.probabilities.argmax(1)

    @property
    def confusion(self) -> Int[np.ndarray, "K K"]:
        """Recordings by true class (row) and predicted class (column)."""
        matrix = np.zeros((len(self.labels), len(self.labels)), int)
        np.add.at(matrix, (self.truth, self.predicted), 1)
        return matrix

    def wrong(self) -> list[int]:
        """Indices of the recordings that are classified wrongly, the most confident mistakes first."""
        wrong = np.flatnonzero(self.predicted != self.truth)
        return wrong[np.argsort(-self.probabilities[wrong].max(1), kind="stable")].tolist()


def collect(run: str | Path, split: Split = "test", data: Path | None = None) -> RunFacts:
    """The facts of a run; it is tested first where that was not done yet, or before it was calibrated.

    Raises:
        RunError: no such run, not trained, or damaged.
        DataError: it has to be tested, and its recordings are not there.
    """
    folder = RunFolder.open(run)
    require_one_label(folder.recipe(data).data, "a report")
    calibration = folder.calibration()
    if not is_tested(folder, split, calibration):
        evaluate(folder, split, data=data)
    predictions, saved = read_predictions(folder, split), folder.split()
    records = saved.records if saved else ()
    groups = {record.id: record.group for record in records}
    baselines = read_baselines(folder)
    comparable = baselines is not None and (baselines.split, baselines.count) == (split, len(predictions.ids))
    excluded = folder.path / "excluded.tsv"
    return RunFacts(
        folder,
        folder.recipe(data),
        folder.labels(),
        split,
        tuple(predictions.ids),
        tuple(groups.get(id_, "") for id_ in predictions.ids),
        predictions.probabilities.double().numpy(),
        np.asarray(predictions.labels),
        baselines if comparable else None,
        dict(Counter(record.split for record in records)),
        max(0, len(excluded.read_text(encoding="utf-8").splitlines()) - 1) if excluded.is_file() else 0,
        calibration,
    )
