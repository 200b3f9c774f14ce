"""TSN and TSM: a ResNet on one frame of each segment, scores averaged; TSM shifts channels between segments.

Source: Wang et al., ECCV 2016 (TSN); Lin et al., ICCV 2019 (TSM, ``shift = true``).
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import PositiveInt

from muybridge.core.contracts import ClipData, Holds
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ClipModelConfig

if TYPE_CHECKING:
    from muybridge.models.tsn.network import TSN

SPEC = ModelSpec(
    name="tsn",
    title="TSN: segment consensus over a ResNet; with temporal shift TSM",
    paper="Wang et al., Temporal Segment Networks, ECCV 2016; Lin et al., TSM: Temporal Shift Module, ICCV 2019",
    link="https://arxiv.org/abs/1811.08383",
    code="https://github.com/mit-han-lab/temporal-shift-module",
    differences={
        "backbone": "ResNet, as in TSM; TSN's paper has BN-Inception and a second stream of optical flow",
    },
)


class TSNConfig(ClipModelConfig):
    """The settings of TSN and TSM.

    Attributes:
        shift: shift channels along time before the first convolution of every block; this is TSM.
        shift_div: one in this many channels takes the values of the next segment, one those of the previous one.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["tsn"] = "tsn"
    shift: bool = False
    shift_div: PositiveInt = 8

    def build(self, num_classes: int, holds: Holds | None = None) -> "TSN":
        """The network for videos with the data set's number of channels; without ``holds`` for RGB."""
        from muybridge.models.tsn.network import TSN

        holds = holds or ClipData()
        assert isinstance(holds, ClipData)
        return TSN(self, num_classes, holds.channels)
