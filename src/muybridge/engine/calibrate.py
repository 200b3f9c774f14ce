"""Calibrating a run on its validation part, whose recordings it was neither trained nor is tested on."""

from pathlib import Path

from muybridge.core.errors import DataError, RunError
from muybridge.data.datasets.base import require_one_label
from muybridge.engine.calibration import Calibration, fit_calibration
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import predict_part
from muybridge.engine.evaluated_part import Missing
from muybridge.engine.journal import Reporter
from muybridge.engine.runtime import Runtime


def calibrate(
    run: RunFolder,
    runtime: Runtime | None = None,
    report: Reporter | None = None,
    *,
    pixels: bool = False,
    data: Path | None = None,
    missing: Missing = "raise",
) -> Calibration:
    """Fit the temperature of a run's probabilities on its validation part, and write ``calibration.json``.

    Args:
        run: what was trained.
        runtime: device and processes; by default of the recipe's precision.
        report: where progress is shown; by default nowhere.
        pixels: read the videos themselves also where the recipe names a feature store.
        data: the folder of the recordings, if they have moved.
        missing: what to do if recordings of the part are gone: "raise", or "exclude" and count them.

    Raises:
        RunError: the run is an ONNX file, not trained or damaged, or its folder cannot be written.
        DataError: there is no validation part, or its recordings are gone or cannot be read.
    """
    runtime = runtime or Runtime(run.recipe(data).precision)
    require_one_label(run.recipe(data).data, "calibration")
    _check_part(run, data)
    predictions, _, _ = predict_part(run, "val", runtime, report, pixels=pixels, data=data, missing=missing)
    calibration = fit_calibration(predictions.log_probabilities, predictions.labels, run.weights_checksum())
    if runtime.is_main_process:
        run.write_calibration(calibration)
    runtime.fabric.barrier()  # a test that follows reads it in every process
    return calibration


def refuse_file(path: Path) -> RunError:
    """Why an ONNX file is not calibrated."""
    return RunError(
        "an ONNX file keeps the calibration of the run that it was exported from",
        expected="a run folder",
        hint="calibrate the run with `muybridge test RUN --calibrate`, and export it again",
        where=path,
    )


def _check_part(run: RunFolder, data: Path | None) -> None:
    saved = run.split()
    has_part = bool(saved.ids("val")) if saved else bool(len(run.recipe(data).data.index("val")))
    if not has_part:
        raise DataError(
            "the run has no validation part to calibrate on",
            expected="recordings that are neither trained on nor tested on",
            hint="train again with --set data.val_fraction=0.2, or with --set 'data.val_groups=[\"NAME\"]' for people; "
            "a search with --model auto trains on all of them at the end, so train the model that it chose by its name",
            where=run.path,
        )
