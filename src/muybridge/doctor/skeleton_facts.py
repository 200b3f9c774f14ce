"""What is odd inside a recording of skeletons: frames without anybody, frozen frames, jumps, swaps, impossible bones.

Legend: T frames, P people, J joints, D coordinates, B bones.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from muybridge.core.contracts import SkeletonData
from muybridge.core.types import SkeletonSequence
from muybridge.data.skeleton_checks import body_size, count_swaps

JUMP = 0.5
"""Of a body's size: how far its middle moves within a frame only where it is another person, or lost."""

STRETCH = 3.0
"""By which factor of its usual length in the recording a bone is longer only where a joint is wrong."""


@dataclass(frozen=True, slots=True)
class SkeletonFacts:
    """What is odd in one recording.

    Attributes:
        frames: how many there are.
        empty: how many show nobody.
        filled: share of the joints of present people that the file lacks.
        frozen: the most consecutive frames in which a person does not change at all.
        jumps: how often a person's middle jumps.
        swaps: how often two people change places.
        stretched: in how many frames a bone is impossibly long.
    """

    frames: int
    empty: int
    filled: float
    frozen: int
    jumps: int
    swaps: int
    stretched: int


def skeleton_facts(sequence: SkeletonSequence, holds: SkeletonData) -> SkeletonFacts:
    """What is odd in a recording of at least one present person."""
    joints, present = sequence.joints, sequence.present
    size = body_size(sequence)
    both = present[1:] & present[:-1]
    swaps = count_swaps(sequence) if len(sequence) > 1 else 0
    middle = joints.median(dim=2).values
    moved = (middle[1:] - middle[:-1]).norm(dim=-1)
    jumps = int((both & (moved > JUMP * size)).sum())
    return SkeletonFacts(
        frames=len(sequence),
        empty=int((~present.any(dim=1)).sum()),
        filled=sequence.filled / max(1, int(present.sum()) * joints.shape[2]),
        frozen=_longest_run(both & (joints[1:] == joints[:-1]).flatten(2).all(dim=2)),
        jumps=max(0, jumps - 2 * swaps),
        swaps=swaps,
        stretched=_stretched(joints, present, holds),
    )


def _longest_run(same: Bool[Tensor, "S P"]) -> int:
    """The most frames in a row that equal the one before, that one included; 0 without any."""
    longest = 0
    for person in range(same.shape[1]):
        run = 0
        for equal in same[:, person].tolist():
            run = run + 1 if equal else 0
            longest = max(longest, run)
    return longest + 1 if longest else 0


def _stretched(joints: Float[Tensor, "T P J D"], present: Bool[Tensor, "T P"], holds: SkeletonData) -> int:
    """Frames in which a bone is far longer than in most frames of the same person."""
    if holds.coordinates != 3 or not holds.layout.bones:
        return 0
    parents, children = torch.tensor(holds.layout.bones).T
    lengths = (joints[:, :, parents] - joints[:, :, children]).norm(dim=-1)
    wrong = torch.zeros(len(joints), dtype=torch.bool)
    for person in range(joints.shape[1]):
        seen = present[:, person]
        if int(seen.sum()) < 3:
            continue
        usual = lengths[seen, person].median(dim=0).values
        floor = usual.median() / 2  # short bones, such as those of hands, are noisy
        wrong |= seen & (lengths[:, person] > STRETCH * usual.clamp(min=float(floor))).any(dim=-1)
    return int(wrong.sum())
