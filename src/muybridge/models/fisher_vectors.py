"""Hand-crafted motion: HOG, HOF and MBH of blocks of a clip as Fisher vectors, and a linear classifier.

The features that were best before networks: to compare with, and to fuse with, as VideoLSTM does.

Legend: B clips, T frames, C channels, H and W pixels.
Source: Wang and Schmid, Action Recognition with Improved Trajectories, ICCV 2013.
"""

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from torch import Tensor, nn

from muybridge.core.contracts import ClipInput, Holds
from muybridge.core.spec import ModelSpec
from muybridge.core.types import Output
from muybridge.models.base import Model, ModelConfig
from muybridge.nn.fisher import FisherVector
from muybridge.nn.local_descriptors import CELLS, KINDS, descriptor_sizes, descriptors, places

SPEC = ModelSpec(
    name="fisher_vectors",
    title="Hand-crafted motion descriptors as Fisher vectors",
    paper="Wang and Schmid, Action Recognition with Improved Trajectories, ICCV 2013",
    link="https://doi.org/10.1109/ICCV.2013.441",
    departures={
        "blocks": "stand on a dense grid, where the paper carries them along trajectories and takes camera motion out",
        "places": "time, row and column join each descriptor, where the paper leaves them out",
        "classifier": "logistic regression by gradient descent, so that answers are probabilities; the paper has SVMs",
    },
)

MOST = 200_000
"""Blocks that Gaussians are fitted to; beyond, each clip gives half as many."""


class FisherVectorsConfig(ModelConfig):
    """The knobs of hand-crafted motion.

    Attributes:
        frames: consecutive frames of a clip.
        size, mean, std: of the frames, see :class:`ClipInput`.
        cell: pixels along a cell's side, 1 or even; a block is 2 by 2 cells, and a new one begins every half cell.
        cell_frames: frames of a cell, likewise; a block is 3 cells long.
        dimensions: principal components of each kind of descriptor.
        components: Gaussians of each kind of descriptor.
        place_weight: how much the place of a block counts beside what it looks like.
        sampled: blocks of each training clip that components and Gaussians are fitted to; fewer where clips are many.
        dropout: before the classifier.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["fisher_vectors"] = "fisher_vectors"
    frames: PositiveInt = 32
    size: PositiveInt = 64
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    cell: PositiveInt = 8
    cell_frames: PositiveInt = 4
    dimensions: PositiveInt = 24
    components: PositiveInt = 64
    place_weight: NonNegativeFloat = 2.0
    sampled: PositiveInt = 60
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _a_block_fits(self) -> "FisherVectorsConfig":
        for knob, side in (("cell", self.cell), ("cell_frames", self.cell_frames)):
            if side > 1 and side % 2:
                raise ValueError(f"{knob} = {side}, and half a cell is to be a whole number; take an even one, or 1")
        if self.frames < CELLS[0] * self.cell_frames or self.size < CELLS[1] * self.cell:
            raise ValueError(
                f"a block has {CELLS[0] * self.cell_frames} frames and {CELLS[1] * self.cell} pixels a side, a clip "
                f"{self.frames} and {self.size}; lower cell_frames or cell"
            )
        if self.dimensions > min(descriptor_sizes()):
            raise ValueError(f"dimensions is at most {min(descriptor_sizes())}, the size of a descriptor")
        return self

    def takes(self) -> ClipInput:
        """Consecutive frames, and the flow of the same moments."""
        return ClipInput(1, self.frames, size=self.size, mean=self.mean, std=self.std, flow=True)

    def build(self, num_classes: int, holds: Holds | None = None) -> "FisherVectors":
        """The model for videos of any number of channels, whose mean is what gradients are taken of."""
        return FisherVectors(self, num_classes)


class FisherVectors(Model):
    """Scores a clip by its Fisher vectors; the classifier alone is learned."""

    def __init__(self, config: FisherVectorsConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        encoders = [
            FisherVector(size, config.dimensions, config.components, config.place_weight) for size in descriptor_sizes()
        ]
        self.encoders = nn.ModuleDict(dict(zip(KINDS, encoders, strict=True)))
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(sum(encoder.encoded for encoder in encoders), num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)
        self.register_buffer("places", places(config.frames, config.size, self._cell), persistent=False)
        self.places: Tensor

    def forward(self, video: Float[Tensor, "B T C H W"], flow: Float[Tensor, "B T 2 H W"]) -> Output:
        """Scores; nothing is learned below the classifier, so no gradient goes there."""
        with torch.no_grad(), torch.autocast(video.device.type, enabled=False):
            found = descriptors(video.float(), flow.float(), self._cell)
            encoded = [encoder(one, self.places) for encoder, one in zip(self.encoders.values(), found, strict=True)]
        return Output(self.classifier(self.dropout(torch.cat(encoded, dim=1))), {})

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fit components and Gaussians to some blocks of every clip, of each alike."""
        rng = torch.Generator().manual_seed(0)
        drawn: list[list[Tensor]] = []
        share, clips = min(self.config.sampled, len(self.places)), 0
        for batch in batches:
            found = descriptors(batch["video"].float(), batch["flow"].float(), self._cell)
            chosen = torch.stack([torch.randperm(len(self.places), generator=rng)[:share] for _ in found[0]])
            of = torch.arange(len(chosen))[:, None]
            drawn.append([*(one[of, chosen].cpu() for one in found), self.places[chosen].cpu()])
            clips += len(chosen)
            if clips * share > MOST and share > 1:
                share //= 2
                drawn = [[one[:, :share].clone() for one in some] for some in drawn]
        *kinds, lay = (torch.cat(one).flatten(0, 1) for one in zip(*drawn, strict=True))
        for encoder, one in zip(self.encoders.values(), kinds, strict=True):
            assert isinstance(encoder, FisherVector)
            encoder.fit(one, lay)

    @property
    def _cell(self) -> tuple[int, int, int]:
        return self.config.cell_frames, self.config.cell, self.config.cell
