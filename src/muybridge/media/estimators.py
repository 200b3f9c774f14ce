"""Files of pose estimators that are not read directly: recognized by their keys, and refused with what to write."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from muybridge.core.errors import DataError

_SECTION = 'docs/add-a-dataset.md, "From pose estimators"'


def estimator_of_json(content: Any) -> str:
    """What wrote the content of a JSON file, in words; empty where it is none of the known tools."""
    if isinstance(content, dict):
        people = content.get("people")
        if isinstance(people, list) and (
            "version" in content or any("pose_keypoints_2d" in person for person in people if isinstance(person, dict))
        ):
            return "one frame of OpenPose (it has people with pose_keypoints_2d)"
        if "instance_info" in content:
            return "of MMPose (it has instance_info)"
        if "annotations" in content:
            return "of COCO annotations (it has annotations)"
    first = content[0] if isinstance(content, list) and content else None
    if isinstance(first, dict):
        if "instances" in first:
            return "of MMPose (it is a list of frames with instances)"
        if "keypoints" in first and "image_id" in first:
            return "of COCO results (it is a list of people with image_id and keypoints)"
    return ""


def refuse_estimator_json(content: Any, path: Path) -> None:
    """Raises DataError with what to write instead, if the content of a JSON file is a known tool's."""
    if tool := estimator_of_json(content):
        raise DataError(
            f"the file is {tool}, which is not read directly",
            expected='one file for each recording, {"joints": frames}: a list of people in each frame, each of [x, y]',
            hint=f"convert it with the lines in {_SECTION}",
            where=path,
        )


def refuse_estimator_arrays(names: Collection[str], path: Path) -> None:
    """Raises DataError with what to write instead, if the arrays of a ``.npz`` file have names of a known tool."""
    if name := next((name for name in ("keypoint", "keypoints") if name in names), None):
        raise DataError(
            f"the file contains {', '.join(names)}, as MMAction2 and MMPose call them, which are not read directly",
            expected="an array called joints, of frames x people x joints x 2 or 3 coordinates, without scores",
            hint=f"save it with numpy.savez(path, joints=arrays[{name!r}].transpose(1, 0, 2, 3)) if its axes are "
            f"people x frames x joints x coordinates; see {_SECTION}",
            where=path,
        )
