"""UCF101 and HMDB51 by their official lists of splits (Soomro et al., 2012; Kuehne et al., ICCV 2011)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError
from muybridge.core.files import read_numbered_lines, read_once
from muybridge.core.tubes import TubeSet
from muybridge.core.types import Record
from muybridge.data.datasets.base import Benchmark, Index, Split
from muybridge.media.tubes import UCF24, read_tubes
from muybridge.media.video import Video

_UCF101 = (
    "ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch Basketball "
    "BasketballDunk BenchPress Biking Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling "
    "BoxingPunchingBag BoxingSpeedBag BreastStroke BrushingTeeth CleanAndJerk CliffDiving CricketBowling "
    "CricketShot CuttingInKitchen Diving Drumming Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch "
    "FrontCrawl GolfSwing Haircut Hammering HammerThrow HandstandPushups HandstandWalking HeadMassage HighJump "
    "HorseRace HorseRiding HulaHoop IceDancing JavelinThrow JugglingBalls JumpingJack JumpRope Kayaking Knitting "
    "LongJump Lunges MilitaryParade Mixing MoppingFloor Nunchucks ParallelBars PizzaTossing PlayingCello "
    "PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano PlayingSitar PlayingTabla PlayingViolin "
    "PoleVault PommelHorse PullUps Punch PushUps Rafting RockClimbingIndoor RopeClimbing Rowing SalsaSpin "
    "ShavingBeard Shotput SkateBoarding Skiing Skijet SkyDiving SoccerJuggling SoccerPenalty StillRings "
    "SumoWrestling Surfing Swing TableTennisShot TaiChi TennisSwing ThrowDiscus TrampolineJumping Typing "
    "UnevenBars VolleyballSpiking WalkingWithDog WallPushups WritingOnBoard YoYo "
)
_HMDB51 = (
    "brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat fall_floor fencing "
    "flic_flac golf handstand hit hug jump kick_ball kick kiss laugh pick pour pullup punch push pushup ride_bike "
    "ride_horse run shake_hands shoot_ball shoot_bow shoot_gun sit situp smile smoke somersault stand "
    "swing_baseball sword_exercise sword talk throw turn walk wave "
)
_TRAIN_MARK, _TEST_MARK = "1", "2"  # in HMDB51's lists; 0 is a clip in neither part
_UCF_LINE = re.compile(r"(?P<id>(?P<label>\w+)/v_\w+_(?P<group>g[0-9]+)_c[0-9]+\.\w+)(?:\s+(?P<number>[0-9]+))?")
_HMDB_LINE = re.compile(r"(?P<file>\S.*)\s+(?P<mark>[012])")


class _ListedBenchmark(Benchmark):
    """What both have in common: three official splits, and no class that mirroring changes.

    Attributes:
        fold: 1 to 3, the official split.
        lists: the folder of the official lists, in ``root``.
        videos: the folder of videos, with a folder for each class, in ``root``.
    """

    fold: int = Field(default=1, ge=1, le=3)
    lists: Path
    videos: Path
    names: ClassVar[str]

    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the official list of classes."""
        return tuple(self.names.split())

    def holds(self) -> ClipData:
        """RGB videos."""
        return ClipData()

    def mirror(self) -> Mapping[int, int]:
        """Empty: mirroring changes no class."""
        return {}

    def folds(self) -> tuple[str, ...]:
        """``1`` to ``3``."""
        return "1", "2", "3"

    def open(self, record: Record) -> Video:
        """See :class:`Video`."""
        return Video(record.path, span=record.span)

    def describe_split(self) -> str:
        """The official split, and what is held out from it."""
        return f"official split {self.fold}; " + super().describe_split()

    def file_of(self, id_: str) -> Path:
        """The video of a line of the lists; its copy as mp4 where the original does not exist."""
        path = self.folder() / self.videos / id_
        copy = path.with_suffix(".mp4")
        return copy if not path.exists() and copy.exists() else path

    def match_lines(self, name: str, pattern: re.Pattern[str], form: str) -> list[re.Match[str]]:
        """The lines of one official list.

        Args:
            name: of the list.
            pattern: that every line matches.
            form: the pattern in words.

        Raises:
            DataError: it cannot be read, or a line does not match.
        """
        file, hint = self.folder() / self.lists / name, "fetch the official lists, or correct data.root or data.lists"
        lines = read_numbered_lines(file, expected="an official list of this split", hint=hint)
        matches = []
        for number, line in lines:
            match = pattern.fullmatch(line)
            if match is None:
                raise DataError(f"line {number} is {line!r}", expected=form, hint=hint, where=file)
            matches.append(match)
        return matches


class UCF101(_ListedBenchmark):
    """101 actions in 13320 videos. Groups are those in the file names, ``g01`` to ``g25``.

    Attributes:
        root: the folder that contains ``videos`` and ``lists``.
        subset: "all", or "24" for the classes whose actors have boxes, UCF101-24, of which videos without boxes are
            excluded.
        annotations: the boxes of UCF101-24 in ``root``: the corrected ``finalAnnots.mat``, or the folder of the
            original ViPER files. If there are none, ``ucf101_24_boxes/finalAnnots.mat`` beside ``root`` is taken.
    """

    name: Literal["ucf101"] = "ucf101"
    folder_name: ClassVar[str] = "ucf101"
    names: ClassVar[str] = _UCF101
    lists: Path = Path("ucfTrainTestlist")
    videos: Path = Path("UCF-101")
    subset: Literal["all", "24"] = "all"
    annotations: Path = Path("finalAnnots.mat")

    def labels(self) -> tuple[str, ...]:
        """Class names, in the order of the official list of classes."""
        return UCF24 if self.subset == "24" else super().labels()

    def tubes(self) -> TubeSet | None:
        """The boxes of UCF101-24, by the ids of the videos without suffix; None if there are none."""
        root = self.folder()
        places = (root / self.annotations.expanduser(), root.parent / "ucf101_24_boxes" / "finalAnnots.mat")
        file = next((place for place in places if place.exists()), None)
        return _read_tubes(file) if file else None

    def official_counts(self) -> Mapping[str, int]:
        """Of the official split; of the 24 classes, of the first one alone."""
        if self.subset == "24":
            return {"classes": 24} | ({"train": 2_284, "test": 910} if self.fold == 1 else {})
        train = (9_537, 9_586, 9_624)[self.fold - 1]
        return {"train": train, "test": 13_320 - train, "classes": 101}

    def index(self, split: Split) -> Index:
        """The videos of one split; see :meth:`~muybridge.data.datasets.base.DatasetConfig.index`."""
        train, test = (self._records(f"{part}list{self.fold:02}.txt") for part in ("train", "test"))
        tested, excluded = {record.id for record in test}, self._without_boxes(train + test)
        return self.split_records(split, train + test, is_test=lambda record: record.id in tested, excluded=excluded)

    def _without_boxes(self, records: Sequence[Record]) -> dict[str, str]:
        """Why recordings of UCF101-24 are excluded, by their ids."""
        if self.subset == "all":
            return {}
        tubes = self.tubes()
        if tubes is None:
            raise DataError(
                "there are no boxes",
                expected="the boxes of UCF101-24, finalAnnots.mat",
                hint='fetch them, correct data.annotations, or set data.subset = "all"',
                where=self.folder() / self.annotations,
            )
        return {record.id: "it has no boxes" for record in records if record.id.rpartition(".")[0] not in tubes.frames}

    def _records(self, name: str) -> list[Record]:
        official, used = super().labels(), {label: number for number, label in enumerate(self.labels())}
        labels = {label: number for number, label in enumerate(official)}
        records = []
        for match in self.match_lines(name, _UCF_LINE, "CLASS/v_CLASS_g01_c01.avi, and in lists of training a label"):
            id_, label = match["id"], match["label"]
            if label not in labels or match["number"] not in (None, str(labels[label] + 1)):
                raise DataError(
                    f"the class {label!r}, number {match['number']}, is not one of UCF101",
                    expected="the official classes, numbered in their official order from 1",
                    hint='fetch the official lists, or use name = "video_list" for lists of your own',
                    where=self.folder() / self.lists / name,
                )
            if label in used:
                records.append(Record(id_, self.file_of(id_), used[label], match["group"]))
        return records


@read_once
def _read_tubes(file: Path) -> TubeSet:
    return read_tubes(file)


class HMDB51(_ListedBenchmark):
    """51 actions in 6766 clips; each split has 70 for training and 30 for testing of each. Groups are source videos.

    Attributes:
        root: the folder that contains ``videos`` and ``lists``.
    """

    name: Literal["hmdb51"] = "hmdb51"
    folder_name: ClassVar[str] = "hmdb51"
    names: ClassVar[str] = _HMDB51
    lists: Path = Path("testTrainMulti_7030_splits")
    videos: Path = Path("hmdb51_org")

    def official_counts(self) -> Mapping[str, int]:
        """Of each official split."""
        return {"train": 3_570, "test": 1_530, "classes": 51}

    def index(self, split: Split) -> Index:
        """The videos of one split; see :meth:`~muybridge.data.datasets.base.DatasetConfig.index`."""
        marks: dict[str, str] = {}
        records = []
        for number, label in enumerate(self.labels()):
            for match in self.match_lines(f"{label}_test_split{self.fold}.txt", _HMDB_LINE, "FILE.avi and 0, 1 or 2"):
                id_ = f"{label}/{match['file']}"
                marks[id_] = match["mark"]
                group = match["file"].partition(f"_{label}_")[0]
                records.append(Record(id_, self.file_of(id_), number, group))
        used = [record for record in records if marks[record.id] in (_TRAIN_MARK, _TEST_MARK)]
        return self.split_records(split, used, is_test=lambda record: marks[record.id] == _TEST_MARK)
