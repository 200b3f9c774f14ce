"""What pose estimators write: one reader for each tool, and from people in single frames to recordings."""

from muybridge.media.poses.convert import convert
from muybridge.media.poses.deeplabcut import is_deeplabcut
from muybridge.media.poses.frame_folder import is_frame_folder, read_frame_folder, with_frame_folders
from muybridge.media.poses.read import (
    Pose,
    find_poses,
    is_pose_json,
    read_pose_arrays,
    read_pose_json,
    read_pose_table,
    read_poses,
    refuse_frame,
)
from muybridge.media.poses.tracks import PersonTrack, read_tracks

__all__ = [
    "PersonTrack",
    "Pose",
    "convert",
    "find_poses",
    "is_deeplabcut",
    "is_frame_folder",
    "is_pose_json",
    "read_frame_folder",
    "read_pose_arrays",
    "read_pose_json",
    "read_pose_table",
    "read_poses",
    "read_tracks",
    "refuse_frame",
    "with_frame_folders",
]
