"""FineGym: elements of gymnastics, by hierarchical annotations of long videos (Shao, Zhao, Dai, Lin, CVPR 2020)."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from muybridge.core.errors import DataError
from muybridge.core.files import read_numbered_lines, read_once
from muybridge.core.types import Span
from muybridge.data.datasets.official import OfficialVideos
from muybridge.data.datasets.official_lists import Listed, check_name, first_existing, read_json, wrong_line

_ID = r"(?P<video>.{11})_(?P<event>E_[0-9]{6}_[0-9]{6})_(?P<element>A_[0-9]{4}_[0-9]{4})"
_LINE = re.compile(rf"(?P<id>{_ID})\s+(?P<label>[0-9]{{1,6}})")
_LENGTH = len("_A_0003_0005")
_INFO = 'an object of videos, events with "timestamps" and "segments", and segments with "timestamps"'
_FORM = "lines such as 0LtLS9wROrk_E_002407_002435_A_0003_0005 12"
_CATEGORY = re.compile(r"Clabel:\s*(?P<label>[0-9]{1,6})\s*;(?:.*?;)?\s*Glabel:\s*[0-9]+\s*;\s*(?P<name>\S.*)")
_CATEGORIES = "lines such as Clabel: 0; set: 1; Glabel: 1; (VT) round-off, ..."
_COUNTS = {"gym99": (99, 20_484, 8_521), "gym288": (288, 22_671, 9_646)}

_Times = Mapping[str, tuple[float, float, float]]
"""By the id of an element: the start of its event in the video, and its own start and end in the event, in seconds."""


class FineGym(OfficialVideos):
    """Elements in gymnastics videos of up to hours. Groups are the videos.

    Three pairs of classes of Gym288 have one name each; their numbers are added, so that they stay apart. Many of the
    published videos no longer exist, so missing ones are left out by default, and counted by class.

    Attributes:
        root: the folder that contains ``videos`` and, there or in ``annotations``,
            ``finegym_annotation_info_v1.0.json``, ``gym99_categories.txt`` and the lists, such as
            ``gym99_train_element_v1.0.txt``.
        videos: the folder of the videos in ``root``: whole ones, ``0LtLS9wROrk.mp4``, or already cut to events,
            ``0LtLS9wROrk_E_002407_002435.mp4``, or to elements; the shortest is read.
        subset: "gym99" or "gym288", by the number of classes.
        version: of the annotations, "v1.0" as published numbers use, or "v1.1".
    """

    name: Literal["finegym"] = "finegym"
    folder_name: ClassVar[str] = "finegym"
    videos: Path = Path("videos")
    subset: Literal["gym99", "gym288"] = "gym99"
    version: Literal["v1.0", "v1.1"] = "v1.0"
    missing_videos: Literal["error", "exclude"] = "exclude"

    def official_classes(self) -> tuple[str, ...]:
        """The names in ``gym99_categories.txt`` or ``gym288_categories.txt``."""
        return _read_categories(self._file(f"{self.subset}_categories.txt"))

    def official_counts(self) -> Mapping[str, int]:
        """Of version 1.0; of the other the classes alone."""
        classes, train, test = _COUNTS[self.subset]
        return {"classes": classes} | ({"train": train, "test": test} if self.version == "v1.0" else {})

    def superclasses(self) -> tuple[str, ...]:
        """The apparatus: vault (VT), floor exercise (FX), balance beam (BB) or uneven bars (UB)."""
        found = [re.match(r"\(([A-Z]{2})\)", name) for name in self.labels()]
        return tuple(match[1] for match in found if match) if all(found) else ()

    def listed(self) -> tuple[Listed, ...]:
        """The elements of both lists; see :meth:`OfficialVideos.listed`."""
        count, info = len(self.labels()), self._info()
        train, test = (
            self._file(f"{self.subset}_{part}_element_{self.version}.txt", f"{self.subset}_{part}_element.txt")
            for part in ("train", "val")
        )
        return _read_elements(train, info, count, False) + _read_elements(test, info, count, True)

    def locate(self, entry: Listed, files: Mapping[str, Path]) -> tuple[Path, Span | None] | None:
        """The file of the element, of its event or of the whole video, and when the element is shown in it."""
        event = entry.id[:-_LENGTH]
        if entry.id in files:
            return files[entry.id], None
        if event in files and entry.span:
            _, start, end = _read_times(self._info())[entry.id]
            return files[event], (start, end)
        return super().locate(entry, files)

    def _info(self) -> Path:
        return self._file(f"finegym_annotation_info_{self.version}.json")

    def _file(self, *names: str) -> Path:
        return first_existing(self.folder(), [folder + name for name in names for folder in ("", "annotations/")])


@read_once
def _read_categories(file: Path) -> tuple[str, ...]:
    """Class names by their numbers; to those that several classes have, the numbers are added."""
    names: dict[int, str] = {}
    for line, text in read_numbered_lines(file, expected=_CATEGORIES, hint="fetch the official files again"):
        match = _CATEGORY.fullmatch(text)
        if match is None or int(match["label"]) != len(names):
            raise wrong_line(file, line, f"is {text!r}", f"{_CATEGORIES}, numbered from 0")
        names[len(names)] = match["name"].strip()
    counts = Counter(names.values())
    return tuple(name if counts[name] == 1 else f"{name} (class {label})" for label, name in names.items())


@read_once
def _read_elements(file: Path, info: Path, classes: int, tests: bool) -> tuple[Listed, ...]:
    """The elements of a list, with their times in the whole video."""
    times, entries = _read_times(info), []
    for line, text in read_numbered_lines(file, expected=_FORM, hint="fetch the official lists again"):
        match = _LINE.fullmatch(text)
        if match is None or not int(match["label"]) < classes:
            raise wrong_line(file, line, f"is {text!r}", f"{_FORM}, with a label of 0 to {classes - 1}")
        id_, video = match["id"], check_name(match["video"], file, line)
        span, problem = None, ""
        if id_ not in times:
            problem = f"{info.name} has no such element"
        else:
            event, start, end = times[id_]
            span = event + start, event + end
            if not 0 <= span[0] < span[1] < math.inf:
                span, problem = None, f"it is annotated to start at {span[0]:g} s and to end at {span[1]:g} s"
        entries.append(Listed(id_, video, int(match["label"]), tests, file, line, video, span, problem))
    return tuple(entries)


@read_once
def _read_times(file: Path) -> _Times:
    """When each element is shown, of which an annotation may have several stages."""
    times: dict[str, tuple[float, float, float]] = {}
    for video, events in read_json(file, dict, _INFO).items():
        for event, content in _items(events, file, video):
            begins, _ = _bounds(content, file, f"{video}, {event}")
            for element, part in _items(content.get("segments") or {}, file, f"{video}, {event}"):
                times[f"{video}_{event}_{element}"] = begins, *_bounds(part, file, f"{video}, {event}, {element}")
    return times


def _items(content: Any, file: Path, place: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The events of a video, or the elements of an event."""
    if not isinstance(content, dict) or not all(isinstance(value, dict) for value in content.values()):
        raise _wrong_annotation(file, place)
    return list(content.items())


def _bounds(content: Mapping[str, Any], file: Path, place: str) -> tuple[float, float]:
    """Start of the first of some ranges and end of the last, in seconds."""
    try:
        ranges = [(float(start), float(end)) for start, end in content["timestamps"]]
        return min(start for start, _ in ranges), max(end for _, end in ranges)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _wrong_annotation(file, place) from None


def _wrong_annotation(file: Path, place: str) -> DataError:
    return DataError(f"{place} has another form", expected=_INFO, hint="fetch the official files again", where=file)
