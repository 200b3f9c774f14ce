"""UCF101 and HMDB51 by their official lists of splits (Soomro et al., 2012; Kuehne et al., ICCV 2011)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from muybridge.core.contracts import ClipData
from muybridge.core.files import read_lines
from muybridge.core.types import Record
from muybridge.data.datasets.base import Benchmark, Index, Split
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
_TRAINS, _TESTS = "1", "2"  # in HMDB51's lists; 0 is a clip that is neither


class _Listed(Benchmark):
    """What both have in common: three official splits, and no class that a mirror changes.

    Attributes:
        fold: 1 to 3, the official split.
        lists: the folder of the official lists, in ``root``.
        videos: the folder of videos, a folder for each class, in ``root``.
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
        """Empty: no class has a side."""
        return {}

    def folds(self) -> tuple[str, ...]:
        """``1`` to ``3``."""
        return "1", "2", "3"

    def open(self, record: Record) -> Video:
        """See :class:`Video`."""
        return Video(record.path)

    def lines(self, name: str) -> list[str]:
        """The lines of one official list.

        Raises:
            DataError: it cannot be read.
        """
        return read_lines(
            self.folder() / self.lists / name,
            expected="an official list of this split",
            hint="fetch the official lists, or correct data.root or data.lists",
        )


class UCF101(_Listed):
    """101 actions in 13320 videos. Groups are those of the file names, ``g01`` to ``g25``.

    Attributes:
        root: the folder that holds ``videos`` and ``lists``.
    """

    name: Literal["ucf101"] = "ucf101"
    folder_name: ClassVar[str] = "ucf101"
    names: ClassVar[str] = _UCF101
    lists: Path = Path("ucfTrainTestlist")
    videos: Path = Path("UCF-101")

    def index(self, split: Split) -> Index:
        """The videos of one split; see :meth:`DatasetConfig.index`."""
        parts = {part: self._records(f"{part}list{self.fold:02}.txt") for part in ("train", "test")}
        tested = {record.id for record in parts["test"]}
        return self.split_records(split, parts["train"] + parts["test"], is_test=lambda record: record.id in tested)

    def _records(self, name: str) -> list[Record]:
        labels = {label: number for number, label in enumerate(self.labels())}
        records = []
        for line in self.lines(name):
            id_ = line.split()[0]  # lists of training have the class after it, counted from 1
            label, _, file = id_.partition("/")
            records.append(Record(id_, self.folder() / self.videos / id_, labels[label], file.split("_")[-2]))
        return records


class HMDB51(_Listed):
    """51 actions in 6766 clips, of which each split trains on 70 and tests on 30 of each. Groups are the films.

    Attributes:
        root: the folder that holds ``videos`` and ``lists``.
    """

    name: Literal["hmdb51"] = "hmdb51"
    folder_name: ClassVar[str] = "hmdb51"
    names: ClassVar[str] = _HMDB51
    lists: Path = Path("testTrainMulti_7030_splits")
    videos: Path = Path("hmdb51_org")

    def index(self, split: Split) -> Index:
        """The videos of one split; see :meth:`DatasetConfig.index`."""
        marks: dict[str, str] = {}
        records = []
        for number, label in enumerate(self.labels()):
            for line in self.lines(f"{label}_test_split{self.fold}.txt"):
                file, mark = line.rsplit(None, 1)
                id_ = f"{label}/{file}"
                marks[id_] = mark
                records.append(Record(id_, self.folder() / self.videos / id_, number, file.partition(f"_{label}_")[0]))
        used = [record for record in records if marks[record.id] in (_TRAINS, _TESTS)]
        return self.split_records(split, used, is_test=lambda record: marks[record.id] == _TESTS)
