"""Scores of a test, as they are published."""

from dataclasses import dataclass

import torch
from torch import Tensor

THRESHOLD = 0.5
"""Probability from which a recording that may have several labels is said to have one, unless another is given."""

METRICS = {"top1": "top-1", "mean_average_precision": "mean average precision"}
"""By which runs are compared, in words: the first for recordings of one label, the second of several."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Results of a test, percentages as 0..100.

    Attributes:
        top1: recordings whose most probable class is correct.
        top5: recordings whose label is among the five most probable classes (all of them, where there are fewer).
        mean_class_accuracy: mean of the accuracies of the classes that occur.
        count: recordings tested.
        excluded: recordings of the split that are not tested (the run folder lists them).
        per_class: accuracy of each class, by name; None where a class does not occur.
        confusion: counts, true class by row, predicted class by column.
        superclass: recordings whose superclass is correct, probabilities summed over the classes in each; None where
            the data set has none.
        precision: number format of the computation; empty where there is not one.
        calibration: ``temperature``, and the expected calibration error in percent, ``error_before`` and
            ``error_after``; None where the run is not calibrated.
    """

    top1: float
    top5: float
    mean_class_accuracy: float
    count: int
    excluded: int
    per_class: dict[str, float | None]
    confusion: list[list[int]]
    superclass: float | None = None
    precision: str = ""
    calibration: dict[str, float] | None = None


def score(
    probabilities: Tensor,
    labels: Tensor,
    names: tuple[str, ...],
    *,
    excluded: int = 0,
    superclasses: tuple[str, ...] = (),
    precision: str = "",
) -> Scores:
    """Scores of predictions.

    Args:
        probabilities: ``N K``.
        labels: ``N``.
        names: of the classes.
        excluded: recordings that are not among them.
        superclasses: the superclass of each label, where there are any.
        precision: number format of the computation.
    """
    num_classes = len(names)
    pairs = labels * num_classes + probabilities.argmax(1)
    confusion = torch.bincount(pairs, minlength=num_classes**2).unflatten(0, (num_classes, num_classes))
    counts = confusion.sum(1)
    recall = (confusion.diagonal() / counts.clamp(min=1)).double() * 100

    best = probabilities.topk(min(5, num_classes)).indices
    return Scores(
        top1=100 * (probabilities.argmax(1) == labels).double().mean().item(),
        top5=100 * (best == labels[:, None]).any(1).double().mean().item(),
        mean_class_accuracy=recall[counts > 0].mean().item(),
        count=len(labels),
        excluded=excluded,
        per_class={
            name: round(accuracy, 2) if count else None
            for name, accuracy, count in zip(names, recall.tolist(), counts.tolist(), strict=True)
        },
        confusion=confusion.tolist(),
        superclass=_superclass_accuracy(probabilities, labels, superclasses) if superclasses else None,
        precision=precision,
    )


@dataclass(frozen=True, slots=True)
class MultiLabelScores:
    """Results of a test of recordings that may have several labels, percentages as 0..100.

    Attributes:
        mean_average_precision: mean over the classes that occur of the average precision, the area under the curve of
            precision over recall, by steps.
        per_class: average precision of each class, by name; None where a class does not occur.
        f1: harmonic mean of precision and recall of all labels together, predicted at a probability of
            ``threshold`` or more.
        threshold: a probability.
        count: recordings tested.
        excluded: recordings of the split that are not tested (the run folder lists them).
        precision: number format of the computation; empty where there is not one.
    """

    mean_average_precision: float
    per_class: dict[str, float | None]
    f1: float
    threshold: float
    count: int
    excluded: int
    precision: str = ""


def score_multi_label(
    probabilities: Tensor, there: Tensor, names: tuple[str, ...], *, excluded: int = 0, precision: str = ""
) -> MultiLabelScores:
    """Scores of predictions, average precision by scikit-learn.

    Args:
        probabilities: ``N K``, of each class for itself.
        there: ``N K``, 1 where a recording has a class.
        names: of the classes.
        excluded: recordings that are not among them.
        precision: number format of the computation.
    """
    from sklearn.metrics import average_precision_score  # here, as it takes a second to import

    truth, scores = there.numpy() > 0.5, probabilities.numpy()
    areas = {
        name: 100 * float(average_precision_score(truth[:, k], scores[:, k])) if truth[:, k].any() else None
        for k, name in enumerate(names)
    }
    known = [area for area in areas.values() if area is not None]
    predicted = scores >= THRESHOLD
    right, all_labels = int((predicted & truth).sum()), int(predicted.sum() + truth.sum())
    return MultiLabelScores(
        mean_average_precision=sum(known) / len(known) if known else 0.0,
        per_class={name: None if area is None else round(area, 2) for name, area in areas.items()},
        f1=100 * 2 * right / all_labels if all_labels else 0.0,
        threshold=THRESHOLD,
        count=len(truth),
        excluded=excluded,
        precision=precision,
    )


AnyScores = Scores | MultiLabelScores


def _superclass_accuracy(probabilities: Tensor, labels: Tensor, superclasses: tuple[str, ...]) -> float:
    names = sorted(set(superclasses))
    number = torch.tensor([names.index(name) for name in superclasses])
    sums = torch.zeros(len(labels), len(names)).index_add_(1, number, probabilities.float())
    return 100 * (sums.argmax(1) == number[labels]).double().mean().item()
