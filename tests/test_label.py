"""Many recordings labelled on Ray: one row each, whatever is killed, broken, changed or not there."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import DataError, RecipeError, RunError
from muybridge.core.files import lock_folder
from muybridge.engine.train import train
from muybridge.predict import Predictor
from muybridge.scale import LabelConfig, LabelSummary
from muybridge.scale.snapshot import RunSnapshot
from muybridge.scale.source import content_key, read_source
from muybridge.scale.table import MANIFEST, LabelTable, row_schema
from muybridge.scale.worker import ATTEMPTS, Attempts, Labeller
from muybridge.timeline import TimelineConfig
from tests.tiny import tiny_clip_recipe, write_videos


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny_clip_recipe(videos, epochs=1), tmp_path_factory.mktemp("runs") / "videos").path


def rows_of(out: Path) -> list[dict[str, Any]]:
    """The rows of a table in the order of their paths, as any reader of Parquet folders sees them."""
    return parquet.read_table(out).sort_by("path").to_pylist()


# Sources


@pytest.fixture
def holds(run: Path) -> Any:
    return Predictor(run, "cpu").recipe.data.holds()


def test_a_folder_is_searched(videos: Path, holds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sorted(map(str, videos.rglob("*.mp4")))
    assert read_source(str(videos), holds) == expected
    monkeypatch.chdir(videos.parent)
    assert read_source(videos.name, holds) == expected  # however it is named, so that nothing is labelled twice


@pytest.mark.parametrize("kind", ["txt", "csv", "tsv", "parquet"])
def test_lists_name_recordings(kind: str, videos: Path, holds: Any, tmp_path: Path) -> None:
    names = ["dawn/a, 1.mp4", "/abs/b.mp4", "dawn/a, 1.mp4", "s3://bucket/c.mp4"]
    file = tmp_path / f"list.{kind}"
    if kind == "txt":
        file.write_text("".join(f"{name}\n" for name in names))
    elif kind == "parquet":
        parquet.write_table(pyarrow.table({"Video": names, "n": [1, 2, 3, 4]}), file)
    else:
        mark = "\t" if kind == "tsv" else ","
        file.write_text(f"n{mark}filename\n" + "".join(f'1{mark}"{name}"\n' for name in names))
    assert read_source(str(file), holds) == [str(tmp_path / "dawn/a, 1.mp4"), "/abs/b.mp4", "s3://bucket/c.mp4"]


def test_addresses_are_searched_and_read(videos: Path, holds: Any) -> None:
    system = fsspec.filesystem("memory")
    for number, path in enumerate(sorted(videos.rglob("*.mp4"))[:3]):
        system.pipe(f"/films/deep/{number}.mp4", path.read_bytes())
    system.pipe("/films/notes.txt", b"deep/1.mp4\n/films/deep/2.mp4\n")
    assert read_source("memory://films", holds) == [f"memory:///films/deep/{n}.mp4" for n in range(3)]
    assert read_source("memory://films/notes.txt", holds) == ["memory://films/deep/1.mp4", "memory://films/deep/2.mp4"]
    before = content_key("memory://films/deep/1.mp4")
    assert before
    system.pipe("/films/deep/1.mp4", b"other")
    assert content_key("memory://films/deep/1.mp4") not in (before, "")
    assert content_key("memory://films/none.mp4") == ""


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("list.csv", "path,start,end\na.mp4,1,2\n", "the column 'start' names parts of recordings"),
        ("list.csv", "name,age\nAnna,7\n", "no column of it names the recordings: name, age"),
        ("list.csv", 'path\n"a\nb,c,d\n"e,f\n', "cannot be read as a table"),
        ("list.txt", "\n", "no recording is in it"),
    ],
)
def test_lists_that_are_none_are_refused(name: str, text: str, match: str, holds: Any, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=match):
        read_source(str(tmp_path / name), holds)


@pytest.mark.parametrize("source", ["nowhere", "memory://nowhere", "nosuch://bucket/films"])
def test_what_is_not_there_is_refused(source: str, holds: Any) -> None:
    with pytest.raises(DataError, match=r"there is no such file or folder|nothing is there|Protocol not known"):
        read_source(source, holds)


# The run


def test_a_run_that_changes_while_it_is_read_is_noticed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    read = Path.read_bytes

    def read_and_change(self: Path) -> bytes:
        content = read(self)
        if self.name == "weights.safetensors":
            os.utime(self, ns=(1, 1))  # as a training does that saves
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_change)
    with pytest.raises(RunError, match="it changed while it was read"):
        RunSnapshot.take(copy)


def test_a_snapshot_predicts_as_its_run(run: Path, videos: Path) -> None:
    snapshot = RunSnapshot.take(run)
    path = next(videos.rglob("*.mp4"))
    predictor = snapshot.load("cpu", None)
    assert predictor.run == run
    assert predictor(path).scores == Predictor(run, "cpu")(path).scores
    older = RunSnapshot(snapshot.path, snapshot.files, "0.0.1")
    with pytest.raises(RunError, match=r"a worker has muybridge .* version 0\.0\.1, which started it"):
        older.load("cpu", None)
    with pytest.raises(RunError, match="cannot be read"):
        RunSnapshot.take(run.parent / "none.onnx")


# The table

FACTS = {"run": "/runs/a", "files": {"labels.txt": "1"}, "settings": {"top": 5}}


def open_table(folder: Path, facts: dict[str, Any] = FACTS, save_rows: int = 2) -> Any:
    return LabelTable.open(folder, facts, row_schema(False), 1e9, save_rows)


def some(*pairs: tuple[str, str]) -> pyarrow.Table:
    return pyarrow.Table.from_pylist([{"path": path, "key": key} for path, key in pairs], row_schema(False))


def test_newer_rows_replace_older_ones(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with open_table(out) as table:
        table.add(some(("a", "1"), ("b", "1")))
        table.add(some(("c", "1"), ("d", "1")))
        assert len(table.partitions()) == 2
    with open_table(out) as table:
        table.add(some(("c", "2")))
        table.add(some(("a", "2"), ("b", "2")))
    assert [(row["path"], row["key"]) for row in rows_of(out)] == [("a", "2"), ("b", "2"), ("c", "2"), ("d", "1")]
    assert [file.name for file in sorted(out.glob("part-*"))] == ["part-000001.parquet", "part-000002.parquet"]


def test_what_was_added_is_saved_when_something_fails(tmp_path: Path) -> None:
    def interrupted() -> None:
        with open_table(tmp_path) as table:
            table.add(some(("a", "1")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (tmp_path / ".part-000001.parquet-77").write_bytes(b"half")  # of a command that was killed while it wrote
    with open_table(tmp_path) as table:
        assert table.keys()["path"].to_pylist() == ["a"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "part-000000.parquet"]


def test_folders_of_something_else_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "holiday.jpg").touch()
    with pytest.raises(DataError, match=r"the folder holds something else: holiday.jpg"), open_table(other):
        pass
    out = tmp_path / "out"
    with open_table(out) as table:
        table.add(some(("a", "1"), ("b", "1")))
        busy = DataError("busy", expected="", hint="")
        with pytest.raises(DataError, match="busy"), lock_folder(out, busy):
            pass
        with pytest.raises(DataError, match="another process labels into this folder"), open_table(out):
            pass
    for facts, match in (
        (FACTS | {"files": {"labels.txt": "2"}}, "the run /runs/a, which has changed since: labels.txt differ"),
        (FACTS | {"files": {}, "run": "/runs/b"}, "the run /runs/a, not /runs/b: labels.txt differ"),
        (FACTS | {"settings": {"top": 1}}, r'made with \{"top": 5\}, not \{"top": 1\}'),
    ):
        with pytest.raises(DataError, match=match), open_table(out, facts):
            pass
    (out / "part-000000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="the partition is damaged"), open_table(out):
        pass
    content = json.loads((out / MANIFEST).read_text())
    (out / MANIFEST).write_text(json.dumps(content | {"format": 99}))
    with pytest.raises(DataError, match="the table has format 99"), open_table(out):
        pass
    (out / MANIFEST).write_text("{")
    with pytest.raises(DataError, match="it is damaged"), open_table(out):
        pass


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with open_table(tmp_path) as table:
        table.add(some(("a", "1"), ("b", "1")))
        monkeypatch.setattr(parquet, "write_table", full)
        with pytest.raises(DataError, match=r"cannot be written \(No space left on device"):
            table.add(some(("c", "1"), ("d", "1")))
        table._waiting.clear()
    assert [row["path"] for row in rows_of(tmp_path)] == ["a", "b"]


# A worker


class LocalLabeller(Labeller):
    """A worker without Ray."""

    def __init__(self, run: Path, attempts: Attempts, config: LabelConfig = LabelConfig(batch=3)) -> None:  # noqa: B008
        super().__init__((None, attempts), config, "cpu", 1)
        self.predictor = RunSnapshot.take(run).load("cpu", config.reject)

    def _count(self, what: str, name: str) -> Any:
        return getattr(self._attempts, what)(name)


def ask(labeller: Labeller, paths: Sequence[Path | str], known: dict[Any, str] | None = None) -> list[dict[str, Any]]:
    files = [os.fsencode(path) for path in paths]
    return labeller(
        pyarrow.table({"file": files, "known": [(known or {}).get(path, "") for path in paths]})
    ).to_pylist()


def test_rows_say_what_predict_says(run: Path, videos: Path, tmp_path: Path) -> None:
    good = sorted(videos.rglob("*.mp4"))[:4]
    odd = Path(os.fsdecode(bytes(tmp_path) + b"/\xff.mp4"))
    shutil.copy(good[0], odd)
    (tmp_path / "broken.mp4").write_text("no video")
    paths = [good[0], tmp_path / "broken.mp4", odd, tmp_path / "none.mp4", *good[1:]]
    rows = ask(LocalLabeller(run, Attempts()), paths)
    assert [row["path"] for row in rows[:2] + rows[3:]] == [str(path) for path in paths[:2] + paths[3:]]
    assert rows[2]["path"] == str(tmp_path) + r"/\udcff.mp4"
    assert "Expected" in rows[1]["error"]
    assert str(tmp_path) not in rows[1]["error"]
    assert rows[1]["key"] == content_key(str(paths[1]))
    assert (rows[3]["key"], rows[3]["label"]) == ("", None)
    for row, answer in zip([rows[0], *rows[4:]], Predictor(run, "cpu").predict_files(good), strict=True):
        assert not isinstance(answer, Exception)
        expected = answer.as_dict()  # pyright: ignore[reportAttributeAccessIssue]
        assert (row["label"], row["labels"]) == (expected["label"], [each["label"] for each in expected["top"]])
        assert row["scores"] == pytest.approx([each["score"] for each in expected["top"]], abs=2e-6)


def test_only_what_changed_is_read_again(run: Path, videos: Path, tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("1.mp4", "2.mp4"))
    for path, source in zip((first, second), sorted(videos.rglob("*.mp4")), strict=False):
        shutil.copy(source, path)
    known = {path: content_key(str(path)) for path in (first, second)}
    os.utime(first, (4e9, 4e9))  # whatever the clocks say, it is the same
    second.write_bytes(second.read_bytes() + b"more")
    rows = ask(LocalLabeller(run, Attempts()), [first, second], known)
    assert [row["path"] for row in rows] == [None, str(second)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("a small disk needs rights that this user lacks")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_of_a_worker_is_told_and_passes(
    run: Path, videos: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = fsspec.filesystem("memory")
    for number, path in enumerate(sorted(videos.rglob("*.mp4"))[:2]):
        system.pipe(f"/full/{number}.mp4", path.read_bytes())
    labeller = LocalLabeller(run, Attempts())
    addresses = [f"memory://full/{number}.mp4" for number in range(2)]
    with monkeypatch.context() as full:
        full.setattr(tempfile, "tempdir", str(small_disk))
        (small_disk / "other").write_bytes(bytes(254 << 10))
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "more").write_bytes(bytes(8 << 10))
        rows = ask(labeller, addresses)
        assert [row["label"] for row in rows] == [None, None]
        assert all("there is no room for a copy of it on the worker" in row["error"] for row in rows)
        assert [row["key"] for row in rows] == ["", ""]  # the next command tries them again
        with pytest.raises(RunError, match=r"the run cannot be copied to .*No space left on device"):
            RunSnapshot.take(run).load("cpu", None)
    rows = ask(labeller, addresses)
    assert all(row["label"] and row["key"] for row in rows)


def test_an_address_that_fails_for_a_moment_is_tried_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/moment/a.mp4", b"no video")
    labeller = LocalLabeller(run, Attempts())

    def fails(*_: Any, **__: Any) -> None:
        raise ConnectionResetError("gone")

    with monkeypatch.context() as moment:
        moment.setattr(type(system), "_open", fails)
        [row] = ask(labeller, ["memory://moment/a.mp4"])
    assert ("ConnectionResetError" in row["error"], row["key"]) == (True, "")
    [row] = ask(labeller, ["memory://moment/a.mp4"])
    assert ("ConnectionResetError" in row["error"], row["key"]) == (False, content_key("memory://moment/a.mp4"))


def test_a_recording_that_ends_its_worker_is_found(run: Path, videos: Path) -> None:
    """Each call stands for another worker, since the one before died: first together, then each by itself."""
    paths = sorted(videos.rglob("*.mp4"))[:3]
    attempts = Attempts()

    class Dies(LocalLabeller):
        def _predict(self, copies: Iterator[Any]) -> Any:
            found = list(copies)
            if paths[1] in found:
                raise KeyboardInterrupt  # no Exception: nothing is ended, as when a process is killed
            return super()._predict(iter(found))

    for _ in range(2 * ATTEMPTS):
        with pytest.raises(KeyboardInterrupt):
            ask(Dies(run, attempts), paths)
    rows = ask(Dies(run, attempts), paths)
    assert "its worker ended 2 times while it was read" in rows[1]["error"]
    assert rows[1]["key"] == ""  # the next command tries it again
    assert rows[0]["label"]
    assert rows[2]["label"]


def test_our_own_fault_costs_one_recording(run: Path, videos: Path) -> None:
    paths = sorted(videos.rglob("*.mp4"))[:3]

    class Fails(LocalLabeller):
        def _predict(self, copies: Iterator[Any]) -> Any:
            found = list(copies)
            if paths[1] in found:
                raise ZeroDivisionError("a fault")
            return super()._predict(iter(found))

    rows = ask(Fails(run, Attempts()), paths)
    assert rows[1]["error"].startswith("ZeroDivisionError: a fault")
    assert rows[0]["label"]
    assert rows[2]["label"]


def test_a_fault_of_the_run_stops_all(run: Path, videos: Path) -> None:
    labeller = LocalLabeller(run, Attempts())
    for parameter in labeller.predictor.model.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(RunError, match="scores are not finite"):
        ask(labeller, sorted(videos.rglob("*.mp4"))[:2])


def test_segments_and_warnings(run: Path, videos: Path) -> None:
    config = LabelConfig(timeline=TimelineConfig(window=0.5, high=0.0, low=0.0))
    labeller = LocalLabeller(run, Attempts(), config)
    path = sorted(videos.rglob("*.mp4"))[0]
    [row] = ask(labeller, [path])
    assert row["duration"] == pytest.approx(1.0)
    assert row["segments"][0]["start"] == 0.0
    assert set(row["segments"][0]) == {"start", "end", "label", "score"}
    warned = LocalLabeller(run, Attempts())
    warned.predictor.warnings_for = lambda recording: ["it is long"]  # pyright: ignore[reportAttributeAccessIssue]
    assert ask(warned, [path])[0]["warning"] == "it is long"


def test_settings_that_cannot_be(videos: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="workers = -1"):
        LabelConfig(workers=-1)
    words = ["label", str(run), str(videos), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*words, "--window", "2"])
    assert "options of segments without --timeline" in str(result.exception)
    result = CliRunner().invoke(app, [*words, "--timeline", "--reject", "0.5"])
    assert "--reject and --timeline" in str(result.exception)


# All of it


def test_the_command(run: Path, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command says, with Ray replaced by what it returns."""
    import muybridge.scale.label

    summary = LabelSummary(9, 8, 1, 6, 1, (("a.mp4", "broken"),) * 5)
    asked: list[Any] = []
    monkeypatch.setattr(muybridge.scale.label, "label", lambda *words: asked.append(words) or summary)
    words = ["label", str(run), str(videos), "--out", str(tmp_path), "--workers", "3", "--timeline", "--hop", "1"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert asked[0][:3] == (run, str(videos), tmp_path)
    assert (asked[0][3].workers, asked[0][3].timeline.hop) == (3, 1.0)
    for text in (
        "8 recordings labelled, 1 was there already",
        "1 recording with a warning",
        "6 recordings could not",
        "...",
    ):
        assert text in result.stderr


@pytest.mark.parametrize("address", ["ray://127.0.0.1:{}", "127.0.0.1:{}", "127.0.0.1:99999999"])
def test_an_address_without_a_cluster_is_told(address: str, run: Path, videos: Path, tmp_path: Path) -> None:
    from muybridge.scale.label import label

    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = address.format(closed.getsockname()[1])
    with pytest.raises(RunError, match=rf"{address}: Ray cannot be reached \((.*refused|Port out of range)"):
        label(run, str(videos), tmp_path / "out", LabelConfig(address=address))
