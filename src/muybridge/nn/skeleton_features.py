"""Per-frame features of moving skeletons: poses, bone angles, displacements, a velocity histogram, joint distances.

Legend: B batch, T frames, P people, J joints, D coordinates (2 or 3), N features of a frame, F output features (N, or
fewer after PCA).

All lengths are in units of the mean torso, of the whole recording or of its frames so far. Poses are relative to the
body center of their frame, the mean root of the people present; displacements are in the coordinates of the recording,
so that walking differs from standing. A person whose joints are all zero in a frame is absent and gives zeros.

Source: the skeleton features of Veeriah, Zhuang, Qi, ICCV 2015, section 5.2; ``docs/papers/drnn.md`` has the decisions
that the paper leaves open.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations, product
from math import cos, pi, sin
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from muybridge.core.errors import RecipeError
from muybridge.core.skeletons import Layout
from muybridge.nn.fitted_features import FittedFeatures
from muybridge.nn.options import PAPER_GROUPS, BodySize, FeatureGroup, FeatureScaling
from muybridge.nn.recurrent import valid_frames

# Upper edges of the histogram's magnitude bins, in torso lengths a frame; the ninth bin is open.
_MAGNITUDES = tuple(0.005 * 2**k for k in range(8))


def bone_pairs(layout: Layout) -> tuple[tuple[int, int], ...]:
    """Indices of adjacent bones: each with its parent bone, and those at the root with one another."""
    bone_to = {child: index for index, (_, child) in enumerate(layout.bones)}
    with_parent = [(bone_to[parent], index) for index, (parent, _) in enumerate(layout.bones) if parent in bone_to]
    at_root = [index for index, (parent, _) in enumerate(layout.bones) if parent not in bone_to]
    return (*with_parent, *combinations(at_root, 2))


def directions(coordinates: int) -> Float[Tensor, "18 {coordinates}"]:
    """The 18 unit vectors of the histogram: every 20 degrees of the plane, or a cube's 6 faces and 12 edges."""
    if coordinates == 2:
        return torch.tensor([[cos(k * pi / 9), sin(k * pi / 9)] for k in range(18)])
    vectors = [vector for vector in product((-1.0, 0.0, 1.0), repeat=3) if 1 <= sum(map(abs, vector)) <= 2]
    return F.normalize(torch.tensor(vectors), dim=-1)


def split_confidence(
    joints: Float[Tensor, "B T P J D1"], confidence: bool
) -> tuple[Float[Tensor, "B T P J D"], Float[Tensor, "B T P J"] | None]:
    """Positions, and the confidence that follows the coordinates of each joint where there is one."""
    return (joints[..., :-1], joints[..., -1]) if confidence else (joints, None)


class Measured(NamedTuple):
    """The bodies that were measured before the frames at hand.

    Attributes:
        total: sum of their sizes.
        number: how many there are.
        skip: frames at the beginning of those at hand that are among them, or do not count.
    """

    total: Float[Tensor, " B"]
    number: Float[Tensor, " B"]
    skip: int


class SkeletonFeatures(FittedFeatures):
    """Features of each frame, scaled and optionally projected by statistics of the training part.

    Args:
        layout: joints and bones.
        people: P.
        coordinates: D.
        groups: which features, in the order given.
        scaling: what is scaled to standard deviation 1: each feature by itself, or each group together, so that joints
            that hardly move keep small values.
        pca: project onto this many principal components after z-scoring; 0 does not project.
        body_size: over which frames the torso is measured; "so far" gives each frame the mean up to it, so that later
            frames change nothing.

    Raises:
        RecipeError: ``groups`` needs bones that the layout does not have, or ``pca`` is more than there are features.
    """

    def __init__(
        self,
        layout: Layout,
        people: int,
        coordinates: int,
        groups: Sequence[FeatureGroup] = PAPER_GROUPS,
        scaling: FeatureScaling = "feature",
        pca: int = 0,
        body_size: BodySize = "recording",
    ) -> None:
        if not layout.known and (bone_groups := [group for group in ("angle", "bone") if group in groups]):
            raise RecipeError(
                f"features of bones ({', '.join(bone_groups)}) for the layout {layout.name!r}",
                expected="a layout with bones",
                hint="leave them out of model.features, or set data.layout (`muybridge layouts` lists all)",
            )
        joints, pairs = people * len(layout), bone_pairs(layout)
        sizes = {
            "position": joints * coordinates,
            "angle": people * len(pairs),
            "offset": joints * coordinates,
            "offset_first": joints * coordinates,
            "velocity": people * 18 * (len(_MAGNITUDES) + 1),
            "distance": joints * (joints - 1) // 2,
            "bone": people * len(layout.bones) * coordinates,
            "movement": joints * coordinates,
            "travel": people * coordinates,
        }
        super().__init__([sizes[group] for group in groups], scaling, pca)
        self.layout = layout
        self.groups = tuple(groups)
        self.body_size: BodySize = body_size
        self.register_buffer("directions", directions(coordinates), persistent=False)
        self.register_buffer("magnitudes", torch.tensor(_MAGNITUDES), persistent=False)
        self.register_buffer("bones", torch.tensor(layout.bones).reshape(-1, 2), persistent=False)
        self.register_buffer("pairs", torch.tensor(pairs).reshape(-1, 2), persistent=False)
        self.register_buffer("ends", torch.triu_indices(joints, joints, 1), persistent=False)
        self.directions: Tensor
        self.magnitudes: Tensor
        self.bones: Tensor
        self.pairs: Tensor
        self.ends: Tensor

    def forward(self, joints: Float[Tensor, "B T P J D"], length: Int64[Tensor, " B"]) -> Float[Tensor, "B T F"]:
        """Normalized features; zero in the padding."""
        features = self.normalize(self.raw(joints, length))
        return features * valid_frames(length, joints.shape[1])[..., None]

    def raw(
        self, joints: Float[Tensor, "B T P J D"], length: Int64[Tensor, " B"], measured: Measured | None = None
    ) -> Float[Tensor, "B T N"]:
        """Features before normalization; zero in the padding.

        Args:
            joints: positions.
            length: valid frames.
            measured: bodies that were measured before, where lengths are in units of those so far.
        """
        world, pose, present = self._poses(joints, length)
        size, unit = self._sizes(pose), None
        if self.body_size == "recording":
            torso = _mean_size(size, present)[:, None, None, None, None]
            pose, world = pose / torso, world / torso
        else:  # differences first, so that walking does not depend on how far away the camera is
            unit = _size_so_far(size, present, measured)[:, :, None, None, None]
        scaled_pose, step = _divided(pose, unit), _divided(_step(world, present), unit)
        parts = {
            "position": lambda: rearrange(scaled_pose, "b t p j d -> b t (p j d)"),
            "angle": lambda: self._angles(pose, present),
            "offset": lambda: rearrange(step, "b t p j d -> b t (p j d)"),
            "offset_first": lambda: rearrange(
                _divided(_since_the_first(world, present), unit), "b t p j d -> b t (p j d)"
            ),
            "velocity": lambda: self._histogram(step),
            "distance": lambda: self._distances(scaled_pose, present),
            "bone": lambda: rearrange(self._bones(pose), "b t p n d -> b t (p n d)"),
            "movement": lambda: rearrange(_divided(self._movement(pose, present), unit), "b t p j d -> b t (p j d)"),
            "travel": lambda: rearrange(
                _divided(_since_the_first(world[..., [self.layout.root], :], present), unit), "b t p 1 d -> b t (p d)"
            ),
        }
        return torch.cat([parts[group]() for group in self.groups], dim=-1)

    def sizes(self, joints: Float[Tensor, "B T P J D"]) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
        """The sum of the sizes of the bodies in each frame, and how many could be measured; all frames are valid."""
        _, pose, present = self._poses(joints, torch.full((len(joints),), joints.shape[1], device=joints.device))
        return _size_sums(self._sizes(pose), present)

    def _poses(
        self, joints: Float[Tensor, "B T P J D"], length: Int64[Tensor, " B"]
    ) -> tuple[Float[Tensor, "B T P J D"], Float[Tensor, "B T P J D"], Bool[Tensor, "B T P"]]:
        """The joints in the recording's coordinates, relative to the body center, and who is present."""
        present = (joints != 0).any(-1).any(-1) & valid_frames(length, joints.shape[1])[..., None]
        seen = present[..., None, None]
        joints = joints.where(seen, 0)
        roots = joints[..., self.layout.root, :]
        center = roots.sum(2) / present.sum(2).clamp(min=1)[..., None]
        return joints, (joints - center[:, :, None, None]).where(seen, 0), present

    def _sizes(self, pose: Tensor) -> Float[Tensor, "B T P"]:
        """The torso length of each body; without a torso, the mean distance of its joints from the body center."""
        if self.layout.torso is None:
            return pose.norm(dim=-1).mean(-1)
        low, high = self.layout.torso
        return (pose[..., high, :] - pose[..., low, :]).norm(dim=-1)

    def _bones(self, pose: Tensor) -> Float[Tensor, "B T P n D"]:
        """Directions of the bones, of length 1; zero where a person is absent."""
        return F.normalize(pose[..., self.bones[:, 1], :] - pose[..., self.bones[:, 0], :], dim=-1)

    def _movement(self, pose: Tensor, present: Bool[Tensor, "B T P"]) -> Float[Tensor, "B T P J D"]:
        """Change of the pose from the frame before to the one after; zero at the ends, and where a person is absent."""
        # Padded to one frame more at either end, so that the same lines hold for a single frame.
        around_pose = F.pad(pose, (0, 0, 0, 0, 0, 0, 1, 1))
        around_present = F.pad(present, (0, 0, 1, 1))
        change = around_pose[:, 2:] - around_pose[:, :-2]
        around = around_present[:, 2:] & around_present[:, :-2] & present
        return change.where(around[..., None, None], 0)

    def _angles(self, pose: Tensor, present: Tensor) -> Float[Tensor, "B T N"]:
        """Angles between adjacent bones, 0 to 1 for 0 to 180 degrees."""
        bones = self._bones(pose)
        cosine = (bones[..., self.pairs[:, 0], :] * bones[..., self.pairs[:, 1], :]).sum(-1)
        angles = cosine.clamp(-1, 1).acos() / pi
        return rearrange(angles.where(present[..., None], 0), "b t p a -> b t (p a)")

    def _histogram(self, step: Tensor) -> Float[Tensor, "B T N"]:
        """Share of a person's joints that move in each of 18 directions at each of 9 speeds; others do not count."""
        nearest = (step @ self.directions.T).argmax(-1)
        speed = step.norm(dim=-1)
        magnitude = (speed[..., None] >= self.magnitudes).sum(-1)
        direction = F.one_hot(nearest, 18).to(step) * (speed > 0)[..., None]
        votes = torch.einsum("btpjd,btpjm->btpdm", direction, F.one_hot(magnitude, len(_MAGNITUDES) + 1).to(step))
        return rearrange(votes / step.shape[3], "b t p d m -> b t (p d m)")

    def _distances(self, pose: Tensor, present: Tensor) -> Float[Tensor, "B T N"]:
        """Distances between all joints of all people."""
        points = rearrange(pose, "b t p j d -> b t (p j) d")
        seen = repeat(present, "b t p -> b t (p j)", j=pose.shape[3])
        first, second = self.ends
        distances = (points[:, :, first] - points[:, :, second]).norm(dim=-1)
        return distances.where(seen[:, :, first] & seen[:, :, second], 0)

    def fit(self, batches: Iterable[dict[str, Tensor]], confidence: bool = False) -> None:
        """Set mean, deviation and basis from the valid frames of ``joints`` and ``length``, in one pass.

        Args:
            batches: inputs of the model.
            confidence: whether a confidence follows the coordinates of each joint; it is not used.
        """
        self.fit_to(self._valid_frames(batch, confidence) for batch in batches)

    @torch.no_grad()
    def _valid_frames(self, batch: dict[str, Tensor], confidence: bool) -> Float[Tensor, "M N"]:
        joints, length = batch["joints"].to(self.mean), batch["length"].to(self.mean.device)
        joints, _ = split_confidence(joints, confidence)
        return self.raw(joints, length)[valid_frames(length, joints.shape[1])]


def _mean_size(size: Float[Tensor, "B T P"], present: Bool[Tensor, "B T P"]) -> Float[Tensor, " B"]:
    """The mean size of the bodies of each recording; 1 where there is none to measure."""
    measured = present & (size > 0)
    mean = size.where(measured, 0).sum((1, 2)) / measured.sum((1, 2)).clamp(min=1)
    return mean.where(mean > 0, 1.0)


def _size_so_far(
    size: Float[Tensor, "B T P"], present: Bool[Tensor, "B T P"], before: Measured | None
) -> Float[Tensor, "B T"]:
    """The mean size of the bodies up to each frame; 1 where there is none to measure."""
    total, count = _size_sums(size, present)
    if before is not None:
        total, count = (F.pad(sums[:, before.skip :], (before.skip, 0)) for sums in (total, count))
    total, count = total.cumsum(1), count.cumsum(1)
    if before is not None:
        total, count = total + before.total[:, None], count + before.number[:, None]
    mean = total / count.clamp(min=1)
    return mean.where(mean > 0, 1.0)


def _size_sums(
    size: Float[Tensor, "B T P"], present: Bool[Tensor, "B T P"]
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """See :meth:`SkeletonFeatures.sizes`."""
    measured = present & (size > 0)
    return size.where(measured, 0).sum(2), measured.sum(2).to(size)


def _step(world: Float[Tensor, "B T P J D"], present: Bool[Tensor, "B T P"]) -> Float[Tensor, "B T P J D"]:
    """From the frame before to each frame; zero for the first, and where a person is absent in one of the two."""
    before = F.pad(world, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1]
    both = present & F.pad(present, (0, 0, 1, 0))[:, :-1]
    return (world - before).where(both[..., None, None], 0)


def _since_the_first(world: Float[Tensor, "B T P J D"], present: Bool[Tensor, "B T P"]) -> Float[Tensor, "B T P J D"]:
    """From the first frame to each; zero where a person is absent in one of the two."""
    return (world - world[:, :1]).where((present & present[:, :1])[..., None, None], 0)


def _divided(lengths: Tensor, unit: Tensor | None) -> Tensor:
    return lengths if unit is None else lengths / unit
