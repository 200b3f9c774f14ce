"""What a classifier minimizes: the cross-entropy of its scores and the labels, one of each sample or several.

Where wished it is weighted by class, smoothed, or focused on what is hard.

Legend: B samples, K classes.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

Targets = Int64[Tensor, " B"] | Float[Tensor, "B K"]
"""The class index of each sample, or a share for every class (mixup; several labels)."""

Reduction = Literal["mean", "sum"]


@runtime_checkable
class Criterion(Protocol):
    """The loss of class scores and targets."""

    name: ClassVar[str]

    def __call__(self, logits: Float[Tensor, "B K"], targets: Targets, reduction: Reduction = "mean") -> Tensor:
        """The mean, or the sum, of the losses of the samples."""
        ...


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """The cross-entropy of the softmax of the scores.

    A target is first multiplied by the weight of its class, then smoothed. So a sample counts as its label says, and
    the share that smoothing spreads favours no class; a mixture of two clips counts as the mixture of their weights.

    Attributes:
        class_weights: ``K``; None weighs all alike.
        label_smoothing: share of the label's probability that is spread over all classes.
        focal_gamma: each class's term is multiplied by (1 - p)^gamma, p being its probability (Lin et al., "Focal Loss
            for Dense Object Detection", ICCV 2017); 0 is the cross-entropy.
    """

    name: ClassVar[str] = "cross_entropy"
    class_weights: Tensor | None = None
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0

    def __call__(self, logits: Float[Tensor, "B K"], targets: Targets, reduction: Reduction = "mean") -> Tensor:
        """The mean, or the sum, of the losses of the samples."""
        if self.class_weights is None and not self.label_smoothing and not self.focal_gamma:
            return F.cross_entropy(logits, targets, reduction=reduction)
        shares = targets if targets.ndim == 2 else F.one_hot(targets, logits.shape[1])
        shares = shares.to(logits.dtype)
        if self.class_weights is not None:
            shares = shares * self.class_weights.to(logits.dtype)
        if self.label_smoothing:
            shares = shares.lerp(shares.mean(1, keepdim=True).expand_as(shares), self.label_smoothing)
        if self.focal_gamma:
            shares = shares * _missed(logits.log_softmax(1)).pow(self.focal_gamma)
        return F.cross_entropy(logits, shares, reduction=reduction)


CROSS_ENTROPY = CrossEntropy()
"""Neither weighted nor smoothed."""


@dataclass(frozen=True, eq=False)
class BinaryCrossEntropy:
    """The cross-entropy of the sigmoid of each score, averaged over the classes: each is there or not, for itself.

    Attributes:
        label_smoothing: share of each target that is moved to one half, as nothing is certain.
        focal_gamma: each term is multiplied by (1 - p)^gamma, p being the probability of what is true (Lin et al.,
            "Focal Loss for Dense Object Detection", ICCV 2017); 0 is the binary cross-entropy.
    """

    name: ClassVar[str] = "binary_cross_entropy"
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0

    def __call__(self, logits: Float[Tensor, "B K"], targets: Targets, reduction: Reduction = "mean") -> Tensor:
        """The mean, or the sum, of the losses of the samples; targets have a value from 0 to 1 for every class."""
        there = targets.to(logits.dtype) * (1 - self.label_smoothing) + self.label_smoothing / 2
        if self.focal_gamma:
            yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
            terms = there * _missed(yes).pow(self.focal_gamma) * yes
            each = -(terms + (1 - there) * _missed(no).pow(self.focal_gamma) * no)
        else:
            each = F.binary_cross_entropy_with_logits(logits, there, reduction="none")
        losses = each.mean(1)
        return losses.mean() if reduction == "mean" else losses.sum()


def _missed(log_probabilities: Tensor) -> Tensor:
    """1 - p, not quite 0, where the gradient of a power below 1 is infinite."""
    return -torch.expm1(log_probabilities).clamp(max=-torch.finfo(log_probabilities.dtype).eps)
