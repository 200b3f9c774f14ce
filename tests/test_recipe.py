"""Recipes: what is written is what runs, and what is misspelt is told."""

from pathlib import Path

import pytest
import tomli_w
from pydantic import ValidationError

from muybridge.core.errors import RecipeError
from muybridge.recipe import Recipe, dump, folder_recipe, load_recipe, parse_settings, save_recipe, starter
from tests.tiny import tiny_recipe, write_recordings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_recipe(tiny_recipe(tmp_path), tmp_path / "recipe.toml")
    return tmp_path / "recipe.toml"


def test_round_trip(file: Path, tmp_path: Path):
    recipe = load_recipe(file)
    assert recipe == tiny_recipe(tmp_path)
    save_recipe(recipe, file)
    assert load_recipe(file) == recipe


def test_settings_replace_knobs(file: Path):
    recipe = load_recipe(file, parse_settings(["train.seed=7", "model.hidden=12", 'data.val_groups=["s01"]']))
    assert (recipe.train.seed, recipe.model.hidden, recipe.data.val_groups) == (7, 12, ("s01",))
    assert load_recipe(file, parse_settings(["title=two words"])).title == "two words"


def test_a_setting_without_value():
    with pytest.raises(RecipeError, match=r"--set train\.seed. Expected KNOB=VALUE"):
        parse_settings(["train.seed"])


@pytest.mark.parametrize(
    ("knob", "said"),
    [
        ("train.epoch", r"recipe\.toml: unknown knob train\.epoch \(did you mean epochs\?\)"),
        ("model.hiden", r"unknown knob model\.hiden \(did you mean hidden\?\)"),
        ("data.rot", r"unknown knob data\.rot \(did you mean root\?\)"),
        ("augment.skeleton.rotat", r"unknown knob augment\.skeleton\.rotat"),
        ("train.optimizer.learning_rate", r"unknown knob train\.optimizer\.learning_rate"),
    ],
)
def test_a_misspelt_knob(file: Path, knob: str, said: str):
    with pytest.raises(RecipeError, match=said):
        load_recipe(file, {knob: 1})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train.epochs": 0}, r"train\.epochs: .*greater than 0, got 0"),
        ({"train.epochs": "many"}, r"train\.epochs: .*got 'many'"),
        ({"train.optimizer": {"name": "adma"}}, r"train\.optimizer: .*'sgd'"),
        ({"model.name": "drn"}, r"model: .*'sta_lstm'"),
        ({"expects.tolerance": 1.0}, r"expects: \[expects\] needs top1 or mean_class_accuracy"),
        ({"train.stages": [{"name": "A"}]}, r"stage 'A' needs either epochs or iterations"),
        ({"train.stages": [{"name": "A", "epochs": 1}] * 2}, "unique words"),
        (
            {"train.stages": [{"name": "A", "epochs": 1, "init_from": {"": "Z"}}]},
            "takes from 'Z', which is no earlier stage",
        ),
        ({"train.stages": [{"name": "A", "epochs": 1, "model": {"hiden": 1}}]}, "hiden"),
    ],
)
def test_a_wrong_value(file: Path, settings: dict, said: str):
    with pytest.raises(RecipeError, match=said):
        load_recipe(file, settings)


def test_a_missing_table(tmp_path: Path):
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps({"model": {"name": "sta_lstm"}}))
    with pytest.raises(RecipeError, match=r"data is missing"):
        load_recipe(tmp_path / "recipe.toml")


def test_no_such_recipe():
    with pytest.raises(RecipeError, match=r"sta_lstm_sbuu: no such recipe.*Did you mean .*sta_lstm_sbu"):
        load_recipe("sta_lstm_sbuu")


def test_not_toml(tmp_path: Path):
    (tmp_path / "recipe.toml").write_text("model: drnn")
    with pytest.raises(RecipeError, match="not readable as TOML"):
        load_recipe(tmp_path / "recipe.toml")


def test_a_recipe_for_a_folder(tmp_path: Path):
    for action in ("up", "down"):
        write_recordings(tmp_path / "data" / action)
    recipe = folder_recipe("sta_lstm", tmp_path / "data", {"data.group": r"_(s\d+)_", "train.epochs": 2})
    assert recipe.data.labels() == ("down", "up")
    assert recipe.train.epochs == 2
    (tmp_path / "mine.toml").write_text(starter("sta_lstm", tmp_path / "data"))
    assert load_recipe(tmp_path / "mine.toml").data.labels() == ("down", "up")
    with pytest.raises(RecipeError, match="no model 'stalstm'"):
        starter("stalstm", None)


def test_a_dump_is_complete(tmp_path: Path):
    recipe = tiny_recipe(tmp_path)
    assert Recipe.model_validate(dump(recipe)) == recipe
    assert "label_smoothing" in dump(recipe)["train"]


def test_a_stride_that_would_change_nothing_is_refused():
    tree = {"model": {"name": "tsn", "backbone": "resnet18"}, "data": {"name": "moving_shapes"}, "view": {"stride": 2}}
    with pytest.raises(ValidationError, match=r"view\.stride lies between the frames of a window"):
        Recipe.model_validate(tree)
    assert Recipe.model_validate(tree | {"view": {"stride": 2, "mode": "clips"}})
    assert Recipe.model_validate(tree | {"model": {"name": "tdn", "backbone": "resnet18"}})
