"""Two processes over gloo: every test sample once, and the same answers as one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from muybridge.data.loader import BatchPlan, sequential_plan
from muybridge.recipe import save_recipe
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
    for count in (1, 2):
        run = str(tmp_path / f"run{count}")
        muybridge("train", str(tmp_path / "recipe.toml"), "--run", run, "--device", "cpu", processes=count)
        muybridge("test", run, "--device", "cpu", processes=count)
    one, two = ((tmp_path / f"run{count}") for count in (1, 2))
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
