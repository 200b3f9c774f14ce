"""Where an action takes place: boxes over time (tubes), sets of tubes, and their overlap.

A box is (left, top, right, bottom) in pixels from the upper left corner of the frame; right and bottom are exclusive,
the first column and row outside the box. Frames are numbered from 0.

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
    """One box in each of several consecutive frames; a tube has no gaps.

    Attributes:
        video: the id of the video.
        label: class index from 0.
        boxes: one per frame.
        first: the frame number of the first box.
        score: confidence of the detector; 1 for ground truth.
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
        """The frame number after the last box."""
        return self.first + len(self.boxes)

    def __repr__(self) -> str:
        return f"Tube({self.video}, class {self.label}, frames {self.first} to {self.end - 1}, score {self.score:.3f})"


@dataclass(frozen=True, slots=True, eq=False)
class TubeSet:
    """The tubes of a collection of videos, ground truth or detected.

    Attributes:
        labels: class names in label order.
        tubes: in any order.
        frames: the number of frames of each video, including videos without a tube.
        fps: frames per second of the videos for which it is known.
    """

    labels: tuple[str, ...]
    tubes: tuple[Tube, ...]
    frames: Mapping[str, int]
    fps: Mapping[str, float] = field(default_factory=dict)

    def subset(self, videos: Collection[str]) -> "TubeSet":
        """The tubes of a subset of the videos, such as those of a test list.

        Raises:
            DataError: a video is not in the set.
        """
        if missing := sorted(set(videos) - set(self.frames)):
            raise DataError(
                f"{len(missing)} videos have no annotation, for example {missing[0]}",
                expected=f"some of the {len(self.frames)} annotated videos, such as {next(iter(self.frames), 'none')}",
                hint="check that the list and the annotations are of the same data set",
            )
        wanted = set(videos)
        return replace(
            self,
            tubes=tuple(tube for tube in self.tubes if tube.video in wanted),
            frames={video: length for video, length in self.frames.items() if video in wanted},
            fps={video: fps for video, fps in self.fps.items() if video in wanted},
        )


def box_iou(boxes: Boxes, others: Boxes) -> Float64[np.ndarray, " N"]:
    """Intersection over union of each box with the box at the same position in ``others``."""
    intersection = overlap(boxes, others)
    return intersection / (area(boxes) + area(others) - intersection)


def overlap(boxes: Boxes, others: Boxes) -> Float64[np.ndarray, " N"]:
    """Intersection of each box with the box at the same position in ``others``, in square pixels."""
    width = np.minimum(boxes[:, 2], others[:, 2]) - np.maximum(boxes[:, 0], others[:, 0])
    height = np.minimum(boxes[:, 3], others[:, 3]) - np.maximum(boxes[:, 1], others[:, 1])
    return width.clip(0) * height.clip(0)


def area(boxes: Boxes) -> Float64[np.ndarray, " N"]:
    """Area of each box in square pixels."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def tube_iou(tube: Tube, other: Tube) -> float:
    """Spatio-temporal IoU: the IoU of the two frame intervals, times the mean IoU of the boxes in the frames of both.

    This equals the mean of the boxes' IoU over the frames of either tube, counting 0 where only one has a box.
    """
    begin, end = max(tube.first, other.first), min(tube.end, other.end)
    if begin >= end:
        return 0.0
    union = max(tube.end, other.end) - min(tube.first, other.first)
    spatial = box_iou(
        tube.boxes[begin - tube.first : end - tube.first], other.boxes[begin - other.first : end - other.first]
    )
    return float(spatial.sum() / union)


def clip_to_frame(boxes: Boxes, height: int, width: int) -> Boxes:
    """The part of each box inside the frame; the area of a box entirely outside becomes 0."""
    return np.clip(boxes, 0, [width, height, width, height])
