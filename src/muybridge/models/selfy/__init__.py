"""SELFYNet: a ResNet that derives motion from the space-time self-similarity of its features.

Source: Kwon et al., ICCV 2021.
"""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, PositiveFloat, PositiveInt, model_validator

from muybridge.core.contracts import ClipData, Holds
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ClipModelConfig

if TYPE_CHECKING:
    from muybridge.models.selfy.network import SELFYNet

Stage = Literal[2, 3, 4, 5]

SPEC = ModelSpec(
    name="selfy",
    title="SELFYNet: space-time self-similarity as generalized motion",
    paper="Kwon, Kim, Kwak, Cho, Learning Self-Similarity in Space and Time as Generalized Motion for Video Action "
    "Recognition, ICCV 2021",
    link="https://arxiv.org/abs/2102.07092",
    code="https://github.com/arunos728/SELFY",
    differences={
        "upsampling": "a transposed convolution of kernel 1 and stride 2, which writes one position in four, as in the "
        "authors' code; the paper says a 1x1 convolution; upsample = 'bilinear' writes all positions",
        "windows": "for windows other than 9 x 9, strides and last kernel of the extraction are chosen such that "
        "one position is left; the code has 9 x 9 only",
        "mlp": "the depth of the MLP extraction and integration is ours (three layers of 64); the paper gives none",
    },
)


def _check_odd(window: tuple[int, int, int]) -> tuple[int, int, int]:
    if any(size < 1 or size % 2 == 0 for size in window):
        raise ValueError("window sizes (time offsets, rows, columns) are odd")
    return window


class SELFYConfig(ClipModelConfig):
    """The settings of SELFYNet; the defaults are those of the released networks with 8 segments.

    Attributes:
        window: number of time offsets, rows and columns with which a position is compared; (9, 9, 9) for 16 segments.
        offsets: the time offsets in segments, instead of the window's; (1,) compares with the next segment only.
        shift: build on TSM (shifted channels in every block) rather than TSN.
        similarity_stages: after which of res2 to res5 a SELFY block is inserted.
        hidden: channels of the features that are compared.
        extraction: how features are extracted from similarities: ``conv``, ``mlp`` or ``soft_argmax``.
        extraction_widths: channels of the extraction's layers; ``mlp`` uses the last.
        integration: how features are combined into motion: ``conv`` with spatial kernels, ``mlp`` without.
        integration_width: channels of the integration's layers.
        temperature: of the soft argmax.
        upsample: how motion is enlarged to the size of the feature map.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["selfy"] = "selfy"
    window: Annotated[tuple[int, int, int], AfterValidator(_check_odd)] = (5, 9, 9)
    offsets: tuple[int, ...] | None = None
    shift: bool = True
    similarity_stages: tuple[Stage, ...] = (3,)
    hidden: PositiveInt = 128
    extraction: Literal["conv", "mlp", "soft_argmax"] = "conv"
    extraction_widths: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (4, 16, 64, 64)
    integration: Literal["conv", "mlp"] = "conv"
    integration_width: PositiveInt = 64
    temperature: PositiveFloat = 0.01
    upsample: Literal["transposed", "bilinear"] = "transposed"

    @model_validator(mode="after")
    def _check_stages(self) -> "SELFYConfig":
        last = max(self.similarity_stages, default=2)
        if last > self.stages + 1:
            raise ValueError(
                f"a block after res{last}, and with stages = {self.stages} the trunk ends at res{self.stages + 1}"
            )
        return self

    def build(self, num_classes: int, holds: Holds | None = None) -> "SELFYNet":
        """The network for videos with the data set's number of channels; without ``holds`` for RGB."""
        from muybridge.models.selfy.network import SELFYNet

        holds = holds or ClipData()
        assert isinstance(holds, ClipData)
        return SELFYNet(self, num_classes, holds.channels)
