"""Loading processes: stop signals are left to the main process, and what kills or forbids them is explained."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from torch.utils.data import DataLoader

from muybridge.core.errors import RunError
from muybridge.data.workers import WorkerLoader, explained_failures
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.train import train
from muybridge.recipe import save_recipe
from tests.test_train import assert_equal_weights
from tests.tiny import tiny_recipe, write_recordings


def start(tmp_path: Path, root: Path, **settings: object) -> subprocess.Popen[str]:
    """A process, in a group of its own, that trains with a loading process."""
    recipe = tiny_recipe(root, num_workers=1, save_seconds=1000.0, **settings)
    save_recipe(recipe, tmp_path / "recipe.toml")
    command = ("-m", "muybridge", "train", "recipe.toml", "--run", "run", "--device", "cpu")
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *command], cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_saves(tmp_path: Path, number: signal.Signals):
    """SLURM, ``docker stop`` and Ctrl-C; sent while the loading process starts, before it can ignore the signal."""
    root = write_recordings(tmp_path / "recordings")
    process = start(tmp_path, root, epochs=30)
    while process.poll() is None and not (tmp_path / "run" / "run.json").exists():
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None and children.exists() and len(children.read_text().split()) < 2:
        time.sleep(0.002)  # the resource tracker and the loading process
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "--resume" in err
    step = RunFolder.open(tmp_path / "run").read_state()["progress"]["step"]
    assert step > 0
    if number == signal.SIGTERM:
        recipe = RunFolder.open(tmp_path / "run").recipe().with_settings({"train.num_workers": 0})
        whole = train(recipe, tmp_path / "whole")
        resumed = train(recipe, tmp_path / "run", resume=True)
        assert_equal_weights(whole.path, resumed.path)


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("train()\n", True),
        ("log = getLogger(__name__)\ntrain()\n", True),
        ('if __name__ == "__main__":\n    train()\n', False),
        ('if "__main__" == __name__:\n    train()\n', False),
    ],
)
def test_a_script_that_every_process_would_run_again(
    text: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    script = ModuleType("__main__")
    script.__file__ = str(tmp_path / "script.py")
    (tmp_path / "script.py").write_text(text)
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.setattr(DataLoader, "__iter__", lambda _: iter(["started"]))
    loader = WorkerLoader([1], num_workers=1)
    if not refused:
        assert list(loader) == ["started"]
        return
    message = r'script\.py: each new process would run this script again.*`if __name__ == "__main__":`'
    with pytest.raises(RunError, match=message):
        iter(loader)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", r"died \(killed by signal Killed\).*batch_size"),
        ("DataLoader worker (pid(s) 7) exited unexpectedly", r"died \(it exited unexpectedly\)"),
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit.",
            r"of a lack of shared memory.*/dev/shm.*--shm-size",
        ),
    ],
)
def test_the_death_of_a_loading_process_is_explained(text: str, message: str):
    with pytest.raises(RunError, match=message), explained_failures():
        raise RuntimeError(text)


def test_other_failures_pass():
    with pytest.raises(RuntimeError, match="shapes"), explained_failures():
        raise RuntimeError("shapes differ")


def test_a_process_that_aborts_while_it_is_ended_is_no_failure(monkeypatch: pytest.MonkeyPatch):
    loader = WorkerLoader([1, 2, 3], num_workers=1, persistent_workers=True)
    iterator = iter(loader)
    next(iterator)
    (process,) = iterator._workers

    def shut_down() -> None:
        raise RuntimeError(f"DataLoader worker (pid {process.pid}) is killed by signal: Aborted.")

    monkeypatch.setattr(iterator, "_shutdown_workers", shut_down)
    loader.close()
    assert not process.is_alive()

    monkeypatch.undo()
    iterator = iter(loader)

    def fail() -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(iterator, "_shutdown_workers", fail)
    with pytest.raises(RuntimeError, match="something else"):
        loader.close()
    monkeypatch.undo()
    iterator._shutdown_workers()
