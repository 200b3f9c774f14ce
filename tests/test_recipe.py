"""Recipes: what is written is what runs, and a mistake is reported with the setting that was meant."""

import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import tomli_w
from pydantic import ValidationError

from muybridge.core.errors import RecipeError
from muybridge.recipe import Recipe, dump, folder_recipe, load_recipe, parse_settings, save_recipe
from muybridge.recipe_schema import check_recipe, shipped_recipes
from muybridge.recipe_text import starter
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


def test_a_recipe_saved_by_an_editor_with_a_byte_order_mark(file: Path, tmp_path: Path):
    file.write_text("\ufeff" + file.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_recipe(file) == tiny_recipe(tmp_path)


def test_a_recipe_in_the_home_folder(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_recipe("~/recipe.toml") == tiny_recipe(tmp_path)


def test_settings_replace_values(file: Path):
    recipe = load_recipe(file, parse_settings(["train.seed=7", "model.hidden=12", 'data.val_groups=["s01"]']))
    assert (recipe.train.seed, recipe.model.hidden, recipe.data.val_groups) == (7, 12, ("s01",))
    assert load_recipe(file, parse_settings(["title=two words"])).title == "two words"


@pytest.mark.parametrize("word", ["train.seed", "=1"])
def test_a_setting_without_name_or_value(word: str):
    with pytest.raises(RecipeError, match=rf"--set {word}. Expected SETTING=VALUE"):
        parse_settings([word])


SLIPS = [
    ("epochs", r"unknown setting epochs \(did you mean train\.epochs\?\)"),
    ("train.epoch", r"unknown setting train\.epoch \(did you mean train\.epochs\?\)"),
    ("lr", r"unknown setting lr \(did you mean train\.optimizer\.lr\?\)"),
    ("optimizer.lr", r"unknown setting optimizer\.lr \(did you mean train\.optimizer\.lr\?\)"),
    ("learning_rate", r"unknown setting learning_rate \(did you mean train\.optimizer\.lr\?\)"),
    ("workers", r"unknown setting workers \(did you mean train\.num_workers\?\)"),
    ("rotate", r"unknown setting rotate \(did you mean augment\.skeleton\.rotate\?\)"),
    ("size", r"unknown setting size \(did you mean view\.size\?\)"),  # this model has none
    ("model.hiden", r"unknown setting model\.hiden for model\.name = 'sta_lstm' \(did you mean model\.hidden\?\)"),
    ("data.rot", r"unknown setting data\.rot for data\.name = 'msr_action3d' \(did you mean data\.root\?\)"),
    (
        "augment.skeleton.rotat",
        r"unknown setting augment\.skeleton\.rotat \(did you mean augment\.skeleton\.rotate\?\)",
    ),
    ("train.stages", r"unknown setting train\.stages\.epoch \(did you mean train\.stages\.epochs\?\)"),
    ("nothing.like.it", r"unknown setting nothing\.like\.it\. Expected"),
]


@pytest.mark.parametrize(("name", "message"), SLIPS)
def test_an_unknown_setting_names_the_one_that_was_meant(file: Path, name: str, message: str):
    value = [{"name": "a", "epoch": 1}] if name == "train.stages" else 1
    with pytest.raises(RecipeError, match=rf"^--set {name}=.*{message}.*Correct the --set"):
        load_recipe(file, {name: value})
    with pytest.raises(RecipeError, match=message):
        check_recipe(file, {name: value})


VALUES = [
    ({"train.batch_size": 0}, r"train\.batch_size is 0, and not above 0"),
    ({"train.epochs": "many"}, r"train\.epochs is 'many', and not an integer"),
    ({"train.seed": -1}, r"train\.seed is -1, and not at least 0"),
    ({"train.ema_decay": 1.0}, r"train\.ema_decay is 1\.0, and not below 1"),
    ({"augment.skeleton.mirror": 2}, r"augment\.skeleton\.mirror is 2, and not at most 1"),
    ({"train.optimizer.lr": "fast"}, r"train\.optimizer\.lr is 'fast', and not a number"),
    ({"train.compile": "maybe"}, r"train\.compile is 'maybe', and not true or false"),
    ({"train.schedule.name": "cosin"}, r"train\.schedule\.name is 'cosin', and not one of constant, step, cosine"),
    ({"train.optimizer": {"name": "adma"}}, r"train\.optimizer\.name is 'adma', and not one of adam, adamw, .*sgd"),
    ({"model.name": "drn"}, r"model\.name is 'drn', and not one of drnn, .*sta_lstm"),
    ({"model.hidden": [1]}, r"model\.hidden: .*valid integer, got \[1\]"),
    ({"expects.tolerance": 1.0}, r"expects: \[expects\] needs top1 or mean_class_accuracy"),
    ({"train.stages": [{"name": "A"}]}, r"stage 'A' needs either epochs or iterations"),
    ({"train.stages": [{"name": "A", "epochs": 1}] * 2}, "unique words"),
    (
        {"train.stages": [{"name": "A", "epochs": 1, "init_from": {"": "Z"}}]},
        "starts from 'Z', which is no earlier stage",
    ),
    ({"train.stages": [{"name": "A", "epochs": 1, "model": {"hiden": 1}}]}, "hiden"),
    (
        {"train.stages": [{"name": "A", "epochs": 1}], "train.init_from": {"": {"run": "runs/x"}}},
        "with stages, give init_from in the stage",
    ),
]


@pytest.mark.parametrize(("settings", "message"), VALUES)
def test_a_wrong_value(file: Path, settings: dict, message: str):
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(file, settings)
    assert str(caught.value.where).startswith("--set ")
    save_recipe_with(file, settings)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(file, {"train.num_workers": 1})
    assert caught.value.where == file  # now the file is at fault, and the --set beside it is not


def save_recipe_with(file: Path, settings: dict) -> None:
    """The recipe of a file with wrong values in it."""
    from muybridge.recipe_schema import merge_settings, read_recipe

    file.write_text(tomli_w.dumps(merge_settings(read_recipe(file), settings)))


def test_values_that_pydantic_converts_pass_the_quick_check(file: Path):
    settings = {"train.epochs": "3", "train.optimizer.lr": "1e-3", "train.compile": "yes", "model.hidden": 8.0}
    recipe = load_recipe(file, settings)
    assert (recipe.train.epochs, recipe.train.optimizer.lr, recipe.model.hidden) == (3, 1e-3, 8)


def test_a_slip_costs_no_import_of_torch(file: Path):
    code = (
        "import sys; sys.argv = ['muybridge', 'train', 'tdn_moving_shapes', '--set', 'epochs=3']\n"
        "from muybridge.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "did you mean train.epochs?" in ended.stderr
    assert "recipes/" not in ended.stderr
    began = time.process_time()
    check_recipe("tdn_moving_shapes", {"train.epochs": 3})
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_pass_the_quick_check(name: str):
    check_recipe(name)


def test_a_missing_table(tmp_path: Path):
    (tmp_path / "recipe.toml").write_text(tomli_w.dumps({"model": {"name": "sta_lstm"}}))
    with pytest.raises(RecipeError, match=r"recipe\.toml: data is missing.*Fix the recipe"):
        load_recipe(tmp_path / "recipe.toml")


def test_no_such_recipe():
    with pytest.raises(RecipeError, match=r"sta_lstm_sbuu: no such recipe.*Did you mean .*sta_lstm_sbu"):
        load_recipe("sta_lstm_sbuu")


def test_not_toml(tmp_path: Path):
    (tmp_path / "recipe.toml").write_text("model: drnn")
    with pytest.raises(RecipeError, match="not readable as TOML"):
        load_recipe(tmp_path / "recipe.toml")


def test_a_recipe_for_a_folder(tmp_path: Path):
    root = tmp_path / 'data "1"\\n'
    for action in ("up", "down"):
        write_recordings(root / action)
    recipe = folder_recipe("sta_lstm", root, {"data.group": r"_(s\d+)_", "train.epochs": 2})
    assert recipe.data.labels() == ("down", "up")
    assert recipe.train.epochs == 2
    (tmp_path / "mine.toml").write_text(starter("sta_lstm", {"data.root": str(root)}))
    assert load_recipe(tmp_path / "mine.toml").data.labels() == ("down", "up")
    with pytest.raises(RecipeError, match=r"no model 'stalstm'.*Did you mean sta_lstm"):
        starter("stalstm")


@pytest.mark.parametrize("model", ["drnn", "tdn"])
def test_a_starter_has_the_settings_it_was_given(model: str, tmp_path: Path):
    settings = {
        "data.root": str(tmp_path / 'a "quoted" folder'),
        "data.group": r"(s\d+)_",
        "train.epochs": 3,
        "train.optimizer.lr": 1e-4,
        "title": "mine",
        "expects.top1": 90.0,
    }
    text = starter(model, settings)
    before, after = tomllib.loads(starter(model)), tomllib.loads(text)
    root = {"root": settings["data.root"], "group": settings["data.group"]}
    assert after["data"] == before["data"] | root
    assert after["train"] == before["train"] | {"epochs": 3, "optimizer": before["train"]["optimizer"] | {"lr": 1e-4}}
    assert (after["model"], after["title"], after["expects"]) == (before["model"], "mine", {"top1": 90.0})
    comments = [line.partition("#")[2] for line in starter(model).splitlines() if not line.startswith("# group")]
    assert all(comment in text for comment in comments)
    with pytest.raises(RecipeError, match=r"unknown setting train\.epoch "):
        starter(model, {"train.epoch": 3})


def test_a_dump_is_complete(tmp_path: Path):
    recipe = tiny_recipe(tmp_path)
    assert Recipe.model_validate(dump(recipe)) == recipe
    assert "label_smoothing" in dump(recipe)["train"]


def test_a_stride_that_would_change_nothing_is_refused():
    tree = {"model": {"name": "tsn", "backbone": "resnet18"}, "data": {"name": "moving_shapes"}, "view": {"stride": 2}}
    with pytest.raises(ValidationError, match=r"view\.stride lies between the frames of a window"):
        Recipe.model_validate(tree)
    assert Recipe.model_validate(tree | {"view": {"stride": 2, "mode": "clips"}})
    with pytest.raises(ValidationError, match=r"spreads the frames over the whole video; leave view\.stride out"):
        Recipe.model_validate(tree | {"view": {"stride": 2, "mode": "uniform"}})
    assert Recipe.model_validate(tree | {"model": {"name": "tdn", "backbone": "resnet18"}})


def test_a_model_and_a_data_set_that_do_not_match(file: Path):
    message = "model 'tsn' takes video, but data set 'msr_action3d' holds skeletons"
    with pytest.raises(RecipeError, match=message):
        load_recipe(file, {"model": {"name": "tsn"}, "augment.skeleton": {}})


def test_a_misspelt_name_of_a_model(tmp_path: Path):
    path = tmp_path / "recipe.toml"
    path.write_text('[model]\nnmae = "tsn"\n')
    with pytest.raises(RecipeError, match=r"model\.name is missing \(did you mean name for nmae\?\)"):
        load_recipe(path)


def test_a_recipe_in_another_encoding(tmp_path: Path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(b'title = "caf\xe9"\n')
    with pytest.raises(RecipeError, match=r"it is not text in UTF-8.*Save it as UTF-8"):
        load_recipe(path)
