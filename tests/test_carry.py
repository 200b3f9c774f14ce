"""Answers to a stream by recurrent networks, whose state is carried: equal to those for the stretch at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.measure import untrained_run
from muybridge.media.frame_array import ArrayVideo
from muybridge.predict import Predictor
from muybridge.timeline import LivePredictor
from muybridge.timeline.carry import CarriedPast, ClipPast
from muybridge.timeline.past import WindowPast

FPS = 10
STA_LSTM: dict[str, Any] = {"name": "sta_lstm", "hidden": 5, "layers": 1, "attention_size": 4, "init_std": 0.3}
DRNN: dict[str, Any] = {"name": "drnn", "hidden": 5, "features": ["movement", "travel"], "body_size": "so far"}
VIDEO: dict[str, Any] = {
    "name": "video_lstm",
    "architecture": "conv_lstm",
    "backbone": "resnet10",
    "frames": 6,
    "size": 32,
    "hidden": 4,
    "head_width": 5,
}
VIDEOS: dict[str, Any] = {"name": "video_list", "root": ".", "classes": ["a", "b", "c"]}
KINDS = (
    "nothing",
    "one is away",
    "a joint is lost",
    "three are seen",
    "nobody is seen",
    "a second one comes",
    "joints are lost in the end",
    "the second one leaves",
    "nobody at first",
)


def predictor_of(folder: Path, model: dict[str, Any], view: dict[str, Any] | None = None) -> Predictor:
    data = VIDEOS if model["name"] == "video_lstm" else {"name": "sbu", "root": str(folder)}
    return Predictor(untrained_run(folder / "run", model, data, view), "cpu")


def two_people(frames: int) -> list[np.ndarray]:
    """Joints of two people who wander; the second is as tall as the first."""
    rng = np.random.default_rng(0)
    steps = rng.normal(scale=0.05, size=(frames, 2, 15, 3)).cumsum(0)
    return [*(rng.normal(size=(1, 2, 15, 3)) + steps)]


def disturbed(kind: str) -> list[np.ndarray]:
    """A stream of joints in which something happens from frame 8 on."""
    stream = two_people(30)
    for frame in range(8, 18 if kind == "three are seen" else 12):
        if kind == "a joint is lost":
            stream[frame][0, 3] = np.nan
        elif kind == "one is away":
            stream[frame] = stream[frame][:1]
        elif kind == "nobody is seen":
            stream[frame] = stream[frame][:0]
        elif kind == "three are seen":
            lost = np.full((1, 15, 3), np.nan)  # the third one is then seen more often than the second
            stream[frame] = np.concatenate([stream[frame][:1], lost, stream[frame][1:]])
    if kind == "a second one comes":
        stream = [joints[:1] if number < 10 else joints for number, joints in enumerate(stream)]
    if kind == "joints are lost in the end":
        for frame in range(21, 30):
            stream[frame][1, frame % 15] = np.nan
    if kind == "the second one leaves":
        stream = [joints if number < 12 else joints[:1] for number, joints in enumerate(stream)]
    if kind == "nobody at first":
        stream = [joints if number > 3 else joints[:0] for number, joints in enumerate(stream)]
    return stream


@pytest.mark.parametrize(
    "model",
    [
        DRNN | {"smooth": True},
        STA_LSTM | {"smooth": True, "center": "people", "face_partner": True, "face_camera": False},
        STA_LSTM | {"smooth": False, "center": "frame", "features": ["position", "movement"], "body_size": "so far"},
        DRNN | {"max_frames": 9, "pooling": "energy", "face_camera": True},
    ],
    ids=["smoothed movement", "towards the partner", "not smoothed", "few frames"],
)
def test_every_answer_is_that_for_its_frames_at_once(tmp_path: Path, model: dict[str, Any]):
    predictor = predictor_of(tmp_path, model)
    for kind in KINDS if model.get("smooth") else KINDS[::3]:
        live = LivePredictor(predictor, 1.4, fps=FPS, top=8)
        assert not live.needs_window
        counts = [check_answer(live, joints, number, kind) for number, joints in enumerate(disturbed(kind))]
        most = model.get("max_frames") or 14
        assert max(counts) == most
        assert min(counts[most + 4 :]) == most // 2


def check_answer(live: LivePredictor, joints: np.ndarray, number: int, kind: str) -> int:
    """Push a frame; compare the answer with that of a window of the same frames; how many frames these are."""
    assert not live.push(joints, number / FPS)
    past, answer = live._past, live.answer()
    assert isinstance(past, CarriedPast)
    if answer is None:
        assert len(past.frames) < 2
        return len(past.frames)
    window = WindowPast(live.predictor, 99.0)
    for frame, seconds in zip(past.frames, past.seconds, strict=True):
        window.push(frame, seconds)
    by_label = dict(zip(answer.prediction.labels, answer.prediction.scores, strict=True))
    scores = [by_label[label] for label in live.predictor.labels]
    expected = window.scores()
    assert expected is not None
    np.testing.assert_allclose(scores, expected, atol=1e-5, err_msg=f"{kind}, frame {number}")
    assert (answer.frames, answer.seconds) == (len(past.frames), number / FPS)
    return answer.frames


def test_an_answer_costs_few_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    predictor = predictor_of(tmp_path, DRNN | {"smooth": True})
    live = LivePredictor(predictor, 60.0, fps=FPS)
    past, given = live._past, list[int]()
    assert isinstance(past, CarriedPast)
    advance = past.steps.advance

    def counted(inputs: dict[str, Tensor], state: Any) -> Any:
        given.append(inputs["joints"].shape[1])
        return advance(inputs, state)

    monkeypatch.setattr(past.steps, "advance", counted)
    for number, joints in enumerate(two_people(30)):
        given.clear()
        live.push(joints, number / FPS)
        live.answer()
        if number > 5:
            assert given == [1, 2]  # a frame that is smoothed for good, and the last two


@pytest.mark.parametrize(
    ("model", "view", "reason"),
    [
        (STA_LSTM | {"unit_scale": True}, None, "model.unit_scale = true"),
        (DRNN | {"body_size": "recording"}, None, 'model.body_size = "recording"'),
        (VIDEO | {"initial_state": "mean"}, {"mode": "clips"}, 'model.initial_state = "mean"'),
        (VIDEO, {"mode": "uniform"}, 'view.mode = "uniform"'),
        (VIDEO, {"mode": "clips", "crops": "three"}, "view.crops"),
    ],
)
def test_what_needs_the_whole_window_says_why(
    tmp_path: Path, model: dict[str, Any], view: dict[str, Any] | None, reason: str
):
    live = LivePredictor(predictor_of(tmp_path, model, view), 1.0)
    assert reason in live.needs_window
    assert live.hop == 0.25
    assert isinstance(live._past, WindowPast)


@pytest.mark.parametrize(
    ("model", "stride"), [(VIDEO, 1), (VIDEO | {"stream": "motion"}, 2), (VIDEO | {"architecture": "lstm"}, 3)]
)
def test_frames_of_a_video_are_encoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any], stride: int
):
    predictor = predictor_of(tmp_path, model, {"mode": "clips", "clips": 2, "stride": stride})
    live = LivePredictor(predictor, 60.0, fps=FPS, top=3)
    past, encoded = live._past, list[int]()
    assert isinstance(past, ClipPast)
    encode, flow = past.steps.encode, model.get("stream") == "motion"

    def counted(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        encoded.extend(value.shape[1] for value in inputs.values())
        return encode(inputs)

    monkeypatch.setattr(past.steps, "encode", counted)
    rng, frames = np.random.default_rng(0), 6 * stride + 8
    light = rng.integers(0, 256, (frames, 40, 40, 3), np.uint8)
    counts = []
    for number, frame in enumerate(light):
        live.push(frame, number / FPS)
        answer = live.answer()
        counts.append(len(live))
        if answer is None:
            continue
        numbers = range(0, len(past.frames) - flow, stride)
        inputs = predictor.prepare.frames(_video(past), list(numbers))  # type: ignore[union-attr]
        with torch.inference_mode():
            logits = predictor.model(**{name: value[None] for name, value in inputs.items()}).logits
        expected = dict(zip(predictor.labels, logits.softmax(1)[0].tolist(), strict=True))
        got = dict(zip(answer.prediction.labels, answer.prediction.scores, strict=True))
        assert got == pytest.approx(expected, abs=1e-5)
    assert max(counts) == 6 * stride
    assert sum(encoded) == -(-(frames - flow) // stride)


def _video(past: ClipPast) -> Any:
    return ArrayVideo(np.stack([*past.frames, past.frames[-1]]))


def test_a_jump_begins_anew(tmp_path: Path):
    live = LivePredictor(predictor_of(tmp_path, STA_LSTM), 2.0, fps=FPS, top=8)
    for number, joints in enumerate(two_people(12)):
        live.push(joints, number / FPS)
        live.answer()
    assert "the time jumps" in live.push(two_people(1)[0], 9.0)
    assert live.answer() is None
    check_answer(live, two_people(2)[1], 91, "after a jump")
