"""Convolutions in 8-bit integers: static quantization, calibrated on training recordings, beside the float file.

Convolutions and products with fixed weights are quantized, as pairs of QuantizeLinear and DequantizeLinear, which ONNX
Runtime fuses; so is what lies between them in the stages of a backbone, such as shortcuts and shifts in time: maps need
not become floats and integers again at each. Recurrent networks stay in float, since their rounding errors would add up
over the frames.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write
from muybridge.data.prepare import collate_inputs
from muybridge.engine.checkpoint import RunFolder, write_errors
from muybridge.engine.journal import Reporter
from muybridge.export.inputs import Inputs, recorded_inputs
from muybridge.export.onnx_run import OnnxRun, evaluate_file
from muybridge.export.session import import_onnx
from muybridge.models.base import Model

CALIBRATION = 64
"""Recordings whose activations give the ranges of the integers."""

TIMED = 15
"""Calls of a model of which the median is reported."""

_QUANTIZED = ("Conv", "Gemm", "MatMul", "MaxPool")
_QUANTIZED_IN_STAGES = ("Add", "Concat", "Pad", "Relu", "Reshape", "Slice", "Split", "Transpose")
_SCOPES = "pkg.torch.onnx.name_scopes"  # where PyTorch's exporter says which module a node comes from


@dataclass(frozen=True, slots=True)
class Row:
    """A format of the model.

    Attributes:
        name: "PyTorch", "ONNX float32" or "ONNX int8".
        top1: accuracy in percent; None where it is not measured.
        milliseconds: median time of one view of one recording.
        megabytes: size of the file.
    """

    name: str
    top1: float | None
    milliseconds: float
    megabytes: float


@dataclass(frozen=True, slots=True)
class Quantized:
    """What was written, and what it costs and gains.

    Attributes:
        path: the file with integers.
        table: the file with ``rows`` as JSON.
        split: the part of the data on which accuracy was measured.
        recordings: how many it has.
        rows: one for each format.
    """

    path: Path
    table: Path
    split: str
    recordings: int
    rows: tuple[Row, ...]


def quantize_file(run: str | Path, path: Path, report: Reporter | None = None) -> Quantized:
    """Write ``STEM-int8.onnx`` beside a file of :func:`export_run`, and a table that compares them.

    Accuracy is measured on the validation part, or on the test part where there is none.

    Args:
        run: the run folder of the file.
        path: the file.
        report: where progress is shown; by default nowhere.

    Raises:
        DataError: recordings of the training part, or those of the measured part, cannot be read.
        RunError: a file cannot be written.
    """
    report, folder = report or Reporter(quiet=True), RunFolder.open(run)
    recipe, target = folder.recipe(), path.with_name(f"{path.stem}-int8.onnx")
    inputs = [collate_inputs([sample]) for sample in recorded_inputs(recipe, "train", CALIBRATION)]
    if not inputs:
        raise DataError(
            "no recording of the training part can be read",
            expected="recordings to calibrate the integers on",
            hint="restore the recordings, or export without --int8",
            where=folder.path,
        )
    report.say(f"calibrating on {len(inputs)} recordings of train")
    with write_errors(target), atomic_write(target) as draft:
        quantize(path, draft, inputs)
    saved = folder.split()
    split = "val" if saved is None or saved.ids("val") else "test"
    scores = [evaluate_file(file, split, "cpu", report) for file in (path, target)]
    model = folder.model()
    assert isinstance(model, Model)
    weights = folder.path / "weights.safetensors"
    times = _milliseconds((model, OnnxRun.open(path).model(), OnnxRun.open(target).model()), inputs[0])
    names, top1 = ("PyTorch", "ONNX float32", "ONNX int8"), (None, *(score.top1 for score in scores))
    rows = tuple(map(Row, names, top1, times, map(_megabytes, (weights, path, target))))
    table = path.with_name(f"{path.stem}-int8.json")
    content = {"split": split, "recordings": scores[0].count, "rows": [asdict(row) for row in rows]}
    with write_errors(table), atomic_write(table) as draft:
        draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return Quantized(target, table, split, scores[0].count, rows)


def quantize(source: Path, target: Path, inputs: Sequence[Inputs]) -> None:
    """Write a file with integers; the metadata is that of the source, and says that it is quantized.

    Args:
        source: a file of :func:`export_run`.
        target: the file that is written.
        inputs: batches whose activations give the ranges of the integers.
    """
    onnx, quantization = import_onnx("onnx"), import_onnx("onnxruntime.quantization")
    model = onnx.load(source)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    floats = _nodes_in_float(model)
    _set_metadata(model, metadata | {"onnx.quant.pre_process": "onnxruntime.quant"})  # PyTorch has optimized it
    quantization.quantize_static(
        model,
        str(target),
        _reader(quantization, inputs),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=[*_QUANTIZED, *_QUANTIZED_IN_STAGES],
        nodes_to_exclude=floats,
        per_channel=True,
        reduce_range=True,  # 7 bits of weights: processors without VNNI would overflow with 8
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True},
    )
    quantized = onnx.load(target)
    words = {"type": "int8", "operators": _QUANTIZED, "calibrated_on": f"{len(inputs)} recordings of train"}
    _set_metadata(quantized, metadata | {"quantized": json.dumps(words)})
    onnx.save(quantized, target)


def _nodes_in_float(model: Any) -> list[str]:
    """Names of the nodes of recurrent networks, which all models call ``recurrent``, and of some outside backbones."""
    kept = []
    for node in model.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
        outside = node.op_type in _QUANTIZED_IN_STAGES and ".stages." not in scopes
        if outside or "'recurrent'" in scopes:
            kept.append(node.name)
    return kept


def _set_metadata(model: Any, metadata: dict[str, str]) -> None:
    import_onnx("onnx").helper.set_model_props(model, metadata)


def _reader(quantization: Any, inputs: Sequence[Inputs]) -> Any:
    """The inputs as ONNX Runtime asks for them."""

    class Reader(quantization.CalibrationDataReader):  # the base class is known only once the extra is imported
        def __init__(self) -> None:
            self.remaining: Iterator[Inputs] = iter(inputs)

        def get_next(self) -> dict[str, np.ndarray] | None:
            sample = next(self.remaining, None)
            return None if sample is None else {name: value.numpy() for name, value in sample.items()}

    return Reader()


def _milliseconds(models: Sequence[Model], inputs: Inputs) -> list[float]:
    """The median time of each model; they take turns, so that another load of the processor meets all alike."""
    times: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        for _ in range(TIMED + 2):
            for model, spent in zip(models, times, strict=True):
                start = perf_counter()
                model(**inputs)
                spent.append(1e3 * (perf_counter() - start))
    return [median(spent[2:]) for spent in times]


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 1e6
