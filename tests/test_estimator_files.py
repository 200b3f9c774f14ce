"""Files of pose estimators: each is recognized, and read as the people that it holds."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import DataError, MissingExtraError
from muybridge.data.datasets.skeleton_folder import SkeletonFolder
from muybridge.media.arrays import ReadOptions
from muybridge.media.poses import Pose, find_poses, read_poses
from muybridge.media.poses.people import Person, _Found, _linked, _steady, likeness, link, to_sequence
from muybridge.media.poses.tools import openpose_frames
from muybridge.media.skeleton import read_skeleton
from muybridge.predict import find_recordings
from tests.skeletons import figures, pixels

FRAMES = pixels(figures("coco17")).round(2)  # 30 frames, 2 people, 17 joints, in pixels
SEEN = [frame for frame in range(30) if frame != 7]  # nobody is found in frame 7
WIDTH, HEIGHT = 640, 480


def flat(person: np.ndarray, score: float = 0.9) -> list[float]:
    """x, y, score of each joint in a row."""
    return np.concatenate([person, np.full((len(person), 1), score)], axis=1).ravel().tolist()


def openpose(root: Path) -> Path:
    (root / "wave_s01").mkdir(parents=True)
    for number, frame in enumerate(FRAMES):
        people = [{"person_id": [-1], "pose_keypoints_2d": flat(person), "face_keypoints_2d": []} for person in frame]
        path = root / "wave_s01" / f"wave_{number:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": people if number != 7 else []}))
    return root / "wave_s01"


def ultralytics(root: Path) -> Path:
    (root / "labels").mkdir(parents=True)
    for number, frame in enumerate(FRAMES):
        lines = []
        for track, person in enumerate(frame, start=1):
            points = np.concatenate([person / (WIDTH, HEIGHT), np.full((17, 1), 0.9)], axis=1).ravel()
            lines.append(" ".join(["0 0.5 0.5 0.2 0.4", *(f"{value:.7f}" for value in points), f"0.88 {track}"]))
        if number != 7:
            (root / "labels" / f"wave_{number + 1}.txt").write_text("\n".join(lines) + "\n")
    return root / "labels"


def mmpose(root: Path) -> Path:
    people = [[{"keypoints": person.tolist(), "keypoint_scores": [0.9] * 17} for person in frame] for frame in FRAMES]
    frames = [{"frame_id": number + 1, "instances": listed} for number, listed in enumerate(people)]
    frames[7]["instances"] = []
    (root / "wave.json").write_text(json.dumps({"meta_info": {}, "instance_info": frames}))
    return root / "wave.json"


def mmpose_list(root: Path) -> Path:
    content = json.loads(mmpose(root).read_text())["instance_info"]
    (root / "wave.json").write_text(json.dumps(content))
    return root / "wave.json"


def coco(root: Path) -> Path:
    people = [(number, person) for number, frame in enumerate(FRAMES) for person in frame if number != 7]
    results = [{"image_id": number, "category_id": 1, "keypoints": flat(person)} for number, person in people]
    (root / "wave.json").write_text(json.dumps(results))
    return root / "wave.json"


def alphapose(root: Path) -> Path:
    people = [(n, track, person) for n, frame in enumerate(FRAMES) for track, person in enumerate(frame) if n != 7]
    results = [
        {"image_id": f"{n}.jpg", "category_id": 1, "keypoints": flat(person), "score": 2.9, "idx": [[track + 1.0]]}
        for n, track, person in people
    ]
    (root / "alphapose-results.json").write_text(json.dumps(results))
    return root / "alphapose-results.json"


def coco_annotations(root: Path) -> Path:
    images = [{"id": 100 + number, "file_name": f"{number:04d}.jpg"} for number in range(30)]
    people = [
        {"image_id": 100 + number, "keypoints": flat(person, 2)}
        for number, frame in enumerate(FRAMES)
        for person in frame
        if number != 7
    ]
    (root / "wave.json").write_text(json.dumps({"images": images, "annotations": people, "categories": []}))
    return root / "wave.json"


def mmaction(root: Path) -> Path:
    keypoint = FRAMES.transpose(1, 0, 2, 3).copy()
    keypoint[:, 7] = 0.0
    np.savez(root / "wave.npz", keypoint=keypoint, keypoint_score=np.ones((2, 30, 17)))
    return root / "wave.npz"


def pyskl(root: Path) -> Path:
    keypoint = FRAMES.transpose(1, 0, 2, 3).astype(np.float32)
    keypoint[:, 7] = 0.0
    entry = {"frame_dir": "S001C001", "label": 3, "img_shape": (HEIGHT, WIDTH), "total_frames": 30}
    entry |= {"keypoint": keypoint, "keypoint_score": np.ones((2, 30, 17), np.float32)}
    (root / "ntu.pkl").write_bytes(pickle.dumps({"split": {"xsub_train": ["S001C001"]}, "annotations": [entry]}))
    return root / "ntu.pkl"


def deeplabcut(root: Path) -> Path:
    who = [f"mouse{person}" for person in range(2) for _ in range(17 * 3)]
    parts = [f"part{joint}" for _ in range(2) for joint in range(17) for _ in range(3)]
    rows = [["scorer", *["net"] * 102], ["individuals", *who], ["bodyparts", *parts]]
    rows.append(["coords", *["x", "y", "likelihood"] * 34])
    for number, frame in enumerate(FRAMES):
        values = [f"{value}" for person in frame for value in flat(person)] if number != 7 else [""] * 102
        rows.append([str(number), *values])
    (root / "wave.csv").write_text("\n".join(map(",".join, rows)) + "\n")
    return root / "wave.csv"


def deeplabcut_h5(root: Path, columns: bytes = b"") -> Path:
    """As pandas writes a data frame with several rows of headers, in its form "table"."""
    h5py = pytest.importorskip("h5py")
    names = [
        ("net", f"mouse{person}", f"part{joint}", axis)
        for person in range(2)
        for joint in range(17)
        for axis in ("x", "y", "likelihood")
    ]
    values = np.concatenate([FRAMES, np.full((30, 2, 17, 1), 0.9)], axis=-1).reshape(30, -1)
    values[7] = np.nan
    table = np.zeros(30, dtype=[("index", "<i8"), ("values_block_0", "<f8", (102,))])
    table["index"], table["values_block_0"] = range(30), values
    with h5py.File(root / "wave.h5", "w") as file:
        file["df_with_missing/table"] = table
        file["df_with_missing"].attrs["pandas_type"] = np.bytes_("frame_table")
        attrs = file["df_with_missing/table"].attrs
        attrs["values_block_0_kind"] = np.bytes_(columns or pickle.dumps(names, 0))
    return root / "wave.h5"


def sleap(root: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    tracks = FRAMES.transpose(1, 3, 2, 0).copy()  # track, 2, node, frame
    tracks[..., 7] = np.nan
    with h5py.File(root / "wave.h5", "w") as file:
        file["tracks"], file["point_scores"] = tracks, np.full((2, 17, 30), 0.9)
    return root / "wave.h5"


def assert_is_the_recording(joints: np.ndarray, present: np.ndarray) -> None:
    assert present.tolist() == [[frame != 7] * 2 for frame in range(30)]
    np.testing.assert_allclose(joints[SEEN], FRAMES[SEEN], rtol=1e-4, atol=0.01)


@pytest.mark.parametrize("write", [mmpose, mmpose_list, coco, alphapose, coco_annotations, mmaction, deeplabcut])
def test_files_of_one_recording_are_read_like_any_other(tmp_path: Path, write: Callable[[Path], Path]):
    recording = read_skeleton(write(tmp_path))
    assert_is_the_recording(recording.joints.numpy(), recording.present.numpy())


@pytest.mark.parametrize(
    "write", [openpose, ultralytics, mmpose, alphapose, mmaction, pyskl, deeplabcut, deeplabcut_h5, sleap]
)
def test_every_tool_is_converted_with_its_class_folders(tmp_path: Path, write: Callable[[Path], Path]):
    (tmp_path / "in/wave").mkdir(parents=True)
    write(tmp_path / "in/wave")
    arguments = ["convert-poses", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--size", "640x480"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (path,) = (tmp_path / "out").rglob("*.npz")
    assert path.parent.name == ("003" if write is pyskl else "wave")
    with np.load(path) as arrays:
        assert_is_the_recording(arrays["joints"], arrays["present"])
    before = path.stat().st_mtime_ns
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("tracks", "scores", "message"),
    [
        ((3, 4), None, "tracks is 3 x 4"),
        ((1, 2, 3, 10), (4, 4), "tracks is 10 x 1 x 3 x 2 .*, and point_scores 4 x 4"),
        ((1, 5, 3, 10), None, "tracks is 10 x 1 x 3 x 5"),
    ],
)
def test_tracks_of_sleap_in_another_shape_are_refused(tmp_path: Path, tracks, scores, message: str):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["tracks"] = np.ones(tracks)
        if scores:
            file["point_scores"] = np.ones(scores)
    with pytest.raises(DataError, match=message):
        read_poses(find_poses(tmp_path)[0])


def test_a_table_of_deeplabcut_that_is_damaged_or_runs_something_is_refused(tmp_path: Path):
    for columns in (pickle.dumps(print, 0), b"no pickle", pickle.dumps([("net", "nose", "x")], 0)):
        (pose,) = find_poses(deeplabcut_h5(tmp_path, columns))
        assert pose.tool == "DeepLabCut"
        with pytest.raises(DataError, match=r"wave\.h5: not a table of DeepLabCut \((a pickle|1 columns)"):
            read_poses(pose)


def test_a_folder_of_openpose_is_a_recording_like_any_other(tmp_path: Path):
    for label in ("wave", "jump"):
        for person in ("s01", "s02"):
            openpose(tmp_path / "data" / label / person)
    (tmp_path / "data" / "jump" / "s02" / "wave_s01" / "._wave_000000000000_keypoints.json").write_bytes(b"macOS")
    folder = tmp_path / "data" / "wave" / "s01" / "wave_s01"
    recording = read_skeleton(folder)
    assert_is_the_recording(recording.joints.numpy(), recording.present.numpy())
    data = SkeletonFolder(root=tmp_path / "data", group="/(s..)/", layout="coco17", people=2)
    ids = [record.id for part in ("train", "test") for record in data.index(part).records]
    assert sorted(ids) == [f"{label}/{person}/wave_s01" for label in ("jump", "wave") for person in ("s01", "s02")]
    holds = data.holds()
    assert list(find_recordings([folder], holds)) == [folder]
    assert len(list(find_recordings([tmp_path / "data"], holds))) == 4
    with pytest.raises(DataError, match="the folder is no recording"):
        read_skeleton(tmp_path)
    (folder / "other_000000000000_keypoints.json").write_text((folder / "wave_000000000000_keypoints.json").read_text())
    with pytest.raises(DataError, match="frames of several recordings"):
        read_skeleton(folder)


def test_several_recordings_of_openpose_in_one_folder(tmp_path: Path):
    for name in ("a", "b"):
        for number in (0, 2):
            content = {"version": 1.3, "people": [{"pose_keypoints_2d": flat(FRAMES[number, 0])}]}
            (tmp_path / f"{name}_{number:012d}_keypoints.json").write_text(json.dumps(content))
    found = find_poses(tmp_path)
    assert [(pose.name, pose.tool, len(pose.files)) for pose in found] == [("a", "OpenPose", 2), ("b", "OpenPose", 2)]
    recording = read_poses(found[0])
    assert recording.present.flatten().tolist() == [True, False, True]  # the frame without a file shows nobody


def test_a_frame_of_openpose_is_no_recording_and_the_command_is_named(tmp_path: Path):
    path = next(openpose(tmp_path).iterdir())
    with pytest.raises(DataError, match=r"one frame of OpenPose .*muybridge convert-poses DIR"):
        read_skeleton(path)


def test_joints_of_openpose_in_space(tmp_path: Path):
    body = np.arange(75.0).reshape(25, 3) + 1
    values = np.concatenate([body, np.ones((25, 1))], axis=1).ravel().tolist()
    for number in range(2):
        content = {"version": 1.3, "people": [{"pose_keypoints_2d": [], "pose_keypoints_3d": values}]}
        (tmp_path / f"a_{number:012d}_keypoints.json").write_text(json.dumps(content))
    np.testing.assert_allclose(read_poses(find_poses(tmp_path)[0]).joints[1, 0], body)


@pytest.mark.parametrize("world", [True, False])
def test_a_dump_of_mediapipe(tmp_path: Path, world: bool):
    body = np.random.default_rng(0).normal(size=(33, 3))
    marks = [{"x": x, "y": y, "z": z, "visibility": 0.5} for x, y, z in body.tolist()]
    key = "pose_world_landmarks" if world else "pose_landmarks"
    (tmp_path / "a.json").write_text(json.dumps([{key: [marks]}, {key: []}, {key: [marks]}]))
    recording = read_skeleton(tmp_path / "a.json")
    assert recording.present.flatten().tolist() == [True, False, True]
    np.testing.assert_allclose(recording.joints[0, 0], body if world else body[:, :2], rtol=1e-5)


def test_people_who_change_places_are_followed():
    frames = [
        [Person(person) for person in (frame if number % 3 else frame[::-1])] for number, frame in enumerate(FRAMES)
    ]
    tracks = link(frames)
    assert sorted(map(len, tracks.values())) == [30, 30]
    recording = to_sequence(frames, ReadOptions(), Path("a"))
    first = recording.joints[:, 0].numpy()
    np.testing.assert_allclose(first, FRAMES[:, 1], rtol=1e-5)  # who is listed first in frame 0


@pytest.mark.parametrize("seed", range(30))
def test_people_in_a_steady_order_are_linked_as_frame_by_frame(seed: int):
    rng = np.random.default_rng(seed)
    count, frames = int(rng.integers(1, 4)), int(rng.integers(1, 6))
    size = np.ptp(FRAMES[0, 0], axis=0).max()
    near = rng.normal(0, rng.choice([0.02, 0.2, 1.0]) * size, (frames, count, 1, 2))
    apart = rng.choice([0.05, 0.3, 3.0]) * size * np.arange(count)[:, None, None]
    people = [[Person(pose) for pose in FRAMES[0, 0] + apart + step] for step in near]
    if seed % 5 == 0:
        people.append(people[-1][:-1])
    found = _Found.of(people, Path())
    assert link(people, found) == _linked(people, found)
    if count == 1 and seed % 5:
        assert (len(link(people)) == 1) == bool(_steady(people, found))


def test_frames_of_openpose_whose_people_are_written_in_several_ways():
    flat_list, where = FRAMES[0].reshape(2, -1).tolist(), Path("a")
    pose = [[*point, 0.5] for point in FRAMES[0, 0].tolist()]
    space = [[*point, 1.0, 0.5] for point in FRAMES[0, 0].tolist()]
    contents = [
        {"people": [{"pose_keypoints_2d": pose}, {"pose_keypoints_2d": []}, {"person_id": [3]}]},  # nested, and nobody
        {"people": []},
        {"people": [{"pose_keypoints_3d": [number for point in space for number in point], "person_id": [3]}]},
        {"people": [{"pose_keypoints_2d": [None, *pose[0][1:], *[number for point in pose[1:] for number in point]]}]},
    ]
    frames = openpose_frames((content, where) for content in contents)
    assert [len(people) for people in frames] == [1, 0, 1, 1]
    np.testing.assert_allclose(frames[0][0].points, FRAMES[0, 0])
    assert frames[2][0].points.shape == (17, 3)
    assert frames[2][0].track == "3"
    assert np.isnan(frames[3][0].points[0, 0])
    for wrong in (flat_list[0][:-2], ["left"] * 3, {"x": 1}):
        with pytest.raises(DataError, match="keypoints is not as the tool writes it"):
            openpose_frames([({"people": [{"pose_keypoints_2d": wrong}]}, where)])
    for wrong in ([], {"people": {}}, {"people": [3]}):
        with pytest.raises(DataError, match="people is not as the tool writes it"):
            openpose_frames([(wrong, where)])


def test_someone_is_first_who_is_seen_most_and_places_are_used_again():
    one, other, third = (FRAMES[:, 0] + offset for offset in (0, 3000, 6000))
    frames = [
        [Person(one[n])] + ([Person(other[n])] if n < 10 else []) + ([Person(third[n])] if n >= 20 else [])
        for n in range(30)
    ]
    frames = [list(reversed(people)) for people in frames]
    recording = to_sequence(frames, ReadOptions(), Path("a"))
    np.testing.assert_allclose(recording.joints[:, 0], one, rtol=1e-5)
    assert recording.joints.shape[1] == 2
    np.testing.assert_allclose(recording.joints[:10, 1], other[:10], rtol=1e-5)
    np.testing.assert_allclose(recording.joints[20:, 1], third[20:], rtol=1e-5)


def test_likeness():
    body = Person(FRAMES[0, 0])
    assert likeness(body, body) == 1.0
    far = Person(FRAMES[0, 0] + 1e4)
    assert likeness(body, far) < 1e-6
    size = np.ptp(FRAMES[0, 0], axis=0).max()
    assert likeness(body, Person(FRAMES[0, 0] + [0.1 * size, 0])) == pytest.approx(0.5)
    assert likeness(body, Person(np.zeros((17, 2)))) == 0.0


def test_unsure_joints_are_missing_and_interpolated(tmp_path: Path):
    path = mmpose(tmp_path)
    content = json.loads(path.read_text())
    wrong = content["instance_info"][10]["instances"][0]
    wrong["keypoints"][9] = [1.0, 1.0]
    wrong["keypoint_scores"][9] = 0.05
    path.write_text(json.dumps(content))
    assert read_skeleton(path).joints[10, 0, 9].tolist() == [1.0, 1.0]
    recording = read_skeleton(path, ReadOptions(min_score=0.1))
    np.testing.assert_allclose(recording.joints[10, 0, 9], (FRAMES[9, 0, 9] + FRAMES[11, 0, 9]) / 2, rtol=1e-5)
    assert recording.filled == 1
    assert SkeletonFolder(root=tmp_path, min_score=0.1).read_options().min_score == 0.1


class Evil:
    def __reduce__(self):
        return (exec, ("print(1)",))  # Ray has a `print` of its own


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"annotations": [{"keypoint": Evil()}]}))
    with pytest.raises(DataError, match=r"it holds builtins\.exec, which is no array"):
        find_poses(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"image_id": 0, "keypoints": [1, 2, 3, 4]}], "3 numbers of each joint"),
        ([{"image_id": "first", "keypoints": [1, 2, 3]}], "the number of a frame at its end"),
        ([{"image_id": 0, "keypoints": [1, 2, 1]}, {"image_id": 10**9, "keypoints": [1, 2, 1]}], "numbers from 0 to"),
        (
            [{"image_id": 0, "keypoints": [1, 2, 1]}, {"image_id": 1, "keypoints": [1, 2, 1] * 2}],
            "frame 1 has a person",
        ),
        ([{"frame_id": 0, "instances": []}], "no person is listed in any frame"),
        ([{"frame_id": 0, "instances": [{"keypoints": "abc"}]}], "keypoints is not as the tool writes it"),
        ({"instance_info": 3}, "a list of objects"),
        ([{"landmarks": [{"x": 1}]}], "x, y and z of each landmark"),
        ({"frames": [], "fps": 30}, "the file has no list of frames, it has frames, fps"),
    ],
)
def test_what_is_not_as_the_tool_writes_it(tmp_path: Path, content, message: str):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_skeleton(tmp_path / "a.json")


def test_folders_without_poses_and_broken_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match="no recording of a pose estimator"):
        find_poses(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        find_poses(tmp_path / "none")
    (tmp_path / "wave.csv").write_text("scorer,net\nbodyparts,nose\ncoords,x\n0,1\n")
    with pytest.raises(DataError, match="not a table of DeepLabCut"):
        read_skeleton(tmp_path / "wave.csv")
    (tmp_path / "b.h5").write_bytes(b"no")
    with pytest.raises(DataError, match="not an analysis file of SLEAP"):
        read_poses(Pose("b", "SLEAP", (tmp_path / "b.h5",)))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match="h5py is not installed"):
        read_poses(Pose("b", "SLEAP", (tmp_path / "b.h5",)))
    (tmp_path / "b.h5").unlink()
    result = CliRunner().invoke(app, ["convert-poses", str(tmp_path), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "not a table of DeepLabCut" in result.stderr
