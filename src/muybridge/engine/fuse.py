"""Late fusion: the weighted mean of the predictions of several runs, or other tools, for the same recordings.

Legend: N recordings, K classes.
Source: two-stream networks, Simonyan and Zisserman, NIPS 2014; VideoLSTM's appearance and motion streams.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from muybridge.core.errors import DataError, RunError
from muybridge.data.datasets.base import Split, require_one_label
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.metrics import Scores, score


@dataclass(frozen=True, slots=True)
class RunPredictions:
    """The predictions of a run, in the order of its test.

    Attributes:
        ids: record ids.
        labels: the true classes.
        probabilities: of every class.
    """

    ids: tuple[str, ...]
    labels: Int64[Tensor, " N"]
    probabilities: Float32[Tensor, "N K"]


def fuse(sources: Sequence[RunFolder | Path], weights: Sequence[float] = (), split: Split = "test") -> Scores:
    """Scores of the weighted mean of the predictions of tested runs and other tools.

    Args:
        sources: runs, at least one, tested before on the same recordings of the same classes; and files with
            predictions of another tool, CSV with the column ``id`` and one for each class, its probability. Rows and
            columns may be in any order, and there may be more of them.
        weights: of each source; empty weighs all alike.
        split: the part of the data that the runs were tested on.

    Raises:
        RunError: a run was not tested, or two runs differ in their recordings or classes; or there are not as many
            weights as sources, or they are negative or all zero; or there is no run.
        DataError: a file cannot be read, lacks a class or a recording, or contains values that are not probabilities.
    """
    weights = weights or [1.0] * len(sources)
    runs = [source for source in sources if isinstance(source, RunFolder)]
    if len(weights) != len(sources) or min(weights) < 0 or sum(weights) == 0:
        raise RunError(
            f"weights {', '.join(f'{weight:g}' for weight in weights)}",
            expected=f"{len(sources)} of them, one for each source, none negative and not all zero",
            hint="correct the weights",
        )
    if not runs:
        raise RunError(
            "no run is among the sources",
            expected="at least one run, which knows the classes and the labels",
            hint="name one beside the files",
        )
    first, reference = runs[0], read_predictions(runs[0], split)
    probabilities: list[Tensor] = []
    for source in sources:
        if isinstance(source, Path):
            probabilities.append(_read_file(source, reference.ids, first.labels()))
        elif source is first:
            probabilities.append(reference.probabilities)
        else:
            probabilities.append(_read_matching(source, first, reference, split))
    mean = sum(weight * part for weight, part in zip(weights, probabilities, strict=True)) / sum(weights)
    assert isinstance(mean, Tensor)
    return score(mean, reference.labels, first.labels(), superclasses=first.recipe().data.superclasses())


def _read_matching(run: RunFolder, first: RunFolder, reference: RunPredictions, split: Split) -> Float32[Tensor, "N K"]:
    """The probabilities of a run, if it was tested on the same recordings and classes as the first one."""
    predictions = read_predictions(run, split)
    if run.labels() != first.labels():
        raise RunError(
            "the run has other classes",
            expected=f"those of {first.path}",
            hint="fuse runs of one data set",
            where=run.path,
        )
    if (predictions.ids, predictions.labels.tolist()) != (reference.ids, reference.labels.tolist()):
        raise RunError(
            "the run was tested on other recordings",
            expected=f"the {len(reference.ids)} of {first.path}, in their order",
            hint=f"test both again with the same split, `muybridge test {run.path} --split {split}`",
            where=run.path,
        )
    return predictions.probabilities


def read_predictions(run: RunFolder, split: Split) -> RunPredictions:
    """What a test of a run wrote; raises RunError if there was none, or its file is damaged."""
    require_one_label(run.recipe().data, "a fusion or a report")
    path, names = run.path / f"{split}-predictions.csv", run.labels()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["id", "true", "predicted", *names], "its columns are not the classes of labels.txt"
        ids, labels = tuple(row[0] for row in rows), [names.index(row[1]) for row in rows]
        values = [[float(value) for value in row[3:]] for row in rows]
        probabilities = torch.tensor(values, dtype=torch.float32).reshape(-1, len(names))
        assert len(probabilities) == len(rows), "a row lacks a class"
        return RunPredictions(ids, torch.tensor(labels), probabilities)
    except FileNotFoundError:
        raise RunError(
            f"the run was not tested on {split}",
            expected="the predictions that a test writes",
            hint=f"run `muybridge test {run.path} --split {split}` first",
            where=run.path,
        ) from None
    except (OSError, ValueError, IndexError, AssertionError, csv.Error) as error:
        raise RunError(
            f"its predictions cannot be read ({getattr(error, 'strerror', None) or error})",
            expected="those of a test",
            hint=f"run `muybridge test {run.path} --split {split}` first",
            where=path,
        ) from None


def _read_file(path: Path, ids: Sequence[str], names: Sequence[str]) -> Float32[Tensor, "N K"]:
    """The probabilities that another tool gives for these recordings, in their order."""

    def complain(problem: str, expected: str) -> DataError:
        return DataError(problem, expected=expected, hint="correct the file", where=path)

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        by_id = {row["id"]: row for row in rows}
        values = torch.tensor([[float(by_id[id_][name]) for name in names] for id_ in ids])
    except KeyError as missing:
        raise complain(
            f"it lacks {missing}", "the column id, every class and every recording that was tested"
        ) from None
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise complain(f"it cannot be read ({error})", "CSV with the columns id and every class") from None
    if len(by_id) < len(rows):
        raise complain(f"{len(rows)} rows have only {len(by_id)} different ids", "one row for each recording")
    wrong = (values < 0).any(1) | ~((values.sum(1) - 1).abs() <= 0.01)  # NaN is wrong too
    if wrong.any():
        raise complain(
            f"the values of {ids[int(wrong.int().argmax())]!r} are not probabilities", "none below 0, with a sum of 1"
        )
    return values
