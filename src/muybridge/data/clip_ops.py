"""From decoded frames to the input of a network: resize, crop, mirror, change colors, normalize; sampled once per clip.

Legend: T frames, C channels, H and W pixels (h and w after), S side of the crop, V views.
"""

import math
from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float, Float32, Shaped, UInt8
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor

from muybridge.core.contracts import ClipInput
from muybridge.core.types import Clip
from muybridge.media.flow import mirror_flow, to_pixels

Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""

Crops = Literal["center", "three", "ten"]

Stream = Literal["video", "flow"]
"""An input of a clip: its frames, or the optical flow from each frame to the next."""

STREAMS: tuple[Stream, ...] = ("video", "flow")

Frames = Shaped[Tensor, "T C H W"]
Resized = Shaped[Tensor, "T C h w"]

LUMA = (0.299, 0.587, 0.114)


class CropConfig(BaseModel):
    """How frames are resized and cropped in testing.

    Attributes:
        short_side: the shorter side in pixels; 0 takes 8/7 of the crop size, 256 for 224.
        resize: height and width regardless of the aspect ratio, in place of ``short_side``: SELFY's (240, 320), or the
            size of the crop, into which whole frames are then resized.
        crops: the center; three along the longer side; or ten, the corners and the center, each also mirrored (if
            mirroring changes no label).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    short_side: int = Field(default=0, ge=0)
    resize: tuple[PositiveInt, PositiveInt] | None = None
    crops: Crops = "center"


class ClipAugment(BaseModel):
    """Random augmentation of training clips; each change is sampled once for all frames of a clip.

    Attributes:
        crop: "multi_scale" takes a corner, edge, quarter or center crop at one of ``scales`` (TSN and its successors);
            "random_resized" any crop of ``area`` and ``aspect_ratio``; "random" any crop of the final size after
            :class:`CropConfig`; "center" none but the center.
        short_side: the shorter side that larger frames are decoded at; 0 takes 8/7 of the crop, 256 for 224.
        resize: frames are first resized to this height and width regardless of the aspect ratio; None keeps their size.
        scales: sides of multi-scale crops, as shares of the shorter side.
        max_distort: how far apart in ``scales`` the two sides of a crop may be.
        area: of random resized crops, smallest and largest, as shares of the frame.
        aspect_ratio: of random resized crops, smallest and largest, width over height.
        flip: probability of mirroring a clip.
        flip_labels: what happens to clips whose label mirroring changes: "swap" gives them the new label (TDN), "skip"
            never mirrors them (SELFY).
        brightness, contrast, saturation: largest change, as a share.
        hue: largest rotation of the hue, as a share of the color circle.
        grayscale: probability of removing all color.
        temporal_crop: the smallest share of the video that frames are chosen from, at a random place in it.
        reverse: how often a clip is played backwards, with the label of that; where the data set says which it is.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    crop: Literal["multi_scale", "random_resized", "random", "center"] = "multi_scale"
    short_side: int = Field(default=0, ge=0)
    resize: tuple[PositiveInt, PositiveInt] | None = None
    scales: tuple[PositiveFloat, ...] = Field(default=(1.0, 0.875, 0.75, 0.66), min_length=1)
    max_distort: int = Field(default=1, ge=0)
    area: tuple[PositiveFloat, PositiveFloat] = (0.08, 1.0)
    aspect_ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    flip: float = Field(default=0.5, ge=0, le=1)
    flip_labels: Literal["swap", "skip"] = "swap"
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, le=1)
    saturation: float = Field(default=0.0, ge=0, le=1)
    hue: float = Field(default=0.0, ge=0, le=0.5)
    grayscale: float = Field(default=0.0, ge=0, le=1)
    temporal_crop: float = Field(default=1.0, gt=0, le=1)
    reverse: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _in_order(self) -> "ClipAugment":
        for setting in ("area", "aspect_ratio"):
            low, high = getattr(self, setting)
            if low > high:
                raise ValueError(f"{setting} needs the smaller number first, and {low} > {high}")
        if max(*self.scales, self.area[1]) > 1:
            raise ValueError("scales and area are shares of the frame, 1 at most")
        return self

    @property
    def changes_pixels(self) -> bool:
        """Whether it changes more than which frames are read."""
        colors = self.brightness or self.contrast or self.saturation or self.hue or self.grayscale
        return bool(self.crop != "center" or self.flip or colors or self.reverse)


DEFAULT_CROP = CropConfig()


def augment_clips(
    clips: Mapping[Stream, Clip],
    label: int,
    augment: ClipAugment,
    takes: ClipInput,
    mirror: Mapping[int, int] | None,
    rng: torch.Generator,
    reverse: Mapping[int, int] | None = None,
) -> tuple[dict[Stream, Float32[Tensor, "T _ S S"]], int]:
    """The frames and the flow of a training clip, cropped and perhaps mirrored alike, and normalized; and its label.

    Args:
        clips: decoded frames, flow, or both, of one size.
        label: class index.
        augment: the random changes.
        takes: the size and the normalization.
        mirror: new label of each label that a mirror changes; None where mirroring is forbidden.
        rng: random generator of this sample.
        reverse: new label of each label that playing backwards changes; None where that is forbidden.
    """
    streams: dict[Stream, Tensor] = {name: clip.pixels for name, clip in clips.items()}
    if augment.resize is not None:
        streams = {name: resize(frames, *augment.resize) for name, frames in streams.items()}
    if augment.crop == "random":
        streams = {name: resize_short(frames, eval_short_side(takes.size)) for name, frames in streams.items()}
    ((height, width),) = {frames.shape[2:] for frames in streams.values()}
    box = sample_box(height, width, takes.size, augment, rng)
    streams = {name: resize(crop_frames(frames, box), takes.size, takes.size) for name, frames in streams.items()}
    if _random(rng) < augment.flip and mirror is not None:
        swapped = mirror.get(label, label)
        if swapped == label or augment.flip_labels == "swap":
            streams, label = {name: mirror_frames(frames, name) for name, frames in streams.items()}, swapped
    if augment.reverse and reverse is not None and _random(rng) < augment.reverse:
        streams, label = {name: frames.flip(0) for name, frames in streams.items()}, reverse.get(label, label)
    color_transform = _sample_color_transform(streams["video"], augment, rng) if "video" in streams else None
    if color_transform is not None:
        streams["video"] = adjust_color(streams["video"], *color_transform)
    return {name: normalize(frames, takes, name) for name, frames in streams.items()}, label


def prepare_clip(
    clip: Clip, takes: ClipInput, crop_config: CropConfig = DEFAULT_CROP, stream: Stream = "video"
) -> Float32[Tensor, "T C S S"]:
    """A clip as testing and predicting use it: resized, its first crop (the center, if one), normalized."""
    return prepare_views(clip, takes, crop_config, stream)[0]


def prepare_views(
    clip: Clip, takes: ClipInput, crop_config: CropConfig = DEFAULT_CROP, stream: Stream = "video"
) -> Float32[Tensor, "V T C S S"]:
    """All test crops of a clip of frames or of flow, normalized; scores are averaged over them."""
    if crop_config.resize is not None:
        frames = resize(clip.pixels, *crop_config.resize)
    else:
        frames = resize_short(clip.pixels, crop_config.short_side or eval_short_side(takes.size))
    if min(frames.shape[2:]) < takes.size:
        frames = resize_short(frames, takes.size)
    crops = [
        crop_frames(frames, box) for box in crop_boxes(frames.shape[2], frames.shape[3], takes.size, crop_config.crops)
    ]
    if crop_config.crops == "ten":
        crops += [mirror_frames(crop, stream) for crop in crops]
    return torch.stack([normalize(crop, takes, stream) for crop in crops])


def eval_short_side(size: int) -> int:
    """The shorter side from which a test crop is cut, 256 pixels for 224; reading need not decode at more."""
    return round(size * 256 / 224)


def resize(frames: Frames, height: int, width: int) -> Resized:
    """Frames at exactly this size; bilinear, averaged over all pixels that fall into one, as Pillow does."""
    if frames.shape[2:] == (height, width):
        return frames
    return F.interpolate(frames, size=(height, width), mode="bilinear", antialias=True)


def resize_short(frames: Frames, short_side: int) -> Resized:
    """Frames whose shorter side is ``short_side``, larger or smaller than before, at the same aspect."""
    height, width = frames.shape[2:]
    scale = short_side / min(height, width)
    return resize(frames, round(height * scale), round(width * scale))


def crop_frames(frames: Frames, box: Box) -> Resized:
    """The part of each frame inside the box; shares memory."""
    top, left, height, width = box
    return frames[:, :, top : top + height, left : left + width]


def mirror_frames(frames: Frames, stream: Stream) -> Frames:
    """Frames with left and right exchanged; horizontal flow also changes its sign."""
    return mirror_flow(frames) if stream == "flow" else frames.flip(-1)


def sample_box(height: int, width: int, size: int, augment: ClipAugment, rng: torch.Generator) -> Box:
    """The crop box of a training clip of this height and width, before it is resized to ``size``."""
    if augment.crop == "multi_scale":
        return _multi_scale_box(height, width, size, augment, rng)
    if augment.crop == "random_resized":
        return _random_resized_box(height, width, augment, rng)
    if augment.crop == "random":
        return _random_index(height - size + 1, rng), _random_index(width - size + 1, rng), size, size
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def fixed_offsets(height: int, width: int, box_height: int, box_width: int) -> list[tuple[int, int]]:
    """The 13 places (top, left) of multi-scale crops: corners, center, middles of the edges, and the quarters."""
    down, across = (height - box_height) // 4, (width - box_width) // 4
    fours = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)]
    return [(down * row, across * column) for row, column in fours]


def _multi_scale_box(height: int, width: int, size: int, augment: ClipAugment, rng: torch.Generator) -> Box:
    """TSN's crop; sides within 2 pixels of the final size are taken at it, so that nothing is resized."""
    sides = [int(min(height, width) * scale) for scale in augment.scales]
    sides = [size if abs(side - size) < 3 and size <= min(height, width) else side for side in sides]
    steps = range(len(sides))
    pairs = [(sides[i], sides[j]) for i in steps for j in steps if abs(i - j) <= augment.max_distort]
    box_height, box_width = pairs[_random_index(len(pairs), rng)]
    offsets = fixed_offsets(height, width, box_height, box_width)
    return (*offsets[_random_index(len(offsets), rng)], box_height, box_width)


def _random_resized_box(height: int, width: int, augment: ClipAugment, rng: torch.Generator) -> Box:
    """A crop of random area and aspect (the aspect sampled on a logarithmic scale), limited to the frame."""
    area = _uniform(*augment.area, rng) * height * width
    aspect = math.exp(_uniform(math.log(augment.aspect_ratio[0]), math.log(augment.aspect_ratio[1]), rng))
    box_height = min(height, max(1, round(math.sqrt(area / aspect))))
    box_width = min(width, max(1, round(math.sqrt(area * aspect))))
    return _random_index(height - box_height + 1, rng), _random_index(width - box_width + 1, rng), box_height, box_width


def crop_boxes(height: int, width: int, size: int, crops: Crops) -> list[Box]:
    """Where a test clip is cut: the center; three along the longer side; or the corners and the center."""
    down, across = height - size, width - size
    if crops == "center":
        corners = [(down // 2, across // 2)]
    elif crops == "three" and width >= height:
        corners = [(down // 2, across // 2), (down // 2, 0), (down // 2, across)]
    elif crops == "three":
        corners = [(down // 2, across // 2), (0, across // 2), (down, across // 2)]
    else:
        corners = [(down // 2, across // 2), (0, 0), (0, across), (down, 0), (down, across)]
    return [(top, left, size, size) for top, left in corners]


def adjust_color(
    frames: UInt8[Tensor, "T C H W"], matrix: Float[Tensor, "C C"], shift: Float[Tensor, " C"]
) -> Float32[Tensor, "T C H W"]:
    """Colors of 0..255 under an affine map of the 0..1 scale, clipped to 0..1."""
    return F.conv2d(frames.float(), rearrange(matrix, "o c -> o c 1 1") / 255, shift).clamp_(0, 1)


def normalize(frames: Frames, takes: ClipInput, stream: Stream = "video") -> Float32[Tensor, "T C H W"]:
    """Frames (bytes, or floats of 0..1) less the mean, over the standard deviation, channels-last in memory.

    Frames of another number of channels than the statistics have take their average, as gray has in color. The bytes
    of flow become bounds, -1 to 1.
    """
    if stream == "flow":
        return to_pixels(frames, bound=1.0)
    channels, width = frames.shape[1], frames.shape[3]
    mean, std = torch.tensor(takes.mean), torch.tensor(takes.std)
    if len(mean) != channels:
        mean, std = mean.mean().expand(channels), std.mean().expand(channels)
    unit = 255.0 if frames.dtype == torch.uint8 else 1.0
    # Whole rows at once: broadcasting over the innermost axis of three channels is several times slower.
    rows = rearrange(frames, "t c h w -> t h (w c)").to(torch.float32, copy=True)
    rows.mul_(repeat(1 / (unit * std), "c -> (w c)", w=width)).sub_(repeat(mean / std, "c -> (w c)", w=width))
    return rearrange(rows, "t h (w c) -> t c h w", c=channels)


def _sample_color_transform(
    frames: UInt8[Tensor, "T C H W"], augment: ClipAugment, rng: torch.Generator
) -> tuple[Float[Tensor, "C C"], Float[Tensor, " C"]] | None:
    """Brightness, contrast, saturation and hue as one affine map of colors; None where nothing changes.

    Contrast scales about the mean brightness of the clip, saturation about each pixel's brightness; hue rotates about
    the gray axis of YIQ.
    """
    brightness, contrast, saturation = (
        _uniform(1 - change, 1 + change, rng) for change in (augment.brightness, augment.contrast, augment.saturation)
    )
    angle = 2 * math.pi * _uniform(-augment.hue, augment.hue, rng)
    saturation = 0.0 if _random(rng) < augment.grayscale else saturation
    if (brightness, contrast, saturation, angle) == (1.0, 1.0, 1.0, 0.0):
        return None
    channels = frames.shape[1]
    matrix = brightness * torch.eye(channels)
    luma = torch.tensor(LUMA) if channels == 3 else torch.full((channels,), 1 / channels)
    if channels == 3:
        matrix = _hue_rotation(angle) @ (saturation * torch.eye(3) + (1 - saturation) * luma.expand(3, 3)) @ matrix
    level = brightness * float(luma @ frames[:, :, ::4, ::4].float().mean((0, 2, 3))) / 255
    return contrast * matrix, torch.full((channels,), (1 - contrast) * level)


def _hue_rotation(angle: float) -> Float[Tensor, "3 3"]:
    yiq = torch.tensor([LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.linalg.inv(yiq) @ torch.tensor([(1.0, 0.0, 0.0), (0.0, cos, -sin), (0.0, sin, cos)]) @ yiq


def _random(rng: torch.Generator) -> float:
    return float(torch.rand((), generator=rng))


def _uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * _random(rng)


def _random_index(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=rng))
