"""Stick figures whose movement, and not their pose, defines the action: eight actions of generated people.

Every figure holds both hands up in front of the chest, bends its knees a little and stands with its feet apart. How
far is sampled from the same distribution whatever the action; the action only decides which of these *move*, and how. A
single frame is therefore nearly uninformative, and does not show the direction (left or right, clockwise or not).

Legend: T frames, P people (one), J joints of the layout ``kinect20``, D coordinates (3, in metres, y up).
The figure's own frame is the Kinect's for someone who faces it: x towards the right hand, y up, z backwards.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write
from muybridge.core.rng import make_generator
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import SkeletonSequence

ACTIONS = (
    *("wave left hand", "wave right hand", "jump", "squat", "walk left", "walk right"),
    *("circle clockwise", "circle counter-clockwise"),
)
MIRRORED = (
    ("wave left hand", "wave right hand"),
    ("walk left", "walk right"),
    ("circle clockwise", "circle counter-clockwise"),
)
"""Actions that are each other's mirror image. Circles are as the person who draws them sees them."""

VERSION = 1
"""Increased with every change of the figures, so that files of an older version are not used."""

_FPS = 30
_SENSOR_NOISE = 0.008  # metres
_SIDES = {"left": -1.0, "right": 1.0}


@dataclass(frozen=True, slots=True)
class _Person:
    """The proportions of a generated person, lengths in metres."""

    torso: float
    shoulder: float
    hip: float
    upper_arm: float
    forearm: float
    thigh: float
    shin: float
    tempo: float


def _person(seed: int, person: int) -> _Person:
    # The names of the generators decide the data; changing one needs a new VERSION.
    rng = make_generator("playground person", seed, person)
    height = _uniform(rng, 1.5, 1.95)

    def part(share: float) -> float:
        return share * height * _uniform(rng, 0.93, 1.07)

    return _Person(
        part(0.29), part(0.11), part(0.05), part(0.17), part(0.15), part(0.245), part(0.245), _uniform(rng, 0.8, 1.25)
    )


def stick_figure(action: str, person: int, take: int, seed: int = 0) -> SkeletonSequence:
    """One recording of about 40 frames at 30 frames a second; the same arguments always give the same recording.

    Args:
        action: one of ``ACTIONS``.
        person: who does it; determines size, proportions and tempo.
        take: speed, phase, amplitude, viewpoint and sensor noise are the take's.
        seed: of the data set.
    """
    body = _person(seed, person)
    rng = make_generator("playground take", seed, ACTIONS.index(action), person, take)
    frames = int(_uniform(rng, 34.0, 47.0))
    time = torch.arange(frames) / _FPS * body.tempo * _uniform(rng, 0.85, 1.2) + _uniform(rng, 0.0, 10.0)

    crouch, flight = _legs(action, time, rng)
    feet_x, lift, hip_x = _steps(action, time, rng)
    drawing = "left" if _uniform(rng, 0.0, 1.0) < 0.5 else "right"
    hands = {side: _hand(action, side, drawing, time, rng) for side in _SIDES}
    joints = _body(body, crouch * body.thigh, flight * body.thigh, feet_x, lift, hip_x, hands)

    joints = joints + _SENSOR_NOISE * torch.randn(joints.shape, generator=rng)
    yaw, tilt = (math.radians(_uniform(rng, -most, most)) for most in (40.0, 8.0))
    place = torch.tensor([_uniform(rng, -0.4, 0.4), _uniform(rng, -1.2, -0.8), _uniform(rng, 2.4, 3.6)])
    middle = joints.mean(dim=(0, 1)) * torch.tensor([1.0, 0.0, 1.0])
    joints = (joints - middle) @ _view(yaw, tilt) + place
    return SkeletonSequence(joints[:, None], torch.ones(frames, 1, dtype=torch.bool))


def _legs(action: str, time: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Depth of the crouch and height of the flight over time, in thigh lengths."""
    depth, phase, held = _uniform(rng, 0.5, 0.8), _uniform(rng, 0.0, 1.0), _uniform(rng, 0.0, 2 * math.pi)
    if action == "jump":
        swing = torch.sin(2 * math.pi * (1.3 * time + phase))
        return depth * (-swing).clamp(min=0), 0.7 * depth * swing.clamp(min=0)
    angle = 2 * math.pi * (0.9 * time + phase) if action == "squat" else torch.full_like(time, held)
    return depth * (1 - torch.cos(angle)) / 2, torch.zeros_like(time)


def _steps(action: str, time: Tensor, rng: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Sideways positions of the feet and the hip, and how high each foot is lifted, over time, in metres.

    In a step to the left the left foot moves first and the right one follows. The same recording backwards is a step to
    the right.
    """
    length, phase = _uniform(rng, 0.3, 0.45), _uniform(rng, 0.0, 1.0)
    phase_at = 1.5 * time + phase
    if action not in ("walk left", "walk right"):
        phase_at = torch.full_like(time, phase)
    steps, part = phase_at.floor(), phase_at % 1
    first, second = ((2 * part - begin).clamp(0, 1) for begin in (0, 1))
    path = {
        "leading": steps + (1 - torch.cos(math.pi * first)) / 2,
        "trailing": steps + (1 - torch.cos(math.pi * second)) / 2,
    }
    lifted = {"leading": torch.sin(math.pi * first), "trailing": torch.sin(math.pi * second)}
    if action not in ("walk left", "walk right"):
        lifted = {foot: torch.zeros_like(time) for foot in lifted}
    to_left = action == "walk left" or (action != "walk right" and _uniform(rng, 0.0, 1.0) < 0.5)
    direction = -1.0 if to_left else 1.0
    role = {"left": "leading", "right": "trailing"} if to_left else {"right": "leading", "left": "trailing"}
    feet = {side: direction * length * path[role[side]] + 0.1 * sign for side, sign in _SIDES.items()}
    lift = {side: 0.04 * lifted[role[side]] for side in _SIDES}
    return feet, lift, (feet["left"] + feet["right"]) / 2


def _hand(action: str, side: str, drawing: str, time: Tensor, rng: torch.Generator) -> Float[Tensor, "T 2"]:
    """Position of a hand, sideways and up, relative to its resting position, in arm lengths; a hand that does not move
    is at any point of a movement."""
    reach, phase, slope = _uniform(rng, 0.22, 0.32), _uniform(rng, 0.0, 1.0), _uniform(rng, -0.4, 0.4)
    waves, circles = action == f"wave {side} hand", action.startswith("circle") and side == drawing
    rests = not waves and not circles
    if waves or (rests and _uniform(rng, 0.0, 1.0) < 0.5):
        swing = reach * torch.sin(2 * math.pi * (phase + 1.8 * time * waves))
        return torch.stack([swing * math.cos(slope), swing * math.sin(slope)], dim=1)
    # The person looks along -z with x to the right: clockwise goes from up to the right, towards +x.
    angle = 2 * math.pi * (phase + 1.3 * time * circles)
    angle = angle if action == "circle clockwise" else -angle
    return reach * torch.stack([torch.sin(angle), torch.cos(angle)], dim=1)


def _body(
    person: _Person,
    crouch: Tensor,
    flight: Tensor,
    feet_x: dict[str, Tensor],
    lift: dict[str, Tensor],
    hip_x: Tensor,
    hands: dict[str, Tensor],
) -> Float[Tensor, "T J D"]:
    """All joints from the parts that move, in the figure's frame with the floor at y = 0."""
    zero = torch.zeros_like(crouch)

    def point(x: Tensor | float, y: Tensor | float, z: Tensor | float) -> Tensor:
        return torch.stack([zero + x, zero + y, zero + z], dim=1)

    ankle = 0.08
    straight = math.sqrt((person.thigh + person.shin) ** 2 - 0.35**2)
    hip = point(hip_x, ankle + 0.97 * straight - crouch + flight, 0.0)
    up = point(0.0, 1.0, 0.0)
    joint = {
        "hip": hip,
        "spine": hip + 0.25 * person.torso * up,
        "neck": hip + person.torso * up,
        "head": hip + 1.45 * person.torso * up,
    }
    arm = person.upper_arm + person.forearm
    for side, sign in _SIDES.items():
        shoulder = hip + point(sign * person.shoulder, 0.93 * person.torso, 0.0)
        rest = point(sign * 0.15 * arm, 0.05 * arm, -0.65 * arm)
        wrist = shoulder + rest + torch.cat([arm * hands[side], zero[:, None]], dim=1)
        elbow = _bend(shoulder, wrist, person.upper_arm, person.forearm, point(0.5 * sign, -1.0, 0.2))
        ankle_at = point(feet_x[side], ankle + lift[side] + flight, 0.0)
        thigh = hip + point(sign * person.hip, -0.06, 0.0)
        joint |= {
            f"{side}_shoulder": shoulder,
            f"{side}_elbow": elbow,
            f"{side}_wrist": wrist,
            f"{side}_hand": wrist + 0.35 * (wrist - elbow),
            f"{side}_hip": thigh,
            f"{side}_knee": _bend(thigh, ankle_at, person.thigh, person.shin, point(0.0, 0.0, -1.0)),
            f"{side}_ankle": ankle_at,
            f"{side}_foot": ankle_at + point(0.0, -0.05, -0.14),
        }
    return torch.stack([joint[name] for name in LAYOUTS["kinect20"].joints], dim=1)


def _bend(start: Tensor, end: Tensor, upper: float, lower: float, towards: Tensor) -> Float[Tensor, "T 3"]:
    """The middle joint of a limb of two bones from ``start`` to ``end``, bent ``towards`` a direction."""
    offset = end - start
    distance = offset.norm(dim=1, keepdim=True)
    along = offset / distance
    reach = distance.clamp(max=0.999 * (upper + lower))
    forward = (upper**2 - lower**2 + reach**2) / (2 * reach)
    aside = towards - (towards * along).sum(dim=1, keepdim=True) * along
    aside = aside / aside.norm(dim=1, keepdim=True)
    return start + forward * along + (upper**2 - forward**2).clamp(min=0).sqrt() * aside


def _view(yaw: float, tilt: float) -> Float[Tensor, "3 3"]:
    cos, sin = math.cos(yaw), math.sin(yaw)
    turn = torch.tensor([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])
    cos, sin = math.cos(tilt), math.sin(tilt)
    return turn @ torch.tensor([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])


def _uniform(rng: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))


def write_stick_figures(folder: Path, people: int, takes: int, seed: int = 0) -> list[Path]:
    """The data set as files ``action/pNN_tNN.npz``, in order; existing files are kept.

    Each file is put in place in one step, so that several processes may write the same data set at once.

    Raises:
        DataError: the folder cannot be written.
    """
    files = []
    try:
        for action in ACTIONS:
            (folder / action.replace(" ", "_")).mkdir(parents=True, exist_ok=True)
            for person in range(1, people + 1):
                for take in range(1, takes + 1):
                    path = folder / action.replace(" ", "_") / f"p{person:02}_t{take:02}.npz"
                    if not path.exists():
                        save_sequence(path, stick_figure(action, person, take, seed))
                    files.append(path)
    except OSError as problem:
        raise DataError(
            f"the stick figures cannot be written ({problem.strerror})",
            expected="a folder with a few free megabytes",
            hint="free some space, or choose another folder with data.root",
            where=folder,
        ) from None
    return files


def save_sequence(path: Path, sequence: SkeletonSequence) -> None:
    """A sequence as ``.npz``, written atomically."""
    with atomic_write(path, shared=True) as draft, draft.open("wb") as file:
        np.savez(file, joints=sequence.joints.numpy(), present=sequence.present.numpy())
