"""The feature store: written once, checked against the recipe, and equal to the CNN's own output."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

import muybridge
from muybridge import cli
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.types import Record
from muybridge.data.feature_store import PartStore, StoredFrames, fingerprint
from muybridge.data.loader import make_loader, sequential_plan
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate, make_samples, predict_split
from muybridge.engine.features import extract_features
from muybridge.engine.initialize import build_model
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.nn.feature_maps import FeatureMaps
from muybridge.recipe import Recipe, load_recipe, save_recipe
from tests.test_train import KillAt, KilledError, assert_equal_weights
from tests.tiny import tiny_clip_recipe, write_videos

SMALL = {
    "name": "video_lstm",
    "architecture": "conv_alstm",
    "backbone": "resnet18",
    "out_index": -2,
    "frames": 4,
    "size": 32,
    "hidden": 4,
    "attention_width": 4,
    "head_width": 8,
    "dropout": 0.0,
}
METADATA = {"weights": "abc", "model.size": 32, "precision": "float32", "view.resize": (32, 32)}
IN_TIME = {"crop": "center", "resize": [32, 32], "flip": 0.0, "temporal_crop": 0.8}
SKIPPING = {"train.on_error": "skip"}
VIEW = {"mode": "clips", "clips": 3, "resize": [32, 32]}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"), takes=1)


def recipe_of(root: Path, architecture: str = "conv_alstm", **settings) -> Recipe:
    chosen = {"model": SMALL | {"architecture": architecture}, "view": VIEW, "augment.clip": IN_TIME}
    chosen |= {"train.seed": 3, "train.save_seconds": 1e9}
    return tiny_clip_recipe(root).with_settings(chosen | settings)


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both streams of the videos, lossless."""
    folder = tmp_path_factory.mktemp("store")
    extract_features(recipe_of(root, "video_lstm"), folder, precision="float32", runtime=Runtime(device="cpu"))
    return folder


@pytest.fixture
def record(tmp_path: Path) -> Record:
    (tmp_path / "video.mp4").write_bytes(bytes(range(256)) * 4)
    return Record("dawn/video.mp4", tmp_path / "video.mp4", 0)


# The files


def test_maps_are_read_in_the_requested_order(tmp_path: Path, record: Record):
    part = PartStore.create(tmp_path / "appearance", METADATA)
    maps = torch.randn(6, 3, 2, 2)
    assert part.write(record, maps, 7) > maps.nbytes
    reopened = PartStore.open(tmp_path / "appearance", {"model.size": 32, "view.resize": (32, 32)})
    assert reopened.holds(record)
    assert reopened.count(record) == (6, 7)
    for numbers in ([0], [2, 3, 4], [5, 5, 0, 2], list(range(6))):
        assert torch.equal(reopened.read(record, numbers), maps[numbers])
    assert not list(tmp_path.rglob("*.draft"))
    assert (reopened.path(record).stat().st_mode & 0o777) == ((tmp_path / "video.mp4").stat().st_mode & 0o777)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("model.size", 16, r"other model.size \(32\).* Expected model.size \(16\).*make maps for this recipe"),
        ("view.short_side", 36, r"other view.short_side \(None\).* Expected view.short_side \(36\)"),
        ("precision", "float16", r"other precision \(float32\). Expected precision \(float16\)"),
        ("weights", "def", r"other weights \(abc\).* Expected weights \(def\).*[Ss]tart the CNN from the weights"),
    ],
)
def test_different_metadata_is_refused(tmp_path: Path, setting: str, value: object, message: str):
    PartStore.create(tmp_path, METADATA)
    with pytest.raises(DataError, match=message):
        PartStore.open(tmp_path, {setting: value})
    with pytest.raises(DataError, match=message):
        PartStore.create(tmp_path, METADATA | {setting: value})


def test_folders_that_are_no_store_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"there is no feature store.*Make one with `muybridge features"):
        PartStore.open(tmp_path / "none", METADATA)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(DataError, match="its metadata cannot be read"):
        PartStore.open(tmp_path, METADATA)
    (tmp_path / "store.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(DataError, match=r"format 99\. Expected format 1"):
        PartStore.open(tmp_path, METADATA)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        PartStore.create(tmp_path / "file" / "store", METADATA)


def test_a_changed_recording_is_detected(tmp_path: Path, record: Record):
    part = PartStore.create(tmp_path / "appearance", METADATA)
    with pytest.raises(DataError, match=r"there are no maps of it.*Complete it with `muybridge features"):
        part.count(record)
    part.write(record, torch.ones(6, 3, 2, 2), 6)
    with record.path.open("ab") as file:
        file.write(b"more")
    reopened = PartStore.open(tmp_path / "appearance", METADATA)
    assert not reopened.holds(record)
    with pytest.raises(DataError, match=r"maps of another file than .*video\.mp4"):
        reopened.read(record, [0])
    record.path.unlink()
    with pytest.raises(DataError, match=r"the recording cannot be read"):
        PartStore.open(tmp_path / "appearance", METADATA).read(record, [0])


def test_fingerprints_of_different_recordings_differ(tmp_path: Path, record: Record):
    assert fingerprint(record) != fingerprint(replace(record, backwards=True))
    frames = tmp_path / "frames"
    frames.mkdir()
    (frames / "1.png").write_bytes(b"12")
    folder = Record("frames", frames, 0)
    before = fingerprint(folder)
    assert before == fingerprint(replace(folder, id="moved"))
    (frames / "2.png").write_bytes(b"12")
    assert fingerprint(folder) != before


def test_damaged_maps_are_refused(tmp_path: Path, record: Record):
    part = PartStore.create(tmp_path / "appearance", METADATA)
    part.write(record, torch.ones(6, 3, 2, 2), 6)
    content = part.path(record).read_bytes()
    for damaged in (content[:-8], content[:20], b"", b"\xff" * 99):
        part.path(record).write_bytes(damaged)
        with pytest.raises(DataError, match=r"damaged maps .*Delete it and complete it"):
            part.read(record, [0])
        assert not part.holds(record)


def test_numbers_that_16_bits_cannot_hold_are_refused(tmp_path: Path, record: Record):
    part = PartStore.create(tmp_path, METADATA | {"precision": "float16"})
    with pytest.raises(DataError, match=r"reach 1e\+05. Expected finite numbers that float16 can hold.*float32"):
        part.write(record, torch.full((2, 1, 1, 1), 1e5), 2)
    with pytest.raises(DataError, match=r"contain NaN or infinity. Expected finite numbers.*[Cc]heck the weights"):
        part.write(record, torch.tensor([[[[1.0]]], [[[torch.nan]]]]), 2)
    assert not part.path(record).exists()


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_no_id_leads_out_of_the_store(tmp_path: Path, record: Record, name: str):
    part = PartStore.create(tmp_path / "store", METADATA)
    inside = part.path(replace(record, id=name))
    assert inside.parent == tmp_path / "store"


def test_parts_have_to_be_of_the_same_recording(tmp_path: Path, record: Record):
    parts = {name: PartStore.create(tmp_path / name, METADATA) for name in ("features", "flow_features")}
    parts["features"].write(record, torch.ones(6, 3, 2, 2), 6)
    parts["flow_features"].write(record, torch.ones(5, 3, 2, 2), 6)
    stored = StoredFrames(record, parts)
    assert len(stored) == 5
    assert {name: maps.shape[0] for name, maps in stored.read([0, 4]).items()} == {"features": 2, "flow_features": 2}
    parts["flow_features"].write(record, torch.ones(6, 3, 2, 2), 7)
    with pytest.raises(DataError, match=r"of 6 frames \(features\) and of 7 frames \(flow_features\)"):
        StoredFrames(record, parts)


# Making it


def test_both_streams_of_all_splits_are_stored(root: Path, store: Path):
    videos = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.mp4"))
    for part, frames in (("appearance", 12), ("motion", 11)):
        files = sorted((store / part).rglob("*.safetensors"))
        assert [path.relative_to(store / part).as_posix() for path in files] == [
            f"{name}.safetensors" for name in videos
        ]
        metadata = json.loads((store / part / "store.json").read_text())
        assert metadata["model.backbone"] == "resnet18"
        parts = PartStore.open(store / part, {})
        assert parts.count(Record(videos[0], root / videos[0], 0)) == (frames, 12)
    assert metadata["flow.method"] == "dis"


def test_existing_maps_are_not_computed_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = recipe_of(root)
    (first,) = extract_features(recipe, tmp_path, runtime=Runtime(device="cpu"))
    assert (first.extracted, first.existing, first.frames) == (8, 0, 96)
    assert "8 recordings; 96 frames in" in str(first)
    (tmp_path / "appearance" / "dawn" / "a_0.mp4.safetensors").unlink()
    requested = []
    monkeypatch.setattr(FeatureMaps, "forward", _counting(FeatureMaps.forward, requested))
    (second,) = extract_features(recipe, tmp_path, runtime=Runtime(device="cpu"))
    assert (second.extracted, second.existing, second.frames, sum(requested)) == (1, 7, 12, 12)


def _counting(forward, requested: list[int]):
    def counted(self, frames):
        requested.append(frames.shape[1])
        return forward(self, frames)

    return counted


@pytest.mark.slow
def test_the_number_of_workers_does_not_change_the_maps(root: Path, store: Path, tmp_path: Path):
    recipe = recipe_of(root, **{"train.num_workers": 2})
    extract_features(recipe, tmp_path, precision="float32", runtime=Runtime(device="cpu"))
    files = list((tmp_path / "appearance").rglob("*.safetensors"))
    assert len(files) == 8
    for path in files:
        assert path.read_bytes() == (store / path.relative_to(tmp_path)).read_bytes()


def test_unreadable_recordings_are_reported_at_the_end(tmp_path: Path):
    root = write_videos(tmp_path / "videos", takes=1)
    (root / "dawn" / "b_0.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"1 of 8 recordings cannot be read; 'dawn/b_0.mp4'.*all others are kept"):
        extract_features(recipe_of(root), tmp_path / "store", runtime=Runtime(device="cpu"))
    assert len(list((tmp_path / "store").rglob("*.safetensors"))) == 7


def test_too_little_disk_space_is_reported_before_the_work(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=90_000))
    with pytest.raises(DataError, match=r"0\.0 GB free on the disk.*for the maps that are missing.*finished is kept"):
        extract_features(recipe_of(root), tmp_path, runtime=Runtime(device="cpu"))
    assert len(list(tmp_path.rglob("*.safetensors"))) == 4  # of 24 kB each, and four to go


def test_a_model_without_a_frozen_part_has_no_features_to_store(root: Path, tmp_path: Path):
    with pytest.raises(
        RecipeError, match=r"model 'tsn' has no part that sees single frames and is not trained.*train_backbone = false"
    ):
        extract_features(tiny_clip_recipe(root), tmp_path, runtime=Runtime(device="cpu"))


@pytest.mark.slow
def test_a_killed_extraction_is_completed(root: Path, tmp_path: Path):
    """Killed by the system in the midst of it; a store that lacks something is never taken for whole."""
    recipe = recipe_of(root, **{"view.features": str(tmp_path / "store")})
    save_recipe(recipe, tmp_path / "recipe.toml")
    command = [sys.executable, "-m", "muybridge", "features", str(tmp_path / "recipe.toml"), "--device", "cpu"]
    part = tmp_path / "store" / "appearance"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    while not list(part.rglob("*.safetensors")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list(part.rglob("*.safetensors")))
    all_records = [record for split in ("train", "test") for record in recipe.data.index(split).records]
    store = recipe.feature_store(recipe.model)
    assert 1 <= there < len(all_records) == 8
    with pytest.raises(DataError, match=r"of 8 recordings have no maps, '.*' among them.*where it stopped"):
        store.check_complete(all_records)
    (summary,) = extract_features(recipe, tmp_path / "store", runtime=Runtime(device="cpu"))
    assert (summary.existing, summary.extracted) == (there, 8 - there)
    store.check_complete(all_records)
    assert {len(store.open(record)) for record in all_records} == {12}
    assert not list(part.rglob("*.draft"))


def test_training_is_refused_where_maps_are_missing(root: Path, store: Path, tmp_path: Path):
    shutil.copytree(store, tmp_path / "store")
    (tmp_path / "store" / "appearance" / "dusk" / "d_0.mp4.safetensors").unlink()
    recipe = recipe_of(root, **{"view.features": str(tmp_path / "store")})
    assert len(make_samples(recipe, "train")) == 6
    with pytest.raises(DataError, match=r"1 of 2 recordings have no maps, 'dusk/d_0.mp4' among them"):
        make_samples(recipe, "test")
    (tmp_path / "store" / "appearance" / "dusk" / "a_0.mp4.safetensors").unlink()
    with pytest.raises(DataError, match=r"1 of 6 recordings have no maps, 'dusk/a_0.mp4' among them"):
        train(recipe, tmp_path / "run")
    (batch,) = list(make_loader(make_samples(recipe.with_settings(SKIPPING), "train"), sequential_plan(6, 6)))
    assert [sample.id for sample in batch.failed] == ["dusk/a_0.mp4"]


# Learning from it


@pytest.mark.parametrize("architecture", ["lstm", "conv_alstm", "video_lstm"])
@pytest.mark.parametrize("keep", [1.0, 0.6])
def test_samples_are_the_maps_of_the_sampled_frames(root: Path, store: Path, architecture: str, keep: float):
    plain = recipe_of(root, architecture, **{"augment.clip": IN_TIME | {"temporal_crop": keep}})
    model = build_model(plain, plain.stages()[0], 0).eval()
    stored = plain.with_settings({"view.features": str(store)})
    for augment, draw in ((False, (-1, 0)), (False, (5, 1)), (True, (2, 3)), (True, (4, 5))):
        seen, label, _ = make_samples(plain, "train", augment=augment)[draw]
        from_store, same, _ = make_samples(stored, "train", augment=augment)[draw]
        assert label == same
        with torch.inference_mode():
            torch.testing.assert_close(model(**from_store).logits, model(**seen).logits, rtol=1e-4, atol=1e-4)


def test_overlapping_clips_are_read_once(root: Path, store: Path, monkeypatch: pytest.MonkeyPatch):
    samples = make_samples(recipe_of(root, **{"view.features": str(store), "view.clips": 25}), "test")
    requested = []
    read = StoredFrames.read
    monkeypatch.setattr(StoredFrames, "read", lambda self, numbers: (requested.append(numbers), read(self, numbers))[1])
    inputs, _, _ = samples[-1, 0]
    assert inputs["features"].shape == (25, 4, 256, 2, 2)
    assert [len(numbers) for numbers in requested] == [100]


def test_training_from_the_store_equals_training_from_pixels(root: Path, store: Path, tmp_path: Path):
    plain = recipe_of(root, "video_lstm")
    stored = plain.with_settings({"view.features": str(store)})
    runs = [train(recipe, tmp_path / name) for name, recipe in (("pixels", plain), ("store", stored))]
    from_pixels, from_store = (RunFolder.open(run.path).model().state_dict() for run in runs)
    for name, tensor in from_pixels.items():
        torch.testing.assert_close(from_store[name], tensor, rtol=1e-3, atol=1e-3)
        assert not name.startswith(("appearance", "motion")) or torch.equal(from_store[name], tensor)
    # Tested from the store, from the videos, and with a file of its own, the run says the same.
    fast, slow = evaluate(runs[1]), evaluate(runs[1], pixels=True)
    assert fast.top1 == slow.top1
    answers = {
        pixels: predict_split(Runtime(device="cpu"), runs[1].model(), make_samples(stored, "test", pixels=pixels), 4)
        for pixels in (False, True)
    }
    torch.testing.assert_close(answers[False].probabilities, answers[True].probabilities, rtol=1e-4, atol=1e-5)
    predictor = muybridge.load(runs[1].path)
    record = stored.data.index("test").records[0]
    scores = dict(zip(*_named(predictor(record.path)), strict=True))
    for label, chance in zip(predictor.labels, answers[False].probabilities[0].tolist(), strict=True):
        assert scores[label] == pytest.approx(chance, abs=1e-4)


def _named(prediction) -> tuple[tuple[str, ...], tuple[float, ...]]:
    return prediction.labels, prediction.scores


def test_float16_changes_scores_little(root: Path, tmp_path: Path):
    plain = recipe_of(root)
    extract_features(plain, tmp_path, runtime=Runtime(device="cpu"))
    stored = plain.with_settings({"view.features": str(tmp_path)})
    samples = [make_samples(recipe, "test") for recipe in (plain, stored)]
    assert samples[1][-1, 0][0]["features"].dtype == torch.float16
    model = build_model(plain, plain.stages()[0], 0).eval()
    runtime = Runtime(device="cpu")
    from_pixels, from_store = (predict_split(runtime, model, dataset, 4).probabilities for dataset in samples)
    torch.testing.assert_close(from_store, from_pixels, rtol=0.01, atol=0.01)


def test_killed_anywhere_it_resumes_bit_for_bit(root: Path, store: Path, tmp_path: Path):
    recipe = recipe_of(root, **{"view.features": str(store), "train.save_seconds": 0.0})
    train(recipe, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "killed", report=KillAt(3))
    train(recipe, tmp_path / "killed", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "killed")


def test_a_model_with_another_cnn_is_refused(root: Path, store: Path, tmp_path: Path):
    recipe = recipe_of(root, **{"view.features": str(store)})
    message = r"maps made with other weights \(\w+\).*Start the CNN from the weights that made them"
    with pytest.raises(DataError, match=message):
        train(recipe.with_settings({"train.seed": 4}), tmp_path / "run")
    run = train(recipe, tmp_path / "run2")
    shutil.copytree(store, tmp_path / "other")
    metadata = json.loads((tmp_path / "other" / "appearance" / "store.json").read_text())
    (tmp_path / "other" / "appearance" / "store.json").write_text(json.dumps(metadata | {"weights": "f" * 64}))
    text = (run.path / "recipe.toml").read_text().replace(str(store), str(tmp_path / "other"))
    (run.path / "recipe.toml").write_text(text)
    with pytest.raises(DataError, match=message):
        evaluate(run)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"view.resize": [32, 40]}, r"other view.resize \(\[32, 32\]\). Expected view.resize \(\[32, 40\]\)"),
        ({"view.resize": [40, 40], "model.size": 40}, r"other model.size \(32\), view.resize"),
        ({"model.out_index": -1}, r"other model.out_index \(-2\). Expected model.out_index \(-1\)"),
        ({"model.backbone": "resnet34"}, "other model.backbone"),
        ({"model.mean": [0, 0, 0]}, "other model.mean"),
        ({"flow.bound": 10.0}, r"other flow.bound \(20.0\)"),
        ({"data.channels": 1}, r"other data.channels \(3\)"),
    ],
)
def test_a_store_of_other_settings_is_refused(root: Path, store: Path, settings: dict, message: str):
    recipe = recipe_of(root, "video_lstm", **{"view.features": str(store)}).with_settings(settings)
    with pytest.raises(DataError, match=message):
        make_samples(recipe, "train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.train_backbone": True}, r"view.features .*'video_lstm' has none here"),
        ({"model": {"name": "tsn"}}, r"view.features .*model 'tsn' has none here"),
        ({"view.crops": "three"}, 'set view.crops = "center"'),
        ({"view.size": 64}, "and view.size = 0"),
        ({"view.reverse": True}, "leave view.reverse out"),
        ({"train.mixup": 0.2}, "blend frames, and view.features holds none"),
        ({"augment.clip.flip": 0.5}, r"\[augment.clip\] changes pixels.*change time alone"),
        ({"augment.clip.crop": "multi_scale"}, r"\[augment.clip\] changes pixels"),
        ({"augment.clip.hue": 0.1}, r"\[augment.clip\] changes pixels"),
        ({"augment.clip.reverse": 0.5}, r"\[augment.clip\] changes pixels"),
    ],
)
def test_settings_that_need_pixels_are_refused(root: Path, settings: dict, message: str):
    recipe = recipe_of(root, **{"view.features": "store"})
    with pytest.raises(RecipeError, match=message):
        recipe.with_settings(settings)


def test_the_run_has_an_absolute_path_of_the_store(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    recipe = recipe_of(root, **{"view.features": "store"}).resolved()
    assert recipe.view is not None
    assert recipe.view.features == tmp_path / "store"


def test_from_the_command_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    save_recipe(recipe_of(root), tmp_path / "mine.toml")
    result = CliRunner().invoke(cli.app, ["features", "mine.toml", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "frames" in result.stderr
    assert "next: muybridge train mine.toml --set view.features=features/mine" in result.stderr
    settings = ["--set", "view.features=features/mine", "--device", "cpu"]
    result = CliRunner().invoke(cli.app, ["train", "mine.toml", "--run", "run", *settings])
    assert result.exit_code == 0, result.output
    assert load_recipe(tmp_path / "run" / "recipe.toml").view.features == tmp_path / "features" / "mine"
    for words in ((), ("--pixels",)):
        result = CliRunner().invoke(cli.app, ["test", "run", "--json", "--device", "cpu", *words])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["count"] == 2


def test_from_a_trained_tsn_to_two_networks_over_its_maps(root: Path, tmp_path: Path):
    """The way it is meant: a CNN learns the data first, its maps are kept, and several networks learn from them."""
    same = {"model.shift": False, "model.backbone": "resnet18", "model.width": 64}
    cnn = train(tiny_clip_recipe(root, epochs=1).with_settings(same), tmp_path / "cnn")
    take = {"appearance.trunk.": {"run": str(cnn.path), "prefix": "trunk."}}
    whole = {"model.out_index": -1, "train.init_from": take, "train.epochs": 1}
    extract_features(recipe_of(root, **whole), tmp_path / "store", runtime=Runtime(device="cpu"))
    trunk = {name: tensor for name, tensor in cnn.model().state_dict().items() if name.startswith("trunk.")}
    for architecture in ("alstm", "conv_lstm"):
        recipe = recipe_of(root, architecture, **whole, **{"view.features": str(tmp_path / "store"), "train.seed": 9})
        run = train(recipe, tmp_path / architecture)
        own = run.model().state_dict()
        assert all(torch.equal(own[f"appearance.{name}"], tensor) for name, tensor in trunk.items())
        assert evaluate(run).count == 2
