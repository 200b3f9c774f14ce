"""People followed through a recording: boxes, and joints where there are any, of each by itself.

Two kinds of files are read: keypoints of any known estimator (people without a track of the tool are linked over time),
and the text of MOTChallenge, ``frame,id,left,top,width,height,...`` with frames from 1, which trackers of boxes write.

Legend: N frames in which a person is seen, J joints, D coordinates.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int

from muybridge.core.errors import DataError
from muybridge.core.types import SkeletonSequence
from muybridge.media.arrays import ReadOptions, assemble
from muybridge.media.joint_names import name_joints
from muybridge.media.parsing import read_text
from muybridge.media.poses.convert import SHARES
from muybridge.media.poses.people import Frames, NumberedFrames, Person, link, of_estimator, scores_of
from muybridge.media.poses.read import find_poses, read_frames

MARGIN = 0.1
"""What is added to each side of the box around joints, as a share of its longer side: bodies are larger than joints."""

FEWEST = 2
"""Frames in which somebody has to be seen, since motion takes two."""

_MOT_COLUMNS = 6
_FROM_ONE = ("MMPose", "Ultralytics")  # tools that number frames from 1
_LARGEST_SHARE = 2.0  # of the image; larger numbers are pixels


@dataclass(frozen=True, slots=True, eq=False)
class PersonTrack:
    """One person of a recording.

    Attributes:
        name: the track of the tool, or a number.
        frames: numbers of the frames in which they are seen, from 0, rising.
        boxes: left, top, right and bottom in pixels in each of these.
        points: joints in each of these; None where the file has boxes alone.
        scores: confidence of each joint; NaN where the tool gives none.
        names: of the joints, where the file says them.
    """

    name: str
    frames: Int[np.ndarray, " N"]
    boxes: Float64[np.ndarray, "N 4"]
    points: Float64[np.ndarray, "N J D"] | None = None
    scores: Float64[np.ndarray, "N J"] | None = None
    names: tuple[str, ...] = ()

    @property
    def first(self) -> int:
        """The first frame in which they are seen."""
        return int(self.frames[0])

    @property
    def end(self) -> int:
        """The frame after the last one."""
        return int(self.frames[-1]) + 1

    def box(self, first: int, end: int) -> Float64[np.ndarray, " 4"]:
        """The box around all boxes from frame ``first`` up to ``end``; the nearest one where they are not seen."""
        inside = (self.frames >= first) & (self.frames < end)
        if not inside.any():
            middle = (first + end - 1) / 2
            return self.boxes[np.abs(self.frames - middle).argmin()]
        boxes = self.boxes[inside]
        return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])

    def sequence(self, options: ReadOptions, where: Path) -> SkeletonSequence:
        """Their joints from the first to the last frame; frames in which they are not seen are filled where possible.

        Raises:
            DataError: the file has boxes alone, or no joint was found.
        """
        if self.points is None:
            raise DataError(
                "the file has boxes of people, but no joints",
                expected="joints, which the model takes",
                hint="give the keypoints of a pose estimator, or a run of a model of videos",
                where=where,
            )
        _, joints, coordinates = self.points.shape
        array = np.full((self.end - self.first, 1, joints, coordinates), np.nan)
        array[self.frames - self.first, 0] = self.points
        scores = np.full(array.shape[:3], np.nan)
        if self.scores is not None:
            scores[self.frames - self.first, 0] = self.scores
        sequence = assemble(array, of_estimator(options, coordinates), where, scores=scores)
        return name_joints(sequence, self.names, where) if self.names else sequence


def read_tracks(
    path: Path, options: ReadOptions | None = None, size: tuple[int, int] | None = None
) -> list[PersonTrack]:
    """The people in a file or folder of keypoints, or in the text of a tracker of boxes; the longest track first.

    Args:
        path: of one recording.
        options: how joints are read.
        size: width and height of the frames in pixels, for tools that give positions as shares of them.

    Raises:
        DataError: missing, damaged, of several recordings, or nobody is seen in two frames.
    """
    options = options or ReadOptions()
    tracks = _read_boxes(path) if _is_boxes(path) else _read_keypoints(path, options, size)
    tracks = [track for track in tracks if len(track.frames) >= FEWEST]
    if not tracks:
        raise DataError(
            "nobody is seen in two frames or more",
            expected="people who are followed over time",
            hint="check the file",
            where=path,
        )
    return sorted(tracks, key=lambda track: (-len(track.frames), track.first))


def _read_keypoints(path: Path, options: ReadOptions, size: tuple[int, int] | None) -> list[PersonTrack]:
    poses = find_poses(path)
    if len(poses) > 1:
        raise DataError(
            f"{len(poses)} recordings, such as {poses[0].name} and {poses[1].name}",
            expected="the people of one recording",
            hint="give the file or the folder of one recording",
            where=path,
        )
    frames = read_frames(poses[0])
    first = _first_number(frames, poses[0].tool)
    everyone = [(number, person) for number, people in enumerate(frames, start=first) for person in people]
    scale = np.array(size, dtype=np.float64) if size is not None and poses[0].tool in SHARES else None
    linked = link(frames) if everyone else {}
    names = _names(linked, frames)
    joints = frames.names if isinstance(frames, NumberedFrames) else ()
    tracks = (
        _track(names[key], [everyone[number] for number in numbers], options.min_score, scale, joints)
        for key, numbers in linked.items()
    )
    return [track for track in tracks if track is not None]


def _first_number(frames: Frames, tool: str) -> int:
    """The number of the first frame, counted from 0."""
    first = frames.first if isinstance(frames, NumberedFrames) else 0
    return max(first - (tool in _FROM_ONE), 0)


def _track(
    name: str,
    seen: list[tuple[int, Person]],
    min_score: float,
    scale: Float64[np.ndarray, " 2"] | None,
    joints: tuple[str, ...],
) -> PersonTrack | None:
    """One person from their poses in single frames; None where no joint was found."""
    points = np.stack([_sure_points(person, min_score) for _, person in seen])
    if scale is not None and np.nanmax(np.abs(points[..., :2]), initial=0.0) <= _LARGEST_SHARE:
        points[..., :2] *= scale
    found = np.isfinite(points).all(axis=2) & (points != 0).any(axis=2)
    somewhere = found.any(axis=1)
    if not somewhere.any():
        return None
    plane, mask = points[somewhere, :, :2], found[somewhere][..., None]
    low, high = np.where(mask, plane, np.inf).min(axis=1), np.where(mask, plane, -np.inf).max(axis=1)
    margin = MARGIN * (high - low).max(axis=1, keepdims=True)
    frames = np.array([number for number, _ in seen])
    scores = np.stack([scores_of(person) for _, person in seen])[somewhere]
    boxes = np.hstack([low - margin, high + margin])
    return PersonTrack(name, frames[somewhere], boxes, points[somewhere], scores, joints)


def _sure_points(person: Person, min_score: float) -> Float64[np.ndarray, "J D"]:
    """The joints of somebody in one frame, NaN where the score is below ``min_score``."""
    return np.where((scores_of(person) < min_score)[:, None], np.nan, person.points)


def _names(linked: dict[str, list[int]], frames: Frames) -> dict[str, str]:
    """The tool's name of each track; people who were linked here get numbers that the tool did not use."""
    used = {person.track for people in frames for person in people if person.track}
    free = (str(number) for number in range(1, len(linked) + len(used) + 1) if str(number) not in used)
    return {key: key.removeprefix("track ") if key.startswith("track ") else next(free) for key in linked}


def _is_boxes(path: Path) -> bool:
    if not path.is_file() or path.suffix.lower() not in (".txt", ".csv"):
        return False
    values = read_text(path).lstrip().partition("\n")[0].split(",")
    return len(values) >= _MOT_COLUMNS and all(_is_number(value) for value in values)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _read_boxes(path: Path) -> list[PersonTrack]:
    """Rows of MOTChallenge; those with a confidence of 0 are to be ignored."""
    rows: dict[str, dict[int, list[float]]] = defaultdict(dict)
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        values = [float(value) if _is_number(value) else np.nan for value in line.split(",")]
        if len(values) < _MOT_COLUMNS or not np.isfinite(values[:_MOT_COLUMNS]).all() or min(values[4:6]) <= 0:
            raise _bad_row(path, number, line)
        frame, person, left, top, width, height = values[:_MOT_COLUMNS]
        if frame < 1 or frame != int(frame):
            raise _bad_row(path, number, line)
        if len(values) > _MOT_COLUMNS and values[_MOT_COLUMNS] == 0:
            continue
        name = f"{person:g}"
        if int(frame) - 1 in rows[name]:
            raise DataError(
                f"line {number} is a second box of person {name} in frame {int(frame)}",
                expected="one box of each person in a frame",
                hint="remove one of the lines, or give people different numbers",
                where=path,
            )
        rows[name][int(frame) - 1] = [left, top, left + width, top + height]
    return [
        PersonTrack(name, np.array(sorted(boxes)), np.array([boxes[frame] for frame in sorted(boxes)]))
        for name, boxes in rows.items()
        if boxes
    ]


def _bad_row(path: Path, number: int, line: str) -> DataError:
    return DataError(
        f"line {number} is {line[:60]!r}",
        expected="frame,id,left,top,width,height with frames from 1 and sides of more than 0 pixels",
        hint="write the boxes in the format of MOTChallenge",
        where=path,
    )
