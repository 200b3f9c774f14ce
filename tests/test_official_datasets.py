"""Benchmarks of videos by their official lists: their traps, and what is wrong with lists and folders."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from muybridge.core.errors import DataError
from muybridge.data.datasets import KTH, Diving48, FineGym, Jester, Kinetics, SomethingV1, SomethingV2
from muybridge.data.datasets.official import OfficialVideos
from muybridge.data.datasets.official_lists import read_class_lines
from muybridge.media import frame_decoder, packet_cache
from tests import videos
from tests.official import (
    fabricate_diving48,
    fabricate_finegym,
    fabricate_jester,
    fabricate_kinetics,
    fabricate_kth,
    fabricate_something_v1,
    fabricate_something_v2,
    put,
    something_names,
    write_frames,
)

# Something-Something


def test_both_orders_of_the_classes_of_something_v1(tmp_path: Path):
    data = fabricate_something_v1(tmp_path / "data")
    in_file = data.model_copy(update={"label_order": "file"})
    assert data.labels() == tuple(something_names())
    assert in_file.labels() == tuple(something_names()[50:] + something_names()[:50])
    for each in (data, in_file):
        names = {record.id: each.labels()[record.label] for record in each.index("train").records}
        assert names["100218"] == "Pulling something from left to right"
        swapped = each.mirror()
        assert swapped is not None
        pairs = {each.labels()[one]: each.labels()[other] for one, other in swapped.items()}
        assert pairs["Pushing something from right to left"] == "Pushing something from left to right"
        assert len(pairs) == 6
    assert data.mirror() == {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}
    with data.open(data.index("test").records[0]) as video:
        assert video.seconds[1].item() == pytest.approx(1 / 12)


def test_the_real_names_of_something_are_the_same_in_both_editions(real_data: Path, tmp_path: Path):
    names = read_class_lines(real_data / "label_maps" / "sthv1_label_map.txt")
    shutil.copy(real_data / "label_maps" / "sthv1_label_map.txt", tmp_path / "something-something-v1-labels.csv")
    ordered, in_file = SomethingV1(root=tmp_path), SomethingV1(root=tmp_path, label_order="file")
    assert ordered.labels() == read_class_lines(real_data / "label_maps" / "sthv2_label_map.txt")
    assert in_file.labels() == names
    assert ordered.mirror() == {86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166}
    assert in_file.mirror() == {66: 52, 52: 66, 30: 41, 41: 30, 2: 4, 4: 2}


def test_the_real_gestures_of_jester_that_a_mirror_swaps(real_data: Path, tmp_path: Path):
    shutil.copy(real_data / "label_maps" / "jester_label_map.txt", tmp_path / "jester-v1-labels.csv")
    data = Jester(root=tmp_path)
    assert len(data.labels()) == 27
    assert data.mirror() == {0: 1, 1: 0, 6: 7, 7: 6, 14: 15, 15: 14}


def test_mirroring_is_forbidden_where_the_classes_may_have_other_names(tmp_path: Path):
    fabricate_jester(tmp_path)
    put(tmp_path / "jester-v1-labels.csv", "swiping left\nswiping right\n")
    assert Jester(root=tmp_path).mirror() is None


def test_something_v2_in_the_layout_of_the_newer_archive(tmp_path: Path):
    data = fabricate_something_v2(tmp_path / "data")
    expected = {split: data.index(split) for split in ("train", "test")}
    for part in ("labels", "train", "validation", "test"):
        file = tmp_path / "data" / "labels" / f"{part}.json"
        file.parent.mkdir(exist_ok=True)
        (tmp_path / "data" / f"something-something-v2-{part}.json").rename(file)
    assert {split: data.index(split) for split in expected} == expected
    put(tmp_path / "data" / "labels" / "test-answers.csv", "74225;Pulling [something] from left to right\n")
    (record,) = data.model_copy(update={"test_list": "test"}).index("test").records
    assert (record.id, record.label) == ("74225", 86)


def test_something_v2_as_extracted_frames(tmp_path: Path):
    data = fabricate_something_v2(tmp_path / "data", frames=6)
    with data.open(data.index("train").records[0]) as video:
        assert (len(video), video.fps) == (6, 12.0)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ('{"a": "0", "b": "2"}', "its 2 classes have 2 numbers, from 0"),
        ('{"a": "0", "b": "0"}', "its 2 classes have 1 numbers"),
        ('["a", "b"]', r"it has another form\. Expected an object that numbers the classes"),
        ('{"a": "0",', "it is not JSON"),
    ],
)
def test_numbers_of_classes_that_are_wrong(tmp_path: Path, labels: str, message: str):
    fabricate_something_v2(tmp_path / "data", frames=2)
    put(tmp_path / "data" / "something-something-v2-labels.json", labels)
    with pytest.raises(DataError, match=rf"something-something-v2-labels\.json: {message}"):
        SomethingV2(root=tmp_path / "data").labels()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"id": "1", "template": "Cooking [something]"}], "entry 1 has the class 'Cooking something'"),
        ([{"id": 1, "template": "Punching [something] 1"}], "entry 1 has no 'id' as it should be"),
        ([{"id": "1"}], "entry 1 has no 'template'"),
        (["1"], "entry 1 has no 'id'"),
        ([{"id": "../1", "template": "Punching [something] 1"}], "entry 1 names the video '../1'"),
        (
            [{"id": "1", "template": "Punching [something] 1"}] * 2,
            r"'1' is listed in something-something-v2-train\.json, entry 1, and in .*, entry 2",
        ),
    ],
)
def test_entries_of_json_that_are_wrong(tmp_path: Path, items: list[object], message: str):
    fabricate_something_v2(tmp_path / "data", frames=2)
    put(tmp_path / "data" / "something-something-v2-train.json", json.dumps(items))
    with pytest.raises(DataError, match=message):
        SomethingV2(root=tmp_path / "data").index("train")


# Lists


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"34870;Swiping Left\n56557;Swiping Sideways\n", "line 2 has the class 'Swiping Sideways'"),
        (b"34870;Swiping Left\n\n56557 Waving\n", "line 3 is '56557 Waving'"),
        (
            b"34870;Swiping Left\n34870;Waving\n",
            r"'34870' is listed in jester-v1-train\.csv, line 1, and in .*, line 2",
        ),
        (
            b"9223;Waving\n",
            r"'9223' is listed in jester-v1-train\.csv, line 1, and in jester-v1-validation\.csv, line 1",
        ),
        (b"34870;Swiping Left\n5\xff;Waving\n", "line 2 is not in UTF-8"),
        (b"34870;0\n", "line 1 has the class '0'"),
        (b";Waving\n", "line 1 is ';Waving'"),
        (b"../x;Waving\n", r"line 1 names the video '\.\./x'"),
        (
            b"34870;Swiping Left\n1;Waving\n",
            r"20bn-jester-v1: 1 of 4 videos .* do not exist: 1 \(the first in .*, line 2\)",
        ),
    ],
)
def test_lines_that_are_wrong(tmp_path: Path, content: bytes, message: str):
    data = fabricate_jester(tmp_path)
    (tmp_path / "jester-v1-train.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        data.index("train")


def test_lists_of_windows_with_a_byte_order_mark_and_quotes(tmp_path: Path):
    data = fabricate_jester(tmp_path)
    expected = data.index("train")
    put(tmp_path / "jester-v1-train.csv", '\ufeff34870;Swiping Left\r\n56557;"No gesture"\r\n129112;Waving\r\n')
    assert data.index("train") == expected
    put(tmp_path / "jester-v1-labels.csv", '\ufeffa;b\r\nSwiping, "Left"\r\n')
    assert data.labels() == ("a;b", 'Swiping, "Left"')
    put(tmp_path / "jester-v1-labels.csv", "Waving\nNo gesture\nWaving\n")
    with pytest.raises(DataError, match=r"labels\.csv: line 3 has the class 'Waving' of line 1 again"):
        data.labels()


def test_other_counts_than_published_are_reported(tmp_path: Path):
    data = fabricate_jester(tmp_path)
    assert data.notices() == (
        "3 recordings are listed to train, and 118562 were published",
        "2 recordings are listed to test, and 14787 were published",
        "8 classes, and 27 were published",
    )


# Videos


def test_missing_videos_are_refused_or_counted_by_class(tmp_path: Path):
    data = fabricate_jester(tmp_path)
    shutil.rmtree(tmp_path / "20bn-jester-v1" / "34870")
    with pytest.raises(
        DataError, match=r"1 of 5 videos of the official lists do not exist: 34870 .* data\.missing_videos"
    ):
        data.index("test")
    excluding = data.model_copy(update={"missing_videos": "exclude"})
    index = excluding.index("train")
    assert {record.id for record in index.records} == {"56557", "129112"}
    assert [(each.id, each.reason) for each in index.excluded] == [("34870", "the video does not exist")]
    assert excluding.notices()[-1] == "1 of 5 recordings are missing, of 1 classes: Swiping Left (1 of 1)"
    for folder in (tmp_path / "20bn-jester-v1").iterdir():
        shutil.rmtree(folder)
    with pytest.raises(DataError, match=r"5 of 5 videos .* do not exist.*Unpack all official archives here"):
        excluding.index("train")
    with pytest.raises(DataError, match=r"nowhere: there is no such folder.*data\.videos"):
        data.model_copy(update={"videos": Path("nowhere")}).index("train")


def test_two_files_of_one_name_are_refused_and_a_file_goes_before_its_frames(tmp_path: Path):
    data = fabricate_something_v2(tmp_path / "data")
    folder = tmp_path / "data" / "20bn-something-something-v2"
    write_frames(folder / "78687")
    assert {record.path.suffix for record in data.index("train").records} == {".webm"}
    shutil.copy(folder / "78687.webm", folder / "78687.mp4")
    with pytest.raises(DataError, match=r"78687\.mp4 and 78687\.webm may both be the video '78687'"):
        data.index("train")


def test_a_share_of_each_class_validates(tmp_path: Path):
    train = [(number, number % 2) for number in range(100, 140)]
    data = fabricate_something_v1(tmp_path, frames=2, train=train).model_copy(update={"val_fraction": 0.1})
    parts = {split: data.index(split).records for split in ("train", "val")}
    assert sorted(record.label for record in parts["val"]) == [0, 0, 1, 1]
    assert len(parts["train"]) == 36
    assert "10% of the training part validate" in data.describe_split()
    with pytest.raises(ValidationError, match="val_groups and val_fraction both say what validates"):
        SomethingV1(val_fraction=0.1, val_groups=("a",))


# KTH


def test_sequences_of_kth_are_exactly_their_frames(tmp_path: Path):
    data = fabricate_kth(tmp_path / "data").model_copy(update={"val_groups": ()})
    records = {record.id: record for split in ("train", "test") for record in data.index(split).records}
    every = videos.sequential(tmp_path / "data" / "boxing" / "person11_walking_d1_uncomp.avi")
    for number, frames in ((1, range(12)), (2, range(12, 24)), (3, range(19, 40))):
        record = records[f"person11_walking_d1_{number}"]
        assert (record.label, record.group) == (5, "person11")
        with data.open(record) as video:
            assert len(video) == len(frames)
            seen = video.read(range(len(video))).pixels
            assert torch.equal(seen[0], torch.from_numpy(every[frames[0]]).permute(2, 0, 1))
            assert torch.equal(seen[-1], torch.from_numpy(every[frames[-1]]).permute(2, 0, 1))


def test_the_sequence_of_kth_after_the_end_of_its_file_is_excluded(tmp_path: Path):
    data = fabricate_kth(tmp_path / "data")
    (excluded,) = data.index("val").excluded
    assert excluded.id == "person01_boxing_d4_3"
    assert excluded.reason == "it is listed to end at 1.60 s, and the video ends at 1.04 s"
    assert not data.model_copy(update={"recordings": "videos"}).index("val").excluded


def test_videos_of_kth_at_another_frame_rate_are_refused(tmp_path: Path):
    data = fabricate_kth(tmp_path / "data")
    file = tmp_path / "data" / "boxing" / "person11_walking_d1_uncomp.avi"
    file.unlink()
    stamps = [round(number * 1000 / 30) for number in range(48)]
    videos.write(file.with_suffix(".mp4"), 48, stamps=stamps)
    record = next(record for record in data.index("train").records if record.id == "person11_walking_d1_1")
    with pytest.raises(DataError, match=r"the video has 30 frames a second\. Expected 25, since the official ranges"):
        data.open(record)
    whole = data.model_copy(update={"recordings": "videos"})
    record = next(record for record in whole.index("train").records if record.id == "person11_walking_d1")
    whole.open(record).close()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("person11_boxing_d1 frames 1-12, 13", "line 1 is 'person11_boxing_d1 frames 1-12, 13'"),
        ("person11_dancing_d1 frames 1-12", "line 1 is 'person11_dancing_d1"),
        ("person11_boxing_d1 frames 12-12", "line 1 has the range 12-12"),
        ("person11_boxing_d1 frames 0-12", "line 1 has the range 0-12"),
    ],
)
def test_ranges_that_are_wrong(tmp_path: Path, line: str, message: str):
    data = fabricate_kth(tmp_path / "data")
    put(tmp_path / "data" / "00sequences.txt", line)
    with pytest.raises(DataError, match=message):
        data.index("train")


def test_folds_of_kth():
    data = [KTH(protocol="random", fold=fold) for fold in range(1, 6)]
    tested = [set(each._tested()) for each in data]
    assert [len(people) for people in tested] == [9] * 5
    assert len({frozenset(people) for people in tested}) == 5
    assert tested[0] == set(KTH(protocol="random")._tested()) != set(KTH(protocol="random", seed=1)._tested())
    assert KTH(protocol="leave_one_out", fold=25)._tested() == (25,)
    assert len(KTH(protocol="leave_one_out").folds()) == 25
    with pytest.raises(ValidationError, match="fold is 6, and the protocol random has 5"):
        KTH(protocol="random", fold=6)
    with pytest.raises(ValidationError, match="fold is 2, and the protocol official has 1"):
        KTH(fold=2)


@pytest.mark.parametrize(("recordings", "count"), [("sequences", (1528, 863)), ("videos", (383, 216))])
def test_the_real_list_of_kth(real_data: Path, recordings: str, count: tuple[int, int]):
    data = KTH.model_validate(
        {"root": real_data, "sequences": "metadata/kth_00sequences.txt", "recordings": recordings}
    )
    listed = data.listed()
    assert tuple(sum(entry.tests is tests for entry in listed) for tests in (False, True)) == count
    assert len({entry.id for entry in listed}) == sum(count)
    assert isinstance(data, OfficialVideos)
    assert (data.official_counts()["train"], data.official_counts()["test"]) == count


def test_links_that_lead_to_themselves_are_no_videos(tmp_path: Path):
    for data, folder in (
        (fabricate_jester(tmp_path / "flat"), tmp_path / "flat" / "20bn-jester-v1"),
        (fabricate_kinetics(tmp_path / "deep"), tmp_path / "deep" / "train"),
    ):
        expected = data.index("train")
        (folder / "loop").symlink_to(folder / "loop")
        (folder / "above").symlink_to(folder.parent)
        assert data.index("train") == expected


def test_lists_without_recordings_are_refused(tmp_path: Path):
    data = fabricate_jester(tmp_path)
    put(tmp_path / "jester-v1-validation.csv", "\n")
    with pytest.raises(DataError, match="the official list of the recordings that test has none"):
        data.index("train")


def test_a_part_of_which_every_video_is_missing_says_so(tmp_path: Path):
    data = fabricate_kinetics(tmp_path)
    shutil.rmtree(tmp_path / "val")
    shutil.rmtree(tmp_path / "replacement")
    with pytest.raises(
        DataError, match=r"the test split is empty, as all 2 recordings are excluded \(Bcd0.*not exist\)"
    ):
        data.index("test")


# Kinetics


def test_clips_of_kinetics_that_are_gone_are_counted_by_class(tmp_path: Path):
    data = fabricate_kinetics(tmp_path)
    index = data.index("train")
    assert data.labels() == ("abseiling", "air drumming, loud", "zumba")
    assert {record.id: record.label for record in index.records} == {
        "-3B32lodo20_000000_000010": 0,
        "-3B32lodo21_000001_000011": 2,
        "-3B32lodo22_000002_000012": 1,
    }
    assert [each.id for each in index.excluded] == ["GoneGoneGo0_000007_000017"]
    assert data.missing_by_class() == {"zumba": (1, 3)}
    assert data.notices()[-1] == "1 of 6 recordings are missing, of 1 classes: zumba (1 of 3)"
    replaced, _ = data.index("test").records
    assert replaced.path.parent.name == "replacement_for_corrupted_k400"
    with pytest.raises(
        DataError, match=r"1 of 6 videos .* do not exist: GoneGoneGo0_000007_000017 \(the first in train"
    ):
        data.model_copy(update={"missing_videos": "error"}).index("train")


@pytest.mark.parametrize("name", ["val.csv", "annotations/validate.csv", "kinetics400/validation.csv"])
def test_places_of_the_lists_of_kinetics(tmp_path: Path, name: str):
    data = fabricate_kinetics(tmp_path)
    expected = data.index("test")
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    (tmp_path / "annotations" / "val.csv").rename(file)
    assert data.index("test") == expected
    file.unlink()
    with pytest.raises(DataError, match=r"it cannot be read \(there is no such file\).*official file val\.csv or "):
        data.index("test")


def test_the_folder_of_each_edition_of_kinetics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUYBRIDGE_DATA", str(tmp_path))
    (tmp_path / "kinetics700" / "kinetics700_2020").mkdir(parents=True)
    assert Kinetics(version=700).folder() == tmp_path / "kinetics700"
    put(
        tmp_path / "kinetics700" / "kinetics700_2020" / "train.csv",
        "label,youtube_id,time_start,time_end,split\na,b,1,2,t",
    )
    assert Kinetics(version=700).labels() == ("a",)


def test_a_clip_in_two_classes_is_a_recording_of_each(tmp_path: Path):
    data = fabricate_kinetics(tmp_path)
    file = tmp_path / "annotations" / "train.csv"
    put(file, file.read_text() + "\nabseiling,-3B32lodo21,1,11,train,0\nabseiling,-3B32lodo21,1,11,train,0\n")
    clips = [(record.id, record.label) for record in data.index("train").records if "21_" in record.id]
    assert clips == [("-3B32lodo21_000001_000011", 2), ("-3B32lodo21_000001_000011 (abseiling)", 0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abseiling,abc,1,2,train\n", "line 1 names no column label and no column youtube_id"),
        ("", "line 1 names no column label"),
        ("label,youtube_id,time_start,time_end\na,b,1\n", "line 2 has 3 values, and the header 4"),
        ("label,youtube_id,time_start,time_end\na,b,one,2\n", "line 2 has the values 'a', 'one', '2'"),
        ('label,youtube_id,time_start,time_end\n\n"a,b,1,2\n', "line 4 is not CSV"),
        ("label,youtube_id,time_start,time_end\na,../b,1,2\n", r"line 2 names the video '\.\./b'"),
        ("label,youtube_id,time_start,time_end\na,b,1,2\nb,c,1,2\n", r"val\.csv: line 2 has the class 'zumba'"),
    ],
)
def test_lists_of_kinetics_that_are_wrong(tmp_path: Path, text: str, message: str):
    data = fabricate_kinetics(tmp_path)
    put(tmp_path / "annotations" / "train.csv", text)
    with pytest.raises(DataError, match=message):
        data.index("train")


# Diving-48


def test_the_frames_of_a_dive_are_those_that_are_listed(tmp_path: Path):
    data = fabricate_diving48(tmp_path)
    assert data.labels() == ("Back+15som+05Twis+FREE", "Back+15som+05Twis+PIKE", "Back+15som+05Twis+TUCK")
    records = data.index("train").records
    assert [(record.label, record.group) for record in records] == [(0, "a_b"), (2, "a_b")]
    every = videos.sequential(records[0].path)
    for first, last, expected in ((0, 49, range(50)), (0, 50, range(50)), (10, 19, range(10, 20))):
        dive = {"vid_name": "a_b_00000", "label": 0, "start_frame": first, "end_frame": last}
        put(tmp_path / "Diving48_V2_train.json", json.dumps([dive]))
        with data.open(data.index("train").records[0]) as video:
            assert len(video) == len(expected)
            seen = video.read([0]).pixels[0]
            assert torch.equal(seen, torch.from_numpy(every[expected[0]]).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("dive", "message"),
    [
        ({"end_frame": 80}, "the video has 50 frames, and is listed to end with number 80"),
        ({"label": 3}, "entry 1 has the label 3"),
        ({"label": "0"}, "entry 1 has no 'label' as it should be"),
        ({"start_frame": 49}, "entry 1 has the frames 49 to 49"),
    ],
)
def test_dives_that_are_wrong(tmp_path: Path, dive: dict[str, object], message: str):
    data = fabricate_diving48(tmp_path)
    whole = {"vid_name": "a_b_00000", "label": 0, "start_frame": 0, "end_frame": 49}
    put(tmp_path / "Diving48_V2_train.json", json.dumps([whole | dive]))
    with pytest.raises(DataError, match=message):
        data.open(data.index("train").records[0])


def test_the_first_edition_of_diving48_has_lists_of_its_own(tmp_path: Path):
    data = fabricate_diving48(tmp_path)
    for part in ("train", "test"):
        (tmp_path / f"Diving48_V2_{part}.json").rename(tmp_path / f"Diving48_{part}.json")
    assert len(data.model_copy(update={"version": 1}).index("train")) == 2
    put(tmp_path / "Diving48_vocab.json", '[["Back"], "Front"]')
    with pytest.raises(DataError, match=r"Diving48_vocab\.json: entry 2 is Front"):
        Diving48(root=tmp_path).labels()


# FineGym


def test_elements_are_shown_relative_to_their_event(tmp_path: Path):
    data = fabricate_finegym(tmp_path)
    records = {record.id: record for record in data.index("train").records}
    first, second = (records[f"ab_E_123456_E_000000_000002_A_{times}"] for times in ("0000_0001", "0001_0002"))
    assert first.span == pytest.approx((0.5, 1.3))
    assert second.span == pytest.approx((1.3, 2.1))
    assert (first.group, first.path.name) == ("ab_E_123456", "ab_E_123456.mp4")
    every = videos.sequential(first.path)
    with data.open(second) as video:
        assert len(video) == 20
        assert torch.equal(video.read([0]).pixels[0], torch.from_numpy(every[33]).permute(2, 0, 1))
    assert [each.id for each in data.index("test").excluded] == ["GoneGoneGo0_E_000000_000002_A_0001_0002"]
    assert data.superclasses() == ("VT", "FX", "FX")


def test_videos_of_finegym_that_are_cut_already(tmp_path: Path):
    data = fabricate_finegym(tmp_path)
    folder, event = tmp_path / "videos", "ab_E_123456_E_000000_000002"
    shutil.copy(folder / "ab_E_123456.mp4", folder / f"{event}.mp4")
    (folder / "ab_E_123456.mp4").rename(folder / f"{event}_A_0001_0002.mp4")
    places = {record.id: (record.path.stem, record.span) for record in data.index("train").records}
    assert places[f"{event}_A_0000_0001"] == (event, pytest.approx((0.0, 0.8)))
    assert places[f"{event}_A_0001_0002"] == (f"{event}_A_0001_0002", None)


def test_classes_of_one_name_are_kept_apart(tmp_path: Path):
    fabricate_finegym(tmp_path)
    names = ["(UB) giant", "(FX) split", "(UB) giant"]
    lines = [f"Clabel: {label}; set: 1; Glabel: {label + 40}; {name}" for label, name in enumerate(names)]
    put(tmp_path / "gym288_categories.txt", "\n".join(lines))
    assert FineGym(root=tmp_path, subset="gym288").labels() == (
        "(UB) giant (class 0)",
        "(FX) split",
        "(UB) giant (class 2)",
    )


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("gym99_train_element_v1.0.txt", "ab_E_123456_A_0000_0001 0", "line 1 is 'ab_E_123456_A_0000_0001 0'"),
        ("gym99_train_element_v1.0.txt", "ab_E_123456_E_000000_000002_A_0000_0001 3", "with a label of 0 to 2"),
        ("gym99_categories.txt", "Clabel: 1; set: 1; Glabel: 1; (VT) a", "line 1 is .*numbered from 0"),
        ("finegym_annotation_info_v1.0.json", '{"a": {"E_0": {}}}', "a, E_0 has another form"),
        ("finegym_annotation_info_v1.0.json", '{"a": {"E_0": {"timestamps": [[1]]}}}', "a, E_0 has another form"),
        ("finegym_annotation_info_v1.0.json", '{"a": []}', "a has another form"),
        ("finegym_annotation_info_v1.0.json", "[]", "it has another form"),
    ],
)
def test_files_of_finegym_that_are_wrong(tmp_path: Path, file: str, text: str, message: str):
    data = fabricate_finegym(tmp_path)
    put(tmp_path / file, text)
    with pytest.raises(DataError, match=message):
        data.index("train")


def test_elements_without_an_annotation_are_excluded(tmp_path: Path):
    data = fabricate_finegym(tmp_path)
    info = json.loads((tmp_path / "finegym_annotation_info_v1.0.json").read_text())
    segments = info["ab_E_123456"]["E_000000_000002"]["segments"]
    del segments["A_0000_0001"]
    segments["A_0001_0002"]["timestamps"] = [[0.8, 0.8]]
    put(tmp_path / "finegym_annotation_info_v1.0.json", json.dumps(info))
    assert {each.reason for each in data.index("train").excluded} == {
        "finegym_annotation_info_v1.0.json has no such element",
        "it is annotated to start at 1.3 s and to end at 1.3 s",
    }


def test_the_packets_of_a_long_video_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = fabricate_finegym(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packet_cache, "LARGE", 1000)
    read, original = [], frame_decoder.index_packets
    monkeypatch.setattr(frame_decoder, "index_packets", lambda path, *rest: read.append(path) or original(path, *rest))
    records = [record for record in data.index("train").records if record.group == "ab_E_123456"]
    frames = []
    for record in [*records, *records]:
        with data.open(record) as video:
            frames.append(video.read(range(len(video))).pixels)
    assert len(read) == 1
    assert torch.equal(frames[0], frames[2])
    assert torch.equal(frames[1], frames[3])
    (kept,) = (tmp_path / "cache" / "muybridge" / "packets").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    packet_cache._read_whole.cache_clear()
    data.open(records[0]).close()
    assert len(read) == 2  # an index that is damaged is read anew
    file = records[0].path
    videos.write(file, 80)
    data.open(records[0]).close()
    assert len(read) == 3  # so is that of a file that has changed
