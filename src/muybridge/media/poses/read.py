"""Finds recordings among the files of pose estimators, recognizes the tool, and reads them.

OpenPose and Ultralytics write a file for each frame: the files of one folder with one name before the number are a
recording. MMPose, RTMPose, AlphaPose, COCO and MediaPipe dumps are a JSON file each, MMAction2's arrays an ``.npz``,
DeepLabCut's a ``.csv`` with several header lines, SLEAP's analysis an ``.h5``; a pickle of pyskl holds a data set.
"""

import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.core.errors import DataError
from muybridge.core.files import find_files
from muybridge.core.types import SkeletonSequence
from muybridge.media import npz
from muybridge.media.arrays import ReadOptions
from muybridge.media.bvh import read_bvh
from muybridge.media.c3d_file import read_c3d
from muybridge.media.parsing import read_bytes, read_text
from muybridge.media.poses import tools
from muybridge.media.poses.deeplabcut import is_deeplabcut, is_deeplabcut_h5, read_deeplabcut, read_deeplabcut_h5
from muybridge.media.poses.people import Frames, NumberedFrames, frames_of, to_sequence
from muybridge.media.poses.pickles import read_annotations
from muybridge.media.poses.tables import is_ultralytics, read_sleap, read_ultralytics

SUFFIXES = (".json", ".txt", ".npz", ".csv", ".h5", ".pkl", ".pickle", ".bvh", ".c3d")
"""File name endings that estimators use."""

OPENPOSE = re.compile(r"(.*?)_?(\d+)_keypoints\.json")
"""Names of OpenPose's files: of the recording, and the number of the frame."""

_NUMBERED_TEXT = re.compile(r"(.+)_(\d+)\.txt")


@dataclass(frozen=True, slots=True)
class Pose:
    """One recording of an estimator.

    Attributes:
        name: of the recording, with the folders it is in.
        tool: what wrote it.
        files: in order of time, where there is one for each frame; otherwise one.
        part: which recording of a file that holds several.
        label: number of the class, where the file says it; -1 where not.
    """

    name: str
    tool: str
    files: tuple[Path, ...]
    part: int = -1
    label: int = -1


def find_poses(source: Path) -> list[Pose]:
    """The recordings in a file, or anywhere below a folder.

    Raises:
        DataError: there are none, or a pickle holds more than arrays.
    """
    if source.is_file():
        found = list(_of_file(source, source.stem))
    elif source.is_dir():
        found = list(_of_folder(source))
    else:
        raise DataError(
            "there is no such file or folder", expected="files of a pose estimator", hint="check the path", where=source
        )
    if not found:
        raise DataError(
            "no recording of a pose estimator is found",
            expected="files of OpenPose, MMPose, RTMPose, AlphaPose, COCO, Ultralytics, MediaPipe, MMAction2, pyskl, "
            "DeepLabCut or SLEAP, or motion capture (.bvh, .c3d)",
            hint="check the path; docs/poses.md describes the files",
            where=source,
        )
    return found


def _of_folder(folder: Path) -> Iterator[Pose]:
    frames: defaultdict[tuple[str, str, str], list[tuple[int, Path]]] = defaultdict(list)
    for path in find_files(folder, SUFFIXES, check_names=False).files:
        above = path.parent.relative_to(folder).as_posix()
        if match := OPENPOSE.fullmatch(path.name):
            frames["OpenPose", above, match[1]].append((int(match[2]), path))
        elif (match := _NUMBERED_TEXT.fullmatch(path.name)) and is_ultralytics(path):
            frames["Ultralytics", above, match[1]].append((int(match[2]), path))
        else:
            yield from _of_file(path, path.relative_to(folder).with_suffix("").as_posix())
    alone = {(tool, above): 0 for tool, above, _ in frames}
    for tool, above, _ in frames:
        alone[tool, above] += 1
    for (tool, above, name), numbered in sorted(frames.items()):
        # A folder of one recording is the recording; its files often carry the name of the video again.
        single = alone[tool, above] == 1 and above not in ("", ".") and Path(above).name not in ("labels",)
        whole = above if single else (Path(above).parent if Path(above).name == "labels" else Path(above)) / name
        yield Pose(str(whole), tool, tuple(path for _, path in sorted(numbered)))


def _of_file(path: Path, name: str) -> Iterator[Pose]:
    match path.suffix.lower():
        case ".json":
            content = _json(path)
            if isinstance(content, dict) and "people" in content:
                yield Pose(name, "OpenPose", (path,))
            elif known := tools.reader_of_json(content):
                yield Pose(name, known[0], (path,))
        case ".npz" if "keypoint" in _arrays_in(path, ())[1]:
            yield Pose(name, "MMAction2", (path,))
        case ".csv" if is_deeplabcut(read_text(path)):
            yield Pose(name, "DeepLabCut", (path,))
        case ".bvh":
            yield Pose(name, "BVH", (path,))
        case ".c3d":
            yield Pose(name, "C3D", (path,))
        case ".h5":
            yield Pose(name, "DeepLabCut" if is_deeplabcut_h5(path) else "SLEAP", (path,))
        case ".pkl" | ".pickle":
            for part, entry in enumerate(read_annotations(path)):
                label = int(entry.get("label", -1))
                yield Pose(str(entry.get("frame_dir", f"{name}_{part}")), "pyskl", (path,), part, label)
        case _:
            return


def read_poses(pose: Pose, options: ReadOptions | None = None) -> SkeletonSequence:
    """A recording with the people linked over time; see :func:`~muybridge.media.poses.people.to_sequence`.

    Raises:
        DataError: the files are damaged, or nobody is seen.
        MissingExtraError: SLEAP's files need h5py, C3D files c3d.
    """
    options = options or ReadOptions()
    if read := _OF_MOTION_CAPTURE.get(pose.tool):
        return read(pose.files[0], options)
    return to_sequence(read_frames(pose), options, pose.files[0])


_OF_MOTION_CAPTURE: dict[str, Callable[[Path, ReadOptions], SkeletonSequence]] = {"BVH": read_bvh, "C3D": read_c3d}
"""Tools whose files say who is who, and have positions in space."""


def read_frames(pose: Pose) -> Frames:
    """The people in each frame of a recording; errors as in :func:`read_poses`."""
    path = pose.files[0]
    match pose.tool:
        case "OpenPose":
            numbers = _numbers_of(pose.files, OPENPOSE)
            frames = tools.openpose_frames((_json(file), file) for file in pose.files)
            return NumberedFrames(dict(zip(numbers, frames, strict=True)), tools.openpose_names(frames))
        case "Ultralytics":
            numbers = _numbers_of(pose.files, _NUMBERED_TEXT)
            return NumberedFrames(
                {number: read_ultralytics(file) for number, file in zip(numbers, pose.files, strict=True)}
            )
        case "MMAction2":
            loaded, _ = _arrays_in(path, ("keypoint", "keypoint_score"))
            return tools.arrays(loaded["keypoint"], loaded.get("keypoint_score"), path)
        case "DeepLabCut":
            return (read_deeplabcut_h5 if path.suffix.lower() == ".h5" else read_deeplabcut)(path)
        case "SLEAP":
            return read_sleap(path)
        case "BVH" | "C3D":
            return frames_of(_OF_MOTION_CAPTURE[pose.tool](path, ReadOptions()))
        case "pyskl":
            entry = read_annotations(path)[pose.part]
            return tools.arrays(np.asarray(entry["keypoint"]), entry.get("keypoint_score"), path)
        case _:
            content = _json(path)
            known = tools.reader_of_json(content)
            assert known is not None
            return known[1](content, path)


def is_pose_json(content: Any) -> bool:
    """Whether the content of a JSON file is a recording of a known estimator."""
    return tools.reader_of_json(content) is not None


def read_pose_json(content: Any, options: ReadOptions, where: Path) -> SkeletonSequence:
    """The recording in the content of a JSON file for which :func:`is_pose_json` holds; raises DataError."""
    known = tools.reader_of_json(content)
    assert known is not None
    return to_sequence(known[1](content, where), options, where)


def read_pose_arrays(
    keypoint: np.ndarray, score: np.ndarray | None, options: ReadOptions, where: Path
) -> SkeletonSequence:
    """The recording in arrays of MMAction2, ``keypoint`` and ``keypoint_score``; raises DataError."""
    return to_sequence(tools.arrays(keypoint, score, where), options, where)


def read_pose_table(options: ReadOptions, where: Path) -> SkeletonSequence:
    """The recording in a table of DeepLabCut; raises DataError."""
    return to_sequence(read_deeplabcut(where), options, where)


def refuse_frame(content: Any, where: Path) -> None:
    """Raises DataError for the content of a JSON file that is a single frame of OpenPose."""
    people = content.get("people") if isinstance(content, dict) else None
    if isinstance(people, list) and (
        "version" in content or any("pose_keypoints_2d" in one for one in people if isinstance(one, dict))
    ):
        raise DataError(
            "the file is one frame of OpenPose (it has people with pose_keypoints_2d)",
            expected="one file for each recording",
            hint="give each recording a folder of its own, CLASS/NAME/*_keypoints.json, or convert them with "
            "`muybridge convert-poses DIR --out NEW`",
            where=where,
        )


def _numbers_of(files: Sequence[Path], pattern: re.Pattern[str]) -> list[int]:
    """The number of the frame in each file; numbers that are not there show nobody."""
    matches = [pattern.fullmatch(file.name) for file in files]
    numbers = [int(match[2]) if match else position for position, match in enumerate(matches)]
    tools.check_span(min(numbers), max(numbers), len(numbers), files[0].parent)
    return numbers


def _arrays_in(path: Path, wanted: Sequence[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """The wanted arrays of an ``.npz`` file, and the names of all."""
    try:
        return npz.read_npz(io.BytesIO(read_bytes(path)), wanted)
    except npz.NUMPY_PROBLEMS as problem:
        raise DataError(
            f"not readable as NumPy arrays ({problem})",
            expected="a file of numpy.savez",
            hint="write the file again, or leave it out",
            where=path,
        ) from None


def _json(path: Path) -> Any:
    content = read_bytes(path)
    with suppress(ValueError, RecursionError):
        return _decode(content.decode())
    try:
        return json.loads(content)  # in any other encoding that JSON may have
    except (ValueError, RecursionError) as problem:
        raise DataError(
            f"not readable as JSON ({problem})",
            expected="a file that a pose estimator wrote",
            hint="write the file again, or leave it out",
            where=path,
        ) from None


_decode = json.JSONDecoder().decode
