"""Hand-crafted motion descriptors: HOG, HOF and MBH of space-time blocks as Fisher vectors, and a linear classifier.

The best features before convolutional networks: a baseline, and a partner for late fusion, as in the VideoLSTM paper.

Source: Wang and Schmid, Action Recognition with Improved Trajectories, ICCV 2013.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from muybridge.core.contracts import ClipInput, Holds
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ModelConfig
from muybridge.nn.options import BLOCK_CELLS, descriptor_sizes

if TYPE_CHECKING:
    from muybridge.models.fisher_vectors.network import FisherVectors

SPEC = ModelSpec(
    name="fisher_vectors",
    title="Fisher vectors: hand-crafted motion descriptors and a linear classifier",
    paper="Wang and Schmid, Action Recognition with Improved Trajectories, ICCV 2013",
    link="https://doi.org/10.1109/ICCV.2013.441",
    differences={
        "blocks": "on a dense grid, where the paper's follow trajectories after compensating for camera motion",
        "positions": "time, row and column are appended to each descriptor; the paper does not use them",
        "classifier": "ridge regression, whose scores on each class enter a softmax; the paper uses SVMs",
    },
)


class FisherVectorsConfig(ModelConfig):
    """The settings of hand-crafted motion descriptors.

    The classifier is solved for before training begins, so that ``train.epochs = 0`` is the complete training.

    Attributes:
        frames: of a clip; which of the video's they are, the recipe's ``view.mode`` says.
        size, mean, std: of the frames, see :class:`~muybridge.core.contracts.ClipInput`.
        cell_size: side of a cell in pixels, 1 or even; a block has 2 by 2 cells, and the stride is half a cell.
        cell_frames: frames of a cell, 1 or even; a block is 3 cells long.
        pca_components: principal components of each descriptor.
        gaussians: components of the Gaussian mixture of each descriptor.
        position_weight: factor on a block's position relative to its descriptor; 0 ignores positions.
        samples_per_clip: blocks of each training clip to which PCA and mixtures are fitted; fewer if there are many
            clips.
        penalty: the L2 penalty of the classifier for each training clip.
        temperature: divides the scores, before the softmax.
        dropout: before the classifier, while it is trained further by gradient descent.
    """

    spec: ClassVar[ModelSpec] = SPEC
    multi_label: ClassVar[bool] = False
    learns_features: ClassVar[bool] = False
    name: Literal["fisher_vectors"] = "fisher_vectors"
    frames: PositiveInt = 32
    size: PositiveInt = 64
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    cell_size: PositiveInt = 8
    cell_frames: PositiveInt = 4
    pca_components: PositiveInt = 24
    gaussians: PositiveInt = 64
    position_weight: NonNegativeFloat = 2.0
    samples_per_clip: PositiveInt = 60
    penalty: PositiveFloat = 0.001
    temperature: PositiveFloat = 0.1
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _check_block_fits(self) -> "FisherVectorsConfig":
        for name, side in (("cell_size", self.cell_size), ("cell_frames", self.cell_frames)):
            if side > 1 and side % 2:
                raise ValueError(f"{name} = {side} is odd, and the stride is half a cell; set an even number, or 1")
        frames, side = BLOCK_CELLS[0] * self.cell_frames, BLOCK_CELLS[1] * self.cell_size
        if self.frames < frames or self.size < side:
            raise ValueError(
                f"a block has {frames} frames and {side} pixels a side, a clip only {self.frames} and {self.size}; "
                "lower cell_frames or cell_size"
            )
        if self.pca_components > min(descriptor_sizes()):
            raise ValueError(f"pca_components is at most {min(descriptor_sizes())}, the length of a descriptor")
        return self

    def takes(self) -> ClipInput:
        """Frames in their order, and the optical flow from them."""
        return ClipInput(1, self.frames, size=self.size, mean=self.mean, std=self.std, flow=True)

    def build(self, num_classes: int, holds: Holds | None = None) -> "FisherVectors":
        """The model, for videos of any number of channels: gradients are computed from their mean."""
        from muybridge.models.fisher_vectors.network import FisherVectors

        return FisherVectors(self, num_classes)
