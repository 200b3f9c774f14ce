"""What every member of the union of data sets promises, on fabricated files; and the real ones' known counts."""

import shutil
import tomllib
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
import tomli_w
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from scipy.io import savemat

from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.tubes import Tube, TubeSet
from muybridge.data.datasets import (
    HMDB51,
    KTH,
    NTURGBD,
    SBU,
    UCF101,
    UTDMHAD,
    AnyDataset,
    Diving48,
    FineGym,
    Jester,
    Kinetics,
    MovingShapes,
    MSRAction3D,
    NTURGBDVideo,
    Pack,
    Playback,
    SkeletonFolder,
    SomethingV1,
    SomethingV2,
    StickFigures,
    UTDMHADArrow,
    UTDMHADDepth,
    VideoFolder,
    VideoList,
)
from muybridge.data.datasets.base import Benchmark, DatasetConfig
from muybridge.data.datasets.utd_mhad import foreground
from muybridge.data.shards.write import pack
from muybridge.media.tubes import UCF24, write_tubes
from tests.official import (
    fabricate_diving48,
    fabricate_finegym,
    fabricate_jester,
    fabricate_kinetics,
    fabricate_kth,
    fabricate_something_v1,
    fabricate_something_v2,
)
from tests.skeletons import figures, pixels
from tests.videos import write

RNG = np.random.default_rng(0)
MEMBERS = [member for member in get_args(get_args(AnyDataset)[0]) if member is not Playback]  # tests/test_playback.py


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def table(rows: int, columns: int, separator: str = " ") -> str:
    return "\n".join(separator.join(f"{value:.4f}" for value in row) for row in RNG.normal(size=(rows, columns)))


def fabricate_msr(root: Path) -> DatasetConfig:
    for action in (1, 2, 3):
        for subject in (1, 2, 3, 4):
            put(root / "Real3D" / f"a{action:02}_s{subject:02}_e01_skeleton3D.txt", table(40, 4))
    return MSRAction3D(root=root, val_groups=("s03",))


def fabricate_sbu(root: Path) -> DatasetConfig:
    for pair in ("s01s02", "s02s03", "s03s02"):
        for action in (1, 8):
            rows = [f"{number},{row}" for number, row in enumerate(table(3, 90, ",").splitlines())]
            put(root / pair / f"{action:02}" / "001" / "skeleton_pos.txt", "\n".join(rows))
    return SBU(root=root, fold=2, val_groups=("s01s02",))


def fabricate_utd(root: Path) -> DatasetConfig:
    root.mkdir()
    for action in (1, 27):
        for subject in (1, 2, 3):
            savemat(root / f"a{action}_s{subject}_t1_skeleton.mat", {"d_skel": RNG.normal(size=(20, 3, 4))})
    return UTDMHAD(root=root, val_groups=("s3",))


def ntu_text(frames: int = 2) -> str:
    lines = [str(frames)]
    for _ in range(frames):
        lines += ["1", "72057594037931101 0 1 1 1 1 0 0.02 -0.2 2", "25"]
        lines += [" ".join(f"{value:.4f}" for value in row) for row in RNG.normal(size=(25, 12))]
    return "\n".join(lines)


def fabricate_ntu(root: Path) -> DatasetConfig:
    for setup, camera, person, action in [
        (s, c, p, a) for s, p in ((1, 1), (2, 2), (3, 3), (17, 4)) for c in (1, 2, 3) for a in (1, 60)
    ] + [(18, 1, 45, 61), (19, 2, 46, 120)]:
        put(root / f"S{setup:03}C{camera:03}P{person:03}R001A{action:03}.skeleton", ntu_text())
    put(
        root / "NTU_RGBD_samples_with_missing_skeletons.txt",
        "1 of the captured samples is incomplete.\n\nS001C001P001R001A001\n",
    )
    return NTURGBD(root=root, val_groups=("P004",))


def fabricate_ntu_video(root: Path) -> DatasetConfig:
    data = fabricate_ntu(root)
    video = write(root.parent / "any.avi", 6, name="mpeg4.avi")
    for file in list(root.glob("*.skeleton")):
        (root / "nturgb+d_rgb").mkdir(exist_ok=True)
        shutil.copy(video, root / "nturgb+d_rgb" / f"{file.stem}_rgb.avi")
    return NTURGBDVideo(root=root, val_groups=data.val_groups)


def fabricate_folder(root: Path) -> DatasetConfig:
    for label in ("bow", "nod"):
        for person in "abcde":
            (root / label).mkdir(parents=True, exist_ok=True)
            joints = pixels(figures("coco17", 1 + (person == "c"), frames=3)) + RNG.normal(size=2)
            np.savez(root / label / f"{person}_1.npz", joints=joints)
            np.save(root / label / f"{person}_2.npy", joints[:, 0])
    np.save(root / "nod" / "a_3.npy", np.zeros((3, 17, 2)))
    return SkeletonFolder(
        root=root, group="/([a-z])_", test_groups=("b", "d"), val_groups=("e",), val_fraction=0.0, mirror_labels=()
    )


def fabricate_playground(root: Path) -> DatasetConfig:
    return StickFigures(root=root, people=4, test_people=1, repetitions=1, val_groups=("p02",))


def fabricate_shapes(root: Path) -> DatasetConfig:
    return MovingShapes(root=root, scenes=3, test_scenes=1, height=32, width=32, frames=8, val_groups=("s002",))


def fabricate_depth(root: Path) -> DatasetConfig:
    (root / "depth").mkdir(parents=True)
    video = write(root / "any.mp4", 20)
    for action in (1, 2, 27):
        for subject in (1, 2, 3):
            shutil.copy(video, root / "depth" / f"a{action}_s{subject}_t1.mp4")
    video.unlink()
    return UTDMHADDepth(root=root, val_groups=("s3",), temporal_jitter=0.2)


def fabricate_arrow(root: Path) -> DatasetConfig:
    depth = fabricate_depth(root)
    assert isinstance(depth, UTDMHADDepth)
    return UTDMHADArrow(root=depth.root, val_groups=depth.val_groups)


def fabricate_video_folder(root: Path) -> DatasetConfig:
    root.mkdir()
    video = write(root / "any.mp4", 6)
    for label in ("bow", "nod"):
        for person in "abcde":
            (root / label).mkdir(exist_ok=True)
            shutil.copy(video, root / label / f"{person}_1.MP4")
    video.unlink()
    write_frames(root / "nod" / "deeper" / "a_2")
    put(root / "nod" / ".hidden.mp4", "")
    return VideoFolder(
        root=root, group="/([a-z])_", test_groups=("b", "d"), val_groups=("e",), val_fraction=0.0, mirror_labels=()
    )


def fabricate_ucf(root: Path) -> DatasetConfig:
    video = write(root.parent / "any.avi", 6)
    paths = [f"{label}/v_{label}_g{group:02}_c01.avi" for label in ("Archery", "YoYo") for group in range(1, 7)]
    for path in paths:
        (root / "UCF-101" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, root / "UCF-101" / path)
    for fold in (1, 2, 3):
        tested = [path for path in paths if path[-11:-8] in (f"g{2 * fold - 1:02}", f"g{2 * fold:02}")]
        rest = [f"{path} {3 if path[0] == 'A' else 101}" for path in paths if path not in tested]
        put(root / "ucfTrainTestlist" / f"trainlist{fold:02}.txt", "\n".join(rest))
        put(root / "ucfTrainTestlist" / f"testlist{fold:02}.txt", "\n".join(tested) + "\n")
    return UCF101(root=root, fold=2, val_groups=("g02",))


def fabricate_hmdb(root: Path) -> DatasetConfig:
    video = write(root.parent / "any.avi", 6)
    for label in HMDB51().labels():
        films = ("Alien_1", "Brazil", "Contact", "Dune")
        files = [f"{film}_{label}_f_cm_np1_fr_med_0.avi" for film in films]
        for fold in (1, 2, 3):
            marks = {fold: 2, 0: 0 if label == "wave" else 1}
            lines = [f"{file} {marks.get(number, 1)} " for number, file in enumerate(files)]
            put(root / "testTrainMulti_7030_splits" / f"{label}_test_split{fold}.txt", "\n".join(lines))
        for file in files:
            (root / "hmdb51_org" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(video, root / "hmdb51_org" / label / file)
    return HMDB51(root=root, val_groups=("Contact",))


def write_frames(folder: Path, count: int = 4) -> None:
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.new("RGB", (24, 16), (number, 0, 0)).save(folder / f"img_{number:05}.jpg")


def fabricate_video_list(root: Path) -> DatasetConfig:
    root.mkdir()
    video = write(root / "any.mp4", 6)
    for name in ("one film.mp4", "two.mp4", "three.mp4"):
        shutil.copy(video, root / name)
    video.unlink()
    write_frames(root / "frames" / "four")
    put(root / "lists" / "train.txt", "one film.mp4 0\n\n# nobody\ntwo.mp4 1\n")
    put(root / "lists" / "val.txt", "three.mp4 6 2\n")
    put(root / "lists" / "test.txt", "frames/four 4 1\n")
    put(root / "names.txt", "bow\nnod\nwave goodbye\n")
    lists = {part: Path("lists") / f"{part}.txt" for part in ("train", "val", "test")}
    return VideoList(root=root, classes=Path("names.txt"), mirror_labels=(("bow", 1),), **lists)


def fabricate_pack(root: Path) -> DatasetConfig:
    videos = fabricate_video_folder(root.parent / "videos").model_copy(update={"val_groups": ()})
    pack(videos, root)
    return Pack(root=root, val_groups=("e",))  # pyright: ignore[reportArgumentType]


FABRICATE = {
    MSRAction3D: fabricate_msr,
    SBU: fabricate_sbu,
    UTDMHAD: fabricate_utd,
    NTURGBD: fabricate_ntu,
    NTURGBDVideo: fabricate_ntu_video,
    SkeletonFolder: fabricate_folder,
    StickFigures: fabricate_playground,
    MovingShapes: fabricate_shapes,
    UTDMHADDepth: fabricate_depth,
    UTDMHADArrow: fabricate_arrow,
    VideoFolder: fabricate_video_folder,
    VideoList: fabricate_video_list,
    UCF101: fabricate_ucf,
    HMDB51: fabricate_hmdb,
    SomethingV1: fabricate_something_v1,
    SomethingV2: fabricate_something_v2,
    Jester: fabricate_jester,
    Kinetics: fabricate_kinetics,
    Diving48: fabricate_diving48,
    FineGym: lambda root: fabricate_finegym(root).model_copy(update={"val_groups": ("-val-val-va",)}),
    KTH: fabricate_kth,
    Pack: fabricate_pack,
}


@pytest.fixture(scope="module", params=MEMBERS, ids=lambda member: member.__name__)
def data(request, tmp_path_factory) -> DatasetConfig:
    return FABRICATE[request.param](tmp_path_factory.mktemp(request.param.__name__) / "data")


def test_backwards_twice_is_forwards(data):
    turned = data.reverse()
    if turned is not None:
        assert all(turned[other] == one != other for one, other in turned.items())
        assert set(turned) <= set(range(len(data.labels())))


def test_superclasses_are_one_for_each_label_and_fewer(data):
    superclasses = data.superclasses()
    assert len(superclasses) in (0, len(data.labels()))
    assert not superclasses or len(set(superclasses)) < len(superclasses)


def test_label_names_are_unique_words(data):
    labels = data.labels()
    assert len(set(labels)) == len(labels) > 1
    assert all(label == label.strip() and label for label in labels)


def test_index_is_stable_and_splits_are_disjoint(data):
    splits = {split: data.index(split) for split in ("train", "val", "test")}
    assert splits == {split: data.index(split) for split in splits}
    records = [record for index in splits.values() for record in index.records]
    assert len({record.id for record in records}) == len(records)
    assert len({(record.path, record.span, record.backwards) for record in records}) == len(records)
    if data.name == "video_list":  # whose parts are lists, not groups
        return
    groups = {split: {record.group for record in index.records} - {""} for split, index in splits.items()}
    assert groups["val"] == set(data.val_groups)
    assert not groups["train"] & groups["val"]
    assert not groups["train"] & groups["test"]
    assert not groups["val"] & groups["test"]
    assert all(0 <= record.label < len(data.labels()) for record in records)


def test_without_val_groups_nothing_is_held_out(data):
    whole = data.model_copy(update={"val_groups": ()})
    held = data.index("train").records + (data.index("val").records if data.val_groups else ())
    assert set(whole.index("train").records) == set(held)
    assert not whole.index("val").records or data.name == "video_list"


def test_an_unknown_val_group_is_refused(data):
    with pytest.raises(DataError, match=r"val_groups names nobody\. Expected groups of the training part: .*"):
        data.model_copy(update={"val_groups": ("nobody",)}).index("train")


def test_open_gives_what_holds_says(data):
    holds = data.holds()
    for split in ("train", "val", "test"):
        for record in data.index(split).records[:6]:
            if isinstance(holds, ClipData):
                with data.open(record) as video:
                    assert video.read([0, len(video) - 1]).pixels.shape[:2] == (2, holds.channels)
                continue
            sequence = data.open(record)
            assert sequence.joints.shape[1:] == (holds.people, len(holds.layout), holds.coordinates)
            assert sequence.present.any()


def test_mirroring_twice_gives_the_label_back(data):
    mapping = data.mirror()
    assert isinstance(mapping, dict)
    assert all(mapping[mapping[label]] == label != mapping[label] for label in mapping)


def test_config_survives_toml(data):
    for config in (data, data.resolved()):
        text = tomli_w.dumps(config.model_dump(mode="json", exclude_none=True))
        assert TypeAdapter(AnyDataset).validate_python(tomllib.loads(text)) == config


def test_a_misspelt_setting_is_refused(data):
    with pytest.raises(ValidationError, match="rooot"):
        type(data).model_validate(data.model_dump() | {"rooot": "x"})


def test_a_resolved_config_needs_no_files(data, tmp_path):
    resolved = data.resolved()
    gone = resolved.model_copy(update={"root": tmp_path / "gone"})
    assert gone.labels() == data.labels()
    assert gone.holds() == data.holds()
    assert Path(resolved.root).is_absolute()


def test_every_fold_tests_something_else(data):
    tested = [
        {record.id for record in type(data).model_validate(settings | {"fold": fold}).index("test").records}
        for settings in [
            data.model_dump() | {"val_groups": ()} | ({"test_groups": ()} if "folder" in data.name else {})
        ]
        for fold in data.folds()
        if not (data.name == "sbu" and fold in "35")  # no fabricated pair lies in these
    ]
    assert sum(map(len, tested)) == len(set().union(*tested))


# The folder of a benchmark


@pytest.mark.parametrize("member", [member for member in MEMBERS if issubclass(member, Benchmark)])
def test_the_folder_of_a_benchmark(member, tmp_path, monkeypatch):
    monkeypatch.delenv("MUYBRIDGE_DATA", raising=False)
    with pytest.raises(DataError, match=rf"the folder of {member.folder_name} is not known.*[Ss]et MUYBRIDGE_DATA"):
        member().index("train")
    monkeypatch.setenv("MUYBRIDGE_DATA", str(tmp_path))
    with pytest.raises(DataError, match=rf"{member.folder_name}: there is no such folder"):
        member().index("train")
    (tmp_path / member.folder_name).mkdir()
    with pytest.raises(DataError, match=r"the folder holds no recordings\. Expected files called|it cannot be read"):
        member().index("train")
    shutil.rmtree(tmp_path / member.folder_name)
    data = FABRICATE[member](tmp_path / member.folder_name)
    assert data.model_copy(update={"root": None}).index("test") == data.index("test")


def test_a_split_without_recordings_is_refused(tmp_path):
    put(tmp_path / "a01_s01_e01_skeleton3D.txt", table(20, 4))
    with pytest.raises(DataError, match="the test split is empty"):
        MSRAction3D(root=tmp_path).index("test")


# NTU


def test_ntu_protocols(tmp_path):
    fabricate_ntu(tmp_path / "data")

    def people(split, **settings):
        records = NTURGBD(root=tmp_path / "data", **settings).index(split).records
        return sorted({record.group for record in records})

    def cameras(split, **settings):
        return {record.id[5:8] for record in NTURGBD(root=tmp_path / "data", **settings).index(split).records}

    assert people("train") == ["P001", "P002", "P004"]
    assert people("test") == ["P003"]
    assert people("train", classes=120) == ["P001", "P002", "P004", "P045", "P046"]
    assert cameras("train", protocol="cross_view") == {"002", "003"}
    assert cameras("test", protocol="cross_view") == {"001"}
    assert people("train", classes=120, protocol="cross_setup") == ["P002", "P045"]
    assert len(NTURGBD(classes=120).labels()) == 120
    with pytest.raises(ValidationError, match="cross_view is no protocol of the 120 classes"):
        NTURGBD(classes=120, protocol="cross_view")
    with pytest.raises(ValidationError, match="cross_setup is no protocol of the 60 classes"):
        NTURGBD(protocol="cross_setup")


def test_ntu_missing_samples_are_excluded_and_listed(tmp_path):
    data = fabricate_ntu(tmp_path / "data")
    (excluded,) = data.index("train").excluded
    assert excluded.id == "S001C001P001R001A001"
    assert "missing or incomplete" in excluded.reason
    assert not data.index("test").excluded
    put(tmp_path / "mine.txt", "S003C002P003R001A060.skeleton\n")
    data = NTURGBD(root=tmp_path / "data", missing=tmp_path / "mine.txt")
    assert [record.id for record in data.index("test").excluded] == ["S003C002P003R001A060"]
    with pytest.raises(DataError, match=r"gone.txt: it cannot be read .*Expected a text file with names such as S001"):
        NTURGBD(root=tmp_path / "data", missing=tmp_path / "gone.txt").index("test")


def test_ntu_videos_have_the_ids_of_the_skeletons(tmp_path):
    data = fabricate_ntu_video(tmp_path / "data")
    assert isinstance(data, NTURGBDVideo)
    skeletons = NTURGBD(root=data.root, val_groups=data.val_groups)
    beside = data.model_copy(update={"with_skeletons": True})
    for split in ("train", "val", "test"):
        assert [each.id for each in beside.index(split).records] == [each.id for each in skeletons.index(split).records]
    assert [each.id for each in beside.index("train").excluded] == ["S001C001P001R001A001"]
    assert len(data.index("train")) == len(beside.index("train")) + 1
    assert data.official_counts()["train"] - beside.official_counts()["train"] == 229
    assert NTURGBDVideo(classes=120).official_counts() == {"classes": 120}


# Boxes


def fabricate_ucf24(root: Path) -> UCF101:
    """One class without boxes, and one of whose videos one has none."""
    paths = [f"{label}/v_{label}_g{group:02}_c01" for label in ("Biking", "YoYo") for group in (1, 2, 3)]
    for part, groups in (("train", ("g01", "g02")), ("test", ("g03",))):
        lines = [f"{path}.avi" for path in paths if path[-7:-4] in groups]
        put(root / "ucfTrainTestlist" / f"{part}list01.txt", "\n".join(lines))
    boxes = np.array([[10, 10, 40, 60]] * 3, dtype=np.float64)
    tubes = tuple(Tube(path, UCF24.index("Biking"), boxes, first) for path in paths[1:3] for first in (0, 5))
    write_tubes(root / "boxes.json", TubeSet(UCF24, tubes, dict.fromkeys(paths[1:3], 9)))
    return UCF101(root=root, annotations=Path("boxes.json"))


def test_the_boxes_of_ucf101_24_are_those_of_its_videos(tmp_path):
    data = fabricate_ucf24(tmp_path)
    tubes = data.tubes()
    assert tubes is not None
    assert len(data.index("train")) == 4
    assert {tube.video for tube in tubes.tubes} == {"Biking/v_Biking_g02_c01", "Biking/v_Biking_g03_c01"}
    few = data.model_copy(update={"subset": "24"})
    assert few.labels() == UCF24
    index = few.index("train")
    assert [(each.id, few.labels()[each.label]) for each in index.records] == [
        ("Biking/v_Biking_g02_c01.avi", "Biking")
    ]
    assert [(each.id, each.reason) for each in index.excluded] == [("Biking/v_Biking_g01_c01.avi", "it has no boxes")]
    (tmp_path / "boxes.json").unlink()
    assert data.tubes() is None
    with pytest.raises(DataError, match=r"boxes\.json: there are no boxes\. Expected .*finalAnnots\.mat"):
        few.index("train")


def test_the_real_boxes_of_ucf101_24(real_data):
    data = UCF101(
        root=real_data / "splits",
        lists=Path("ucf101"),
        subset="24",
        annotations=real_data / "ucf101_24_boxes" / "finalAnnots.mat",
    )
    counts = {split: len(data.index(split)) for split in ("train", "test")}
    assert {**counts, "classes": 24} == data.official_counts()
    listed = (real_data / "ucf101_24_boxes" / "testlist01.txt").read_text().split()
    assert {record.id.removesuffix(".avi") for record in data.index("test").records} == set(listed)


# The user's own


def folder(root: Path, **settings) -> SkeletonFolder:
    fabricate_folder(root)
    return SkeletonFolder(root=root, **settings)


def test_folder_reads_what_the_files_hold(tmp_path):
    data = folder(tmp_path / "data")
    assert data.labels() == ("bow", "nod")
    assert data.holds().layout.name == "coco17"
    assert (data.holds().people, data.holds().coordinates) == (2, 2)
    assert data.mirror() is None
    assert SkeletonFolder(root=tmp_path / "data", layout="plain17", mirror_labels=(("bow", "nod"),)).mirror() == {
        0: 1,
        1: 0,
    }
    assert folder(tmp_path / "data", classes=("nod", "bow")).index("test").records[0].label == 1


def test_folder_draws_a_share_of_each_class_by_name_alone(tmp_path):
    data = folder(tmp_path / "data", test_fraction=0.2, val_fraction=0.1)
    counts = {split: [record.label for record in data.index(split).records] for split in ("train", "val", "test")}
    assert [len(counts[split]) for split in counts] == [14, 2, 4]
    assert counts["test"] == [0, 0, 1, 1]
    tested = {record.id for record in data.index("test").records}
    moved = SkeletonFolder(root=(tmp_path / "data").rename(tmp_path / "moved"), test_fraction=0.2, val_fraction=0.1)
    assert {record.id for record in moved.index("test").records} == tested


def test_folder_draws_whole_groups(tmp_path):
    data = folder(tmp_path / "data", group="/([a-z])_", test_fraction=0.4, val_fraction=0.2)
    groups = {split: {record.group for record in data.index(split).records} for split in ("train", "val", "test")}
    assert [len(groups[split]) for split in ("train", "val", "test")] == [2, 1, 2]
    assert set().union(*groups.values()) == set("abcde")
    assert data.folds() == tuple("abcde")
    assert {record.group for record in data.model_copy(update={"fold": "c"}).index("test").records} == {"c"}


def test_folder_excludes_recordings_without_people(tmp_path):
    data = folder(tmp_path / "data", group="/([a-z])_", test_groups=("a",))
    (excluded,) = data.index("test").excluded
    assert excluded.id == "nod/a_3.npy"
    assert "nobody is seen" in excluded.reason


def test_folder_detects_a_changed_file(tmp_path):
    data = folder(tmp_path / "data", group="/([a-z])_", test_groups=("a",))
    count = len(data.index("test"))
    np.save(tmp_path / "data" / "nod" / "a_3.npy", np.ones((4, 17, 2)))
    assert len(data.index("test")) == count + 1


def test_folder_defects(tmp_path):
    root = tmp_path / "data"
    with pytest.raises(DataError, match="there is no such folder"):
        SkeletonFolder(root=root).labels()
    root.mkdir()
    with pytest.raises(DataError, match="the folder has no class folders"):
        SkeletonFolder(root=root).labels()
    fabricate_folder(root)
    for settings, message in [
        ({"classes": ("bow",)}, "the class 'nod' is not among data.classes"),
        ({"classes": ("bow", "nod", "wink")}, "the class 'wink' has no folder"),
        ({"group": "person(\\d)"}, r"data.group 'person\(\\d\)' is not found in 'bow/a_1.npz'.*class/name\.ext"),
        ({"group": "/([a-z])_", "test_groups": ("x",)}, "there are no recordings of x. Expected groups among a, b"),
        ({"group": "/([a-z])_", "fold": "x"}, "there are no recordings of x"),
        ({"group": "(_)"}, "the test split is empty"),
        ({"fold": "a"}, "test_groups or fold is given, and there are no groups"),
        ({"layout": "kinect20"}, r"the recording has 17 joints of 2 coordinates. Expected 20 .*layout kinect20"),
        ({"coordinates": 3}, r"joints have 2 coordinates\. Expected at least 3, as data.coordinates says"),
        (
            {"mirror_labels": (("bow", "wink"),)},
            "mirror_labels names the class 'wink'. Expected classes among bow, nod",
        ),
    ]:
        data = SkeletonFolder(root=root, **settings)
        with pytest.raises(DataError, match=message):
            data.index("test"), data.mirror()
    with pytest.raises(RecipeError, match="no layout is called 'coco'"):
        SkeletonFolder(root=root, layout="coco").holds()
    np.save(root / "nod" / "z.npy", np.ones((3, 20, 2)))
    with pytest.raises(DataError, match=r"z.npy: the recording has 20 joints .* Expected 17 .* as in .*a_1.npz"):
        SkeletonFolder(root=root).index("train")
    (root / "empty").mkdir()
    (root / "empty" / "readme.md").write_text("hello")
    with pytest.raises(
        DataError, match=r"the class 'empty' has no recordings, but 1 \.md\. Expected files that end in \.npz"
    ):
        SkeletonFolder(root=root).index("train")
    for path in root.rglob("*.np?"):
        path.unlink()
    (root / "empty").rename(root / "_empty")
    for label in ("bow", "nod"):
        np.save(root / label / "a.npy", np.zeros((2, 3, 2)))
    with pytest.raises(DataError, match="nobody is seen in any recording"):
        SkeletonFolder(root=root).index("train")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": "("}, "is no regular expression"),
        ({"group": "s\\d"}, "has 0 groups of parentheses and needs one"),
        ({"test_groups": ("a",), "fold": "b"}, "both say which groups test"),
    ],
)
def test_folder_settings_out_of_range(settings, message):
    with pytest.raises(ValidationError, match=message):
        SkeletonFolder(root=Path("anywhere"), **settings)


# The user's own videos


def test_video_folder_finds_files_and_folders_of_frames(tmp_path):
    data = fabricate_video_folder(tmp_path / "data")
    train = {record.id for record in data.index("train").records}
    assert train == {"bow/a_1.MP4", "bow/c_1.MP4", "nod/a_1.MP4", "nod/c_1.MP4", "nod/deeper/a_2"}
    frames = next(record for record in data.index("train").records if record.id == "nod/deeper/a_2")
    assert data.open(frames).read([2]).pixels[0, 0].float().mean() == pytest.approx(3, abs=1)
    put(tmp_path / "data" / "wink" / "readme.txt", "")
    assert data.reverse() is None
    assert data.model_copy(update={"reverse_labels": ()}).reverse() == {}
    assert data.model_copy(update={"reverse_labels": (("nod", "bow"),)}).reverse() == {0: 1, 1: 0}
    with pytest.raises(DataError, match=r"the class 'wink' has no recordings, but 1 \.txt\. Expected videos \(\.mp4, "):
        data.index("train")


def test_list_lines(tmp_path):
    data = fabricate_video_list(tmp_path / "data")
    (one, two) = data.index("train").records
    assert (one.id, one.label, two.label) == ("one film.mp4", 0, 1)
    assert data.labels() == ("bow", "nod", "wave goodbye")
    assert data.mirror() == {0: 1, 1: 0}
    (test,) = data.index("test").records
    assert (test.id, test.label) == ("frames/four", 1)
    numbered = data.model_copy(update={"classes": 3, "mirror_labels": None})
    assert numbered.labels() == ("class 0", "class 1", "class 2")
    assert numbered.mirror() is None
    assert numbered.reverse() is None
    assert data.model_copy(update={"reverse_labels": ((2, "bow"),)}).reverse() == {2: 0, 0: 2}


def test_lists_are_searched_under_the_data_folder(tmp_path, monkeypatch):
    data = fabricate_video_list(tmp_path / "lists of mine")
    monkeypatch.setenv("MUYBRIDGE_DATA", str(tmp_path))
    assert data.model_copy(update={"root": Path("lists of mine")}).index("train") == data.index("train")


@pytest.mark.parametrize(
    ("file", "text", "settings", "message"),
    [
        ("train.txt", "a.mp4\n", {}, r"train.txt: line 1, 'a.mp4'\. Expected `path label`"),
        (
            "train.txt",
            "\na.mp4 1\nb.mp4 4\n",
            {},
            r"line 3, 'b.mp4 4', has the label '4'\. .*a label of 0 to 2 or a class",
        ),
        ("train.txt", "a.mp4 wink\n", {}, "line 1, 'a.mp4 wink', has the label 'wink'"),
        (
            "train.txt",
            "frames/four 1\n",
            {},
            r"'frames/four' is listed in lists/train\.txt, line 1, and in lists/test\.txt, line 1",
        ),
        ("train.txt", "a.mp4 1\na.mp4 1\n", {}, r"'a\.mp4' is listed in lists/train\.txt, line 1, .* line 2"),
        ("train.txt", "# nobody\n", {}, "the train split is empty"),
        ("train.txt", "a.mp4 1\n", {"test": Path("gone.txt")}, r"gone.txt: it cannot be read .*Correct data.test"),
        ("train.txt", "a.mp4 1\n", {"classes": Path("gone.txt")}, r"gone.txt: .*Correct data.classes"),
        ("train.txt", "a.mp4 1\n", {"mirror_labels": ((0, 9),)}, "mirror_labels names the class 9"),
        ("train.txt", "a.mp4 1\n", {"mirror_labels": ((0, -1),)}, "mirror_labels names the class -1"),
        (
            "train.txt",
            "a.mp4 1\n",
            {"mirror_labels": ((0, 1), (2, "nod"))},
            "mirror_labels names the class 'nod' twice",
        ),
        ("train.txt", "a.mp4 1\n", {"reverse_labels": ((0, 9),)}, "reverse_labels names the class 9"),
        ("train.txt", "a.mp4 1\n", {"mirror_labels": (("bow", "wink"),)}, "mirror_labels names the class 'wink'"),
    ],
)
def test_list_defects(tmp_path, file, text, settings, message):
    data = fabricate_video_list(tmp_path / "data").model_copy(update=settings)
    put(tmp_path / "data" / "lists" / file, text)
    with pytest.raises(DataError, match=message):
        data.index("train"), data.mirror(), data.reverse()


# Depth


def write_grey(path: Path, frames: np.ndarray) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:], "yuv420p"
        stream.codec_context.thread_count = 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray").reformat(format="yuv420p")))
        container.mux(stream.encode(None))


def test_the_arrow_shows_the_same_frames_both_ways(tmp_path):
    data = fabricate_arrow(tmp_path / "data").model_copy(update={"temporal_jitter": 0.3})
    assert data.labels() == ("forwards", "backwards")
    records = {record.id: record for record in data.index("train").records}
    forwards_record, backwards_record = records["a1_s1_t1"], records["a1_s1_t1_backwards"]
    assert (forwards_record.label, backwards_record.label) == (0, 1)
    forwards, backwards = data.open(forwards_record), data.open(backwards_record)
    assert len(forwards) == len(backwards) < 20  # its ends are cut off
    seen = forwards.read(range(len(forwards)))
    turned = backwards.read(range(len(backwards)))
    assert torch.equal(seen.pixels, turned.pixels.flip(0))
    torch.testing.assert_close(seen.seconds, turned.seconds)
    phases = {len(data.open(record)) for record in records.values()}
    assert len(phases) > 1


def test_depth_both_ways_has_every_action_backwards_too(tmp_path):
    once = fabricate_depth(tmp_path / "data")
    data = once.model_copy(update={"include_reversed": True})
    names, mirror = data.labels(), data.mirror()
    assert len(names) == 54
    assert names[26:29] == ("squat", "swipe left, backwards", "swipe right, backwards")
    swapped = {names[label]: names[partner] for label, partner in mirror.items()}
    assert swapped["swipe left, backwards"] == "swipe right, backwards"
    assert len(swapped) == 8
    turned = data.reverse()
    assert turned is not None
    assert (names[turned[26]], turned[53]) == ("squat, backwards", 26)
    assert once.reverse() is None
    assert {broader for name, broader in zip(names, data.superclasses(), strict=True) if "backwards" in name} == {
        "backwards"
    }
    assert len(data.index("train")) == 2 * len(once.index("train"))
    records = {record.id: record for record in data.index("train").records}
    forwards_record, backwards_record = records["a27_s1_t1"], records["a27_s1_t1_backwards"]
    assert (names[forwards_record.label], names[backwards_record.label]) == ("squat", "squat, backwards")
    with data.open(forwards_record) as forwards, data.open(backwards_record) as backwards:
        numbers = range(len(forwards))
        assert torch.equal(forwards.read(numbers).pixels, backwards.read(numbers).pixels.flip(0))


def test_the_foreground_is_a_square_around_all_that_moves(tmp_path):
    data = UTDMHADDepth(root=tmp_path, crop_foreground=True)
    path = tmp_path / "depth" / "a1_s1_t1.mp4"
    path.parent.mkdir()
    still = np.zeros((10, 96, 128), np.uint8)
    for number, frame in enumerate(still):
        frame[40:80, 60 + 2 * number : 64 + 2 * number] = 200  # reaches over rows 40 to 79 and columns 60 to 81
    write_grey(path, still)
    with data.open(data.records()[0]) as video:
        assert video.size == (40, 40)
        seen = video.read(range(10)).pixels
        top, left, height, width = foreground(path)
    assert (top, height, width) == (40, 40, 40)
    assert left <= 60 < 82 <= left + width
    assert ((seen[:, 0] > 100).float().mean((1, 2)) * 10).tolist() == pytest.approx([1.0] * 10, abs=0.1)


def test_swipes_and_circles_swap_in_a_mirror():
    names = UTDMHADDepth().labels()
    swapped = {names[one]: names[other] for one, other in UTDMHADDepth().mirror().items()}
    assert swapped["swipe left"] == "swipe right"
    assert swapped["draw circle clockwise"] == "draw circle counter-clockwise"
    assert len(swapped) == 4


# The real ones


@pytest.mark.parametrize(("config", "factor"), [(UTDMHADDepth(), 1), (UTDMHADArrow(), 2)], ids=["depth", "arrow"])
def test_real_depth(real_data, config, factor):
    train, test = config.index("train").records, config.index("test").records
    assert (len(train), len(test)) == (431 * factor, 430 * factor)
    with config.open(train[-1]) as video:
        clip = video.read([0, len(video) - 1], short_side=120)
        assert clip.pixels.shape == (2, 1, 120, 160)


@pytest.mark.parametrize(
    ("config", "train", "test", "classes", "frames"),
    [
        (MSRAction3D(), 284, 273, 20, (13, 76)),
        (MSRAction3D(files="567"), 291, 275, 20, (13, 936)),
        (MSRAction3D(subset="AS1"), 114, 105, 8, (13, 76)),
        (MSRAction3D(subset="AS2"), 116, 112, 8, (13, 76)),
        (MSRAction3D(subset="AS3"), 111, 111, 8, (13, 76)),
        *[
            (SBU(fold=fold), 282 - count, count, 8, (10, 46))
            for fold, count in enumerate((55, 52, 56, 54, 65), start=1)
        ],
        (UTDMHAD(), 431, 430, 27, (41, 125)),
    ],
    ids=str,
)
def test_real_counts(real_data, config, train, test, classes, frames):
    records = config.index("train").records + config.index("test").records
    assert (len(config.index("train")), len(config.index("test"))) == (train, test)
    assert len(config.labels()) == classes
    assert {record.label for record in records} == set(range(classes))
    lengths = [len(config.open(record)) for record in records]
    assert frames[0] <= min(lengths)
    assert max(lengths) <= frames[1]


def test_the_557_are_those_of_the_list(real_data):
    config = MSRAction3D()
    ours = {record.id for split in ("train", "test") for record in config.index(split).records}
    assert ours == set((real_data / "msr_action3d" / "files_used_in_cvpr12_paper.txt").read_text().split())


def test_the_one_recording_of_zeros_is_excluded(real_data):
    config = MSRAction3D(files="567")
    assert [record.id for record in config.index("train").excluded] == ["a13_s09_e02"]
    assert not config.index("test").excluded
    assert not MSRAction3D().index("train").excluded


def test_the_folds_of_sbu_are_a_partition_by_pairs(real_data):
    tested = [record.id for fold in range(1, 6) for record in SBU(fold=fold).index("test").records]
    assert len(tested) == len(set(tested)) == 282


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_the_official_splits_of_ucf101_and_hmdb51(real_data, fold):
    ucf = UCF101(root=real_data / "splits", lists=Path("ucf101"), fold=fold)
    train, test = ucf.index("train").records, ucf.index("test").records
    assert (len(train), len(test)) == {1: (9537, 3783), 2: (9586, 3734), 3: (9624, 3696)}[fold]
    assert not {record.group for record in train} & {record.group for record in test}
    lists = real_data / "splits" / "ucf101"
    numbers = {line.split()[1]: int(line.split()[0]) for line in (lists / "classInd.txt").read_text().splitlines()}
    assert ucf.labels() == tuple(numbers)
    expected_labels = dict(line.split() for line in (lists / f"trainlist{fold:02}.txt").read_text().splitlines())
    assert {record.id: str(record.label + 1) for record in train} == expected_labels
    hmdb = HMDB51(root=real_data / "splits", lists=Path("hmdb51"), fold=fold)
    train, test = hmdb.index("train").records, hmdb.index("test").records
    assert (len(train), len(test)) == (3570, 1530)
    for part, count in ((train, 70), (test, 30)):
        assert np.bincount([record.label for record in part]).tolist() == [count] * 51


def test_lists_that_are_not_there_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"trainlist01\.txt: it cannot be read .*Fetch the official lists"):
        UCF101(root=tmp_path).index("train")
    with pytest.raises(DataError, match=r"brush_hair_test_split1\.txt: it cannot be read"):
        HMDB51(root=tmp_path).index("test")
