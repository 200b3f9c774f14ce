"""Several runs written as one: its answers are the weighted mean of theirs, wherever a run is used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.contracts import ClipData, ClipInput
from muybridge.core.errors import RunError
from muybridge.engine.calibration import Calibration
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.ensemble import make_ensemble
from muybridge.engine.evaluate import evaluate
from muybridge.engine.fuse import align, fuse
from muybridge.engine.train import train
from muybridge.models import DRNNConfig, EnsembleConfig, TSNConfig
from muybridge.predict import Predictor
from muybridge.timeline import LivePredictor
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[RunFolder]:
    root = tmp_path_factory.mktemp("runs")
    data = write_recordings(root / "data")
    made = [train(tiny_recipe(data, epochs=2, seed=seed), root / f"seed{seed}") for seed in range(2)]
    for run in made:
        evaluate(run)
    return made


def test_it_tests_as_the_fusion_of_its_runs(runs: list[RunFolder], tmp_path: Path):
    arguments = [str(run.path) for run in runs]
    done = CliRunner().invoke(app, ["fuse", *arguments, "--weights", "1,3", "--out", str(tmp_path / "both")])
    assert done.exit_code == 0, done.output
    assert "predict" in done.stdout
    both = RunFolder.open(tmp_path / "both")
    assert evaluate(both).top1 == fuse(runs, [1, 3]).top1
    aligned, own = align(runs), align([both])
    expected = (aligned.probabilities[0] + 3 * aligned.probabilities[1]) / 4
    torch.testing.assert_close(own.probabilities[0], expected, atol=2e-3, rtol=0)  # bfloat16 by default
    assert both.split() is not None
    assert both.recipe().model.name == "ensemble"


def test_its_answer_is_the_mean_wherever_it_is_asked(tmp_path: Path):
    videos = write_videos(tmp_path / "videos")
    made = [train(tiny_clip_recipe(videos, epochs=1, seed=seed), tmp_path / f"seed{seed}") for seed in range(2)]
    made[0].write_calibration(Calibration(2.5, None, 9.0, 3.0, None, None, 40))
    both = make_ensemble(made, tmp_path / "both")
    file = sorted(videos.rglob("*.mp4"))[0]
    answers = [Predictor(run.path)(file) for run in made]
    scores = [dict(zip(answer.labels, answer.scores, strict=True)) for answer in answers]
    answer = Predictor(both.path)(file)
    for label, score in zip(answer.labels, answer.scores, strict=True):
        np.testing.assert_allclose(score, (scores[0][label] + scores[1][label]) / 2, atol=1e-4)
    live = LivePredictor(Predictor(both.path), 1.0, top=2)
    for number in range(6):
        live.push(np.full((40, 48, 3), 40 + 20 * number, np.uint8), number / 12)
    assert live.answer() is not None


def test_two_streams_take_frames_and_their_flow():
    small = {"backbone": "resnet10", "frames": 3, "size": 64, "hidden": 6, "attention_width": 5, "pretrained": False}
    appearance = {"name": "video_lstm", **small, "architecture": "conv_alstm", "mean": (0.1,), "std": (0.25,)}
    motion = {"name": "video_lstm", **small, "architecture": "conv_alstm", "stream": "motion"}
    for members in ((appearance, motion), (motion, appearance)):
        config = EnsembleConfig.model_validate({"members": members})
        takes = config.takes()
        assert isinstance(takes, ClipInput)
        assert (takes.pixels, takes.flow, takes.mean) == (True, True, (0.1,))
    model = config.build(5, ClipData(1)).eval()
    inputs = {"video": torch.rand(2, 3, 1, 64, 64), "flow": torch.rand(2, 3, 2, 64, 64)}
    parts = [model.members[0](flow=inputs["flow"]), model.members[1](video=inputs["video"])]
    expected = sum(part.logits.softmax(1) for part in parts) / 2
    torch.testing.assert_close(model(**inputs).logits.exp(), expected)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"members": (DRNNConfig(), TSNConfig())}, "member 2 reads recordings in another way"),
        ({"members": (TSNConfig(), TSNConfig(segments=4))}, "member 2 reads recordings in another way"),
        ({"members": (DRNNConfig(),)}, "at least 2 items"),
        ({"weights": (1.0,)}, "weights has 1 numbers, and there are 2 members"),
        ({"weights": (0.0, 0.0)}, "all weights are 0"),
        ({"temperatures": (1.0, 1.0, 1.0)}, "temperatures has 3 numbers"),
    ],
)
def test_what_cannot_be_an_ensemble_is_refused(settings: dict[str, object], problem: str):
    with pytest.raises(ValidationError, match=problem):
        EnsembleConfig.model_validate(settings)


def test_runs_that_cannot_be_one_are_refused(runs: list[RunFolder], tmp_path: Path):
    with pytest.raises(RunError, match="a single run"):
        make_ensemble(runs[:1], tmp_path / "one")
    with pytest.raises(RunError, match="already contains a run"):
        make_ensemble(runs, runs[0].path)
    videos = train(tiny_clip_recipe(write_videos(tmp_path / "videos"), epochs=1), tmp_path / "light")
    with pytest.raises(RunError, match="the run has other classes"):
        make_ensemble([runs[0], videos], tmp_path / "mixed")
    once = make_ensemble(runs, tmp_path / "once")
    with pytest.raises(RunError, match="ensemble cannot be a member of an ensemble"):
        make_ensemble([once, runs[0]], tmp_path / "twice")
    file = tmp_path / "other.csv"
    file.write_text((runs[0].path / "test-predictions.csv").read_text())
    done = CliRunner().invoke(app, ["fuse", str(runs[0].path), str(file), "--out", str(tmp_path / "tool")])
    assert isinstance(done.exception, RunError)
    assert "predictions of another tool, which has no network here" in str(done.exception)
    assert not (tmp_path / "tool").exists()
