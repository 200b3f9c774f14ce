"""Several processes over gloo: every sample once, the answers of one process, and clear ends where one is gone."""

import copy
import json
import os
import shutil
import signal
import socket
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
from tests.tiny import tiny_recipe, write_recordings


def muybridge(*words: str, processes: int = 1) -> None:
    command = [sys.executable, "-m", "muybridge", *words]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
        command = [sys.executable, *torchrun, "--master-addr=127.0.0.1", "-m", "--", "muybridge", *words]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=240
    )
    assert ended.returncode == 0, ended.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path: Path):
    root = write_recordings(tmp_path / "recordings")
    # 24 recordings in batches of 7 leave shares of different size; without dropout both must take the same steps.
    exact = {"precision": "64-true", "batch_size": 7, "epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1}}
    recipe = tiny_recipe(root, **exact).with_settings({"model.dropout": 0.0, "data.val_groups": ["s03"]})
    save_recipe(recipe, tmp_path / "recipe.toml")
    one, two = tmp_path / "run1", tmp_path / "run2"
    for words in (["train", str(tmp_path / "recipe.toml"), "--run"], ["test"]):
        assert CliRunner().invoke(cli.app, [*words, str(one), "--device", "cpu"]).exit_code == 0
        muybridge(*words, str(two), "--device", "cpu", processes=2)
    results = [json.loads((run / "test.json").read_text()) for run in (one, two)]
    assert results[0] == results[1]
    assert results[1]["count"] == 24
    ids = [line.split(",")[0] for line in (two / "test-predictions.csv").read_text().splitlines()[1:]]
    assert len(ids) == len(set(ids)) == 24
    for key, tensor in safetensors.torch.load_file(one / "weights.safetensors").items():
        other = safetensors.torch.load_file(two / "weights.safetensors")[key]
        torch.testing.assert_close(tensor, other, rtol=1e-7, atol=1e-9)
    rows = [[json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()] for run in (one, two)]
    for first, second in zip(*rows, strict=True):
        assert first["train"] == pytest.approx(second["train"], rel=1e-6)
        assert first["val"] == pytest.approx(second["val"], rel=1e-6)


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


GATHER = """
import sys
from muybridge.engine.runtime import Runtime

runtime = Runtime("32-true", "cpu", time_limit=60.0)
print(runtime.all_gather(runtime.rank), runtime.world_size)
"""


@pytest.mark.slow
def test_tasks_of_slurm_find_each_other():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"SLURM_JOB_ID": "1", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(port), "SLURM_NODEID": "0"}
    job |= {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"}
    command = [sys.executable, "-c", GATHER]
    tasks = [
        subprocess.Popen(
            command,
            env=os.environ | job | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [task.communicate(timeout=120)[0].strip() for task in tasks] == ["[0, 1] 2"] * 2


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


EPOCHS = """
import os, signal, sys, time
from pathlib import Path
from muybridge.engine.interrupt import InterruptedTrainingError
from muybridge.engine.journal import Reporter
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.recipe import load_recipe

recipe, run, event, rank = load_recipe(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], os.environ["RANK"]

class Report(Reporter):
    done = 0
    def step(self):
        self.done += 1
        if self.done == 3 and event == "stop" and rank == "0":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.done == 3 and event == "kill" and rank == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.done == 3 and event == "hang" and rank == "1":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(1000)

try:
    train(recipe, run, resume=run.exists(), report=Report(quiet=True),
          runtime=Runtime("32-true", "cpu", recipe.train.strategy, time_limit=6.0 if event == "hang" else 100.0))
except InterruptedTrainingError as problem:
    sys.exit(problem.exit_status)
"""


def exact_recipe(root: Path, strategy: str) -> Recipe:
    """Without dropout, whose masks depend on the number of processes."""
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    train = {"batch_size": 7, "epochs": 2, "optimizer": optimizer, "ema_decay": 0.9, "strategy": strategy}
    more = {"accumulate_steps": 2, "clip_grad_norm": 1.0}
    return tiny_recipe(root, **train, **more).with_settings({"model.dropout": 0.0, "data.val_groups": ["s03"]})


def epochs(tmp_path: Path, recipe: Recipe, run: str, event: str, processes: int) -> int:
    file, script = tmp_path / f"{run}.toml", tmp_path / "epochs.py"
    save_recipe(recipe, file)
    script.write_text(EPOCHS)
    return launch([str(script), str(file), str(tmp_path / run), event], processes)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a training in this process alone."""
    root = tmp_path_factory.mktemp("undisturbed")
    recipe = exact_recipe(write_recordings(root / "recordings"), "ddp")
    train(recipe, root / "run", runtime=Runtime("32-true", "cpu"))
    return root / "run"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / "weights.safetensors")


@pytest.mark.slow
def test_four_processes_in_shares_resume_on_two(tmp_path: Path, undisturbed: Path):
    root = write_recordings(tmp_path / "recordings")
    recipe = exact_recipe(root, "fsdp")
    assert epochs(tmp_path, recipe, "shared", "stop", 4) == 130
    rows = (tmp_path / "shared" / "journal.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [2]  # it was stopped in the middle of an epoch
    assert epochs(tmp_path, recipe, "shared", "", 2) == 0
    torch.testing.assert_close(weights(tmp_path / "shared"), weights(undisturbed), rtol=1e-5, atol=1e-6)
    journals = [(run / "journal.jsonl").read_text().splitlines() for run in (tmp_path / "shared", undisturbed)]
    for first, second in zip(*([json.loads(row) for row in rows] for rows in journals), strict=True):
        assert first["train"] == pytest.approx(second["train"], rel=1e-5)
        assert first["val"] == pytest.approx(second["val"], rel=1e-5)


@pytest.mark.slow
def test_a_killed_process_ends_the_rest_and_the_training_resumes(tmp_path: Path):
    recipe = exact_recipe(write_recordings(tmp_path / "recordings"), "fsdp")
    with pytest.raises(RunError, match=r"process 1 \(from 0\) of 2 was killed \(SIGKILL\), and the others were ended"):
        epochs(tmp_path, recipe, "run", "kill", 2)
    assert epochs(tmp_path, recipe, "run", "", 1) == 0
    assert weights(tmp_path / "run")


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_rest(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    recipe = exact_recipe(write_recordings(tmp_path / "recordings"), "ddp")
    assert epochs(tmp_path, recipe, "run", "hang", 2) != 0
    assert LOST in capfd.readouterr().err


@pytest.mark.slow
def test_processes_on_the_command_line(tmp_path: Path):
    recipe = exact_recipe(write_recordings(tmp_path / "recordings"), "fsdp")
    save_recipe(recipe, tmp_path / "recipe.toml")
    words = ["train", str(tmp_path / "recipe.toml"), "--device", "cpu", "--processes", "2"]
    command = [sys.executable, "-m", "muybridge", *words]
    done = subprocess.run([*command, "--set", "data.root=none"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("muybridge: none: there is no such folder") == 1  # told once, not by each process
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trained; next") == 1
    assert (tmp_path / "runs" / "recipe" / "weights.safetensors").exists()


HOSTS = (("a", "10.77.41.1"), ("b", "10.77.41.2"))


@pytest.fixture
def hosts() -> Iterator[dict[str, list[str]]]:
    """Two network namespaces with a cable between them: the words that run a command in each, by its address."""
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
        yield {
            address: ["ip", "netns", "exec", names[letter], "env", f"GLOO_SOCKET_IFNAME={links[letter]}"]
            for letter, address in HOSTS
        }
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.slow
def test_two_hosts_train_as_one_process(tmp_path: Path, hosts: dict[str, list[str]], undisturbed: Path):
    root = write_recordings(tmp_path / "recordings")
    save_recipe(exact_recipe(root, "fsdp"), tmp_path / "recipe.toml")
    first, _ = hosts
    words = ["-m", "--", "muybridge", "train", str(tmp_path / "recipe.toml"), "--run", str(tmp_path / "hosts")]
    machines = []
    for address, inside in hosts.items():
        place = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{first}:29500", "--local-addr", address]
        place += ["--rdzv-conf", f"is_host={int(address == first)}", "--nnodes", "2", "--nproc-per-node", "1"]
        command = [*inside, sys.executable, "-m", "torch.distributed.run", *place, *words, "--device", "cpu"]
        machines.append(subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}))
    assert [machine.wait(timeout=240) for machine in machines] == [0, 0]
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
