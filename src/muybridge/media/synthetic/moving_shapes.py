"""Videos of a textured shape before a textured backdrop, in which only movement tells the classes apart.

At *every* frame, and whatever the class, the actor's center is spread evenly over a disc in the middle of the picture,
its size over one range, and its angle over the full circle, independently. Each movement keeps this so:

- sideways, up and down: along the chord of the disc, beginning again at its other end;
- approaching and receding: through the range of sizes, beginning again at its other end;
- circling: about the center of the disc; turning: about the actor's own;
- bouncing: a ball's parabolas over the lower end of the upright chord. Of a chord of length L they reach the height
  L * Beta(3/2, 1/2), for which a ball seen at a random moment is spread evenly over the chord (Abel's integral);
- shaking: there and back in one cell of a random chord cut into equal cells.

Five classes are the films of five others played backwards. Background, lighting, camera and the other shapes know
nothing of the class, and every scene has the same actor, backdrop and number of films for each class.

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
"""Classes that are another's films played backwards."""

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
_OTHERS = 0.07, 0.15  # radius of the other shapes
_CELL = 0.09  # way of a shake
_JITTER, _DRIFT = 0.008, 0.009  # standard deviation of the camera, most of the backdrop in a frame


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """What all films have in common.

    Attributes:
        height, width: of the frames in pixels, even.
        frames: in each film.
        distractors: other shapes, which wander behind the actor.
        disturbance: strength of camera jitter, drift of the backdrop and change of light; 0 is a quiet studio.
        seed: another seed gives other scenes and films.
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
    """Who plays, and before what; all classes and takes of a scene share it."""

    number: int
    backdrop: Background
    actor: Sprite
    others: tuple[Sprite, ...]


@dataclass(frozen=True, slots=True)
class SyntheticVideo:
    """The frames of one film, and the box around the visible part of the actor in each."""

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
        angle: by which it is turned clockwise.
    """

    x: Float64[np.ndarray, " T"]
    y: Float64[np.ndarray, " T"]
    radius: Float64[np.ndarray, " T"]
    angle: Float64[np.ndarray, " T"]


def make_scene(stage: SceneConfig, number: int) -> Scene:
    """The scene with this number; the same arguments always give the same one."""
    rng = _make_rng("scene", stage.seed, number)
    hue = rng.uniform()
    backdrop = make_background(rng, stage.side, hue)
    actor, *others = (make_sprite(rng, hue) for _ in range(1 + stage.distractors))
    return Scene(number, backdrop, actor, tuple(others))


def actor_track(stage: SceneConfig, motion: str, scene: int, take: int) -> Track:
    """Where the actor is, before the camera jitters; the same arguments always give the same track."""
    if motion in REVERSED:
        track = actor_track(stage, REVERSED[motion], scene, take)
        return Track(track.x[::-1], track.y[::-1], track.radius[::-1], track.angle[::-1])
    rng = _make_rng("actor", stage.seed, motion, scene, take)
    time = np.arange(stage.frames) / FPS
    radius, bearing = math.sqrt(rng.uniform()), 2 * math.pi * rng.uniform()
    x, y = radius * math.cos(bearing), radius * math.sin(bearing)
    size, angle = rng.uniform(), 2 * math.pi * rng.uniform()
    still = np.zeros_like(time)
    x, y, size, angle = x + still, y + still, size + still, angle + still
    pace = rng.uniform(0.35, 0.5)  # of the disc, of the sizes or of a round, a second
    match motion:
        case "move right":
            half = np.sqrt(1 - y**2)
            x = (x + half + 2 * pace * time) % (2 * half) - half
        case "move down":
            half = np.sqrt(1 - x**2)
            y = (y + half + 2 * pace * time) % (2 * half) - half
        case "approach":
            size = (size + pace * time) % 1
        case "turn clockwise":
            angle = angle + 2 * math.pi * 0.7 * pace * time
        case "circle clockwise":
            x, y = (radius * wave(bearing + 2 * math.pi * pace * time) for wave in (np.cos, np.sin))
        case "bounce":
            half = np.sqrt(1 - x**2)
            phase = (rng.uniform() + rng.uniform(0.9, 1.25) * time) % 1
            y = half - 2 * half * rng.beta(1.5, 0.5) * 4 * phase * (1 - phase)
        case "shake":
            start = radius * math.cos(bearing), radius * math.sin(bearing)
            x, y = _shake(rng, time, *start, _CELL / stage.spread)
    disc, smallest, ratio = stage.spread * stage.side, stage.actor[0], math.log(stage.actor[1] / stage.actor[0])
    return Track(
        stage.width / 2 + disc * x, stage.height / 2 + disc * y, smallest * stage.side * np.exp(ratio * size), angle
    )


def _shake(
    rng: np.random.Generator, time: Float64[np.ndarray, " T"], x: float, y: float, way: float
) -> tuple[Float64[np.ndarray, " T"], Float64[np.ndarray, " T"]]:
    """There and back at steady speed in the cell of the point (x, y) of the unit disc, along a random line.

    Cells are about as long as ``way``, in radii of the disc.
    """
    slope = math.pi * rng.uniform()
    cos, sin = math.cos(slope), math.sin(slope)
    along, beside = cos * x + sin * y, cos * y - sin * x
    half = math.sqrt(1 - beside**2)
    cell = 2 * half / max(1, round(2 * half / way))
    count, share = divmod((along + half) / cell, 1)
    begin = share if rng.uniform() < 0.5 else 2 - share
    swing = np.abs((begin + 2 * rng.uniform(2.2, 3.2) * time + 1) % 2 - 1)
    along = (count + swing) * cell - half
    return cos * along - sin * beside, sin * along + cos * beside


def render_video(stage: SceneConfig, scene: Scene, motion: str, take: int) -> SyntheticVideo:
    """One film; the same arguments always give the same one."""
    if motion in REVERSED:
        return render_video(stage, scene, REVERSED[motion], take).backwards()
    track = actor_track(stage, motion, scene.number, take)
    rng = _make_rng("film", stage.seed, motion, scene.number, take)
    camera = _jitter(rng, stage)
    begin, heading = rng.uniform(0, 8 * stage.side, 2), 2 * math.pi * rng.uniform()
    drift = stage.disturbance * _DRIFT * stage.side * rng.uniform(0.3, 1) * np.arange(stage.frames)
    others = [_wander(rng, stage) for _ in scene.others]
    light = _light(rng, stage)
    pixels = np.empty((stage.frames, stage.height, stage.width, 3), dtype=np.uint8)
    boxes = np.empty((stage.frames, 4), dtype=np.float32)
    for t, (shift_x, shift_y) in enumerate(camera):
        left, top = begin[0] + drift[t] * math.cos(heading), begin[1] + drift[t] * math.sin(heading)
        frame = scene.backdrop.view(left - shift_x, top - shift_y, stage.height, stage.width)
        for sprite, other in zip(scene.others, others, strict=True):
            sprite.paint(frame, other.x[t] + shift_x, other.y[t] + shift_y, other.radius[t], other.angle[t])
        seen = scene.actor.paint(frame, track.x[t] + shift_x, track.y[t] + shift_y, track.radius[t], track.angle[t])
        columns, rows = np.flatnonzero(seen.any(axis=0)), np.flatnonzero(seen.any(axis=1))
        boxes[t] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        frame *= light[t]
        np.clip(frame, 0, 255, out=frame)
        pixels[t] = frame
    return SyntheticVideo(pixels, boxes)


def _jitter(rng: np.random.Generator, stage: SceneConfig) -> Float64[np.ndarray, "T 2"]:
    """How far the camera moves the picture, in pixels: an unsteady hand that finds back, alike at every frame."""
    stay = 0.8
    steps = rng.standard_normal((stage.frames, 2))
    for t in range(1, stage.frames):
        steps[t] = stay * steps[t - 1] + math.sqrt(1 - stay**2) * steps[t]
    return stage.disturbance * _JITTER * stage.side * steps


def _wander(rng: np.random.Generator, stage: SceneConfig) -> Track:
    """A path without a plan: two slow swings along each axis about any point of the frame, while turning to and fro."""
    time = np.arange(stage.frames) / FPS

    def swings(most: float) -> Float64[np.ndarray, " T"]:
        pace, phase = rng.uniform(0.15, 0.7, (2, 1)), rng.uniform(0, 1, (2, 1))
        return most * np.sin(2 * math.pi * (pace * time + phase)).sum(axis=0)

    x, y = (length * rng.uniform(0.05, 0.95) + swings(0.13 * stage.side) for length in (stage.width, stage.height))
    radius = stage.side * math.exp(rng.uniform(*np.log(_OTHERS)))
    return Track(x, y, np.full_like(time, radius), 2 * math.pi * rng.uniform() + swings(0.3))


def _light(rng: np.random.Generator, stage: SceneConfig) -> Float32[np.ndarray, "T H W 1"]:
    """By what to multiply colours: brighter and darker in turn, and from a side that wanders; 255 in steady light."""
    time = np.arange(stage.frames) / FPS
    brightness = 0.18 * np.sin(2 * math.pi * (rng.uniform(0.2, 0.6) * time + rng.uniform()))
    side = 2 * math.pi * (rng.uniform() + rng.uniform(-0.25, 0.25) * time)
    x, y = (np.linspace(-1, 1, length) for length in (stage.width, stage.height))
    slope = 0.15 * (np.multiply.outer(np.sin(side), y)[:, :, None] + np.multiply.outer(np.cos(side), x)[:, None])
    light = 1 + stage.disturbance * (brightness[:, None, None] + slope)
    return rearrange(255 * light, "t h w -> t h w 1").astype(np.float32)


def _make_rng(*name: int | str) -> np.random.Generator:
    return np.random.default_rng(derive_seed("moving shapes", *name))
