"""What sheet, animation and matrix share: joints in the image plane, attention as shares, discs, keys and time strips.

Legend: T frames, P people, J joints, D coordinates, N joints or segments that are drawn.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgb
from torch import Tensor

from muybridge.core.skeletons import Layout
from muybridge.core.types import SkeletonSequence
from muybridge.viz.style import COLORS, HEAT, INK, SOFT, hide_axes

_MIN_DIAMETER, _MAX_DIAMETER = 1.4, 17.0  # of discs, in points
_TRAIL = 8  # frames that the trail of a limb's end reaches back


@dataclass(frozen=True, slots=True)
class SkeletonScene:
    """A recording ready to be drawn.

    Attributes:
        points: x to the right and y up on the screen, in the unit of the recording; NaN where a person is absent.
        shares: attention of each joint relative to the mean of its frame; None without attention.
        top: the share at which discs stop growing and darkening.
        low, high: corners of the bounding box of the whole recording.
        bones: pairs of joints.
        tips: joints whose trail is drawn: the ends of the limbs.
        zoom: factor on the usual diameter of the discs.
    """

    points: Float[np.ndarray, "T P J 2"]
    shares: Float[np.ndarray, "T P J"] | None
    top: float
    low: Float[np.ndarray, " 2"]
    high: Float[np.ndarray, " 2"]
    bones: tuple[tuple[int, int], ...]
    tips: tuple[int, ...]
    zoom: float

    def __len__(self) -> int:
        return len(self.points)

    def lines(self, frame: int) -> tuple[np.ndarray, list[str]]:
        """The bones of everyone present in a frame, as segments ``N 2 2`` with a color each."""
        segments, colors = [np.empty((0, 2, 2))], list[str]()
        for person, joints in enumerate(self.points[frame]):
            pairs = joints[np.array(self.bones, dtype=int).reshape(-1, 2)]
            pairs = pairs[np.isfinite(pairs).all(axis=(1, 2))]
            segments.append(pairs)
            colors += [person_color(person)] * len(pairs)
        return np.concatenate(segments), colors

    def discs(self, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The joints of everyone present: positions ``N 2``, areas in square points and colors, the largest first."""
        people, joints = np.nonzero(np.isfinite(self.points[frame]).all(axis=-1))
        positions = self.points[frame, people, joints]
        if self.shares is None:
            colors = np.array([to_rgb(person_color(int(person))) for person in people]).reshape(-1, 3)
            return positions, np.full(len(positions), 10.0 * self.zoom**2), colors
        shares = self.shares[frame, people, joints]
        order = np.argsort(-shares, kind="stable")
        areas, colors = self.disc(shares)
        return positions[order], areas[order], colors[order]

    def disc(self, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Areas in square points, in proportion to the shares, and colors."""
        diameter = self.zoom * min(5.5, _MAX_DIAMETER / np.sqrt(self.top))
        areas = np.maximum(diameter**2 * np.clip(shares, 0, self.top), (self.zoom * _MIN_DIAMETER) ** 2)
        return areas, HEAT(Normalize(0, self.top)(shares))[:, :3]

    def trails(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """The paths of the limbs' ends up to a frame: segments ``N 2 2`` and colors ``N 4`` that fade into the past."""
        start = max(0, frame - _TRAIL)
        paths = self.points[start : frame + 1][:, :, list(self.tips)]
        segments = np.stack([paths[:-1], paths[1:]], axis=-2)  # steps, people, tips, ends, coordinates
        people = np.array([to_rgb(person_color(person)) for person in range(paths.shape[1])])
        colors = np.ones((*segments.shape[:3], 4))
        colors[..., :3] = people[:, None]
        colors[..., 3] = (0.5 * (np.arange(start, frame) + 1 - start) / _TRAIL)[:, None, None]
        present = np.isfinite(segments).all(axis=(-1, -2))
        return segments[present], colors[present]


def person_color(person: int) -> str:
    """The color of a person's bones; none of these is close to a color of the heat map."""
    return (COLORS[0], COLORS[2], SOFT)[min(person, 2)]


def make_scene(
    sequence: SkeletonSequence, layout: Layout, alpha: Float[Tensor, "T P J"] | None, up: str | None, zoom: float = 1.0
) -> SkeletonScene:
    """Project a recording to the image plane as its camera saw it.

    A person who faces the camera has the right hand on the left of the image. Axes in 3-D are right-handed (Kinect's: x
    towards the right hand of a person who faces it, y up, z away) and are seen along the positive direction of the axis
    that is neither up nor across; 2-D is an image, with x to the right.

    Args:
        sequence: the recording.
        layout: its joints.
        alpha: attention of each joint, on any scale.
        up: the axis that points up: ``x``, ``y`` or ``z``, with a minus where it points down. None estimates it: the
            direction of the torso most of the time; without a torso, ``-y`` for 2-D, ``y`` for 3-D.
        zoom: factor on the usual diameter of the discs.
    """
    joints = sequence.joints.detach().cpu().double().numpy()
    assert len(joints), "a recording has frames"
    joints = np.where(sequence.present.cpu().numpy()[..., None, None], joints, np.nan)
    axis, sign = _up_axis(joints, layout) if up is None else ("xyz".index(up[-1]), -1 if up.startswith("-") else 1)
    across = 1 if axis == 0 else 0
    # Across, up and away have the handedness of x, y, z in this order, or the opposite one.
    side = 1 if joints.shape[-1] == 2 else -sign * (-1) ** ((axis - across) % 3 - 1)
    points = np.stack([side * joints[..., across], sign * joints[..., axis]], axis=-1)
    visible = points[np.isfinite(points).all(axis=-1)]
    low, high = (visible.min(axis=0), visible.max(axis=0)) if len(visible) else (np.zeros(2), np.ones(2))
    shares, top = None, 2.0
    if alpha is not None:
        weights = alpha.detach().cpu().double().numpy()
        assert weights.shape == joints.shape[:3], (weights.shape, joints.shape)
        shares = even_shares(weights)
        top = round_up(float(np.quantile(shares, 0.995)))
    ends = np.bincount(np.array(layout.bones, dtype=int).ravel(), minlength=len(layout))
    tips = np.flatnonzero(ends == 1) if layout.known else np.arange(0)
    return SkeletonScene(points, shares, top, low, high, layout.bones, tuple(int(tip) for tip in tips), zoom)


def even_shares(alpha: Float[np.ndarray, "T P J"]) -> Float[np.ndarray, "T P J"]:
    """Attention relative to what each joint of a frame would get if all got the same; the mean of a frame is 1."""
    return alpha / np.maximum(alpha.mean(axis=(1, 2), keepdims=True), 1e-12)


def round_up(share: float) -> float:
    """The next of 2, 3, 5, 10, 20, 30, 50 and 100."""
    return next((float(step) for step in (2, 3, 5, 10, 20, 30, 50) if share <= step), 100.0)


def _up_axis(joints: np.ndarray, layout: Layout) -> tuple[int, int]:
    """The vertical axis, and 1 where it points up or -1 where it points down."""
    if layout.torso is not None:
        lower, upper = layout.torso
        torso = joints[:, :, upper] - joints[:, :, lower]
        torso = torso[np.isfinite(torso).all(axis=-1)]
        if len(torso):
            mean = torso.mean(axis=0)
            axis = int(np.abs(mean).argmax())
            return axis, 1 if mean[axis] >= 0 else -1
    return 1, -1 if joints.shape[-1] == 2 else 1


def clock(frame: int, frames: int, fps: float | None) -> str:
    """The time of a frame: seconds from the start where the frame rate is known, else per cent of the recording."""
    return f"{frame / fps:.2f} s" if fps else f"{100 * frame / max(frames - 1, 1):.0f} %"


def draw_key(axes: Axes, scene: SkeletonScene) -> None:
    """Explain discs, their colors and the colors of bones; ``axes`` counts inches from its upper left corner."""
    middle, text_x = 0.14, 0.34
    hide_axes(axes)
    y = 0.08
    if scene.shares is not None:
        y = _draw_disc_key(axes, scene, middle, text_x, y)
    people = scene.points.shape[1]
    if people > 1:
        for person in range(people):
            axes.plot([0, 2 * middle], [y, y], color=person_color(person), linewidth=3, solid_capstyle="round")
            axes.text(text_x, y, f"person {person + 1}", fontsize=8, va="center_baseline")
            y += 0.2


def _draw_disc_key(axes: Axes, scene: SkeletonScene, middle: float, text_x: float, y: float) -> float:
    """Discs of several shares with their numbers, from ``y`` down; returns where the next entry goes."""
    assert scene.shares is not None
    axes.text(0, y, "joint attention α", fontsize=9, fontweight="bold", va="center")
    axes.text(0, y + 0.18, "1 = even share", fontsize=8, color=SOFT, va="center")
    y += 0.22
    steps = [
        step for step in (0, 0.5, 1, 2, 5, 10, 20, 50, 100) if step <= scene.top and (step != 0.5 or scene.top <= 3)
    ]
    steps += [scene.top] if scene.top not in steps else []
    areas, colors = scene.disc(np.array(steps, dtype=float))
    for step, area, color in zip(steps, areas, colors, strict=True):
        y += max(0.19, np.sqrt(area) / 72 + 0.06)
        axes.scatter([middle], [y], s=area, color=[color], edgecolors=INK, linewidths=0.5, clip_on=False)
        text = f"{step:g} and more" if step == scene.top < scene.shares.max() else f"{step:g}"
        axes.text(text_x, y, text, fontsize=8, va="center_baseline")
    return y + 0.36


def draw_strip(axes: Axes, values: np.ndarray, name: str, color: str) -> None:
    """A curve over the frames, from zero, with its own scale."""
    frames = len(values)
    highest = float(values.max()) or 1.0
    axes.fill_between(np.arange(frames), values, color=color, alpha=0.22, linewidth=0)
    axes.plot(np.arange(frames), values, color=color, linewidth=1.6, marker="o" if frames == 1 else "")
    axes.set(xlim=(-0.5, frames - 0.5), ylim=(0, 1.12 * highest))
    axes.set_yticks([0, highest], ["0", f"{highest:.2g}"])
    axes.annotate(
        name, (0, 0.5), (-34, 0), xycoords="axes fraction", textcoords="offset points", ha="right", va="center"
    )
    axes.tick_params(axis="y", length=2)


def label_frames(axes: Axes, frames: int) -> None:
    """Label the x axis, whose position 0 is the first frame, with round frame numbers from 1."""
    step = next(factor * 10**power for power in range(9) for factor in (1, 2, 5) if frames <= 12 * factor * 10**power)
    numbers = [1, *range(step if step > 2 else 1 + step, frames + 1, step)]
    axes.set_xticks([number - 1 for number in numbers], [str(number) for number in numbers])
    axes.set_xlabel(f"frame, of {frames}", labelpad=2)
