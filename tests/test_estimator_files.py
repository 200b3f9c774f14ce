"""Files of pose estimators: each is recognized, refused with what to write, and converted by the lines in the docs."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from muybridge.core.errors import DataError
from muybridge.media.skeleton import read_skeleton
from tests.skeletons import figures, pixels

PAGE = Path(__file__).parents[1] / "docs" / "add-a-dataset.md"
FRAMES = pixels(figures("coco17")).round(2)  # 30 frames, 2 people, 17 joints, in pixels


def flat(person: np.ndarray) -> list[float]:
    """x, y, score of each joint in a row."""
    return np.concatenate([person, np.full((17, 1), 0.9)], axis=1).ravel().tolist()


def openpose(root: Path) -> Path:
    (root / "wave_s01").mkdir(parents=True)
    path = root
    for number, frame in enumerate(FRAMES):
        people = [{"person_id": [-1], "pose_keypoints_2d": flat(person), "face_keypoints_2d": []} for person in frame]
        path = root / "wave_s01" / f"wave_{number:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": people if number != 7 else []}))
    return path


def mmpose(root: Path) -> Path:
    people = [[{"keypoints": person.tolist(), "keypoint_scores": [0.9] * 17} for person in frame] for frame in FRAMES]
    frames = [{"frame_id": number + 1, "instances": listed} for number, listed in enumerate(people)]
    frames[7]["instances"] = []
    (root / "wave_s01.json").write_text(json.dumps({"meta_info": {}, "instance_info": frames}))
    return root / "wave_s01.json"


def coco(root: Path) -> Path:
    people = [(number, person) for number, frame in enumerate(FRAMES) for person in frame if number != 7]
    results = [{"image_id": number, "category_id": 1, "keypoints": flat(person)} for number, person in people]
    (root / "wave_s01.json").write_text(json.dumps(results))
    return root / "wave_s01.json"


def mmaction(root: Path) -> Path:
    keypoint = FRAMES.transpose(1, 0, 2, 3).copy()
    keypoint[:, 7] = 0.0
    np.savez(root / "wave_s01.npz", keypoint=keypoint, keypoint_score=np.ones((2, 30, 17)))
    return root / "wave_s01.npz"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            openpose,
            r"_keypoints\.json: the file is one frame of OpenPose .*not read directly\. Expected one file",
        ),
        (mmpose, r"the file is of MMPose \(it has instance_info\), which is not read directly.*From pose estimators"),
        (coco, r"the file is of COCO results .*Convert it with the lines in docs/add-a-dataset\.md"),
        (
            mmaction,
            r"contains keypoint, keypoint_score, as MMAction2 .*=arrays\['keypoint'\]\.transpose\(1, 0, 2, 3",
        ),
    ],
)
def test_files_of_estimators_are_recognized_and_the_lines_of_the_docs_convert_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write, message: str
):
    (tmp_path / write.__name__).mkdir()
    with pytest.raises(DataError, match=message):
        read_skeleton(write(tmp_path / write.__name__))
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if f'"{write.__name__}/wave_s01' in block]
    (tmp_path / "recordings" / "wave").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(PAGE), "exec"), {})
    (path,) = (tmp_path / "recordings" / "wave").iterdir()
    recording = read_skeleton(path)
    assert recording.present.tolist() == [[frame != 7] * 2 for frame in range(30)]
    seen = [frame for frame in range(30) if frame != 7]
    np.testing.assert_allclose(recording.joints[seen], FRAMES[seen], rtol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"version": 1.3, "people": []}, "one frame of OpenPose"),
        ([{"frame_id": 0, "instances": []}], r"of MMPose \(it is a list of frames with instances\)"),
        ({"images": [], "annotations": []}, "the file is of COCO annotations"),
        ({"frames": [], "fps": 30}, "the file has no list of frames, it has frames, fps"),
    ],
)
def test_other_json_objects_are_named_by_their_keys(tmp_path: Path, content, message: str):
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_skeleton(tmp_path / "a.json")
