"""A video with what the network looks at: a sheet of its segments, and a film.

Legend: S segments, T frames, H and W pixels, h and w positions of a map, U and V rows and columns of a window.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from muybridge.viz.film import DPI, even, write_film
from muybridge.viz.stage import clock
from muybridge.viz.style import HEAT, INK, SOFT, bare, new_figure, save, styled, wrapped

Pictures = Float[np.ndarray, "T H W 3"]
Heat = Float[np.ndarray, "T h w"]

_MOST_COLUMNS = 8
_CELL, _GAP = 1.3, 0.06  # inches
_GLOW = mpl.colormaps["inferno"]


def draw_clip_sheet(
    frames: Pictures,
    maps: Mapping[str, Heat],
    path: Path,
    *,
    windows: Mapping[str, Float[np.ndarray, "T U V"]] | None = None,
    marks: Float[np.ndarray, "T 2"] | None = None,
    captions: Iterable[str] = (),
    title: str = "",
) -> None:
    """Draw a column for each segment: its frame, and below it each map laid over the frame.

    Args:
        frames: one for each segment, on the 0..1 scale.
        maps: heat by the words that stand beside its row; each is scaled by its own maximum over all segments.
        path: .png, .pdf or .svg.
        windows: further rows of small square maps that are drawn by themselves, with their middle marked.
        marks: row and column, as shares of the frame, of a place to mark in each.
        captions: what stands above each frame, such as its second.
        title: of the sheet.

    Raises:
        RunError: another suffix, or ``path`` cannot be written.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _MOST_COLUMNS)).round().astype(int))
    captions = list(captions) or [""] * len(frames)
    windows = windows or {}
    left, top = (1.35 if maps or windows else 0.15), 0.35
    cell_height = _CELL * frames.shape[1] / frames.shape[2]
    with styled():
        across = left + len(chosen) * (_CELL + _GAP) + 0.1
        title = wrapped(title, 11.0, across - 0.3)
        top += 0.2 * len(title.splitlines())
        down = top + (1 + len(maps)) * (cell_height + _GAP) + len(windows) * (_CELL + _GAP) + 0.1
        figure = new_figure(across, down)

        def cell(column: int, y: float, height: float) -> Axes:
            x = left + column * (_CELL + _GAP)
            axes = figure.add_axes((x / across, 1 - (y + height) / down, _CELL / across, height / down))
            bare(axes)
            return axes

        def beside(words: str, y: float, height: float) -> None:
            at = (left - 0.12) / across, 1 - (y + height / 2) / down
            figure.text(*at, words, fontsize=8, color=INK, ha="right", va="center")

        for column, segment in enumerate(chosen):
            axes = cell(column, top, cell_height)
            axes.imshow(frames[segment], aspect="auto", extent=(0, 1, 1, 0))
            axes.set_title(captions[segment], fontsize=8, fontweight="normal", color=SOFT, loc="center", pad=3)
            if marks is not None:
                axes.plot(marks[segment, 1], marks[segment, 0], "o", ms=7, mfc="none", mec="white", mew=2.5)
                axes.plot(marks[segment, 1], marks[segment, 0], "o", ms=7, mfc="none", mec=INK, mew=1.0)
        for row, (words, heat) in enumerate(maps.items(), start=1):
            y = top + row * (cell_height + _GAP)
            beside(words, y, cell_height)
            glowing = glow(frames, heat)
            for column, segment in enumerate(chosen):
                cell(column, y, cell_height).imshow(glowing[segment], aspect="auto")
        for row, (words, window) in enumerate(windows.items()):
            y = top + (1 + len(maps)) * (cell_height + _GAP) + row * (_CELL + _GAP)
            beside(words, y, _CELL)
            for column, segment in enumerate(chosen):
                axes = cell(column, y, _CELL)
                axes.imshow(window[segment], cmap=HEAT, vmin=0, vmax=window.max() or 1, interpolation="nearest")
                middle = (window.shape[2] - 1) / 2, (window.shape[1] - 1) / 2
                axes.plot(*middle, "+", color="white", ms=8, mew=2.5)
                axes.plot(*middle, "+", color=INK, ms=7, mew=1.0)
        if title:
            figure.text(0.12 / across, 1 - 0.12 / down, title, fontsize=11, fontweight="bold", va="top")
        save(figure, path)


def animate_clip(frames: Pictures, heat: Heat, path: Path, *, fps: float, title: str = "", words: str = "") -> None:
    """Write a film (.gif or .mp4): the video, and beside it the video with heat laid over.

    Args:
        frames: on the 0..1 scale.
        heat: for each frame, on any scale from zero.
        path: where it goes.
        fps: of the film and of its clock.
        title: above both.
        words: above the heat.

    Raises:
        MissingExtraError: a .mp4 is asked for and PyAV is not installed.
        RunError: another suffix, or ``path`` cannot be written.
    """
    glowing = glow(frames, heat)
    with styled():
        write_film(lambda shown: _pictures(frames, glowing, title, words, fps, shown), len(frames), path, fps)


def glow(frames: Pictures, heat: Heat) -> Pictures:
    """The frames in grey with heat laid over: nothing where it is zero or less, bright where it is at its most."""
    size = frames.shape[2], frames.shape[1]
    high = float(heat.max())
    shares = np.clip(heat / high, 0, 1) if high > 0 else np.zeros_like(heat)
    large = np.stack(
        [np.asarray(Image.fromarray(one.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)) for one in shares]
    ).clip(0, 1)
    grey = 0.75 * frames.mean(axis=-1, keepdims=True)
    strength = 0.8 * np.sqrt(large)[..., None]
    return (1 - strength) * grey + strength * _GLOW(0.25 + 0.75 * large)[..., :3]


def _pictures(
    frames: Pictures, glowing: Pictures, title: str, words: str, fps: float, shown: Iterable[int]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of the film; what stands still is drawn once."""
    wide = 3.0
    high = wide * frames.shape[1] / frames.shape[2]
    title = wrapped(title, 10.0, 2 * wide + 0.1)
    top, bottom = 0.42 + 0.18 * len(title.splitlines()), 0.35
    width, height = even(2 * wide + 0.4), even(top + high + bottom)
    figure = new_figure(width, height, dpi=DPI)
    images = []
    for x, pictures, above in ((0.15, frames, "video"), (wide + 0.25, glowing, words)):
        axes = figure.add_axes((x / width, bottom / height, wide / width, high / height))
        bare(axes)
        axes.set_title(above, fontsize=9, fontweight="normal", color=SOFT, pad=3)
        images.append((axes.imshow(pictures[0], aspect="auto", vmin=0, vmax=1), pictures))
    caption = figure.text(0.15 / width, 0.1 / height, "", fontsize=9, color=SOFT)
    if title:
        figure.text(0.15 / width, 1 - 0.12 / height, title, fontsize=10, fontweight="bold", va="top")
    moving = [caption, *(image for image, _ in images)]
    for artist in moving:
        artist.set_animated(True)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for frame in shown:
        for image, pictures in images:
            image.set_data(pictures[frame])
        caption.set_text(f"frame {frame + 1} of {len(frames)} · {clock(frame, len(frames), fps)}")
        canvas.restore_region(still)
        for artist in moving:
            figure.draw_artist(artist)
        yield np.array(canvas.buffer_rgba())[..., :3]
