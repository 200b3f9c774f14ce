"""dRNN: an LSTM whose gates also take the derivatives of its cell state.

Source: Veeriah, Zhuang, Qi, "Differential Recurrent Neural Networks for Action Recognition", ICCV 2015.
"""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from muybridge.core.contracts import ClipData, ClipInput, FrozenPart, Holds, SkeletonData, SkeletonInput
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ModelConfig
from muybridge.nn.options import (
    PAPER_GROUPS,
    BodySize,
    FeatureGroup,
    FeatureScaling,
    Polyhedron,
    Truncate,
    hog3d_window,
    unit_setting,
)

if TYPE_CHECKING:
    from muybridge.models.drnn.network import DRNN

FOR_SKELETONS = ("body_size", "confidence", "smooth", "face_camera", "face_partner", "max_frames")
FOR_VIDEO = ("steps", "size", "mean", "std", "hog3d")
"""The settings that only have a meaning for one kind of input."""

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
        "hog3d": "the paper does not say how its HOG3D descriptors are laid out; by default each step has one of 960 "
        "numbers over the whole frame and 11 frames",
        "steps": "every video is read in the same number of steps, spread evenly over it; the paper's sequences are as "
        "long as the video",
    },
)


class HOG3DConfig(BaseModel):
    """The settings of HOG3D, descriptors of gradients in space and time.

    Attributes:
        polyhedron: "icosahedron" divides directions in space and time into 20 bins, "dodecahedron" into 12.
        half_orientation: opposite directions share a bin, so that light on dark equals dark on light.
        grid: the frame is divided into this many rows and columns, each part with a descriptor of its own.
        cells: of a descriptor, along frames, rows and columns.
        blocks: of a cell, along each axis; gradients are means over blocks.
        block_frames: frames of a block.
        time_weight: factor on the gradient along time; 1 in the paper.
        cutoff: entries of a normalized descriptor are cut off there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    polyhedron: Polyhedron = "icosahedron"
    half_orientation: bool = False
    grid: PositiveInt = 1
    cells: tuple[PositiveInt, PositiveInt, PositiveInt] = (3, 4, 4)
    blocks: PositiveInt = 3
    block_frames: PositiveInt = 1
    time_weight: PositiveFloat = 1.0
    cutoff: float = Field(default=0.25, gt=0, le=1)

    @property
    def window(self) -> int:
        """Frames of a descriptor."""
        return hog3d_window(self.cells, self.blocks, self.block_frames)

    @property
    def blocks_per_side(self) -> int:
        """Blocks along the rows or columns of a frame, the larger number."""
        return self.grid * max(self.cells[1:]) * self.blocks


class DRNNConfig(ModelConfig):
    """The settings of a dRNN; the defaults are the paper's second-order network on skeletons.

    For video, set ``input = "video"`` and ``features = "hog3d"``.

    Attributes:
        input: what the network takes, "skeletons" or "video".
        order: highest derivative of the cell state that the gates take, with all lower ones; 0 is the LSTM with
            peepholes, -1 without. None: 2, the paper's, if none of the next two settings is given.
        derivatives: which derivatives, where they are not all of 0 to ``order``; empty for the LSTM.
        layer_derivatives: the derivatives of each layer of a deep network, first layer first, for instance
            ``[[1], [2]]``. Of these three settings only one can be given.
        hidden: number of memory cells, in each layer.
        diagonal: each cell takes only its own derivatives.
        bounded: the gates take the derivatives of tanh(s) instead of s, whose size has no limit.
        truncate: how gradients are truncated, see :class:`~muybridge.nn.recurrent.DifferentialLSTM`.
        pooling: classify the last valid output, the mean or maximum over all valid ones, or the mean over those at the
            peaks of the norm of the highest derivative ("energy": the State Energy Profile of arXiv 1905.04293).
        frame_targets: train the scores of every frame, not of the pooled output alone; testing is unchanged.
        forget_bias: initial bias of the forget gates.
        input_dropout, dropout: dropout rate of the features, and of the pooled output and between layers.
        weight_dropout: dropout rate of the weights from the last output and from the derivatives.
        features: groups of features computed from each frame of a skeleton; of video, "hog3d".
        confidence: whether the pose estimator's confidence in each joint follows the features, as it is; recordings
            without it are refused.
        feature_scaling: scale each feature to unit deviation separately, or each group of features as a whole; all of
            HOG3D is a group.
        pca: number of principal components of the features; 0 uses the features themselves.
        body_size: the unit of lengths is the mean torso of the whole recording, or of its frames "so far", with which
            `muybridge watch` computes one step for a frame instead of a whole window.
        smooth: filter the joints along time first.
        face_camera: rotate the body to face the camera first.
        face_partner: rotate two people first so that the second lies to the right of the first.
        max_frames: longer recordings are subsampled evenly to this many frames; 0 disables the limit.
        steps: of a video; each has the descriptors of ``hog3d.window`` consecutive frames, at a place that
            ``view.mode`` chooses: with "windows", they are spread evenly over the video.
        size, mean, std: of the frames of video, see :class:`~muybridge.core.contracts.ClipInput`.
        hog3d: the descriptors of video, see below.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["drnn"] = "drnn"
    input: Literal["skeletons", "video"] = "skeletons"
    order: int | None = Field(None, ge=-1)
    derivatives: tuple[int, ...] | None = None
    layer_derivatives: tuple[tuple[int, ...], ...] | None = Field(None, min_length=1)
    hidden: int = Field(300, ge=1)
    diagonal: bool = False
    bounded: bool = False
    truncate: Truncate = False
    pooling: Literal["last", "mean", "max", "energy"] = "last"
    frame_targets: bool = False
    forget_bias: float = 0.0
    input_dropout: float = Field(0.0, ge=0, lt=1)
    dropout: float = Field(0.0, ge=0, lt=1)
    weight_dropout: float = Field(0.0, ge=0, lt=1)
    features: tuple[FeatureGroup, ...] | Literal["hog3d"] = PAPER_GROUPS
    confidence: bool = False
    feature_scaling: FeatureScaling = "feature"
    pca: int = Field(0, ge=0)
    body_size: BodySize = "recording"
    smooth: bool = False
    face_camera: bool = False
    face_partner: bool = False
    max_frames: int = Field(0, ge=0)
    steps: PositiveInt = 32
    size: PositiveInt = 96
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    hog3d: HOG3DConfig = HOG3DConfig()

    @property
    def gates(self) -> tuple[tuple[int, ...], ...]:
        """The derivatives that the gates of each layer take, first layer first."""
        if self.layer_derivatives is not None:
            return self.layer_derivatives
        order = 2 if self.order is None else self.order
        return (tuple(range(order + 1)) if self.derivatives is None else self.derivatives,)

    @model_validator(mode="after")
    def _derivatives_are_said_once(self) -> Self:
        names = ("order", "derivatives", "layer_derivatives")
        given = [f"{name} = {value}" for name in names if (value := getattr(self, name)) is not None]
        if len(given) > 1:
            raise ValueError(
                f"{' and '.join(given)} both say which derivatives the gates take; leave one out. A recipe's "
                "`derivatives` is replaced by, for instance, `derivatives = [0, 1]` for order 1, or `[]` for the LSTM"
            )
        return self

    @model_validator(mode="after")
    def _features_fit_the_input(self) -> Self:
        if not self.features:
            raise ValueError("features is empty; name at least one group")
        if self.input == "video" and self.features != "hog3d":
            raise ValueError('input = "video" needs features = "hog3d"; the other features are of skeletons')
        if self.input == "skeletons" and self.features == "hog3d":
            raise ValueError('features = "hog3d" are of video; set input = "video", or name groups of skeletons')
        self._refuse_without_effect(FOR_SKELETONS if self.input == "video" else FOR_VIDEO, "input")
        return self

    @model_validator(mode="after")
    def _blocks_fit_into_the_frame(self) -> Self:
        if self.size < self.hog3d.blocks_per_side:
            raise ValueError(
                f"a frame of {self.size} pixels a side is divided into {self.hog3d.blocks_per_side} blocks, each less "
                "than a pixel; raise size, or lower hog3d.grid, hog3d.cells or hog3d.blocks"
            )
        return self

    def takes(self) -> SkeletonInput | ClipInput:
        """Joints in the coordinates of the recording, which the features center and scale; or windows of frames."""
        if self.input == "video":
            return ClipInput(self.steps, self.hog3d.window, size=self.size, mean=self.mean, std=self.std)
        return SkeletonInput(
            smooth=self.smooth,
            face_camera=self.face_camera,
            face_partner=self.face_partner,
            max_frames=self.max_frames,
            confidence=self.confidence,
        )

    @property
    def gains_from_bfloat16(self) -> bool:
        """Not over skeletons: the differential LSTM computes in float32 anyway."""
        return self.input == "video"

    def frozen_parts(self) -> tuple[FrozenPart, ...]:
        """The descriptors of video."""
        if self.input == "skeletons":
            return ()
        settings = {f"hog3d.{name}": value for name, value in self.hog3d.model_dump().items()}
        return (FrozenPart("hog3d", "video", "features", settings, window=self.hog3d.window),)

    def needs_whole_recording(self) -> str:
        """Only of video, and where the body is measured in all frames."""
        if self.features == "hog3d":
            return "descriptors of video are read at places spread over all of it"
        return unit_setting(self.features, self.body_size)

    def build(self, num_classes: int, holds: Holds | None = None) -> "DRNN":
        """The network; without ``holds`` for one person of 20 joints in 3D, as in MSR Action3D, or for any video."""
        from muybridge.models.drnn.network import SkeletonDRNN, VideoDRNN

        if self.input == "video":
            assert holds is None or isinstance(holds, ClipData)
            return VideoDRNN(self, num_classes)
        holds = holds or SkeletonData(LAYOUTS["kinect20"])
        assert isinstance(holds, SkeletonData)
        return SkeletonDRNN(self, num_classes, holds)
