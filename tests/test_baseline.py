"""Baselines: what they see, how they are chosen, and where their results are shown."""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from muybridge import cli
from muybridge.baseline import Baseline, BaselineTable
from muybridge.baseline.classifiers import fit_linear, training_folds
from muybridge.baseline.descriptors import moving_statistics, statistics
from muybridge.baseline.measure import measure_baselines
from muybridge.core.errors import DataError, RunError
from muybridge.data.datasets import VideoFolder
from muybridge.engine.baselines import measure_run, read_baselines
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.train import train
from muybridge.models.fisher_vectors import FisherVectorsConfig
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos

SMALL = FisherVectorsConfig(frames=12, size=32, pca_components=8, gaussians=2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("data") / "videos")


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["muybridge", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


# What they see


def test_statistics_of_equal_parts():
    values = np.random.default_rng(0).normal(size=(10, 3))
    first, second = values[:5], values[5:]
    expected = [first.mean(0), first.std(0), second.mean(0), second.std(0)]
    assert statistics(torch.from_numpy(values), 2).numpy() == pytest.approx(np.concatenate(expected))
    changes = np.diff(values, axis=0)
    expected = [values.mean(0), values.std(0), changes.mean(0), changes.std(0)]
    assert moving_statistics(torch.from_numpy(values), 1).numpy() == pytest.approx(np.concatenate(expected))


def test_statistics_of_fewer_frames_than_parts():
    values = torch.tensor([[1.0], [5.0]])
    assert statistics(values, 3).tolist() == [1, 0, 5, 0, 5, 0]
    assert moving_statistics(values[:1], 1).tolist() == [1, 0, 0, 0]


# How they are chosen


def test_groups_stay_together_in_validation():
    labels, groups = np.arange(12) % 2, [f"person{index // 3}" for index in range(12)]
    folds = training_folds(labels, groups)
    assert len(folds) == 4
    for train_part, val in folds:
        assert not {groups[index] for index in train_part} & {groups[index] for index in val}
    assert sorted(index for _, val in folds for index in val) == list(range(12))


def test_classes_of_one_recording_leave_nothing_to_validate_with():
    labels = np.array([0, 0, 1])
    assert training_folds(labels, [""] * 3) == []
    fitted = fit_linear({"a": np.array([[0.0], [0.1], [1.0]], np.float32)}, labels, [""] * 3)
    assert fitted.validation is None
    assert fitted.model.predict([[0.9]]).tolist() == [1]


def test_validation_chooses_the_description_that_tells():
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 4
    told = np.eye(4)[labels] + rng.normal(0, 0.1, (40, 4))
    descriptions = {"noise": rng.normal(size=(40, 4)).astype(np.float32), "signal": told.astype(np.float32)}
    fitted = fit_linear(descriptions, labels, [f"{index % 10}" for index in range(40)])
    assert fitted.description == "signal"
    assert fitted.validation == 100


def test_what_only_names_the_person_does_not_validate():
    """Each person does one thing only: with people apart, their looks tell nothing about new people."""
    labels = np.arange(40) // 5 % 2
    groups = [f"{index // 5}" for index in range(40)]
    looks = np.random.default_rng(0).normal(size=(8, 30))[np.arange(40) // 5].astype(np.float32)
    validated = fit_linear({"looks": looks}, labels, groups).validation
    assert validated is not None
    assert validated < 90
    assert fit_linear({"looks": looks}, labels, [""] * 40).validation == 100


# Results


def test_light_that_grows_or_fades(videos: Path):
    """Order in time decides: one frame and the background are at chance, parts of the recording are not."""
    table = measure_baselines(tiny_clip_recipe(videos).data)
    rows = {row.name: row for row in table.rows}
    assert list(rows) == ["majority class", "one random frame", "background alone", "linear model"]
    assert (table.trained, table.count, table.split) == (12, 4, "test")
    assert rows["majority class"].top1 == 50
    assert rows["linear model"].top1 == 100
    assert rows["linear model"].choice.startswith("frames")
    assert "3 parts" in rows["linear model"].choice
    assert rows["one random frame"].validation < 90  # pyright: ignore[reportOptionalOperand]
    assert table.floor == rows["linear model"]
    assert rows["linear model"].interval == pytest.approx((51.01, 100), abs=0.01)  # Wilson: 4 / (4 + 1.96 ** 2)


def test_hands_that_rise_or_sink(tmp_path: Path):
    table = measure_baselines(tiny_recipe(write_recordings(tmp_path / "data")).data)
    rows = {row.name: row for row in table.rows}
    assert rows["majority class"].top1 == pytest.approx(100 / 3)
    assert rows["majority class"].interval == pytest.approx((17.97, 53.29), abs=0.01)
    assert rows["linear model"].top1 > rows["one random frame"].top1
    assert rows["linear model"].top1 > rows["majority class"].interval[1]
    if find_spec("aeon") is None:
        assert table.notices == ("MiniROCKET is left out; install it with `pip install 'muybridge[baseline]'`",)
    else:
        assert rows["MiniROCKET"].top1 > rows["majority class"].interval[1]


def write_slides(root: Path) -> VideoFolder:
    """A texture that slides to the left, or to the right, as folders of 14 pictures of 32 pixels; person d tests."""
    rng = np.random.default_rng(0)
    for label, way in (("left", 2), ("right", -2)):
        for name in ("a_0", "a_1", "b_0", "b_1", "c_0", "c_1", "d_0", "d_1"):
            folder = root / label / name
            folder.mkdir(parents=True)
            texture = cv2.GaussianBlur(rng.uniform(0, 255, (32, 96)).astype(np.float32), (0, 0), 2)
            texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
            for step in range(14):
                start = 32 + way * step
                Image.fromarray(texture[:, start : start + 32]).save(folder / f"{step:03}.png")
    return VideoFolder(root=root, group="/([a-z])_", test_groups=("d",))


def test_fisher_vectors_tell_movements_apart(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("muybridge.baseline.fisher.CONFIG", SMALL)
    table = measure_baselines(write_slides(tmp_path / "slides"), fisher_vectors=True)
    row = table.rows[-1]
    assert row.name == "Fisher vectors"
    assert row.choice.startswith("penalty ")
    assert row.top1 == 100
    assert row.validation == 100
    data = tiny_clip_recipe(videos).data
    table = measure_baselines(data, fisher_vectors=True)
    others = measure_baselines(data)
    assert [one.name for one in others.rows] == [one.name for one in table.rows[:-1]]
    assert not table.notices


def test_fisher_vectors_that_are_left_out_are_told(videos: Path, monkeypatch: pytest.MonkeyPatch):
    data = tiny_clip_recipe(videos).data
    monkeypatch.setattr("muybridge.baseline.measure.MAX_VIDEOS", 3)
    (notice,) = measure_baselines(data, fisher_vectors=True).notices
    assert re.match(r"Fisher vectors are left out: \d+ videos, and at most 3 are held in memory", notice)
    monkeypatch.setattr("muybridge.baseline.measure.has_optical_flow", lambda: False)
    (notice,) = measure_baselines(data, fisher_vectors=True).notices
    assert "muybridge[flow]" in notice


def test_an_empty_part_is_refused(videos: Path):
    with pytest.raises(DataError, match=r"the part val is empty.*Choose another --split"):
        measure_baselines(tiny_clip_recipe(videos).data, "val")


# Commands


def test_of_a_folder_a_recipe_and_a_run(call, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code, out, err = call("baseline", str(videos), "--group", "/([a-z])_", "--no-fisher-vectors", "--json")
    assert code == 0, err
    of_folder = json.loads(out)
    assert of_folder["floor"] == "linear model"
    (tmp_path / "mine.toml").write_text(
        f'[model]\nname = "tsn"\n[data]\nname = "video_folder"\nroot = "{videos}"\ngroup = "/([a-z])_"\n'
    )
    monkeypatch.setattr("muybridge.baseline.fisher.CONFIG", SMALL)
    code, out, err = call("baseline", "mine.toml", "--json")
    assert code == 0, err
    *rows, fisher = json.loads(out)["rows"]
    assert [row["top1"] for row in rows] == [row["top1"] for row in of_folder["rows"]]
    assert fisher["name"] == "Fisher vectors"
    code, out, err = call("baseline", "mine.toml", "--no-fisher-vectors")
    assert code == 0, err
    assert f"a network should exceed: linear model, {of_folder['rows'][-1]['top1']:.1f} %" in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_training_keeps_them_and_testing_shows_them(call, videos: Path, tmp_path: Path):
    words = ["train", "--model", "tsn", "--data", str(videos), "--group", "/([a-z])_", "--epochs", "1", "--size", "32"]
    small = {"model.backbone": "resnet10", "model.width": 8, "model.segments": 2, "train.num_workers": 0}
    words += ["--no-pretrained", "--run", "run", *(f"--set={name}={value}" for name, value in small.items())]
    code, _, err = call(*words)
    assert code == 0, err
    assert "linear model" in err.partition("baselines, fitted on")[2]
    table = read_baselines(RunFolder.open(tmp_path / "run"))
    assert table is not None
    assert table.floor.name == "linear model"
    floor = table.floor.top1
    code, out, err = call("test", "run")
    assert code == 0, err
    assert f"baseline (linear model): top-1 {floor:.2f} %" in " ".join(out.split())
    accuracy = json.loads((tmp_path / "run" / "test.json").read_text())["top1"]
    assert ("the network is below it" in " ".join(out.split())) == (accuracy < floor)
    code, out, _ = call("test", "run", "--json")
    assert json.loads(out)["baseline"]["name"] == "linear model"
    code, _, err = call(*[*words, "--no-baseline"][:-1], "--run", "other", "--no-baseline")
    assert code == 0, err
    assert "baselines" not in err
    assert read_baselines(RunFolder.open(tmp_path / "other")) is None


def test_a_run_is_measured_on_its_own_split(videos: Path, tmp_path: Path):
    run = train(tiny_clip_recipe(videos, epochs=1), tmp_path / "run")
    assert read_baselines(run) is None
    table = measure_run(run)
    assert read_baselines(run) == table
    (run.path / "baseline.json").write_text('{"rows": 3}')
    with pytest.raises(RunError, match=r"baseline\.json: damaged.*Measure it again with `muybridge baseline"):
        read_baselines(run)


def test_a_folder_of_two_kinds_is_refused(call, tmp_path: Path):
    (tmp_path / "both" / "a").mkdir(parents=True)
    (tmp_path / "both" / "a" / "x.mp4").write_bytes(b"x")
    (tmp_path / "both" / "a" / "x.npz").write_bytes(b"x")
    code, _, err = call("baseline", "both")
    assert code == 2
    assert "the folder holds 1 videos and 1 files of skeletons" in err


def test_a_table_survives_json():
    row = Baseline("linear model", "", 50.0, (40.0, 60.0), 50.0, None, "", 0.1)
    table = BaselineTable("test", 3, 4, (row,), 1.0, ("note",))
    assert BaselineTable.from_dict(json.loads(json.dumps(table.as_dict()))) == table
