"""The model of hand-crafted motion descriptors: descriptors, Fisher vectors, a linear classifier.

Legend: B clips, T frames, C channels, H and W pixels.
"""

import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from muybridge.core.processes import available_cores
from muybridge.core.types import Batch, Output
from muybridge.models.base import Model
from muybridge.models.fisher_vectors import FisherVectorsConfig
from muybridge.models.fisher_vectors.local_features import local_features
from muybridge.nn.fisher import FisherVector
from muybridge.nn.ridge import ridge_regression

MAX_SAMPLES = 200_000
"""Most blocks or trajectories to which Gaussian mixtures are fitted; beyond it, each clip contributes half as many."""


class FisherVectors(Model):
    """Classifies a clip by its Fisher vectors; nothing needs gradient descent."""

    def __init__(self, config: FisherVectorsConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        encoders = {
            name: FisherVector(size, min(size, config.pca_components), config.gaussians, config.position_weight)
            for name, size in config.descriptor_sizes().items()
        }
        self.encoders = nn.ModuleDict(encoders)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(sum(encoder.output_size for encoder in encoders.values()), num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, video: Float[Tensor, "B T C H W"], flow: Float[Tensor, "B T 2 H W"]) -> Output:
        """Class scores; there is no gradient below the classifier."""
        return Output(self.classifier(self.dropout(self.encode(video, flow))), {})

    @torch.no_grad()
    def encode(self, video: Float[Tensor, "B T C H W"], flow: Float[Tensor, "B T 2 H W"]) -> Float[Tensor, "B V"]:
        """The Fisher vectors of all descriptors, one after the other; each has unit length, or is 0 without any."""
        with torch.autocast(video.device.type, enabled=False):
            local = local_features(video.float(), flow.float(), self.config)
            pairs = zip(self.encoders.values(), local.descriptors, strict=True)
            return torch.cat([encoder(values, local.positions, local.present) for encoder, values in pairs], dim=1)

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fits PCA and Gaussian mixtures to random blocks or trajectories, the same number from every clip."""
        rng = torch.Generator().manual_seed(0)
        samples: list[list[Tensor]] = []  # of each clip: the values of each descriptor, then the positions
        per_clip = self.config.samples_per_clip
        for batch in batches:
            local = local_features(batch["video"].float(), batch["flow"].float(), self.config)
            for clip in range(len(batch["video"])):
                values = local.of_clip(clip)
                chosen = torch.randperm(len(values[0]), generator=rng)[:per_clip]
                samples.append([each[chosen.to(each.device)].cpu() for each in values])
            if sum(len(values[-1]) for values in samples) > MAX_SAMPLES and per_clip > 1:
                per_clip //= 2
                samples = [[values[:per_clip].clone() for values in tensors] for tensors in samples]
        *by_kind, positions = (torch.cat(values) for values in zip(*samples, strict=True))
        # Each fit is mostly one thread's work. Warnings are switched off here, as threads share what is switched off.
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),
            ThreadPoolExecutor(available_cores()) as pool,
        ):
            fits = [
                pool.submit(encoder.fit, values, positions)
                for encoder, values in zip(cast("Iterable[FisherVector]", self.encoders.values()), by_kind, strict=True)
            ]
            for fit in fits:
                fit.result()

    def solve(self, batches: Iterable[Batch]) -> None:
        """Solves for the classifier; every view of a recording counts as a clip."""
        device = self.classifier.weight.device
        vectors: list[Tensor] = []
        labels: list[Tensor] = []
        for batch in batches:
            inputs = (batch.inputs[name].to(device) for name in ("video", "flow"))
            vectors.append(self.encode(*inputs).cpu())
            labels.append(batch.labels.cpu().repeat_interleave(batch.views))
        values = torch.cat(vectors)
        mean = values.mean(0)
        penalty = self.config.penalty * len(values)
        weight, bias = ridge_regression(values - mean, torch.cat(labels), self.classifier.out_features, penalty)
        with torch.no_grad():
            self.classifier.weight.copy_(weight / self.config.temperature)
            self.classifier.bias.copy_((bias - weight @ mean) / self.config.temperature)
