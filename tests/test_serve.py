"""The server: its answers are those of the library, every limit is crossed, and it goes on after what goes wrong."""

import base64
import io
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import MuybridgeWarning, RecipeError, RequestError, RunError
from muybridge.core.types import SkeletonSequence
from muybridge.data.prepare import collate_inputs
from muybridge.engine.train import train
from muybridge.localize import Localizer
from muybridge.media.skeleton import read_skeleton
from muybridge.media.video import Video
from muybridge.models.base import Model
from muybridge.predict import Predictor
from muybridge.recipe import Recipe
from muybridge.serve import worker
from muybridge.serve.batcher import Batcher, merge
from muybridge.serve.config import Limits, ServeConfig
from muybridge.serve.maps import find_maps
from muybridge.serve.receive import choose_suffix, clean_name
from muybridge.serve.run import listen, load_all
from muybridge.serve.service import Service
from muybridge.serve.temporary import LOCK, PREFIX, remove_abandoned, upload_folder
from muybridge.timeline import FORMATS, TimelineConfig, TimelinePredictor
from tests.serving import serving, wait_until
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos

Server = tuple[httpx.Client, Service]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on videos and one on skeletons, with their recordings."""
    root = tmp_path_factory.mktemp("serve")
    train(tiny_clip_recipe(write_videos(root / "videos"), epochs=2), root / "light")
    train(tiny_recipe(write_recordings(root / "skeletons"), epochs=2), root / "hands")
    return root


@pytest.fixture(scope="module")
def predictors(root: Path) -> dict[str, Predictor]:
    return load_all([root / "light", root / "hands"], "cpu")


@pytest.fixture(scope="module")
def server(predictors: dict[str, Predictor]):
    with serving(predictors, ServeConfig(port=0, jobs=2, queue=16)) as pair:
        yield pair


STRICT = Limits(
    bytes=200_000,
    seconds=1.5,
    frames=20,
    pixels=64 * 64,
    side=70,
    windows=100,
    memory=1 << 30,
    opening_seconds=5.0,
    idle_seconds=0.4,
    upload_seconds=0.9,
    answer_seconds=3.0,
    header_seconds=0.5,
)


@pytest.fixture(scope="module")
def strict(predictors: dict[str, Predictor]):
    with serving(predictors, ServeConfig(port=0, jobs=1, queue=0, limits=STRICT)) as pair:
        film = encoded()
        wait_until(lambda: pair[0].post("/v1/predict?filename=a.mp4", content=film).status_code == 200, 60)
        yield pair


@pytest.fixture(scope="module")
def video(root: Path) -> bytes:
    return (root / "videos" / "dawn" / "a_0.mp4").read_bytes()


@pytest.fixture(scope="module")
def skeleton(root: Path) -> Path:
    return min((root / "skeletons").iterdir())


def encoded(frames: int = 12, width: int = 48, height: int = 40, rate: int = 12) -> bytes:
    """A video as bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for light in range(frames):
            picture = np.full((height, width, 3), 10 + light, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


@contextmanager
def held(service: Service, name: str = "light"):
    """While the block runs, the model waits before it computes."""
    gate, entered = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        entered.set()
        gate.wait(10)

    handle = service.predictors[name].model.register_forward_pre_hook(wait)
    try:
        yield entered, gate
    finally:
        gate.set()
        handle.remove()


def refused(response: httpx.Response, status: int, match: str, match_hint: str = "") -> None:
    """The answer is an error in three parts, and names no path of this machine."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert re.search(match, error["problem"]), error
    assert error["expected"]
    assert re.search(match_hint, error["hint"])
    assert error["hint"]
    assert "muybridge-serve" not in response.text


def is_idle(service: Service) -> bool:
    return service.in_progress == 0 and [path.name for path in service.folder.iterdir()] == [LOCK]


def goes_on(server: Server, video: bytes) -> None:
    """Nothing is left of earlier requests, and the next is answered."""
    client, service = server
    wait_until(lambda: is_idle(service))
    response = client.post("/v1/predict?filename=a.mp4", content=video)
    assert response.status_code == 200, response.text


def test_a_video_is_predicted_as_by_the_library(server: Server, root: Path, predictors: dict[str, Predictor]) -> None:
    client, service = server
    path = root / "videos" / "dusk" / "b_1.mp4"
    expected = predictors["light"](path)
    raw = client.post("/v1/predict", params={"filename": path.name}, content=path.read_bytes())
    typed = client.post("/v1/predict", content=path.read_bytes(), headers={"content-type": "video/mp4"})
    form = client.post("/v1/predict", files={"file": (path.name, path.read_bytes(), "video/mp4")})
    for response, name in ((raw, "b_1.mp4"), (typed, "recording"), (form, "b_1.mp4")):
        answer = response.json()
        assert answer["path"] == name
        assert [row["label"] for row in answer["top"]] == list(expected.labels)
        np.testing.assert_allclose([row["score"] for row in answer["top"]], expected.scores, atol=1e-5)
        assert answer["recording"] == {
            "kind": "video", "frames": 12, "seconds": 1.0, "width": 48, "height": 40, "people": 0, "joints": 0
        }  # fmt: skip
    assert is_idle(service)


def test_skeletons_are_predicted_as_by_the_library(
    server: Server, root: Path, predictors: dict[str, Predictor]
) -> None:
    client, _ = server
    paths = sorted((root / "skeletons").iterdir())[:6]

    def ask(path: Path) -> httpx.Response:
        return client.post("/v1/predict?model=hands&top=3", files={"file": (path.name, path.read_bytes())})

    with ThreadPoolExecutor(6) as pool:  # recordings of different length in one batch
        answers = [response.json() for response in pool.map(ask, paths)]
    for path, answer in zip(paths, answers, strict=True):
        expected = predictors["hands"](path, top=3)
        assert [row["label"] for row in answer["top"]] == list(expected.labels)
        np.testing.assert_allclose([row["score"] for row in answer["top"]], expected.scores, atol=1e-5)
        assert answer["recording"]["joints"] == 20


def test_unlike_recordings_are_predicted_with_a_warning(server: Server) -> None:
    client, _ = server
    answer = client.post("/v1/predict?filename=long.mp4", content=encoded(frames=48)).json()
    assert "one label stands for all of it" in answer["warnings"][0]
    assert "muybridge-serve" not in answer["warnings"][0]


def test_a_timeline_is_that_of_the_library(server: Server, root: Path, predictors: dict[str, Predictor]) -> None:
    client, _ = server
    path = root / "videos" / "dawn" / "c_0.mp4"
    expected = TimelinePredictor(predictors["light"], TimelineConfig(window=0.5, hop=0.25))(path)
    query = {"window": 0.5, "hop": 0.25, "filename": path.name}
    answer = client.post("/v1/timeline", params=query, content=path.read_bytes()).json()
    assert answer["edges"] == expected.edges.tolist()
    np.testing.assert_allclose(answer["probabilities"], expected.probabilities, atol=1e-4)
    assert [one["label"] for one in answer["segments"]] == [one.label for one in expected.segments]
    for kind in ("csv", "srt", "vtt", "jsonl"):
        text = client.post("/v1/timeline", params=query | {"format": kind}, content=path.read_bytes())
        ours = FORMATS[kind]([expected]).replace(str(path), path.name)
        assert len(text.text.splitlines()) == len(ours.splitlines())
        assert expected.segments[0].label in text.text
    assert text.headers["content-type"] == "application/x-ndjson"


def test_a_timeline_says_how_far_it_is(server: Server, skeleton: Path) -> None:
    client, service = server
    query = {"model": "hands", "window": 0.1, "hop": 0.02, "filename": skeleton.name}
    headers = {"accept": "application/x-ndjson"}
    response = client.post("/v1/timeline", params=query, content=skeleton.read_bytes(), headers=headers)
    lines = [json.loads(line) for line in response.text.splitlines()]
    shares = [line["progress"] for line in lines[:-1]]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert lines[-1]["timeline"]["recording"]["frames"] == len(read_skeleton(skeleton))
    broken = client.post("/v1/timeline?filename=a.mp4", content=b"no video", headers=headers)
    assert "opening it as a video failed" in json.loads(broken.text.splitlines()[-1])["error"]["problem"]
    refused(client.post("/v1/timeline?filename=a.mp4", content=b"", headers=headers), 400, "empty body")
    wait_until(lambda: is_idle(service))


def test_what_it_has_and_does_is_listed(server: Server, video: bytes) -> None:
    client, _ = server
    models = client.get("/v1/models").json()["models"]
    assert [(one["name"], one["takes"]) for one in models] == [("light", "video"), ("hands", "skeletons")]
    assert models[0]["labels"] == ["dawn", "dusk"]
    assert len(models[1]["layout"]["joints"]) == 20
    assert client.get("/healthz").json() == {"status": "ok", "workers": 2, "requests": 0}
    client.post("/v1/predict?filename=a.mp4", content=video)
    text = client.get("/metrics").text
    assert re.search(r'muybridge_requests_total\{route="/v1/predict",status="200"\} [1-9]', text)
    assert "muybridge_workers 2.0" in text
    page = client.get("/docs").text
    assert "POST /v1/timeline" in page
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)


def test_every_limit_of_a_recording_is_said(strict: Server, video: bytes) -> None:
    client, service = strict
    post = client.post
    refused(post("/v1/predict?filename=a.mp4", content=bytes(300_000)), 413, "more than 200000 bytes")
    chunks = (bytes(50_000) for _ in range(6))  # without a stated length
    refused(post("/v1/predict?filename=a.mp4", content=chunks), 413, "more than 200000 bytes")
    refused(post("/v1/predict", files={"file": ("a.mp4", bytes(203_000))}), 413, "more than 200000 bytes")
    refused(post("/v1/predict?filename=a.mp4", content=encoded(24)), 413, "24 frames", "shorter")
    refused(post("/v1/predict?filename=a.mp4", content=encoded(12, rate=6)), 413, "takes 2 s")
    refused(post("/v1/predict?filename=a.mp4", content=encoded(width=80, height=80)), 413, "80x80 pixels")
    wide = post("/v1/predict?filename=a.mp4", content=encoded(width=72, height=40))
    refused(wide, 413, "72x40 pixels")
    assert wide.json()["error"]["expected"] == "at most 70 pixels in height and in width"
    refused(post("/v1/timeline?filename=a.mp4&window=0.1&hop=0.002", content=video), 413, "500 windows", "longer hop")
    goes_on(strict, video)
    assert service.pool.restarts == 0


def test_what_is_no_recording_is_refused(server: Server, video: bytes, skeleton: Path) -> None:
    client, _ = server
    post = client.post
    refused(post("/v1/predict?filename=a.jpg", content=video), 415, "ends in .jpg")
    refused(post("/v1/predict", content=video, headers={"content-type": "text/html"}), 415, "text/html")
    refused(post("/v1/predict?model=hands", content=skeleton.read_bytes()), 415, "without its name", "filename")
    refused(post("/v1/predict?model=hands&filename=a.mp4", content=video), 415, "ends in .mp4")
    refused(post("/v1/predict?filename=a.mp4", content=b""), 400, "empty body")
    refused(post("/v1/predict", data={"field": "value"}, files={}), 415, "urlencoded")
    refused(post("/v1/predict", files={"file": (None, "text")}), 400, "no file in the form")
    two = [("one", ("a.mp4", video)), ("two", ("b.mp4", video))]
    refused(post("/v1/predict", files=two), 400, "several files", "one after the other")
    form = {"content-type": "multipart/form-data; boundary=x"}
    cut = b'--x\r\ncontent-disposition: form-data; name="f"; filename="a.mp4"\r\n\r\n' + video
    refused(post("/v1/predict", content=cut, headers=form), 400, "form is cut off")
    refused(post("/v1/predict", content=b"no form", headers=form), 400, "form is damaged")
    refused(post("/v1/predict", content=cut, headers={"content-type": "multipart/form-data"}), 400, "boundary")
    refused(post("/v1/predict?filename=a.mp4", content=video[: len(video) // 2]), 422, "cut off|failed")
    refused(post("/v1/predict?model=none", content=video), 404, "no model 'none'")
    refused(post("/v1/predict?top=0", content=video), 422, "parameter top")
    refused(post("/v1/timeline?low=0.9&filename=a.mp4", content=video), 422, "low = 0.9 and high = 0.5")
    refused(post("/v1/timeline?ignore=noon&filename=a.mp4", content=video), 422, "no class 'noon'")
    refused(client.get("/v1/nothing"), 404, "Not Found")
    refused(client.get("/v1/predict"), 405, "Method Not Allowed")
    goes_on(server, video)


def test_names_of_clients_are_no_paths(server: Server, video: bytes) -> None:
    client, _ = server
    for name in ("../../etc/passwd.mp4", "..\\..\\boot.mp4", "/abs/olute.mp4", "a\x00\u202eb.mp4", "x" * 900 + ".mp4"):
        response = client.post("/v1/predict", files={"file": (name, video)})
        assert response.status_code in (200, 415)
        if response.status_code == 200:
            assert "/" not in response.json()["path"]
            assert "\\" not in response.json()["path"]
    assert clean_name("a/../..\\b\x07.mp4") == "b.mp4"
    assert choose_suffix("A.MP4", "", skeletons=False) == ".mp4"
    assert choose_suffix("", "video/webm", skeletons=False) == ".webm"
    assert choose_suffix("", "application/json", skeletons=True) == ".json"
    assert choose_suffix("", "video/unheard-of", skeletons=False) == ""


def exchange(client: httpx.Client, request: bytes, *, wait: float = 5.0) -> bytes:
    """What the server answers to bytes."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=wait) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
            if b"\r\n\r\n" in answer and b"}}" in answer:
                break
        return answer


def test_a_slow_sender_is_told_so(strict: Server, video: bytes) -> None:
    client, _ = strict
    head = b"POST /v1/predict?filename=a.mp4 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\n"
    assert b" 408 " in exchange(client, head + b"abc")
    began = time.monotonic()

    def drip():
        for _ in range(20):
            yield b"x"
            time.sleep(0.1)

    refused(client.post("/v1/predict?filename=a.mp4", content=drip()), 408, "too slowly")
    assert time.monotonic() - began < 5
    goes_on(strict, video)


def test_a_slow_sender_of_headers_is_told_so(strict: Server, video: bytes) -> None:
    client, _ = strict
    slow = exchange(client, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-One: ")
    assert slow.startswith(b"HTTP/1.1 408 ")
    assert b"all headers within 0.5 s" in slow
    assert exchange(client, b"").startswith(b"HTTP/1.1 408 ")  # a connection on which nothing is asked
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        answer, began = b"", time.monotonic()
        connection.settimeout(0.1)
        while b"too slowly" not in answer and time.monotonic() - began < 10:  # the second request, a byte at a time
            with suppress(OSError):
                connection.sendall(b"G" if time.monotonic() - began < 0.3 else b"")
                answer += connection.recv(65536)
        assert b"HTTP/1.1 408 " in answer
    goes_on(strict, video)


def animated_gif(width: int, height: int, stated: int = 0) -> bytes:
    """Three frames of some size, and a header that may state another for both sides."""
    file = io.BytesIO()
    pictures = [Image.new("RGB", (width, height), (light, 0, 0)) for light in (10, 110, 210)]
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:], duration=200)
    content = bytearray(file.getvalue())
    content[6:10] = (stated or width).to_bytes(2, "little") + (stated or height).to_bytes(2, "little")
    return bytes(content)


def test_what_is_sent_in_the_clothes_of_a_video_is_refused(server: Server, video: bytes, tmp_path: Path) -> None:
    client, _ = server
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("film.mp4", bytes(10**7))
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(video)
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        address = f"http://127.0.0.1:{trap.getsockname()[1]}/part.ts"
        playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
        disguises = {
            "zip": bomb.getvalue(),
            "playlist of a file": playlist.format(secret).encode(),
            "playlist of an address": playlist.format(address).encode(),
            "list of files": f"ffconcat version 1.0\nfile '{secret}'\n".encode(),
            "description of a session": b"v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
            "manifest": f"<MPD><Period><BaseURL>{address}</BaseURL></Period></MPD>".encode(),
            "page": b"<!doctype html><script>alert(1)</script>",
        }
        for what, content in disguises.items():
            for name in ("a.mp4", "a.ts", ""):
                response = client.post("/v1/predict", params={"filename": name}, content=content)
                assert 400 <= response.status_code < 500, (what, response.text)
                refused(response, response.status_code, ".")
                assert str(tmp_path) not in response.text
        for suffix in ("m3u8", "ffconcat", "mpd", "sdp", "txt"):
            refused(client.post(f"/v1/predict?filename=a.{suffix}", content=video), 415, "ends in")
        with suppress(TimeoutError):
            asked.append(trap.accept()[0].recv(100))
    assert asked == []
    goes_on(server, video)


def test_frames_of_absurd_sizes_are_refused(server: Server, video: bytes) -> None:
    client, service = server
    restarts = service.pool.restarts
    assert client.post("/v1/predict?filename=a.gif", content=animated_gif(40, 40)).status_code == 200
    refused(client.post("/v1/predict?filename=a.gif", content=animated_gif(1, 1)), 422, "1x1")
    assert len(animated_gif(40, 40, 30_000)) < 2000
    large = client.post("/v1/predict?filename=a.gif", content=animated_gif(40, 40, 30_000))
    assert large.status_code in (413, 422)
    refused(large, large.status_code, ".")
    goes_on(server, video)
    assert service.pool.restarts == restarts


def test_a_stream_without_end_is_cut_at_the_limit(strict: Server, video: bytes) -> None:
    client, _ = strict
    sent = 0

    def endless():
        nonlocal sent
        while True:
            sent += 20_000
            yield bytes(20_000)

    with suppress(httpx.TransportError):  # the client does not listen while it sends
        refused(client.post("/v1/predict?filename=a.mp4", content=endless()), 413, "more than 200000 bytes")
    assert sent > STRICT.bytes
    with socket.create_connection((client.base_url.host, client.base_url.port or 80), timeout=10) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.settimeout(0.05)
        answer = b""
        with suppress(ConnectionError):
            while True:
                connection.sendall(b"4e20\r\n" + bytes(20_000) + b"\r\n")
                with suppress(TimeoutError):
                    answer += connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 ")
    goes_on(strict, video)


def test_a_client_that_goes_away_while_it_sends_leaves_nothing(server: Server, video: bytes) -> None:
    client, _ = server
    head = b"POST /v1/predict?filename=a.mp4 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5000\r\n\r\n"
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as connection:
        connection.sendall(head + b"abc")
    goes_on(server, video)


def test_a_full_queue_is_refused(strict: Server, video: bytes) -> None:
    client, service = strict
    with held(service) as (entered, gate), ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/predict?filename=a.mp4", content=video)
        assert entered.wait(30)
        second = client.post("/v1/predict?filename=a.mp4", content=video)
        refused(second, 429, "1 requests are waiting", "try again in")
        assert int(second.headers["retry-after"]) >= 1
        gate.set()
        assert first.result().status_code == 200
    assert "muybridge_rejected_requests_total 1.0" in client.get("/metrics").text


def test_an_answer_that_takes_too_long_is_given_up(strict: Server, video: bytes) -> None:
    client, service = strict
    with held(service):
        response = client.post("/v1/timeline?filename=a.mp4", content=video)
    refused(response, 503, "no answer within 3 s")
    assert "retry-after" in response.headers
    goes_on(strict, video)


def test_work_for_a_client_that_is_gone_stops(server: Server, video: bytes) -> None:
    client, service = server
    restarts = service.pool.restarts
    with held(service) as (entered, _):
        with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as raw:
            length = f"Content-Length: {len(video)}\r\n\r\n".encode()
            raw.sendall(b"POST /v1/timeline?filename=a.mp4 HTTP/1.1\r\nHost: localhost\r\n" + length + video)
            assert entered.wait(30)
        wait_until(lambda: is_idle(service))
    wait_until(lambda: service.pool.restarts == restarts + 1)  # the process that worked for it was ended
    goes_on(server, video)


def test_a_worker_that_is_killed_loses_its_request_only(server: Server, video: bytes) -> None:
    client, service = server
    with held(service) as (entered, gate), ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/v1/timeline?filename=a.mp4", content=video)
        assert entered.wait(30)
        other = pool.submit(client.post, "/v1/predict?filename=a.mp4", content=video)
        time.sleep(0.3)
        for pid in service.pool.processes():
            os.kill(pid, signal.SIGKILL)
        gate.set()
        refused(first.result(), 503, "was ended", "send it again")
        assert other.result().status_code in (200, 503)
    goes_on(server, video)


def test_a_decoder_that_crashes_is_a_fault_of_the_file(server: Server, video: bytes) -> None:
    client, service = server
    with held(service) as (entered, gate), ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/timeline?filename=a.mp4", content=video)
        assert entered.wait(30)
        for pid in service.pool.processes():
            os.kill(pid, signal.SIGSEGV)
        gate.set()
        refused(first.result(), 422, r"decoder crashed on it \(SIGSEGV\)", "re-encode")
    goes_on(server, video)


def test_a_file_that_unpacks_to_terabytes_is_refused(server: Server, video: bytes) -> None:
    client, _ = server
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 1, 20, 3)})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", header.getvalue() + bytes(10**6))
    response = client.post("/v1/predict?model=hands&filename=bomb.npz", content=packed.getvalue())
    assert response.status_code in (413, 422), response.text
    goes_on(server, video)


def test_other_hosts_pages_and_tokens_are_refused(predictors: dict[str, Predictor], video: bytes) -> None:
    config = ServeConfig(port=0, jobs=1, token="secret", hosts=("films.example",))
    with serving({"light": predictors["light"]}, config) as (client, _):
        bearer = {"authorization": "Bearer secret"}
        refused(client.get("/v1/models"), 401, "token is missing or wrong")
        assert client.get("/v1/models").headers["www-authenticate"] == "Bearer"
        refused(client.get("/v1/models", headers={"authorization": "Bearer secre"}), 401, "token")
        refused(client.post("/v1/predict?filename=a.mp4", content=video), 401, "token")
        refused(client.get("/metrics"), 401, "token")
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/models", headers=bearer).status_code == 200
        assert client.get("/v1/models", headers=bearer | {"host": "films.example"}).status_code == 200
        refused(client.get("/v1/models", headers=bearer | {"host": "evil.example"}), 403, "Host", "--allow-host")
        refused(client.get("/v1/models", headers=bearer | {"host": "x@127.0.0.1"}), 403, "Host")
        refused(client.get("/v1/models", headers=bearer | {"host": "[::1"}), 403, "Host")
        refused(client.get("/v1/models", headers=bearer | {"origin": "https://evil.example"}), 403, "a page of")
        refused(client.get("/v1/models", headers=bearer | {"origin": "null"}), 403, "a page of")
        own = str(client.base_url).rstrip("/")
        assert client.get("/v1/models", headers=bearer | {"origin": own}).status_code == 200
        assert "default-src 'none'" in client.get("/docs").headers["content-security-policy"]


def test_what_cannot_be_served_is_refused_before(root: Path) -> None:
    with pytest.raises(RecipeError, match="can be reached from other machines, and no token"):
        ServeConfig(host="0.0.0.0")
    assert ServeConfig(host="0.0.0.0", token="x").workers >= 1
    with pytest.raises(RecipeError, match="spaces or characters beyond ASCII"):
        ServeConfig(token="a b")
    with pytest.raises(RecipeError, match="batch 0"):
        ServeConfig(batch=0)
    with pytest.raises(RecipeError, match="a largest delay of 90 s"):
        ServeConfig(max_delay=90)
    with pytest.raises(RecipeError, match="the limit of frames is 0"):
        Limits(frames=0)
    with listen(ServeConfig(port=0)) as listener:
        listener.listen()
        result = CliRunner().invoke(app, ["serve", str(root / "light"), "--port", str(listener.getsockname()[1])])
        assert isinstance(result.exception, RecipeError)
        assert "Address already in use" in str(result.exception)
    assert isinstance(CliRunner().invoke(app, ["serve", str(root / "nothing")]).exception, RunError)


def test_folders_of_killed_servers_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    gone = tmp_path / f"{PREFIX}gone"
    gone.mkdir()
    (gone / LOCK).touch()
    (gone / "film.mp4").touch()
    with upload_folder() as folder:
        assert not gone.exists()
        assert remove_abandoned(tmp_path) == []
        assert folder.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == []


def test_requests_are_gathered_and_fail_alone(predictors: dict[str, Predictor], root: Path) -> None:
    predictor = predictors["hands"]
    sizes: list[int] = []
    batcher = Batcher({"hands": predictor}, batch=4, max_delay=0.3, observe=sizes.append)
    inputs = [
        collate_inputs([predictor.prepare(predictor.read(path))[0]]) for path in sorted((root / "skeletons").iterdir())
    ][:5]
    assert merge(inputs)["joints"].shape[1] == int(merge(inputs)["length"].max())
    answers = [batcher.submit("hands", one) for one in inputs]
    cancelled = batcher.submit("hands", inputs[0])
    cancelled.cancel()
    for one, answer in zip(inputs, answers, strict=True):
        with torch.inference_mode():
            torch.testing.assert_close(answer.result(5).logits, predictor.model(**one).logits)
    assert sizes == [4, 1]
    good, bad = (
        batcher.submit("hands", inputs[0]),
        batcher.submit("hands", inputs[1] | {"joints": inputs[1]["joints"] * np.nan}),
    )
    assert torch.isfinite(good.result(5).logits).all()
    with pytest.raises(RunError, match="not finite"):
        bad.result(5)
    batcher.close()


def test_a_request_error_survives_its_way_between_processes() -> None:
    error = RequestError("a", expected="b", hint="c", where="d", status=413, retry_after=7)
    twin = pickle.loads(pickle.dumps(error))
    assert (str(twin), twin.status, twin.retry_after) == (str(error), 413, 7)


@pytest.mark.slow
def test_the_program_finishes_what_it_has(root: Path, video: bytes, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "muybridge", "serve", str(root / "light"), "--port", "0", "--jobs", "1"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        address = next(match[1] for line in process.stderr if (match := re.search(r"serving at (\S+)", line)))
        with ThreadPoolExecutor(1) as pool:
            url = f"{address}/v1/timeline?filename=a.mp4&window=0.2&hop=0.001"
            answer = pool.submit(httpx.post, url, content=video, timeout=60)
            wait_until(lambda: httpx.get(f"{address}/healthz").json()["requests"] == 1)
            process.send_signal(signal.SIGTERM)
            assert answer.result().status_code == 200
        process.wait(20)
        assert process.returncode in (0, -signal.SIGTERM)
    assert list(tmp_path.glob(f"{PREFIX}*")) == []


def test_joints_are_given_to_be_drawn(server: Server, root: Path):
    client, _ = server
    path = next((root / "skeletons").glob("a01_s02*"))
    answer = client.post("/v1/joints?model=hands&fps=15", files={"file": (path.name, path.read_bytes())}).json()
    expected = read_skeleton(path).joints
    assert answer["fps"] == 15
    np.testing.assert_allclose(np.array(answer["joints"]), expected, atol=1e-4)
    refused = client.post("/v1/joints", files={"file": (path.name, path.read_bytes())})
    assert (refused.status_code, refused.json()["error"]["problem"]) == (422, "the model 'light' takes videos")


def test_maps_are_those_of_the_localizer(server: Server, root: Path, predictors: dict[str, Predictor]) -> None:
    client, _ = server
    path = root / "videos" / "dawn" / "c_0.mp4"
    answer = client.post("/v1/maps?window=0.5&filename=a.mp4", content=path.read_bytes()).json()
    assert (answer["kind"], answer["boxes"], answer["rows"], answer["columns"]) == ("class_activation", [], 20, 24)
    assert answer["seconds"] == sorted(answer["seconds"])
    assert len(answer["seconds"]) == 10  # two windows of half a second, ten a second
    maps = np.frombuffer(base64.b64decode(answer["maps"]), np.uint8).reshape(10, 20, 24)
    model = predictors["light"].model
    assert isinstance(model, Model)
    with Video(path) as video, pytest.warns(MuybridgeWarning, match="1x1 cells"):
        heat = Localizer(predictors["light"]).attention_maps(video.slice_frames(0, 6))[1][torch.tensor([0])]
    model.return_maps = False
    expected = torch.nn.functional.adaptive_avg_pool2d(heat[None], (20, 24))[0, 0].numpy()
    assert np.corrcoef(maps[0].ravel(), expected.ravel())[0, 1] > 0.999
    refused(client.post("/v1/maps?model=hands&filename=a.txt", content=b"1"), 422, "takes skeletons")
    goes_on(server, path.read_bytes())


def test_a_model_with_attention_gives_boxes(tmp_path: Path) -> None:
    root = write_videos(tmp_path / "videos")
    recipe = tiny_clip_recipe(root, epochs=1).model_dump(mode="json")
    small = {"hidden": 4, "attention_width": 4, "head_width": 8, "out_index": -4, "frames": 6, "size": 32}
    recipe["model"] = {"name": "video_lstm", "architecture": "conv_alstm", "backbone": "resnet18"} | small
    predictor = Predictor(train(Recipe.model_validate(recipe), tmp_path / "run").path)
    with Video(root / "dawn" / "a_0.mp4") as video:
        found = find_maps(predictor, video, 0.5)
    assert found.kind == "attention"
    assert len(found.boxes) == len(found.seconds) == 10
    assert all(0 <= left < right <= 1 and 0 <= top < bottom <= 1 for left, top, right, bottom in found.boxes)


def test_absent_people_and_long_recordings_as_they_are_drawn(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "MOST_DRAWN", 3)
    sequence = SkeletonSequence(torch.arange(8.0).reshape(4, 2, 1, 1), torch.tensor([[1, 0]] * 4).bool())
    assert worker.drawn_joints(sequence) == ([[[[0.0]], [None]], [[[4.0]], [None]]], 2)
