"""One labelled recording, or part of one, as a file of annotations has it."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.core.types import Span, check_span


@dataclass(frozen=True, slots=True)
class Annotation:
    """One labelled recording, or part of one.

    Attributes:
        path: of the recording, as the file of annotations gives it.
        label: class name, or number as text; several where the file gives a list of them.
        place: where the annotation is in its file, such as ``line 3``.
        span: start and end in seconds; None for the whole recording.
        group: the person or source; empty if it is not given.
        split: the part of the split, such as ``train``; empty if it is not given.
        fold: the part for cross-validation; empty if it is not given.
        by_name: whether the recording may lie elsewhere under the same file name, as tools give paths of their own.
    """

    path: str
    label: str | tuple[str, ...]
    place: str
    span: Span | None = None
    group: str = ""
    split: str = ""
    fold: str = ""
    by_name: bool = False


_CLOCK = re.compile(r"(?:([0-9]+):)?([0-5]?[0-9]):([0-5]?[0-9](?:[.,][0-9]*)?)")


def parse_seconds(text: str) -> float:
    """Seconds from ``62.5``, ``62,5``, ``1:02.5`` or ``00:01:02.5``; ValueError if it is none of these."""
    if match := _CLOCK.fullmatch(text.strip()):
        hours, minutes, seconds = match.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))
    seconds = float(text.strip().replace(",", "."))
    if not math.isfinite(seconds):
        raise ValueError(f"{text} is not finite")
    return seconds


def span_of(start: str, end: str, place: str, where: Path) -> Span | None:
    """The span that two texts give; None if both are empty. An empty start is 0.

    Raises:
        DataError: one is no number of seconds, the end alone is missing, or the start is not before the end.
    """
    if not start and not end:
        return None
    if not end:
        raise DataError(
            f"{place} has a start, {start}, and no end",
            expected="both, or neither for the whole recording",
            hint="complete it",
            where=where,
        )
    try:
        span = parse_seconds(start or "0"), parse_seconds(end)
    except ValueError:
        raise DataError(
            f"{place} has the start {start!r} and the end {end!r}",
            expected="seconds, such as 62.5, or 00:01:02.5",
            hint="correct start and end",
            where=where,
        ) from None
    check_span(span, where, f"{place}: ")
    return span
