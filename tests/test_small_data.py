"""Data of unusual sizes: few people, classes of one and of hundreds, very short and very long recordings.

Each ends in a table of baselines and a trained run, or in a message that says what is missing.
"""

from pathlib import Path

import numpy as np
import pytest

from muybridge.baseline.measure import measure_baselines
from muybridge.core.errors import DataError
from muybridge.data.datasets import SkeletonFolder, VideoFolder
from muybridge.data.summary import summarize
from muybridge.engine.evaluate import evaluate
from muybridge.engine.train import train
from muybridge.recipe import folder_recipe
from tests.test_near_duplicates import write_video

SMALL = {"model.hidden": 4, "train.epochs": 1, "train.num_workers": 0, "train.batch_size": 64}
RNG = np.random.default_rng(0)


def write(root: Path, label: str, name: str, frames: int = 8) -> None:
    """One person of 6 joints who moves at random."""
    (root / label).mkdir(parents=True, exist_ok=True)
    pose = RNG.normal(size=(6, 3))
    np.save(root / label / f"{name}.npy", (pose + 0.1 * RNG.normal(size=(frames, 6, 3)))[:, None].astype(np.float32))


def trained(root: Path, run: Path, **settings: object) -> float:
    """Top-1 accuracy of a small dRNN on a folder, which only has to be a number."""
    return evaluate(train(folder_recipe("drnn", root, SMALL | settings), run)).top1


def test_one_person_only(tmp_path: Path):
    """With groups there is nobody to test on; without, recordings of the one are split."""
    for label in ("a", "b"):
        for take in range(4):
            write(tmp_path / "data", label, f"s1_{take}")
    with pytest.raises(DataError, match=r"the test split is empty"):
        SkeletonFolder(root=tmp_path / "data", group=r"(s\d)_").index("test")
    data = SkeletonFolder(root=tmp_path / "data")
    assert measure_baselines(data).count == 2
    assert "no groups are known, so the same person may be in several parts" in data.describe_split()
    assert 0 <= trained(tmp_path / "data", tmp_path / "run") <= 100


def test_one_recording_of_a_class(tmp_path: Path):
    """It trains, is not tested, and both are said."""
    for take in range(6):
        write(tmp_path / "data", "often", f"{take}")
    write(tmp_path / "data", "once", "0")
    warnings = summarize(SkeletonFolder(root=tmp_path / "data")).warnings
    assert "a single training recording of 1 class: once" in warnings
    assert "no test recordings of 1 class: once" in warnings
    table = measure_baselines(SkeletonFolder(root=tmp_path / "data"))
    assert (table.trained, table.count) == (6, 1) or (table.trained, table.count) == (4, 2)
    assert 0 <= trained(tmp_path / "data", tmp_path / "run") <= 100


def test_one_recording_of_every_class(tmp_path: Path):
    write(tmp_path / "data", "a", "0")
    write(tmp_path / "data", "b", "0")
    with pytest.raises(DataError, match=r"the test split is empty.*one for training and one for the test"):
        SkeletonFolder(root=tmp_path / "data").index("test")


def test_classes_of_1_and_of_500(tmp_path: Path):
    for take in range(500):
        write(tmp_path / "data", "often", f"{take}", frames=3)
    write(tmp_path / "data", "once", "0", frames=3)
    table = measure_baselines(SkeletonFolder(root=tmp_path / "data"))
    assert table.rows[0].top1 == 100  # the rare class has no test recording
    assert table.floor.validation is not None
    assert 0 <= trained(tmp_path / "data", tmp_path / "run") <= 100


def test_200_classes_of_3(tmp_path: Path):
    for label in range(200):
        for take in range(3):
            write(tmp_path / "data", f"class{label:03}", f"{take}", frames=4)
    data = SkeletonFolder(root=tmp_path / "data")
    table = measure_baselines(data)
    assert table.count == 200
    assert table.rows[0].top1 == 0.5
    assert not [warning for warning in summarize(data).warnings if "no test recordings" in warning]
    assert 0 <= trained(tmp_path / "data", tmp_path / "run") <= 100


def test_recordings_of_5_and_of_5000_frames(tmp_path: Path):
    for label in ("a", "b"):
        for take in range(4):
            write(tmp_path / "data", label, f"{take}", frames=5000 if take == 0 else 5)
    assert measure_baselines(SkeletonFolder(root=tmp_path / "data")).count == 2
    assert 0 <= trained(tmp_path / "data", tmp_path / "run") <= 100


def test_videos_of_5_frames(tmp_path: Path):
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for take in range(4):
            write_video(tmp_path / "data" / label / f"{take}.mp4", list(RNG.integers(0, 255, (5, 32, 32), np.uint8)))
    assert measure_baselines(VideoFolder(root=tmp_path / "data")).count == 2
    settings = {"model.backbone": "resnet10", "model.width": 8, "model.size": 32, "model.pretrained": False}
    training = {"train.epochs": 1, "train.num_workers": 0, "train.precision": "32-true"}
    run = train(folder_recipe("tdn", tmp_path / "data", settings | training), tmp_path / "run")
    assert evaluate(run).count == 2


def test_a_class_of_one_person_is_told(tmp_path: Path):
    for label, people in (("a", "xyz"), ("b", "x")):
        for person in people:
            for take in range(3):
                write(tmp_path / "data", label, f"{person}_{take}")
    data = SkeletonFolder(root=tmp_path / "data", group="/([xyz])_", test_groups=("y",), val_fraction=0)
    (single,) = [text for text in summarize(data).warnings if "of one group" in text]
    assert single.startswith("1 class of which all recordings are of one group, so the person or source cannot be told")
    assert single.endswith(": b (x)")
    assert measure_baselines(data).count == 3
    assert 0 <= trained(tmp_path / "data", tmp_path / "run", **{"data.group": "/([xyz])_"}) <= 100


def test_a_table_of_groups_with_missing_rows(tmp_path: Path):
    for label in ("a", "b"):
        for person in range(3):
            write(tmp_path / "data", label, f"{label}{person}")
    rows = [f"{label}/{label}{person}.npy,p{person}" for label in "ab" for person in range(3)]
    table = tmp_path / "people.csv"
    table.write_text("\n".join(["file,group", *rows[:-1]]))
    with pytest.raises(DataError, match=r"people\.csv: 'b/b2\.npy' is not in the table.*one group for every recording"):
        measure_baselines(SkeletonFolder(root=tmp_path / "data", group=str(table)))
    table.write_text("\n".join(["file,group", *rows]))
    assert measure_baselines(SkeletonFolder(root=tmp_path / "data", group=str(table))).count == 2
