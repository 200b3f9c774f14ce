"""Answers while a recording goes on: sources, bounded lag, and what happens when a source misbehaves."""

import io
import json
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import DataError, MissingExtraError, RecipeError
from muybridge.engine.train import train
from muybridge.media import live as sources
from muybridge.media.live import (
    Camera,
    JointLines,
    Moment,
    NetworkStream,
    PacedFile,
    PipeFormat,
    RawFrames,
    open_source,
)
from muybridge.media.video import Video
from muybridge.predict import Predictor
from muybridge.timeline import LivePredictor, answer_in_order, watch
from muybridge.timeline import feed as feeding
from muybridge.timeline.feed import Feed
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos

FPS = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("live")
    train(tiny_clip_recipe(write_videos(root / "videos"), epochs=1), root / "run")
    return root / "run"


@pytest.fixture(scope="module")
def film(run: Path) -> Path:
    return run.parent / "videos/dawn/d_0.mp4"


@pytest.fixture(scope="module")
def joints_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("joints")
    train(tiny_recipe(write_recordings(root / "data"), epochs=1), root / "run")
    return root / "run"


class Played:
    """A source of given moments; ``breaks`` errors come first."""

    name = "played"

    def __init__(self, moments: list[Moment], breaks: int = 0, endless: bool = False, pause: float = 0.0) -> None:
        self.given, self.breaks, self.endless, self.pause = moments, breaks, endless, pause

    def moments(self) -> Iterator[Moment]:
        if self.breaks:
            self.breaks -= 1
            raise DataError("the plug is out", expected="a plug", hint="put it in", where=self.name)
        for moment in self.given:
            time.sleep(self.pause)
            yield Moment(moment.content, moment.seconds)


def gray_frames(count: int, size: tuple[int, int] = (40, 48), start: float = 0.0) -> list[Moment]:
    return [Moment(np.full((*size, 3), number % 200, np.uint8), start + number / FPS) for number in range(count)]


def test_answers_are_those_of_the_window_as_a_recording_of_its_own(run: Path, film: Path):
    predictor = Predictor(run, "cpu")
    answers = list(answer_in_order(LivePredictor(predictor, 0.5), PacedFile(film, paced=False), 0.25, print))
    with Video(film) as video:
        frames = video.read(range(12)).pixels.permute(0, 2, 3, 1).numpy()
    assert [round(FPS * answer.seconds) for answer in answers] == [1, 4, 7, 10]
    for answer in answers:
        end = round(FPS * answer.seconds) + 1
        expected = predictor(frames[max(0, end - 6) : end])
        assert answer.prediction.labels == expected.labels
        np.testing.assert_allclose(answer.prediction.scores, expected.scores, atol=1e-6)
        assert answer.frames == min(6, end)
        assert answer.window == pytest.approx((answer.frames - 1) / FPS)


def test_lines_of_joints_are_answered_from_the_first_two_with_somebody(joints_run: Path):
    predictor = Predictor(joints_run, "cpu")
    body = np.random.default_rng(3).normal(size=(20, 1, 20, 3)).cumsum(0) * 0.02 + np.random.default_rng(4).normal(
        size=(1, 1, 20, 3)
    )
    lines = [b"[]", *(json.dumps(frame.tolist()).encode() for frame in body)]
    source = JointLines(io.BytesIO(b"\n".join(lines)), fps=10.0)
    answers = list(answer_in_order(LivePredictor(predictor, 1.0, fps=10.0, top=20), source, 0.0, print))
    assert [round(10 * answer.seconds) for answer in answers] == list(range(2, 21))
    assert [answer.frames for answer in answers] == [*range(2, 11), *range(5, 11), *range(5, 9)]
    with predictor.open(body[12:]) as (opened, _):
        expected = predictor.scores(predictor.prepare(opened)[0])
    by_label = dict(zip(answers[-1].prediction.labels, answers[-1].prediction.scores, strict=True))
    np.testing.assert_allclose([by_label[name] for name in predictor.labels], expected, atol=1e-5)


def test_a_slow_machine_drops_frames_and_is_never_further_behind_than_one_answer(
    run: Path, monkeypatch: pytest.MonkeyPatch
):
    live = LivePredictor(Predictor(run, "cpu"), 0.5)
    answer = live.answer

    def slowly():
        time.sleep(0.15)
        return answer()

    monkeypatch.setattr(live, "answer", slowly)
    answers = list(watch(live, Played(gray_frames(120), pause=0.005)))
    assert answers[-1].seconds == pytest.approx(119 / FPS)
    assert answers[-1].dropped > 20
    assert 2 <= len(answers) <= 12
    assert max(one.frames for one in answers) <= 6
    # No answer is about a frame that waited for several others: 0.15 s for itself, and as much for the one before.
    assert max(one.lag for one in answers) < 0.15 * 2 + 0.5


def test_what_waits_is_bounded_and_what_is_dropped_counted():
    with Feed(Played(gray_frames(100)), keep=1.0, notice=print) as feed:
        while not feed._ended:
            time.sleep(0.01)
        taken = feed.take(1.0)
        assert taken is not None
        assert [round(FPS * moment.seconds) for moment in taken] == list(range(87, 100))
        assert feed.dropped == 87
        assert feed.take(1.0) is None


def test_a_source_that_breaks_is_opened_again_after_growing_pauses(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeding, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(feeding, "LONGEST_PAUSE", 0.02)
    said: list[str] = []
    with Feed(Played(gray_frames(2), breaks=3, endless=True), 1.0, said.append) as feed:
        assert feed.take(5.0)
        while len(said) < 5:
            time.sleep(0.01)
    assert [text.rpartition(" in ")[2] for text in said[:5]] == ["0.01 s.", "0.02 s.", "0.02 s.", "0.01 s.", "0.01 s."]
    assert "the plug is out" in said[0]
    assert "the stream ended" in said[3]


def test_a_file_that_breaks_ends_the_answers(run: Path):
    with pytest.raises(DataError, match="the plug is out"):
        list(watch(LivePredictor(Predictor(run, "cpu"), 0.5), Played([], breaks=1)))


def test_a_source_that_stalls_is_said_once(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(feeding, "STALLED", 0.05)
    said: list[str] = []
    answers = list(
        watch(LivePredictor(Predictor(run, "cpu"), 0.5), Played(gray_frames(2), pause=0.2), notice=said.append)
    )
    assert said == ["played: no frame for 0.05 s"] * 2
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        (gray_frames(1, start=0.1)[0], "the time jumps from 0.25 to 0.10 s"),
        (gray_frames(1, start=9.0)[0], "the time jumps from 0.25 to 9.00 s"),
        (gray_frames(1, (48, 40), start=0.3)[0], "the frames have another size"),
    ],
)
def test_what_came_before_a_jump_is_forgotten(run: Path, moment: Moment, reason: str):
    said: list[str] = []
    live = LivePredictor(Predictor(run, "cpu"), 0.5)
    after = Moment(moment.content, moment.seconds + 0.1)
    answers = list(answer_in_order(live, Played([*gray_frames(4), moment, after]), 0.0, said.append))
    assert said == [f"played: {reason}; what came before is forgotten"]
    assert [answer.frames for answer in answers] == [2, 3, 4, 2]


def test_frames_of_another_kind_are_refused(run: Path, joints_run: Path):
    live = LivePredictor(Predictor(run, "cpu"), 0.5)
    with pytest.raises(DataError, match="a frame of 20x3 float64"):
        live.push(np.zeros((20, 3)), 0.0)
    of_joints = LivePredictor(Predictor(joints_run, "cpu"), 0.5)
    with pytest.raises(DataError, match="people x 20 joints x 3 coordinates"):
        of_joints.push(np.zeros((1, 17, 3)), 0.0)
    with pytest.raises(RecipeError, match="a window of -1 seconds"):
        LivePredictor(Predictor(run, "cpu"), -1.0)


@pytest.mark.parametrize("pixels", ["rgb24", "bgr24", "gray"])
def test_raw_frames(pixels: str):
    channels = 1 if pixels == "gray" else 3
    frames = np.random.default_rng(0).integers(0, 256, (3, 10, 12, channels), np.uint8)
    sent = frames[..., ::-1] if pixels == "bgr24" else frames
    moments = list(RawFrames(io.BytesIO(sent.tobytes()), 12, 10, 25.0, pixels).moments())  # type: ignore[arg-type]
    assert [moment.seconds for moment in moments] == [0.0, 0.04, 0.08]
    np.testing.assert_array_equal(np.stack([moment.content for moment in moments]), frames)


def test_raw_frames_that_end_too_early():
    source = RawFrames(io.BytesIO(bytes(12 * 10 * 3 + 5)), 12, 10, 25.0)
    moments = source.moments()
    next(moments)
    with pytest.raises(DataError, match=r"frame 1 has 5 bytes\. Expected 12 x 10 x 3 = 360 bytes"):
        next(moments)
    with pytest.raises(DataError, match="4x4 pixels"):
        RawFrames(io.BytesIO(), 4, 4, 25.0)


def test_lines_of_joints():
    lines = b'{"joints": [[1, 2, null], [3, 4, 5]], "seconds": 7.5}\n\n[[[1, 2, 3]]]\n{"joints": []}\n'
    moments = list(JointLines(io.BytesIO(lines), 10.0).moments())
    assert [moment.content.shape for moment in moments] == [(1, 2, 3), (1, 1, 3), (0, 0, 0)]
    assert np.isnan(moments[0].content[0, 0, 2])
    assert [moment.seconds for moment in moments] == [7.5, 0.2, 0.3]


@pytest.mark.parametrize(
    "line", [b"oh", b'{"bones": []}', b"[1, 2]", b"[[1, 2], [3]]", b'{"joints": [[1]], "seconds": NaN}']
)
def test_lines_that_are_no_joints(line: bytes):
    with pytest.raises(DataError, match="line 2 holds no joints"):
        list(JointLines(io.BytesIO(b"[[1, 2, 3]]\n" + line + b"\n"), 10.0).moments())


def source_of(address: str, *, skeletons: bool = False) -> object:
    return open_source(address, io.BytesIO(), PipeFormat(), skeletons=skeletons, channels=3, paced=True)


def test_sources_by_address(monkeypatch: pytest.MonkeyPatch):
    assert isinstance(source_of("rtsp://camera/1"), NetworkStream)
    assert isinstance(source_of("films/a.mp4"), PacedFile)
    with pytest.raises(RecipeError, match="no --size"):
        source_of("-")
    with pytest.raises(RecipeError, match="a whole recording"):
        source_of("walk.npz", skeletons=True)
    with pytest.raises(RecipeError, match="no source of joints"):
        source_of("0", skeletons=True)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match="OpenCV is not installed"):
        source_of("0")


def test_a_camera_that_is_not_there():
    pytest.importorskip("cv2")
    with pytest.raises(DataError, match="camera 97: cannot be opened"):
        next(Camera(97).moments())


def test_a_stream_over_http_comes_at_its_own_pace(film: Path, monkeypatch: pytest.MonkeyPatch):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(film.parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        started = time.monotonic()
        moments = list(NetworkStream(f"http://127.0.0.1:{server.server_port}/{film.name}").moments())
        spent = time.monotonic() - started
        with pytest.raises(DataError, match="the stream cannot be read"):
            next(NetworkStream(f"http://127.0.0.1:{server.server_port}/none.mp4").moments())
        server.shutdown()
    assert len(moments) == 12
    assert spent > 11 / FPS - 0.05


def test_a_jump_of_the_clock_is_not_waited_for():
    pace = sources._Pace()
    started = time.monotonic()
    for seconds in (100.0, 100.02, 9000.0, 3.0, 3.02):
        pace.wait_until(seconds)
    assert 0.03 < time.monotonic() - started < 1.0


def test_the_command(run: Path, film: Path, joints_run: Path):
    runner = CliRunner()
    given = [str(run), str(film), "--no-pace", "--window", "0.5", "--hop", "0.25", "--top", "1", "--device", "cpu"]
    result = runner.invoke(app, ["watch", *given])
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["seconds"] for row in rows] == [0.083, 0.333, 0.583, 0.833]
    assert set(rows[0]) == {"seconds", "lag", "dropped", "window", "frames", "label", "score", "top"}
    assert result.stderr.splitlines()[-1].startswith("4 answers, ")
    assert "every 0.25 s, computed as a whole each time (a model of the kind tsn takes" in result.stderr
    table = runner.invoke(app, ["watch", *given, "--format", "table"])
    assert rows[-1]["label"] in table.stdout
    assert "ms behind" in table.stdout
    with Video(film) as video:
        raw = video.read(range(12)).pixels.permute(0, 2, 3, 1).numpy().tobytes()
    given[1] = "-"
    piped = runner.invoke(app, ["watch", *given, "--size", "48x40", "--fps", "12"], input=raw)
    assert [json.loads(line)["score"] for line in piped.stdout.splitlines()] == [row["score"] for row in rows]
    nobody = runner.invoke(app, ["watch", str(joints_run), "-", "--device", "cpu"], input=b"[]\n[]\n[]\n").stderr
    assert "a state carried from frame to frame" in nobody
    assert nobody.endswith("no answers: nothing was seen, or fewer than two frames\n")


@pytest.mark.parametrize("size", ["640", "640x", "axb"])
def test_a_size_that_is_none(run: Path, size: str):
    result = CliRunner().invoke(app, ["watch", str(run), "-", "--size", size])
    assert isinstance(result.exception, RecipeError)
    assert "width x height in pixels" in str(result.exception)
