"""Flow from file to model: of the same moments as the frames, cropped and mirrored with them, stored or computed."""

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

import muybridge
from muybridge import cli
from muybridge.core.contracts import ClipData, ClipInput
from muybridge.core.errors import DataError, MuybridgeWarning, RecipeError
from muybridge.core.rng import make_generator
from muybridge.core.types import Clip, Record
from muybridge.data.clip_ops import ClipAugment, augment_clips, prepare_views
from muybridge.data.datasets import MovingShapes
from muybridge.data.decoded import DecodedVideo
from muybridge.data.prepare import ClipPreparation, FlowSource, ViewConfig, frame_indices, preparation
from muybridge.engine.bench import bench
from muybridge.engine.evaluate import evaluate, make_samples
from muybridge.engine.train import train
from muybridge.media.flow import ComputedFlow, mirror_flow
from muybridge.media.flow_extract import extract_flow
from muybridge.media.flow_store import find_flow, flow_path
from muybridge.media.video import Video
from muybridge.recipe import Recipe, load_recipe, recipe_from, save_recipe
from muybridge.viz.run_pictures import draw_run
from tests.test_train import KillAt, KilledError, assert_equal_weights
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_videos
from tests.videos import write

TAKES = ClipInput(1, 6, size=32, mean=(0.0,) * 3, std=(1.0,) * 3, flow=True)
CLIPS = ViewConfig(mode="clips")
FRAMES = 13


@pytest.fixture(scope="module")
def sliding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A texture that moves by 2 pixels a frame to the right and by 1 downwards, as a folder of pictures of 48x64."""
    folder = tmp_path_factory.mktemp("sliding")
    texture = np.random.default_rng(0).normal(size=(120, 160, 3)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(texture, (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    for step in range(FRAMES):
        picture = texture[30 - step : 78 - step, 60 - 2 * step : 124 - 2 * step]
        Image.fromarray(picture).save(folder / f"{step:03}.png")
    return folder


@pytest.fixture(scope="module")
def video_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "video.mp4", 20)


# What is seen


def test_flow_is_the_motion_as_a_share_of_the_bound(sliding: Path):
    with Video(sliding) as video:
        inputs, label = ClipPreparation(TAKES, CLIPS, {})(video, 3)
        halved, _ = ClipPreparation(TAKES, CLIPS, {}, flow=FlowSource(bound=10.0))(video)
        turned, _ = ClipPreparation(TAKES, CLIPS, {})(video.slice_frames(backwards=True))
    assert label == 3
    assert inputs["video"].shape == (1, 6, 3, 32, 32)
    assert inputs["flow"].shape == (1, 6, 2, 32, 32)
    medians = inputs["flow"][0].median(-1).values.median(-1).values
    torch.testing.assert_close(medians, torch.tensor([2 / 20, 1 / 20]).expand(6, 2), atol=0.01, rtol=0)
    torch.testing.assert_close(halved["flow"].median(), 2 * inputs["flow"].median(), atol=0.01, rtol=0.1)
    assert turned["flow"][:, :, 0].median() == pytest.approx(-2 / 20, abs=0.01)


def test_flow_between_the_frames_that_are_read(sliding: Path):
    """Every third frame moves three times as far, in pixels of half the size; the last has the flow before it."""
    source = FlowSource(between="frames read", bound=10.0)
    view_config = ViewConfig(mode="clips", stride=3, short_side=24, clips=2)
    prepare = ClipPreparation(replace(TAKES, frames_per_segment=4, size=24), view_config, {}, flow=source)
    with Video(sliding) as video:
        assert prepare.usable(video) == FRAMES
        inputs, _ = prepare(video)
        cached = DecodedVideo(video.path, 24, video.read(range(FRAMES), 24))
        again, _ = prepare(cached)
    assert inputs["flow"].shape == (2, 4, 2, 24, 24)
    medians = inputs["flow"].flatten(3).median(-1).values
    torch.testing.assert_close(medians, torch.tensor([0.3, 0.15]).expand(2, 4, 2), atol=0.03, rtol=0)
    assert torch.equal(inputs["flow"][:, 2], inputs["flow"][:, 3])
    assert torch.equal(inputs["flow"], again["flow"])
    assert prepare.decoded_side() == 24


def test_flow_of_a_still_picture_is_none(sliding: Path):
    takes = replace(TAKES, pixels=False)
    prepare = ClipPreparation(takes, CLIPS, {}, flow=FlowSource(between="frames read"))
    with Video(sliding) as video:
        inputs, _ = prepare(video.slice_frames(0, 1))
    assert inputs.keys() == {"flow"}
    assert inputs["flow"].abs().max() < 0.005


def test_flow_in_folders_is_between_consecutive_frames(tmp_path: Path):
    with pytest.raises(ValidationError, match=r"folders hold flow between consecutive frames; leave folder or"):
        FlowSource(between="frames read", folder=tmp_path)


@pytest.mark.parametrize("augment", [None, ClipAugment(flip=0.0, crop="center", temporal_crop=0.6)])
@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_frames_and_flow_are_of_the_same_frames(video_file: Path, augment: ClipAugment | None, seed: int | None):
    view_config = ViewConfig(mode="clips", clips=3, short_side=40)
    prepare = ClipPreparation(TAKES, view_config, {}, augment)
    with Video(video_file) as video, ComputedFlow(video.grayscale()) as flow:
        rng = None if seed is None else make_generator(seed)
        clips = prepare.read(video, rng)
        keep = augment.temporal_crop if augment else 1.0
        numbers = frame_indices(19, TAKES, view_config, keep, None if seed is None else make_generator(seed))
        assert max(numbers) < 19  # no flow leads on from the last of 20 frames
        assert len(numbers) == (6 if seed is not None else 18)
        short_side = 40 if augment is None or seed is None else 37
        assert torch.equal(clips["video"].pixels, video.read(numbers, short_side).pixels)
        assert torch.equal(clips["flow"].pixels, flow.read(numbers, short_side).pixels)
        assert torch.equal(clips["flow"].seconds, clips["video"].seconds)


def test_streams_that_the_model_does_not_take_are_not_read(video_file: Path, monkeypatch: pytest.MonkeyPatch):
    only_flow = ClipInput(1, 6, size=32, pixels=False, flow=True)
    with Video(video_file) as video:
        both, _ = ClipPreparation(TAKES, CLIPS, {})(video)
        inputs, _ = ClipPreparation(only_flow, CLIPS, {})(video)
        assert inputs.keys() == {"flow"}
        assert torch.equal(inputs["flow"], both["flow"])
        changes = ClipAugment(brightness=0.5)
        inputs, _ = ClipPreparation(only_flow, CLIPS, {}, changes)(video, 0, make_generator(1))
        assert inputs["flow"].shape == (1, 6, 2, 32, 32)
        monkeypatch.setattr(Video, "grayscale", None)
        assert ClipPreparation(ClipInput(1, 6, size=32), CLIPS, {})(video)[0].keys() == {"video"}


# Crops and mirrors


def of_one_kind(seed: int = 0) -> dict:
    """Frames, and flow whose bytes are those of red and green."""
    pixels = torch.randint(0, 256, (4, 3, 48, 64), generator=make_generator(seed)).to(torch.uint8)
    return {"video": Clip(pixels, torch.arange(4) / 25), "flow": Clip(pixels[:, :2], torch.arange(4) / 25)}


@pytest.mark.parametrize("crop", ["multi_scale", "random_resized", "random", "center"])
def test_frames_and_flow_are_cropped_and_mirrored_alike(crop: str):
    augment = ClipAugment(crop=crop, resize=(50, 60))  # pyright: ignore[reportArgumentType]
    mirrored = 0
    for seed in range(12):
        inputs, label = augment_clips(of_one_kind(), 0, augment, TAKES, {0: 1, 1: 0}, make_generator(seed))
        frames = 2 * inputs["video"][:, :2] - 1
        mirrored += label
        torch.testing.assert_close(inputs["flow"][:, 1], frames[:, 1])
        torch.testing.assert_close(inputs["flow"][:, 0], frames[:, 0] * (-1 if label else 1))
    assert 0 < mirrored < 12


def test_color_changes_do_not_change_flow():
    for seed in range(4):
        plain, changed = (
            augment_clips(
                of_one_kind(), 0, ClipAugment(brightness=share, hue=share / 2), TAKES, {}, make_generator(seed)
            )[0]
            for share in (0.0, 0.8)
        )
        assert torch.equal(plain["flow"], changed["flow"])
        assert not torch.equal(plain["video"], changed["video"])


def test_mirrored_test_crops_negate_x():
    views = prepare_views(of_one_kind()["flow"], TAKES, ViewConfig(crops="ten"), "flow")
    assert views.shape == (10, 4, 2, 32, 32)
    for plain, mirrored in zip(views[:5], views[5:], strict=True):
        torch.testing.assert_close(mirrored, mirror_flow(plain))


# Where flow comes from


@pytest.fixture(scope="module")
def folder(video_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flow")
    extract_flow([Record("class/video.mp4", video_file, 0)], out, form="npz", workers=1)
    return out


def test_stored_flow_is_found_by_the_id_and_equals_computed_flow(video_file: Path, folder: Path):
    stored = ClipPreparation(TAKES, CLIPS, {}, flow=FlowSource(folder=folder))
    with Video(video_file) as video:
        computed, _ = ClipPreparation(TAKES, CLIPS, {})(video)
        assert torch.equal(stored(video, name="class/video.mp4")[0]["flow"], computed["flow"])
        assert torch.equal(stored(video)[0]["flow"], computed["flow"])  # no recording of the data set
        assert stored.flow.of(video, "class/video.mp4").path == folder / "class" / "video.mp4.npz"


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ({}, "class/other.mp4", r"there is no flow of class/other.mp4\. .*make it with muybridge flow"),
        ({"bound": 15.0}, "class/video.mp4", r"made by dis with bound 20\. Expected dis with bound 15"),
        ({"method": "tvl1"}, "class/video.mp4", r"made by dis with bound 20\. Expected tvl1"),
    ],
)
def test_missing_flow_and_flow_of_other_settings_are_refused(
    video_file: Path, folder: Path, source: dict, name: str, message: str
):
    prepare = ClipPreparation(TAKES, CLIPS, {}, flow=FlowSource.model_validate({"folder": folder} | source))
    with Video(video_file) as video, pytest.raises(DataError, match=f"(?is){message}"):
        prepare(video, name=name)


def test_flow_of_other_frames_is_refused(video_file: Path, folder: Path, sliding: Path):
    prepare = ClipPreparation(TAKES, CLIPS, {}, flow=FlowSource(folder=folder))
    for video in (Video(sliding), Video(video_file).slice_frames(0, 15)):
        with video, pytest.raises(DataError, match=r"the flow is that of 20 frames of 64x48 pixels"):
            prepare(video, name="class/video.mp4")
    with Video(video_file) as video, pytest.raises(DataError, match="a video of a single frame has no optical flow"):
        prepare(video.slice_frames(3, 4), name="class/video.mp4")


def test_flow_follows_the_actor_of_the_moving_shapes(tmp_path: Path):
    quiet = MovingShapes(root=tmp_path, scenes=2, test_scenes=1, height=64, width=64, distractors=0, perturbation=0.0)
    prepare = ClipPreparation(ClipInput(1, 31, size=64, flow=True), ViewConfig(mode="clips", short_side=64), {})
    ways = {"move left": (0, -1), "move right": (0, 1), "move up": (1, -1), "move down": (1, 1)}
    for record in quiet.index("train").records:
        axis, sign = ways.get(quiet.labels()[record.label], (0, 0))
        if sign:
            with quiet.open(record) as video:
                flow = prepare(video)[0]["flow"][0]
            within = [
                field[axis, int(top) : int(bottom), int(left) : int(right)].mean()
                for field, (left, top, right, bottom) in zip(flow, quiet.boxes(record)[:-1].tolist(), strict=True)
            ]
            assert sign * float(np.mean(within)) > 0.01
            assert abs(float(flow[:, 1 - axis].mean())) < 0.25 * abs(float(flow[:, axis].mean()))


# Recipes


@pytest.mark.parametrize(("frames", "starts"), [
    (61, [int(1 / 2 + 1 * clip) for clip in range(25)]),  # 60 moments: a = (60 - 30 + 1) // 25 = 1
    (120, [int(3 / 2 + 3 * clip) for clip in range(25)]),  # 119 moments: a = 90 // 25 = 3
    (41, [0] * 25),
    (24, [0] * 25),
])  # fmt: skip
def test_the_papers_25_clips_of_30_frames(frames: int, starts: list[int], root: Path):
    """start_j = int(a / 2 + j a) with a = int((n - 30 + 1) / 25); short videos repeat their last moment."""
    recipe = flow_recipe(root, {"frames": 30}).with_settings({"view.clips": 25})
    prepare = recipe.preparation()
    assert isinstance(prepare, ClipPreparation)
    assert prepare.views == 25
    numbers = frame_indices(frames - 1, prepare.takes, prepare.view, 1.0)
    assert numbers == [min(start + step, frames - 2) for start in starts for step in range(30)]


def test_a_video_shorter_than_a_clip_repeats_its_last_frame(root: Path):
    prepare = flow_recipe(root, {"frames": 15}).preparation()
    with Video(root / "dawn" / "a_0.mp4") as video:  # 12 frames
        inputs = prepare(video)[0]
        trained = prepare(video, 0, make_generator(1))[0]
    for tensor in (*inputs.values(), *trained.values()):
        assert tensor.shape[1] == 15
        assert all(torch.equal(tensor[:, 10], tensor[:, step]) for step in range(11, 15))
        assert not torch.equal(tensor[:, 9], tensor[:, 10])


def flow_recipe(root: Path, model: dict | None = None, **train) -> Recipe:
    """A small VideoLSTM on videos of moving light."""
    small = {
        "name": "video_lstm",
        "backbone": "test_efficientnet",
        "frames": 3,
        "size": 32,
        "hidden": 4,
        "attention_width": 4,
        "head_width": 8,
    }
    tree = tiny_clip_recipe(root).model_dump(mode="json", exclude_none=True)
    chosen = {"model": small | (model or {}), "view": {"mode": "clips", "clips": 2}, "train": tree["train"] | train}
    return recipe_from(tree | chosen)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"), takes=1)


def test_the_source_of_flow_is_resolved(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "stored").mkdir()
    monkeypatch.setenv("MUYBRIDGE_DATA", str(tmp_path))
    recipe = flow_recipe(root).with_settings({"flow.folder": "stored"}).resolved()
    assert recipe.flow == FlowSource(folder=tmp_path / "stored")
    save_recipe(recipe, tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == recipe
    assert flow_recipe(root).resolved().flow == FlowSource()
    assert tiny_clip_recipe(root).resolved().flow is None
    prepare = preparation(TAKES, ClipData(), ViewConfig(), {}, flow=FlowSource(bound=7.0))
    assert prepare.flow.bound == 7.0  # pyright: ignore[reportAttributeAccessIssue]


def test_flow_where_none_is_taken_is_refused(root: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"\[flow\] is for models that take optical flow, and 'tsn' takes none"):
        tiny_clip_recipe(root).with_settings({"flow.bound": 15.0})
    with pytest.raises(RecipeError, match=r"\[flow\] is for models .* 'video_lstm' takes none here"):
        flow_recipe(root, {"architecture": "conv_alstm"}).with_settings({"flow.bound": 15.0})
    with pytest.raises(RecipeError, match=r"\[flow\] is for video, and model 'sta_lstm' takes skeletons"):
        tiny_recipe(tmp_path).with_settings({"flow.bound": 15.0})


def test_each_stage_reads_what_its_model_takes(root: Path):
    stages = [
        {"name": "flow", "epochs": 1, "model": {"architecture": "conv_lstm", "stream": "motion"}},
        {"name": "colour", "epochs": 1, "model": {"architecture": "conv_alstm"}},
        {"name": "whole", "epochs": 1},
    ]
    recipe = flow_recipe(root, stages=stages)
    read = [
        set(make_samples(recipe, "train", model=recipe.stage_model(stage))[-1, 0][0]) for stage in recipe.train.stages
    ]
    assert read == [{"flow"}, {"video"}, {"video", "flow"}]


@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_from_videos_to_named_actions_with_flow(root: Path, tmp_path: Path, stream: str):
    recipe = flow_recipe(root, {"stream": stream}, epochs=1)
    extract_flow(
        [*recipe.data.index("train").records, *recipe.data.index("test").records], tmp_path / "flow", workers=1
    )
    run = train(recipe.with_settings({"flow.folder": str(tmp_path / "flow")}), tmp_path / "run")
    scores = evaluate(run)
    assert scores.count == 2
    path = root / "dawn" / "d_0.mp4"
    answer = muybridge.load(run.path)(path, top=2)
    assert set(answer.labels) == {"dawn", "dusk"}
    assert answer.maps["attention"].shape == (3, 1, 1)
    with pytest.warns(MuybridgeWarning, match="only 1x1 cells for a frame of 48x40 pixels"):
        drawn = draw_run(run.path, sample="dawn/d_0.mp4")
    assert all(path.stat().st_size > 1000 for path in drawn)
    assert bench(recipe, recordings=2, steps=1).per_second > 0


@pytest.mark.slow
def test_training_with_flow_resumes_bit_for_bit_whatever_the_workers(root: Path, tmp_path: Path):
    recipe = flow_recipe(root, epochs=1, mixup=0.5)
    train(recipe.with_settings({"train.num_workers": 1}), tmp_path / "whole")
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "killed", report=KillAt(1))
    train(recipe, tmp_path / "killed", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "killed")


# The command


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Runs the command line in an empty folder; gives exit status and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["muybridge", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return run


def test_flow_of_a_recipe_is_made_resumed_and_found_by_its_training(call, root: Path, tmp_path: Path):
    save_recipe(flow_recipe(root, {"architecture": "conv_lstm", "stream": "motion"}, epochs=1), tmp_path / "mine.toml")
    code, output = call("flow", "mine.toml", "--form", "npz", "--jobs", "1", "--bound", "12")
    assert code == 0, output
    assert "88 fields of 8 videos in" in output  # 11 of each
    assert "per second" in output
    words = output.partition("next: muybridge ")[2].split()
    assert words[:2] == ["train", "mine.toml"]
    assert words[2:] == ["--set", "flow.folder=flow/mine", "--set", "flow.method=dis", "--set", "flow.bound=12"]
    (tmp_path / "flow/mine/dusk/b_0.mp4.npz").unlink()
    code, output = call(*words, "--run", "runs/mine")
    assert code == 2
    assert "recording 'dusk/b_0.mp4': there is no flow of dusk/b_0.mp4" in output
    assert "Make it with muybridge flow" in output
    code, output = call("flow", "mine.toml", "--form", "npz", "--jobs", "1", "--bound", "12")
    assert code == 0
    assert "11 fields of 1 videos" in output
    assert "that of 7 existed" in output
    code, output = call(*words, "--run", "runs/mine", "--resume")
    assert code == 0, output
    assert load_recipe(tmp_path / "runs/mine/recipe.toml").flow == FlowSource(folder=tmp_path / "flow/mine", bound=12)


def test_flow_of_a_folder_has_the_ids_of_a_folders_recordings(call, root: Path, tmp_path: Path):
    code, output = call("flow", str(root), "--out", "there", "--jobs", "1")
    assert code == 0, output
    assert {path.parent.name for path in tmp_path.glob("there/*/*.mp4/flow.json")} == {
        f"{person}_0.mp4" for person in "abcd"
    }
    assert find_flow(tmp_path / "there", "dawn/a_0.mp4").is_dir()
    (tmp_path / "videos").mkdir()
    code, output = call("flow", str(root), "--out", str(root / "flow"))
    assert code == 2
    assert "the flow would be among the videos" in output
    code, output = call("flow", str(tmp_path / "videos"))
    assert code == 2
    assert "no video in this folder" in output
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    shutil.copy(root / "dawn" / "a_0.mp4", tmp_path / "videos" / "complete.mp4")
    code, output = call("flow", str(tmp_path / "videos"), "--jobs", "1")
    assert code == 2
    assert "1 of 2 videos get no flow, 'broken.mp4' among them" in output
    assert output.count("xpected") == 2  # of the broken video, and of all
    assert ".." not in output.replace("...", "")
    assert (tmp_path / "flow" / "videos" / "complete.mp4").is_dir()


def test_skeletons_have_no_flow(call, tmp_path: Path):
    save_recipe(tiny_recipe(tmp_path), tmp_path / "mine.toml")
    code, output = call("flow", "mine.toml")
    assert code == 2
    assert "data set 'msr_action3d' contains skeletons" in output


def test_reversed_and_cut_videos_have_their_own_flow(video_file: Path, tmp_path: Path):
    forwards, backwards = Record("video", video_file, 0), Record("video_backwards", video_file, 1, backwards=True)
    extract_flow([forwards, backwards], tmp_path, form="npz", workers=1, open_record=opened)
    for record in (forwards, backwards):
        with opened(record) as video:
            stored = ClipPreparation(TAKES, CLIPS, {}, flow=FlowSource(folder=tmp_path))(video, name=record.id)[0]
            assert torch.equal(stored["flow"], ClipPreparation(TAKES, CLIPS, {})(video)[0]["flow"])
    assert np.load(tmp_path / "video.npz")["flow"].shape == (14, 2, 30, 40)


def opened(record: Record) -> Video:
    return Video(record.path).crop(4, 8, 30, 40).slice_frames(2, 17, backwards=record.backwards)


def test_flow_stays_in_its_folder_and_is_found_without_the_videos_ending(tmp_path: Path):
    for name in ("/etc/passwd", "../../elsewhere", "a/../../b"):
        assert flow_path(tmp_path, name, "npz").parent == tmp_path
    assert flow_path(tmp_path, "a/b.avi", "video") == tmp_path / "a" / "b.avi.mkv"
    (tmp_path / "class" / "jump").mkdir(parents=True)
    assert find_flow(tmp_path, "class/jump.avi") == tmp_path / "class" / "jump"
    with pytest.raises(DataError, match="there is no flow of class/jump"):
        find_flow(tmp_path, "class/jump.1")
