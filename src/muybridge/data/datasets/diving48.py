"""Diving-48: competitive dives by take-off, somersaults, twists and position (Li, Li, Vasconcelos, ECCV 2018)."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from muybridge.core.errors import DataError
from muybridge.core.files import read_once
from muybridge.core.types import OVERHANG, Record
from muybridge.data.datasets.official import OfficialVideos
from muybridge.data.datasets.official_lists import Listed, check_name, item_of, read_json, wrong_line
from muybridge.media.video import Video


class Diving48(OfficialVideos):
    """18,404 dives in the first edition, 16,997 with corrected labels in the second. Groups are competitions.

    Of the 48 classes one, with the number 30, never occurs in the second edition; accuracies over classes leave it out.

    Attributes:
        root: the folder that contains ``videos``, ``Diving48_vocab.json`` and the lists, such as
            ``Diving48_V2_train.json``.
        version: 2 for the corrected labels, or 1.
    """

    name: Literal["diving48"] = "diving48"
    folder_name: ClassVar[str] = "diving48"
    videos: Path = Path("rgb")
    version: Literal[1, 2] = 2

    def official_classes(self) -> tuple[str, ...]:
        """The names in ``Diving48_vocab.json``, the four attributes joined by plus signs."""
        return _read_vocabulary(self.folder() / "Diving48_vocab.json")

    def official_counts(self) -> Mapping[str, int]:
        """Of the lists of the edition; those of the first are known in total only."""
        return {"train": 15_027, "test": 1_970, "classes": 48} if self.version == 2 else {"classes": 48}

    def listed(self) -> tuple[Listed, ...]:
        """The dives of both lists; see :meth:`OfficialVideos.listed`."""
        count = len(self.labels())
        return _read_dives(self._list("train"), count, False)[0] + _read_dives(self._list("test"), count, True)[0]

    def open(self, record: Record) -> Video:
        """The frames that the list names; published files have no others.

        Raises:
            DataError: see :class:`Video`; or the file has fewer frames than the list names.
        """
        count = len(self.labels())
        train, test = _read_dives(self._list("train"), count, False)[1], _read_dives(self._list("test"), count, True)[1]
        first, last = train[record.id] if record.id in train else test[record.id]
        video = super().open(record)
        if last >= len(video) + OVERHANG * video.fps:
            number = len(video)
            video.close()
            raise DataError(
                f"the video has {number} frames, and is listed to end with number {last}",
                expected="the published file, at its own frame rate",
                hint="fetch it again, or convert it without changing its frame rate",
                where=record.path,
            )
        return video.slice_frames(first, last + 1) if first or last + 1 < len(video) else video

    def _list(self, part: str) -> Path:
        return self.folder() / f"Diving48_{'V2_' if self.version == 2 else ''}{part}.json"


@read_once
def _read_vocabulary(file: Path) -> tuple[str, ...]:
    expected = 'a list of classes, each a list such as ["Back", "15som", "05Twis", "FREE"]'
    classes = read_json(file, list, expected)
    for number, parts in enumerate(classes, start=1):
        if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
            raise wrong_line(file, number, f"is {str(parts)[:80]}", expected)
    return tuple("+".join(parts) for parts in classes)


@read_once
def _read_dives(file: Path, classes: int, tests: bool) -> tuple[tuple[Listed, ...], Mapping[str, tuple[int, int]]]:
    """The dives of a list, and the numbers of the first and the last frame of each, from 0."""
    keys = {"vid_name": str, "label": int, "start_frame": int, "end_frame": int}
    items = read_json(file, list, 'a list of objects with "vid_name", "label", "start_frame" and "end_frame"')
    entries, frames = [], {}
    for place in range(len(items)):
        name, label, first, last = item_of(items, place, keys, file)
        check_name(name, file, place + 1)
        if not 0 <= label < classes:
            raise wrong_line(file, place + 1, f"has the label {label}", f"labels of 0 to {classes - 1}")
        if not 0 <= first < last:
            raise wrong_line(file, place + 1, f"has the frames {first} to {last}", "two frames or more, from 0")
        entries.append(Listed(name, name, label, tests, file, place + 1, name.rpartition("_")[0]))
        frames[name] = first, last
    return tuple(entries), frames
