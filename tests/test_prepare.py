"""Archives are unpacked safely, videos are counted, indexed once and copied smaller; nothing half done is left."""

import io
import json
import os
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from typer.testing import CliRunner

from muybridge import cli
from muybridge.cli.prepare import BENCHMARKS
from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError, MissingExtraError, RecipeError
from muybridge.data.datasets import UCF101, MSRAction3D
from muybridge.data.datasets.base import Benchmark
from muybridge.data.datasets.labelled import Labelled
from muybridge.media.encode import KEYFRAMES
from muybridge.media.probe import probe
from muybridge.media.video import Video
from muybridge.prepare import copies_of, foreign, prepare, video_index
from muybridge.prepare.unpack import DONE, find_archives, unpack
from tests import videos
from tests.official import fabricate_jester, fabricate_kinetics, fabricate_kth, fabricate_something_v2, put
from tests.test_every_dataset import fabricate_hmdb, fabricate_ucf

# Archives


def tar(path: Path, members: dict[str, bytes | str], mode: str = "w:gz", kind: bytes = tarfile.REGTYPE) -> Path:
    """A tar file; a member whose content is a text is of another kind, such as a link to it."""
    with tarfile.open(path, mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = kind, content
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def unpack_all(root: Path) -> list[int]:
    return [unpack(archive) for archive in find_archives(root)[0]]


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.zip", "parts"])
def test_archives_are_unpacked_where_they_lie(tmp_path: Path, name: str):
    folder = tmp_path / "k400_targz" / "train"
    folder.mkdir(parents=True)
    content = {"v/1.txt": b"one" * 1000, "v/w/2.txt": os.urandom(5000), "v/__MACOSX/3": b"x", "./4.txt": b""}
    if name == "a.zip":
        with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.mkdir("v")
            for member, data in content.items():
                archive.writestr(member, data)
    elif name == "parts":  # as those of Something-Something, cut anywhere
        data = tar(folder / "whole", content).read_bytes()
        (folder / "whole").unlink()
        for number, begin in enumerate(range(0, len(data), 2000)):
            (folder / f"20bn-x-{number:02}").write_bytes(data[begin : begin + 2000])
        assert len(list(folder.iterdir())) > 2
    else:
        tar(folder / name, content, "w:" + {"a.tar": "", "a.tgz": "gz"}.get(name, name.rpartition(".")[2]))
    archives = set(contents(folder))
    assert unpack_all(tmp_path) == [3]
    assert {place: data for place, data in contents(folder).items() if place not in archives | {DONE}} == {
        "v/1.txt": content["v/1.txt"],
        "v/w/2.txt": content["v/w/2.txt"],
        "4.txt": b"",
    }
    assert find_archives(tmp_path) == ([], [])
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == [DONE]
    first = next(iter(sorted(archives)))
    os.utime(folder / first, (1, 1))  # another archive of that name
    assert unpack_all(tmp_path) == [3]


def rar(path: Path, members: dict[str, bytes]) -> Path:
    """A rar file (of version 4) whose members are stored as they are."""

    def block(kind: int, flags: int, rest: bytes) -> bytes:
        header = struct.pack("<BHH", kind, flags, 7 + len(rest)) + rest
        return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header

    content = b"Rar!\x1a\x07\x00" + block(0x73, 0, bytes(6))
    for name, data in members.items():
        sizes = struct.pack("<IIBIIBBHI", len(data), len(data), 3, zlib.crc32(data), 0, 20, 0x30, len(name), 0o100644)
        content += block(0x74, 0x8000, sizes + name.encode()) + data
    path.write_bytes(content + b"\xc4\x3d\x7b\x00\x40\x07\x00")
    return path


def seven_zip(path: Path, members: dict[str, bytes]) -> Path:
    libarchive: Any = foreign._library()
    with libarchive.file_writer(str(path), "7zip") as archive:
        for name, data in members.items():
            archive.add_file_from_memory(name, len(data), data)
    return path


@pytest.mark.parametrize("write", [rar, seven_zip])
def test_rar_and_7z_are_unpacked_where_libarchive_is(tmp_path: Path, write: Callable[..., Path]):
    if foreign._library() is None:
        pytest.skip("libarchive is not installed")
    inner = write(tmp_path / "inner", {"v/1.txt": b"one" * 1000, "v/2.txt": os.urandom(5000)}).read_bytes()
    (tmp_path / "inner").unlink()
    name = f"hmdb.{'rar' if write is rar else '7z'}"
    write(tmp_path / name, {f"class/{name}": inner, "3.txt": b"3"})
    assert unpack_all(tmp_path) == [2]
    assert unpack_all(tmp_path) == [2]  # what was in it, as in HMDB51
    assert contents(tmp_path)["class/v/1.txt"] == b"one" * 1000
    assert find_archives(tmp_path) == ([], [])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_bytes(inner[: len(inner) * 2 // 3])
    with pytest.raises(DataError, match="the archive is damaged, encrypted or incomplete"):
        unpack_all(tmp_path)
    assert [path.name for path in (tmp_path / "other").iterdir()] == [name]
    write(tmp_path / "other" / name, {"../out.txt": b"bad"})
    with pytest.raises(DataError, match="which lies outside"):
        unpack_all(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../out.txt", "a file called '../out.txt', which lies outside"),
        ("v/../../out.txt", "which lies outside"),
        ("/tmp/out.txt", "which lies outside"),
        ("C:/out.txt", "which lies outside"),
        ("v\\..\\out.txt", "which lies outside"),
    ],
)
@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str, message: str, form: str):
    root = tmp_path / "root"
    root.mkdir()
    if form == "zip":
        with zipfile.ZipFile(root / "a.zip", "w") as archive:
            archive.writestr("v/good.txt", b"good")
            archive.writestr(name, b"bad")
    else:
        tar(root / "a.tar.gz", {"v/good.txt": b"good", name: b"bad"})
    with pytest.raises(DataError, match=message):
        unpack_all(root)
    assert set(contents(tmp_path)) == {f"root/a.{form}"}
    assert len(list(root.iterdir())) == 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (tarfile.SYMTYPE, "a link called 'v/x'"),
        (tarfile.LNKTYPE, "a link called"),
        (tarfile.CHRTYPE, "a device or a pipe called"),
        (tarfile.FIFOTYPE, "a device or a pipe called"),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, message: str):
    tar(tmp_path / "a.tar", {"v/x": "/etc/passwd", "v/x/y": b"through the link"}, "w:", kind)
    with pytest.raises(DataError, match=message):
        unpack_all(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_in_a_zip_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("v/x")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="it holds a link called 'v/x'"):
        unpack_all(tmp_path)


@pytest.mark.parametrize("form", ["tar.gz", "zip", "tar"])
def test_damaged_archives_leave_nothing(tmp_path: Path, form: str):
    path = tmp_path / f"a.{form}"
    content = {"v/1": os.urandom(40_000), "v/2": os.urandom(40_000)}
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        damaged = bytearray(path.read_bytes())
        damaged[60_000:60_100] = bytes(100)
        path.write_bytes(damaged)
    else:
        data = tar(path, content, "w:gz" if form == "tar.gz" else "w:").read_bytes()
        path.write_bytes(data[:50_000])
    with pytest.raises(DataError, match="the archive is damaged, encrypted or incomplete"):
        unpack_all(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(b"this is no archive")
    with pytest.raises(DataError, match="the archive is damaged"):
        unpack_all(tmp_path)


def test_files_that_exist_are_kept_and_others_of_their_name_are_refused(tmp_path: Path):
    tar(tmp_path / "a.tar", {"v/1": b"one", "v/2": b"two"}, "w:")
    put(tmp_path / "v" / "1", "ONE")
    assert unpack_all(tmp_path) == [2]
    assert (tmp_path / "v" / "1").read_text() == "ONE"
    (tmp_path / DONE).unlink()
    put(tmp_path / "v" / "2", "longer")
    with pytest.raises(DataError, match=r"the file 2 of 3 bytes, and there is another one.*[Mm]ove .*v/2 elsewhere"):
        unpack_all(tmp_path)
    assert (tmp_path / "v" / "2").read_text() == "longer"


def test_a_part_that_is_missing_is_named(tmp_path: Path):
    data = tar(tmp_path / "whole.tar.gz", {"v": os.urandom(9000)}).read_bytes()
    (tmp_path / "whole.tar.gz").unlink()
    for number in (0, 2):
        (tmp_path / f"x-{number:02}").write_bytes(data[number * 3000 : (number + 1) * 3000])
    put(tmp_path / "notes-01", "no archive")
    with pytest.raises(DataError, match=r"of the archive x there are the parts 00, 02\. Expected all parts"):
        find_archives(tmp_path)


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("huge.mp4")
        info.size = 1 << 60
        archive.addfile(info)
    with pytest.raises(DataError, match=r"it holds a file of 1152921504\.6 GB, huge\.mp4, and .* are free"):
        unpack_all(tmp_path)


# Probing


def test_a_probe_agrees_with_what_decoding_finds(tmp_path: Path):
    for name in ("h264.mp4", "mpeg4.avi", "vp9.webm", "h264_open_gop.mkv"):
        path = videos.write(tmp_path / f"x{Path(name).suffix}", 30, name=name)
        found = probe(path)
        with Video(path) as video:
            assert (found.frames, found.height, found.width, found.error) == (len(video), *video.size, "")
            assert found.fps == pytest.approx(video.fps, rel=0.01)
            assert found.seconds == pytest.approx(video.duration, abs=0.05)


@pytest.mark.parametrize("faststart", [False, True])
def test_files_that_are_cut_off_are_broken(tmp_path: Path, faststart: bool):
    path = videos.write(tmp_path / "x.mp4", 30, options={})
    if faststart:
        from muybridge.media.encode import encode_copy

        encode_copy(path, tmp_path / "y.mp4", 48)
        path = tmp_path / "y.mp4"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    assert "the file is cut off" in probe(path).error
    path.write_bytes(b"")
    assert probe(path).error == "the file is empty"
    assert probe(tmp_path / "gone.mp4").error


# Preparing


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["prepare", *words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_names_are_those_of_the_benchmarks_of_videos():
    members = [member for member in get_args(Labelled) if issubclass(member, Benchmark)]
    assert sorted(BENCHMARKS) == sorted(each().name for each in members if isinstance(each().holds(), ClipData))


def test_from_archives_to_copies_that_train_alike(tmp_path: Path):
    data = fabricate_kth(tmp_path / "made")
    root = tmp_path / "kth"
    root.mkdir()
    shutil.copy(tmp_path / "made" / "00sequences.txt", root)
    with zipfile.ZipFile(root / "boxing.zip", "w") as archive:
        for file in (tmp_path / "made" / "boxing").iterdir():
            archive.write(file, file.name)
    status, output = run("kth", "--root", str(root), "--reencode", "48", "--jobs", "1")
    assert status == 0
    assert "unpacked" in output
    assert "12 videos are indexed, 0 of which were known" in output
    assert "12 copies were written, 0 existed, 0 failed" in output
    small = data.model_copy(update={"root": root.with_name("kth_48")})
    for split in ("train", "val", "test"):
        copies, originals = small.index(split), data.index(split)
        assert [record.id for record in copies.records] == [record.id for record in originals.records]
    record = data.index("train").records[-1]
    copied = next(each for each in small.index("train").records if each.id == record.id)
    with data.open(record) as video, small.open(copied) as copy:
        assert copy.size == (48, 64)
        assert torch.allclose(copy.seconds, video.seconds, atol=1e-3)
        shown = video.read(range(len(video))).pixels.float()
        difference = (copy.read(range(len(copy))).pixels.float()[:, None] - shown).abs().mean((2, 3, 4))
        assert difference.argmin(1).tolist() == list(range(len(video)))
    status, output = run("kth", "--root", str(root), "--reencode", "48", "--jobs", "1")
    assert (status, "12 of which were known" in output, "0 copies were written, 12 existed" in output) == (
        0,
        True,
        True,
    )
    assert "unpacked" not in output
    assert not list(root.with_name("kth_48").glob(".*"))


def test_a_copy_has_many_keyframes_and_none_that_refer_onwards(tmp_path: Path):
    import av

    data = fabricate_kinetics(tmp_path / "k")
    prepared = prepare(data, short_side=32, workers=1)
    assert prepared.reencoded is not None
    assert (prepared.reencoded.written, prepared.reencoded.failed) == (5, ())
    (copy, *_) = sorted(copies_of(tmp_path / "k", 32).rglob("*.mp4"))
    with av.open(str(copy)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    keys = [place for place, packet in enumerate(packets) if packet.is_keyframe]
    assert keys == list(range(0, 50, KEYFRAMES))
    assert all(packet.pts == packet.dts for packet in packets)
    assert (copies_of(tmp_path / "k", 32) / "annotations" / "train.csv").is_file()


def test_folders_of_images_are_copied_as_videos(tmp_path: Path):
    data = fabricate_jester(tmp_path / "jester")
    prepare(data, short_side=32, workers=1)
    small = data.model_copy(update={"root": tmp_path / "jester_32"})
    assert [record.path.name for record in small.index("test").records] == ["107090.mp4", "9223.mp4"]
    with small.open(small.index("test").records[0]) as video:
        assert (len(video), video.size) == (6, (32, 42))
        assert video.seconds[1].item() == pytest.approx(1 / 12, abs=1e-3)


@pytest.mark.parametrize("fabricate", [fabricate_ucf, fabricate_hmdb])
def test_copies_of_files_that_lists_name_as_avi_are_found(tmp_path: Path, fabricate):
    data = fabricate(tmp_path / "data")
    for path in list(data.folder().rglob("*.avi")):
        path.rename(path.with_suffix(".mp4"))
    data.open(data.index("test").records[0]).close()


def test_what_is_missing_or_broken_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = fabricate_something_v2(tmp_path / "something_v2")
    folder = tmp_path / "something_v2" / "20bn-something-something-v2"
    (folder / "78687.webm").unlink()
    content = (folder / "74225.webm").read_bytes()
    (folder / "74225.webm").write_bytes(content[:500])
    monkeypatch.setenv("MUYBRIDGE_DATA", str(tmp_path))
    status, output = run("something_v2", "--json", str(tmp_path / "counts.json"), "--reencode", "32", "--jobs", "1")
    assert status == 1
    assert "train    168,913         3         2         1         0" in output
    assert "test      24,777         2         2         0         1" in output
    assert "Pulling something from left to right: 1 of 2" in output
    assert "74225.webm: the file is cut off" in output
    assert "3 copies were written" in output
    copies = tmp_path / "something_v2_32"
    assert f"next: muybridge doctor selfy_something_v2 --set data.root={copies}\nnext: muybridge train" in output
    assert "other recipes: tdn_something_v2" in output
    counts = json.loads((tmp_path / "counts.json").read_text())
    assert [entry["id"] for entry in counts["missing"]] == ["78687"]
    assert list(counts["broken"]) == [str(folder / "74225.webm")]
    shutil.copy(folder / "42326.webm", folder / "74225.webm")
    assert prepare(data).probed == 1


def test_videos_that_may_be_missing_are_no_failure(tmp_path: Path):
    fabricate_kinetics(tmp_path / "k")
    assert run("kinetics", "--root", str(tmp_path / "k"))[0] == 0
    status, output = run("kinetics", "--root", str(tmp_path / "k"), "--set", "data.missing_videos=error")
    assert status == 1
    assert f"train tdn_kinetics400 --set data.root={tmp_path / 'k'} --set data.missing_videos=error" in output


def test_an_index_survives_interruption_and_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = fabricate_kth(tmp_path / "kth")
    probed, original = [], video_index.probe

    def interrupted(path: Path, fps: float):
        if len(probed) == 7:
            raise KeyboardInterrupt
        probed.append(path)
        return original(path, fps)

    monkeypatch.setattr(video_index, "_TOGETHER", 1)
    monkeypatch.setattr(video_index, "probe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(data)
    known = len(video_index.read_index(tmp_path / "kth"))
    assert known <= 7
    monkeypatch.setattr(video_index, "probe", original)
    assert prepare(data).probed == 12 - known
    assert prepare(data).probed == 0
    from pyarrow import parquet

    table = parquet.read_table(tmp_path / "kth" / video_index.NAME).to_pydict()
    assert (set(table["frames"]), set(table["codec"])) == ({40, 26}, {"mpeg4"})
    (tmp_path / "kth" / video_index.NAME).write_bytes(b"PAR1")
    assert prepare(data).probed == 12


def test_the_index_of_a_folder_that_is_read_only_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = fabricate_kth(tmp_path / "kth")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert prepare(data).index.is_relative_to(tmp_path / "cache")
    assert not (tmp_path / "kth" / video_index.NAME).exists()
    assert prepare(data).probed == 0


def test_copies_that_cannot_be_made_are_reported(tmp_path: Path):
    data = fabricate_kinetics(tmp_path / "k")
    file = tmp_path / "k" / "val" / "zumba" / "_Xy-Xy_Xy-1_000003_000013.mp4"
    content = bytearray(file.read_bytes())
    start = content.index(b"mdat") + 4
    content[start + 900 : start + 3000] = bytes(2100)
    file.write_bytes(content)  # which its header does not show
    prepared = prepare(data, short_side=32, workers=1)
    assert not prepared.inventory.broken
    assert prepared.reencoded is not None
    ((failed, problem),) = prepared.reencoded.failed
    assert failed == file
    assert "damaged" in problem
    assert not list((tmp_path / "k_32").rglob(".*"))
    assert len(list((tmp_path / "k_32").rglob("*.mp4"))) == 4


def test_requests_that_cannot_be_met(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    data = fabricate_kth(tmp_path / "kth")
    with pytest.raises(RecipeError, match="the copies would lie in the folder of the data set"):
        prepare(data, short_side=32, out=tmp_path / "kth" / "small")
    monkeypatch.setattr(foreign, "_library", lambda: None)
    put(tmp_path / "kth" / "UCF101.rar", "")
    assert [path.name for path in prepare(data).foreign] == ["UCF101.rar"]
    assert "UCF101.rar: run pip install 'muybridge[prepare]'" in run("kth", "--root", str(tmp_path / "kth"))[1]
    monkeypatch.undo()
    put(tmp_path / "ucf" / "UCF101.part1.rar", "")  # one of several volumes
    with pytest.raises(DataError, match=r"UCF101\.part1\.rar: the archive cannot be read here.*unrar x UCF101\.part1"):
        prepare(UCF101(root=tmp_path / "ucf"))
    (tmp_path / "msr").mkdir()
    with pytest.raises(RecipeError, match="MSRAction3D holds skeletons"):
        prepare(MSRAction3D(root=tmp_path / "msr"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pyarrow is not installed.*pip install 'muybridge\[prepare\]'"):
        prepare(data)
    with pytest.raises(RecipeError, match="'something_v3' is no benchmark of videos"):
        run("something_v3")
    with pytest.raises(RecipeError, match="--out is given without --reencode"):
        run("kth", "--out", "x")
    with pytest.raises(RecipeError, match=r"the settings of kth do not fit together.*fold is 3"):
        run("kth", "--set", "data.fold=3")
