"""Folders in which OpenPose wrote a file for each frame of one recording, as recordings."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.core.files import is_system_name
from muybridge.core.types import SkeletonSequence
from muybridge.media.arrays import ReadOptions
from muybridge.media.poses.read import OPENPOSE, Pose, read_poses


def with_frame_folders(root: Path, files: Iterable[Path]) -> list[Path]:
    """Files, with those of OpenPose, one for each frame, replaced by their folder where it has one recording alone.

    Args:
        root: a folder of recordings; it is none itself.
        files: found at or below it.

    Returns:
        Sorted paths. Frames of several recordings in one folder are left as they are.
    """
    kept: list[Path] = []
    names: defaultdict[Path, set[str]] = defaultdict(set)
    frames: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in files:
        match = OPENPOSE.fullmatch(path.name)
        if match is None or path.parent == root:
            kept.append(path)
        else:
            names[path.parent].add(match[1])
            frames[path.parent].append(path)
    for folder, paths in frames.items():
        kept += [folder] if len(names[folder]) == 1 else paths
    return sorted(kept)


def is_frame_folder(folder: Path) -> bool:
    """Whether a folder is a recording of OpenPose: it has the frames of one, and no other."""
    if not folder.is_dir():
        return False
    return len({name for name, _, _ in _frames_in(folder)}) == 1


def read_frame_folder(folder: Path, options: ReadOptions | None = None) -> SkeletonSequence:
    """The recording of OpenPose in a folder with a file for each frame; see :func:`read_poses`.

    Raises:
        DataError: the folder has no such files, or those of several recordings; a file is damaged, or nobody is seen.
    """
    frames = _frames_in(folder)
    if len({name for name, _, _ in frames}) != 1:
        raise DataError(
            "the folder is no recording" if not frames else "the folder has frames of several recordings",
            expected="a file, or a folder of the frames that OpenPose wrote of one recording",
            hint="correct the path" if not frames else "convert the folder with `muybridge convert-poses`",
            where=folder,
        )
    return read_poses(Pose(folder.name, "OpenPose", tuple(path for _, _, path in frames)), options)


def _frames_in(folder: Path) -> list[tuple[str, int, Path]]:
    """The name of the recording, the number and the file of each frame, in order."""
    visible = (entry for entry in folder.iterdir() if not is_system_name(entry.name))
    matches = ((OPENPOSE.fullmatch(entry.name), entry) for entry in visible)
    return sorted((match[1], int(match[2]), entry) for match, entry in matches if match)
