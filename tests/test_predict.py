"""A predictor takes files, arrays and open recordings; what it cannot answer is named and does not stop the others."""

import json
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import muybridge
from muybridge.cli import app
from muybridge.core.errors import DataError, MuybridgeWarning, RecipeError, RunError
from muybridge.core.skeletons import LAYOUTS, unnamed_layout
from muybridge.core.types import FailedSample, Prediction, Record, SkeletonSequence
from muybridge.data.datasets import SBU, UTDMHAD, MSRAction3D
from muybridge.engine.bodies import Bodies, measure_bodies, read_bodies, write_bodies
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.durations import Durations, read_durations, write_durations
from muybridge.engine.train import train
from muybridge.engine.weights import checksum
from muybridge.media.frame_array import ArrayVideo
from muybridge.media.skeleton import read_skeleton
from muybridge.media.video import Video
from muybridge.predict import Predictor, choose_device
from muybridge.viz.names import file_stem, record_stem, video_stem
from muybridge.viz.run_pictures import draw_run
from tests.skeletons import figure, sequence
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings
from tests.tiny import write_videos as write_tiny_videos

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def skeletons(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    run = train(tiny_recipe(recordings, epochs=1), tmp_path_factory.mktemp("runs") / "skeletons")
    return Predictor(run.path, "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def videos(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    run = train(tiny_clip_recipe(folder, epochs=1), tmp_path_factory.mktemp("runs") / "videos")
    return Predictor(run.path, "cpu")


def noise(frames: int = 12, height: int = 40, width: int = 48, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, channels), dtype=np.uint8)


# What is taken


@pytest.mark.parametrize("channels", [3, 1])
def test_an_array_of_frames_is_answered_as_the_same_frames_on_disk(videos: Predictor, tmp_path: Path, channels: int):
    frames = noise(channels=channels)
    for number, frame in enumerate(frames):
        Image.fromarray(frame.squeeze()).save(tmp_path / f"{number:05}.png")
    expected = videos(tmp_path)
    for array in (frames, torch.from_numpy(frames)):
        answer = videos(array)
        assert (answer.id, answer.labels, answer.scores) == ("array", expected.labels, expected.scores)


def test_an_array_of_joints_is_answered_as_the_same_joints_in_a_file(skeletons: Predictor, recordings: Path):
    path = recordings / "a01_s02_e01_skeleton3D.txt"
    sequence, expected = read_skeleton(path), skeletons(path)
    for joints in (sequence.joints, sequence.joints.numpy(), sequence.joints[:, 0], sequence.joints.double().numpy()):
        answer = skeletons(joints)
        assert answer.labels == expected.labels
        assert answer.scores == pytest.approx(expected.scores, abs=1e-6)
    assert skeletons(sequence).scores == expected.scores


def test_a_video_opened_in_gray_is_answered_in_the_colors_of_training(videos: Predictor, folder: Path):
    path = folder / "dawn" / "d_1.mp4"
    expected = videos(path)
    with Video(path, channels=1) as video:
        answer = videos(video)
        assert (answer.id, answer.scores) == (str(path), expected.scores)
        assert video.read([0]).pixels.shape[1] == 1  # it is still open, and still gray


@pytest.mark.parametrize("item", [b"clip.mp4", None, ["clip.mp4"], 3, {"path": "clip.mp4"}, iter(())])
def test_what_is_no_recording_is_refused_with_what_is(videos: Predictor, skeletons: Predictor, item: object):
    for predictor in (videos, skeletons):
        with pytest.raises(TypeError, match=r"cannot predict '\w+'. Expected a path .*T H W C of uint8.*T P J D"):
            predictor(item)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Call it once for each recording"):
        videos(["a.mp4", "b.mp4"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (noise().astype(np.float32) / 255, r"of float32\. Expected T H W C of uint8.*\(255 \* array\)"),
        (noise().transpose(0, 3, 1, 2), r"12 x 3 x 40 x 48.*transpose\(0, 2, 3, 1\)"),
        (noise().transpose(3, 0, 1, 2), r"3 x 12 x 40 x 48.*transpose\(1, 2, 3, 0\)"),
        (noise(channels=4), r"drop the alpha channel|Drop the alpha channel"),
        (noise()[None], r"1 x 12 x 40 x 48 x 3.*one recording at a time"),
        (noise(channels=1)[..., 0], r"array\[\.\.\., None\]"),
        (noise()[0], r"Stack the frames"),
        (noise(frames=1), r"a single frame\. Expected at least two"),
        (noise(frames=0), r"no frame\. Expected at least two"),
        (noise(height=7), r"48x7 pixels"),
        (np.zeros(()), r"a single number of float64"),
    ],
)
def test_frames_of_another_kind_are_refused_with_the_way_to_convert_them(
    videos: Predictor, array: np.ndarray, message: str
):
    with pytest.raises(DataError, match=message):
        videos(array)


def test_joints_of_another_kind_are_refused(skeletons: Predictor):
    bodies = np.random.default_rng(0).normal(size=(9, 1, 20, 3)).cumsum(0)
    for array, message in [
        (bodies[:, :, :15], "15 joints of 3 coordinates.*20 joints"),
        (bodies[..., :2], "20 joints of 2 coordinates"),
        (bodies[0, 0], "joints is 20 x 3"),
        (bodies > 0, "of bool"),
        (np.zeros_like(bodies), "nobody is seen"),
        (np.where(bodies == bodies[3, 0, 4, 1], np.nan, bodies), "frame 3"),
    ]:
        with pytest.raises(DataError, match=message):
            skeletons(array)


def test_recordings_of_the_other_kind_are_refused(videos: Predictor, skeletons: Predictor):
    people = SkeletonSequence(torch.rand(5, 1, 20, 3), torch.ones(5, 1, dtype=torch.bool))
    with pytest.raises(DataError, match=r"the recording is skeletons\. Expected a video"):
        videos(people)
    with pytest.raises(DataError, match=r"the recording is a video\. Expected skeletons"):
        skeletons(ArrayVideo(noise()))


def test_as_many_classes_as_there_are(videos: Predictor):
    assert len(videos(noise(), top=99).labels) == 2
    with pytest.raises(ValueError, match="top is 0; expected 1 or more"):
        videos(noise(), top=0)


def test_a_home_folder_is_found(videos: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    answer = videos(f"~/{folder.name}/dawn/d_1.mp4")
    assert answer.id == str(folder / "dawn" / "d_1.mp4")
    monkeypatch.setenv("HOME", str(videos.run.parent))
    assert muybridge.load(f"~/{videos.run.name}", "cpu").labels == videos.labels


def test_devices(monkeypatch: pytest.MonkeyPatch):
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device("auto").type == name
    for wrong in ("gpu", "cuda:99"):
        with pytest.raises(RecipeError, match=rf"the device '{wrong}' cannot be used.*Expected auto, cpu"):
            choose_device(wrong)


def test_scores_that_are_no_numbers_are_refused(videos: Predictor, tmp_path: Path):
    run = tmp_path / "run"
    run.mkdir()
    for file in videos.run.iterdir():
        if file.is_file():
            (run / file.name).write_bytes(file.read_bytes())
    weights = load_file(run / "weights.safetensors")
    weights["head.classifier.weight"][0, 0] = float("nan")
    save_file(weights, run / "weights.safetensors", {"muybridge": json.dumps({"checksum": checksum(weights)})})
    with pytest.raises(RunError, match=r"the model's scores are not finite numbers.*the training diverged"):
        Predictor(run, "cpu")(noise())


# Many files


def test_every_good_file_is_answered_and_the_bad_ones_are_listed(videos: Predictor, folder: Path, tmp_path: Path):
    good = sorted((folder / "dawn").iterdir())[:2]
    broken, empty = tmp_path / "broken.mp4", tmp_path / "empty folder"
    broken.write_bytes(b"no video")
    empty.mkdir()
    (empty / "notes.txt").touch()
    paths = [good[0], broken, tmp_path / "nowhere.mp4", empty, good[1]]
    answers = list(videos.predict_files(paths))
    assert [type(answer) for answer in answers] == [Prediction, FailedSample, FailedSample, FailedSample, Prediction]
    messages = [str(answer.error) for answer in answers if isinstance(answer, FailedSample)]
    assert messages[0].startswith(f"{broken}: ")
    assert "there is no such file or folder" in messages[1]
    assert "it has 1 entry: notes.txt" in messages[2]

    words = ["predict", str(videos.run), *map(str, paths), "--json", "--device", "cpu", "--top", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in good]
    for row, answer in zip(rows, (answers[0], answers[4]), strict=True):
        assert isinstance(answer, Prediction)
        score = round(answer.scores[0], 6)
        assert row == {
            "path": answer.id,
            "label": answer.labels[0],
            "score": score,
            "top": [{"label": answer.labels[0], "score": score}],
        }
    listed = result.stderr.splitlines()
    assert listed[0] == "muybridge: 3 of 5 recordings failed:"
    assert [line.split(": ")[0].strip() for line in listed[1:]] == [str(path) for path in paths[1:4]]

    with pytest.raises(DataError, match=r"broken\.mp4"):
        CliRunner().invoke(app, [*words, "--strict"], catch_exceptions=False)


def test_a_recording_that_is_named_several_times_is_answered_once(videos: Predictor, folder: Path):
    clip = folder / "dawn" / "d_1.mp4"
    paths = [clip, folder / "dusk" / ".." / "dawn" / "d_1.mp4", folder / "dawn"]
    result = list(videos.find(paths))
    assert result == [clip, *(path for path in sorted((folder / "dawn").iterdir()) if path != clip)]


def test_hidden_and_system_folders_are_not_searched(videos: Predictor, folder: Path, tmp_path: Path):
    content = (folder / "dawn" / "d_1.mp4").read_bytes()
    for name in ("x.mp4", ".trash/x.mp4", "@eaDir/x.mp4", "__MACOSX/x.mp4", "poster.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert list(videos.find([tmp_path])) == [tmp_path / "x.mp4"]


def test_a_name_that_is_not_utf8_does_not_hide_the_other_files(videos: Predictor, folder: Path, tmp_path: Path):
    content = (folder / "dawn" / "d_1.mp4").read_bytes()
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.mp4"))
    try:
        odd.write_bytes(content)
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    (tmp_path / "plain.mp4").write_bytes(content)
    words = ["predict", str(videos.run), str(tmp_path), "--top", "1", "--device", "cpu"]
    for more in ([], ["--json"]):
        result = CliRunner().invoke(app, [*words, *more])
        assert result.exit_code == 0, result.output
        assert "odd\\udcff.mp4" in result.stdout
        assert "plain.mp4" in result.stdout


def test_a_file_of_skeletons_is_named_as_one(videos: Predictor, skeletons: Predictor, tmp_path: Path, folder: Path):
    np.savez(tmp_path / "walk.npz", joints=np.ones((3, 1, 20, 3)))
    with pytest.raises(DataError, match=r"walk\.npz: this is a file of skeletons or of text\. Expected a video"):
        videos(tmp_path / "walk.npz")
    with pytest.raises(DataError, match=r"files that end in \.mp4 are not known\. Expected one of \.npz"):
        skeletons(folder / "dawn" / "d_1.mp4")


def test_names_with_line_ends_and_other_scripts_are_one_line(videos: Predictor, folder: Path, tmp_path: Path):
    for name in ("two\nlines.mp4", "走る 🏃.mp4", "a b;c'd\".mp4"):
        (tmp_path / name).write_bytes((folder / "dawn" / "d_1.mp4").read_bytes())
    words = ["predict", str(videos.run), str(tmp_path), "--top", "1", "--device", "cpu"]
    plain, lines = (CliRunner().invoke(app, [*words, *more]).stdout.splitlines() for more in ((), ("--json",)))
    assert len(plain) == 6
    assert {json.loads(line)["path"] for line in lines} == {str(path) for path in tmp_path.iterdir()}


# Recordings that are unlike those of training


def test_the_durations_of_training_are_kept(videos: Predictor, skeletons: Predictor):
    # Videos are 12 frames at 12 frames per second; people 1 and 3 train with recordings of 9 to 12 frames.
    kept = read_durations(videos.run)
    assert kept is not None
    assert (kept.median, kept.longest, kept.fps) == pytest.approx((1.0, 1.0, 12.0))
    assert kept.unit == "seconds"
    assert read_durations(skeletons.run) == Durations(10.5, 12.0, "frames", 0.0)


def test_a_much_longer_recording_gives_a_warning(videos: Predictor, skeletons: Predictor, recordings: Path):
    videos(ArrayVideo(noise(36), fps=12.0))  # three times as long, and no more
    with pytest.warns(MuybridgeWarning, match=r"is 3\.1 s long, the training recordings 1\.0 s \(median\) to 1\.0 s"):
        videos(ArrayVideo(noise(37), fps=12.0))
    bodies = skeletons.read(recordings / "a03_s01_e01_skeleton3D.txt").joints[:1].repeat(37, 1, 1, 1)
    skeletons(bodies[:36])
    with pytest.warns(
        MuybridgeWarning, match=r"is 37 frames long, the training recordings 10 frames|is 37 frames long"
    ):
        skeletons(bodies)


def test_a_run_without_durations_gives_no_warning(tmp_path: Path):
    assert read_durations(tmp_path) is None
    (tmp_path / "durations.json").write_text("{")
    assert read_durations(tmp_path) is None
    write_durations(RunFolder(tmp_path), None)
    assert (tmp_path / "durations.json").read_text() == "{"


def test_another_frame_rate_is_noticed_where_the_rate_is_known(folder: Path):
    durations = Durations(1.0, 1.0, "seconds", 25.0)
    with Video(folder / "dawn" / "d_1.mp4") as video:
        (message,) = durations.warnings_for(video)
        assert (
            "12 frames per second, the training recordings 25 (median): motion from frame to frame is 2.1 times"
            in message
        )
        assert Durations(1.0, 1.0, "seconds", 20.0).warnings_for(video) == []
    assert durations.warnings_for(ArrayVideo(noise(), fps=12.0)) == []  # an array has no clock of its own


# Skeletons that are unlike those of training

REORDERED = [LAYOUTS["msr20"].joints.index(name) for name in LAYOUTS["kinect_sdk20"].joints]
LIKE_MSR = [sequence(figure("msr20", person=person)) for person in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda joints: joints, None),
        (lambda joints: joints * [-1, 1, 1], None),  # left and right exchanged cannot be seen
        (lambda joints: joints[:1], None),
        (lambda joints: joints[:, REORDERED], r"do not look like msr20.*and look like kinect_sdk20: write them in the"),
        (lambda joints: joints[:, RNG.permutation(20)], r"do not look like msr20, in .* or more\): write them"),
        (lambda joints: joints * [1, -1, -1], r"above the feet along -y, in the training recordings along y: unless"),
        (lambda joints: joints[..., [0, 2, 1]], r"above the feet along z, in the training recordings along y: unless"),
        (
            lambda joints: joints * 1000,
            r"bodies are 1[0-9]{2}0 units high or wide, in the training recordings 1\.[0-9]+",
        ),
        (lambda joints: joints / 1000, r"bodies are 0\.001[0-9]+ units high or wide"),
    ],
)
def test_bodies_unlike_those_of_training_give_a_warning(
    skeletons: Predictor, tmp_path: Path, change: Any, message: Any
):
    bodies = Bodies.of(LIKE_MSR, LAYOUTS["msr20"])
    assert (bodies.axes, bodies.smallest, bodies.plausibility) == (
        ("y",),
        pytest.approx(1.15, abs=0.01),
        pytest.approx(0.9, abs=0.1),
    )
    shutil.copytree(skeletons.run, run := tmp_path / "run")
    write_bodies(RunFolder(run), bodies)
    (run / "durations.json").unlink()
    predictor = Predictor(run, "cpu")
    assert predictor.training_bodies == bodies
    recording = sequence(change(figure("msr20", person=5)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predictor(recording)
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, MuybridgeWarning)]
    assert len(messages) == (message is not None)
    assert message is None or re.search(message, messages[0])


def test_bodies_of_training_that_vary_or_are_unknown_give_no_warning(skeletons: Predictor, tmp_path: Path):
    layout = LAYOUTS["msr20"]
    both = Bodies.of([*LIKE_MSR, sequence(-figure("msr20"))], layout)
    assert both.axes == ("-y", "y")
    assert both.warnings_for(sequence(-figure("msr20", person=2)), layout) == []
    large = sequence(1000 * figure("msr20"))
    assert len(both.warnings_for(large, layout)) == 1
    assert both.warnings_for(large, layout, check_size=False) == []  # the model divides by the size of the body
    assert both.warnings_for(sequence(np.zeros((3, 20, 3))), layout) == []
    plain = unnamed_layout(7)
    unknown = Bodies.of([sequence(figure("msr20")[:, :7])], plain)
    assert (unknown.axes, unknown.plausibility) == ((), 0.0)
    assert unknown.warnings_for(sequence(figure("msr20")[:, 7:14]), plain) == []
    assert measure_bodies(skeletons.recipe.data, [Record("none", tmp_path / "none.txt", 0)], layout) is None
    (tmp_path / "bodies.json").write_text("[]")
    assert read_bodies(tmp_path) is None


@pytest.mark.parametrize("config", [MSRAction3D(), SBU(), UTDMHAD()], ids=lambda config: config.name)
def test_no_real_recording_is_unlike_those_of_its_data_set(real_data: Path, config: MSRAction3D | SBU | UTDMHAD):
    layout, records = config.holds().layout, config.index("train").records
    bodies = measure_bodies(config, records, layout)
    assert bodies is not None
    assert bodies.axes == ("y",)
    for record in [*records[::10], *config.index("test").records[::10]]:
        assert bodies.warnings_for(config.open(record), layout) == []


# Names of files


def test_videos_of_one_name_keep_results_of_their_own(tmp_path: Path):
    out = tmp_path / "out"
    out.mkdir()
    paths = [tmp_path / name for name in ("a/x.mp4", "b/x.mkv", "b/x.mp4", "c/b/x.mp4", "a-x.mp4", "test.mp4")]
    (out / "test.json").write_text('{"frames": {"one": 3, "two": 4}}')  # the tubes of a data set
    stems = []
    for path in paths * 2:
        stems.append(video_stem(path, out))
        (out / f"{stems[-1]}.json").write_text(json.dumps({"frames": {str(path): 9}}))
    assert len(set(stems)) == 6
    assert stems[:6] == stems[6:]  # the same again
    assert stems[:3] == ["x", "b-x", f"{tmp_path.name}-b-x"]
    assert json.loads((out / "test.json").read_text()) == {"frames": {"one": 3, "two": 4}}


def test_records_of_one_flat_name_keep_pictures_of_their_own(tmp_path: Path):
    ids = ("a/b-c", "a-b/c", "curves", "x", "x-attention", "Run/1", "run/1", "w" * 300, "w" * 301)
    records = [Record(id_, tmp_path / "none", 0) for id_ in ids]
    stems = [record_stem(record, records) for record in records]
    assert len({stem.casefold() for stem in stems}) == len(ids)
    assert stems[3] == "x"
    assert all(len(stem) < 200 and "/" not in stem for stem in stems)
    assert file_stem(tmp_path / "a" / "x.mp4") != file_stem(tmp_path / "b" / "x.mp4")


def test_no_warning_is_left_over(videos: Predictor, folder: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        videos(folder / "dawn" / "d_1.mp4")


def test_a_run_whose_data_moved_is_drawn_from_where_they_are_now(videos: Predictor, folder: Path, tmp_path: Path):
    run = tmp_path / "deeper" / "and" / "deeper" / "run"  # where the path relative to the run is another one
    shutil.copytree(videos.run, run)
    recipe = (run / "recipe.toml").read_text()
    assert str(folder) in recipe
    (run / "recipe.toml").write_text(recipe.replace(str(folder), str(tmp_path / "gone")))
    with pytest.raises(DataError, match="gone"):
        draw_run(run)
    drawn = draw_run(run, data=folder)
    assert [path.name for path in drawn[:3]] == ["curves.png", "confusion-test.png", "dawn-d_0.png"]
    assert all(path.is_file() for path in drawn)
    assert videos(folder / "dawn" / "d_0.mp4").scores == Predictor(run, "cpu")(folder / "dawn" / "d_0.mp4").scores
