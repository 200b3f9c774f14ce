"""Recordings of none of the classes, cut from the time of files in which nothing is labelled."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from muybridge.core.errors import DataError
from muybridge.core.rng import make_generator
from muybridge.core.types import NONE_OF_THESE, Span, span_text
from muybridge.data.datasets.folder_layout import Layout, Source

MARGIN = 0.25
"""Seconds between a labelled segment and background, since the moments at which actions begin and end are not exact."""

SHORTENED = 0.5
"""Share of its length to which a recording of background may be shortened where there is no room for more."""

_STEP = 1000  # times are whole milliseconds


def add_background(layout: Layout, share: float, length_of: Callable[[Path], float | None], table: Path) -> Layout:
    """The recordings of a table, and so many more of the class "none of these", cut from its files.

    Their number is the share of the labelled segments, spread over the files; their lengths are those of the labelled
    segments of the same file. They lie ``MARGIN`` seconds away from every labelled segment, do not overlap, and belong
    to the same part of the split and to the same group as the segments of their file. Files whose segments belong to
    several give none, nor do files that are labelled as a whole. Where they lie in a file depends on its path, its
    length and its segments, and on how many are cut.

    Args:
        layout: what the table lists.
        share: recordings of background for each labelled segment.
        length_of: seconds of a file; None where it cannot be read.
        table: for messages.

    Raises:
        DataError: the table has a class of that name, or there is no room for any background.
    """
    if NONE_OF_THESE in layout.classes:
        raise DataError(
            f"the class {NONE_OF_THESE!r} is in the table, and data.background cuts recordings of that name",
            expected="one of them",
            hint="set data.background = 0, or call the class otherwise",
            where=table,
        )
    files: dict[Path, list[Source]] = defaultdict(list)
    for source in layout.sources:
        files[source.path].append(source)
    labelled, found, due = 0, [], defaultdict(float)
    for path in sorted(files):
        segments = files[path]
        labelled += sum(one.span is not None for one in segments)
        belongs = {(one.split, one.group, one.fold) for one in segments}
        if len(belongs) > 1 or any(one.span is None for one in segments):
            continue
        part = segments[0].split, segments[0].fold
        due[part] += share * len(segments)
        count = math.floor(due[part] + 0.5)
        length = length_of(path) if count else None
        cut = [] if length is None else cut_background(_spans(segments), length, count, _path_of(segments[0]))
        due[part] -= len(cut)
        found += [_background(segments[0], span) for span in cut]
    if not found:
        raise DataError(
            f"there is no room for background beside {labelled} labelled segments",
            expected=f"files with unlabelled time, {MARGIN:g} s away from labelled segments",
            hint="set data.background = 0, or give longer files",
            where=table,
        )
    return _grouped(replace(layout, sources=(*layout.sources, *found), classes={**layout.classes, NONE_OF_THESE: ()}))


def cut_background(labelled: Sequence[Span], length: float, count: int, name: str) -> list[Span]:
    """At most so many spans of a file in which nothing is labelled, in order of time, none overlapping another.

    Args:
        labelled: segments of the file, in any order.
        length: of the file in seconds.
        count: how many.
        name: of the file; the places are drawn from it.
    """
    rng = make_generator("background", name)
    gaps = _gaps(labelled, length)
    lengths = [round((end - start) * _STEP) for start, end in sorted(labelled)]
    order = torch.randperm(len(lengths), generator=rng).tolist()
    found: list[tuple[int, int]] = []
    for number in range(count):
        wanted = lengths[order[number % len(order)]]
        room = [max(0, end - start) for start, end in gaps]
        if not room or max(room) < max(1, SHORTENED * wanted):
            continue
        wanted = min(wanted, max(room))
        # Every place at which it fits is as likely as any other.
        places = torch.tensor([max(0, space - wanted + 1) for space in room], dtype=torch.float64)
        gap = int(torch.multinomial(places, 1, generator=rng))
        start, end = gaps.pop(gap)
        first = start + int(torch.randint(end - start - wanted + 1, (), generator=rng))
        found.append((first, first + wanted))
        gaps += [(start, first), (first + wanted, end)]
    return [(start / _STEP, end / _STEP) for start, end in sorted(found)]


def _gaps(labelled: Sequence[Span], length: float) -> list[tuple[int, int]]:
    """The time of a file that is away from all segments, in whole milliseconds."""
    gaps, free = [], 0.0
    for start, end in [*sorted(labelled), (length + MARGIN, math.inf)]:
        first, last = math.ceil(free * _STEP), math.floor(min(start - MARGIN, length) * _STEP)
        if last > first:
            gaps.append((first, last))
        free = max(free, end + MARGIN)
    return gaps


def _spans(segments: Sequence[Source]) -> list[Span]:
    return [one.span for one in segments if one.span is not None]


def _background(beside: Source, span: Span) -> Source:
    """A recording of background of the same file as another."""
    path = _path_of(beside)
    return replace(
        beside, label=NONE_OF_THESE, name=f"{NONE_OF_THESE}/{path}", id=f"{path}@{span_text(span)}", span=span
    )


def _path_of(source: Source) -> str:
    """The path of its file as the table gives it."""
    return source.id if source.span is None else source.id.rpartition("@")[0]


def _grouped(layout: Layout) -> Layout:
    """The recordings with their files as groups where no others are known: a file is in one part of the split."""
    if any(source.group for source in layout.sources):
        return layout
    sources = tuple(replace(source, group=_path_of(source)) for source in layout.sources)
    return replace(layout, sources=sources, grouped_by_file=True)
