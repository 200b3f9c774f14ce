"""UTD-MHAD: 27 actions of 8 people, Kinect v1 skeletons and depth (Chen, Jafari, Kehtarnavaz; ICIP 2015)."""

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field

from muybridge.core.contracts import ClipData, SkeletonData
from muybridge.core.rng import make_generator
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.datasets.base import Benchmark, Index, Split, swap_map
from muybridge.media.skeleton import read_utd
from muybridge.media.video import Video

_ACTIONS = (
    *("swipe left", "swipe right", "wave", "clap", "throw", "cross arms", "basketball shoot", "draw x"),
    *("draw circle clockwise", "draw circle counter-clockwise", "draw triangle", "bowling", "boxing"),
    *("baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch", "pick up and throw"),
    *("jog", "walk", "sit to stand", "stand to sit", "lunge", "squat"),
)
_BACKGROUND = 24  # compression leaves the background not quite at 0
_MIRRORED = (("swipe left", "swipe right"), ("draw circle clockwise", "draw circle counter-clockwise"))


class _Recordings(Benchmark):
    """What both kinds of recording have in common: people 1, 3, 5, 7 train, the others test."""

    folder_name: ClassVar[str] = "utd_mhad"
    ending: ClassVar[str]

    def labels(self) -> tuple[str, ...]:
        """Action names."""
        return _ACTIONS

    def mirror(self) -> Mapping[int, int]:
        """Swipes and circles change direction; the other actions are done by the other hand, with the same label."""
        return swap_map(_ACTIONS, _MIRRORED)

    def index(self, split: Split) -> Index:
        """The recordings of one split; see :meth:`~muybridge.data.datasets.base.DatasetConfig.index`."""
        return self.split_records(split, self.records(), is_test=lambda record: int(record.group[1:]) % 2 == 0)

    def records(self) -> list[Record]:
        """All recordings; the groups are people, ``s1`` to ``s8``."""
        records = []
        for path in self.find(f"a*_s?_t?{self.ending}"):
            identity = path.name.removesuffix(self.ending)
            action, subject, _ = identity.split("_")
            records.append(Record(identity, path, int(action[1:]) - 1, subject))
        return records


class UTDMHAD(_Recordings):
    """Skeletons, cross-subject: people 1, 3, 5, 7 train, the others test. Groups are people, ``s1`` to ``s8``."""

    name: Literal["utd_mhad"] = "utd_mhad"
    ending: ClassVar[str] = "_skeleton.mat"

    def holds(self) -> SkeletonData:
        """One person, 20 joints, metres."""
        return SkeletonData(LAYOUTS["kinect20"])

    def open(self, record: Record) -> SkeletonSequence:
        """See :func:`read_utd`."""
        return read_utd(record.path)


class _Depth(_Recordings):
    """Depth maps as grayscale video: near is bright, and 0 is background, which the authors removed.

    Attributes:
        channels: 1, or 3 for models with weights from RGB images.
        temporal_jitter: largest share of a recording that is cut off at each end, drawn by its id. The recordings are
            aligned in phase, so without it a frame's position reveals the phase of the action.
        crop_foreground: crop every recording to the square around all pixels that are ever foreground.
    """

    ending: ClassVar[str] = ".mp4"
    content_settings: ClassVar[tuple[str, ...]] = ("channels", "temporal_jitter", "crop_foreground")
    channels: Literal[1, 3] = 1
    temporal_jitter: float = Field(default=0.0, ge=0.0, lt=0.5)
    crop_foreground: bool = False

    def holds(self) -> ClipData:
        """Grayscale videos."""
        return ClipData(self.channels)

    def open(self, record: Record) -> Video:
        """See :class:`Video`."""
        video = Video(record.path, channels=self.channels, span=record.span)
        if self.crop_foreground:
            video = video.crop(*foreground(record.path))
        # The same frames are cut off whether a recording is reversed or not, so that they do not reveal the direction.
        cuts = torch.rand(2, generator=make_generator("jitter", record.path.stem)) * self.temporal_jitter * len(video)
        first, last = cuts.int().tolist()
        return video.slice_frames(first, len(video) - last, backwards=record.backwards)


@functools.cache
def foreground(path: Path) -> tuple[int, int, int, int]:
    """Top, left, height and width of the smallest square that contains all foreground of all frames of a depth video.

    At the edge of the frame it is cut off, and no square.
    """
    with Video(path, channels=1) as video:
        near = video.read(range(len(video))).pixels.amax((0, 1)) > _BACKGROUND
    rows, columns = (near.any(axis).nonzero()[:, 0] for axis in (1, 0))
    if not len(rows):
        return 0, 0, near.shape[0], near.shape[1]
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    side = max(bottom - top, right - left)
    (top, height), (left, width) = (
        _centered((first + last) // 2, side, size)
        for first, last, size in ((top, bottom, near.shape[0]), (left, right, near.shape[1]))
    )
    return top, left, height, width


def _centered(center: int, side: int, size: int) -> tuple[int, int]:
    """Start and length of an interval of length ``side`` around ``center``, shifted and cut to lie in 0 to ``size``."""
    return min(max(0, center - side // 2), max(0, size - side)), min(side, size)


class UTDMHADDepth(_Depth):
    """Depth video, cross-subject: people 1, 3, 5, 7 train, the others test. Groups are people, ``s1`` to ``s8``.

    Attributes:
        include_reversed: add every recording reversed in time, as a class of its own for each action: 54 classes, for
            pretraining on motion before training on the 27 classes of the benchmark.
    """

    name: Literal["utd_mhad_depth"] = "utd_mhad_depth"
    include_reversed: bool = False

    def labels(self) -> tuple[str, ...]:
        """Action names, followed by those of the reversed actions if they are included."""
        return _ACTIONS + tuple(f"{name}, backwards" for name in _ACTIONS) if self.include_reversed else _ACTIONS

    def mirror(self) -> Mapping[int, int]:
        """Swipes and circles change direction, forwards and backwards alike."""
        mirror, actions = super().mirror(), len(_ACTIONS)
        return dict(mirror) | ({actions + a: actions + b for a, b in mirror.items()} if self.include_reversed else {})

    def reverse(self) -> Mapping[int, int] | None:
        """Each action becomes its reversal; forbidden without ``include_reversed``."""
        actions = len(_ACTIONS)
        return (
            {label: (label + actions) % (2 * actions) for label in range(2 * actions)}
            if self.include_reversed
            else None
        )

    def superclasses(self) -> tuple[str, ...]:
        """The direction of time, if both are included."""
        return ("forwards",) * len(_ACTIONS) + ("backwards",) * len(_ACTIONS) if self.include_reversed else ()

    def records(self) -> list[Record]:
        """Every recording, and its reversal if that is included."""
        forwards = super().records()
        return forwards + (_reversed(forwards, len(_ACTIONS)) if self.include_reversed else [])


class UTDMHADArrow(_Depth):
    """The arrow of time: does a depth video run forwards or backwards? Every recording is included in both directions.

    The split is that of the actions. A model that ignores the order of frames scores 50 %.
    """

    name: Literal["utd_mhad_arrow"] = "utd_mhad_arrow"
    temporal_jitter: float = Field(default=0.1, ge=0.0, lt=0.5)

    def labels(self) -> tuple[str, ...]:
        """The two directions of time."""
        return "forwards", "backwards"

    def mirror(self) -> Mapping[int, int]:
        """Empty: mirroring does not reverse time."""
        return {}

    def reverse(self) -> Mapping[int, int]:
        """The two directions are exchanged."""
        return {0: 1, 1: 0}

    def records(self) -> list[Record]:
        """Every recording in both directions."""
        forwards = [replace(record, label=0) for record in super().records()]
        return forwards + _reversed(forwards, 1)


def _reversed(records: list[Record], offset: int) -> list[Record]:
    """The recordings reversed in time, with ``offset`` added to their labels."""
    return [replace(r, id=f"{r.id}_backwards", label=r.label + offset, backwards=True) for r in records]
