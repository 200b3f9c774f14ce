"""A recording on one page: key frames side by side, and under each its frame in the curves over time.

Legend: T frames, P people, J joints.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor

from muybridge.core.skeletons import Layout
from muybridge.core.types import SkeletonSequence
from muybridge.viz.skeleton_axes import SkeletonScene, clock, draw_key, draw_strip, label_frames, make_scene
from muybridge.viz.style import COLORS, FAINT, INK, SOFT, hide_axes, new_figure, save, styled, wrap_text

_STRIP, _STRIP_GAP = 0.62, 0.22  # inches


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
    """Draw 4 to 8 evenly spaced key frames, each straight above its frame in the curves over time.

    The area and the darkness of a joint's disc are its attention, relative to the even share of a frame, so any
    scaling of ``alpha`` draws the same. Behind a key frame lie the paths of hands, feet and head in the 8 frames
    before. Scale and crop are the same in all panels.

    Args:
        sequence: the recording; absent people are not drawn.
        layout: its joints; without bones there are only discs.
        path: .png, .pdf or .svg.
        alpha: attention of each joint.
        beta: attention of each frame.
        derivative: norm of the change of the model's state at each frame.
        title: of the sheet.
        fps: frames per second of the recording; None labels the panels in per cent of it.
        up: the axis that points up (``y``, ``-y``, ``z``, ...); None estimates it, see :func:`make_scene`.

    Raises:
        RunError: ``path`` cannot be written.
    """
    scene = make_scene(sequence, layout, alpha, up)
    strips = time_strips(beta, derivative)
    with styled():
        page = _Page.of(scene, len(strips), title)
        figure = new_figure(page.width, page.height)
        keys = [int((place + 0.5) * len(scene) / page.panels) for place in range(page.panels)]
        _draw_key_frames(figure, page, scene, keys, fps)
        if page.title:
            place = 0.2 / page.width, 1 - 0.14 / page.height
            figure.text(*place, page.title, fontsize=11, fontweight="bold", va="top")
        _draw_strips(figure, page, strips, keys, len(scene))
        if needs_key(scene):
            side = page.axes(figure, page.left + page.panels * page.wide + 0.3, 0.0, 1.3, page.height - 0.35)
            side.set(xlim=(0, 1.3), ylim=(page.height - 0.35, 0))
            draw_key(side, scene)
        save(figure, path)


@dataclass(frozen=True, slots=True)
class _Page:
    """Where the parts of a sheet lie, in inches from the lower left corner."""

    width: float
    height: float
    left: float
    bottom: float
    panels: int
    wide: float
    high: float
    scale: float  # inches per unit of the recording
    title: str

    @classmethod
    def of(cls, scene: SkeletonScene, strips: int, title: str) -> "_Page":
        """The page for a scene with so many curves below it."""
        extent = np.maximum(scene.high - scene.low, 1e-9)
        # 2.1 inches high; less where wide panels would leave room for few of them, but 1.5 at least.
        scale = min(2.1 / extent[1], max(1.5 / extent[1], 1.95 / extent[0]), 3.4 / extent[0])
        wide, high = max(extent[0] * scale + 0.35, 1.25), max(extent[1] * scale, 0.7) + 0.3
        panels = min(len(scene), int(np.clip(14 / wide, 4, 8)))
        left, right = (1.5 if strips else 0.2), (1.65 if needs_key(scene) else 0.2)
        bottom = 0.5 + (_STRIP + _STRIP_GAP) * strips if strips else 0.1
        width = left + panels * wide + right
        title = wrap_text(title, 11.0, width - 0.4)
        top = 0.55 + 0.22 * len(title.splitlines())
        return cls(width, top + high + bottom, left, bottom, panels, wide, high, scale, title)

    def axes(self, figure: Figure, x: float, y: float, wide: float, high: float) -> Axes:
        """Axes at a place in inches."""
        return figure.add_axes((x / self.width, y / self.height, wide / self.width, high / self.height))


def needs_key(scene: SkeletonScene) -> bool:
    """Whether there is anything to explain: attention, or several people."""
    return scene.shares is not None or scene.points.shape[1] > 1


def time_strips(beta: Tensor | None, derivative: Tensor | None) -> list[tuple[str, np.ndarray, str]]:
    """Name, values and color of each curve over time."""
    named = (("frame\nattention β", beta, INK), ("state\nderivative", derivative, COLORS[3]))
    return [
        (name, values.detach().cpu().double().numpy(), color) for name, values, color in named if values is not None
    ]


def _draw_key_frames(figure: Figure, page: _Page, scene: SkeletonScene, keys: list[int], fps: float | None) -> None:
    main = page.axes(figure, page.left, page.bottom, page.panels * page.wide, page.high)
    hide_axes(main)
    main.set(xlim=(0, page.panels * page.wide), ylim=(0, page.high))
    for place, frame in enumerate(keys):
        middle = (place + 0.5) * page.wide
        center = (scene.low[0] + scene.high[0]) / 2
        origin = np.array([middle - page.scale * center, 0.2 - page.scale * scene.low[1]])
        _draw_panel(main, scene, frame, origin, page.scale)
        ground = [place * page.wide + 0.06, (place + 1) * page.wide - 0.06]
        main.plot(ground, [0.06, 0.06], color=FAINT, linewidth=2)
        main.text(middle, page.high + 0.27, f"frame {frame + 1}", ha="center", fontsize=8, fontweight="bold")
        time = clock(frame, len(scene), fps)
        main.text(middle, page.high + 0.11, time, ha="center", fontsize=8, color=SOFT)


def _draw_strips(
    figure: Figure, page: _Page, strips: list[tuple[str, np.ndarray, str]], keys: list[int], frames: int
) -> None:
    for row, (name, values, color) in enumerate(strips):
        y = page.bottom - (row + 1) * (_STRIP + _STRIP_GAP) + 0.1
        strip = page.axes(figure, page.left, y, page.panels * page.wide, _STRIP)
        draw_strip(strip, values, name, color)
        strip.vlines(keys, 0, values[keys], color=color, linewidth=1)
        strip.plot(keys, values[keys], "o", color=color, markersize=4.5, markeredgecolor="white", clip_on=False)
        if row == len(strips) - 1:
            label_frames(strip, frames)
        else:
            strip.set_xticks([])


def _draw_panel(axes: Axes, scene: SkeletonScene, frame: int, origin: np.ndarray, scale: float) -> None:
    trails, colors = scene.trails(frame)
    axes.add_collection(LineCollection(list(origin + scale * trails), colors=colors, linewidths=1.2))
    bones, colors = scene.lines(frame)
    axes.add_collection(LineCollection(list(origin + scale * bones), colors=colors, linewidths=2.2, capstyle="round"))
    positions, areas, colors = scene.discs(frame)
    edges = 0.5 if scene.shares is not None else 0
    axes.scatter(
        *(origin + scale * positions).T, s=areas, c=colors, edgecolors=INK, linewidths=edges, zorder=3, clip_on=False
    )
