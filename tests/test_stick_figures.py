"""Stick figures are the same every time, are bodies, and differ in movement alone."""

import time

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from muybridge.core.contracts import SkeletonData, SkeletonInput
from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS
from muybridge.data.datasets import StickFigures
from muybridge.data.skeleton_augment import mirror
from muybridge.data.skeleton_checks import PLAUSIBLE, check_layout
from muybridge.data.skeleton_ops import prepare_skeleton
from muybridge.media.synthetic.retarget import joint_weights, retarget
from muybridge.media.synthetic.stick_figures import ACTIONS, MIRRORED, stick_figure, write_stick_figures

LAYOUT = LAYOUTS["kinect20"]
TAKES = SkeletonInput(smooth=True, center="first", face_camera=True, unit_scale=True)


@pytest.fixture(scope="module")
def stick_figures(tmp_path_factory) -> StickFigures:
    config = StickFigures(root=tmp_path_factory.mktemp("figures"))
    begin = time.process_time()
    config.index("train")
    assert time.process_time() - begin < 10  # about a second without the shape checks of the tests
    return config


@pytest.fixture(scope="module")
def recordings(stick_figures) -> dict[str, tuple[list[np.ndarray], np.ndarray]]:
    """Prepared positions (T 60) and labels of either split."""

    def read(split):
        records = stick_figures.index(split).records
        joints = [prepare_skeleton(stick_figures.open(record), TAKES, stick_figures.holds()) for record in records]
        return [one.flatten(1).numpy() for one in joints], np.array([record.label for record in records])

    return {split: read(split) for split in ("train", "test")}


def frames(recordings, split, seed=0):
    """Eight random frames of every recording, centered, so that a classifier sees poses."""
    rng = np.random.default_rng(seed)
    sequences, labels = recordings[split]
    poses = np.concatenate([one[rng.integers(len(one), size=8)] for one in sequences]).reshape(-1, 20, 3)
    return (poses - poses[:, LAYOUT.root, None]).reshape(-1, 60), np.repeat(labels, 8)


def movement(sequence):
    """What moves, where to, and which way round: order matters only in the last two."""
    position = sequence.reshape(-1, 20, 3)
    velocity = np.diff(position, axis=0)
    turning = np.cross(position[1:] - position[1:].mean(0), velocity).mean(0)
    return np.concatenate([np.abs(velocity).mean(0), velocity.mean(0), turning]).ravel()


def test_one_frame_does_not_give_the_action_away_and_the_movement_does(recordings):
    one_frame = make_pipeline(StandardScaler(), SVC(C=10.0)).fit(*frames(recordings, "train"))
    by_frame = one_frame.score(*frames(recordings, "test"))
    features = {split: np.stack([movement(one) for one in recordings[split][0]]) for split in recordings}
    ordered = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    by_movement = ordered.fit(features["train"], recordings["train"][1]).score(features["test"], recordings["test"][1])
    assert by_frame < 0.25  # chance is 0.125
    assert by_movement > 0.9


@pytest.mark.parametrize("pair", MIRRORED, ids="/".join)
def test_one_frame_says_nothing_about_the_direction(recordings, pair):
    labels = [ACTIONS.index(action) for action in pair]
    poses = {}
    for split in ("train", "test"):
        x, y = frames(recordings, split)
        poses[split] = x[np.isin(y, labels)], y[np.isin(y, labels)]
    score = make_pipeline(StandardScaler(), SVC(C=10.0)).fit(*poses["train"]).score(*poses["test"])
    assert score == pytest.approx(0.5, abs=0.15)  # 192 test frames of 24 recordings


def test_the_same_names_give_the_same_figure_and_another_seed_other_people():
    one, again = (stick_figure("jump", 1, 2, seed=3) for _ in range(2))
    assert torch.equal(one.joints, again.joints)
    other = stick_figure("jump", 1, 2, seed=4)
    assert one.joints.shape != other.joints.shape or not torch.allclose(one.joints, other.joints, atol=0.05)


def test_figures_have_bones_of_steady_length_and_people_differ():
    def bones(person):
        joints = torch.cat([stick_figure(action, person, 1).joints[:, 0] for action in ACTIONS])
        return torch.stack([(joints[:, a] - joints[:, b]).norm(dim=1) for a, b in LAYOUT.bones])

    lengths = bones(1)
    assert lengths.std(dim=1).max() < 0.025  # sensor noise of 8 mm at either end
    heights = [float(bones(person).mean(dim=1).sum()) for person in range(1, 9)]
    assert max(heights) > 1.1 * min(heights)


def hip_path(action):
    sequence = stick_figure(action, 2, 1)
    return prepare_skeleton(sequence, SkeletonInput(face_camera=True), StickFigures().holds())[:, 0]


def test_the_actions_do_what_they_are_called():
    joint = LAYOUT.joints.index
    # Facing the camera, the person's left is -x.
    assert hip_path("walk left")[-1, 0, 0] < hip_path("walk left")[0, 0, 0] - 0.2
    assert hip_path("walk right")[-1, 0, 0] > hip_path("walk right")[0, 0, 0] + 0.2
    for side, other in (("left", "right"), ("right", "left")):
        moved = hip_path(f"wave {side} hand").std(dim=0).norm(dim=-1)
        assert moved[joint(f"{side}_hand")] > 3 * moved[joint(f"{other}_hand")]
    jump, squat = hip_path("jump"), hip_path("squat")
    assert jump[:, joint("left_foot"), 1].std() > 5 * squat[:, joint("left_foot"), 1].std()
    assert squat[:, joint("hip"), 1].std() > 5 * squat[:, joint("left_foot"), 1].std()
    for action, sign in (("circle clockwise", -1), ("circle counter-clockwise", 1)):
        path = hip_path(action)
        hand = path[:, max((joint("left_hand"), joint("right_hand")), key=lambda at: path[:, at].std(dim=0).norm())]
        x, y = (hand - hand.mean(dim=0))[:, :2].T
        # Seen along -z with x to the right, as the person sees it.
        assert sign * (x[:-1] * y.diff() - y[:-1] * x.diff()).mean() > 0


def test_a_mirrored_figure_moves_as_its_partner():
    path = mirror(stick_figure("walk left", 2, 1), LAYOUT)
    prepared = prepare_skeleton(path, SkeletonInput(face_camera=True), StickFigures().holds())[:, 0]
    assert prepared[-1, 0, 0] > prepared[0, 0, 0] + 0.2
    mapping = StickFigures().mirror()
    assert [(ACTIONS[one], ACTIONS[other]) for one, other in mapping.items() if one < other] == list(MIRRORED)


def test_files_are_written_once_and_mended_when_some_are_gone(tmp_path):
    files = write_stick_figures(tmp_path, people=2, takes=1)
    assert len(files) == len(ACTIONS) * 2
    assert sorted(tmp_path.rglob("*.npz")) == sorted(files)
    stamps = [path.stat().st_mtime_ns for path in files]
    content = files[3].read_bytes()
    files[3].unlink()
    assert write_stick_figures(tmp_path, people=2, takes=1) == files
    assert files[3].read_bytes() == content
    assert [path.stat().st_mtime_ns for path in files if path != files[3]] == stamps[:3] + stamps[4:]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"the stick figures cannot be written .*choose another folder"):
        write_stick_figures(tmp_path / "file", people=2, takes=1)


def test_the_default_folder_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = StickFigures(people=2, test_people=1, repetitions=1)
    assert all(record.path.is_relative_to(tmp_path / "muybridge") for record in config.index("test").records)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_figures_have_the_joints_of_any_named_layout(layout):
    sequence = stick_figure("squat", 2, 1)
    weights = joint_weights(layout)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(len(layout)))
    given = retarget(sequence, SkeletonData(layout, people=2))
    assert given.joints.shape == (len(sequence), 2, len(layout), 3)
    assert given.present.tolist() == [[True, False]] * len(sequence)
    assert not given.joints[:, 1].any()
    for index, joint in enumerate(layout.joints):
        if joint in LAYOUT.joints:
            torch.testing.assert_close(given.joints[:, 0, index], sequence.joints[:, 0, LAYOUT.joints.index(joint)])
    assert check_layout([given], layout).plausibility[layout.name] > PLAUSIBLE


def test_joints_that_figures_lack_lie_between_their_neighbors_or_at_their_parent():
    layout = LAYOUTS["azure_kinect32"]
    named = dict(zip(layout.joints, joint_weights(layout), strict=True))
    torch.testing.assert_close(named["chest"], (named["spine"] + named["neck"]) / 2)
    torch.testing.assert_close(named["left_clavicle"], (named["chest"] + named["left_shoulder"]) / 2)
    assert torch.equal(named["left_tip"], named["left_hand"])
    assert torch.equal(named["nose"], named["head"])


def test_in_two_coordinates_the_right_hand_is_left_in_the_image_and_the_head_is_up():
    data = StickFigures(people=2, test_people=1, layout="coco17", coordinates=2)
    flat = retarget(stick_figure("squat", 1, 1), data.holds()).joints.mean(dim=(0, 1))
    at = dict(zip(data.holds().layout.joints, flat.tolist(), strict=True))
    assert at["right_shoulder"][0] < at["left_shoulder"][0]
    assert at["nose"][1] < at["left_ankle"][1]


def test_a_data_set_of_figures_gives_what_it_says(tmp_path):
    data = StickFigures(root=tmp_path, people=2, test_people=1, repetitions=1, layout="sbu15", bodies=2)
    sequence = data.open(data.index("train").records[0])
    assert sequence.joints.shape[1:] == (2, 15, 3) == (data.holds().people, len(data.holds().layout), 3)


def test_somebody_has_to_train():
    with pytest.raises(ValueError, match="nobody is left to train"):
        StickFigures(people=3, test_people=3)
