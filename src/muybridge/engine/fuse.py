"""Late fusion: several runs, or other tools, asked about the same recordings, and their probabilities averaged.

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
from muybridge.data.datasets.base import Split
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.metrics import Scores, score


@dataclass(frozen=True, slots=True)
class _Told:
    """What a run said of each recording."""

    ids: tuple[str, ...]
    labels: Int64[Tensor, " N"]
    probabilities: Float32[Tensor, "N K"]


def fuse(sources: Sequence[RunFolder | Path], weights: Sequence[float] = (), split: Split = "test") -> Scores:
    """Scores of the weighted mean of what tested runs said, and other tools.

    Args:
        sources: runs, tested before on the same recordings of the same classes, one at least; and files of what another
            tool says, CSV with the column ``id`` and one for each class, its probability. Rows and columns may stand
            in any order, and there may be more of them.
        weights: of each source; empty weighs all alike.
        split: the part of the data that runs were tested on.

    Raises:
        RunError: a run was not tested, or two runs differ in their recordings or classes; or there are not as many
            weights as sources, or they are negative or all zero; or there is no run.
        DataError: a file cannot be read, lacks a class or a recording, or says what are no probabilities.
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
            "no run is among what is to be fused",
            expected="a run at least, which knows the classes and what was asked about",
            hint="name one beside the files",
        )
    first, asked = runs[0], _read(runs[0], split)
    said: list[Tensor] = []
    for source in sources:
        if isinstance(source, Path):
            said.append(_read_file(source, asked.ids, first.labels()))
        else:
            said.append(asked.probabilities if source is first else _answers(source, first, asked, split))
    mean = sum(weight * one for weight, one in zip(weights, said, strict=True)) / sum(weights)
    assert isinstance(mean, Tensor)
    return score(mean, asked.labels, first.labels(), broader=first.recipe().data.superclasses())


def _answers(run: RunFolder, first: RunFolder, asked: _Told, split: Split) -> Float32[Tensor, "N K"]:
    """What a run said, if it was asked what the first one was."""
    told = _read(run, split)
    if run.labels() != first.labels():
        raise RunError(
            "the run knows other classes",
            expected=f"those of {first.path}",
            hint="fuse runs of one data set",
            where=run.path,
        )
    if (told.ids, told.labels.tolist()) != (asked.ids, asked.labels.tolist()):
        raise RunError(
            "the run was tested on other recordings",
            expected=f"the {len(asked.ids)} of {first.path}, in their order",
            hint=f"test both anew with the same split, `muybridge test {run.path} --split {split}`",
            where=run.path,
        )
    return told.probabilities


def _read(run: RunFolder, split: Split) -> _Told:
    path, names = run.path / f"{split}-predictions.csv", run.labels()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["id", "true", "predicted", *names]
        ids, labels = tuple(row[0] for row in rows), [names.index(row[1]) for row in rows]
        chances = [[float(chance) for chance in row[3:]] for row in rows]
        return _Told(ids, torch.tensor(labels), torch.tensor(chances, dtype=torch.float32).reshape(-1, len(names)))
    except (OSError, ValueError, IndexError, AssertionError, csv.Error) as problem:
        raise RunError(
            f"its answers cannot be read ({problem})",
            expected="those of a test",
            hint=f"run `muybridge test {run.path} --split {split}` first",
            where=path,
        ) from None


def _read_file(path: Path, ids: Sequence[str], names: Sequence[str]) -> Float32[Tensor, "N K"]:
    """What another tool says of these recordings, in their order."""

    def complain(said: str, expected: str) -> DataError:
        return DataError(said, expected=expected, hint="correct the file", where=path)

    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        by_id = {row["id"]: row for row in rows}
        of = [by_id[one] for one in ids]
        said = torch.tensor([[float(row[name]) for name in names] for row in of])
    except KeyError as missing:
        raise complain(
            f"it lacks {missing}", "the column id, every class and every recording that was tested"
        ) from None
    except (OSError, ValueError, TypeError, csv.Error) as problem:
        raise complain(f"it cannot be read ({problem})", "CSV with the columns id and every class") from None
    if len(by_id) < len(rows):
        raise complain(f"of its {len(rows)} rows {len(by_id)} have an id of their own", "one row for each recording")
    odd = (said < 0).any(1) | ~((said.sum(1) - 1).abs() <= 0.01)  # what is not a number is odd too
    if odd.any():
        raise complain(
            f"what it says of {ids[int(odd.int().argmax())]!r} are no probabilities", "none below 0, adding up to 1"
        )
    return said
