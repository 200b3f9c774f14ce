"""Data sets of skeletons with files that are odd: without bodies, with odd names, with odd lists."""

import numpy as np
import pytest

from muybridge.core.errors import DataError
from muybridge.data.datasets import NTURGBD, SBU, MSRAction3D, SkeletonFolder

BODY = "\n".join(["72057594037931101 0 1 1 1 1 0 0.02 -0.2 2", "25", *["0.1 0.2 3.1 0 0 0 0 0 0 0 0 2"] * 25])
ONE_BODY = "\n".join(["2", "1", BODY, "0"])
NO_BODY = "\n".join(["3", "0", "0", "0"])


@pytest.fixture
def ntu(tmp_path):
    """Person 1 trains and person 3 tests; each has two actions."""
    for person in (1, 3):
        for action in (1, 2):
            (tmp_path / f"S001C001P{person:03}R001A{action:03}.skeleton").write_text(ONE_BODY)
    return tmp_path


def test_a_recording_of_ntu_without_bodies_is_excluded_and_counted(ntu):
    (ntu / "S001C001P001R001A001.skeleton").write_text(NO_BODY)
    index = NTURGBD(root=ntu).index("train")
    assert [record.id for record in index.records] == ["S001C001P001R001A002"]
    (excluded,) = index.excluded
    assert excluded.id == "S001C001P001R001A001"
    assert excluded.reason == "nobody is seen in any of the 3 frames (all coordinates are zero)"
    assert not NTURGBD(root=ntu).index("test").excluded


def test_a_file_of_ntu_without_bodies_is_excluded_from_a_folder_too(ntu):
    for label, person in (("drink", 1), ("eat", 3)):
        (ntu / "own" / label).mkdir(parents=True)
        for number in (1, 2, 3):
            text = NO_BODY if (label, number) == ("eat", 2) else ONE_BODY
            (ntu / "own" / label / f"P{person}_{number}.skeleton").write_text(text)
    data = SkeletonFolder(root=ntu / "own", layout="kinect25", people=2, coordinates=3)
    excluded = [each.id for split in ("train", "test") for each in data.index(split).excluded]
    assert excluded == ["eat/P3_2.skeleton"]


def test_a_damaged_small_file_of_ntu_stays_in_the_index_and_is_an_error_when_it_is_opened(ntu):
    (ntu / "S001C001P001R001A001.skeleton").write_text("3\n0\n0\n")
    data = NTURGBD(root=ntu)
    (damaged, _) = data.index("train").records
    with pytest.raises(DataError, match=r"the file ends at line 3, where the number of bodies belongs"):
        data.open(damaged)


def test_names_that_are_not_those_of_the_data_set_are_not_taken(ntu, tmp_path):
    for name in ("SxxxC001P001R001A001", "S001C001P001R001A000", "S001C001P001R001Axyz"):
        (ntu / f"{name}.skeleton").write_text(ONE_BODY)
    assert len(NTURGBD(root=ntu).index("train")) == 2
    row = " ".join(["0.1", "0.2", "0.3", "1"])
    for name in ("a01_s01_e01", "a01_s02_e01", "axx_s01_e01", "a01_sxx_e01", "a21_s01_e01"):
        (tmp_path / f"{name}_skeleton3D.txt").write_text("\n".join([row] * 20))
    data = MSRAction3D(root=tmp_path)
    assert [record.id for split in ("train", "test") for record in data.index(split).records] == [
        "a01_s01_e01",
        "a01_s02_e01",
    ]
    for action in ("01", "09", "xx"):
        for pair in ("s01s02", "s02s03"):
            (tmp_path / pair / action / "001").mkdir(parents=True)
            (tmp_path / pair / action / "001" / "skeleton_pos.txt").write_text(",".join(["1"] * 91))
    assert [record.id for record in SBU(root=tmp_path, fold=2).index("train").records] == ["s01s02/01/001"]


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ("S001C001P001R001A001\n", ["S001C001P001R001A001"]),
        ("S001C001P001R001A001.skeleton, S001C001P001R001A002\r\n".encode("utf-16"), None),
        (b"\xef\xbb\xbfS001C001P001R001A002\r", ["S001C001P001R001A002"]),
        ("nothing of that kind", "the list has no names of recordings. Expected names such as S001"),
        (b"\xff\xfe\x00\xd8", "missing.txt"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "missing.txt"),
    ],
)
def test_the_list_of_missing_recordings(ntu, content, missing):
    path = ntu / "missing.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    data = NTURGBD(root=ntu, missing=path)
    if isinstance(missing, list):
        assert [each.id for each in data.index("train").excluded] == missing
        return
    with pytest.raises(DataError, match=missing or "the train split is empty"):
        data.index("train")


def test_frames_of_sbu_are_in_order(tmp_path):
    rows = [
        ",".join([str(number), *np.random.default_rng(0).normal(size=90).round(3).astype(str)]) for number in (4, 5, 5)
    ]
    from muybridge.media.skeleton import read_sbu

    path = tmp_path / "skeleton_pos.txt"
    path.write_text("\n".join(rows[:2]))
    assert len(read_sbu(path)) == 2
    for order, message in ((rows, "frame 5 follows frame 5"), (rows[1::-1], "frame 4 follows frame 5")):
        path.write_text("\n".join(order))
        with pytest.raises(DataError, match=rf"{message}\. Expected frames in order, each once"):
            read_sbu(path)
