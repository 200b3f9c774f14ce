"""A picture of a timeline: segments as bars over the probabilities of the classes that occur."""

from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from muybridge.timeline import Timeline
from muybridge.viz.style import COLORS, SOFT, clean_text, new_figure, save, shorten, styled

_MOST = 8
"""Classes with a row and a line of their own; more cannot be told apart."""


def draw_timeline(timeline: Timeline, path: Path) -> Path:
    """Write the picture of a timeline as PNG; returns its path.

    Args:
        timeline: to draw.
        path: of the file.

    Raises:
        RunError: it cannot be written.
    """
    shown = _classes(timeline)
    colors = {label: COLORS[index % len(COLORS)] for index, label in enumerate(shown)}
    with styled():
        rows = 0.3 * len(shown)
        figure = new_figure(9.0, rows + 2.9, layout="constrained")
        bars, lines = figure.subplots(2, 1, sharex=True, height_ratios=(rows + 0.2, 1.7))
        bars.set_title(shorten(clean_text(Path(timeline.path).name), 60))
        _draw_segments(bars, timeline, shown, colors)
        _draw_probabilities(lines, timeline, shown, colors)
        save(figure, path)
    return path


def _draw_segments(axes: Axes, timeline: Timeline, shown: list[str], colors: dict[str, str]) -> None:
    """A row of bars for each class, and one for all others."""
    others = {segment.label for segment in timeline.segments} - set(shown)
    for segment in timeline.segments:
        row = shown.index(segment.label) if segment.label in colors else len(shown)
        span = (segment.start, segment.end - segment.start)
        axes.broken_barh([span], (row - 0.36, 0.72), color=colors.get(segment.label, SOFT))
    names = [shorten(clean_text(label), 30) for label in shown]
    rows = [*names, f"{len(others)} other classes"] if others else names
    if not timeline.segments:
        axes.text(0.5, 0.5, "no segments", transform=axes.transAxes, ha="center", va="center", color=SOFT)
    axes.set_yticks(range(len(rows)), rows)
    for tick, color in zip(axes.get_yticklabels(), colors.values(), strict=False):
        tick.set_color(color)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(length=0)


def _draw_probabilities(axes: Axes, timeline: Timeline, shown: list[str], colors: dict[str, str]) -> None:
    """The probability of each class over time."""
    middles = (timeline.edges[:-1] + timeline.edges[1:]) / 2
    for label in shown:
        values = timeline.probabilities[:, timeline.labels.index(label)]
        axes.plot(middles, values, color=colors[label], linewidth=1.2)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, timeline.duration)
    axes.set_ylabel("probability")
    axes.set_xlabel(f"seconds; windows of {timeline.window:.3g} s every {timeline.hop:.3g} s")
    axes.grid(axis="y")
    axes.tick_params(length=0)


def _classes(timeline: Timeline) -> list[str]:
    """Classes with the most time in segments, by first appearance; without any, those with the highest probability."""
    times: dict[str, float] = defaultdict(float)
    for segment in timeline.segments:
        times[segment.label] += segment.end - segment.start
    most = sorted(times, key=times.__getitem__, reverse=True)[:_MOST]
    found = [label for label in times if label in most]
    ranked = [timeline.labels[index] for index in np.argsort(-timeline.probabilities.max(0))]
    return (found or ranked)[:_MOST]
