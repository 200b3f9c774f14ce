"""Segments as files: JSON lines, CSV, subtitles (WebVTT, SubRip), ActivityNet's JSON; labelled segments."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write
from muybridge.core.text import as_utf8, csv_line
from muybridge.data.annotations.exports import ExportOptions, file_name
from muybridge.data.annotations.read import read_annotations
from muybridge.timeline.segments import Segment
from muybridge.timeline.timeline import Timeline

Rows = Sequence[Timeline]

_COLUMNS = ("path", "person", "start", "end", "label", "score")


def as_rows(timeline: Timeline) -> list[dict[str, object]]:
    """The segments as JSON types: ``path``, ``person`` if there is one, ``start``, ``end``, ``label`` and ``score``."""
    person = {"person": timeline.person} if timeline.person else {}
    return [
        {
            "path": timeline.path,
            **person,
            "start": round(segment.start, 3),
            "end": round(segment.end, 3),
            "label": segment.label,
            "score": round(segment.score, 6),
        }
        for segment in timeline.segments
    ]


def _jsonl(timelines: Rows) -> str:
    rows = (row for timeline in timelines for row in as_rows(timeline))
    return "".join(as_utf8(json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)


def _csv(timelines: Rows) -> str:
    columns = [name for name in _COLUMNS if name != "person" or any(timeline.person for timeline in timelines)]
    rows = [[row.get(name, "") for name in columns] for timeline in timelines for row in as_rows(timeline)]
    return "".join(map(csv_line, [columns, *rows]))


def _vtt(timelines: Rows) -> str:
    cues = [f"{_clock(one.start, '.')} --> {_clock(one.end, '.')}\n{cue}\n" for one, cue in _cues(timelines)]
    return "\n".join(["WEBVTT\n", *cues])


def _srt(timelines: Rows) -> str:
    cues = (
        f"{number}\n{_clock(one.start, ',')} --> {_clock(one.end, ',')}\n{cue}\n"
        for number, (one, cue) in enumerate(_cues(timelines), start=1)
    )
    return "\n".join(cues)


def _activitynet(timelines: Rows) -> str:
    paths = {timeline.path for timeline in timelines}
    stems = Counter(Path(path).stem for path in paths)
    results: defaultdict[str, list[dict[str, object]]] = defaultdict(list)
    for timeline in timelines:
        stem = Path(timeline.path).stem
        person: dict[str, object] = {"person": timeline.person} if timeline.person else {}
        results[timeline.path if stems[stem] > 1 else stem].extend(
            {"label": one.label, "score": one.score, "segment": [one.start, one.end], **person}
            for one in timeline.segments
        )
    content = {"version": "VERSION 1.3", "results": results, "external_data": {}}
    return as_utf8(json.dumps(content, ensure_ascii=False, indent=1))


FORMATS: dict[str, Callable[[Rows], str]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "vtt": _vtt,
    "srt": _srt,
    "activitynet": _activitynet,
}
"""What each format makes of timelines; subtitles are of a single recording."""


def check_format(kind: str, recordings: int) -> None:
    """Raises DataError for subtitles of any number of recordings but one."""
    if kind in ("vtt", "srt") and recordings != 1:
        raise DataError(
            f"subtitles of {recordings} recordings",
            expected="one recording, whose player shows them",
            hint="give one recording, or another --format",
        )


def write_timelines(path: Path, timelines: Rows, kind: str) -> None:
    """Write segments into a file, which appears whole.

    Raises:
        DataError: subtitles of several recordings.
    """
    text = FORMATS[kind](timelines)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_segments(path: Path, fps: float | None = None) -> dict[str, list[Segment]]:
    """Labelled segments by recording, from a table ``path,start,end,label`` or the export of an annotation tool.

    Args:
        path: a table (.csv, .tsv, .json, .jsonl), or an export of CVAT, ELAN, Label Studio or in ActivityNet's form.
        fps: frames per second at which CVAT or Label Studio counted frames.

    Raises:
        DataError: no such file, a column is missing, or a line is not a segment; the message names the line.
    """
    segments: dict[str, list[Segment]] = defaultdict(list)
    for each in read_annotations(path, ExportOptions(fps)):
        if each.span is None or not isinstance(each.label, str):
            raise DataError(
                f"{each.place} is no segment",
                expected="a start, an end and one label",
                hint="complete the line, or remove it",
                where=path,
            )
        segments[file_name(each.path) if each.by_name else each.path].append(Segment(*each.span, each.label))
    return dict(segments)


def _cues(timelines: Rows) -> list[tuple[Segment, str]]:
    """The segments of one recording with their texts, in order of time; people are named."""
    of_people = all(timeline.person for timeline in timelines)
    check_format("srt", len({timeline.path for timeline in timelines}) if of_people else len(timelines))
    cues = [(one, _cue(one, timeline.person)) for timeline in timelines for one in timeline.segments]
    return sorted(cues, key=lambda cue: cue[0].start)


def _cue(segment: Segment, person: str) -> str:
    text = f"person {person}: {segment.label}" if person else segment.label
    label = " ".join(text.split()).replace("-->", "->").replace("&", "&amp;").replace("<", "&lt;")
    return f"{label} {segment.score:.0%}"


def _clock(seconds: float, point: str) -> str:
    total = round(1000 * seconds)
    hours, rest = divmod(total, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
