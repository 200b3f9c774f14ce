"""SBU Kinect Interaction: 8 interactions of two people (Yun et al., CVPR Workshops 2012)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from muybridge.core.contracts import SkeletonData
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import Benchmark, Index, Split
from muybridge.media.skeleton import read_sbu

_ACTIONS = (
    *("approaching", "departing", "kicking", "pushing"),
    *("shaking hands", "hugging", "exchanging object", "punching"),
)
_FOLDERS = tuple(f"{number:02}" for number in range(1, len(_ACTIONS) + 1))
# The official five folds of pairs; the first of a pair acts, the second reacts.
_FOLDS = (
    ["s01s02", "s03s04", "s05s02", "s06s04"],
    ["s02s03", "s02s07", "s03s05", "s05s03"],
    ["s01s03", "s01s07", "s07s01", "s07s03"],
    ["s02s01", "s02s06", "s03s02", "s03s06"],
    ["s04s02", "s04s03", "s04s06", "s06s02", "s06s03"],
)


class SBU(Benchmark):
    """Five-fold cross-validation by pairs of people. Groups are pairs, such as ``s01s02``.

    Attributes:
        fold: 1 to 5, the fold that tests; the other four train.
    """

    name: Literal["sbu"] = "sbu"
    folder_name: ClassVar[str] = "sbu"
    fold: int = Field(default=1, ge=1, le=5)

    def labels(self) -> tuple[str, ...]:
        """Interaction names."""
        return _ACTIONS

    def holds(self) -> SkeletonData:
        """Two people, 15 joints, metres."""
        return SkeletonData(LAYOUTS["sbu15"], people=2)

    def mirror(self) -> Mapping[int, int]:
        """Empty: no interaction has a side."""
        return {}

    def folds(self) -> tuple[str, ...]:
        """``1`` to ``5``."""
        return ("1", "2", "3", "4", "5")

    def index(self, split: Split) -> Index:
        """The recordings of one split; see :meth:`~muybridge.data.datasets.base.DatasetConfig.index`."""
        records = []
        for path in self.find("s??s??/??/???/skeleton_pos.txt"):
            pair, action, repetition = path.parts[-4:-1]
            if action in _FOLDERS:
                records.append(Record(f"{pair}/{action}/{repetition}", path, _FOLDERS.index(action), pair))
        return self.split_records(split, records, is_test=lambda record: record.group in _FOLDS[self.fold - 1])

    def open(self, record: Record) -> SkeletonSequence:
        """See :func:`read_sbu`."""
        return read_sbu(record.path)
