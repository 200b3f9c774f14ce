"""What starting recipes take from the user's recordings, and the reasons they give."""

import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.contracts import SkeletonData
from muybridge.core.skeletons import LAYOUTS
from muybridge.engine.checkpoint import RunFolder
from muybridge.models.sta_lstm import STALSTMConfig
from muybridge.models.sta_lstm.network import STALSTM
from muybridge.recipe import adapted, flat_settings, folder_recipe, load_recipe, own_data, save_recipe
from tests.skeletons import figure
from tests.tiny import write_videos


def skeletons(root: Path, people: int = 1, coordinates: int = 3, count: int = 4) -> Path:
    for action in ("wave left hand", "wave right hand"):
        for take in range(count):
            joints = figure("kinect20", action, person=take + 1)[..., :coordinates]
            path = root / action / f"s{take}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, joints=np.stack([joints + 0.5 * number for number in range(people)], 1))
    return root


def chosen(model: str, root: Path, **given: Any) -> tuple[dict[str, Any], dict[str, str]]:
    recipe = folder_recipe(model, root, {"data.layout": "kinect20"} | given)
    return flat_settings(recipe), dict(recipe.reasons)


@pytest.mark.parametrize("model", ["drnn", "sta_lstm"])
def test_few_recordings_are_passed_over_more_often(tmp_path: Path, model: str) -> None:
    settings, reasons = chosen(model, skeletons(tmp_path))
    assert settings["train.epochs"] == own_data.MAX_EPOCHS
    assert "are 1 step an epoch; this makes 300" in reasons["train.epochs"]


def test_many_recordings_keep_the_epochs(tmp_path: Path) -> None:
    settings, reasons = chosen("drnn", skeletons(tmp_path, count=12), **{"train.batch_size": 1})
    assert settings["train.epochs"] == max(60, -(-own_data.SKELETON_STEPS // 16))
    recipe = load_recipe("folder_drnn", {"data.root": str(tmp_path), "data.layout": "kinect20"})
    assert own_data._length_choices(recipe, 32 * 15, own_data.SKELETON_STEPS) == []
    (choice,) = own_data._length_choices(recipe, 32 * 9, own_data.SKELETON_STEPS)
    assert (choice.value, choice.reason) == (100, "288 training recordings are 9 steps an epoch; this makes 900")
    assert set(reasons) <= {"train.epochs"}


def test_what_the_user_gives_stays(tmp_path: Path) -> None:
    root = skeletons(tmp_path, people=2)
    settings, reasons = chosen("drnn", root, **{"train.epochs": 3, "model.features": ["distance"]})
    assert (settings["train.epochs"], settings["model.features"]) == (3, ["distance"])
    assert not {"train.epochs", "model.features"} & set(reasons)


def test_what_follows_from_a_choice_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = skeletons(tmp_path / "skeletons", people=2)
    settings, reasons = chosen("drnn", root, **{"model.face_partner": False})
    assert settings["augment.skeleton.rotate"] > 0
    assert not {"augment.skeleton.rotate", "model.face_partner"} & set(reasons)
    monkeypatch.setattr(own_data, "weights_are_at_hand", lambda name: False)
    recipe = folder_recipe("tdn", write_videos(tmp_path / "videos"), {"model.pretrained": True})
    assert recipe.train.mixup == 0
    assert not {"train.optimizer.lr", "train.mixup", "view.clips", "model.pretrained"} & set(recipe.reasons)


@pytest.mark.parametrize("model", ["drnn", "sta_lstm"])
def test_two_people_are_seen_with_their_places(tmp_path: Path, model: str) -> None:
    settings, reasons = chosen(model, skeletons(tmp_path, people=2))
    assert settings["model.features"] == ["position", "movement"]
    assert settings["model.face_partner"]
    assert settings["augment.skeleton.swap_people"] == 0.5
    assert "2 people" in reasons["model.features"]


def test_skeletons_in_2d_are_turned_in_the_image_plane(tmp_path: Path) -> None:
    settings, reasons = chosen("sta_lstm", skeletons(tmp_path, coordinates=2, people=2))
    assert settings["augment.skeleton.tilt"] == 10.0
    assert "model.face_partner" not in reasons


def test_videos_without_weights_to_start_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_videos(tmp_path)
    monkeypatch.setattr(own_data, "weights_are_at_hand", lambda name: False)
    recipe = folder_recipe("tdn", root)
    assert (recipe.model.model_dump()["pretrained"], recipe.train.optimizer.lr, recipe.train.mixup) == (
        False,
        1e-3,
        0.2,
    )
    assert "hub cannot be reached" in recipe.reasons["model.pretrained"]
    assert recipe.model.model_dump()["size"] <= 64
    given = folder_recipe("tdn", root, {"model.pretrained": False, "model.size": 48, "train.mixup": 0.0})
    assert given.model.model_dump()["size"] == 48
    assert given.train.mixup == 0.0
    assert "model.pretrained" not in given.reasons


def test_videos_with_weights_keep_the_settings_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_videos(tmp_path)
    monkeypatch.setattr(own_data, "weights_are_at_hand", lambda name: True)
    monkeypatch.setattr(own_data, "_short_sides", lambda data, records: [480, 480])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    recipe = folder_recipe("tsn", root)
    assert recipe.model.model_dump()["pretrained"]
    assert recipe.train.mixup == 0.0
    assert recipe.model.model_dump()["size"] == 112
    assert recipe.reasons["model.size"] == "there is no GPU, and 224 pixels would take 4 times as long"


def test_reasons_are_written_into_the_recipe(tmp_path: Path) -> None:
    recipe = folder_recipe("drnn", skeletons(tmp_path / "data"), {"data.layout": "kinect20"})
    save_recipe(recipe, tmp_path / "recipe.toml")
    again = load_recipe(tmp_path / "recipe.toml")
    assert dict(again.reasons) == dict(recipe.reasons)
    assert again.train.epochs == recipe.train.epochs


def test_a_resumed_training_keeps_what_was_chosen(tmp_path: Path) -> None:
    root = skeletons(tmp_path)
    given = {"data.root": str(root), "data.layout": "kinect20"}
    first = adapted(load_recipe("folder_drnn", given), given)
    skeletons(tmp_path, count=9)
    earlier = first.model_copy(update={"train": first.train.model_copy(update={"epochs": 77})})
    again = adapted(load_recipe("folder_drnn", given), given, earlier)
    assert again.train.epochs == 77
    assert dict(again.reasons) == dict(first.reasons)


def test_commands_say_what_they_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    root = skeletons(tmp_path / "mine")
    runner = CliRunner()
    options = ["--model", "drnn", "--data", str(root), "--set", "data.layout=kinect20"]
    written = runner.invoke(app, ["init", "mine.toml", *options])
    assert written.exit_code == 0, written.output
    text = (tmp_path / "mine.toml").read_text()
    assert re.search("epochs = 300 +# . training recordings are 1 step an epoch", text)
    assert tomllib.loads(text)["train"]["epochs"] == own_data.MAX_EPOCHS
    dry = runner.invoke(app, ["train", *options, "--dry-run"])
    assert "settings that follow from the recordings" in dry.output
    assert "train.epochs = 300" in dry.output
    short = ["--set", "train.epochs=2", "--no-baseline", "--run", "run"]
    trained = runner.invoke(app, ["train", *options, *short])
    assert trained.exit_code == 0, trained.output
    assert RunFolder.open(tmp_path / "run").recipe().train.epochs == 2


def test_the_vector_of_a_joint_has_its_own_features() -> None:
    holds = SkeletonData(LAYOUTS["kinect20"])
    joints = torch.randn(2, 9, 1, 20, 3)
    length = torch.tensor([9, 7])
    config = STALSTMConfig(features=("position", "movement"))
    model = STALSTM(config, 3, holds).eval()
    vectors = model._joint_vectors(joints, length)
    assert vectors.shape == (2, 9, 1, 20, 6)
    apart = [
        STALSTM(STALSTMConfig(features=(name,)), 3, holds)._joint_vectors(joints, length) for name in config.features
    ]
    torch.testing.assert_close(vectors, torch.cat(apart, -1))
    model.calibrate([{"joints": joints, "length": length}])
    scaled = model._joint_vectors(joints, length)[0]
    torch.testing.assert_close(scaled[..., 3:].std(), torch.tensor(1.0), atol=0.25, rtol=0)
    assert model(joints, length).maps["alpha"].shape == (2, 9, 1, 20)
