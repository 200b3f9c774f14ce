"""Which axis of an array of joints is which: as its user says, or the usual order unless the content contradicts it.

Legend: T frames, P people, J joints, C numbers of a joint, N recordings.
"""

from itertools import permutations
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS
from muybridge.media.parsing import shape_text

EXPECTED = "an array of frames x people x joints x 2 or 3 coordinates (or without people)"
_NAMES = {"T": "frames", "P": "people", "J": "joints", "C": "coordinates", "N": "recordings"}
_LARGE = 1_000_000  # numbers; of larger arrays only the middle is examined
_RIGID = (
    0.3  # distances between joints that are listed one after the other change less over time, relative to their mean
)
# How toolkits store arrays, the most common first; all other orders come after them.
_COMMON_ORDERS = ("TPJC", "PTJC", "CTJP", "TJC", "JCT", "CTJ", "NCTJP", "NPTJC")


def arrange(array: np.ndarray, axes: str, where: Path | None) -> Float64[np.ndarray, "T P J C"]:
    """The array with its axes in the standard order."""
    if array.ndim != len(axes):
        raise DataError(
            f"joints is {shape_text(array.shape)}, and the axes are {_written(axes)}",
            expected=f"{len(axes)} axes: {_meaning(axes)}",
            hint="correct data.axes, or save the array in that order",
            where=where,
        )
    if "N" in axes:
        recordings = array.shape[axes.index("N")]
        if recordings != 1:
            raise DataError(
                f"joints is {shape_text(array.shape)}, a batch of {recordings} recordings",
                expected="one recording in each file",
                hint="save each recording in a file of its own",
                where=where,
            )
        array, axes = array.squeeze(axes.index("N")), axes.replace("N", "")
    if "P" not in axes:
        array, axes = array[..., None], axes + "P"
    return array.transpose([axes.index(letter) for letter in "TPJC"])


def default_order(array: np.ndarray, where: Path | None) -> Float64[np.ndarray, "T P J C"]:
    """The array as T P J C or T J C, unless its shape or its content contradicts that."""
    default = {3: "TJC", 4: "TPJC"}.get(array.ndim, "")
    fits = default and array.shape[-1] in (2, 3, 4)
    time = _smoothest_axis(array) if fits else None
    reason = _contradiction(array, time) if fits else ""
    if fits and not reason:
        return arrange(array, default, where)
    likely = _likely_order(array, time)
    order = likely or default
    stacked = array.ndim == 4 and order.startswith("PT") and array.shape[0] > 1
    raise DataError(
        f"joints is {shape_text(array.shape)}" + (f", and {reason}" if reason else f" of {array.dtype}"),
        expected=EXPECTED + (f"; this looks like {_meaning(likely)}" if likely else ""),
        hint=f'set data.axes = "{_written(order)}" if its axes are {_meaning(order)} '
        "(T frames, M people, V joints, C coordinates), or rearrange and save the array again"
        + (f"; if it is a batch of {array.shape[0]} recordings, save each in a file of its own" if stacked else ""),
        where=where,
    )


def _contradiction(array: np.ndarray, time: int | None) -> str:
    """Why the axes are not T P J C or T J C, as that of time is another for one thing; empty where they may be."""
    if time is not None:
        return f"neighbours along axis {time} differ least, as neighbouring frames do (axes are counted from 0)"
    if array.ndim == 4 and array.shape[2] <= 6 and array.shape[1] >= 10:
        return f"{array.shape[1]} people of {array.shape[2]} joints are unlikely"
    if array.ndim == 4 and _people_last(array):
        return "the last numbers of a joint are nearly equal, as heights of several people are"
    return ""


def _people_last(array: np.ndarray) -> bool:
    """Whether the axes seem to be T C J P: at one place of axis 1, the vertical, people differ less than joints do.

    Bodies whose two or three coordinates are equal in every joint do not exist.
    """
    rows = array[np.asarray(array.any(axis=(1, 3))).all(axis=1)]  # frames in which no joint is zero
    if not 2 <= array.shape[1] <= 3 or array.shape[2] < 5 or not len(rows):
        return False
    between_people = rows.std(axis=3).mean(axis=2)
    between_joints = rows.mean(axis=3).std(axis=2)
    return bool((np.median(between_people / between_joints, axis=0) < 0.45).any())


def _steps(array: np.ndarray) -> Float64[np.ndarray, " axes"]:
    """Median change between neighbours along each axis, of numbers that are not both zero; infinite without any."""
    steps = np.full(array.ndim, np.inf)
    array = _middle(array)
    for axis in range(array.ndim):
        rows = np.moveaxis(array, axis, 0)
        before, after = rows[:-1], rows[1:]
        change = np.abs(after - before)[(before != 0) | (after != 0)]
        change = change[np.isfinite(change)]
        if change.size:
            steps[axis] = np.median(change)
    return steps


def _middle(array: np.ndarray) -> np.ndarray:
    """A large array's middle; any other array."""
    return (
        array[tuple(slice(max(0, n // 2 - 128), n // 2 + 128) for n in array.shape)] if array.size > _LARGE else array
    )


def _smoothest_axis(array: np.ndarray) -> int | None:
    """The axis along which joints move as in time, where that is not the first; None where the first may be time.

    From frame to frame a joint moves little; from one person, joint or coordinate to the next, numbers change more. In
    the recordings of three Kinect data sets the change from frame to frame is at most a sixth of any other.
    """
    steps = _steps(array)
    others = steps[1:-1]
    best = 1 + int(others.argmin())
    if array.shape[0] == 1:  # people whose places differ by less than half the distance between joints are one person
        return 1 if array.ndim == 4 and 2 * steps[1] < steps[2] else None
    if steps[0] == np.inf:
        return None
    joints = array.ndim - 2
    if 2 * steps[best] < steps[0]:
        return None if best == joints and _is_restless(_middle(array), joints) else best
    swapped = array.ndim == 3 and _is_restless(_middle(array).swapaxes(0, joints), joints, factor=2.0, by_bones=False)
    return joints if swapped else None


def _is_restless(array: np.ndarray, other: int, *, factor: float = 1.5, by_bones: bool = True) -> bool:
    """Whether the first axis is time all the same, as what moves much from frame to frame is the whole body.

    Bodies are carried along by a fast walk or a camera that shakes, and turn or jump where there are few frames a
    second. Without what all joints have in common in a frame, they move little from one frame to the next; and
    distances between neighbouring joints are kept, which those between neighbouring frames are not.
    """
    missing = ~np.isfinite(array) | (array == 0).all(axis=-1, keepdims=True)
    points = np.ma.array(array, mask=missing) if missing.any() else array
    moving = points - points.mean(axis=other, keepdims=True)
    moving = moving - moving.mean(axis=0, keepdims=True)
    in_time, elsewhere = (np.sqrt(np.mean(_changes(moving, axis) ** 2)) for axis in (0, other))
    kept, changed = _unsteadiness(points, 0, other), _unsteadiness(points, other, 0)
    together = factor * in_time < elsewhere and kept < _RIGID
    return bool(together or (by_bones and changed > _RIGID and kept < 0.4 * changed))


def _changes(points: np.ndarray, axis: int) -> np.ndarray:
    """Differences between neighbours along an axis, which comes first."""
    rows = np.moveaxis(points, axis, 0)
    return rows[1:] - rows[:-1]


def _unsteadiness(points: np.ndarray, time: int, joints: int) -> float:
    """How much distances between neighbours along an axis of joints change over one of time, relative to their mean."""
    changes = _changes(points, joints)
    apart = np.sqrt(sum(changes[..., axis] ** 2 for axis in range(changes.shape[-1])))
    apart = np.moveaxis(apart, time if time > joints else time + 1, 0).reshape(points.shape[time], -1)
    apart = apart[:, np.ma.filled(apart.mean(axis=0), 0.0) > 0]
    return float(_median(apart.std(axis=0) / apart.mean(axis=0))) if apart.size else np.inf


def _median(values: np.ndarray) -> float:
    return np.ma.median(values) if isinstance(values, np.ma.MaskedArray) else np.median(values)


def _likely_order(array: np.ndarray, time: int | None) -> str:
    """The order of axes that fits shape and content best, with frames along ``time``; empty where none fits."""
    steps, known = _steps(array), {len(layout) for layout in LAYOUTS.values()}
    letters = {3: "TJC", 4: "TPJC", 5: "NTPJC"}[array.ndim]

    def cost(order: str) -> tuple[bool | int, ...]:
        size = dict(zip(order, array.shape, strict=True))
        step = dict(zip(order, steps, strict=True))
        others = min(step[letter] for letter in order if letter not in "TN")
        smooth = (
            time == order.index("T")
            if time is not None
            else step["T"] <= others or (size["T"] == 1 and others == np.inf)
        )
        rank = _COMMON_ORDERS.index(order) if order in _COMMON_ORDERS else len(_COMMON_ORDERS)
        return (not smooth, size["J"] not in known, size.get("P", 1) > 6, size["C"] != 3, rank)

    orders = ["".join(order) for order in permutations(letters)]
    fitting = [order for order in orders if array.shape[order.index("C")] in (2, 3, 4)]
    return min(fitting, key=cost, default="")


def _written(axes: str) -> str:
    """An order of axes in the letters of recipes: M people, V joints."""
    return axes.replace("P", "M").replace("J", "V")


def _meaning(axes: str) -> str:
    return " x ".join(_NAMES[letter] for letter in axes)
