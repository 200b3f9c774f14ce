"""Confusion matrices that stay readable from two classes to hundreds.

Legend: K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from muybridge.viz.style import FAINT, INK, SOFT, clean_text, hide_axes, new_figure, save, shorten, styled, text_width

_MAX_NUMBERED = 30  # up to so many classes the cells contain numbers and the columns names
_MAX_LETTERS = 36  # longer class names are shortened
_MAX_PIXELS = 8_000  # of a side; the figure is drawn at fewer dots per inch where it would be larger
_BLUES, _ORANGES = mpl.colormaps["Blues"], mpl.colormaps["Oranges"]
# Correct answers in blues, wrong ones in oranges: distinct for every kind of color vision, and neither fades to white.
_CORRECT = LinearSegmentedColormap.from_list("correct", [_BLUES(0.08 + 0.87 * step / 63) for step in range(64)])
_WRONG = LinearSegmentedColormap.from_list("wrong", [_ORANGES(0.12 + 0.83 * step / 63) for step in range(64)])


def draw_confusion(
    matrix: Int[np.ndarray, "K K"], labels: Sequence[str], path: Path, *, title: str = "Confusion matrix"
) -> None:
    """Draw how often each class is predicted as each: true classes in rows, predicted ones in columns.

    Each row is in per cent, and the recall of each class stands at the right. Up to 30 classes the cells contain the
    percentages; beyond, columns have the numbers of the classes and the most frequent mistakes are listed below.
    Classes without samples stay empty.

    Args:
        matrix: how many samples of each class (row) were predicted as each class (column).
        labels: class names in label order.
        path: .png, .pdf or .svg.
        title: stands before top-1 accuracy and number of samples.

    Raises:
        RunError: ``path`` cannot be written.
    """
    assert matrix.shape == (len(labels), len(labels)), (matrix.shape, len(labels))
    top1 = 100 * np.trace(matrix) / max(matrix.sum(), 1)
    with styled():
        names = [shorten(clean_text(label), _MAX_LETTERS) for label in labels]
        heading = f"{shorten(clean_text(title), 90)} · top-1 {top1:.1f} % of {matrix.sum():,} samples"
        mistakes = [] if len(labels) <= _MAX_NUMBERED else _worst(matrix, names)
        page = _Page.of(names, heading, len(mistakes))
        figure = new_figure(page.width, page.height, page.dpi)
        grid = page.axes(figure, page.left, page.bottom, page.side, page.side)
        _draw_cells(grid, matrix, page)
        _label_cells(grid, names, page)
        x = page.left + page.side + 0.15
        _draw_recall(page.axes(figure, x, page.bottom, page.recall, page.side), matrix, page.size)
        _draw_key(page.axes(figure, x, page.bottom - 0.4, 0.8, 0.24))
        place = 0.15 / page.width, 1 - 0.2 / page.height
        figure.text(*place, heading, fontsize=11, fontweight="bold", va="top")
        _list_mistakes(figure, mistakes, page)
        save(figure, path)


@dataclass(frozen=True, slots=True)
class _Page:
    """Where the parts lie, in inches from the lower left corner."""

    width: float
    height: float
    dpi: int
    left: float
    bottom: float
    side: float
    recall: float
    cell: float
    size: float  # of the class names, in points
    numbered: bool
    listed: float

    @classmethod
    def of(cls, names: list[str], heading: str, mistakes: int) -> "_Page":
        """The page for classes of these names, with so many mistakes listed below."""
        classes, numbered = len(names), len(names) <= _MAX_NUMBERED
        # A cell must have room for "100" where there are numbers, and for a line of small type where there are none.
        cell = 0.36 if numbered else max(0.17 - 0.0006 * (classes - 60), 0.10)
        size = 8.0 if numbered else min(8.0, 58 * cell)
        probe = new_figure(1.0, 1.0)
        rows = names if numbered else _numbered(names)
        widest = text_width(probe, rows, size)
        side = cell * classes
        left, recall = widest + 0.5, max(1.35, 0.07 * side)
        listed = 0.6 + 0.19 * mistakes if mistakes else 0.0
        bottom = max(0.8, widest + 0.5 if numbered else 0.0) + listed
        width = max(left + side + 0.15 + recall, text_width(probe, [heading], 11.0, "bold") + 0.3)
        height = 0.75 + side + bottom
        dpi = min(150, int(_MAX_PIXELS / max(width, height)))
        return cls(width, height, dpi, left, bottom, side, recall, cell, size, numbered, listed)

    def axes(self, figure: Figure, x: float, y: float, wide: float, high: float) -> Axes:
        """Axes at a place in inches."""
        return figure.add_axes((x / self.width, y / self.height, wide / self.width, high / self.height))


def _numbered(names: Sequence[str]) -> list[str]:
    return [f"{name}  {number}" for number, name in enumerate(names, start=1)]


def _draw_cells(axes: Axes, matrix: np.ndarray, page: _Page) -> None:
    shares = 100 * matrix / np.maximum(matrix.sum(axis=1), 1)[:, None]
    scale = Normalize(0, 100)
    wrong, correct = _WRONG(scale(shares))[..., :3], _CORRECT(scale(shares))[..., :3]
    image = np.where(np.eye(len(shares), dtype=bool)[..., None], correct, wrong)
    image[matrix == 0] = 1.0
    axes.imshow(image, interpolation="nearest", aspect="auto")
    edges = np.arange(len(shares) + 1) - 0.5
    axes.hlines(edges, -0.5, len(shares) - 0.5, colors=FAINT, linewidth=0.8 if page.numbered else 0.3)
    axes.vlines(edges, -0.5, len(shares) - 0.5, colors=FAINT, linewidth=0.8 if page.numbered else 0.3)
    axes.set(xlim=(-0.5, len(shares) - 0.5), ylim=(len(shares) - 0.5, -0.5))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=3)
    if not page.numbered:
        return
    for row, column in zip(*np.nonzero(matrix), strict=True):
        share = shares[row, column]
        axes.text(
            column,
            row,
            f"{share:.0f}" if share >= 0.5 else "<1",
            ha="center",
            va="center_baseline",
            fontsize=8,
            color="white" if image[row, column] @ (0.30, 0.59, 0.11) < 0.55 else INK,
        )


def _label_cells(axes: Axes, names: list[str], page: _Page) -> None:
    places = np.arange(len(names))
    axes.set_yticks(places, names if page.numbered else _numbered(names), fontsize=page.size)
    columns = names if page.numbered else [str(place + 1) for place in places]
    axes.set_xticks(places, columns, fontsize=page.size if page.numbered else 0.8 * page.size, rotation=90)
    axes.set_xlabel("predicted class", labelpad=6)
    axes.set_ylabel("true class", labelpad=6)


def _draw_recall(axes: Axes, matrix: np.ndarray, size: float) -> None:
    samples = matrix.sum(axis=1)
    recalls = 100 * np.diag(matrix) / np.maximum(samples, 1)
    places = np.arange(len(samples))
    axes.barh(places, np.where(samples > 0, 100, 0), height=0.72, color=FAINT, linewidth=0)
    axes.barh(places, recalls, height=0.72, color=_CORRECT(recalls / 100), linewidth=0)
    for place, (recall, count) in enumerate(zip(recalls, samples, strict=True)):
        text = f"{recall:.0f} % of {count}" if count else "no samples"
        axes.text(104, place, text, fontsize=size, va="center_baseline", color=INK if count else SOFT)
    axes.set(xlim=(0, 270), ylim=(len(samples) - 0.5, -0.5))
    hide_axes(axes)
    axes.set_title("recall", fontsize=9, fontweight="normal", pad=3)


def _draw_key(axes: Axes) -> None:
    steps = np.linspace(0, 1, 64)
    bars = np.stack([_CORRECT(steps), _WRONG(steps)])
    axes.imshow(bars, aspect="auto", extent=(0, 100, 0, 2), interpolation="nearest")
    axes.set_yticks([1.5, 0.5], ["correct", "wrong"], fontsize=7)
    axes.yaxis.tick_right()
    axes.set_xticks([0, 50, 100], ["0", "50", "100 %"], fontsize=7)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)


def _worst(matrix: np.ndarray, names: Sequence[str], count: int = 12) -> list[tuple[str, str]]:
    """The most frequent mistakes, by number of samples and then by share of the class: how often, and which."""
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    samples = matrix.sum(axis=1)
    pairs = [(int(row), int(column)) for row, column in zip(*np.nonzero(wrong), strict=True)]
    pairs.sort(key=lambda pair: (-wrong[pair], samples[pair[0]], pair))
    return [
        (
            f"{wrong[row, column]} of {samples[row]} ({100 * wrong[row, column] / samples[row]:.0f} %)",
            f"{names[row]} ({row + 1}) → {names[column]} ({column + 1})",
        )
        for row, column in pairs[:count]
    ]


def _list_mistakes(figure: Figure, mistakes: list[tuple[str, str]], page: _Page) -> None:
    if not mistakes:
        return
    x, y = 0.6 / page.width, page.listed - 0.2
    heading = "Most frequent mistakes: true class → predicted class"
    figure.text(x, y / page.height, heading, fontsize=9, fontweight="bold", va="top")
    for line, (frequency, pair) in enumerate(mistakes, start=1):
        at = (y - 0.05 - 0.19 * line) / page.height
        figure.text(x + 1.1 / page.width, at, frequency, fontsize=8, va="top", ha="right")
        figure.text(x + 1.25 / page.width, at, pair, fontsize=8, va="top")
