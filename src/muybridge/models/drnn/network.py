"""The network of dRNN: features of each step in time, a differential LSTM, a linear classifier.

Legend: B batch, T frames or steps, P people, J joints, D coordinates, H hidden size, K classes; of video S steps of F
frames, C channels, H and W pixels, E descriptor length, G descriptors along an axis.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.types import Output
from muybridge.models.base import CROSS_ENTROPY, Criterion, Model, Parts, Steps, Targets
from muybridge.models.drnn import DRNNConfig
from muybridge.nn.fitted_features import FittedFeatures
from muybridge.nn.hog3d import HOG3D
from muybridge.nn.recurrent import (
    DifferentialLSTM,
    last_valid,
    max_valid,
    mean_valid,
    peak_valid,
    valid_frames,
)
from muybridge.nn.skeleton_features import SkeletonFeatures, split_confidence

_POOLING = {"last": last_valid, "mean": mean_valid, "max": max_valid}


class DRNN(Model):
    """A differential LSTM over the features of each step, and a linear layer on the pooled output.

    Args:
        config: the settings.
        input_size: number of features.
        num_classes: K.
    """

    def __init__(self, config: DRNNConfig, input_size: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        first, *deeper = config.gates
        self.recurrent = _layer(config, input_size, first)
        self.deeper = nn.ModuleList(_layer(config, config.hidden, derivatives) for derivatives in deeper)
        self.classifier = nn.Linear(config.hidden, num_classes)
        nn.init.zeros_(self.classifier.bias)

    def classify(self, features: Float[Tensor, "B T D"], length: Int64[Tensor, " B"]) -> Output:
        """Class scores, and the map ``derivative_norm`` (B T): the norm of the highest derivative; 0 in the padding."""
        features = F.dropout(features, self.config.input_dropout, self.training)
        h, s = self.recurrent(features, length)
        norm = self._derivative_norm(self.recurrent, s.detach(), length)
        for layer in self.deeper:
            assert isinstance(layer, DifferentialLSTM)
            h, s = layer(F.dropout(h, self.config.dropout, self.training), length)
            norm = self._derivative_norm(layer, s.detach(), length)
        pooled = F.dropout(self._pool(h, norm, length), self.config.dropout, self.training)
        maps = {"derivative_norm": norm}
        if self.training and self.config.frame_targets:
            maps["frame_logits"] = self.classifier(F.dropout(h, self.config.dropout))
        return Output(self.classifier(pooled), maps)

    def losses(
        self, output: Output, labels: Targets, inputs: dict[str, Tensor], criterion: Criterion = CROSS_ENTROPY
    ) -> dict[str, Tensor]:
        """The loss of the recording's scores; with ``frame_targets``, the mean over those of all valid frames."""
        if "frame_logits" not in output.maps:
            return super().losses(output, labels, inputs, criterion)
        scores = output.maps["frame_logits"]
        length = inputs.get("length", torch.full(scores.shape[:1], scores.shape[1], device=scores.device))
        each = scores[valid_frames(length, scores.shape[1])]
        return {criterion.name: criterion(each, labels.repeat_interleave(length, dim=0))}

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


class SkeletonDRNN(DRNN):
    """A dRNN over the features of each frame of skeletons."""

    def __init__(self, config: DRNNConfig, num_classes: int, holds: SkeletonData) -> None:
        groups = config.features
        assert not isinstance(groups, str)
        features = SkeletonFeatures(
            holds.layout,
            holds.people,
            holds.coordinates,
            groups,
            config.feature_scaling,
            config.pca,
            config.body_size,
        )
        sure = holds.people * len(holds.layout) if config.confidence else 0
        super().__init__(config, features.size + sure, num_classes)
        self.features = features

    def steps(self) -> "Steps[Any] | None":
        """The network frame by frame; None where the body is measured in the whole recording."""
        from muybridge.models.drnn.steps import DRNNSteps

        return None if self.config.needs_whole_recording() else DRNNSteps(self)

    def forward(self, joints: Float[Tensor, "B T P J D"], length: Int64[Tensor, " B"]) -> Output:
        """Class scores and the map of :meth:`DRNN.classify`.

        With ``confidence``, the last of the D numbers of a joint is that.
        """
        positions, confidence = split_confidence(joints, self.config.confidence)
        features = self.features(positions, length)
        if confidence is not None:
            valid = valid_frames(length, joints.shape[1])[..., None]
            features = torch.cat([features, rearrange(confidence, "b t p j -> b t (p j)") * valid], dim=-1)
        return self.classify(features, length)

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fits mean, deviation and principal components of the features."""
        self.features.fit(batches, self.config.confidence)


class VideoDRNN(DRNN):
    """A dRNN over HOG3D descriptors, one for each window of consecutive frames; those of a grid are one vector."""

    def __init__(self, config: DRNNConfig, num_classes: int) -> None:
        hog3d = HOG3D(**config.hog3d.model_dump())
        descriptors = FittedFeatures([hog3d.size * hog3d.grid**2], config.feature_scaling, config.pca)
        super().__init__(config, descriptors.size, num_classes)
        self.hog3d = hog3d
        self.descriptors = descriptors

    def forward(
        self, video: Float[Tensor, "B T C H W"] | None = None, features: Float[Tensor, "B S E G G"] | None = None
    ) -> Output:
        """Class scores and the map of :meth:`DRNN.classify`.

        Args:
            video: T = S F frames, the windows one after the other.
            features: stored output of ``hog3d`` for each window, instead of ``video``. Any precision.

        Raises:
            DataError: neither was given, or features have another size.
        """
        raw = self._raw(video, features)
        length = torch.full((raw.shape[0],), raw.shape[1], device=raw.device)
        return self.classify(self.descriptors.normalize(raw), length)

    def parts(self) -> Parts:
        """The descriptors of each window of frames, and the recurrent network."""

        def early(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"features": self.hog3d(inputs["video"])[:, 0]}

        return Parts(self.hog3d.window, early, lambda features: self(**features))

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fits mean, deviation and principal components of the descriptors."""
        device = self.hog3d.axes.device
        self.descriptors.fit_to(
            self._raw(**{name: value.to(device) for name, value in batch.items()}).flatten(0, 1) for batch in batches
        )

    def _raw(self, video: Tensor | None = None, features: Tensor | None = None) -> Float[Tensor, "B S N"]:
        """The descriptors of each step as a vector."""
        if features is None:
            if video is None:
                raise DataError(
                    "neither video nor features was given", expected="one of them", hint="pass frames as video"
                )
            windows = rearrange(video, "b (s f) c h w -> (b s) f c h w", f=self.hog3d.window)
            features = rearrange(self.hog3d(windows), "(b s) 1 e g h -> b s e g h", b=len(video))
        expected = (self.hog3d.size, self.hog3d.grid, self.hog3d.grid)
        if features.shape[2:] != expected:
            raise DataError(
                f"features of size {'x'.join(map(str, features.shape[2:]))}",
                expected=f"{'x'.join(map(str, expected))}, the output of model.hog3d",
                hint="extract them again with `muybridge features`, or restore the settings of model.hog3d",
            )
        return features.flatten(2).to(self.descriptors.mean.dtype)


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
