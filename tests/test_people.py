"""A timeline for each person: tracks of trackers and pose estimators, from joints and from parts of frames."""

import csv
import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import DataError
from muybridge.engine.train import train
from muybridge.media.poses import read_tracks
from muybridge.media.video import Video
from muybridge.predict import Predictor
from muybridge.recipe import Recipe, recipe_from
from muybridge.timeline import PeopleTimelines, TimelineConfig, TimelinePredictor
from muybridge.timeline.people import square_around
from muybridge.viz.timeline_film import film_timelines
from tests.skeletons import figures, pixels
from tests.test_timeline import Slope
from tests.tiny import tiny_clip_recipe, write_videos

SIZE, FRAMES = 32, 48  # of each of two people, side by side in frames of 40 x 80
LIGHTS = np.linspace(40, 200, 12)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that tells growing light from fading light."""
    root = tmp_path_factory.mktemp("people")
    train(tiny_clip_recipe(write_videos(root / "videos"), epochs=12), root / "run")
    return root / "run"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds: on the left light grows, fades, grows and fades; on the right it does the reverse."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    rng = np.random.default_rng(1)
    left = np.concatenate([LIGHTS, LIGHTS[::-1]] * 2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"g": "7", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 96, 40, "yuv420p"
        stream.codec_context.thread_count = 1
        for one, other in zip(left, 240 - left, strict=True):
            picture = np.full((40, 96, 3), 120.0)
            picture[:, :40], picture[:, 56:] = one, other
            picture = np.clip(picture + rng.normal(0, 5, picture.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Person 7 on the left throughout, person 3 on the right from frame 12 on, as MOTChallenge writes them."""
    rows = [f"{frame},7,2,4,32,32,1,-1,-1,-1" for frame in range(1, FRAMES + 1)]
    rows += [f"{frame},3,62,4,32,32,1,-1,-1,-1" for frame in range(13, FRAMES + 1)]
    (tmp_path / "boxes.txt").write_text("\n".join(rows) + "\n")
    return tmp_path / "boxes.txt"


def test_boxes_of_a_tracker_are_read(boxes: Path) -> None:
    one, other = read_tracks(boxes)
    assert (one.name, one.first, one.end) == ("7", 0, 48)
    assert (other.name, other.first, other.end) == ("3", 12, 48)
    assert other.boxes[0].tolist() == [62, 4, 94, 36]
    assert other.points is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,7,0,0,10,10\n1,7,5,5,10,10\n", "line 2 is a second box of person 7 in frame 1"),
        ("1,7,0,0,10,10\n2,7,0,0,0,10\n", "line 2 is '2,7,0,0,0,10'"),
        ("1,7,0,0,10,10\n2,7,0,zero,10,10\n", "line 2"),
        ("0,7,0,0,10,10\n1,7,0,0,10,10\n", "frames from 1"),
        ("1,7,0,0,10,10\n", "nobody is seen in two frames"),
    ],
)
def test_wrong_boxes_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "boxes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_tracks(tmp_path / "boxes.txt")


def test_the_box_around_a_window_holds_all_of_its_boxes() -> None:
    rows = np.array([[0, 0, 10, 10], [5, 5, 20, 30], [90, 90, 99, 99]], dtype=np.float64)
    from muybridge.media.poses import PersonTrack

    track = PersonTrack("1", np.array([3, 4, 9]), rows)
    assert track.box(0, 5).tolist() == [0, 0, 20, 30]
    assert track.box(5, 8).tolist() == [5, 5, 20, 30]  # not seen there: the nearest frame
    assert track.box(20, 30).tolist() == [90, 90, 99, 99]


def test_the_square_around_a_box_is_inside_the_frame() -> None:
    assert square_around(np.array([40.0, 40, 60, 60]), (100, 200)) == (38, 38, 24, 24)
    assert square_around(np.array([0.0, 0, 20, 20]), (100, 200)) == (0, 0, 24, 24)
    assert square_around(np.array([190.0, 90, 210, 110]), (100, 200)) == (76, 176, 24, 24)
    assert square_around(np.array([0.0, 0, 150, 90]), (100, 200)) == (0, 0, 100, 180)
    assert square_around(np.array([50.0, 50, 51, 51]), (100, 200)) == (42, 42, 16, 16)


def test_each_person_has_a_timeline_of_what_they_do(run: Path, film: Path, boxes: Path) -> None:
    slopes = Predictor(run)
    slopes.model = Slope()
    predictor = TimelinePredictor(slopes, TimelineConfig(window=0.5, hop=0.125))
    left, right = PeopleTimelines(predictor, film, boxes)
    assert [(left.person, left.edges[0]), (right.person, right.edges[0])] == [("7", 0.0), ("3", 1.0)]
    assert [segment.label for segment in left.segments] == ["dawn", "dusk", "dawn", "dusk"]
    assert [segment.label for segment in right.segments] == ["dawn", "dusk", "dawn"]
    assert [segment.start for segment in left.segments] == pytest.approx([0, 1, 2, 3], abs=0.3)
    assert [segment.start for segment in right.segments] == pytest.approx([1, 2, 3], abs=0.3)
    assert right.segments[-1].end == pytest.approx(4.0, abs=0.05)


def test_a_window_is_answered_as_its_part_of_the_frames(run: Path, film: Path, boxes: Path) -> None:
    predictor = Predictor(run)
    people = PeopleTimelines(TimelinePredictor(predictor, TimelineConfig(window=1.0, hop=1.0)), film, boxes)
    timeline = people.of(people.tracks[1])
    with Video(film) as video:
        part = video.slice_frames(12, 24).crop(*square_around(np.array([62.0, 4, 94, 36]), video.size))
        answer = predictor(part, top=2)
    expected = [dict(zip(answer.labels, answer.scores, strict=True))[label] for label in predictor.labels]
    np.testing.assert_allclose(timeline.probabilities[0], expected, atol=1e-6)


def mmpose(path: Path, joints: np.ndarray, first: int) -> Path:
    """Frames of MMPose without tracks; the first person is seen in all, the second from frame 10 on."""
    frames = [
        {
            "frame_id": number,
            "instances": [
                {"keypoints": person.tolist(), "keypoint_scores": [0.9] * len(person)}
                for person in (frame if index >= 10 else frame[:1])
            ],
        }
        for index, frame in enumerate(joints)
        for number in [index + first]
    ]
    path.write_text(json.dumps({"meta_info": {}, "instance_info": frames}))
    return path


def test_people_of_keypoints_are_linked_and_numbered(tmp_path: Path) -> None:
    joints = pixels(figures("coco17")).round(2)
    one, other = read_tracks(mmpose(tmp_path / "poses.json", joints, 5))
    assert [(track.name, track.first, track.end) for track in (one, other)] == [("1", 4, 34), ("2", 14, 34)]
    assert one.points is not None
    np.testing.assert_allclose(one.points, joints[:, 0])
    low, high = joints[0, 0].min(0), joints[0, 0].max(0)
    margin = 0.1 * (high - low).max()
    np.testing.assert_allclose(one.boxes[0], [*(low - margin), *(high + margin)])


def skeleton_recipe(root: Path) -> Recipe:
    joints = pixels(figures("coco17")).round(2)
    for label, factor in (("still", 0.0), ("moves", 1.0)):
        (root / label).mkdir(parents=True)
        for person in "abcd":
            moved = joints[:1] + factor * (joints - joints[:1])
            np.savez(root / label / f"{person}1.npz", joints=moved[:, :1], present=np.ones((len(joints), 1), bool))
    return recipe_from(
        {
            "title": "still or not",
            "model": {"name": "drnn", "order": 1, "hidden": 8, "features": ["position", "movement"]},
            "data": {"name": "skeleton_folder", "root": str(root), "layout": "coco17", "test_fraction": 0.25},
            "train": {"epochs": 1, "batch_size": 4, "optimizer": {"name": "adamw", "lr": 1e-2}},
        }
    )


def test_a_model_of_skeletons_takes_the_joints_of_each(tmp_path: Path) -> None:
    run = train(skeleton_recipe(tmp_path / "data"), tmp_path / "run")
    joints = pixels(figures("coco17")).round(2)
    poses = mmpose(tmp_path / "poses.json", joints, 1)
    predictor = Predictor(run.path)
    people = PeopleTimelines(TimelinePredictor(predictor, TimelineConfig(window=0.4, hop=0.2, fps=20)), poses, poses)
    one, other = people
    assert (one.edges[0], one.edges[-1]) == (0.0, 1.5)
    assert (other.edges[0], other.edges[-1]) == (0.5, 1.5)
    alone = TimelinePredictor(predictor, TimelineConfig(window=0.4, hop=0.2, fps=20))(joints[10:, 1:])
    np.testing.assert_allclose(other.probabilities, alone.probabilities, atol=1e-6)


def test_the_command_names_people_and_writes_a_film(run: Path, film: Path, boxes: Path, tmp_path: Path) -> None:
    common = ["timeline", str(run), str(film), "--window", "1", "--hop", "0.25", "--people", str(boxes)]
    done = CliRunner().invoke(app, [*common, "--format", "csv", "--video", str(tmp_path / "films")])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert {row["person"] for row in rows} == {"7", "3"}
    with Video(tmp_path / "films" / "film.mp4") as written, Video(film) as video:
        assert len(written) == len(video)
        assert written.size == (160, 384)
    done = CliRunner().invoke(app, [*common, "--format", "vtt", "--pictures", str(tmp_path / "pictures")])
    assert done.exit_code == 0, done.output
    assert "person 7: dawn" in done.stdout
    assert "person 3: dusk" in done.stdout
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["film-person-3.png", "film-person-7.png"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--truth", "x.csv"], "--people with --truth"),
        (["again.mp4"], "--people with 2 recordings"),
    ],
)
def test_what_people_cannot_go_with_is_refused(
    run: Path, film: Path, boxes: Path, tmp_path: Path, extra: list[str], message: str
) -> None:
    (tmp_path / "x.csv").write_text("path,start,end,label\nfilm.mp4,0,1,up\n")
    extra = [str(tmp_path / "x.csv") if one == "x.csv" else one for one in extra]
    done = CliRunner().invoke(app, ["timeline", str(run), str(film), "--people", str(boxes), *extra])
    assert isinstance(done.exception, DataError)
    assert message in str(done.exception)


def test_people_of_another_video_are_refused(run: Path, film: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.txt").write_text("48,1,0,0,10,10\n49,1,0,0,10,10\n")
    with pytest.raises(DataError, match=r"somebody is seen in frame 49.*48 frames"):
        PeopleTimelines(TimelinePredictor(Predictor(run)), film, tmp_path / "boxes.txt")


def test_boxes_for_a_model_of_skeletons_are_refused(tmp_path: Path, boxes: Path) -> None:
    run = train(skeleton_recipe(tmp_path / "data"), tmp_path / "run")
    people = PeopleTimelines(TimelinePredictor(Predictor(run.path)), boxes, boxes)
    with pytest.raises(DataError, match="boxes of people, but no joints"):
        next(iter(people))


def test_a_film_shows_the_action_of_the_moment(run: Path, film: Path, tmp_path: Path) -> None:
    timeline = TimelinePredictor(Predictor(run), TimelineConfig(window=1.0, hop=0.25))(film)
    path = film_timelines([timeline], tmp_path / "film.mp4")
    with Video(path) as written, Video(film) as video:
        assert np.allclose(written.seconds, video.seconds, atol=1e-3)
        first = written.read([0]).pixels[0].numpy()
        original = video.read([0], None).pixels[0].numpy()
    assert first.shape[1:] == (160, 384)
    # Above the strip and the label the picture is that of the recording.
    assert abs(first[:, 20:90].mean() - original[:, 4:22].mean()) < 3
    # The strip at the bottom is dark or in a color of a class, and not the picture.
    assert np.abs(first[:, -6:].reshape(3, -1).std(1)).max() > 10
