"""The confidence of an estimator in each joint: from its files, through every operation, to the models that take it."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from muybridge.core.contracts import SkeletonData, SkeletonInput
from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import SkeletonSequence
from muybridge.data.datasets.skeleton_folder import SkeletonFolder
from muybridge.data.playback import play
from muybridge.data.shards.skeletons import pack_skeleton
from muybridge.data.skeleton_augment import SkeletonAugment, augment_skeleton, hide_joints, mirror, resample
from muybridge.data.skeleton_ops import cut_span, fill_absent, match_layout, prepare_skeleton, subsample
from muybridge.media.arrays import ReadOptions, sequence_from_array
from muybridge.media.npz import read_npz
from muybridge.media.poses import find_poses, read_poses, read_tracks
from muybridge.media.poses.convert import convert
from muybridge.media.poses.people import Person, to_sequence
from muybridge.media.skeleton import read_skeleton
from muybridge.media.synthetic.retarget import retarget
from muybridge.media.synthetic.stick_figures import stick_figure
from muybridge.models.drnn import DRNNConfig
from muybridge.models.sta_lstm import STALSTMConfig
from tests.skeletons import figures, pixels, sequence
from tests.test_estimator_files import (
    alphapose,
    coco,
    coco_annotations,
    deeplabcut,
    mmaction,
    mmpose,
    openpose,
    pyskl,
    sleap,
    ultralytics,
)

HOLDS = SkeletonData(LAYOUTS["coco17"], people=2, coordinates=2)


@pytest.mark.parametrize("write", [openpose, ultralytics, mmpose, coco, alphapose, deeplabcut, sleap, mmaction, pyskl])
def test_every_tool_that_says_it_is_heard(tmp_path: Path, write):
    write(tmp_path)
    recording = read_poses(find_poses(tmp_path)[0])
    assert recording.scores is not None
    score = 1.0 if write in (mmaction, pyskl) else 0.9
    expected = (recording.present[..., None] * score).expand(-1, -1, 17)
    np.testing.assert_allclose(recording.scores, expected, rtol=1e-6)


def test_without_confidence_there_are_no_scores(tmp_path: Path):
    assert read_skeleton(coco_annotations(tmp_path)).scores is None
    body = pixels(figures("coco17"))[:, 0]
    some = [[Person(pose, np.full(17, 0.5) if number else None)] for number, pose in enumerate(body)]
    assert to_sequence(some, ReadOptions(), Path("a")).scores is None  # one frame is without
    assert to_sequence(some, ReadOptions(min_score=0.6), Path("a")).present.sum() == 1


def scores_in(recording: SkeletonSequence) -> torch.Tensor:
    assert recording.scores is not None
    return recording.scores


def unsure(root: Path) -> Path:
    """A recording of MMPose in which one joint of one frame is unsure, one has no number, and one was not found."""
    path = mmpose(root)
    content = json.loads(path.read_text())
    wrong = content["instance_info"][10]["instances"][0]
    wrong["keypoints"][9], wrong["keypoint_scores"][9] = [1.0, 1.0], 0.05
    wrong["keypoint_scores"][8] = float("nan")
    wrong["keypoints"][7], wrong["keypoint_scores"][7] = [0.0, 0.0], 0.4
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("min_score", [0.0, 0.1])
def test_scores_of_joints_that_are_filled_are_zero_and_are_written_and_read(tmp_path: Path, min_score: float):
    (pose,) = find_poses(unsure(tmp_path))
    recording = read_poses(pose, ReadOptions(min_score=min_score))
    assert recording.scores is not None
    seen = recording.scores[10, 0, [6, 7, 8, 9]].tolist()
    assert seen == pytest.approx([0.9, 0.0, 0.0, 0.0 if min_score else 0.05])
    assert recording.filled == (3 if min_score else 1)
    written = convert(pose, tmp_path / "out", ReadOptions(min_score=min_score))
    again = read_skeleton(written)
    assert again.scores is not None
    assert torch.equal(again.scores, recording.scores)
    assert torch.equal(again.joints, recording.joints)


def test_a_threshold_on_a_converted_file_is_one_on_the_estimators_file(tmp_path: Path):
    (pose,) = find_poses(unsure(tmp_path))
    options = ReadOptions(min_score=0.1)
    converted = read_skeleton(convert(pose, tmp_path / "out", ReadOptions()), options)
    direct = read_poses(pose, options)
    np.testing.assert_allclose(converted.joints, direct.joints, rtol=1e-5)
    assert converted.scores is not None
    assert direct.scores is not None
    assert torch.equal(converted.scores, direct.scores)


def test_converted_files_are_kept_while_files_and_settings_are_the_same(tmp_path: Path):
    source = unsure(tmp_path)
    (pose,) = find_poses(source)
    path = convert(pose, tmp_path / "out", ReadOptions())
    first = path.read_bytes()
    os.utime(path, ns=(1, 1))
    convert(pose, tmp_path / "out", ReadOptions())
    assert path.stat().st_mtime_ns == 1
    convert(pose, tmp_path / "out", ReadOptions(min_score=0.1))
    assert read_skeleton(path).filled == 0  # filled before it was written
    assert path.read_bytes() != first
    os.utime(source, ns=(5, 5))
    path.write_bytes(first[:50])
    assert read_skeleton(convert(pose, tmp_path / "out", ReadOptions())).scores is not None
    np.savez(path, joints=np.ones((3, 17, 2)))  # somebody else's
    os.utime(path, ns=(1, 1))
    convert(pose, tmp_path / "out", ReadOptions())
    assert path.stat().st_mtime_ns == 1


def test_tracks_of_people_keep_the_confidence(tmp_path: Path):
    (track, _) = read_tracks(mmpose(tmp_path))
    scores = track.sequence(ReadOptions(), tmp_path).scores
    assert scores is not None
    assert scores[[6, 7, 8]].mean(dim=(1, 2)).tolist() == pytest.approx([0.9, 0, 0.9])


def own_files(root: Path, joints: np.ndarray, scores: np.ndarray, names: tuple[str, ...]) -> list[Path]:
    """One recording of one person as our CSV and as our JSON, with scores and the names of the joints."""
    rows = [
        f"{frame},{names[joint]},{x!r},{y!r},{scores[frame, joint]}".replace(",nan", ",")
        for frame, pose in enumerate(joints.tolist())
        for joint, (x, y) in enumerate(pose)
    ]
    table, nested = root / "a.csv", root / "a.json"
    table.write_text("\n".join(["frame,joint,x,y,Confidence", *rows]))
    content = {"joints": joints.tolist(), "scores": [[row] for row in scores.tolist()], "joint_names": names}
    nested.write_text(json.dumps(content).replace("NaN", "null"))
    return [table, nested]


def test_our_own_csv_and_json_say_confidence_and_names(tmp_path: Path):
    joints = pixels(figures("coco17"))[:, 0].round(3)
    scores = np.random.default_rng(0).uniform(0.2, 1, joints.shape[:2]).round(3)
    scores[3, 5], scores[4, 6] = np.nan, 0.05
    order = np.random.default_rng(1).permutation(17)
    names = tuple(LAYOUTS["coco17"].joints[number] for number in order)
    expected = np.where(np.isnan(scores), 0, scores)
    for path in own_files(tmp_path, joints[:, order], scores[:, order], names):
        read = read_skeleton(path)
        assert read.layout == LAYOUTS["coco17"]
        np.testing.assert_allclose(scores_in(read)[:, 0], expected, rtol=1e-6)
        np.testing.assert_allclose(read.joints[:, 0], joints, rtol=1e-6)
        assert read_skeleton(path, ReadOptions(min_score=0.1)).filled == 2


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("frame,joint,x,y,score,confidence", "0,0,1,2,1,1", "score and confidence, which all say"),
        ("frame,joint,x,y,score", "0,0,1,2,sure", "line 3 is '0,0,1,2,sure'.*numbers for x, y, score"),
        ("frame,joint,x,y", "0,nose,1,2", "line 3 has joint 'nose', and the first '1'"),
    ],
)
def test_csv_with_scores_that_cannot_be_right_is_refused(tmp_path: Path, header: str, row: str, message: str):
    (tmp_path / "a.csv").write_text(f"{header}\n{row.replace('nose', '1').replace('sure', '1')}\n{row}\n")
    with pytest.raises(DataError, match=message):
        read_skeleton(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("beside", "message"),
    [
        ({"scores": [[1, 1]]}, "scores has 1 frames, and joints 2 frames"),
        ({"scores": [[1, 1], [1, 1, 1]]}, "scores of person 0 in frame 1 are not 2 numbers"),
        ({"scores": [[[1, 1], [1, 1]], [1, 1]]}, "scores of frame 0 are not of 1 people"),
        ({"scores": 3}, "scores has no list"),
        ({"present": [1, 0]}, "present, which is not read"),
        ({"joint_names": ["a"]}, "1 joints are named, and there are 2"),
        ({"joint_names": [["a", "b"]]}, "joint_names is 1 x 2"),
    ],
)
def test_json_with_scores_or_names_that_cannot_be_right_is_refused(tmp_path: Path, beside: dict, message: str):
    content = {"joints": [[[1, 2], [3, 4]], [[1, 3], [3, 5]]], **beside}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_skeleton(tmp_path / "a.json")


def test_scores_of_arrays_are_in_the_order_of_the_joints():
    joints = pixels(figures("coco17"))
    scores = np.random.default_rng(0).random(joints.shape[:3])
    for axes in ("TMVC", "MTVC", "CTVM"):
        letters = axes.replace("M", "P").replace("V", "J")
        array = joints.transpose(["TPJC".index(letter) for letter in letters])
        sure = scores.transpose(["TPJ".index(letter) for letter in letters if letter != "C"])
        read = sequence_from_array(array, options=ReadOptions(axes=axes), scores=sure)
        np.testing.assert_allclose(scores_in(read), scores, rtol=1e-6)
    alone = sequence_from_array(joints[:, 0], scores=scores[:, 0])
    np.testing.assert_allclose(scores_in(alone), scores[:, :1], rtol=1e-6)
    with pytest.raises(DataError, match=r"scores is 30 x 17 .* joints is 30 x 2 x 17 x 2.*here 30 x 2 x 17"):
        sequence_from_array(joints, scores=scores[:, 0])


def coded(frames: int = 24, people: int = 2) -> SkeletonSequence:
    """Joints whose y is a code of frame, person and joint, and scores that are the same code."""
    code = torch.arange(frames)[:, None, None] + 100.0 * torch.arange(people)[:, None] + 1000.0 * torch.arange(17) + 1
    joints = torch.stack([torch.randn(code.shape, generator=torch.Generator().manual_seed(0)), code], dim=-1)
    return SkeletonSequence(joints, torch.ones(frames, people, dtype=torch.bool), code)


OPERATIONS = {
    "frames": lambda one: one.take_frames(slice(3, 9)),
    "people": lambda one: one.take_people([1, 0]),
    "joints": lambda one: one.take_joints([4, 2, 0]),
    "fewer people": lambda one: match_layout(one, replace(HOLDS, people=1)),
    "more people": lambda one: match_layout(one, replace(HOLDS, people=3)),
    "span": lambda one: cut_span(one, (0.2, 0.5), 30.0, "a"),
    "subsample": lambda one: subsample(one, 7),
    "slower": lambda one: resample(one, 0.7),
    "faster": lambda one: resample(one, 1.9),
    "mirror": lambda one: mirror(one, LAYOUTS["coco17"]),
    "play": lambda one: play(one, torch.Generator().manual_seed(1))[0],
    "augment": lambda one: augment_skeleton(
        one,
        0,
        SkeletonAugment(temporal_crop=0.5, speed=(0.5, 0.9), mirror=1.0, swap_people=1.0),
        HOLDS,
        {},
        torch.Generator().manual_seed(0),
    )[0],
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_scores_go_where_their_joints_go(operation: str):
    changed = OPERATIONS[operation](coded())
    assert changed.scores is not None
    torch.testing.assert_close(changed.scores, changed.joints[..., 1], rtol=1e-4, atol=1e-2)


def test_gaps_and_hidden_joints_are_not_sure():
    recording = coded()
    recording.present[5:8, 0] = False
    absent = ~recording.present[..., None]
    recording = replace(
        recording,
        joints=recording.joints.masked_fill(absent[..., None], 0),
        scores=scores_in(recording).masked_fill(absent, 0),
    )
    filled = fill_absent(recording)
    assert filled.scores is not None
    assert filled.present.all()
    assert filled.scores[5:8, 0].abs().max() == 0
    assert torch.equal(filled.scores[8:], scores_in(recording)[8:])
    hidden = torch.zeros(2, 17, dtype=torch.bool)
    hidden[1, 3] = True
    scores = hide_joints(coded(), LAYOUTS["coco17"], hidden).scores
    assert scores is not None
    assert (scores == 0).all(dim=0).equal(hidden)


def test_models_are_given_the_confidence_after_the_coordinates_and_refuse_to_guess_it():
    takes = SkeletonInput(confidence=True, center="first", unit_scale=True, smooth=True, max_frames=10)
    prepared = prepare_skeleton(coded(), takes, HOLDS)
    assert prepared.shape == (10, 2, 17, 3)
    torch.testing.assert_close(prepared[..., 2], subsample(coded(), 10).scores)
    assert torch.equal(prepared[..., :2], prepare_skeleton(coded(), replace(takes, confidence=False), HOLDS))
    with pytest.raises(DataError, match=r"no confidence of its joints.*model\.confidence = false"):
        prepare_skeleton(replace(coded(), scores=None), takes, HOLDS)
    figure = retarget(stick_figure("jump", 1, 1), HOLDS)  # of a warm-up, which knows where its joints are
    assert figure.scores is not None
    assert torch.equal(figure.scores[..., 0], figure.present.float())


@pytest.mark.parametrize(
    "config",
    [
        STALSTMConfig(hidden=4, layers=1, attention_size=4, confidence=True),
        STALSTMConfig(hidden=4, layers=1, attention_size=4, confidence=True, features=("position", "movement")),
        DRNNConfig.model_validate({"hidden": 4, "confidence": True, "features": ["position", "distance"], "pca": 5}),
    ],
    ids=["sta_lstm", "sta_lstm features", "drnn"],
)
def test_networks_see_the_confidence(config):
    torch.manual_seed(0)
    takes = config.takes()
    assert takes.confidence
    network = config.build(3, HOLDS).eval()
    joints = pixels(figures("coco17"))
    recording = replace(sequence(joints), scores=torch.rand(joints.shape[:3]))
    inputs = prepare_skeleton(recording, takes, HOLDS)[None]
    length = torch.tensor([len(joints)])
    network.calibrate([{"joints": inputs, "length": length}])
    torch.nn.init.normal_(next(one for one in network.modules() if isinstance(one, torch.nn.Linear)).weight)
    inputs.requires_grad_()
    network(inputs, length).logits.square().sum().backward()
    assert inputs.grad is not None
    assert (inputs.grad[..., 2] != 0).float().mean() > 0.9
    other = inputs.detach().clone()
    other[:, 20:, ..., 2] = 0
    cut = torch.tensor([20])
    assert torch.equal(network(other, cut).logits, network(inputs, cut).logits)


def test_a_pack_keeps_the_scores_and_one_without_is_as_before(tmp_path: Path):
    (tmp_path / "a.npz").write_bytes(pack_skeleton(coded()))
    arrays, names = read_npz(tmp_path / "a.npz", ("scores",))
    np.testing.assert_array_equal(arrays["scores"], coded().scores)
    (tmp_path / "b.npz").write_bytes(pack_skeleton(replace(coded(), scores=None)))
    assert set(names) - {"scores"} == set(read_npz(tmp_path / "b.npz", ())[1])


def test_a_folder_of_an_estimator_gives_scores_to_the_model(tmp_path: Path):
    for label in ("bow", "wave"):
        (tmp_path / label).mkdir()
        mmpose(tmp_path / label)
    config = SkeletonFolder(root=tmp_path, layout="coco17")
    recording = config.open(config.index("train").records[0])
    prepared = prepare_skeleton(recording, SkeletonInput(confidence=True), config.holds())
    assert prepared[0, 0, 0, 2].item() == pytest.approx(0.9)
