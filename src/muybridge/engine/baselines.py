"""Baselines of a run: measured on its own split, and kept in its folder as ``baseline.json``."""

import json
from collections.abc import Mapping, Sequence

from muybridge.baseline import BaselineTable
from muybridge.core.errors import RunError
from muybridge.core.types import Record
from muybridge.data.datasets.base import DatasetConfig, Split
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluated_part import find_evaluated_part
from muybridge.engine.journal import Reporter

FILE = "baseline.json"


def measure(
    data: DatasetConfig,
    split: Split = "test",
    parts: Mapping[str, Sequence[Record]] | None = None,
    report: Reporter | None = None,
    fisher_vectors: bool = False,
) -> BaselineTable:
    """The baselines of a data set; see :func:`~muybridge.baseline.measure.measure_baselines`.

    Args:
        data: the data set with its split.
        split: the part to test on.
        parts: recordings of ``train`` and of ``split``; by default those that the data set has now.
        report: where progress is shown; by default nowhere.
        fisher_vectors: whether they are among the baselines of videos.
    """
    from muybridge.baseline.measure import measure_baselines  # here, as scikit-learn takes a second to import

    report = report or Reporter(quiet=True)
    with report:
        report.begin("reading recordings for the baselines")
        return measure_baselines(data, split, parts, report.update, fisher_vectors)


def measure_run(
    run: RunFolder, split: Split = "test", report: Reporter | None = None, fisher_vectors: bool = False
) -> BaselineTable:
    """The baselines on the split that a run was trained with; those on its test part are kept in its folder.

    Raises:
        DataError: recordings of the split are gone or cannot be read.
        RunError: the folder cannot be written.
    """
    recipe = run.recipe()
    parts = {name: find_evaluated_part(run, recipe, name).records for name in ("train", split)}
    table = measure(recipe.data, split, parts, report, fisher_vectors)
    if split == "test":
        write_baselines(run, table)
    return table


def write_baselines(run: RunFolder, table: BaselineTable) -> None:
    """Keep a table in a run folder; raises RunError if it cannot be written."""
    run.write_json(FILE, table.as_dict())


def read_baselines(run: RunFolder) -> BaselineTable | None:
    """The table in a run folder, if there is one; raises RunError if it is damaged."""
    path = run.path / FILE
    if not path.is_file():
        return None
    try:
        return BaselineTable.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise RunError(
            f"damaged ({type(problem).__name__})",
            expected="a table of baselines",
            hint=f"measure it again with `muybridge baseline {run.path}`",
            where=path,
        ) from None
