"""Confusion matrices that stay readable from two classes to two hundred.

Legend: K classes.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from muybridge.viz.style import FAINT, INK, SOFT, hide_axes, new_figure, save, shorten, styled, text_width

_NUMBERED = 30  # up to so many classes the cells hold numbers and the columns names
_LETTERS = 36  # longer class names are cut
_BLUES, _ORANGES = mpl.colormaps["Blues"], mpl.colormaps["Oranges"]
# Right answers in blues, wrong ones in oranges: apart for every kind of colour vision, and neither fades to white.
_RIGHT = LinearSegmentedColormap.from_list("right", [_BLUES(0.08 + 0.87 * step / 63) for step in range(64)])
_WRONG = LinearSegmentedColormap.from_list("wrong", [_ORANGES(0.12 + 0.83 * step / 63) for step in range(64)])


def draw_confusion(
    matrix: Int[np.ndarray, "K K"], labels: Sequence[str], path: Path, *, title: str = "Confusion matrix"
) -> None:
    """Draw which classes are taken for which: true classes in rows, answers in columns, each row as a share of 100 %.

    The recall of each class stands at the side. Up to 30 classes the cells hold the percentages; beyond, columns bear
    the numbers of the classes and the most frequent mistakes are listed below. Classes without samples stay empty.

    Args:
        matrix: how many samples of each class (row) were taken for each class (column).
        labels: class names in label order.
        path: where to; .png, .pdf or .svg.
        title: the words before top-1 accuracy and number of samples.

    Raises:
        RunError: ``path`` cannot be written.
    """
    assert matrix.shape == (len(labels), len(labels)), (matrix.shape, len(labels))
    classes, numbered = len(labels), len(labels) <= _NUMBERED
    samples = matrix.sum(axis=1)
    shares = 100 * matrix / np.maximum(samples, 1)[:, None]
    # Inches: a cell must hold "100" where there are numbers, and a line of small type where there are none.
    cell = 0.36 if numbered else max(0.17 - 0.0006 * (classes - 60), 0.10)
    size = 8.0 if numbered else min(8.0, 58 * cell)
    rows = [shorten(label, _LETTERS) for label in labels]
    if not numbered:
        rows = [f"{label}  {place}" for place, label in enumerate(rows, start=1)]
    with styled():
        probe = new_figure(1.0, 1.0)
        names = text_width(probe, rows, size)
        side = cell * classes
        left, recall = names + 0.5, max(1.35, 0.07 * side)
        bottom = max(0.8, names + 0.5 if numbered else 0.0)
        top = 0.75
        mistakes = [] if numbered else _worst(matrix, labels)
        listed = 0.0 if not mistakes else 0.6 + 0.19 * len(mistakes)
        top1 = 100 * np.trace(matrix) / max(matrix.sum(), 1)
        heading = f"{title} · top-1 {top1:.1f} % of {matrix.sum():,} samples"
        width = max(left + side + 0.15 + recall, text_width(probe, [heading], 11.0, "bold") + 0.3)
        height = top + side + bottom + listed
        figure = new_figure(width, height)

        def inches(x: float, y: float, wide: float, high: float) -> Axes:
            return figure.add_axes((x / width, y / height, wide / width, high / height))

        grid = inches(left, bottom + listed, side, side)
        _draw_cells(grid, matrix, shares, cell, numbered)
        places = np.arange(classes)
        grid.set_yticks(places, rows, fontsize=size)
        columns = [shorten(label, _LETTERS) for label in labels] if numbered else [str(place + 1) for place in places]
        grid.set_xticks(places, columns, fontsize=size if numbered else 0.8 * size, rotation=90)
        grid.set_xlabel("answer", labelpad=6)
        grid.set_ylabel("true class", labelpad=6)
        _draw_recall(inches(left + side + 0.15, bottom + listed, recall, side), matrix, samples, size)
        _draw_key(inches(left + side + 0.15, bottom + listed - 0.4, 0.8, 0.24))
        figure.text(0.15 / width, 1 - 0.2 / height, heading, fontsize=11, fontweight="bold", va="top")
        _list_mistakes(figure, mistakes, left, listed)
        save(figure, path)


def _draw_cells(axes: Axes, matrix: np.ndarray, shares: Float[np.ndarray, "K K"], cell: float, numbered: bool) -> None:
    scale = Normalize(0, 100)
    picture = np.ones((*shares.shape, 3))
    wrong, right = _WRONG(scale(shares))[..., :3], _RIGHT(scale(shares))[..., :3]
    diagonal = np.eye(len(shares), dtype=bool)
    picture = np.where(diagonal[..., None], right, wrong)
    picture[matrix == 0] = 1.0
    axes.imshow(picture, interpolation="nearest", aspect="auto")
    edges = np.arange(len(shares) + 1) - 0.5
    axes.hlines(edges, -0.5, len(shares) - 0.5, colors=FAINT, linewidth=0.8 if numbered else 0.3)
    axes.vlines(edges, -0.5, len(shares) - 0.5, colors=FAINT, linewidth=0.8 if numbered else 0.3)
    axes.set(xlim=(-0.5, len(shares) - 0.5), ylim=(len(shares) - 0.5, -0.5))
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, pad=3)
    if not numbered:
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
            color="white" if picture[row, column] @ (0.30, 0.59, 0.11) < 0.55 else INK,
        )


def _draw_recall(axes: Axes, matrix: np.ndarray, samples: np.ndarray, size: float) -> None:
    recalls = 100 * np.diag(matrix) / np.maximum(samples, 1)
    places = np.arange(len(samples))
    axes.barh(places, np.where(samples > 0, 100, 0), height=0.72, color=FAINT, linewidth=0)
    axes.barh(places, recalls, height=0.72, color=_RIGHT(recalls / 100), linewidth=0)
    for place, (recall, count) in enumerate(zip(recalls, samples, strict=True)):
        words = f"{recall:.0f} % of {count}" if count else "no samples"
        axes.text(104, place, words, fontsize=size, va="center_baseline", color=INK if count else SOFT)
    axes.set(xlim=(0, 270), ylim=(len(samples) - 0.5, -0.5))
    hide_axes(axes)
    axes.set_title("recall", fontsize=9, fontweight="normal", pad=3)


def _draw_key(axes: Axes) -> None:
    steps = np.linspace(0, 1, 64)
    axes.imshow(np.stack([_RIGHT(steps), _WRONG(steps)]), aspect="auto", extent=(0, 100, 0, 2), interpolation="nearest")
    axes.set_yticks([1.5, 0.5], ["right", "wrong"], fontsize=7)
    axes.yaxis.tick_right()
    axes.set_xticks([0, 50, 100], ["0", "50", "100 %"], fontsize=7)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)


def _worst(matrix: np.ndarray, labels: Sequence[str], most: int = 12) -> list[str]:
    """The most frequent mistakes in words, by number of samples and then by share of the class."""
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    samples = matrix.sum(axis=1)
    pairs = [(int(row), int(column)) for row, column in zip(*np.nonzero(wrong), strict=True)]
    pairs.sort(key=lambda pair: (-wrong[pair], samples[pair[0]], pair))
    return [
        f"{wrong[row, column]} of {samples[row]} ({100 * wrong[row, column] / samples[row]:.0f} %)\t"
        f"{labels[row]} ({row + 1}) → {labels[column]} ({column + 1})"
        for row, column in pairs[:most]
    ]


def _list_mistakes(figure: Figure, mistakes: list[str], left: float, listed: float) -> None:
    if not mistakes:
        return
    width, height = figure.get_size_inches()
    x, y = 0.6 / width, listed - 0.2
    figure.text(x, y / height, "Most frequent mistakes: true class → answer", fontsize=9, fontweight="bold", va="top")
    for line, words in enumerate(mistakes, start=1):
        share, pair = words.split("\t")
        at = (y - 0.05 - 0.19 * line) / height
        figure.text(x + 1.1 / width, at, share, fontsize=8, va="top", ha="right")
        figure.text(x + 1.25 / width, at, pair, fontsize=8, va="top")
