"""A training is alone in its process, starts no process that it does not need, and ends those that it started."""

import threading
from pathlib import Path

import pytest
from torch.utils.data import Dataset

from muybridge.core.errors import RecipeError, RunError
from muybridge.data.workers import WorkerLoader
from muybridge.engine import initialize
from muybridge.engine import train as training
from muybridge.engine.repeat import plan
from muybridge.models.base import Model
from tests.tiny import tiny_clip_recipe, tiny_recipe


def test_a_second_training_in_the_process_is_refused(tmp_path: Path):
    errors: list[RunError] = []

    def second() -> None:
        with pytest.raises(RunError, match=r"another training runs in this process.*`muybridge repeat --jobs") as error:
            training.train(tiny_recipe(tmp_path), tmp_path / "run")
        errors.append(error.value)

    with training._alone():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(errors) == 1
    assert not (tmp_path / "run").exists()
    with training._alone():  # released
        pass


def test_a_model_without_statistics_starts_no_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    started: list[int] = []
    closed: list[int] = []

    class Counted:
        def __iter__(self):
            started.append(1)
            return iter(())

        def close(self) -> None:
            closed.append(1)

    monkeypatch.setattr(initialize, "make_loader", lambda *_: Counted())
    initialize._calibrate(Model(), tiny_clip_recipe(tmp_path), [])  # pyright: ignore[reportArgumentType]
    assert started == []

    class Fitted(Model):
        def calibrate(self, batches) -> None:
            next(iter(batches), None)

    initialize._calibrate(Fitted(), tiny_clip_recipe(tmp_path), [])  # pyright: ignore[reportArgumentType]
    assert (started, closed) == ([1], [1])


class Numbers(Dataset[int]):
    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 4


def test_a_loader_that_is_given_up_early_leaves_no_process(capfd: pytest.CaptureFixture[str]):
    loader = WorkerLoader(Numbers(), num_workers=1, persistent_workers=True)
    processes = iter(loader)._workers
    loader.close()
    assert not any(process.is_alive() for process in processes)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(("seeds", "folds", "message"), [([0, 1, 0], None, "--seeds 0,1,0 repeats 0")])
def test_repeated_seeds_are_refused(tmp_path: Path, seeds: list[int], folds: list[str] | None, message: str):
    with pytest.raises(RecipeError, match=message):
        plan(tiny_recipe(tmp_path), tmp_path, seeds, folds)


def test_the_saved_epoch_is_compared_with_the_best():
    state = training.TrainState(best=90.0, best_epoch=1, last=90.0)
    assert "the last epoch, with the highest top-1 on val (90.0 %)" in training._describe_checkpoint(
        "last", state, "top-1"
    )
    state.last = 80.0
    assert "not the best one on val (epoch 1, val top-1 90.0 %)" in training._describe_checkpoint(
        "last", state, "top-1"
    )
