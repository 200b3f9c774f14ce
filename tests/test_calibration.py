"""Calibrated probabilities, and "none of these" below a threshold."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import muybridge
from muybridge.cli import app
from muybridge.cli.tables import describe_calibration
from muybridge.core.errors import DataError, RecipeError, RunError
from muybridge.engine.calibrate import calibrate
from muybridge.engine.calibration import Calibration, choose_threshold, fit_calibration, reliability
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.train import train
from muybridge.predict import Predictor
from muybridge.timeline import TimelineConfig, TimelinePredictor
from muybridge.viz.report import collect
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of skeletons with a validation part."""
    root = tmp_path_factory.mktemp("calibration")
    recipe = tiny_recipe(write_recordings(root / "data"), epochs=4)
    return train(recipe.with_settings({"data.val_groups": ["s03"]}), root / "run").path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """The run, in a folder that the test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def recordings(run: Path) -> list[Path]:
    return [record.path for record in RunFolder.open(run).recipe().data.index("test").records]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_found(temperature: float) -> None:
    rng = torch.Generator().manual_seed(0)
    true = torch.randn(20_000, 5, generator=rng) * 2
    labels = torch.multinomial(true.softmax(1), 1, generator=rng)[:, 0]
    found = fit_calibration((true * temperature).log_softmax(1), labels)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.error_after < 1.5
    assert temperature == 1.0 or found.error_after < found.error_before / 3


def test_a_few_recordings_that_are_all_right_make_nothing_certain() -> None:
    found = fit_calibration(torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]]).log_softmax(1), torch.tensor([0, 1, 0]))
    assert found.temperature > 1
    assert found.refused is None
    assert found.reject is not None
    assert 0.8 < found.reject < 0.9  # the rule of succession, 1 - 1/(N+1)/K


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=12, max_size=12), st.floats(0.05, 20))
def test_the_order_of_the_classes_stays_and_probabilities_sum_to_one(scores: list[float], temperature: float) -> None:
    rows = torch.tensor(scores, dtype=torch.float64).reshape(3, 4).log_softmax(1)
    after = Calibration(temperature, None, 0, 0, None, None, 1).apply(rows)
    torch.testing.assert_close(after.exp().sum(1), torch.ones(3, dtype=torch.float64))
    for before, row in zip(rows, after, strict=True):
        assert (row.diff() * before.diff() >= -1e-12).all()


def test_the_threshold_keeps_what_is_right() -> None:
    right = np.ones(100, bool)
    best = np.linspace(0.01, 1, 100)
    threshold = choose_threshold(best, right)
    assert threshold is not None
    assert (best >= threshold).mean() >= 0.95
    assert (best >= threshold + 0.01).mean() < 0.96
    assert choose_threshold(best, ~right) is None
    nothing = fit_calibration(torch.tensor([[0.9, 0.1]]).log(), torch.tensor([1]))
    assert (nothing.reject, nothing.kept, nothing.refused) == (None, None, None)


def test_every_use_of_a_run_is_calibrated(run: Path) -> None:
    path = recordings(run)[0]
    plain = Predictor(run, "cpu")
    before = plain(path, top=20)
    windows = TimelinePredictor(plain, TimelineConfig(window=0.2, hop=0.1))(path)
    result = CliRunner().invoke(app, ["test", str(run), "--calibrate"])
    assert result.exit_code == 0, result.output
    assert "calibrated on 12 recordings of val: temperature" in result.stderr
    assert "before the temperature of" in result.stdout.replace("\n", " ")
    content = json.loads((run / "calibration.json").read_text())
    temperature = content["temperature"]
    assert temperature != 1.0
    predictor = Predictor(run, "cpu")
    after = predictor(path, top=20)
    assert after.labels == before.labels
    expected = (torch.tensor(before.scores).double().log() / temperature).softmax(0)
    np.testing.assert_allclose(after.scores, expected, atol=1e-5)
    assert predictor.batch([path], top=20)[0].scores == pytest.approx(after.scores, abs=1e-6)
    again = TimelinePredictor(predictor, TimelineConfig(window=0.2, hop=0.1))(path)
    assert np.abs(again.probabilities - windows.probabilities).max() > 1e-4
    facts = collect(run)
    assert facts.calibration is not None
    np.testing.assert_allclose(facts.probabilities[0], _in_order(after, run), atol=1e-5)
    written = json.loads((run / "test.json").read_text())["calibration"]
    assert written["temperature"] == temperature
    assert written["error_after"] == pytest.approx(reliability(facts.probabilities, facts.truth).error, abs=0.01)
    printed = CliRunner().invoke(app, ["predict", str(run), str(path)])
    assert "probabilities are calibrated: temperature" in printed.stderr


def _in_order(answer: muybridge.core.types.Prediction, run: Path) -> list[float]:
    scores = dict(zip(answer.labels, answer.scores, strict=True))
    return [scores[label] for label in RunFolder.open(run).labels()]


def test_the_test_part_is_not_looked_at(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from muybridge.engine import calibrate as module

    asked: list[str] = []
    original = module.predict_part
    monkeypatch.setattr(
        module, "predict_part", lambda run, split, *a, **k: (asked.append(split), original(run, split, *a, **k))[1]
    )
    first = calibrate(RunFolder.open(run))
    assert asked == ["val"]
    assert calibrate(RunFolder.open(run)) == first  # of the uncalibrated probabilities again, and not on top


def test_a_report_tests_again_after_calibration(run: Path) -> None:
    evaluate(RunFolder.open(run))
    before = collect(run)
    calibrate(RunFolder.open(run))
    after = collect(run)
    assert np.abs(after.probabilities - before.probabilities).max() > 1e-4
    stamp = (run / "test.json").stat().st_mtime_ns
    collect(run)
    assert (run / "test.json").stat().st_mtime_ns == stamp


def test_none_of_these(run: Path, tmp_path: Path) -> None:
    path = recordings(run)[0]
    score = Predictor(run, "cpu")(path).scores[0]
    assert Predictor(run, "cpu")(path).rejected is None
    assert Predictor(run, "cpu")(path).label == Predictor(run, "cpu")(path).labels[0]
    kept, refused = (muybridge.load(run, "cpu", reject=score + step)(path) for step in (-0.01, 0.01))
    assert (kept.rejected, refused.rejected) == (False, True)
    assert (kept.label, refused.label) == (kept.labels[0], "none of these")
    assert "none of these" in repr(refused)
    assert kept.as_dict(1) == {
        "path": str(path),
        "label": kept.labels[0],
        "score": round(score, 6),
        "rejected": False,
        "top": [{"label": kept.labels[0], "score": round(score, 6)}],
    }
    words = ["predict", str(run), str(path), "--device", "cpu", "--reject", f"{score + 0.01}"]
    result = CliRunner().invoke(app, words)
    assert result.stdout.splitlines()[1].startswith("  none of these (below ")
    result = CliRunner().invoke(app, [*words, "--json"])
    answer = json.loads(result.stdout)
    assert (answer["label"], answer["rejected"], answer["top"][0]["label"]) == ("none of these", True, kept.labels[0])
    CliRunner().invoke(app, [*words, "--csv", str(tmp_path / "a.csv"), "--top", "1"])
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == f"{path},none of these,{score:.6f}"


def test_the_threshold_of_the_calibration(run: Path) -> None:
    with pytest.raises(RunError, match=r"the run has no threshold\. .*muybridge test .* --calibrate"):
        Predictor(run, "cpu", reject="auto")
    calibration = calibrate(RunFolder.open(run))
    assert Predictor(run, "cpu", reject="auto").reject == calibration.reject
    RunFolder.open(run).write_calibration(Calibration(1.0, None, 0, 0, None, None, 3))
    with pytest.raises(RunError, match=r"no recording of the validation part is answered correctly"):
        Predictor(run, "cpu", reject="auto")
    few, many = (describe_calibration(Calibration(1.0, 0.5, 0, 0, 1.0, None, count)) for count in (3, 50))
    assert "3 recordings are few" in few[1]
    assert not any("few" in line for line in many)
    for wrong in (1.5, -0.1, float("nan"), "often"):
        with pytest.raises(RecipeError, match=r"the threshold .*Expected a probability from 0 to 1"):
            Predictor(run, "cpu", reject=wrong)  # pyright: ignore[reportArgumentType]
    for word in ("x", "2", "nan"):
        result = CliRunner().invoke(app, ["predict", str(run), "x.npz", "--reject", word])
        assert isinstance(result.exception, RecipeError)
        assert f"--reject {word}" in str(result.exception)


def test_a_calibration_of_other_weights_is_refused(run: Path) -> None:
    calibrate(RunFolder.open(run))
    file = run / "calibration.json"
    content = json.loads(file.read_text())
    for change, words in (
        ({"weights": "0"}, "made for other weights"),
        ({"temperature": 0}, "damaged .the temperature is 0"),
        ({"temperature": float("nan")}, "damaged .the temperature is nan"),
        ({"reject": 7}, "damaged .the threshold is 7"),
        ({"other": 1}, "damaged"),
    ):
        file.write_text(json.dumps(content | change))
        with pytest.raises(RunError, match=words):
            Predictor(run, "cpu")
    file.write_text("[")
    with pytest.raises(RunError, match=r"calibration\.json: damaged.* or remove the file"):
        Predictor(run, "cpu")


def test_without_a_validation_part(tmp_path: Path) -> None:
    run = train(tiny_recipe(write_recordings(tmp_path / "data"), epochs=1), tmp_path / "run")
    with pytest.raises(DataError, match=r"no validation part.*data.val_fraction=0.2"):
        calibrate(run)
    assert not (run.path / "calibration.json").exists()


def test_views_and_an_exported_file_give_the_same_answers(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    export = pytest.importorskip("muybridge.export")
    recipe = tiny_clip_recipe(write_videos(tmp_path / "videos"), epochs=1)
    settings = {"data.val_groups": ["c"], "view.mode": "clips", "view.clips": 3, "view.stride": 1}
    run = train(recipe.with_settings(settings), tmp_path / "run")
    path = recordings(run.path)[0]
    before = Predictor(run.path, "cpu")(path)
    calibration = calibrate(run)
    after = Predictor(run.path, "cpu")(path)
    expected = (torch.tensor(before.scores).double().log() / calibration.temperature).softmax(0)
    np.testing.assert_allclose(after.scores, expected, atol=1e-5)
    file = export.export_run(run.path, tmp_path / "model.onnx").path
    np.testing.assert_allclose(muybridge.load(file, "cpu")(path).scores, after.scores, atol=1e-5)
    assert muybridge.load(file, "cpu", reject="auto").reject == calibration.reject
    assert export.evaluate_file(file).calibration == pytest.approx(evaluate(run).calibration, abs=1e-2)
    result = CliRunner().invoke(app, ["test", str(file), "--calibrate"])
    assert isinstance(result.exception, RunError)
    assert "an ONNX file keeps the calibration of the run" in str(result.exception)
