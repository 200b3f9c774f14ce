"""Which frames of a video are read: arithmetic on the number of frames; random generators are passed in.

Frames are numbered from 0. Rules that come from code that numbers from 1 give the same frames.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from muybridge.core.contracts import ClipInput

Mode = Literal["segments", "dense", "clips", "uniform", "windows"]

DENSE_SPAN = 64
"""Length of a dense window in frames."""


def sample_indices(
    frames: int,
    takes: ClipInput,
    mode: Mode = "segments",
    rng: torch.Generator | None = None,
    view: int = 0,
    views: int = 1,
    stride: int = 1,
) -> list[int]:
    """The frames that make up one input of a model, segment-major.

    Args:
        frames: of the video.
        takes: how many segments of how many frames.
        mode: "segments" cuts the whole video into pieces (TSN, TSM, SELFY, TDN); "dense" spreads the segments over a
            window of 64 frames (I3D); "clips" takes consecutive frames, 25 clips to a video in the paper (VideoLSTM);
            "uniform" spreads all frames evenly over the whole video, however short or long it is; "windows" spreads the
            windows of consecutive frames instead, which overlap in a short one (dRNN on video).
        rng: of a training sample; None gives the fixed frames of testing.
        view, views: which input of how many that testing takes from one video.
        stride: from each frame of a window or clip to the next; 1, consecutive frames, in the published systems.
    """
    segments, length = takes.segments, takes.frames_per_segment
    if mode == "dense":
        return window_indices(dense_starts(frames, segments, rng, view, views), length, frames, stride)
    if mode == "uniform":
        return uniform_indices(frames, segments * length, rng, view, views)
    if mode == "windows":
        starts = uniform_indices(max(1, frames - window_span(length, stride) + 1), segments, rng, view, views)
        return window_indices(starts, length, frames, stride)
    if mode == "clips":
        total = segments * length
        starts = clip_starts(frames, window_span(total, stride), views, rng)[view : view + 1]
        return window_indices(starts, total, frames, stride)
    return window_indices(
        window_starts(frames, segments, window_span(length, stride), rng, view, views), length, frames, stride
    )


def window_span(length: int, stride: int) -> int:
    """Frames of the video from the first to the last of a window, both included."""
    return (length - 1) * stride + 1


def window_indices(starts: Sequence[int], length: int, frames: int, stride: int = 1) -> list[int]:
    """``length`` frames from each start; past the end of the video its last frame is repeated."""
    return [min(start + step * stride, frames - 1) for start in starts for step in range(length)]


def window_starts(
    frames: int,
    segments: int,
    length: int = 1,
    rng: torch.Generator | None = None,
    view: int = 0,
    views: int = 1,
) -> list[int]:
    """First frames of the windows of ``length`` frames in each of ``segments`` equal segments of a video.

    With a generator: anywhere in the segment; in a video too short for segments, sorted random starts; in a video of no
    more frames than segments, the first frame. Without: the middle of the segment, and frame 0 for all segments of a
    video with less than ``segments + length`` frames (the published rule, although better ones are possible). Several
    views are evenly spaced in each segment.

    Source: TSN's sampling as in TSM and SELFY (length 1) and TDN (length 5).
    """
    starts = frames - length + 1
    if rng is not None:
        segment = starts // segments
        if segment > 0:
            return [k * segment + offset for k, offset in enumerate(_randint(segment, segments, rng))]
        return sorted(_randint(max(1, starts), segments, rng)) if frames > segments else [0] * segments
    if frames < segments + length:
        return [0] * segments
    tick = starts / segments
    return [int(tick * (view + 0.5) / views + tick * k) for k in range(segments)]


def dense_starts(
    frames: int, segments: int, rng: torch.Generator | None = None, view: int = 0, views: int = 1
) -> list[int]:
    """Every ``64 // segments``-th frame from a random start, or from one of ``views`` evenly spaced starts.

    A video shorter than the window is repeated from its first frame. A single fixed view is in the middle.

    Source: TSM's dense sampling, which SELFY uses for Kinetics with 10 views.
    """
    stride, last = max(1, DENSE_SPAN // segments), max(0, frames - DENSE_SPAN)
    if rng is not None:
        start = _randint(max(1, last), 1, rng)[0]
    else:
        start = last * view // (views - 1) if views > 1 else last // 2
    return [(start + stride * k) % frames for k in range(segments)]


def uniform_indices(
    frames: int, count: int, rng: torch.Generator | None = None, view: int = 0, views: int = 1
) -> list[int]:
    """One frame from each of ``count`` equal parts of a video; frames of a shorter video are repeated.

    With a generator anywhere in each part, otherwise its middle; several views are evenly spaced in each part.

    Source: uniform sampling as in PoseC3D (Duan et al., CVPR 2022).
    """
    if rng is None:
        return [(2 * (part * views + view) + 1) * frames // (2 * views * count) for part in range(count)]
    places = torch.arange(count) + torch.rand(count, generator=rng, dtype=torch.float64)
    return (places * frames / count).long().clamp(max=frames - 1).tolist()


def clip_starts(frames: int, length: int, clips: int, rng: torch.Generator | None = None) -> list[int]:
    """First frames of clips of ``length`` consecutive frames: random with a generator, otherwise evenly spaced.

    Source: the authors' code of VideoLSTM, 25 clips of 30 frames; training draws one.
    """
    starts = frames - length + 1
    if rng is not None:
        return _randint(max(1, starts), clips, rng)
    stride = max(0, starts) // clips
    return [int(stride / 2 + stride * clip) for clip in range(clips)]


def _randint(high: int, count: int, rng: torch.Generator) -> list[int]:
    return torch.randint(high, (count,), generator=rng).tolist()
