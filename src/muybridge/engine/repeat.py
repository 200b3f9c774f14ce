"""One recipe over several seeds and folds: mean and standard deviation; finished runs are not repeated."""

import itertools
import json
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from muybridge.core.errors import RecipeError, RunError
from muybridge.data.datasets.base import Split, require_one_label
from muybridge.engine.checkpoint import RunFolder, write_errors
from muybridge.engine.evaluate import evaluate
from muybridge.engine.journal import Reporter
from muybridge.engine.train import train
from muybridge.recipe import Recipe, save_recipe


@dataclass(frozen=True, slots=True)
class Repetition:
    """One seed on one fold, and the folder of its run."""

    seed: int
    fold: str | None
    folder: Path
    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Summary:
    """Percentages over all repetitions.

    Attributes:
        runs: one row each: seed, fold, top1, mean_class_accuracy, superclass, count, precision.
        by_seed: top-1 of each seed, the mean over its folds.
        mean: of ``by_seed``.
        deviation: sample standard deviation of ``by_seed``; 0 for one seed.
        superclass: mean and deviation of the superclass accuracy; None where the data set has no superclasses.
    """

    runs: list[dict[str, Any]]
    by_seed: dict[int, float]
    mean: float
    deviation: float
    superclass: tuple[float, float] | None


def plan(recipe: Recipe, folder: Path, seeds: Sequence[int], folds: Sequence[str] | None) -> list[Repetition]:
    """The repetitions to run.

    Args:
        recipe: the recipe; its own seed and fold are replaced.
        folder: each run gets a folder in this one.
        seeds: seeds to run.
        folds: names of folds, ``["all"]`` for every one, None for the recipe's own split.

    Raises:
        RecipeError: the data set has no such fold, or a seed or a fold is given twice.
    """
    require_one_label(recipe.data, "repetitions")
    _check_repeated("--seeds", seeds)
    _check_repeated("--folds", folds or ())
    known = recipe.data.folds()
    chosen = known if folds is not None and list(folds) == ["all"] else tuple(folds or ())
    unknown = [fold for fold in chosen if fold not in known]
    if unknown or (folds and not chosen):
        raise RecipeError(
            f"--folds {','.join(folds or ())}",
            expected=f"folds of {recipe.data.name}: {', '.join(known) or 'it has none'}",
            hint='choose among them, "all", or leave --folds out',
        )
    repetitions = []
    for seed, fold in itertools.product(seeds, chosen or (None,)):
        settings: dict[str, Any] = {"train.seed": seed} | ({"data.fold": fold} if fold else {})
        name = f"seed{seed}" + (f"-fold{fold}" if fold else "")
        repetitions.append(Repetition(seed, fold, folder / name, recipe.with_settings(settings)))
    return repetitions


def _check_repeated(option: str, values: Sequence[int] | Sequence[str]) -> None:
    """Refuse a value that is given twice: one run would be counted as two."""
    repeated = [str(value) for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise RecipeError(
            f"{option} {','.join(map(str, values))} repeats {', '.join(repeated)}",
            expected="each value once",
            hint="remove the repeated ones; equal settings give equal weights, and no new result",
        )


def repeat(
    repetitions: Sequence[Repetition], folder: Path, split: Split = "test", jobs: int = 1, quiet: bool = False
) -> Summary:
    """Train and test every repetition that is not finished, and write ``repeat.json`` into the folder.

    Args:
        repetitions: from :func:`plan`.
        folder: where the summary goes.
        split: what to test on; ``val`` while settings are being chosen.
        jobs: repetitions that run in parallel, each in its own process.
        quiet: report nothing.

    Raises:
        RunError: a repetition failed; the finished ones are kept.
    """
    report = Reporter(quiet)
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for repetition, row in zip(repetitions, _results(repetitions, split, jobs, report), strict=True):
        name = repetition.folder.name
        rows.append({"seed": repetition.seed, "fold": repetition.fold, "folder": name} | row)
        report.say(f"{name}: top-1 {row['top1']:.2f} % on {row['count']} of {split} ({len(rows)}/{len(repetitions)})")
    summary = summarize_rows(rows)
    with RunFolder(folder).writing("repeat.json") as file:
        file.write_text(json.dumps(asdict(summary), indent=1), encoding="utf-8")
    return summary


def summarize_rows(rows: list[dict[str, Any]]) -> Summary:
    """Mean and deviation over seeds of rows with seed, top1 and superclass."""
    by_seed = _by_seed(rows, "top1")
    has_superclasses = all(row["superclass"] is not None for row in rows)
    superclass = _spread(_by_seed(rows, "superclass")) if has_superclasses else None
    return Summary(rows, by_seed, *_spread(by_seed), superclass)


def _by_seed(rows: list[dict[str, Any]], key: str) -> dict[int, float]:
    seeds = dict.fromkeys(row["seed"] for row in rows)
    return {seed: statistics.fmean(row[key] for row in rows if row["seed"] == seed) for seed in seeds}


def _spread(by_seed: dict[int, float]) -> tuple[float, float]:
    """Mean and sample standard deviation."""
    values = by_seed.values()
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def run_one(recipe: Recipe, folder: Path, split: Split, report: Reporter) -> dict[str, Any]:
    """Train (or resume, or skip what is finished) and test one repetition."""
    run = train(recipe, folder, resume=RunFolder(folder).exists, report=report)
    file = folder / f"{split}.json"
    scores = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else asdict(evaluate(run, split))
    names = ("top1", "top5", "mean_class_accuracy", "superclass", "count", "precision")
    return {name: scores[name] for name in names}


def _results(repetitions: Sequence[Repetition], split: Split, jobs: int, report: Reporter) -> Iterator[dict[str, Any]]:
    if jobs == 1:
        for repetition in repetitions:
            report.say(repetition.folder.name)
            yield run_one(repetition.recipe, repetition.folder, split, report)
        return
    with ThreadPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(lambda repetition: _in_process(repetition, split, jobs), repetitions)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _in_process(repetition: Repetition, split: Split, jobs: int) -> dict[str, Any]:
    """One repetition in a process of its own, with its share of the cores."""
    folder = repetition.folder
    recipe_file = folder.with_name(f"{folder.name}.recipe.toml")
    save_recipe(repetition.recipe, recipe_file)
    command = [sys.executable, "-m", "muybridge.engine.repeat", str(recipe_file), str(folder), split, str(jobs)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RunError(
            f"a repetition failed: {ended.stderr.strip()[-500:]}",
            expected="every repetition to end well",
            hint="fix the cause and repeat the command; finished runs are kept",
            where=folder,
        )
    recipe_file.unlink()
    return json.loads(ended.stdout.strip().splitlines()[-1])


def _main(recipe_file: str, folder: str, split: Split, jobs: str) -> None:
    import os

    import torch

    from muybridge.recipe import load_recipe

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(jobs)))
    row = run_one(load_recipe(recipe_file), Path(folder), split, Reporter(quiet=True))
    sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])  # pyright: ignore[reportArgumentType]
