"""Classes of uneven size: weights by the effective number of samples, and the drawing of samples by them.

Legend: N samples, K classes.

Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, Eq. 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int

Relabelling = Sequence[tuple[float, Mapping[int, int]]]
"""Random changes of the label in training, in order: how probable each is, and the new label of each it changes."""


@dataclass(frozen=True, eq=False)
class ClassBalance:
    """How much each class, and each sample, of a training set counts.

    Attributes:
        labels: of the samples.
        class_weights: of the classes; their mean over the training set, as its labels are in training, is 1.
        sample_weights: the expected weight of the label that each sample has in training; their mean is 1.
    """

    labels: Int[np.ndarray, " N"]
    class_weights: Float64[np.ndarray, " K"]
    sample_weights: Float64[np.ndarray, " N"]

    @classmethod
    def of(cls, labels: Sequence[int], num_classes: int, beta: float, changes: Relabelling = ()) -> "ClassBalance":
        """The balance of a training set.

        A class of n samples has the weight (1 - beta) / (1 - beta^n): all are alike with beta = 0, and it is nearly
        inversely proportional to n where beta is close to 1. Where mirroring or reversing changes labels at random, n
        is the expected number of samples that have the label.

        Args:
            labels: of the samples.
            num_classes: K.
            beta: from 0 to below 1.
            changes: of labels in training.
        """
        counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
        becomes = np.eye(num_classes)
        for probability, new_label in changes:
            changed = np.eye(num_classes)[[new_label.get(label, label) for label in range(num_classes)]]
            becomes = becomes @ ((1 - probability) * np.eye(num_classes) + probability * changed)
        expected = counts @ becomes
        weights = np.zeros(num_classes)
        weights[expected > 0] = (1 - beta) / (1 - beta ** expected[expected > 0])
        weights *= counts.sum() / (expected @ weights)
        return cls(np.array(labels), weights, (becomes @ weights)[list(labels)])

    def draw(self, rng: torch.Generator) -> list[tuple[int, int]]:
        """As many samples as there are, each drawn as often as its weight says on average, in random order.

        By systematic resampling: a sample of weight w is drawn the next whole number below or above w times, and the
        total of each class differs by less than 1 from what its weights say. Which samples of a class are drawn the
        more often is random.

        Returns:
            The index of each, and which repetition of this sample it is, from 0.
        """
        count = len(self.labels)
        order = torch.randperm(count, generator=rng).numpy()
        order = order[np.argsort(self.labels[order], kind="stable")]
        ends = self.sample_weights[order].cumsum()
        ends *= count / ends[-1]
        ends[-1] = count  # exactly
        offset = torch.rand((), generator=rng, dtype=torch.float64).item()
        times = np.diff(np.ceil(ends - offset), prepend=0.0).astype(int)
        drawn = [(int(index), time) for index, often in zip(order, times, strict=True) for time in range(often)]
        return [drawn[place] for place in torch.randperm(count, generator=rng).tolist()]

    def __str__(self) -> str:
        counts = np.bincount(self.labels, minlength=len(self.class_weights))
        weights = self.class_weights[counts > 0]
        return (
            f"classes of {counts[counts > 0].min()} to {counts.max()} recordings count {weights.max():.2f} to "
            f"{weights.min():.2f} times"
        )
