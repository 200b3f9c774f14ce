"""Kinetics-400, 600 and 700: actions in clips of ten seconds (Kay et al., 2017; Carreira et al., 2018 and 2019)."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from muybridge.core.errors import DataError
from muybridge.core.files import read_once, read_text
from muybridge.data.datasets.official import OfficialVideos
from muybridge.data.datasets.official_lists import Listed, check_name, first_existing, wrong_line

_COUNTS = {400: (246_534, 19_906), 600: (427_549, 29_793), 700: (542_352, 34_125)}
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_FORM = "a header with label,youtube_id,time_start,time_end, and a line with these for each clip"
_FOLDERS = ("", "annotations/", "kinetics{}/", "kinetics{}_2020/")


class Kinetics(OfficialVideos):
    """Clips ``ID_000010_000020.mp4`` of YouTube videos. The list that tests is the official validation list.

    Many of the published videos no longer exist, so missing ones are left out by default, and counted by class.

    Attributes:
        root: the folder that contains the lists, ``train.csv`` and ``val.csv`` (or ``validate.csv``), also in
            ``annotations``; without it, the folder kinetics400, kinetics600 or kinetics700 under MUYBRIDGE_DATA.
        videos: the folder of the clips in ``root``, which are found in deeper folders too, such as one for each class;
            those in a folder called ``replacement...`` are preferred, as corrupted clips have replacements.
        version: how many classes.
    """

    nested: ClassVar[bool] = True
    name: Literal["kinetics"] = "kinetics"
    folder_name: ClassVar[str] = "kinetics400"
    videos: Path = Path()
    version: Literal[400, 600, 700] = 400
    missing_videos: Literal["error", "exclude"] = "exclude"

    def default_folder_name(self) -> str:
        """Each edition has a folder of its own."""
        return f"kinetics{self.version}"

    def official_classes(self) -> tuple[str, ...]:
        """The classes of the training list in alphabetical order."""
        return tuple(sorted({label for _, label, _ in _read_clips(self._list("train"))}))

    def official_counts(self) -> Mapping[str, int]:
        """Of the lists as published; those of Kinetics-700 are of the edition of 2020."""
        train, test = _COUNTS[self.version]
        return {"train": train, "test": test, "classes": self.version}

    def listed(self) -> tuple[Listed, ...]:
        """The clips of both lists; see :meth:`OfficialVideos.listed`."""
        names = self.labels()
        return _entries(self._list("train"), names, False) + _entries(self._list("val"), names, True)

    def choose(self, first: Path, second: Path) -> Path:
        """A replacement, or else the first: clips of one name are cut from one video at one time."""
        return second if any(part.lower().startswith("replacement") for part in second.parts[-3:-1]) else first

    def _list(self, part: Literal["train", "val"]) -> Path:
        parts = ("train",) if part == "train" else ("val", "validate", "validation")
        names = [f"{part}{suffix}" for part in parts for suffix in (".csv", ".txt")]
        names += [f"kinetics-{self.version}_{part}.csv" for part in parts]
        folders = [folder.format(self.version) for folder in _FOLDERS]
        return first_existing(self.folder(), [folder + name for name in names for folder in folders])


@read_once
def _read_clips(file: Path) -> tuple[tuple[int, str, str], ...]:
    """Line, class and name of the file of each clip of a list."""
    rows = _rows(file)
    header = next(rows, (1, []))[1]
    columns = [word.strip().lower() for word in header]
    if missing := [name for name in _COLUMNS if name not in columns]:
        raise wrong_line(file, 1, f"names no column {' and no column '.join(missing)}", _FORM)
    places = [columns.index(name) for name in _COLUMNS]
    clips = []
    for line, fields in rows:
        if len(fields) != len(columns):
            raise wrong_line(file, line, f"has {len(fields)} values, and the header {len(columns)}", _FORM)
        label, id_, start, end = (fields[place].strip() for place in places)
        if not label or not _is_time(start) or not _is_time(end):
            raise wrong_line(file, line, f"has the values {label!r}, {start!r}, {end!r}", _FORM)
        name = f"{check_name(id_, file, line)}_{int(float(start)):06}_{int(float(end)):06}"
        clips.append((line, label, name))
    return tuple(clips)


def _rows(file: Path) -> Iterator[tuple[int, Sequence[str]]]:
    """The lines of CSV that are not blank, with their numbers."""
    lines = re.split(r"\r\n|\n|\r", read_text(file, expected=_FORM, hint="fetch the official lists again"))
    reader = csv.reader(lines, strict=True)
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as problem:
            raise wrong_line(file, reader.line_num, f"is not CSV ({problem})", _FORM) from None
        if fields is None:
            return
        if fields:
            yield reader.line_num, fields


def _is_time(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,6}(\.[0-9]*)?", text) is not None


@read_once
def _entries(file: Path, classes: tuple[str, ...], tests: bool) -> tuple[Listed, ...]:
    """The clips of a list, each once; one that is listed in several classes is a recording of each."""
    labels = {name: label for label, name in enumerate(classes)}
    entries: dict[tuple[str, str], Listed] = {}
    names: set[str] = set()
    for line, label, name in _read_clips(file):
        if label not in labels:
            raise DataError(
                f"line {line} has the class {label!r}, which is not among the {len(classes)}",
                expected="the classes of the training list",
                hint="fetch both lists of one edition, or correct data.version or data.classes",
                where=file,
            )
        if (name, label) not in entries:
            id_ = f"{name} ({label})" if name in names else name
            entries[name, label] = Listed(id_, name, labels[label], tests, file, line)
            names.add(name)
    return tuple(entries.values())
