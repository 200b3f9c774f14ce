"""A video with what the network looks at: a sheet of its segments, and a film.

Boxes are left, top, right, bottom as shares of the picture. Those that were found are yellow, true ones white.

Legend: S segments, T frames, H and W pixels, h and w positions of a map, U and V rows and columns of a window.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from muybridge.viz.animation import DPI, make_even, shots, write_animation
from muybridge.viz.skeleton_axes import clock
from muybridge.viz.style import HEAT, INK, SOFT, hide_axes, new_figure, save, styled, wrap_text

Pictures = Float[np.ndarray, "T H W 3"]
Heat = Float[np.ndarray, "T h w"]
Boxes = Float[np.ndarray, "T 4"]

_MOST_COLUMNS = 8
_CELL, _GAP = 1.3, 0.06  # inches
_GLOW = mpl.colormaps["inferno"]
_FOUND, _TRUE = "#ffe14d", "#ffffff"


def draw_clip_sheet(
    frames: Pictures,
    maps: Mapping[str, Heat],
    path: Path,
    *,
    windows: Mapping[str, Float[np.ndarray, "T U V"]] | None = None,
    marks: Float[np.ndarray, "T 2"] | None = None,
    found: Mapping[str, Boxes] | None = None,
    truth: Boxes | None = None,
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
        found: boxes to draw into the rows of maps, by the words beside those.
        truth: the true boxes, for the rows of frames and of maps.
        captions: what stands above each frame, such as its second.
        title: of the sheet.

    Raises:
        RunError: another suffix, or ``path`` cannot be written.
    """
    shown = np.linspace(0, len(frames) - 1, min(len(frames), _MOST_COLUMNS))
    chosen = np.unique(shown.round().astype(int)).tolist()
    captions = list(captions) or [""] * len(frames)
    windows, found = windows or {}, found or {}
    left, top = (1.35 if maps or windows else 0.15), 0.35
    cell_height = _CELL * frames.shape[1] / frames.shape[2]
    with styled():
        across = left + len(chosen) * (_CELL + _GAP) + 0.1
        title = wrap_text(title, 11.0, across - 0.3)
        top += 0.2 * len(title.splitlines())
        down = top + (1 + len(maps)) * (cell_height + _GAP) + len(windows) * (_CELL + _GAP) + 0.1
        figure = new_figure(across, down)

        def cell(column: int, y: float, height: float) -> Axes:
            x = left + column * (_CELL + _GAP)
            axes = figure.add_axes((x / across, 1 - (y + height) / down, _CELL / across, height / down))
            hide_axes(axes)
            return axes

        def beside(words: str, y: float, height: float) -> None:
            at = (left - 0.12) / across, 1 - (y + height / 2) / down
            figure.text(*at, words, fontsize=8, color=INK, ha="right", va="center")

        for column, segment in enumerate(chosen):
            axes = cell(column, top, cell_height)
            axes.imshow(frames[segment], aspect="auto", extent=(0, 1, 1, 0))
            axes.set_title(captions[segment], fontsize=8, fontweight="normal", color=SOFT, loc="center", pad=3)
            _outline(axes, _TRUE, truth, segment)
            if marks is not None:
                axes.plot(marks[segment, 1], marks[segment, 0], "o", ms=7, mfc="none", mec="white", mew=2.5)
                axes.plot(marks[segment, 1], marks[segment, 0], "o", ms=7, mfc="none", mec=INK, mew=1.0)
        for row, (words, heat) in enumerate(maps.items(), start=1):
            y = top + row * (cell_height + _GAP)
            beside(words, y, cell_height)
            glowing = heat_overlay(frames, heat)
            for column, segment in enumerate(chosen):
                axes = cell(column, y, cell_height)
                axes.imshow(glowing[segment], aspect="auto", extent=(0, 1, 1, 0))
                _outline(axes, _TRUE, truth, segment)
                _outline(axes, _FOUND, found.get(words), segment)
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


def animate_clip(
    frames: Pictures,
    heats: Mapping[str, Heat],
    path: Path,
    *,
    fps: float,
    title: str = "",
    found: Mapping[str, Boxes] | None = None,
    truth: Boxes | None = None,
) -> None:
    """Write a film (.gif or .mp4): the video, and beside it the video with each heat laid over.

    Args:
        frames: on the 0..1 scale.
        heats: for each frame, on any scale from zero, by the words that stand above.
        path: where it goes.
        fps: of the film and of its clock.
        title: above all.
        found: boxes to draw into the pictures with heat, by the words above those.
        truth: the true boxes, for all pictures.

    Raises:
        MissingExtraError: a .mp4 is asked for and PyAV is not installed.
        RunError: another suffix, or ``path`` cannot be written.
    """
    panels = {"video": (frames, None)}
    panels |= {words: (heat_overlay(frames, heat), (found or {}).get(words)) for words, heat in heats.items()}
    with styled():
        write_animation(lambda shown: _pictures(panels, truth, title, fps, shown), len(frames), path, fps)


def heat_overlay(frames: Pictures, heat: Heat) -> Pictures:
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


def _outline(axes: Axes, colour: str, boxes: Boxes | None, frame: int) -> Rectangle | None:
    """Draw the box of a frame into axes that run from 0 to 1, with a dark rim that shows on white."""
    if boxes is None:
        return None
    line = Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour, linewidth=1.4, joinstyle="miter")
    line.set_path_effects([withStroke(linewidth=3.0, foreground=INK)])
    _place(line, boxes[frame])
    axes.add_patch(line)
    return line


def _place(line: Rectangle, box: Float[np.ndarray, " 4"]) -> None:
    left, top, right, bottom = box
    line.set_bounds(left, top, right - left, bottom - top)


def _pictures(
    panels: Mapping[str, tuple[Pictures, Boxes | None]],
    truth: Boxes | None,
    title: str,
    fps: float,
    shown: Iterable[int],
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of the film; what stands still is drawn once."""
    wide, gap = 3.0, 0.1
    count, height_, width_, _ = next(iter(panels.values()))[0].shape
    high = wide * height_ / width_
    title = wrap_text(title, 10.0, len(panels) * wide)
    top, bottom = 0.42 + 0.18 * len(title.splitlines()), 0.35
    width, height = make_even(len(panels) * (wide + gap) + 0.2), make_even(top + high + bottom)
    figure = new_figure(width, height, dpi=DPI)
    images, outlines = [], []
    for place, (above, (pictures, found)) in enumerate(panels.items()):
        x = 0.15 + place * (wide + gap)
        axes = figure.add_axes((x / width, bottom / height, wide / width, high / height))
        hide_axes(axes)
        axes.set_title(above, fontsize=9, fontweight="normal", color=SOFT, pad=3)
        images.append((axes.imshow(pictures[0], aspect="auto", vmin=0, vmax=1, extent=(0, 1, 1, 0)), pictures))
        for colour, boxes in ((_TRUE, truth), (_FOUND, found)):
            line = _outline(axes, colour, boxes, 0)
            outlines += [(line, boxes)] if line else []
    caption = figure.text(0.15 / width, 0.1 / height, "", fontsize=9, color=SOFT)
    if title:
        figure.text(0.15 / width, 1 - 0.12 / height, title, fontsize=10, fontweight="bold", va="top")
    moving = [caption, *(image for image, _ in images), *(line for line, _ in outlines)]

    def to(frame: int) -> None:
        for image, pictures in images:
            image.set_data(pictures[frame])
        for line, boxes in outlines:
            _place(line, boxes[frame])
        caption.set_text(f"frame {frame + 1} of {count} · {clock(frame, count, fps)}")

    yield from shots(figure, moving, to, shown)
