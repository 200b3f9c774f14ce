"""dRNN on video: HOG3D of windows of frames, from the frames themselves and from a feature store."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from pydantic import ValidationError

import muybridge
from muybridge.core.errors import DataError, RecipeError
from muybridge.data.feature_store import StoredFrames
from muybridge.data.sampling import sample_indices
from muybridge.engine.evaluate import evaluate, make_samples
from muybridge.engine.features import extract_features
from muybridge.engine.initialize import build_model
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.models.drnn import DRNNConfig, HOG3DConfig
from muybridge.models.drnn.network import VideoDRNN
from muybridge.nn.hog3d import HOG3D
from muybridge.recipe import Recipe
from tests.tiny import tiny_clip_recipe, write_videos

SMALL = {"cells": [1, 2, 2], "blocks": 2, "time_weight": 2.0}  # windows of 4 frames, descriptors of 80 numbers
MODEL = {
    "name": "drnn",
    "input": "video",
    "features": "hog3d",
    "hidden": 6,
    "pca": 5,
    "steps": 5,
    "size": 32,
    "hog3d": SMALL,
}
IN_TIME = {"crop": "center", "resize": [32, 32], "flip": 0.0, "temporal_crop": 0.8}
VIEW = {"mode": "windows", "resize": [32, 32]}
CPU = Runtime(device="cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of 12 frames; one of two frames, and one of three, less than a window."""
    root = write_videos(tmp_path_factory.mktemp("videos"), takes=1)
    for name, frames in (("dawn/a_9.mp4", 2), ("dusk/a_9.mp4", 3)):
        with av.open(str(root / name), "w") as container:
            stream = container.add_stream("libx264", rate=12)
            stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
            for light in range(frames):
                picture = np.full((40, 48, 3), 40 * light, np.uint8)
                picture[10:20, 5 * light : 5 * light + 9] = 200
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
    return root


def recipe_of(root: Path, **settings) -> Recipe:
    chosen = {"model": MODEL, "view": VIEW, "augment.clip": IN_TIME, "train.seed": 3, "train.save_seconds": 1e9}
    return tiny_clip_recipe(root).with_settings(chosen | settings)


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    extract_features(recipe_of(root), folder, precision="float32", runtime=CPU)
    return folder


# Windows


def test_windows_are_spread_evenly_and_overlap_in_a_short_video():
    takes = DRNNConfig.model_validate(MODEL).takes()
    starts = {frames: sample_indices(frames, takes, "windows")[::4] for frames in (40, 8, 5, 2)}  # pyright: ignore[reportArgumentType]
    assert starts[40] == [3, 11, 18, 25, 33]
    assert starts[8] == [0, 1, 2, 3, 4]
    assert starts[5] == [0, 0, 1, 1, 1]
    assert sample_indices(2, takes, "windows") == [0, 1, 1, 1] * 5  # pyright: ignore[reportArgumentType]
    assert sample_indices(40, takes, "windows", stride=3)[:4] == [3, 6, 9, 12]  # pyright: ignore[reportArgumentType]


def test_random_windows_are_anywhere_in_their_part():
    takes, rng = DRNNConfig.model_validate(MODEL).takes(), torch.Generator().manual_seed(0)
    drawn = torch.tensor([sample_indices(40, takes, "windows", rng)[::4] for _ in range(300)])  # pyright: ignore[reportArgumentType]
    assert drawn.min(0).values.tolist() == [0, 7, 14, 22, 29]  # 37 windows in five parts
    assert drawn.max(0).values.tolist() == [7, 14, 22, 29, 36]


# From frames, and from the store


def test_the_model_sees_the_descriptors_of_its_windows():
    config = DRNNConfig.model_validate(MODEL | {"pca": 0})
    model = config.build(4)
    assert isinstance(model, VideoDRNN)
    video = torch.randn(2, 20, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    hog3d = HOG3D(cells=(1, 2, 2), blocks=2, time_weight=2.0)
    descriptors = torch.stack([hog3d(video[:, start : start + 4])[:, 0] for start in range(0, 20, 4)], dim=1)
    assert descriptors.shape == (2, 5, 80, 1, 1)
    torch.testing.assert_close(model(video).logits, model(features=descriptors).logits)


def test_every_frame_begins_a_window_in_the_store(root: Path, store: Path):
    recipe = recipe_of(root, **{"view.features": str(store)})
    stored = recipe.feature_store(recipe.model)
    records = {record.id: record for record in recipe.data.index("train").records}
    assert len(stored.open(records["dawn/a_0.mp4"])) == 9  # of 12 frames
    assert len(stored.open(records["dusk/a_9.mp4"])) == 1  # of 3, the last of which is repeated
    short = stored.open(records["dawn/a_9.mp4"]).read([0])["features"]
    torch.testing.assert_close(short.norm(), torch.tensor(1.0))


@pytest.mark.parametrize("mode", ["windows", "segments"])
@pytest.mark.parametrize("keep", [1.0, 0.8])
def test_samples_are_the_descriptors_of_the_sampled_windows(root: Path, store: Path, mode: str, keep: float):
    plain = recipe_of(root, **{"view.mode": mode, "augment.clip": IN_TIME | {"temporal_crop": keep}, "view.clips": 2})
    model = build_model(plain, plain.stages()[0], 0).eval()
    stored = plain.with_settings({"view.features": str(store)})
    train_set = {augment: make_samples(plain, "train", augment=augment) for augment in (False, True)}
    long = [number for number, record in enumerate(train_set[True].records) if not record.id.endswith("_9.mp4")]
    for augment, draw in ((False, (-1, 0)), (False, (-1, 1)), (False, (-1, 7)), (True, (2, long[0])), (True, (4, 3))):
        seen, label, _ = train_set[augment][draw]
        from_store, same, _ = make_samples(stored, "train", augment=augment)[draw]
        assert label == same
        with torch.inference_mode():
            torch.testing.assert_close(model(**from_store).logits, model(**seen).logits, rtol=1e-4, atol=1e-4)


def test_training_reads_nothing_but_the_store_and_predicting_needs_none(
    root: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    requested: list[int] = []
    read = StoredFrames.read
    monkeypatch.setattr(StoredFrames, "read", lambda self, numbers: (requested.append(1), read(self, numbers))[1])
    forward = HOG3D.forward
    monkeypatch.setattr(HOG3D, "forward", lambda *_: pytest.fail("a descriptor was computed"))
    run = train(recipe_of(root, **{"view.features": str(store), "train.epochs": 1}), tmp_path / "run", runtime=CPU)
    assert len(requested) == 8 * 2  # for the mean and the PCA, and for the epoch
    from_store = evaluate(run, "test", runtime=CPU)
    monkeypatch.setattr(HOG3D, "forward", forward)
    assert evaluate(run, "test", runtime=CPU, pixels=True) == from_store
    prediction = muybridge.load(run.path)(root / "dusk" / "a_9.mp4")
    assert abs(sum(prediction.scores) - 1) < 1e-5


def test_it_learns_which_way_light_changes(root: Path, store: Path, tmp_path: Path):
    chosen = {"view.features": str(store), "train.epochs": 30, "train.optimizer.lr": 0.02, "model.pooling": "mean"}
    run = train(recipe_of(root, **chosen), tmp_path / "run", runtime=CPU)
    assert evaluate(run, "test", runtime=CPU).top1 == 100


def test_components_are_fitted_to_the_training_part_alone(root: Path, store: Path):
    """They are those of its descriptors, whose projections are uncorrelated."""
    recipe = recipe_of(root, **{"view.features": str(store), "model.feature_scaling": "group"})
    model = build_model(recipe, recipe.stages()[0], 0)
    samples = make_samples(recipe, "train")
    raw = torch.stack([samples[-1, number][0]["features"][0].flatten(1) for number in range(len(samples))])
    model.calibrate([{"features": raw[:3, :, :, None, None]}, {"features": raw[3:, :, :, None, None]}])
    assert isinstance(model, VideoDRNN)
    vectors = raw.flatten(0, 1)
    torch.testing.assert_close(model.descriptors.mean, vectors.mean(0))
    scale = vectors.var(0, correction=0).mean().sqrt()
    torch.testing.assert_close(model.descriptors.deviation, scale.expand(80))
    covariance = torch.cov(model.descriptors.normalize(vectors).T, correction=0)
    expected = torch.linalg.eigvalsh(torch.cov(vectors.T, correction=0) / scale**2).flip(0)[:5]
    torch.testing.assert_close(covariance, expected.diag(), atol=1e-3, rtol=1e-3)


# What is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": ["position"]}, 'input = "video" needs features = "hog3d"'),
        ({"input": "skeletons"}, 'features = "hog3d" are of video; set input = "video", or name groups'),
        ({"features": []}, "features is empty; name at least one group"),
        ({"smooth": True, "max_frames": 9}, 'smooth, max_frames has no effect with input = "video"; leave it out'),
        ({"size": 3}, "a frame of 3 pixels a side is divided into 4 blocks.*raise size, or lower hog3d.grid"),
        ({"hog3d": {"cutoff": 0.0}}, "greater than 0"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        DRNNConfig.model_validate(MODEL | settings)
    with pytest.raises(ValidationError, match='hog3d has no effect with input = "skeletons"'):
        DRNNConfig(hog3d=HOG3DConfig(grid=2))


def test_the_view_of_a_store_has_to_be_of_consecutive_frames(root: Path, store: Path):
    for view in ({"view.stride": 2}, {"view.mode": "uniform"}, {"view.mode": "clips"}):
        recipe_of(root, **view)  # from the videos themselves
        with pytest.raises(RecipeError, match=r'descriptors of consecutive frames.*set view.mode = "windows" \(now st'):
            recipe_of(root, **view, **{"view.features": str(store)})


def test_skeletons_are_refused_and_need_no_store(root: Path, store: Path):
    with pytest.raises(RecipeError, match=r"model 'drnn' takes skeletons, but data set 'video_folder' holds video"):
        recipe_of(root, **{"model": {"name": "drnn"}})
    with pytest.raises(RecipeError, match=r"model 'tsn' has none here.*or drnn with input = .video"):
        tiny_clip_recipe(root).with_settings({"view.features": str(store)})
    with pytest.raises(RecipeError, match=r"model 'drnn' has a part that is never trained; leave train.warm_up out"):
        recipe_of(root, **{"train.warm_up": "synthetic", "model.pca": 0})


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("model.hog3d.time_weight", 1.0, r"other model.hog3d.time_weight \(2.0\).*Expected .* \(1.0\)"),
        ("model.hog3d.polyhedron", "dodecahedron", r"other model.hog3d.polyhedron \(icosahedron\)"),
        ("model.hog3d.cells", [2, 2, 2], r"other model.hog3d.cells \(\[1, 2, 2\]\)"),
        ("model.size", 16, r"other model.size \(32\)"),
    ],
)
def test_descriptors_of_other_settings_are_refused(root: Path, store: Path, setting: str, value: object, message: str):
    recipe = recipe_of(root, **{"view.features": str(store), setting: value})
    with pytest.raises(DataError, match=message + ".*make maps for this recipe in another folder"):
        make_samples(recipe, "train")


def test_descriptors_of_another_size_or_none_are_refused():
    model = DRNNConfig.model_validate(MODEL).build(4)
    with pytest.raises(DataError, match=r"neither video nor features was given\. Expected one of them"):
        model()
    with pytest.raises(DataError, match=r"features of size 60x1x1. Expected 80x1x1.*[Ee]xtract them again"):
        model(features=torch.zeros(1, 5, 60, 1, 1))


def test_what_is_not_finite_is_not_fitted_to():
    model = DRNNConfig.model_validate(MODEL).build(4)
    features = torch.rand(4, 5, 80, 1, 1)
    features[2, 3] = torch.nan
    with pytest.raises(DataError, match=r"features of the training recordings are not finite numbers.*made again"):
        model.calibrate([{"features": features}])
    with pytest.raises(DataError, match="not finite"):
        model.calibrate([{"video": torch.full((1, 20, 3, 32, 32), torch.nan)}])


def test_too_few_steps_for_the_components_are_refused():
    model = DRNNConfig.model_validate(MODEL | {"pca": 11}).build(4)
    with pytest.raises(RecipeError, match=r"10 steps .* too few to fit 11 principal components.*Lower model.pca"):
        model.calibrate([{"features": torch.rand(2, 5, 80, 1, 1)}])


def test_black_frames_are_classified():
    model = DRNNConfig.model_validate(MODEL).build(4)
    model.calibrate([{"video": torch.zeros(2, 20, 3, 32, 32)}])
    assert torch.isfinite(model(torch.zeros(1, 20, 3, 32, 32)).logits).all()


# The store that a training makes


def test_auto_makes_a_store_once(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = recipe_of(root, **{"view.features": "auto", "train.epochs": 1})
    first = train(recipe, tmp_path / "first", runtime=CPU)
    (folder,) = (path for path in (tmp_path / "cache" / "muybridge" / "features").iterdir() if path.is_dir())
    view = first.recipe().view
    assert view is not None
    assert view.features == folder.resolve()
    (folder / "hog3d" / "dusk" / "b_0.mp4.safetensors").unlink()
    computed: list[int] = []
    forward = HOG3D.forward
    monkeypatch.setattr(HOG3D, "forward", lambda self, video: (computed.append(1), forward(self, video))[1])
    second = train(recipe.with_settings({"model.hidden": 4, "train.seed": 5}), tmp_path / "second", runtime=CPU)
    assert len(computed) == 1
    assert evaluate(second, "test", runtime=CPU).top1 >= 0
    assert len(computed) == 1
    train(recipe.with_settings({"model.hog3d.cutoff": 0.5}), tmp_path / "other", runtime=CPU)
    assert len([path for path in folder.parent.iterdir() if path.is_dir()]) == 2


def test_until_then_auto_reads_the_videos(root: Path):
    recipe = recipe_of(root, **{"view.features": "auto"}).resolved()
    assert set(make_samples(recipe, "train")[-1, 0][0]) == {"video"}
