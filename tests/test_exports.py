"""Labelled segments of annotation tools become recordings, at the right times, or are refused in words."""

import json
from pathlib import Path

import pytest

from muybridge.core.errors import DataError
from muybridge.data.annotations.exports import ExportOptions, file_name
from muybridge.data.annotations.read import read_annotations
from muybridge.data.datasets import VideoFolder
from muybridge.timeline import read_segments

CVAT_VIDEO = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><id>7</id><name>t</name><source>day.mp4</source></task></meta>
<track id="0" label="jump" source="manual">
  <box frame="10" outside="0" keyframe="1" xtl="1" ytl="1" xbr="9" ybr="9"/>
  <box frame="11" outside="0" keyframe="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
  <box frame="35" outside="1" keyframe="1" xtl="1" ytl="1" xbr="9" ybr="9"/>
  <box frame="50" outside="0" keyframe="1" xtl="1" ytl="1" xbr="9" ybr="9"/>
  <box frame="59" outside="0" keyframe="1" xtl="1" ytl="1" xbr="9" ybr="9"/></track>
<track id="1" label="wave"><box frame="0" outside="0"/><box frame="25" outside="1"/></track></annotations>"""
CVAT_IMAGES = """<annotations><meta><task><id>7</id><source>day.mp4</source></task></meta>
<image id="3" name="f3"><tag label="jump"/></image><image id="4" name="f4"><tag label="jump"/></image>
<image id="5" name="f5"/><image id="6" name="f6"><tag label="jump"/></image></annotations>"""
ELAN = """<?xml version="1.0" encoding="UTF-8"?><ANNOTATION_DOCUMENT FORMAT="3.0"><HEADER TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/Users/x/day.mp4" RELATIVE_MEDIA_URL="./day.mp4" TIME_ORIGIN="500"/></HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="0"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="1250"/></TIME_ORDER>
<TIER TIER_ID="action" PARTICIPANT="anna"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1"
TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>jump</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="empty"/></ANNOTATION_DOCUMENT>"""
SECOND_TIER = '<TIER TIER_ID="note"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2"/></ANNOTATION></TIER>'
ACTIVITYNET = {
    "database": {
        "day": {"subset": "training", "annotations": [{"segment": [0.5, 2], "label": "jump"}]},
        "night": {"subset": "testing", "annotations": []},
    }
}


def studio(results: list[dict], **data) -> list[dict]:
    annotation = {"id": 1, "was_cancelled": False, "result": results}
    cancelled = {"id": 2, "was_cancelled": True, "result": [{"broken": 1}]}
    return [
        {"id": 3, "data": {"video": "/data/upload/1/a1b2c3d4-day.mp4", **data}, "annotations": [annotation, cancelled]}
    ]


TIMELINE = {
    "from_name": "action",
    "type": "timelinelabels",
    "value": {"ranges": [{"start": 1, "end": 25}], "timelinelabels": ["jump"]},
}
PHANTOM = {"from_name": "box", "type": "timelinelabels", "value": {"sequence": [], "labels": ["jump"]}}
CHOICE = {"from_name": "whole", "type": "choices", "value": {"choices": ["calm"]}}


def read(folder: Path, name: str, content: object, fps: float | None = None, tier: str = "") -> list[tuple]:
    file = folder / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return [
        (file_name(each.path), each.label, each.span, each.group, each.split)
        for each in read_annotations(file, ExportOptions(fps, tier))
    ]


def test_tracks_of_cvat_are_segments_while_they_are_visible(tmp_path: Path):
    assert read(tmp_path, "a.xml", CVAT_VIDEO, 25.0) == [
        ("day.mp4", "jump", (0.4, 1.4), "", ""),
        ("day.mp4", "jump", (2.0, 2.4), "", ""),
        ("day.mp4", "wave", (0.0, 1.0), "", ""),
    ]


def test_tags_of_cvat_are_segments_while_they_last(tmp_path: Path):
    assert [each[2] for each in read(tmp_path, "a.xml", CVAT_IMAGES, 10.0)] == [(0.3, 0.5), (0.6, 0.7)]


def test_elan_counts_from_the_origin_of_its_media(tmp_path: Path):
    assert read(tmp_path, "a.eaf", ELAN) == [("day.mp4", "jump", (0.5, 1.75), "anna", "")]
    assert read(tmp_path, "b.eaf", ELAN.replace('<TIER TIER_ID="empty"/>', SECOND_TIER), tier="action")


def test_label_studio_counts_frames_from_1_at_the_rate_of_its_task(tmp_path: Path):
    expected = [("a1b2c3d4-day.mp4", "jump", (0.0, 1.0), "", "")]
    assert read(tmp_path, "a.json", studio([TIMELINE, PHANTOM], fps=25)) == expected
    assert read(tmp_path, "b.json", studio([TIMELINE]), 25.0) == expected
    assert read(tmp_path, "c.json", studio([TIMELINE, CHOICE], fps=25), tier="whole")[0][1:3] == ("calm", None)
    sound = {"from_name": "s", "type": "labels", "value": {"start": 0.25, "end": 1.5, "labels": ["jump"]}}
    assert read(tmp_path, "d.json", studio([sound]))[0][2] == (0.25, 1.5)


def test_activitynet(tmp_path: Path):
    assert read(tmp_path, "a.json", ACTIVITYNET) == [("day", "jump", (0.5, 2.0), "", "training")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xml", CVAT_VIDEO, "does not say how many there are per second.*Set data.label_fps"),
        ("a.xml", "<annotations><track>", r"it is not XML \("),
        ("a.xml", "<a/>", "its outermost element is a"),
        ("a.xml", "<!DOCTYPE a><annotations/>", "document types are not read"),
        ("a.xml", "<annotations/>", "it has no labelled segments"),
        ("a.eaf", ELAN.replace("RELATIVE_MEDIA_URL", "X").replace("MEDIA_DESCRIPTOR", "Y"), "it names no media file"),
        (
            "a.eaf",
            ELAN.replace('<TIER TIER_ID="empty"/>', SECOND_TIER),
            "2 tiers have annotations.*action, note.*data.tier",
        ),
        ("a.eaf", ELAN.replace('TIME_VALUE="1250"', ""), "annotation a1 has no times"),
        ("a.json", studio([TIMELINE]), "does not say how many there are per second"),
        ("a.json", studio([TIMELINE, CHOICE], fps=25), "2 controls give labels.*action, whole"),
        ("a.json", studio([{"type": "choices"}]), "task 3 cannot be read"),
        ("a.json", studio([]), "there are no labels of the control"),
        (
            "a.json",
            {"database": {"day": {"annotations": [{"segment": [1], "label": "x"}]}}},
            "the entry 'day' cannot be",
        ),
        (
            "a.json",
            {"database": {"day": {"annotations": [{"segment": [2, 1], "label": "x"}]}}},
            "day: the span starts at 2",
        ),
    ],
)
def test_exports_that_cannot_be_read_are_refused(tmp_path: Path, name: str, content: object, message: str):
    with pytest.raises(DataError, match=message):
        read(tmp_path, name, content)


def test_cvat_needs_the_name_of_the_video_and_a_label(tmp_path: Path):
    with pytest.raises(DataError, match="track 1 has no name of its video"):
        read(tmp_path, "a.xml", CVAT_VIDEO.replace("<source>day.mp4</source>", "").replace("<name>t</name>", ""), 25.0)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("/data/local-files/?d=films%2Fday.mp4", "day.mp4"),
        ("s3://bucket/films/day%201.mp4", "day 1.mp4"),
        ("C:\\films\\day.mp4", "day.mp4"),
        ("./day.mp4", "day.mp4"),
    ],
)
def test_names_of_files_in_the_paths_of_tools(text: str, name: str):
    assert file_name(text) == name


def test_segments_are_recordings_of_the_file_of_that_name(tmp_path: Path):
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "v_day.mp4").write_bytes(b"a")
    two = {
        "database": {"day": {"annotations": [{"segment": [0, 1], "label": "x"}, {"segment": [1, 2], "label": "y"}] * 2}}
    }
    (tmp_path / "a.json").write_text(json.dumps(two))
    data = VideoFolder(root=tmp_path / "a.json", test_fraction=0.0, val_fraction=0.0)
    assert [record.id for record in data.index("train").records] == ["films/v_day.mp4@0-1", "films/v_day.mp4@1-2"]
    (tmp_path / "day.mp4").write_bytes(b"b")
    with pytest.raises(DataError, match="'day' may be "):
        data.index("train")


def test_exports_serve_as_labelled_segments_of_timelines(tmp_path: Path):
    (tmp_path / "a.xml").write_text(CVAT_VIDEO)
    segments = read_segments(tmp_path / "a.xml", 25.0)
    first = segments["day.mp4"][0]
    assert (first.start, first.end, first.label) == (0.4, 1.4, "jump")
    (tmp_path / "a.csv").write_text("path,label\na.mp4,x\n")
    with pytest.raises(DataError, match="line 2 is no segment"):
        read_segments(tmp_path / "a.csv")
