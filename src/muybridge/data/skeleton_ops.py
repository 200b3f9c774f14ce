"""Operations on one recording of skeletons between file and model: filling gaps and normalization.

Legend: T frames, P people, J joints, D coordinates (2 or 3).

Axis 1 (y) is the vertical of every recording; whether it points up or down makes no difference here. The first person
who is present is the main person, who defines the body's center and the direction it faces where a single one is needed
(Shahroudy et al., CVPR 2016), so that two people keep their positions relative to each other. Absent people are zero.
"""

import math
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from muybridge.core.contracts import Center, SkeletonData, SkeletonInput
from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS, Layout, unnamed_layout
from muybridge.core.types import OVERHANG, ROUNDING, SkeletonSequence, Span, check_span


def prepare_skeleton(sequence: SkeletonSequence, takes: SkeletonInput, holds: SkeletonData) -> Float[Tensor, "T P J D"]:
    """The input of a model from a recording.

    In this order: number of people, gaps filled, smoothing, subsampling, rotation, centering, scaling. With
    ``takes.confidence``, the score of each joint follows its coordinates.
    A rotation to the camera needs 3-D and known shoulders, one to the partner 3-D; without them there is none.

    Raises:
        DataError: the recording does not fit ``holds``, has no size to divide by, or no scores where they are taken.
    """
    if takes.confidence and sequence.scores is None:
        raise DataError(
            "the recording has no confidence of its joints, which the model takes (model.confidence)",
            expected="files of a pose estimator that says how sure it is of each joint, or an .npz with scores",
            hint="set model.confidence = false, or write the files with their scores",
        )
    return place_skeleton(clean_skeleton(sequence, takes, holds), takes, holds)


def place_skeleton(sequence: SkeletonSequence, takes: SkeletonInput, holds: SkeletonData) -> Float[Tensor, "T P J D"]:
    """The second half of :func:`prepare_skeleton`, after :func:`clean_skeleton`.

    Without ``unit_scale``, what becomes of a frame depends on it and on the first frames alone.
    """
    if takes.face_partner and _first_with_both(sequence) is not None:
        sequence = face_partner(sequence, holds.layout)
    elif takes.face_camera:
        sequence = face_camera(sequence, holds.layout)
    if takes.center != "none":
        sequence = center(sequence, holds.layout, takes.center)
    if takes.unit_scale:
        sequence = translate(sequence, sequence.joints / torso_length(sequence, holds.layout))
    if takes.confidence and sequence.scores is not None:
        return torch.cat([sequence.joints, sequence.scores[..., None]], dim=-1)
    return sequence.joints


def clean_skeleton(sequence: SkeletonSequence, takes: SkeletonInput, holds: SkeletonData) -> SkeletonSequence:
    """The frames a model is given, in the coordinates of the recording; attention is drawn on these."""
    sequence = fill_absent(match_layout(sequence, holds))
    if takes.smooth:
        sequence = smooth(sequence)
    return subsample(sequence, takes.max_frames)


def match_layout(sequence: SkeletonSequence, holds: SkeletonData, where: str | None = None) -> SkeletonSequence:
    """The recording with as many people as ``holds`` says.

    Absent people are added; of too many, those seen in the most frames are kept, in their order.

    Args:
        sequence: any recording.
        holds: what it should be.
        where: the file, for messages.

    Raises:
        DataError: another number of joints or coordinates, or the file states another layout.
    """
    sequence = _match_joints(sequence, holds.layout, where)
    frames, people, joints, dims = sequence.joints.shape
    if (joints, dims) != (len(holds.layout), holds.coordinates):
        raise DataError(
            f"the recording has {joints} joints of {dims} coordinates",
            expected=f"{len(holds.layout)} joints of {holds.coordinates} (layout {holds.layout.name})",
            hint="use recordings of one kind of skeleton for training, testing and predicting",
            where=where,
        )
    if people > holds.people:
        chosen = sequence.present.sum(0).argsort(descending=True, stable=True)[: holds.people].sort().values
        return sequence.take_people(chosen)
    if people < holds.people:
        missing = holds.people - people
        return replace(
            sequence,
            joints=torch.cat([sequence.joints, sequence.joints.new_zeros(frames, missing, joints, dims)], dim=1),
            present=torch.cat([sequence.present, sequence.present.new_zeros(frames, missing)], dim=1),
            scores=None if sequence.scores is None else F.pad(sequence.scores, (0, 0, 0, missing)),
        )
    return sequence


def _match_joints(sequence: SkeletonSequence, layout: Layout, where: str | None) -> SkeletonSequence:
    """The recording with the joints that its file names in the order of a layout.

    Raises:
        DataError: the file states a layout of other joints, or the joints have names of the file's own and the layout
            has others. A known layout may be given to joints of the file's own names, and ``plainN`` to any.
    """
    stated, plain = sequence.layout, unnamed_layout(len(layout)).joints
    if stated is None or stated.joints == layout.joints or layout.joints == plain or len(stated) != len(layout):
        return sequence
    if sorted(stated.joints) == sorted(layout.joints):
        return sequence.take_joints([stated.joints.index(joint) for joint in layout.joints])
    if layout.name in LAYOUTS and stated.name not in LAYOUTS:
        return sequence
    other = next((joint for joint in stated.joints if joint not in layout.joints), "")
    raise DataError(
        f"the file names its joints, and they are {describe_layout(stated)}; {other!r} is none of those expected",
        expected=describe_layout(layout),
        hint="leave out data.layout and data.joints, and keep recordings of one kind of skeleton together",
        where=where,
    )


def describe_layout(layout: Layout) -> str:
    """The name of a known layout, else the first joints."""
    return f"layout {layout.name}" if layout.name in LAYOUTS else f"{', '.join(layout.joints[:4])}, ..."


def cut_span(sequence: SkeletonSequence, span: Span, fps: float, where: str | Path) -> SkeletonSequence:
    """The frames of a recording from the start of a span until before its end.

    Args:
        sequence: the recording, whose first frame is at 0 s.
        span: start and end in seconds.
        fps: frames per second of the recording.
        where: its file, for the error.

    Raises:
        DataError: the span has no frame, or ends more than half a second after the recording.
    """
    check_span(span, where)
    first, last = (max(0, math.ceil((seconds - ROUNDING) * fps)) for seconds in span)
    duration = len(sequence) / fps
    if span[1] > duration + OVERHANG or first >= min(last, len(sequence)):
        raise DataError(
            f"the span {span[0]:g} to {span[1]:g} s has no frame, or is not all inside the recording, which ends at "
            f"{duration:.2f} s",
            expected="a span within the recording, in seconds from its start",
            hint=f"correct the span, or data.fps, which is {fps:g}",
            where=where,
        )
    return sequence.take_frames(slice(first, last))


def fill_absent(sequence: SkeletonSequence) -> SkeletonSequence:
    """The recording without gaps.

    Frames at either end in which nobody is seen are removed. Between two frames in which a person is seen, positions
    are interpolated linearly, with a confidence of 0. Before the first and after the last such frame, that person stays
    absent.

    Raises:
        DataError: nobody is seen in any frame.
    """
    if sequence.present.all():
        return sequence
    with_someone = sequence.present.any(dim=1).nonzero().flatten()
    if not len(with_someone):
        raise DataError(
            "nobody is seen in any frame", expected="a person in at least one frame", hint="take the recording out"
        )
    sequence = sequence.take_frames(slice(int(with_someone[0]), int(with_someone[-1]) + 1))
    joints, present = sequence.joints.clone(), sequence.present.clone()
    for person in range(present.shape[1]):
        seen = present[:, person].nonzero().flatten()
        if len(seen) and len(seen) < int(seen[-1] - seen[0]) + 1:
            span = torch.arange(int(seen[0]), int(seen[-1]) + 1)
            after = torch.searchsorted(seen, span)
            before = (after - 1).clamp(min=0)
            step = (seen[after] - seen[before]).clamp(min=1)
            weight = ((span - seen[before]) / step)[:, None, None]
            joints[span, person] = torch.lerp(joints[seen[before], person], joints[seen[after], person], weight)
            present[span, person] = True
    return replace(sequence, joints=joints, present=present)


def _quadratic_fit() -> Float[Tensor, "5 5"]:
    """The projection of five equally spaced values on the parabolas; its middle row is (-3, 12, 17, 12, -3) / 35."""
    time = torch.arange(-2.0, 3.0, dtype=torch.float64)
    basis = torch.stack([time**0, time, time**2], dim=1)
    return (basis @ torch.linalg.inv(basis.T @ basis) @ basis.T).float()


_FIT = _quadratic_fit()


def smooth(sequence: SkeletonSequence) -> SkeletonSequence:
    """Each coordinate filtered along time by (-3, 12, 17, 12, -3) / 35 (Savitzky and Golay; Zhu et al., AAAI 2016).

    The two frames at each end are those of the parabola fitted to the five frames there. A person seen in fewer than
    five frames is not smoothed. Expects no gaps; see :func:`fill_absent`.
    """
    joints = sequence.joints.clone()
    for person in range(joints.shape[1]):
        seen = sequence.present[:, person].nonzero().flatten()
        if len(seen) >= 5:
            track = sequence.joints[int(seen[0]) : int(seen[-1]) + 1, person]
            middle = track.unfold(0, 5, 1) @ _FIT[2]
            first, last = (torch.einsum("st,tjd->sjd", _FIT, end) for end in (track[:5], track[-5:]))
            joints[int(seen[0]) : int(seen[-1]) + 1, person] = torch.cat([first[:2], middle, last[3:]])
    return replace(sequence, joints=joints)


def subsample(sequence: SkeletonSequence, max_frames: int) -> SkeletonSequence:
    """At most ``max_frames`` frames, evenly spread from the first to the last; 0 keeps all."""
    frames = len(sequence)
    if not max_frames or frames <= max_frames:
        return sequence
    chosen = torch.linspace(0, frames - 1, max_frames).round().long()
    return sequence.take_frames(chosen)


def center(sequence: SkeletonSequence, layout: Layout, mode: Center) -> SkeletonSequence:
    """Positions relative to the main person's center, in the first frame or in every frame, or to that of all people.

    The center of a person is the root joint, or the mean of all joints where the layout is not known; that of all
    people is the mean of the centers of those present in the first frame.
    """
    match mode:
        case "none":
            return sequence
        case "first":
            centers = body_centers(sequence, layout)[:1]
        case "frame":
            centers = body_centers(sequence, layout)
        case "people":
            centers = person_centers(sequence.joints[:1, sequence.present[0]], layout).mean(dim=1)
    return translate(sequence, sequence.joints - centers[:, None, None])


def body_centers(sequence: SkeletonSequence, layout: Layout) -> Float[Tensor, "T D"]:
    """The center of the main person in every frame; zero where nobody is seen."""
    return person_centers(sequence.joints[torch.arange(len(sequence)), _main_person(sequence)], layout)


def person_centers(bodies: Float[Tensor, "*any J D"], layout: Layout) -> Float[Tensor, "*any D"]:
    """The root joint of each body, or the mean of its joints where the layout is not known."""
    return bodies[..., layout.root, :] if layout.known else bodies.mean(dim=-2)


def face_camera(sequence: SkeletonSequence, layout: Layout) -> SkeletonSequence:
    """The recording rotated about the vertical so that the main person faces the camera in the first frame.

    The rotation is about that person's center and brings the line from the left to the right shoulder along +x, where
    it lies in Kinect recordings of people who face the camera. A recording in 2-D, one without known shoulders, and one
    whose shoulders are above each other, are not changed.
    """
    if layout.shoulders is None or sequence.joints.shape[-1] == 2:
        return sequence
    left, right = layout.shoulders
    main = sequence.joints[0, int(_main_person(sequence)[0])]
    return _rotate_to_x(sequence, layout, main[right] - main[left])


def face_partner(sequence: SkeletonSequence, layout: Layout) -> SkeletonSequence:
    """The recording rotated about the vertical so that the second person stands along +x from the first.

    This holds in the first frame that shows both; the rotation is about the main person's first center. Whichever side
    the camera was on, the two are then seen from the same side. A recording in 2-D, and one without two people in the
    same frame, are not changed.
    """
    frame = _first_with_both(sequence)
    if frame is None or sequence.joints.shape[-1] == 2:
        return sequence
    first, second = person_centers(sequence.joints[frame, :2], layout)
    return _rotate_to_x(sequence, layout, second - first)


def _first_with_both(sequence: SkeletonSequence) -> int | None:
    """The first frame that shows the first and the second person."""
    if sequence.present.shape[1] < 2:
        return None
    frames = sequence.present[:, :2].all(dim=1).nonzero().flatten()
    return int(frames[0]) if len(frames) else None


def _rotate_to_x(sequence: SkeletonSequence, layout: Layout, direction: Float[Tensor, " 3"]) -> SkeletonSequence:
    """Rotated about the vertical until ``direction`` points along +x; not changed where it is itself vertical."""
    x, z = float(direction[0]), float(direction[2])
    if math.hypot(x, z) < 1e-6:
        return sequence
    return rotate(sequence, layout, about_vertical(math.atan2(z, x)))


def about_vertical(angle: float) -> Float[Tensor, "3 3"]:
    """The rotation that takes +z towards +x by ``angle`` radians: for row vectors, ``points @ matrix``."""
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, 0.0, -sin], [0.0, 1.0, 0.0], [sin, 0.0, cos]])


def torso_length(sequence: SkeletonSequence, layout: Layout) -> float:
    """The median length of the torso over all present people and frames, in the recording's unit.

    Where the layout has no torso, or it has no length (lost joints at one position), the median over people and frames
    of the joints' mean distance from their mean.

    Raises:
        DataError: all joints are at one point.
    """
    bodies = sequence.joints[sequence.present]
    length = 0.0
    if layout.torso is not None:
        lower, upper = layout.torso
        length = float((bodies[:, upper] - bodies[:, lower]).norm(dim=-1).median())
    if length <= 0.0:
        length = float((bodies - bodies.mean(dim=1, keepdim=True)).norm(dim=-1).mean(dim=1).median())
    if length <= 0.0:
        raise DataError(
            "all joints are at one point", expected="a body of some size", hint="take the recording out of the data set"
        )
    return length


def _main_person(sequence: SkeletonSequence) -> Int64[Tensor, " T"]:
    return sequence.present.int().argmax(dim=1)


def translate(sequence: SkeletonSequence, joints: Float[Tensor, "T P J D"]) -> SkeletonSequence:
    """New positions for the people who are present."""
    return replace(sequence, joints=joints * sequence.present[..., None, None])


def rotate(sequence: SkeletonSequence, layout: Layout, matrix: Float[Tensor, "D D"]) -> SkeletonSequence:
    """Row vectors times ``matrix`` about the main person's first center."""
    pivot = body_centers(sequence, layout)[0]
    return translate(sequence, (sequence.joints - pivot) @ matrix + pivot)
