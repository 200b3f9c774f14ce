"""Fisher vectors: the deviation of a clip's local descriptors from a Gaussian mixture fitted to those of all clips.

Legend: B clips, N descriptors of a clip, M descriptors of many clips, E descriptor length, D dimensions after PCA and
with positions, G Gaussians, V = 2 G D.
Source: Perronnin, Sánchez, Mensink, Improving the Fisher Kernel for Large-Scale Image Classification, ECCV 2010.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from muybridge.core.errors import RecipeError


class FisherVector(nn.Module):
    """Descriptors projected onto principal components, concatenated with their positions, and encoded by a mixture.

    All components are divided by the standard deviation of the first.

    Args:
        descriptor_size: E.
        pca_components: principal components.
        gaussians: G.
        position_weight: factor on positions, relative to a first component of unit deviation.

    Attributes:
        output_size: V.
    """

    def __init__(self, descriptor_size: int, pca_components: int, gaussians: int, position_weight: float = 1.0) -> None:
        super().__init__()
        self.position_weight = position_weight
        dimensions = pca_components + 3
        self.output_size = 2 * gaussians * dimensions
        self.register_buffer("mean", torch.zeros(descriptor_size))
        self.register_buffer("basis", torch.eye(descriptor_size, pca_components))
        self.register_buffer("weights", torch.full((gaussians,), 1 / gaussians))
        self.register_buffer("means", torch.zeros(gaussians, dimensions))
        self.register_buffer("deviations", torch.ones(gaussians, dimensions))
        self.mean: Tensor
        self.basis: Tensor
        self.weights: Tensor
        self.means: Tensor
        self.deviations: Tensor

    def fit(self, descriptors: Float[Tensor, "M E"], positions: Float[Tensor, "M 3"]) -> None:
        """Fits principal components, then a Gaussian mixture with diagonal covariances.

        scikit-learn warns where the mixture has not converged after 40 iterations; it serves as well.

        Args:
            descriptors: of many clips.
            positions: of where they are from.

        Raises:
            RecipeError: fewer descriptors than Gaussians or principal components.
        """
        gaussians, components = len(self.weights), self.basis.shape[1]
        if len(descriptors) < max(components, gaussians):
            raise RecipeError(
                f"{len(descriptors)} descriptors of the training clips are too few to fit {gaussians} Gaussians in "
                f"{components} dimensions",
                expected=f"at least {max(components, gaussians)}",
                hint="lower model.gaussians or model.pca_components, raise model.samples_per_clip, or add recordings",
            )
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture

        pca = PCA(components, random_state=0).fit(descriptors.double().cpu().numpy())
        basis = torch.from_numpy(pca.components_).T
        self.basis.copy_(basis / max(math.sqrt(pca.explained_variance_[0]), 1e-6))
        self.mean.copy_(torch.from_numpy(pca.mean_))
        projected = self._project(descriptors[None], positions)[0].double().cpu().numpy()
        mixture = GaussianMixture(gaussians, covariance_type="diag", max_iter=40, reg_covar=1e-4, random_state=0)
        mixture.fit(projected)
        self.weights.copy_(torch.from_numpy(mixture.weights_))
        self.means.copy_(torch.from_numpy(mixture.means_))
        self.deviations.copy_(torch.from_numpy(mixture.covariances_).sqrt())

    def forward(
        self,
        descriptors: Float[Tensor, "B N E"],
        positions: Float[Tensor, "N 3"] | Float[Tensor, "B N 3"],
        present: Bool[Tensor, "B N"] | None = None,
    ) -> Float[Tensor, "B V"]:
        """Gradients of the log-likelihood by means and deviations, with signed square root and L2 normalization.

        Args:
            descriptors: of each clip.
            positions: of where they are from, the same in every clip or not.
            present: which descriptors there are, where clips have different numbers; None means all. A clip without
                any gives zeros.
        """
        x, precision = self._project(descriptors, positions), self.deviations**-2
        # Squared distances, expanded into matrix products to avoid a tensor of B N G D numbers.
        distances = x**2 @ precision.T - 2 * x @ (precision * self.means).T + (precision * self.means**2).sum(1)
        posteriors = (self.weights.log() - self.deviations.log().sum(1) - distances / 2).softmax(-1)
        number: int | Tensor = descriptors.shape[1]
        if present is not None:
            posteriors, number = posteriors * present[..., None], present.sum(1).clamp(min=1)[:, None, None]
        count = rearrange(posteriors.sum(1), "b g -> b g 1")
        first_moment, second_moment = posteriors.mT @ x, posteriors.mT @ x**2
        by_mean = (first_moment - count * self.means) / self.deviations
        by_deviation = (second_moment - 2 * first_moment * self.means + count * self.means**2) * precision - count
        scale = number * torch.sqrt(self.weights)[:, None]
        gradients = torch.cat([by_mean / scale, by_deviation / (math.sqrt(2) * scale)], dim=-1).flatten(1)
        return F.normalize(gradients.sign() * gradients.abs().sqrt(), dim=-1)

    def _project(
        self, descriptors: Float[Tensor, "B N E"], positions: Float[Tensor, "*B N 3"]
    ) -> Float[Tensor, "B N D"]:
        projected = (descriptors - self.mean) @ self.basis
        return torch.cat([projected, self.position_weight * positions.expand(descriptors.shape[0], -1, -1)], dim=-1)
