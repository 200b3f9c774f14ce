"""Parameters come from other runs whole, by name, with their shapes, and are the weights that the recipe names."""

import shutil
from pathlib import Path

import pytest
import torch

from muybridge.core.errors import RecipeError, RunError
from muybridge.engine.init_from import with_checksums
from muybridge.engine.initialize import build_model
from muybridge.engine.train import train
from muybridge.engine.weights import checksum, read_weights
from muybridge.recipe import Recipe, SourceRun
from tests.test_flow_path import flow_recipe
from tests.test_train import KillAt, KilledError, assert_equal_weights
from tests.tiny import tiny_clip_recipe, write_videos

TRUNK = "appearance.trunk."


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"), takes=1)


@pytest.fixture(scope="module")
def tsn(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained TSN."""
    run = tmp_path_factory.mktemp("runs") / "tsn"
    train(
        tiny_clip_recipe(root, epochs=1).with_settings(
            {"model.shift": False, "model.segments": 2, "model.backbone": "resnet18", "model.width": 64}
        ),
        run,
    )
    return run


def starting(root: Path, take: dict, architecture: str = "conv_alstm", **settings) -> Recipe:
    model = {"architecture": architecture, "backbone": "resnet18"} | settings.pop("model", {})
    return flow_recipe(root, model, epochs=1, save_seconds=0.0, init_from=take, **settings)


def test_a_backbone_is_taken_from_a_tsn_and_stays_as_it_was(root: Path, tsn: Path, tmp_path: Path):
    recipe = starting(root, {TRUNK: {"run": str(tsn), "prefix": "trunk."}})
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "run", report=KillAt(1))
    source = read_weights(tsn / "weights.safetensors")
    kept = tmp_path / "elsewhere"
    shutil.move(tsn, kept)
    try:
        with pytest.raises(RunError, match="no such folder"):
            with_checksums(recipe)
        run = train(_recipe_of(tmp_path / "run"), tmp_path / "run", resume=True)
    finally:
        shutil.move(kept, tsn)
    target = read_weights(run.path / "weights.safetensors")
    taken = {name: tensor for name, tensor in target.items() if name.startswith(TRUNK)}
    assert len(taken) == 120 == len([name for name in source if name.startswith("trunk.")])
    for name, tensor in taken.items():
        assert torch.equal(tensor, source[name.replace(TRUNK, "trunk.")])
    assert run.recipe().train.init_from[TRUNK] == SourceRun(run=tsn, prefix="trunk.", checksum=checksum(source))
    train(recipe, tmp_path / "again")
    assert_equal_weights(tmp_path / "run", tmp_path / "again")


def _recipe_of(run: Path) -> Recipe:
    from muybridge.engine.checkpoint import RunFolder

    return RunFolder.open(run).recipe()


def test_a_stage_takes_from_runs_and_from_stages_and_lower_levels_from_higher_ones(root: Path, tsn: Path):
    stages = [
        {"name": "flow", "epochs": 1, "model": {"architecture": "conv_lstm", "stream": "motion"}},
        {"name": "whole", "epochs": 1, "init_from": {"motion.": "flow", TRUNK: {"run": str(tsn), "prefix": "trunk."}}},
    ]
    recipe = flow_recipe(root, {"backbone": "resnet18", "out_index": -2}, stages=stages)
    model = build_model(recipe, recipe.train.stages[1], 1)
    source = read_weights(tsn / "weights.safetensors")
    taken = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(TRUNK)}
    assert len(taken) == 90  # without the last of four stages
    assert all(torch.equal(tensor, source[name.replace(TRUNK, "trunk.")]) for name, tensor in taken.items())


def test_color_filters_are_averaged_for_flow(root: Path, tsn: Path):
    take = {"motion.trunk.": {"run": str(tsn), "prefix": "trunk.", "average_channels": True}}
    recipe = starting(root, take, model={"stream": "motion"})
    target = build_model(recipe, recipe.stages()[0], 0).state_dict()["motion.trunk.stem.conv.weight"]
    source = read_weights(tsn / "weights.safetensors")["trunk.stem.conv.weight"]
    assert target.shape == (64, 2, 7, 7)
    for channel in range(2):
        torch.testing.assert_close(target[:, channel], source.mean(1))


@pytest.mark.parametrize(
    ("settings", "take", "message"),
    [
        (
            {},
            {"appearence.": {"run": "TSN"}},
            r"no parameters that begin with 'appearence\.'.*appearance\. or recurrent",
        ),
        ({}, {TRUNK: {"run": "TSN"}}, r"120 of the 120 .* appearance\.trunk\.stem.*begin with head\., trunk\."),
        (
            {"stream": "motion"},
            {"motion.trunk.": {"run": "TSN", "prefix": "trunk."}},
            r"trunk.stem.conv.weight is 64x3x7x7 in the file, and motion.trunk.stem.conv.weight is 64x2x7x7 here",
        ),
        (
            {"backbone": "resnet34"},
            {TRUNK: {"run": "TSN", "prefix": "trunk."}},
            r"parameters are not in the file, trunk\.stages\.0\.2",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_named(root: Path, tsn: Path, settings: dict, take: dict, message: str):
    take = {prefix: source | {"run": str(tsn)} for prefix, source in take.items()}
    recipe = starting(root, take, model=settings)
    with pytest.raises((RunError, RecipeError), match=f"(?s){message}"):
        build_model(recipe, recipe.stages()[0], 0)


def test_runs_that_are_missing_unfinished_or_changed_are_refused(root: Path, tsn: Path, tmp_path: Path):
    missing = starting(root, {TRUNK: {"run": str(tmp_path / "nowhere"), "prefix": "trunk."}})
    with pytest.raises(RunError, match=r"nowhere: no such folder"):
        train(missing, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    shutil.copytree(tsn, tmp_path / "open")
    (tmp_path / "open" / "state.pt").touch()
    with pytest.raises(RunError, match=r"its training has not ended.*muybridge train --run .*open --resume"):
        train(starting(root, {TRUNK: {"run": str(tmp_path / "open"), "prefix": "trunk."}}), tmp_path / "run")
    changed = starting(root, {TRUNK: {"run": str(tsn), "prefix": "trunk.", "checksum": "0" * 64}})
    with pytest.raises(RunError, match="its weights have changed since"):
        build_model(changed, changed.stages()[0], 0)


def test_stages_define_their_own_init_from(root: Path, tsn: Path):
    stages = [{"name": "one", "epochs": 1}]
    with pytest.raises(RecipeError, match="with stages, give init_from in the stage"):
        starting(root, {TRUNK: {"run": str(tsn)}}, stages=stages)
