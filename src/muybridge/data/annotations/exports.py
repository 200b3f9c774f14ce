"""Labelled segments in the exports of annotation tools: CVAT, Label Studio, ELAN, and ActivityNet's JSON."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from muybridge.core.errors import DataError
from muybridge.core.files import read_text
from muybridge.core.types import Span, check_span
from muybridge.data.annotations.annotation import Annotation

_AGAIN = "export the annotations again, or write a table with the columns path,label,start,end"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What an export does not say about itself.

    Attributes:
        fps: frames per second at which its tool counts frames; None takes what the export says.
        tier: of ELAN, the tier with the labels; of Label Studio, the name of the control.
    """

    fps: float | None = None
    tier: str = ""


# CVAT


def read_cvat(file: Path, options: ExportOptions) -> list[Annotation]:
    """The segments of "CVAT for video 1.1" (tracks, while they are not outside) and of tags in "CVAT for images 1.1".

    Raises:
        DataError: it is not such a file, or the frame rate is not given, as the export does not have it.
    """
    root = _parse_xml(file, "annotations", 'an export "CVAT for video 1.1" or "CVAT for images 1.1"')
    names = {
        task.findtext("id", ""): task.findtext("source") or task.findtext("name") or "" for task in root.iter("task")
    }
    only = next(iter(names.values())) if len(names) == 1 else ""
    found: list[Annotation] = []
    for number, track in enumerate(root.iter("track"), start=1):
        shapes = sorted(
            (int(shape.get("frame", "-1")), shape.get("outside") == "1") for shape in track if shape.get("frame")
        )
        path = names.get(track.get("task_id", ""), only)
        for first, last in _visible(shapes):
            found.append(_of_frames(file, options, path, track.get("label", ""), f"track {number}", (first, last)))
    tags: dict[tuple[str, str], list[int]] = {}
    for image in root.iter("image"):
        for tag in image.iter("tag"):
            path = names.get(image.get("task_id", ""), only)
            tags.setdefault((path, tag.get("label", "")), []).append(int(image.get("id", "0")))
    for (path, label), frames in tags.items():
        for _, run in groupby(enumerate(sorted(set(frames))), lambda pair: pair[1] - pair[0]):
            numbers = [number for _, number in run]
            found.append(
                _of_frames(file, options, path, label, f"tag of image {numbers[0]}", (numbers[0], numbers[-1] + 1))
            )
    return found


def _visible(shapes: Sequence[tuple[int, bool]]) -> Iterator[tuple[int, int]]:
    """First frame and the frame after the last of each time a track is visible."""
    first: int | None = None
    for frame, outside in shapes:
        if outside and first is not None:
            yield first, frame
            first = None
        elif not outside and first is None:
            first = frame
    if first is not None:
        yield first, shapes[-1][0] + 1


def _of_frames(
    file: Path, options: ExportOptions, path: str, label: str, place: str, frames: tuple[int, int]
) -> Annotation:
    if options.fps is None:
        raise DataError(
            "the export counts frames, and does not say how many there are per second",
            expected="the frame rate of the videos, or the one that the annotation tool was given",
            hint="set data.label_fps, such as --set data.label_fps=25",
            where=file,
        )
    if not path or not label:
        raise DataError(
            f"{place} has no {'label' if path else 'name of its video'}",
            expected="the export of a task of one video",
            hint=_AGAIN,
            where=file,
        )
    span = frames[0] / options.fps, frames[1] / options.fps
    check_span(span, file, f"{place}: ")
    return Annotation(path, label, place, span, by_name=True)


# ELAN


def read_elan(file: Path, options: ExportOptions) -> list[Annotation]:
    """The annotations of one tier of an ELAN document (.eaf); the participant of the tier is the group.

    Raises:
        DataError: it is not such a document, or several tiers have annotations and none is chosen.
    """
    root = _parse_xml(file, "ANNOTATION_DOCUMENT", "an ELAN document (.eaf)")
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    if media is None:
        raise DataError("it names no media file", expected="a linked video", hint="link it in ELAN", where=file)
    path = media.get("RELATIVE_MEDIA_URL") or media.get("MEDIA_URL") or ""
    origin = int(media.get("TIME_ORIGIN") or 0)
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    tiers = {
        tier.get("TIER_ID", ""): tier for tier in root.iter("TIER") if tier.find(".//ALIGNABLE_ANNOTATION") is not None
    }
    chosen = options.tier or (next(iter(tiers)) if len(tiers) == 1 else "")
    if tiers and chosen not in tiers:
        raise DataError(
            f"there is no tier {chosen!r}" if chosen else f"{len(tiers)} tiers have annotations",
            expected=f"the tier with the labels, one of {', '.join(tiers)}",
            hint="set data.tier",
            where=file,
        )
    found: list[Annotation] = []
    for each in tiers[chosen].iter("ALIGNABLE_ANNOTATION") if tiers else ():
        place = f"annotation {each.get('ANNOTATION_ID')}"
        start, end = (times.get(each.get(f"TIME_SLOT_REF{number}")) for number in (1, 2))
        label = (each.findtext("ANNOTATION_VALUE") or "").strip()
        if not label:
            continue  # a segment that nobody has labelled yet
        if start is None or end is None:
            raise DataError(f"{place} has no times", expected="a start and an end", hint="align it in ELAN", where=file)
        span = (int(start) + origin) / 1000, (int(end) + origin) / 1000
        check_span(span, file, f"{place}: ")
        group = tiers[chosen].get("PARTICIPANT", "")
        found.append(Annotation(path, label, place, span, group=group, by_name=True))
    return found


def _parse_xml(file: Path, name: str, expected: str) -> ET.Element:
    text = read_text(file, expected=expected, hint=_AGAIN)
    try:
        if "<!DOCTYPE" in text:
            raise ET.ParseError("document types are not read")
        root = ET.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text))
    except ET.ParseError as problem:
        raise DataError(f"it is not XML ({problem})", expected=expected, hint=_AGAIN, where=file) from None
    if root.tag != name:
        raise DataError(f"its outermost element is {root.tag}", expected=expected, hint=_AGAIN, where=file)
    return root


# JSON


def is_activitynet(content: Any) -> bool:
    """Whether JSON is of the form of ActivityNet's."""
    return isinstance(content, dict) and isinstance(content.get("database"), dict)


def read_activitynet(content: Any, file: Path) -> list[Annotation]:
    """The labelled segments of ActivityNet's JSON; the subset is the part of the split.

    Raises:
        DataError: an entry is not as it should be.
    """
    found: list[Annotation] = []
    for name, entry in content["database"].items():
        try:
            for each in entry.get("annotations", ()):
                span: Span = float(each["segment"][0]), float(each["segment"][1])
                check_span(span, file, f"{name}: ")
                label, subset = str(each["label"]), str(entry.get("subset", ""))
                found.append(Annotation(name, label, name, span, split=subset, by_name=True))
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as problem:
            raise DataError(
                f"the entry {name!r} cannot be read ({problem!r})",
                expected='annotations such as {"segment": [1.5, 3.0], "label": "jump"}',
                hint="correct the entry",
                where=file,
            ) from None
    return found


def is_label_studio(content: Any) -> bool:
    """Whether JSON is an export "JSON" of Label Studio."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(task, dict) and {"data", "annotations"} <= task.keys() for task in content)
    )


def read_label_studio(content: Any, file: Path, options: ExportOptions) -> list[Annotation]:
    """The labelled segments of an export "JSON" of Label Studio: timelines of videos, and choices for whole videos.

    Frames are counted from 1 at the frame rate of the task's data (``fps``), or else of the options. Cancelled
    annotations are left out.

    Raises:
        DataError: a task is not as it should be, several controls give labels and none is chosen, or the frame rate is
            unknown.
    """
    found: list[tuple[str, Annotation]] = []
    for number, task in enumerate(content, start=1):
        place = f"task {task.get('id', number)}"
        try:
            path = _media_path(task["data"])
            rate = task["data"].get("fps") or task["data"].get("framerate")
            given = ExportOptions(options.fps or (float(rate) if rate else None), options.tier)
            for annotation in task["annotations"]:
                if not annotation.get("was_cancelled"):
                    for result in annotation["result"]:
                        found += [(result["from_name"], each) for each in _results(result, path, place, file, given)]
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as problem:
            raise DataError(
                f"{place} cannot be read ({problem!r})",
                expected='an export "JSON" of Label Studio',
                hint=_AGAIN,
                where=file,
            ) from None
    controls = dict.fromkeys(name for name, _ in found)
    chosen = options.tier or next(iter(controls), "")
    if chosen not in controls or (len(controls) > 1 and not options.tier):
        raise DataError(
            f"there are no labels of the control {chosen!r}"
            if options.tier or not controls
            else f"{len(controls)} controls give labels",
            expected=f"the control with the labels, one of {', '.join(controls) or 'none'}",
            hint="set data.tier",
            where=file,
        )
    return [each for name, each in found if name == chosen]


def _results(result: Any, path: str, place: str, file: Path, options: ExportOptions) -> Iterator[Annotation]:
    value = result["value"]
    if result["type"] == "timelinelabels":
        for part in value.get("ranges", ()):  # a rectangle is exported as a timeline without ranges, too
            for label in value["timelinelabels"]:
                yield _of_frames(file, options, path, label, place, (int(part["start"]) - 1, int(part["end"])))
    elif result["type"] == "choices":
        for label in value["choices"]:
            yield Annotation(path, label, place, by_name=True)
    elif result["type"] == "labels" and "start" in value:  # of the sound of a video, in seconds
        span = float(value["start"]), float(value["end"])
        check_span(span, file, f"{place}: ")
        for label in value["labels"]:
            yield Annotation(path, label, place, span, by_name=True)


def _media_path(data: dict[str, Any]) -> str:
    """The path of the video in a task's data: its key is the user's own."""
    texts = [data[key] for key in ("video", "video_url", "url") if isinstance(data.get(key), str)]
    return (texts or [value for value in data.values() if isinstance(value, str)])[0]


def file_name(text: str) -> str:
    """The name of the file that a path or an address means, such as that of a video on the server of a tool."""
    parts = urlsplit(text)
    query = parse_qs(parts.query).get("d") or parse_qs(parts.query).get("fileuri")
    name = query[0] if query else text if not parts.scheme else unquote(parts.path)
    return PurePosixPath(name.replace("\\", "/")).name
