"""Live frames over a WebSocket: answers are those of the library, limits are crossed, and the server goes on."""

import base64
import io
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from muybridge.core.errors import RequestError
from muybridge.engine.train import train
from muybridge.predict import Predictor
from muybridge.serve.config import Limits, ServeConfig
from muybridge.serve.live_stream import CREDITS
from muybridge.serve.run import load_all
from muybridge.serve.service import Service
from muybridge.serve.stream import read_time
from muybridge.serve.stream_worker import read_jpeg
from muybridge.timeline import LivePredictor
from tests.serving import serving, wait_until
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos

Server = tuple[httpx.Client, Service]
LIMITS = Limits(frame_bytes=50_000, pixels=200 * 200, idle_seconds=1.0, opening_seconds=20.0)


@pytest.fixture(scope="module")
def predictors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Predictor]:
    root = tmp_path_factory.mktemp("stream")
    train(tiny_clip_recipe(write_videos(root / "videos"), epochs=4), root / "light")
    train(tiny_recipe(write_recordings(root / "skeletons"), epochs=1), root / "hands")
    return load_all([root / "light", root / "hands"], "cpu")


@pytest.fixture(scope="module")
def server(predictors: dict[str, Predictor]) -> Iterator[Server]:
    with serving(predictors, ServeConfig(port=0, jobs=1, streams=2, limits=LIMITS)) as pair:
        yield pair


def jpeg(light: int, width: int = 48, height: int = 40) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (light, light, light)).save(file, "JPEG")
    return file.getvalue()


FRAMES = [jpeg(40 + 8 * number) for number in range(20)]


@contextmanager
def streaming(server: Server, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    client, service = server
    address = str(client.base_url).replace("http://", "ws://")
    with connect(f"{address}/v1/stream?{query}", **options) as connection:
        yield connection
    wait_until(lambda: not service.streams)


def receive(connection: ClientConnection, kind: str) -> Any:
    """The content of the next message of a kind."""
    while True:
        message = json.loads(connection.recv(timeout=20))
        if kind in message:
            return message[kind]


def refused(connection: ClientConnection, match: str, code: int) -> None:
    """The next message is an error in three parts, and the connection is closed with a code."""
    error = receive(connection, "error")
    assert re.search(match, error["problem"]), error
    assert error["expected"]
    assert error["hint"]
    with pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code


def works(server: Server) -> None:
    """Another stream is answered."""
    with streaming(server, "hop=0") as connection:
        for frame in FRAMES[:4]:
            connection.send(frame)
        assert receive(connection, "answer")["top"]


def test_answers_are_those_of_the_library(server: Server, predictors: dict[str, Predictor]):
    live = LivePredictor(predictors["light"], 1.0, top=2)
    with streaming(server, "model=light&window=1&hop=0&top=2") as connection:
        ready = receive(connection, "ready")
        assert ready == {"model": "light", "window": 1.0, "hop": 0.0, "credits": CREDITS}
        for number, frame in enumerate(FRAMES):
            connection.send(json.dumps({"seconds": number / 12}))
            connection.send(frame)
            live.push(read_jpeg(frame, LIMITS), number / 12)
            expected = live.answer()
            if expected is None:
                continue
            answer = receive(connection, "answer")
            assert (answer["seconds"], answer["frames"]) == (round(number / 12, 3), expected.frames)
            assert answer["window"] == round(expected.window, 3)
            assert [row["label"] for row in answer["top"]] == list(expected.prediction.labels)
            np.testing.assert_allclose([row["score"] for row in answer["top"]], expected.prediction.scores, atol=1e-5)
            assert 0 < answer["lag"] < 10


def test_each_frame_gives_its_credit_back_and_the_newest_is_answered(server: Server):
    with streaming(server, "hop=0") as connection:
        receive(connection, "ready")
        sent, credits, newest = 0, CREDITS, -1.0
        while sent < 40 or credits < CREDITS or newest <= 0:
            while credits and sent < 40:
                connection.send(FRAMES[sent % 20])
                sent, credits = sent + 1, credits - 1
            message = json.loads(connection.recv(timeout=20))
            credits += message.get("credit", 0)
            if answer := message.get("answer"):
                assert answer["seconds"] >= newest  # in milliseconds, and two frames may arrive within one
                newest = answer["seconds"]
    assert (sent, credits) == (40, CREDITS)


def test_frames_that_wait_are_answered_once(server: Server, predictors: dict[str, Predictor]):
    import threading

    gate, entered = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        entered.set()
        gate.wait(10)

    with streaming(server, "window=2&hop=0") as connection:
        handle = predictors["light"].model.register_forward_pre_hook(wait)
        try:
            for number, frame in enumerate(FRAMES[:2]):
                connection.send(json.dumps({"seconds": number / 12}))
                connection.send(frame)
                receive(connection, "credit")
            assert entered.wait(20)
            for number in range(2, 8):
                connection.send(json.dumps({"seconds": number / 12}))
                connection.send(FRAMES[number])
            time.sleep(0.3)
        finally:
            gate.set()
            handle.remove()
        assert receive(connection, "answer")["seconds"] == round(1 / 12, 3)
        assert receive(connection, "credit") == 6
        answer = receive(connection, "answer")
        assert (answer["seconds"], answer["frames"]) == (round(7 / 12, 3), 8)


def test_jumps_in_time_and_another_size_are_said(server: Server):
    with streaming(server, "hop=0") as connection:
        for seconds, frame in ((0, FRAMES[0]), (0.1, FRAMES[1]), (50, FRAMES[2]), (50.1, jpeg(9, 60, 40))):
            connection.send(json.dumps({"seconds": seconds}))
            connection.send(frame)
        assert re.search("time jumps from 0.10 to 50.00 s; what came before", receive(connection, "notice"))
        assert "another size" in receive(connection, "notice")


def test_what_is_not_allowed_is_said_and_ends_that_stream_only(server: Server):
    with streaming(server) as connection:
        connection.send(FRAMES[0][:300])
        refused(connection, r"the stream|a frame cannot be read", 1008)
    with streaming(server) as connection:
        connection.send(b"no image" * 20)
        refused(connection, "a frame is no JPEG image", 1008)
    png = io.BytesIO()
    Image.new("RGB", (40, 40)).save(png, "PNG")
    with streaming(server) as connection:
        connection.send(png.getvalue())
        refused(connection, "a frame is no JPEG image", 1008)
    with streaming(server) as connection:
        connection.send(jpeg(0, 400, 300))
        refused(connection, "a frame is 400x300 pixels", 1009)
    with streaming(server) as connection:
        connection.send(jpeg(0, 1, 1))
        connection.send(jpeg(0, 1, 1))
        refused(connection, "1", 1008)
    with streaming(server) as connection:
        connection.send('{"seconds": 1}')
        connection.send('{"seconds": 2}')
        refused(connection, "two times without a frame", 1008)
    for text in ("[]", "x", '{"seconds": NaN}', '{"seconds": -1}', '{"seconds": null}', "[" * 5000):
        with streaming(server) as connection:
            connection.send(text)
            refused(connection, "no time", 1008)
    with streaming(server, "model=other") as connection:
        refused(connection, "there is no model 'other'", 1008)
    with streaming(server, "model=hands") as connection:
        refused(connection, "takes skeletons", 1008)
    with streaming(server, "window=-1") as connection:
        refused(connection, "the parameter window", 1008)
    works(server)


def test_limits_of_bytes_idle_time_credits_and_streams(server: Server):
    with streaming(server) as connection:
        connection.send(b"x" * (LIMITS.frame_bytes + 1))
        with pytest.raises(ConnectionClosed) as closed:
            receive(connection, "answer")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    with streaming(server) as connection:
        refused(connection, "no frame for 1 s", 1008)
    with streaming(server) as connection:
        for _ in range(3):  # a message that is no frame does not count as one
            time.sleep(0.25)
            connection.ping()
        refused(connection, "no frame for 1 s", 1008)
    with streaming(server, "window=2") as one, streaming(server) as two:
        for connection in (one, two):
            connection.send(FRAMES[0])
            receive(connection, "ready")
        with streaming_beside(server) as third:
            refused(third, "2 streams are answered already", 1013)
    works(server)


@contextmanager
def streaming_beside(server: Server) -> Iterator[ClientConnection]:
    with connect(f"{str(server[0].base_url).replace('http', 'ws', 1)}/v1/stream") as connection:
        yield connection


def test_a_flood_without_credit_is_ended(server: Server):
    with streaming(server) as connection:
        with suppress(ConnectionClosed):
            for _ in range(3000):
                connection.send(FRAMES[0])
        refused(connection, "a frame without a credit", 1008)
    works(server)


def test_a_client_that_vanishes_and_a_process_that_is_killed_leave_nothing(server: Server):
    client, service = server
    raw = socket.create_connection((client.base_url.host, client.base_url.port or 80))
    with connect(f"ws://{client.base_url.host}:{client.base_url.port}/v1/stream", sock=raw) as connection:
        connection.send(FRAMES[0])
        wait_until(lambda: bool(service.streams))
        raw.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: not service.streams)
    with streaming(server, "hop=0") as connection:
        connection.send(FRAMES[0])
        receive(connection, "ready")
        (stream,) = service.streams
        wait_until(lambda: stream.process is not None)
        assert stream.process is not None
        os.kill(stream.process, signal.SIGKILL)
        refused(connection, "the process that read it was ended", 1013)
    works(server)
    metrics = client.get("/metrics").text
    assert "muybridge_streams 0.0" in metrics
    assert float(re.findall(r"^muybridge_stream_frames_total (\S+)", metrics, re.MULTILINE)[0]) >= 4


def test_other_origins_hosts_and_tokens_are_refused(predictors: dict[str, Predictor]):
    with serving(predictors, ServeConfig(port=0, jobs=1, token="secret-1", limits=LIMITS)) as server:
        address = str(server[0].base_url)

        def status(**options: Any) -> int:
            with pytest.raises(InvalidStatus) as refusal, streaming(server, **options):
                pass
            error = json.loads(refusal.value.response.body or b"")["error"]
            assert error["problem"]
            assert error["hint"]
            return refusal.value.response.status_code

        token = {"Authorization": "Bearer secret-1"}
        assert status(origin="http://evil.example", additional_headers=token) == 403
        other_name = socket.create_connection((server[0].base_url.host, server[0].base_url.port or 80))
        with pytest.raises(InvalidStatus, match="403"), connect("ws://evil.example/v1/stream", sock=other_name):
            pass
        assert status() == 401
        assert status(additional_headers={"Authorization": "Bearer other"}) == 401
        encoded = base64.urlsafe_b64encode(b"secret-1").decode().rstrip("=")
        assert status(subprotocols=["muybridge", "token.####"]) == 401
        assert status(subprotocols=["muybridge", "token.x"]) == 401
        with streaming(server, origin=address, additional_headers=token) as connection:
            assert receive(connection, "ready")
        with streaming(server, subprotocols=["muybridge", f"token.{encoded}"]) as connection:
            assert connection.subprotocol == "muybridge"  # the token is not sent back
            assert receive(connection, "ready")


def test_no_streams_at_all(predictors: dict[str, Predictor]):
    with (
        serving(predictors, ServeConfig(port=0, jobs=1, streams=0)) as server,
        streaming(server) as connection,
    ):
        refused(connection, "0 streams", 1013)


def test_a_server_that_ends_closes_its_streams(predictors: dict[str, Predictor]):
    with ExitStack() as left_open:
        with serving(predictors, ServeConfig(port=0, jobs=1, limits=LIMITS)) as server:
            address = str(server[0].base_url).replace("http", "ws", 1)
            connection = left_open.enter_context(connect(f"{address}/v1/stream"))
            connection.send(FRAMES[0])
            receive(connection, "ready")
        with pytest.raises(ConnectionClosed):
            receive(connection, "answer")
        assert not server[1].streams


def test_images_are_turned_and_refused_by_their_header():
    image = Image.new("RGB", (40, 20))
    exif = image.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "JPEG", exif=exif)
    assert read_jpeg(file.getvalue(), LIMITS).shape == (40, 20, 3)
    gray = io.BytesIO()
    Image.new("L", (8, 8)).save(gray, "JPEG")
    assert read_jpeg(gray.getvalue(), LIMITS).shape == (8, 8, 3)
    cmyk = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(cmyk, "JPEG")
    assert read_jpeg(cmyk.getvalue(), LIMITS).shape == (8, 8, 3)
    long = io.BytesIO()
    Image.new("L", (30_000, 16)).save(long, "JPEG")
    with pytest.raises(RequestError, match=r"30000x16 pixels. Expected at most 16384 pixels in height and in width"):
        read_jpeg(long.getvalue(), Limits())
    bomb = bytearray(jpeg(0))
    at = bomb.index(b"\xff\xc0") + 5  # height and width in the header
    bomb[at : at + 4] = b"\xff\xdc\xff\xdc"
    with pytest.raises(RequestError, match=r"65500x65500 pixels|cannot be read"):
        read_jpeg(bytes(bomb), LIMITS)
    with pytest.raises(RequestError, match=r"Expected a JPEG image in each binary message. Send whole images"):
        read_jpeg(b"", LIMITS)


def test_times():
    assert read_time('{"seconds": 12.5}') == 12.5
    with pytest.raises(RequestError, match=r'no time. Expected {"seconds": 12.5}, or only frames. Correct the message'):
        read_time('{"time": 1}')
