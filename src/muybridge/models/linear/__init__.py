"""A linear model of statistics of the whole recording: what every network should exceed, and often a partner for it.

Source: Hoerl and Kennard, Ridge Regression, Technometrics 1970.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveFloat, PositiveInt

from muybridge.core.contracts import ClipInput, Holds, SkeletonData, SkeletonInput, Statistics, StatisticsOf
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ModelConfig

if TYPE_CHECKING:
    from muybridge.models.linear.network import Linear

SPEC = ModelSpec(
    name="linear",
    title="Linear model: ridge regression on statistics of the whole recording",
    paper="Hoerl and Kennard: Ridge Regression, Biased Estimation for Nonorthogonal Problems. Technometrics 1970",
    link="https://doi.org/10.1080/00401706.1970.10488634",
    differences={
        "classes": "one regression on an indicator of each class, -1 or 1; its scores enter a softmax",
    },
)


class LinearConfig(ModelConfig):
    """The settings of a linear model.

    Its weights are solved for before training begins, so that ``train.epochs = 0`` is the complete training.

    Attributes:
        statistics: what mean and standard deviation are taken of: positions of joints and their changes ("as recorded",
            "relative to the body"), or 16x16 thumbnails of a video ("frames", "changes", "frames and changes").
        parts: equal parts of the time with statistics of their own; 1 knows no order of events.
        penalty: the L2 penalty for each training recording, for standardized statistics.
        temperature: divides the scores, before the softmax.
    """

    spec: ClassVar[ModelSpec] = SPEC
    multi_label: ClassVar[bool] = False
    learns_features: ClassVar[bool] = False
    name: Literal["linear"] = "linear"
    statistics: StatisticsOf = "relative to the body"
    parts: PositiveInt = 3
    penalty: PositiveFloat = 0.3
    temperature: PositiveFloat = 0.3

    def description(self) -> Statistics:
        """The statistics that the model takes."""
        return Statistics(self.statistics, self.parts)

    def takes(self) -> SkeletonInput | ClipInput:
        """Statistics alone; of a video, pictures show a frame of each of eight segments."""
        wanted = self.description()
        if wanted.of_skeletons:
            return SkeletonInput(positions=False, statistics=wanted)
        return ClipInput(8, pixels=False, statistics=wanted)

    def build(self, num_classes: int, holds: Holds | None = None) -> "Linear":
        """The model; without ``holds`` for one person of 20 joints in 3D."""
        from muybridge.models.linear.network import Linear

        return Linear(self, num_classes, self.description().size(holds or SkeletonData(LAYOUTS["kinect20"])))
