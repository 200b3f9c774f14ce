"""Miniatures of benchmarks in the exact form of their official archives, with class names of our own."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from muybridge.data.datasets import KTH, Jester, SomethingV1, SomethingV2
from tests.videos import write

SWAPPED = (
    *("Pulling something from left to right", "Pulling something from right to left"),
    *("Pushing something from left to right", "Pushing something from right to left"),
    *("Turning the camera left while filming something", "Turning the camera right while filming something"),
)


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def something_names() -> list[str]:
    """174 sorted names; those with a side have the same numbers as among the real ones: 86, 93, 166."""
    names = [f"Moving something, number {number:02}" for number in range(86)]
    names += [f"Punching something {number}" for number in range(5)]
    names += [f"Putting something {number:02}" for number in range(71)]
    names += [f"Unfolding something {number}" for number in range(6)]
    return sorted([*names, *SWAPPED])


def write_frames(folder: Path, frames: int = 6) -> None:
    folder.mkdir(parents=True)
    image = Image.fromarray(np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3))
    for number in range(1, frames + 1):
        image.save(folder / f"{number:05}.jpg")


def fabricate_something_v1(
    root: Path, *, frames: int = 6, train: Sequence[tuple[int, int]] = ((100218, 86), (24413, 0), (77, 173))
) -> SomethingV1:
    """``train`` has numbers of videos and labels in alphabetical order of the classes."""
    names, test = something_names(), [(5, 86), (6, 172)]
    put(root / "something-something-v1-labels.csv", "\n".join([*names[50:], *names[:50]]) + "\n")
    for part, items in (("train", train), ("validation", test)):
        lines = [f"{number};{names[label]}" for number, label in items]
        put(root / f"something-something-v1-{part}.csv", "\n".join(lines) + "\n")
    put(root / "something-something-v1-test.csv", "1\n2\n")
    for number, _ in (*train, *test):
        write_frames(root / "20bn-something-something-v1" / str(number), frames)
    return SomethingV1(root=root)


def fabricate_something_v2(
    root: Path, *, frames: int = 0, train: Sequence[tuple[int, int]] = ((78687, 86), (42326, 0), (100904, 173))
) -> SomethingV2:
    """With ``frames`` the videos are folders of so many images, else files."""
    names, test = something_names(), [(74225, 86), (116154, 172)]
    put(root / "something-something-v2-labels.json", json.dumps({name: str(n) for n, name in enumerate(names)}))
    for part, items in (("train", train), ("validation", test)):
        listed = [
            {
                "id": str(number),
                "label": names[label].replace("something", "a cup, or a spoon"),
                "template": names[label].replace("something", "[something]"),
                "placeholders": ["a cup, or a spoon"],
            }
            for number, label in items
        ]
        put(root / f"something-something-v2-{part}.json", json.dumps(listed, indent=1))
    put(root / "something-something-v2-test.json", json.dumps([{"id": "1"}]))
    folder = root / "20bn-something-something-v2"
    folder.mkdir(exist_ok=True)
    video = None if frames else write(root.parent / "any.webm", 12, name="vp9.webm")
    for number, _ in (*train, *test):
        write_frames(folder / str(number), frames) if video is None else shutil.copy(video, folder / f"{number}.webm")
    return SomethingV2(root=root)


GESTURES = (
    *("Swiping Left", "Swiping Right", "Waving", "Sliding Two Fingers Left", "Sliding Two Fingers Right"),
    *("Turning Hand Clockwise", "Turning Hand Counterclockwise", "No gesture"),
)


def fabricate_jester(root: Path) -> Jester:
    put(root / "jester-v1-labels.csv", "\n".join(GESTURES) + "\n")
    put(root / "jester-v1-train.csv", "34870;Swiping Left\n56557;No gesture\n129112;Waving\n")
    put(root / "jester-v1-validation.csv", "9223;Swiping Right\n107090;No gesture\n")
    put(root / "jester-v1-test.csv", "78336\n")
    for number in (34870, 56557, 129112, 9223, 107090):
        write_frames(root / "20bn-jester-v1" / str(number))
    return Jester(root=root)


def fabricate_kth(root: Path) -> KTH:
    """Five people, some of each part; one video was never published, and one is shorter than its ranges."""
    lines = ["The people of the three parts", "Training:   person11, 12, 13"]
    folder = root / "boxing"
    folder.mkdir(parents=True)
    video = write(root.parent / "any.avi", 40, name="mpeg4.avi")
    for person in (1, 2, 11, 12, 22):
        for action in ("boxing", "walking"):
            for scenario in (1, 4) if person == 1 else (1,):
                name = f"person{person:02}_{action}_d{scenario}"
                lines.append(f"{name}\t\tframes\t1-12, 13-24, 20-40")
                shutil.copy(video, folder / f"{name}_uncomp.avi")
    write(folder / "person01_boxing_d4_uncomp.avi", 26, name="mpeg4.avi")
    lines.append("person13_handclapping_d3\t*missing*")
    put(root / "00sequences.txt", "\r\n".join(lines) + "\r\n")
    return KTH(root=root, val_groups=("person01",))
