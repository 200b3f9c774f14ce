"""NTU RGB+D 60 and 120: daily, medical and two-person actions, Kinect v2 skeletons and videos.

Shahroudy, Liu, Ng, Wang, CVPR 2016 (60 actions, 40 people) and Liu et al., TPAMI 2019 (120 actions, 106 people).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from muybridge.core.contracts import ClipData, SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.files import find_files, read_lines
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import Benchmark, Index, Split
from muybridge.media.parsing import NoPersonError
from muybridge.media.skeleton import read_ntu
from muybridge.media.video import SUFFIXES, Video

_ACTIONS = (
    *("drink water", "eat meal", "brush teeth", "brush hair", "drop", "pick up", "throw", "sit down", "stand up"),
    *("clap", "read", "write", "tear up paper", "put on jacket", "take off jacket", "put on a shoe"),
    *("take off a shoe", "put on glasses", "take off glasses", "put on a hat or cap", "take off a hat or cap"),
    *("cheer up", "wave a hand", "kick something", "reach into pocket", "hop", "jump up", "phone call"),
    *("play with phone or tablet", "type on a keyboard", "point to something", "take a selfie", "check time"),
    *("rub two hands", "nod or bow", "shake head", "wipe face", "salute", "put palms together", "cross hands in front"),
    *("sneeze or cough", "stagger", "fall down", "touch head (headache)", "touch chest (chest pain)"),
    *("touch back (back pain)", "touch neck (neck pain)", "nausea or vomiting", "fan self", "punch or slap someone"),
    *("kick someone", "push someone", "pat someone on the back", "point at someone", "hug someone"),
    *("give an object to someone", "touch someone's pocket", "shake hands", "walk towards each other"),
    *("walk apart", "put on headphones", "take off headphones", "shoot at a basket", "bounce a ball"),
    *(
        "swing a tennis bat",
        "juggle table tennis balls",
        "hush",
        "flick hair",
        "thumb up",
        "thumb down",
        "make OK sign",
    ),
    *("make victory sign", "staple a book", "count money", "cut nails", "cut paper", "snap fingers", "open a bottle"),
    *("sniff or smell", "squat down", "toss a coin", "fold paper", "ball up paper", "play magic cube"),
    *("apply cream on face", "apply cream on hand", "put on a bag", "take off a bag", "put an object into a bag"),
    *("take an object out of a bag", "open a box", "move heavy objects", "shake a fist", "throw up a cap or hat"),
    *("hands up", "cross arms", "arm circles", "arm swings", "run on the spot", "butt kicks", "cross toe touch"),
    *("side kick", "yawn", "stretch oneself", "blow nose", "hit someone with an object", "wield a knife at someone"),
    *("knock someone over", "grab someone's belongings", "shoot at someone with a gun", "step on someone's foot"),
    *("high-five", "cheers and drink", "carry an object together", "take a photo of someone", "follow someone"),
    *("whisper in someone's ear", "exchange objects", "support someone", "rock-paper-scissors"),
)
# The people who train in the cross-subject protocol: 20 of the first 40, and 33 more of all 106.
_TRAIN_60 = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
_TRAIN_120 = (
    *_TRAIN_60,
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93),
    *(94, 95, 97, 98, 100, 103),
)
_NAME = re.compile(r"S[0-9]{3}C[0-9]{3}(?P<person>P[0-9]{3})R[0-9]{3}A(?P<action>[0-9]{3})")
_SMALL = 8192  # bytes; with a body, a file of a single frame has 25 lines of 12 numbers

_ENDING = "_rgb"  # of the names of videos
_INCOMPLETE = "listed among the recordings with missing or incomplete skeletons"
_COUNTS = {
    (60, "cross_subject"): (40_091, 16_487),
    (60, "cross_view"): (37_646, 18_932),
    (120, "cross_subject"): (63_026, 50_919),
    (120, "cross_setup"): (54_468, 59_477),
}
"""Recordings with usable skeletons that train and that test."""

_ALL = {(60, "cross_subject"): (40_320, 16_560), (60, "cross_view"): (37_920, 18_960)}
"""All recordings."""

_LISTS = ("NTU_RGBD_samples_with_missing_skeletons.txt", "NTU_RGBD120_samples_with_missing_skeletons.txt")


class _Recordings(Benchmark):
    """What skeletons and videos share. Groups are people, ``P001`` to ``P106``.

    Attributes:
        classes: 60 or 120; of a folder that holds both, 60 takes the first part.
        protocol: by person; by camera (2 and 3 train; only for 60); by setup (even ones train; only for 120).
        missing: a list of recordings without usable skeletons. By default the official lists, if they are in the folder
            or in ``metadata`` beside it.
    """

    folder_name: ClassVar[str] = "ntu_rgbd"
    classes: Literal[60, 120] = 60
    protocol: Literal["cross_subject", "cross_view", "cross_setup"] = "cross_subject"
    missing: Path | None = None

    @model_validator(mode="after")
    def _protocol_fits(self) -> Self:
        if (self.classes, self.protocol) in ((60, "cross_setup"), (120, "cross_view")):
            raise ValueError(f"{self.protocol} is no protocol of the {self.classes} classes")
        return self

    def labels(self) -> tuple[str, ...]:
        """Action names."""
        return _ACTIONS[: self.classes]

    def mirror(self) -> Mapping[int, int]:
        """Empty: no action has a side."""
        return {}

    def official_counts(self) -> Mapping[str, int]:
        """Of recordings with usable skeletons."""
        train, test = _COUNTS[self.classes, self.protocol]
        return {"train": train, "test": test, "classes": self.classes}

    def _records(self, files: Iterable[Path]) -> list[Record]:
        """A record for each of the files that is named as a recording of these classes."""
        records = []
        for path in files:
            match = _NAME.fullmatch(path.stem.removesuffix(_ENDING))
            if match and 1 <= int(match["action"]) <= self.classes:
                records.append(Record(match[0], path, int(match["action"]) - 1, match["person"]))
        return records

    def _testing(self) -> Callable[[Record], bool]:
        if self.protocol == "cross_view":
            return lambda record: int(record.id[5:8]) == 1
        if self.protocol == "cross_setup":
            return lambda record: int(record.id[1:4]) % 2 == 1
        training = _TRAIN_60 if self.classes == 60 else _TRAIN_120
        return lambda record: int(record.group[1:]) not in training

    def _missing(self) -> set[str]:
        """Ids of the recordings on the lists, which must name at least one each."""
        if self.missing is not None:
            lists = [self.missing.expanduser()]
        else:
            root = self.folder()
            places = [folder / name for folder in (root, root.parent / "metadata") for name in _LISTS]
            lists = [path for path in places if path.is_file()]
        ids: set[str] = set()
        for path in lists:
            lines = read_lines(
                path, expected="a text file with names such as S001C002P005R002A008", hint="correct data.missing"
            )
            names = {match[0] for line in lines for match in _NAME.finditer(line)}
            if not names:
                raise DataError(
                    "the list has no names of recordings",
                    expected="names such as S001C002P005R002A008",
                    hint="correct data.missing, or fetch the list again",
                    where=path,
                )
            ids |= names
        return ids


class NTURGBD(_Recordings):
    """Skeletons; recordings that the lists of missing ones name, and those without a body, are excluded."""

    name: Literal["ntu_rgbd"] = "ntu_rgbd"

    def holds(self) -> SkeletonData:
        """Up to two people, 25 joints, metres."""
        return SkeletonData(LAYOUTS["kinect25"], people=2)

    def index(self, split: Split) -> Index:
        """The recordings of one split; see :meth:`~muybridge.data.datasets.base.DatasetConfig.index`."""
        records = self._records(self.find("S???C???P???R???A???.skeleton"))
        excluded = {record.id: reason for record in records if (reason := _nobody(record.path))}
        excluded |= dict.fromkeys(self._missing(), _INCOMPLETE)
        return self.split_records(split, records, is_test=self._testing(), excluded=excluded)

    def open(self, record: Record) -> SkeletonSequence:
        """The two main bodies; see :func:`read_ntu`."""
        return read_ntu(record.path)


class NTURGBDVideo(_Recordings):
    """RGB videos, ``S001C001P001R001A001_rgb.avi``, with the ids of the skeletons, so that both can be fused.

    Attributes:
        with_skeletons: exclude the recordings that the lists of missing skeletons name, so that the test is that of
            skeletons; the published counts of videos include them.
    """

    name: Literal["ntu_rgbd_video"] = "ntu_rgbd_video"
    with_skeletons: bool = False

    def holds(self) -> ClipData:
        """RGB videos."""
        return ClipData()

    def official_counts(self) -> Mapping[str, int]:
        """Of all videos, which are known for 60 classes, or of those with skeletons."""
        if self.with_skeletons:
            return super().official_counts()
        train, test = _ALL.get((self.classes, self.protocol), (0, 0))
        return {"classes": self.classes} | ({"train": train, "test": test} if train else {})

    def index(self, split: Split) -> Index:
        """The recordings of one split; see :meth:`~muybridge.data.datasets.base.DatasetConfig.index`."""
        files = find_files(self.folder(), SUFFIXES).files
        records = self._records(file for file in files if file.stem.endswith(_ENDING))
        if not records:
            raise DataError(
                "the folder holds no recordings",
                expected="files called S001C001P001R001A001_rgb.avi",
                hint="unpack the data set here, or correct data.root",
                where=self.folder(),
            )
        excluded = dict.fromkeys(self._missing(), _INCOMPLETE) if self.with_skeletons else {}
        return self.split_records(split, records, is_test=self._testing(), excluded=excluded)

    def open(self, record: Record) -> Video:
        """See :class:`Video`."""
        return Video(record.path, span=record.span)


def _nobody(path: Path) -> str | None:
    """Why a recording is excluded if it has no body; larger files have some, and are not read for that."""
    if path.stat().st_size > _SMALL:
        return None
    try:
        read_ntu(path)
    except NoPersonError as problem:
        return problem.problem
    except DataError:
        return None  # a damaged file is an error when it is opened
    return None
