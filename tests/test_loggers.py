"""Other tools that are told how a training goes; none is told an epoch twice when a training is resumed."""

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from muybridge.core.errors import MissingExtraError
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.interrupt import InterruptedTrainingError
from muybridge.engine.journal import Journal
from muybridge.engine.loggers import Loggers, scalars_of
from muybridge.engine.train import train
from tests.tiny import tiny_recipe, write_recordings


def journal(run: Path) -> list[dict]:
    return [row for row in Journal(run / "journal.jsonl").rows() if "epoch" in row]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("loggers") / "data")


def test_the_table_has_the_numbers_of_the_journal(data: Path, tmp_path: Path):
    train(tiny_recipe(data, loggers=["csv"]), tmp_path / "run")
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = journal(tmp_path / "run")
    assert [row["step"] for row in rows] == ["5.0", "10.0", "15.0"]
    assert [float(row["train/loss"]) for row in rows] == [row["train"]["loss"] for row in expected]
    assert [float(row["lr"]) for row in rows] == [row["lr"] for row in expected]


def test_tensorboard_has_each_epoch_once_after_an_interruption(data: Path, tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = tiny_recipe(data, loggers=["tensorboard"], epochs=6)
    with pytest.raises(InterruptedTrainingError):
        train(recipe, tmp_path / "run", seconds=0.0)
    run = train(recipe, tmp_path / "run", resume=True)
    events = EventAccumulator(str(tmp_path / "run/tensorboard"))
    events.Reload()
    expected = journal(run.path)
    logged = events.Scalars("train/loss")
    assert [event.step for event in logged] == [1, 2, 3, 4, 5, 6]
    assert [event.value for event in logged] == pytest.approx([row["train"]["loss"] for row in expected])


class FakeWandB:
    """Keeps what it is told; like the real one, it goes on with a run of a known id."""

    def __init__(self) -> None:
        self.inits: list[dict] = []
        self.logged: list[tuple[int, dict]] = []
        self.finished = 0

    def init(self, **options):
        self.inits.append(options)
        return SimpleNamespace(id=options["id"] or "abc", log=self.log, finish=self.finish)

    def log(self, scalars: dict, step: int) -> None:
        self.logged.append((step, scalars))

    def finish(self) -> None:
        self.finished += 1


def test_weights_and_biases_resumes_the_run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    wandb = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    recipe = tiny_recipe(data, loggers=["wandb"])
    with pytest.raises(InterruptedTrainingError):
        train(recipe, tmp_path / "mine", seconds=0.0)
    train(recipe, tmp_path / "mine", resume=True)
    first, second = wandb.inits
    assert (first["id"], first["resume"], first["project"], first["name"]) == (None, None, "muybridge", "mine")
    assert (second["id"], second["resume"]) == ("abc", "allow")
    assert json.dumps(first["config"])
    assert first["config"]["model"]["hidden"] == 8
    assert [step for step, _ in wandb.logged] == [1, 2, 3]
    assert wandb.finished == 2


def test_a_missing_package_is_named_before_the_first_epoch(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'muybridge\[wandb\]'"):
        train(tiny_recipe(data, loggers=["wandb"]), tmp_path / "run")
    assert journal(tmp_path / "run") == []


def test_steps_go_on_where_the_journal_does(tmp_path: Path):
    for epoch in (1, 2):
        Journal(tmp_path / "journal.jsonl").write(stage="main", epoch=epoch, train={"loss": 1.0})
    with Loggers(["csv"], RunFolder(tmp_path), {}) as loggers:
        Journal(tmp_path / "journal.jsonl").write(stage="main", epoch=3, train={"loss": 0.5}, val={"top1": 50})
        loggers.epoch({})
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert rows[0] == "stage,epoch,train/loss,val/top1"
    assert rows[-1] == "main,3.0,0.5,50.0"


def test_only_numbers_are_logged():
    row = {"stage": "main", "epoch": 2, "train": {"loss": 0.5, "top1": 50}, "done": True, "val": {"top1": 40.0}}
    assert scalars_of(row) == {"epoch": 2.0, "train/loss": 0.5, "train/top1": 50.0, "val/top1": 40.0}
