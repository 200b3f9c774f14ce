"""The linear model.

Legend: B recordings, N numbers of a recording, K classes.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from muybridge.core.types import Batch, Output
from muybridge.models.base import Model
from muybridge.models.linear import LinearConfig
from muybridge.nn.ridge import ridge_regression


class Linear(Model):
    """Standardizes the statistics of a recording and classifies them linearly."""

    def __init__(self, config: LinearConfig, num_classes: int, size: int) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.mean: Tensor
        self.scale: Tensor
        self.classifier = nn.Linear(size, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, statistics: Float[Tensor, "B N"]) -> Output:
        """Class scores, and no maps."""
        with torch.autocast(statistics.device.type, enabled=False):
            return Output(self.classifier((statistics - self.mean) / self.scale), {})

    def solve(self, batches: Iterable[Batch]) -> None:
        """Fits the standardization and the weights to the training set."""
        pairs = [(batch.inputs["statistics"][:: batch.views].cpu(), batch.labels.cpu()) for batch in batches]
        statistics, labels = (torch.cat(values) for values in zip(*pairs, strict=True))
        self.fit(statistics, labels)

    def fit(self, statistics: Float[Tensor, "B N"], labels: Int64[Tensor, " B"]) -> None:
        """Fits the standardization and the weights to these recordings."""
        values = statistics.double()
        mean, deviation = values.mean(0), values.std(0, correction=0)
        scale = torch.where(deviation > 0, deviation, 1.0)
        penalty = self.config.penalty * len(values)
        weight, bias = ridge_regression((values - mean) / scale, labels, self.classifier.out_features, penalty)
        with torch.no_grad():
            self.mean.copy_(mean)
            self.scale.copy_(scale)
            self.classifier.weight.copy_(weight / self.config.temperature)
            self.classifier.bias.copy_(bias / self.config.temperature)
