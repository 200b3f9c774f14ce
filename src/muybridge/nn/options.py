"""Allowed values and constants of layer settings; without torch, so that model configs are imported quickly."""

import math
from collections.abc import Iterable
from typing import Literal, get_args

Backbone = Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]
"""Depth of a ResNet, by timm's name; resnet10 has one block per stage."""

Truncate = Literal[False, "soft", "strict"]
"""How a differential LSTM truncates its gradient, see :class:`muybridge.nn.recurrent.DifferentialLSTM`."""

FeatureScaling = Literal["feature", "group"]
"""Whether skeleton features are scaled to unit deviation one by one, or each group as a whole."""

FeatureGroup = Literal[
    "position", "angle", "offset", "offset_first", "velocity", "distance", "bone", "movement", "travel"
]
"""A group of skeleton features, see :class:`muybridge.nn.skeleton_features.SkeletonFeatures`."""

BodySize = Literal["recording", "so far"]
"""Over which frames the body is measured, whose size is the unit of skeleton features: all of them, or those so far."""

JointGroup = Literal["position", "offset", "offset_first", "movement"]
"""The groups of skeleton features that are a vector for each joint."""

PAPER_GROUPS: tuple[FeatureGroup, ...] = get_args(FeatureGroup)[:6]
"""The groups of the dRNN paper. The others are ours: "bone", the directions of bones, independent of their length;
"movement", the change of the pose from the previous to the next frame; "travel", the path of each person's root joint
since the first frame."""

Sampling = Literal["blocks", "trajectories"]
"""Where hand-crafted descriptors are computed: in blocks on a dense grid, or along dense trajectories."""

DESCRIPTORS = ("hog", "hof", "mbh_x", "mbh_y")
"""Hand-crafted local descriptors, see :mod:`muybridge.nn.local_descriptors`; a trajectory has its shape as well."""

ORIENTATIONS = 8
"""Orientation bins of a histogram."""

BLOCK_CELLS = (3, 2, 2)
"""Cells of a descriptor's block along frames, rows and columns."""


def descriptor_sizes() -> dict[str, int]:
    """Length of each of the :data:`DESCRIPTORS`; HOF has one more bin per cell, for flow near zero."""
    return {name: math.prod(BLOCK_CELLS) * (ORIENTATIONS + (name == "hof")) for name in DESCRIPTORS}


Polyhedron = Literal["icosahedron", "dodecahedron"]
"""The faces of which are the bins of HOG3D."""


def hog3d_bins(polyhedron: Polyhedron, *, half_orientation: bool) -> int:
    """Bins of a histogram of HOG3D: the faces of the polyhedron, or half of them."""
    return {"icosahedron": 20, "dodecahedron": 12}[polyhedron] // (2 if half_orientation else 1)


def hog3d_window(cells: tuple[int, int, int], blocks: int, block_frames: int) -> int:
    """Frames of a HOG3D descriptor: those of its blocks, and one at either end for the gradients."""
    return cells[0] * blocks * block_frames + 2


_WITHOUT_UNIT = ("angle", "bone")


def unit_setting(groups: Iterable[FeatureGroup], body_size: BodySize) -> str:
    """Which setting makes the features of a frame depend on later ones, in words; empty where none does."""
    if body_size == "so far" or all(group in _WITHOUT_UNIT for group in groups):
        return ""
    return 'model.body_size = "recording" measures the body in all frames; train with "so far" instead'
