"""What the moving shapes look like: textured shapes and backgrounds, drawn into frames.

Legend: H and W pixels of a frame, N cells of a shape's table, M cells of a background. Colors are red, green, blue from
0 to 1. Lengths inside a shape are in its radii; angles are in radians, clockwise as seen on the screen (y points down).
"""

import colorsys
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

_CELLS = 192
_EXTENT = 1.35  # half the side of a shape's table, in radii; the shadow ends there
_OUTLINE = 0.09
_TEXELS = 3  # background cells per pixel, so that a slow drift is smooth


def _ring(radii: Sequence[float], begin: float = -math.pi / 2) -> Float[np.ndarray, "V 2"]:
    """Corners around the center, at these distances from it and equal angles from each other."""
    angles = begin + 2 * math.pi * np.arange(len(radii)) / len(radii)
    return np.asarray(radii)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


_ARM = 0.36
_PLUS = [(_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM), (_ARM, 1)]
SHAPES: dict[str, Float[np.ndarray, "V 2"]] = {
    "disc": _ring([1.0] * 48),
    "triangle": _ring([1.0] * 3),
    "square": _ring([1.0] * 4, begin=math.pi / 4),
    "hexagon": _ring([1.0] * 6),
    "star": _ring([1.0, 0.48] * 5),
    "plus": 0.94 * np.array(_PLUS + [(-x, -y) for x, y in _PLUS]),
    "gem": _ring([1.0, 0.5] * 4),
}
TEXTURES = ("stripes", "checks", "dots", "wedges", "marble")


@dataclass(frozen=True, slots=True)
class Sprite:
    """A textured shape as tables over the square from -1.35 to 1.35 radii.

    Attributes:
        color: of each cell, outline included.
        distance: to the edge in radii, negative inside.
        shade: share of the light that the shadow around the shape removes.
    """

    color: Float[np.ndarray, "N N 3"]
    distance: Float[np.ndarray, "N N"]
    shade: Float[np.ndarray, "N N"]

    def draw(
        self, frame: Float[np.ndarray, "H W 3"], x: float, y: float, radius: float, angle: float
    ) -> Bool[np.ndarray, "H W"]:
        """Draws the shape over a frame, in place.

        Args:
            frame: the image so far.
            x, y: the center in pixels from the upper left corner of the frame.
            radius: in pixels.
            angle: by which the shape is rotated clockwise.

        Returns:
            The pixels of which the shape covers half or more.
        """
        height, width, _ = frame.shape
        covered = np.zeros((height, width), dtype=bool)
        extent = radius * _EXTENT
        top, bottom = (min(max(round(y + offset), 0), height) for offset in (-extent, extent))
        left, right = (min(max(round(x + offset), 0), width) for offset in (-extent, extent))
        if top == bottom or left == right:
            return covered
        scale = _CELLS / (2 * extent)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        across, down = np.arange(left, right) + (0.5 - x), (np.arange(top, bottom) + (0.5 - y))[:, None]
        column = (cos * across + sin * down + _CELLS / 2).astype(np.intp)
        row = (cos * down - sin * across + _CELLS / 2).astype(np.intp)
        # Corners of the crop lie outside the table, whose rim is empty.
        cell = np.clip(row, 0, _CELLS - 1) * _CELLS + np.clip(column, 0, _CELLS - 1)
        cover = np.clip(0.5 - radius * self.distance.ravel()[cell], 0, 1)[..., None]
        window = frame[top:bottom, left:right]
        window *= (1 - cover) * (1 - self.shade.ravel()[cell][..., None])
        window += cover * self.color.reshape(-1, 3)[cell]
        covered[top:bottom, left:right] = cover[..., 0] >= 0.5
        return covered


def make_sprite(rng: np.random.Generator, avoid_hue: float) -> Sprite:
    """A random shape with a random texture in two saturated colors.

    Args:
        rng: random generator.
        avoid_hue: a hue (0 to 1) that the colors differ from.
    """
    corners = SHAPES[str(rng.choice(list(SHAPES)))]
    axis = (np.arange(_CELLS) + 0.5) * (2 * _EXTENT / _CELLS) - _EXTENT
    x, y = np.meshgrid(axis, axis)
    distance = _distance(x, y, corners)
    hue = avoid_hue + rng.uniform(0.25, 0.75)
    main = _rgb(hue, rng.uniform(0.75, 0.95), rng.uniform(0.85, 1.0))
    second = _rgb(hue + rng.uniform(-0.15, 0.15), rng.uniform(0.1, 0.9), rng.choice([0.25, 1.0]))
    mix = _texture(rng, x, y)[..., None]
    color = main + mix * (second - main)
    line = np.clip((distance + _OUTLINE) / 0.03, 0, 1)[..., None]
    color += line * (0.12 * main - color)
    shade = 0.5 * np.clip(1 - np.maximum(distance, 0) / (_EXTENT - 1), 0, 1) ** 2
    return Sprite(*(table.astype(np.float32) for table in (color, distance, shade)))


def _distance(
    x: Float[np.ndarray, "N N"], y: Float[np.ndarray, "N N"], corners: Float[np.ndarray, "V 2"]
) -> Float[np.ndarray, "N N"]:
    """From each cell to the nearest edge of a polygon, negative inside it."""
    nearest, inside = np.full_like(x, np.inf), np.zeros_like(x, dtype=bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along_x, along_y = bx - ax, by - ay
        share = ((x - ax) * along_x + (y - ay) * along_y) / (along_x**2 + along_y**2)
        share = np.clip(share, 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - ax - share * along_x, y - ay - share * along_y))
        # A ray to the right of a cell crosses this edge.
        if along_y:
            inside ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) * along_x / along_y)
    return np.where(inside, -nearest, nearest)


def _texture(
    rng: np.random.Generator, x: Float[np.ndarray, "N N"], y: Float[np.ndarray, "N N"]
) -> Float[np.ndarray, "N N"]:
    """The share of the second color; no texture is symmetric under rotation, so that rotation is visible."""
    frequency = rng.uniform(4.5, 8.0)
    x, y = x + rng.uniform(0.15, 0.5), y + rng.uniform(0.15, 0.5)
    match str(rng.choice(TEXTURES)):
        case "stripes":
            wave = np.sin(frequency * 1.3 * x + 0.6 * np.sin(2 * y))
        case "checks":
            wave = np.sin(frequency * x) * np.sin(frequency * y) * 2
        case "dots":
            wave = np.cos(frequency * x) + np.cos(frequency * y) - 0.7
        case "wedges":
            wave = np.sin(rng.integers(2, 5) * np.arctan2(y, x))
        case _:
            wave = np.sin(frequency * (x + 0.35 * np.sin(1.7 * y + 1) + 0.25 * np.sin(2.9 * y * x)))
    return np.clip(0.5 + 2.5 * wave, 0, 1)


@dataclass(frozen=True, slots=True)
class Background:
    """A periodic image of three cells a pixel: its right and lower edges continue at the left and upper."""

    cells: Float[np.ndarray, "M M 3"]

    def view(self, x: float, y: float, height: int, width: int) -> Float[np.ndarray, "H W 3"]:
        """The frame whose upper left corner lies at these pixels of the background."""
        size = len(self.cells)
        rows, columns = (
            np.floor(_TEXELS * (begin + np.arange(count))).astype(np.intp) % size
            for begin, count in ((y, height), (x, width))
        )
        return self.cells[rows[:, None], columns]


def make_background(rng: np.random.Generator, side: int, hue: float) -> Background:
    """Random clouds, grain or marble in muted colors.

    Args:
        rng: random generator.
        side: the shorter side of the frames, which sets how coarse it is.
        hue: of the main color (0 to 1).
    """
    size = round(1.6 * _TEXELS * side)
    cycles = np.fft.fftfreq(size, 1 / size)
    stretch = rng.uniform(1.0, 3.0)
    across, down = (cycles * stretch, cycles) if rng.random() < 0.5 else (cycles, cycles * stretch)
    radius = np.hypot(across[None, : size // 2 + 1], down[:, None])
    power = np.where(radius > 2, np.maximum(radius, 1) ** -rng.uniform(1.4, 2.0), 0) * np.exp(-((radius / 16) ** 2))
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((size, size))) * power, s=(size, size))
    field /= field.std()
    if rng.random() < 0.5:
        field = 1.6 * np.sin(rng.uniform(1.5, 2.5) * field)
    level = np.clip(0.5 + 0.3 * field, 0, 1)
    stops = [
        _rgb(hue + rng.uniform(-0.08, 0.08), rng.uniform(0.2, 0.5), value + rng.uniform(-0.06, 0.06))
        for value in (0.22, 0.45, 0.72)
    ]
    cells = [np.interp(level, (0, 0.5, 1), band) for band in np.transpose(stops)]
    return Background(np.stack(cells, axis=-1).astype(np.float32))


def _rgb(hue: float, saturation: float, value: float) -> Float[np.ndarray, " 3"]:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))
