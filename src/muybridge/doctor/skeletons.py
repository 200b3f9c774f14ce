"""Faults inside recordings of skeletons: frames without anybody, frozen frames, jumps, swaps, impossible bones.

Legend: T frames, P people, J joints, D coordinates, B bones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from muybridge.core.contracts import SkeletonData
from muybridge.core.types import SkeletonSequence
from muybridge.data.skeleton_checks import body_size, count_swaps
from muybridge.doctor.findings import Finding, finding_of, item

if TYPE_CHECKING:
    from muybridge.doctor.observe import Observed

FROZEN = 8
"""Consecutive frames without any change from which on the recording of a person has stopped."""

JUMP = 0.5
"""Of a body's size: how far its middle moves within a frame only where it is another person, or lost."""

STRETCH = 3.0
"""By which factor of its usual length in the recording a bone is longer only where a joint is wrong."""

_FILLED = 0.05  # share of joints that are missing, from which on it is worth a look


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


def check_skeletons(observed: Sequence["Observed"]) -> list[Finding]:
    """Findings about what is inside recordings of skeletons."""
    seen = [(one, one.skeleton) for one in observed if one.skeleton is not None]
    findings: list[Finding] = []
    for name, problem, cure, describe in _KINDS:
        items = [item(one.record, text) for one, facts in seen if (text := describe(facts))]
        findings += finding_of(name, "warning", problem, cure, items)
    return findings


_Describe = Callable[[SkeletonFacts], str]


def _all_frozen(facts: SkeletonFacts) -> str:
    return f"all {facts.frames} frames are equal" if 1 < facts.frames <= facts.frozen else ""


def _frozen(facts: SkeletonFacts) -> str:
    stopped = facts.frozen >= FROZEN and facts.frozen < facts.frames
    return f"{facts.frozen} of {facts.frames} frames in a row are equal" if stopped else ""


_KINDS: tuple[tuple[str, str, str, _Describe], ...] = (
    (
        "frames without anybody",
        "some frames of these recordings hold only zeros, or nobody",
        "nothing has to be done for a few: models see the person again in the next frame; leave the recording out if "
        "most of it is empty",
        lambda facts: f"{facts.empty} of {facts.frames} frames" if facts.empty else "",
    ),
    (
        "missing joints",
        "joints are missing (NaN, or at the origin) and are interpolated over time",
        "record or estimate the pose again, or leave the recording out if it is mostly guessed",
        lambda facts: f"{facts.filled:.0%} of the joints" if facts.filled > _FILLED else "",
    ),
    (
        "nothing moves",
        "every frame of the recording is the same",
        "export the recording again; leave it out otherwise",
        _all_frozen,
    ),
    (
        "frozen frames",
        "the sensor or the estimator stopped for a while and repeated the last pose",
        "cut that part off, or leave the recording out",
        _frozen,
    ),
    (
        "jumps",
        f"a body moves by more than {JUMP:g} of its size from one frame to the next: tracking was lost, frames are "
        "missing, or another person is written at its place",
        "write the same person at the same place in every frame; leave the recording out if tracking was lost",
        lambda facts: f"{facts.jumps} jumps in {facts.frames} frames" if facts.jumps else "",
    ),
    (
        "people change places",
        "two people are exchanged from one frame to the next",
        "write the same person at the same place in every frame",
        lambda facts: f"{facts.swaps} times" if facts.swaps else "",
    ),
    (
        "impossible bones",
        f"a bone is more than {STRETCH:g} times as long as in most frames: a joint is at a wrong place",
        "smooth the joints, or leave the recording out if many frames are affected",
        lambda facts: f"in {facts.stretched} of {facts.frames} frames" if facts.stretched else "",
    ),
)
