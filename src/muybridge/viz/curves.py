"""Learning curves: loss terms, accuracy and learning rate of a run, from its journal."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from muybridge.core.errors import RunError
from muybridge.viz.style import COLORS, FAINT, INK, SOFT, clean_text, new_figure, save, shorten, styled, wrap_text

_ACCURACIES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class_accuracy": "mean class",
    "mean_average_precision": "mAP",
}  # per cent
_COUNTS = {"count", "excluded"}
_SIDES = {"train": "-", "val": (0, (4, 1.6))}  # solid and dashed


def draw_curves(rows: Sequence[Mapping[str, Any]], path: Path, *, title: str = "Learning curves") -> None:
    """Draw every loss term, every accuracy and the learning rate over the epochs of a run.

    Where a run was resumed and an epoch is in the journal twice, the later row counts. Stages are bands with their
    names. Terms that span more than a factor of 20 are drawn on a logarithmic scale.

    Args:
        rows: rows of the journal; those whose ``event`` is not ``epoch`` are ignored. Read from an epoch: ``stage``,
            ``epoch``, ``lr``, and ``train`` and ``val`` (optional) with named numbers, of which ``top1``, ``top5`` and
            ``mean_class_accuracy`` are percentages, ``loss`` is the sum of the terms and the others are terms.
        path: .png, .pdf or .svg.
        title: of the figure.

    Raises:
        RunError: there is no epoch in ``rows``, or ``path`` cannot be written.
    """
    latest = {(row.get("stage", ""), row["epoch"]): row for row in rows if row.get("event") == "epoch"}
    epochs = list(latest.values())
    if not epochs:
        raise RunError(
            "the journal has no finished epoch",
            expected="at least one",
            hint="wait until an epoch is done, then draw again",
            where=path,
        )
    with styled():
        figure = new_figure(8.4, 6.6, layout="constrained")
        accuracies = [
            name for name in _ACCURACIES if any(name in row.get(side, ()) for row in epochs for side in _SIDES)
        ]
        heights = [4, *([3.2] if accuracies else []), 1.3]
        panels = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0])
        panels[0].set_title(wrap_text(title, 11.0, 5.2), pad=22 if _stages(epochs)[0][0] else 8)
        _draw_losses(panels[0], epochs)
        if accuracies:
            _draw_accuracies(panels[1], epochs, accuracies)
        _draw_rate(panels[-1], epochs)
        for panel in panels:
            panel.grid(axis="y")
            panel.set_axisbelow(True)
            _draw_stages(panel, epochs, named=panel is panels[0])
        panels[-1].set(xlabel="epoch", xlim=(0.5, len(epochs) + 0.5))
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.align_ylabels(panels)
        save(figure, path)


def _draw_losses(axes: Axes, epochs: Sequence[Mapping[str, Any]]) -> None:
    names = dict.fromkeys(name for row in epochs for side in _SIDES for name in row.get(side, ()))
    terms = [name for name in names if name not in _ACCURACIES and name not in _COUNTS and name != "loss"]
    total = {0: "loss", 1: next(iter(terms), "")}.get(len(terms), "sum of terms").replace("_", " ")
    shown = ["loss"] if len(terms) == 1 else ["loss", *terms]  # a single term is the sum
    drawn: list[float] = []
    for name, color in zip(shown, cycle(COLORS), strict=False):
        for side, dash in _SIDES.items():
            values = _column(epochs, side, name)
            if not _any(values):
                continue
            text = total if name == "loss" else name.replace("_", " ")
            width = 2.0 if name == "loss" else 1.3
            _draw_line(axes, values, f"{text}, {side}  {_last(values):.3g}", color, dash, width)
            drawn += [value for value in values if math.isfinite(value) and value > 0]
    axes.set_ylabel("loss (log scale)" if _scale(axes, drawn) else "loss")
    _legend(axes)


def _draw_accuracies(axes: Axes, epochs: Sequence[Mapping[str, Any]], names: Iterable[str]) -> None:
    for name, color in zip(names, COLORS, strict=False):
        for side, dash in _SIDES.items():
            values = _column(epochs, side, name)
            if not _any(values):
                continue
            text = f"{_ACCURACIES[name]}, {side}  {_last(values):.1f}"
            _draw_line(axes, values, text, color, dash, 1.8)
    axes.set(ylabel="accuracy in %", ylim=(0, 102))
    _legend(axes)


def _draw_rate(axes: Axes, epochs: Sequence[Mapping[str, Any]]) -> None:
    rates = [float(row.get("lr", math.nan)) for row in epochs]
    axes.step(range(1, len(rates) + 1), rates, where="mid", color=SOFT, linewidth=1.5)
    # Rates that fall in steps differ by factors; a cosine that ends at zero would fill a logarithmic axis with its end.
    constant = sum(rate == following for rate, following in pairwise(rates))
    positive = [rate for rate in rates if rate > 0]
    _scale(axes, positive if 2 * constant >= len(rates) - 1 else [max(positive, default=1.0)])
    axes.set_ylabel("learning rate")


def _scale(axes: Axes, values: Sequence[float]) -> bool:
    """A logarithmic y axis where the values span more than a factor of 20 (True), one from zero otherwise."""
    spread = bool(values) and max(values) > 20 * min(values)
    if spread:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.08 * max(values, default=1.0))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return spread


def _draw_stages(axes: Axes, epochs: Sequence[Mapping[str, Any]], named: bool) -> None:
    stages = _stages(epochs)
    if len(stages) == 1:
        return
    for place, (name, first, last) in enumerate(stages):
        if place % 2 == 0:
            axes.axvspan(first - 0.5, last + 0.5, color=FAINT, alpha=0.55, linewidth=0, zorder=0)
        if named:
            letters = int(65 * (last - first + 1) / len(epochs))  # about so many fit above the band
            axes.annotate(
                shorten(clean_text(name), max(2, letters)),
                ((first + last) / 2, 1),
                (0, 4),
                xycoords=axes.get_xaxis_transform(),
                fontweight="bold",
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8,
                color=INK,
            )


def _stages(epochs: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    """Name, first and last place (from 1) of each run of epochs of one stage."""
    stages: list[tuple[str, int, int]] = []
    for place, row in enumerate(epochs, start=1):
        name = str(row.get("stage", ""))
        if stages and stages[-1][0] == name:
            stages[-1] = (name, stages[-1][1], place)
        else:
            stages.append((name, place, place))
    return stages


def _column(epochs: Sequence[Mapping[str, Any]], side: str, name: str) -> list[float]:
    return [float(value) if (value := row.get(side, {}).get(name)) is not None else math.nan for row in epochs]


def _any(values: Iterable[float]) -> bool:
    return any(math.isfinite(value) for value in values)


def _last(values: Sequence[float]) -> float:
    return next(value for value in reversed(values) if math.isfinite(value))


def _draw_line(axes: Axes, values: Sequence[float], label: str, color: str, dash: Any, width: float) -> None:
    places = [place for place, value in enumerate(values, start=1) if math.isfinite(value)]
    # Validation may come every few epochs: its points are joined across the epochs without one.
    marker = "o" if len(places) <= 30 else ""
    axes.plot(
        places,
        [values[place - 1] for place in places],
        color=color,
        linestyle=dash,
        linewidth=width,
        marker=marker,
        markersize=3,
        label=label,
    )


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, handlelength=2.6, labelspacing=0.5)
