"""Windows that slide over a recording, and the frames of each; every frame of a video is decoded once.

Legend: T frames.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from muybridge.core.types import Clip, SkeletonSequence
from muybridge.data.decoded import DecodedVideo
from muybridge.media.video import Video


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a recording.

    Attributes:
        start, stop: in seconds.
        first, end: numbers of its first frame and of the one after its last.
    """

    start: float
    stop: float
    first: int
    end: int


def slide(seconds: Float64[np.ndarray, " T"], duration: float, window: float, hop: float) -> list[Window]:
    """Windows every ``hop`` seconds; the last one ends with the recording, and a short recording is one window.

    Args:
        seconds: when each frame is shown.
        duration: of the recording in seconds.
        window, hop: in seconds.
    """
    last = max(0.0, duration - window)
    starts = np.arange(0, last + 1e-9, hop)
    if last - starts[-1] > 1e-6:
        starts = np.append(starts, last)
    windows = []
    for start in starts.tolist():
        stop = min(start + window, duration)
        first = min(int(np.searchsorted(seconds, start - 1e-9)), len(seconds) - 1)
        end = max(first + 1, int(np.searchsorted(seconds, stop - 1e-9)))
        windows.append(Window(start, stop, first, end))
    return windows


def cut_skeletons(sequence: SkeletonSequence, windows: list[Window]) -> Iterator[SkeletonSequence]:
    """The frames of each window."""
    for window in windows:
        span = slice(window.first, window.end)
        yield sequence.take_frames(span)


def cut_video(video: Video, windows: list[Window]) -> Iterator[Video]:
    """Each window as a video of its own, which decodes what is read of it; for models that take optical flow."""
    for window in windows:
        yield video.slice_frames(window.first, max(window.end, min(window.first + 2, len(video))))


def cut_decoded(video: Video, windows: list[Window], short_side: int) -> Iterator[DecodedVideo]:
    """The frames of each window, decoded in order of time; only those of one window are kept in memory.

    Args:
        video: the recording.
        windows: in order of time.
        short_side: at which frames are read.
    """
    kept, first = video.read([windows[0].first], short_side), windows[0].first
    for window in windows:
        have = first + len(kept.pixels)
        drop = min(window.first, have) - first
        pixels, seconds = kept.pixels[drop:], kept.seconds[drop:]
        first += drop
        if window.end > have:
            start = max(have, window.first)
            new = video.read(range(start, window.end), short_side)
            if start > have or not len(pixels):
                pixels, seconds, first = new.pixels, new.seconds, start
            else:
                pixels, seconds = torch.cat([pixels, new.pixels]), torch.cat([seconds, new.seconds])
        kept = Clip(pixels, seconds)
        count = window.end - window.first
        yield DecodedVideo(video.path, short_side, Clip(kept.pixels[:count], kept.seconds[:count]))
