"""Packs: equal to the data set that was packed, whole after any interruption, and refused where they are damaged."""

import errno
import functools
import http.server
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from muybridge import cli
from muybridge.cli.options import place_of
from muybridge.core import addresses, packed
from muybridge.core.addresses import read_range
from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.packed import PackedPath, is_pack
from muybridge.core.types import FailedSample, SkeletonSequence
from muybridge.data.datasets import Pack, Playback, SkeletonFolder, VideoFolder
from muybridge.data.loader import BatchPlan, SampleDataset, make_loader, sequential_plan
from muybridge.data.shards import write as writing
from muybridge.data.shards.pack_index import read_index
from muybridge.data.shards.skeletons import pack_skeleton, read_packed_skeleton
from muybridge.data.shards.verify import verify
from muybridge.data.shards.write import pack
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.saved_split import SavedSplit
from muybridge.engine.train import train
from muybridge.media.joint_names import layout_of_names
from muybridge.media.video import Video
from muybridge.predict import find_recordings
from muybridge.recipe import load_recipe
from tests.test_every_dataset import FABRICATE, write_frames
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos
from tests.videos import CODECS, write

SPLITS = ("train", "val", "test")
SMALL = 0.02
"""Size of shards in MiB that makes several of a few tiny videos."""


def folder_of(root: Path) -> VideoFolder:
    return VideoFolder(root=root, group="/([a-z])_", test_groups=("d",), val_groups=("c",), mirror_labels=())


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos") / "videos")


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory) -> Path:
    """A pack of these videos, which no test changes."""
    out = tmp_path_factory.mktemp("pack") / "pack"
    pack(folder_of(videos), out, shard_mib=SMALL)
    return out


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def open_all(data: Pack) -> None:
    for split in SPLITS:
        for record in data.index(split).records:
            data.open(record).close()


# Equal to what was packed


@pytest.mark.parametrize("member", [each for each in FABRICATE if each is not Pack], ids=lambda each: each.__name__)
def test_every_data_set_packs_and_reads_equal(member, tmp_path):
    data = FABRICATE[member](tmp_path / "data").resolved()
    pack(data, tmp_path / "pack", shard_mib=SMALL)
    packed = Pack(root=tmp_path / "pack")
    assert verify(packed.root) == {}
    for name in ("labels", "holds", "mirror", "reverse", "superclasses", "multi_label"):
        assert getattr(packed, name)() == getattr(data, name)()
    for split in SPLITS:
        before, after = data.index(split).records, packed.index(split).records
        facts = [[(each.id, each.label, each.group, each.span) for each in records] for records in (before, after)]
        assert facts[0] == facts[1]
        for old, new in list(zip(before, after, strict=True))[:4]:
            if isinstance(data.holds(), ClipData):
                with data.open(old) as first, packed.open(new) as second:
                    assert torch.equal(first.seconds, second.seconds)
                    assert first.duration == second.duration
                    numbers = range(len(first))
                    assert torch.equal(first.read(numbers, 16).pixels, second.read(numbers, 16).pixels)
            else:
                first, second = data.open(old), packed.open(new)
                assert torch.equal(first.joints, second.joints)
                assert torch.equal(first.present, second.present)
                assert first.filled == second.filled


@pytest.mark.parametrize("name", CODECS)
def test_every_container_reads_equal(name, tmp_path):
    for label in ("bow", "nod"):
        (tmp_path / "data" / label).mkdir(parents=True)
        write(tmp_path / "data" / label / name, 12, name=name)
    data = VideoFolder(root=tmp_path / "data", test_fraction=0, val_fraction=0)
    pack(data, tmp_path / "pack")
    packed = Pack(root=tmp_path / "pack")
    assert not packed.index("val").records
    (old, _), (new, _) = data.index("train").records, packed.index("train").records
    with data.open(old) as first, packed.open(new) as second:
        assert torch.equal(first.read(range(len(first))).pixels, second.read(range(len(first))).pixels)
        assert torch.equal(first.grayscale().read([5, 2]).pixels, second.grayscale().read([5, 2]).pixels)
    with Video(old.path, decoder="torchcodec") as first, Video(new.path, decoder="torchcodec") as second:
        assert torch.equal(first.read([3]).pixels, second.read([3]).pixels)


def batches(recipe, records) -> list:
    samples = SampleDataset(records, recipe.data, recipe.preparation(augment=True), 0)
    plan = BatchPlan(len(records), 5, 0)
    loaded = []
    for epoch in (0, 1):
        plan.start_at(epoch)
        loaded += list(make_loader(samples, plan))
    return loaded + list(make_loader(samples, sequential_plan(len(records), 4)))


def assert_equal_batches(first: list, second: list) -> None:
    assert [batch.ids for batch in first] == [batch.ids for batch in second]
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.labels, other.labels)
        assert all(torch.equal(one.inputs[name], other.inputs[name]) for name in one.inputs)


def test_videos_give_the_same_batches(videos, whole):
    recipe = tiny_clip_recipe(videos).with_settings({"data": folder_of(videos).model_dump(mode="json")})
    packed = recipe.with_settings({"data.root": str(whole)})
    assert isinstance(packed.data, Pack)
    records = [each.data.index("train").records for each in (recipe, packed)]
    assert_equal_batches(batches(recipe, records[0]), batches(packed, records[1]))


def test_skeletons_train_to_the_same_weights_and_test_from_the_pack(tmp_path):
    recipe = tiny_recipe(write_recordings(tmp_path / "data"), epochs=1)
    pack(recipe.data, tmp_path / "pack")
    packed = recipe.with_settings({"data.root": str(tmp_path / "pack")})
    runs = [train(each, tmp_path / name) for each, name in ((recipe, "files"), (packed, "packed"))]
    weights = [RunFolder(tmp_path / name).path.joinpath("weights.safetensors") for name in ("files", "packed")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    scores = [evaluate(run).top1 for run in runs]
    assert scores == [evaluate(runs[0], data=tmp_path / "pack").top1, scores[0]]
    shutil.rmtree(tmp_path / "pack")
    assert RunFolder(tmp_path / "packed").recipe().data.labels() == recipe.data.labels()
    with pytest.raises(DataError, match=r"the recordings of this run are not there any more\. .*--data DIR"):
        evaluate(runs[1])


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # it leaves its files to the garbage collection
def test_webdataset_reads_a_pack(videos, whole):
    webdataset = pytest.importorskip("webdataset")
    shards = sorted(map(str, whole.glob("train-*.tar")))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    records = {record.id: record for record in folder_of(videos).index("train").records}
    assert len(shards) > 1
    assert len(samples) == len(records)
    assert len({sample["__key__"] for sample in samples}) == len(samples)
    for sample in samples:
        facts = json.loads(sample["json"])
        record = records[facts["id"]]
        assert sample["mp4"] == record.path.read_bytes()
        assert int(sample["cls"]) == record.label
        assert facts == {
            "id": record.id,
            "label": ("dawn", "dusk")[record.label],
            "split": "train",
            "group": record.group,
        }
    # Classes are mixed, as readers of whole shards need it.
    assert len({json.loads(sample["json"])["label"] for sample in samples[:6]}) == 2


def test_images_of_a_folder_are_one_sample(tmp_path):
    for label in ("bow", "nod"):
        write_frames(tmp_path / "data" / label / "one", 3)
    pack(VideoFolder(root=tmp_path / "data", test_fraction=0, val_fraction=0, fps=12), tmp_path / "pack")
    data = Pack(root=tmp_path / "pack")
    record = data.index("train").records[0]
    with data.open(record) as video:
        assert (len(video), video.fps) == (3, 12)
    with tarfile.open(tmp_path / "pack" / "train-000000.tar") as archive:
        names = [name for name in archive.getnames() if name.startswith("000000000.")]
    assert names == [*(f"000000000.00000{number}.jpg" for number in range(3)), "000000000.json", "000000000.cls"]


def test_parts_of_a_file_share_its_bytes(tmp_path):
    write(tmp_path / "long.mp4", 40)
    lines = ["path,label,start,end,split", "long.mp4,bow,0,0.6,train", "long.mp4,nod,0.6,1.2,train"]
    (tmp_path / "parts.csv").write_text("\n".join(lines))
    data = VideoFolder(root=tmp_path / "parts.csv", test_fraction=0, val_fraction=0)
    pack(data, tmp_path / "pack")
    rows = read_index(str(tmp_path / "pack")).rows.values()
    assert len({(row.key, row.offset) for row in rows}) == 1
    packed = Pack(root=tmp_path / "pack")
    for old, new in zip(data.index("train").records, packed.index("train").records, strict=True):
        with data.open(old) as first, packed.open(new) as second:
            assert torch.equal(first.read(range(len(first))).pixels, second.read(range(len(first))).pixels)


def test_several_labels_stay_several(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write(tmp_path / name, 6)
    (tmp_path / "list.csv").write_text("path,label,split\na.mp4,bow;nod,train\nb.mp4,nod,train\n")
    data = VideoFolder(root=tmp_path / "list.csv", label_separator=";", test_fraction=0, val_fraction=0)
    pack(data, tmp_path / "pack")
    packed = Pack(root=tmp_path / "pack")
    assert packed.multi_label()
    assert [each.labels for each in packed.index("train").records] == [(0, 1), (1,)]


def test_a_pack_plays_backwards_too(whole):
    data = Playback(source=Pack(root=whole))
    with data.open(data.index("train").records[0]) as video:
        assert len(video) == 12


# Whole after any interruption


KILLED = """
import os, signal, sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from muybridge.data.shards.verify import verify
from muybridge.data.datasets import VideoFolder
from muybridge.data.shards.write import pack

left = int(sys.argv[3])
def step():
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

data = VideoFolder(root=Path(sys.argv[1]), group="/([a-z])_", test_groups=("d",), val_groups=("c",), mirror_labels=())
pack(data, Path(sys.argv[2]), shard_mib=0.02, step=step)
"""


def test_a_killed_pack_goes_on_and_ends_as_an_undisturbed_one(videos, whole, tmp_path):
    out = tmp_path / "pack"
    done = subprocess.run([sys.executable, "-c", KILLED, str(videos), str(out), "9"], check=False)
    assert done.returncode == -signal.SIGKILL
    kept = [path.name for path in out.glob("*.tar")]
    assert kept
    assert all((out / name).read_bytes() == (whole / name).read_bytes() for name in kept)
    with pytest.raises(DataError, match=r"the pack is not finished\. .* same `muybridge pack` command again"):
        Pack(root=out).labels()
    summary = pack(folder_of(videos), out, shard_mib=SMALL)
    assert summary.written == summary.shards - len(kept)
    assert content(out) == content(whole)


def test_a_finished_pack_stays_as_it_is(videos, copy):
    before = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    assert pack(folder_of(videos), copy, shard_mib=SMALL).written == 0
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == before


def test_a_shard_that_is_gone_or_cut_is_written_again(videos, whole, copy):
    (copy / "train-000001.tar").unlink()
    with (copy / "test-000000.tar").open("r+b") as file:
        file.truncate(5000)
    assert set(verify(str(copy))) == {"train-000001.tar", "test-000000.tar"}
    assert pack(folder_of(videos), copy, shard_mib=SMALL).written == 2
    assert content(copy) == content(whole)


def test_a_full_disk_is_told_and_passes(videos, whole, tmp_path, monkeypatch):
    add, calls = tarfile.TarFile.addfile, iter(range(20))

    def fail(self, *arguments):
        if next(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        add(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "addfile", fail)
        with pytest.raises(DataError, match=r"cannot be written \(No space left.*room and give the same command again"):
            pack(folder_of(videos), tmp_path / "pack", shard_mib=SMALL)
    assert not list((tmp_path / "pack").glob("*.draft"))
    pack(folder_of(videos), tmp_path / "pack", shard_mib=SMALL)
    assert content(tmp_path / "pack") == content(whole)


def test_a_file_that_changes_meanwhile_is_told(videos, tmp_path, monkeypatch):
    changing = shutil.copytree(videos, tmp_path / "videos")
    add = writing._add_file

    def change(archive, name, path):
        class Shorter(type(path)):
            def open(self, *arguments):
                os.truncate(path, 100)
                return super().open(*arguments)

        sizes = path.stat()
        monkeypatch.setattr(Shorter, "stat", lambda self: sizes)
        return add(archive, name, Shorter(path))

    monkeypatch.setattr(writing, "_add_file", change)
    with pytest.raises(DataError, match="the file changes while it is packed"):
        pack(folder_of(changing), tmp_path / "pack")


def test_other_data_or_settings_are_refused(videos, copy, tmp_path):
    other = folder_of(videos).model_copy(update={"val_groups": ("b",)})
    with pytest.raises(DataError, match=r"the folder has a pack of other data or other settings\. .*another --out"):
        pack(other, copy, shard_mib=SMALL)
    with pytest.raises(DataError, match="other data or other settings"):
        pack(folder_of(videos), copy, shard_mib=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(DataError, match="the folder has other files in it"):
        pack(folder_of(videos), tmp_path / "full")
    with pytest.raises(DataError, match="it is a file"):
        pack(folder_of(videos), tmp_path / "full" / "file")
    with pytest.raises(DataError, match="it lies in the folder of the recordings"):
        pack(folder_of(videos), videos / "pack")
    with pytest.raises(DataError, match=r"'pack' is itself made of another"):
        pack(Pack(root=copy), tmp_path / "again")


def test_two_at_a_time_are_refused(videos, copy):
    fcntl = pytest.importorskip("fcntl")
    descriptor = os.open(copy, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(DataError, match="another process packs into this folder"):
            pack(folder_of(videos), copy, shard_mib=SMALL)
    finally:
        os.close(descriptor)


def test_confidence_and_the_files_own_joints_stay_beside_the_positions(tmp_path):
    joints, present, scores = torch.rand(4, 1, 3, 2), torch.ones(4, 1, dtype=torch.bool), torch.rand(4, 1, 3)
    layout = layout_of_names(["root", "LeftHand", "RightHand"], [(0, 1), (0, 2)])[0]
    content = pack_skeleton(SkeletonSequence(joints, present, scores, filled=2, layout=layout))
    (tmp_path / "any.tar").write_bytes(content)
    read = read_packed_skeleton(PackedPath(str(tmp_path / "any.tar"), "0.npz", 0, len(content)))
    assert read.scores is not None
    assert torch.equal(read.scores, scores)
    assert torch.equal(read.joints, joints)
    assert read.filled == 2
    assert read.layout == layout
    assert layout.mirror == ((1, 2),)


def test_what_cannot_be_read_is_kept_as_an_error(videos, tmp_path):
    broken = shutil.copytree(videos, tmp_path / "videos")
    (broken / "dawn" / "a_0.mp4").write_bytes(b"nothing")
    data = folder_of(broken)
    with pytest.raises(DataError, match=r"recording 'dawn/a_0\.mp4': .*"):
        pack(data, tmp_path / "strict", strict=True)
    summary = pack(data, tmp_path / "pack")
    assert (summary.recordings, summary.failed) == (16, 1)
    assert verify(str(tmp_path / "pack")) == {}
    packed = Pack(root=tmp_path / "pack")
    errors = []
    for each in (data, packed):
        record = next(record for record in each.index("train").records if record.id == "dawn/a_0.mp4")
        with pytest.raises(DataError) as caught:
            each.open(record)
        errors.append((caught.value.problem, caught.value.expected, caught.value.hint))
    assert errors[0] == errors[1]


# Refused where it is damaged


def flip(shard: Path, offset: int) -> None:
    with shard.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def test_a_corrupt_shard_is_named(copy):
    row = read_index(str(copy)).rows["dusk/a_1.mp4"]
    flip(copy / row.shard, row.offset + row.length // 2)
    data = Pack(root=copy)
    with pytest.raises(DataError, match=rf"{row.shard}: the shard is corrupt: {row.key}\.mp4 has another checksum"):
        open_all(data)
    assert list(verify(str(copy))) == [row.shard]
    (copy / row.shard).unlink()
    with pytest.raises(DataError, match=rf"{row.shard}: the shard cannot be read \(No such file"):
        open_all(data)


def test_index_and_shards_of_another_pack_are_refused(videos, whole, copy, tmp_path):
    other = tmp_path / "other"
    pack(folder_of(videos).model_copy(update={"val_groups": ("b",)}), other, shard_mib=SMALL)
    shard = "train-000000.tar"
    shutil.copy(other / shard, copy / shard)
    assert "belongs to another pack" in verify(str(copy))[shard] or "bytes in place of" in verify(str(copy))[shard]
    with pytest.raises(DataError, match=rf"{shard}: the shard belongs to another pack \(\w+\) than the index"):
        open_all(Pack(root=copy))
    shutil.copy(other / "index.jsonl", copy / "index.jsonl")
    os.utime(copy / "pack.json")
    with pytest.raises(DataError, match=r"index\.jsonl is damaged, or that of another pack"):
        Pack(root=copy).labels()
    (copy / "index.jsonl").unlink()
    os.utime(copy / "pack.json", (1, 1))
    with pytest.raises(DataError, match=r"index\.jsonl cannot be read"):
        Pack(root=copy).labels()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"pack\.json is damaged"),
        ('{"format": 1}', r"pack\.json is damaged"),
        ('{"format": 9}', r"the pack has format 9\. Expected format 1 at most\. Update muybridge"),
    ],
)
def test_a_damaged_description_is_refused(copy, text, message):
    (copy / "pack.json").write_text(text)
    with pytest.raises(DataError, match=message):
        Pack(root=copy).labels()
    (copy / "pack.json").unlink()
    with pytest.raises(DataError, match=r"there is no pack\.json in it"):
        Pack(root=copy).labels()


def test_a_damaged_skeleton_is_refused(tmp_path):
    path = tmp_path / "any.tar"
    path.write_bytes(b"x" * 900)
    with pytest.raises(DataError, match="the packed skeleton is damaged"):
        read_packed_skeleton(PackedPath(str(path), "0.npz", 10, 500))


def test_a_pack_of_other_classes_is_refused_by_a_run(whole):
    data = Pack(root=whole).resolved()
    assert data.contents is not None
    renamed = data.contents.model_copy(update={"labels": ("dusk", "dawn")})
    with pytest.raises(DataError, match="the pack has other classes, or another kind of recordings, than the run"):
        data.model_copy(update={"contents": renamed}).index("train")


# At an address


class Ranges(http.server.SimpleHTTPRequestHandler):
    """A server that gives parts of files, as those of shards do; ``failures`` of its first answers are 503."""

    ranges = True
    failures = 0
    served: list[str]

    def do_GET(self) -> None:
        if type(self).failures:
            type(self).failures -= 1
            self.send_error(503)
            return
        span = self.headers.get("Range")
        self.served.append(self.path)
        if not span or not self.ranges:
            super().do_GET()
            return
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            self.send_error(404)
            return
        first, last = map(int, span.removeprefix("bytes=").split("-"))
        part = file.read_bytes()[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve(monkeypatch):
    """A function that serves a folder and gives its address and the class that answers."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(addresses.time, "sleep", lambda seconds: None)
    servers = []

    def start(folder: Path):
        handler = type("Handler", (Ranges,), {"served": []})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", handler

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_pack_at_an_address_gives_the_same_batches(videos, whole, serve):
    address, handler = serve(whole)
    recipe = tiny_clip_recipe(videos).with_settings({"data": folder_of(videos).model_dump(mode="json")})
    remote = recipe.with_settings({"data.root": f"{address}/"})
    handler.failures = 2
    records = [each.data.index("train").records for each in (recipe, remote)]
    assert_equal_batches(batches(recipe, records[0]), batches(remote, records[1]))
    assert sum("train" in path for path in handler.served) == len(records[1])  # each is fetched once
    assert verify(address) == {}
    assert isinstance(pickle.loads(pickle.dumps(records[1][0])).path, PackedPath)


def test_frames_and_skeletons_at_an_address(tmp_path, serve):
    for label in ("bow", "nod"):
        write_frames(tmp_path / "data" / label / "one", 3)
    pack(VideoFolder(root=tmp_path / "data", test_fraction=0, val_fraction=0), tmp_path / "pack" / "frames")
    for label in ("bow", "nod"):
        (tmp_path / "poses" / label).mkdir(parents=True)
        np.save(tmp_path / "poses" / label / "a.npy", np.random.default_rng(0).normal(size=(5, 7, 3)))
    settings = {"layout": "plain7", "people": 1, "test_fraction": 0, "val_fraction": 0}
    pack(SkeletonFolder(root=tmp_path / "poses", **settings), tmp_path / "pack" / "poses")
    address, _ = serve(tmp_path / "pack")
    for kind in ("frames", "poses"):
        here, there = Pack(root=tmp_path / "pack" / kind), Pack(root=f"{address}/{kind}")
        one, other = (data.open(data.index("train").records[0]) for data in (here, there))
        if isinstance(one, Video):
            assert torch.equal(one.read([0, 2]).pixels, other.read([0, 2]).pixels)
        else:
            assert torch.equal(one.joints, other.joints)


def test_what_is_wrong_at_an_address_is_told(whole, copy, serve):
    address, handler = serve(copy)
    data = Pack(root=address)
    first = data.index("train").records[0]
    handler.ranges = False
    with pytest.raises(DataError, match=r"the server answers 200 to a request for a part of it\. Expected 206"):
        data.open(first)
    handler.ranges = True
    row = read_index(address).rows[first.id]
    flip(copy / row.shard, row.offset + 9)
    with pytest.raises(DataError, match=rf"{address}/{row.shard}: the shard is corrupt"):
        data.open(first)
    assert list(verify(address)) == [row.shard]
    with (copy / row.shard).open("r+b") as file:
        file.truncate(row.offset + 9)
    with pytest.raises(DataError, match=rf"9 bytes came in place of {row.length}"):
        data.open(first)
    (copy / row.shard).unlink()
    with pytest.raises(DataError, match=r"cannot be reached \(404 Not Found\)"):
        data.open(first)
    handler.failures = 99
    with pytest.raises(DataError, match=r"cannot be reached \(503"):
        data.open(first)


def test_an_address_that_does_not_answer(serve, tmp_path):
    address, _ = serve(tmp_path)
    nobody = address.rpartition(":")[0] + ":9"
    with pytest.raises(DataError, match=rf"{nobody}/pack\.json: cannot be reached \(.*refused.*\)"):
        Pack(root=nobody).labels()
    with pytest.raises(DataError, match="cannot be reached"):
        read_range(nobody, 0, 5)


@pytest.fixture
def storage(whole, monkeypatch) -> Iterator[Any]:
    """The pack in fsspec's memory, and which bytes of it are asked for."""
    system = fsspec.filesystem("memory")
    system.put(str(whole), "/films/pack", recursive=True)
    monkeypatch.setattr(addresses.time, "sleep", lambda seconds: None)
    asked: list[tuple[str, Any, Any]] = []
    read = type(system).cat_file

    def note(self, path, start=None, end=None, **named):
        asked.append((path.rpartition("/")[2], start, end))
        return read(self, path, start, end, **named)

    monkeypatch.setattr(type(system), "cat_file", note)
    yield system, asked
    system.rm("/films", recursive=True)


def test_a_pack_at_an_address_of_fsspec_is_read_by_range(videos, storage, tmp_path):
    system, asked = storage
    recipe = tiny_clip_recipe(videos).with_settings({"data": folder_of(videos).model_dump(mode="json")})
    remote = recipe.with_settings({"data.root": place_of(Path("memory://films/pack"))})
    records = [each.data.index("train").records for each in (recipe, remote)]
    assert_equal_batches(batches(recipe, records[0]), batches(remote, records[1]))
    shards = [each for each in asked if each[0].endswith(".tar")]
    assert len(shards) == len(records[1])  # each recording is fetched once
    rows = read_index("memory://films/pack").rows
    assert {end - start for _, start, end in shards} == {rows[record.id].length for record in records[1]}
    assert verify("memory://films/pack") == {}
    saved = SavedSplit.of(remote.data, {"train": remote.data.index("train")})
    saved.write(tmp_path / "split.csv")
    same = SavedSplit.read(tmp_path / "split.csv").records
    assert all(one.is_content_of(record) for one, record in zip(same, records[1], strict=True))
    assert all(one.is_content_of(record) for one, record in zip(same, records[0], strict=True))  # the files packed
    assert not replace(same[0], fingerprint="other").is_content_of(records[1][0])
    # A storage that fails for a moment, corrupt, cut, gone.
    row, data = rows[records[1][0].id], Pack(root="memory://films/pack")
    shard, content = f"/films/pack/{row.shard}", system.cat(f"/films/pack/{row.shard}")
    for wrong, message in (
        (
            content[: row.offset] + b"?" + content[row.offset + 1 :],
            rf"memory://films/pack/{row.shard}: the shard is corr",
        ),
        (content[: row.offset + 9], f"9 bytes came in place of {row.length}"),
        (None, "cannot be read .FileNotFoundError"),
    ):
        system.pipe(shard, wrong) if wrong is not None else system.rm(shard)
        packed._FETCHED._process = 0  # what was fetched is forgotten
        with pytest.raises(DataError, match=message):
            data.open(records[1][0])


def test_a_storage_that_fails_for_a_moment_is_asked_again(storage, monkeypatch):
    system, _ = storage
    failures = [ConnectionResetError("gone"), TimeoutError("late")]
    read = type(system).cat_file

    def fail(*words, **named):
        if failures:
            raise failures.pop()
        return read(*words, **named)

    monkeypatch.setattr(type(system), "cat_file", fail)
    assert read_range("memory://films/pack/pack.json", 0, 1) == b"{"
    failures[:] = [PermissionError("no")] * 2
    with pytest.raises(DataError, match=r"memory://films/pack/pack.json: cannot be read .PermissionError: no"):
        read_range("memory://films/pack/pack.json", 0, 1)
    assert len(failures) == 1  # it is not asked again what it has refused


def test_a_storage_without_its_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(
        DataError, match=r"s3://b/pack.json: fsspec's package for it is not installed .* pip install s3fs"
    ):
        Pack(root="s3://b").labels()
    with pytest.raises(DataError, match="Protocol not known"):
        Pack(root="nosuch://b").labels()


def test_only_so_much_of_what_was_fetched_is_kept(whole, serve, monkeypatch):
    address, _ = serve(whole)
    data = Pack(root=address)
    monkeypatch.setattr(packed, "_KEPT", 5000)
    monkeypatch.setattr(packed, "_FETCHED", packed._Fetched())
    for record in data.index("train").records:
        data.open(record).close()
    assert len(list(packed._FETCHED._folder.iterdir())) == 1


# Paths


def test_a_packed_path_reads_like_a_path(whole):
    path = Pack(root=whole).index("train").records[0].path
    assert (path.suffix, path.is_file(), path.is_dir(), path.exists()) == (".mp4", True, False, True)
    assert path.stat().st_size == len(path.read_bytes())
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        assert file.read() == path.read_bytes()[-4:]
        assert file.seek(2) == 2
        assert file.read(3) == path.read_bytes()[2:5]
        file.seek(1, os.SEEK_CUR)
        assert file.tell() == 6
    assert path.parent.is_file()
    assert pickle.loads(pickle.dumps(path)).stat() == path.stat()
    assert type(pickle.loads(pickle.dumps(path.parent))) is type(Path())
    gone = PackedPath(str(whole / "gone.tar"), "0.mp4", 0, 5)
    assert not gone.exists()
    assert not gone.is_file()


# On the command line


def run(*words: object):
    return CliRunner().invoke(cli.app, [str(word) for word in words])


def test_pack_and_train_on_the_command_line(videos, tmp_path):
    out = tmp_path / "pack"
    done = run("pack", videos, "--out", out, "--group", "/([a-z])_", "--shard-size", 1, "--verify")
    assert done.exit_code == 0
    assert f"16 recordings in 3 shards, 0.1 MiB: {out}" in done.stderr
    assert "all shards are whole" in done.stderr
    assert f"next: muybridge train --model NAME --data {out}" in done.stderr
    assert "3 were there already" in run("pack", videos, "--out", out, "--group", "/([a-z])_", "--shard-size", 1).stderr
    done = run("train", "--model", "tdn", "--data", out, "--no-pretrained", "--dry-run", "--size", 32)
    assert done.exit_code == 0
    assert "(as packed)" in done.stderr
    done = run("train", "folder_tdn", "--data", out, "--no-pretrained", "--dry-run", "--size", 32)
    assert done.exit_code == 0
    assert run("doctor", out).exit_code in (0, 1)
    flip(out / "train-000000.tar", 3000)
    done = run("pack", out, "--verify")
    assert done.exit_code == 1
    assert done.stderr.startswith("train-000000.tar: the shard is corrupt")


def test_mistakes_on_the_command_line(videos, whole, tmp_path):
    cases = {
        "no --out": ("pack", videos),
        r"there is no pack\.json in it": ("pack", videos, "--verify"),
        "both a recipe and --model or --data": ("train", "folder_tdn", "--data", videos),
        "unknown setting data.group": ("train", "--model", "tdn", "--data", whole, "--group", "(a)"),
        "--fix of a pack": ("doctor", whole, "--fix", tmp_path / "clean.csv"),
        "no such recipe, and no such folder or file": ("split", tmp_path / "no", "--out", tmp_path / "split.csv"),
    }
    for message, words in cases.items():
        with pytest.raises((RecipeError, DataError), match=message):
            raise run(*words).exception or AssertionError(words)


def test_a_pack_is_found_by_its_file_or_its_address(whole, tmp_path):
    assert is_pack(whole)
    assert is_pack("https://example.org/pack")
    assert not is_pack(tmp_path)
    recipe = load_recipe("folder_tdn", {"data.root": str(whole), "data.val_groups": ["a"]})
    assert isinstance(recipe.data, Pack)
    assert {record.group for record in recipe.data.index("val").records} == {"a"}
    assert "held out for validation: a" in recipe.data.describe_split()


def test_a_pack_is_no_folder_of_recordings_to_predict(whole):
    (found,) = find_recordings([whole], ClipData(3))
    assert isinstance(found, FailedSample)
    assert "a pack, whose recordings are in tar files" in str(found.error)
    assert "`muybridge test RUN --data PACK`" in str(found.error)
