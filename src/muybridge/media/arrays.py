"""Arrays of joints to sequences: which axis is which, what is a coordinate and what a score, which joints are missing.

Legend: T frames, P people, J joints, C numbers of a joint, D coordinates (2 or 3) among them.

Nothing is guessed silently. An array is read as frames x people x joints x coordinates; where its shape or its
content indicates another order, or its third number looks like a score, it is refused with the setting that decides.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.types import SkeletonSequence
from muybridge.media.axis_order import EXPECTED, arrange, default_order
from muybridge.media.parsing import nobody_seen, shape_text, to_sequence

Array = np.ndarray | Tensor | Sequence[Any]
Up = Literal["", "x", "y", "z", "-x", "-y", "-z"]
Coordinates = Literal[0, 2, 3]

_LETTERS = {"T": "T", "P": "P", "M": "P", "J": "J", "V": "J", "C": "C", "N": "N"}
# Numbers of joints that sensors of depth write, and no estimator of 2-D joints.
_ONLY_DEPTH = {len(layout) for layout in LAYOUTS.values()} - {
    len(layout) for layout in LAYOUTS.values() if layout.from_images
}
# A third number that changes from frame to frame by this share of its range, and by this many times the share of x and
# y, is a score. In 1700 recordings of three Kinect data sets depth changes by 0.046 at most; random numbers, by 0.32.
_JUMP, _JUMP_FACTOR = 0.12, 3.0


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a file of joints does not say about itself.

    Attributes:
        axes: order of the axes of an array, such as "MTVC": T frames, M people, V joints, C coordinates, N recordings,
            of which there must be one; P and J stand for M and V too. Empty: "TMVC" (or "TVC"), refused where the
            content contradicts it.
        coordinates: how many of the numbers of a joint are coordinates; the others (scores) are dropped. 0: all of
            them, refused where the last looks like a score.
        up: the axis that points up in recordings in 3-D, with a minus where it points down; they are rotated so that
            it becomes y. Empty: they are not rotated.
        min_score: joints that a pose estimator found with less confidence are missing; they are interpolated over time.
            Files of estimators say the confidence, and our own ``.npz``, ``.json`` and ``.csv`` with scores.
    """

    axes: str = ""
    coordinates: Coordinates = 0
    up: Up = ""
    min_score: float = 0.0

    def __post_init__(self) -> None:
        if self.axes:
            parse_axes(self.axes)


def parse_axes(axes: str) -> str:
    """An order of axes in the letters T, P, J, C and N.

    Raises:
        ValueError: another letter, one that stands twice, or none for frames, joints or coordinates.
    """
    letters = "".join(_LETTERS.get(letter, "?") for letter in axes.upper())
    if not re.fullmatch(r"(?!.*(.).*\1)[TPJCN]{3,5}", letters) or not {"T", "J", "C"} <= set(letters):
        raise ValueError(
            f"axes is {axes!r} and needs each of T (frames), V (joints) and C (coordinates) once, "
            'and at most one M (people), such as "MTVC"'
        )
    return letters


@np.errstate(all="ignore")  # what is not finite is refused in the end
def sequence_from_array(
    joints: Array,
    present: Array | None = None,
    options: ReadOptions | None = None,
    where: Path | None = None,
    scores: Array | None = None,
) -> SkeletonSequence:
    """A sequence from an array of joint positions.

    Joints that are NaN, at the origin of an image, or at the origin far outside the body, are missing: they are
    interpolated over time and counted in ``filled``. A person whose joints are all zero or NaN in a frame is absent.

    Args:
        joints: frames x people x joints x coordinates, without people, or as ``options.axes`` says.
        present: frames x people (or in the order of ``options.axes``); False where a person is absent.
        options: what the array does not say about itself.
        where: the file, for messages.
        scores: the confidence of each joint, in the order of ``joints`` without its coordinates.

    Raises:
        DataError: not numbers, another shape, an order of axes or a score that has to be named, a position that is not
            finite, or nobody is seen.
    """
    options = options or ReadOptions()
    array = _as_numpy(joints, where)
    if array.dtype.kind not in "iuf" or array.ndim not in (3, 4, 5):
        raise DataError(
            f"joints is {shape_text(array.shape)} of {array.dtype}",
            expected=EXPECTED + _flattened(array),
            hint="rearrange and save the array again",
            where=where,
        )
    axes = parse_axes(options.axes) if options.axes else ""
    seen = None if present is None else _as_numpy(present, where)
    array = array.astype(np.float64)
    ordered = arrange(array, axes, where) if axes else default_order(array, where)
    sure = None if scores is None else _scores(_as_numpy(scores, where), array.shape, ordered.shape, axes, where)
    return assemble(ordered, options, where, _present(seen, ordered.shape[:2], axes, where), sure)


def _flattened(array: np.ndarray) -> str:
    """What an array of two axes may be, for the message: coordinates of all joints in a row."""
    known = {len(layout) for layout in LAYOUTS.values()}
    ways = [(array.shape[1] // size, size) for size in (3, 2, 4)] if array.ndim == 2 else []
    fitting = [(joints, size) for joints, size in ways if joints in known and joints * size == array.shape[1]]
    return "; these may be frames x ({} joints x {} numbers), to be reshaped".format(*fitting[0]) if fitting else ""


def _as_numpy(array: Array, where: Path | None) -> np.ndarray:
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        return (array.double() if array.is_floating_point() else array).numpy()  # NumPy has no bfloat16
    try:
        return np.asarray(array)
    except (ValueError, OverflowError) as problem:
        raise DataError(
            f"the lists are not an array ({problem})",
            expected=EXPECTED,
            hint="give every frame as many people, and every person as many joints",
            where=where,
        ) from None


@np.errstate(all="ignore")
def assemble(
    joints: Float64[np.ndarray, "T P J C"],
    options: ReadOptions,
    where: Path | None,
    present: Bool[np.ndarray, "T P"] | None = None,
    scores: Float64[np.ndarray, "T P J"] | None = None,
) -> SkeletonSequence:
    """A sequence from numbers in the standard order: missing and unsure joints filled, rotated so that y is up.

    Numbers beyond the coordinates are dropped. Scores are 0 for joints that are filled, or that
    alone have none (NaN); they are left out where somebody has none at all.

    Raises:
        DataError: see :func:`sequence_from_array`.
    """
    joints = _only_coordinates(joints, options.coordinates, where)
    given = joints
    if present is not None:
        joints = np.where(present[..., None, None], joints, 0.0)
    if scores is not None:
        without = np.isnan(scores).all(axis=2, keepdims=True)
        scores = np.where(np.isfinite(scores) | without, scores, 0.0)
        joints = np.where((scores < options.min_score)[..., None], np.nan, joints) if options.min_score > 0 else joints
    joints, missing = fill_missing_joints(joints)
    if len(joints) and not joints.any():
        raise nobody_seen(len(joints), where, _absence(given, present))
    sequence = replace(to_sequence(joints, where, present), filled=int(missing.sum()))
    return turn_up(_with_scores(sequence, scores, missing), options.up)


def _with_scores(
    sequence: SkeletonSequence, scores: Float64[np.ndarray, "T P J"] | None, missing: Bool[np.ndarray, "T P J"]
) -> SkeletonSequence:
    """The recording with its scores, unless somebody who is seen has none."""
    if scores is None:
        return sequence
    present = sequence.present.numpy()
    if (np.isnan(scores).all(axis=2) & present).any():
        return sequence
    sure = np.where(present[..., None] & ~missing, scores, 0.0)
    return replace(sequence, scores=torch.from_numpy(sure.astype(np.float32)))


def _absence(joints: Float64[np.ndarray, "T P J D"], present: Bool[np.ndarray, "T P"] | None) -> str:
    """How it shows that nobody is in a recording."""
    if not joints.size:
        return "no person or no joint is listed"
    missing = np.isnan(joints)
    if missing.any():
        return "all coordinates are NaN" if missing.all() else "all coordinates are NaN, zero or -1"
    if joints.any():
        absent = present is not None and not present.any()
        return "present is false everywhere" if absent else "coordinates are zero or -1, or present is false"
    return "all coordinates are zero"


def turn_up(sequence: SkeletonSequence, up: Up) -> SkeletonSequence:
    """The recording rotated so that the axis ``up`` becomes y, without mirroring; 2-D is unchanged.

    "-y" turns a camera's axes (x to the right of the image, y down, z away) into those of the Kinect (x to the right
    hand of someone who faces the camera, y up, z away).
    """
    if up in ("", "y") or sequence.joints.shape[-1] != 3:
        return sequence
    x, y, z = sequence.joints.unbind(-1)
    axes = {"x": (-y, x, z), "-x": (y, -x, z), "-y": (-x, -y, z), "z": (x, z, -y), "-z": (x, -z, y)}[up]
    return replace(sequence, joints=torch.stack(axes, dim=-1))


def _present(
    present: np.ndarray | None, shape: tuple[int, ...], axes: str, where: Path | None
) -> Bool[np.ndarray, "T P"] | None:
    """Who is present, as frames x people."""
    if present is None:
        return None
    array = present[:, None] if present.ndim == 1 else present
    order = [letter for letter in axes if letter in "TP"]
    if order == ["P", "T"] and array.shape == shape[::-1]:
        array = array.T
    if array.shape != shape or array.dtype.kind not in "biuf":
        raise DataError(
            f"present is {shape_text(present.shape)} of {array.dtype}",
            expected=f"frames x people (true or false), here {shape_text(shape)}",
            hint="save the array again, or leave it out",
            where=where,
        )
    return array.astype(bool)


# Scores


def _scores(
    scores: np.ndarray, given: tuple[int, ...], shape: tuple[int, ...], axes: str, where: Path | None
) -> Float64[np.ndarray, "T P J"]:
    """Scores as frames x people x joints; those of an array that is in another order are in that order too."""
    letters = axes or {3: "TJC", 4: "TPJC"}.get(len(given), "")
    expected = tuple(size for size, letter in zip(given, letters, strict=True) if letter != "C")
    if scores.shape != expected or scores.dtype.kind not in "iuf":
        raise DataError(
            f"scores is {shape_text(scores.shape)} of {scores.dtype}, and joints is {shape_text(given)}",
            expected=f"a number for each joint, here {shape_text(expected)}",
            hint="save the array again, or leave it out",
            where=where,
        )
    left = [letter for letter in letters if letter not in "CN"]
    array = scores.astype(np.float64).reshape([given[letters.index(letter)] for letter in left])
    return array.transpose([left.index(letter) for letter in "TPJ" if letter in left]).reshape(shape[:3])


def _only_coordinates(
    joints: Float64[np.ndarray, "T P J C"], coordinates: Coordinates, where: Path | None
) -> Float64[np.ndarray, "T P J D"]:
    """The coordinates among the numbers of a joint."""
    numbers = joints.shape[-1]
    if coordinates:
        if numbers < coordinates:
            raise DataError(
                f"joints have {numbers} coordinates",
                expected=f"at least {coordinates}, as data.coordinates says",
                hint="correct data.coordinates, or keep recordings of one kind together",
                where=where,
            )
        return joints[..., :coordinates]
    reason = _score_reason(joints) if numbers == 3 else "there are four numbers a joint" if numbers == 4 else ""
    if reason:
        fewer = numbers - 1
        raise DataError(
            f"joints is {shape_text(joints.shape)}, and the last number of each joint looks like a confidence score "
            f"and not like a coordinate ({reason})",
            expected="2 or 3 coordinates for each joint",
            hint=f"set data.coordinates = {fewer} if it is a score (it is then dropped)"
            + (", or data.coordinates = 3 if it is a depth" if fewer == 2 else ""),
            where=where,
        )
    return joints


def _score_reason(joints: Float64[np.ndarray, "T P J 3"]) -> str:
    """Why the third number is a score and not a depth; empty where it may be a depth."""
    bodies = joints[joints.any(axis=(2, 3))]
    points = bodies[bodies.any(axis=2) & np.isfinite(bodies).all(axis=2)]
    if not len(points):
        return ""
    third, plane = points[:, 2], points[:, :2]
    low, high = third.min(), third.max()
    distinct = len(np.unique(third))
    if len(points) > 1 and distinct == 1:
        return f"it is {low:g} everywhere"
    if len(points) >= 50 and distinct <= 5 < 20 < len(np.unique(plane)):
        return f"it has {distinct} different values"
    if reason := _jump_reason(joints):
        return reason
    if low < 0:
        return ""
    spans = np.ptp(bodies[np.isfinite(bodies).all(axis=(1, 2))][..., :2], axis=1)
    extent = float(np.quantile(spans.max(axis=1), 0.9)) if len(spans) else float(np.ptp(plane))
    from_images = joints.shape[2] not in _ONLY_DEPTH
    positive = bool((plane >= 0).mean() > 0.98)
    if extent > 10 and (high <= max(1.5, 0.05 * extent) or (high <= 100 and positive and from_images)):
        return f"it lies between {low:.3g} and {high:.3g}, and bodies are {extent:.0f} wide or high"
    if positive and plane.max() <= 1.5 and high <= 1.05 and from_images:
        return "all numbers lie between 0 and 1, as scores and normalized image coordinates do"
    return ""


def _jump_reason(joints: Float64[np.ndarray, "T P J 3"]) -> str:
    """Why the third number does not move as a position does; empty where it does, or there are too few frames."""
    seen = np.asarray(np.isfinite(joints).all(axis=3) & joints.any(axis=3))
    both = seen[1:] & seen[:-1]
    if both.sum() < 50:
        return ""
    low, high = np.quantile(joints[seen], (0.05, 0.95), axis=0)
    ranges = np.maximum(high - low, 1e-12)
    changes = np.median(np.abs(joints[1:] - joints[:-1])[both], axis=0)
    steps = changes / ranges
    if ranges[2] < 0.1 * ranges[:2].max() and changes[2] < 3 * changes[:2].max():
        return ""  # noise of a body that is flat
    if steps[2] < _JUMP or steps[2] < _JUMP_FACTOR * steps[:2].max():
        return ""
    return (
        f"from frame to frame it changes by {steps[2]:.0%} of its range, and x and y by {steps[:2].max():.0%} of theirs"
    )


# Missing joints


def fill_missing_joints(
    joints: Float64[np.ndarray, "T P J D"],
) -> tuple[Float64[np.ndarray, "T P J D"], Bool[np.ndarray, "T P J"]]:
    """The joints with those that an estimator did not find interpolated over time, and which these were.

    Tools write zeros, minus ones or NaN for a joint that they did not find. Before the first and after the last frame
    in which a joint is seen, it gets the nearest position; a joint that is never seen, the mean of those that are. A
    person without any joint is absent: zero.
    """
    joints, marked = _without_marks(joints)
    present = np.asarray(joints.any(axis=(2, 3)))
    missing = (marked & present[..., None]) | _at_origin(joints)
    frames = np.arange(len(joints))
    for person, joint in np.argwhere(missing.any(axis=0)):
        lost = np.flatnonzero(missing[:, person, joint])
        seen = np.flatnonzero(present[:, person] & ~missing[:, person, joint])
        for axis in range(joints.shape[-1]) if len(seen) else ():
            track = joints[:, person, joint, axis]
            track[lost] = np.interp(frames[lost], seen, track[seen])
        if not len(seen):
            for frame in lost:
                joints[frame, person, joint] = joints[frame, person][~missing[frame, person]].mean(axis=0)
    return joints, missing


def _without_marks(
    joints: Float64[np.ndarray, "T P J D"],
) -> tuple[Float64[np.ndarray, "T P J D"], Bool[np.ndarray, "T P J"]]:
    """A copy in which joints are zero whose coordinates are all NaN, or all -1 in an image, and which these are."""
    marked = _all_numbers(np.asarray(np.isnan(joints)))
    minus = _all_numbers(joints == -1)
    if minus.any():
        rest = joints[~minus & ~marked & np.asarray(joints.any(axis=3))]
        if not rest.size or (_in_image(rest) and rest.max() > 2):  # pixels; -1 is a position where all lies in -1..1
            marked = marked | minus
    return np.where(marked[..., None], 0.0, joints), marked


def _all_numbers(mask: Bool[np.ndarray, "T P J D"]) -> Bool[np.ndarray, "T P J"]:
    """Where something holds for all coordinates; NumPy reduces an axis of two or three numbers many times slower."""
    return np.asarray(np.logical_and.reduce([mask[..., axis] for axis in range(mask.shape[-1])]))


def _in_image(points: Float64[np.ndarray, "N D"]) -> bool:
    """Whether coordinates are those of an image, whose origin is a corner: hardly any is negative."""
    return bool((points >= 0).mean() > 0.98)


def _at_origin(joints: Float64[np.ndarray, "T P J D"]) -> Bool[np.ndarray, "T P J"]:
    """Joints that are exactly zero because they are missing: those of bodies in an image, and those far outside their
    body. A recording that is centered on a joint keeps that joint at the origin."""
    seen = ~_all_numbers(joints == 0)
    present = np.asarray(seen.any(axis=2))[..., None]
    zero = ~seen & present
    if not zero.any() or _in_image(joints[seen]):
        return zero
    if joints.shape[2] < 4:
        return np.zeros_like(zero)
    always = np.asarray((zero | ~present).all(axis=0))  # P J: zero in every frame of the person
    rooted = always & (always.sum(axis=1, keepdims=True) == 1)
    low = np.where(seen[..., None], joints, np.inf).min(axis=2)
    high = np.where(seen[..., None], joints, -np.inf).max(axis=2)
    body = np.asarray(zero.any(axis=2))
    outside = np.zeros(body.shape, dtype=bool)
    gap = np.maximum(np.maximum(low[body], -high[body]), 0)  # from the origin to the box around the body
    outside[body] = np.linalg.norm(gap, axis=1) > 0.25 * np.linalg.norm(high[body] - low[body], axis=1)
    return zero & outside[..., None] & ~rooted[None]
