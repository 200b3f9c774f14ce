"""Unreadable recordings stop a training, or are skipped, counted, listed and bounded; never so in a test."""

import shutil
from pathlib import Path

import pytest

from muybridge.core.errors import DataError
from muybridge.engine.evaluate import evaluate
from muybridge.engine.journal import Journal
from muybridge.engine.train import train
from muybridge.recipe import Recipe
from tests.test_train import KillAt, KilledError, assert_equal_weights
from tests.tiny import tiny_clip_recipe, write_videos


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """102 files to train on, of which one is no video, and 8 to test."""
    small = write_videos(tmp_path_factory.mktemp("few"), takes=1)
    root = tmp_path_factory.mktemp("many")
    for label in ("dawn", "dusk"):
        (root / label).mkdir()
        for take in range(17):
            for person in "abc":
                shutil.copy(small / label / f"{person}_0.mp4", root / label / f"{person}_{take}.mp4")
        for take in range(4):
            shutil.copy(small / label / "d_0.mp4", root / label / f"d_{take}.mp4")
    (root / "dawn" / "b_3.mp4").write_bytes(b"no video")
    return root


def recipe(root: Path, **train: object) -> Recipe:
    small = {"epochs": 2, "batch_size": 17, "on_error": "skip"} | train
    return tiny_clip_recipe(root, **small).with_settings({"model.size": 16, "model.segments": 2})


def excluded(run: Path) -> list[list[str]]:
    return [line.split("\t") for line in (run / "excluded.tsv").read_text().splitlines()[1:]]


def test_what_is_skipped_is_counted_and_listed(root: Path, tmp_path: Path):
    run = train(recipe(root), tmp_path / "run")
    ((split, id_, path, reason),) = excluded(run.path)
    assert (split, id_, path) == ("train", "dawn/b_3.mp4", str(root / "dawn" / "b_3.mp4"))
    assert reason.startswith("cannot be read: ")
    assert [row["failed"] for row in Journal(run.path / "journal.jsonl").rows()] == [1, 1]
    assert evaluate(run).count == 8


@pytest.mark.slow
def test_it_is_the_same_whatever_the_workers_and_after_a_kill(root: Path, tmp_path: Path):
    train(recipe(root, num_workers=1), tmp_path / "whole")
    with pytest.raises(KilledError):
        train(recipe(root), tmp_path / "killed", report=KillAt(9))
    train(recipe(root), tmp_path / "killed", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "killed")
    assert excluded(tmp_path / "whole") == excluded(tmp_path / "killed")


def test_a_step_without_a_readable_sample_is_none(root: Path, tmp_path: Path):
    run = train(recipe(root, batch_size=1, epochs=1), tmp_path / "run")
    (row,) = Journal(run.path / "journal.jsonl").rows()
    assert row["step"] == 102
    assert len(excluded(run.path)) == 1


def test_one_in_a_hundred_is_the_most(root: Path, tmp_path: Path):
    worse = shutil.copytree(root, tmp_path / "worse")
    (worse / "dusk" / "c_9.mp4").unlink()
    (worse / "dusk" / "c_9.mp4").touch()
    with pytest.raises(DataError, match=r"2 of 102 training recordings cannot be read\. Expected 1% .*excluded.tsv"):
        train(recipe(worse), tmp_path / "run")
    assert {row[1] for row in excluded(tmp_path / "run")} == {"dawn/b_3.mp4", "dusk/c_9.mp4"}


def test_without_leave_the_first_one_stops_the_training(root: Path, tmp_path: Path):
    with pytest.raises(DataError, match=r"recording 'dawn/b_3\.mp4': "):
        train(recipe(root, on_error="raise"), tmp_path / "run")


def test_nothing_is_skipped_in_testing(root: Path, tmp_path: Path):
    mine = shutil.copytree(root, tmp_path / "mine")
    run = train(recipe(mine, epochs=1), tmp_path / "run")
    (mine / "dusk" / "d_1.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"recording 'dusk/d_1\.mp4': "):
        evaluate(run)
