"""Scores of a test, as people publish them."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """What a test says, percentages as 0..100.

    Attributes:
        top1: share of recordings whose best class is right.
        top5: share whose label is among the five best classes (all of them, where there are fewer).
        mean_class_accuracy: mean of the per-class shares, over the classes that occur.
        count: recordings tested.
        skipped: recordings of the split that are left out of the index (the run folder lists them).
        per_class: share right of each class, by name; None where a class does not occur.
        confusion: counts, true class by row.
        broader: share of recordings whose broader class is right, probabilities summed over the classes in each; None
            where the data set has none.
    """

    top1: float
    top5: float
    mean_class_accuracy: float
    count: int
    excluded: int
    per_class: dict[str, float | None]
    confusion: list[list[int]]
    superclass: float | None = None


def score(
    probabilities: Tensor, labels: Tensor, names: tuple[str, ...], skipped: int = 0, broader: tuple[str, ...] = ()
) -> Scores:
    """Scores of ``N K`` probabilities against ``N`` labels; ``broader`` names the broader class of each label."""
    num_classes = len(names)
    pairs = labels * num_classes + probabilities.argmax(1)
    confusion = torch.bincount(pairs, minlength=num_classes**2).unflatten(0, (num_classes, num_classes))
    seen = confusion.sum(1)
    recall = (confusion.diagonal() / seen.clamp(min=1)).double() * 100

    best = probabilities.topk(min(5, num_classes)).indices
    return Scores(
        top1=100 * (probabilities.argmax(1) == labels).double().mean().item(),
        top5=100 * (best == labels[:, None]).any(1).double().mean().item(),
        mean_class_accuracy=recall[seen > 0].mean().item(),
        count=len(labels),
        excluded=skipped,
        per_class={
            name: round(value, 2) if number else None
            for name, value, number in zip(names, recall.tolist(), seen.tolist(), strict=True)
        },
        confusion=confusion.tolist(),
        superclass=_broader(probabilities, labels, broader) if broader else None,
    )


def _broader(probabilities: Tensor, labels: Tensor, broader: tuple[str, ...]) -> float:
    names = sorted(set(broader))
    of = torch.tensor([names.index(name) for name in broader])
    summed = torch.zeros(len(labels), len(names)).index_add_(1, of, probabilities.float())
    return 100 * (summed.argmax(1) == of[labels]).double().mean().item()
