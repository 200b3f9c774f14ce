"""Which frames of a video are read: pure arithmetic on the number of frames, with the dice passed in.

Frames count from 0. Where a rule comes from code that counts from 1, the frames meant are the same.
"""

from collections.abc import Sequence
from typing import Literal

import torch

from muybridge.core.contracts import ClipInput

Mode = Literal["segments", "dense", "clips"]

DENSE_SPAN = 64
"""Frames that a dense window reaches over."""


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
            window of 64 frames (I3D); "clips" takes consecutive frames, 25 clips to a video in the paper (VideoLSTM).
        rng: the dice of a training sample; None takes the fixed frames of testing.
        view, views: which of how many inputs that testing takes from one video.
        stride: from one frame of a window, or clip, to its next; the published systems have consecutive frames, 1.
    """
    segments, length = takes.segments, takes.frames_per_segment
    if mode == "dense":
        return window_indices(dense_starts(frames, segments, rng, view, views), length, frames, stride)
    if mode == "clips":
        whole = segments * length
        starts = clip_starts(frames, window_span(whole, stride), views, rng)[view : view + 1]
        return window_indices(starts, whole, frames, stride)
    return window_indices(
        window_starts(frames, segments, window_span(length, stride), rng, view, views), length, frames, stride
    )


def window_span(length: int, stride: int) -> int:
    """Frames of the video from the first to the last of a window."""
    return (length - 1) * stride + 1


def window_indices(starts: Sequence[int], length: int, frames: int, stride: int = 1) -> list[int]:
    """``length`` frames from each start; past the end of the video its last frame repeats."""
    return [min(start + step * stride, frames - 1) for start in starts for step in range(length)]


def window_starts(
    frames: int,
    segments: int,
    length: int = 1,
    rng: torch.Generator | None = None,
    view: int = 0,
    views: int = 1,
) -> list[int]:
    """Where the window of ``length`` frames in each of ``segments`` equal pieces of a video starts.

    With dice: anywhere in the piece; in a video too short for pieces, sorted starts anywhere; in one of no more
    frames than segments, the first frame. Without: the middle of the piece, and the first frame for all in a video
    of no more frames than pieces and window together (the rule of the published lists, also where one could do better).
    Of several views, each takes its own place in the pieces.

    Source: TSN's sampling as TSM and SELFY (length 1) and TDN (length 5) have it.
    """
    room = frames - length + 1
    if rng is not None:
        piece = room // segments
        if piece > 0:
            return [k * piece + jitter for k, jitter in enumerate(_throw(piece, segments, rng))]
        return sorted(_throw(max(1, room), segments, rng)) if frames > segments else [0] * segments
    if frames <= segments + length - 1:
        return [0] * segments
    tick = room / segments
    return [int(tick * (view + 0.5) / views + tick * k) for k in range(segments)]


def dense_starts(
    frames: int, segments: int, rng: torch.Generator | None = None, view: int = 0, views: int = 1
) -> list[int]:
    """One frame every ``64 // segments``, from a random place, or from one of ``views`` evenly spaced ones.

    A video shorter than the window starts again at its first frame. A single fixed view lies in the middle.

    Source: TSM's dense sampling, which SELFY takes for Kinetics with 10 views.
    """
    stride, last = max(1, DENSE_SPAN // segments), max(0, frames - DENSE_SPAN)
    if rng is not None:
        start = _throw(max(1, last), 1, rng)[0]
    else:
        start = last * view // (views - 1) if views > 1 else last // 2
    return [(start + stride * k) % frames for k in range(segments)]


def clip_starts(frames: int, length: int, clips: int, rng: torch.Generator | None = None) -> list[int]:
    """Where clips of ``length`` consecutive frames start: anywhere with dice, else evenly spaced.

    Source: the authors' code of VideoLSTM, 25 clips of 30 frames; its training draws one.
    """
    room = frames - length + 1
    if rng is not None:
        return _throw(max(1, room), clips, rng)
    stride = max(0, room) // clips
    return [int(stride / 2 + stride * clip) for clip in range(clips)]


def _throw(sides: int, times: int, rng: torch.Generator) -> list[int]:
    return torch.randint(sides, (times,), generator=rng).tolist()
