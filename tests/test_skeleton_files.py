"""Every format is read to the numbers that were written, and every defect is an error with its place and a hint."""

import json
import os
import random
import time

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from muybridge.core.errors import DataError, RecipeError
from muybridge.core.skeletons import LAYOUTS, get_layout, layouts_of, unnamed_layout
from muybridge.media.matlab import read_mat
from muybridge.media.ntu import main_bodies
from muybridge.media.skeleton import read_msr, read_ntu, read_sbu, read_skeleton, read_utd

RNG = np.random.default_rng(0)


def write(path, content):
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    return path


def close(sequence, joints):
    return torch.allclose(sequence.joints, torch.as_tensor(np.asarray(joints), dtype=torch.float32), atol=1e-5)


# MSR Action3D


def msr_lines(joints):
    return [" ".join(f"{value:.6f}" for value in (*point, 1.0)) for frame in joints for point in frame]


def test_msr(tmp_path):
    joints = RNG.normal(size=(3, 20, 3))
    joints[1] = 0.0
    sequence = read_msr(write(tmp_path / "a.txt", "\n".join(msr_lines(joints)) + "\n\n"))
    assert close(sequence, joints[:, None])
    assert sequence.present.flatten().tolist() == [True, False, True]
    assert read_skeleton(tmp_path / "a.txt").joints.shape == (3, 1, 20, 3)


def test_a_recording_of_one_frame_is_a_recording(tmp_path):
    assert len(read_msr(write(tmp_path / "a.txt", "\n".join(msr_lines(RNG.normal(size=(1, 20, 3))))))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [], r"a\.txt: the file is empty"),
        (lambda lines: [" ", "\t"], r"the file is empty"),
        (lambda lines: [*lines[:24], "0.1 oops 0.2 1", *lines[25:]], r"line 25 has 'oops' where a number belongs"),
        (lambda lines: [*lines[:24], "", "0.1 0.2", *lines[25:]], r"line 26 has 2 numbers"),
        (lambda lines: [*lines[:-1], "0.1 0.2"], r"line 60 has 2 numbers, so the last frame is cut short"),
        (lambda lines: lines[:-7], r"last frame \(number 2, counted from 0\) has 13 of 20 joints.*Fetch"),
        (lambda lines: [*lines[:45], "0.1 nan 0.2 1", *lines[46:]], r"joint 5 of person 0 in frame 2 is .*nan"),
        (lambda lines: [*lines[:45], "0.1 inf 0.2 1", *lines[46:]], r"joint 5 of person 0 in frame 2 is .*inf"),
        (lambda lines: ["0 0 0 0"] * 40, r"nobody is seen in any of the 2 frames"),
        (lambda lines: ["\x00\x01\xff"], r"where a number belongs"),
    ],
)
def test_msr_defects(tmp_path, change, message):
    lines = change(msr_lines(RNG.normal(size=(3, 20, 3))))
    with pytest.raises(DataError, match=message):
        read_msr(write(tmp_path / "a.txt", "\n".join(lines)))


# SBU


def sbu_lines(metres):
    stored = (np.array([1.28, 0.96, 0.0]) - metres) / np.array([2.56, 1.92, -1.28])
    stored[~metres.any(axis=(2, 3))] = 0.0
    return [",".join([str(number + 7), *map(repr, frame.flatten().tolist())]) for number, frame in enumerate(stored)]


def test_sbu_is_metres_with_y_up(tmp_path):
    metres = RNG.normal(size=(4, 2, 15, 3))
    sequence = read_sbu(write(tmp_path / "skeleton_pos.txt", "\r\n".join(sbu_lines(metres))))
    assert close(sequence, metres)
    assert sequence.present.all()
    assert close(read_skeleton(tmp_path / "skeleton_pos.txt"), metres)


def test_sbu_limbs_have_steady_lengths_only_in_metres(real_data):
    """The scales come from the authors' page; the recordings agree that they are right."""
    paths = sorted((real_data / "sbu").rglob("skeleton_pos.txt"))[::4]
    metres = torch.cat([read_sbu(path).joints.flatten(0, 1) for path in paths])
    at = LAYOUTS["sbu15"].joints.index
    bones = (("left_elbow", "left_hand"), ("left_knee", "left_hip"), ("left_hip", "right_hip"))

    def unsteadiness(scale):
        lengths = [((metres[:, at(a)] - metres[:, at(b)]) * torch.tensor(scale)).norm(dim=1) for a, b in bones]
        return sum(length.std() / length.mean() for length in lengths)

    right = unsteadiness([1.0, 1.0, 1.0])
    wrong = [[0.39, 0.52, 0.78], [1, 1.33, 1], [1, 0.75, 1], [1, 1, 2], [1, 1, 0.5], [1.5, 1, 1], [0.67, 1, 1]]
    assert all(right < 0.9 * unsteadiness(scale) for scale in wrong)
    head, foot = (LAYOUTS["sbu15"].joints.index(name) for name in ("head", "left_foot"))
    assert 1.2 < (metres[:, head, 1] - metres[:, foot, 1]).median() < 1.8


def test_an_absent_second_person_is_absent(tmp_path):
    metres = RNG.normal(size=(3, 2, 15, 3))
    metres[1:, 1] = 0.0
    sequence = read_sbu(write(tmp_path / "skeleton_pos.txt", "\n".join(sbu_lines(metres))))
    assert sequence.present.tolist() == [[True, True], [True, False], [True, False]]
    assert sequence.joints[1:, 1].abs().sum() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: [*lines[:-1], lines[-1][:200]], r"line 3 has \d+ numbers, so the last frame is cut short.*91"),
        (lambda lines: [lines[0], "7,a" + lines[1][3:], lines[2]], r"line 2 has 'a.*' where a number belongs"),
        (lambda lines: [lines[0] + ",0.1", *lines[1:]], r"line 1 has 92 numbers\. Expected 91"),
    ],
)
def test_sbu_defects(tmp_path, change, message):
    lines = change(sbu_lines(RNG.normal(size=(3, 2, 15, 3))))
    with pytest.raises(DataError, match=message):
        read_sbu(write(tmp_path / "skeleton_pos.txt", "\n".join(lines)))


# UTD-MHAD


@pytest.mark.parametrize("frames", [1, 5])
def test_utd(tmp_path, frames):
    joints = RNG.normal(size=(frames, 20, 3))
    savemat(tmp_path / "a.mat", {"d_skel": joints.transpose(1, 2, 0)})
    assert close(read_utd(tmp_path / "a.mat"), joints[:, None])
    assert close(read_skeleton(tmp_path / "a.mat"), joints[:, None])


def test_utd_defects(tmp_path):
    savemat(tmp_path / "other.mat", {"d_depth": np.ones(3)})
    with pytest.raises(DataError, match=r"the file contains d_depth\. Expected the array d_skel"):
        read_utd(tmp_path / "other.mat")
    savemat(tmp_path / "joints.mat", {"d_skel": np.ones((15, 3, 4))})
    with pytest.raises(DataError, match=r"d_skel is 15 x 3 x 4 of .* Expected 20 joints"):
        read_utd(tmp_path / "joints.mat")
    savemat(tmp_path / "cut.mat", {"d_skel": RNG.normal(size=(20, 3, 40))})
    write(tmp_path / "cut.mat", (tmp_path / "cut.mat").read_bytes()[:5000])
    for content in (b"no matlab at all, and long enough to have had a header" * 9, (tmp_path / "cut.mat").read_bytes()):
        with pytest.raises(DataError, match="not readable as a MATLAB file"):
            read_utd(write(tmp_path / "cut.mat", content))
    with pytest.raises(DataError, match="the file is empty"):
        read_utd(write(tmp_path / "empty.mat", b""))


# NTU RGB+D


def ntu_text(frames):
    """``frames``: for each, the bodies seen as {identity: J D}."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for identity, joints in bodies.items():
            lines += [f"{identity} 0 1 1 1 1 0 0.02 -0.2 2", "25"]
            lines += [" ".join(map(repr, [*point.tolist(), *[0.5] * 8])) + " 2" for point in joints]
    return "\n".join(lines) + "\n"


def ntu_body(frames, motion, at=0.0):
    """A tall body that swings along x by ``motion``."""
    rest = np.stack([RNG.uniform(-0.2, 0.2, 25), np.linspace(-0.8, 0.8, 25), RNG.uniform(2.9, 3.1, 25)], axis=1)
    swing = motion * np.sin(np.arange(frames))[:, None, None] * np.array([1.0, 0, 0])
    return rest + swing + np.array([at, 0, 0])


# Two identities that are the same number once a float holds them.
ONE, TWO, THREE, FOUR = "72057594037931101", "72057594037931102", "72057594037931103", "72057594037931104"


def test_ntu_keeps_the_two_most_moving_bodies(tmp_path):
    frames = 20
    still, lively, calm = ntu_body(frames, 0.01), ntu_body(frames, 0.5, 1.0), ntu_body(frames, 0.2, -1.0)
    chair = ntu_body(frames, 0.9)[..., [1, 0, 2]]  # moves most of all, and lies on its side
    flash = ntu_body(frames, 3.0)  # seen for 11 frames
    text = ntu_text(
        [
            {ONE: still[t], TWO: calm[t], THREE: chair[t]}
            | ({FOUR: lively[t]} if t >= 5 else {})
            | ({"9": flash[t]} if t < 11 else {})
            for t in range(frames)
        ]
    )
    sequence = read_ntu(write(tmp_path / "S001C001P001R001A050.skeleton", text))
    assert sequence.joints.shape == (frames, 2, 25, 3)
    assert close(sequence, np.stack([np.where(np.arange(frames)[:, None, None] >= 5, lively, 0.0), calm], axis=1))
    assert sequence.present.sum(0).tolist() == [15, 20]


def test_ntu_one_body_is_kept_however_odd(tmp_path):
    body = ntu_body(4, 0.0)[..., [1, 0, 2]]
    sequence = read_ntu(write(tmp_path / "a.skeleton", ntu_text([{}, {ONE: body[1]}, {ONE: body[2]}, {}])))
    assert sequence.present.tolist() == [[False, False], [True, False], [True, False], [False, False]]
    assert len(main_bodies({ONE: body}, people=2)) == 1


def test_ntu_needs_no_more_than_positions(tmp_path):
    body = ntu_body(2, 0.1)
    text = ntu_text([{ONE: body[0]}, {ONE: body[1]}]).replace(" 0.5 ", " nan ")
    assert close(read_ntu(write(tmp_path / "a.skeleton", text), people=1), body[:, None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", r"the file is empty"),
        (lambda text: "two\n", r"line 1 has 'two' where the number of frames belongs"),
        (lambda text: "\n".join(text.splitlines()[:-3]), r"the file ends at line 54, where a joint belongs"),
        (lambda text: "999999999999\n" + text.partition("\n")[2], r"announces 999999999999 frames in 57 lines"),
        (lambda text: "3\n" + text.partition("\n")[2], r"the file ends at line 57, where the number of bodies belongs"),
        (lambda text: text.replace("\n25\n", "\n20\n", 1), r"line 4 announces 20 joints\. Expected 25"),
        (lambda text: text.replace("0.5 0.5", "0.5", 1), r"line 5 has 11 numbers"),
        (lambda text: "\n".join(["1", "1", ONE, "25"] + ["x 1 2 0 0 0 0 0 0 0 0 2"] * 25), r"line 5 has 'x'"),
        (lambda text: text.replace("\n25\n", "\n25\n1 nan 2 0 0 0 0 0 0 0 0 2\n"), r"line 5 has the position 1 nan 2"),
        (lambda text: "2\n0\n0\n", r"nobody is seen in any of the 2 frames"),
        (lambda text: "0\n", r"nobody is seen in any of the 0 frames"),
    ],
)
def test_ntu_defects(tmp_path, change, message):
    body = ntu_body(2, 0.1)
    text = change(ntu_text([{ONE: body[0]}, {ONE: body[1]}]))
    with pytest.raises(DataError, match=message):
        read_ntu(write(tmp_path / "a.skeleton", text))


# What users bring


@pytest.mark.parametrize("dims", [2, 3])
def test_npz_and_npy(tmp_path, dims):
    joints = RNG.normal(size=(5, 2, 7, dims))
    present = np.ones((5, 2), dtype=bool)
    present[3, 1] = False
    np.savez(tmp_path / "a.npz", joints=joints, present=present)
    sequence = read_skeleton(tmp_path / "a.npz")
    assert close(sequence, np.where(present[..., None, None], joints, 0.0))
    assert torch.equal(sequence.present, torch.from_numpy(present))
    np.save(tmp_path / "b.npy", joints[:, 0])
    assert close(read_skeleton(tmp_path / "b.npy"), joints[:, :1])


def test_nan_where_a_person_is_said_to_be_absent_is_no_defect(tmp_path):
    joints = RNG.normal(size=(2, 1, 3, 2))
    joints[1] = np.nan
    np.savez(tmp_path / "a.npz", joints=joints, present=np.array([True, False]))
    assert read_skeleton(tmp_path / "a.npz").joints[1].abs().sum() == 0


def test_npz_defects(tmp_path):
    def saved(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return tmp_path / "a.npz"

    for arrays, message in [
        ({"points": np.ones(3)}, "the file contains points. Expected .* called joints"),
        ({"joints": np.ones((4, 3))}, r"joints is 4 x 3 of float64\. Expected an array of frames"),
        ({"joints": np.ones((4, 2, 3, 4))}, "joints is 4 x 2 x 3 x 4"),
        ({"joints": np.ones((0, 2, 3, 3))}, "the recording has no frames"),
        ({"joints": np.full((4, 1, 3, 3), "a")}, "of <U1"),
        ({"joints": np.ones((4, 1, 3, 3)), "present": np.ones((3, 1))}, "present is 3 x 1 of .* Expected .* 4 x 1"),
        ({"joints": np.zeros((4, 1, 3, 3))}, "nobody is seen in any of the 4 frames"),
    ]:
        with pytest.raises(DataError, match=message):
            read_skeleton(saved(**arrays))
    whole = saved(joints=np.ones((4, 1, 3, 3))).read_bytes()
    with pytest.raises(DataError, match="not readable as NumPy arrays"):
        read_skeleton(write(tmp_path / "a.npz", whole[:-40]))
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not readable as NumPy arrays"):
        read_skeleton(tmp_path / "a.npy")


def test_json(tmp_path):
    joints = RNG.normal(size=(3, 2, 4, 2))
    frames = joints.tolist()
    frames[1] = [frames[1][0]]  # fewer people
    frames[2][0] = None  # an absent one
    expected = joints.copy()
    expected[1, 1] = expected[2, 0] = 0.0
    for content in (frames, {"joints": frames}):
        sequence = read_skeleton(write(tmp_path / "a.json", json.dumps(content)))
        assert close(sequence, expected)
        assert sequence.present.tolist() == [[True, True], [True, False], [False, True]]
    assert close(read_skeleton(write(tmp_path / "b.json", json.dumps(joints[:, 0].tolist()))), joints[:, :1])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[[1, 2], [3, 4]],\n [[1, 2", r"line 2 is not JSON"),
        ('{"frames": 3}', r"the file has no list of frames"),
        ("[]", r"the recording has no frames"),
        ("[[[[1, 2]]], [[[1, 2], [3, 4]]]]", r"frame 1 has a person of 2 x 2\. Expected .* 1 x 2"),
        ('[[[["a", 2]]]]', r"frame 0 has a person that is no list of joints"),
        ("[[[[1, 2], [3]]]]", r"frame 0 has a person that is no list of joints"),
        ("[[[[1, NaN]]]]", r"joint 0 of person 0 in frame 0 is \[1.0, nan\]"),
        ("[5]", r"frame 0 has a person that is no list of joints"),
    ],
)
def test_json_defects(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_skeleton(write(tmp_path / "a.json", content))


def test_csv(tmp_path):
    joints = RNG.normal(size=(3, 2, 4, 3))
    joints[1, 1] = 0.0
    lines = ["Frame, person,joint, z, x, y"] + [
        f"{frame + 100},{person},{joint},{joints[frame, person, joint, 2]},{joints[frame, person, joint, 0]},"
        f"{joints[frame, person, joint, 1]}"
        for frame, person, joint in np.ndindex(3, 2, 4)
        if (frame, person) != (1, 1)
    ]
    sequence = read_skeleton(write(tmp_path / "a.csv", "\n".join(lines)))
    assert close(sequence, joints)
    assert sequence.present.tolist() == [[True, True], [True, False], [True, True]]
    alone = read_skeleton(write(tmp_path / "b.csv", "frame,joint,x,y\n3,0,1,2\n3,1,3,4\n5,0,5,6\n5,1,7,8\n"))
    assert alone.joints.tolist() == [[[[1, 2], [3, 4]]], [[[0, 0], [0, 0]]], [[[5, 6], [7, 8]]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("time,joint,x,y\n0,0,1,2\n", r"the header has no column frame"),
        ("frame,joint,x,y\n", r"a header and no lines"),
        ("frame,joint,x,y\n0,0,1,2\n0,1,,2\n", r"line 3 is '0,1,,2'"),
        ("frame,joint,x,y\n0,0,1\n", r"line 2 is '0,0,1'"),
        ("frame,joint,x,y\n0,-1,1,2\n", r"line 2 has joint -1"),
        ("frame,joint,x,y\n7,0,1,2\n7,1,1,2\n8,0,3,4\n", r"frame 8 has 1 of 2 joints of person 0"),
        (
            "frame,joint,x,y\n0,0,1,2\n99999999,0,1,2\n",
            r"of the 100000000 frames from 0 to 99999999, 2 are listed",
        ),
        ("frame,joint,x,y\n0,9999999999999999999,1,2\n", r"line 2 is '0,9999999999999999999,1,2'"),
        ("frame,joint,x,y\n0,9999999999,1,2\n", r"line 2 has joint 9999999999"),
        ("frame,joint,x,y\n0,0,1e99,2\n", r"joint 0 of person 0 in frame 0 is \[1e\+99"),
        ("frame,joint,x,y\n0,0,nan,2\n", r"joint 0 of person 0 in frame 0"),
    ],
)
def test_csv_defects(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_skeleton(write(tmp_path / "a.csv", content))


# How people's tables look

PAIR = RNG.normal(size=(3, 2, 4, 2)).round(3)
ROWS = [(t, p, j, *PAIR[t, p, j]) for t, p, j in np.ndindex(3, 2, 4)]
HEADER = ("frame", "person", "joint", "x", "y")


def lines_of(rows, separator=",", decimal="."):
    return [separator.join(str(value).replace(".", decimal) for value in row) for row in (HEADER, *rows)]


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(lines_of(ROWS)),
        "\r\n".join(lines_of(ROWS)) + "\r\n",
        "\r".join(lines_of(ROWS)),
        "\n".join(lines_of(ROWS[::-1])),  # in any order
        "\n".join(lines_of(ROWS, ";")),
        "\n".join(lines_of(ROWS, ";", ",")),  # as Excel writes it where the comma is the decimal mark
        "\n".join(["sep=;", *lines_of(ROWS, ";", ",")]),
        "\n".join(['"sep=;"', *lines_of(ROWS, ";", ",")]),
        "\n".join(lines_of(ROWS, "\t")),
        "\n".join(lines_of(ROWS, "\t", ",")),
        "\ufeff" + "\n".join(lines_of(ROWS)),
        "\n".join(lines_of(ROWS, ";", ",")).encode("utf-16"),
        b"\xfe\xff" + "\n".join(lines_of(ROWS)).encode("utf-16-be"),
        "\n".join(lines_of([(float(t), float(p), float(j), x, y) for t, p, j, x, y in ROWS])),  # as pandas writes it
        "\n".join(lines_of([(t + 1, *rest) for t, *rest in ROWS])),  # frames from 1
        "\n".join(lines_of([(t, p + 1, *rest) for t, p, *rest in ROWS])),  # people from 1
        "\n".join(lines_of([(t, 900 + 3 * p, *rest) for t, p, *rest in ROWS])),  # numbers of a tracker
        "\n".join(lines_of([(t, ("Anna", "Bo")[p], *rest) for t, p, *rest in ROWS])),
        "\n".join(lines_of([(t, ("9", "10")[p], *rest) for t, p, *rest in ROWS])),
        "\n".join(f'"{line}"'.replace(",", '","') for line in lines_of(ROWS)),
        "\n\n".join(lines_of(ROWS)) + "\n,,,,\n\n",
        "\n".join(f"{line},30,0.9" for line in lines_of(ROWS)).replace("y,30,0.9", "y,fps,score"),
        "\n".join(line.upper() for line in lines_of(ROWS)),
        "\n".join(lines_of(ROWS)).replace(",", " , "),
    ],
)
def test_every_dialect_of_a_table_is_the_same_recording(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    sequence = read_skeleton(path)
    assert sequence.joints.shape == (3, 2, 4, 2)
    assert close(sequence, PAIR)
    assert sequence.present.all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[3]], r"lines 5 and 26 both give joint 3 of person 0 in frame 0\. Expected one line"),
        (lambda rows: [*rows, (0, 0, 3, 9.0, 9.0)], r"lines 5 and 26 both give joint 3"),
        (lambda rows: rows + rows, r"lines 2 and 26 both give joint 0 of person 0 in frame 0"),
        (lambda rows: [(t, "", *rest) for t, _, *rest in rows], r"line 2 is '0,,0,.*a number or a name for person"),
        (
            lambda rows: [(t, p, j + 1, x, y) for t, p, j, x, y in rows],
            r"the first joint is 1, and there is no joint 0",
        ),
        (lambda rows: [(t * 33, *rest) for t, *rest in rows], r"of the 67 frames from 0 to 66, 3 are listed"),
        (lambda rows: [(t / 30, *rest) for t, *rest in rows], r"line 10 is '0\.0333"),
        (
            lambda rows: [(t, p, j if t else f"joint{j}", x, y) for t, p, j, x, y in rows],
            r"line 10 has joint '0', and the first 'joint0'",
        ),
        (lambda rows: [(*rest, "1,5") for *rest, _ in rows], r"line 2 has 6 values, and the header has 5.*semicolons"),
        (lambda rows: [(*rest, "1_0") for *rest, _ in rows], r"line 2 is '0,0,0,.*,1_0'"),
        (lambda rows: [(*rest, "²") for *rest, _ in rows], r"line 2 is "),
        (lambda rows: [*rows[:-1], (2, 1, 7, 0.5, 0.5)], r"frame 0 has 4 of 8 joints of person 0"),
        (lambda rows: rows[:-1], r"frame 2 has 3 of 4 joints of person 1"),
    ],
)
def test_defects_of_tables(tmp_path, change, message):
    rows = change(ROWS)
    with pytest.raises(DataError, match=message):
        read_skeleton(write(tmp_path / "a.csv", "\n".join(lines_of(rows))))


def test_people_are_told_apart_by_whole_names_only(tmp_path):
    content = "\n".join(lines_of([(t, ("Möller", "Müller")[p], *rest) for t, p, *rest in ROWS]))
    assert close(read_skeleton(write(tmp_path / "a.csv", content.encode())), PAIR)
    with pytest.raises(DataError, match=r"line 2 is '0,M.ller,0"):  # in an old encoding both names look the same
        read_skeleton(write(tmp_path / "a.csv", content.encode("latin-1")))


def test_a_table_names_each_column_once(tmp_path):
    with pytest.raises(DataError, match=r"the header has x twice"):
        read_skeleton(write(tmp_path / "a.csv", "frame,joint,x,x,y\n0,0,1,2,3\n"))
    with pytest.raises(DataError, match=r"the header has no column frame or joint or x or y"):
        read_skeleton(write(tmp_path / "a.csv", "\n".join(lines_of(ROWS)[1:])))
    with pytest.raises(DataError, match=r"the header has no column frame"):
        read_skeleton(write(tmp_path / "a.csv", "sep=;\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"joints": [], "joints": [[[1, 2]]]}', r"'joints' is given twice in one object"),
        ("[" * 100_000, r"the file is not JSON that can be read \(maximum recursion"),
        (f"[[[[{'9' * 5000}, 1]]]]", r"the file is not JSON that can be read \(Exceeds the limit"),
        (f"[[[[{'9' * 400}, 1]]]]", r"frame 0 has a person that is no list of joints"),
        ("[[[[[1, 2], [3, 4]]]]]", r"frame 0 has a person that is no list of joints"),  # one list too many
        ('[{"keypoints": [1, 2, 0.9]}]', r"frame 0 has a person that is no list of joints"),
        ('{"0": [[1, 2]], "1": [[3, 4]]}', r"the file has no list of frames"),
        ("[[[1, 2], [3, 4]]]\n[[[1, 2], [3, 4]]]", r"line 2 is not JSON \(Extra data"),
    ],
)
def test_how_peoples_json_looks(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_skeleton(write(tmp_path / "a.json", content))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_byte_order_in_every_text_format(tmp_path, encoding):
    body = RNG.normal(size=(2, 2, 20, 3))
    contents = {
        "a.json": (json.dumps(body.tolist()), body),
        "msr.txt": ("\n".join(msr_lines(body[:, 0])), body[:, :1]),
        "sbu.txt": ("\n".join(sbu_lines(body[:, :, :15])), body[:, :, :15]),
    }
    for name, (content, joints) in contents.items():
        assert close(read_skeleton(write(tmp_path / name, content.encode(encoding))), joints)
    ntu = ntu_body(2, 0.1)
    text = ntu_text([{ONE: ntu[0]}, {ONE: ntu[1]}])
    assert close(read_ntu(write(tmp_path / "a.skeleton", text.encode(encoding)), people=1), ntu[:, None])


def test_blank_lines_in_a_file_of_ntu_are_skipped_and_counted(tmp_path):
    body = ntu_body(2, 0.1)
    text = ntu_text([{ONE: body[0]}, {ONE: body[1]}])
    blank = "\n \n" + text.replace("\n25\n", "\n\n25\n\n") + "\n\n"
    assert close(read_ntu(write(tmp_path / "a.skeleton", blank), people=1), body[:, None])
    broken = blank.splitlines()
    line = next(number for number, words in enumerate(broken, start=1) if words.count(" ") == 11)
    broken[line - 1] = "x" + broken[line - 1]
    with pytest.raises(DataError, match=rf"line {line} has 'x"):
        read_ntu(write(tmp_path / "a.skeleton", "\n".join(broken)))


def test_a_body_twice_in_a_frame_of_ntu_is_refused(tmp_path):
    body = ntu_body(1, 0.1)
    text = ntu_text([{ONE: body[0], TWO: body[0] + 1}]).replace(TWO, ONE)
    with pytest.raises(DataError, match=rf"line 30 has the body {ONE} for the second time in frame 0"):
        read_ntu(write(tmp_path / "a.skeleton", text))


@pytest.mark.parametrize("word", ["²", "9" * 5000, "-1", "1.5", "1_0"])
def test_counts_of_ntu_that_are_none(tmp_path, word):
    with pytest.raises(DataError, match=r"line 1 has '.*' where the number of frames belongs"):
        read_ntu(write(tmp_path / "a.skeleton", f"{word}\n0\n"))


def test_digit_groups_are_no_numbers_in_tables_of_numbers(tmp_path):
    lines = msr_lines(RNG.normal(size=(1, 20, 3)))
    lines[4] = "0.1 1_0 0.2 1"
    with pytest.raises(DataError, match=r"line 5 has '1_0' where a number belongs"):
        read_msr(write(tmp_path / "a.txt", "\n".join(lines)))


@pytest.mark.parametrize("kind", [complex, object, "S3"])
def test_matlab_arrays_that_are_no_positions(tmp_path, kind):
    array = np.ones((20, 3, 4)).astype(kind)
    savemat(tmp_path / "a.mat", {"d_skel": array})
    with pytest.raises(DataError, match=r"d_skel is 20 x 3 x 4 of|d_skel is 20 x 3 of|20 joints x 3 coordinates"):
        read_utd(tmp_path / "a.mat")


def assert_equal(array, expected):
    """Equal values in equal shapes; SciPy gives numbers in the type they are stored in, which may be a smaller one."""
    assert array.shape == expected.shape
    assert array.dtype.names == expected.dtype.names
    if array.dtype.names or array.dtype == object:
        for name in array.dtype.names or [...]:
            for inner, right in zip(np.ravel(array[name]), np.ravel(expected[name]), strict=True):
                assert_equal(inner, right)
    else:
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4),
        np.ones((5, 5), np.uint8),
        np.array([1 + 2j, 3]),
        np.zeros((3, 0, 2)),
        "Grüße",
        "",
        np.array(["ab", "cd"]),
        np.array([1, "b", np.eye(3)], dtype=object),
        {"x": 1, "y": [1, 2, 3], "z": {"q": "w"}},
        np.array([(1, "a"), (2, "bb")], dtype=[("n", object), ("t", object)]),
    ],
)
def test_matlab_files_are_read_as_scipy_reads_them(tmp_path, value, compressed):
    savemat(tmp_path / "a.mat", {"value": value, "other": 3.0}, do_compression=compressed)
    content = read_mat(tmp_path / "a.mat")
    assert list(content) == ["value", "other"]
    assert_equal(content["value"], loadmat(tmp_path / "a.mat")["value"])


def test_real_matlab_files_are_read_as_scipy_reads_them(real_data):
    for path in sorted((real_data / "utd_mhad").rglob("*_skeleton.mat"))[::40]:
        assert_equal(read_mat(path)["d_skel"], loadmat(path)["d_skel"])


def test_only_the_arrays_that_are_needed_are_read_from_an_archive(tmp_path):
    joints = RNG.normal(size=(5, 1, 7, 3))
    np.savez(tmp_path / "a.npz", joints=joints, meta=np.array({"fps": 30}, dtype=object), fps=30.0)
    assert close(read_skeleton(tmp_path / "a.npz"), joints)
    np.savez(tmp_path / "a.npz", joints.astype(np.float32))
    with pytest.raises(DataError, match=r"the file contains arr_0\..* called joints"):
        read_skeleton(tmp_path / "a.npz")
    os.replace(tmp_path / "a.npz", tmp_path / "a.npy")  # an archive under the other name
    with pytest.raises(DataError, match=r"the file contains arr_0"):
        read_skeleton(tmp_path / "a.npy")


# Any file


def damaged(content: bytes, generator: random.Random) -> bytes:
    """Cut short, a piece taken out, bytes changed, or characters changed into others that such files have."""
    content = bytearray(content)
    kind = generator.randrange(4)
    if kind == 0:
        del content[generator.randrange(len(content)) :]
    elif kind == 1:
        start = generator.randrange(len(content))
        del content[start : start + generator.randrange(1, 50)]
    else:
        for _ in range(generator.randrange(1, 6)):
            content[generator.randrange(len(content))] = (
                generator.randrange(256) if kind == 2 else generator.choice(b'0127-.,[]{}"n e\n')
            )
    return bytes(content)


def test_whatever_happened_to_a_file_it_is_read_or_refused_in_words(tmp_path):
    joints = RNG.normal(size=(4, 2, 20, 3))
    np.savez(tmp_path / "a.npz", joints=joints, present=np.ones((4, 2), dtype=bool))
    np.savez_compressed(tmp_path / "b.npz", joints=joints)
    np.save(tmp_path / "a.npy", joints)
    write(tmp_path / "a.json", json.dumps(joints[:, :, :4].tolist()))
    rows = "\n".join(f"{frame},{joint},1.5,2.5" for frame, joint in np.ndindex(4, 5))
    write(tmp_path / "a.csv", "frame,joint,x,y\n" + rows)
    write(tmp_path / "msr.txt", "\n".join(msr_lines(joints[:, 0])))
    write(tmp_path / "sbu.txt", "\n".join(sbu_lines(joints[:, :, :15])))
    savemat(tmp_path / "a.mat", {"d_skel": joints[:, 0].transpose(1, 2, 0)}, do_compression=True)
    write(tmp_path / "a.skeleton", ntu_text([{ONE: body} for body in ntu_body(3, 0.1)]))
    generator = random.Random(0)
    for whole in sorted(tmp_path.iterdir()):
        read_skeleton(whole)
        content, refused = whole.read_bytes(), 0
        for _ in range(150):
            try:
                read_skeleton(write(tmp_path / f"damaged{whole.suffix}", damaged(content, generator)))
            except DataError:
                refused += 1
        assert refused > 50


def test_a_file_that_is_missing_a_folder_or_of_unknown_kind(tmp_path):
    with pytest.raises(DataError, match=r"gone\.npz: the file cannot be read \(No such file"):
        read_skeleton(tmp_path / "gone.npz")
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(DataError, match="the folder is no recording"):
        read_skeleton(tmp_path / "folder.npz")
    with pytest.raises(DataError, match=r"files that end in \.fbx are not known\. Expected one of \.npz"):
        read_skeleton(tmp_path / "walk.fbx")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission(tmp_path):
    path = write(tmp_path / "a.csv", "frame,joint,x,y\n0,0,1,2\n")
    path.chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        read_skeleton(path)


def test_reading_all_of_msr_takes_about_a_second(real_data):
    paths = sorted((real_data / "msr_action3d").rglob("*_skeleton3D.txt"))
    begin = time.process_time()
    lost = 0
    for path in paths:
        try:
            sequence = read_msr(path)
        except DataError:
            assert path.name.startswith("a13_s09_e02")
            continue
        lost += not sequence.present.all()
    assert (len(paths), lost) == (567, 19)
    assert time.process_time() - begin < 5


# Layouts


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_a_layout_is_one_tree_that_mirrors_onto_itself(layout):
    children = [child for _, child in layout.bones]
    assert len(set(children)) == len(children) == len(layout) - 1
    reached = {parent for parent, _ in layout.bones} - set(children)
    assert len(reached) == 1
    for parent, child in layout.bones:  # from the root outwards
        assert parent in reached
        reached.add(child)
    swap = {left: right for pair in layout.mirror for left, right in (pair, pair[::-1])}
    assert layout.root not in swap
    mirrored = {(swap.get(parent, parent), swap.get(child, child)) for parent, child in layout.bones}
    assert mirrored == set(layout.bones)
    for joint, name in enumerate(layout.joints):
        assert (joint in swap) == ("left" in name or "right" in name)


def test_msr_right_is_the_side_that_moves(real_data):
    """The subjects were told to use the right arm and leg for one-sided actions."""
    joints = LAYOUTS["msr20"].joints
    for action, limb in ((1, "hand"), (5, "hand"), (14, "foot")):
        moved = {side: 0.0 for side in ("left", "right")}
        for path in sorted((real_data / "msr_action3d").rglob(f"a{action:02}_s0?_e01_skeleton3D.txt")):
            positions = read_msr(path).joints[:, 0]
            for side in moved:
                moved[side] += float(positions[:, joints.index(f"{side}_{limb}")].std(dim=0).sum())
        assert moved["right"] > 2 * moved["left"]


def test_layouts_by_name_and_by_custom():
    assert get_layout("coco17") is LAYOUTS["coco17"]
    assert get_layout("plain33") == unnamed_layout(33)
    assert [layout.name for layout in layouts_of(20)] == ["kinect20", "kinect_sdk20", "msr20"]
    assert layouts_of(21) == ()
    with pytest.raises(RecipeError, match=r"no layout is called 'coco18'.*kinect20"):
        get_layout("coco18")
