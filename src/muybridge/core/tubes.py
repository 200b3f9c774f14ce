"""Where an action takes place: boxes through time, sets of them, and how far two agree.

A box is (left, top, right, bottom) in pixels from the upper left corner of the frame; right and bottom are the first
column and row that it does not cover. Frames count from 0.

Legend: T frames of a tube, N boxes.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64

from muybridge.core.errors import DataError

Boxes = Float64[np.ndarray, "N 4"]


@dataclass(frozen=True, slots=True, eq=False)
class Tube:
    """One box in each of a run of consecutive frames; a tube has no gaps.

    Attributes:
        video: the id of the video.
        label: class index from 0.
        boxes: one for each frame.
        first: the frame of the first box.
        score: how sure a detector is; 1 for the truth.
    """

    video: str
    label: int
    boxes: Float64[np.ndarray, "T 4"]
    first: int = 0
    score: float = 1.0

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def end(self) -> int:
        """The frame after the last."""
        return self.first + len(self.boxes)

    def __repr__(self) -> str:
        return f"Tube({self.video}, class {self.label}, frames {self.first} to {self.end - 1}, score {self.score:.3f})"


@dataclass(frozen=True, slots=True, eq=False)
class TubeSet:
    """The tubes of a collection of videos, true or found.

    Attributes:
        labels: class names in label order.
        tubes: in any order.
        frames: the length of each video, which need not have a tube.
        fps: frames a second, of the videos for which it is known.
    """

    labels: tuple[str, ...]
    tubes: tuple[Tube, ...]
    frames: Mapping[str, int]
    fps: Mapping[str, float] = field(default_factory=dict)

    def subset(self, videos: Collection[str]) -> "TubeSet":
        """The part that lies in some of the videos, such as those of a test list.

        Raises:
            DataError: one of them is not in the set.
        """
        if missing := sorted(set(videos) - set(self.frames)):
            raise DataError(
                f"{len(missing)} videos have no annotation, {missing[0]} among them",
                expected=f"some of the {len(self.frames)} annotated videos, such as {next(iter(self.frames), 'none')}",
                hint="check that the list and the annotations belong together",
            )
        wanted = set(videos)
        return replace(
            self,
            tubes=tuple(tube for tube in self.tubes if tube.video in wanted),
            frames={video: length for video, length in self.frames.items() if video in wanted},
            fps={video: fps for video, fps in self.fps.items() if video in wanted},
        )


def box_iou(these: Boxes, those: Boxes) -> Float64[np.ndarray, " N"]:
    """Area of the intersection over that of the union of each box with its counterpart."""
    shared = overlap(these, those)
    return shared / (area(these) + area(those) - shared)


def overlap(these: Boxes, those: Boxes) -> Float64[np.ndarray, " N"]:
    """Area that each box shares with its counterpart."""
    across = np.minimum(these[:, 2], those[:, 2]) - np.maximum(these[:, 0], those[:, 0])
    down = np.minimum(these[:, 3], those[:, 3]) - np.maximum(these[:, 1], those[:, 1])
    return across.clip(0) * down.clip(0)


def area(boxes: Boxes) -> Float64[np.ndarray, " N"]:
    """Square pixels of each box."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def tube_iou(one: Tube, other: Tube) -> float:
    """Spatio-temporal IoU: that of the two spans of frames, times the mean IoU of the boxes in the frames of both.

    Which is the mean of the boxes' IoU over all frames that either has, with 0 where one of them is absent.
    """
    begin, end = max(one.first, other.first), min(one.end, other.end)
    if begin >= end:
        return 0.0
    union = max(one.end, other.end) - min(one.first, other.first)
    spatial = box_iou(
        one.boxes[begin - one.first : end - one.first], other.boxes[begin - other.first : end - other.first]
    )
    return float(spatial.sum() / union)


def clip_to_frame(boxes: Boxes, height: int, width: int) -> Boxes:
    """The part of each box inside the frame; a box wholly outside is left with no area."""
    return np.clip(boxes, 0, [width, height, width, height])
