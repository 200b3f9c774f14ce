"""Recordings of none of the classes, cut from the unlabelled time of files whose segments a table labels."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from muybridge.core.errors import DataError
from muybridge.core.types import NONE_OF_THESE, Record
from muybridge.data.datasets import SkeletonFolder
from muybridge.data.datasets.background import MARGIN, SHORTENED, cut_background
from tests.skeletons import figure

FPS = 10.0


@pytest.mark.parametrize("seed", range(40))
def test_background_never_overlaps_a_segment_nor_other_background(seed: int):
    rng = np.random.default_rng(seed)
    times = np.sort(rng.uniform(0, 60, 2 * rng.integers(1, 8))).round(3)
    if seed % 3 == 0:  # segments that touch, and one that contains another
        times = np.repeat(times, 2)[1:-1]
    labelled = [(float(start), float(end)) for start, end in times.reshape(-1, 2) if end > start]
    if seed % 2:
        labelled.append((labelled[0][0], labelled[0][1] + 7.0))
    length = float(max(end for _, end in labelled) + rng.uniform(-0.4, 20))
    found = cut_background(labelled, length, 12, f"file{seed}")
    assert found == cut_background(labelled[::-1], length, 12, f"file{seed}")
    for start, end in found:
        assert 0 <= start < end <= length
        assert all(end <= first - MARGIN + 1e-9 or start >= last + MARGIN - 1e-9 for first, last in labelled)
        assert end - start >= SHORTENED * min(last - first for first, last in labelled) - 0.001
    assert all(end <= start for (_, end), (start, _) in pairwise(found))


def test_lengths_are_those_of_the_segments_and_places_are_drawn_by_name():
    labelled = [(10.0, 12.0), (20.0, 23.0), (30.0, 35.0)]
    found = cut_background(labelled, 1000.0, 6, "a")
    assert Counter(round(end - start, 6) for start, end in found) == {2.0: 2, 3.0: 2, 5.0: 2}
    assert found != cut_background(labelled, 1000.0, 6, "b")
    assert cut_background([(1.0, 9.0)], 10.0, 3, "a") == []  # 0.75 s are not half of 8 s
    assert cut_background([(1.0, 2.0)], 2.9, 3, "a") == [(0.0, 0.75), (2.25, 2.9)]  # shortened to what is there


def put(folder: Path, rows: list[str], header: str = "path,label,start,end", frames: int = 400) -> Path:
    """A table, and a file of so many frames for each path."""
    for path in {row.split(",")[0] for row in rows}:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        joints = np.resize(figure("kinect20"), (frames, 20, 3))
        np.savez(folder / path, joints=joints)
    (folder / "list.csv").write_text("\n".join([header, *rows]))
    return folder / "list.csv"


def data_of(table: Path, **settings: object) -> SkeletonFolder:
    given = {"root": table, "fps": FPS, "layout": "kinect20", "people": 1, "coordinates": 3, "val_fraction": 0.0}
    return SkeletonFolder.model_validate(given | {"background": 0.5} | settings)


def records(data: SkeletonFolder) -> dict[str, list[Record]]:
    return {part: list(data.index(part).records) for part in ("train", "val", "test")}


ROWS = [f"{name}.npz,{label},{start},{start + 3}" for name in "abcdefgh" for label, start in (("x", 4), ("y", 20))]


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_there_is_so_much_background_and_a_file_is_in_one_part(tmp_path: Path, share: float):
    data = data_of(put(tmp_path, ROWS), background=share, test_fraction=0.25)
    found = records(data)
    assert data.labels() == ("x", "y", NONE_OF_THESE)
    everything = [record for part in found.values() for record in part]
    background = [record for record in everything if record.label == 2]
    assert len(everything) - len(background) == 16
    assert len(background) == 16 * share
    files = {part: {record.path for record in part_records} for part, part_records in found.items()}
    assert files["train"]
    assert files["test"]
    assert not files["train"] & files["test"]
    assert {record.path for record in found["test"] if record.label == 2} <= files["test"]
    assert any("recordings of 'none of these'" in notice for notice in data.notices())
    assert len(data.open(background[0])) == pytest.approx(30, abs=1)
    plain = records(data_of(tmp_path / "list.csv", background=0, test_fraction=0.25))
    assert {one.id for one in plain["test"]} == {one.id for one in found["test"] if one.label != 2}


def test_a_run_opens_the_same_recordings_again(tmp_path: Path):
    data = data_of(put(tmp_path, ROWS))
    again = SkeletonFolder.model_validate(data.resolved().model_dump())
    assert again.classes == ("x", "y", NONE_OF_THESE)
    assert records(again) == records(data)
    numbered = [row.replace(",x,", ",1,").replace(",y,", ",2,") for row in ROWS]
    data = data_of(put(tmp_path, numbered), classes=("x", "y"))
    again = SkeletonFolder.model_validate(data.resolved().model_dump())
    assert [record.label for record in records(again)["train"]] == [one.label for one in records(data)["train"]]
    assert again.labels() == ("x", "y", NONE_OF_THESE)


def test_parts_and_groups_of_the_table_are_kept(tmp_path: Path):
    parts = {"a": "train", "b": "train", "c": "train", "d": "train", "e": "val", "f": "val", "g": "test", "h": "test"}
    rows = [f"{row},p{number // 4},{parts[row[0]]}" for number, row in enumerate(ROWS)]
    table = put(tmp_path, rows, "path,label,start,end,group,split")
    found = records(data_of(table))
    counts = {part: Counter(record.label == 2 for record in found[part]) for part in found}
    assert counts == {"train": {False: 8, True: 4}, "val": {False: 4, True: 2}, "test": {False: 4, True: 2}}
    groups = {record.path.name: record.group for part in found.values() for record in part if record.label != 2}
    for part in found.values():
        assert all(record.group == groups[record.path.name] for record in part)


def test_files_whose_segments_are_of_several_people_or_parts_give_none(tmp_path: Path):
    rows = [f"{row},{'anna' if ',x,' in row else 'ben'}" for row in ROWS[:2]] + [f"{row},cara" for row in ROWS[2:]]
    found = records(data_of(put(tmp_path, rows, "path,label,start,end,group"), background=1.0))
    background = [record for part in found.values() for record in part if record.label == 2]
    assert len(background) == 14
    assert {record.path.name for record in background} == {f"{name}.npz" for name in "bcdefgh"}
    assert {record.group for record in background} == {"cara"}


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (ROWS, {"label_separator": ";"}, "a recording may have several labels"),
        ([*ROWS, "a.npz,none of these,30,31"], {}, "the class 'none of these' is in the table"),
        (["a.npz,x,0,20", "a.npz,y,20,40"], {}, r"no room for background beside 2 labelled segments.*0\.25 s away"),
    ],
)
def test_background_that_cannot_be_cut(tmp_path: Path, rows: list[str], settings: dict, message: str):
    with pytest.raises((DataError, ValidationError), match=message):
        data_of(put(tmp_path, rows), **settings).index("train")


def test_background_is_cut_from_tables_alone(tmp_path: Path):
    with pytest.raises(ValidationError, match="root is no table"):
        SkeletonFolder(root=tmp_path, background=0.5)
    (tmp_path / "whole").mkdir()
    table = put(tmp_path / "whole", ["a.npz,x,,", "b.npz,y,,", "c.npz,x,2,5"])
    data = data_of(table, background=1.0, test_fraction=0.0)
    background = [record for record in data.index("train").records if record.label == 2]
    assert [record.path.name for record in background] == ["c.npz"]
