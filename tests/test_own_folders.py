"""What people's own folders look like: splits, copies, hidden files, names; each is read right, or refused in words.

Videos are not opened for an index, so that a few bytes stand for each; different bytes unless a test says otherwise.
"""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from muybridge.core.errors import DataError
from muybridge.data.datasets import SkeletonFolder, VideoFolder
from muybridge.data.datasets.groups import is_table
from muybridge.data.summary import summarize


def put(root: Path, *names: str, content: bytes | None = None) -> Path:
    """Files with unique content, or all with the same."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(path.relative_to(root)).encode() if content is None else content)
    return root


def ids(data: VideoFolder | SkeletonFolder, split: str) -> set[str]:
    return {record.id for record in data.index(split).records}  # pyright: ignore[reportArgumentType]


def names(*folders: str, classes: tuple[str, ...] = ("bow", "nod"), takes: int = 4) -> list[str]:
    return [f"{folder}{label}/{take}.mp4" for folder in folders for label in classes for take in range(takes)]


# Folders that make up a split


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Validation", "Test"),
        ("TRAIN", "VALID", "TEST"),
        ("training", "dev", "testing"),
    ],
)
def test_folders_of_a_split_are_taken_as_the_split(tmp_path: Path, train: str, val: str, test: str):
    put(tmp_path, *names(f"{train}/", f"{val}/", f"{test}/"))
    data = VideoFolder(root=tmp_path)
    assert data.labels() == ("bow", "nod")
    for part, folder in (("train", train), ("val", val), ("test", test)):
        assert ids(data, part) == set(names(f"{folder}/"))
    assert {record.label for record in data.index("test").records if "/nod/" in record.id} == {1}
    assert data.resolved().split == "folders"
    assert ids(data.resolved(), "val") == ids(data, "val")

    assert data.describe_split().startswith("given by the folders ")
    for name in (f"{train} (train)", f"{val} (val)", f"{test} (test)"):
        assert name in data.describe_split()


def test_folders_of_a_split_in_each_class(tmp_path: Path):
    put(
        tmp_path,
        *(f"{label}/{part}/{take}.mp4" for label in ("bow", "nod") for part in ("train", "Test") for take in (1, 2)),
    )
    data = VideoFolder(root=tmp_path, group=r"/(\d)", val_fraction=0.0)
    assert data.labels() == ("bow", "nod")
    assert ids(data, "test") == {f"{label}/Test/{take}.mp4" for label in ("bow", "nod") for take in (1, 2)}
    assert {record.group for record in data.index("train").records} == {"1", "2"}
    assert "given by the folders" in data.describe_split()
    assert data.notices() == ("2 groups are in several parts of the split: 1, 2",)


def test_skeletons_have_folders_of_a_split_too(tmp_path: Path):
    for name in names("train/", "test/"):
        path = tmp_path / name.replace(".mp4", ".npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.random.default_rng(len(name)).normal(size=(3, 17, 2)))
    data = SkeletonFolder(root=tmp_path, val_fraction=0.0)
    assert data.labels() == ("bow", "nod")
    assert ids(data, "test") == {name.replace(".mp4", ".npy") for name in names("test/")}
    assert ids(data.resolved(), "train") == {name.replace(".mp4", ".npy") for name in names("train/")}


def test_without_a_test_folder_the_validation_folder_tests(tmp_path: Path):
    put(tmp_path, *names("train/", takes=10), *names("val/"))
    data = VideoFolder(root=tmp_path)
    assert ids(data, "test") == set(names("val/"))
    assert len(ids(data, "val")) == 2  # one of each class, drawn from the training folder
    assert all(name.startswith("train/") for name in ids(data, "val") | ids(data, "train"))
    assert "without a test part, the validation part is the test part" in data.describe_split()
    assert "10% of each class validate, drawn by name" in data.describe_split()


def test_with_a_training_folder_alone_the_test_part_is_drawn_from_it(tmp_path: Path):
    put(tmp_path, *names("train/", takes=8))
    data = VideoFolder(root=tmp_path)
    assert data.labels() == ("bow", "nod")
    assert [len(ids(data, split)) for split in ("train", "val", "test")] == [10, 2, 4]
    assert "25% of each class test, drawn by name" in data.describe_split()


def test_a_class_called_train_beside_others_is_a_class(tmp_path: Path):
    put(tmp_path, *names("", classes=("train", "bus", "car")), "train/freight/9.mp4")
    data = VideoFolder(root=tmp_path)
    assert data.labels() == ("bus", "car", "train")
    assert data.resolved().split == "drawn"


def test_a_split_may_be_declared_as_classes(tmp_path: Path):
    put(tmp_path, "train/1.mp4", "train/2.mp4", "test/1.mp4", "test/2.mp4")
    assert VideoFolder(root=tmp_path, split="drawn").labels() == ("test", "train")
    with pytest.raises(DataError, match=r"the folder 't\w+' contains 2 recordings, and no class folders.*\"drawn\""):
        VideoFolder(root=tmp_path).index("train")


def test_other_folders_beside_those_of_a_split(tmp_path: Path):
    put(tmp_path, *names("train/", "test/"), "annotations/list.txt", "_old/x.mp4", "stray.mp4", "train/stray.mp4")
    data = VideoFolder(root=tmp_path)
    assert data.labels() == ("bow", "nod")
    stray, ignored = data.notices()
    assert stray.startswith("2 recordings lie in no class folder and are ignored: ")
    assert ignored == "folders that are ignored: _old, annotations"
    put(tmp_path, "more/nod/7.mp4")
    with pytest.raises(DataError, match=r"the folder 'more' with recordings lies beside 'test' and 'train'"):
        data.index("train")


@pytest.mark.parametrize(
    ("files", "settings", "message"),
    [
        (names("train/", "valid/", "val/", "test/"), {}, "the folders 'val' and 'valid' all mean val"),
        (
            [*names("train/"), "test/a.mp4", "test/b.mp4"],
            {},
            "the folder 'test' contains 2 recordings, and no class folders. Expected test/CLASS",
        ),
        (
            [*names("train/"), *names("test/", classes=("bow", "wink"))],
            {},
            "the class 'wink' has no training recordings. Expected classes among bow, nod",
        ),
        (
            ["bow/train/1.mp4", "bow/test/2.mp4", "nod/1.mp4"],
            {},
            "the class 'bow' is split into 'test' and 'train', and the class 'nod' is not",
        ),
        (
            ["bow/train/1.mp4", "bow/test/2.mp4", "bow/3.mp4", "nod/train/1.mp4", "nod/test/2.mp4"],
            {},
            "and the class 'bow' is not",
        ),
        (names(""), {"split": "folders"}, 'data.split = "folders", and there are no folders of a split'),
        (names("train/", "test/"), {"group": "/(\\d)", "fold": "1"}, "folders make up the split, and data.test_groups"),
        (names("train/", "test/", "val/"), {"group": "/(\\d)", "val_groups": ("1",)}, "folders make up the split"),
    ],
)
def test_ambiguous_splits_are_refused(tmp_path: Path, files: list[str], settings: dict, message: str):
    put(tmp_path, *files)
    with pytest.raises(DataError, match=re.escape(message)):
        VideoFolder(root=tmp_path, **settings).index("train")


# Drawing a split


def test_by_default_own_recordings_have_a_validation_part(tmp_path: Path):
    for count, expected in ((1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (4, (2, 1, 1)), (40, (26, 4, 10))):
        root = put(tmp_path / str(count), *names("", takes=count), *names("", classes=("wave",), takes=4))
        data = VideoFolder(root=root)
        drawn = [sum("bow/" in name for name in ids(data, split)) for split in ("train", "val", "test")]
        assert tuple(drawn) == expected


def test_a_group_validates_if_two_others_train(tmp_path: Path):
    for count, expected in ((2, (1, 0, 1)), (3, (2, 0, 1)), (4, (2, 1, 1)), (8, (5, 1, 2))):
        root = put(tmp_path / str(count), *names("", takes=count))
        data = VideoFolder(root=root, group=r"/(\d)")
        groups = [{record.group for record in data.index(split).records} for split in ("train", "val", "test")]
        assert tuple(map(len, groups)) == expected
        assert len(set().union(*groups)) == count


def test_a_file_added_later_moves_few_others(tmp_path: Path):
    put(tmp_path, *names("", takes=40))
    data = VideoFolder(root=tmp_path)
    before = {split: ids(data, split) for split in ("train", "val", "test")}
    put(tmp_path, "nod/later.mp4")
    moved = sum(len(before[split] - ids(data, split)) for split in before)
    assert moved <= 2


# Files that are no recordings


def test_copies_in_hidden_and_system_folders_are_no_recordings(tmp_path: Path):
    clean = put(tmp_path / "clean", *names(""))
    messy = put(tmp_path / "messy", *names(""))
    for folder in (
        ".ipynb_checkpoints",
        ".Trash-1000",
        ".thumbnails",
        "@eaDir",
        "__MACOSX",
        "$RECYCLE.BIN",
        "lost+found",
    ):
        put(messy, f"{folder}/bow/1.mp4", f"bow/{folder}/1.mp4", f"nod/deep/{folder}/2.mp4", content=b"copy")
    put(messy, "bow/._1.mp4", "bow/Thumbs.db", "bow/.DS_Store", "nod/desktop.ini")
    (messy / "nod" / "empty.mp4").mkdir()
    (messy / "nod" / "dangling.mp4").symlink_to(messy / "gone")
    (messy / "nod" / "loop").symlink_to(messy)
    data = VideoFolder(root=messy)
    assert data.labels() == ("bow", "nod")
    for split in ("train", "val", "test"):
        assert ids(data, split) == ids(VideoFolder(root=clean), split)
    assert data.unread() == {"empty folders": 1, "dangling links": 1}


def test_files_that_are_not_read_are_counted(tmp_path: Path):
    put(tmp_path, *names(""), "bow/notes.txt", "bow/more/a.TXT", "nod/plan.docx", "nod/poster.jpg", "nod/deep/0.mp4")
    put(tmp_path, "nod/deep/poster.jpg", "nod/x.mp4.part")
    data = VideoFolder(root=tmp_path)
    assert data.unread() == {".txt": 2, ".docx": 1, ".jpg": 2, ".part": 1}
    assert "6 files not read: 2 .jpg, 2 .txt, 1 .docx, 1 .part" in summarize(data).lines()


@pytest.mark.parametrize(
    "name",
    [
        "a b.mp4",
        "100%.mp4",
        "%03d.mp4",
        "wave 👋.mp4",
        "日本.MP4",
        "x" * 200 + ".mp4",
        "a'b\"c,d.mp4",
        "-x.mp4",
        "a:b.mp4",
    ],
)
def test_odd_file_names_are_recordings(tmp_path: Path, name: str):
    put(tmp_path, *names(""), f"nod/{name}")
    data = VideoFolder(root=tmp_path)
    records = [record for split in ("train", "val", "test") for record in data.index(split).records]
    (record,) = [record for record in records if record.id == f"nod/{name}"]
    assert record.path.read_bytes() == record.id.encode()


@pytest.mark.parametrize("name", ["a\nb.mp4", "a\tb.mp4", "a\rb.mp4"])
def test_control_characters_in_names_are_refused(tmp_path: Path, name: str):
    put(tmp_path, *names(""), f"nod/{name}")
    with pytest.raises(DataError, match="contains a line break or another control character"):
        VideoFolder(root=tmp_path).index("train")


# Classes


def test_class_names_are_sorted_by_the_numbers_in_them(tmp_path: Path):
    put(tmp_path, *names("", classes=("10", "9", "1", "walk 2", "walk 10")))
    assert VideoFolder(root=tmp_path).labels() == ("1", "9", "10", "walk 2", "walk 10")


@pytest.mark.parametrize("odd", ['say "hi"', "left, right", "100 %", "a;b", "été", "#1", "'"])
def test_class_names_may_contain_quotes_and_commas(tmp_path: Path, odd: str):
    put(tmp_path, *names("", classes=(odd, "nod")))
    assert set(VideoFolder(root=tmp_path).resolved().labels()) == {odd, "nod"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Walk", "walk"),
        ("walk", "walk "),
        ("wave_hand", "wave hand"),
        ("caf\u00e9", "cafe\u0301"),
        ("Straße", "STRASSE"),
    ],
)
def test_classes_that_look_alike_are_refused(tmp_path: Path, first: str, second: str):
    put(tmp_path, *names("", classes=(first, second, "nod")))
    message = (
        r"the classes '.*' and '.*' differ only in case, spaces or the form of accents.*list all names in data.classes"
    )
    with pytest.raises(DataError, match=message):
        VideoFolder(root=tmp_path).resolved()
    both = VideoFolder(root=tmp_path, classes=(first, second, "nod"))
    assert both.resolved().labels() == (first, second, "nod")
    with pytest.raises(DataError, match=r"the class 'nod' is given twice"):
        VideoFolder(root=tmp_path, classes=(first, second, "nod", "nod")).index("train")


def test_a_class_name_with_a_line_break_is_refused(tmp_path: Path):
    put(tmp_path, *names("", classes=("two\nlines", "nod")))
    with pytest.raises(DataError, match=r"the class name 'two\\nlines' contains a line break"):
        VideoFolder(root=tmp_path).index("train")


def test_a_single_class_is_refused_before_training(tmp_path: Path):
    put(tmp_path, *names("", classes=("wave",)))
    with pytest.raises(DataError, match=r"there is a single class, 'wave'\. Expected two classes or more"):
        VideoFolder(root=tmp_path).resolved()
    nested = put(tmp_path / "zip", *names("videos/"))
    with pytest.raises(
        DataError, match=r"a single class, 'videos'.* If bow, nod are the classes, give the folder .*zip/videos"
    ):
        VideoFolder(root=nested).index("train")


# What is given as --data


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("data.zip", r"data.zip: this is an archive\. .*Unpack it"),
        ("video.MP4", r"video.MP4: this is a single recording"),
        ("list.txt", r"list.txt: this is a file\. .*video_list"),
        ("README", r"README: this is a file\. .*Give the folder that contains the class folders"),
        ("gone", r"gone: there is no such folder"),
    ],
)
def test_a_root_that_is_no_folder(tmp_path: Path, name: str, message: str):
    if name != "gone":
        put(tmp_path, name)
    with pytest.raises(DataError, match=message):
        VideoFolder(root=tmp_path / name).index("train")


def test_the_folder_of_one_class_given_as_root(tmp_path: Path):
    put(tmp_path, "walk/1.mp4", "walk/2.mp4")
    with pytest.raises(DataError, match=rf"no class folders, but 2 recordings.*give its parent folder, {tmp_path}"):
        VideoFolder(root=tmp_path / "walk").index("train")


def test_another_kind_of_recording_is_named(tmp_path: Path):
    put(tmp_path, *names(""))
    with pytest.raises(
        DataError, match=r"the class 'bow' has no recordings, but 4 \.mp4\. Expected files that end in \.npz"
    ):
        SkeletonFolder(root=tmp_path).index("train")


def test_a_folder_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    put(tmp_path, *names(""), "nod/closed/a.mp4")
    scan = os.scandir

    def refuse(path: Path):
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"nod/closed: the folder cannot be read \(Permission denied\)"):
        VideoFolder(root=tmp_path).index("train")


# Summaries


def test_a_summary_counts_by_split_class_and_group(tmp_path: Path):
    put(tmp_path, *names("", takes=8), "bow/notes.txt")
    data = VideoFolder(root=tmp_path, group=r"/(\d)", test_groups=("1", "5"), val_groups=("2",))
    summary = summarize(data)
    assert summary.total == 16
    assert summary.counts == {"train": (5, 5), "val": (1, 1), "test": (2, 2)}
    assert summary.groups["test"] == {"1": 2, "5": 2}
    assert summary.warnings == summary.notices == ()
    assert summary.lines() == [
        "16 recordings in 2 classes of 8 groups",
        "  train     10, 5 groups: 0, 3, 4, 6, 7",
        "  val        2, 1 group: 2",
        "  test       4, 2 groups: 1, 5",
        "  class  train    val   test",
        "  bow        5      1      2",
        "  nod        5      1      2",
        "split: the groups in data.test_groups test; the groups in data.val_groups validate",
        "1 file not read: 1 .txt",
    ]
    tree = summary.as_dict()
    assert tree["counts"]["test"] == {"bow": 2, "nod": 2}
    assert tree["excluded"] == {"train": [], "val": [], "test": []}


def test_a_summary_says_that_people_are_not_known(tmp_path: Path):
    put(tmp_path, *names(""))
    assert summarize(VideoFolder(root=tmp_path)).split == (
        "25% of each class test, drawn by name; 10% of each class validate, drawn by name; no groups are known, so the "
        "same person may be in several parts: set data.group (--group)"
    )


def test_a_summary_names_classes_that_are_not_learned_or_tested(tmp_path: Path):
    put(tmp_path, *names("", takes=8), "wave/1.mp4", "wink/2.mp4")
    data = VideoFolder(root=tmp_path, group=r"/(\d)", test_groups=("2", "3"), val_fraction=0.0)
    assert summarize(data).warnings == (
        "no training recordings of 1 class: wink",
        "a single training recording of 1 class: wave",
        "no test recordings of 1 class: wave",
    )


def test_a_summary_names_copies_by_content(tmp_path: Path):
    put(tmp_path, *names("train/", "test/"))
    shutil.copy(tmp_path / "train/bow/1.mp4", tmp_path / "test/bow/copy.mp4")
    shutil.copy(tmp_path / "train/bow/2.mp4", tmp_path / "train/nod/copy of 2.mp4")
    os.link(tmp_path / "test/nod/3.mp4", tmp_path / "test/nod/hard link.mp4")
    (tmp_path / "test/nod/link.mp4").symlink_to(tmp_path / "train/nod/0.mp4")
    summary = summarize(VideoFolder(root=tmp_path, val_fraction=0.0))
    assert summary.warnings == (
        "equal content in several parts of the split, so the test is too easy (2 pairs): "
        "train/bow/1.mp4 (train) = test/bow/copy.mp4 (test), train/nod/0.mp4 (train) = test/nod/link.mp4 (test)",
        "equal content with different labels (1 pair): train/bow/2.mp4 (bow) = train/nod/copy of 2.mp4 (nod)",
        "equal content in one part of the split (2 pairs): train/bow/2.mp4 = train/nod/copy of 2.mp4, "
        "test/nod/3.mp4 = test/nod/hard link.mp4",
    )


def test_many_classes_are_summed_up(tmp_path: Path):
    put(tmp_path, *names("", classes=tuple(f"class {number}" for number in range(31))))
    assert "  train: 2 to 2 recordings of a class" in summarize(VideoFolder(root=tmp_path)).lines()


def test_published_data_sets_have_a_summary(real_data: Path):
    from muybridge.data.datasets import UTDMHAD

    summary = summarize(UTDMHAD(val_groups=("s7",)))
    assert (summary.total, len(summary.labels), sum(summary.counts["test"])) == (861, 27, 430)
    assert sorted(summary.groups["test"]) == ["s2", "s4", "s6", "s8"]
    assert summary.split == "the published split of UTDMHAD; held out for validation: s7"


# Groups from a table


def grouped_folder(root: Path, table: str, test_groups: tuple[str, ...] = ()) -> VideoFolder:
    put(root / "data", *names("", classes=("jump", "wave"), takes=6))
    (root / "groups.csv").write_text(table, encoding="utf-8")
    return VideoFolder(root=root / "data", group=str(root / "groups.csv"), test_groups=test_groups)


ROWS = [(f"{label}/{take}.mp4", f"person{take // 2}") for label in ("jump", "wave") for take in range(6)]


@pytest.mark.parametrize(
    "table",
    [
        "file,group\n" + "".join(f"{name},{group}\n" for name, group in ROWS),
        "\ufeffperson;filename;age\r\n"
        + "".join(f"{group};{name.removesuffix('.mp4')};30\r\n" for name, group in ROWS),
        "path\tsubject\n" + "".join(f'"{name}"\t{group}\n' for name, group in ROWS),
        "Video,Source\n" + "".join(f"{take}.mp4,person{take // 2}\n" for take in range(6)),
    ],
)
def test_groups_are_read_from_a_table(table: str, tmp_path: Path):
    data = grouped_folder(tmp_path, table, test_groups=("person1",))
    assert data.folds() == ("person0", "person1", "person2")
    assert {record.id for record in data.index("test").records} == {
        f"{label}/{take}.mp4" for label in ("jump", "wave") for take in (2, 3)
    }
    assert data.resolved().group == str((tmp_path / "groups.csv").resolve())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,group\njump/0.mp4,a\n", r"groups\.csv: 'jump/1\.mp4' is not in the table.*Add a line for it"),
        ("name,who\njump/0.mp4,a\n", r"the first line names the columns name, who.*Name the columns"),
        ("file,group\njump/0.mp4,\n", r"line 2 lacks a value"),
        (
            "file,group\n" + "".join(f"{take}.mp4,{who}\n" for who in "ab" for take in range(6)),
            r"'jump/0\.mp4' is in the table with several groups.*Write the class folder too",
        ),
        ("", r"groups\.csv: the file is empty|the first line names the columns none"),
    ],
)
def test_tables_of_groups_that_do_not_fit_are_refused(table: str, message: str, tmp_path: Path):
    with pytest.raises(DataError, match=message):
        grouped_folder(tmp_path, table).index("train")


def test_a_pattern_may_end_like_a_table(tmp_path: Path):
    assert not is_table(r"_(s\d+)\.csv")
    assert is_table("people.csv")
    with pytest.raises(DataError, match=r"nowhere\.csv: there is no such file"):
        grouped_folder(tmp_path, "").model_copy(update={"group": "nowhere.csv"}).index("train")


def test_a_class_of_one_person_is_reported(tmp_path: Path):
    table = "file,group\n" + "".join(f"{name},{'anna' if name < 'k' else group}\n" for name, group in ROWS)
    data = grouped_folder(tmp_path, table)
    (warning,) = [text for text in summarize(data).warnings if "of one group" in text]
    assert warning.endswith("cannot be told from the action: jump (anna)")
