"""KTH: six actions of 25 people in four scenarios, grayscale (Schuldt, Laptev, Caputo, ICPR 2004)."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError
from muybridge.core.files import read_numbered_lines, read_once
from muybridge.core.types import OVERHANG, Record
from muybridge.data.datasets.drawing import draw_names
from muybridge.data.datasets.official import OfficialVideos
from muybridge.data.datasets.official_lists import Listed, wrong_line
from muybridge.media.video import SUFFIXES, Video

_ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
_TESTED = (2, 3, 5, 6, 7, 8, 9, 10, 22)
_PEOPLE = 25
_FPS = 25.0
_ENDING = "_uncomp"
_LINE = re.compile(
    r"(?P<video>person(?P<person>[0-9]{2})_(?P<action>\w+)_d[1-4])\s+"
    r"(?:\*missing\*|frames\s+(?P<ranges>[0-9]{1,6}-[0-9]{1,6}(?:\s*,\s*[0-9]{1,6}-[0-9]{1,6})*))"
)
_FORM = "lines such as person01_boxing_d1 frames 1-95, 96-185"


class KTH(OfficialVideos):
    """599 videos, or the 2391 sequences in them. Groups are people, ``person01`` to ``person25``.

    Attributes:
        root: the folder that contains ``sequences`` and ``videos``.
        videos: the folder of the unpacked archives in ``root``, with files such as ``person01_boxing_d1_uncomp.avi``,
            in folders or not.
        sequences: the official list of the ranges of frames in which the action is seen, in ``root``.
        recordings: "sequences" takes each range as a recording (KTH-2 in some papers), "videos" each file (KTH-1).
        protocol: "official": the nine people of the published test part test, and the other 16 train, of whom the
            authors took person01, person04, person19 to person21 and person23 to person25 for validation
            (``val_groups``). "random": nine people are drawn for the test, others in each of five folds.
            "leave_one_out": one person tests, in 25 folds.
        fold: 1 to 5 of "random", 1 to 25 of "leave_one_out"; 1 otherwise.
        seed: of the folds of "random".
        channels: 3, or 1 for brightness.
    """

    content_settings: ClassVar[tuple[str, ...]] = ("recordings", "channels", "fps")
    nested: ClassVar[bool] = True
    name: Literal["kth"] = "kth"
    folder_name: ClassVar[str] = "kth"
    videos: Path = Path()
    sequences: Path = Path("00sequences.txt")
    recordings: Literal["sequences", "videos"] = "sequences"
    protocol: Literal["official", "random", "leave_one_out"] = "official"
    fold: int = Field(default=1, ge=1, le=_PEOPLE)
    seed: int = 0
    channels: Literal[1, 3] = 3
    fps: PositiveFloat = _FPS

    @model_validator(mode="after")
    def _fold_exists(self) -> Self:
        most = len(self.folds()) or 1
        if self.fold > most:
            raise ValueError(f"fold is {self.fold}, and the protocol {self.protocol} has {most}")
        return self

    def folds(self) -> tuple[str, ...]:
        """``1`` to ``5``, or to ``25``; none of the official protocol."""
        most = {"official": 0, "random": 5, "leave_one_out": _PEOPLE}[self.protocol]
        return tuple(str(fold) for fold in range(1, most + 1))

    def official_classes(self) -> tuple[str, ...]:
        """The six actions."""
        return _ACTIONS

    def official_counts(self) -> Mapping[str, int]:
        """Of the official protocol; other protocols have the same sum."""
        if self.protocol != "official":
            return {"classes": 6}
        return {"train": 1528, "test": 863} if self.recordings == "sequences" else {"train": 383, "test": 216}

    def holds(self) -> ClipData:
        """Grayscale videos."""
        return ClipData(self.channels)

    def listed(self) -> tuple[Listed, ...]:
        """The sequences or the videos of the official list; see :meth:`OfficialVideos.listed`."""
        file = self.folder() / self.sequences.expanduser()
        return _read_sequences(file, self.recordings == "sequences", tuple(sorted(self._tested())))

    def open(self, record: Record) -> Video:
        """See :class:`Video`; raises DataError if a video has another frame rate, by which ranges would be others."""
        video = Video(record.path, channels=self.channels, span=record.span, fps=self.fps)
        if record.span is not None and abs(video.fps - _FPS) > 1:
            video.close()
            raise DataError(
                f"the video has {video.fps:.4g} frames a second",
                expected=f"{_FPS:g}, since the official ranges count frames",
                hint='convert it again with its own frame rate, or set data.recordings = "videos"',
                where=record.path,
            )
        return video

    def unusable(self, records: Sequence[Record]) -> Mapping[str, str]:
        """The sequences that begin in the file and end after its end; the official files have one."""
        reasons = {}
        for record in records:
            # One official file is shorter than its ranges; to open all of them would take seconds.
            if record.span and record.id.startswith("person01_boxing_d4") and record.path.exists():
                duration = _duration(record.path, self.fps)
                if duration and record.span[1] > duration + OVERHANG:
                    reasons[record.id] = (
                        f"it is listed to end at {record.span[1]:.2f} s, and the video ends at {duration:.2f} s"
                    )
        return reasons

    def video_name(self, path: Path) -> str:
        """As listed, without the ending of the official files."""
        name = path.stem if path.suffix.lower() in SUFFIXES else path.name
        return name.removesuffix(_ENDING)

    def describe_split(self) -> str:
        """Who tests."""
        people = ", ".join(f"person{person:02}" for person in sorted(self._tested()))
        held_out = super().describe_split().removeprefix(f"the published split of {type(self).__name__}")
        return f"{self.protocol.replace('_', ' ')} protocol: {people} test{held_out}"

    def _tested(self) -> tuple[int, ...]:
        if self.protocol == "official":
            return _TESTED
        if self.protocol == "leave_one_out":
            return (self.fold,)
        people = [str(person) for person in range(1, _PEOPLE + 1)]
        return tuple(map(int, draw_names(people, f"kth {self.seed} {self.fold}", len(_TESTED), spare=0)))


@read_once
def _read_sequences(file: Path, each_range: bool, tested: tuple[int, ...]) -> tuple[Listed, ...]:
    """The list of ranges of frames, which count from 1 and include their ends; lines about no video are comments."""
    entries = []
    for line, text in read_numbered_lines(file, expected=_FORM, hint="fetch the official list, or set data.sequences"):
        if not re.match(r"person[0-9]+_", text):
            continue
        match = _LINE.fullmatch(text)
        if match is None or match["action"] not in _ACTIONS:
            raise wrong_line(file, line, f"is {text!r}", f"{_FORM}, of {', '.join(_ACTIONS)}")
        if match["ranges"] is None:
            continue  # person13_handclapping_d3 was never published
        label, person = _ACTIONS.index(match["action"]), int(match["person"])
        group, tests = f"person{person:02}", person in tested
        if not each_range:
            entries.append(Listed(match["video"], match["video"], label, tests, file, line, group))
            continue
        for number, (first, last) in enumerate(re.findall("([0-9]+)-([0-9]+)", match["ranges"]), start=1):
            if not 1 <= int(first) < int(last):
                raise wrong_line(file, line, f"has the range {first}-{last}", _FORM)
            span = (int(first) - 1) / _FPS, int(last) / _FPS
            entries.append(Listed(f"{match['video']}_{number}", match["video"], label, tests, file, line, group, span))
    return tuple(entries)


@read_once
def _duration(path: Path, fps: float) -> float:
    """Seconds of a video; 0 if it cannot be read, which opening it reports."""
    try:
        with Video(path, fps=fps) as video:
            return video.duration
    except DataError:
        return 0.0
