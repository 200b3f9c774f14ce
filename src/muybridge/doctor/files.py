"""Faults of single files: unreadable ones, and videos of unusual timing, orientation, size or length."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from muybridge.core.errors import DataError
from muybridge.doctor.findings import Finding, Item, finding_of, item
from muybridge.doctor.observe import Observed

_KINDS = (
    ("missing files", r"No such file|there is no such", "restore the files, or leave the recordings out"),
    ("empty files", r"the file is empty|no frames|it is empty", "fetch or export the files again"),
    ("truncated files", r"cut off|cut short|the last frame|truncated|too short|ends early", "fetch the files again"),
    ("not finite", r"\b(nan|inf)\b", "fill the gaps, or write zeros where a person is absent"),
    ("wrong number of joints", r"\d+ joints|\bd_skel is", "export them again"),
)
"""Kinds of unreadable recordings by the words of the reader's error."""

_UNEVEN = 0.02  # share of frames shown much longer or shorter than most, from which on the frame rate is variable
_SHAPE = 1.15  # by which factor the shape of a frame differs from the usual one, from which on it is odd
_USUAL = 0.6  # share of recordings of one shape from which on another one is odd
_LONG = 10  # times the median length


def check_files(observed: Sequence[Observed]) -> list[Finding]:
    """Findings about recordings that cannot be read."""
    failed = [(one, one.error) for one in observed if one.error is not None]
    return unreadable([(item(one.record, describe(error)), error) for one, error in failed])


def unreadable(failed: Sequence[tuple[Item, DataError]]) -> list[Finding]:
    """Findings about recordings with the errors that reading them raises, by kind."""
    kinds: defaultdict[str, list[Item]] = defaultdict(list)
    cures: dict[str, str] = {}
    for failure, error in failed:
        name, cure = next(
            ((name, cure) for name, pattern, cure in _KINDS if re.search(pattern, error.problem)),
            ("unreadable files", "convert or fetch the files again, or leave the recordings out"),
        )
        kinds[name].append(failure)
        cures[name] = cure
    return [
        Finding(
            name,
            "error",
            "training fails on these recordings",
            cures[name] + " (--fix writes a list without them)",
            tuple(items),
            remove=tuple(id_ for failure in items for id_ in failure.ids),
        )
        for name, items in kinds.items()
    ]


def describe(error: DataError) -> str:
    """What is wrong with a file, without its name, which stands beside it."""
    return f"{error.problem}; expected {error.expected}"


def check_videos(observed: Sequence[Observed]) -> list[Finding]:
    """Findings about the timing, orientation, size and length of videos."""
    seen = [one for one in observed if one.video is not None]
    return [*_timing(seen), *_orientation(seen), *_sizes(seen), *_still(seen), *_lengths(seen)] if seen else []


def _timing(seen: Sequence[Observed]) -> list[Finding]:
    uneven = [
        item(one.record, f"{one.video.uneven:.0%} of the frames are shown much longer or shorter than the others")
        for one in seen
        if one.video and one.video.uneven > _UNEVEN
    ]
    return finding_of(
        "variable frame rate",
        "warning",
        "frames are taken by number, so equal movements look faster or slower",
        "re-encode with a constant rate: ffmpeg -i OLD -r 25 NEW.mp4",
        uneven,
    )


def _orientation(seen: Sequence[Observed]) -> list[Finding]:
    turned = [item(one.record, "turned or mirrored by its header") for one in seen if one.video and one.video.turned]
    stretched = [
        item(one.record, f"pixels are {one.video.pixel_aspect:.2f} times as wide as high")
        for one in seen
        if one.video and abs(one.video.pixel_aspect - 1) > 0.01
    ]
    return [
        *finding_of(
            "rotated videos",
            "note",
            "the header turns or mirrors the frames; muybridge shows them upright, other tools may not",
            "check that they are upright in the page of thumbnails (--page)",
            turned,
        ),
        *finding_of(
            "pixels that are not square",
            "warning",
            "in some videos people look wider or narrower than in others",
            "ffmpeg -i OLD -vf scale=iw*sar:ih,setsar=1 NEW.mp4",
            stretched if len(stretched) < len(seen) else [],
        ),
    ]


def _sizes(seen: Sequence[Observed]) -> list[Finding]:
    """Videos whose frames have another shape than those of most."""
    shapes = {one.record.id: one.video.size[1] / one.video.size[0] for one in seen if one.video}
    usual, count = Counter(round(shape, 2) for shape in shapes.values()).most_common(1)[0]
    if count < _USUAL * len(seen):
        return []
    odd = [
        item(one.record, f"{one.video.size[1]}x{one.video.size[0]} pixels; most are {usual:g} times as wide as high")
        for one in seen
        if one.video and not 1 / _SHAPE < shapes[one.record.id] / usual < _SHAPE
    ]
    return finding_of(
        "odd sizes",
        "warning",
        "a few videos have another shape, so that cropping shows another part of them",
        "check them in the page of thumbnails (--page); crop or rotate them, or leave them out",
        odd,
    )


def _still(seen: Sequence[Observed]) -> list[Finding]:
    still = [item(one.record, f"{one.video.frames} equal frames") for one in seen if one.video and one.video.still]
    return finding_of(
        "nothing moves",
        "warning",
        "no frame of these videos differs from the next",
        "export the recording again; leave it out otherwise",
        still,
    )


def _lengths(seen: Sequence[Observed]) -> list[Finding]:
    lengths = sorted(one.video.seconds for one in seen if one.video)
    usual = lengths[len(lengths) // 2]
    long = [
        item(one.record, f"{one.video.seconds:.1f} s; half of the videos last {usual:.1f} s or less")
        for one in seen
        if one.video and one.video.seconds > _LONG * usual
    ]
    return finding_of(
        "very long videos",
        "warning",
        "one label for so long a recording mostly shows something else",
        "cut the part out that shows the action (a list takes start and end)",
        long,
    )
