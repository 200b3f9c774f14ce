"""What a classifier minimizes: cross-entropy, where wished weighted by class, smoothed, or focused on what is hard.

Legend: B samples, K classes.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

Targets = Int64[Tensor, " B"] | Float[Tensor, "B K"]
"""The class index of each sample, or a share for every class (mixup)."""

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
            missed = -torch.expm1(logits.log_softmax(1))
            # The gradient of a power below 1 is infinite at 0.
            shares = shares * missed.clamp(min=torch.finfo(logits.dtype).eps).pow(self.focal_gamma)
        return F.cross_entropy(logits, shares, reduction=reduction)


CROSS_ENTROPY = CrossEntropy()
"""Neither weighted nor smoothed."""
