"""An ONNX file gives the answers of its run, describes itself, and is not written if it would differ."""

import importlib.util
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import muybridge
from muybridge.cli import app
from muybridge.cli.tables import print_quantized
from muybridge.core.contracts import ClipInput
from muybridge.core.errors import DataError, MissingExtraError, RecipeError, RunError
from muybridge.core.types import Output
from muybridge.data.prepare import collate_inputs
from muybridge.data.sampling import Mode, sample_indices
from muybridge.engine.calibration import Calibration
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.engine.weights import checksum, read_weights
from muybridge.export import OnnxPredictor, OnnxRun, describe, evaluate_file, export_run, quantize, session, write
from muybridge.export.inputs import generated_inputs, recorded_inputs
from muybridge.models.base import Model
from muybridge.predict import Predictor
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos

onnx: Any = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def skeletons(folder: Path) -> Path:
    recipe = tiny_recipe(write_recordings(folder / "recordings"), epochs=2).with_settings({"model.layers": 2})
    return export_run(train(recipe, folder / "skeletons").path, folder / "skeletons.onnx").path


@pytest.fixture(scope="module")
def videos(folder: Path) -> Path:
    recipe = tiny_clip_recipe(write_videos(folder / "videos"), epochs=2)
    return export_run(train(recipe, folder / "clips").path, folder / "clips.onnx").path


@pytest.fixture(scope="module")
def files(skeletons: Path, videos: Path) -> list[tuple[Path, Path]]:
    """Run folders and their files."""
    return [(skeletons.with_name("skeletons"), skeletons), (videos.with_name("clips"), videos)]


def test_a_file_gives_the_answers_of_its_run(files: list[tuple[Path, Path]]):
    for run, file in files:
        predictor, other = Predictor(run, "cpu"), muybridge.load(file, "cpu")
        assert isinstance(other, OnnxPredictor)
        data = predictor.recipe.data
        for record in data.index("test").records[:3]:
            expected, given = predictor(record.path), other(record.path)
            assert given.labels == expected.labels
            np.testing.assert_allclose(given.scores, expected.scores, atol=1e-5)
            assert given.maps.keys() == expected.maps.keys()
            for name, values in expected.maps.items():
                torch.testing.assert_close(given.maps[name], values, rtol=1e-3, atol=1e-5)


def test_testing_a_file_scores_as_its_run(files: list[tuple[Path, Path]]):
    for run, file in files:
        scores = evaluate(RunFolder.open(run), "test", Runtime("32-true", "cpu"))
        assert evaluate_file(file, "test") == scores
        written = json.loads(file.with_name(f"{file.stem}-test.json").read_text())
        assert written["top1"] == scores.top1
        expected = (run / "test-predictions.csv").read_text().splitlines()
        assert len(file.with_name(f"{file.stem}-test-predictions.csv").read_text().splitlines()) == len(expected)


def test_any_batch_and_any_number_of_frames(skeletons: Path):
    run = OnnxRun.open(skeletons)
    model = RunFolder.open(skeletons.with_name("skeletons")).model()
    for lengths in ((1,), (30, 4), (2, 2, 7, 50)):
        batch = collate_inputs(generated_inputs(run.recipe(), lengths))
        with torch.inference_mode():
            torch.testing.assert_close(run.model()(**batch).logits, model(**batch).logits, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_the_command_exports_a_differential_lstm_as_one_loop_of_any_length(
    folder: Path, skeletons: Path, tmp_path: Path
):
    recipe = tiny_recipe(folder / "recordings").with_settings(
        {"model": {"name": "drnn", "hidden": 4}, "train.epochs": 1}
    )
    run = train(recipe, tmp_path / "run")
    # In a process of its own, as the checks of shapes in these tests cannot be traced inside a loop.
    command = [sys.executable, "-m", "muybridge", "export", str(run.path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert printed[:4] == [
        "input  joints  (batch, time, 1, 20, 3)",
        "input  length  (batch)",
        "output  logits  (batch, 20)",
        "output  derivative_norm  (batch, time)",
    ]
    assert re.fullmatch(r"equal to PyTorch within \d\.\de-\d\d on 6 recordings of train", printed[4])
    assert printed[5].startswith(f"wrote {run.path / 'model.onnx'} (0.")
    file, model = OnnxRun.open(run.path / "model.onnx"), run.model()
    batch = collate_inputs(generated_inputs(recipe, (1, 40, 13)))
    with torch.inference_mode():
        torch.testing.assert_close(file.model()(**batch).logits, model(**batch).logits, rtol=1e-3, atol=1e-4)


def test_the_metadata_is_all_that_a_stranger_needs(files: list[tuple[Path, Path]]):
    for run, file in files:
        metadata = session.open_session(file).get_modelmeta().custom_metadata_map
        folder = RunFolder.open(run)
        assert metadata["muybridge"] == muybridge.__version__
        assert tuple(json.loads(metadata["labels"])) == folder.labels()
        assert metadata["weights_sha256"] == checksum(read_weights(run / "weights.safetensors"))
        assert OnnxRun.open(file).recipe() == folder.recipe()
        checked = json.loads(metadata["checked"])
        assert checked["batches"] == [1, 2, 3]
        assert 0 <= checked["largest_difference"] < checked["tolerance"]
        assert re.fullmatch(r"6 recordings of train", checked["on"])
        saved = folder.split()
        assert saved is not None
        assert (read := OnnxRun.open(file).split()) is not None
        assert read.records == saved.records
    skeleton, clip = (
        json.loads(session.open_session(file).get_modelmeta().custom_metadata_map["input"]) for _, file in files
    )
    assert skeleton["kind"] == "skeletons"
    assert len(skeleton["joints"]) == 20
    assert clip["kind"] == "video"
    assert (clip["segments"], clip["size"], clip["short_side"], clip["crops"]) == (4, 32, 37, "center")
    assert len(clip["mean"]) == len(clip["std"]) == clip["channels"] == 3


def test_gray_videos_take_the_mean_of_the_statistics(videos: Path):
    recipe = OnnxRun.open(videos).recipe().with_settings({"data.channels": 1})
    described = describe.describe_input(recipe)
    assert described["mean"] == [pytest.approx(sum(recipe.model.takes().mean) / 3)]  # pyright: ignore[reportAttributeAccessIssue]


def test_predict_and_test_take_the_file(skeletons: Path):
    record = OnnxRun.open(skeletons).recipe().data.index("test").records[0]
    result = CliRunner().invoke(app, ["predict", str(skeletons), str(record.path), "--json", "--device", "cpu"])
    assert result.exit_code == 0
    expected = Predictor(skeletons.with_name("skeletons"), "cpu")(record.path)
    assert json.loads(result.stdout)["label"] == expected.labels[0]
    result = CliRunner().invoke(app, ["test", str(skeletons), "--json", "--device", "cpu"])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["top1"] == pytest.approx(evaluate_file(skeletons).top1, abs=0.01)


class Wrong(Model):
    """A model with one output changed."""

    def __init__(self, model: Model, change: float) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, **inputs: torch.Tensor) -> Output:
        output = self.model(**inputs)
        return Output(output.logits, {name: values + self.change for name, values in output.maps.items()})


@pytest.mark.parametrize("change", [0.01, float("nan")])
def test_a_file_that_differs_is_not_left(
    skeletons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: float
):
    out = tmp_path / "model.onnx"
    out.write_bytes(b"earlier")
    program = SimpleNamespace(model=SimpleNamespace(metadata_props={}), save=lambda draft: draft.write_bytes(b"new"))
    monkeypatch.setattr(write, "convert", lambda *_: program)
    monkeypatch.setattr(write, "open_session", lambda _: session.open_session(skeletons))
    monkeypatch.setattr(write, "OnnxModel", lambda opened: Wrong(session.OnnxModel(opened), change))
    with pytest.raises(RunError, match=r"differs from the model by .* not kept\. Expected a difference of 0.001"):
        export_run(skeletons.with_name("skeletons"), out)
    assert out.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [out]


def test_what_cannot_be_converted_or_written_is_said(skeletons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = skeletons.with_name("skeletons")
    with monkeypatch.context() as patch:
        patch.setattr(torch.onnx, "export", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("no such operator\nx")))
        with pytest.raises(RunError, match=r"cannot convert STALSTM to ONNX \(RuntimeError: no such operator\)"):
            export_run(run, tmp_path / "model.onnx")
    joints = SimpleNamespace(name="joints", shape=("batch", 9, 1, 20, 3))
    program = SimpleNamespace(model=SimpleNamespace(metadata_props={}, graph=SimpleNamespace(inputs=[joints])))
    with monkeypatch.context() as patch:
        patch.setattr(torch.onnx, "export", lambda *_, **__: program)
        with pytest.raises(RunError, match=r"the axes \[1\] of joints became fixed"):
            export_run(run, tmp_path / "model.onnx")
    monkeypatch.setattr(write, "convert", lambda *_: pytest.fail("converted before it was known where to"))
    with pytest.raises(RunError, match=r"missing.*cannot be written \(No such file or directory\)"):
        export_run(run, tmp_path / "missing" / "model.onnx")
    monkeypatch.setattr(write, "MOST_BYTES", 100)
    with pytest.raises(RunError, match="GB of weights"):
        export_run(run, tmp_path / "model.onnx")


def test_without_recordings_inputs_are_generated(skeletons: Path, tmp_path: Path):
    recipe = OnnxRun.open(skeletons).recipe().with_settings({"data.root": str(tmp_path)})
    samples, words = write.inputs_to_check(recipe, 6)
    assert words == "generated inputs, since no recording can be read"
    assert [len(sample["joints"]) for sample in samples] == [5, 6, 7, 8, 9, 10]


def test_generated_inputs_have_the_shapes_of_recorded_ones(videos: Path):
    recipe = OnnxRun.open(videos).recipe()
    shapes: Iterator[Any] = (
        {name: value.shape for name, value in inputs[0].items()}
        for inputs in (recorded_inputs(recipe, "train", 1), generated_inputs(recipe, (9,)))
    )
    assert next(shapes) == next(shapes)


def test_integers_keep_the_answers_and_the_table_says_what_they_cost(
    videos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(quantize, "CALIBRATION", 8)
    monkeypatch.setattr(quantize, "TIMED", 2)
    result = quantize.quantize_file(videos.with_name("clips"), videos)
    assert result.path == videos.with_name("clips-int8.onnx")
    given, expected = (
        {entry.key: entry.value for entry in onnx.load(file).metadata_props} for file in (result.path, videos)
    )
    assert json.loads(given.pop("quantized"))["calibrated_on"] == "8 recordings of train"
    assert given == expected
    operators = [node.op_type for node in onnx.load(result.path).graph.node]
    assert operators.count("QuantizeLinear") >= operators.count("Conv") > 5
    record = OnnxRun.open(videos).recipe().data.index("test").records[0]
    predictions = [muybridge.load(file, "cpu")(record.path) for file in (result.path, videos)]
    assert predictions[0].labels == predictions[1].labels
    np.testing.assert_allclose(predictions[0].scores, predictions[1].scores, atol=0.1)
    assert [row.name for row in result.rows] == ["PyTorch", "ONNX float32", "ONNX int8"]
    assert result.rows[1].top1 == evaluate_file(videos).top1
    table = json.loads(videos.with_name("clips-int8.json").read_text())
    assert (table["split"], table["recordings"]) == ("test", 4)
    assert [row["milliseconds"] for row in table["rows"]] == [row.milliseconds for row in result.rows]
    print_quantized(result)
    assert re.search(r"int8: -?\d+\.\d\d points lost, \d+\.\d times as fast as float32", capsys.readouterr().out)


class Shortcut(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.conv(x) + x).relu()


class Quantizable(nn.Module):
    """An addition in a stage of a backbone and one outside, and a convolution in a recurrent network."""

    def __init__(self):
        super().__init__()
        self.stem, self.stages, self.recurrent = nn.Conv2d(2, 3, 3), nn.ModuleList([Shortcut()]), nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages[0](self.stem(x).relu())
        return self.recurrent(x + x.flip(2))


def test_backbones_are_in_integers_and_recurrent_networks_in_float(tmp_path: Path):
    network = Quantizable()
    source, target = tmp_path / "source.onnx", tmp_path / "target.onnx"
    program = torch.onnx.export(
        network.eval(), (torch.zeros(1, 2, 8, 8),), input_names=["x"], dynamo=True, verbose=False
    )
    assert program is not None
    program.save(source)
    quantize.quantize(source, target, [{"x": torch.randn(1, 2, 8, 8)} for _ in range(2)])
    made = onnx.load(target).graph
    producers = {name: node.op_type for node in made.node for name in node.output}
    weights = [producers.get(node.input[1], "float") for node in made.node if node.op_type == "Conv"]
    assert weights == ["DequantizeLinear", "DequantizeLinear", "float"]
    inside, outside = ([producers[name] for name in node.input] for node in made.node if node.op_type == "Add")
    assert inside == ["DequantizeLinear", "DequantizeLinear"]
    assert "DequantizeLinear" not in outside[1:]


def test_integers_need_recordings(videos: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantize, "recorded_inputs", lambda *_: [])
    with pytest.raises(DataError, match="no recording of the training part can be read"):
        quantize.quantize_file(videos.with_name("clips"), videos)


def test_a_missing_extra_is_named(skeletons: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed.*pip install 'muybridge\[export\]'"):
        muybridge.load(skeletons)
    with pytest.raises(MissingExtraError, match="onnxruntime is not installed"):
        export_run(skeletons.with_name("skeletons"))


def test_files_that_cannot_be_read_are_refused(skeletons: Path, tmp_path: Path):
    with pytest.raises(RunError, match="no such file"):
        muybridge.load(tmp_path / "none.onnx")
    half = tmp_path / "half.onnx"
    half.write_bytes(skeletons.read_bytes()[:1000])
    with pytest.raises(RunError, match="ONNX Runtime cannot load it"):
        muybridge.load(half)
    other = tmp_path / "other.onnx"
    torch_program = torch.onnx.export(nn.Linear(2, 2).eval(), (torch.zeros(1, 2),), dynamo=True, verbose=False)
    assert torch_program is not None
    torch_program.save(other)
    with pytest.raises(RunError, match=r"other\.onnx: the metadata does not describe the inputs"):
        muybridge.load(other)
    for version, word in ((2, "a newer version"), (0, "an older version")):
        torch_program.model.metadata_props.update({"muybridge": "9", "format": str(version)})
        torch_program.save(other)
        with pytest.raises(RunError, match=word):
            muybridge.load(other)
    with pytest.raises(RecipeError, match="computes on the CPU alone"):
        muybridge.load(skeletons, "cuda")


def test_the_examples_predict_without_torch(skeletons: Path, videos: Path, tmp_path: Path):
    data = OnnxRun.open(skeletons).recipe().data
    record = data.index("test").records[0]
    recording = data.open(record)
    np.save(tmp_path / "joints.npy", recording.joints.numpy())  # pyright: ignore[reportAttributeAccessIssue]
    video = next((videos.parent / "videos").rglob("d_0.mp4"))
    model = onnx.load(skeletons)
    calibration = json.dumps(Calibration(2.5, 0.5, 0, 0, 1.0, None, 9).as_dict())
    onnx.helper.set_model_props(model, {e.key: e.value for e in model.metadata_props} | {"calibration": calibration})
    onnx.save(model, tmp_path / "calibrated.onnx")
    for script, file, path, tolerance in (
        ("predict_joints.py", skeletons, tmp_path / "joints.npy", 1e-3),
        ("predict_joints.py", tmp_path / "calibrated.onnx", tmp_path / "joints.npy", 1e-3),
        ("predict_video.py", videos, video, 0.02),
    ):
        assert len((EXAMPLES / script).read_text().splitlines()) <= 60
        printed = run_without_torch(EXAMPLES / script, file, path)
        expected = muybridge.load(file, "cpu")(record.path if path.suffix == ".npy" else path)
        scores = [line.split(maxsplit=1) for line in printed.splitlines()]
        assert [label for _, label in scores] == list(expected.labels)
        np.testing.assert_allclose([float(score) for score, _ in scores], expected.scores, atol=tolerance)


def run_without_torch(script: Path, *arguments: Path) -> str:
    """What a script prints in an interpreter that has neither torch nor this package."""
    blocked = "import runpy, sys\nfor name in ('torch', 'muybridge', 'timm'): sys.modules[name] = None\n"
    code = f"{blocked}sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, str(script), *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("mode", get_args(Mode))
def test_the_example_reads_the_frames_that_the_package_reads(mode: Mode):
    spec = importlib.util.spec_from_file_location("predict_video", EXAMPLES / "predict_video.py")
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    for frames, (segments, length) in itertools.product((1, 5, 9, 12, 40, 200), ((8, 1), (1, 8), (4, 3))):
        described = {"segments": segments, "frames_per_segment": length, "stride": 1, "mode": mode}
        expected = sample_indices(frames, ClipInput(segments, length), mode)
        assert example.frame_numbers(frames, described) == expected, (frames, described)
