"""A recording as an animation, with joint attention on the skeleton and a moving cursor on the curves over time.

Legend: T frames, P people, J joints, H height, W width.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from muybridge.core.errors import MissingExtraError
from muybridge.core.skeletons import Layout
from muybridge.core.types import SkeletonSequence
from muybridge.viz.skeleton import needs_key, time_strips
from muybridge.viz.skeleton_axes import SkeletonScene, clock, draw_key, draw_strip, make_scene
from muybridge.viz.style import FAINT, INK, SOFT, atomic_image, checked_suffix, hide_axes, new_figure, styled, wrap_text

DPI = 100
MAX_GIF_FRAMES, MAX_GIF_FPS = 300, 50

Strip = tuple[str, np.ndarray, str]
"""Name, values and color of a curve over the frames."""


def animate_skeleton(
    sequence: SkeletonSequence,
    layout: Layout,
    path: Path,
    *,
    alpha: Float[Tensor, "T P J"] | None = None,
    beta: Float[Tensor, " T"] | None = None,
    derivative: Float[Tensor, " T"] | None = None,
    title: str = "",
    fps: float = 30.0,
    up: str | None = None,
) -> None:
    """Write an animation: .gif, or .mp4 where PyAV is installed.

    Takes what :func:`skeleton.draw_skeleton_sheet` takes. ``fps`` is the speed of the animation and of its clock. A GIF
    counts in hundredths of a second, so single frames are up to 5 ms off, but never the total; of recordings longer
    than 300 frames, or of more than 50 frames per second, which players slow down, it shows every second, third, ...
    frame, at the same speed. MP4 has every frame.

    Raises:
        MissingExtraError: a .mp4 is requested and PyAV is not installed.
        RunError: another suffix, or ``path`` cannot be written.
    """
    scene = make_scene(sequence, layout, alpha, up, zoom=1.4)
    with styled():
        strips = time_strips(beta, derivative)
        write_animation(lambda frames: _skeleton_images(scene, strips, title, fps, frames), len(scene), path, fps)


def write_animation(
    draw: Callable[[Iterable[int]], Iterator[UInt8[np.ndarray, "H W 3"]]], count: int, path: Path, fps: float
) -> None:
    """Write images as an animation of ``count`` frames, one at a time; see :func:`animate_skeleton`.

    Args:
        draw: gives the images of certain frame numbers.
        count: frames in all.
        path: .gif or .mp4.
        fps: frames per second.
    """
    if checked_suffix(path, (".gif", ".mp4")) == ".mp4":
        _write_mp4(draw(range(count)), path, fps)
        return
    frames = range(0, count, max(-(-count // MAX_GIF_FRAMES), int(np.ceil(fps / MAX_GIF_FPS))))
    palette = _palette(draw(frames[:: max(1, len(frames) // 8)]))
    _write_gif(draw(frames), palette, path, fps / frames.step)


@dataclass(frozen=True, slots=True)
class _Page:
    """Where the parts of a skeleton animation lie, in inches from the lower left corner."""

    width: float
    height: float
    left: float
    bottom: float
    main: tuple[float, float]
    scale: float  # inches per unit of the recording
    title: str

    @classmethod
    def of(cls, scene: SkeletonScene, strips: int, title: str) -> "_Page":
        """The page for a scene with so many curves below it."""
        extent = np.maximum(scene.high - scene.low, 1e-9)
        scale = min(3.9 / extent[1], 5.5 / extent[0])
        wide, high = max(extent[0] * scale + 0.5, 3.0), max(extent[1] * scale + 0.4, 2.0)
        left, right = (1.25 if strips else 0.15), (1.6 if needs_key(scene) else 0.15)
        title = wrap_text(title, 10.0, left + wide + right - 0.25)
        top = 0.22 + 0.18 * len(title.splitlines())
        bottom = 0.4 + 0.65 * strips
        width, height = make_even(left + wide + right), make_even(top + high + bottom)
        return cls(width, height, left, bottom, (wide, high), scale, title)

    def axes(self, figure: Figure, x: float, y: float, wide: float, high: float) -> Axes:
        """Axes at a place in inches."""
        return figure.add_axes((x / self.width, y / self.height, wide / self.width, high / self.height))


def _skeleton_images(
    scene: SkeletonScene, strips: list[Strip], title: str, fps: float, frames: Iterable[int]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The images of an animation. The background is drawn once, and what moves is drawn over it."""
    page = _Page.of(scene, len(strips), title)
    figure = new_figure(page.width, page.height, dpi=DPI)
    main = _draw_ground(figure, page, scene)
    trails, bones = LineCollection([], linewidths=1.8), LineCollection([], linewidths=3.2, capstyle="round")
    edges = 0.6 if scene.shares is not None else 0
    discs = main.scatter([], [], edgecolors=INK, linewidths=edges, zorder=3, clip_on=False)
    main.add_collection(trails)
    main.add_collection(bones)
    caption = figure.text(page.left / page.width, 0.1 / page.height, "", fontsize=9, color=SOFT)
    cursors = _draw_cursors(figure, page, strips)
    moving = [trails, bones, discs, caption, *(artist for line, dot, _ in cursors for artist in (line, dot))]

    def update(frame: int) -> None:
        segments, colors = scene.lines(frame)
        bones.set(segments=list(segments), colors=colors)
        segments, colors = scene.trails(frame)
        trails.set(segments=list(segments), colors=colors)
        positions, areas, colors = scene.discs(frame)
        discs.set(offsets=positions, sizes=areas, facecolors=colors)
        caption.set_text(f"frame {frame + 1} of {len(scene)} · {clock(frame, len(scene), fps)}")
        for line, dot, values in cursors:
            line.set_xdata([frame, frame])
            dot.set_data([frame], [values[frame]])

    yield from render_frames(figure, moving, update, frames)


def _draw_ground(figure: Figure, page: _Page, scene: SkeletonScene) -> Axes:
    """Title, key and the line that a skeleton stands on; returns the axes for the skeleton."""
    wide, high = page.main
    main = page.axes(figure, page.left, page.bottom, wide, high)
    hide_axes(main)
    middle = (scene.low + scene.high) / 2
    half = np.array([wide, high]) / page.scale / 2
    main.set(xlim=(middle[0] - half[0], middle[0] + half[0]), ylim=(middle[1] - half[1], middle[1] + half[1]))
    main.axhline(scene.low[1] - 0.1 / page.scale, color=FAINT, linewidth=2.5)
    if page.title:
        place = 0.12 / page.width, 1 - 0.12 / page.height
        figure.text(*place, page.title, fontsize=10, fontweight="bold", va="top")
    if needs_key(scene):
        x = page.left + wide + 0.15
        side = page.axes(figure, x, 0.0, page.width - x - 0.05, page.height - 0.5)
        side.set(xlim=(0, page.width - x - 0.05), ylim=(page.height - 0.5, 0))
        draw_key(side, scene)
    return main


def _draw_cursors(figure: Figure, page: _Page, strips: list[Strip]) -> list[tuple]:
    """The curves; and for each the line and the dot that move along it, with its values."""
    cursors = []
    for row, (name, values, color) in enumerate(strips):
        strip = page.axes(figure, page.left, page.bottom - 0.65 * (row + 1) + 0.02, page.main[0], 0.5)
        draw_strip(strip, values, name, color)
        strip.set_xticks([])
        (dot,) = strip.plot([0], [0], "o", color=color, clip_on=False)
        cursors.append((strip.axvline(0, color=SOFT, linewidth=1), dot, values))
    return cursors


def render_frames(
    figure: Figure, moving: Iterable[Artist], update: Callable[[int], None], frames: Iterable[int]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Images of a figure of which little changes; the rest is drawn once.

    Args:
        figure: with everything in it.
        moving: the artists that differ from frame to frame.
        update: sets them for a frame.
        frames: the frame numbers.
    """
    moving = list(moving)
    for artist in moving:
        artist.set_animated(True)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    for frame in frames:
        update(frame)
        canvas.restore_region(background)
        for artist in moving:
            figure.draw_artist(artist)
        yield np.array(canvas.buffer_rgba())[..., :3]


def make_even(inches: float) -> float:
    """Inches rounded up to an even number of pixels, which video codecs need."""
    return 2 * np.ceil(inches * DPI / 2) / DPI


def _palette(images: Iterable[np.ndarray]) -> Image.Image:
    """One palette for the animation, from frames all over it: a palette per frame would make the colors flicker."""
    palette = Image.fromarray(np.concatenate(list(images))).quantize(256, method=Image.Quantize.MEDIANCUT)
    colors = np.array(palette.getpalette(), dtype=np.uint8).reshape(-1, 3)
    colors[colors.min(axis=1) >= 246] = 255  # the background must stay white, and not take a gray of antialiased text
    palette.putpalette(colors.tobytes())
    return palette


def _write_gif(images: Iterable[np.ndarray], palette: Image.Image, path: Path, fps: float) -> None:
    frames = [Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    ticks = [round(100 * place / fps) for place in range(len(frames) + 1)]
    durations = [10 * (end - start) for start, end in pairwise(ticks)]
    with atomic_image(path) as draft:
        frames[0].save(draft, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _write_mp4(images: Iterable[np.ndarray], path: Path, fps: float) -> None:
    try:
        import av
    except ImportError:
        raise MissingExtraError(
            "an animation in MP4 was requested, and PyAV is not installed",
            expected="PyAV, which includes FFmpeg",
            hint="run pip install av, or let the file name end in .gif",
            where=path,
        ) from None
    with atomic_image(path) as draft, av.open(str(draft), "w", format="mp4") as container:
        stream = None
        for image in images:
            if stream is None:
                rate = Fraction(fps).limit_denominator(1001)
                stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        assert stream is not None, "a recording has frames"
        container.mux(stream.encode(None))
