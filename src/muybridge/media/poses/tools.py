"""One function for each tool: from the JSON or the arrays that it writes to people in frames.

Legend: T frames, P people, J joints.
"""

from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.core.errors import DataError
from muybridge.core.skeletons import LAYOUTS
from muybridge.media.poses.people import Frames, NumberedFrames, Person


def openpose_frames(files: Iterable[tuple[Any, Path]]) -> list[list[Person]]:
    """The people of each frame of OpenPose (``doc/02_output.md``): x, y, score, or x, y, z, score of each joint.

    Args:
        files: what the JSON file of each frame holds, and the file.
    """
    values, people, last = array("d"), [], Path()  # the numbers of all people in a row
    frames = 0
    for frames, (content, last) in enumerate(files, start=1):
        listed_people = content.get("people") if isinstance(content, dict) else None
        if not isinstance(listed_people, list):
            raise _unlike("people", "a list of objects", last)
        for person in listed_people:
            if not isinstance(person, dict):
                raise _unlike("people", "a list of objects", last)
            in_space, before = bool(person.get("pose_keypoints_3d")), len(values)
            listed = person.get("pose_keypoints_3d" if in_space else "pose_keypoints_2d")
            if not listed:
                continue
            try:
                values.fromlist(listed)
            except TypeError:
                values.fromlist(_numbers(listed, last).reshape(-1).tolist())
            ids = person.get("person_id") or [-1]
            track = ids[0] if isinstance(ids, list) else ids
            size = 4 if in_space else 3
            if (len(values) - before) % size:
                raise _unlike("keypoints", f"{size} numbers of each joint", last)
            people.append((frames - 1, size, len(values) - before, "" if track in (-1, None) else str(track)))
    listed_in: list[list[Person]] = [[] for _ in range(frames)]
    for (frame, _, _, track), (points, scores) in zip(people, _poses(values, people), strict=True):
        listed_in[frame].append(Person(points, scores, track))
    return listed_in


def _poses(
    values: "array[float]", people: Sequence[tuple[int, int, int, str]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions and scores of people whose numbers are in a row, from how many each joint and each person has."""
    numbers = np.frombuffer(values) if values else np.empty(0)
    shapes = {(size, count) for _, size, count, _ in people}
    if len(shapes) == 1:  # as in almost every recording
        ((size, _),) = shapes
        rows = numbers.reshape(len(people), -1, size)
        yield from zip(np.ascontiguousarray(rows[..., :-1]), np.ascontiguousarray(rows[..., -1]), strict=True)
        return
    first = 0
    for _, size, count, _ in people:
        rows = numbers[first : first + count].reshape(-1, size)
        first += count
        yield rows[:, :-1], rows[:, -1]


def openpose_names(frames: Frames) -> tuple[str, ...]:
    """The names of the joints of OpenPose's models BODY_25 and COCO, by their number; of others none."""
    number = next((len(person.points) for people in frames for person in people), 0)
    return {25: LAYOUTS["openpose25"].joints, 18: LAYOUTS["openpose18"].joints}.get(number, ())


def mmpose(content: Any, where: Path) -> Frames:
    """The frames of MMPose and RTMPose: ``instance_info``, or its list alone, of ``instances`` with ``keypoints``."""
    frames = content["instance_info"] if isinstance(content, dict) else content
    listed: dict[int, list[Person]] = {}
    for number, frame in enumerate(_list(frames, "instance_info", where)):
        people = []
        for instance in _list(frame.get("instances"), "instances", where):
            points = _numbers(instance.get("keypoints"), where)
            if points.ndim != 2:
                raise _unlike("keypoints", "J x 2 or J x 3 numbers", where)
            scores = instance.get("keypoint_scores")
            scores = None if scores is None else _numbers(scores, where).reshape(len(points))
            people.append(Person(points, scores, _track(instance, "track_id", "instance_id")))
        listed[int(frame.get("frame_id", number))] = people
    return _in_order(listed, where, _meta_names(content))


def _meta_names(content: Any) -> tuple[str, ...]:
    """The names of the joints in MMPose's ``meta_info``; empty without them."""
    meta = content.get("meta_info") if isinstance(content, dict) else None
    names = meta.get("keypoint_id2name") if isinstance(meta, dict) else None
    if not isinstance(names, dict):
        return ()
    numbered = [str(names[key]) for number in range(len(names)) if (key := str(number)) in names]
    return tuple(numbered) if len(numbered) == len(names) else ()


def coco_results(content: Sequence[Mapping[str, Any]], where: Path) -> Frames:
    """COCO's results and AlphaPose's: a list of people with ``image_id`` and ``keypoints`` of x, y, score."""
    listed: defaultdict[Any, list[Person]] = defaultdict(list)
    for person in content:
        if "image_id" not in person or "keypoints" not in person:
            raise _unlike("a person", "image_id and keypoints of each person", where)
        values = _whole_body(person, where)
        listed[person["image_id"]].append(_flat(values, 3, where, _track(person, "track_id", "idx")))
    numbered = {_frame_number(image, where): people for image, people in listed.items()}
    return _in_order(numbered, where, _whole_body_names(content))


_PARTS = ("foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
"""What COCO-WholeBody has beside ``keypoints``, in the order of its 133 joints."""


def _whole_body(person: Mapping[str, Any], where: Path) -> np.ndarray:
    """The numbers of COCO's joints of a person, and of COCO-WholeBody's others where they are there."""
    parts = [person["keypoints"], *(person[part] for part in _PARTS if part in person)]
    return np.concatenate([_numbers(part, where).reshape(-1) for part in parts])


def _whole_body_names(people: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The names of COCO-WholeBody's joints where people have all its parts; else empty."""
    return LAYOUTS["coco133"].joints if people and all(set(_PARTS) <= set(person) for person in people) else ()


def coco_annotations(content: Mapping[str, Any], where: Path) -> Frames:
    """COCO's annotations of the images of one recording, in the order of their file names."""
    images = sorted(_list(content.get("images"), "images", where), key=lambda image: str(image.get("file_name", "")))
    numbers = {image.get("id"): number for number, image in enumerate(images)}
    listed: dict[int, list[Person]] = {number: [] for number in range(len(images))}
    annotations = _list(content.get("annotations"), "annotations", where)
    posed = [person for person in annotations if "keypoints" in person and person.get("image_id") in numbers]
    for person in posed:
        values = _whole_body(person, where)
        if len(values) % 3:
            raise _unlike("keypoints", "3 numbers of each joint", where)
        values = values.reshape(-1, 3)
        # The third number is 0 for joints that were not labelled, 1 for hidden and 2 for visible ones.
        people = Person(np.where(values[:, 2:] > 0, values[:, :2], np.nan), None, _track(person, "track_id"))
        listed[numbers[person["image_id"]]].append(people)
    return _in_order(listed, where, _whole_body_names(posed) or _category_names(content))


def _category_names(content: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the joints in COCO's ``categories``, where all of them have the same; else empty."""
    categories = content.get("categories") or []
    named = {tuple(map(str, one["keypoints"])) for one in categories if isinstance(one, dict) and one.get("keypoints")}
    return named.pop() if len(named) == 1 else ()


def mediapipe(content: Sequence[Any], where: Path) -> Frames:
    """A dump of MediaPipe Pose: a list of frames, each a list of landmarks (or of people) with ``x``, ``y``, ``z``.

    World landmarks are metres with y down, image landmarks shares of the image; of these only x and y are taken.
    """
    frames = []
    for frame in content:
        marks = frame
        world = False
        if isinstance(frame, Mapping):
            world = "pose_world_landmarks" in frame
            marks = next((frame[key] for key in _LANDMARKS if key in frame), [])
        people = marks if marks and isinstance(marks[0], list) else [marks] if marks else []
        frames.append([_landmarks(person, world, where) for person in people])
    return frames


_LANDMARKS = ("pose_world_landmarks", "pose_landmarks", "landmarks")


def _landmarks(marks: Sequence[Mapping[str, Any]], world: bool, where: Path) -> Person:
    try:
        points = np.array([[mark["x"], mark["y"], mark.get("z", 0.0)] for mark in marks], dtype=np.float64)
    except (KeyError, TypeError, ValueError):
        raise _unlike("a landmark", "x, y and z of each landmark", where) from None
    scores = [mark.get("visibility") for mark in marks]
    known = None if any(score is None for score in scores) else np.array(scores, dtype=np.float64)
    return Person(points if world else points[:, :2], known)


def arrays(keypoint: np.ndarray, score: np.ndarray | None, where: Path) -> Frames:
    """MMAction2's and pyskl's arrays: ``keypoint`` P x T x J x 2 or 3, and ``keypoint_score`` P x T x J."""
    if (
        keypoint.ndim != 4
        or keypoint.shape[-1] not in (2, 3)
        or (score is not None and score.shape != keypoint.shape[:3])
    ):
        raise _unlike(
            "keypoint", "people x frames x joints x 2 or 3 numbers, keypoint_score without the last axis", where
        )
    points = keypoint.astype(np.float64)
    frames = []
    for number in range(points.shape[1]):
        there = [person for person in range(len(points)) if points[person, number].any()]
        frames.append(
            [
                Person(
                    points[person, number],
                    None if score is None else score[person, number].astype(np.float64),
                    str(person),
                )
                for person in there
            ]
        )
    return frames


def _flat(values: np.ndarray, size: int, where: Path, track: str) -> Person:
    """A person from numbers in a row, the last of each ``size`` a score."""
    if len(values) % size:
        raise _unlike("keypoints", f"{size} numbers of each joint", where)
    rows = values.reshape(-1, size)
    return Person(rows[:, :-1], rows[:, -1], track)


def _numbers(value: Any, where: Path) -> np.ndarray:
    try:
        return np.array([] if value is None else value, dtype=np.float64)
    except (TypeError, ValueError):
        raise _unlike("keypoints", "numbers", where) from None


def _list(value: Any, name: str, where: Path) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise _unlike(name, "a list of objects", where)
    return value


def _track(person: Mapping[str, Any], *names: str) -> str:
    """The tool's own number of a person; some nest it in lists."""
    for name in names:
        value = person.get(name)
        while isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, int | float | str) and not isinstance(value, bool) and value not in (-1, ""):
            return str(value)
    return ""


def _frame_number(image: Any, where: Path) -> int:
    """The number in the name or id of an image, such as ``12.jpg`` or ``000012``."""
    stem = Path(str(image)).stem
    digits = stem[len(stem.rstrip("0123456789")) :]
    if not digits:
        raise _unlike(f"image_id {str(image)[:40]!r}", "the number of a frame at its end", where)
    return int(digits)


def _in_order(listed: Mapping[int, list[Person]], where: Path, names: Sequence[str] = ()) -> Frames:
    """The frames from the first number to the last; those that are not listed show nobody."""
    if not listed:
        return []
    check_span(min(listed), max(listed), len(listed), where)
    return NumberedFrames(listed, names)


def check_span(first: int, last: int, count: int, where: Path) -> None:
    """Refuse numbers of frames that lie absurdly far apart, of which most would be empty."""
    if last - first > 1000 * count:
        raise DataError(
            f"{count} frames with numbers from {first} to {last}",
            expected="the frames of one recording",
            hint="look for a frame with a wrong number, or separate the recordings",
            where=where,
        )


def _unlike(what: str, expected: str, where: Path) -> DataError:
    return DataError(
        f"{what} is not as the tool writes it",
        expected=expected,
        hint="write the file again with the estimator, or leave it out",
        where=where,
    )


Reader = Callable[[Any, Path], Frames]


def reader_of_json(content: Any) -> tuple[str, Reader] | None:
    """The tool that wrote the content of a JSON file, and what reads it; None where it is none of the known ones."""
    if isinstance(content, dict):
        if "instance_info" in content:
            return "MMPose", mmpose
        if "annotations" in content and "images" in content:
            return "COCO annotations", coco_annotations
        return None
    first = next((one for one in content if one), None) if isinstance(content, list) else None
    if isinstance(first, dict):
        if "instances" in first:
            return "MMPose", mmpose
        if "keypoints" in first and "image_id" in first:
            return "COCO results or AlphaPose", coco_results
        if any(name in first for name in _LANDMARKS):
            return "MediaPipe", mediapipe
    if isinstance(first, list) and first and isinstance(first[0], dict) and {"x", "y"} <= set(first[0]):
        return "MediaPipe", mediapipe
    return None
