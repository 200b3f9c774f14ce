"""MSR Action3D: 20 game-like actions of 10 people, Kinect v1 skeletons (Li, Zhang, Liu; CVPR Workshops 2010)."""

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

from muybridge.core.contracts import SkeletonData
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import Benchmark, Index, Split
from muybridge.media.skeleton import read_msr

_ACTIONS = (
    *("high arm wave", "horizontal arm wave", "hammer", "hand catch", "forward punch", "high throw", "draw x"),
    *("draw tick", "draw circle", "hand clap", "two hand wave", "side boxing", "bend", "forward kick", "side kick"),
    *("jogging", "tennis swing", "tennis serve", "golf swing", "pick up and throw"),
)
_SUBSETS = {
    "all": tuple(range(1, 21)),
    "AS1": (2, 3, 5, 6, 10, 13, 18, 20),
    "AS2": (1, 4, 7, 8, 9, 11, 12, 14),
    "AS3": (6, 14, 15, 16, 17, 18, 19, 20),
}
# The 10 of 567 recordings that the usual list of 557 omits: the person is lost or badly tracked.
_OMITTED = (
    *("a02_s03_e02", "a04_s03_e01", "a07_s04_e01", "a13_s09_e01", "a13_s09_e02"),
    *("a13_s09_e03", "a14_s03_e01", "a20_s07_e01", "a20_s07_e03", "a20_s10_e03"),
)
_NAME = re.compile(r"(?P<id>a(?P<action>[0-9]{2})_(?P<subject>s[0-9]{2})_e[0-9]{2})_skeleton3D\.txt")
_NOBODY = {"a13_s09_e02": "nobody is seen in any frame (all coordinates are zero)"}


class MSRAction3D(Benchmark):
    """Cross-subject: people 1, 3, 5, 7, 9 train, the others test. Groups are people, ``s01`` to ``s10``.

    Attributes:
        subset: all 20 actions at once, or one of the three subsets of eight.
        files: the usual list of 557 recordings, or all 567, of which one is all zeros and excluded.
    """

    name: Literal["msr_action3d"] = "msr_action3d"
    folder_name: ClassVar[str] = "msr_action3d"
    subset: Literal["all", "AS1", "AS2", "AS3"] = "all"
    files: Literal["557", "567"] = "557"

    def labels(self) -> tuple[str, ...]:
        """Action names."""
        return tuple(_ACTIONS[action - 1] for action in _SUBSETS[self.subset])

    def holds(self) -> SkeletonData:
        """One person, 20 joints, metres."""
        return SkeletonData(LAYOUTS["msr20"])

    def mirror(self) -> Mapping[int, int]:
        """Empty: a mirrored recording is the same action by the other hand, and no action is another's mirror image."""
        return {}

    def index(self, split: Split) -> Index:
        """The recordings of one split; see :meth:`~muybridge.data.datasets.base.DatasetConfig.index`."""
        label = {action: index for index, action in enumerate(_SUBSETS[self.subset])}
        records = []
        for path in self.find("a??_s??_e??_skeleton3D.txt"):
            match = _NAME.fullmatch(path.name)
            if match and int(match["action"]) in label and not (self.files == "557" and match["id"] in _OMITTED):
                records.append(Record(match["id"], path, label[int(match["action"])], match["subject"]))
        return self.split_records(split, records, is_test=_even, excluded=_NOBODY)

    def open(self, record: Record) -> SkeletonSequence:
        """See :func:`read_msr`."""
        return read_msr(record.path)


def _even(record: Record) -> bool:
    return int(record.group[1:]) % 2 == 0
