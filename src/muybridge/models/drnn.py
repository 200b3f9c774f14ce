"""dRNN: an LSTM whose gates also see how fast its memory changes.

Legend: B batch, T frames, P people, J joints, D coordinates, H hidden size, K classes.

Source: Veeriah, Zhuang, Qi, "Differential Recurrent Neural Networks for Action Recognition", ICCV 2015.
"""

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from pydantic import Field
from torch import Tensor, nn

from muybridge.core.contracts import Holds, SkeletonData, SkeletonInput
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.spec import ModelSpec
from muybridge.core.types import Output
from muybridge.models.base import Model, ModelConfig
from muybridge.nn.recurrent import DifferentialLSTM, Truncate, last_valid, max_valid, mean_valid, valid_frames
from muybridge.nn.skeleton_features import GROUPS, FeatureGroup, FeatureUnit, SkeletonFeatures

_READOUTS = {"last": last_valid, "mean": mean_valid, "max": max_valid}


class DRNNConfig(ModelConfig):
    """The knobs of a dRNN; the defaults are the paper's second-order net on skeletons.

    Attributes:
        order: highest derivative of the memory that the gates see; 0 is the LSTM with peepholes, -1 the one without.
        derivatives: which derivatives, where not all of 0 to ``order``; then ``order`` is not looked at.
        hidden: memory cells.
        diagonal: let each cell see only its own derivatives.
        truncate: how errors travel back in time, see :class:`~muybridge.nn.recurrent.DifferentialLSTM`.
        readout: classify the last valid output, or the mean or maximum over all valid ones.
        forget_bias: where the forget gates' bias begins.
        input_dropout, dropout: share of features, and of what is read out, that is silenced in training.
        features: what is measured of each frame.
        feature_unit: bring each feature to deviation 1 by itself, or each group of features as a whole.
        pca: principal components kept of the features; 0 keeps the features themselves.
        smooth: filter the joints along time first.
        face_camera: turn the body to the camera first.
        max_frames: sample longer recordings down to this many frames; 0 keeps all.
    """

    spec: ClassVar[ModelSpec] = ModelSpec(
        name="drnn",
        title="dRNN: LSTM gates that see the derivatives of the memory",
        paper="Veeriah, Zhuang, Qi: Differential Recurrent Neural Networks for Action Recognition. ICCV 2015",
        link="https://arxiv.org/abs/1504.06678",
        departures={
            "features": "the paper's 583 numbers a frame cannot be recovered from its text; ours are 551 of the same "
            "kinds, and its velocities come from point clouds while ours come from joints",
            "full-gradient": "errors travel along every path by default, which trained better than the truncated ones; "
            "truncate = 'strict' is the paper's way",
            "zero-history": "memory before the first frame counts as zero; the paper does not say",
            "initial-values": "uniform within 1 / sqrt(fan in), biases 0; the paper does not say",
            "linear-scores": "scores are a linear map of the last output; the paper's text passes them through tanh "
            "ahead of the softmax, which bounds how sure the net can be",
        },
    )

    name: Literal["drnn"] = "drnn"
    order: int = Field(2, ge=-1)
    derivatives: tuple[int, ...] | None = None
    hidden: int = Field(300, ge=1)
    diagonal: bool = False
    truncate: Truncate = False
    readout: Literal["last", "mean", "max"] = "last"
    forget_bias: float = 0.0
    input_dropout: float = Field(0.0, ge=0, lt=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    features: tuple[FeatureGroup, ...] = Field(GROUPS, min_length=1)
    feature_unit: FeatureUnit = "feature"
    pca: int = Field(0, ge=0)
    smooth: bool = False
    face_camera: bool = False
    max_frames: int = Field(0, ge=0)

    def takes(self) -> SkeletonInput:
        """Joints in the recording's own frame; centring and scaling are the features' work."""
        return SkeletonInput(smooth=self.smooth, face_camera=self.face_camera, max_frames=self.max_frames)

    def build(self, num_classes: int, holds: Holds | None = None) -> "DRNN":
        """A fresh net; without ``holds`` for one person of 20 joints in 3D, as MSR Action3D has."""
        holds = holds or SkeletonData(LAYOUTS["kinect20"])
        assert isinstance(holds, SkeletonData)
        return DRNN(self, num_classes, holds)


class DRNN(Model):
    """Features of each frame, a differential LSTM over them, a linear layer on what is read out."""

    def __init__(self, config: DRNNConfig, num_classes: int, holds: SkeletonData) -> None:
        super().__init__()
        self.config = config
        derivatives = config.derivatives if config.derivatives is not None else tuple(range(config.order + 1))
        self.features = SkeletonFeatures(
            holds.layout, holds.people, holds.coordinates, config.features, config.feature_unit, config.pca
        )
        self.recurrent = DifferentialLSTM(
            self.features.size,
            config.hidden,
            derivatives,
            diagonal=config.diagonal,
            truncate=config.truncate,
            forget_bias=config.forget_bias,
        )
        self.classify = nn.Linear(config.hidden, num_classes)
        nn.init.zeros_(self.classify.bias)

    def forward(self, joints: Float[Tensor, "B T P J D"], length: Int64[Tensor, " B"]) -> Output:
        """Scores, and as map ``derivative_norm`` (B T) the size of the highest derivative seen; zero in the padding."""
        features = F.dropout(self.features(joints, length), self.config.input_dropout, self.training)
        h, s = self.recurrent(features, length)
        read = F.dropout(_READOUTS[self.config.readout](h, length), self.config.dropout, self.training)
        return Output(self.classify(read), {"derivative_norm": self._derivative_norm(s.detach(), length)})

    def _derivative_norm(self, s: Float[Tensor, "B T H"], length: Tensor) -> Float[Tensor, "B T"]:
        highest = max(self.recurrent.derivatives, default=0)
        change = torch.diff(F.pad(s, (0, 0, highest, 0)), n=highest, dim=1)
        return change.norm(dim=-1) * valid_frames(length, s.shape[1])

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fit mean, deviation and principal components of the features."""
        self.features.fit(batches)
