"""People in single frames, and recordings made of them: who is who over time, and which joints are unsure.

Legend: N people of all frames, M pairs of them, J joints, D coordinates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.arrays import ReadOptions, assemble, nobody_seen
from muybridge.media.joint_names import name_joints

SPREAD = 0.1
"""Distance at which two positions of a joint count as half as alike, as a share of the body's size (about COCO's)."""

LIKENESS = 0.3
"""Two poses that are less alike are of two people."""

MEMORY = 30
"""Frames after which someone who was not seen any more is somebody else when seen again."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in one frame, as an estimator found them.

    Attributes:
        points: position of each joint; NaN or zero where it was not found.
        scores: confidence of each joint; None where the tool gives none.
        track: who it is over time, by the tool; empty where it does not follow people.
    """

    points: Float64[np.ndarray, "J D"]
    scores: Float64[np.ndarray, " J"] | None = None
    track: str = ""


Frames = Sequence[Sequence[Person]]
"""The people in each frame of a recording."""


class NumberedFrames(list[list[Person]]):
    """Consecutive frames of a recording, of which the first has the number that its tool gave it.

    Args:
        listed: the people in each frame in which there are any, by its number.
        names: of the joints, where the file says them; else empty.
    """

    def __init__(self, listed: Mapping[int, list[Person]], names: Sequence[str] = ()) -> None:
        self.first = min(listed, default=0)
        self.names = tuple(names)
        super().__init__(listed.get(number, []) for number in range(self.first, max(listed, default=-1) + 1))


def to_sequence(frames: Frames, options: ReadOptions, where: Path) -> SkeletonSequence:
    """A recording of the people in its frames.

    Joints with a score below ``options.min_score`` are missing, and interpolated over time like others that are. People
    without a track of the tool are linked by :func:`link`. The first person is who is seen in the most frames, at equal
    numbers who comes first; somebody who is never there at the same time as another may follow at the same place.
    Joints that the file names are put in the order of the known layout that they are.

    Raises:
        DataError: nobody is seen, or people have joints of differing number, or of another one than is named.
    """
    found = _Found.of(frames, where)
    places = arrange(link(frames, found), found)
    _, joints, coordinates = found.points.shape
    array = np.full((len(frames), 1 + max(places), joints, coordinates), np.nan)
    scores = np.full(array.shape[:3], np.nan)
    array[found.frame, places] = found.points
    scores[found.frame, places] = np.stack([scores_of(person) for people in frames for person in people])
    sequence = assemble(array, of_estimator(options, coordinates), where, scores=scores)
    names = frames.names if isinstance(frames, NumberedFrames) else ()
    return name_joints(sequence, names, where) if names else sequence


def frames_of(sequence: SkeletonSequence) -> NumberedFrames:
    """The people in each frame of a recording, each followed by the place that they have in it."""
    joints = sequence.joints.double().numpy()
    frames = [
        [Person(joints[frame, person], None, str(person)) for person in np.flatnonzero(there)]
        for frame, there in enumerate(sequence.present.numpy())
    ]
    return NumberedFrames(dict(enumerate(frames)), sequence.layout.joints if sequence.layout else ())


def of_estimator(options: ReadOptions, coordinates: int) -> ReadOptions:
    """The options for joints of an estimator, whose coordinates are known."""
    return replace(options, axes="", coordinates=3 if coordinates == 3 else 2)


def scores_of(person: Person) -> Float64[np.ndarray, " J"]:
    """The confidence of each joint; NaN where the tool gives none."""
    return np.full(len(person.points), np.nan) if person.scores is None else person.scores


@dataclass(frozen=True, slots=True)
class _Found:
    """All people of all frames, one after the other.

    Attributes:
        points: of each, N J D.
        joints: which joints were found.
        size: the longer side of the box around these in the image plane; 0 without any.
        frame: in which each is.
    """

    points: Float64[np.ndarray, "N J D"]
    joints: Bool[np.ndarray, "N J"]
    size: Float64[np.ndarray, " N"]
    frame: Int[np.ndarray, " N"]

    @classmethod
    def of(cls, frames: Frames, where: Path) -> "_Found":
        """The people of a recording; raises DataError for nobody, or for joints of differing number."""
        everyone = [person.points for people in frames for person in people]
        if not everyone:
            raise nobody_seen(len(frames), where, "no person is listed in any frame")
        frame = np.repeat(np.arange(len(frames)), [len(people) for people in frames])
        shape = everyone[0].shape
        if unlike := next((n for n, points in enumerate(everyone) if points.shape != shape), 0):
            joints, coordinates = everyone[unlike].shape
            raise DataError(
                f"frame {frame[unlike]} has a person of {joints} joints of {coordinates} coordinates",
                expected=f"{shape[0]} joints of {shape[1]} coordinates, as before",
                hint="write one recording with one estimator",
                where=where,
            )
        points = np.stack(everyone)
        # Over an axis of two or three numbers, NumPy reduces many times slower than it adds whole arrays.
        finite, somewhere = np.isfinite(points), points != 0
        joints = np.logical_and.reduce([finite[..., axis] for axis in range(shape[1])])
        joints &= np.logical_or.reduce([somewhere[..., axis] for axis in range(shape[1])])
        spans = []
        for axis in (0, 1):
            low = np.where(joints, points[..., axis], np.inf).min(axis=1, initial=np.inf)
            spans.append(np.where(joints, points[..., axis], -np.inf).max(axis=1, initial=-np.inf) - low)
        size = np.where(joints.any(axis=1), np.maximum(*spans), 0.0)
        return cls(points, joints, size, frame)

    def likeness(self, one: Int[np.ndarray, " M"], other: Int[np.ndarray, " M"]) -> Float64[np.ndarray, " M"]:
        """How alike pairs of poses are, from 0 to 1, over the joints that both have."""
        both = self.joints[one] & self.joints[other]
        difference = np.where(both[..., None], self.points[one, :, :2] - self.points[other, :, :2], 0.0)
        size = np.maximum(np.maximum(self.size[one], self.size[other]), 1e-12)
        squared = (difference[..., 0] ** 2 + difference[..., 1] ** 2) / (SPREAD * size[:, None]) ** 2
        alike = np.where(both, np.exp2(-np.minimum(squared, 1000.0)), 0.0).sum(axis=1)
        return alike / np.maximum(both.sum(axis=1), 1)


def likeness(one: Person, other: Person) -> float:
    """How alike two poses are, from 0 to 1, over the joints that both have."""
    found = _Found.of([[one], [other]], Path())
    return float(found.likeness(np.array([0]), np.array([1]))[0])


def link(frames: Frames, found: _Found | None = None) -> dict[str, list[int]]:
    """Who is who: by the tool's own tracks, and greedily over time where it has none.

    In each frame the most alike pairs of a person and of somebody seen in the last frames are taken first. Likeness is
    COCO's object keypoint similarity with one spread for all joints: 1 for equal poses, 0 for poses far apart.

    Returns:
        By who it is, the people in order of time, counted over all frames.
    """
    found = found or _Found.of(frames, Path())
    return _steady(frames, found) or _linked(frames, found)


def _steady(frames: Frames, found: _Found) -> dict[str, list[int]]:
    """The same people in the same order in every frame, each more like themselves than like any other; else nothing.

    What :func:`_linked` finds then, at once.
    """
    people = len(frames[0])
    if any(len(listed) != people or any(person.track for person in listed) for listed in frames):
        return {}
    numbers = np.arange(len(found.frame)).reshape(-1, people)
    alike = np.array([[found.likeness(numbers[1:, i], numbers[:-1, j]) for j in range(people)] for i in range(people)])
    same = alike[range(people), range(people)]
    others = np.where(np.eye(people, dtype=bool)[..., None], -1.0, alike)
    if (same < LIKENESS).any() or (others >= same).any() or (others >= same[:, None]).any():
        return {}
    return {f"link {person}": numbers[:, person].tolist() for person in range(people)}


def _linked(frames: Frames, found: _Found) -> dict[str, list[int]]:
    """Who is who, frame by frame; see :func:`link`."""
    next_to = _likeness_of_neighbours(frames, found)
    tracks: dict[str, list[int]] = {}
    last: dict[str, tuple[int, int]] = {}  # frame and number of those who were linked
    first = 0
    for frame, people in enumerate(frames):
        single = []
        for number, person in enumerate(people, start=first):
            track = tracks.setdefault(f"track {person.track}", []) if person.track else None
            if track is None or (track and found.frame[track[-1]] == frame):
                single.append(number)
            else:
                track.append(number)
        first += len(people)
        last = {name: seen for name, seen in last.items() if seen[0] >= frame - MEMORY}
        for number, name in _pair(single, last, next_to, found):
            name = name or f"link {number}"
            tracks.setdefault(name, []).append(number)
            last[name] = frame, number
    return tracks


def _likeness_of_neighbours(frames: Frames, found: _Found) -> dict[tuple[int, int], float]:
    """The likeness of all pairs of people in consecutive frames without tracks, computed at once."""
    pairs: list[tuple[int, int]] = []
    before, first = range(0), 0
    for people in frames:
        here = range(first, first + len(people))
        pairs += [(number, other) for number in here for other in before if not people[number - first].track]
        before, first = here, first + len(people)
    if not pairs:
        return {}
    one, other = np.array(pairs).T
    return dict(zip(pairs, found.likeness(one, other).tolist(), strict=True))


def _pair(
    single: Sequence[int],
    last: Mapping[str, tuple[int, int]],
    next_to: Mapping[tuple[int, int], float],
    found: _Found,
) -> Iterator[tuple[int, str]]:
    """Who of those seen before each person of a frame is; empty for somebody new."""
    pairs = []
    for number in single:
        for name, (_, other) in last.items():
            alike = next_to.get((number, other))
            if alike is None:
                alike = float(found.likeness(np.array([number]), np.array([other]))[0])
            if alike >= LIKENESS:
                pairs.append((-alike, number, name))
    taken: dict[int, str] = {}
    names: set[str] = set()
    for _, number, name in sorted(pairs):
        if number not in taken and name not in names:
            taken[number] = name
            names.add(name)
    for number in single:
        yield number, taken.get(number, "")


def arrange(tracks: Mapping[str, list[int]], found: _Found) -> list[int]:
    """The place of each person in the recording: the longest track first, each at the first place that is free."""
    places = [0] * len(found.frame)
    occupied: list[set[int]] = []
    for numbers in sorted(tracks.values(), key=lambda numbers: (-len(numbers), numbers[:1])):
        if not numbers:
            continue
        seen = set(found.frame[numbers].tolist())
        place = next((place for place, frames in enumerate(occupied) if not frames & seen), len(occupied))
        if place == len(occupied):
            occupied.append(set())
        occupied[place] |= seen
        for number in numbers:
            places[number] = place
    return places
