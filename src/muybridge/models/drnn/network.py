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
from muybridge.nn.recurrent import DifferentialLSTM, last_valid, max_valid, mean_valid, valid_frames
from muybridge.nn.skeleton_features import SkeletonFeatures

_POOLING = {"last": last_valid, "mean": mean_valid, "max": max_valid}


class DRNN(Model):
    """Features of each frame, a differential LSTM over them, a linear layer on the pooled output."""

    def __init__(self, config: DRNNConfig, num_classes: int, holds: SkeletonData) -> None:
        super().__init__()
        self.config = config
        derivatives = config.derivatives if config.derivatives is not None else tuple(range(config.order + 1))
        self.features = SkeletonFeatures(
            holds.layout, holds.people, holds.coordinates, config.features, config.feature_scaling, config.pca
        )
        self.recurrent = DifferentialLSTM(
            self.features.size,
            config.hidden,
            derivatives,
            diagonal=config.diagonal,
            truncate=config.truncate,
            forget_bias=config.forget_bias,
        )
        self.classifier = nn.Linear(config.hidden, num_classes)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, joints: Float[Tensor, "B T P J D"], length: Int64[Tensor, " B"]) -> Output:
        """Class scores, and the map ``derivative_norm`` (B T): the norm of the highest derivative; 0 in the padding."""
        features = F.dropout(self.features(joints, length), self.config.input_dropout, self.training)
        h, s = self.recurrent(features, length)
        pooled = F.dropout(_POOLING[self.config.pooling](h, length), self.config.dropout, self.training)
        return Output(self.classifier(pooled), {"derivative_norm": self._derivative_norm(s.detach(), length)})

    def _derivative_norm(self, s: Float[Tensor, "B T H"], length: Tensor) -> Float[Tensor, "B T"]:
        order = max(self.recurrent.derivatives, default=0)
        derivative = torch.diff(F.pad(s, (0, 0, order, 0)), n=order, dim=1)
        return derivative.norm(dim=-1) * valid_frames(length, s.shape[1])

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fits mean, deviation and principal components of the features."""
        self.features.fit(batches)
