"""One look for every picture: fonts, inks and colour maps, and files that appear whole or not at all."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text

from muybridge.core.errors import RunError
from muybridge.core.files import atomic_write

INK, SOFT, FAINT = "#1b1f24", "#6a737d", "#e3e6ea"
# Okabe and Ito's inks: apart for every kind of colour vision. The first two are for people, and for train and val.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#555555")
_MAGMA = mpl.colormaps["magma_r"]
# Pale is little, dark is much, evenly to the eye; the palest end still shows on white, the darkest is not yet black.
HEAT = LinearSegmentedColormap.from_list("heat", [_MAGMA(0.02 + 0.83 * step / 63) for step in range(64)])

_RC = {
    "font.family": ["DejaVu Sans"],  # ships with matplotlib, so pictures look the same everywhere
    "font.size": 9,
    "mathtext.fontset": "dejavusans",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.labelsize": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "text.parse_math": False,  # a class called "cost $5 or $6" is not a formula
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


@contextmanager
def styled() -> Iterator[None]:
    """While it lasts, new figures have this house's look; matplotlib's global settings come back afterwards."""
    with mpl.rc_context(_RC):  # type: ignore[arg-type]  # the stubs list the keys as literals
        yield


def new_figure(width: float, height: float, dpi: int = 150, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure of ``width`` by ``height`` inches with its own canvas, unknown to pyplot."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def text_width(figure: Figure, words: Sequence[str], size: float, weight: str = "normal") -> float:
    """Inches that the widest of ``words`` takes at font ``size``."""
    artist: Text = figure.text(0, 0, "", fontsize=size, fontweight=weight)
    widest = 0.0
    for word in words:
        artist.set_text(word)
        widest = max(widest, artist.get_window_extent().width / figure.dpi)
    artist.remove()
    return widest


def wrap_text(words: str, size: float, inches: float) -> str:
    """``words`` in bold of ``size``, broken into lines so that none is wider than ``inches``."""
    wide = text_width(new_figure(1.0, 1.0), [words], size, "bold")
    return textwrap.fill(words, max(8, int(0.92 * len(words) * inches / wide))) if wide > inches else words


def shorten(words: str, letters: int) -> str:
    """``words`` in at most ``letters`` letters, with an ellipsis where some went."""
    return words if len(words) <= letters else words[: letters - 1].rstrip() + "…"


def hide_axes(axes: Axes) -> None:
    """Take the frame and the ticks off ``axes``."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.patch.set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` (.png, .pdf or .svg by its suffix), whole or not at all.

    Raises:
        RunError: the suffix is none of these, or the folder cannot be written.
    """
    suffix = checked_suffix(path, (".png", ".pdf", ".svg"))
    with atomic_image(path) as draft:
        figure.savefig(draft, format=suffix[1:])


def checked_suffix(path: Path, known: tuple[str, ...]) -> str:
    """The suffix of ``path`` in lower case; RunError unless it is one of ``known``."""
    suffix = path.suffix.lower()
    if suffix not in known:
        raise RunError(
            f"a picture with the suffix '{path.suffix}' was asked for",
            expected=f"one of {', '.join(known)}",
            hint="change the end of the file name",
            where=path,
        )
    return suffix


@contextmanager
def atomic_image(path: Path) -> Iterator[Path]:
    """A draft to write, see :func:`whole_file`; its folder is made where there is none.

    Raises:
        RunError: the folder cannot be made or written, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, shared=True) as draft:
            yield draft
    except OSError as error:
        raise RunError(
            f"the picture cannot be written ({error.strerror or error})",
            expected="a folder that can be written, with room on its disk",
            hint="make room, or choose another folder",
            where=path,
        ) from error
