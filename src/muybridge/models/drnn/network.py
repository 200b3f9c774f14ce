"""The network of dRNN: features of each frame, a differential LSTM, a linear classifier.

Legend: B batch, T frames, P people, J joints, D coordinates, H hidden size, K classes.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from muybridge.core.contracts import SkeletonData
from muybridge.core.types import Output
from muybridge.models.base import Model
from muybridge.models.drnn import DRNNConfig
from muybridge.nn.recurrent import (
    DifferentialLSTM,
    last_valid,
    max_valid,
    mean_valid,
    peak_valid,
    valid_frames,
)
from muybridge.nn.skeleton_features import SkeletonFeatures

_POOLING = {"last": last_valid, "mean": mean_valid, "max": max_valid}


class DRNN(Model):
    """Features of each frame, a differential LSTM over them, a linear layer on the pooled output."""

    def __init__(self, config: DRNNConfig, num_classes: int, holds: SkeletonData) -> None:
        super().__init__()
        self.config = config
        self.features = SkeletonFeatures(
            holds.layout, holds.people, holds.coordinates, config.features, config.feature_scaling, config.pca
        )
        first, *deeper = config.layer_derivatives or (_single_layer(config),)
        self.recurrent = _layer(config, self.features.size, first)
        self.deeper = nn.ModuleList(_layer(config, config.hidden, derivatives) for derivatives in deeper)
        self.classifier = nn.Linear(config.hidden, num_classes)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, joints: Float[Tensor, "B T P J D"], length: Int64[Tensor, " B"]) -> Output:
        """Class scores, and the map ``derivative_norm`` (B T): the norm of the highest derivative; 0 in the padding."""
        features = F.dropout(self.features(joints, length), self.config.input_dropout, self.training)
        h, s = self.recurrent(features, length)
        norm = self._derivative_norm(self.recurrent, s.detach(), length)
        for layer in self.deeper:
            assert isinstance(layer, DifferentialLSTM)
            h, s = layer(F.dropout(h, self.config.dropout, self.training), length)
            norm = self._derivative_norm(layer, s.detach(), length)
        pooled = F.dropout(self._pool(h, norm, length), self.config.dropout, self.training)
        return Output(self.classifier(pooled), {"derivative_norm": norm})

    def _pool(self, h: Float[Tensor, "B T H"], norm: Float[Tensor, "B T"], length: Tensor) -> Float[Tensor, "B H"]:
        if self.config.pooling == "energy":
            return peak_valid(h, norm, length)
        return _POOLING[self.config.pooling](h, length)

    def _derivative_norm(
        self, layer: DifferentialLSTM, s: Float[Tensor, "B T H"], length: Tensor
    ) -> Float[Tensor, "B T"]:
        """Of an LSTM without derivatives the norm of the cell state; of the last layer where there are several."""
        order = max(layer.derivatives, default=0)
        derivative = torch.diff(F.pad(s, (0, 0, order, 0)), n=order, dim=1)
        return derivative.norm(dim=-1) * valid_frames(length, s.shape[1])

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fits mean, deviation and principal components of the features."""
        self.features.fit(batches)


def _single_layer(config: DRNNConfig) -> tuple[int, ...]:
    return config.derivatives if config.derivatives is not None else tuple(range(config.order + 1))


def _layer(config: DRNNConfig, inputs: int, derivatives: tuple[int, ...]) -> DifferentialLSTM:
    return DifferentialLSTM(
        inputs,
        config.hidden,
        derivatives,
        diagonal=config.diagonal,
        bounded=config.bounded,
        weight_dropout=config.weight_dropout,
        truncate=config.truncate,
        forget_bias=config.forget_bias,
    )
