"""Findings about faults inside recordings of skeletons."""

from collections.abc import Callable, Sequence

from muybridge.doctor.findings import Finding, finding_of, item
from muybridge.doctor.observe import Observed
from muybridge.doctor.skeleton_facts import JUMP, STRETCH, SkeletonFacts

FROZEN = 8
"""Consecutive frames without any change from which on the recording of a person has stopped."""

_FILLED = 0.05  # share of joints that are missing, from which on it is worth a look


def check_skeletons(observed: Sequence[Observed]) -> list[Finding]:
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
