"""What a model takes and what a data set holds; the data layer prepares exactly the one from the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from muybridge.core.skeletons import Layout

Center = Literal["none", "first", "frame", "people"]


@dataclass(frozen=True, slots=True)
class SkeletonData:
    """A data set holds skeletons.

    Attributes:
        layout: names, bones and mirror pairs of the joints.
        people: people per recording (the reader pads with absent ones).
        coordinates: 2 or 3.
    """

    layout: Layout
    people: int = 1
    coordinates: int = 3


@dataclass(frozen=True, slots=True)
class ClipData:
    """A data set holds videos of ``channels`` channels (3 RGB, 1 grey or depth)."""

    channels: int = 3


Holds = SkeletonData | ClipData


@dataclass(frozen=True, slots=True)
class SkeletonInput:
    """A model takes ``joints`` (``B T P J D`` float32) and ``length`` (``B`` int64: valid frames, zero padding after).

    Attributes:
        smooth: 5-point Savitzky-Golay filter along time, (-3, 12, 17, 12, -3) / 35.
        center: subtract the main person's center in the first frame, in every frame, the middle between all people's
            centers in the first frame, or leave the origin alone.
        face_camera: rotate about the vertical so that the shoulders of the first frame lie along x.
        face_partner: rotate about the vertical so that the second person stands along +x from the first in the first
            frame that shows both; where no frame does, ``face_camera`` decides.
        unit_scale: divide by the torso length of the recording.
        max_frames: longer recordings are sampled down evenly to this many frames; 0 keeps all.
    """

    smooth: bool = False
    center: Center = "none"
    face_camera: bool = False
    face_partner: bool = False
    unit_scale: bool = False
    max_frames: int = 0


@dataclass(frozen=True, slots=True)
class ClipInput:
    """A model takes ``video`` (``B T C H W`` float32), ``flow`` (``B T 2 H W``), or both, of the same moments.

    T = segments * frames_per_segment, segment-major. Flow is x to the right and y downwards, in bounds: -1 to 1.

    Attributes:
        segments: pieces of equal length a video is cut into.
        frames_per_segment: consecutive frames read from each.
        size: height and width in pixels after cropping.
        mean, std: per channel, on the 0..1 scale.
        pixels: whether the frames are read, as ``video``.
        flow: whether optical flow is read, as ``flow``.
    """

    segments: int
    frames_per_segment: int = 1
    size: int = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    pixels: bool = True
    flow: bool = False


Takes = SkeletonInput | ClipInput


@dataclass(frozen=True, slots=True)
class FrozenPart:
    """A part of a model that looks at each frame by itself and never learns: its answers can be kept on disk.

    Attributes:
        name: of the module.
        input: the argument of ``forward`` whose frames it is asked about.
        output: the argument of ``forward`` that takes its answers in their place.
        settings: the options that decide, beside its weights, what it answers.
    """

    name: str
    input: str
    output: str
    settings: Mapping[str, str | int | bool]
