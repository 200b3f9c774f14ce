"""The layout of skeletons that come in no known order, inferred from how their joints move, where that is safe.

Legend: N bodies (a person in a frame), J joints.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float64

from muybridge.core.skeletons import Layout, unnamed_layout
from muybridge.core.types import SkeletonSequence
from muybridge.data.skeleton_tree import (
    Distances,
    Edge,
    Edges,
    Limbs,
    find_limbs,
    find_tree,
    neighbours_of,
)

MIN_JOINTS = 5
MIN_FRAMES = 8
"""Frames of a person from which on changes of distances are measured."""

MIN_PEOPLE = 8
"""People in recordings, counted in each anew, from which on a layout is inferred."""

MOVING = 0.1
"""Change of the distances of most joints, in sizes of the body, from which on bones can be told from other pairs."""

AGREEMENT = 0.7
"""Share of bones that both halves of the recordings have to show."""

_STEADY = 0.26  # change of the length of bones, as a share of that of most distances, up to which they are bones
_TORSO = 0.15  # of the legs' length: a shorter part of the spine is no unit of size
_OFF_CENTER = 0.12  # relative difference of distances to left and right up to which a joint is in the middle
_SIDES = ("first", "second")

People = Sequence[Float64[np.ndarray, "N J 3"]]


@dataclass(frozen=True)
class Inference:
    """A layout and what it was inferred from.

    Attributes:
        layout: with bones, and with what else could be told; without any where nothing could.
        reason: in words, what it rests on, or why nothing could be told.
    """

    layout: Layout
    reason: str


def infer_layout(sequences: Sequence[SkeletonSequence]) -> Inference:
    """The bones of recordings with equal numbers of joints, and limbs, body center and torso if it is a body.

    Which of two sides is the left one cannot be told: they are called first and second.
    """
    _, _, joints, coordinates = sequences[0].joints.shape
    plain = unnamed_layout(joints)
    if coordinates == 2:
        return Inference(plain, "in two dimensions bones change their length, so that they cannot be inferred")
    if joints < MIN_JOINTS:
        return Inference(plain, f"fewer than {MIN_JOINTS} joints are not compared")
    people = [bodies for sequence in sequences for bodies in _people(sequence)]
    if len(people) < MIN_PEOPLE:
        return Inference(plain, f"bones are inferred from {MIN_PEOPLE} people and more, counted in each recording anew")
    distances = Distances.of(people)
    typical = float(np.median(distances.change[np.triu_indices(joints, 1)]))
    if typical < MOVING:
        return Inference(plain, f"the joints move too little against each other ({typical:.2f} of the body's size)")
    edges = find_tree(distances)
    steadiness = float(np.median([distances.change[edge] for edge in edges])) / typical
    halves = [find_tree(Distances.of(people[start::2])) for start in (0, 1)]
    agreement = len(halves[0] & halves[1]) / len(edges)
    if steadiness > _STEADY or agreement < AGREEMENT:
        return Inference(
            plain,
            f"no bones are certain (two halves of the recordings agree in {agreement:.0%} of them, and their lengths "
            f"change {steadiness:.0%} as much as other distances)",
        )
    limbs = find_limbs(edges, distances)
    if not _symmetric(edges, limbs, distances):
        return Inference(plain, "the two sides of the body cannot be told apart by how the joints move")
    layout = _describe(edges, limbs, distances, np.concatenate(people), plain)
    return Inference(layout, f"from {len(people)} people moving in {len(sequences)} recordings")


def _people(sequence: SkeletonSequence) -> list[Float64[np.ndarray, "N J 3"]]:
    """The frames of each person who is seen long enough."""
    seen = sequence.present.numpy()
    return [
        sequence.joints[:, person].double().numpy()[seen[:, person]]
        for person in range(seen.shape[1])
        if seen[:, person].sum() >= MIN_FRAMES
    ]


def _symmetric(edges: Edges, limbs: Sequence[Limbs], distances: Distances) -> bool:
    """Whether the middle line is as far from one side as from the other, and no bone crosses to the other side."""
    pairs = [pair for each in limbs for pair in each.pairs]
    if not pairs:
        return True
    other = dict(pairs) | {second: first for first, second in pairs}
    first, second = (distances.length[:, [pair[side] for pair in pairs]] for side in (0, 1))
    unequal = (np.abs(first - second) / (first + second).clip(1e-12) * 2).mean(1)
    middle = [joint for joint in range(len(unequal)) if joint not in other]
    crossing = any(distances.length[other[a], b] <= distances.length[a, b] for a, b in edges if {a, b} <= set(other))
    return not crossing and bool((unequal[middle] < _OFF_CENTER).all())


def _describe(
    edges: Edges, limbs: Sequence[Limbs], distances: Distances, bodies: Float64[np.ndarray, "N J 3"], plain: Layout
) -> Layout:
    """A layout of bones, limbs, and body parts where there are legs and arms."""
    around = neighbours_of(edges, len(plain))
    reach = {each: _reach(each, distances) for each in limbs if len(each.pairs) > 1}
    longest = sorted(reach, key=lambda each: -reach[each])
    arms = next((each for each in longest if each.joint != longest[0].joint), None)
    if arms is None:
        mirror = tuple(pair for each in limbs for pair in each.pairs)
        root = _center(around, distances, {joint for pair in mirror for joint in pair})
        return replace(plain, bones=_outwards(root, around), mirror=mirror, root=root)
    legs, (left, right) = longest[0], arms.pairs[0]
    side = bodies[:, right] - bodies[:, left]
    turned = {each: each if _along(each, bodies, side) else _exchanged(each) for each in limbs}
    torso = (legs.joint, arms.joint)
    names = _names(turned[legs], turned[arms], _head(torso, around, limbs, distances), distances, plain)
    return replace(
        plain,
        joints=names,
        bones=_outwards(legs.joint, around),
        mirror=tuple(pair for each in limbs for pair in turned[each].pairs),
        root=legs.joint,
        torso=torso if distances.length[torso] > _TORSO * reach[legs] else None,
        shoulders=turned[arms].pairs[0],
    )


def _reach(limbs: Limbs, distances: Distances) -> float:
    """The largest distance of a joint from where the limbs begin, stretched along the joints in between."""
    ends = [pair[0] for pair in limbs.pairs]
    return float(sum(distances.length[pair] for pair in pairwise([limbs.joint, *ends])))


def _along(limbs: Limbs, bodies: Float64[np.ndarray, "N J 3"], side: Float64[np.ndarray, "N 3"]) -> bool:
    """Whether the first of two limbs is on the side of the first arm."""
    first, second = limbs.pairs[0]
    return bool(((bodies[:, second] - bodies[:, first]) * side).sum() >= 0)


def _exchanged(limbs: Limbs) -> Limbs:
    return replace(limbs, pairs=tuple((second, first) for first, second in limbs.pairs))


def _head(torso: Edge, around: Sequence[Sequence[int]], limbs: Sequence[Limbs], distances: Distances) -> int | None:
    """The end of the middle line beyond the arms; None where it ends with them."""
    paired = {joint for each in limbs for pair in each.pairs for joint in pair}
    height = distances.length[torso[0]]
    ends = [joint for joint, others in enumerate(around) if len(others) == 1 and joint not in paired]
    return max(
        (joint for joint in ends if height[joint] > height[torso[1]]), key=lambda joint: height[joint], default=None
    )


def _names(legs: Limbs, arms: Limbs, head: int | None, distances: Distances, plain: Layout) -> tuple[str, ...]:
    """Names of the joints whose part in the body is known; the others keep their numbers."""
    names = {legs.joint: "hip", arms.joint: "neck"} | ({} if head is None else {head: "head"})
    for limbs, start, end in ((legs, "hip", "foot"), (arms, "shoulder", "hand")):
        last = max(limbs.pairs, key=lambda pair: distances.length[limbs.joint, pair[0]])
        for index, side in enumerate(_SIDES):
            names |= {limbs.pairs[0][index]: f"{side}_{start}", last[index]: f"{side}_{end}"}
    return tuple(names.get(index, name) for index, name in enumerate(plain.joints))


def _center(around: Sequence[Sequence[int]], distances: Distances, paired: set[int]) -> int:
    """The joint of the middle line, or else of all, that is nearest to all others."""
    middle = [joint for joint in range(len(around)) if joint not in paired] or list(range(len(around)))
    return min(middle, key=lambda joint: float(distances.length[joint].max()))


def _outwards(root: int, around: Sequence[Sequence[int]]) -> tuple[Edge, ...]:
    """The bones as parent and child, from the root outwards."""
    bones: list[Edge] = []
    reached, queue = {root}, [root]
    for joint in queue:
        for child in around[joint]:
            if child not in reached:
                bones.append((joint, child))
                reached.add(child)
                queue.append(child)
    return tuple(bones)
