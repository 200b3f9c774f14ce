"""Layouts that are inferred from how joints move: known ones are hidden, their joints shuffled, and found again."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

import muybridge
from muybridge.core.errors import RecipeError
from muybridge.core.skeletons import LAYOUTS, Layout, unnamed_layout
from muybridge.core.types import SkeletonSequence
from muybridge.data.datasets import SBU, UTDMHAD, MSRAction3D, SkeletonFolder
from muybridge.data.joint_settings import JointSettings
from muybridge.data.skeleton_checks import mean_body, vertical_axis
from muybridge.data.skeleton_inference import infer_layout
from muybridge.engine.train import train
from muybridge.media.synthetic.stick_figures import ACTIONS
from muybridge.recipe import folder_recipe
from tests.skeletons import figure, pixels, sequence

ORDER = np.random.default_rng(0).permutation(20)
"""Of the joints of ``kinect20`` in the folder."""

Names = set[frozenset[str]]


def named(pairs: Iterable[tuple[int, int]], names: list[str]) -> Names:
    return {frozenset((names[a], names[b])) for a, b in pairs}


def bodies(order: np.ndarray, people: int = 4) -> list[SkeletonSequence]:
    every = [(action, person) for action in ACTIONS for person in range(1, people + 1)]
    return [sequence(figure("kinect20", action, person)[:, order]) for action, person in every]


def compare(inferred: Layout, known: Layout, order: np.ndarray) -> tuple[Names, Names]:
    """Bones that are not known, and mirror pairs that were not found or are wrong."""
    names = [known.joints[index] for index in order]
    bones = named(inferred.bones, names) - named(known.bones, list(known.joints))
    return bones, named(inferred.mirror, names) ^ named(known.mirror, list(known.joints))


@pytest.mark.parametrize("seed", [1, 2])
def test_figures_in_an_unknown_order(seed):
    known = LAYOUTS["kinect20"]
    order = np.random.default_rng(seed).permutation(len(known))
    inferred = infer_layout(bodies(order)).layout
    bones, mirror = compare(inferred, known, order)
    assert bones == set()
    assert mirror == set()
    assert inferred.name == "plain20"
    assert known.joints[order[inferred.root]] == known.joints[known.root]
    assert inferred.shoulders is not None
    assert {known.joints[order[joint]] for joint in inferred.shoulders} == {"left_shoulder", "right_shoulder"}
    assert vertical_axis(mean_body(bodies(order)[0]), inferred) == "y"


@pytest.mark.parametrize("config", [MSRAction3D(), SBU(), UTDMHAD()], ids=lambda config: config.name)
def test_real_recordings_in_an_unknown_order(real_data, config):
    """Of the training people. In MSR Action3D the head keeps its distance from the spine, and is joined to it."""
    known, records = config.holds().layout, config.index("train").records
    order = np.random.default_rng(2).permutation(len(known))
    recordings = [config.open(record) for record in records[:: len(records) // 100][:100]]
    shuffled = [SkeletonSequence(each.joints[:, :, order], each.present) for each in recordings]
    inferred = infer_layout(shuffled).layout
    bones, mirror = compare(inferred, known, order)
    assert bones == ({frozenset(("head", "spine"))} if config.name == "msr_action3d" else set())
    assert mirror == set()
    assert order[inferred.root] == known.root
    assert inferred.torso is not None
    assert tuple(order[list(inferred.torso)]) == known.torso
    assert known.joints[order[inferred.joints.index("head")]] == "head"
    assert {vertical_axis(mean_body(each), inferred) for each in shuffled[::10]} <= {"y", None}


def test_both_sides_of_the_body_are_consistent():
    """Mirror pairs of arms and legs name the same side first, whichever that is."""
    inferred = infer_layout(bodies(ORDER)).layout
    sides = {LAYOUTS["kinect20"].joints[ORDER[first]].partition("_")[0] for first, _ in inferred.mirror}
    assert len(sides) == 1
    assert {"hip", "neck", "head", "first_hand", "second_foot"} <= set(inferred.joints)


def test_a_chain_without_limbs_has_bones_alone():
    """A whip of eight joints that bends: a bone follows the other, the root is in the middle."""
    rng = np.random.default_rng(0)
    whips = []
    for _ in range(20):
        angles = np.cumsum(rng.normal(0, 0.5, (30, 8)).cumsum(0) / 3, axis=1)
        steps = (
            np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)], -1) * np.linspace(0.5, 1.5, 8)[:, None]
        )
        whips.append(sequence(np.cumsum(steps, axis=1) + 5))
    layout = infer_layout(whips).layout
    assert named(layout.bones, list("abcdefgh")) == {frozenset(pair) for pair in zip("abcdefg", "bcdefgh", strict=True)}
    assert (layout.torso, layout.shoulders) == (None, None)
    assert layout.root in (3, 4, 5)


@pytest.mark.parametrize(
    ("recordings", "reason"),
    [
        ([sequence(pixels(figure("kinect20", action))) for action in ACTIONS], "in two dimensions bones change"),
        ([sequence(np.tile(figure("kinect20")[:1], (20, 1, 1))) for _ in range(9)], r"move too little .*\(0.00 of"),
        ([sequence(figure("kinect20"))], "bones are inferred from 8 people and more"),
        ([sequence(figure("kinect20")[:, :4])] * 9, "fewer than 5 joints"),
        (
            [
                sequence(figure("kinect20", action, person))
                for action in ("wave left hand", "jump")
                for person in range(1, 9)
            ],
            "no bones",
        ),
        ([sequence(np.random.default_rng(n).normal(size=(20, 12, 3))) for n in range(20)], "no bones are certain"),
    ],
    ids=["flat", "still", "few", "few joints", "legs at rest", "noise"],
)
def test_what_is_not_safe_is_not_inferred(recordings, reason):
    result = infer_layout(recordings)
    assert not result.layout.known
    assert not result.layout.mirror
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(result.reason)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All actions of three people in an unknown order."""
    root = tmp_path_factory.mktemp("data") / "unknown"
    for action in ACTIONS:
        (root / action).mkdir(parents=True)
        for person in range(1, 4):
            np.save(root / action / f"s{person}.npy", figure("kinect20", action, person)[:, None, ORDER])
    return root


def test_a_folder_says_what_was_inferred(folder: Path):
    data = SkeletonFolder(root=folder)
    notice = data.notices()[0]
    assert notice.startswith("the 20 joints are of no known layout; inferred from 24 people moving in 24 recordings")
    assert "19 bones, the body's center (hip), 8 pairs of left and right" in notice
    assert "written to data.joints in the run's recipe" in notice
    resolved = data.resolved()
    assert resolved.layout == "plain20"
    assert resolved.joints == JointSettings.of(data.holds().layout)
    assert resolved.notices()[0].startswith("the 20 joints are of no known layout; given by data.joints: 19 bones")
    assert resolved.resolved() == resolved


def test_a_folder_says_why_nothing_was_inferred(tmp_path: Path):
    for action in ("a", "b"):
        (tmp_path / action).mkdir()
        for take in range(2):
            np.save(tmp_path / action / f"{take}.npy", figure("kinect20", take=take + 1)[:, None, ORDER])
    data = SkeletonFolder(root=tmp_path)
    notice = data.notices()[0]
    assert "are of no known layout" in notice
    assert "and bones are inferred from 8 people and more" in notice
    assert "without bones there are no bone features" in notice
    assert data.resolved().joints == JointSettings()


def test_a_run_needs_no_data_to_know_its_joints(folder: Path, tmp_path: Path):
    data = tmp_path / "data"
    shutil.copytree(folder, data)
    settings = {
        "model.hidden": 8,
        "model.features": ["movement", "angle", "bone"],
        "train.epochs": 1,
        "train.num_workers": 0,
    }
    run = train(folder_recipe("drnn", data, settings), tmp_path / "run")
    shutil.move(data, tmp_path / "moved")
    recipe = run.recipe()
    assert isinstance(recipe.data, SkeletonFolder)
    assert recipe.data.holds().layout == SkeletonFolder(root=folder).holds().layout
    prediction = muybridge.load(run.path)(tmp_path / "moved" / "jump" / "s1.npy")
    assert set(prediction.labels) <= set(ACTIONS)


def test_joints_that_are_given(folder: Path):
    given = JointSettings.of(infer_layout(bodies(ORDER)).layout).model_copy(update={"shoulders": None})
    data = SkeletonFolder(root=folder, joints=given)
    assert data.holds().layout.shoulders is None
    assert "nobody is turned to the camera" in data.notices()[0]
    assert not SkeletonFolder(root=folder, joints=JointSettings()).holds().layout.known
    with pytest.raises(RecipeError, match=r"layout is kinect20, whose joints are known.*data\.layout = 'plain20'"):
        SkeletonFolder(root=folder, layout="kinect20", joints=given).holds()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"mirror": [[0, 5]]}, r"joint 5.*numbers from 0 to 4"),
        ({"root": 7}, r"joint 7"),
        ({"names": ["a", "a", "b", "c", "d"]}, r"4 different names.*a name for each of 5 joints"),
        ({"bones": [[1, 2], [0, 1]]}, r"the bone 1, 2.*from the root outwards"),
        ({"bones": [[0, 1], [1, 0]]}, r"the bone 1, 0.*one to each joint"),
        ({"bones": [[0, 1], [1, 2]]}, r"bones to 3 of 5 joints.*connect all joints"),
    ],
)
def test_joints_that_are_wrong(settings, problem):
    with pytest.raises(RecipeError, match=problem):
        JointSettings.model_validate(settings).layout(unnamed_layout(5))


def test_the_middle_of_inferred_bodies_is_found_in_torch():
    """The layout serves like a known one: a turn to the camera lays the shoulders along x."""
    from muybridge.data.skeleton_ops import face_camera

    layout = infer_layout(bodies(ORDER)).layout
    assert layout.shoulders is not None
    turned = face_camera(bodies(ORDER)[0], layout).joints[0, 0]
    line = turned[layout.shoulders[1]] - turned[layout.shoulders[0]]
    assert torch.allclose(line[2], torch.zeros(()), atol=1e-5)
    assert line[0] > 0
