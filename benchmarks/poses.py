"""Seconds to read a recording of 1,000 OpenPose frame files, beside ``json.loads`` of the same files.

OMP_NUM_THREADS=1 python benchmarks/poses.py [--people 2] [--repeats 15]
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import numpy as np
from measure import time_alternating

from muybridge.media.poses import find_poses, read_poses

FRAMES = 1000


def write(folder: Path, people: int) -> None:
    """Frames of BODY_25 in pixels with the digits and the empty lists that OpenPose writes."""
    rng = np.random.default_rng(0)
    body = rng.uniform(0, 300, (people, 25, 3))
    names = ("face", "hand_left", "hand_right")
    empty = {f"{part}_keypoints_{kind}": [] for part in names for kind in ("2d", "3d")} | {"pose_keypoints_3d": []}
    for number in range(FRAMES):
        body[..., :2] += rng.normal(0, 1, (people, 25, 2))
        body[..., 2] = rng.uniform(0.5, 1, (people, 25))
        persons = [
            {"person_id": [-1], "pose_keypoints_2d": [round(value, 3) for value in one.ravel().tolist()], **empty}
            for one in body
        ]
        path = folder / f"clip_{number:012d}_keypoints.json"
        path.write_text(json.dumps({"version": 1.3, "people": persons}))


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), args.people)
        (pose,) = find_poses(Path(folder))
        calls = {
            "json.loads": lambda: [json.loads(file.read_bytes()) for file in pose.files],
            "ours": lambda: read_poses(pose),
        }
        times = time_alternating(calls, args.repeats)
    for name, series in times.items():
        ratio = statistics.median(one / base for one, base in zip(series, times["json.loads"], strict=True))
        print(f"{name:12} {statistics.median(series):8.1f} ms  x{ratio:.2f}")


if __name__ == "__main__":
    main()
