"""Windows that share segments: equal to windows that are computed as a whole, with each segment computed once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.measure import untrained_run
from muybridge.predict import Predictor
from muybridge.timeline import LivePredictor, TimelineConfig, TimelinePredictor
from muybridge.timeline import reuse as reusing
from muybridge.timeline import timeline as timelines
from muybridge.timeline.past import WindowPast
from muybridge.timeline.reuse import SegmentReuse, reuse_of

VIDEOS: dict[str, Any] = {"name": "video_list", "root": ".", "classes": ["a", "b", "c"]}
SMALL = {"backbone": "resnet10", "width": 8, "segments": 4, "size": 32}
TSN = {"name": "tsn", "stages": 2, **SMALL}
TDN = {"name": "tdn", "frames_per_segment": 3, "stages": 3, **SMALL}
VIDEO_LSTM = {"name": "video_lstm", "backbone": "resnet10", "frames": 4, "size": 32, "hidden": 4, "head_width": 5}
FLOW = VIDEO_LSTM | {"architecture": "conv_lstm", "stream": "motion"}
DRNN = {"name": "drnn", "input": "video", "features": "hog3d", "steps": 3, "hidden": 5, "size": 24}
HOG3D = {"cells": (1, 2, 2), "blocks": 2}

RNG = np.random.default_rng(0)
FILM = (RNG.random((75, 34, 40, 3)) * RNG.integers(20, 256, (75, 1, 1, 3))).astype(np.uint8)
"""2.5 seconds of colors that change from frame to frame."""


def predictor_of(folder: Path, model: dict[str, Any], view: dict[str, Any] | None = None) -> Predictor:
    predictor = Predictor(untrained_run(folder / "run", model, VIDEOS, view), "cpu")
    with torch.no_grad():  # random networks whose last norms are zero would not see the video
        for name, value in predictor.model.named_parameters():
            if name.endswith("norm.weight") and not value.any():
                value.fill_(0.5)
            elif name.endswith("classifier.weight"):
                value.normal_(std=50.0 if "recurrent" in name else 1.0)
    return predictor


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many segments were computed, in each part that was."""
    counts: list[int] = []
    add = SegmentReuse._add

    def counted(self: SegmentReuse, segments: list[Any], frames: list[dict[str, Tensor]]) -> None:
        counts.append(len(segments))
        add(self, segments, frames)

    monkeypatch.setattr(SegmentReuse, "_add", counted)
    return counts


@pytest.mark.parametrize(
    ("model", "view", "least"),
    [
        # 22 windows of 12 frames, every three of them: three of four segments are those of the window before.
        (TSN, None, 28),
        (TSN | {"shift": True}, {"clips": 2}, 51),
        (TDN, None, 68),
        (
            {"name": "selfy", **SMALL, "shift": False, "similarity_stages": [3], "stages": 2, "window": [3, 3, 3]},
            None,
            28,
        ),
        (VIDEO_LSTM | {"architecture": "conv_alstm"}, {"mode": "clips"}, 68),
        (FLOW, {"mode": "uniform"}, 68),
        (DRNN | {"hog3d": HOG3D}, {"mode": "windows"}, 65),
    ],
    ids=["tsn", "tsm, two clips", "tdn", "selfy", "video_lstm", "flow", "drnn"],
)
def test_a_timeline_of_shared_segments(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    computed: list[int],
    model: dict[str, Any],
    view: dict[str, Any] | None,
    least: float,
):
    predictor = predictor_of(tmp_path, model, view)
    timelines_of = TimelinePredictor(predictor, TimelineConfig(window=0.4, hop=0.1, batch=3))
    shared = timelines_of(FILM).probabilities
    assert 0 < sum(computed) <= least
    monkeypatch.setattr(timelines, "reuse_of", lambda predictor: None)
    alone = timelines_of(FILM).probabilities
    np.testing.assert_allclose(shared, alone, atol=1e-5)
    assert np.ptp(alone, axis=0).max() > 1e-3  # windows differ


@pytest.mark.parametrize("most", [2**28, 1], ids=["kept", "forgotten"])
def test_a_stream_computes_each_segment_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int], most: int
):
    monkeypatch.setattr(reusing, "MOST_BYTES", most)
    predictor = predictor_of(tmp_path, TSN)
    live = LivePredictor(predictor, 0.5, top=3)
    assert isinstance(live._past, WindowPast)
    for number, frame in enumerate(FILM[:40]):
        live.push(frame, number / 30)
        answer = live.answer()
        if answer is None or number % 7:
            continue
        with torch.inference_mode(), predictor.open(np.stack(live._past.frames)) as (opened, _):
            expected = predictor.scores(predictor.prepare(opened)[0])
        got = dict(zip(answer.prediction.labels, answer.prediction.scores, strict=True))
        np.testing.assert_allclose([got[label] for label in predictor.labels], expected, atol=1e-5)
    settled = computed[20:]
    assert max(settled) == (1 if most > 1 else 4)


def test_after_a_jump_nothing_is_known(tmp_path: Path, computed: list[int]):
    live = LivePredictor(predictor_of(tmp_path, TSN), 0.5)
    for seconds in (0.0, 0.1, 90.0, 90.1):
        live.push(FILM[0] + int(seconds), seconds)
        live.answer()
    assert computed == [1, 1]  # a video of fewer frames than segments is its first frame


@pytest.mark.parametrize(
    ("model", "view"),
    [
        (TSN, {"crops": "three"}),
        (TDN | {"long_stages": (2, 3), "short_stages": 2}, None),
        ({"name": "linear", "statistics": "frames"}, None),
    ],
)
def test_what_cannot_be_shared(tmp_path: Path, model: dict[str, Any], view: dict[str, Any] | None):
    assert reuse_of(predictor_of(tmp_path, model, view)) is None
