"""Random changes of one recording of skeletons for training.

Legend: T frames, P people, J joints, D coordinates (2 or 3).
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, model_validator
from torch import Tensor

from muybridge.core.contracts import SkeletonData
from muybridge.core.skeletons import Layout
from muybridge.core.types import SkeletonSequence
from muybridge.data.skeleton_ops import (
    about_vertical,
    body_centers,
    fill_absent,
    person_centers,
    rotate,
    torso_length,
    translate,
)


class SkeletonAugment(BaseModel):
    """Random changes of a training recording; each is drawn once per recording and does not change the action.

    Attributes:
        rotate: largest turn about the vertical, in degrees; skeletons in 2-D have no vertical to turn about.
        tilt: largest turn in the image plane, in degrees; in 3-D also as much about the horizontal axis.
        scale: smallest and largest factor of size.
        bone_scale: largest change of the length of each bone, as a share, the same on both sides: other people's
            bodies, the same movement. Layouts without bones are left alone.
        speed: slowest and fastest factor of speed; frames are interpolated.
        temporal_crop: smallest share of the recording that is kept, from a random start.
        noise: standard deviation of what is added to every coordinate, in torso lengths.
        mirror: probability of a mirror image, with left and right joints swapped and the label changed where the data
            set gives its mirror image; where it forbids mirroring, or the layout has no sides, nothing is mirrored.
        swap_people: probability that the order of the people is reversed, where all of them appear.
        joint_dropout: probability of each joint to be hidden throughout, as if the estimator had not found it; it then
            lies in the person's center.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    rotate: NonNegativeFloat = 0.0
    tilt: NonNegativeFloat = 0.0
    scale: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    bone_scale: float = Field(default=0.0, ge=0.0, lt=1.0)
    speed: tuple[PositiveFloat, PositiveFloat] = (1.0, 1.0)
    temporal_crop: float = Field(default=1.0, gt=0.0, le=1.0)
    noise: NonNegativeFloat = 0.0
    mirror: float = Field(default=0.0, ge=0.0, le=1.0)
    swap_people: float = Field(default=0.0, ge=0.0, le=1.0)
    joint_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _ordered(self) -> "SkeletonAugment":
        for setting in ("scale", "speed"):
            low, high = getattr(self, setting)
            if low > high:
                raise ValueError(f"{setting} needs the smaller factor first, and {low} > {high}")
        return self


def augment_skeleton(
    sequence: SkeletonSequence,
    label: int,
    settings: SkeletonAugment,
    holds: SkeletonData,
    mirror_map: Mapping[int, int] | None,
    rng: torch.Generator,
) -> tuple[SkeletonSequence, int]:
    """The recording and its label after random changes.

    Gaps are filled first. Every setting has random numbers of its own: changing one does not change what another draws.

    Args:
        sequence: the recording.
        label: class index.
        settings: what may change, and how far.
        holds: gives the layout.
        mirror_map: new label of each label that a mirror changes; None forbids mirroring.
        rng: the random generator of this sample.
    """
    draws = torch.rand(9, generator=rng).tolist()
    noise_rng = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=rng)))
    bone_rng = torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=rng)))
    layout = holds.layout
    sequence = fill_absent(sequence)
    if settings.bone_scale and layout.known:
        sequence = scale_bones(sequence, layout, 1 + settings.bone_scale * _symmetric(layout, bone_rng))
    sequence = _crop(sequence, settings.temporal_crop, draws[0], draws[1])
    sequence = resample(sequence, _between(settings.speed, draws[2]))
    matrix = _turn(settings, sequence.joints.shape[-1], draws[3:6]) * _between(settings.scale, draws[6])
    sequence = rotate(sequence, layout, matrix)
    if draws[7] < settings.mirror and mirror_map is not None and layout.mirror:
        sequence, label = mirror(sequence, layout), mirror_map.get(label, label)
    if settings.noise:
        sigma = settings.noise * torso_length(sequence, layout)
        noise = torch.randn(sequence.joints.shape, generator=noise_rng)
        sequence = translate(sequence, sequence.joints + sigma * noise)
    if draws[8] < settings.swap_people and sequence.present.any(dim=0).all():
        sequence = sequence.take_people(range(sequence.present.shape[1])[::-1])
    if settings.joint_dropout:
        hidden = torch.rand(sequence.joints.shape[1:3], generator=rng) < settings.joint_dropout
        sequence = hide_joints(sequence, layout, hidden)
    return sequence, label


def _crop(sequence: SkeletonSequence, share: float, length: float, start: float) -> SkeletonSequence:
    """Consecutive frames of a recording: at least ``share`` of it; ``length`` and ``start`` are drawn from 0 to 1."""
    frames = max(1, round(len(sequence) * _between((share, 1.0), length)))
    first = int(start * (len(sequence) - frames + 1))
    cropped = sequence.take_frames(slice(first, first + frames))
    # A crop can begin, end or even lie in a pause between one person's last sighting and the next one's first.
    return fill_absent(cropped) if cropped.present.any() else sequence


def _turn(settings: SkeletonAugment, coordinates: int, draws: list[float]) -> Float[Tensor, "D D"]:
    """A rotation about the vertical, in the image plane and about the horizontal, drawn from 0 to 1."""
    limits = (settings.rotate, settings.tilt, settings.tilt)
    turns = [math.radians(_between((-most, most), draw)) for most, draw in zip(limits, draws, strict=True)]
    if coordinates == 2:
        return _about_z(turns[1])[:2, :2]
    return about_vertical(turns[0]) @ _about_z(turns[1]) @ _about_x(turns[2])


def scale_bones(sequence: SkeletonSequence, layout: Layout, factors: Float[Tensor, " bones"]) -> SkeletonSequence:
    """The same movement by other bodies: every bone keeps its direction, its length is multiplied, the root stays."""
    parents, children = torch.tensor(layout.bones).T
    # Row j marks the bones between the root and joint j; bones are listed from the root outwards.
    chain = torch.zeros(len(layout), len(parents))
    for bone, (parent, child) in enumerate(layout.bones):
        chain[child] = chain[parent]
        chain[child, bone] = 1
    bones = sequence.joints[:, :, children] - sequence.joints[:, :, parents]
    return translate(sequence, sequence.joints + chain @ (bones * (factors - 1)[:, None]))


def hide_joints(sequence: SkeletonSequence, layout: Layout, hidden: Bool[Tensor, "P J"]) -> SkeletonSequence:
    """The recording with these joints in the center of their person in every frame, where they tell nothing."""
    centers = person_centers(sequence.joints, layout)[:, :, None]
    scores = None if sequence.scores is None else sequence.scores.where(~hidden[None], 0.0)
    moved = translate(sequence, torch.where(hidden[None, :, :, None], centers, sequence.joints))
    return replace(moved, scores=scores)


def resample(sequence: SkeletonSequence, speed: float) -> SkeletonSequence:
    """The recording played ``speed`` times as fast, by linear interpolation; the first and last frame are kept."""
    frames = len(sequence)
    count = max(1, round((frames - 1) / speed) + 1)
    if count == frames:
        return sequence
    times = torch.linspace(0, frames - 1, count)
    before = times.floor().long()
    after = (before + 1).clamp(max=frames - 1)
    share = (times - before)[:, None]
    # An absent neighbour has no weight, so that its zeros do not count.
    weights = torch.stack([(1 - share) * sequence.present[before], share * sequence.present[after]])
    total = weights.sum(dim=0)
    weights = weights / total.clamp(min=1e-9)
    weights = weights[..., None]
    neighbours = torch.stack([sequence.joints[before], sequence.joints[after]])
    scores = sequence.scores
    if scores is not None:
        scores = (weights * torch.stack([scores[before], scores[after]])).sum(dim=0)
    return replace(sequence, joints=(weights[..., None] * neighbours).sum(dim=0), present=total > 0, scores=scores)


def mirror(sequence: SkeletonSequence, layout: Layout) -> SkeletonSequence:
    """The mirror image: x reflected about the main person's first center, left and right joints swapped."""
    order = list(range(len(layout)))
    for left, right in layout.mirror:
        order[left], order[right] = right, left
    scores = None if sequence.scores is None else sequence.scores[:, :, order]
    joints = sequence.joints[:, :, order]
    middle = body_centers(sequence, layout)[0, 0]
    joints[..., 0] = 2 * middle - joints[..., 0]
    return replace(translate(sequence, joints), scores=scores)


def _symmetric(layout: Layout, rng: torch.Generator) -> Float[Tensor, " bones"]:
    """A number between -1 and 1 for every bone, the same for a bone and its mirror image."""
    draws = torch.rand(len(layout.bones), generator=rng) * 2 - 1
    opposite = dict(layout.mirror) | {right: left for left, right in layout.mirror}
    bone_of = {child: bone for bone, (_, child) in enumerate(layout.bones)}
    # The bone that is listed first decides for both sides.
    return draws[[min(bone, bone_of[opposite.get(child, child)]) for bone, (_, child) in enumerate(layout.bones)]]


def _about_z(angle: float) -> Float[Tensor, "3 3"]:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _about_x(angle: float) -> Float[Tensor, "3 3"]:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])


def _between(limits: tuple[float, float], share: float) -> float:
    low, high = limits
    return low + (high - low) * share
