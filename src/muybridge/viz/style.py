"""The common style of all figures: fonts, colors and color maps, text that can be drawn, atomic writes."""

import functools
import textwrap
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from muybridge.core.errors import MuybridgeWarning, RunError
from muybridge.core.files import atomic_write

INK, SOFT, FAINT = "#1b1f24", "#6a737d", "#e3e6ea"
# The palette of Okabe and Ito, distinct for every kind of color vision. The first two are for people, and for train
# and val.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#555555")
_MAGMA = mpl.colormaps["magma_r"]
# Pale is little, dark is much, perceptually uniform; the palest end still shows on white, the darkest is not yet black.
HEAT = LinearSegmentedColormap.from_list("heat", [_MAGMA(0.02 + 0.83 * step / 63) for step in range(64)])

# DejaVu ships with matplotlib, so figures look the same everywhere; the others are for scripts that it lacks, where
# they are installed.
_FONTS = (
    *("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans", "WenQuanYi Micro Hei"),
    *("WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans", "Yu Gothic", "Malgun Gothic"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Bengali"),
    *("Arial Unicode MS", "Nirmala UI", "Segoe UI Symbol", "Noto Emoji", "Symbola", "FreeSans"),
)

# A user's matplotlibrc must not decide how these figures look, least of all whether text goes through LaTeX.
_DEFAULTS = {
    key: value
    for key, value in mpl.rcParamsDefault.items()
    if not key.startswith(("backend", "interactive", "toolbar", "webagg", "tk."))
}
_RC = {
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


# By Unicode category: control characters, line and paragraph separators, and bytes of a file name that are not text.
_DRAWN_AS = {"Cc": " ", "Zl": " ", "Zp": " ", "Cs": "\N{REPLACEMENT CHARACTER}"}


@contextmanager
def styled() -> Iterator[None]:
    """Inside, new figures have this package's style; matplotlib's global settings are restored afterwards."""
    with mpl.rc_context(_DEFAULTS | _RC | {"font.family": list(_fonts())}), warnings.catch_warnings():  # type: ignore[arg-type]  # the stubs list the keys as literals
        # clean_text warns about them already, once for each text.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")
        yield


def new_figure(width: float, height: float, dpi: int = 150, layout: Literal["constrained"] | None = None) -> Figure:
    """An empty figure of ``width`` by ``height`` inches with its own canvas, unknown to pyplot."""
    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def clean_text(text: str) -> str:
    """A name as it can be drawn on one line: control characters and line ends become spaces.

    Characters that no installed font has give a :class:`MuybridgeWarning` for their script; they are drawn as boxes.
    """
    text = "".join(_DRAWN_AS.get(unicodedata.category(letter), letter) for letter in text)
    missing = {letter for letter in text if ord(letter) not in _glyphs() and not _invisible(letter)}
    for script, example in sorted({_script(letter): letter for letter in sorted(missing)}.items()):
        warnings.warn(
            f"no installed font has {script} characters such as {example}; they are drawn as boxes. Install a font "
            "that has them, such as Noto Sans CJK (Debian: fonts-noto-cjk)",
            MuybridgeWarning,
            stacklevel=3,
        )
    return " ".join(text.split())


def text_width(figure: Figure, texts: Sequence[str], size: float, weight: str = "normal") -> float:
    """Inches that the widest of ``texts`` takes at font ``size``."""
    artist: Text = figure.text(0, 0, "", fontsize=size, fontweight=weight)
    widest = 0.0
    for text in texts:
        artist.set_text(text)
        widest = max(widest, artist.get_window_extent().width / figure.dpi)
    artist.remove()
    return widest


def wrap_text(text: str, size: float, inches: float, *, weight: str = "bold", max_lines: int = 4) -> str:
    """A text of one font size, broken into lines no wider than ``inches``; what needs more lines ends in an ellipsis.

    Line ends in the text are kept where it fits.
    """
    lines = [clean_text(line) for line in text.split("\n")]
    figure = new_figure(1.0, 1.0)
    width = text_width(figure, lines, size, weight)
    if width > inches:
        letters = max(4, int(0.92 * max(map(len, lines)) * inches / width))
        lines = [part for line in lines for part in textwrap.wrap(line, letters)]
    if len(lines) > max_lines:
        lines = [*lines[: max_lines - 1], shorten(lines[max_lines - 1] + " …", len(lines[max_lines - 1]))]
    return "\n".join(lines)


def shorten(text: str, letters: int) -> str:
    """``text`` in at most ``letters`` characters, with an ellipsis where some are left out."""
    return text if len(text) <= letters else text[: max(letters - 1, 0)].rstrip() + "…"


def hide_axes(axes: Axes) -> None:
    """Remove the frame and the ticks of ``axes``."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.patch.set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path`` (.png, .pdf or .svg by its suffix) atomically.

    Raises:
        RunError: another suffix, or the folder cannot be written.
    """
    suffix = checked_suffix(path, (".png", ".pdf", ".svg"))
    with atomic_image(path) as draft:
        figure.savefig(draft, format=suffix[1:])


def checked_suffix(path: Path, known: tuple[str, ...]) -> str:
    """The suffix of ``path`` in lower case; RunError unless it is one of ``known``."""
    suffix = path.suffix.lower()
    if suffix not in known:
        raise RunError(
            f"an image with the suffix '{path.suffix}' was requested",
            expected=f"one of {', '.join(known)}",
            hint="change the suffix of the file name",
            where=path,
        )
    return suffix


@contextmanager
def atomic_image(path: Path) -> Iterator[Path]:
    """A draft to write, see :func:`atomic_write`; its folder is made where there is none.

    Raises:
        RunError: the folder cannot be made or written, or the disk is full.
    """
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, shared=True) as draft:
            yield draft


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """An OSError in here becomes a RunError about ``path``."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"the image cannot be written ({error.strerror or error})",
            expected="a folder that can be written, with room on its disk",
            hint="make the folder writable, or free space on its disk; of a run in a read-only place, draw a copy",
            where=path,
        ) from error


@functools.cache
def _fonts() -> tuple[str, ...]:
    """Those of our fonts that are installed."""
    installed = set(font_manager.get_font_names())
    return tuple(name for name in _FONTS if name in installed)


@functools.cache
def _glyphs() -> frozenset[int]:
    """The characters that our fonts have."""
    files = [font_manager.findfont(name, fallback_to_default=False) for name in _fonts()]
    return frozenset(code for file in files for code in FT2Font(str(file)).get_charmap())


def _script(letter: str) -> str:
    """The first word of a character's Unicode name, such as CJK or HANGUL."""
    symbol = unicodedata.category(letter)[0] in "SC"
    return "symbol" if symbol else unicodedata.name(letter, "UNKNOWN").split()[0]


def _invisible(letter: str) -> bool:
    """Joiners and variation selectors, which change their neighbours and need no glyph."""
    return letter.isspace() or unicodedata.category(letter) in ("Cf", "Mn")
