"""The linear model of a search: validated on the parts that the networks are validated on, and fitted to all.

Legend: N recordings, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from muybridge.baseline.classifiers import fit_linear
from muybridge.baseline.descriptors import STATISTICS
from muybridge.baseline.measure import Progress, describe_records
from muybridge.core.types import Record
from muybridge.data.datasets.base import DatasetConfig
from muybridge.engine.auto.folds import Fold
from muybridge.engine.auto.fusion import best_temperature
from muybridge.models import LinearConfig
from muybridge.models.linear.network import Linear


@dataclass(frozen=True, slots=True)
class ValidatedLinear:
    """A linear model, and what it scores of each recording when that is held out.

    Attributes:
        config: its settings; description and penalty chosen by cross-validation, temperature by validation.
        scores: ``K`` of each recording that is in a validation part, by the number of the part and its id; before the
            temperature.
    """

    config: LinearConfig
    scores: Mapping[int, Mapping[str, Float[Tensor, " K"]]]

    def of(self, part: int, ids: Sequence[str]) -> Float[Tensor, "N K"]:
        """Scores over the temperature of some recordings of a validation part."""
        return torch.stack([self.scores[part][id_] for id_ in ids]) / self.config.temperature


def validate_linear(
    data: DatasetConfig, records: Sequence[Record], folds: Sequence[Fold], progress: Progress | None = None
) -> ValidatedLinear:
    """Choose a linear model on training recordings.

    Args:
        data: the data set.
        records: those of the training part.
        folds: which of them are held out in turn; description and penalty are chosen anew without them.
        progress: called with how many recordings are read, and of how many.

    Raises:
        DataError: a recording cannot be read.
    """
    described = [one.vectors["linear"] for one in describe_records(data, records, progress)]
    features = {name: np.stack([vectors[name] for vectors in described]) for name in described[0]}
    classes = len(data.labels())
    scores: dict[int, dict[str, Tensor]] = {}
    labels = {record.id: record.label for record in records}
    for part, fold in enumerate(folds):
        config = _choose(features, records, fold.train)
        rows = _score(config, features, records, fold, classes)
        scores[part] = rows
    pairs = [(values, labels[id_]) for rows in scores.values() for id_, values in rows.items()]
    chosen = _choose(features, records, frozenset(labels))
    if pairs:
        temperature = best_temperature(
            torch.stack([row for row, _ in pairs]), torch.tensor([label for _, label in pairs])
        )
        chosen = chosen.model_copy(update={"temperature": temperature})
    return ValidatedLinear(chosen, scores)


def _choose(
    features: Mapping[str, Float32[np.ndarray, "N D"]], records: Sequence[Record], ids: frozenset[str]
) -> LinearConfig:
    """Description and penalty by cross-validation among some of the recordings."""
    rows = [index for index, record in enumerate(records) if record.id in ids]
    labels = np.array([records[index].label for index in rows])
    groups = [records[index].group for index in rows]
    fitted = fit_linear({name: values[rows] for name, values in features.items()}, labels, groups)
    kind = STATISTICS[fitted.description]
    return LinearConfig(statistics=kind.of, parts=kind.parts, penalty=fitted.penalty, temperature=1.0)


def _score(
    config: LinearConfig,
    features: Mapping[str, Float32[np.ndarray, "N D"]],
    records: Sequence[Record],
    fold: Fold,
    classes: int,
) -> dict[str, Tensor]:
    """The scores of the recordings that are held out, by id, of a model fitted to the others."""
    values = torch.from_numpy(features[config.description().name])
    train = torch.tensor([record.id in fold.train for record in records])
    val = torch.tensor([record.id in fold.val for record in records])
    model = Linear(config, classes, values.shape[1])
    model.fit(values[train], torch.tensor([record.label for record in records])[train])
    with torch.inference_mode():
        scores = model(values[val]).logits
    held_out = [record.id for record in records if record.id in fold.val]
    return dict(zip(held_out, scores.clone(), strict=True))
