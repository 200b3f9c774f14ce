"""dRNN: an LSTM whose gates also take the derivatives of its cell state.

Source: Veeriah, Zhuang, Qi, "Differential Recurrent Neural Networks for Action Recognition", ICCV 2015.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from muybridge.core.contracts import Holds, SkeletonData, SkeletonInput
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ModelConfig
from muybridge.nn.options import PAPER_GROUPS, FeatureGroup, FeatureScaling, Truncate

if TYPE_CHECKING:
    from muybridge.models.drnn.network import DRNN

SPEC = ModelSpec(
    name="drnn",
    title="dRNN: an LSTM whose gates take the derivatives of its cell state",
    paper="Veeriah, Zhuang, Qi: Differential Recurrent Neural Networks for Action Recognition. ICCV 2015",
    link="https://arxiv.org/abs/1504.06678",
    differences={
        "features": "the paper's 583 features per frame cannot be reconstructed from its text; ours are 551 of the "
        "same kinds, and its velocities are computed from point clouds while ours are computed from joints",
        "full-gradient": "gradients are not truncated by default, which trained better than truncated ones; "
        "truncate = 'strict' is the paper's rule",
        "zero-history": "the cell state before the first frame is zero; the paper does not specify it",
        "initial-values": "uniform within 1 / sqrt(fan-in), biases 0; the paper does not specify them",
        "linear-scores": "class scores are a linear function of the last output; the paper applies tanh to them before "
        "the softmax, which limits the confidence of the network",
    },
)


class DRNNConfig(ModelConfig):
    """The settings of a dRNN; the defaults are the paper's second-order network on skeletons.

    Attributes:
        order: highest derivative of the cell state that the gates take; 0 is the LSTM with peepholes, -1 without.
        derivatives: which derivatives, if not all of 0 to ``order``; ``order`` is then ignored.
        layer_derivatives: the derivatives of each layer of a deep network, first layer first, for instance
            ``[[1], [2]]``; ``order`` and ``derivatives`` are then ignored.
        hidden: number of memory cells, in each layer.
        diagonal: each cell takes only its own derivatives.
        bounded: the gates take the derivatives of tanh(s) instead of s, whose size has no limit.
        truncate: how gradients are truncated, see :class:`~muybridge.nn.recurrent.DifferentialLSTM`.
        pooling: classify the last valid output, the mean or maximum over all valid ones, or the mean over those at the
            peaks of the norm of the highest derivative ("energy": the State Energy Profile of arXiv 1905.04293).
        forget_bias: initial bias of the forget gates.
        input_dropout, dropout: dropout rate of the features, and of the pooled output and between layers.
        weight_dropout: dropout rate of the weights from the last output and from the derivatives.
        features: groups of features computed from each frame.
        feature_scaling: scale each feature to unit deviation separately, or each group of features as a whole.
        pca: number of principal components of the features; 0 uses the features themselves.
        smooth: filter the joints along time first.
        face_camera: rotate the body to face the camera first.
        face_partner: rotate two people first so that the second lies to the right of the first.
        max_frames: longer recordings are subsampled evenly to this many frames; 0 disables the limit.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["drnn"] = "drnn"
    order: int = Field(2, ge=-1)
    derivatives: tuple[int, ...] | None = None
    layer_derivatives: tuple[tuple[int, ...], ...] | None = Field(None, min_length=1)
    hidden: int = Field(300, ge=1)
    diagonal: bool = False
    bounded: bool = False
    truncate: Truncate = False
    pooling: Literal["last", "mean", "max", "energy"] = "last"
    forget_bias: float = 0.0
    input_dropout: float = Field(0.0, ge=0, lt=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    weight_dropout: float = Field(0.0, ge=0, lt=1)
    features: tuple[FeatureGroup, ...] = Field(PAPER_GROUPS, min_length=1)
    feature_scaling: FeatureScaling = "feature"
    pca: int = Field(0, ge=0)
    smooth: bool = False
    face_camera: bool = False
    face_partner: bool = False
    max_frames: int = Field(0, ge=0)

    def takes(self) -> SkeletonInput:
        """Joints in the coordinates of the recording; the features center and scale them."""
        return SkeletonInput(
            smooth=self.smooth,
            face_camera=self.face_camera,
            face_partner=self.face_partner,
            max_frames=self.max_frames,
        )

    def build(self, num_classes: int, holds: Holds | None = None) -> "DRNN":
        """The network; without ``holds`` for one person of 20 joints in 3D, as in MSR Action3D."""
        from muybridge.models.drnn.network import DRNN

        holds = holds or SkeletonData(LAYOUTS["kinect20"])
        assert isinstance(holds, SkeletonData)
        return DRNN(self, num_classes, holds)
