"""TDN: a ResNet with differences of frames within segments in its early stages, and between segments in its late ones.

Source: Wang et al., CVPR 2021.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, PositiveInt, model_validator

from muybridge.core.contracts import ClipData, ClipInput, Holds
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ClipModelConfig

if TYPE_CHECKING:
    from muybridge.models.tdn.network import TDN

Stage = Literal[2, 3, 4, 5]

SPEC = ModelSpec(
    name="tdn",
    title="TDN: temporal differences within segments and between segments",
    paper="Wang, Tong, Ji, Wu, TDN: Temporal Difference Networks for Efficient Action Recognition, CVPR 2021",
    link="https://arxiv.org/abs/2012.10071",
    code="https://github.com/MCG-NJU/TDN",
    differences={
        "fusion": "short-term motion is fused by a weighted sum (0.5 and 0.5 with 8 segments, else 0.75 and 0.25) "
        "where the paper adds; the released weights require the weighted sum; short_fusion = 'sum' adds",
        "gate": "sigmoid - 1/2 where the paper has sigmoid, and the mean of the three scales where it has their sum, "
        "both as in the authors' code; long_gate = 'sigmoid' is the paper's",
        "upsampling": "nearest neighbor as in the code, bilinear in the paper; upsample = 'bilinear' is the paper's",
        "convolution_biases": "none: the code has them before every normalization, which removes them again; "
        "converting a released checkpoint moves them into the running means",
        "basic_blocks": "in ResNet-18 and 34 the modules follow a block's first convolution; the paper has no such "
        "networks",
    },
)


class TDNConfig(ClipModelConfig):
    """The settings of TDN; the defaults are those of the released networks.

    Attributes:
        frames_per_segment: consecutive frames of a segment; the middle one is the image, motion is computed from all.
        short_stages: stages parallel to which the short-term module runs: 0 none, 1 the stem, 2 also res2, 3 also res3,
            and so on, at most one more than ``stages``.
        short_source: its input: differences of frames, or the frames around the middle one.
        short_fusion: ``weighted``, ``sum``, or ``attention`` (motion gates the image path).
        image_weight: the image path's weight in the weighted fusion; None is 0.5 with 8 segments and 0.75
            otherwise. With 0 the early stages have motion alone, and their image path is not computed.
        long_stages: which of res2 to res5, if ``stages`` includes them, have the long-term module in every block.
        long_source: differences of segments' features, or the neighboring segment's features.
        long_gate: see :class:`~muybridge.models.tdn.long_term.LongTermDifference`.
        reduction: the long-term module has one in this many channels, and at least one.
        multi_scale: three scales in the long-term module, or one.
        bidirectional: differences to the next and the previous segment, or to the next only.
        temporal_stages: which of them have the learned temporal convolution in every block.
        upsample: how maps of half size are enlarged, in both modules.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["tdn"] = "tdn"
    frames_per_segment: int = Field(default=5, ge=2)
    short_stages: int = Field(default=2, ge=0, le=5)
    short_source: Literal["differences", "frames"] = "differences"
    short_fusion: Literal["weighted", "sum", "attention"] = "weighted"
    image_weight: float | None = Field(default=None, ge=0, le=1)
    long_stages: tuple[Stage, ...] = (3, 4, 5)
    long_source: Literal["differences", "features"] = "differences"
    long_gate: Literal["centered", "sigmoid", "sum"] = "centered"
    reduction: PositiveInt = 16
    multi_scale: bool = True
    bidirectional: bool = True
    temporal_stages: tuple[Stage, ...] = (3, 4, 5)
    upsample: Literal["nearest", "bilinear"] = "nearest"

    @model_validator(mode="after")
    def _check_stages(self) -> "TDNConfig":
        if self.short_stages > self.stages + 1:
            raise ValueError(
                f"short_stages = {self.short_stages}, and with stages = {self.stages} there are the stem and "
                f"{self.stages} more"
            )
        return self

    def takes(self) -> ClipInput:
        """A few consecutive normalized frames of each segment."""
        return ClipInput(self.segments, self.frames_per_segment, self.size, self.mean, self.std)

    def build(self, num_classes: int, holds: Holds | None = None) -> "TDN":
        """The network for videos with the data set's number of channels; without ``holds`` for RGB."""
        from muybridge.models.tdn.network import TDN

        holds = holds or ClipData()
        assert isinstance(holds, ClipData)
        return TDN(self, num_classes, holds.channels)
