"""Where the time goes: steps add up, and the step that is slowed down is named."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from muybridge import cli
from muybridge.engine.bench import STEPS, bench
from muybridge.media.video import Video
from muybridge.models.base import Model
from muybridge.recipe import save_recipe
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos


class Clock:
    """Stands still, except for a millisecond per reading and for the time slept."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        self.now += 1e-3
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What `bench` takes the time from, so that a busy machine changes nothing."""
    clock = Clock()
    monkeypatch.setattr("muybridge.engine.bench.time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"))


def test_slow_decoding_is_measured_and_named(root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    read = Video.read

    def slow_call(self: Video, *words, **options):
        clock.sleep(0.2)
        return read(self, *words, **options)

    monkeypatch.setattr(Video, "read", slow_call)
    report = bench(tiny_clip_recipe(root, batch_size=4), recordings=4, steps=3)
    assert tuple(report.steps) == STEPS
    assert report.steps["decode"].median == pytest.approx(201)
    assert report.steps["decode"].p95 == pytest.approx(201)
    assert report.steps["open"].median == pytest.approx(1)
    assert report.bottleneck == "decode"
    assert "train.num_workers" in report.advice
    assert report.waiting > 0.99
    assert report.per_second == pytest.approx(5, rel=0.02)


def test_a_slow_model_is_named(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    losses = Model.losses

    def slow_call(self: Model, *words, **options):
        clock.sleep(0.5)
        return losses(self, *words, **options)

    monkeypatch.setattr(Model, "losses", slow_call)
    report = bench(tiny_recipe(write_recordings(tmp_path)), recordings=4, steps=2)
    assert report.bottleneck == "model"
    assert report.waiting < 0.5


def test_the_command_prints_a_table_or_json(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    save_recipe(tiny_clip_recipe(root), tmp_path / "mine.toml")
    words = ["muybridge", "bench", str(tmp_path / "mine.toml"), "--recordings", "2", "--steps", "1"]
    for more in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", words + more)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
    out = capsys.readouterr().out
    table, brace, rest = out.partition("{")
    assert all(step in table for step in (*STEPS, "recordings/s", "bottleneck"))
    assert json.loads(brace + rest)["steps"].keys() == set(STEPS)
