"""Fisher vectors: how the local descriptors of a clip depart from those of all clips.

Legend: B clips, N descriptors of a clip, D numbers of one, G Gaussians, V = 2 G D.
Source: Perronnin, Sánchez, Mensink, Improving the Fisher Kernel for Large-Scale Image Classification, ECCV 2010.
"""

import math
import warnings

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.core.errors import RecipeError


class FisherVector(nn.Module):
    """Descriptors projected onto their principal components, joined with their places, and encoded by Gaussians.

    Components are scaled alike, the first to deviation 1.

    Args:
        size: numbers in a descriptor.
        dimensions: principal components that are kept.
        components: Gaussians, G.
        place_weight: of places, beside a first component of deviation 1.

    Attributes:
        encoded: V, numbers that leave.
    """

    def __init__(self, size: int, dimensions: int, components: int, place_weight: float = 1.0) -> None:
        super().__init__()
        self.place_weight = place_weight
        joined = dimensions + 3
        self.encoded = 2 * components * joined
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.eye(size, dimensions))
        self.register_buffer("weights", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, joined))
        self.register_buffer("deviations", torch.ones(components, joined))
        self.mean: Tensor
        self.basis: Tensor
        self.weights: Tensor
        self.means: Tensor
        self.deviations: Tensor

    def fit(self, found: Float[Tensor, "M size"], places: Float[Tensor, "M 3"]) -> None:
        """Principal components, then a mixture of Gaussians with diagonal covariances.

        Args:
            found: descriptors of many clips.
            places: where each lay.

        Raises:
            RecipeError: there are fewer descriptors than Gaussians, or than components to keep.
        """
        needed = max(self.basis.shape[1], len(self.weights))
        if len(found) < needed:
            raise RecipeError(
                f"{len(found)} blocks of the training clips, to fit {len(self.weights)} Gaussians in "
                f"{self.basis.shape[1]} dimensions to",
                expected=f"at least {needed}",
                hint="lower model.components or model.dimensions, raise model.sampled, or add recordings",
            )
        from sklearn.decomposition import PCA
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        components, dimensions = len(self.weights), self.basis.shape[1]
        pca = PCA(dimensions, random_state=0).fit(found.double().cpu().numpy())
        basis = torch.from_numpy(pca.components_).T
        self.basis.copy_(basis / max(math.sqrt(pca.explained_variance_[0]), 1e-6))
        self.mean.copy_(torch.from_numpy(pca.mean_))
        joined = self._joined(found[None], places)[0].double().cpu().numpy()
        mixture = GaussianMixture(components, covariance_type="diag", max_iter=40, reg_covar=1e-4, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture almost there describes clips as well
            mixture.fit(joined)
        self.weights.copy_(torch.from_numpy(mixture.weights_))
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.deviations.copy_(torch.from_numpy(mixture.covariances_).sqrt())

    def forward(self, found: Float[Tensor, "B N size"], places: Float[Tensor, "N 3"]) -> Float[Tensor, "B V"]:
        """Gradients of the likelihood by means and deviations, signed roots of them, of length 1."""
        x, precision = self._joined(found, places), self.deviations**-2
        # The exponent of each Gaussian, its square multiplied out: products of matrices in place of B N G D numbers.
        exponent = x**2 @ precision.T - 2 * x @ (precision * self.means).T + (precision * self.means**2).sum(1)
        shares = (self.weights.log() - self.deviations.log().sum(1) - exponent / 2).softmax(-1)
        count = rearrange(shares.sum(1), "b g -> b g 1")
        first, second = shares.mT @ x, shares.mT @ x**2
        by_mean = (first - count * self.means) / self.deviations
        by_deviation = (second - 2 * first * self.means + count * self.means**2) * precision - count
        scale = found.shape[1] * torch.sqrt(self.weights)[:, None]
        both = torch.cat([by_mean / scale, by_deviation / (math.sqrt(2) * scale)], dim=-1).flatten(1)
        return F.normalize(both.sign() * both.abs().sqrt(), dim=-1)

    def _joined(self, found: Float[Tensor, "B N size"], places: Float[Tensor, "N 3"]) -> Float[Tensor, "B N D"]:
        projected = (found - self.mean) @ self.basis
        return torch.cat([projected, self.place_weight * places.expand(found.shape[0], -1, -1)], dim=-1)
