"""The recipes on NTU RGB+D: the papers' settings, and a training on a miniature in the form of the official files."""

from pathlib import Path

import numpy as np
import pytest

from muybridge.engine.evaluate import evaluate
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.models import STALSTMConfig
from muybridge.recipe import Adam, Recipe, dump, load_recipe
from tests.official import put

STA_LSTM = ["sta_lstm_ntu60_xsub", "sta_lstm_ntu60_xview"]
DRNN = ["drnn_ntu60_xsub", "drnn_ntu60_xview"]
ACTIONS = {1: 0.1, 23: 0.0, 60: -0.1}  # what a hand does in each frame, in metres
ITERATIONS = {"temporal_1": 5000, "temporal_2": 1000, "temporal_3": 500, "spatial_1": 5000, "spatial_2": 1000}
ITERATIONS |= {"spatial_3": 500, "joint_1": 1000, "joint_2": 500}
CPU = Runtime(device="cpu")


def write_skeletons(folder: Path) -> None:
    """Every action of people 1 and 38, who train across subjects, and of 3, who tests, before each camera."""
    rng = np.random.default_rng(0)
    body = rng.normal(size=(25, 3))
    for person in (1, 3, 38):
        for camera in (1, 2, 3):
            for repetition in (1, 2):
                for action, speed in ACTIONS.items():
                    joints = np.repeat(body[None] * (1 + 0.01 * person), 8 + camera, axis=0)
                    joints[:, 11, 1] += speed * np.arange(len(joints))
                    joints += 0.002 * rng.normal(size=joints.shape)
                    name = f"S001C{camera:03}P{person:03}R{repetition:03}A{action:03}"
                    put(folder / "nturgb+d_skeletons" / f"{name}.skeleton", skeleton_text(joints))
    listed = "S001C001P003R001A001"
    put(folder / "NTU_RGBD_samples_with_missing_skeletons.txt", f"1 sample\n\n{listed}\n")


def skeleton_text(joints: np.ndarray) -> str:
    """One body in every frame: its line of ten values, and twelve values for each joint."""
    lines = [str(len(joints))]
    for frame in joints:
        lines += ["1", "72057594037931101 0 1 1 1 1 0 0.02 -0.2 2", "25"]
        lines += [" ".join(f"{value:.6f}" for value in [*joint, *[0.0] * 8]) + " 2" for joint in frame]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_skeletons(root / "ntu_rgbd")
    return root


@pytest.mark.parametrize("name", STA_LSTM)
def test_stages_are_those_of_the_paper(name: str):
    recipe = load_recipe(name)
    assert {stage.name: stage.iterations for stage in recipe.stages()} == ITERATIONS
    assert (recipe.train.batch_size, recipe.train.optimizer) == (256, Adam(lr=1e-3))
    final = recipe.stage_model(recipe.stages()[-1])
    assert isinstance(final, STALSTMConfig)
    assert (final.attention, final.hidden, final.layers, final.dropout) == ("both", 100, 3, 0.5)
    assert (final.lambda_spatial, final.lambda_temporal, final.max_frames) == (1e-3, 1e-4, 0)
    promise = recipe.expects
    assert promise is not None
    assert promise.top1 == (73.4 if name.endswith("xsub") else 81.2)


def shortened(name: str, **settings) -> Recipe:
    """The recipe with a few iterations of each stage."""
    tree = dump(load_recipe(name))
    for stage in tree["train"]["stages"]:
        stage["iterations"] = 3
    small = {"train.num_workers": 0, "train.precision": "32-true", "train.save_seconds": 1e9}
    return Recipe.model_validate(tree).with_settings(small | settings)


@pytest.mark.parametrize("name", STA_LSTM)
def test_all_stages_run_on_a_miniature(name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUYBRIDGE_DATA", str(root))
    recipe = shortened(name, **{"train.batch_size": 6})
    parts = {split: recipe.data.index(split) for split in ("train", "val", "test")}
    assert {record.group for record in parts["val"].records} == {"P038"}
    if name.endswith("xsub"):
        assert {record.group for record in parts["test"].records} == {"P003"}
        assert [excluded.id for excluded in parts["test"].excluded] == ["S001C001P003R001A001"]
    else:
        assert {record.id[5:8] for record in parts["test"].records} == {"001"}
        assert {record.id[5:8] for record in parts["train"].records} == {"002", "003"}
    run = train(recipe, tmp_path / "run", runtime=CPU)
    assert (run.path / "stages" / "spatial_3.safetensors").exists()
    assert 0 <= evaluate(run, "test", runtime=CPU).top1 <= 100


@pytest.mark.parametrize("name", DRNN)
def test_drnn_learns_a_miniature(name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUYBRIDGE_DATA", str(root))
    small = {"model.hidden": 24, "train.batch_size": 12, "train.epochs": 20, "train.ema_decay": 0.0}
    small |= {"model.dropout": 0.0, "model.input_dropout": 0.0, "train.label_smoothing": 0.0}
    run = train(shortened(name, **small, **{"train.optimizer.lr": 0.02}), tmp_path / "run", runtime=CPU)
    assert evaluate(run, "test", runtime=CPU).top1 > 80  # of 60 classes, three of which are seen
