"""Results on the terminal, as tables or as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from muybridge.baseline import BaselineTable
    from muybridge.engine.bench import BenchResult
    from muybridge.engine.calibration import Calibration
    from muybridge.engine.fuse import Aligned
    from muybridge.engine.metrics import AnyScores, MultiLabelScores, Scores
    from muybridge.engine.repeat import Summary
    from muybridge.export import Quantized
    from muybridge.localize import LocalizationBenchmark
    from muybridge.recipe import Recipe


def print_list(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows in aligned columns, wrapped to the width of a terminal; one line a row where the output is no terminal.

    Args:
        columns: headings; none prints no heading.
        rows: as many texts as there are columns.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=10_000)
    table = Table(box=None, pad_edge=False, show_header=bool(columns), header_style="bold")
    for index in range(len(rows[0])):
        heading = columns[index] if columns else ""
        table.add_column(heading, no_wrap=index == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    with console.capture() as captured:
        console.print(table, highlight=False)
    for line in captured.get().splitlines():
        typer.echo(line.rstrip())


def rounded(value: Any, digits: int = 2) -> Any:
    """A JSON tree with all its numbers rounded; percentages have two decimals."""
    if isinstance(value, float):
        return round(value, digits)
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    return [rounded(item, digits) for item in value] if isinstance(value, list | tuple) else value


def print_json(value: Any, digits: int = 2) -> None:
    """A value as JSON, its numbers rounded."""
    typer.echo(json.dumps(rounded(value, digits), indent=1))


def print_scores(scores: "AnyScores", as_json: bool, baselines: "BaselineTable | None" = None) -> None:
    """Accuracy in total and by class, beside the best baseline of the run where one is known."""
    if as_json:
        row = {key: value for key, value in asdict(scores).items() if key != "confusion" and value not in (None, "")}
        if baselines:
            row["baseline"] = {key: getattr(baselines.floor, key) for key in ("name", "top1", "interval")}
        print_json(row)
        return
    from muybridge.engine.metrics import MultiLabelScores

    if isinstance(scores, MultiLabelScores):
        _print_multi_label(scores)
        return
    table = Table("class", _number("top-1 %"), title=f"top-1 {scores.top1:.2f} %")
    for name, share in scores.per_class.items():
        table.add_row(escape(name), "-" if share is None else f"{share:.1f}")
    console = Console()
    console.print(table)
    superclass = "" if scores.superclass is None else f"superclasses {scores.superclass:.2f} %, "
    top5 = f"top-5 {scores.top5:.2f} %, " if len(scores.per_class) > 5 else ""
    console.print(
        f"{top5}mean class accuracy {scores.mean_class_accuracy:.2f} %, {superclass}"
        f"{_recordings(scores.count)} tested, {_recordings(scores.excluded)} excluded",
        highlight=False,
    )
    if facts := scores.calibration:
        console.print(
            "expected calibration error {error_after:.1f} %, {error_before:.1f} % before the temperature of "
            "{temperature:.3g}".format(**facts),
            highlight=False,
        )
    if baselines:
        print_floor(scores, baselines)


def print_fusion(names: Sequence[str], weights: Sequence[float], aligned: "Aligned", as_json: bool) -> None:
    """Accuracy of each source alone and of all together, and the classes that gain or lose most by it."""
    alone, fused = aligned.alone(), aligned.fused(weights)
    shares = [weight / sum(weights) for weight in weights] or [1 / len(alone)] * len(alone)
    if as_json:
        sources = [
            {"name": name, "weight": round(share, 4), "top1": one.top1, "mean_class_accuracy": one.mean_class_accuracy}
            for name, share, one in zip(names, shares, alone, strict=True)
        ]
        row = {key: value for key, value in asdict(fused).items() if key != "confusion" and value not in (None, "")}
        print_json(row | {"sources": sources}, digits=4)
        return
    print_scores(fused, as_json)
    table = Table("source", _number("weight"), _number("top-1 %"), _number("mean class %"))
    for name, share, one in zip(names, shares, alone, strict=True):
        table.add_row(escape(name), f"{share:.2f}", f"{one.top1:.2f}", f"{one.mean_class_accuracy:.2f}")
    table.add_row("fused", "", f"{fused.top1:.2f}", f"{fused.mean_class_accuracy:.2f}", style="bold")
    Console().print(table)
    if len(alone) > 1:
        _print_changes(names, alone, fused)


def _print_changes(names: Sequence[str], alone: "Sequence[Scores]", fused: "Scores") -> None:
    """The classes whose accuracy changes most from the best source to the fusion."""
    best = max(range(len(alone)), key=lambda number: alone[number].top1)
    changes = [
        (after - before, name)
        for name, after in fused.per_class.items()
        if after is not None and (before := alone[best].per_class[name]) is not None and after != before
    ]
    for title, chosen in (
        ("gain", sorted((one for one in changes if one[0] > 0), reverse=True)[:5]),
        ("lose", sorted(one for one in changes if one[0] < 0)[:5]),
    ):
        if chosen:
            listed = ", ".join(f"{name} {change:+.1f}" for change, name in chosen)
            typer.echo(f"classes that {title} most over {names[best]}: {listed}")


FEW = 50
"""Recordings of validation below which a calibration is said to be uncertain: one more answer moves accuracy by 2 %."""


def describe_calibration(calibration: "Calibration") -> list[str]:
    """What a calibration found on validation, in two or three lines."""
    lines = [
        f"calibrated on {_recordings(calibration.recordings)} of val: temperature {calibration.temperature:.3g}, "
        f"expected calibration error {calibration.error_before:.1f} % before and {calibration.error_after:.1f} % after"
    ]
    if calibration.recordings < FEW:
        lines.append(f"note: {_recordings(calibration.recordings)} are few; temperature and threshold are uncertain")
    if calibration.reject is None or calibration.kept is None:
        return [*lines, "no recording of val is answered correctly, so there is no threshold for --reject auto"]
    refused = "" if calibration.refused is None else f" and rejects {calibration.refused:.0%} of the wrong ones"
    lines.append(
        f"--reject auto: {calibration.reject:.4g} keeps {calibration.kept:.0%} of the correct answers{refused}"
    )
    return lines


def print_baselines(table: "BaselineTable") -> None:
    """Accuracy of every baseline with its confidence interval."""
    title = f"{_recordings(table.count)} of {table.split}, fitted on {table.trained}"
    columns = [_number("top-1 %"), _number("95 % interval"), _number("validation %")]
    printed = Table(Column("baseline", no_wrap=True), *columns, "chosen by validation", title=title)
    for row in table.rows:
        validation = "-" if row.validation is None else f"{row.validation:.1f}"
        printed.add_row(row.name, f"{row.top1:.1f}", row.interval_text, validation, row.choice)
    console = Console()
    console.print(printed)
    for notice in table.notices:
        console.print(f"note: {notice}", highlight=False, markup=False)
    floor = table.floor
    console.print(f"a network should exceed: {floor.name}, {floor.top1:.1f} %", highlight=False)


def _print_multi_label(scores: "MultiLabelScores") -> None:
    title = f"mean average precision {scores.mean_average_precision:.2f} %"
    table = Table("class", _number("average precision %"), title=title)
    for name, area in scores.per_class.items():
        table.add_row(escape(name), "-" if area is None else f"{area:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"F1 of all labels of {scores.threshold:.0%} or more {scores.f1:.2f} %, "
        f"{_recordings(scores.count)} tested, {_recordings(scores.excluded)} excluded",
        highlight=False,
    )


def print_floor(scores: "Scores", table: "BaselineTable") -> None:
    """The best baseline beside the accuracy of a network, in red where the network does not reach it."""
    floor = table.floor
    below = scores.top1 < floor.top1
    text = f"baseline ({floor.name}): top-1 {floor.top1:.2f} %, 95 % interval {floor.interval_text}"
    if below:
        text += "; the network is below it"
    Console().print(text, style="bold red" if below else "", highlight=False)


_NO_TRUE_BOXES = "the data set has no true boxes; give them with --boxes for video-mAP"


def print_localization(result: "LocalizationBenchmark", path: Path, as_json: bool) -> None:
    """Video-mAP of a run and of the baselines at each threshold of IoU."""
    if as_json:
        precision = {
            name: {str(threshold): 100 * value for threshold, value in row.items()}
            for name, row in result.precision.items()
        }
        if not precision:
            Console(stderr=True).print(_NO_TRUE_BOXES, highlight=False)
        print_json({"boxes": str(path), "top1": result.top1} | ({"video_map": precision} if precision else {}))
        return
    console = Console()
    if result.precision:
        thresholds = next(iter(result.precision.values()))
        columns = [_number(f"{threshold:g}") for threshold in thresholds]
        title = f"{len(result.predicted.frames)} videos, top-1 {result.top1:.2f} %"
        table = Table("video-mAP % at IoU", *columns, title=title)
        for name, row in result.precision.items():
            table.add_row(name, *(f"{100 * value:.1f}" for value in row.values()))
        console.print(table)
    else:
        console.print(_NO_TRUE_BOXES, highlight=False)
    console.print(f"tubes: {path}", highlight=False, markup=False, soft_wrap=True)


def print_bench(result: "BenchResult") -> None:
    """Time of each step, throughput and the bottleneck."""
    table = Table("step", _number("median ms"), _number("95th percentile ms"), title="time for one recording")
    for step, timing in result.steps.items():
        table.add_row(step, f"{timing.median:.2f}", f"{timing.p95:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"{result.per_second:.1f} recordings/s in training on {result.device}, batches of {result.batch_size}, "
        f"{result.workers} loading processes; {100 * result.waiting:.0f} % of the time is spent waiting for data",
        highlight=False,
    )
    console.print(f"bottleneck: {result.bottleneck}; {result.advice}", highlight=False, markup=False)


def print_summary(summary: "Summary", recipe: "Recipe") -> None:
    """Accuracy of every repetition, mean and standard deviation, beside what the recipe expects."""
    folds = list(dict.fromkeys(row["fold"] for row in summary.runs))
    headings = [f"fold {fold}" if fold else "top-1 %" for fold in folds] + (["mean"] if len(folds) > 1 else [])
    table = Table("seed", *map(_number, headings))
    for seed, mean in summary.by_seed.items():
        accuracies = [f"{row['top1']:.2f}" for row in summary.runs if row["seed"] == seed]
        table.add_row(str(seed), *accuracies, *([f"{mean:.2f}"] if len(folds) > 1 else []))
    console = Console()
    console.print(table)
    console.print(f"top-1 {summary.mean:.2f} ± {summary.deviation:.2f} over {len(summary.by_seed)} seeds")
    if summary.superclass:
        console.print("superclasses {:.2f} ± {:.2f}".format(*summary.superclass))
    if recipe.expects and recipe.expects.top1 is not None:
        low, high = recipe.expects.top1 - recipe.expects.tolerance, recipe.expects.top1 + recipe.expects.tolerance
        verdict = "within" if low <= summary.mean <= high else "outside"
        console.print(f"the recipe expects {recipe.expects.top1} ± {recipe.expects.tolerance}: {verdict}")


def print_quantized(result: "Quantized") -> None:
    """Accuracy, time and size of a model in PyTorch, in ONNX, and in ONNX with integers."""
    title = f"{_recordings(result.recordings)} of {result.split}; time for one view of one"
    table = Table("format", _number("top-1 %"), _number("ms"), _number("MB"), title=title)
    for row in result.rows:
        top1 = "-" if row.top1 is None else f"{row.top1:.2f}"
        table.add_row(row.name, top1, f"{row.milliseconds:.1f}", f"{row.megabytes:.1f}")
    console = Console()
    console.print(table)
    _, floats, integers = result.rows
    assert floats.top1 is not None
    assert integers.top1 is not None
    lost, factor = floats.top1 - integers.top1, floats.milliseconds / integers.milliseconds
    console.print(f"int8: {lost:.2f} points lost, {factor:.1f} times as fast as float32", highlight=False)
    console.print(f"wrote {result.path} and {result.table}", highlight=False, markup=False, soft_wrap=True)


def _number(heading: str) -> Column:
    """A column of numbers."""
    return Column(heading, justify="right", no_wrap=True)


def _recordings(count: int) -> str:
    return f"{count} recording{'' if count == 1 else 's'}"
