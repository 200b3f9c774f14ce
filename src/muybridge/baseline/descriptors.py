"""What the baselines see of a recording: a vector of fixed length, or a series of fixed length, without any learning.

Legend: T frames, P people, J joints, D coordinates, C channels, F numbers of a frame, S thumbnail side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from muybridge.core.contracts import SkeletonData, SkeletonInput
from muybridge.core.rng import make_generator
from muybridge.core.types import Record, SkeletonSequence
from muybridge.data.skeleton_ops import prepare_skeleton
from muybridge.media.video import Video

THUMBNAIL = 16
"""Height and width in pixels to which the frames of a video are reduced."""

MOMENTS = 24
"""Moments of a video, evenly spread, at each of which two consecutive frames are read."""

SERIES = 64
"""Frames to which joint series are resampled for MiniROCKET."""

PARTS = (1, 3)
"""Numbers of equal parts of a recording whose statistics are taken separately; one part knows no order of events."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What the baselines see of one recording.

    Attributes:
        vectors: for each baseline its alternative descriptions, by name; validation chooses among them.
        series: ``F T`` joint coordinates over time; empty for a video.
        poses: a hash of the pose of each frame, whatever its position and size; empty for a video.
        pictures: the brightness of the background, of the first and of the last frame; empty for skeletons.
        movement: how the brightness of a video changes, see :func:`movement`; empty for skeletons.
    """

    vectors: Mapping[str, Mapping[str, Float32[np.ndarray, " N"]]]
    series: Float32[np.ndarray, "F T"] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    poses: frozenset[int] = frozenset()
    pictures: Float32[np.ndarray, "3 S S"] = field(default_factory=lambda: np.zeros((0, 0, 0), np.float32))
    movement: Float32[np.ndarray, " M"] = field(default_factory=lambda: np.zeros(0, np.float32))


def describe_skeleton(sequence: SkeletonSequence, holds: SkeletonData, record: Record) -> Descriptors:
    """Statistics of positions and of their differences between frames; a random frame.

    Positions are taken as they are in the file, and relative to the body: from its center in the first frame, turned to
    the camera or to the partner, in torso lengths.

    Args:
        sequence: a recording.
        holds: the data set's contract.
        record: its id decides on the random frame.
    """
    alone = holds.people == 1
    is_3d = holds.coordinates == 3
    body = SkeletonInput(
        center="first" if alone else "people",
        face_camera=alone and is_3d,
        face_partner=not alone and is_3d,
        unit_scale=True,
    )
    inputs = {"as recorded": SkeletonInput(), "relative to the body": body}
    flat = {name: prepare_skeleton(sequence, takes, holds).flatten(1).float() for name, takes in inputs.items()}
    return Descriptors(
        {
            "one frame": {name: _array(values[_random_index(len(values), record)]) for name, values in flat.items()},
            "linear": {
                f"{name}, {_parts(parts)}": _array(moving_statistics(values, parts))
                for name, values in flat.items()
                for parts in PARTS
            },
        },
        _array(_resampled(flat["relative to the body"], SERIES).T),
        _hash_poses(flat["as recorded"].unflatten(1, (-1, holds.coordinates))),
    )


def describe_video(video: Video, record: Record) -> Descriptors:
    """Statistics of thumbnails of frames and of the changes between consecutive frames; one frame; the background.

    Args:
        video: a recording.
        record: its id decides on the random frame.
    """
    last = max(len(video) - 2, 0)
    moments = np.unique(np.linspace(0, last, MOMENTS).round().astype(int))
    pairs = [index for moment in moments for index in (moment, min(moment + 1, len(video) - 1))]
    frames = _thumbnails(video, pairs)
    first, changes = frames[::2], (frames[1::2] - frames[::2]).abs()
    streams = {"frames": first, "changes": changes, "frames and changes": torch.cat([first, changes], 1)}
    background = first.median(0).values
    return Descriptors(
        {
            "one frame": {"": _array(first[_random_index(len(first), record)])},
            "background": {"": _array(background)},
            "linear": {
                f"{name}, {_parts(parts)}": _array(statistics(values, parts))
                for name, values in streams.items()
                for parts in PARTS
            },
        },
        pictures=_array(_gray(torch.stack([background, first[0], first[-1]]))),
        movement=_array(movement(_gray(first).flatten(1), _gray(changes).flatten(1))),
    )


def movement(frames: Float[Tensor, "T F"], changes: Float[Tensor, "T F"]) -> Float[Tensor, " M"]:
    """How frames change, whatever they show, over three equal parts of the time.

    Their mean in each part, less that of the whole; their standard deviation; mean and standard deviation of changes.
    The means tell which way the time goes, and count twice.
    """
    mean, deviation = statistics(frames, 3).reshape(3, 2, -1).unbind(1)
    return torch.cat([2 * (mean - mean.mean(0)).flatten(), deviation.flatten(), statistics(changes, 3)])


def moving_statistics(values: Float[Tensor, "T F"], parts: int) -> Float[Tensor, " N"]:
    """Mean and standard deviation of values and of their differences in each of several equal parts of the time."""
    changes = values.diff(dim=0) if len(values) > 1 else torch.zeros_like(values)
    return torch.cat([statistics(values, parts), statistics(changes, parts)])


def statistics(values: Float[Tensor, "T F"], parts: int) -> Float[Tensor, " N"]:
    """Mean and standard deviation over each of several equal parts of the time."""
    edges = np.linspace(0, len(values), parts + 1).round().astype(int)
    spans = [(min(start, len(values) - 1), max(start + 1, end)) for start, end in pairwise(edges)]
    pieces = [values[start:end] for start, end in spans]
    return torch.cat([torch.cat([piece.mean(0), piece.std(0, correction=0)]) for piece in pieces])


def _thumbnails(video: Video, indices: list[int]) -> Float[Tensor, "T F"]:
    """Frames of S by S pixels, brightness 0 to 1, one row for each index."""
    wanted, place = np.unique(indices, return_inverse=True)
    pixels = video.read(wanted.tolist(), 2 * THUMBNAIL).pixels
    small = F.interpolate(pixels.float() / 255, (THUMBNAIL, THUMBNAIL), mode="area")
    return small.flatten(1)[torch.from_numpy(place)]


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


def _parts(parts: int) -> str:
    return "whole recording" if parts == 1 else f"{parts} parts"


def _array(tensor: Tensor) -> Float32[np.ndarray, "..."]:
    return tensor.numpy().astype(np.float32)
