"""Joints that files name: known layouts in any order, the file's own skeletons, and what contradicts a recipe."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS, get_layout, unnamed_layout
from muybridge.data.datasets.skeleton_folder import SkeletonFolder
from muybridge.data.joint_settings import JointSettings
from muybridge.data.skeleton_ops import match_layout
from muybridge.media.joint_names import layout_of_names, name_joints
from muybridge.media.poses import find_poses, read_poses
from muybridge.media.skeleton import read_skeleton
from tests.skeletons import figure, pixels, sequence

# As the tools' own files have them: datasets/_base_/mpii.py, h36m.py and coco_wholebody.py of MMPose.
MPII = "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top right_wrist "
MPII += "right_elbow right_shoulder left_shoulder left_elbow left_wrist"
H36M = "root right_hip right_knee right_foot left_hip left_knee left_foot spine thorax neck_base head left_shoulder "
H36M += "left_elbow left_wrist right_shoulder right_elbow right_wrist"
FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")
HAND = ["hand_root", *(f"{finger}{joint}" for finger in FINGERS for joint in (1, 2, 3, 4))]
WHOLE = [
    *LAYOUTS["coco17"].joints,
    *(f"{side}_{part}" for side in ("left", "right") for part in ("big_toe", "small_toe", "heel")),
    *(f"face-{number}" for number in range(68)),
    *(f"{side}_{part}" for side in ("left", "right") for part in HAND),
]


@pytest.mark.parametrize(
    ("names", "layout"),
    [
        (MPII.split(), "mpii16"),
        (H36M.split(), "h36m17"),
        (WHOLE, "coco133"),
        (LAYOUTS["coco17"].joints, "coco17"),
        ([name.replace("_", " ").title() for name in LAYOUTS["halpe26"].joints], "halpe26"),
        (LAYOUTS["msr20"].joints, "msr20"),
    ],
)
def test_joints_of_other_tools_are_a_known_layout_in_its_order(names, layout: str):
    found, order = layout_of_names(list(names))
    assert (found.name, list(order)) == (layout, list(range(len(names))))


def test_joints_in_another_order_are_put_in_that_of_the_layout():
    shuffled = np.random.default_rng(0).permutation(17)
    names = [LAYOUTS["coco17"].joints[joint] for joint in shuffled]
    recording = name_joints(sequence(figure("coco17")[:, shuffled]), names, None)
    assert recording.layout == LAYOUTS["coco17"]
    np.testing.assert_allclose(recording.joints[:, 0], figure("coco17"), rtol=1e-6)


def test_a_skeleton_of_its_own_has_sides_torso_and_shoulders_by_its_names():
    names = ["Hips", "Spine", "Neck1", "Head", "LeftForeArm", "LeftArm", "RightArm", "RightForeArm", "l_toe", "r_toe"]
    bones = [(0, 1), (1, 2), (2, 3), (1, 5), (5, 4), (1, 6), (6, 7), (0, 8), (0, 9)]
    layout, order = layout_of_names(names, bones)
    assert list(order) == list(range(10))
    assert (layout.name, layout.joints, layout.bones, layout.root) == ("plain10", tuple(names), tuple(bones), 0)
    assert set(layout.mirror) == {(4, 7), (5, 6), (8, 9)}
    assert (layout.torso, layout.shoulders, layout.head) == ((0, 2), (5, 6), 3)
    alone, _ = layout_of_names(names)
    assert alone == replace(unnamed_layout(10), joints=tuple(names))
    assert JointSettings.of(alone).layout(unnamed_layout(10)) == alone
    assert JointSettings.of(unnamed_layout(10)) == JointSettings()


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "b"], "2 joints are named, and there are 17"), (["a"] * 17, "two joints are called 'a'")],
)
def test_names_that_are_not_those_of_the_joints(names, message):
    with pytest.raises(DataError, match=message):
        name_joints(sequence(figure("coco17")), names, None)


def mmpose(path: Path, joints: np.ndarray, names: Sequence[str]) -> Path:
    """A recording as MMPose writes it, which says the names of its joints."""
    frames = [{"frame_id": n, "instances": [{"keypoints": body.tolist()}]} for n, body in enumerate(joints)]
    meta = {"dataset_name": "mine", "keypoint_id2name": {str(number): name for number, name in enumerate(names)}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"meta_info": meta, "instance_info": frames}))
    return path


def test_mmpose_says_which_of_two_layouts_of_17_joints_it_is(tmp_path: Path):
    flat = np.zeros_like(pixels(figure("h36m17"))) + np.arange(17)[:, None] + 1.0  # which no layout looks like
    for action in ("bow", "wave"):
        mmpose(tmp_path / f"{action}/s1.json", flat, H36M.split())
    assert SkeletonFolder(root=tmp_path).holds().layout == LAYOUTS["h36m17"]
    config = SkeletonFolder(root=tmp_path, layout="coco17", people=1, coordinates=2)
    with pytest.raises(
        DataError, match=r"they are layout h36m17; 'hip' is none of those expected\. Expected layout coco17"
    ):
        config.open(config.index("train").records[0])
    plain = SkeletonFolder(root=tmp_path, layout="plain17", people=1, coordinates=2)
    assert plain.open(plain.index("train").records[0]).joints.shape[2] == 17


def test_recordings_of_different_skeletons_are_refused(tmp_path: Path):
    mmpose(tmp_path / "bow/s1.json", pixels(figure("h36m17")), H36M.split())
    mmpose(tmp_path / "wave/s1.json", pixels(figure("coco17")), list(LAYOUTS["coco17"].joints))
    with pytest.raises(DataError, match=r"wave.*the joints are layout coco17.*layout h36m17, as in .*bow"):
        SkeletonFolder(root=tmp_path).holds()


def test_coco_annotations_name_their_joints(tmp_path: Path):
    names = MPII.split()[::-1]
    body = pixels(figure("mpii16"))[:, ::-1]
    keypoints = [np.concatenate([pose, np.full((16, 1), 2)], axis=1).ravel().tolist() for pose in body]
    content = {
        "images": [{"id": n, "file_name": f"{n:04d}.jpg"} for n in range(len(body))],
        "annotations": [{"image_id": n, "category_id": 1, "keypoints": pose} for n, pose in enumerate(keypoints)],
        "categories": [{"id": 1, "name": "person", "keypoints": names}],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    recording = read_skeleton(tmp_path / "a.json")
    assert recording.layout == LAYOUTS["mpii16"]
    np.testing.assert_allclose(recording.joints[:, 0], pixels(figure("mpii16")), rtol=1e-5)


@pytest.mark.parametrize("annotations", [True, False])
def test_the_parts_of_coco_whole_body_are_one_skeleton(tmp_path: Path, annotations: bool):
    body = pixels(figure("coco133"))
    rows = np.concatenate([body, np.full((len(body), 133, 1), 1.0)], axis=2)
    ends = {"keypoints": 17, "foot_kpts": 23, "face_kpts": 91, "lefthand_kpts": 112, "righthand_kpts": 133}
    parts = zip(ends, [0, *ends.values()], ends.values(), strict=False)
    cut = {part: (first, last) for part, first, last in parts}
    people = [
        {"image_id": n, "category_id": 1, **{key: row[a:b].ravel().tolist() for key, (a, b) in cut.items()}}
        for n, row in enumerate(rows)
    ]
    images = [{"id": n, "file_name": f"{n:04d}.jpg"} for n in range(len(body))]
    content = {"images": images, "annotations": people, "categories": []} if annotations else people
    (tmp_path / "a.json").write_text(json.dumps(content))
    recording = read_skeleton(tmp_path / "a.json")
    assert recording.layout == LAYOUTS["coco133"]
    np.testing.assert_allclose(recording.joints[:, 0], body, rtol=1e-5)


def test_openpose_is_not_taken_for_a_kinect(tmp_path: Path):
    body = np.concatenate([pixels(figure("openpose25")), np.ones((len(figure("openpose25")), 25, 1))], axis=2)
    for number, pose in enumerate(body):
        content = {"version": 1.3, "people": [{"pose_keypoints_2d": pose.ravel().tolist()}]}
        (tmp_path / f"a_{number:012d}_keypoints.json").write_text(json.dumps(content))
    assert read_poses(find_poses(tmp_path)[0]).layout == LAYOUTS["openpose25"]


def test_names_are_converted_and_read_back(tmp_path: Path):
    names = [f"part {number}" for number in range(17)]
    mmpose(tmp_path / "in/bow/s1.json", pixels(figure("coco17")), names)
    mmpose(tmp_path / "in/wave/s1.json", pixels(figure("coco17")), names)
    result = CliRunner().invoke(app, ["convert-poses", str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    layout = read_skeleton(tmp_path / "out/bow/s1.npz").layout
    assert layout == replace(unnamed_layout(17), joints=tuple(names))
    config = SkeletonFolder(root=tmp_path / "out")
    assert config.holds().layout == layout
    resolved = config.resolved()
    assert resolved.joints == JointSettings(names=tuple(names))
    assert SkeletonFolder(root=tmp_path / "out", layout="coco17").holds().layout == get_layout("coco17")


@pytest.mark.parametrize(
    "bones", [np.array([[0, 1], [0, 2]]), np.zeros((16, 2), int), np.zeros((16, 2)), np.array([0, 1])]
)
def test_bones_that_are_no_tree_of_all_joints(tmp_path: Path, bones: np.ndarray):
    names = np.array([f"part {number}" for number in range(17)])
    np.savez(tmp_path / "a.npz", joints=figure("coco17"), joint_names=names, bones=bones)
    with pytest.raises(DataError, match="a row of parent and child for each bone"):
        read_skeleton(tmp_path / "a.npz")


def test_a_recording_of_other_joints_is_refused_and_one_in_another_order_is_not():
    names = [f"part {number}" for number in range(17)]
    recording = name_joints(sequence(figure("coco17")), names, None)
    own = SkeletonData(replace(unnamed_layout(17), joints=tuple(names[::-1])))
    np.testing.assert_allclose(match_layout(recording, own).joints[:, 0], figure("coco17")[:, ::-1], rtol=1e-6)
    other = SkeletonData(replace(unnamed_layout(17), joints=tuple(f"bit {number}" for number in range(17))))
    with pytest.raises(
        DataError, match=r"the file names its joints, and they are part 0, part 1.*'part 0' is none.*bit 0, bit 1"
    ):
        match_layout(recording, other)


def test_landmarks_of_mediapipe_in_a_table_by_their_own_names(tmp_path: Path):
    own = {"left_mouth": "mouth_left", "right_mouth": "mouth_right"}
    own |= {"left_foot": "left_foot_index", "right_foot": "right_foot_index"}
    names = [own.get(name, name).upper() for name in LAYOUTS["mediapipe33"].joints]
    body = figure("mediapipe33")[:3].round(4)
    rows = [
        f"{number},{name},{x},{y},{z},0.9"
        for number, pose in enumerate(body.tolist())
        for name, (x, y, z) in reversed(list(zip(names, pose, strict=True)))
    ]
    (tmp_path / "a.csv").write_text("\n".join(["frame_id,landmark,x,y,z,visibility", *rows]))
    recording = read_skeleton(tmp_path / "a.csv")
    assert recording.layout == LAYOUTS["mediapipe33"]
    np.testing.assert_allclose(recording.joints[:, 0], body, rtol=1e-5)
    (tmp_path / "b.csv").write_text("\n".join(["frame,joint_id,joint_name,x,y", "0,0,nose,1,2"]))
    with pytest.raises(DataError, match="the header has joint twice"):
        read_skeleton(tmp_path / "b.csv")
