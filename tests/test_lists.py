"""Lists of videos and of class names as benchmarks, spreadsheets and editors write them: read right, or refused."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from muybridge.core.errors import DataError
from muybridge.data.datasets import HMDB51, UCF101, VideoList
from muybridge.data.datasets.lists import ListFormat, normalize_path, read_class_names
from muybridge.data.summary import summarize

CLASSES = ("bow", "nod", "wave goodbye")
TEN = tuple(f"class {number}" for number in range(10))


def entries(file: Path, text: str | bytes, form: ListFormat) -> list[tuple[str, int]]:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [(entry.path, entry.label) for entry in form.read(file, hint="fix it")]


# Forms of lines


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4 0\nb c.mp4 2\n",
        b"\xef\xbb\xbfa.mp4 0\r\nb c.mp4 2\r\n",
        "# path label\n\na.mp4   0\n#\n## more\nb c.mp4\t2\n",
        "a.mp4\t0\nb c.mp4\t2",
        "a.mp4,0\nb c.mp4,2",
        "a.mp4;0\nb c.mp4;2",
        '"a.mp4", 0\n"b c.mp4", 2',
        '"a.mp4" 0\n"b c.mp4" 2',
        "path,label\na.mp4,0\nb c.mp4,2",
        "Path Label\na.mp4 0\nb c.mp4 2",
        "label,video\n0,a.mp4\n2,b c.mp4",
        "id\tfilename\tnum_frames\tclass_id\n7\ta.mp4\t1\t0\n8\tb c.mp4\t2\t2",
        "0,a.mp4\n2,b c.mp4",
        "a.mp4 bow\nb c.mp4 wave goodbye",
        "a.mp4,bow\nb c.mp4,wave goodbye",
        "file,class,subset\na.mp4,bow,train\nb c.mp4,wave goodbye,train",
        "a.mp4 45 0\nb c.mp4 1 2",
        "a.mp4,45,0\nb c.mp4,1,2",
        "a.mp4 0 45\nb c.mp4 2 61",
        "a.mp4 45 bow\nb c.mp4 61 wave goodbye",
        "a.mp4,bow,45\nb c.mp4,wave goodbye,61",
    ],
)
def test_all_usual_forms_of_a_list_are_read_alike(tmp_path: Path, text: str | bytes):
    form = ListFormat(CLASSES, suffixes=(".mp4",))
    assert entries(tmp_path / "list.txt", text, form) == [("a.mp4", 0), ("b c.mp4", 2)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("take 1 0\ntake two 2\n", [("take 1", 0), ("take two", 2)]),  # folders of frames, whose names have spaces
        ("1 0\n2 2\n", [("1", 0), ("2", 2)]),
        ("100218 45 1\n93 61 2\n", [("100218", 1), ("93", 2)]),
        ("#437_how_to_bow.avi 0\n#1.avi 1\n", [("#437_how_to_bow.avi", 0), ("#1.avi", 1)]),  # as in HMDB51
        ("a,b.mp4 0\nc,d.mp4 1\n", [("a,b.mp4", 0), ("c,d.mp4", 1)]),
        ('"a,b.mp4",0\nc.mp4,1\n', [("a,b.mp4", 0), ("c.mp4", 1)]),
        ("v\u2028x.mp4 1\n", [("v\u2028x.mp4", 1)]),
        ("", []),
        ("# nothing\n", []),
    ],
)
def test_paths_may_contain_anything(tmp_path: Path, text: str, expected: list[tuple[str, int]]):
    assert entries(tmp_path / "list.txt", text, ListFormat(CLASSES, suffixes=(".mp4", ".avi"))) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4 1 2\nb.mp4 3 5\n", r"two numbers, either of which may be the label .* \["),
        ("a.mp4 0 2\nb.mp4 3 0\n", "line 1, 'a.mp4 0 2', has two labels"),
        ("a.mp4 1\nb.mp4 3 5\n", "line 2, 'b.mp4 3 5', has two numbers after the path"),
        ("a.mp4,1\nb.mp4,3,5\n", "line 2, 'b.mp4,3,5'"),
        ("a.mp4 1 2 3\n", "line 1, 'a.mp4 1 2 3', has more than two numbers after the path"),
        ("a.mp4 45 0\nb.mp4 61 12\n", "line 2, 'b.mp4 61 12', has the label '12'"),
        ("a.mp4 1\nb.mp4 10\n", r"has the label '10'.*set data.first_label = 1 if labels count from 1"),
        ("a.mp4 1\nb.mp4 -1\n", "has the label '-1'"),
        ("a.mp4 1\nb.mp4 1.5\n", "has the label '1.5'"),
        ("a.mp4\n", r"line 1, 'a.mp4'\. Expected `path label`"),
        ("7\n", "line 1, '7'"),
        ("path,label\na.mp4,1\n,2\n", "line 3, ',2', has no path"),
        ("path,label\na.mp4,1\nb.mp4\n", "line 3, 'b.mp4'"),
    ],
)
def test_lines_of_another_form_are_refused_with_their_number(tmp_path: Path, text: str, message: str):
    with pytest.raises(DataError, match=message) as caught:
        entries(tmp_path / "list.txt", text, ListFormat(TEN, suffixes=(".mp4",)))
    assert caught.value.where == tmp_path / "list.txt"


@pytest.mark.parametrize(
    ("columns", "label"),
    [(("path", "frames", "label"), 2), (("path", "label", "frames"), 1), (("path", "ignore", "label"), 2)],
)
def test_columns_may_be_given(tmp_path: Path, columns: tuple, label: int):
    for text in ("a b.mp4 1 2\n", "a b.mp4,1,2\n"):
        assert entries(tmp_path / "list.txt", text, ListFormat(TEN, columns=columns)) == [("a b.mp4", label)]
    assert entries(tmp_path / "list.txt", "1 a b.mp4", ListFormat(TEN, columns=("label", "path"))) == [("a b.mp4", 1)]
    with pytest.raises(DataError, match=r"has 2 columns, not 3 \(path, "):
        entries(tmp_path / "list.txt", "a.mp4,1\n", ListFormat(TEN, columns=columns))
    with pytest.raises(ValidationError, match='columns needs "path" and "label" once each'):
        VideoList(root=tmp_path, classes=2, columns=("path", "frames"))


def test_labels_may_count_from_1(tmp_path: Path):
    form = ListFormat(CLASSES, first_label=1, suffixes=(".mp4",))
    assert entries(tmp_path / "list.txt", "a.mp4 1\nb.mp4 3\n", form) == [("a.mp4", 0), ("b.mp4", 2)]
    with pytest.raises(DataError, match=r"has the label '0'.*a label of 1 to 3 or a class name"):
        entries(tmp_path / "list.txt", "a.mp4 0\n", form)


def test_numbers_are_no_names_if_classes_are_called_by_numbers(tmp_path: Path):
    form = ListFormat(("1", "2", "3"), suffixes=(".mp4",))
    assert entries(tmp_path / "list.txt", "a.mp4 0\nb.mp4 1\n", form) == [("a.mp4", 0), ("b.mp4", 1)]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80) | st.text("ab.,;\t 0123#\n\"'mp4", max_size=60))
def test_any_content_is_a_list_or_a_data_error(tmp_path_factory: pytest.TempPathFactory, content: bytes | str):
    file = tmp_path_factory.getbasetemp() / "fuzzed"
    for read in (
        lambda: entries(file, content, ListFormat(CLASSES, suffixes=(".mp4",))),
        lambda: read_class_names(file, hint="fix it"),
        lambda: read_class_names(file.rename(file.with_suffix(".json")), hint="fix it"),
    ):
        with suppress(DataError):
            read()


# Paths


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v/x.mp4", "v/x.mp4"),
        ("./v/x.mp4", "v/x.mp4"),
        ("v//x.mp4", "v/x.mp4"),
        ("v/../v/./x.mp4", "v/x.mp4"),
        ("ROOT/v/x.mp4", "v/x.mp4"),
        ("v\\\\x.mp4", "v/x.mp4"),
        ("../other/x.mp4", "PARENT/other/x.mp4"),
        ("/elsewhere/x.mp4", "/elsewhere/x.mp4"),
    ],
)
def test_one_video_has_one_id(tmp_path: Path, text: str, expected: str):
    text = text.replace("ROOT", str(tmp_path))
    assert normalize_path(text, tmp_path) == expected.replace("PARENT", str(tmp_path.parent))


def test_the_same_video_in_two_lists_is_refused_however_it_is_written(tmp_path: Path):
    (tmp_path / "train.txt").write_text("v/a.mp4 0\n./v/x.mp4 1\n")
    (tmp_path / "test.txt").write_text("v/b.mp4 0\nv//x.mp4 1\n")
    with pytest.raises(DataError, match=r"'v/x.mp4' is listed in train\.txt, line 2, and in test\.txt, line 2"):
        VideoList(root=tmp_path, classes=2).index("train")


# Class names


@pytest.mark.parametrize(
    ("name", "text", "first"),
    [
        ("names.txt", "bow\nnod\nwave goodbye\n", 0),
        ("names.txt", "\ufeffbow\r\nnod\r\n\r\nwave goodbye\r\n", 0),
        ("names.txt", "# classes\nbow\nnod\nwave goodbye", 0),
        ("names.txt", "0 bow\n1 nod\n2 wave goodbye", 0),
        ("classInd.txt", "1 bow\n2 nod\n3 wave goodbye", 1),
        ("names.txt", "2 wave goodbye\n0 bow\n1 nod", 0),
        ("names.csv", "0,bow\n1,nod\n2,wave goodbye", 0),
        ("names.csv", "id,name\n0,bow\n1,nod\n2,wave goodbye", 0),
        ("names.csv", "name,id\nbow,1\nnod,2\nwave goodbye,3", 1),
        ("names.csv", '"class_id","class_name"\n"0","bow"\n"1","nod"\n"2","wave goodbye"', 0),
        ("names.tsv", "label\tname\n0\tbow\n1\tnod\n2\twave goodbye", 0),
        ("names.txt", "bow 0\nnod 1\nwave goodbye 2", 0),
        ("names.json", '["bow", "nod", "wave goodbye"]', 0),
        ("names.json", '{"bow": 0, "nod": 1, "wave goodbye": 2}', 0),
        ("names.json", '{"wave goodbye": 3,\n\n"bow": 1, "nod": 2}', 1),
        ("names.json", '{"2": "wave goodbye", "0": "bow", "1": "nod"}', 0),
    ],
)
def test_all_usual_forms_of_class_names_are_read_alike(tmp_path: Path, name: str, text: str, first: int):
    (tmp_path / name).write_text(text)
    assert read_class_names(tmp_path / name, hint="fix it") == (CLASSES, first)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("take 1\ntake 2\n", ("take 1", "take 2")),
        ("left, right\nup, down\n", ("left, right", "up, down")),
        ('say "hi"\nnod\n', ('say "hi"', "nod")),
        ("3 point shot\nnod\n", ("3 point shot", "nod")),
    ],
)
def test_numbers_and_commas_may_be_part_of_a_name(tmp_path: Path, text: str, expected: tuple[str, ...]):
    (tmp_path / "names.txt").write_text(text)
    assert read_class_names(tmp_path / "names.txt", hint="") == (expected, 0)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("names.txt", "bow\nnod\nbow\n", "the class 'bow' is given twice, in line 1 and in line 3"),
        ("names.csv", "id,name\n0,bow\n1,bow\n", "the class 'bow' is given twice, in line 2 and in line 3"),
        ("names.json", '["bow", "bow"]', "the class 'bow' is given twice, in position 0 and in position 1"),
        ("names.csv", "id,name\n0,bow\n2,nod\n", "the classes are numbered 0, 2. Expected consecutive numbers"),
        ("names.txt", "0 bow\n1 nod\n3 wave\n", "the classes are numbered 0, 1, 3"),
        ("names.csv", "id,name\n0,bow\n0,nod\n", "the classes are numbered 0, 0"),
        ("names.txt", "name\nbow\nnod\n", "the first line, 'name', may be a header or a class"),
        ("names.json", "{", r"it is not JSON \("),
        ("names.json", "{}", "no class names are found in it"),
        ("names.json", '{"bow": [0]}', "no class names are found in it"),
        ("names.json", "[1, 2]", "no class names are found in it"),
        ("names.json", "[" * 5000, "it is not JSON"),
    ],
)
def test_doubtful_class_names_are_refused(tmp_path: Path, name: str, text: str, message: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}: {message}"):
        read_class_names(tmp_path / name, hint="fix it")


def test_a_file_of_names_that_counts_from_1_is_believed(tmp_path: Path):
    (tmp_path / "names.csv").write_text("id,name\n1,bow\n2,nod\n")
    (tmp_path / "train.txt").write_text("a.mp4 1\nb.mp4 2\n")
    (tmp_path / "test.txt").write_text("c.mp4 2\n")
    data = VideoList(root=tmp_path, classes=Path("names.csv"))
    for config in (data, data.resolved()):
        assert config.labels() == ("bow", "nod")
        assert [record.label for record in config.index("train").records] == [0, 1]
        assert [record.label for record in config.index("test").records] == [1]
    assert VideoList(root=tmp_path, classes=2, first_label=1).labels() == ("class 1", "class 2")


def test_a_list_of_one_class_is_refused(tmp_path: Path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.txt").write_text(f"{part}.mp4 0\n")
    with pytest.raises(DataError, match="there is a single class, 'class 0'"):
        VideoList(root=tmp_path, classes=1).index("train")


def test_a_summary_of_lists_names_missing_videos(tmp_path: Path):
    for part in ("train", "test"):
        (tmp_path / f"{part}.txt").write_text(f"{part}0.mp4 0\n{part}1.mp4 1\n")
        (tmp_path / f"{part}0.mp4").write_text(part)
    summary = summarize(VideoList(root=tmp_path, classes=2))
    assert summary.notices == ("2 videos of the lists do not exist: train1.mp4, test1.mp4",)
    assert (
        summary.split == "given by lists, train: train.txt; test: test.txt; nothing validates (data.val is not given)"
    )


# Official lists


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Archery/v_Archery_g01_c01.avi 4", "the class 'Archery', number 4, is not one of UCF101"),
        ("Archery/v_Archery_g01_c01.avi 0", "the class 'Archery', number 0, is not one of UCF101"),
        ("Waving/v_Waving_g01_c01.avi 3", "the class 'Waving', number 3, is not one of UCF101"),
        ("Archery.avi 3", r"line 1 is 'Archery.avi 3'\. Expected CLASS/v_CLASS_g01_c01.avi"),
        ("Archery/v_Archery_g01_c01.avi 3 5", "line 1 is 'Archery/v_Archery_g01_c01.avi 3 5'"),
    ],
)
def test_damaged_lists_of_ucf101_are_refused(tmp_path: Path, line: str, message: str):
    (tmp_path / "ucfTrainTestlist").mkdir()
    (tmp_path / "ucfTrainTestlist" / "trainlist01.txt").write_text(line)
    (tmp_path / "ucfTrainTestlist" / "testlist01.txt").write_text("YoYo/v_YoYo_g02_c01.avi")
    with pytest.raises(DataError, match=rf"trainlist01\.txt: {message}"):
        UCF101(root=tmp_path).index("train")


@pytest.mark.parametrize("line", ["one.avi", "one.avi 3", "one.avi1"])
def test_damaged_lists_of_hmdb51_are_refused(tmp_path: Path, line: str):
    folder = tmp_path / "testTrainMulti_7030_splits"
    folder.mkdir()
    for label in HMDB51().labels():
        (folder / f"{label}_test_split1.txt").write_text("\ufeffone.avi 1 \r\ntwo.avi 2\r\n")
    (folder / "wave_test_split1.txt").write_text(line)
    with pytest.raises(
        DataError, match=rf"wave_test_split1\.txt: line 1 is '{line}'\. Expected FILE.avi and 0, 1 or 2"
    ):
        HMDB51(root=tmp_path).index("train")
    (folder / "wave_test_split1.txt").write_text("one.avi 0\n")
    assert len(HMDB51(root=tmp_path).index("train")) == 50
