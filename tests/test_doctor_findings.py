"""Findings that are made on purpose from what was observed: shortcuts, odd skeletons, recordings that look alike."""

from pathlib import Path

import numpy as np
import pytest

from muybridge.baseline import near_duplicates
from muybridge.baseline.descriptors import Descriptors, describe_skeleton
from muybridge.baseline.near_duplicates import NearDuplicates
from muybridge.core.contracts import ClipData, SkeletonData
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import Record
from muybridge.doctor import Finding
from muybridge.doctor import split as of_split
from muybridge.doctor.observe import Observed
from muybridge.doctor.shortcuts import check_shortcuts
from muybridge.doctor.skeleton_facts import SkeletonFacts
from muybridge.doctor.skeletons import check_skeletons
from muybridge.doctor.split import check_near_duplicates
from tests.skeletons import figure, sequence

LABELS = ("walk", "run")
KINECT = SkeletonData(LAYOUTS["kinect20"])


def record(name: str, label: int = 0, group: str = "") -> Record:
    return Record(name, Path(f"/none/{name}"), label, group)


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(("kind", "words"), [("one frame", "a single random frame"), ("background", "the background")])
def test_classes_that_a_still_picture_tells(kind: str, words: str, told: bool):
    rng = np.random.default_rng(0)
    observed = []
    for number in range(60):
        label = number % 2
        vector = rng.normal(3.0 * label if told else 0.0, 1, 8).astype(np.float32)
        split = "train" if number < 40 else "test"
        observed.append(Observed(record(f"{number}", label), split, described=Descriptors({kind: {"x": vector}})))
    (found,) = check_shortcuts(observed, LABELS)
    assert found.check.startswith(f"what {words}")
    assert found.level == ("warning" if told else "note")
    assert [item.detail for item in found.items] == (
        ["walk: 100 % of its recordings", "run: 100 % of its recordings"] if told else []
    )
    assert "the most frequent class is 50 %" in found.problem


@pytest.mark.parametrize(
    ("facts", "check", "detail"),
    [
        ({"empty": 2}, "frames without anybody", "2 of 30 frames"),
        ({"filled": 0.2}, "missing joints", "20% of the joints"),
        ({"frozen": 30}, "nothing moves", "all 30 frames are equal"),
        ({"frozen": 9}, "frozen frames", "9 of 30 frames in a row are equal"),
        ({"jumps": 1}, "jumps", "1 jumps in 30 frames"),
        ({"swaps": 3}, "people change places", "3 times"),
        ({"stretched": 1}, "impossible bones", "in 1 of 30 frames"),
    ],
)
def test_odd_skeletons_are_named_each_by_its_kind(facts: dict[str, int | float], check: str, detail: str):
    sound = {"frames": 30, "empty": 0, "filled": 0.0, "frozen": 1, "jumps": 0, "swaps": 0, "stretched": 0}
    observed = [
        Observed(record("sound"), "train", skeleton=SkeletonFacts(**sound)),
        Observed(record("odd"), "train", skeleton=SkeletonFacts(**{**sound, **facts})),
    ]
    (found,) = check_skeletons(observed)
    assert (found.check, found.level) == (check, "warning")
    assert [(item.ids, item.detail) for item in found.items] == [(("odd",), detail)]


def observe_bodies(*bodies: tuple[str, str, np.ndarray]) -> list[Observed]:
    """Recordings of class 0 by part, person and joints."""
    return [
        Observed(one, part, described=describe_skeleton(sequence(joints), KINECT, one))
        for number, (part, person, joints) in enumerate(bodies)
        for one in [record(f"{number}", 0, person)]
    ]


def test_recordings_that_are_nearly_the_same_by_who_is_in_them_and_where():
    wave, other = figure("kinect20"), figure("kinect20", "jump", 2)
    observed = observe_bodies(
        ("train", "anna", wave), ("train", "ben", 1.1 * wave), ("test", "anna", wave + 0.2), ("test", "carl", other)
    )
    found = by_name(check_near_duplicates(observed, KINECT, []))
    inside, similar = found["near-duplicates in one part"], found["very similar recordings in several parts"]
    apart = found["near-duplicates in several parts"]
    assert [(each.level, each.items[0].ids, each.remove) for each in (inside, similar, apart)] == [
        ("warning", ("0", "1"), ()),
        ("warning", ("0", "2"), ()),
        ("error", ("1", "2"), ("1",)),
    ]


def test_clips_of_one_scene_on_both_sides(monkeypatch: pytest.MonkeyPatch):
    none = np.zeros((0, 2), np.int64)
    pairs = NearDuplicates(none, none, np.array([[0, 1], [0, 2]]))
    monkeypatch.setattr(of_split, "find_near_duplicates", lambda *_: pairs)
    described = Descriptors({})
    parts = ("train", "train", "test")
    observed = [Observed(record(f"{number}"), part, described=described) for number, part in enumerate(parts)]
    (found,) = check_near_duplicates(observed, ClipData(), [])
    assert (found.check, found.level) == ("one scene in several parts", "warning")
    assert [item.ids for item in found.items] == [("0", "2")]  # within one part it is no fault


def test_too_many_recordings_are_said_not_to_be_compared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(of_split, "MAX_COMPARED", 3)
    assert near_duplicates.MAX_COMPARED > 3
    observed = observe_bodies(*(("train", "anna", figure("kinect20")),) * 4)
    (found,) = check_near_duplicates(observed, KINECT, [])
    assert (found.check, found.level) == ("near-duplicates", "note")
