"""UTD-MHAD: 27 actions of 8 people, Kinect v1 skeletons (Chen, Jafari, Kehtarnavaz; ICIP 2015)."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from muybridge.core.contracts import SkeletonData
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import Benchmark, Index, Split
from muybridge.media.skeleton import read_utd

_ACTIONS = (
    *("swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shoot", "draw x"),
    *("draw circle clockwise", "draw circle counter-clockwise", "draw triangle", "bowling", "boxing"),
    *("baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch", "pick up and throw"),
    *("jog", "walk", "sit to stand", "stand to sit", "lunge", "squat"),
)
_MIRRORED = (("swipe left", "swipe right"), ("draw circle clockwise", "draw circle counter-clockwise"))


class UTDMHAD(Benchmark):
    """Cross-subject: people 1, 3, 5, 7 train, the others test. Groups are people, ``s1`` to ``s8``."""

    name: Literal["utd_mhad"] = "utd_mhad"
    home: ClassVar[str] = "utd_mhad"

    def labels(self) -> tuple[str, ...]:
        """Action names."""
        return _ACTIONS

    def holds(self) -> SkeletonData:
        """One person, 20 joints, metres."""
        return SkeletonData(LAYOUTS["kinect20"])

    def mirror(self) -> Mapping[int, int]:
        """Swipes and circles change their direction; the other actions are done by the other hand."""
        pairs = [(_ACTIONS.index(one), _ACTIONS.index(other)) for one, other in _MIRRORED]
        return dict(pairs) | {other: one for one, other in pairs}

    def index(self, split: Split) -> Index:
        """The recordings of one split; see :meth:`DatasetConfig.index`."""
        records = []
        for path in self.find("a*_s?_t?_skeleton.mat"):
            identity = path.name.removesuffix("_skeleton.mat")
            action, subject, _ = identity.split("_")
            records.append(Record(identity, path, int(action[1:]) - 1, subject))
        return self.divide(split, records, testing=lambda record: int(record.group[1:]) % 2 == 0)

    def open(self, record: Record) -> SkeletonSequence:
        """See :func:`read_utd`."""
        return read_utd(record.path)
