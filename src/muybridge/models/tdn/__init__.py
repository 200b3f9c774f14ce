"""TDN: a ResNet whose first stages see the differences inside a segment, and whose later ones those between segments.

Legend: B clips, T frames = S segments x F frames, C channels, H and W pixels, N = B S images.
Source: Wang et al., CVPR 2021.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from muybridge.core.contracts import ClipData, ClipInput, Holds
from muybridge.core.spec import ModelSpec
from muybridge.models.clips import ClipModel, ClipModelConfig, Maps, as_images
from muybridge.models.tdn.long_term import LongTermDifference
from muybridge.models.tdn.short_term import ShortTermDifference, motion_magnitude
from muybridge.nn.backbones import map_size
from muybridge.nn.checkpoint_keys import KeyPatterns, State
from muybridge.nn.shift import TemporalConv

Stage = Literal[2, 3, 4, 5]

SPEC = ModelSpec(
    name="tdn",
    title="Temporal difference network: differences within segments and between them",
    paper="Wang, Tong, Ji, Wu, TDN: Temporal Difference Networks for Efficient Action Recognition, CVPR 2021",
    link="https://arxiv.org/abs/2012.10071",
    code="https://github.com/MCG-NJU/TDN",
    departures={
        "fusion": "short-term motion is mixed in by shares (0.5 and 0.5 at 8 segments, else 0.75 and 0.25) where the "
        "paper adds; the released weights need the shares; short_fusion = 'sum' adds",
        "gate": "sigmoid - 1/2 where the paper has sigmoid, and the mean of the three scales where it has their sum, "
        "both as in the authors' code; long_gate = 'sigmoid' is the paper's",
        "upsampling": "nearest neighbour as in the code, bilinear in the paper; upsample = 'bilinear' is the paper's",
        "convolution_biases": "none: the code has them before every normalisation, which removes them again; adopting "
        "a released checkpoint moves them into the running means",
        "basic_blocks": "ResNet-18 and 34 take the modules after a block's first convolution; the paper has no such",
    },
)


class TDNConfig(ClipModelConfig):
    """The knobs of TDN; the defaults are those of the released networks.

    Attributes:
        frames_per_segment: consecutive frames of a segment; the middle one is the image, all of them the motion.
        short_stages: stages beside which the short-term module runs: 0 none, 1 the stem, 2 also res2, 3 also res3, ...
            At most one more than ``stages``.
        short_source: what it sees: differences of frames, or the frames around the middle one.
        short_fusion: ``weighted``, ``sum``, or ``attention`` (the motion gates the image path).
        image_share: the image path's weight when weighted; None is 0.5 at 8 segments and 0.75 else. With 0 the early
            stages see the motion alone, and their image path is not computed.
        long_stages: which of res2 to res5, as far as ``stages`` keeps them, have the long-term module in every block.
        long_source: differences of segments' features, or the neighbour's features.
        long_gate: see :class:`LongTermDifference`.
        reduction: the long-term module works on one in this many channels, and on one at least.
        multi_scale: three scales in the long-term module, or one.
        bidirectional: look at the next and at the previous segment, or at the next only.
        temporal_stages: which of them have the learnt temporal convolution in every block.
        upsample: how half-size maps return to full size, in both modules.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["tdn"] = "tdn"
    frames_per_segment: int = Field(default=5, ge=2)
    short_stages: int = Field(default=2, ge=0, le=5)
    short_source: Literal["differences", "frames"] = "differences"
    short_fusion: Literal["weighted", "sum", "attention"] = "weighted"
    image_share: float | None = Field(default=None, ge=0, le=1)
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
        """A few consecutive normalised frames from each segment."""
        return ClipInput(self.segments, self.frames_per_segment, self.size, self.mean, self.std)

    def build(self, num_classes: int, holds: Holds | None = None) -> "TDN":
        """The model for videos of the channels that the data set holds; without one, for RGB."""
        holds = holds or ClipData()
        assert isinstance(holds, ClipData)
        return TDN(self, num_classes, holds.channels).to(memory_format=torch.channels_last)


class TDN(ClipModel):
    """Classifies a clip by motion at two time scales."""

    key_patterns: ClassVar[KeyPatterns] = (
        (r"^conv1_5\.0\.", "short_term.stem.conv."),
        (r"^conv1_5\.1\.", "short_term.stem.norm."),
        (r"^resnext_layer1\.", "short_term.stages.0."),
        (r"\.mse\.conv1\.", ".between.long_term.squeeze.conv."),
        (r"\.mse\.bn1\.", ".between.long_term.squeeze.norm."),
        (r"\.mse\.conv2\.", ".between.long_term.align."),
        (r"\.mse\.conv3\.", ".between.long_term.expand.conv."),
        (r"\.mse\.bn3\.", ".between.long_term.expand.norm."),
        (r"\.mse\.conv3_smallscale2\.", ".between.long_term.coarse.conv."),
        (r"\.mse\.bn3_smallscale2\.", ".between.long_term.coarse.norm."),
        (r"\.mse\.conv3_smallscale4\.", ".between.long_term.fine.conv."),
        (r"\.mse\.bn3_smallscale4\.", ".between.long_term.fine.norm."),
        (r"\.shift\.conv\.", ".between.temporal."),
    )

    def __init__(self, config: TDNConfig, num_classes: int, channels: int) -> None:
        trunk = config.build_trunk(channels, zero_last=False)
        super().__init__(config, num_classes, trunk)
        nn.init.normal_(self.head.classifier.weight, std=0.001)
        nn.init.zeros_(self.head.classifier.bias)
        self.frames = config.frames_per_segment
        self.short_term = self._short_term(config) if config.short_stages else None
        for number, blocks in enumerate(trunk.blocks(), start=2):
            for block in blocks:
                block.between = _between(config, block.inner, number)
        if self.short_term is not None and self.short_term.replaces_image:
            for unused in (trunk.stem, *list(trunk.stages)[: len(self.short_term.stages)]):
                unused.requires_grad_(False)

    def _short_term(self, config: TDNConfig) -> ShortTermDifference:
        share = config.image_share
        return ShortTermDifference(
            self.trunk,
            config.frames_per_segment,
            config.short_stages,
            share=(0.5 if config.segments == 8 else 0.75) if share is None else share,
            fusion=config.short_fusion,
            upsample=config.upsample,
            source=config.short_source,
        )

    def features(self, video: Float[Tensor, "B T C H W"], maps: Maps | None) -> Float[Tensor, "N D h w"]:
        """The trunk's last features, with motion mixed in.

        Draws ``differences`` (``B S h w``, how much pixels change within a segment, at half size) and one
        ``gates_res*`` (``B S h w``) for each stage with the long-term module: its last block's mean gate.
        """
        segments = rearrange(video, "b (s f) c h w -> b s f c h w", f=self.frames)
        x, first = self._early_features(segments, maps)
        for index in range(first, len(self.trunk.stages)):
            x = self._stage(index, x, maps)
        return x

    def _early_features(
        self, segments: Float[Tensor, "B S F C H W"], maps: Maps | None
    ) -> tuple[Float[Tensor, "N D h w"], int]:
        """The features after the stages beside which the short-term module runs, and the number of these stages."""
        images, short = as_images(segments[:, :, self.frames // 2]), self.short_term
        if short is None:
            return self.trunk.start(images), 0
        differences = short.differences(segments)
        if maps is not None:
            maps["differences"] = motion_magnitude(differences)
        motion = short.start(differences)
        if short.replaces_image:
            for stage in short.stages:
                motion = stage(motion)
            height, width = (map_size(pixels, len(short.stages)) for pixels in images.shape[2:])
            return F.interpolate(motion, (height, width), mode=short.upsample), len(short.stages)
        x = short.fuse(self.trunk.start(images), motion)
        for index, stage in enumerate(short.stages):
            x, motion = self._stage(index, x, maps), stage(motion)
            x = short.fuse(x, motion)
        return x, len(short.stages)

    def _stage(self, index: int, x: Float[Tensor, "N D H W"], maps: Maps | None) -> Float[Tensor, "N D2 h w"]:
        """The output of one of the trunk's stages, which are numbered from 0 here and from res2 in the maps."""
        stage = self.trunk.stages[index]
        return stage(x) if maps is None else self._drawn(stage, x, f"gates_res{index + 2}", maps)

    def _drawn(self, stage: nn.Module, x: Tensor, name: str, maps: Maps) -> Tensor:
        """The stage's answer, with the gate of its last long-term module written down."""
        gates = [module for module in stage.modules() if isinstance(module, LongTermDifference)]

        def write(module: nn.Module, inputs: tuple[Tensor]) -> None:
            assert isinstance(module, LongTermDifference)
            maps[name] = reduce(module.change(*inputs), "(b s) c h w -> b s h w", "mean", s=module.segments)

        if not gates:
            return stage(x)
        with gates[-1].register_forward_pre_hook(write):
            return stage(x)

    def convert_released(self, state: Mapping[str, Tensor]) -> State:
        """The authors' state under our names, without the unused stem and with convolution biases in running means."""
        ours = super().convert_released({key: value for key, value in state.items() if "conv1_temp" not in key})
        for key in [key for key in ours if key.endswith(".conv.bias")]:
            bias = ours.pop(key)
            mean = key.removesuffix("conv.bias") + "norm.running_mean"
            ours[mean] = ours[mean] - bias
        return ours


def _between(config: TDNConfig, channels: int, stage: int) -> nn.Module:
    """What a block of a stage does after its first convolution."""
    layers: dict[str, nn.Module] = {}
    if stage in config.long_stages:
        layers["long_term"] = LongTermDifference(
            channels,
            config.segments,
            reduction=config.reduction,
            gate=config.long_gate,
            source=config.long_source,
            both=config.bidirectional,
            scales=config.multi_scale,
            upsample=config.upsample,
        )
    if stage in config.temporal_stages:
        layers["temporal"] = TemporalConv(channels, config.segments)
    return nn.Sequential(OrderedDict(layers))
