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


@dataclass(frozen=True, slots=True)
class Aligned:
    """The predictions of several sources for the same recordings of the same classes.

    Attributes:
        ids: record ids, in the order of the first run.
        labels: the true classes.
        names: of the classes, in the order of the first run.
        probabilities: of each source.
        superclasses: of each class, where the data set has any.
    """

    ids: tuple[str, ...]
    labels: Int64[Tensor, " N"]
    names: tuple[str, ...]
    probabilities: list[Float32[Tensor, "N K"]]
    superclasses: tuple[str, ...] = ()

    def alone(self) -> list[Scores]:
        """The scores of each source by itself."""
        return [self._score(part) for part in self.probabilities]

    def fused(self, weights: Sequence[float] = ()) -> Scores:
        """The scores of the weighted mean; without weights all sources count alike.

        Raises:
            RunError: there are not as many weights as sources, or they are negative or all zero.
        """
        weights = weights or [1.0] * len(self.probabilities)
        if len(weights) != len(self.probabilities) or min(weights) < 0 or sum(weights) == 0:
            raise RunError(
                f"weights {', '.join(f'{weight:g}' for weight in weights)}",
                expected=f"{len(self.probabilities)} of them, one for each source, none negative and not all zero",
                hint="correct the weights",
            )
        mean = sum(weight * part for weight, part in zip(weights, self.probabilities, strict=True)) / sum(weights)
        assert isinstance(mean, Tensor)
        return self._score(mean)

    def _score(self, probabilities: Float32[Tensor, "N K"]) -> Scores:
        return score(probabilities, self.labels, self.names, superclasses=self.superclasses)


def fuse(sources: Sequence[RunFolder | Path], weights: Sequence[float] = (), split: Split = "test") -> Scores:
    """Scores of the weighted mean of the predictions of tested runs and other tools; see :func:`align`."""
    return align(sources, split).fused(weights)


def align(sources: Sequence[RunFolder | Path], split: Split = "test") -> Aligned:
    """The predictions of tested runs and other tools for the same recordings, which are matched by their ids.

    Args:
        sources: runs, at least one, tested before on the same recordings of the same classes, in any order of both, so
            that a run on videos and one on skeletons of the same recordings go together; and files with predictions of
            another tool, CSV with the column ``id`` and one for each class, its probability. Rows and columns may be in
            any order, and there may be more of them.
        split: the part of the data that the runs were tested on.

    Raises:
        RunError: a run was not tested, or two runs differ in their recordings or classes; or there is no run.
        DataError: a file cannot be read, lacks a class or a recording, or contains values that are not probabilities.
    """
    runs = [source for source in sources if isinstance(source, RunFolder)]
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
    superclasses = first.recipe().data.superclasses()
    return Aligned(reference.ids, reference.labels, first.labels(), probabilities, superclasses)


def learn_weights(aligned: Aligned, steps: int = 2000, tolerance: float = 1e-7) -> list[float]:
    """The weights whose mean of probabilities makes the true classes most likely; they sum to 1.

    The likelihood is concave in the weights, so that expectation maximization of a mixture finds its highest point.

    Args:
        aligned: predictions for recordings that no source was trained on, and that nothing is tested on.
        steps: at most so many.
        tolerance: largest change of a weight at which it ends.
    """
    rows = torch.arange(len(aligned.labels))
    of_truth = torch.stack([part[rows, aligned.labels] for part in aligned.probabilities], 1).double().clamp(min=1e-12)
    weights = torch.full((of_truth.shape[1],), 1 / of_truth.shape[1], dtype=torch.float64)
    for _ in range(steps):
        shares = weights * of_truth
        after = (shares / shares.sum(1, keepdim=True)).mean(0)
        change, weights = float((after - weights).abs().max()), after
        if change < tolerance:
            break
    return weights.tolist()


def _read_matching(run: RunFolder, first: RunFolder, reference: RunPredictions, split: Split) -> Float32[Tensor, "N K"]:
    """The probabilities of a run for the recordings and classes of the first one, in their order."""
    predictions, names = read_predictions(run, split), run.labels()
    if set(names) != set(first.labels()):
        raise RunError(
            "the run has other classes",
            expected=f"those of {first.path}",
            hint="fuse runs of one data set",
            where=run.path,
        )
    row = {id_: number for number, id_ in enumerate(predictions.ids)}
    if set(row) != set(reference.ids):
        missing = sorted(set(reference.ids) ^ set(row))
        raise RunError(
            f"the run was tested on other recordings: {missing[0]} is of one of them alone",
            expected=f"the {len(reference.ids)} of {first.path}, in any order",
            hint=f"test both again with the same split, `muybridge test {run.path} --split {split}`",
            where=run.path,
        )
    order = torch.tensor([row[id_] for id_ in reference.ids], dtype=torch.int64)
    theirs = [names[label] for label in predictions.labels[order].tolist()]
    ours = [first.labels()[label] for label in reference.labels.tolist()]
    unlike = next((n for n, (our, their) in enumerate(zip(ours, theirs, strict=True)) if our != their), None)
    if unlike is not None:
        raise RunError(
            f"the recording {reference.ids[unlike]} is of the class {theirs[unlike]!r}",
            expected=f"{ours[unlike]!r}, as in {first.path}",
            hint="fuse runs of one data set",
            where=run.path,
        )
    columns = torch.tensor([names.index(name) for name in first.labels()])
    return predictions.probabilities[order][:, columns]


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
