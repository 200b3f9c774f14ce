"""Late fusion: several runs asked about the same recordings, and their probabilities averaged.

Legend: N recordings, K classes.
Source: two-stream networks, Simonyan and Zisserman, NIPS 2014; VideoLSTM's appearance and motion streams.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from muybridge.core.errors import RunError
from muybridge.data.datasets.base import Split
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.metrics import Scores, score


@dataclass(frozen=True, slots=True)
class _Told:
    """What a run said of each recording."""

    ids: tuple[str, ...]
    labels: Int64[Tensor, " N"]
    probabilities: Float32[Tensor, "N K"]


def fuse(runs: Sequence[RunFolder], weights: Sequence[float] = (), split: Split = "test") -> Scores:
    """Scores of the weighted mean of what tested runs said.

    Args:
        runs: tested before, on the same recordings of the same classes.
        weights: of each run; empty weighs all alike.
        split: the part of the data that they were tested on.

    Raises:
        RunError: a run was not tested, or two runs differ in their recordings or classes; or there are not as many
            weights as runs, or they are negative or all zero.
    """
    weights = weights or [1.0] * len(runs)
    if len(weights) != len(runs) or min(weights) < 0 or sum(weights) == 0:
        raise RunError(
            f"weights {', '.join(f'{weight:g}' for weight in weights)}",
            expected=f"{len(runs)} of them, one for each run, none negative and not all zero",
            cure="correct the weights",
        )
    names = runs[0].labels()
    told = [_read(run, split) for run in runs]
    for run, one in zip(runs, told, strict=True):
        if run.labels() != names:
            raise RunError(
                "the run knows other classes",
                expected=f"those of {runs[0].path}",
                cure="fuse runs of one data set",
                where=run.path,
            )
        if (one.ids, one.labels.tolist()) != (told[0].ids, told[0].labels.tolist()):
            raise RunError(
                "the run was tested on other recordings",
                expected=f"the {len(told[0].ids)} of {runs[0].path}, in their order",
                cure=f"test both anew with the same split, `muybridge test {run.path} --split {split}`",
                where=run.path,
            )
    mean = sum(weight * one.probabilities for weight, one in zip(weights, told, strict=True)) / sum(weights)
    assert isinstance(mean, Tensor)
    return score(mean, told[0].labels, names, broader=runs[0].recipe().data.broader())


def _read(run: RunFolder, split: Split) -> _Told:
    path, names = run.path / f"{split}-answers.csv", run.labels()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["id", "true", "predicted", *names]
        ids, labels = tuple(row[0] for row in rows), [names.index(row[1]) for row in rows]
        chances = [[float(chance) for chance in row[3:]] for row in rows]
        return _Told(ids, torch.tensor(labels), torch.tensor(chances, dtype=torch.float32).reshape(-1, len(names)))
    except (OSError, ValueError, IndexError, AssertionError) as problem:
        raise RunError(
            f"its answers cannot be read ({problem})",
            expected="those of a test",
            cure=f"run `muybridge test {run.path} --split {split}` first",
            where=path,
        ) from None
