"""What the baselines see of a recording: a vector of fixed length, or a series of fixed length, without any learning.

Legend: T frames, N joints, D coordinates, F numbers of a frame, S thumbnail side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from muybridge.core.contracts import THUMBNAIL, SkeletonData, Statistics, StatisticsOf
from muybridge.core.rng import make_generator
from muybridge.core.types import Clip, Record, SkeletonSequence
from muybridge.data.prepare import ClipPreparation
from muybridge.data.statistics import (
    joint_positions,
    moving_statistics,
    read_thumbnails,
    statistics,
    thumbnail_streams,
)
from muybridge.media.video import Video

SERIES = 64
"""Frames to which joint series are resampled for MiniROCKET."""

PARTS = (1, 3)
"""Numbers of equal parts of a recording whose statistics are taken separately."""

OF_SKELETONS: tuple[StatisticsOf, ...] = ("as recorded", "relative to the body")
OF_VIDEOS: tuple[StatisticsOf, ...] = ("frames", "changes", "frames and changes")

STATISTICS = {
    kind.name: kind for of in (*OF_SKELETONS, *OF_VIDEOS) for kind in (Statistics(of, parts) for parts in PARTS)
}
"""The alternative descriptions of the linear model, by the names of its vectors in :class:`Descriptors`."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What the baselines see of one recording.

    Attributes:
        vectors: for each baseline its alternative descriptions, by name; validation chooses among them.
        series: ``F T`` joint coordinates over time; empty for a video.
        poses: a hash of the pose of each frame, whatever its position and size; empty for a video.
        pictures: the brightness of the background, of the first and of the last frame; empty for skeletons.
        motion: frames and flow for the Fisher vectors; empty where they are not asked for.
        movement: how the brightness of a video changes, see :func:`muybridge.baseline.descriptors.movement`; empty for
            skeletons.
    """

    vectors: Mapping[str, Mapping[str, Float32[np.ndarray, " N"]]]
    series: Float32[np.ndarray, "F T"] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    poses: frozenset[int] = frozenset()
    pictures: Float32[np.ndarray, "3 S S"] = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    movement: Float32[np.ndarray, " M"] = field(default_factory=lambda: np.zeros(0, np.float32))
    motion: Mapping[str, Clip] = field(default_factory=dict)


def describe_skeleton(sequence: SkeletonSequence, holds: SkeletonData, record: Record) -> Descriptors:
    """Statistics of positions and of their differences between frames; a random frame.

    Args:
        sequence: a recording.
        holds: the data set's contract.
        record: its id decides on the random frame.
    """
    flat: dict[StatisticsOf, Tensor] = {of: joint_positions(sequence, holds, of) for of in OF_SKELETONS}
    return Descriptors(
        {
            "one frame": {of: _array(values[_random_index(len(values), record)]) for of, values in flat.items()},
            "linear": {
                Statistics(of, parts).name: _array(moving_statistics(values, parts))
                for of, values in flat.items()
                for parts in PARTS
            },
        },
        _array(_resampled(flat["relative to the body"], SERIES).T),
        _hash_poses(flat["as recorded"].unflatten(1, (-1, holds.coordinates))),
    )


def describe_video(video: Video, record: Record, prepare: ClipPreparation | None = None) -> Descriptors:
    """Statistics of thumbnails of frames and of the changes between consecutive frames; one frame; the background.

    Args:
        video: a recording.
        record: its id decides on the random frame.
        prepare: reads the frames and the flow for Fisher vectors, where they are asked for.
    """
    streams = thumbnail_streams(read_thumbnails(video).pixels)
    frames, changes = streams["frames"], streams["changes"]
    background = frames.median(0).values
    return Descriptors(
        {
            "one frame": {"": _array(frames[_random_index(len(frames), record)])},
            "background": {"": _array(background)},
            "linear": {
                Statistics(of, parts).name: _array(statistics(values, parts))
                for of, values in streams.items()
                for parts in PARTS
            },
        },
        pictures=_array(_gray(torch.stack([background, frames[0], frames[-1]]))),
        movement=_array(movement(_gray(frames).flatten(1), _gray(changes).flatten(1))),
        motion=prepare.read(video) if prepare else {},
    )


def movement(frames: Float[Tensor, "T F"], changes: Float[Tensor, "T F"]) -> Float[Tensor, " M"]:
    """How frames change, whatever they show, over three equal parts of the time.

    Their mean in each part, less that of the whole; their standard deviation; mean and standard deviation of changes.
    The means tell which way the time goes, and count twice.
    """
    mean, deviation = statistics(frames, 3).reshape(3, 2, -1).unbind(1)
    return torch.cat([2 * (mean - mean.mean(0)).flatten(), deviation.flatten(), statistics(changes, 3)])


def _gray(frames: Float[Tensor, "T F"]) -> Float[Tensor, "T S S"]:
    return frames.unflatten(1, (-1, THUMBNAIL, THUMBNAIL)).mean(1)


def _hash_poses(joints: Float[Tensor, "T N D"]) -> frozenset[int]:
    """Hashes of the poses of all frames, without position and size, to a thousandth of the body."""
    pose = joints - joints.mean(1, keepdim=True)
    pose = pose / pose.flatten(1).norm(dim=1).clamp(min=1e-9)[:, None, None]
    return frozenset(hash(row.tobytes()) for row in (pose * 1e4).round().to(torch.int16).flatten(1).numpy())


def _random_index(count: int, record: Record) -> int:
    return int(torch.randint(count, (), generator=make_generator("baseline", record.id)))


def _resampled(values: Float[Tensor, "T F"], length: int) -> Float[Tensor, "L F"]:
    """Values at evenly spread times, interpolated linearly."""
    return F.interpolate(values.T[None], length, mode="linear", align_corners=True)[0].T


def _array(tensor: Tensor) -> Float32[np.ndarray, "..."]:
    return tensor.numpy().astype(np.float32)
