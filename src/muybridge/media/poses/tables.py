"""Poses in tables: Ultralytics' lines of text, DeepLabCut's CSV, SLEAP's HDF5.

Legend: J joints.
"""

import csv
import io
from pathlib import Path

import numpy as np

from muybridge.core.errors import DataError
from muybridge.core.extras import import_extra
from muybridge.media.parsing import read_text
from muybridge.media.poses.people import Frames, NumberedFrames, Person


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


def is_deeplabcut(text: str) -> bool:
    """Whether a CSV file is DeepLabCut's, by its first cell."""
    return text.lstrip("\ufeff").startswith("scorer,")


def read_deeplabcut(path: Path) -> Frames:
    """DeepLabCut's table: header lines scorer, [individuals,] bodyparts, coords; then frame and x, y, likelihood."""
    rows = list(csv.reader(io.StringIO(read_text(path).lstrip("\ufeff"))))
    heads = {row[0]: row[1:] for row in rows[:4] if row}
    count = 4 if "individuals" in heads else 3
    try:
        parts, coords = heads["bodyparts"], heads["coords"]
        who = heads.get("individuals", ["1"] * len(parts))
        values = np.array([[float(cell) if cell else np.nan for cell in row[1:]] for row in rows[count:] if row])
        people, joints = list(dict.fromkeys(who)), list(dict.fromkeys(parts))
        columns = {key: column for column, key in enumerate(zip(who, parts, coords, strict=True))}
        frames: list[list[Person]] = [[] for _ in values]
        for person in people:
            mine = [joint for joint in joints if (person, joint, "x") in columns]
            x, y, score = (
                values[:, [columns[person, joint, axis] for joint in mine]] for axis in ("x", "y", "likelihood")
            )
            for frame, row in enumerate(np.stack([x, y], axis=-1)):
                if np.isfinite(row).any():
                    frames[frame].append(Person(row, score[frame], person))
    except (KeyError, ValueError, IndexError) as problem:
        raise DataError(
            f"not a table of DeepLabCut ({problem})",
            expected="the header lines scorer, bodyparts and coords, then x, y and likelihood of each joint",
            hint="export the table again",
            where=path,
        ) from None
    return NumberedFrames(dict(enumerate(frames)), joints)


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
    except (OSError, KeyError) as problem:
        raise DataError(
            f"not an analysis file of SLEAP ({problem})",
            expected="an .h5 file with tracks",
            hint="export it from SLEAP with 'Export Analysis HDF5'; of DeepLabCut, take the .csv beside the .h5",
            where=path,
        ) from None
    by_frame = "frame" in str(dims).partition(",")[0] or (tracks.shape[-1] == 2 and tracks.shape[1] != 2)
    points = tracks if by_frame else tracks.transpose(3, 0, 2, 1)
    if scores is not None and not by_frame:
        scores = scores.transpose(2, 0, 1)
    frames = [
        [
            Person(pose, None if scores is None else scores[number, who].astype(np.float64), str(who))
            for who, pose in enumerate(people.astype(np.float64))
            if np.isfinite(pose).any()
        ]
        for number, people in enumerate(points)
    ]
    return NumberedFrames(dict(enumerate(frames)), names)
