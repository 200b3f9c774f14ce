"""Probabilities that can be believed: temperature scaling, and a threshold below which no class is named.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The temperature divides the log-probabilities of a
recording, averaged over its views, so that it means the same for every model, with several views, and in an ONNX file.

Legend: N recordings, K classes.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from scipy.optimize import minimize_scalar
from torch import Tensor

from muybridge.core.errors import RunError

FILE = "calibration.json"
BINS = 10
KEPT = 0.95
"""Share of the correct answers on validation that the automatic threshold keeps."""

LARGEST = 50.0
"""Of a temperature, and of its inverse."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the probabilities of a run are calibrated, ``calibration.json`` in its folder.

    Attributes:
        temperature: divides the log-probabilities; above 1 where the network is too sure of itself.
        reject: threshold that ``--reject auto`` uses; None where no recording of validation is answered correctly.
        error_before, error_after: expected calibration error on the validation part, in percent.
        kept: share of the correct answers on validation that reach the threshold.
        refused: share of the wrong answers on validation that do not; None without any.
        recordings: of the validation part that it was fitted on.
        weights: checksum of the weights that it belongs to; empty where they do not have one.
    """

    temperature: float
    reject: float | None
    error_before: float
    error_after: float
    kept: float | None
    refused: float | None
    recordings: int
    weights: str = ""

    def apply(self, log_probabilities: Float[Tensor, "*N K"]) -> Float[Tensor, "*N K"]:
        """Calibrated log-probabilities."""
        return (log_probabilities / self.temperature).log_softmax(-1)

    def __str__(self) -> str:
        fitted = f"temperature {self.temperature:.3g}, from {self.recordings} recordings of val"
        return f"probabilities are calibrated: {fitted}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def calibrated(log_probabilities: Float[Tensor, "*N K"], calibration: Calibration | None) -> Float[Tensor, "*N K"]:
    """Log-probabilities, calibrated where there is a calibration."""
    return log_probabilities if calibration is None else calibration.apply(log_probabilities)


def fit_calibration(
    log_probabilities: Float[Tensor, "N K"], labels: Int64[Tensor, " N"], weights: str = ""
) -> Calibration:
    """The temperature and the threshold for answers on validation.

    The temperature has the lowest cross-entropy. As Platt (1999) does, each label gives a share of 1/(N+1) to all
    classes alike: otherwise a few recordings that are all answered correctly would make every probability 1.

    Args:
        log_probabilities: of recordings that were not trained on.
        labels: their classes.
        weights: checksum of the weights.
    """
    rows = log_probabilities.double()
    smoothing = 1 / (len(rows) + 1)
    targets = torch.nn.functional.one_hot(labels, rows.shape[1]) * (1 - smoothing) + smoothing / rows.shape[1]

    def loss(log_temperature: float) -> float:
        return -float((targets * (rows / np.exp(log_temperature)).log_softmax(1)).sum(1).mean())

    bound = np.log(LARGEST)
    found: Any = minimize_scalar(loss, bounds=(-bound, bound), method="bounded", options={"xatol": 1e-5})
    temperature = round(float(np.exp(found.x)), 6)
    before, after = rows.exp().numpy(), (rows / temperature).softmax(1).numpy()
    truth, best = labels.numpy(), after.max(1)
    right = after.argmax(1) == truth
    threshold = choose_threshold(best, right)
    is_kept = best >= (threshold or 0.0)
    return Calibration(
        temperature=temperature,
        reject=threshold,
        error_before=reliability(before, truth).error,
        error_after=reliability(after, truth).error,
        kept=float(is_kept[right].mean()) if right.any() else None,
        refused=float((~is_kept[~right]).mean()) if threshold is not None and not right.all() else None,
        recordings=len(rows),
        weights=weights,
    )


def choose_threshold(best: Float[np.ndarray, " N"], right: np.ndarray) -> float | None:
    """The highest probability that at least 95 % of the correct answers reach, rounded down; None without any.

    Args:
        best: probability of the answer to each recording.
        right: whether the answer is correct.
    """
    if not right.any():
        return None
    # Rounded down, as a recording by itself is computed with other rounding errors than in a batch.
    return float(np.floor(np.quantile(best[right], 1 - KEPT, method="lower") * 1e4) / 1e4)


def read_calibration(folder: Path, weights: str) -> Calibration | None:
    """The calibration of a run; None where it was not calibrated.

    Args:
        folder: of the run.
        weights: checksum of its weights; empty where it is not known.

    Raises:
        RunError: the file is damaged, or belongs to other weights.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        calibration = parse_calibration(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _refusal(f"damaged ({error})", path) from None
    if calibration.weights and weights and calibration.weights != weights:
        raise _refusal("made for other weights than those in the folder", path)
    return calibration


def parse_calibration(content: Any) -> Calibration:
    """A calibration from JSON; raises ValueError or TypeError for anything else."""
    calibration = Calibration(**content)
    if not 1 / (2 * LARGEST) < calibration.temperature < 2 * LARGEST:  # NaN is wrong too
        raise ValueError(f"the temperature is {calibration.temperature}")
    if calibration.reject is not None and not 0 <= calibration.reject <= 1:
        raise ValueError(f"the threshold is {calibration.reject}")
    return calibration


def _refusal(problem: str, path: Path) -> RunError:
    return RunError(
        problem,
        expected="the calibration of these weights",
        hint=f"calibrate again with `muybridge test {path.parent} --calibrate`, or remove the file",
        where=path,
    )


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far probabilities can be believed.

    Attributes:
        error: expected calibration error in percent (Guo et al., ICML 2017): mean difference of confidence and accuracy
            over the bins, weighted by their recordings.
        confidence, accuracy: means in each bin with recordings, in percent.
        counts: recordings of these bins.
    """

    error: float
    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    counts: tuple[int, ...]


def reliability(probabilities: Float[np.ndarray, "N K"], labels: Int[np.ndarray, " N"]) -> Reliability:
    """Confidence beside accuracy, in ten bins of confidence."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    used = counts > 0
    mean = 100 * np.bincount(bins, confidence, BINS)[used] / counts[used]
    share = 100 * np.bincount(bins, right, BINS)[used] / counts[used]
    error = float((np.abs(mean - share) * counts[used]).sum() / counts.sum())
    return Reliability(error, tuple(mean.tolist()), tuple(share.tolist()), tuple(counts[used].tolist()))
