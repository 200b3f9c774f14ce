"""Tables of recordings: read right in every usual form, or refused with the line at fault."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from muybridge.core.errors import DataError
from muybridge.data.annotations.annotation import Annotation, parse_seconds
from muybridge.data.annotations.table import read_table
from muybridge.data.datasets import SkeletonFolder, VideoFolder
from muybridge.data.summary import summarize
from muybridge.media.video import Video
from tests import videos

PLAIN = [("a.mp4", "jump", None), ("b c.mp4", "wave, high", None)]
PARTS = [("a.mp4", "jump", (0.0, 1.5)), ("a.mp4", "wave, high", (62.5, 64.0))]


def table(folder: Path, text: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(folder: Path, text: str | bytes, name: str = "table.csv") -> list[tuple]:
    return [(each.path, each.label, each.span) for each in read_table(table(folder, text, name))]


# Forms


@pytest.mark.parametrize(
    "text",
    [
        'path,label\na.mp4,jump\nb c.mp4,"wave, high"\n',
        b'\xef\xbb\xbfpath,label\r\na.mp4,jump\r\nb c.mp4,"wave, high"\r\n',
        'path,label\ra.mp4,jump\rb c.mp4,"wave, high"\r',
        'path,label\na.mp4,jump\nb c.mp4,"wave, high"\n'.encode("utf-16"),
        "path;label\na.mp4;jump\nb c.mp4;wave, high\n",
        "sep=;\npath;label\na.mp4;jump\nb c.mp4;wave, high\n",
        "path\tlabel\na.mp4\tjump\nb c.mp4\twave, high",
        '"path", "label"\n"a.mp4", "jump"\n"b c.mp4", "wave, high"',
        '# made by hand\n\nLabel,note,Video\njump,good,a.mp4\n\n,,\n"wave, high",,b c.mp4\n',
        'path,label,start,end\na.mp4,jump,,\nb c.mp4,"wave, high",,\n',
    ],
)
def test_all_usual_forms_of_csv_are_read_alike(tmp_path: Path, text: str | bytes):
    assert read(tmp_path, text) == PLAIN


@pytest.mark.parametrize(
    "text",
    [
        'path,label,start,end\na.mp4,jump,0,1.5\na.mp4,"wave, high",62.5,64\n',
        'path,label,start,end\na.mp4,jump,,1.5\na.mp4,"wave, high",62.5,64\n',
        "path;label;start;end\na.mp4;jump;0;1,5\na.mp4;wave, high;62,5;64\n",
        'file,action,begin,stop\na.mp4,jump,0:00,0:01.5\na.mp4,"wave, high",00:01:02.5,1:04\n',
    ],
)
def test_parts_of_files_are_read_in_every_form_of_time(tmp_path: Path, text: str):
    assert read(tmp_path, text) == PARTS


def test_json_has_the_same_columns(tmp_path: Path):
    rows = [
        {"path": "a.mp4", "label": "jump", "start": 0, "end": 1.5, "fps": 25},
        {"path": "a.mp4", "label": "wave, high", "start": "1:02.5", "end": 64},
    ]
    assert read(tmp_path, json.dumps(rows), "a.json") == PARTS
    assert read(tmp_path, json.dumps({"recordings": rows}), "a.json") == PARTS
    assert read(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n", "a.jsonl") == PARTS
    assert read(
        tmp_path, '[{"path": "a", "label": 3}, {"path": "b", "label": ["x", "y"], "start": null}]', "a.json"
    ) == [
        ("a", "3", None),
        ("b", ("x", "y"), None),
    ]


def test_quotes_may_hold_quotes_and_line_breaks_and_lines_are_counted_right(tmp_path: Path):
    text = 'path,label,group\na.mp4,"say ""hi""\n twice",p1\nb.mp4,nod,p2\n'
    first, second = read_table(table(tmp_path, text))
    assert first == Annotation("a.mp4", 'say "hi"\n twice', "line 2", group="p1")
    assert second.place == "line 4"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "the table has no recordings"),
        ("a.csv", "path,label\n", "the table has no recordings"),
        ("a.csv", "a.mp4,jump\n", "the first line, 'a.mp4, jump', names no label and no path.*Write the names"),
        ("a.csv", "path,class_id\na,1\n", "the first line, 'path, class_id', names no label"),
        ("a.csv", "file,video,label\na,b,1\n", "the columns 'file' and 'video' may both be the path.*Rename the right"),
        ("a.csv", "path,label\na.mp4\n", "line 2 has 1 values, and the header 2"),
        ("a.csv", "path,label\nok,x\n\na.mp4,jump, high\n", "line 4 has 3 values.*put quotes around"),
        ("a.csv", "path,label\na.mp4,\n", "line 2 has no label"),
        ("a.csv", "path,label\n,jump\n", "line 2 has no path"),
        ("a.csv", 'path,label\na.mp4,jump\nb.mp4,"wave\nc.mp4,nod\n', r"line 3 is not CSV \("),
        ("a.csv", "path,label,start,end\na,x,2,1\n", "line 2: the span starts at 2 s and ends at 1 s"),
        ("a.csv", "path,label,start,end\na,x,1,1\n", "line 2: the span starts at 1 s and ends at 1 s"),
        ("a.csv", "path,label,start,end\na,x,-1,1\n", "line 2: the span starts at -1 s"),
        ("a.csv", "path,label,start,end\na,x,1,\n", "line 2 has a start, 1, and no end"),
        ("a.csv", "path,label,start\na,x,1\n", "line 2 has a start, 1, and no end"),
        ("a.csv", "path,label,start,end\na,x,soon,1\n", "line 2 has the start 'soon' and the end '1'"),
        ("a.csv", "path,label,start,end\na,x,nan,1\n", "line 2 has the start 'nan'"),
        ("a.csv", "path,label,start_frame,end_frame\na,x,3,9\n", "'start_frame' seems to count frames.*frame rate"),
        ("a.csv", b"path,label\na,x\n\xe4.mp4,y\n", "line 3 is not in UTF-8.*save the table as UTF-8"),
        ("a.csv", b"path,label\na,\0\n", "null characters"),
        ("a.json", "[1]", "entry 1 is no object"),
        ("a.json", '{"a": 1}', "no recordings are found in it"),
        ("a.json", '[{"path": "a", "label": 1.5}]', "entry 1 has the label 1.5"),
        ("a.json", '[{"path": "a", "label": ["x", 1]}]', r"entry 1 has the label \['x', 1\]"),
        ("a.json", '[{"path": "a", "label": []}]', r"entry 1 has no label"),
        ("a.json", '[{"path": true, "label": "x"}]', "entry 1 has the path True"),
        ("a.json", '[{"path": "a", "label": "x", "frame_start": 1}]', "'frame_start' seems to count frames"),
        ("a.json", "[" * 5000, "it is not JSON"),
        ("a.jsonl", '{"path": "a", "label": "x"}\n{\n', "line 2: it is not JSON"),
        ("a.jsonl", '\n{"path": "a"}\n', "line 2 has no label"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_with_the_line(tmp_path: Path, name: str, text: str | bytes, message: str):
    with pytest.raises(DataError, match=message) as caught:
        read(tmp_path, text, name)
    assert caught.value.where == tmp_path / name


@pytest.mark.parametrize(("text", "seconds"), [("7", 7), ("1:02", 62), ("10:00:00.25", 36000.25), ("0:00:03,5", 3.5)])
def test_times(text: str, seconds: float):
    assert parse_seconds(text) == seconds


@settings(max_examples=80, deadline=None)
@given(
    st.binary(max_size=80) | st.text('ab.,;\t 0123\n"mp4\\[]{}:', max_size=60),
    st.sampled_from(["csv", "json", "jsonl"]),
)
def test_any_content_is_a_table_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes, kind: str
):
    folder = tmp_path_factory.getbasetemp()
    head = b"path,label,start,end\n" if isinstance(content, bytes) and kind == "csv" else b""
    with suppress(DataError):
        read(folder, head + (content if isinstance(content, bytes) else content.encode()), f"fuzzed.{kind}")


# Data sets


def put(root: Path, *names: str) -> None:
    """Files with unique content; an index does not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def data_of(root: Path, text: str, **given) -> VideoFolder:
    return VideoFolder.model_validate({"root": table(root, text), **given})


def parts(data: VideoFolder | SkeletonFolder) -> dict[str, list[str]]:
    return {split: [record.id for record in data.index(split).records] for split in ("train", "val", "test")}


def test_a_table_says_labels_groups_and_split(tmp_path: Path):
    put(tmp_path, *(f"v/{name}.mp4" for name in "abcd"))
    rows = ["v/a.mp4,nod,p1,Train", "v\\b.mp4,bow,p2,train", "v/c.mp4,nod,p3,valid", "./v/d.mp4,bow,p1,test"]
    text = "\n".join(["path,label,group,split", *rows])
    data = data_of(tmp_path, text)
    assert data.labels() == ("bow", "nod")
    assert parts(data) == {"train": ["v/a.mp4", "v/b.mp4"], "val": ["v/c.mp4"], "test": ["v/d.mp4"]}
    assert [record.group for record in data.index("train").records] == ["p1", "p2"]
    assert data.describe_split() == "given by the column split, Train (train), train (train), valid (val), test (test)"
    assert data.notices() == ("1 groups are in several parts of the split: p1",)
    assert parts(data.resolved()) == parts(data)
    drawn = data.model_copy(update={"split": "drawn", "val_fraction": 0.0})
    assert {record.group for record in drawn.index("test").records} != {"p1", "p2", "p3"}
    assert "25% of the groups test, drawn by name" in drawn.describe_split()
    assert set(data.folds()) == {"p1", "p2", "p3"}
    summarize(data)


def test_a_column_split_without_validation_means_none_unless_it_is_asked_for(tmp_path: Path):
    names = [f"{label}{number}" for label in "ab" for number in range(20)]
    put(tmp_path, *(f"{name}.mp4" for name in names))
    rows = [f"{name}.mp4,{name[0]},{'test' if name.endswith(('8', '9')) else 'train'}" for name in names]
    table = "\n".join(["path,label,split", *rows])
    data = data_of(tmp_path, table)
    assert [len(ids) for ids in parts(data).values()] == [32, 0, 8]
    assert "nothing validates, as the column says (data.val_fraction = 0.1 draws" in data.describe_split()
    assert data.resolved().val_fraction == 0.0
    again = type(data).model_validate(data.resolved().model_dump())  # as a run's recipe is read
    assert parts(again) == parts(data)
    assert [len(ids) for ids in parts(data_of(tmp_path, table, val_fraction=0.1)).values()] == [28, 4, 8]
    named = data_of(tmp_path, table, group=r"/(\w+)\.", val_groups=("a3", "b3"))
    assert parts(named)["val"] == ["a3.mp4", "b3.mp4"]
    drawn = data_of(tmp_path, table, split="drawn")  # the column is ignored, and with it what it says of validation
    assert len(parts(drawn)["val"]) == 4
    train_only = data_of(tmp_path, table.replace("test", "train"))  # a column that does not say what tests
    assert [len(ids) for ids in parts(train_only).values()] == [26, 4, 10]


def test_parts_of_one_file_are_recordings_and_stay_together_in_the_split(tmp_path: Path):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    rows = [
        f"{name}.mp4,{label},{start},{start + 2}" for name in "abcd" for start, label in ((0, "x"), (2, "y"), (4, "x"))
    ]
    data = data_of(tmp_path, "\n".join(["path,label,start,end", *rows]))
    by_part = parts(data)
    assert sum(map(len, by_part.values())) == 12
    files = [{id_.split("@")[0] for id_ in ids} for ids in by_part.values()]
    assert sum(map(len, files)) == 4
    assert data.index("test").records[0].span == (0.0, 2.0)
    assert data.index("test").records[0].id.endswith(".mp4@0-2")
    assert data.notices() == ("no groups are known, so the parts of each file stay together in the split",)


def test_a_part_is_what_is_decoded(tmp_path: Path):
    videos.write(tmp_path / "a.mp4", 40)
    data = data_of(
        tmp_path, "path,label,start,end\na.mp4,x,0.4,0.8\na.mp4,y,0.8,1.6\n", test_fraction=0.0, val_fraction=0.0
    )
    first, second = data.index("train").records
    with data.open(first) as video, data.open(second) as other, Video(tmp_path / "a.mp4") as whole:
        assert (len(video), len(other)) == (10, 20)
        assert (video.read([3]).pixels == whole.read([13]).pixels).all()


def test_folds_of_a_table_are_tested_in_turn(tmp_path: Path):
    put(tmp_path, *(f"{number}.mp4" for number in range(8)))
    rows = [f"{number}.mp4,{'xy'[number % 2]},{number // 2}" for number in range(8)]
    data = data_of(tmp_path, "\n".join(["path,label,fold", *rows]), val_fraction=0.0)
    assert data.folds() == ("0", "1", "2", "3")
    assert parts(data)["test"] == ["0.mp4", "1.mp4"]
    assert "the fold 0 tests (data.fold chooses it)" in data.describe_split()
    assert parts(data.model_copy(update={"fold": "3"}))["test"] == ["6.mp4", "7.mp4"]
    with pytest.raises(
        DataError, match=r"there are no recordings of the fold 9\. Expected one of the folds 0, 1, 2, 3"
    ):
        data.model_copy(update={"fold": "9"}).index("test")


@pytest.mark.parametrize(
    ("numbers", "labels"), [("012", [0, 1, 2]), ("123", [0, 1, 2]), (("bow", "nod", "wave"), [0, 1, 2])]
)
def test_labels_may_be_numbers_of_the_class_names(tmp_path: Path, numbers: tuple[str, ...] | str, labels: list[int]):
    put(tmp_path, "0.mp4", "1.mp4", "2.mp4")
    text = "\n".join(["path,label", *(f"{place}.mp4,{number}" for place, number in enumerate(numbers))])
    data = data_of(tmp_path, text, classes=("bow", "nod", "wave"), test_fraction=0.0, val_fraction=0.0)
    assert [record.label for record in data.index("train").records] == labels


TWO = "path,label\na.mp4,x\nb.mp4,y\n"


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("path,label\na.mp4,x\nno.mp4,y\n", {}, r"line 3, 'no.mp4': there is no such file\. .*set data.base"),
        ("path,label\nno.mp4,x\nnone.mp4,y\n", {}, "line 2, 'no.mp4': .*; 2 of 2 recordings are missing"),
        ("path,label\na.mp4,x\ntable.csv,y\n", {}, "line 3, 'table.csv' is no recording"),
        (
            "path,label\na.mp4,x\nb.mp4,y\n./a.mp4,x\n",
            {},
            "'a.mp4' is listed in line 2 and in line 4.*each recording once",
        ),
        ("path,label\na.mp4,x\na.mp4,y\n", {}, "in line 2 and in line 3, as 'x' and as 'y'.*one label for each"),
        (
            "path,label,start,end\na.mp4,x,0,1\nb.mp4,y,0,1\na.mp4,x,0.0,1.0\n",
            {},
            "'a.mp4@0-1' is listed in line 2 and in line 4",
        ),
        ("path,label\na.mp4,0\nb.mp4,3\n", {"classes": ("x", "y")}, "line 3 has the label '3'.*from 0 to 1, or a name"),
        (
            "path,label\na.mp4,x\nb.mp4,z\n",
            {"classes": ("x", "y")},
            "line 3 has the label 'z'.*one of data.classes, x, y",
        ),
        ("path,label\na.mp4,0\nb.mp4,0\n", {"classes": ("x", "y")}, "the class 'y' has no recordings"),
        ("path,label\na.mp4,x\nb.mp4,x\n", {}, "there is a single class, 'x'.*Add recordings of another class"),
        ("path,label,split\na.mp4,x,train\nb.mp4,y,\n", {}, "line 3 has no split, and others have one"),
        ("path,label,group\na.mp4,x,\nb.mp4,y,p\n", {}, "line 2 has no group, and others have one"),
        ("path,label,split\na.mp4,x,train\nb.mp4,y,both\n", {}, "line 3 has the split 'both'.*train, val or test"),
        ("path,label,split\na.mp4,x,train\nb.mp4,y,test\n", {}, "the class 'y' has no training recordings"),
        (TWO, {"split": "folders"}, "no recording has a part of the split.*the column split"),
        (
            "path,label\na.mp4,X\nb.mp4,x\n",
            {},
            r"the classes 'X' and 'x' differ only .* accents \(line 2 and line 3\)",
        ),
        ('path,label\na.mp4,X\nb.mp4,"two\tparts"\n', {}, r"the class name 'two.*character .* \(line 3\)"),
    ],
)
def test_what_is_wrong_with_the_recordings_is_said(tmp_path: Path, text: str, given: dict, message: str):
    put(tmp_path, "a.mp4", "b.mp4")
    with pytest.raises(DataError, match=message):
        data_of(tmp_path, text, **given).index("train")


def test_a_list_of_labels_is_refused_where_there_is_one(tmp_path: Path):
    put(tmp_path, "a.mp4")
    with pytest.raises(DataError, match=r"entry 1 has a list of labels, x, y\. Expected one label"):
        VideoFolder(root=table(tmp_path, '[{"path": "a.mp4", "label": ["x", "y"]}]', "a.json")).index("train")


def test_a_table_that_does_not_exist(tmp_path: Path):
    with pytest.raises(DataError, match="there is no such file"):
        VideoFolder(root=tmp_path / "no.csv").labels()


def test_paths_may_be_relative_to_another_folder_and_links_may_loop(tmp_path: Path):
    put(tmp_path / "videos", "a.mp4", "b.mp4")
    data = data_of(tmp_path, TWO, base=tmp_path / "videos", test_fraction=0.0, val_fraction=0.0)
    assert [record.id for record in data.resolved().index("train").records] == ["a.mp4", "b.mp4"]
    with pytest.raises(ValidationError, match="root is no table"):
        VideoFolder(root=tmp_path, base=tmp_path)
    (tmp_path / "videos" / "a.mp4").unlink()
    (tmp_path / "videos" / "a.mp4").symlink_to("a.mp4")
    with pytest.raises(DataError, match=r"line 2, 'a\.mp4': there is no such file"):
        data.index("train")


def test_names_that_are_not_utf_8_are_refused(tmp_path: Path):
    (tmp_path / "\udce4.mp4").write_bytes(b"a")
    text = json.dumps([{"path": "\udce4.mp4", "label": "x"}])
    with pytest.raises(DataError, match="not valid UTF-8"):
        VideoFolder(root=table(tmp_path, text, "a.json")).index("train")


def test_skeletons_have_parts_by_their_frame_rate(tmp_path: Path):
    joints = np.random.default_rng(0).normal(size=(60, 17, 2))
    joints[40:] = 0
    np.save(tmp_path / "a.npy", joints)
    path = table(tmp_path, "path,label,start,end\na.npy,x,0,1\na.npy,y,1,2\na.npy,x,2,3\n")
    data = SkeletonFolder(root=path, layout="coco17", people=1, test_fraction=0.0, val_fraction=0.0)
    with pytest.raises(DataError, match=r"files of skeletons have no clock.*set data.fps"):
        data.index("train")
    data = data.model_copy(update={"fps": 20.0})
    index = data.index("train")
    assert [(each.id, each.reason) for each in index.excluded] == [("a.npy@2-3", "nobody is seen in its span")]
    sequences = [data.open(record) for record in index.records]
    assert [len(sequence) for sequence in sequences] == [20, 20]
    assert np.allclose(sequences[1].joints[:, 0].numpy(), joints[20:40])
    with pytest.raises(DataError, match=r"ends at 6\.00 s.*or data.fps, which is 10"):
        data.model_copy(
            update={"fps": 10.0, "root": table(tmp_path, "path,label,start,end\na.npy,x,5,9\na.npy,y,1,2\n")}
        ).index("train")
