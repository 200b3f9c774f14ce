"""Arrays of joints: the order of their axes, scores among the numbers, undetected joints, the vertical axis."""

import json
import re

import numpy as np
import pytest
import torch

from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS
from muybridge.data.datasets import SBU, UTDMHAD, MSRAction3D
from muybridge.media.arrays import (
    ReadOptions,
    _score_reason,
    fill_missing_joints,
    parse_axes,
    sequence_from_array,
    turn_up,
)
from muybridge.media.skeleton import read_skeleton
from tests.skeletons import figure, figures, pixels, sequence

TWO = figures("kinect20")  # 30 frames, 2 people, 20 joints, in metres
COCO = pixels(figures("coco17"))  # 30 frames, 2 people, 17 joints, in pixels
# Where each letter is in TWO.
ORDERS = {"TPJC": (0, 1, 2, 3), "PTJC": (1, 0, 2, 3), "CTJP": (3, 0, 2, 1), "JTPC": (2, 0, 1, 3), "TCJP": (0, 3, 2, 1)}
AS_OTHERS_SAY = {"TPJC": "tmvc", "PTJC": "MTVC", "CTJP": "CTVM", "JTPC": "VTMC", "TCJP": "TCVM"}


def close(recording, joints) -> bool:
    return torch.allclose(recording.joints, torch.as_tensor(np.asarray(joints), dtype=torch.float32), atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("dims", [3, 2])
def test_an_array_in_another_order_is_refused_with_the_order_and_read_when_it_is_named(order, dims):
    right = TWO if dims == 3 else pixels(TWO)
    array = right.transpose(ORDERS[order])
    assert close(sequence_from_array(array, options=ReadOptions(axes=AS_OTHERS_SAY[order])), right)
    if order == "TPJC":
        assert close(sequence_from_array(array), right)
        return
    likely = {"PTJC": "MTVC", "CTJP": "CTVM|MTVC", "JTPC": "VTMC", "TCJP": "TCVM|TMVC"}[order]
    likely = likely if dims == 2 else AS_OTHERS_SAY[order].upper()
    with pytest.raises(DataError, match=rf'joints is {" x ".join(map(str, array.shape))}.*data.axes = "({likely})"'):
        sequence_from_array(array)


RNG = np.random.default_rng(0)
RESTLESS = {
    "a fast walk in an image": COCO[:, 0] + 60 * np.arange(30)[:, None, None],
    "a camera that shakes": COCO[:, 0] + 200 * RNG.normal(size=(30, 1, 2)),
    "a person who jumps about": TWO[:, 0] + RNG.normal(size=(30, 1, 3)),
}


@pytest.mark.parametrize("array", RESTLESS.values(), ids=RESTLESS)
def test_a_body_that_moves_as_a_whole_more_than_its_joints_are_apart_is_told_from_other_axes(array):
    assert close(sequence_from_array(array), array[:, None])
    assert close(sequence_from_array(array[:, None]), array[:, None])
    if array.shape[-1] == 2:  # in metres the noise of the sensor is too large beside what this person moves
        with pytest.raises(DataError, match=r"neighbours along axis 1 differ least.*data\.axes = \"VTC\""):
            sequence_from_array(array.transpose(1, 0, 2))


def test_a_body_with_joints_that_are_missing_may_move_as_a_whole_too():
    array = COCO[:, 0] + 60 * np.arange(30)[:, None, None]
    array[5:8, 3], array[20, 7] = np.nan, 0
    assert sequence_from_array(array).filled == 4


@pytest.mark.parametrize(
    ("array", "axes"),
    [
        (TWO[:, :1].transpose(1, 0, 2, 3), "MTVC"),  # one person first: 1 T V C
        (TWO[:, 0].transpose(1, 0, 2), "VTC"),
        (TWO[:, 0].transpose(2, 0, 1), "CTV"),
        (TWO[:, 0].transpose(1, 2, 0), "VCT"),  # as MATLAB keeps UTD-MHAD
        (TWO[:, :1].transpose(3, 0, 2, 1), "CTVM"),
        (TWO[:, :1].transpose(0, 2, 1, 3), "TVMC"),
        (TWO.transpose(3, 0, 2, 1)[None], "NCTVM"),
        (TWO.transpose(1, 0, 2, 3)[None], "NMTVC"),
    ],
)
def test_orders_of_one_person_and_of_batches(array, axes):
    with pytest.raises(DataError, match=f'data.axes = "{axes}"'):
        sequence_from_array(array)
    recording = sequence_from_array(array, options=ReadOptions(axes=axes))
    people = recording.joints.shape[1]
    assert close(recording, TWO[:, :people])


def test_the_smallest_arrays_are_taken_as_documented():
    """One frame, two frames, several people in two frames: nothing contradicts the customary order."""
    for right in (TWO[:1], TWO[:2], TWO[:1, :1], figures("kinect20", people=4)[:2], figures("coco17", people=6)[:3]):
        assert close(sequence_from_array(right), right)
    assert close(sequence_from_array(TWO[:4, 0]), TWO[:4, :1])
    noise = np.random.default_rng(0).normal(size=(5, 2, 7, 3))
    assert close(sequence_from_array(noise), noise)
    late = TWO.copy()
    late[:20, 1] = 0.0
    assert close(sequence_from_array(late), late)


def test_nobody_is_present():
    with pytest.raises(DataError, match=r"nobody is seen in any of the 30 frames \(present is false everywhere\)"):
        sequence_from_array(TWO, np.zeros((30, 2), dtype=bool))


@pytest.mark.parametrize("count", [4, 40])
def test_recordings_stacked_without_people_may_be_people_or_a_batch(count):
    array = np.stack([TWO[:, 0]] * count) + np.random.default_rng(0).normal(size=(count, 1, 1, 1))
    wanted = (
        rf"joints is {count} x 30 x 20 x 3.*\"MTVC\" if its axes are people x frames.*; if it is a batch of {count} rec"
    )
    with pytest.raises(DataError, match=wanted):
        sequence_from_array(array)
    with pytest.raises(DataError) as caught:
        sequence_from_array(TWO.transpose(3, 0, 2, 1))
    assert "batch" not in str(caught.value)


def test_a_batch_of_several_recordings_is_refused():
    with pytest.raises(
        DataError, match=r"2 x 3 x 30 x 20 x 2, a batch of 2 recordings\. Expected one recording in each"
    ):
        sequence_from_array(np.stack([TWO.transpose(3, 0, 2, 1)] * 2), options=ReadOptions(axes="NCTVM"))


@pytest.mark.parametrize("axes", ["XYZW", "TT", "TVV", "TV", "MC", "TMVCN N", "TTVC", "TMPVC"])
def test_axes_that_are_no_order(axes):
    with pytest.raises(ValueError, match="needs each of T"):
        parse_axes(axes)
    with pytest.raises(ValueError, match="needs each of T"):
        ReadOptions(axes=axes)


def test_axes_of_another_number():
    with pytest.raises(DataError, match=r"30 x 2 x 20 x 3, and the axes are TVC\. Expected 3 axes: frames x joints x"):
        sequence_from_array(TWO, options=ReadOptions(axes="TVC"))


def test_presence_follows_the_axes():
    present = np.ones((30, 2), dtype=bool)
    present[4:, 1] = False
    right = np.where(present[..., None, None], TWO, 0.0)
    options = ReadOptions(axes="MTVC")
    for given in (present, present.T, torch.from_numpy(present.T)):
        recording = sequence_from_array(TWO.transpose(1, 0, 2, 3), given, options)
        assert close(recording, right)
        assert recording.present.tolist() == present.tolist()
    square = present[:2]  # as many frames as people
    recording = sequence_from_array(TWO[:2].transpose(1, 0, 2, 3), np.array([[1, 0], [1, 1]]), options)
    assert recording.present.tolist() == [[True, True], [False, True]]
    assert square.shape == (2, 2)


@pytest.mark.parametrize(
    "make",
    [
        lambda array: array.astype(np.float32),
        lambda array: np.asfortranarray(array),
        lambda array: array[::-1][::-1],
        lambda array: array.astype(">f8"),
        lambda array: torch.from_numpy(array),
        lambda array: torch.from_numpy(array).requires_grad_(),
        lambda array: array.tolist(),
    ],
)
def test_the_same_numbers_in_any_memory_are_the_same_recording(make):
    assert close(sequence_from_array(make(TWO.copy())), TWO)


def test_coarse_numbers_keep_their_values():
    image = pixels(figure("coco17"))[:, None]
    assert close(sequence_from_array(image.astype(int)), image.astype(int))
    assert close(sequence_from_array(image.astype(np.float16)), image.astype(np.float16).astype(float))
    assert close(sequence_from_array(torch.from_numpy(image).bfloat16()), torch.from_numpy(image).bfloat16().float())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (TWO + 0j, r"joints is 30 x 2 x 20 x 3 of complex128"),
        (TWO > 0, r"of bool"),
        (TWO.astype("m8[s]"), r"of timedelta64"),
        (TWO.astype(object), r"of object"),
        (TWO.astype(str), r"of <U"),
        ([[[1, 2], [3]]], r"the lists are not an array .*Give every frame as many people"),
        (TWO.reshape(30, 120), r"joints is 30 x 120 of float64\. Expected an array of frames"),
        (TWO[:, 0].reshape(30, 60), r"30 x 60 .* may be frames x \(20 joints x 3 numbers\), to be reshaped"),
        (COCO[:, 0].reshape(30, 34), r"30 x 34 .* may be frames x \(17 joints x 2 numbers\), to be reshaped"),
        (np.array(3.0), r"joints is a single number of float64"),
        (TWO * np.inf, r"joint 0 of person 0 in frame 0 is \[.*inf"),
        (TWO * np.nan, r"nobody is seen in any of the 30 frames \(all coordinates are NaN\)"),
        (TWO * 0, r"nobody is seen in any of the 30 frames \(all coordinates are zero\)"),
        (0 * COCO - 1, r"nobody is seen in any of the 30 frames \(coordinates are zero or -1, or present is false\)"),
        (
            np.where(np.arange(20)[:, None] % 2, np.nan, 0 * TWO),
            r"nobody is seen .* \(all coordinates are NaN, zero or -1\)",
        ),
        (TWO * [1, np.nan, 1], r"joint 0 of person 0 in frame 0 is \[.*nan"),
        (TWO * 1e300, r"joint 0 of person 0 in frame 0 is"),
        (TWO[:0], r"the recording has no frames"),
        (TWO[:, :, :0], r"nobody is seen in any of the 30 frames \(no person or no joint is listed\)"),
        (TWO[:, :0], r"nobody is seen in any of the 30 frames \(no person or no joint is listed\)"),
    ],
)
def test_what_is_no_array_of_positions(array, message):
    with pytest.raises(DataError, match=message):
        sequence_from_array(array)


def test_an_error_names_the_file_where_there_is_one(tmp_path):
    np.save(tmp_path / "walk.npy", TWO.transpose(1, 0, 2, 3))
    with pytest.raises(DataError, match=r"^.*walk\.npy: joints is 2 x 30 x 20 x 3, and neighbours along axis 1 differ"):
        read_skeleton(tmp_path / "walk.npy")
    assert close(read_skeleton(tmp_path / "walk.npy", ReadOptions(axes="MTVC")), TWO)


def test_json_in_another_order(tmp_path):
    path = tmp_path / "walk.json"
    path.write_text(json.dumps({"joints": TWO.transpose(1, 0, 2, 3).tolist()}))
    with pytest.raises(DataError, match=r'data.axes = "MTVC"'):
        read_skeleton(path)
    assert close(read_skeleton(path, ReadOptions(axes="MTVC")), TWO)
    path.write_text("[[[1, 2], [3]], [[4, 5], [6, 7]]]")
    with pytest.raises(DataError, match=r"the lists are not an array of numbers .* Expected lists of equal length"):
        read_skeleton(path, ReadOptions(axes="TVC"))


# Scores


def with_score(joints: np.ndarray, seed: int = 0) -> np.ndarray:
    scores = np.random.default_rng(seed).beta(8, 2, size=joints.shape[:-1])
    return np.concatenate([joints, scores[..., None]], axis=-1)


def with_number(joints: np.ndarray, third: np.ndarray) -> np.ndarray:
    return np.concatenate([joints, np.broadcast_to(third, joints.shape[:-1])[..., None]], axis=-1)


AMBIGUOUS = r"looks like a confidence score and not like a coordinate \(.*\)\. .*data.coordinates = 2 if it is a score"


@pytest.mark.parametrize(
    "array",
    [
        with_score(COCO),
        with_score(COCO / 640),  # normalized by the image
        np.concatenate([COCO, np.ones_like(COCO[..., :1])], axis=-1),
        np.concatenate([COCO, np.zeros_like(COCO[..., :1])], axis=-1),  # padded to three
        np.concatenate([COCO, np.rint(2 * with_score(COCO)[..., 2:])], axis=-1),  # COCO's visibility: 0, 1 or 2
        with_score(pixels(TWO)),
        with_score(COCO) * [1, 1, 100],  # in per cent
        with_number(COCO, np.random.default_rng(1).uniform(20, 100, COCO.shape[:-1])),
        with_number(COCO, np.random.default_rng(1).uniform(0.2, 8, COCO.shape[:-1])),  # raw scores of RTMPose
        with_number(COCO, np.random.default_rng(1).normal(0, 4, COCO.shape[:-1])),  # logits
        with_number(
            COCO, 4 + np.sin(np.arange(30)[:, None, None] / 9 + np.arange(17))
        ),  # raw scores that change slowly
        with_number(COCO, 70 + 25 * np.sin(np.arange(30)[:, None, None] / 9 + np.arange(17))),  # per cent, slowly
        with_number(
            pixels(TWO), np.random.default_rng(1).uniform(20, 100, TWO.shape[:-1])
        ),  # a layout of depth sensors
        with_number(TWO[..., :2], np.random.default_rng(1).uniform(0.2, 8, TWO.shape[:-1])),  # plane in metres
    ],
)
def test_a_score_in_place_of_a_depth_is_refused(array):
    with pytest.raises(DataError, match=AMBIGUOUS):
        sequence_from_array(array)
    recording = sequence_from_array(array, options=ReadOptions(coordinates=2))
    assert close(recording, array[..., :2])
    assert close(sequence_from_array(array, options=ReadOptions(coordinates=3)), array)


@pytest.mark.parametrize(
    "array",
    [
        TWO,
        1000 * TWO,
        TWO - TWO[:, :, :1],
        (TWO - TWO.min((0, 1, 2))) / np.ptp(TWO, axis=(0, 1, 2)),  # each axis normalized to 0..1
        figures("kinect25"),
        np.concatenate([COCO, 300 * figures("coco17")[..., 2:]], axis=-1),  # depth in the unit of pixels
        figures("mediapipe33") - figures("mediapipe33")[:, :, 23:24],  # world landmarks, around the hip
        100 * (TWO - TWO.min((0, 1, 2))),  # centimetres from a corner of the room
        TWO + np.random.default_rng(0).normal(scale=0.01, size=TWO.shape),  # noise of 1 cm
        TWO[::6],  # 5 frames per second
        with_number(TWO[..., :2], 3 + np.random.default_rng(0).normal(scale=0.003, size=TWO.shape[:-1])),  # a flat body
        with_number(TWO[..., :2], np.random.default_rng(0).normal(scale=0.003, size=TWO.shape[:-1])),
    ],
)
def test_a_depth_passes(array):
    assert close(sequence_from_array(array), array)


@pytest.mark.parametrize("config", [MSRAction3D(), SBU(), UTDMHAD()], ids=lambda config: config.name)
def test_no_real_depth_is_taken_for_a_score(real_data, config):
    for record in config.index("train").records[::8]:
        joints = config.open(record).joints
        for array in (joints, 1000 * joints, joints - joints.mean(2, keepdim=True)):
            assert _score_reason(array.double().numpy()) == ""


def test_four_numbers_per_joint_are_refused():
    array = with_score(TWO)
    with pytest.raises(
        DataError, match=r"30 x 2 x 20 x 4, and the last number .* four .* data.coordinates = 3 if it is"
    ):
        sequence_from_array(array)
    assert close(sequence_from_array(array, options=ReadOptions(coordinates=3)), TWO)
    with pytest.raises(DataError, match=r"joints have 2 coordinates\. Expected at least 3"):
        sequence_from_array(TWO[..., :2], options=ReadOptions(coordinates=3))


def test_scores_in_text_files_are_refused_too(tmp_path):
    array = with_score(COCO)
    (tmp_path / "a.json").write_text(json.dumps(array.tolist()))
    rows = [
        f"{frame},{person},{joint},{','.join(map(repr, array[frame, person, joint].tolist()))}"
        for frame, person, joint in np.ndindex(array.shape[:3])
    ]
    (tmp_path / "a.csv").write_text("\n".join(["frame,person,joint,x,y,z", *rows]))
    (tmp_path / "named.csv").write_text("\n".join(["frame,person,joint,x,y,score", *rows]))
    for name in ("a.json", "a.csv"):
        with pytest.raises(DataError, match=AMBIGUOUS):
            read_skeleton(tmp_path / name)
        assert close(read_skeleton(tmp_path / name, ReadOptions(coordinates=2)), COCO)
    assert close(read_skeleton(tmp_path / "named.csv"), COCO)


# Joints that were not detected


def test_joints_at_the_corner_of_the_image_are_interpolated_and_counted():
    lost = COCO.copy()
    lost[10:14, 0, 9] = 0.0  # a wrist, in the middle
    lost[:3, 1, 15] = 0.0  # an ankle, at the beginning
    lost[25:, 1, 16] = 0.0  # the other one, at the end
    recording = sequence_from_array(lost)
    right = COCO.copy()
    for frame, share in zip(range(10, 14), (0.2, 0.4, 0.6, 0.8), strict=True):
        right[frame, 0, 9] = (1 - share) * COCO[9, 0, 9] + share * COCO[14, 0, 9]
    right[:3, 1, 15] = COCO[3, 1, 15]
    right[25:, 1, 16] = COCO[24, 1, 16]
    assert close(recording, right)
    assert recording.filled == 4 + 3 + 5
    assert recording.present.all()


@pytest.mark.parametrize("mark", [0.0, -1.0, np.nan])
@pytest.mark.parametrize("people", [slice(0, 2), slice(0, 1)])
def test_every_marker_of_a_missing_joint_is_filled_alike(mark, people):
    lost = COCO[:, people].copy()
    lost[10:12, 0, 9] = mark
    recording = sequence_from_array(lost)
    right = COCO[:, people].copy()
    right[10, 0, 9], right[11, 0, 9] = (
        (2 * COCO[9, 0, 9] + COCO[12, 0, 9]) / 3,
        (COCO[9, 0, 9] + 2 * COCO[12, 0, 9]) / 3,
    )
    assert close(recording, right)
    assert recording.filled == 2


@pytest.mark.parametrize("mark", [-1.0, np.nan])
def test_a_person_without_any_joint_is_absent(mark):
    lost = COCO.copy()
    lost[5:9, 1] = mark
    recording = sequence_from_array(lost)
    assert recording.filled == 0
    assert recording.present[:, 1].tolist() == [not 5 <= frame < 9 for frame in range(30)]
    assert not recording.joints[5:9, 1].any()


def test_minus_one_is_a_position_where_everything_lies_between_minus_one_and_one():
    normalized = COCO / 640 * 2 - 1
    normalized[3, 0, 9] = -1.0
    assert close(sequence_from_array(normalized), normalized)
    metric = TWO.copy()
    metric[3, 0, 9] = -1.0
    assert close(sequence_from_array(metric), metric)


def test_a_joint_of_which_half_is_missing_is_refused():
    lost = COCO.copy()
    lost[10, 0, 9, 1] = np.nan
    with pytest.raises(DataError, match=r"joint 9 of person 0 in frame 10 is \[.*nan"):
        sequence_from_array(lost)


def test_a_score_beside_missing_coordinates_is_still_a_score():
    lost = with_score(COCO)
    lost[10, 0, 9, :2] = np.nan
    with pytest.raises(DataError, match=AMBIGUOUS):
        sequence_from_array(lost)
    assert sequence_from_array(lost, options=ReadOptions(coordinates=2)).filled == 1


def test_a_joint_that_is_never_found_lies_within_the_body():
    lost = COCO[:, :1].copy()
    lost[:, 0, 13:] = 0.0  # knees and ankles are below the picture
    recording = sequence_from_array(lost)
    assert recording.filled == 30 * 4
    np.testing.assert_allclose(recording.joints[:, 0, 14], COCO[:, 0, :13].mean(axis=1), rtol=1e-5)


def test_an_absent_person_is_no_missing_joint():
    absent = COCO.copy()
    absent[5:9, 1] = 0.0
    recording = sequence_from_array(absent)
    assert recording.filled == 0
    assert recording.present[:, 1].tolist() == [not 5 <= frame < 9 for frame in range(30)]
    present = np.ones((30, 2), dtype=bool)
    present[5:9, 1] = False
    assert sequence_from_array(COCO, present).filled == 0


@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("joint", [0, 3, 11])
def test_recordings_that_are_centered_on_a_joint_keep_it_at_the_origin(flat, joint):
    """On a joint in the middle, at the top or at the end of a limb, in every frame or in the first."""
    body = TWO[..., :2] if flat else TWO
    each = body[:, :1] - body[:, :1, joint : joint + 1]
    first = body[:, :1] - body[:1, :1, joint : joint + 1]
    pair = body - body[:, :1, joint : joint + 1]  # both around the first person
    for centered in (each, first, pair):
        recording = sequence_from_array(centered)
        assert recording.filled == 0
        assert close(recording, centered)


def test_a_joint_at_the_camera_is_missing():
    lost = TWO.copy()
    lost[10:12, 0, 7] = 0.0
    recording = sequence_from_array(lost)
    assert recording.filled == 2
    right = TWO.copy()
    right[10, 0, 7], right[11, 0, 7] = ((2 * TWO[9] + TWO[12]) / 3)[0, 7], ((TWO[9] + 2 * TWO[12]) / 3)[0, 7]
    assert close(recording, right)


def test_filling_changes_no_given_array():
    lost = COCO.copy()
    lost[10, 0, 9] = 0.0
    given = lost.copy()
    fill_missing_joints(given)
    sequence_from_array(given)
    assert np.array_equal(given, lost)


def test_missing_joints_of_text_files_are_filled(tmp_path):
    lost = COCO[:, 0].copy()
    lost[10, 9] = 0.0
    (tmp_path / "a.json").write_text(json.dumps(lost.tolist()))
    rows = [f"{frame};{joint};{lost[frame, joint, 0]};{lost[frame, joint, 1]}" for frame, joint in np.ndindex(30, 17)]
    (tmp_path / "a.csv").write_text("\n".join(["frame;joint;x;y", *rows]))
    for name in ("a.json", "a.csv"):
        recording = read_skeleton(tmp_path / name)
        assert recording.filled == 1
        np.testing.assert_allclose(recording.joints[10, 0, 9], (COCO[9, 0, 9] + COCO[11, 0, 9]) / 2, rtol=1e-5)


# The vertical


def test_a_recording_is_rotated_upright_and_never_mirrored():
    joint = LAYOUTS["kinect20"].joints.index
    z_up = np.stack([TWO[..., 0], -TWO[..., 2], TWO[..., 1]], axis=-1)
    x_up = np.stack([TWO[..., 1], -TWO[..., 0], TWO[..., 2]], axis=-1)
    turned = [(z_up, "z"), (x_up, "x"), (TWO * [-1, -1, 1], "-y"), (TWO, "y"), (TWO, "")]
    turned += [(z_up * [1, -1, -1], "-z"), (x_up * [-1, -1, 1], "-x")]
    for given, up in turned:
        recording = sequence_from_array(given, options=ReadOptions(up=up))
        assert close(recording, TWO)
        assert (recording.joints[:, :, joint("head"), 1] > recording.joints[:, :, joint("left_foot"), 1] + 1).all()
    assert close(turn_up(sequence(COCO), "z"), COCO)  # in 2-D there is nothing to turn about


def test_the_hint_of_every_wrong_order_fixes_it():
    """What the message says to set makes the array readable."""
    for order, axes in ORDERS.items():
        if order != "TPJC":
            with pytest.raises(DataError) as caught:
                sequence_from_array(TWO.transpose(axes))
            suggestion = re.search(r'Set data\.axes = "(\w+)"', str(caught.value))
            assert suggestion is not None
            assert close(sequence_from_array(TWO.transpose(axes), options=ReadOptions(axes=suggestion[1])), TWO)
