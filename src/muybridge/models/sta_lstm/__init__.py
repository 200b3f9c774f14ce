"""STA-LSTM: a stacked LSTM with learned attention over the joints of a frame and over the frames.

Two small networks run beside the main one. The first weights the joints of every frame, the second weights the frame's
class scores; without one or both this is SA-LSTM, TA-LSTM or the plain LSTM of the paper's tables.

Source: Song et al., AAAI 2017.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from muybridge.core.contracts import Center, Holds, SkeletonData, SkeletonInput
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ModelConfig
from muybridge.nn.options import BodySize, JointGroup, unit_setting

if TYPE_CHECKING:
    from muybridge.models.sta_lstm.network import STALSTM

SPEC = ModelSpec(
    name="sta_lstm",
    title="STA-LSTM: an LSTM with spatial attention over joints and temporal attention over frames",
    paper="Song et al., An End-to-End Spatio-Temporal Attention Model for Human Action Recognition "
    "from Skeleton Data, AAAI 2017",
    link="https://arxiv.org/abs/1611.06067",
    differences={
        "mean_over_time": "the scores of frames are averaged over the valid frames, where the paper sums them, so "
        "that the confidence does not grow with the length of the recording; mean_over_time = false sums them",
        "initialization": "the paper only says 'Gaussian'; fully connected layers are initialized from N(0, 0.01), "
        "LSTMs with torch's default and forget bias 1, and the temporal gate with bias 1, because a ReLU that starts "
        "negative has no gradient",
        "rescale_attention": "an option that the paper does not have: joint weights times the number of joints, so "
        "that uniform attention leaves the input unchanged instead of shrinking it",
        "features": "an option that the paper does not have: the vector of a joint is not its position alone but, for "
        "example, its position and its movement, scaled by statistics of the training part",
        "confidence": "an option that the paper does not have: the vector of a joint also has the pose estimator's "
        "confidence",
        "input_dropout": "an option that the paper does not have: dropout of the joints' vectors",
        "dropout": "also before the class scores, and for a single layer; the paper gives the rate, not the positions",
    },
)


class STALSTMConfig(ModelConfig):
    """The settings of STA-LSTM; the defaults are the paper's where it gives a value.

    Attributes:
        attention: which gates exist; none is LSTM, spatial SA-LSTM, temporal TA-LSTM, both STA-LSTM.
        hidden: units of every LSTM layer.
        layers: LSTM layers of the main network.
        attention_size: units of the layer before the joint scores.
        rescale_attention: multiply joint weights by the number of joints, so that their mean is 1.
        mean_over_time: average the frames' scores instead of summing them.
        dropout: dropout rate after every layer of the main network.
        features: what the vector of each joint consists of, see
            :class:`~muybridge.nn.skeleton_features.SkeletonFeatures`; empty takes the position alone.
        body_size: the unit of features is the mean torso of the whole recording, or of its frames "so far", with which
            `muybridge watch` computes one step for a frame instead of a whole window.
        confidence: whether the vector of each joint has the pose estimator's confidence too; recordings without it are
            refused.
        input_dropout: dropout rate of the joints' vectors.
        lambda_spatial, lambda_temporal, lambda_weights: weights of the three penalties of the objective; 0 omits one.
        init_std: standard deviation of the initial fully connected weights.
        forget_bias, temporal_bias: initial biases of LSTM forget gates and of the temporal gate.
        smooth, center, face_camera, face_partner, unit_scale, max_frames: preprocessing, see
            :class:`~muybridge.core.contracts.SkeletonInput`.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["sta_lstm"] = "sta_lstm"
    attention: Literal["none", "spatial", "temporal", "both"] = "both"
    hidden: PositiveInt = 100
    layers: PositiveInt = 3
    attention_size: PositiveInt = 100
    rescale_attention: bool = False
    mean_over_time: bool = True
    dropout: float = Field(default=0.5, ge=0, lt=1)
    features: tuple[JointGroup, ...] = ()
    body_size: BodySize = "recording"
    confidence: bool = False
    input_dropout: float = Field(default=0.0, ge=0, lt=1)
    lambda_spatial: NonNegativeFloat = 1e-3
    lambda_temporal: NonNegativeFloat = 1e-4
    lambda_weights: NonNegativeFloat = 5e-4
    init_std: PositiveFloat = 0.01
    forget_bias: float = 1.0
    temporal_bias: float = 1.0
    smooth: bool = True
    center: Center = "first"
    face_camera: bool = True
    face_partner: bool = False
    unit_scale: bool = False
    max_frames: NonNegativeInt = 0

    def takes(self) -> SkeletonInput:
        """Joint positions of entire recordings, smoothed and in the coordinate system that the config selects."""
        return SkeletonInput(
            smooth=self.smooth,
            center=self.center,
            face_camera=self.face_camera,
            face_partner=self.face_partner,
            unit_scale=self.unit_scale,
            max_frames=self.max_frames,
            confidence=self.confidence,
        )

    def needs_whole_recording(self) -> str:
        """Only where the body is measured in all frames."""
        return unit_setting(self.features, self.body_size)

    def build(self, num_classes: int, holds: Holds | None = None) -> "STALSTM":
        """The network for skeletons of the given layout; without ``holds`` for one person of 20 joints in 3D."""
        from muybridge.models.sta_lstm.network import STALSTM

        holds = holds or SkeletonData(LAYOUTS["kinect20"])
        assert isinstance(holds, SkeletonData)
        return STALSTM(self, num_classes, holds)
