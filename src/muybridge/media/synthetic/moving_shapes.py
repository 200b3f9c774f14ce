"""Videos of a textured shape before a textured background, in which only movement distinguishes the classes.

At *every* frame, and whatever the class, the actor's center is uniformly distributed over a disc in the middle of the
frame, its size over one range, and its angle over the full circle, independently. Each movement keeps this so:

- sideways, up and down: along the chord of the disc, beginning again at its other end;
- approaching and receding: through the range of sizes, beginning again at its other end;
- circling: about the center of the disc; turning: about the actor's own;
- bouncing: a ball's parabolas over the lower end of the upright chord. Of a chord of length L they reach the height
  L * Beta(3/2, 1/2), for which a ball seen at a random moment is spread evenly over the chord (Abel's integral);
- shaking: there and back in one cell of a random chord cut into equal cells.

Five classes are the videos of five others played backwards. Background, lighting, camera and the other shapes do not
depend on the class, and every scene has the same actor, background and number of videos for each class.

Legend: T frames, H and W pixels. Boxes are x0, y0, x1, y1 in pixels from the upper left corner.
"""

import math
from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Float32, Float64, UInt8

from muybridge.core.rng import derive_seed
from muybridge.media.synthetic.backgrounds import Background, Sprite, make_background, make_sprite

FPS = 16
REVERSED = {
    "move left": "move right",
    "move up": "move down",
    "recede": "approach",
    "turn counter-clockwise": "turn clockwise",
    "circle counter-clockwise": "circle clockwise",
}
"""Classes that are another's videos played backwards."""

MOTIONS = (
    *("move left", "move right", "move up", "move down", "approach", "recede"),
    *("turn clockwise", "turn counter-clockwise", "circle clockwise", "circle counter-clockwise", "bounce", "shake"),
)
MIRRORED = (
    ("move left", "move right"),
    ("turn clockwise", "turn counter-clockwise"),
    ("circle clockwise", "circle counter-clockwise"),
)
"""Classes that are each other's mirror image."""

# Shares of the shorter side of the frame.
_DISTRACTORS = 0.07, 0.15  # radius of the other shapes
_CELL = 0.09  # length of a shake
_JITTER, _DRIFT = 0.008, 0.009  # standard deviation of the camera, largest shift of the background per frame


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """Settings that all videos share.

    Attributes:
        height, width: of the frames in pixels, even.
        frames: in each video.
        distractors: other shapes, which wander behind the actor.
        disturbance: strength of camera jitter, drift of the background and change of light; 0 turns them off.
        seed: another seed gives other scenes and videos.
        actor: least and largest radius of the actor, as shares of the shorter side of the frame.
        spread: radius of the disc of the actor's center, likewise.
    """

    height: int = 112
    width: int = 112
    frames: int = 32
    distractors: int = 1
    disturbance: float = 1.0
    seed: int = 0
    actor: tuple[float, float] = (0.12, 0.25)
    spread: float = 0.27

    @property
    def side(self) -> int:
        """The shorter side of the frame."""
        return min(self.height, self.width)


@dataclass(frozen=True, slots=True)
class Scene:
    """The actor, the background and the distractors; all classes and takes of a scene share them."""

    number: int
    background: Background
    actor: Sprite
    distractors: tuple[Sprite, ...]


@dataclass(frozen=True, slots=True)
class SyntheticVideo:
    """The frames of one video, and the box around the visible part of the actor in each."""

    pixels: UInt8[np.ndarray, "T H W 3"]
    boxes: Float32[np.ndarray, "T 4"]

    def backwards(self) -> "SyntheticVideo":
        """The last frame first."""
        return SyntheticVideo(self.pixels[::-1], self.boxes[::-1])


@dataclass(frozen=True, slots=True)
class Track:
    """Where a shape is, frame by frame.

    Attributes:
        x, y: its center in pixels.
        radius: in pixels.
        angle: by which it is rotated clockwise.
    """

    x: Float64[np.ndarray, " T"]
    y: Float64[np.ndarray, " T"]
    radius: Float64[np.ndarray, " T"]
    angle: Float64[np.ndarray, " T"]


def make_scene(config: SceneConfig, number: int) -> Scene:
    """The scene with this number; the same arguments always give the same one."""
    rng = _make_rng("scene", config.seed, number)
    hue = rng.uniform()
    background = make_background(rng, config.side, hue)
    actor, *distractors = (make_sprite(rng, hue) for _ in range(1 + config.distractors))
    return Scene(number, background, actor, tuple(distractors))


def actor_track(config: SceneConfig, motion: str, scene: int, take: int) -> Track:
    """Where the actor is, before the camera jitters; the same arguments always give the same track."""
    if motion in REVERSED:
        track = actor_track(config, REVERSED[motion], scene, take)
        return Track(track.x[::-1], track.y[::-1], track.radius[::-1], track.angle[::-1])
    rng = _make_rng("actor", config.seed, motion, scene, take)
    time = np.arange(config.frames) / FPS
    radius, bearing = math.sqrt(rng.uniform()), 2 * math.pi * rng.uniform()
    x, y = radius * math.cos(bearing), radius * math.sin(bearing)
    size, angle = rng.uniform(), 2 * math.pi * rng.uniform()
    zeros = np.zeros_like(time)
    x, y, size, angle = x + zeros, y + zeros, size + zeros, angle + zeros
    speed = rng.uniform(0.35, 0.5)  # of the disc, of the sizes or of a round, a second
    match motion:
        case "move right":
            half = np.sqrt(1 - y**2)
            x = (x + half + 2 * speed * time) % (2 * half) - half
        case "move down":
            half = np.sqrt(1 - x**2)
            y = (y + half + 2 * speed * time) % (2 * half) - half
        case "approach":
            size = (size + speed * time) % 1
        case "turn clockwise":
            angle = angle + 2 * math.pi * 0.7 * speed * time
        case "circle clockwise":
            x, y = (radius * wave(bearing + 2 * math.pi * speed * time) for wave in (np.cos, np.sin))
        case "bounce":
            half = np.sqrt(1 - x**2)
            phase = (rng.uniform() + rng.uniform(0.9, 1.25) * time) % 1
            y = half - 2 * half * rng.beta(1.5, 0.5) * 4 * phase * (1 - phase)
        case "shake":
            start = radius * math.cos(bearing), radius * math.sin(bearing)
            x, y = _shake(rng, time, *start, _CELL / config.spread)
    disc, smallest, ratio = config.spread * config.side, config.actor[0], math.log(config.actor[1] / config.actor[0])
    return Track(
        config.width / 2 + disc * x, config.height / 2 + disc * y, smallest * config.side * np.exp(ratio * size), angle
    )


def _shake(
    rng: np.random.Generator, time: Float64[np.ndarray, " T"], x: float, y: float, length: float
) -> tuple[Float64[np.ndarray, " T"], Float64[np.ndarray, " T"]]:
    """Back and forth at constant speed in the cell of the point (x, y) of the unit disc, along a random line.

    Cells are about as long as ``length``, in radii of the disc.
    """
    slope = math.pi * rng.uniform()
    cos, sin = math.cos(slope), math.sin(slope)
    along, beside = cos * x + sin * y, cos * y - sin * x
    half = math.sqrt(1 - beside**2)
    cell = 2 * half / max(1, round(2 * half / length))
    count, share = divmod((along + half) / cell, 1)
    begin = share if rng.uniform() < 0.5 else 2 - share
    swing = np.abs((begin + 2 * rng.uniform(2.2, 3.2) * time + 1) % 2 - 1)
    along = (count + swing) * cell - half
    return cos * along - sin * beside, sin * along + cos * beside


def render_video(config: SceneConfig, scene: Scene, motion: str, take: int) -> SyntheticVideo:
    """One video; the same arguments always give the same one."""
    if motion in REVERSED:
        return render_video(config, scene, REVERSED[motion], take).backwards()
    track = actor_track(config, motion, scene.number, take)
    # The names of the generators decide the data; changing one needs a new VERSION in videos.py.
    rng = _make_rng("film", config.seed, motion, scene.number, take)
    camera = _jitter(rng, config)
    begin, heading = rng.uniform(0, 8 * config.side, 2), 2 * math.pi * rng.uniform()
    drift = config.disturbance * _DRIFT * config.side * rng.uniform(0.3, 1) * np.arange(config.frames)
    tracks = [_wander(rng, config) for _ in scene.distractors]
    light = _light(rng, config)
    pixels = np.empty((config.frames, config.height, config.width, 3), dtype=np.uint8)
    boxes = np.empty((config.frames, 4), dtype=np.float32)
    for t, (shift_x, shift_y) in enumerate(camera):
        left, top = begin[0] + drift[t] * math.cos(heading), begin[1] + drift[t] * math.sin(heading)
        frame = scene.background.view(left - shift_x, top - shift_y, config.height, config.width)
        for sprite, path in zip(scene.distractors, tracks, strict=True):
            sprite.draw(frame, path.x[t] + shift_x, path.y[t] + shift_y, path.radius[t], path.angle[t])
        covered = scene.actor.draw(frame, track.x[t] + shift_x, track.y[t] + shift_y, track.radius[t], track.angle[t])
        columns, rows = np.flatnonzero(covered.any(axis=0)), np.flatnonzero(covered.any(axis=1))
        boxes[t] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        frame *= light[t]
        np.clip(frame, 0, 255, out=frame)
        pixels[t] = frame
    return SyntheticVideo(pixels, boxes)


def _jitter(rng: np.random.Generator, config: SceneConfig) -> Float64[np.ndarray, "T 2"]:
    """Shift of the image by the camera, in pixels: a stationary autoregressive process."""
    correlation = 0.8
    steps = rng.standard_normal((config.frames, 2))
    for t in range(1, config.frames):
        steps[t] = correlation * steps[t - 1] + math.sqrt(1 - correlation**2) * steps[t]
    return config.disturbance * _JITTER * config.side * steps


def _wander(rng: np.random.Generator, config: SceneConfig) -> Track:
    """A random track: two slow oscillations along each axis about any point of the frame, and of the angle."""
    time = np.arange(config.frames) / FPS

    def oscillation(amplitude: float) -> Float64[np.ndarray, " T"]:
        frequency, phase = rng.uniform(0.15, 0.7, (2, 1)), rng.uniform(0, 1, (2, 1))
        return amplitude * np.sin(2 * math.pi * (frequency * time + phase)).sum(axis=0)

    sides = config.width, config.height
    x, y = (length * rng.uniform(0.05, 0.95) + oscillation(0.13 * config.side) for length in sides)
    radius = config.side * math.exp(rng.uniform(*np.log(_DISTRACTORS)))
    return Track(x, y, np.full_like(time, radius), 2 * math.pi * rng.uniform() + oscillation(0.3))


def _light(rng: np.random.Generator, config: SceneConfig) -> Float32[np.ndarray, "T H W 1"]:
    """Factor of the colors: overall brightness oscillates, and its gradient rotates slowly; 255 in constant light."""
    time = np.arange(config.frames) / FPS
    brightness = 0.18 * np.sin(2 * math.pi * (rng.uniform(0.2, 0.6) * time + rng.uniform()))
    side = 2 * math.pi * (rng.uniform() + rng.uniform(-0.25, 0.25) * time)
    x, y = (np.linspace(-1, 1, length) for length in (config.width, config.height))
    slope = 0.15 * (np.multiply.outer(np.sin(side), y)[:, :, None] + np.multiply.outer(np.cos(side), x)[:, None])
    light = 1 + config.disturbance * (brightness[:, None, None] + slope)
    return rearrange(255 * light, "t h w -> t h w 1").astype(np.float32)


def _make_rng(*name: int | str) -> np.random.Generator:
    return np.random.default_rng(derive_seed("moving shapes", *name))
