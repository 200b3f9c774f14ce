"""What recordings show about their joints: which layout fits, which axis is vertical, how large a body is, and whether
people change places between frames.

Legend: N bodies (a person in a frame), J joints, D coordinates (2 or 3).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.sparse.csgraph import minimum_spanning_tree
from torch import Tensor

from muybridge.core.skeletons import LAYOUTS, Layout, layouts_of
from muybridge.core.types import SkeletonSequence

PLAUSIBLE = 0.5
"""A layout below this does not fit the recordings. Right ones reach 0.6 and more, wrong ones 0.3 and less."""

_MARGIN = 1.25  # how far the best layout is ahead of the second, as a factor, where it is taken for certain
_UPRIGHT = 0.8  # cosine between a body and an axis from which on it stands along that axis
_FRAMES = 16  # of each person that are looked at


@dataclass(frozen=True, slots=True)
class LayoutCheck:
    """How well recordings agree with each layout.

    Attributes:
        plausibility: 0 to 1 by the name of the layout, best first; empty where no layout has so many joints.
    """

    plausibility: Mapping[str, float]

    @property
    def best(self) -> str | None:
        """The one layout that fits; None where none does, or two fit about equally well."""
        first, second = (*self.plausibility.items(), ("", 0.0), ("", 0.0))[:2]
        return first[0] if first[1] >= PLAUSIBLE and first[1] > _MARGIN * second[1] else None

    @property
    def ambiguous(self) -> bool:
        """Whether several layouts fit about equally well."""
        return self.best is None and max(self.plausibility.values(), default=0.0) >= PLAUSIBLE

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.2f}" for name, value in self.plausibility.items())


def check_layout(sequences: Iterable[SkeletonSequence], layout: Layout | None = None) -> LayoutCheck:
    """The plausibility of ``layout`` and of every known layout of as many joints.

    It is the product of three shares, each 1 for an ideal skeleton, averaged over people: how short the bones are (the
    shortest tree that connects all joints, divided by the tree of the bones), how equal bones are to their mirror
    images, and how straight the body is (the cosine between feet to hip and hip to head, on a scale from 0 to 1). All
    three ignore position, size, direction and the vertical axis, and work in 2-D too. They do not notice left and right
    exchanged everywhere.

    Raises:
        ValueError: the sequences have different numbers of joints.
    """
    people = [bodies for sequence in sequences for bodies in _bodies(sequence)]
    numbers = sorted({bodies.shape[1] for bodies in people})
    if len(numbers) > 1:
        raise ValueError(f"the sequences have {' and '.join(map(str, numbers))} joints; expected one number")
    joints = numbers[0] if numbers else 0
    candidates = {known.name: known for known in layouts_of(joints)}
    if layout is not None and layout.known and len(layout) == joints:
        candidates[layout.name] = layout
    scores = dict.fromkeys(candidates, 0.0)
    for bodies in people:
        distance = torch.cdist(bodies, bodies).median(dim=0).values
        shortest = float(minimum_spanning_tree(distance.double().numpy()).sum())
        for name, candidate in candidates.items():
            scores[name] += _fit(bodies, distance, shortest, candidate) / len(people)
    return LayoutCheck(dict(sorted(scores.items(), key=lambda item: -item[1])))


def _bodies(sequence: SkeletonSequence) -> list[Float[Tensor, "N J D"]]:
    """Some frames of each person, evenly spread over those in which the person is seen."""
    people = []
    for person in range(sequence.present.shape[1]):
        seen = sequence.present[:, person].nonzero().flatten()
        if len(seen):
            chosen = torch.linspace(0, len(seen) - 1, min(_FRAMES, len(seen))).round().long()
            people.append(sequence.joints[seen[chosen], person])
    return people


def _fit(bodies: Float[Tensor, "N J D"], distance: Float[Tensor, "J J"], shortest: float, layout: Layout) -> float:
    """How plausible a layout is for one person, 0 to 1."""
    parents, children = torch.tensor(layout.bones).T
    lengths = distance[parents, children]
    compact = min(1.0, shortest / max(float(lengths.sum()), 1e-12))
    swap = dict(layout.mirror) | {right: left for left, right in layout.mirror}
    mirrored = torch.stack([distance[swap.get(p, p), swap.get(c, c)] for p, c in layout.bones])
    sided = torch.tensor([child in swap for _, child in layout.bones])
    unequal = ((lengths - mirrored).abs() / (lengths + mirrored).clamp(min=1e-12))[sided].mean()
    return compact * (1 - float(unequal)) * _straight(bodies, layout)


def _straight(bodies: Float[Tensor, "N J D"], layout: Layout) -> float:
    """The median cosine between feet to hip and hip to head, as 0 to 1; 1 where the layout has no head or feet."""
    if layout.head is None or not layout.feet:
        return 1.0
    hips = [index for index, name in enumerate(layout.joints) if name == "hip"] or [
        index for index, name in enumerate(layout.joints) if name.endswith("_hip")
    ]
    hip, feet = bodies[:, hips].mean(dim=1), bodies[:, list(layout.feet)].mean(dim=1)
    cosine = torch.cosine_similarity(bodies[:, layout.head] - hip, hip - feet, dim=-1)
    return float((1 + cosine.median()) / 2)


def mean_body(sequence: SkeletonSequence) -> Float[Tensor, "J D"]:
    """The mean position of each joint over all people and frames in which they are seen."""
    return sequence.joints[sequence.present].mean(dim=0)


def vertical_axis(body: Float[Tensor, "J D"], layout: Layout) -> str | None:
    """The axis along which the head is away from the feet, with a minus where it points from the head to the feet.

    Args:
        body: the joints of one person, or the mean body of a recording.
        layout: what the joints are.

    Returns:
        "x", "y", "z", "-x", "-y" or "-z". None where the layout has no head or feet, or the body is more than 37
        degrees away from every axis.
    """
    if layout.head is None or not layout.feet:
        return None
    upright = torch.nn.functional.normalize(body[layout.head] - body[list(layout.feet)].mean(dim=0), dim=0)
    axis = int(upright.abs().argmax())
    if not upright[axis].abs() > _UPRIGHT:
        return None
    return ("-" if upright[axis] < 0 else "") + "xyz"[axis]


def body_size(sequence: SkeletonSequence) -> float:
    """The median extent of a body along its longest axis, in the unit of the recording."""
    bodies = sequence.joints[sequence.present]
    return float((bodies.amax(dim=1) - bodies.amin(dim=1)).amax(dim=-1).median())


def number(value: float) -> str:
    """A number in about three digits, without an exponent where it is between a thousandth and a billion."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:.0f}" if 1000 <= abs(rounded) < 1e9 else f"{rounded:g}"


def count_swaps(sequence: SkeletonSequence) -> int:
    """How often two people change places from one frame to the next, as they do in files without tracking.

    A change of places is a step after which both are nearer to where the other was, by more than half a body.
    """
    joints, present = sequence.joints, sequence.present
    size = body_size(sequence)
    swaps = torch.zeros(len(sequence) - 1, dtype=torch.bool)
    for first in range(joints.shape[1]):
        for second in range(first + 1, joints.shape[1]):
            both = present[:, [first, second]].all(dim=1)
            before, after = joints[:-1, [first, second]], joints[1:, [first, second]]
            stay = (after - before).norm(dim=-1).mean(dim=(1, 2))
            change = (after.flip(1) - before).norm(dim=-1).mean(dim=(1, 2))
            swaps |= both[:-1] & both[1:] & (stay - change > size / 2)
    return int(swaps.sum())


def people_in_a_row(sequences: Sequence[SkeletonSequence]) -> tuple[int, str] | None:
    """How many people of which layout are stored as one with many joints; None where that is not so."""
    joints = sequences[0].joints.shape[2] if sequences else 0
    for people in (2, 3, 4):
        size, rest = divmod(joints, people)
        if rest or not layouts_of(size):
            continue
        first = [sequence.take_joints(range(size)) for sequence in sequences]
        if best := check_layout(first).best:
            return people, best
    return None


def describe_check(check: LayoutCheck, layout: Layout, reason: str = "", given: str = "data.joints") -> str:
    """One sentence about the layout of recordings and how well it fits.

    Args:
        check: of the recordings.
        layout: theirs.
        reason: what a layout that has no name was inferred from, or why it could not be; empty where it is given.
        given: what gives it then.
    """
    if not layout.known:
        return (
            f"the {len(layout)} joints are of no known layout"
            + (f" (plausibility: {check})" if check.plausibility else "")
            + (f", and {reason}" if reason else "")
            + "; without bones there are no bone features, no turn to the camera and no mirroring, which costs "
            "accuracy: set data.layout where one fits (`muybridge layouts` lists them), or data.joints"
        )
    if layout.name not in LAYOUTS:
        return _describe_unnamed(layout, reason, given)
    score, best = check.plausibility.get(layout.name, 0.0), check.best
    if best not in (None, layout.name):
        return (
            f"the layout is {layout.name} (plausibility {score:.2f}), and the joints look like {best} "
            f"({check.plausibility[best]:.2f}): set data.layout = {best!r} unless you know better"
        )
    if score < PLAUSIBLE:
        return (
            f"the layout is {layout.name}, and the joints do not look like it (plausibility {score:.2f} of 1): compare "
            f"their order with `muybridge layouts`, which writes it as {', '.join(layout.joints[:4])}, ..."
        )
    return f"the layout is {layout.name} (plausibility of those with {len(layout)} joints: {check})"


def _describe_unnamed(layout: Layout, reason: str, given: str) -> str:
    """One sentence about a layout that is described by data.joints, or was inferred."""
    source = f"inferred {reason}, and written to data.joints in the run's recipe" if reason else f"given by {given}"
    parts = [f"{len(layout.bones)} bones", f"the body's center ({layout.joints[layout.root]})"]
    lacking = []
    for name, known, loss in (
        (f"{len(layout.mirror)} pairs of left and right", layout.mirror, "nothing is mirrored"),
        ("the torso", layout.torso, "the size is that of the whole body"),
        ("the shoulders", layout.shoulders, "nobody is turned to the camera"),
    ):
        (parts if known else lacking).append(name if known else loss)
    text = f"the {len(layout)} joints are of no known layout; {source}: {', '.join(parts)}"
    return text + (f"; {', '.join(lacking)}" if lacking else "") + (_CORRECT if reason else "")


_CORRECT = "; compare the drawing by `muybridge show`, and correct data.joints or set data.layout where it is wrong"


def candidates_of(num_joints: int) -> str:
    """The names of the layouts with so many joints, and what writes them, for messages."""
    return "; ".join(f"{name} ({LAYOUTS[name].source})" for name in (layout.name for layout in layouts_of(num_joints)))
