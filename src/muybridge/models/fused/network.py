"""A network and a linear model in one.

Legend: B recordings, N numbers of a recording.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from muybridge.core.contracts import Holds
from muybridge.core.types import Batch, Output
from muybridge.models.base import CROSS_ENTROPY, Criterion, Model, Targets
from muybridge.models.fused import FusedConfig


class Fused(Model):
    """The mean of the probabilities of a network and of a linear model, and the maps of the network."""

    def __init__(self, config: FusedConfig, num_classes: int, holds: Holds | None) -> None:
        super().__init__()
        self.config = config
        self.network: Model = config.network.build(num_classes, holds)
        self.linear: Model | None = config.linear.build(num_classes, holds) if config.weight else None

    def forward(self, statistics: Tensor | None = None, **inputs: Tensor) -> Output:
        """Class scores and maps; without ``statistics``, which belong to a whole recording, those of the network."""
        self.network.return_maps = self.return_maps
        output: Output = self.network(**inputs)
        logits = output.logits / self.config.temperature
        if self.linear is None or statistics is None:
            return Output(logits, output.maps)
        weight, linear = self.config.weight, self.linear(statistics).logits
        parts = [math.log1p(-weight) + logits.log_softmax(1), math.log(weight) + linear.log_softmax(1)]
        return Output(torch.stack(parts).logsumexp(0), output.maps)

    def losses(
        self, output: Output, labels: Targets, inputs: dict[str, Tensor], criterion: Criterion = CROSS_ENTROPY
    ) -> dict[str, Tensor]:
        """Those of the network, of the scores of both."""
        return self.network.losses(output, labels, inputs, criterion)

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fits what the network fits."""
        self.network.calibrate(batches)

    def solve(self, batches: Iterable[Batch]) -> None:
        """Fits what the network solves for, and the linear model, in the same pass."""
        kept: list[Batch] = []
        remaining = self._keep_statistics(batches, kept)
        self.network.solve(remaining)
        if self.linear is not None:
            for _ in remaining:  # most networks solve for nothing, and take no batch
                pass
            self.linear.solve(kept)

    def _keep_statistics(self, batches: Iterable[Batch], kept: list[Batch]) -> Iterator[Batch]:
        """The batches for the network; their statistics are added to ``kept``."""
        for batch in batches:
            inputs = dict(batch.inputs)
            if self.linear is not None:
                kept.append(replace(batch, inputs={"statistics": inputs.pop("statistics")}))
            yield replace(batch, inputs=inputs)
