"""Several processes over gloo: every sample once, the answers of one process, and clear ends where one is gone."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.tensor import DTensor
from typer.testing import CliRunner

from muybridge import cli
from muybridge.cli.train import _without_option
from muybridge.core.errors import RecipeError, RunError
from muybridge.data.loader import BatchPlan, sequential_plan
from muybridge.engine import launch as launching
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.interrupt import stop_requests
from muybridge.engine.launch import launch, write_error
from muybridge.engine.runtime import LOST, Runtime, explained_errors
from muybridge.engine.sharding import (
    load_optimizer_state,
    shard_like,
    shard_module,
    whole_optimizer_state,
    whole_state,
)
from muybridge.engine.stage import update_ema
from muybridge.engine.train import train
from muybridge.recipe import Recipe, save_recipe
from tests.processes import LOST as LOST_STATUS
from tests.processes import (
    STOPPED,
    evaluate_run,
    gather,
    in_namespaces,
    run_together,
    slurm,
    started,
    torchrun,
    train_until,
)
from tests.tiny import tiny_recipe, write_recordings

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("count", "batch", "world"), [(10, 4, 1), (10, 4, 2), (9, 4, 2), (13, 4, 3), (5, 8, 4)])
def test_a_plan_deals_every_sample_once(count: int, batch: int, world: int):
    plans = [BatchPlan(count, batch, seed=3, rank=rank, world=world) for rank in range(world)]
    for epoch in (0, 1):
        for plan in plans:
            plan.start_at(epoch)
        steps = [list(plan) for plan in plans]
        assert len({len(one) for one in steps}) == 1
        assert all(share for one in steps for share in one), "no process may be without samples"
        assert sorted(index for one in steps for share in one for _, index in share) == list(range(count))
    first = BatchPlan(count, batch, seed=3)
    orders = [[index for step in plan.steps() for _, index in step] for plan in (plans[0], first)]
    assert orders[0] != orders[1]  # the second epoch is shuffled anew


def test_a_plan_goes_on_in_the_middle():
    plan = BatchPlan(10, 3, seed=1)
    plan.start_at(4)
    whole = list(plan)
    plan.start_at(4, 2)
    assert list(plan) == whole[2:]
    assert len(plan) == 2


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_testing_deals_every_sample_once(world: int):
    shares = [sequential_plan(5, 2, rank, world) for rank in range(world)]
    assert sorted(index for share in shares for step in share for _, index in step) == list(range(5))


@pytest.mark.slow
def test_tasks_of_slurm_find_each_other(tmp_path: Path):
    assert run_together(gather, slurm(2), tmp_path) == [0, 0]
    assert [(tmp_path / str(rank)).read_text() for rank in range(2)] == ["[0, 1] 2"] * 2


@pytest.mark.slow
def test_an_address_at_which_nobody_waits_is_told(tmp_path: Path):
    lonely = torchrun(2)[1]
    assert run_together(gather, [lonely], tmp_path, 1.0) == [LOST_STATUS]
    place = f"127.0.0.1:{lonely['MASTER_PORT']}"
    assert f"{LOST}: the 2 processes did not find each other at {place}" in (tmp_path / "error").read_text()


def test_one_process_inside_of_a_job_of_slurm_is_one(monkeypatch: pytest.MonkeyPatch):
    for name in ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "SLURM_NNODES"):
        monkeypatch.setenv(name, "2")
    assert Runtime("32-true", "cpu").world_size == 1


# Shares of parameters


@pytest.fixture
def mesh() -> Iterator[object]:
    """A mesh of this process alone."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    torch.distributed.destroy_process_group()


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.Flatten(), torch.nn.Linear(80, 3)
    return torch.nn.Sequential(*layers).to(memory_format=torch.channels_last)


def train_a_little(model: torch.nn.Module, optimizer: torch.optim.Optimizer, average: torch.nn.Module) -> None:
    rng = torch.Generator().manual_seed(1)
    for step in range(3):
        loss = model(torch.randn(4, 3, 6, 6, generator=rng)).square().mean()
        loss = loss + 0.01 * torch.stack([weight.abs().sum() for weight in model.parameters()]).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        update_ema(average, model, 0.9, step)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_shares_train_as_the_whole_and_states_move_between_them(mesh, kind):
    plain, shared = network(), shard_module(network(), mesh)
    averages = copy.deepcopy(plain), shard_like(network(), shared)
    assert all(isinstance(parameter, DTensor) for module in (shared, averages[1]) for parameter in module.parameters())
    settings = {"lr": 0.01, **({"momentum": 0.9} if kind is torch.optim.SGD else {})}
    optimizers = [kind(model.parameters(), **settings) for model in (plain, shared)]
    for model, optimizer, average in zip((plain, shared), optimizers, averages, strict=True):
        train_a_little(model, optimizer, average)
    torch.testing.assert_close(whole_state(shared), dict(plain.state_dict()))
    torch.testing.assert_close(whole_state(averages[1]), dict(averages[0].state_dict()))
    states = [whole_optimizer_state(optimizer) for optimizer in optimizers]
    torch.testing.assert_close(states[0]["state"], states[1]["state"])
    # What was saved of one goes on as the other.
    again = shard_module(network(), mesh)
    load_optimizer_state(kind(again.parameters(), **settings), states[0])
    other = kind(network().parameters(), **settings)
    load_optimizer_state(other, states[1])
    torch.testing.assert_close(other.state_dict()["state"], states[0]["state"])
    optimizer = kind(again.parameters(), **settings)
    load_optimizer_state(optimizer, states[0])
    torch.testing.assert_close(whole_optimizer_state(optimizer)["state"], states[0]["state"])
    assert whole_state(shared, keep=False) == {}


# Processes that end


def exact_recipe(root: Path, strategy: str) -> Recipe:
    """Without dropout, whose masks depend on the number of processes."""
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    train = {"batch_size": 7, "epochs": 2, "optimizer": optimizer, "ema_decay": 0.9, "strategy": strategy}
    more = {"accumulate_steps": 2, "clip_grad_norm": 1.0}
    return tiny_recipe(root, **train, **more).with_settings({"model.dropout": 0.0, "data.val_groups": ["s03"]})


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def undisturbed(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a training in this process alone."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    train(exact_recipe(recordings, "ddp"), run, runtime=Runtime("32-true", "cpu"))
    return run


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "weights.safetensors")


@pytest.mark.slow
def test_four_processes_in_shares_resume_on_two(recordings: Path, tmp_path: Path, undisturbed: Path):
    recipe, run = exact_recipe(recordings, "fsdp"), tmp_path / "shared"
    assert run_together(train_until, torchrun(4), recipe, run, "stop") == [STOPPED] * 4
    rows = (run / "journal.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [2]  # it was stopped in the middle of an epoch
    assert run_together(train_until, torchrun(2), recipe, run, "") == [0, 0]
    torch.testing.assert_close(weights(run), weights(undisturbed), rtol=1e-5, atol=1e-6)
    journals = [(each / "journal.jsonl").read_text().splitlines() for each in (run, undisturbed)]
    for first, second in zip(*([json.loads(row) for row in rows] for rows in journals), strict=True):
        assert first["train"] == pytest.approx(second["train"], rel=1e-5)
        assert first["val"] == pytest.approx(second["val"], rel=1e-5)


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_rest(recordings: Path, tmp_path: Path):
    with started(train_until, torchrun(2), exact_recipe(recordings, "ddp"), tmp_path / "run", "hang") as processes:
        processes[0].join(120)
        assert [process.exitcode for process in processes] == [LOST_STATUS, None]


KILLED = """
import sys
from pathlib import Path
from muybridge.recipe import load_recipe
from tests.processes import train_until
train_until(load_recipe(sys.argv[1]), Path(sys.argv[2]), "kill")
"""


@pytest.mark.slow
def test_a_killed_process_ends_the_rest_and_the_training_resumes(
    recordings: Path, tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, run, script = exact_recipe(recordings, "fsdp"), tmp_path / "run", tmp_path / "killed.py"
    save_recipe(recipe, tmp_path / "recipe.toml")
    script.write_text(KILLED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "src")]))
    with pytest.raises(RunError, match=r"process 1 \(from 0\) of 2 was killed \(SIGKILL\), and the others were ended"):
        launch([str(script), str(tmp_path / "recipe.toml"), str(run)], 2)
    assert not (run / "weights.safetensors").exists()
    train(recipe, run, resume=True, runtime=Runtime("32-true", "cpu"))
    torch.testing.assert_close(weights(run), weights(undisturbed), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_two_processes_on_the_command_line_agree_with_one(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    # 24 recordings in batches of 7 leave shares of different size; without dropout both must take the same steps.
    exact = {"precision": "64-true", "batch_size": 7, "epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1}}
    recipe = tiny_recipe(recordings, **exact).with_settings({"model.dropout": 0.0, "data.val_groups": ["s03"]})
    save_recipe(recipe, tmp_path / "recipe.toml")
    one, two = tmp_path / "run1", tmp_path / "run2"
    for run, more in ((one, []), (two, ["--processes", "2"])):
        command = ["train", str(tmp_path / "recipe.toml"), "--run", str(run), "--device", "cpu", *more]
        monkeypatch.setattr(sys, "argv", ["muybridge", *command])
        assert CliRunner().invoke(cli.app, command).exit_code == 0
    assert capfd.readouterr().err.count("trained; next") == 1  # by the first of the two processes
    evaluate(RunFolder.open(one), runtime=Runtime("64-true", "cpu"))
    assert run_together(evaluate_run, torchrun(2), two, "other") == [LOST_STATUS] * 2
    assert not (two / "test.json").exists()
    assert run_together(evaluate_run, torchrun(2), two, "") == [0, 0]
    results = [json.loads((run / "test.json").read_text()) for run in (one, two)]
    assert results[0] == results[1]
    assert results[1]["count"] == 24
    ids = [line.split(",")[0] for line in (two / "test-predictions.csv").read_text().splitlines()[1:]]
    assert len(ids) == len(set(ids)) == 24
    for key, tensor in weights(one).items():
        torch.testing.assert_close(tensor, weights(two)[key], rtol=1e-7, atol=1e-9)
    rows = [[json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()] for run in (one, two)]
    for first, second in zip(*rows, strict=True):
        assert first["train"] == pytest.approx(second["train"], rel=1e-6)
        assert first["val"] == pytest.approx(second["val"], rel=1e-6)


HOSTS = (("a", "10.77.41.1"), ("b", "10.77.41.2"))


@pytest.fixture
def hosts() -> Iterator[list[dict[str, str]]]:
    """Two network namespaces with a cable between them: the environment of a process in each."""
    if shutil.which("ip") is None:
        pytest.skip("the program ip is not installed")
    names = {letter: f"muybridge-{os.getpid()}-{letter}" for letter, _ in HOSTS}
    links = {letter: f"mb{os.getpid() % 10**8}{letter}" for letter, _ in HOSTS}

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for name in names.values():
            try:
                ip("netns", "add", name)
            except subprocess.CalledProcessError:
                pytest.skip("network namespaces need rights that this user lacks")
        ip("link", "add", links["a"], "type", "veth", "peer", "name", links["b"])
        for letter, address in HOSTS:
            ip("link", "set", links[letter], "netns", names[letter])
            for words in (("addr", "add", f"{address}/24", "dev", links[letter]), ("link", "set", links[letter], "up")):
                ip("-n", names[letter], *words)
            ip("-n", names[letter], "link", "set", "lo", "up")
        yield in_namespaces([*names.values()], [address for _, address in HOSTS], [*links.values()])
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.slow
def test_two_hosts_train_as_one_process(
    recordings: Path, tmp_path: Path, hosts: list[dict[str, str]], undisturbed: Path
):
    assert run_together(train_until, hosts, exact_recipe(recordings, "fsdp"), tmp_path / "hosts", "") == [0, 0]
    torch.testing.assert_close(weights(tmp_path / "hosts"), weights(undisturbed), rtol=1e-5, atol=1e-6)


def failure(rank: int, status: int, text: str = "") -> ProcessFailure:
    made = ProcessFailure(rank, 1, status, "none")
    if text:
        made.message = {"message": text, "extraInfo": {"timestamp": 0}}  # pyright: ignore[reportAttributeAccessIssue]
    return made


def test_the_process_that_is_told_is_the_one_that_began_it():
    ended = [failure(0, 2, f"{LOST}. Expected"), failure(2, -signal.SIGTERM), failure(1, 2, "no such file.")]
    assert min(ended, key=launching._is_consequence).local_rank == 1
    assert min([*ended, failure(3, -signal.SIGKILL)], key=launching._is_consequence).local_rank == 3
    assert launching._explain(failure(0, 2, "any"), 2) == 2
    assert launching._explain(failure(1, 130, "stopped"), 2) == 130
    with pytest.raises(RunError, match=r"process 1 \(from 0\) of 2 ended with an error: no such file\. Expected all"):
        launching._explain(failure(1, 2, "no such file."), 2)
    with pytest.raises(RunError, match="its traceback is above"):
        launching._explain(failure(1, 1), 2)


def test_only_the_first_process_prints_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert not write_error("any")
    monkeypatch.setenv("MUYBRIDGE_LAUNCHED", "1")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    for rank, told_elsewhere in (("0", False), ("1", True)):
        monkeypatch.setenv("RANK", rank)
        assert write_error("wrong") is told_elsewhere
        assert ProcessFailure(1, 1, 2, str(tmp_path / "error.json")).message["message"] == "wrong"  # pyright: ignore


@pytest.mark.parametrize(
    "text",
    [
        "[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:5",
        "Timed out waiting 6000ms for recv operation to complete",
    ],
)
def test_the_loss_of_a_process_is_told(mesh, text: str):
    with pytest.raises(RunError, match=rf"{LOST}\. Expected all processes.*--resume"), explained_errors():
        raise RuntimeError(text)


def test_without_other_processes_nothing_is_lost():
    with pytest.raises(RuntimeError, match="timed out"), explained_errors():
        raise RuntimeError("timed out")


def test_processes_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch):
    runtime, facts = Runtime("32-true", "cpu"), {"the version of PyTorch": "2.6", "the run folder": "runs/a"}
    runtime.require_same(facts)
    monkeypatch.setattr(Runtime, "all_gather", lambda self, value: [value, value, value | {"the run folder": "runs/b"}])
    with pytest.raises(
        RunError, match=r"the processes differ: the run folder is runs/a in process 0 and runs/b in process 2"
    ):
        runtime.require_same(facts)


def test_one_request_to_stop_may_come_twice(monkeypatch: pytest.MonkeyPatch):
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with stop_requests() as stop:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop == [signal.SIGINT]
        now[0] += 2
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_mistakes_with_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def error(*words: str) -> BaseException:
        done = CliRunner().invoke(cli.app, ["train", *words]).exception
        assert done is not None
        return done

    with pytest.raises(RecipeError, match="--model auto with --processes"):
        raise error("--model", "auto", "--data", str(tmp_path), "--processes", "2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="--processes in a process of torchrun or SLURM"):
        raise error("sta_lstm_sbu", "--processes", "2")
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(RecipeError, match="--processes with an ONNX file"):
        raise CliRunner().invoke(cli.app, ["test", "a.onnx", "--processes", "2"]).exception or AssertionError
    assert _without_option(["train", "--processes", "2", "a", "--processes=4"], "--processes") == ["train", "a"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.compile": True}, 'strategy = "fsdp" with compile = true is not supported'),
        ({"train.precision": "64-true"}, 'strategy = "fsdp" computes in "32-true" or "bf16-mixed"'),
    ],
)
def test_what_shares_cannot_do_is_refused(settings: dict[str, object], message: str, tmp_path: Path):
    with pytest.raises(RecipeError, match=message):
        exact_recipe(write_recordings(tmp_path), "fsdp").with_settings(settings)


def test_a_test_in_several_processes_is_this_command_in_each(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    asked: list[object] = []
    monkeypatch.setattr(launching, "launch", lambda words, processes: asked.append((words, processes)) or 0)
    command = ["test", str(undisturbed), "--processes", "3", "--json"]
    monkeypatch.setattr(sys, "argv", ["muybridge", *command])
    assert CliRunner().invoke(cli.app, command).exit_code == 0
    assert asked == [(["-m", "muybridge", "test", str(undisturbed), "--json"], 3)]
