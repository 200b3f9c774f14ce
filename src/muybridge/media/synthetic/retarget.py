"""Generated stick figures with the joints of any named layout, as cameras or estimators of poses would give them.

Legend: T frames, P people, J joints of the layout, S joints of the figures (``kinect20``), D coordinates.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from muybridge.core.contracts import SkeletonData
from muybridge.core.skeletons import LAYOUTS, Layout
from muybridge.core.types import SkeletonSequence

FIGURE = LAYOUTS["kinect20"]
"""The layout that stick figures are made in."""

_SAME_JOINT = {"torso": "spine", "nose": "head"}
"""The joint of the figures at which a joint of another name lies."""


def retarget(sequence: SkeletonSequence, holds: SkeletonData) -> SkeletonSequence:
    """The movement of one stick figure with the joints, people and coordinates of other recordings.

    All people but the first are absent, as readers pad. In two coordinates the figure is seen by the camera it faces:
    x to the right and y downwards, in metres. Every joint of the figure is sure: its score is 1.

    Args:
        sequence: a figure in metres, one person, joints of ``kinect20``.
        holds: what to make of it; its layout names its joints.
    """
    joints = torch.einsum("tpsd,js->tpjd", sequence.joints, joint_weights(holds.layout))
    if holds.coordinates == 2:
        joints = -joints[..., :2]
    frames, _, count, coordinates = joints.shape
    padded = torch.zeros(frames, holds.people, count, coordinates)
    padded[:, :1] = joints
    present = torch.zeros(frames, holds.people, dtype=torch.bool)
    present[:, :1] = sequence.present
    return SkeletonSequence(padded, present, present[..., None].expand(padded.shape[:3]).to(padded))


@lru_cache(maxsize=64)
def joint_weights(layout: Layout) -> Float[Tensor, "J S"]:
    """Each joint of a layout as a weighted mean of those of the figures; every row has the sum 1.

    A joint of the same name is that joint. Another one lies midway between its parent and the mean of its children that
    the figures have, or at its parent where they have none.
    """
    found = {
        joint: FIGURE.joints.index(_SAME_JOINT.get(joint, joint))
        for joint in layout.joints
        if _SAME_JOINT.get(joint, joint) in FIGURE.joints
    }
    weights = torch.zeros(len(layout), len(FIGURE))
    for index, joint in enumerate(layout.joints):
        if joint in found:
            weights[index, found[joint]] = 1
    for parent, child in layout.bones:  # from the root outwards, so the parent's row is there
        if layout.joints[child] in found:
            continue
        below = [weights[end] for start, end in layout.bones if start == child and layout.joints[end] in found]
        weights[child] = (weights[parent] + torch.stack(below).mean(0)) / 2 if below else weights[parent]
    return weights
