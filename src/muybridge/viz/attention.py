"""All the attention of one recording in one picture: joints by frames.

Legend: T frames, P people, J joints.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from torch import Tensor

from muybridge.viz.skeleton import strips_of
from muybridge.viz.skeleton_axes import count_frames, draw_strip, even_shares, person_color, round_up
from muybridge.viz.style import HEAT, INK, SOFT, hide_axes, new_figure, save, styled, text_width, wrap_text

_ROW = 0.17  # inches


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
        path: where to; .png, .pdf or .svg.
        title: the line above.

    Raises:
        RunError: ``path`` cannot be written.
    """
    shares = even_shares(alpha.detach().cpu().double().numpy())
    frames, people, _ = shares.shape
    assert shares.shape[2] == len(joints), (shares.shape, len(joints))
    top = round_up(float(np.quantile(shares, 0.995)))
    names = [name.replace("_", " ") for name in joints]
    strips = strips_of(beta, None)
    with styled():
        left = max(text_width(new_figure(1.0, 1.0), names, 8.0) + (0.55 if people > 1 else 0.2), 1.3)
        wide, side = min(max(0.14 * frames, 4.5), 9.0), 1.1
        title = wrap_text(title, 11.0, left + wide + side)
        above = 0.25 + (0.1 + 0.2 * len(title.splitlines()) if title else 0)
        curve, gap, below = 0.8 * len(strips), 0.14, 1.1
        blocks = people * len(joints) * _ROW + (people - 1) * gap
        width, height = left + wide + 0.12 + side + 0.2, above + curve + blocks + below
        figure = new_figure(width, height)

        def inches(x: float, y: float, across: float, high: float) -> Axes:
            return figure.add_axes((x / width, 1 - (y + high) / height, across / width, high / height))

        for words, values, ink in strips:
            strip = inches(left, above, wide, curve - 0.15)
            draw_strip(strip, values, words, ink)
            strip.set_xticks([])
        most = float(shares.mean(axis=0).max())
        for person in range(people):
            y = above + curve + person * (len(joints) * _ROW + gap)
            block = inches(left, y, wide, len(joints) * _ROW)
            _draw_block(block, shares[:, person], names, top)
            bars = inches(left + wide + 0.12, y, side, len(joints) * _ROW)
            _draw_means(bars, shares[:, person].mean(axis=0), most)
            if person == 0:
                bars.set_title("mean over frames", fontsize=8, fontweight="normal", pad=4)
            if people > 1:
                label = inches(0.1, y, 0.25, len(joints) * _ROW)
                hide_axes(label)
                label.set(xlim=(0, 1), ylim=(0, 1))
                label.plot([0.9, 0.9], [0, 1], color=person_color(person), linewidth=3, solid_capstyle="butt")
                label.text(0.3, 0.5, f"person {person + 1}", rotation=90, ha="center", va="center", fontsize=9)
            if person == people - 1:
                count_frames(block, frames)
        bar = inches(left, height - 0.5, min(2.6, wide), 0.12)
        bar.imshow(np.linspace(0, 1, 128)[None], cmap=HEAT, aspect="auto", extent=(0, top, 0, 1))
        more = " and more" if shares.max() > top else ""
        bar.set_yticks([])
        bar.set_xticks([0 if top < 20 else top / 2, 1, top], [f"{0 if top < 20 else top / 2:g}", "1", f"{top:g}{more}"])
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
        if title:
            figure.text(0.12 / width, 1 - 0.14 / height, title, fontsize=11, fontweight="bold", va="top")
        save(figure, path)


def _draw_block(axes: Axes, shares: Float[np.ndarray, "T J"], names: list[str], top: float) -> None:
    axes.imshow(
        rearrange(shares, "t j -> j t"), cmap=HEAT, norm=Normalize(0, top), aspect="auto", interpolation="nearest"
    )
    axes.set_xticks([])
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.spines[:].set_visible(False)


def _draw_means(axes: Axes, means: Float[np.ndarray, " J"], most: float) -> None:
    axes.barh(range(len(means)), means, height=0.7, color=SOFT)
    axes.axvline(1, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    for place, mean in enumerate(means):
        axes.text(1.42 * most, place, f"{mean:.1f}", fontsize=7, va="center_baseline", ha="right")
    axes.set(xlim=(0, 1.42 * most), ylim=(len(means) - 0.5, -0.5))
    hide_axes(axes)
