"""Motion capture: positions of BVH skeletons against plain forward kinematics, markers of C3D files written by hand."""

import contextlib
import math
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import DataError, MissingExtraError
from muybridge.core.skeletons import LAYOUTS
from muybridge.data.datasets.skeleton_folder import SkeletonFolder
from muybridge.media.arrays import ReadOptions
from muybridge.media.poses import find_poses, read_poses
from muybridge.media.skeleton import read_skeleton
from tests.oracles.bvh import Tree, positions
from tests.skeletons import figure

NAMES = ["Hips", "Spine", "Neck", "Head", "LeftArm", "LeftForeArm", "RightArm", "RightForeArm", "LeftLeg", "RightLeg"]
PARENTS = [-1, 0, 1, 2, 1, 4, 1, 6, 0, 0]
ORDERS = ["XYZ", "ZXY", "ZYX", "YXZ"]


def tree(seed: int, moving: bool = False) -> Tree:
    """A body with offsets and orders of rotation that are drawn; all its joints may have positions too."""
    rng = np.random.default_rng(seed)
    joints = []
    for name in NAMES:
        turns = [f"{axis}rotation" for axis in ORDERS[rng.integers(4)]]
        places = [f"{axis}position" for axis in "XYZ"] if not joints or moving else []
        joints.append({"name": name, "offset": rng.normal(size=3).round(3).tolist(), "channels": places + turns})
    for joint in joints:
        joint["children"] = [other for other, parent in zip(joints, PARENTS, strict=True) if parent >= 0]
        joint["children"] = [one for one in joint["children"] if joints[PARENTS[NAMES.index(one["name"])]] is joint]
    return joints[0]


def hierarchy(joint: Tree, keyword: str = "ROOT", indent: str = "", prefix: str = "") -> list[str]:
    inner = indent + "\t"
    lines = [f"{indent}{keyword} {prefix}{joint['name']}", f"{indent}{{"]
    lines.append(f"{inner}OFFSET " + " ".join(map(str, joint["offset"])))
    lines.append(f"{inner}CHANNELS {len(joint['channels'])} " + " ".join(joint["channels"]))
    for child in joint["children"]:
        lines += hierarchy(child, "JOINT", inner, prefix)
    if not joint["children"]:
        lines += [f"{inner}End Site", f"{inner}{{", f"{inner}\tOFFSET 0 5 0", f"{inner}}}"]
    return [*lines, f"{indent}}}"]


def channels_of(joint: Tree) -> int:
    return len(joint["channels"]) + sum(map(channels_of, joint["children"]))


def write_bvh(path: Path, root: Tree, frames: np.ndarray, prefix: str = "") -> Path:
    rows = [" ".join(f"{value:.6f}" for value in row) for row in frames]
    lines = ["HIERARCHY", *hierarchy(root, prefix=prefix), "MOTION", f"Frames: {len(rows)}", "Frame Time: 0.033333"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\r\n".join([*lines, *rows, ""]))
    return path


def motion(root: Tree, frames: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-180, 180, (frames, channels_of(root))).round(4)


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_positions_are_those_of_forward_kinematics(tmp_path: Path, seed: int, moving: bool):
    root = tree(seed, moving)
    values = motion(root, seed=seed)
    recording = read_skeleton(write_bvh(tmp_path / "a.bvh", root, values, prefix="mixamorig:"))
    assert recording.layout is not None
    assert sorted(recording.layout.joints) == sorted(NAMES)
    assert {(recording.layout.joints[a], recording.layout.joints[b]) for a, b in recording.layout.bones} == {
        (NAMES[parent], name) for name, parent in zip(NAMES, PARENTS, strict=True) if parent >= 0
    }
    for frame, row in enumerate(values):
        expected = positions(root, row.tolist())
        given = dict(zip(recording.layout.joints, recording.joints[frame, 0].tolist(), strict=True))
        for name in NAMES:
            assert given[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-3)
    assert recording.present.all()


def test_a_quarter_turn_about_z_takes_x_to_y(tmp_path: Path):
    child = {"name": "b", "offset": [2.0, 0.0, 0.0], "channels": ["Zrotation"], "children": []}
    root = {"name": "a", "offset": [0.0, 0.0, 0.0], "channels": ["Xposition", "Zrotation"], "children": [child]}
    recording = read_skeleton(write_bvh(tmp_path / "a.bvh", root, np.array([[0, 90, 30], [5, 0, 30.0]])))
    np.testing.assert_allclose(recording.joints[:, 0], [[[0, 0, 0], [0, 2, 0]], [[5, 0, 0], [7, 0, 0]]], atol=1e-6)
    turned = read_skeleton(tmp_path / "a.bvh", ReadOptions(up="z"))
    np.testing.assert_allclose(turned.joints[0, 0, 1], [0, 0, -2], atol=1e-6)


def test_the_layout_has_sides_and_shoulders_and_survives_conversion(tmp_path: Path):
    root = tree(0)
    for label in ("jump", "walk"):
        first, last = motion(root, 2) / 3
        write_bvh(tmp_path / "in" / label / "s1_a.bvh", root, np.linspace(first, last, 40))
    config = SkeletonFolder(root=tmp_path / "in")
    layout = config.holds().layout
    at = {name: number for number, name in enumerate(layout.joints)}
    assert layout.torso == (at["Hips"], at["Neck"])
    assert layout.shoulders == (at["LeftArm"], at["RightArm"])
    assert len(layout.mirror) == 3
    result = CliRunner().invoke(app, ["convert-poses", str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    converted = SkeletonFolder(root=tmp_path / "out")
    assert converted.holds() == config.holds()
    first, again = (each.open(each.index("train").records[0]) for each in (config, converted))
    np.testing.assert_allclose(first.joints, again.joints)
    resolved = SkeletonFolder.model_validate(converted.resolved().model_dump())
    assert resolved.holds() == config.holds()


GOOD = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\nJOINT b\n{\nOFFSET 1 0 0\nCHANNELS 0\n}\n}\nMOTION\n"
GOOD += "Frames: 2\nFrame Time: 0.1\n1\n2\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("MOTION", "MOVES", "there is no line MOTION"),
        ("Frames: 2", "Frames: 3", "3 frames of 1 channels are announced, and 2 numbers follow"),
        ("1\n2\n", "1\n2\n3\n", "2 frames of 1 channels are announced, and 3"),
        ("1\n2\n", "1\nx\n", "a frame has 'x' in place of a number"),
        ("1\n2\n", "1\nnan\n", r"joint \d of person 0 in frame 1"),
        ("Xrotation", "Xscale", "line 5 has the channels '1 Xscale'"),
        ("CHANNELS 1", "CHANNELS 2", "line 5 has the channels"),
        ("OFFSET 1 0 0", "OFFSET 1 0", "line 8 has '1 0' in place of 3 numbers"),
        ("}\n}\n", "}\n", "a brace is not closed"),
        ("}\n}\n", "}\n}\nROOT c\n{\nOFFSET 0 0 0\n}\n", "line 12 begins a second skeleton"),
        ("JOINT b\n{", "JOINT b\n", "line 6 is followed by no brace"),
        ("JOINT b", "JOINT a", "two joints are called 'a'"),
        ("JOINT b", "Bone b", "line 6 is 'Bone b'"),
        ("ROOT a", "JOINT a", "line 2 begins JOINT a"),
        ("Frame Time: 0.1", "", "not followed by Frames and Frame Time"),
    ],
)
def test_bvh_that_is_not_as_it_should_be(tmp_path: Path, old: str, new: str, message: str):
    (tmp_path / "a.bvh").write_text(GOOD)
    assert len(read_skeleton(tmp_path / "a.bvh")) == 2
    assert old in GOOD
    (tmp_path / "a.bvh").write_text(GOOD.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_skeleton(tmp_path / "a.bvh")


def _parameter(name: str, values: Sequence[str] | bytes, kind: int, dimensions: Sequence[int]) -> bytes:
    """A parameter of the first group, without its description."""
    data = values if isinstance(values, bytes) else "".join(values).encode()
    body = struct.pack("<bB", kind, len(dimensions)) + bytes(dimensions) + data + b"\0"
    return struct.pack("<bb", len(name), 1) + name.encode() + struct.pack("<h", len(body) + 2) + body


def write_c3d(
    path: Path, points: np.ndarray, labels: Sequence[str], unit: str = "mm", angles: Sequence[str] = ()
) -> Path:
    """A C3D file of floats in Intel's order; NaN is a marker that was not seen."""
    frames, count, _ = points.shape
    width = max(map(len, [*labels, *angles]))
    texts = [
        _parameter("USED", struct.pack("<h", count), 2, []),
        _parameter("FRAMES", struct.pack("<h", frames), 2, []),
        _parameter("DATA_START", struct.pack("<h", 6), 2, []),
        _parameter("SCALE", struct.pack("<f", -1.0), 4, []),
        _parameter("RATE", struct.pack("<f", 100.0), 4, []),
        _parameter("UNITS", [unit], -1, [len(unit)]),
        _parameter("LABELS", [label.ljust(width) for label in labels], -1, [width, len(labels)]),
    ]
    if angles:
        texts.append(_parameter("ANGLES", [label.ljust(width) for label in angles], -1, [width, len(angles)]))
    group = struct.pack("<bb", 5, -1) + b"POINT" + struct.pack("<hb", 3, 0)
    parameters = struct.pack("<BBBB", 1, 80, 4, 84) + group + b"".join(texts)
    header = struct.pack("<BBHHHHHfHHf", 2, 80, count, 0, 1, frames, 0, -1.0, 6, 0, 100.0)
    seen = np.isfinite(points).all(axis=2, keepdims=True)
    rows = np.concatenate([np.where(seen, points, 0), np.where(seen, 0.0, -1.0)], axis=2).astype("<f4")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.ljust(512, b"\0") + parameters.ljust(4 * 512, b"\0") + rows.tobytes())
    return path


MARKERS = [f"M{number:02d}" for number in range(20)]


def test_markers_are_in_metres_and_gaps_are_filled(tmp_path: Path):
    pytest.importorskip("c3d")
    points = 1000 * figure("kinect20")[:30]
    points[10, 3] = np.nan
    recording = read_skeleton(write_c3d(tmp_path / "a.c3d", points, MARKERS))
    expected = points / 1000
    expected[10, 3] = (expected[9, 3] + expected[11, 3]) / 2
    np.testing.assert_allclose(recording.joints[:, 0], expected, atol=1e-5)
    assert recording.filled == 1
    assert recording.layout is not None
    assert recording.layout.joints == tuple(MARKERS)
    other = read_skeleton(write_c3d(tmp_path / "b.c3d", points, MARKERS, unit="furlong"))
    np.testing.assert_allclose(other.joints[0, 0], points[0], rtol=1e-5)


def test_people_are_told_by_their_prefix_and_what_is_no_marker_is_left_out(tmp_path: Path):
    pytest.importorskip("c3d")
    one = figure("coco17")[:30]
    names = LAYOUTS["coco17"].joints
    labels = [f"Anna:{name}" for name in names] + [f"Ben:{name}" for name in names[::-1]] + ["*1", "Anna:KneeAngles"]
    points = np.concatenate([one, one[:, ::-1] + 1.0, one[:, :2]], axis=1)
    path = write_c3d(tmp_path / "a.c3d", points, labels, unit="m", angles=["Anna:KneeAngles"])
    recording = read_skeleton(path)
    assert recording.layout == LAYOUTS["coco17"]
    np.testing.assert_allclose(recording.joints, np.stack([one, one + 1.0], axis=1), atol=1e-5)
    labels[20] = "Ben:other"
    with pytest.raises(DataError, match="Anna and Ben have different markers, such as"):
        read_skeleton(write_c3d(tmp_path / "a.c3d", points, labels))


def test_c3d_is_converted_and_what_is_damaged_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("c3d")
    path = write_c3d(tmp_path / "in/walk/a.c3d", figure("kinect20")[:30], MARKERS, unit="m")
    (pose,) = find_poses(tmp_path / "in")
    assert (pose.tool, pose.name) == ("C3D", "walk/a")
    assert len(read_poses(pose)) == 30
    content = path.read_bytes()
    for damaged in (content[:-200], content[:700], b"no", content.replace(b"M03", b"M04")):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"C3D|frames are announced|two points are called"):
            read_skeleton(path)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        changed = bytearray(content)
        for place in rng.integers(0, 1200, 3):
            changed[place] = rng.integers(256)
        path.write_bytes(changed)
        with contextlib.suppress(DataError):
            assert math.isfinite(float(read_skeleton(path).joints.sum()))
    monkeypatch.setitem(sys.modules, "c3d", None)
    with pytest.raises(MissingExtraError, match="c3d is not installed"):
        read_skeleton(path)
