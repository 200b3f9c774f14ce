"""A recording on one page: key frames side by side, and under each its moment in frame attention.

Legend: T frames, P people, J joints.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from torch import Tensor

from muybridge.core.skeletons import Layout
from muybridge.core.types import SkeletonSequence
from muybridge.viz.skeleton_axes import SkeletonScene, clock, count_frames, draw_key, draw_strip, make_scene
from muybridge.viz.style import COLORS, FAINT, INK, SOFT, hide_axes, new_figure, save, styled, wrap_text

_STRIP = 0.62  # inches


def draw_skeleton_sheet(
    sequence: SkeletonSequence,
    layout: Layout,
    path: Path,
    *,
    alpha: Float[Tensor, "T P J"] | None = None,
    beta: Float[Tensor, " T"] | None = None,
    derivative: Float[Tensor, " T"] | None = None,
    title: str = "",
    fps: float | None = None,
    up: str | None = None,
) -> None:
    """Draw 4 to 8 evenly spaced key frames, each straight above its moment on the time strips.

    The area and the darkness of a joint's disc are its attention, relative to the even share of a frame, so any
    scaling of ``alpha`` draws the same. Behind the key frame lie the ways of hands, feet and head in the 8 frames
    before. Scale and section are the same in all panels.

    Args:
        sequence: the recording; absent people are not drawn.
        layout: its joints; without bones there are only discs.
        path: where to; .png, .pdf or .svg.
        alpha: attention of each joint.
        beta: attention of each frame.
        derivative: size of the change of the model's state at each frame.
        title: the line above.
        fps: frames per second of the recording; None labels the panels in per cent of it.
        up: the axis that points up (``y``, ``-y``, ``z``, ...); None finds it, see :func:`stage.set_stage`.

    Raises:
        RunError: ``path`` cannot be written.
    """
    stage = make_scene(sequence, layout, alpha, up)
    frames = len(stage)
    strips = strips_of(beta, derivative)
    extent = np.maximum(stage.high - stage.low, 1e-9)
    # Inches per unit: 2.1 inches high, less where wide panels would leave room for few of them, never below 1.5.
    scale = min(2.1 / extent[1], max(1.5 / extent[1], 1.95 / extent[0]), 3.4 / extent[0])
    wide, high = max(extent[0] * scale + 0.35, 1.25), max(extent[1] * scale, 0.7) + 0.3
    panels = min(frames, int(np.clip(14 / wide, 4, 8)))
    left, right = (1.5 if strips else 0.2), (1.65 if needs_key(stage) else 0.2)
    bottom = 0.5 + (_STRIP + 0.22) * len(strips) if strips else 0.1
    with styled():
        title = wrap_text(title, 11.0, left + panels * wide + right - 0.4)
    top = 0.55 + 0.22 * len(title.splitlines())
    width, height = left + panels * wide + right, top + high + bottom
    with styled():
        figure = new_figure(width, height)

        def inches(x: float, y: float, across: float, high: float) -> Axes:
            return figure.add_axes((x / width, y / height, across / width, high / height))

        main = inches(left, bottom, panels * wide, high)
        hide_axes(main)
        main.set(xlim=(0, panels * wide), ylim=(0, high))
        keys = [int((place + 0.5) * frames / panels) for place in range(panels)]
        for place, frame in enumerate(keys):
            middle = (place + 0.5) * wide
            origin = np.array([middle - scale * (stage.low[0] + stage.high[0]) / 2, 0.2 - scale * stage.low[1]])
            _draw_panel(main, stage, frame, origin, scale)
            main.plot([place * wide + 0.06, (place + 1) * wide - 0.06], [0.06, 0.06], color=FAINT, linewidth=2)
            main.text(middle, high + 0.27, f"frame {frame + 1}", ha="center", fontsize=8, fontweight="bold")
            main.text(middle, high + 0.11, clock(frame, frames, fps), ha="center", fontsize=8, color=SOFT)
        if title:
            figure.text(0.2 / width, 1 - 0.14 / height, title, fontsize=11, fontweight="bold", va="top")
        for row, (words, values, ink) in enumerate(strips):
            strip = inches(left, bottom - (row + 1) * (_STRIP + 0.22) + 0.1, panels * wide, _STRIP)
            draw_strip(strip, values, words, ink)
            strip.vlines(keys, 0, values[keys], color=ink, linewidth=1)
            strip.plot(keys, values[keys], "o", color=ink, markersize=4.5, markeredgecolor="white", clip_on=False)
            if row == len(strips) - 1:
                count_frames(strip, frames)
            else:
                strip.set_xticks([])
        if needs_key(stage):
            side = inches(left + panels * wide + 0.3, 0.0, right - 0.35, height - 0.35)
            side.set(xlim=(0, right - 0.35), ylim=(height - 0.35, 0))
            draw_key(side, stage)
        save(figure, path)


def needs_key(stage: SkeletonScene) -> bool:
    """Whether there is anything to explain: attention, or several people."""
    return stage.shares is not None or stage.points.shape[1] > 1


def strips_of(beta: Tensor | None, derivative: Tensor | None) -> list[tuple[str, np.ndarray, str]]:
    """Name, values and ink of each curve over time."""
    named = (("frame\nattention β", beta, INK), ("state\nderivative", derivative, COLORS[3]))
    return [(words, values.detach().cpu().double().numpy(), ink) for words, values, ink in named if values is not None]


def _draw_panel(axes: Axes, stage: SkeletonScene, frame: int, origin: np.ndarray, scale: float) -> None:
    trails, fading = stage.trails(frame)
    axes.add_collection(LineCollection(list(origin + scale * trails), colors=fading, linewidths=1.2))
    bones, inks = stage.lines(frame)
    axes.add_collection(LineCollection(list(origin + scale * bones), colors=inks, linewidths=2.2, capstyle="round"))
    places, areas, colours = stage.discs(frame)
    edges = 0.5 if stage.shares is not None else 0
    axes.scatter(
        *(origin + scale * places).T, s=areas, c=colours, edgecolors=INK, linewidths=edges, zorder=3, clip_on=False
    )
