"""The linear model and its fusion with a network: the regression, what they are shown, and their training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeClassifier
from sklearn.preprocessing import StandardScaler

import muybridge
from muybridge.baseline.descriptors import STATISTICS, describe_skeleton, describe_video
from muybridge.core.contracts import ClipInput, SkeletonData
from muybridge.core.errors import RecipeError
from muybridge.engine.evaluate import evaluate
from muybridge.engine.train import train
from muybridge.export import export_run
from muybridge.models import LinearConfig
from muybridge.models.linear.network import Linear
from muybridge.recipe import Recipe, dump, recipe_from
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos


@pytest.fixture(scope="module")
def skeletons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("data") / "skeletons")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("data") / "videos")


def linear_recipe(recipe: Recipe, **model: object) -> Recipe:
    tree = {"model": {"name": "linear", **model}, "data": dump(recipe)["data"], "train": {"epochs": 0, "batch_size": 5}}
    return recipe_from(tree)


@pytest.mark.parametrize("size", [4, 40])
def test_its_weights_are_those_of_ridge_regression(size: int):
    rng = np.random.default_rng(0)
    values, labels = rng.normal(3, 2, (15, size)).astype(np.float32), np.arange(15) % 3
    model = Linear(LinearConfig(penalty=0.4, temperature=0.5), 3, size)
    model.fit(torch.from_numpy(values), torch.from_numpy(labels))
    oracle = RidgeClassifier(alpha=0.4 * 15).fit(StandardScaler().fit_transform(values), labels)
    expected = oracle.decision_function(StandardScaler().fit_transform(values)) / 0.5
    assert model(torch.from_numpy(values)).logits.detach().numpy() == pytest.approx(expected, abs=1e-4)


def test_a_number_that_never_changes_is_no_division_by_zero():
    model = Linear(LinearConfig(), 2, 3)
    model.fit(torch.tensor([[1.0, 2.0, 0.0], [1.0, 3.0, 0.0]]), torch.tensor([0, 1]))
    assert torch.isfinite(model(torch.ones(1, 3)).logits).all()


@pytest.mark.parametrize("name", [name for name, kind in STATISTICS.items() if kind.of_skeletons])
def test_it_is_shown_of_skeletons_what_the_baseline_sees(name: str, skeletons: Path):
    recipe, kind = tiny_recipe(skeletons), STATISTICS[name]
    recipe = linear_recipe(recipe, statistics=kind.of, parts=kind.parts)
    record = recipe.data.index("train").records[0]
    opened, holds = recipe.data.open(record), recipe.data.holds()
    assert isinstance(holds, SkeletonData)
    inputs, _ = recipe.preparation()(opened)
    assert list(inputs) == ["statistics"]
    assert inputs["statistics"].shape == (1, kind.size(holds))
    expected = describe_skeleton(opened, holds, record).vectors["linear"][name]  # pyright: ignore[reportArgumentType]
    assert inputs["statistics"][0].numpy() == pytest.approx(expected)


@pytest.mark.parametrize("name", [name for name, kind in STATISTICS.items() if not kind.of_skeletons])
def test_it_is_shown_of_videos_what_the_baseline_sees(name: str, videos: Path):
    kind = STATISTICS[name]
    recipe = linear_recipe(tiny_clip_recipe(videos), statistics=kind.of, parts=kind.parts)
    record = recipe.data.index("train").records[0]
    with recipe.data.open(record) as video:  # pyright: ignore[reportGeneralTypeIssues]
        inputs, _ = recipe.preparation()(video)
        expected = describe_video(video, record).vectors["linear"][name]  # pyright: ignore[reportArgumentType]
    assert inputs["statistics"].shape == (1, kind.size(recipe.data.holds()))
    assert inputs["statistics"][0].numpy() == pytest.approx(expected, abs=1e-6)


def test_it_is_trained_in_no_epochs_and_predicts(videos: Path, tmp_path: Path):
    recipe = linear_recipe(tiny_clip_recipe(videos), statistics="frames")
    run = train(recipe, tmp_path / "run")
    assert not (run.path / "journal.jsonl").exists()
    assert evaluate(run).top1 == 100
    prediction = muybridge.load(run.path)(videos / "dawn" / "a_0.mp4")
    assert prediction.labels[0] == "dawn"


def test_gradient_descent_goes_on_from_the_solution(videos: Path, tmp_path: Path):
    recipe = linear_recipe(tiny_clip_recipe(videos), statistics="frames").with_settings({"train.epochs": 1})
    run = train(recipe, tmp_path / "run")
    assert (run.path / "journal.jsonl").exists()
    assert evaluate(run).top1 == 100


def test_without_epochs_there_is_no_best_one(videos: Path):
    with pytest.raises(RecipeError, match="without epochs there is no best one"):
        linear_recipe(tiny_clip_recipe(videos), statistics="frames").with_settings({"train.checkpoint": "best"})


def test_the_kind_of_recordings_follows_from_the_statistics(skeletons: Path):
    assert isinstance(LinearConfig(statistics="changes").takes(), ClipInput)
    with pytest.raises(RecipeError, match="model 'linear' takes video, but data set 'msr_action3d' holds skeletons"):
        linear_recipe(tiny_recipe(skeletons), statistics="changes")


def fused_recipe(recipe: Recipe, statistics: str) -> Recipe:
    tree = dump(recipe)
    network = tree["model"] | {"dropout": 0.0}
    tree["model"] = {"name": "fused", "network": network, "linear": {"statistics": statistics}, "weight": 0.4}
    stages = [
        {"name": "network", "epochs": 1, "model": {"weight": 0.0}},
        {"name": "fused", "epochs": 0, "init_from": {"network.": "network"}},
    ]
    tree["train"] |= {"stages": stages}
    return recipe_from(tree)


def test_a_network_is_trained_alone_and_fused_then(videos: Path, tmp_path: Path):
    """Its probabilities are the weighted mean of those of the network, trained by itself, and of the linear model."""
    plain = tiny_clip_recipe(videos, epochs=1)
    folders = {
        "fused": train(fused_recipe(plain, "frames"), tmp_path / "fused"),
        "network": train(plain, tmp_path / "network"),
        "linear": train(linear_recipe(plain, statistics="frames"), tmp_path / "linear"),
    }
    scores = {}
    for name, run in folders.items():
        prediction = muybridge.load(run.path)(videos / "dusk" / "d_1.mp4")
        scores[name] = dict(zip(prediction.labels, prediction.scores, strict=True))
    for label in ("dawn", "dusk"):
        expected = 0.6 * scores["network"][label] + 0.4 * scores["linear"][label]
        assert scores["fused"][label] == pytest.approx(expected, abs=1e-4)


def test_maps_are_those_of_the_network(skeletons: Path, tmp_path: Path):
    run = train(fused_recipe(tiny_recipe(skeletons, epochs=1), "as recorded"), tmp_path / "run")
    assert evaluate(run).count > 0
    prediction = muybridge.load(run.path)(next(skeletons.glob("*.txt")))
    assert {"alpha", "beta"} <= set(prediction.maps)


@pytest.mark.filterwarnings("ignore")  # the exporter warns about itself
@pytest.mark.parametrize("kind", ["linear", "fused"])
def test_a_run_is_exported_with_its_statistics(kind: str, skeletons: Path, tmp_path: Path):
    recipe = tiny_recipe(skeletons, epochs=1)
    recipe = linear_recipe(recipe) if kind == "linear" else fused_recipe(recipe, "as recorded")
    run = train(recipe, tmp_path / "run")
    exported = export_run(run.path)
    assert "statistics" in exported.inputs
    recording = next(skeletons.glob("*.txt"))
    answers = [muybridge.load(path)(recording) for path in (run.path, exported.path)]
    assert answers[0].labels == answers[1].labels
    assert answers[0].scores == pytest.approx(answers[1].scores, abs=1e-4)


def test_several_views_of_a_video_have_the_same_statistics(videos: Path, tmp_path: Path):
    recipe = fused_recipe(tiny_clip_recipe(videos, epochs=1), "frames").with_settings({"view.clips": 2})
    record = recipe.data.index("test").records[0]
    with recipe.data.open(record) as video:  # pyright: ignore[reportGeneralTypeIssues]
        inputs, _ = recipe.preparation()(video)
    assert len(inputs["video"]) == len(inputs["statistics"]) == 2
    assert torch.equal(*inputs["statistics"])
    assert evaluate(train(recipe, tmp_path / "run")).count == 4


def test_a_mean_needs_both_kinds_to_be_the_same(skeletons: Path):
    with pytest.raises(RecipeError, match="statistics of videos, and its network takes skeletons"):
        fused_recipe(tiny_recipe(skeletons), "frames")
