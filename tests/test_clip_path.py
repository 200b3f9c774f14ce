"""Videos from file to answer: prepared, batched, trained on, tested and named along one path."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import muybridge
from muybridge.core.contracts import ClipData, ClipInput
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.rng import make_generator
from muybridge.core.types import FailedSample, Record
from muybridge.data.clip_ops import ClipAugment, prepare_views
from muybridge.data.loader import SampleDataset, collate, make_loader, sequential_plan
from muybridge.data.prepare import ClipPreparation, ViewConfig, preparation, random_temporal_crop
from muybridge.data.sampling import sample_indices
from muybridge.engine.evaluate import evaluate, make_samples, predict_split
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.media.video import Video, find_videos, videos_in
from muybridge.nn.backbones import Trunk, resnet
from muybridge.predict import find_recordings
from muybridge.recipe import load_recipe, save_recipe
from tests.test_train import KillAt, KilledError, assert_equal_weights
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_videos
from tests.videos import write

TAKES = ClipInput(4, 2, size=16)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "video.mp4", 40)


# Parts of a video


def test_a_part_is_a_video(file: Path):
    with Video(file) as video:
        full = video.read(range(40))
        part = video.slice_frames(10, 30)
        assert len(part) == 20
        assert part.fps == pytest.approx(video.fps)
        assert torch.equal(part.read([0, 19]).pixels, full.pixels[[10, 29]])
        assert torch.equal(part.seconds, video.seconds[10:30])
        assert torch.equal(part.slice_frames(5, 8).read([2]).pixels, full.pixels[[17]])
        with pytest.raises(DataError, match="0 to 19, since the video has 20 frames"):
            part.read([20])


def test_timestamps_rise_in_reversed_videos(tmp_path: Path):
    stamps = [0, 40, 80, 200, 240]
    with Video(write(tmp_path / "video.mkv", 5, name="h264_open_gop.mkv", stamps=stamps)) as video:
        turned = video.slice_frames(backwards=True)
        assert torch.equal(turned.read(range(5)).pixels, video.read([4, 3, 2, 1, 0]).pixels)
        np.testing.assert_allclose(turned.seconds, [0, 0.04, 0.16, 0.2, 0.24], atol=1e-9)
        assert torch.equal(turned.slice_frames(1, 3).read([0]).pixels, video.read([3]).pixels)
        assert torch.equal(turned.slice_frames(backwards=True).read([0]).pixels, video.read([0]).pixels)


# Preparing


def test_testing_uses_every_crop_of_every_clip(file: Path):
    view_config = ViewConfig(clips=3, crops="three", short_side=20)
    prepare = ClipPreparation(TAKES, view_config, {})
    assert prepare.views == view_config.views == 9
    with Video(file) as video:
        inputs, label = prepare(video, 7)
        assert label == 7
        assert inputs["video"].shape == (9, 8, 3, 16, 16)
        for view in range(3):
            clip = video.read(sample_indices(40, TAKES, view=view, views=3), short_side=20)
            assert torch.equal(inputs["video"][3 * view : 3 * view + 3], prepare_views(clip, TAKES, view_config))


def test_training_samples_one_view_by_the_random_generator(file: Path):
    prepare = ClipPreparation(TAKES, ViewConfig(clips=2), {0: 1, 1: 0}, ClipAugment(flip=0.5, temporal_crop=0.5))
    with Video(file) as video:
        seen = [prepare(video, 0, make_generator("a", seed)) for seed in range(8)]
        again, _ = prepare(video, 0, make_generator("a", 3))
    assert torch.equal(again["video"], seen[3][0]["video"])
    assert {tuple(inputs["video"].shape) for inputs, _ in seen} == {(1, 8, 3, 16, 16)}
    assert {label for _, label in seen} == {0, 1}  # half of them mirrored
    assert len({float(inputs["video"].sum()) for inputs, _ in seen}) == 8


def test_without_augmentation_training_samples_frames_alone(file: Path):
    prepare = ClipPreparation(TAKES, ViewConfig(), {})
    with Video(file) as video:
        numbers = sample_indices(40, TAKES, rng=make_generator("b"))
        expected = prepare_views(video.read(numbers, short_side=18), TAKES, ViewConfig())
        inputs, _ = prepare(video, 0, make_generator("b"))
    assert torch.equal(inputs["video"], expected)


def test_frames_are_decoded_no_larger_than_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    short_sides = []
    read = Video.read
    monkeypatch.setattr(Video, "read", lambda self, n, side=None: (short_sides.append(side), read(self, n, side))[1])
    with Video(write(tmp_path / "video.mp4", 10)) as video:
        ClipPreparation(TAKES, ViewConfig(), {})(video)
        ClipPreparation(TAKES, ViewConfig(short_side=24), {})(video)
        ClipPreparation(TAKES, ViewConfig(resize=(20, 30)), {})(video)
        ClipPreparation(TAKES, ViewConfig(), {}, ClipAugment(short_side=40))(video, 0, make_generator())
    assert short_sides == [18, 24, 30, 40]


def test_crops_in_time_keep_their_share():
    assert random_temporal_crop(40, 1.0, make_generator()) == (0, 40)
    starts, lengths = zip(*(random_temporal_crop(40, 0.5, make_generator(seed)) for seed in range(200)), strict=True)
    assert min(lengths) == 20
    assert max(lengths) == 40
    assert len(set(starts)) > 10
    assert max(start + length for start, length in zip(starts, lengths, strict=True)) == 40


@pytest.mark.parametrize("mirror", [None, {0: 1, 1: 0}])
def test_ten_crops_are_refused_where_a_mirror_changes_classes(mirror: dict | None):
    reason = "forbids mirroring" if mirror is None else "has classes that a mirror changes"
    with pytest.raises(RecipeError, match=rf'view.crops = "ten" mirrors .*{reason}.*"three"'):
        preparation(TAKES, ClipData(), ViewConfig(crops="ten"), mirror)
    assert preparation(TAKES, ClipData(), ViewConfig(crops="ten"), {}).views == 10


def test_reversed_views_come_last_and_score_the_reversed_labels(file: Path):
    view_config = ViewConfig(clips=2, reverse=True)
    prepare = ClipPreparation(TAKES, view_config, {}, reverse={0: 1, 1: 0})
    assert prepare.views == view_config.views == 4
    with Video(file) as video:
        inputs, label = prepare(video, 1)
        assert label == 1
        assert torch.equal(inputs["video"][2:], inputs["video"][:2].flip(1))
        once, _ = ClipPreparation(TAKES, ViewConfig(clips=2), {})(video)
        assert torch.equal(inputs["video"][:2], once["video"])
    answers = torch.rand(3, 4, 3)
    straight = prepare.undo_reversal(answers)
    assert torch.equal(straight[:, :2], answers[:, :2])
    assert torch.equal(straight[:, 2:], answers[:, 2:, [1, 0, 2]])
    assert ClipPreparation(TAKES, ViewConfig(clips=4), {}).undo_reversal(answers) is answers


def test_playing_backwards_changes_the_label(file: Path):
    prepare = ClipPreparation(
        TAKES, ViewConfig(), {}, ClipAugment(crop="center", flip=0, reverse=0.5), reverse={0: 1, 1: 0}
    )
    plain = ClipPreparation(TAKES, ViewConfig(), {}, ClipAugment(crop="center", flip=0))
    labels = set()
    with Video(file) as video:
        for seed in range(8):
            (seen, label) = prepare(video, 0, make_generator("a", seed))
            (before, _) = plain(video, 0, make_generator("a", seed))
            labels.add(label)
            assert torch.equal(seen["video"], before["video"].flip(1) if label else before["video"])
    assert labels == {0, 1}


@pytest.mark.parametrize("turned", [{"view": ViewConfig(reverse=True)}, {"augment": ClipAugment(reverse=0.5)}], ids=str)
def test_playing_backwards_is_refused_without_reversed_labels(turned: dict):
    settings = {"view": ViewConfig()} | turned
    with pytest.raises(RecipeError, match="the data set does not say what becomes of its classes"):
        ClipPreparation(TAKES, mirror={}, **settings)
    with pytest.raises(RecipeError, match="the model takes flow"):
        ClipPreparation(ClipInput(4, 2, size=16, flow=True), mirror={}, reverse={}, **settings)
    ClipPreparation(TAKES, mirror={}, reverse={}, **settings)


# Recipes


def test_a_recipe_of_clips_is_written_and_read_back(root: Path, tmp_path: Path):
    recipe = tiny_clip_recipe(root).resolved()
    assert recipe.view == ViewConfig()
    save_recipe(recipe, tmp_path / "recipe.toml")
    assert load_recipe(tmp_path / "recipe.toml") == recipe


def test_tables_of_the_other_kind_are_refused(root: Path, tmp_path: Path):
    clips, skeletons = tiny_clip_recipe(root), tiny_recipe(tmp_path)
    with pytest.raises(RecipeError, match=r"\[view\] is for video, and model 'sta_lstm' takes skeletons"):
        skeletons.with_settings({"view.clips": 2})
    with pytest.raises(RecipeError, match=r"\[augment.clip\] is for video"):
        skeletons.with_settings({"augment.clip.flip": 0.5})
    with pytest.raises(RecipeError, match=r"\[augment.skeleton\] is for skeletons"):
        clips.with_settings({"augment.skeleton.rotate": 3.0})
    with pytest.raises(RecipeError, match="model 'tsn' takes video, but data set 'stick_figures' holds skeletons"):
        clips.with_settings({"data": {"name": "stick_figures"}})


# Batches and answers


def test_views_lie_one_after_the_other(root: Path):
    recipe = tiny_clip_recipe(root).with_settings({"view.clips": 2})
    samples = make_samples(recipe, "test")
    (batch,) = make_loader(samples, sequential_plan(len(samples), 8))
    assert (len(batch), batch.views) == (4, 2)
    assert batch.inputs["video"].shape[0] == 8
    alone = collate([samples[-1, 2]])
    assert torch.equal(batch.inputs["video"][4:6], alone.inputs["video"])


def test_probabilities_are_averaged_over_views(root: Path):
    recipe = tiny_clip_recipe(root).with_settings({"view.clips": 2, "view.crops": "three"})
    torch.manual_seed(0)
    model = recipe.model.build(2, recipe.data.holds()).eval()
    samples, runtime = make_samples(recipe, "test"), Runtime(device="cpu")
    predictions = predict_split(runtime, model, samples, batch_size=8)
    with torch.inference_mode():
        for index in range(len(samples)):
            rows = model(**collate([samples[-1, index]]).inputs).logits
            torch.testing.assert_close(predictions.probabilities[index], rows.softmax(1).mean(0), rtol=1e-4, atol=1e-6)
    chosen = predictions.probabilities.gather(1, predictions.labels[:, None])
    assert predictions.loss == pytest.approx(-chosen.log().mean().item(), rel=1e-5)


def test_a_reversed_view_votes_for_the_reversed_class(root: Path, tmp_path: Path):
    data = {"name": "moving_shapes", "root": str(tmp_path), "scenes": 2, "test_scenes": 1}
    small = {"height": 32, "width": 32, "frames": 8}
    recipe = tiny_clip_recipe(root).with_settings({"data": data | small, "view.reverse": True})
    torch.manual_seed(0)
    model = recipe.model.build(12, recipe.data.holds()).eval()
    samples = make_samples(recipe, "test")
    predictions = predict_split(Runtime(device="cpu"), model, samples, batch_size=4)
    turned = recipe.data.reverse()
    assert turned is not None
    with torch.inference_mode():
        forwards, backwards = model(**collate([samples[-1, 3]]).inputs).logits.softmax(1)
    for label in range(12):
        expected = (forwards[label] + backwards[turned.get(label, label)]) / 2
        torch.testing.assert_close(predictions.probabilities[3, label], expected, rtol=1e-4, atol=1e-6)


def test_unreadable_recordings_are_reported_with_their_ids_for_any_workers(tmp_path: Path):
    root = write_videos(tmp_path / "videos", takes=1)
    (root / "dusk" / "d_0.mp4").write_bytes(b"no video")
    recipe = tiny_clip_recipe(root)
    for workers in (0, 1):
        batches = list(make_loader(make_samples(recipe, "test"), sequential_plan(2, 4), workers))
        assert [sample.id for sample in batches[0].failed] == ["dusk/d_0.mp4"]
        with pytest.raises(DataError, match=r"d_0.mp4: recording 'dusk/d_0.mp4': .*"):
            batches[0].raise_on_failure()
    (root / "dusk" / "a_0.mp4").unlink()
    gone = Record("dusk/a_0.mp4", root / "dusk" / "a_0.mp4", 1)
    (batch,) = make_loader(SampleDataset([gone], recipe.data, recipe.preparation(), 0), sequential_plan(1, 1))
    assert len(batch) == 0
    with pytest.raises(DataError, match=r"recording 'dusk/a_0\.mp4'"):
        batch.raise_on_failure()


def test_from_a_folder_of_videos_to_named_actions(root: Path, tmp_path: Path):
    recipe = tiny_clip_recipe(root, epochs=40, save_seconds=60.0).with_settings({"view.clips": 2})
    run = train(recipe, tmp_path / "run")
    assert evaluate(run).top1 == 100
    predictor = muybridge.load(run.path)
    path = root / "dawn" / "d_1.mp4"
    answer = predictor(path, top=2)
    assert answer.labels == ("dawn", "dusk")
    with (run.path / "test-predictions.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if "dawn/d_1" in row["id"])
    assert answer.scores[0] == pytest.approx(float(row["dawn"]), abs=1e-5)
    with Video(path) as video:
        assert predictor(video).scores == answer.scores
        assert predictor(video.slice_frames(backwards=True)).labels[0] == "dusk"
    assert list(predictor.find([root / "dusk"])) == sorted((root / "dusk").iterdir())
    assert json.loads((run.path / "test.json").read_text())["count"] == 4


def test_killed_anywhere_it_resumes_bit_for_bit_whatever_the_workers(root: Path, tmp_path: Path):
    train(tiny_clip_recipe(root, num_workers=1), tmp_path / "full")
    recipe = tiny_clip_recipe(root)
    for steps in (0, 3, 5):
        run = tmp_path / f"killed{steps}"
        with pytest.raises(KilledError):
            train(recipe, run, report=KillAt(steps))
        train(recipe, run, resume=True)
        assert_equal_weights(tmp_path / "full", run)


def test_weights_are_fetched_once_and_never_to_predict(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fetched = []

    def fetch(backbone: str, channels: int = 3, *, pretrained: bool = False, **settings: bool) -> Trunk:
        fetched.append(pretrained)
        return resnet("resnet18", channels, pretrained=False, **settings)

    monkeypatch.setattr("muybridge.models.clips.resnet", fetch)
    recipe = tiny_clip_recipe(root, epochs=1).with_settings({"model.pretrained": True})
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "run", report=KillAt(1))
    run = train(recipe, tmp_path / "run", resume=True)
    muybridge.load(run.path)
    assert fetched == [True, False, False]
    assert run.recipe().model == recipe.model


# Files


def test_videos_in_a_folder(tmp_path: Path):
    for name in ("a.mp4", "deep/b.AVI", "frames/img_1.jpg", "frames/img_2.jpg", ".c.mp4", "d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert videos_in(tmp_path) == [tmp_path / "a.mp4", tmp_path / "deep" / "b.AVI", tmp_path / "frames"]
    assert list(find_recordings([tmp_path / "frames"], ClipData())) == [tmp_path / "frames"]
    for poster in ("poster.jpg", "deep/poster.PNG"):
        (tmp_path / poster).touch()  # beside videos, so no frames
    search = find_videos(tmp_path)
    assert list(search.files) == [tmp_path / "a.mp4", tmp_path / "deep" / "b.AVI", tmp_path / "frames"]
    assert search.unread == {".txt": 1, ".jpg": 1, ".png": 1}
    (tmp_path / "empty").mkdir()
    (failed,) = find_recordings([tmp_path / "empty"], ClipData())
    assert isinstance(failed, FailedSample)
    expected = r"no recording in this folder \(.*\)\. Expected files that end in .mp4.*images"
    assert re.search(expected, str(failed.error))
