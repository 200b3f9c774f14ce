"""A whole recording as a vector of statistics, without any learning; baselines and the linear model share it.

Legend: T frames, C channels, H and W pixels, F numbers of a frame, N numbers of the recording.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from muybridge.core.contracts import THUMBNAIL, SkeletonData, SkeletonInput, Statistics, StatisticsOf
from muybridge.core.types import Clip, SkeletonSequence
from muybridge.data.decoded import DecodedVideo
from muybridge.data.skeleton_ops import prepare_skeleton
from muybridge.media.video import Video

MOMENTS = 24
"""Moments of a video, evenly spread, at each of which two consecutive frames are read."""


def skeleton_statistics(sequence: SkeletonSequence, holds: SkeletonData, wanted: Statistics) -> Float[Tensor, " N"]:
    """Statistics of the positions of joints and of their differences between frames."""
    return moving_statistics(joint_positions(sequence, holds, wanted.of), wanted.parts)


def joint_positions(sequence: SkeletonSequence, holds: SkeletonData, of: StatisticsOf) -> Float[Tensor, "T F"]:
    """Positions as they are in the file, or relative to the body.

    The latter are from the body's center in the first frame, turned to the camera or to the partner, in torso lengths.
    """
    if of == "as recorded":
        return prepare_skeleton(sequence, SkeletonInput(), holds).flatten(1).float()
    alone, is_3d = holds.people == 1, holds.coordinates == 3
    body = SkeletonInput(
        center="first" if alone else "people",
        face_camera=alone and is_3d,
        face_partner=not alone and is_3d,
        unit_scale=True,
    )
    return prepare_skeleton(sequence, body, holds).flatten(1).float()


def read_thumbnails(video: Video | DecodedVideo) -> Clip:
    """Small frames, two consecutive ones at each moment; of a video of a single frame, that one twice."""
    last = max(len(video) - 2, 0)
    moments = np.unique(np.linspace(0, last, MOMENTS).round().astype(int))
    pairs = [index for moment in moments for index in (moment, min(moment + 1, len(video) - 1))]
    wanted, place = np.unique(pairs, return_inverse=True)
    clip = video.read(wanted.tolist(), video.short_side if isinstance(video, DecodedVideo) else 2 * THUMBNAIL)
    order = torch.from_numpy(place)
    return Clip(clip.pixels[order], clip.seconds[order])


def thumbnail_streams(pixels: UInt8[Tensor, "T C H W"]) -> Mapping[StatisticsOf, Float[Tensor, "_ F"]]:
    """What statistics of a video may be taken of, from :func:`read_thumbnails`; brightness is 0 to 1."""
    frames = F.interpolate(pixels.float() / 255, (THUMBNAIL, THUMBNAIL), mode="area").flatten(1)
    first, changes = frames[::2], (frames[1::2] - frames[::2]).abs()
    return {"frames": first, "changes": changes, "frames and changes": torch.cat([first, changes], 1)}


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
