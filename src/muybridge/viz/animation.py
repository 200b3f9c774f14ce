"""A recording as a moving picture, with joint attention on the skeleton and frame attention under a moving cursor.

Legend: T frames, P people, J joints, H height, W width.
"""

from collections.abc import Callable, Iterable, Iterator
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
from muybridge.viz.skeleton import needs_key, strips_of
from muybridge.viz.skeleton_axes import SkeletonScene, clock, draw_key, draw_strip, make_scene
from muybridge.viz.style import FAINT, INK, SOFT, atomic_image, checked_suffix, hide_axes, new_figure, styled, wrap_text

DPI = 100
_LONGEST_GIF = 300  # frames


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
    """Write a film: .gif, or .mp4 where PyAV is installed.

    Takes what :func:`skeleton.draw_skeleton_sheet` takes. ``fps`` is the speed of the film and of its clock. A GIF
    counts in hundredths of a second, so single frames are up to 5 ms off, but never the whole; of recordings longer
    than 300 frames it shows every second, third, ... frame, at the same pace. MP4 has every frame.

    Raises:
        MissingExtraError: a .mp4 is asked for and PyAV is not installed.
        RunError: another suffix, or ``path`` cannot be written.
    """
    stage = make_scene(sequence, layout, alpha, up, zoom=1.4)
    with styled():
        strips = strips_of(beta, derivative)
        write_animation(lambda frames: _pictures(stage, strips, title, fps, frames), len(stage), path, fps)


def write_animation(
    draw: Callable[[Iterable[int]], Iterator[UInt8[np.ndarray, "H W 3"]]], count: int, path: Path, fps: float
) -> None:
    """Write pictures as a film of ``count`` frames; ``draw`` gives those with certain numbers. See animate_skeleton."""
    if checked_suffix(path, (".gif", ".mp4")) == ".mp4":
        _write_mp4(draw(range(count)), path, fps)
        return
    shown = range(0, count, -(-count // _LONGEST_GIF))
    palette = _palette(draw(shown[:: max(1, len(shown) // 8)]))
    _write_gif(draw(shown), palette, path, fps / shown.step)


def _pictures(
    stage: SkeletonScene, strips: list[tuple[str, np.ndarray, str]], title: str, fps: float, frames: Iterable[int]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """The frames of the film. What stands still is drawn once; what moves is drawn over it."""
    extent = np.maximum(stage.high - stage.low, 1e-9)
    scale = min(3.9 / extent[1], 5.5 / extent[0])
    wide, high = max(extent[0] * scale + 0.5, 3.0), max(extent[1] * scale + 0.4, 2.0)
    left, right = (1.25 if strips else 0.15), (1.6 if needs_key(stage) else 0.15)
    title = wrap_text(title, 10.0, left + wide + right - 0.25)
    top = 0.22 + 0.18 * len(title.splitlines())
    bottom = 0.4 + 0.65 * len(strips)
    width, height = make_even(left + wide + right), make_even(top + high + bottom)
    figure = new_figure(width, height, dpi=DPI)

    def inches(x: float, y: float, across: float, tall: float) -> Axes:
        return figure.add_axes((x / width, y / height, across / width, tall / height))

    main = inches(left, bottom, wide, high)
    hide_axes(main)
    middle = (stage.low + stage.high) / 2
    half = np.array([wide, high]) / scale / 2
    main.set(xlim=(middle[0] - half[0], middle[0] + half[0]), ylim=(middle[1] - half[1], middle[1] + half[1]))
    main.axhline(stage.low[1] - 0.1 / scale, color=FAINT, linewidth=2.5)
    trails, bones = LineCollection([], linewidths=1.8), LineCollection([], linewidths=3.2, capstyle="round")
    edges = 0.6 if stage.shares is not None else 0
    discs = main.scatter([], [], edgecolors=INK, linewidths=edges, zorder=3, clip_on=False)
    main.add_collection(trails)
    main.add_collection(bones)
    words = figure.text(left / width, 0.1 / height, "", fontsize=9, color=SOFT)
    cursors = []
    for row, (name, values, ink) in enumerate(strips):
        strip = inches(left, bottom - 0.65 * (row + 1) + 0.02, wide, 0.5)
        draw_strip(strip, values, name, ink)
        strip.set_xticks([])
        cursors += [
            (strip.axvline(0, color=SOFT, linewidth=1), strip.plot([0], [0], "o", color=ink, clip_on=False)[0], values)
        ]
    if title:
        figure.text(0.12 / width, 1 - 0.12 / height, title, fontsize=10, fontweight="bold", va="top")
    if needs_key(stage):
        side = inches(left + wide + 0.15, 0.0, right - 0.2, height - 0.5)
        side.set(xlim=(0, right - 0.2), ylim=(height - 0.5, 0))
        draw_key(side, stage)
    moving = [trails, bones, discs, words, *(artist for line, dot, _ in cursors for artist in (line, dot))]

    def to(frame: int) -> None:
        segments, inks = stage.lines(frame)
        bones.set(segments=list(segments), colors=inks)
        segments, fading = stage.trails(frame)
        trails.set(segments=list(segments), colors=fading)
        places, areas, colours = stage.discs(frame)
        discs.set(offsets=places, sizes=areas, facecolors=colours)
        words.set_text(f"frame {frame + 1} of {len(stage)} · {clock(frame, len(stage), fps)}")
        for line, dot, values in cursors:
            line.set_xdata([frame, frame])
            dot.set_data([frame], [values[frame]])

    yield from shots(figure, moving, to, frames)


def shots(
    figure: Figure, moving: Iterable[Artist], to: Callable[[int], None], frames: Iterable[int]
) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """Pictures of a figure in which little moves: what stands still is drawn once.

    Args:
        figure: with everything in it.
        moving: what differs from frame to frame.
        to: changes that to what it is in a frame.
        frames: their numbers.
    """
    moving = list(moving)
    for artist in moving:
        artist.set_animated(True)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for frame in frames:
        to(frame)
        canvas.restore_region(still)
        for artist in moving:
            figure.draw_artist(artist)
        yield np.array(canvas.buffer_rgba())[..., :3]


def make_even(inches: float) -> float:
    """Inches rounded up so that they are an even number of pixels, as video codecs want."""
    return 2 * np.ceil(inches * DPI / 2) / DPI


def _palette(pictures: Iterable[np.ndarray]) -> Image.Image:
    """One palette for a whole film, from frames all over it: a palette per frame would make the colours flicker."""
    palette = Image.fromarray(np.concatenate(list(pictures))).quantize(256, method=Image.Quantize.MEDIANCUT)
    inks = np.array(palette.getpalette(), dtype=np.uint8).reshape(-1, 3)
    inks[inks.min(axis=1) >= 246] = 255  # the paper must not come out as one of the greys of its letters
    palette.putpalette(inks.tobytes())
    return palette


def _write_gif(pictures: Iterable[np.ndarray], palette: Image.Image, path: Path, fps: float) -> None:
    frames = [Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    ticks = [round(100 * place / fps) for place in range(len(frames) + 1)]
    durations = [10 * (end - start) for start, end in pairwise(ticks)]
    with atomic_image(path) as draft:
        frames[0].save(draft, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _write_mp4(pictures: Iterable[np.ndarray], path: Path, fps: float) -> None:
    try:
        import av
    except ImportError:
        raise MissingExtraError(
            "a film in MP4 was asked for, and PyAV is not installed",
            expected="PyAV, which carries FFmpeg",
            hint="run pip install av, or let the file name end in .gif",
            where=path,
        ) from None
    with atomic_image(path) as draft, av.open(str(draft), "w", format="mp4") as film:
        stream = None
        for picture in pictures:
            if stream is None:
                stream = film.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "18"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        assert stream is not None, "a recording has frames"
        film.mux(stream.encode(None))
