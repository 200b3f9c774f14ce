"""The split of a run is kept: what changes in the data later is named, and nothing that was trained on is tested."""

import csv
import itertools
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muybridge.core.errors import DataError, RunError
from muybridge.core.rng import derive_seed
from muybridge.core.types import Record
from muybridge.engine import saved_split
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.init_from import continued_recipe
from muybridge.engine.journal import Reporter
from muybridge.engine.saved_split import SavedRecord, SavedSplit
from muybridge.engine.train import train
from muybridge.recipe import Recipe
from tests.test_train import KillAt, KilledError
from tests.tiny import tiny_recipe, write_recordings

CLASSES = ("rise", 'fall, "slow"')


class Notes(Reporter):
    """Collects what is reported."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def recipe_for(root: Path, **settings: Any) -> Recipe:
    tree = {"name": "skeleton_folder", "root": str(root), "group": r"(s\d+)_", "val_groups": ["s03"]}
    tree |= {"test_groups": ["s02"], "layout": "kinect20", "mirror_labels": []}
    return Recipe.model_validate(
        tiny_recipe(root, epochs=1).model_dump(exclude={"data"}) | {"data": tree}
    ).with_settings(settings)


def write_project(folder: Path) -> Path:
    """Two classes of people 1 to 4 with two recordings each; person 2 tests, person 3 validates."""
    source = write_recordings(folder / "source")
    for action, name in enumerate(CLASSES, start=1):
        (folder / "data" / name).mkdir(parents=True)
        for path in sorted(source.glob(f"a{action:02}_s*_e0[12]_*")):
            path.rename(folder / "data" / name / path.name[4:])
    shutil.rmtree(source)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_project(tmp_path_factory.mktemp("project"))
    train(recipe_for(project / "data"), project / "runs" / "mine")
    return project


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:
    """The project, moved: recordings and run keep their place relative to each other, and their times of change."""
    copied = Path(shutil.copytree(trained, tmp_path / "moved"))
    recipe = copied / "runs" / "mine" / "recipe.toml"
    gone = str(tmp_path / "gone")  # where the recordings were, as far as the run knows
    recipe.write_text(recipe.read_text().replace(str(trained), gone))
    return copied


def run_of(project: Path) -> RunFolder:
    return RunFolder.open(project / "runs" / "mine")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_split_is_written_out(trained: Path):
    table = rows(trained / "runs" / "mine" / "split.csv")
    assert list(table[0]) == ["split", "id", "path", "label", "group", "bytes", "modified", "fingerprint", "span"]
    assert len(table) == 16
    assert {(row["split"], row["group"]) for row in table} == {
        ("train", "s01"),
        ("train", "s04"),
        ("val", "s03"),
        ("test", "s02"),
    }
    for row in table:
        path = trained / "data" / row["path"]
        assert row["id"] == row["path"] == f"{row['label']}/{path.name}"
        assert int(row["bytes"]) == path.stat().st_size
    assert len({row["fingerprint"] for row in table}) == 16


def test_any_name_survives_the_file(tmp_path: Path):
    record = SavedRecord("test", 'a,"b"/ç 1.npz', "x", 'walk, "fast"', "s1;", 12, 34, "ab")
    SavedSplit([record]).write(tmp_path / "split.csv")
    assert SavedSplit.read(tmp_path / "split.csv").records == (record,)
    (tmp_path / "split.csv").write_text("split,id\ntest,a\n")
    with pytest.raises(RunError, match=r"split\.csv: damaged"):
        SavedSplit.read(tmp_path / "split.csv")


def test_a_moved_project_is_found_by_relative_paths(project: Path):
    scores = evaluate(run_of(project))
    assert scores.count == 4
    assert {row["id"].rpartition("/")[2][:3] for row in rows(project / "runs" / "mine" / "test-predictions.csv")} == {
        "s02"
    }


def test_moved_recordings_are_found_with_data_or_under_the_data_folder(project: Path, monkeypatch: pytest.MonkeyPatch):
    (project / "data").rename(project / "elsewhere")
    run = run_of(project)
    with pytest.raises(DataError, match=r"gone/data: the recordings of this run are not there any more.*--data DIR"):
        evaluate(run)
    assert evaluate(run, data=project / "elsewhere").count == 4
    facts = run.facts()
    facts["paths"]["data.root"]["MUYBRIDGE_DATA"] = "elsewhere"
    run.write_json("run.json", facts)
    monkeypatch.setenv("MUYBRIDGE_DATA", str(project))
    assert evaluate(run).count == 4


def test_the_place_under_the_data_folder_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUYBRIDGE_DATA", str(tmp_path))
    (tmp_path / "sets" / "mine").mkdir(parents=True)
    recipe = tiny_recipe(tmp_path / "sets" / "mine")
    run = RunFolder.create(tmp_path / "runs" / "r", recipe, ("a", "b"), {}, {})
    assert run.facts()["paths"] == {"data.root": {"run": "../../sets/mine", "MUYBRIDGE_DATA": "sets/mine"}}


def test_new_recordings_are_named_and_not_tested(project: Path):
    source = project / "data" / CLASSES[0] / "s02_e01_skeleton3D.txt"
    for name in ("s02_e09_skeleton3D.txt", "s09_e01_skeleton3D.txt"):
        shutil.copy(source, source.with_name(name))
    before = {row["id"] for row in rows(project / "runs" / "mine" / "split.csv") if row["split"] == "test"}
    notes = Notes()
    assert evaluate(run_of(project), report=notes).count == 4
    assert {row["id"] for row in rows(project / "runs" / "mine" / "test-predictions.csv")} == before
    assert "2 added: rise/s02_e09_skeleton3D.txt, rise/s09_e01_skeleton3D.txt" in notes.lines[0]
    assert "new recordings are not tested" in notes.lines[1]
    assert "2 added" in run_of(project).path.joinpath("test.json").read_text()


def add_copies_drawn_last(root: Path) -> None:
    """Three times as many recordings, by names that are drawn for the test after all others."""
    paths = sorted(root.rglob("*.txt"))
    last = max(derive_seed("test", path.relative_to(root).as_posix()) for path in paths)
    for path in paths:
        names = (path.with_name(f"copy{number}_{path.name}") for number in itertools.count())
        late = (name for name in names if derive_seed("test", name.relative_to(root).as_posix()) > last)
        for name in itertools.islice(late, 2):
            shutil.copy(path, name)


def test_without_groups_a_redrawn_split_tests_nothing_that_was_trained_on(tmp_path: Path):
    project = write_project(tmp_path)
    recipe = recipe_for(project / "data", **{"data.group": "", "data.test_groups": [], "data.val_groups": []})
    run = train(recipe, project / "runs" / "mine")
    split = run.split()
    assert split is not None
    add_copies_drawn_last(project / "data")
    redrawn = {record.id for record in run.recipe().data.index("test").records}
    assert redrawn & split.ids("train"), "the data set itself would test what was trained on"
    evaluate(run)
    tested = {row["id"] for row in rows(run.path / "test-predictions.csv")}
    assert tested == split.ids("test")
    assert not tested & split.ids("train", "val")


def test_a_removed_test_recording_is_refused_or_excluded_knowingly(project: Path):
    gone = project / "data" / CLASSES[1] / "s02_e01_skeleton3D.txt"
    gone.unlink()
    with pytest.raises(
        DataError, match=r'1 of the 4 recordings of test are gone.*fall, "slow"/s02_e01.*--missing exclude'
    ):
        evaluate(run_of(project))
    notes = Notes()
    scores = evaluate(run_of(project), report=notes, missing="exclude")
    assert (scores.count, scores.excluded) == (3, 1)
    assert "1 recordings that are gone are excluded" in notes.lines[-2]
    gone.with_name("s02_e02_skeleton3D.txt").write_text("0 0 0 1\n" * 40)  # nobody is seen in it any more
    with pytest.raises(DataError, match=r"2 of the 4 recordings of test are gone or unusable: .*s02_e02\S+ \(nobody"):
        evaluate(run_of(project))


def test_all_test_recordings_gone(project: Path):
    for path in (project / "data").rglob("s02_*"):
        path.rename(path.with_name(path.name.replace("s02", "s05")))
    run = run_of(project)
    recipe = run.path / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('"s02"', '"s05"'))
    with pytest.raises(DataError, match=r"all 4 recordings of test are gone"):
        evaluate(run, missing="exclude")


def test_changed_recordings_are_named_and_touched_ones_are_not(project: Path):
    for path in (project / "data").rglob("*.txt"):
        os.utime(path, (1, 1))  # a copy without times of change
    notes = Notes()
    evaluate(run_of(project), report=notes)
    assert not any("changed" in line for line in notes.lines)
    changed = project / "data" / CLASSES[0] / "s02_e01_skeleton3D.txt"
    text = changed.read_text()
    changed.write_text(text[:-3] + ("1" if text[-3] != "1" else "2") + text[-2:])  # of the same size
    evaluate(run_of(project), report=notes)
    assert any("1 changed: rise/s02_e01_skeleton3D.txt" in line for line in notes.lines)


def test_another_class_folder_is_refused(project: Path):
    (project / "data" / CLASSES[0]).rename(project / "data" / "lift")
    with pytest.raises(DataError, match=r"the class 'lift' is not among data\.classes|the class 'rise' has no folder"):
        evaluate(run_of(project))


def spoil(folder: Path, how: str) -> None:
    path = folder / CLASSES[0] / "s01_e01_skeleton3D.txt"
    if how == "added":
        shutil.copy(path, path.with_name("s01_e09_skeleton3D.txt"))
    elif how == "removed":
        path.unlink()
    elif how == "changed":
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines, *lines[-20:]]))  # one more frame of 20 joints
    else:
        path.rename(folder / CLASSES[1] / "s01_e09_skeleton3D.txt")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = write_project(tmp_path_factory.mktemp("stopped"))
    with pytest.raises(KilledError):
        train(recipe_for(project / "data"), project / "runs" / "mine", report=KillAt(1))
    return project


@pytest.mark.parametrize("how", ["added", "removed", "changed", "moved"])
def test_a_training_is_not_resumed_with_other_recordings(stopped: Path, tmp_path: Path, how: str):
    project = Path(shutil.copytree(stopped, tmp_path / "p"))
    recipe = recipe_for(project / "data")
    spoil(project / "data", how)
    named = "1 removed: rise/s01_e01.*1 added" if how == "moved" else rf"1 {how}: rise/s01_e0[19]"
    with pytest.raises(DataError, match=rf"not those that the training was started with \({named}.*split\.csv"):
        train(recipe, project / "runs" / "mine", resume=True)


def test_a_training_is_resumed_where_its_recordings_have_moved(stopped: Path, tmp_path: Path):
    project = Path(shutil.copytree(stopped, tmp_path / "p"))
    shutil.move(project / "data", project / "elsewhere")
    assert train(recipe_for(project / "elsewhere"), project / "runs" / "mine", resume=True).finished


def test_a_run_folder_among_the_recordings_is_refused(stopped: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(stopped / "data")
    with pytest.raises(RunError, match=r"runs/x: the run folder lies in the folder of the recordings"):
        train(recipe_for(Path(".").resolve()), Path("runs/x"))
    assert not (stopped / "data" / "runs").exists()


def test_a_test_part_that_comes_later_may_not_have_been_trained_on(tmp_path: Path):
    """A split given by folders, with a folder of tests that is filled after the training."""
    project = write_project(tmp_path)
    recipe = recipe_for(project / "data", **{"data.val_groups": [], "data.val_fraction": 0.0})
    run = train(recipe, project / "runs" / "mine")
    with pytest.raises(DataError, match="there are no recordings in the part val"):
        evaluate(run, "val")
    split = run.split()
    assert split is not None
    SavedSplit(record for record in split.records if record.split != "test").write(run.path / "split.csv")
    notes = Notes()
    assert evaluate(run, report=notes).count == 4
    assert notes.lines[0] == "the run has no part test; that of the data set is taken, none of which was trained on"
    leaked = project / "data" / CLASSES[0] / "s01_e01_skeleton3D.txt"
    shutil.copy(leaked, leaked.with_name("s02_e05_skeleton3D.txt"))  # a training recording under another name
    with pytest.raises(DataError, match=r"1 of the 5 recordings of test were trained on: rise/s02_e05"):
        evaluate(run)


def test_a_longer_training_goes_on_from_the_weights_in_a_new_run(project: Path):
    recipe = continued_recipe(run_of(project)).with_settings({"train.epochs": 2})
    assert recipe.train.init_from[""].run == (project / "runs" / "mine").resolve()
    assert recipe.data == run_of(project).recipe().data
    run = train(recipe, project / "runs" / "longer")
    assert evaluate(run).count == 4


def test_weights_that_have_seen_the_test_part_are_refused(project: Path):
    recipe = continued_recipe(run_of(project)).with_settings({"data.test_groups": ["s01"], "data.val_groups": []})
    with pytest.raises(DataError, match=r"4 of 4 test recordings were trained on by the run that this one starts from"):
        train(recipe, project / "runs" / "leaky")
    assert not RunFolder(project / "runs" / "leaky").exists


def test_fingerprints_see_a_change_in_the_middle_of_a_file(tmp_path: Path):
    path = tmp_path / "a.npy"
    array = np.zeros((1000, 60))
    np.save(path, array)
    size, modified = path.stat().st_size, path.stat().st_mtime_ns
    record = SavedRecord("train", "a", "a", "x", "", size, modified, saved_split._fingerprint(path))
    os.utime(path, ns=(1, 1))
    assert record.is_content_of(Record("a", path, 0))
    array[500, 3] = 1
    np.save(path, array)
    os.utime(path, ns=(1, 1))
    assert path.stat().st_size == size
    assert not record.is_content_of(Record("a", path, 0))
