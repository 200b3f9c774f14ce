"""How a recording is played, of any other data set, whose labels are not used."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, Self

from pydantic import model_validator

from muybridge.core.contracts import Holds
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import DatasetConfig, Index, Split
from muybridge.data.datasets.labelled import LabelledDataset
from muybridge.media.arrays import ReadOptions
from muybridge.media.video import Video

SPEEDS = (1, 2, 3)
"""From each frame that is shown to the next. The fastest shows a recording whole; a third of it is shown at speed 1."""

PLAYBACKS = tuple(f"{way}, {speed}x" for way in ("forwards", "backwards") for speed in SPEEDS)
"""The classes: a direction and a speed."""


class Playback(DatasetConfig):
    """Is a recording played forwards or backwards, and at which of three speeds? Recordings, groups and split are the
    source's; how each is played is drawn anew for every sample of the training.

    Attributes:
        source: any other data set, as a table with its settings; its labels are not used.
    """

    name: Literal["playback"] = "playback"
    source: LabelledDataset

    @model_validator(mode="after")
    def _split_is_the_sources(self) -> Self:
        if self.val_groups:
            raise ValueError("val_groups belong to the source; set data.source.val_groups")
        return self

    def resolved(self) -> Self:
        """With the source's settings written out."""
        return self.model_copy(update={"source": self.source.resolved()})

    def labels(self) -> tuple[str, ...]:
        """Direction and speed."""
        return PLAYBACKS

    def holds(self) -> Holds:
        """What the source holds."""
        return self.source.holds()

    def mirror(self) -> Mapping[int, int]:
        """Empty: mirroring changes neither direction nor speed."""
        return {}

    def reverse(self) -> Mapping[int, int]:
        """The two directions are exchanged."""
        count = len(SPEEDS)
        return {label: (label + count) % (2 * count) for label in range(2 * count)}

    def generate(self, progress: Callable[[int, int], None] | None = None, workers: int = 1) -> None:
        """Makes the source's recordings where they do not exist; see :meth:`DatasetConfig.generate`."""
        self.source.generate(progress, workers)

    def index(self, split: Split) -> Index:
        """The source's recordings; see :meth:`~muybridge.data.datasets.base.DatasetConfig.index`."""
        index = self.source.index(split)
        return replace(index, records=tuple(replace(record, label=0) for record in index.records))

    def open(self, record: Record) -> SkeletonSequence | Video:
        """The recording as it is; :class:`~muybridge.data.playback.PlaybackPreparation` plays it."""
        return self.source.open(record)

    def read_options(self) -> ReadOptions:
        """Those of the source."""
        return self.source.read_options()

    def describe_split(self) -> str:
        """How the source is split, in words."""
        return self.source.describe_split()

    def unread(self) -> Mapping[str, int]:
        """How many files of the source are no recordings, by suffix."""
        return self.source.unread()
