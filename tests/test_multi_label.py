"""Recordings of several labels: read, trained with binary cross-entropy, tested by average precision, predicted."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from typer.testing import CliRunner

import muybridge
from muybridge.cli import app
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.types import Record
from muybridge.data.datasets import SkeletonFolder
from muybridge.data.summary import summarize
from muybridge.engine.calibrate import calibrate
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate, make_samples
from muybridge.engine.journal import Journal
from muybridge.engine.metrics import MultiLabelScores, score_multi_label
from muybridge.engine.mixing import mix
from muybridge.engine.repeat import plan
from muybridge.engine.train import train
from muybridge.export import export_run
from muybridge.nn.criterion import BinaryCrossEntropy
from muybridge.recipe import Recipe
from muybridge.timeline import LivePredictor, TimelinePredictor
from muybridge.viz.report.facts import collect
from tests.skeletons import figures
from tests.test_train import KillAt, KilledError, assert_equal_weights

NAMES = ("kick", "wave")


def write(root: Path) -> Path:
    """Somebody waves, kicks, or does both; twelve takes of each by six people, as CSV."""
    rng = np.random.default_rng(0)
    body = figures("kinect20", people=1)[:1]
    lines = ["path,label,group"]
    for labels in ("wave", "kick", "wave; kick"):
        for take in range(12):
            joints = np.repeat(body, 10 + take % 3, axis=0)
            ramp = np.linspace(0, 1, len(joints))
            joints[:, 0, 6, 1] += 2.0 * ramp * ("wave" in labels)
            joints[:, 0, 14, 2] += 2.0 * ramp * ("kick" in labels)
            name = f"{labels.replace('; ', '_')}_{take}.npz"
            np.savez(root / name, joints=joints + 0.01 * rng.normal(size=joints.shape))
            lines.append(f"{name},{labels},p{take % 6}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root / "labels.csv"


def recipe_of(table: Path, **train_settings: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "model": {"name": "sta_lstm", "hidden": 16, "layers": 1, "attention_size": 8, "dropout": 0.0},
            "data": {
                "name": "skeleton_folder",
                "root": str(table),
                "layout": "kinect20",
                "label_separator": ";",
                "test_groups": ["p4", "p5"],
                "val_groups": ["p3"],
            },
            "train": {"epochs": 3, "batch_size": 6, "precision": "32-true", "optimizer": {"name": "adamw", "lr": 0.02}}
            | train_settings,
        }
    )


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("several"))


@pytest.fixture(scope="module")
def run(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(recipe_of(labels, epochs=40), tmp_path_factory.mktemp("run") / "run")


# Tables


def read(folder: Path, text: str, name: str = "t.csv", separator: str = ";") -> dict[str, Record]:
    for file in ("a.npz", "b.npz", "c.npz"):
        np.savez(folder / file, joints=figures("kinect20", people=1))
    (folder / name).write_text(text)
    data = SkeletonFolder(root=folder / name, label_separator=separator, test_fraction=0.0, val_fraction=0.0)
    assert data.labels() == NAMES
    return {record.id: record for record in data.index("train").records}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("path,labels\na.npz,wave;kick\nb.npz,kick\nc.npz,wave; wave\n", "t.csv"),
        ("path;labels\na.npz;'wave;kick'\nb.npz;kick\nc.npz;wave\n".replace("'", '"'), "t.csv"),
        ("path,label\na.npz,wave\nb.npz,kick\na.npz,kick\nc.npz,wave\n", "t.csv"),
        (
            json.dumps(
                [
                    {"path": "a.npz", "labels": ["wave", "kick"]},
                    {"path": "b.npz", "labels": "kick"},
                    {"path": "c.npz", "labels": ["wave"]},
                ]
            ),
            "t.json",
        ),
    ],
)
def test_several_labels_of_a_recording_are_read_in_every_form(tmp_path: Path, text: str, name: str):
    records = read(tmp_path, text, name)
    assert {id_: record.labels for id_, record in records.items()} == {"a.npz": (1, 0), "b.npz": (0,), "c.npz": (1,)}
    assert records["a.npz"].label_text(NAMES) == "wave; kick"


def test_an_empty_label_between_separators_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"line 2 has the labels 'wave;', one of which is empty"):
        read(tmp_path, "path,label\na.npz,wave;\nb.npz,kick\n")


def test_lines_of_a_recording_must_agree_about_the_rest(tmp_path: Path):
    text = "path,label,group\na.npz,wave,anna\nb.npz,kick,bo\na.npz,kick,bo\n"
    with pytest.raises(DataError, match=r"'a\.npz' is listed in line 2 and line 4 with another split, group or fold"):
        read(tmp_path, text)


def test_without_a_separator_there_is_one_label(tmp_path: Path):
    with pytest.raises(DataError, match="has a list of labels, wave, kick") as caught:
        read(tmp_path, json.dumps([{"path": "a.npz", "label": ["wave", "kick"]}]), "t.json", separator="")
    assert "data.label_separator" in str(caught.value.hint)
    with pytest.raises(DataError, match="is listed in line 2 and in line 4"):
        read(tmp_path, "path,label\na.npz,wave\nb.npz,kick\na.npz,kick\n", separator="")


def test_labels_that_look_like_several_are_noticed(tmp_path: Path):
    for file in ("a.npz", "b.npz", "c.npz"):
        np.savez(tmp_path / file, joints=figures("kinect20", people=1))
    (tmp_path / "t.csv").write_text("path,label\na.npz,wave;kick\nb.npz,kick\nc.npz,wave\n")
    (notice,) = [text for text in SkeletonFolder(root=tmp_path / "t.csv").notices() if "several" in text]
    assert "'kick;wave'" in notice or "'wave;kick'" in notice
    assert "data.label_separator=';'" in notice


def test_counts_are_of_every_label(labels: Path):
    summary = summarize(recipe_of(labels).data)
    assert summary.counts["train"] == (12, 12)  # six people, of whom three train, with two takes of three kinds
    assert summary.warnings == ()


# Loss and scores


def test_the_loss_is_binary_cross_entropy():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    there = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0.3, 0.7, 0]])
    expected = F.binary_cross_entropy_with_logits(logits, there)
    torch.testing.assert_close(BinaryCrossEntropy()(logits, there), expected)
    torch.testing.assert_close(BinaryCrossEntropy()(logits, there, reduction="sum"), 5 * expected)
    p = logits.double().sigmoid()
    focal = -(there * (1 - p) ** 2 * p.log() + (1 - there) * p**2 * (1 - p).log()).mean()
    smooth = F.binary_cross_entropy_with_logits(logits, there * 0.8 + 0.1)
    torch.testing.assert_close(BinaryCrossEntropy(0.2)(logits, there), smooth)
    torch.testing.assert_close(BinaryCrossEntropy(0.0, 2.0)(logits.double(), there), focal)


def test_average_precision_is_the_mean_of_precision_where_a_label_is_found():
    scores = torch.tensor([[0.9, 0.2, 0.6], [0.8, 0.6, 0.1], [0.7, 0.1, 0.2], [0.2, 0.3, 0.3]])
    there = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]])
    found = score_multi_label(scores, there, ("a", "b", "c"), excluded=1)
    assert found.per_class == {"a": pytest.approx(100 * (1 + 2 / 3) / 2, abs=0.01), "b": 75.0, "c": None}
    assert found.mean_average_precision == pytest.approx((100 * 5 / 6 + 75) / 2)
    assert found.f1 == pytest.approx(100 * 2 * 3 / (5 + 4))
    assert (found.count, found.excluded) == (4, 1)


def test_mixing_blends_all_labels():
    inputs = {"video": torch.zeros(2, 1, 3, 4, 4)}
    there = torch.tensor([[1.0, 1, 0], [0, 1, 1]])
    _, mixed = mix(inputs, there, 3, torch.Generator().manual_seed(0), mixup=1.0)
    share = float(mixed[0, 0])
    torch.testing.assert_close(mixed, torch.tensor([[share, 1, 1 - share], [1 - share, 1, share]]))


# Training, testing, predicting


def test_samples_have_a_value_for_every_class(labels: Path):
    samples = make_samples(recipe_of(labels), "train")
    for index, record in enumerate(samples.records):
        assert samples[-1, index][1].tolist() == [float("kick" in record.id), float("wave" in record.id)]


def test_a_training_learns_both_labels(run: RunFolder):
    scores = evaluate(run)
    assert isinstance(scores, MultiLabelScores)
    assert scores.mean_average_precision > 95
    assert scores.count == 12
    rows = Journal(run.path / "journal.jsonl").rows()
    assert rows[-1]["train"].keys() >= {"binary_cross_entropy", "loss"}
    assert "top1" not in rows[-1]["train"]
    assert rows[-1]["train"]["binary_cross_entropy"] < rows[0]["train"]["binary_cross_entropy"]
    assert max(row["val"]["mean_average_precision"] for row in rows) > 95
    with (run.path / "test-predictions.csv").open() as file:
        lines = list(csv.DictReader(file))
    both = [line for line in lines if line["id"].startswith("wave_kick")]
    assert {line["true"] for line in both} == {"kick; wave"}
    assert sum(line["predicted"] == line["true"] for line in lines) >= 10
    assert any(float(line["kick"]) + float(line["wave"]) > 1.2 for line in both)
    with (run.path / "split.csv").open() as file:
        assert {line["label"] for line in csv.DictReader(file)} == {"wave", "kick", "wave; kick"}


def test_it_is_resumed_bit_for_bit(labels: Path, tmp_path: Path):
    settings = {"save_seconds": 0.0, "focal_gamma": 1.0, "checkpoint": "best"}
    train(recipe_of(labels, **settings), tmp_path / "whole")
    with pytest.raises(KilledError):
        train(recipe_of(labels, **settings), tmp_path / "killed", report=KillAt(5))
    train(recipe_of(labels, num_workers=1, **settings), tmp_path / "killed", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "killed")


def test_all_labels_above_the_threshold_are_predicted(run: RunFolder, labels: Path):
    file = labels.parent / "wave_kick_4.npz"
    answer = muybridge.load(run.path)(file)
    assert set(answer.chosen or ()) == {"wave", "kick"}
    assert answer.label in ("wave; kick", "kick; wave")
    assert set(answer.as_dict()["labels"]) == {"wave", "kick"}
    assert answer.rejected is False
    one = muybridge.load(run.path)(labels.parent / "kick_4.npz", top=1)
    assert one.chosen == ("kick",)
    none = muybridge.load(run.path, reject=1.0)(file)
    assert (none.label, none.chosen, none.rejected) == ("none of these", (), True)


def test_the_commands_say_what_it_is(run: RunFolder, labels: Path):
    result = CliRunner().invoke(app, ["test", str(run.path), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "mean average precision" in result.stdout
    assert "F1 of all labels of 50% or more" in result.stdout
    result = CliRunner().invoke(app, ["predict", str(run.path), str(labels.parent / "kick_4.npz"), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "kick  *" in result.stdout
    assert "wave  *" not in result.stdout
    result = CliRunner().invoke(app, ["test", str(run.path), "--device", "cpu", "--json"])
    assert json.loads(result.stdout)["per_class"].keys() == {"kick", "wave"}


# Refusals


@pytest.mark.parametrize("model", ["linear", "fused", "video_lstm"])
def test_models_that_choose_one_class_are_refused(labels: Path, model: str):
    with pytest.raises(RecipeError, match="chooses one class"):
        recipe_of(labels).with_settings({"model": {"name": model}} | _of_video(model, labels))


def _of_video(model: str, labels: Path) -> dict[str, Any]:
    data = {"name": "video_folder", "root": str(labels), "label_separator": ";"}
    return {"data": data} if model == "video_lstm" else {}


def test_settings_of_one_label_are_refused(labels: Path):
    with pytest.raises(RecipeError, match="is for recordings of one label"):
        recipe_of(labels).with_settings({"train.balance": "loss"})
    video = {"name": "video_folder", "root": str(labels), "label_separator": ";"}
    settings = {"model": {"name": "tsn"}, "data": video, "view": {"reverse": True}}
    with pytest.raises(RecipeError, match=r"view\.reverse swaps one label for another"):
        recipe_of(labels).with_settings(settings)
    with pytest.raises(RecipeError, match="reverse_labels swaps one label for another"):
        recipe_of(labels).with_settings(settings | {"data": video | {"reverse_labels": [["wave", "kick"]]}})


def test_classes_that_a_mirror_swaps_are_refused(tmp_path: Path):
    with pytest.raises(ValidationError, match="mirror_labels swaps one label for another"):
        SkeletonFolder(root=tmp_path / "a.csv", label_separator=";", mirror_labels=(("a", "b"),))
    with pytest.raises(ValidationError, match="root is no table"):
        SkeletonFolder(root=tmp_path, label_separator=";")


def test_what_needs_one_label_is_refused_in_words(run: RunFolder, labels: Path, tmp_path: Path):
    predictor = muybridge.load(run.path)
    asked = {
        "calibration": lambda: calibrate(run),
        "a report": lambda: collect(run.path),
        "an export": lambda: export_run(run.path),
        "a timeline": lambda: TimelinePredictor(predictor),
        "a timeline of a stream": lambda: LivePredictor(predictor),
        "repetitions": lambda: plan(run.recipe(), tmp_path, [0, 1], None),
    }
    for what, ask in asked.items():
        with pytest.raises(RecipeError, match=f"{what.split(' of ')[0]} of recordings that may have several labels"):
            ask()
    for words in (["split", str(labels), "--out", str(tmp_path / "s.csv")], ["baseline", str(labels)]):
        result = CliRunner().invoke(app, [*words, "--set", "data.label_separator=;"])
        assert "of recordings that may have several labels" in str(result.exception), (words, result.output)
