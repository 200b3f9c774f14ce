"""Ray on this machine, started once: labelling that is killed, and a service whose run is replaced under requests."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pyarrow import parquet

from muybridge.core.errors import RecipeError, RunError
from muybridge.engine.train import train
from muybridge.predict import Predictor
from muybridge.scale import LabelConfig, ReplicaConfig
from muybridge.scale.cluster import connected
from muybridge.scale.label import label
from muybridge.serve import ServeConfig
from tests.tiny import tiny_clip_recipe, write_videos

ROOT = Path(__file__).parents[1]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of Ray Serve's own code


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


@pytest.fixture(scope="module")
def runs(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    first, second = (train(tiny_clip_recipe(videos, epochs=1, seed=seed), folder / str(seed)).path for seed in (0, 1))
    return first, second


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a cluster of this machine, to which this process is connected."""
    path = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{ROOT / 'src'}{os.pathsep}{path}"  # of the processes that Ray starts
    try:
        import ray  # after muybridge.scale, by which it uses the token of this machine where there is one

        with connected("", 8):
            yield ray.get_runtime_context().gcs_address
    finally:
        os.environ["PYTHONPATH"] = path


# Labelling

SCRIPT = """
import sys
from muybridge.scale import LabelConfig
from muybridge.scale.label import label
label(*sys.argv[1:4], LabelConfig(batch=2, workers=1, save_seconds=0.0, address=sys.argv[4]))
"""


def rows_of(out: Path) -> list[str]:
    return [path for file in out.glob("part-*.parquet") for path in parquet.read_table(file)["path"].to_pylist()]


def wait_for_parts(out: Path, number: int, process: "subprocess.Popen[bytes] | None" = None) -> None:
    """Returns when there are so many parts of a table, or the process that writes them has ended."""
    end = time.monotonic() + 120
    while (process is None or process.poll() is None) and time.monotonic() < end:
        if len(list(out.glob("part-*.parquet"))) >= number:
            return
        time.sleep(0.01)


def _kill_worker(out: Path, parts: int, killed: list[int]) -> None:
    """Kills what labels, as soon as it has labelled something."""
    wait_for_parts(out, parts + 1)
    for process in _descendants(os.getpid()):
        if b"ray::MapWorker" in Path(f"/proc/{process}/cmdline").read_bytes():
            os.kill(process, signal.SIGKILL)
            killed.append(process)


def _descendants(process: int) -> list[int]:
    found = [
        int(word) for file in Path(f"/proc/{process}/task").glob("*/children") for word in file.read_text().split()
    ]
    return found + [below for child in found for below in _descendants(child)]


def test_a_killed_command_and_a_killed_worker_end_with_the_same_table(
    runs: tuple[Path, Path], videos: Path, tmp_path: Path, address: str
) -> None:
    """benchmarks/label.py kills it twice, among 2,000 videos."""
    many = tmp_path / "many"
    many.mkdir()
    for number in range(8):
        for path in videos.rglob("*.mp4"):
            os.link(path, many / f"{path.parent.name}_{number}_{path.name}")
    (many / "broken.mp4").write_text("no video")
    command = [sys.executable, "-c", SCRIPT, str(runs[0]), str(many), str(tmp_path / "out"), address]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    wait_for_parts(tmp_path / "out", 3, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept, parts = len(rows_of(tmp_path / "out")), len(list((tmp_path / "out").glob("part-*.parquet")))
    assert 3 <= kept < 129
    killed: list[int] = []
    killing = threading.Thread(target=_kill_worker, args=(tmp_path / "out", parts, killed))
    killing.start()
    summary = label(runs[0], str(many), tmp_path / "out", LabelConfig(batch=2, workers=1, save_seconds=0.0))
    killing.join()
    assert killed
    assert (summary.total, summary.kept, summary.labelled) == (129, kept, 129 - kept)
    rows = parquet.read_table(tmp_path / "out").sort_by("path").to_pylist()
    assert [row["path"] for row in rows] == sorted(str(path) for path in many.iterdir())  # each of them once
    assert [Path(row["path"]).name for row in rows if row["error"]] == ["broken.mp4"]
    predictor = Predictor(runs[0], "cpu")
    for row, answer in zip(rows, predictor.predict_files(sorted(many.iterdir())), strict=True):
        if not row["error"]:
            expected: Any = answer
            assert row["label"] == expected.label
            assert row["scores"] == pytest.approx([each["score"] for each in expected.as_dict()["top"]], abs=2e-6)


# Serving


def test_a_run_is_replaced_without_a_failed_request(runs: tuple[Path, Path], videos: Path, address: str) -> None:
    from muybridge.scale.deploy import serve, stop_at

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    body = next(videos.rglob("*.mp4")).read_bytes()
    spread, headers = ReplicaConfig(address=address), {"Authorization": "Bearer secret"}
    told: list[str] = []
    serve([runs[0]], ServeConfig(port=port, token="secret"), spread, ready=lambda *words: told.append(words[0]))
    assert told == [f"http://127.0.0.1:{port}"]
    with httpx.Client(base_url=told[0], headers=headers, timeout=60) as client:

        def ask() -> tuple[int, str]:
            answer = client.post("/v1/predict?filename=a.mp4", content=body)
            return answer.status_code, answer.json().get("model")

        assert ask() == (200, "0")
        _check_guarded(client, body)
        with pytest.raises(RecipeError, match=f"Ray Serve listens at 127.0.0.1:{port} already"):
            serve([runs[1]], ServeConfig(port=port + 1, token="secret"), spread)
        # Requests go on all the time while the second run takes the place of the first.
        update = threading.Thread(target=serve, args=([runs[1]], ServeConfig(token="secret"), spread))
        update.start()
        answers = []
        while update.is_alive():
            answers.append(ask())
        update.join()
        assert {status for status, _ in answers} == {200}
        assert (answers[0][1], ask()[1]) == ("0", "1")
    stop_at(address)
    with pytest.raises(RunError, match="it does not serve anything of muybridge"):
        stop_at(address)


def _check_guarded(client: httpx.Client, body: bytes) -> None:
    """What holds for one process holds here."""
    assert client.get("/v1/models", headers={"Authorization": ""}).status_code == 401
    assert client.get("/v1/models", headers={"Host": "elsewhere.example"}).status_code == 403
    assert client.post("/v1/predict?filename=a.txt", content=body).status_code == 415
    assert client.get("/healthz").json()["status"] == "ok"
    assert "<html" in client.get("/").text
    answer = client.get("/metrics")
    assert answer.status_code == 404
    assert answer.json()["error"]["problem"] == "each replica counts for itself"
