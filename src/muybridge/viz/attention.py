"""All the attention of one recording in one image: joints by frames.

Legend: T frames, P people, J joints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from muybridge.viz.skeleton import time_strips
from muybridge.viz.skeleton_axes import draw_strip, even_shares, label_frames, person_color, round_up
from muybridge.viz.style import HEAT, INK, SOFT, clean_text, hide_axes, new_figure, save, styled, text_width, wrap_text

_ROW, _GAP, _MEANS = 0.17, 0.14, 1.1  # inches


def draw_attention_matrix(
    alpha: Float[Tensor, "T P J"],
    beta: Float[Tensor, " T"] | None,
    joints: Sequence[str],
    path: Path,
    *,
    title: str = "",
) -> None:
    """Draw the attention of every joint at every frame, the attention of the frames above and each joint's mean beside.

    Args:
        alpha: attention of each joint, on any scale: drawn relative to the even share of a frame.
        beta: attention of each frame; None leaves the curve out.
        joints: names of the J joints, as in ``Layout.joints``.
        path: .png, .pdf or .svg.
        title: above the matrix.

    Raises:
        RunError: ``path`` cannot be written.
    """
    shares = even_shares(alpha.detach().cpu().double().numpy())
    frames, people, _ = shares.shape
    assert shares.shape[2] == len(joints), (shares.shape, len(joints))
    top = round_up(float(np.quantile(shares, 0.995)))
    strips = time_strips(beta, None)
    with styled():
        names = [clean_text(name.replace("_", " ")) for name in joints]
        page = _Page.of(names, frames, people, len(strips), title)
        figure = new_figure(page.width, page.height)
        for name, values, color in strips:
            strip = page.axes(figure, page.left, page.top, page.wide, page.curve - 0.15)
            draw_strip(strip, values, name, color)
            strip.set_xticks([])
        largest_mean = float(shares.mean(axis=0).max())
        for person in range(people):
            _draw_person(figure, page, names, shares[:, person], person, top, largest_mean)
        _draw_color_bar(figure, page, top, more=bool(shares.max() > top))
        if page.title:
            place = 0.12 / page.width, 1 - 0.14 / page.height
            figure.text(*place, page.title, fontsize=11, fontweight="bold", va="top")
        save(figure, path)


@dataclass(frozen=True, slots=True)
class _Page:
    """Where the parts lie, in inches from the upper left corner."""

    width: float
    height: float
    left: float
    top: float
    wide: float
    curve: float
    people: int
    title: str

    @classmethod
    def of(cls, names: list[str], frames: int, people: int, strips: int, title: str) -> "_Page":
        """The page for joints of these names."""
        left = max(text_width(new_figure(1.0, 1.0), names, 8.0) + (0.55 if people > 1 else 0.2), 1.3)
        wide = min(max(0.14 * frames, 4.5), 9.0)
        title = wrap_text(title, 11.0, left + wide + _MEANS)
        top = 0.25 + (0.1 + 0.2 * len(title.splitlines()) if title else 0)
        curve, below = 0.8 * strips, 1.1
        blocks = people * len(names) * _ROW + (people - 1) * _GAP
        width, height = left + wide + 0.12 + _MEANS + 0.2, top + curve + blocks + below
        return cls(width, height, left, top, wide, curve, people, title)

    def axes(self, figure: Figure, x: float, y: float, wide: float, high: float) -> Axes:
        """Axes at a place in inches."""
        return figure.add_axes((x / self.width, 1 - (y + high) / self.height, wide / self.width, high / self.height))


def _draw_person(
    figure: Figure,
    page: _Page,
    names: list[str],
    shares: Float[np.ndarray, "T J"],
    person: int,
    top: float,
    largest_mean: float,
) -> None:
    """The block of one person, with the means at its right and, where there are several people, a label at its left."""
    high = len(names) * _ROW
    y = page.top + page.curve + person * (high + _GAP)
    block = page.axes(figure, page.left, y, page.wide, high)
    _draw_block(block, shares, names, top)
    bars = page.axes(figure, page.left + page.wide + 0.12, y, _MEANS, high)
    _draw_means(bars, shares.mean(axis=0), largest_mean)
    if person == 0:
        bars.set_title("mean over frames", fontsize=8, fontweight="normal", pad=4)
    if page.people > 1:
        label = page.axes(figure, 0.1, y, 0.25, high)
        hide_axes(label)
        label.set(xlim=(0, 1), ylim=(0, 1))
        label.plot([0.9, 0.9], [0, 1], color=person_color(person), linewidth=3, solid_capstyle="butt")
        label.text(0.3, 0.5, f"person {person + 1}", rotation=90, ha="center", va="center", fontsize=9)
    if person == page.people - 1:
        label_frames(block, len(shares))


def _draw_block(axes: Axes, shares: Float[np.ndarray, "T J"], names: list[str], top: float) -> None:
    axes.imshow(
        rearrange(shares, "t j -> j t"), cmap=HEAT, norm=Normalize(0, top), aspect="auto", interpolation="nearest"
    )
    axes.set_xticks([])
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)


def _draw_means(axes: Axes, means: Float[np.ndarray, " J"], largest: float) -> None:
    axes.barh(range(len(means)), means, height=0.7, color=SOFT)
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    for place, mean in enumerate(means):
        axes.text(1.42 * largest, place, f"{mean:.1f}", fontsize=7, va="center_baseline", ha="right")
    axes.set(xlim=(0, 1.42 * largest), ylim=(len(means) - 0.5, -0.5))
    hide_axes(axes)


def _draw_color_bar(figure: Figure, page: _Page, top: float, more: bool) -> None:
    """The scale of the colors; ``more`` says that some shares are above its end."""
    bar = page.axes(figure, page.left, page.height - 0.5, min(2.6, page.wide), 0.12)
    bar.imshow(np.linspace(0, 1, 128)[None], cmap=HEAT, aspect="auto", extent=(0, top, 0, 1))
    bar.set_yticks([])
    first = 0 if top < 20 else top / 2
    bar.set_xticks([first, 1, top], [f"{first:g}", "1", f"{top:g}{' and more' if more else ''}"])
    bar.spines[:].set_visible(False)
    bar.annotate(
        "joint attention α, 1 = even share",
        (1, 0.5),
        (40, 0),
        xycoords="axes fraction",
        fontsize=8,
        textcoords="offset points",
        va="center",
    )
