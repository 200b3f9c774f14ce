"""Splits and folds that are drawn once: nobody on both sides, classes in equal shares, the same seed the same table."""

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.types import Record
from muybridge.data.annotations.write import write_table
from muybridge.data.datasets import Pack
from muybridge.data.datasets.skeleton_folder import SkeletonFolder
from muybridge.data.shards.write import pack
from muybridge.data.splitting import draw_folds, draw_split
from muybridge.recipe import folder_recipe
from tests.skeletons import figures

PEOPLE = [f"p{number}" for number in range(12)]


def records(people: list[str] = PEOPLE, classes: int = 3, takes: int = 2) -> list[Record]:
    return [
        Record(f"{label}/{person}_{take}", Path("a"), label, person)
        for label in range(classes)
        for person in people
        for take in range(takes)
    ]


def parts_of_groups(given: list[Record], drawn: list) -> dict[str, set]:
    parts = defaultdict(set)
    for record, part in zip(given, drawn, strict=True):
        parts[record.group].add(part)
    return parts


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_in_two_folds_and_classes_have_equal_shares(seed: int):
    given = records()
    folds = draw_folds(given, 4, seed)
    assert all(len(found) == 1 for found in parts_of_groups(given, folds).values())
    counts = Counter((record.label, fold) for record, fold in zip(given, folds, strict=True))
    assert set(counts.values()) == {6}


def test_the_same_seed_draws_the_same_and_another_one_something_else():
    given = records()
    assert draw_folds(given, 4, 1) == draw_folds(given, 4, 1)
    assert draw_folds(given, 4, 1) != draw_folds(given, 4, 2)
    assert draw_split(given, seed=1) == draw_split(given, seed=1)


@pytest.mark.parametrize(("test", "val"), [(0.25, 0.25), (0.5, 0.0), (0.0, 0.25), (0.33, 0.17)])
def test_shares_are_met(test: float, val: float):
    given = records()
    drawn = draw_split(given, test, val)
    assert all(len(found) == 1 for found in parts_of_groups(given, drawn).values())
    for part, share in (("test", test), ("val", val)):
        assert drawn.count(part) / len(drawn) == pytest.approx(share, abs=0.05)  # type: ignore[arg-type]


def test_without_groups_classes_are_divided_alike_even_small_ones():
    given = [Record(str(number), Path("a"), number % 3) for number in range(60)]
    counts = Counter(zip((one.label for one in given), draw_split(given, 0.25, 0.0), strict=True))
    assert {label: counts[label, "test"] for label in range(3)} == {0: 5, 1: 5, 2: 5}
    few = [Record(str(number), Path("a"), number % 3) for number in range(6)]
    folds = draw_folds(few, 3)
    assert sorted(Counter(folds).values()) == [2, 2, 2]
    assert all(len({folds[number], folds[number + 3]}) == 2 for number in range(3))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: draw_folds(records(["p1"]), 2), "2 folds of 1 groups"),
        (lambda: draw_folds(records(), 13), r"13 folds of 12 groups\. Expected 2 to 12"),
        (lambda: draw_folds(records(), 1), "1 folds"),
        (lambda: draw_split(records(), 0.6, 0.4), "0.6 of the recordings test and 0.4 validate"),
        (lambda: draw_split(records(["p1"])), "1 group left to draw from"),
        (lambda: draw_split(records(["p1", "p2"])), "1 group left to draw from"),
    ],
)
def test_what_cannot_be_drawn(draw, message: str):
    with pytest.raises(RecipeError, match=message):
        draw()


@pytest.fixture
def folder(tmp_path: Path) -> Path:

    body = figures("kinect20", people=1)
    for label in ("jump", 'say "hi", wave'):
        (tmp_path / "data" / label).mkdir(parents=True)
        for person in range(6):
            np.savez(tmp_path / "data" / label / f"p{person}_a.npz", joints=body + 0.01 * person)
    return tmp_path


def test_the_command_writes_a_table_that_trainings_take(folder: Path):
    out = folder / "folds.csv"
    given = ["split", str(folder / "data"), "--group", r"(p\d)_", "--out", str(out)]
    result = CliRunner().invoke(app, [*given, "--folds", "3"])
    assert result.exit_code == 0, result.output
    assert "fold 1        4 recordings, 2 groups, 2 to 2 a class" in result.stdout
    tested = set()
    for fold in (1, 2, 3):  # a number, as `--set data.fold=1` gives it
        data = folder_recipe("drnn", out, {"data.fold": fold}).data
        assert isinstance(data, SkeletonFolder)
        assert data.labels() == ("jump", 'say "hi", wave')
        index = data.index("test")
        assert len(index.records) == 4
        tested |= {record.group for record in index.records}
    assert len(tested) == 6
    result = CliRunner().invoke(app, [*given, "--test", "0.5", "--val", "0"])
    assert result.exit_code == 0, result.output
    assert "val_fraction" not in result.stderr
    data = folder_recipe("drnn", out).data
    assert not data.index("val").records
    people = [{record.group for record in data.index(part).records} for part in ("train", "test")]
    assert [len(each) for each in people] == [3, 3]
    assert not people[0] & people[1]


@pytest.fixture
def packed(folder: Path) -> Path:
    pack(
        folder_recipe("drnn", folder / "data", {"data.group": r"(p\d)_", "data.layout": "kinect20"}).data,
        folder / "pack",
    )
    return folder / "pack"


def test_a_pack_is_divided_by_a_table_of_its_ids(packed: Path):
    out = packed.parent / "parts.csv"
    result = CliRunner().invoke(app, ["split", str(packed), "--out", str(out), "--test", "0.5", "--val", "0.2"])
    assert result.exit_code == 0, result.output
    assert f"--data {packed} --set data.split={out}" in result.stderr
    data = Pack(root=packed, split=out)
    parts = {part: {record.group for record in data.index(part).records} for part in ("train", "val", "test")}
    assert {part: len(people) for part, people in parts.items()} == {"train": 2, "val": 1, "test": 3}
    assert len(set.union(*parts.values())) == 6
    nothing = data.model_copy(update={"val_fraction": 0.0})
    assert not nothing.index("val").records
    assert "nothing validates" in nothing.describe_split()
    CliRunner().invoke(app, ["split", str(packed), "--out", str(out), "--folds", "3"], catch_exceptions=False)
    assert Pack(root=packed, split=out).folds() == ("1", "2", "3")
    tested = [Pack(root=packed, split=out, fold=fold).index("test").records for fold in ("", "1", "2", "3")]
    assert tested[0] == tested[1]
    assert len({record.group for part in tested for record in part}) == 6
    with pytest.raises(DataError, match="no recordings of the fold 4"):
        Pack(root=packed, split=out, fold="4").index("test")
    with pytest.raises(ValueError, match="fold is that of a table of folds"):
        Pack(root=packed, fold="1")
    with pytest.raises(DataError, match="a table names files"):  # of `muybridge doctor --fix`
        write_table(out, tested[0], nothing.labels())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: ["path,split", *lines[1:]], "the first line names the columns path, split"),
        (lambda lines: [*lines, lines[3]], "line 14 names '.*', as line 4 does"),
        (lambda lines: [*lines, "other.npz,jump,p1,train"], "line 14 names 'other.npz', and there is no such"),
        (lambda lines: lines[:-1], "1 recordings of the pack are in no line, such as"),
        (lambda lines: [*lines[:2], lines[2].replace("train", "both"), *lines[3:]], "line 3 lacks a value, or has"),
    ],
)
def test_a_table_that_is_not_of_the_pack_is_refused(packed: Path, change: Callable, message: str):
    out = packed.parent / "parts.csv"
    CliRunner().invoke(app, ["split", str(packed), "--out", str(out), "--val", "0", "--test", "0.2"])
    lines = change(out.read_text().splitlines())
    out.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    with pytest.raises(DataError, match=message):
        Pack(root=packed, split=out).index("train")


def test_the_command_says_what_is_wrong(folder: Path):
    result = CliRunner().invoke(app, ["split", str(folder / "data"), "--out", str(folder / "a.txt")])
    assert isinstance(result.exception, RecipeError)
    result = CliRunner().invoke(app, ["split", str(folder / "data"), "--out", str(folder / "a.csv")])
    assert "no person or source is known" in result.stderr


def test_a_wrong_setting_of_a_starting_recipe_is_named(folder: Path):
    with pytest.raises(RecipeError, match=r"--set data\.fps=fast"):
        folder_recipe("drnn", folder / "data", {"data.fps": "fast"})
