"""A video with the maps of a network laid over it: a sheet of some frames, and an animation.

Boxes are left, top, right, bottom as shares of the frame. Predicted ones are yellow, true ones white.

Legend: T frames, H and W pixels, h and w positions of a map, U and V rows and columns of a window.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from muybridge.viz.animation import DPI, make_even, render_frames, write_animation
from muybridge.viz.skeleton_axes import clock
from muybridge.viz.style import HEAT, INK, SOFT, hide_axes, new_figure, save, styled, wrap_text

Images = UInt8[np.ndarray, "T H W 3"]
Heat = Float[np.ndarray, "T h w"]
Boxes = Float[np.ndarray, "T 4"]

_MAX_COLUMNS = 8
_CELL, _TALLEST_CELL, _GAP = 1.3, 2.6, 0.06  # inches
_PANEL, _TALLEST_PANEL = 3.0, 4.5  # inches
_SHORTEST_SIDE = 0.12  # inches; frames of extreme shape are stretched to it
_OVERLAY = mpl.colormaps["inferno"]
_PREDICTED, _TRUE = "#ffe14d", "#ffffff"

MAX_FRAMES = 300
"""Frames of a video that are drawn; of longer ones every second, third, ..."""

_SLOWEST, _TIME_LAPSE = 5.0, 10.0  # frames per second


def draw_clip_sheet(
    images: Images,
    maps: Mapping[str, Heat],
    path: Path,
    *,
    windows: Mapping[str, Float[np.ndarray, "T U V"]] | None = None,
    marks: Float[np.ndarray, "T 2"] | None = None,
    predicted: Mapping[str, Boxes] | None = None,
    truth: Boxes | None = None,
    captions: Sequence[str] = (),
    title: str = "",
) -> None:
    """Draw a column for each of at most 8 frames: the frame, and below it each map laid over the frame.

    Args:
        images: the frames.
        maps: heat by the label of its row; each is scaled by its own maximum over all frames.
        path: .png, .pdf or .svg.
        windows: further rows of small square maps that are drawn by themselves, with their middle marked.
        marks: row and column, as shares of the frame, of a place to mark in each.
        predicted: boxes to draw into the rows of maps, by the labels of those.
        truth: the true boxes, for the rows of frames and of maps.
        captions: what is written above each frame, such as its second.
        title: of the sheet.

    Raises:
        RunError: another suffix, or ``path`` cannot be written.
    """
    columns = np.linspace(0, len(images) - 1, min(len(images), _MAX_COLUMNS))
    chosen = np.unique(columns.round().astype(int))
    windows, predicted = windows or {}, predicted or {}
    with styled():
        page = _SheetPage.of(images, len(chosen), len(maps), len(windows), title)
        figure = new_figure(page.width, page.height)
        above = [captions[int(frame)] for frame in chosen] if captions else []
        _draw_frames(figure, page, images[chosen], above)
        if maps or windows:
            page.label(figure, "\n".join(["video", *_box_key(predicted, truth)]), page.top, page.cell[1])
        for row, (label, heat) in enumerate(maps.items(), start=1):
            page.label(figure, label, page.row(row), page.cell[1])
            overlay = heat_overlay(images[chosen], heat[chosen], float(heat.max()))
            for column, image in enumerate(overlay):
                page.axes(figure, column, page.row(row)).imshow(image, aspect="auto", extent=(0, 1, 1, 0))
        _draw_windows(figure, page, windows, chosen, len(maps))
        for column, frame in enumerate(chosen.tolist()):
            for row in range(1 + len(maps)):
                axes = figure.axes[row * len(chosen) + column]
                _outline(axes, _TRUE, truth, frame)
                _outline(axes, _PREDICTED, predicted.get(list(maps)[row - 1]) if row else None, frame)
            if marks is not None:
                _draw_mark(figure.axes[column], marks[frame])
        if page.title:
            place = 0.12 / page.width, 1 - 0.12 / page.height
            figure.text(*place, page.title, fontsize=11, fontweight="bold", va="top")
        save(figure, path)


def animate_clip(
    images: Images,
    heats: Mapping[str, Heat],
    path: Path,
    *,
    fps: float,
    title: str = "",
    predicted: Mapping[str, Boxes] | None = None,
    truth: Boxes | None = None,
    captions: Sequence[str] = (),
) -> None:
    """Write an animation (.gif or .mp4): the video, and beside it the video with each heat laid over.

    Args:
        images: the frames.
        heats: for each frame, on any scale from zero, by the label above.
        path: .gif or .mp4.
        fps: of the animation.
        title: above all.
        predicted: boxes to draw into the images with heat, by the labels above those.
        truth: the true boxes, for all images.
        captions: what is written below each frame; by default its number and its second at ``fps``.

    Raises:
        MissingExtraError: a .mp4 is requested and PyAV is not installed.
        RunError: another suffix, or ``path`` cannot be written.
    """
    count = len(images)
    key = "".join(f" · {text}" for text in _box_key(predicted or {}, truth))
    captions = captions or [f"frame {frame + 1} of {count} · {clock(frame, count, fps)}" for frame in range(count)]
    captions = [caption + key for caption in captions]
    panels = [_Panel("video", images, None, 0.0, None)]
    panels += [
        _Panel(label, images, heat, float(heat.max()), (predicted or {}).get(label)) for label, heat in heats.items()
    ]
    with styled():
        write_animation(lambda frames: _clip_images(panels, truth, title, captions, frames), count, path, fps)


def heat_overlay(images: Images, heat: Heat, highest: float) -> Images:
    """The frames in gray with heat laid over: none where it is zero or less, bright where it is ``highest``."""
    size = images.shape[2], images.shape[1]
    shares = np.clip(heat / highest, 0, 1) if highest > 0 else np.zeros_like(heat)
    overlay = np.empty_like(images)
    for image, share, target in zip(images, shares, overlay, strict=True):
        enlarged = Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
        large = np.asarray(enlarged).clip(0, 1)[..., None]
        gray = 0.75 / 255 * image.mean(axis=-1, keepdims=True, dtype=np.float32)
        opacity = 0.8 * np.sqrt(large)
        blend = (1 - opacity) * gray + opacity * _OVERLAY(0.25 + 0.75 * large[..., 0])[..., :3]
        target[...] = np.rint(255 * blend)
    return overlay


def drawn_frames(length: int, fps: float) -> tuple[range, float, str]:
    """Which frames of a video are animated, at how many per second, and a note for the captions.

    At most 300 are, at the speed of the video; where these would be fewer than 5 a second, 10 a second are shown, and
    the note says how much faster than the video that is.
    """
    frames = range(0, length, -(-length // MAX_FRAMES))
    rate = fps / frames.step
    if rate >= _SLOWEST or frames.step == 1:
        return frames, rate, ""
    return frames, _TIME_LAPSE, f" · {_TIME_LAPSE / rate:.0f} times as fast"


@dataclass(frozen=True, slots=True)
class _SheetPage:
    """Where the parts of a sheet lie, in inches from the upper left corner."""

    width: float
    height: float
    left: float
    top: float
    cell: tuple[float, float]
    title: str

    @classmethod
    def of(cls, images: Images, columns: int, maps: int, windows: int, title: str) -> "_SheetPage":
        """The page for so many columns, rows of maps and rows of windows."""
        cell = fit(images.shape[2], images.shape[1], _CELL, _TALLEST_CELL)
        column = max(cell[0], _CELL) if windows else max(cell[0], 0.6)
        left = 1.35 if maps or windows else 0.15
        width = max(left + columns * (column + _GAP) + 0.1, 3.0)
        title = wrap_text(title, 11.0, width - 0.3)
        top = 0.35 + 0.2 * len(title.splitlines())
        height = top + (1 + maps) * (cell[1] + _GAP) + windows * (_CELL + _GAP) + 0.1
        return cls(width, height, left, top, (column, cell[1]), title)

    def row(self, number: int) -> float:
        """Where a row of frames or maps begins; after the last, where the rows of windows begin."""
        return self.top + number * (self.cell[1] + _GAP)

    def axes(self, figure: Figure, column: int, y: float, high: float | None = None) -> Axes:
        """Axes without ticks for one cell."""
        wide, high = self.cell[0], high or self.cell[1]
        x = self.left + column * (wide + _GAP)
        place = (x / self.width, 1 - (y + high) / self.height, wide / self.width, high / self.height)
        axes = figure.add_axes(place)
        hide_axes(axes)
        return axes

    def label(self, figure: Figure, text: str, y: float, high: float) -> None:
        """The label at the left of a row."""
        text = wrap_text(text, 8.0, self.left - 0.2, weight="normal", max_lines=6)
        place = (self.left - 0.12) / self.width, 1 - (y + high / 2) / self.height
        figure.text(*place, text, fontsize=8, color=INK, ha="right", va="center")


def fit(width: int, height: int, wide: float, tall: float) -> tuple[float, float]:
    """Width and height in the same ratio that fill a box, but neither too short to be seen."""
    scale = min(wide / width, tall / height)
    return max(width * scale, _SHORTEST_SIDE), max(height * scale, _SHORTEST_SIDE)


def _draw_frames(figure: Figure, page: _SheetPage, images: Images, captions: list[str]) -> None:
    for column, image in enumerate(images):
        axes = page.axes(figure, column, page.top)
        axes.imshow(image, aspect="auto", extent=(0, 1, 1, 0))
        if captions:
            axes.set_title(captions[column], fontsize=8, fontweight="normal", color=SOFT, loc="center", pad=3)


def _draw_windows(
    figure: Figure, page: _SheetPage, windows: Mapping[str, Float[np.ndarray, "T U V"]], chosen: np.ndarray, maps: int
) -> None:
    for row, (label, window) in enumerate(windows.items()):
        y = page.row(1 + maps) + row * (_CELL + _GAP)
        page.label(figure, label, y, _CELL)
        for column, frame in enumerate(chosen.tolist()):
            axes = page.axes(figure, column, y, _CELL)
            axes.imshow(window[frame], cmap=HEAT, vmin=0, vmax=window.max() or 1, interpolation="nearest")
            middle = (window.shape[2] - 1) / 2, (window.shape[1] - 1) / 2
            axes.plot(*middle, "+", color="white", ms=8, mew=2.5)
            axes.plot(*middle, "+", color=INK, ms=7, mew=1.0)


def _box_key(predicted: Mapping[str, Boxes], truth: Boxes | None) -> list[str]:
    """What the colors of boxes mean, as far as they are drawn."""
    return [
        text
        for text, drawn in (("yellow: predicted box", bool(predicted)), ("white: true box", truth is not None))
        if drawn
    ]


def _draw_mark(axes: Axes, place: Float[np.ndarray, " 2"]) -> None:
    """A ring at a row and column, as shares of the frame."""
    axes.plot(place[1], place[0], "o", ms=7, mfc="none", mec="white", mew=2.5)
    axes.plot(place[1], place[0], "o", ms=7, mfc="none", mec=INK, mew=1.0)


def _outline(axes: Axes, color: str, boxes: Boxes | None, frame: int) -> Rectangle | None:
    """Draw the box of a frame into axes that run from 0 to 1, with a dark rim that shows on white."""
    if boxes is None:
        return None
    outline = Rectangle((0, 0), 1, 1, fill=False, edgecolor=color, linewidth=1.4, joinstyle="miter")
    outline.set_path_effects([withStroke(linewidth=3.0, foreground=INK)])
    _set_box(outline, boxes[frame])
    axes.add_patch(outline)
    return outline


def _set_box(outline: Rectangle, box: Float[np.ndarray, " 4"]) -> None:
    left, top, right, bottom = box
    outline.set_bounds(left, top, right - left, bottom - top)


@dataclass(frozen=True, slots=True)
class _Panel:
    """One of the images side by side: the video, with heat laid over and boxes where these are given."""

    label: str
    images: Images
    heat: Heat | None
    highest: float
    boxes: Boxes | None

    def image(self, frame: int) -> UInt8[np.ndarray, "H W 3"]:
        """The image of one frame; overlays are computed one at a time, since all of them would take gigabytes."""
        if self.heat is None:
            return self.images[frame]
        return heat_overlay(self.images[frame : frame + 1], self.heat[frame : frame + 1], self.highest)[0]


def _clip_images(
    panels: list[_Panel], truth: Boxes | None, title: str, captions: Sequence[str], frames: Iterable[int]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The images of an animation. The background is drawn once, and what moves is drawn over it."""
    _, rows, columns, _ = panels[0].images.shape
    wide, high = fit(columns, rows, _PANEL, _TALLEST_PANEL)
    column, gap = max(wide, 1.6), 0.1
    title = wrap_text(title, 10.0, max(len(panels) * column, 3.0))
    labels = [wrap_text(panel.label, 9.0, column, weight="normal", max_lines=2) for panel in panels]
    above = 0.15 * max(len(label.splitlines()) for label in labels)
    top, bottom = 0.27 + above + 0.18 * len(title.splitlines()), 0.35
    width, height = make_even(max(len(panels) * (column + gap) + 0.2, 3.2)), make_even(top + high + bottom)
    figure = new_figure(width, height, dpi=DPI)
    shown, outlines = [], []
    for place, (panel, label) in enumerate(zip(panels, labels, strict=True)):
        x = 0.15 + place * (column + gap)
        axes = figure.add_axes((x / width, bottom / height, wide / width, high / height))
        hide_axes(axes)
        axes.set_title(label, fontsize=9, fontweight="normal", color=SOFT, pad=3)
        shown.append((axes.imshow(panel.image(0), aspect="auto", extent=(0, 1, 1, 0)), panel))
        for color, boxes in ((_TRUE, truth), (_PREDICTED, panel.boxes)):
            outline = _outline(axes, color, boxes, 0)
            outlines += [(outline, boxes)] if outline else []
    caption = figure.text(0.15 / width, 0.1 / height, "", fontsize=9, color=SOFT)
    if title:
        figure.text(0.15 / width, 1 - 0.12 / height, title, fontsize=10, fontweight="bold", va="top")

    def update(frame: int) -> None:
        for image, panel in shown:
            image.set_data(panel.image(frame))
        for outline, boxes in outlines:
            _set_box(outline, boxes[frame])
        caption.set_text(captions[frame])

    moving = [caption, *(image for image, _ in shown), *(outline for outline, _ in outlines)]
    yield from render_frames(figure, moving, update, frames)
