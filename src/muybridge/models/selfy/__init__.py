"""SELFYNet: a ResNet that reads motion from how its features resemble each other in space and time.

Legend: B clips, T frames = S segments, C channels, H and W pixels, N = B T images.
Source: Kwon et al., ICCV 2021.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, cast

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import AfterValidator, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from muybridge.core.contracts import ClipData, Holds
from muybridge.core.errors import RunError
from muybridge.core.spec import ModelSpec
from muybridge.models.clips import ClipModel, ClipModelConfig, Maps, as_images
from muybridge.models.selfy.block import SelfSimilarityBlock
from muybridge.nn.checkpoint_keys import KeyPatterns, State
from muybridge.nn.shift import shift_blocks

Stage = Literal[2, 3, 4, 5]

SPEC = ModelSpec(
    name="selfy",
    title="SELFYNet: spatio-temporal self-similarity as generalized motion",
    paper="Kwon, Kim, Kwak, Cho, Learning Self-Similarity in Space and Time as Generalized Motion for Video Action "
    "Recognition, ICCV 2021",
    link="https://arxiv.org/abs/2102.07092",
    code="https://github.com/arunos728/SELFY",
    departures={
        "upsampling": "a transposed convolution of kernel 1 and stride 2, which fills one position in four, as in the "
        "authors' code; the paper speaks of a 1x1 convolution; upsample = 'bilinear' fills all positions",
        "windows": "for windows other than 9 x 9 the strides and the last kernel of the extraction are chosen so that "
        "it ends at one position; the code has 9 x 9 only",
        "mlp": "the depth of the MLP extraction and integration is ours (three layers of 64): the paper's is not known",
    },
)


def _odd(window: tuple[int, int, int]) -> tuple[int, int, int]:
    if any(size < 1 or size % 2 == 0 for size in window):
        raise ValueError("a window has odd sizes: offsets in time, rows, columns")
    return window


class SELFYConfig(ClipModelConfig):
    """The knobs of SELFYNet; the defaults are those of the released networks at 8 segments.

    Attributes:
        window: time offsets, rows and columns that a position is compared with; (9, 9, 9) for 16 segments.
        offsets: the time offsets themselves, in segments, in place of the window's; (1,) looks one ahead only.
        shift: stand on TSM (shifted channels in every block) or on plain TSN.
        similarity_stages: after which of res2 to res5 a self-similarity block is inserted.
        hidden: channels that are compared.
        extraction: how similarities become features: ``conv``, ``mlp`` or ``soft_argmax``.
        extraction_widths: channels of the extraction's layers; ``mlp`` takes the last.
        integration: how features become motion: ``conv`` with spatial kernels, ``mlp`` without.
        integration_width: channels of the integration's layers.
        temperature: of the soft argmax.
        upsample: how motion returns to the size of the map.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["selfy"] = "selfy"
    window: Annotated[tuple[int, int, int], AfterValidator(_odd)] = (5, 9, 9)
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
        if max(self.similarity_stages, default=2) > self.stages + 1:
            raise ValueError(
                f"a block after res{max(self.similarity_stages)}, and with stages = {self.stages} the trunk ends at "
                f"res{self.stages + 1}"
            )
        return self

    def build(self, num_classes: int, holds: Holds | None = None) -> "SELFYNet":
        """The model for videos of the channels that the data set holds; without one, for RGB."""
        holds = holds or ClipData()
        assert isinstance(holds, ClipData)
        return SELFYNet(self, num_classes, holds.channels).to(memory_format=torch.channels_last)


class SELFYNet(ClipModel):
    """Classifies a clip by appearance and by self-similarity."""

    key_patterns: ClassVar[KeyPatterns] = (
        (r"^selfy\.stss_transformation\.downsample\.0\.", "selfy.res3.reduce.conv."),
        (r"^selfy\.stss_transformation\.downsample\.1\.", "selfy.res3.reduce.norm."),
        (r"^selfy\.stss_extraction\.conv(\d)\.0\.", r"selfy.res3.extract.layers.\1.conv."),
        (r"^selfy\.stss_extraction\.conv(\d)\.1\.", r"selfy.res3.extract.layers.\1.norm."),
        (r"^selfy\.stss_integration\.conv3_fuse\.1\.", "selfy.res3.mix.0.conv."),
        (r"^selfy\.stss_integration\.conv3_fuse\.2\.", "selfy.res3.mix.0.norm."),
        (r"^selfy\.stss_integration\.conv(\d)\.0\.", r"selfy.res3.each.\1.conv."),
        (r"^selfy\.stss_integration\.conv(\d)\.1\.", r"selfy.res3.each.\1.norm."),
        (r"^selfy\.stss_integration\.upsample\.0\.", "selfy.res3.restore.conv."),
        (r"^selfy\.stss_integration\.upsample\.1\.", "selfy.res3.restore.norm."),
    )

    def __init__(self, config: SELFYConfig, num_classes: int, channels: int) -> None:
        trunk = config.build_trunk(channels)
        super().__init__(config, num_classes, trunk)
        if config.shift:
            shift_blocks(trunk, config.segments)
        self.selfy = nn.ModuleDict(
            {
                f"res{stage}": SelfSimilarityBlock(
                    trunk.widths[stage - 1],
                    config.segments,
                    window=config.window,
                    offsets=config.offsets,
                    hidden=config.hidden,
                    extraction=config.extraction,
                    widths=config.extraction_widths,
                    integration=config.integration,
                    integration_width=config.integration_width,
                    temperature=config.temperature,
                    upsample=config.upsample,
                )
                for stage in config.similarity_stages
            }
        )

    def features(self, video: Float[Tensor, "B T C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The trunk's last features, with motion added after the chosen stages.

        Draws one ``similarity_res*`` (``B T X Y L U V``) for each block.
        """
        x = self.trunk.start(as_images(video))
        for stage, layer in enumerate(self.trunk.stages, start=2):
            x = layer(x)
            if f"res{stage}" in self.selfy:
                block = cast("SelfSimilarityBlock", self.selfy[f"res{stage}"])
                if maps is not None:
                    maps[f"similarity_res{stage}"] = block.similarity(x)
                x = block(x)
        return x

    def convert_released(self, state: Mapping[str, Tensor]) -> State:
        """The authors' state under our names, in the shapes of 2D convolutions.

        Raises:
            RunError: it is the state of another network, or of another window in time.
        """
        ours = super().convert_released(state)
        for key, value in ours.items():
            if value.ndim == 5:
                flat = rearrange(value, "d c 1 h w -> d c h w")
                ours[key] = rearrange(flat, "c d 1 1 -> d c 1 1") if "restore" in key else flat
        mix = ours.get("selfy.res3.mix.0.conv.weight")
        if mix is not None and "res3" in self.selfy:
            block = cast("SelfSimilarityBlock", self.selfy["res3"])
            found, own = mix.shape[1] // mix.shape[0], len(block.offsets)
            if found != own:
                raise RunError(
                    f"the checkpoint compares {found} time offsets",
                    expected=f"{own}, as the model was built",
                    hint=f"build the model with window = ({found}, 9, 9)",
                )
        return ours
