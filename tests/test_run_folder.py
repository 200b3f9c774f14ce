"""Run folders: nothing is lost, nothing half-written is read, and every fault is reported."""

import json
import pickle
import resource
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch

import muybridge
from muybridge.core.errors import MuybridgeWarning, RunError
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.journal import Journal, Reporter
from muybridge.engine.train import train
from muybridge.engine.weights import load_weights, read_weights, save_weights
from tests.tiny import tiny_recipe, write_recordings


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_recordings(tmp_path_factory.mktemp("recordings"))
    return train(tiny_recipe(root, epochs=1), tmp_path_factory.mktemp("runs") / "run").path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def test_the_files_of_a_run(run: Path):
    names = {path.name for path in run.iterdir()}
    assert names == {
        "recipe.toml",
        "labels.txt",
        "excluded.tsv",
        "bodies.json",
        "durations.json",
        "run.json",
        "split.csv",
        "journal.jsonl",
        "stages",
        "weights.safetensors",
    }
    assert len(RunFolder.open(run).labels()) == 20
    assert RunFolder.open(run).finished


def test_equal_weights_are_equal_files(run: Path, tmp_path: Path):
    model, labels = RunFolder.open(run).model(), RunFolder.open(run).labels()
    for number in range(6):
        save_weights(model, labels, tmp_path / f"{number}.safetensors")
        assert (tmp_path / f"{number}.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()


def test_no_run_here(tmp_path: Path):
    with pytest.raises(RunError, match=r"nowhere: no such folder. Expected a run folder.*muybridge train"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(RunError, match="no run in this folder"):
        RunFolder.open(tmp_path)


def test_a_newer_version(run: Path):
    (run / "run.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(RunError, match=r"made by a newer version \(run format 99\).*pip install -U muybridge"):
        muybridge.load(run)


def test_an_older_version(run: Path):
    (run / "run.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(RunError, match=r"made by an older version \(run format 1\).*Train again"):
        muybridge.load(run)


def test_a_damaged_run_file(run: Path):
    (run / "run.json").write_text("{")
    with pytest.raises(RunError, match=r"run\.json: damaged"):
        RunFolder.open(run)


@pytest.mark.parametrize("size", [0, 4, 100, 5000])
def test_truncated_weights(run: Path, size: int):
    file = run / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(RunError, match=r"weights\.safetensors: damaged weights file"):
        muybridge.load(run)


def test_one_flipped_bit(run: Path):
    file = run / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-7] ^= 4
    file.write_bytes(content)
    with pytest.raises(RunError, match="checksum differs"):
        muybridge.load(run)


def test_weights_of_another_model(run: Path):
    model = torch.nn.Linear(2, 2)
    with pytest.raises(RunError, match=r"weights of another model: .*missing"):
        load_weights(model, read_weights(run / "weights.safetensors"), run / "weights.safetensors")
    with pytest.raises(RunError, match=r"weight is \(3, 2\), not \(2, 2\)"):
        load_weights(model, torch.nn.Linear(2, 3).state_dict(), run)


def test_not_trained_yet(run: Path):
    (run / "weights.safetensors").unlink()
    with pytest.raises(RunError, match=r"no weights yet.*--resume"):
        muybridge.load(run)


def test_damaged_state(run: Path):
    (run / "state.pt").write_bytes(b"torn")
    with pytest.raises(RunError, match=r"state\.pt: not readable"):
        RunFolder.open(run).read_state()


def test_predicting_unpickles_nothing(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def refuse(*_args: object, **_more: object):
        raise AssertionError("unpickled")

    recordings = write_recordings(tmp_path / "more")
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert len(muybridge.load(run)(recordings / "a01_s02_e01_skeleton3D.txt", top=3).labels) == 3


def test_labels_that_were_edited(run: Path):
    names = (run / "labels.txt").read_text().splitlines()
    (run / "labels.txt").write_text("\n".join([names[1], names[0], *names[2:]]) + "\n")
    with pytest.raises(RunError, match=rf"labels\.txt was changed.*Expected {names[0]}, {names[1]}"):
        muybridge.load(run)
    (run / "labels.txt").write_text("\n".join(names[:-1]) + "\n")
    with pytest.raises(RunError, match=r"labels\.txt was changed"):
        muybridge.load(run)


def test_weights_of_another_kind_of_number(run: Path):
    model, file = RunFolder.open(run).model(), run / "weights.safetensors"
    tensors = read_weights(file)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    load_weights(model, half, file)  # fewer digits are no other model
    assert model.state_dict()[name].dtype == torch.float32
    with pytest.raises(RunError, match=rf"{name} is int64, not float32"):
        load_weights(model, tensors | {name: tensors[name].long()}, file)


def test_weights_that_are_not_finite_are_not_tested(run: Path):
    folder = RunFolder.open(run)
    model = folder.model()
    next(iter(model.parameters())).data.fill_(torch.nan)
    folder.write_weights("weights", model)
    with pytest.raises(RunError, match=r"the scores of 24 recordings are not finite, 'a01_s02_e01.*' among them"):
        evaluate(folder)


def test_a_run_folder_that_cannot_be_written_is_tested_all_the_same(run: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path, **_: object):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("muybridge.engine.checkpoint.atomic_write", refuse)
    with pytest.warns(MuybridgeWarning, match=r"the results are not saved: .*Read-only file system"):
        assert evaluate(RunFolder.open(run)).count == 24
    assert not (run / "test.json").exists()


def test_a_recipe_that_was_edited_is_named_by_the_test(run: Path):
    text = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(text.replace("batch_size = 5", "batch_size = 7").replace("tiny", "mine"))
    lines: list[str] = []
    report = Reporter(quiet=True)
    report.say = lines.append
    evaluate(RunFolder.open(run), report=report)
    assert lines[0] == "recipe.toml was edited since the training: train.batch_size is 5 there and 7 here"


def test_a_run_in_the_home_folder(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(run.parent))
    assert RunFolder.open("~/run").path == run
    assert RunFolder(Path("~/run")).finished


def test_two_trainings_into_one_folder(run: Path, tmp_path: Path):
    recipe = RunFolder.open(run).recipe()
    (run / "state.pt").touch()  # as if the training had not ended
    with (
        RunFolder(run).lock(),
        pytest.raises(RunError, match=r"run: another process trains into this folder.*one training at a time"),
    ):
        train(recipe, run, resume=True)
    with RunFolder(run).lock():  # it was given back
        pass


def test_a_full_disk_while_the_state_is_saved(run: Path):
    folder = RunFolder.open(run)
    folder.write_state({"progress": {}})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"state\.pt: cannot be written \(.*\).*what was saved before is intact"):
            folder.write_state({"progress": {}, "model": {"weight": torch.zeros(100_000)}})
        with pytest.raises(RunError, match=r"weights\.safetensors: cannot be written"):
            folder.write_weights("weights", torch.nn.Linear(300, 300))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folder.read_state() == {"progress": {}}
    assert folder.model()
    assert not list(run.glob("*.draft"))


def test_a_full_disk_while_the_journal_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_args: object, **_more: object):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(RunError, match=r"journal\.jsonl: cannot be written \(No space left on device\)"):
        Journal(tmp_path / "journal.jsonl").write(epoch=1)


def test_a_damaged_journal(tmp_path: Path):
    (tmp_path / "journal.jsonl").write_text('{"epoch": 1}\n{"epo\n{"epoch": 3}\n{"ep')
    with pytest.raises(RunError, match=r"journal\.jsonl: line 2 is damaged.*Remove the line"):
        Journal(tmp_path / "journal.jsonl").rows()


def test_too_little_disk_space_is_reported_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = write_recordings(tmp_path / "recordings")
    full = namedtuple("usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(RunError, match=r"0 MB free on the disk. Expected at least 17 MB"):
        train(tiny_recipe(root, epochs=1), tmp_path / "run")


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    root = write_recordings(tmp_path / "recordings")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"file.*: cannot be written \(Not a directory\)"):
        train(tiny_recipe(root, epochs=1), tmp_path / "file" / "run")


def test_a_full_disk_keeps_existing_files(run: Path, monkeypatch: pytest.MonkeyPatch):
    before = (run / "weights.safetensors").read_bytes()
    folder = RunFolder.open(run)
    model = folder.model()

    def full(*_args: object, **_more: object):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(
        RunError, match=r"cannot be written \(No space left on device\).*what was saved before is intact"
    ):
        folder.write_weights("weights", model)
    assert (run / "weights.safetensors").read_bytes() == before
    assert not list(run.glob("*.draft"))


def test_testing_writes_scores_and_predictions(run: Path):
    scores = evaluate(RunFolder.open(run), "test")
    result = json.loads((run / "test.json").read_text())
    assert result["top1"] == scores.top1
    assert result["count"] == 24
    lines = (run / "test-predictions.csv").read_text().splitlines()
    assert len(lines) == 25
    right = sum(line.split(",")[1] == line.split(",")[2] for line in lines[1:])
    assert 100 * right / 24 == pytest.approx(scores.top1)


def test_excluded_recordings_are_listed(tmp_path: Path):
    root = write_recordings(tmp_path / "recordings")
    # The one all-zero recording of MSR Action3D.
    (root / "a13_s09_e02_skeleton3D.txt").write_text("0 0 0 1\n" * 40)
    run = train(tiny_recipe(root, epochs=1), tmp_path / "run")
    assert "train\ta13_s09_e02\t" in (run.path / "excluded.tsv").read_text()
