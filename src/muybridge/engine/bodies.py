"""How bodies stand in the recordings that a run was trained on, so that predicting can warn about one that is unlike.

A model of skeletons takes joints by their numbers and positions by their axes. A recording in another order of joints,
with another vertical axis, or in another unit has the right shape all the same, and its scores mean nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from muybridge.core.skeletons import LAYOUTS, Layout
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig
from muybridge.data.skeleton_checks import PLAUSIBLE, body_size, check_layout, mean_body, number, vertical_axis
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.durations import open_sample

FILE = "bodies.json"

SAMPLE = 32
"""Recordings that are measured, evenly spread over the training part."""

LARGER = 20.0
"""How many times as large or as small as in training a body is before there is a warning: another unit."""

_BELOW = 0.7  # times the lowest plausibility in training: a layout that fits so much worse is another one


@dataclass(frozen=True, slots=True)
class Bodies:
    """What the bodies of training recordings have in common.

    Attributes:
        axes: the vertical axes that occur, see :func:`~muybridge.data.skeleton_checks.vertical_axis`; empty where all
            are unclear.
        smallest, largest: median size of the bodies of a recording, in its unit.
        plausibility: the lowest of the layout, 0 to 1; 0 where the layout is not known.
    """

    axes: tuple[str, ...]
    smallest: float
    largest: float
    plausibility: float

    @classmethod
    def of(cls, recordings: Sequence[SkeletonSequence], layout: Layout) -> "Bodies":
        """The bodies of at least one recording in which somebody is seen."""
        sizes = [body_size(recording) for recording in recordings]
        axes = {vertical_axis(mean_body(recording), layout) for recording in recordings} - {None}
        fits = [check_layout([recording], layout).plausibility.get(layout.name, 0.0) for recording in recordings]
        return cls(tuple(sorted(axis for axis in axes if axis)), min(sizes), max(sizes), min(fits))

    def warnings_for(self, recording: SkeletonSequence, layout: Layout, *, check_size: bool = True) -> list[str]:
        """Messages about a recording of as many joints and coordinates; empty if its bodies are like those of training.

        Args:
            recording: the recording.
            layout: that of training.
            check_size: whether the unit matters, as it does unless the model divides by the size of the body.
        """
        if not recording.present.any():
            return []
        messages = self._layout_warnings(recording, layout)
        axis = vertical_axis(mean_body(recording), layout)
        if not messages and axis and self.axes and axis not in self.axes:
            messages.append(
                f"the head is above the feet along {axis}, in the training recordings along {' or '.join(self.axes)}: "
                "unless the person lies or stands upside down, the axes differ (a minus is an axis that points down). "
                "Rotate the recording as those of training are"
            )
        size = body_size(recording)
        if check_size and size > 0 and not self.smallest / LARGER <= size <= self.largest * LARGER:
            messages.append(
                f"bodies are {number(size)} units high or wide, in the training recordings {number(self.smallest)} to "
                f"{number(self.largest)}: convert the positions to the unit of training"
            )
        return messages

    def _layout_warnings(self, recording: SkeletonSequence, layout: Layout) -> list[str]:
        """A message if the joints fit the layout far worse than those of training did."""
        check = check_layout([recording], layout)
        plausibility = check.plausibility.get(layout.name, 1.0)
        if plausibility >= min(PLAUSIBLE, _BELOW * self.plausibility):
            return []
        name = layout.name
        other = f", and look like {check.best}" if check.best else ""
        return [
            f"the joints do not look like {name}, in which the model was trained (plausibility "
            f"{plausibility:.2f}, in training {self.plausibility:.2f} or more){other}: write them in the order of "
            + (f"{name} (`muybridge layouts {name}`)" if name in LAYOUTS else "the training recordings")
        ]


def measure_bodies(data: DatasetConfig, records: Sequence[Record], layout: Layout) -> Bodies | None:
    """The bodies of a sample of recordings; those that cannot be opened are passed over.

    Returns:
        None if none can be opened.
    """
    recordings = [
        recording
        for recording in open_sample(data, records, SAMPLE)
        if isinstance(recording, SkeletonSequence) and recording.present.any()
    ]
    return Bodies.of(recordings, layout) if recordings else None


def write_bodies(run: RunFolder, bodies: Bodies | None) -> None:
    """Keep the bodies in a run folder, if there are any."""
    if bodies is not None:
        run.write_json(FILE, asdict(bodies))


def read_bodies(run: Path) -> Bodies | None:
    """The bodies that a training left in its run folder; None where there are none."""
    try:
        values = json.loads((run / FILE).read_text(encoding="utf-8"))
        return Bodies(**values | {"axes": tuple(values["axes"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
