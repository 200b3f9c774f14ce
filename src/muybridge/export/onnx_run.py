"""An ONNX file in place of a run folder: predicting and testing read from it what they read from a run."""

import io
import json
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch

from muybridge.core.errors import RunError
from muybridge.data.datasets.base import Split
from muybridge.engine.bodies import Bodies
from muybridge.engine.calibration import Calibration, parse_calibration
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.durations import Durations
from muybridge.engine.evaluate import evaluate
from muybridge.engine.evaluated_part import Missing
from muybridge.engine.journal import Reporter
from muybridge.engine.metrics import Scores
from muybridge.engine.runtime import Runtime
from muybridge.engine.saved_split import SavedSplit
from muybridge.export.describe import FORMAT, decompress
from muybridge.export.session import OnnxModel, open_session
from muybridge.predict import Predictor, Reject
from muybridge.recipe import Recipe, recipe_from


class OnnxRun(RunFolder):
    """A file of `muybridge export`, read as a run folder is; results of a test are written beside it.

    Args:
        path: the file.
        device: where ONNX Runtime computes: "cpu", "cuda" or "auto".

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        RunError: no such file, a damaged one, one of another program, or of a newer version.
    """

    def __init__(self, path: str | Path, device: str = "cpu") -> None:
        super().__init__(path)
        self._session = open_session(self.path, device)
        self._metadata: dict[str, str] = self._session.get_modelmeta().custom_metadata_map
        _check_metadata(self._metadata, self.path)
        self._training: dict[str, Any] = json.loads(self._metadata["training"])

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The file, see above for what is raised."""
        return cls(path)

    def facts(self) -> dict[str, Any]:
        """Where the data is below MUYBRIDGE_DATA, if it is there."""
        return {"paths": self._training["paths"]}

    def read_recipe(self) -> Recipe:
        """The recipe as it was exported."""
        return recipe_from(tomllib.loads(self._metadata["recipe"]), where=self.path)

    def different_settings(self, recipe: Recipe) -> str:
        """Empty: the recipe in the file is the one that was exported."""
        del recipe
        return ""

    def labels(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(json.loads(self._metadata["labels"]))

    def split(self) -> SavedSplit | None:
        """The recordings of each split of the training; None where nothing was trained."""
        text = self._metadata.get("split")
        return SavedSplit.parse(io.StringIO(decompress(text), newline=""), self.path) if text else None

    def excluded(self, split: str) -> int:
        """How many recordings of a split were not in the index."""
        return self._training["excluded"].get(split, 0)

    def model(self, dtype: torch.dtype = torch.float32) -> OnnxModel:
        """The network; it computes in the precision of the file, whatever ``dtype`` is."""
        del dtype
        return OnnxModel(self._session)

    def calibration(self) -> Calibration | None:
        """How the probabilities of the run were calibrated; None where they were not."""
        text = self._metadata.get("calibration")
        return parse_calibration(json.loads(text)) if text else None

    def durations(self) -> Durations | None:
        """How long the training recordings are, if that is known."""
        values = self._training["durations"]
        return Durations(**values) if values else None

    def bodies(self) -> Bodies | None:
        """How bodies stand in the training recordings of skeletons, if that is known."""
        values = self._training["bodies"]
        return Bodies(**values | {"axes": tuple(values["axes"])}) if values else None

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A temporary file to write, which becomes ``STEM-NAME`` beside the ONNX file when the block succeeds."""
        with RunFolder(self.path.parent).writing(f"{self.path.stem}-{name}") as draft:
            yield draft


class OnnxPredictor(Predictor):
    """A file of `muybridge export` that predicts actions, on the same path as a run; ``muybridge.load`` makes one.

    Args:
        run: the file.
        device: where ONNX Runtime computes; "auto" takes the GPU if the installed ONNX Runtime has one.
        reject: the threshold, see :class:`~muybridge.predict.Predictor`.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        RunError: no such file, a damaged one, one of another program, or of a newer version.
        RecipeError: "cuda", and the installed ONNX Runtime computes on the CPU alone.
    """

    def __init__(self, run: str | Path, device: str | torch.device = "auto", *, reject: Reject = None) -> None:
        file = OnnxRun(run, str(device))
        self._take(file, torch.device("cpu"), file.durations(), file.bodies(), reject)
        self.rows = sys.maxsize  # ONNX Runtime may compute elsewhere, and keeps its memory anyway


def evaluate_file(
    path: str | Path,
    split: Split = "test",
    device: str = "auto",
    report: Reporter | None = None,
    *,
    data: Path | None = None,
    missing: Missing = "raise",
) -> Scores:
    """Test an ONNX file on one split of the run that it was exported from; see :func:`~muybridge.engine.evaluate`.

    Results are written beside the file, as ``STEM-SPLIT.json`` and ``STEM-SPLIT-predictions.csv``.

    Args:
        path: the file.
        split: the part of the data.
        device: "cpu", "cuda" or "auto".
        report: where progress is shown; by default nowhere.
        data: the folder of the recordings, if they have moved.
        missing: what to do if recordings of the split are gone: "raise", or "exclude" and count them.
    """
    runtime = Runtime("32-true", "cpu")  # of what is around the model, which has a device of its own
    run = OnnxRun(path, device)
    scores = evaluate(run, split, runtime, report, pixels=True, data=data, missing=missing)
    assert isinstance(scores, Scores)  # files are written of recordings of one label alone
    return scores


def _check_metadata(metadata: dict[str, str], path: Path) -> None:
    if "muybridge" not in metadata:
        raise RunError(
            "the metadata does not describe the inputs and the classes",
            expected="a file of `muybridge export`",
            hint="export the run again with `muybridge export RUN --out FILE`",
            where=path,
        )
    if int(metadata["format"]) != FORMAT:
        newer = int(metadata["format"]) > FORMAT
        raise RunError(
            f"made by {'a newer' if newer else 'an older'} version (muybridge {metadata['muybridge']})",
            expected=f"format {FORMAT} of the metadata, not {metadata['format']}",
            hint="upgrade with `pip install -U muybridge`" if newer else "export the run again",
            where=path,
        )
