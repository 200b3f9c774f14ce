"""Every fault the doctor names is made here on purpose, and sound recordings have none."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copyfile

import av
import numpy as np
import pytest
from PIL import ExifTags, Image
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import Record
from muybridge.data.datasets import HMDB51, SBU, UCF101, UTDMHAD, MSRAction3D, SkeletonFolder
from muybridge.doctor import Diagnosis, Finding, examine
from muybridge.doctor.files import check_videos
from muybridge.doctor.fix import write_list
from muybridge.doctor.observe import observe
from muybridge.doctor.skeleton_facts import skeleton_facts
from muybridge.doctor.split import check_classes, check_groups, similar_names
from tests.skeletons import figure, figures, sequence
from tests.test_video import with_matrix
from tests.tiny import write_videos
from tests.videos import write

ACTIONS = {"wave": "wave left hand", "jump": "jump", "squat": "squat"}
GROUP = {"data.group": "_(p[0-9])"}


def write_skeletons(root: Path) -> Path:
    """Two takes of each action by four people."""
    for label, action in ACTIONS.items():
        (root / label).mkdir(parents=True)
        for person in (1, 2, 3, 4):
            for take in (1, 2):
                joints = figure("kinect20", action, person, take)[:, None]
                np.savez(root / label / f"t{take}_p{person}.npz", joints=joints.astype(np.float32))
    return root


def diagnose(root: Path, recipe: str = "folder_drnn", **settings: object) -> dict[str, Finding]:
    """The findings on a folder by the names of their checks."""
    return by_name(examine(recipe, {"data.root": str(root), **settings}))


def by_name(diagnosis: Diagnosis) -> dict[str, Finding]:
    return {finding.check: finding for finding in diagnosis.findings}


def ids(finding: Finding) -> list[tuple[str, ...]]:
    return [item.ids for item in finding.items]


@pytest.fixture
def skeletons(tmp_path: Path) -> Path:
    return write_skeletons(tmp_path / "data")


def test_sound_skeletons_have_no_fault(skeletons: Path):
    diagnosis = examine("folder_drnn", {"data.root": str(skeletons), **GROUP})
    assert [finding for finding in diagnosis.findings if finding.level != "note"] == []
    assert diagnosis.ready
    assert diagnosis.verdict.startswith("training can start")
    assert sum(diagnosis.counts.values()) == 24


@pytest.mark.parametrize(
    ("name", "spoil", "check"),
    [
        ("x_p1.npz", lambda path: path.write_bytes(b""), "empty files"),
        ("x_p1.npz", lambda path: path.write_bytes(b"PK no archive"), "unreadable files"),
        ("x_p1.txt", lambda path: path.write_text("1 2 3 1\n" * 39), "truncated files"),
        ("x_p1.txt", lambda path: path.write_text("1 2 3 1\n" * 19 + "1 nan 3 1\n"), "not finite"),
        ("x_p1.npz", lambda path: np.savez(path, joints=figure("kinect25")[:, None]), "wrong number of joints"),
    ],
)
def test_files_that_stop_a_folder_from_being_read(
    skeletons: Path, name: str, spoil: Callable[[Path], object], check: str
):
    spoil(skeletons / "jump" / name)
    found = diagnose(skeletons, **GROUP)
    assert ids(found[check]) == [(f"jump/{name}",)]
    assert found[check].level == "error"
    assert found[check].remove == (f"jump/{name}",)
    assert "jump/" in str(found[check].items[0].files[0])


def test_copies_on_both_sides(skeletons: Path):
    copyfile(skeletons / "wave" / "t1_p1.npz", skeletons / "wave" / "t3_p4.npz")
    copyfile(skeletons / "wave" / "t1_p2.npz", skeletons / "squat" / "t3_p2.npz")
    copyfile(skeletons / "jump" / "t1_p2.npz", skeletons / "jump" / "t4_p2.npz")
    found = diagnose(skeletons, **GROUP, **{"data.test_groups": ["p4"]})
    assert found["the same recording in several parts"].remove == ("wave/t1_p1.npz",)
    assert set(found["the same recording in two classes"].remove) == {"wave/t1_p2.npz", "squat/t3_p2.npz"}
    assert found["repeated recordings"].remove == ("jump/t4_p2.npz",)
    assert found["repeated recordings"].level == "warning"
    assert "near-duplicates in several parts" not in found  # equal files are said once


def test_of_many_copies_one_is_left_and_a_clean_list_is_clean(skeletons: Path, tmp_path: Path):
    for copy in ("t3_p2", "t3_p3", "t3_p4", "t4_p1"):
        copyfile(skeletons / "wave" / "t1_p1.npz", skeletons / "wave" / f"{copy}.npz")
    settings = {**GROUP, "data.test_groups": ["p4"], "data.val_groups": ["p3"]}
    diagnosis = examine("folder_drnn", {"data.root": str(skeletons), **settings})
    assert diagnosis.removed == {f"wave/{name}.npz" for name in ("t1_p1", "t3_p2", "t3_p3", "t4_p1")}
    assert "near-duplicates in several parts" not in by_name(diagnosis)
    write_list(diagnosis, tmp_path / "clean.csv")
    again = diagnose(tmp_path / "clean.csv")
    assert not [check for check in again if "same" in check or "repeated" in check or "duplicates" in check]


def test_near_duplicates_on_both_sides(skeletons: Path):
    joints = np.load(skeletons / "wave" / "t1_p1.npz")["joints"]
    np.savez(skeletons / "wave" / "t3_p4.npz", joints=(joints * 1.2 + 0.3).astype(np.float32))
    found = diagnose(skeletons, **GROUP, **{"data.test_groups": ["p4"]})
    assert ids(found["near-duplicates in several parts"]) == [("wave/t1_p1.npz", "wave/t3_p4.npz")]
    assert found["near-duplicates in several parts"].level == "error"


def spoiled(change: Callable[[np.ndarray], object], people: int = 1):
    joints = figures("kinect20", people).copy()
    change(joints)
    return skeleton_facts(sequence(joints), SkeletonData(LAYOUTS["kinect20"], people))


def test_sound_recordings_have_no_odd_frames():
    for people in (1, 2):
        facts = spoiled(lambda _: None, people)
        assert (facts.empty, facts.filled, facts.frozen, facts.jumps, facts.swaps, facts.stretched) == (0,) * 6


def test_frames_without_anybody():
    assert spoiled(lambda joints: joints.__setitem__(slice(3, 5), 0.0)).empty == 2


def test_frozen_frames():
    assert spoiled(lambda joints: joints.__setitem__(slice(5, 15), joints[5])).frozen == 10


def test_a_jump_of_the_body():
    facts = spoiled(lambda joints: joints.__setitem__(slice(10, None), joints[10:] + np.array([2, 0, 0])))
    assert (facts.jumps, facts.swaps) == (1, 0)


def test_people_who_change_places():
    facts = spoiled(lambda joints: joints.__setitem__(slice(10, 20), joints[10:20, ::-1].copy()), people=2)
    assert (facts.swaps, facts.jumps) == (2, 0)


def test_an_impossible_bone():
    wrist = LAYOUTS["kinect20"].joints.index("left_wrist")
    assert spoiled(lambda joints: joints.__setitem__((7, 0, wrist), joints[7, 0, wrist] + 2.0)).stretched == 1


def test_odd_frames_are_reported_with_their_recording(skeletons: Path):
    wave = skeletons / "wave"
    joints = np.load(wave / "t1_p1.npz")["joints"]
    np.savez(wave / "t5_p1.npz", joints=np.repeat(joints[:1], 30, 0))
    joints[3] = 0
    joints[10:20] = joints[10]
    np.savez(wave / "t6_p1.npz", joints=joints)
    np.savez(wave / "t7_p1.npz", joints=joints[20:21])
    found = diagnose(skeletons, **GROUP)
    assert ids(found["nothing moves"]) == [("wave/t5_p1.npz",)]
    assert ids(found["frozen frames"]) == [("wave/t6_p1.npz",)]
    assert ids(found["frames without anybody"]) == [("wave/t6_p1.npz",)]
    assert found["frames without anybody"].items[0].detail.startswith("1 of ")
    assert ids(found["too short"]) == [("wave/t7_p1.npz",)]


# Splits and classes

LABELS = ("walk", "run")


def records(*places: str) -> list[tuple]:
    """Records from ``part class group`` words."""
    words = [place.split() for place in places]
    return [
        (part, Record(f"{number}", Path(f"/none/{number}"), LABELS.index(label), group if group != "-" else ""))
        for number, (part, label, group) in enumerate(words)
    ]


def test_people_on_both_sides():
    placed = records("train walk anna", "test walk anna", "train run ben", "test run carl")
    (found,) = check_groups(placed, official=False)
    assert (found.level, found.remove) == ("error", ("0",))
    assert found.items[0].detail == "anna: 1 in train, 1 in test recordings"
    assert [each.level for each in check_groups(placed, official=True)] == ["note"]
    assert check_groups(records("train walk anna", "test walk ben"), official=False) == []
    assert [each.check for each in check_groups(records("train walk -"), official=False)] == ["no groups"]


def test_classes_without_recordings_and_unbalanced_ones():
    found = {each.check: each for each in check_classes(records("train walk a", "test walk b"), LABELS)}
    assert found["classes without train recordings"].level == "error"
    assert [item.detail for item in found["classes without test recordings"].items] == ["run"]
    many = records(*["train walk a"] * 10, "train run a", "test run b", "test walk b")
    (found,) = check_classes(many, LABELS)
    assert found.check == "unbalanced classes"
    assert "10 times" in found.problem
    assert check_classes(many[1:], LABELS) == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(("walk", "Walking"), ("basketball", "basket ball"), ("JumpRope", "jumping_ropes"), ("drinking", "drnking")),
        *(("throwing", "thorwing"), ("café", "cafe"), ("running", "run")),
    ],
)
def test_names_that_are_one(first: str, second: str):
    assert similar_names([first, "another", second]) == [(first, second)]


def test_names_of_benchmarks_are_different():
    for kind in (HMDB51, SBU, UCF101, UTDMHAD, MSRAction3D):
        assert similar_names(kind().labels()) == []
    assert similar_names(["swipe left", "swipe right", "sit", "hit", "walk", "talk", "turn 1 x", "turn 2 x"]) == []


# Videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound videos, and others with one fault each."""
    root = write_videos(tmp_path_factory.mktemp("doctor") / "data", "abcd", 1)
    dawn = root / "dawn"
    write(dawn / "a_uneven.mp4", 20, stamps=[40 * step + 200 * (step > 9) for step in range(20)])
    write(dawn / "a_long.mp4", 300, size=(40, 48))
    write(dawn / "a_portrait.mp4", 12, size=(64, 36))
    write(dawn / "a_short.mp4", 3, size=(40, 48))
    whole = (dawn / "a_0.mp4").read_bytes()
    (dawn / "a_cut.mp4").write_bytes(whole[: len(whole) // 2])
    (dawn / "a_empty.mp4").write_bytes(b"")
    (dawn / "a_text.mp4").write_text("this is no video")
    return root


@pytest.fixture(scope="module")
def found_in_videos(videos: Path) -> dict[str, Finding]:
    settings = {"data.group": "/([a-z])_", "data.test_groups": ["d"], "data.val_fraction": 0.0}
    return diagnose(videos, "folder_tsm", **settings, **{"model.pretrained": False})


@pytest.mark.parametrize(
    ("check", "name"),
    [
        ("truncated files", "a_cut"),
        ("empty files", "a_empty"),
        ("unreadable files", "a_text"),
        ("variable frame rate", "a_uneven"),
        ("odd sizes", "a_portrait"),
        ("very long videos", "a_long"),
        ("too short", "a_short"),
    ],
)
def test_a_video_with_a_fault(found_in_videos: dict[str, Finding], check: str, name: str):
    assert ids(found_in_videos[check]) == [(f"dawn/{name}.mp4",)]


def test_sound_videos_have_no_fault(tmp_path: Path):
    root = write_videos(tmp_path / "data", "abcd", 1)
    settings = {"data.group": "/([a-z])_", "model.segments": 4, "model.pretrained": False}
    found = diagnose(root, "folder_tsm", **settings)
    assert [each.check for each in found.values() if each.level == "error"] == []
    # Two ramps of light are told by a single frame; nothing else is said of them.
    assert {name for name, each in found.items() if each.level == "warning"} <= {"what a single random frame tells"}


def test_frames_that_are_spread_over_a_video_need_as_many(tmp_path: Path):
    root = write_videos(tmp_path / "data", "abcd", 1)
    short = write(next(root.iterdir()) / "a_short.mp4", 5)
    found = diagnose(root, "folder_fisher_vectors", **{"data.group": "/([a-z])_", "model.frames": 12})
    assert ids(found["too short"]) == [(str(short.relative_to(root)),)]


def test_rotated_and_still_videos(tmp_path: Path):
    folder = tmp_path / "x"
    folder.mkdir()
    upright, still = write(folder / "upright.mp4", 12), folder / "still.mp4"
    turned = with_matrix(upright, folder / "turned.mp4", (0, 1, -1, 0))
    with av.open(str(still), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    images = folder / "images"
    images.mkdir()
    for number in range(4):
        image = Image.fromarray(np.full((20, 30, 3), 60 * number, np.uint8))
        exif = image.getexif()
        exif[ExifTags.Base.Orientation] = 6
        image.save(images / f"{number:05}.jpg", exif=exif)
    placed: list = [("train", Record(path.stem, path, 0)) for path in (upright, turned, still, images)]
    found = {each.check: each for each in check_videos(list(observe(UCF101(root=tmp_path), placed)))}
    assert ids(found["rotated videos"]) == [("turned",), ("images",)]
    assert ids(found["nothing moves"]) == [("still",)]


def test_damage_between_the_moments_is_found_by_decoding_every_frame(tmp_path: Path):
    path = write(tmp_path / "x.mp4", 400, name="h264_short_gop.mp4", options={"g": "2"})
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    odd = packets[9]  # frames 0, 1, 17, 18, ... are looked at
    content[odd.pos + 8 : odd.pos + odd.size] = bytes(odd.size - 8)
    path.write_bytes(content)
    placed: list = [("train", Record("x", path, 0))]
    (quick,) = observe(UCF101(root=tmp_path), placed)
    (full,) = observe(UCF101(root=tmp_path), placed, every_frame=True)
    assert quick.error is None
    assert full.error is not None


# The command


def test_the_command_from_findings_to_a_clean_list(skeletons: Path, tmp_path: Path):
    (skeletons / "jump" / "x_p1.npz").write_bytes(b"")
    copyfile(skeletons / "wave" / "t1_p1.npz", skeletons / "wave" / "t3_p4.npz")
    before = {path: path.read_bytes() for path in skeletons.rglob("*.npz")}
    files = {"json": tmp_path / "out.json", "page": tmp_path / "out.html", "fix": tmp_path / "clean.csv"}
    words = [word for option, path in files.items() for word in (f"--{option}", str(path))]
    settings = ["--group", "_(p[0-9])", "--set", "data.test_groups=['p4']"]
    result = CliRunner().invoke(app, ["doctor", str(skeletons), *settings, *words])
    assert result.exit_code == 1, result.output
    assert "do not train on this yet: 2 errors" in result.output
    tree = json.loads(files["json"].read_text())
    assert not tree["ready"]
    assert {finding["check"] for finding in tree["findings"] if finding["level"] == "error"} == {
        "empty files",
        "the same recording in several parts",
    }
    page = files["page"].read_text()
    assert page.count("<svg") == 2  # both copies
    assert "http" not in page.replace("http://www.w3.org", "")
    lines = files["fix"].read_text().splitlines()
    assert lines[0] == "path,label,group,split"
    assert "data/jump/t1_p2.npz,jump,p2,train" in lines
    assert "data/wave/t3_p4.npz,wave,p4,test" in lines
    assert not [line for line in lines if "x_p1" in line or "wave/t1_p1" in line]
    clean = examine("folder_drnn", {"data.root": str(files["fix"])})
    assert (clean.ready, sum(clean.counts.values())) == (True, 24)
    assert before == {path: path.read_bytes() for path in skeletons.rglob("*.npz")}


def test_missing_files_of_a_table_are_named_with_their_lines(skeletons: Path):
    rows = [f"{path.relative_to(skeletons)},{path.parent.name}" for path in sorted(skeletons.rglob("*.npz"))]
    table = skeletons / "list.csv"
    table.write_text("\n".join(["path,label", *rows[:3], "jump/gone.npz,jump", *rows[3:], "wave/gone.npz,wave"]))
    diagnosis = examine("folder_drnn", {"data.root": str(table)})
    found = by_name(diagnosis)["missing files"]
    assert [item.detail for item in found.items] == [
        "line 5: there is no such file",
        "line 27: there is no such file",
    ]
    assert found.items[1].files == (skeletons / "wave" / "gone.npz",)
    assert sum(diagnosis.counts.values()) == 24
    fixed = write_list(diagnosis, skeletons / "clean.csv")
    assert (fixed.kept, fixed.removed) == (24, 2)
    data = SkeletonFolder(root=table, exclude=("jump/gone.npz",))
    with pytest.raises(DataError, match=r"line 27, 'wave/gone\.npz': there is no such file"):
        data.scan()
    with pytest.raises(DataError, match=r"data\.exclude names jump/other\.npz, and there is no such recording"):
        SkeletonFolder(root=table, exclude=("jump/gone.npz", "wave/gone.npz", "jump/other.npz")).scan()


def test_a_clean_list_has_no_class_without_training_recordings(skeletons: Path, tmp_path: Path):
    records = [
        (split, Record(f"{label}{number}", skeletons / "wave" / f"t1_p{number}.npz", label))
        for label, parts in enumerate((("train", "test"), ("train",), ("train", "test")))
        for number, split in enumerate(parts, 1)
    ]
    finding = Finding("x", "error", "", "", (), ("21",))
    diagnosis = Diagnosis("x", {}, ("a", "b", "c"), (finding,), 0.0, tuple(records))
    fixed = write_list(diagnosis, tmp_path / "a.csv")
    assert (fixed.kept, fixed.removed, fixed.classes) == (3, 2, ("c",))
    assert "c" not in {line.split(",")[1] for line in (tmp_path / "a.csv").read_text().splitlines()}
    worse = replace(diagnosis, findings=(replace(finding, remove=("01", "21")),))
    with pytest.raises(DataError, match="1 class with training recordings is left"):
        write_list(worse, tmp_path / "a.csv")


def test_a_list_that_could_not_be_read_is_not_written(skeletons: Path, tmp_path: Path):
    result = CliRunner().invoke(app, ["doctor", str(skeletons), "--fix", str(tmp_path / "clean.txt")])
    assert isinstance(result.exception, RecipeError)
    assert "clean.txt: a list of this kind is not written. Expected a name that ends in .csv" in str(result.exception)
    assert not (tmp_path / "clean.txt").exists()


def test_what_is_excluded_must_exist(skeletons: Path):
    left_out = SkeletonFolder(root=skeletons, exclude=("wave/t1_p1.npz",))
    assert len(left_out.scan().sources) == 23
    with pytest.raises(DataError, match=r"data\.exclude names wave/x\.npz, and there is no such recording"):
        SkeletonFolder(root=skeletons, exclude=("wave/x.npz",)).scan()


def test_the_command_on_sound_data_exits_with_0(skeletons: Path):
    result = CliRunner().invoke(app, ["doctor", str(skeletons), "--group", "_(p[0-9])"])
    assert result.exit_code == 0, result.output


def test_a_folder_that_cannot_be_read_is_a_finding(tmp_path: Path):
    write_skeletons(tmp_path / "data")
    (tmp_path / "data" / "nothing").mkdir()
    diagnosis = examine("folder_drnn", {"data.root": str(tmp_path / "data")})
    (finding,) = diagnosis.findings
    assert (finding.check, finding.level, diagnosis.ready) == ("layout", "error", False)
    assert "nothing" in finding.items[0].detail


@pytest.mark.data
def test_what_it_finds_in_msr(real_data: Path):
    found = by_name(examine("drnn_msr_action3d", {"data.root": str(real_data / "msr_action3d"), "data.files": "567"}))
    assert len(found["frames without anybody"].items) == 19  # and one of zeros alone, which is excluded
    assert ids(found["excluded"]) == [("a13_s09_e02",)]
