"""Tubes read as the annotators meant them, and scored as arithmetic by hand says."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from muybridge.core.errors import DataError
from muybridge.core.tubes import Tube, TubeSet, box_iou, clip_to_frame, tube_iou
from muybridge.engine.video_ap import average_precision, video_map
from muybridge.media.tubes import UCF24, read_tubes, read_viper, write_tubes

LABELS = ("run", "jump")


def tube(video: str, first: int, length: int, *, x: float = 0, label: int = 0, score: float = 1.0) -> Tube:
    """A square of 10 pixels that stands at x."""
    return Tube(video, label, np.tile([x, 0.0, x + 10, 10], (length, 1)), first, score)


def tubes(*parts: Tube, labels: tuple[str, ...] = LABELS) -> TubeSet:
    return TubeSet(labels, parts, dict.fromkeys("abcdefgh", 100))


def shifted(part: Tube, share: float) -> Tube:
    """To the right by a share of the boxes' width, for which each IoU is (1 - share) / (1 + share)."""
    way = share * (part.boxes[:, 2] - part.boxes[:, 0])
    return replace(part, boxes=part.boxes + np.stack([way, 0 * way, way, 0 * way], axis=1))


def test_iou_of_boxes_by_hand() -> None:
    these = np.array([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [2, 3, 4, 5]])
    those = np.array([[5.0, 0, 15, 10], [10, 0, 20, 10], [2, 2, 7, 7], [2, 3, 4, 5]])
    np.testing.assert_allclose(box_iou(these, those), [50 / 150, 0, 25 / 100, 1])


def test_iou_of_tubes_is_temporal_times_mean_spatial() -> None:
    assert tube_iou(tube("a", 0, 10), tube("a", 0, 10)) == 1
    assert tube_iou(tube("a", 0, 10), tube("a", 5, 10)) == pytest.approx(5 / 15)
    assert tube_iou(tube("a", 0, 10), tube("a", 5, 10, x=5)) == pytest.approx(5 / 15 * 1 / 3)
    assert tube_iou(tube("a", 0, 10), tube("a", 9, 1)) == pytest.approx(1 / 10)
    assert tube_iou(tube("a", 0, 10), tube("a", 10, 10)) == 0
    # Two of four shared frames agree fully, two by a third; ten frames in all.
    leaving = Tube("a", 0, np.array([[0.0, 0, 10, 10]] * 2 + [[5.0, 0, 15, 10]] * 4), 4)
    assert tube_iou(tube("a", 0, 8), leaving) == pytest.approx((2 + 2 / 3) / 10)


@pytest.mark.parametrize(
    ("right", "total", "expected"),
    [
        ([True, True], 2, 1.0),
        ([True, False, True], 2, 1 / 2 + 1 / 2 * 2 / 3),
        ([False, True, True], 2, 2 / 3),  # precision 0, 1/2, 2/3, made to fall
        ([False, True, False, True, True], 4, 3 / 4 * 3 / 5),
        ([True], 4, 1 / 4),
        ([False, False], 1, 0.0),
        ([], 3, 0.0),
    ],
)
def test_average_precision_by_hand(right: list[bool], total: int, expected: float) -> None:
    assert average_precision(np.array(right, dtype=bool), total) == pytest.approx(expected)


def test_map_by_hand() -> None:
    truth = tubes(tube("a", 0, 10), tube("b", 0, 10), tube("c", 0, 10), tube("a", 0, 10, label=1))
    found = tubes(
        tube("a", 0, 10, score=0.9),  # right
        tube("a", 0, 10, score=0.8),  # the true tube is taken
        tube("b", 0, 10, x=5, score=0.7),  # IoU 1/3
        tube("d", 0, 10, score=0.6),  # nothing there
        tube("a", 0, 10, x=80, label=1, score=0.5),  # elsewhere
    )
    measured = video_map(found, truth, (0.2, 0.5))
    np.testing.assert_allclose(measured.precision, [[1 / 3 * (1 + 2 / 3), 0], [1 / 3, 0]])
    assert measured.mean == pytest.approx({0.2: 5 / 18, 0.5: 1 / 6})


def test_a_true_tube_goes_to_the_best_score_that_overlaps_it_enough() -> None:
    truth = tubes(tube("a", 0, 10))
    loose, tight = tube("a", 0, 10, x=5, score=0.9), tube("a", 0, 10, score=0.8)
    measured = video_map(tubes(tight, loose), truth, (0.3, 0.5))
    # At 0.3 the loose one takes it and the tight one is wrong; at 0.5 the loose one is wrong and the tight one right.
    np.testing.assert_allclose(measured.precision[:, 0], [1, 1 / 2])


def test_each_tube_takes_the_true_one_that_it_overlaps_most() -> None:
    truth = tubes(tube("a", 0, 10), tube("a", 0, 10, x=4))
    found = tubes(tube("a", 0, 10, x=3, score=0.9), tube("a", 0, 10, x=1, score=0.8))
    assert video_map(found, truth, (0.5,)).precision[0, 0] == 1


def test_classes_without_a_true_tube_are_not_averaged() -> None:
    measured = video_map(tubes(tube("a", 0, 9), tube("b", 0, 9, label=1)), tubes(tube("a", 0, 9)), (0.5,))
    assert np.isnan(measured.precision[0, 1])
    assert measured.mean == {0.5: 1.0}


def test_classes_go_by_their_names() -> None:
    found = tubes(tube("a", 0, 9, label=2), tube("a", 0, 9, label=0), labels=("swim", "jump", "run"))
    assert video_map(found, tubes(tube("a", 0, 9)), (0.5,)).mean == {0.5: 1.0}
    with pytest.raises(
        DataError, match=r"classes of the detected tubes are swim, .*Expected some of those .*: run, jump"
    ):
        video_map(tubes(labels=("swim",)), tubes(tube("a", 0, 9)))


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(DataError, match="a tube was detected in z, which has no annotation"):
        video_map(tubes(tube("z", 0, 9)), tubes(tube("a", 0, 9)))
    with pytest.raises(DataError, match="there is no true tube"):
        video_map(tubes(tube("a", 0, 9)), tubes())
    with pytest.raises(DataError, match="2 videos have no annotation, for example y"):
        tubes().subset(["a", "z", "y"])


def test_nothing_found_is_nothing_right() -> None:
    assert video_map(tubes(), tubes(tube("a", 0, 9))).mean[0.05] == 0


def test_the_order_of_the_tubes_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    truth = tubes(*(tube(video, 0, 10, x=10 * k) for video in "abcd" for k in range(3)))
    found = [tube(video, 0, 10, x=float(rng.uniform(0, 40)), score=float(rng.uniform())) for video in "abcd" * 9]
    forth, back = (video_map(tubes(*part), truth).precision for part in (found, found[::-1]))
    np.testing.assert_array_equal(forth, back)
    assert 0 < forth[0, 0] < 1


def test_boxes_are_cut_to_the_frame() -> None:
    boxes = np.array([[-5.0, -5, 10, 10], [300, 200, 340, 260], [400, 10, 420, 20]])
    np.testing.assert_array_equal(
        clip_to_frame(boxes, 240, 320), [[0, 0, 10, 10], [300, 200, 320, 240], [320, 10, 320, 20]]
    )


@pytest.fixture(scope="module")
def ucf(real_data: Path) -> TubeSet:
    return read_tubes(real_data / "ucf101_24_boxes" / "finalAnnots.mat")


def test_the_annotations_of_ucf(ucf: TubeSet, real_data: Path) -> None:
    assert (len(ucf.frames), len(ucf.tubes), ucf.labels) == (3194, 4458, UCF24)
    assert all(UCF24[part.label] == part.video.split("/")[0] for part in ucf.tubes)
    assert all(part.end <= ucf.frames[part.video] for part in ucf.tubes)
    first = next(part for part in ucf.tubes if part.video == "Basketball/v_Basketball_g01_c01")
    # sf 9, ef 52, first box x 189, y 102, width 47, height 78, counted from 1
    assert (first.first, first.end) == (8, 52)
    assert first.boxes[0].tolist() == [188, 101, 235, 179]
    names = (real_data / "ucf101_24_boxes" / "testlist01.txt").read_text().split()
    part = ucf.subset(names)
    assert len(part.frames) == 910
    assert {found.video for found in part.tubes} == set(part.frames)


@pytest.mark.slow
def test_shifted_true_tubes_give_what_arithmetic_says(ucf: TubeSet) -> None:
    """A shift by s of the width and a cut to the share c of the frames leave an IoU of c (1 - s) / (1 + s)."""
    count: dict[str, int] = {}
    for part in ucf.tubes:
        count[part.video] = count.get(part.video, 0) + 1
    # Where people stand side by side a shifted box can lie on a neighbour; and cuts need frames to cut.
    lone = [part for part in ucf.tubes if count[part.video] == 1 and len(part) >= 20]
    truth = replace(ucf, tubes=tuple(lone))
    for share, iou in ((0.0, 1.0), (0.2, 2 / 3), (0.25, 0.6), (0.5, 1 / 3), (0.8, 1 / 9)):
        thresholds = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, iou - 1e-6, iou + 1e-6)
        measured = video_map(replace(truth, tubes=tuple(shifted(part, share) for part in lone)), truth, thresholds)
        assert measured.mean == {threshold: float(threshold < iou) for threshold in thresholds}
    for part in lone[:300]:
        half = replace(part, boxes=part.boxes[: len(part) // 2])
        assert tube_iou(shifted(half, 0.25), part) == pytest.approx(0.6 * len(half) / len(part))


def test_a_mixture_of_shifted_tubes_gives_the_share_that_is_right(ucf: TubeSet) -> None:
    """Of each class, the surest n are shifted too far: precision after them is k / (n + k), highest at the end."""
    lone = {part.video: part for part in reversed(ucf.tubes)}
    truth = replace(ucf, tubes=tuple(lone.values()))
    found, expected = [], []
    for label in range(24):
        parts = [part for part in truth.tubes if part.label == label]
        far = len(parts) // 3
        found += [replace(shifted(part, 0.7), score=2.0) for part in parts[:far]]
        found += [shifted(part, 0.1) for part in parts[far:]]
        rest = len(parts) - far
        expected.append(rest / len(parts) * rest / len(parts))
    measured = video_map(replace(truth, tubes=tuple(found)), truth, (0.1, 0.5))
    np.testing.assert_allclose(measured.precision[0], 1)  # 0.3 / 1.7 is above 0.1
    np.testing.assert_allclose(measured.precision[1], expected)


def test_tubes_survive_a_file(tmp_path: Path) -> None:
    truth = tubes(tube("a", 3, 5, x=1.254), tube("b", 0, 2, label=1, score=0.25))
    write_tubes(tmp_path / "tubes.json", truth)
    back = read_tubes(tmp_path / "tubes.json")
    assert (back.labels, back.frames) == (truth.labels, truth.frames)
    for one, other in zip(truth.tubes, back.tubes, strict=True):
        assert (one.video, one.label, one.first, one.score) == (other.video, other.label, other.first, other.score)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.005)
    assert [path.name for path in tmp_path.iterdir()] == ["tubes.json"]
    with pytest.raises(DataError, match="the tubes cannot be written"):
        write_tubes(tmp_path / "nowhere" / "tubes.json", truth)


@pytest.mark.parametrize(
    ("boxes", "complaint"),
    [
        ([[0, 0, 9, 9], None, [0, 0, 9, 9]], r"a tube of a has no box in frame 5. Expected tubes without gaps"),
        ([[0, 0, 9, 9], [9, 0, 0, 9]], r"box 1 of a tube of a is \[9.0, 0.0, 0.0, 9.0\]. Expected left < right"),
        ([[0, 0, 9, float("nan")]], r"box 0 of a tube of a is \[0.0, 0.0, 9.0, nan\]"),
        ([[9, 9, 0, 0]], r"box 0 of a tube of a is"),
        ([], "a tube is empty"),
        ([[0, 0, 9]], "not readable as tubes"),
    ],
)
def test_poor_boxes_are_refused(tmp_path: Path, boxes: list[object], complaint: str) -> None:
    part = {"video": "a", "label": "run", "score": 1, "first": 4, "boxes": boxes}
    (tmp_path / "tubes.json").write_text(json.dumps({"labels": LABELS, "frames": {"a": 9}, "tubes": [part]}))
    with pytest.raises(DataError, match=complaint):
        read_tubes(tmp_path / "tubes.json")


@pytest.mark.parametrize("content", ["{", "[]", '{"labels": []}', '{"labels": [], "frames": {}, "tubes": [3]}'])
def test_other_json_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tubes.json").write_text(content)
    with pytest.raises(DataError, match="not readable as tubes"):
        read_tubes(tmp_path / "tubes.json")


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"annotations that end in .pkl are not known"):
        read_tubes(tmp_path / "tubes.pkl")
    with pytest.raises(DataError, match="the folder holds no annotations"):
        read_tubes(tmp_path)


def test_matlab_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "finalAnnots.mat"
    scipy.io.savemat(path, {"annot": np.zeros((2, 2))})
    with pytest.raises(DataError, match="the file is laid out differently"):
        read_tubes(path)
    part = {"sf": 1, "ef": 3, "class": 2, "boxes": np.ones((2, 4))}
    video = np.array([(10, "a", part)], dtype=[("num_imgs", "O"), ("name", "O"), ("tubes", "O")])
    scipy.io.savemat(path, {"annot": video})
    with pytest.raises(DataError, match=r"a has a tube of 3 frames with 2 boxes. Expected one box for each frame"):
        read_tubes(path)
    part["boxes"] = np.array([[310.0, 1, 40, 50]] * 3)
    scipy.io.savemat(path, {"annot": video})
    (cut,) = read_tubes(path).tubes
    assert (cut.first, cut.label, cut.boxes[2].tolist()) == (0, 1, [309, 0, 320, 50])
    part["boxes"] = np.array([[330.0, 1, 40, 50]] * 3)
    scipy.io.savemat(path, {"annot": video})
    with pytest.raises(DataError, match=r"box 0 of a tube of a is .*Expected left < right"):
        read_tubes(path)


VIPER = """<?xml version="1.0" encoding="UTF-8"?>
<viper xmlns="http://lamp.cfar.umd.edu/viper#" xmlns:data="http://lamp.cfar.umd.edu/viperdata#">
<config><descriptor name="PERSON" type="OBJECT"><attribute name="Location" type="bbox"/></descriptor></config>
<data><sourcefile filename="v_Diving_g01_c01.mpg">
<file id="0" name="Information"><attribute name="NUMFRAMES"><data:dvalue value="40"/></attribute></file>
<object framespan="1:9 12:30" id="0" name="PERSON">
  <attribute name="Location">
    <data:bbox framespan="1:5" height="50" width="20" x="10" y="-8"/>
    <data:bbox framespan="6:20" height="50" width="20" x="310" y="5"/>
    <data:bbox framespan="21:30" height="50" width="20" x="330" y="5"/>
  </attribute>
  <attribute name="ACTION">
    <data:bvalue framespan="1:3" value="false"/><data:bvalue framespan="4:30" value="true"/>
  </attribute>
</object>
<object framespan="2:3" id="1" name="PERSON">
  <attribute name="Location"><data:bbox framespan="2:3" height="5" width="5" x="1" y="1"/></attribute>
  <attribute name="ACTION"><data:bvalue value="false"/></attribute>
</object>
<object framespan="1:40" id="2" name="BALL"><attribute name="Location"/></object>
</sourcefile>
<sourcefile filename="other.mpg"><object framespan="1:2" id="0" name="PERSON"/></sourcefile></data></viper>"""


@pytest.mark.parametrize("flag", ["Diving", "diving"])
def test_the_original_annotations(tmp_path: Path, flag: str) -> None:
    path = tmp_path / "Diving" / "v_Diving_g01_c01.xgtf"
    path.parent.mkdir()
    path.write_text(VIPER.replace("ACTION", flag))
    found = read_tubes(tmp_path)
    assert found.frames == {"Diving/v_Diving_g01_c01": 40}
    # Acting from frame 4, absent in 10 and 11, out of the picture from 21 on; files count from 1.
    assert [(part.first, part.end, part.label) for part in found.tubes] == [(3, 9, 5), (11, 20, 5)]
    assert found.tubes[0].boxes[[0, 1, 2]].tolist() == [[10, 0, 30, 42], [10, 0, 30, 42], [310, 5, 320, 55]]


def test_where_nobody_is_flagged_all_act(tmp_path: Path) -> None:
    path = tmp_path / "v_Diving_g01_c01.xml"
    path.write_text(VIPER)
    assert [(part.first, part.end) for part in read_viper(path).tubes] == [(0, 9), (11, 20), (1, 3)]


@pytest.mark.parametrize("content", ["<viper>", "<viper/>", VIPER.replace("1:9", "one"), VIPER.replace('x="10"', "")])
def test_other_xml_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "v_Diving_g01_c01.xml").write_text(content)
    with pytest.raises(DataError, match="not readable as ViPER annotations"):
        read_viper(tmp_path / "v_Diving_g01_c01.xml")
    with pytest.raises(DataError, match="the name does not contain one of the 24 classes"):
        read_viper(tmp_path / "v_Dancing_g01_c01.xml")
