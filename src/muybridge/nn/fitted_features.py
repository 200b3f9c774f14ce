"""Features scaled and projected on principal components by statistics that are fitted once, kept with the weights.

Legend: N raw features, F output features (N, or fewer after PCA), M vectors of raw features.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.core.errors import DataError, RecipeError
from muybridge.nn.options import FeatureScaling


class FittedFeatures(nn.Module):
    """Subtracts the mean of each feature, divides by a deviation, and projects on principal components.

    Args:
        group_sizes: number of features in each group; their sum is N.
        scaling: what is scaled to standard deviation 1: each feature by itself, or each group together, so that
            features that hardly change keep small values.
        pca: project onto this many principal components after scaling; 0 does not project.

    Attributes:
        size: F.

    Raises:
        RecipeError: ``pca`` is more than there are features.
    """

    def __init__(self, group_sizes: Sequence[int], scaling: FeatureScaling = "feature", pca: int = 0) -> None:
        super().__init__()
        self.group_sizes = list(group_sizes)
        self.scaling = scaling
        raw_size = sum(self.group_sizes)
        if pca > raw_size:
            raise RecipeError(
                f"pca = {pca} of {raw_size} features",
                expected=f"0 to {raw_size}",
                hint="lower model.pca, or set it to 0",
            )
        self.size = pca or raw_size
        self.register_buffer("mean", torch.zeros(raw_size))
        self.register_buffer("deviation", torch.ones(raw_size))
        self.register_buffer("basis", torch.eye(raw_size, pca) if pca else None)
        self.mean: Tensor
        self.deviation: Tensor
        self.basis: Tensor | None

    def normalize(self, raw: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch F"]:
        """Scaled and projected features."""
        features = (raw - self.mean) / self.deviation
        return features if self.basis is None else features @ self.basis

    @torch.no_grad()
    def fit_to(self, vectors: Iterable[Float[Tensor, "M N"]]) -> None:
        """Set mean, deviation and basis from raw features, in one pass.

        Raises:
            DataError: features are not finite numbers.
            RecipeError: there are fewer vectors than principal components.
        """
        count = 0
        total = torch.zeros(self.mean.shape, dtype=torch.float64)
        outer = torch.zeros(len(total), len(total), dtype=torch.float64)
        for vector in vectors:
            values = vector.double().cpu()
            count += len(values)
            total += values.sum(0)
            outer += values.T @ values
        mean = total / max(count, 1)
        covariance = outer / max(count, 1) - torch.outer(mean, mean)
        self._check(count, covariance)
        variance = covariance.diagonal().clamp(min=0)
        if self.scaling == "group":
            variance = torch.cat([part.mean().expand(len(part)) for part in variance.split(self.group_sizes)])
        deviation = variance.sqrt()
        deviation = deviation.where(deviation > 1e-6, 1.0)  # a constant feature stays near zero
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)
        if self.basis is not None:
            _, axes = torch.linalg.eigh(covariance / torch.outer(deviation, deviation))
            basis = axes.flip(1)[:, : self.size]
            # The sign of an eigenvector is arbitrary: make its largest entry positive.
            largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))
            self.basis.copy_(basis * largest.sign())

    def _check(self, count: int, covariance: Float[Tensor, "N N"]) -> None:
        if not covariance.isfinite().all():
            raise DataError(
                "features of the training recordings are not finite numbers",
                expected="finite numbers, from which a mean and a deviation can be computed",
                hint="look for NaN in the recordings with `muybridge doctor`; a feature store that holds such numbers "
                "is to be deleted and made again",
            )
        if self.basis is not None and count < self.size:
            raise RecipeError(
                f"{count} steps of the training recordings are too few to fit {self.size} principal components",
                expected=f"at least {self.size}",
                hint="lower model.pca, or add recordings",
            )
