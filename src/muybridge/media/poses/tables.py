"""Poses in tables: Ultralytics' lines of text, SLEAP's HDF5.

Legend: J joints.
"""

from pathlib import Path

import numpy as np

from muybridge.core.errors import DataError
from muybridge.core.extras import import_extra
from muybridge.media.parsing import read_text, shape_text
from muybridge.media.poses.people import Frames, NumberedFrames, Person

HDF5_DAMAGE = (OSError, KeyError, ValueError, IndexError, TypeError, RuntimeError, MemoryError)
"""What h5py raises on damaged files, found by damaging files at random."""


def is_ultralytics(path: Path) -> bool:
    """Whether the first line of a text file is a pose of Ultralytics."""
    try:
        values = read_text(path).split("\n", 1)[0].split()
        return len(values) >= 5 + 2 * 5 and all(-10 < float(value) < 1e6 for value in values)
    except (ValueError, DataError):
        return False


def read_ultralytics(path: Path) -> list[Person]:
    """Lines ``class x y w h (kx ky kc) x J [confidence] [track]``, in shares of the image (Ultralytics, save_txt)."""
    people = []
    for line, text in enumerate(filter(None, map(str.strip, read_text(path).splitlines())), start=1):
        try:
            values = np.array(text.split(), dtype=np.float64)
        except ValueError:
            values = np.empty(0)
        joints = (len(values) - 5) // 3
        if joints < 1:
            raise DataError(
                f"line {line} is no pose",
                expected="class x y w h and x y confidence of each joint",
                hint="write the files again with save_txt of a pose model",
                where=path,
            )
        extra = values[5 + 3 * joints :]
        track = str(int(extra[-1])) if len(extra) and extra[-1] >= 1 and extra[-1] == int(extra[-1]) else ""
        rows = values[5 : 5 + 3 * joints].reshape(joints, 3)
        people.append(Person(rows[:, :2], rows[:, 2], track))
    return people


def read_sleap(path: Path) -> Frames:
    """SLEAP's ``analysis.h5``: ``tracks`` as track x 2 x node x frame, or as its attribute ``dims`` says."""
    h5py = import_extra("h5py", "poses", "the files of SLEAP")
    try:
        with h5py.File(path) as file:
            tracks, scores = np.asarray(file["tracks"]), file.get("point_scores")
            dims, nodes = file["tracks"].attrs.get("dims", ""), file.get("node_names")
            names = (
                []
                if nodes is None
                else [
                    name.decode() if isinstance(name, bytes) else str(name)
                    for name in np.asarray(nodes).reshape(-1).tolist()
                ]
            )
            scores = None if scores is None else np.asarray(scores)
    except HDF5_DAMAGE as problem:
        raise DataError(
            f"not an analysis file of SLEAP ({problem})",
            expected="an .h5 file with tracks, or a table of DeepLabCut",
            hint="export it from SLEAP with 'Export Analysis HDF5'",
            where=path,
        ) from None
    by_frame = "frame" in str(dims).partition(",")[0] or (tracks.shape[-1:] == (2,) and tracks.shape[1:2] != (2,))
    if not by_frame and tracks.ndim == 4:
        tracks = tracks.transpose(3, 0, 2, 1)
        scores = scores.transpose(2, 0, 1) if scores is not None and scores.ndim == 3 else scores
    points = tracks
    numbers = points.ndim == 4 and points.shape[-1] in (2, 3) and points.dtype.kind in "fiu"
    if not numbers or (scores is not None and scores.shape != points.shape[:3]):
        raise DataError(
            f"tracks is {shape_text(points.shape)} as frames x tracks x nodes x coordinates"
            + ("" if scores is None else f", and point_scores {shape_text(scores.shape)}"),
            expected="frames x tracks x nodes x 2 numbers, in the order that dims says, and a score of each node",
            hint="export it from SLEAP with 'Export Analysis HDF5'",
            where=path,
        )
    frames = [
        [
            Person(pose, None if scores is None else scores[number, who].astype(np.float64), str(who))
            for who, pose in enumerate(people.astype(np.float64))
            if np.isfinite(pose).any()
        ]
        for number, people in enumerate(points)
    ]
    return NumberedFrames(dict(enumerate(frames)), names)
