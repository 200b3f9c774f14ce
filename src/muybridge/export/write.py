"""From a run folder to an ONNX file that gives the same answers; another file is not left behind.

Legend: B batch, T frames, K classes.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch import Tensor

from muybridge.core.contracts import ClipInput
from muybridge.core.errors import RunError
from muybridge.core.files import atomic_write
from muybridge.core.types import Output
from muybridge.data.datasets.base import require_one_label
from muybridge.data.prepare import collate_inputs
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.journal import Reporter
from muybridge.export.describe import describe
from muybridge.export.inputs import Inputs, generated_inputs, inputs_to_check
from muybridge.export.lstm import with_onnx_lstms
from muybridge.export.session import OnnxModel, check_onnx, open_session
from muybridge.models.base import Model
from muybridge.models.config import ModelConfig

TOLERANCE = 1e-3
"""Largest difference from PyTorch, as a share of the largest absolute value of the output (of 1, if that is less)."""

BATCHES = (1, 2, 3)
"""Sizes of the batches that a file is checked with."""

MOST_BYTES = 2**31 - 2**24
"""Of the weights: a file of Protocol Buffers holds 2 GiB."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        inputs, outputs: axes by name; those of a number are fixed.
        checked_on: what the file was compared on with PyTorch, in words.
        difference: the largest, in the unit of ``TOLERANCE``.
    """

    path: Path
    inputs: dict[str, tuple[str | int, ...]]
    outputs: dict[str, tuple[str | int, ...]]
    checked_on: str
    difference: float


def export_run(run: str | Path, out: Path | None = None, report: Reporter | None = None) -> Exported:
    """Write the model of a run as an ONNX file, with all that its use needs in the metadata.

    Args:
        run: a run folder.
        out: the file; by default ``model.onnx`` in the run folder.
        report: where progress is reported; by default nowhere.

    Raises:
        MissingExtraError: a package of the extra ``export`` is not installed.
        RunError: no trained run, PyTorch cannot convert the model, the file differs from the model, or it cannot be
            written; an earlier file of the name is then as it was.
    """
    check_onnx()
    report, folder = report or Reporter(quiet=True), RunFolder.open(run)
    recipe, path = folder.recipe(), out or folder.path / "model.onnx"
    require_one_label(recipe.data, "an export")
    _check_kind(recipe.model, folder.path)
    model = folder.model()
    assert isinstance(model, Model)
    _check_size(model, folder.path)
    with _write_errors(path), TemporaryFile(dir=path.parent):
        pass  # a folder that cannot be written is found before minutes of converting
    report.say(f"converting {recipe.model.spec.title}")
    program = convert(model.requires_grad_(False), collate_inputs(generated_inputs(recipe, (9, 7))))
    program.model.metadata_props.update(describe(folder, recipe))
    report.say("checking against PyTorch")
    samples, words = inputs_to_check(recipe, sum(BATCHES))
    with _write_errors(path), atomic_write(path) as draft:
        program.save(draft)
        session = open_session(draft)
        difference = largest_difference(model, OnnxModel(session), _batches(samples))
        _check_difference(difference, folder.path)
        checked = {"on": words, "batches": BATCHES, "largest_difference": difference, "tolerance": TOLERANCE}
        program.model.metadata_props["checked"] = json.dumps(checked)
        program.save(draft)
    inputs, outputs = ({value.name: tuple(value.shape) for value in values} for values in _values(session))
    return Exported(path, inputs, outputs, words, difference)


def convert(model: Model, example: Inputs) -> Any:
    """A model as a ``torch.onnx.ONNXProgram`` for any batch, and for skeletons any number of frames.

    Args:
        model: in evaluation mode, without gradients.
        example: a batch of two or more.

    Raises:
        RunError: PyTorch cannot convert it.
    """
    with torch.inference_mode():
        maps = tuple(model(**example).maps)
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    shapes = {name: {0: batch, 1: time} if name == "joints" else {0: batch} for name in example}
    callable_model: Any = with_onnx_lstms(model)  # its forward is known by its arguments alone
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about itself
            program = torch.onnx.export(
                callable_model,
                (),
                kwargs=example,
                dynamo=True,
                dynamic_shapes=shapes,
                output_names=["logits", *maps],
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError) as error:
        cause = error.__cause__ or error  # the exporter wraps the error in advice to its developers
        raise _not_convertible(model, f"{type(cause).__name__}: {str(cause).splitlines()[0]}") from error
    assert program is not None
    graph: Any = program.model.graph
    for value in graph.inputs:  # where the exporter fails, it silently tries again with fixed axes
        if fixed := [axis for axis in shapes[value.name] if isinstance(value.shape[axis], int)]:
            raise _not_convertible(model, f"the axes {fixed} of {value.name} became fixed")
    return program


def _not_convertible(model: Model, reason: str) -> RunError:
    return RunError(
        f"PyTorch {torch.__version__} cannot convert {type(model).__name__} to ONNX ({reason})",
        expected="a PyTorch and an onnxscript that fit each other",
        hint="upgrade both with pip install -U torch onnxscript",
    )


def largest_difference(model: Model, other: Model, batches: Sequence[Inputs]) -> float:
    """The largest difference of any output over all batches, in the unit of ``TOLERANCE``; infinite if one is NaN."""
    largest = 0.0
    for batch in batches:
        with torch.inference_mode():
            pairs = zip(_tensors(model(**batch)), _tensors(other(**batch)), strict=True)
            for expected, given in pairs:
                scale = max(1.0, float(expected.abs().max()))
                share = float((expected - given).abs().max()) / scale
                largest = max(largest, share if share == share else float("inf"))
    return largest


def _tensors(output: Output) -> list[Tensor]:
    return [output.logits, *(output.maps[name] for name in sorted(output.maps))]


def _batches(samples: Sequence[Inputs]) -> list[Inputs]:
    remaining = iter(samples)
    return [collate_inputs([next(remaining) for _ in range(size)]) for size in BATCHES]


def _values(session: Any) -> tuple[Any, Any]:
    return session.get_inputs(), session.get_outputs()


def _check_difference(difference: float, where: Path) -> None:
    if difference > TOLERANCE:
        raise RunError(
            f"the ONNX file differs from the model by {difference:.2g} of its largest output, and is not kept",
            expected=f"a difference of {TOLERANCE:g} at most",
            hint="upgrade with pip install -U torch onnxscript onnxruntime, and report the model if that does not help",
            where=where,
        )


def _check_kind(model: ModelConfig, where: Path) -> None:
    takes = model.takes()
    if isinstance(takes, ClipInput) and takes.flow_bound is not None:
        raise RunError(
            "trajectories are followed in steps that depend on the clip, which ONNX does not hold",
            expected='a model without them, such as fisher_vectors with model.sampling = "blocks"',
            hint="use the run folder: predict, timeline, watch and serve read it",
            where=where,
        )


def _check_size(model: Model, where: Path) -> None:
    size = sum(value.nbytes for value in model.state_dict().values())
    if size > MOST_BYTES:
        raise RunError(
            f"{size / 1e9:.1f} GB of weights",
            expected="2 GB at most, which an ONNX file holds",
            hint="train a smaller backbone",
            where=where,
        )


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot be written ({error.strerror or error})",
            expected="a file in a folder that exists and can be written, with free space",
            hint="free some space, or choose another place with --out",
            where=path,
        ) from None
