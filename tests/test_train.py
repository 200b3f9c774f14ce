"""The loop: it learns, repeats itself, survives interruption bit for bit, and trains in stages."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from muybridge.core.errors import DataError, RecipeError, RunError
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.interrupt import InterruptedTrainingError
from muybridge.engine.journal import Journal, Reporter
from muybridge.engine.stage import update_ema
from muybridge.engine.train import train
from muybridge.recipe import Recipe, save_recipe
from tests.tiny import tiny_recipe, write_recordings


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings"))


def weights(run: Path, name: str = "weights") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / f"{name}.safetensors")


def assert_equal_weights(one: Path, other: Path, name: str = "weights") -> None:
    first, second = weights(one, name), weights(other, name)
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]), key


class KilledError(Exception):
    """Stands for a process that is gone."""


class KillAt(Reporter):
    """Kills the training after a number of steps, at a place where nothing can be cleaned up."""

    def __init__(self, steps: int) -> None:
        super().__init__(quiet=True)
        self.left = steps

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KilledError


class StopAt(KillAt):
    """Presses Ctrl-C after a number of steps."""

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_training_learns(root: Path, tmp_path: Path):
    recipe = tiny_recipe(root, epochs=25, clip_grad_norm=1.0, save_seconds=30.0)
    scores = evaluate(train(recipe, tmp_path / "run"))
    rows = Journal(tmp_path / "run" / "journal.jsonl").rows()
    assert [row["epoch"] for row in rows] == list(range(1, 26))
    assert rows[-1]["train"]["cross_entropy"] < 0.5 * rows[0]["train"]["cross_entropy"]
    assert scores.top1 > 60  # three actions occur
    assert scores.count == 24


def test_the_terms_of_the_loss_are_logged_and_add_up(root: Path, tmp_path: Path):
    train(tiny_recipe(root, epochs=1), tmp_path / "run")
    metrics = Journal(tmp_path / "run" / "journal.jsonl").rows()[0]["train"]
    terms = {"cross_entropy", "spatial_attention", "temporal_attention", "weight_l1"}
    assert metrics.keys() == terms | {"loss", "top1"}
    assert metrics["loss"] == pytest.approx(sum(metrics[term] for term in terms), rel=1e-5)


def test_same_seed_same_weights_whatever_the_workers(root: Path, tmp_path: Path):
    train(tiny_recipe(root), tmp_path / "alone")
    train(tiny_recipe(root, num_workers=2), tmp_path / "helped")
    assert_equal_weights(tmp_path / "alone", tmp_path / "helped")


def test_another_seed_gives_other_weights(root: Path, tmp_path: Path):
    train(tiny_recipe(root, epochs=1), tmp_path / "0")
    train(tiny_recipe(root, epochs=1, seed=1), tmp_path / "1")
    assert any(not torch.equal(a, weights(tmp_path / "1")[k]) for k, a in weights(tmp_path / "0").items())


STAGED = [
    {"name": "A", "model": {"attention": "temporal"}, "epochs": 1},
    {
        "name": "B",
        "init_from": {"temporal": "A"},
        "freeze": ["temporal"],
        "iterations": 3,
        "optimizer": {"name": "sgd"},
    },
    {"name": "C", "init_from": {"": "B"}, "epochs": 1},
]


@pytest.mark.parametrize("steps", [0, 1, 4, 5, 7, 9, 12])
@pytest.mark.parametrize("staged", [False, True])
def test_killed_anywhere_it_resumes_bit_for_bit(root: Path, tmp_path: Path, steps: int, staged: bool):
    settings = {"ema_decay": 0.9, "clip_grad_norm": 0.5} | ({"stages": STAGED} if staged else {})
    recipe = tiny_recipe(root, **settings)
    train(recipe, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "killed", report=KillAt(steps))
    train(recipe, tmp_path / "killed", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "killed")
    whole, killed = (Journal(tmp_path / run / "journal.jsonl").rows() for run in ("whole", "killed"))
    assert [(row["stage"], row["step"]) for row in whole] == [(row["stage"], row["step"]) for row in killed]
    for expected, resumed in zip(whole, killed, strict=True):
        assert expected["train"] == pytest.approx(resumed["train"], rel=1e-6)


def test_ctrl_c_saves_and_reports_how_to_resume(root: Path, tmp_path: Path):
    recipe = tiny_recipe(root, save_seconds=1000.0)
    train(recipe, tmp_path / "whole")
    with pytest.raises(InterruptedTrainingError, match=r"step 7 of 15; .* --resume"):
        train(recipe, tmp_path / "stopped", report=StopAt(7))
    assert torch.load(tmp_path / "stopped" / "state.pt", weights_only=True)["progress"]["step"] == 7
    train(recipe, tmp_path / "stopped", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.slow
def test_kill_9_of_a_real_process(root: Path, tmp_path: Path):
    recipe = tiny_recipe(root, epochs=20, save_seconds=0.05)
    save_recipe(recipe, tmp_path / "recipe.toml")
    command = [
        sys.executable,
        "-m",
        "muybridge",
        "train",
        str(tmp_path / "recipe.toml"),
        "--run",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    journal = Journal(tmp_path / "run" / "journal.jsonl")
    while process.poll() is None and len(journal.rows()) < 3:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not RunFolder.open(tmp_path / "run").finished
    train(recipe, tmp_path / "whole")
    train(recipe, tmp_path / "run", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "run")


def test_a_finished_run_is_not_redone(root: Path, tmp_path: Path):
    recipe = tiny_recipe(root, epochs=1)
    train(recipe, tmp_path / "run")
    before = (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns
    train(recipe, tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns == before


def test_stages_take_freeze_and_change_the_model(root: Path, tmp_path: Path):
    run = train(tiny_recipe(root, stages=STAGED), tmp_path / "run")
    first, second = weights(run.path, "stages/A"), weights(run.path, "stages/B")
    assert not any(key.startswith("spatial") for key in first)
    temporal = [key for key in first if key.startswith("temporal")]
    assert temporal
    for key in temporal:
        assert torch.equal(first[key], second[key]), key
    assert any(not torch.equal(first[key], second[key]) for key in first if key.startswith("main"))
    assert_equal_weights(run.path, run.path)
    for key, tensor in weights(run.path, "stages/C").items():
        assert torch.equal(tensor, weights(run.path)[key])


def test_accumulated_gradients_give_the_same_step(root: Path, tmp_path: Path):
    exact = {"epochs": 1, "precision": "64-true", "optimizer": {"name": "sgd", "lr": 0.1}}
    recipes = (tiny_recipe(root, **exact), tiny_recipe(root, accumulate_steps=3, **exact))
    for name, recipe in zip(("whole", "pieces"), recipes, strict=True):
        # Dropout would sample other masks for other parts of the batch.
        train(recipe.with_settings({"model.dropout": 0.0}), tmp_path / name)
    for key, tensor in weights(tmp_path / "whole").items():
        torch.testing.assert_close(tensor, weights(tmp_path / "pieces")[key], rtol=1e-9, atol=1e-12)


def test_the_ema_follows_the_weights():
    average, model = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(average.weight)
    torch.nn.init.ones_(model.weight)
    update_ema(average, model, decay=0.75, step=1000)
    assert average.weight.item() == pytest.approx(0.25)
    update_ema(average, model, decay=0.75, step=0)  # early: decay 1/10
    assert average.weight.item() == pytest.approx(0.25 * 0.1 + 0.9)


def test_validation_is_logged_and_the_best_epoch_kept(root: Path, tmp_path: Path):
    recipe = tiny_recipe(root, epochs=6, checkpoint="best").with_settings({"data.val_groups": ["s03"]})
    run = train(recipe, tmp_path / "run")
    rows = Journal(run.path / "journal.jsonl").rows()
    best = max(row["val"]["top1"] for row in rows)
    assert evaluate(run, "val").top1 == pytest.approx(best)
    assert evaluate(run, "val").count == 12


def test_keeping_the_best_needs_validation(root: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"no validation part.*val_groups"):
        train(tiny_recipe(root, checkpoint="best"), tmp_path / "run")


def test_divergence_is_reported(root: Path, tmp_path: Path):
    recipe = tiny_recipe(root, optimizer={"name": "sgd", "lr": 1e30})
    with pytest.raises(RunError, match=r"diverged.*Lower train.optimizer.lr"):
        train(recipe, tmp_path / "run")


def test_a_run_cannot_be_resumed_with_another_recipe(root: Path, tmp_path: Path):
    train(tiny_recipe(root, epochs=1), tmp_path / "run")
    with pytest.raises(RunError, match=r"already contains a run.*--resume"):
        train(tiny_recipe(root, epochs=1), tmp_path / "run")
    with pytest.raises(RunError, match=r"other settings: train\.batch_size is 5 there and 6 here"):
        train(tiny_recipe(root, epochs=1, batch_size=6), tmp_path / "run", resume=True)
    with pytest.raises(RunError, match=r"train\.epochs is 1 there and 60 here.*new run from its weights .*--init-from"):
        train(tiny_recipe(root, epochs=60), tmp_path / "run", resume=True)
    # What never changes a result may differ.
    train(tiny_recipe(root, epochs=1, num_workers=1, save_seconds=9.0), tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    "optimizer", [{"name": "sgd", "nesterov": True}, {"name": "adam"}, {"name": "adamw"}, {"name": "rmsprop"}]
)
@pytest.mark.parametrize("shape", ["constant", "step", "cosine"])
def test_every_optimizer_and_schedule(root: Path, tmp_path: Path, optimizer: dict, shape: str):
    schedule = {"name": shape, "milestones": [1], "warmup_epochs": 0.5}
    recipe: Recipe = tiny_recipe(root, epochs=2, optimizer=optimizer, schedule=schedule, label_smoothing=0.1)
    train(recipe, tmp_path / "run")
    rates = [row["lr"] for row in Journal(tmp_path / "run" / "journal.jsonl").rows()]
    assert (rates[1] == pytest.approx(rates[0])) == (shape == "constant")


def test_a_model_that_cannot_be_built_leaves_no_run_behind(root: Path, tmp_path: Path):
    wrong = tiny_recipe(root, param_groups=[{"match": "nothing"}])
    with pytest.raises(RecipeError, match="no parameter belongs to it"):
        train(wrong, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("kept")
    with pytest.raises(RecipeError, match="no parameter belongs to it"):
        train(wrong, tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "kept"
