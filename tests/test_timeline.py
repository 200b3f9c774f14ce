"""When actions happen in long recordings."""

import csv
import io
import json
import os
import shutil
import threading
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import DataError, MuybridgeWarning, RecipeError
from muybridge.core.types import Output, SkeletonSequence
from muybridge.engine.train import train
from muybridge.media.video import Video
from muybridge.predict import Predictor
from muybridge.timeline import (
    FORMATS,
    Segment,
    Timeline,
    TimelineConfig,
    TimelinePredictor,
    find_segments,
    read_segments,
    score_segments,
)
from muybridge.timeline.scores import average_precision, overlap
from muybridge.timeline.segments import average_windows
from muybridge.timeline.windows import Window, cut_decoded, slide
from muybridge.viz import timeline as viz
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that tells growing light from fading light."""
    root = tmp_path_factory.mktemp("timeline")
    train(tiny_clip_recipe(write_videos(root / "videos"), epochs=12), root / "run")
    return root / "run"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds in which light grows, fades, grows and fades, a second each of twelve frames."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"g": "7"})
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv420p"
        stream.codec_context.thread_count = 1
        for way in (1, -1, 1, -1):
            for light in np.linspace(40, 200, 12)[::way]:
                picture = np.clip(light + rng.normal(0, 5, (40, 48, 3)), 0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_windows_cover_the_recording_and_the_last_ends_with_it() -> None:
    seconds = np.arange(48) / 12
    windows = slide(seconds, 4.0, 1.0, 0.75)
    assert [(one.start, one.stop) for one in windows] == [(0, 1), (0.75, 1.75), (1.5, 2.5), (2.25, 3.25), (3, 4)]
    assert [(one.first, one.end) for one in windows] == [(0, 12), (9, 21), (18, 30), (27, 39), (36, 48)]
    assert slide(seconds, 4.0, 3.0, 0.8)[-1] == Window(1.0, 4.0, 12, 48)
    assert slide(seconds[:3], 0.25, 1.0, 0.5) == [Window(0.0, 0.25, 0, 3)]
    sparse = slide(np.array([0.0, 5.0]), 6.0, 1.0, 1.0)
    assert all(one.end > one.first for one in sparse)


@pytest.mark.parametrize(("window", "hop"), [(1.0, 0.25), (0.5, 0.5), (0.3, 0.9), (9.0, 1.0)])
def test_every_window_has_the_frames_of_the_file(film: Path, window: float, hop: float) -> None:
    with Video(film) as video:
        windows = slide(video.seconds.numpy(), video.duration, window, hop)
        for place, part in zip(windows, cut_decoded(video, windows, 32), strict=True):
            expected = video.read(range(place.first, place.end), 32)
            assert len(part) == place.end - place.first
            assert torch.equal(part.clip.pixels, expected.pixels)
            assert torch.equal(part.clip.seconds, expected.seconds)


def test_the_answer_of_a_window_is_that_of_predict(run: Path, film: Path) -> None:
    predictor = Predictor(run)
    timeline = TimelinePredictor(predictor, TimelineConfig(window=1.0, hop=1.0, batch=3))(film)
    assert timeline.probabilities.shape == (4, 2)
    with Video(film) as video:
        for index, row in enumerate(timeline.probabilities):
            answer = predictor(video.slice_frames(12 * index, 12 * index + 12))
            scores = dict(zip(answer.labels, answer.scores, strict=True))
            np.testing.assert_allclose(row, [scores[label] for label in timeline.labels], atol=1e-6)


class Slope(torch.nn.Module):
    """Whether light grows (class 0) or fades (class 1), without any learning."""

    def forward(self, video: Tensor) -> Output:
        growth = (video[:, -1] - video[:, 0]).mean((1, 2, 3))
        return Output(20 * torch.stack([growth, -growth], 1), {})


def test_batches_of_windows_have_the_same_answers(run: Path, film: Path) -> None:
    rows = [TimelinePredictor(Predictor(run), TimelineConfig(1.0, 0.25, batch=size))(film) for size in (1, 3, 50)]
    for other in rows[1:]:
        np.testing.assert_allclose(other.probabilities, rows[0].probabilities, atol=1e-6)


def test_a_timeline_that_is_given_up_or_fails_closes_the_recording_after_its_last_read(run: Path, film: Path) -> None:
    timelines = TimelinePredictor(Predictor(run), TimelineConfig(1.0, 0.1, batch=1))

    def give_up(done: int, total: int) -> None:
        raise KeyboardInterrupt

    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        timelines(film, give_up)
    assert threading.active_count() == threads
    damaged = film.with_name("damaged.mp4")
    content = bytearray(film.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 300] = bytes(300)
    damaged.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        timelines(damaged)


def test_actions_are_found_where_they_are(run: Path, film: Path) -> None:
    predictor = Predictor(run)
    predictor.model = Slope()
    timeline = TimelinePredictor(predictor, TimelineConfig(window=0.5, hop=0.125))(film)
    assert [segment.label for segment in timeline.segments] == ["dawn", "dusk", "dawn", "dusk"]
    truth = {timeline.path: [Segment(i, i + 1, ("dawn", "dusk")[i % 2]) for i in range(4)]}
    scores = score_segments({timeline.path: timeline.segments}, truth, {timeline.path: timeline.duration})
    assert scores.frame_accuracy > 90
    assert scores.f1[0.5] == 100
    assert scores.map[0.7] == 100


def test_windows_are_averaged_where_they_overlap() -> None:
    windows = [Window(0, 2, 0, 0), Window(1, 3, 0, 0), Window(2, 4, 0, 0)]
    averaged = average_windows(windows, np.array([[1.0], [3.0], [5.0]]), np.arange(5.0))
    assert averaged[:, 0].tolist() == [1, 2, 4, 5]
    apart = average_windows([Window(0, 1, 0, 0), Window(3, 4, 0, 0)], np.array([[1.0], [5.0]]), np.arange(5.0))
    assert apart[:, 0].tolist() == [1, 1, 1, 5]  # between windows the one before holds


def test_segments_have_hysteresis_and_a_shortest_duration() -> None:
    p = np.array([0.2, 0.6, 0.4, 0.6, 0.2, 0.45, 0.45, 0.2, 0.9, 0.2])
    probabilities, edges = np.stack([p, np.full(10, 0.25)], 1), np.arange(11.0)
    options = {"labels": ("a", "none"), "ignored": ("none",)}
    found = find_segments(probabilities, edges, high=0.5, low=0.3, shortest=0, **options)
    assert [(one.start, one.end) for one in found] == [(1, 4), (8, 9)]  # 5 to 7 never reaches 0.5
    assert found[0].score == pytest.approx((0.6 + 0.4 + 0.6) / 3)
    found = find_segments(probabilities, edges, high=0.5, low=0.5, shortest=2, **options)
    assert [(one.start, one.end) for one in found] == [(1, 4)]  # the gap is closed, the single bin dropped
    assert find_segments(probabilities, edges, high=0.95, low=0.3, shortest=0, **options) == []


def test_scores_agree_with_counts_by_hand() -> None:
    truth = {"x": [Segment(0, 4, "a"), Segment(5, 9, "b")]}
    found = {
        "x": [Segment(0, 2, "a", 0.9), Segment(2, 4, "a", 0.8), Segment(5, 9, "a", 0.7)],
        "y": [Segment(0, 1, "a")],
    }
    assert overlap(Segment(0, 2, "a"), Segment(1, 4, "a")) == pytest.approx(1 / 4)
    assert average_precision(found, truth, "a", 0.5) == pytest.approx(1.0)
    assert average_precision(found, truth, "a", 0.6) == 0
    scores = score_segments(found, truth, {"x": 10.0})
    assert scores.frame_accuracy == pytest.approx(60, abs=1)
    assert scores.f1[0.5] == pytest.approx(100 * 2 * 1 / 5)
    assert scores.map[0.5] == pytest.approx(50)
    assert (scores.recordings, scores.segments) == (1, 2)


def test_skeletons_need_a_clock(tmp_path: Path) -> None:
    recipe = tiny_recipe(write_recordings(tmp_path / "data"), epochs=1)
    predictor = Predictor(train(recipe, tmp_path / "run").path)
    short = predictor.read(next((tmp_path / "data").iterdir()))
    frames = torch.arange(90) % len(short)
    long = SkeletonSequence(short.joints[frames], short.present[frames])
    timeline = TimelinePredictor(predictor, TimelineConfig(window=0.5, hop=0.1, fps=15))(long)
    assert timeline.duration == pytest.approx(6.0)
    assert len(timeline.probabilities) == 60
    np.testing.assert_allclose(timeline.probabilities.sum(1), 1, atol=1e-5)
    assert TimelinePredictor(predictor).config.window == pytest.approx(predictor.training_durations.median / 30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0.6, "high": 0.5}, "low = 0.6"),
        ({"window": -1.0}, "a negative time"),
        ({"batch": 0}, "less than 1"),
        ({"fps": float("inf")}, "endless"),
        ({"hop": 1e-7}, "hop = 1e-07"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        TimelineConfig(**options)


def test_an_unknown_class_to_ignore_is_refused(run: Path) -> None:
    with pytest.raises(RecipeError, match="no class 'noon'"):
        TimelinePredictor(Predictor(run), TimelineConfig(ignored=("noon",)))


def example() -> Timeline:
    segments = (Segment(0.5, 61.25, 'say "hi" & <wave>', 0.75), Segment(3661.0, 3662.5, "b", 1.0))
    return Timeline("film.mp4", ("a",), np.array([0.0, 4000.0]), np.ones((1, 1)), segments, 2.0, 0.5)


def test_formats_are_read_back() -> None:
    rows = [json.loads(line) for line in FORMATS["jsonl"]([example()]).splitlines()]
    assert rows[0] == {"path": "film.mp4", "start": 0.5, "end": 61.25, "label": 'say "hi" & <wave>', "score": 0.75}
    table = list(csv.DictReader(io.StringIO(FORMATS["csv"]([example()]))))
    assert [row["label"] for row in table] == ['say "hi" & <wave>', "b"]
    vtt = FORMATS["vtt"]([example()])
    assert vtt.startswith('WEBVTT\n\n00:00:00.500 --> 00:01:01.250\nsay "hi" &amp; &lt;wave> 75%\n')
    assert "\n\n2\n01:01:01,000 --> 01:01:02,500\nb 100%\n" in FORMATS["srt"]([example()])
    assert json.loads(FORMATS["activitynet"]([example()]))["results"]["film"][1]["segment"] == [3661.0, 3662.5]
    with pytest.raises(DataError, match="subtitles of 2 recordings"):
        FORMATS["vtt"]([example(), example()])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,start,end\nx,0,1\n", "names no label"),
        ("path,start,end,label\nx,0,1,a\nx,zero,1,a\n", "line 3 has the start 'zero'"),
        ("path,start,end,label\nx,2,1,a\n", "line 2: the span starts at 2 s and ends at 1 s"),
    ],
)
def test_wrong_tables_of_segments_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "truth.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_segments(tmp_path / "truth.csv")


def test_what_cannot_end_well_is_refused_before_the_work(run: Path, film: Path, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("path,start,end,label\nother.mp4,0,1,dawn\n")
    broken = tmp_path / "broken.mp4"
    broken.write_text("would be listed if it was read")
    for words, message in (
        (["--format", "srt"], "subtitles of 2 recordings"),
        (["--out", str(tmp_path / "none" / "out.jsonl")], "there is no folder"),
        (["--out", str(tmp_path)], "it is a folder"),
        (["--truth", str(tmp_path / "truth.csv")], "no recording is in the table"),
    ):
        result = CliRunner().invoke(app, ["timeline", str(run), str(broken), str(film), *words])
        assert message in str(result.exception)
        assert not result.output


def test_recordings_of_one_name_and_of_any_name(run: Path, film: Path, tmp_path: Path) -> None:
    names = ["x/film.mp4", "y/film.mp4", os.fsdecode(b"y/\xff,\r\n.mp4")]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(film, tmp_path / name)
    pictures, low = tmp_path / "pictures", ["--low", "0", "--high", "0", "--shortest", "0"]
    words = ["timeline", str(run), str(tmp_path / "x"), str(tmp_path / "y"), *low, "--pictures", str(pictures)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert {json.loads(line)["path"] for line in result.stdout.splitlines()} == {str(tmp_path / name) for name in names}
    assert len(list(pictures.iterdir())) == 3
    out = tmp_path / "out"
    for kind in ("csv", "activitynet"):
        result = CliRunner().invoke(app, [*words, "--format", kind, "--out", str(out)])
        assert result.exit_code == 0, result.output
        text = out.read_text()
        assert len(list(csv.reader(io.StringIO(text))) if kind == "csv" else json.loads(text)["results"]) > 2


def test_nothing_found_and_unknown_labels_are_said(run: Path, film: Path, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("path,start,end,label\nfilm,0,1,noon\n")
    words = ["timeline", str(run), str(film), "--high", "1", "--truth", str(tmp_path / "truth.csv")]
    with pytest.warns(MuybridgeWarning, match="no class 'noon'"):
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "no segments; the highest probability is" in result.stderr


def test_recordings_without_labels_are_said(run: Path, film: Path, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("path,start,end,label\nfilm,0,1,dawn\n")
    other = str(shutil.copy(film, tmp_path / "other.mp4"))
    with pytest.warns(MuybridgeWarning, match=r"no labelled segments of 1 of 2 recordings \(.*other.mp4\)"):
        result = CliRunner().invoke(
            app, ["timeline", str(run), str(film), other, "--truth", str(tmp_path / "truth.csv")]
        )
    assert "in 1 recording\n" in result.stderr


def test_no_segment_is_missing_in_the_picture(tmp_path: Path) -> None:
    labels = tuple(f"class {index}" for index in range(12))
    segments = tuple(Segment(index, index + 1 + (index > 9) / 2, label) for index, label in enumerate(labels))
    timeline = Timeline("film.mp4", labels, np.arange(13.0), np.full((12, 12), 1 / 12), segments, 2.0, 1.0)
    shown = viz._classes(timeline)
    assert len(shown) == 8
    assert {"class 10", "class 11"} <= set(shown)
    axes = viz.new_figure(4.0, 4.0).subplots()
    viz._draw_segments(axes, timeline, shown, dict.fromkeys(shown, "red"))
    assert len(axes.collections) == 12
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [*shown, "4 other classes"]


def test_the_command(run: Path, film: Path, tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text(
        "path,start,end,label\n" + "".join(f"film.mp4,{i},{i + 1},{('dawn', 'dusk')[i % 2]}\n" for i in range(4))
    )
    (tmp_path / "broken.mp4").write_text("no video")
    options = ["--window", "0.75", "--hop", "0.25", "--pictures", str(tmp_path / "pictures")]
    truth = ["--truth", str(tmp_path / "truth.csv")]
    result = CliRunner().invoke(app, ["timeline", str(run), str(film), *options, *truth])
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert {row["label"] for row in rows} == {"dawn", "dusk"}
    assert [row["start"] for row in rows] == sorted(row["start"] for row in rows)
    assert "segment F1" in result.stderr
    assert "4 labelled segments in 1 recording\n" in result.stderr
    with Image.open(tmp_path / "pictures" / "film.png") as picture:
        assert picture.width > 1000
    out = ["--format", "csv", "--out", str(tmp_path / "segments.csv")]
    result = CliRunner().invoke(app, ["timeline", str(run), str(tmp_path / "broken.mp4"), str(film), *options, *out])
    assert result.exit_code == 2
    assert "1 of 2 recordings failed" in result.stderr
    assert len((tmp_path / "segments.csv").read_text().splitlines()) == len(rows) + 1
