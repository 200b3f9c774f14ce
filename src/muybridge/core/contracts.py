"""What a model takes and what a data set holds; the data layer converts the second into the first."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from muybridge.core.skeletons import Layout

Center = Literal["none", "first", "frame", "people"]


@dataclass(frozen=True, slots=True)
class SkeletonData:
    """A data set of skeletons.

    Attributes:
        layout: names, bones and mirror pairs of the joints.
        people: people per recording; the reader pads with absent ones.
        coordinates: 2 or 3.
    """

    layout: Layout
    people: int = 1
    coordinates: int = 3


@dataclass(frozen=True, slots=True)
class ClipData:
    """A data set of videos with ``channels`` channels (3 for RGB, 1 for gray or depth)."""

    channels: int = 3


Holds = SkeletonData | ClipData

StatisticsOf = Literal["as recorded", "relative to the body", "frames", "changes", "frames and changes"]
"""What statistics are taken of: the first two of skeletons, the others of videos."""

THUMBNAIL = 16
"""Height and width in pixels to which the frames of a video are reduced before their statistics are taken."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """A whole recording as a vector: mean and standard deviation over each of several equal parts of its time.

    Attributes:
        of: positions of joints and their changes between frames; or thumbnails of frames, changes between consecutive
            ones, or both.
        parts: how many; one part knows no order of events.
    """

    of: StatisticsOf
    parts: int = 1

    @property
    def name(self) -> str:
        """In words."""
        return f"{self.of}, {'whole recording' if self.parts == 1 else f'{self.parts} parts'}"

    @property
    def of_skeletons(self) -> bool:
        """Whether they are taken of skeletons, and not of videos."""
        return self.of in ("as recorded", "relative to the body")

    def size(self, holds: Holds) -> int:
        """How many numbers there are for a recording of a data set."""
        if isinstance(holds, SkeletonData):
            streams, numbers = 2, holds.people * len(holds.layout) * holds.coordinates
        else:
            streams, numbers = (2 if self.of == "frames and changes" else 1), holds.channels * THUMBNAIL**2
        return 2 * self.parts * streams * numbers


@dataclass(frozen=True, slots=True)
class SkeletonInput:
    """A model that takes ``joints`` (``B T P J D`` float32, zero padded) and ``length`` (``B`` int64, valid frames).

    Attributes:
        smooth: 5-point Savitzky-Golay filter along time, (-3, 12, 17, 12, -3) / 35.
        center: what is subtracted: the main person's center in the first frame (``first``) or in each frame
            (``frame``), the midpoint of all people's centers in the first frame (``people``), or nothing (``none``).
        face_camera: rotate about the vertical axis so that the shoulders of the first frame lie along x.
        face_partner: rotate about the vertical axis so that the second person lies along +x from the first in the first
            frame that contains both; if no frame does, ``face_camera`` applies.
        unit_scale: divide by the torso length of the recording.
        max_frames: longer recordings are subsampled evenly to this many frames; 0 disables the limit.
        positions: whether the model takes ``joints`` and ``length``.
        confidence: whether the confidence of each joint follows its coordinates in ``joints``, which then has D + 1.
        statistics: what the model takes as ``statistics`` (``B N`` float32), of the recording without random changes.
    """

    smooth: bool = False
    center: Center = "none"
    face_camera: bool = False
    face_partner: bool = False
    unit_scale: bool = False
    max_frames: int = 0
    positions: bool = True
    confidence: bool = False
    statistics: Statistics | None = None


@dataclass(frozen=True, slots=True)
class ClipInput:
    """A model that takes ``video`` (``B T C H W`` float32), ``flow`` (``B T 2 H W``), or both, of the same frames.

    T = segments * frames_per_segment, segment-major. Flow is x to the right, y downwards, over its bound (-1 to 1).

    Attributes:
        segments: number of parts of equal length into which a video is divided.
        frames_per_segment: consecutive frames read from each segment.
        size: height and width in pixels after cropping.
        mean, std: of each channel, on the 0..1 scale.
        pixels: whether the model takes frames, as ``video``.
        flow: whether the model takes optical flow, as ``flow``.
        flow_bound: the bound that the model needs ``flow`` to be a share of, in pixels of the frames that it takes, as
            it follows points from frame to frame; None takes flow of any bound, between whichever frames.
        statistics: what the model takes as ``statistics`` (``B N`` float32), of the video without random changes.
    """

    segments: int
    frames_per_segment: int = 1
    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    pixels: bool = True
    flow: bool = False
    flow_bound: float | None = None
    statistics: Statistics | None = None


Takes = SkeletonInput | ClipInput


@dataclass(frozen=True, slots=True)
class FrozenPart:
    """A submodule that processes each frame, or window of frames, by itself and is not trained.

    So its features can be cached.

    Attributes:
        name: of the submodule.
        input: the argument of ``forward`` that it processes.
        output: the argument of ``forward`` that takes its features instead.
        settings: the settings on which its features depend, besides its weights.
        window: consecutive frames from which a feature is computed. Given more, the submodule makes one for each window
            in them.
    """

    name: str
    input: str
    output: str
    settings: Mapping[str, str | int | float | bool | tuple[int, ...]]
    window: int = 1
