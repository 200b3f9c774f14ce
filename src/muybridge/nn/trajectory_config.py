"""The settings of dense trajectories; without torch, so that model configs are imported quickly."""

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from muybridge.nn.options import BLOCK_CELLS, descriptor_sizes


class TrajectoryConfig(BaseModel):
    """The settings of dense trajectories; the defaults are the papers'.

    Attributes:
        steps: of a trajectory, a multiple of 3.
        stride: pixels between points.
        cell_size: side of a cell of the patch around a point, in pixels; a patch has 2 by 2.
        scales: how many sizes of the frame points are followed in, each smaller than the last by a factor of
            sqrt(2); fewer where a patch does not fit.
        quality: smallest eigenvalue of the structure around a point, as a share of the largest in the frame.
        min_flow: flow up to this many pixels goes to the bin of flow near zero.
        min_deviation: a trajectory whose x and y both deviate by less is left out, in pixels of the full frame.
        max_deviation: a trajectory whose x or y deviates by more is left out.
        max_step: a trajectory with a longer step that makes up 70 % of its length is left out.
        min_own_step: where the camera's part of the flow is known, a trajectory is left out unless one of its steps is
            longer than this without that part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    steps: int = Field(default=15, ge=BLOCK_CELLS[0], multiple_of=BLOCK_CELLS[0])
    stride: PositiveInt = 5
    cell_size: PositiveInt = 16
    scales: PositiveInt = 8
    quality: NonNegativeFloat = 0.001
    min_flow: PositiveFloat = 0.4
    min_deviation: NonNegativeFloat = 3**0.5
    max_deviation: PositiveFloat = 50.0
    max_step: PositiveFloat = 20.0
    min_own_step: NonNegativeFloat = 1.0

    def descriptor_sizes(self) -> dict[str, int]:
        """Length of each descriptor of a trajectory."""
        return {"shape": 2 * self.steps} | descriptor_sizes()
