"""Miniatures of benchmarks in the exact form of their official archives, with class names of our own."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from muybridge.data.datasets import KTH, Diving48, FineGym, Jester, Kinetics, SomethingV1, SomethingV2
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


def fabricate_kinetics(root: Path, *, train: Sequence[str] = ("abseiling", "zumba", "air drumming, loud")) -> Kinetics:
    """With classes in quotes, times with fractions, a clip with a replacement, and one that no longer exists."""
    rows = [f'"{label}",-3B32lodo2{place},{place}.0,{place + 10}.0,train,0' for place, label in enumerate(train)]
    rows.append("zumba,GoneGoneGo0,7,17,train,0")
    put(root / "annotations" / "train.csv", "\r\n".join(["label,youtube_id,time_start,time_end,split,is_cc", *rows]))
    put(
        root / "annotations" / "val.csv",
        "label,youtube_id,time_start,time_end,split\nzumba,_Xy-Xy_Xy-1,3,13,val\nabseiling,Bcd0bcd0bc0,12,22,val\n",
    )
    video = write(root.parent / "any.mp4", 50)
    names = [f"{label}/-3B32lodo2{place}_{place:06}_{place + 10:06}" for place, label in enumerate(train)]
    places = [f"train/{name}" for name in names] + ["val/zumba/_Xy-Xy_Xy-1_000003_000013"]
    places += [
        "val/abseiling/Bcd0bcd0bc0_000012_000022",
        "replacement/replacement_for_corrupted_k400/Bcd0bcd0bc0_000012_000022",
    ]
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, root / f"{place}.mp4")
    return Kinetics(root=root)


def fabricate_diving48(
    root: Path, *, train: Sequence[tuple[str, int]] = (("a_b_00000", 0), ("a_b_00001", 2))
) -> Diving48:
    """Three classes of four attributes, one of which never occurs; one file has more frames than are listed."""
    put(
        root / "Diving48_vocab.json",
        json.dumps([["Back", "15som", "05Twis", kind] for kind in ("FREE", "PIKE", "TUCK")]),
    )
    listed = {"train": train, "test": [("cd_00000", 0), ("cd_00003", 2)]}
    video = write(root.parent / "any.mp4", 50)
    (root / "rgb").mkdir()
    for part, items in listed.items():
        entries = [{"vid_name": name, "label": label, "start_frame": 0, "end_frame": 49} for name, label in items]
        put(root / f"Diving48_V2_{part}.json", json.dumps(entries))
        for name, _ in items:
            shutil.copy(video, root / "rgb" / f"{name}.mp4")
    return Diving48(root=root)


def fabricate_finegym(
    root: Path,
    *,
    train: Sequence[tuple[str, str, int]] = (
        ("ab_E_123456", "A_0000_0001", 0),
        ("ab_E_123456", "A_0001_0002", 2),
        ("-val-val-va", "A_0000_0001", 1),
    ),
) -> FineGym:
    """Long videos with one event each, which begins after half a second, of two elements; an element has two stages."""
    names = ["(VT) round-off", "(FX) switch leap, (1 turn)", "(FX) salto backward tucked"]
    lines = [f"Clabel: {label}; set: {label}; Glabel: {7 + label}; {name}" for label, name in enumerate(names)]
    put(root / "gym99_categories.txt", "\n".join(lines) + "\n")
    segments = {
        "A_0000_0001": {"stages": 1, "timestamps": [[0.0, 0.8]]},
        "A_0001_0002": {"stages": 2, "timestamps": [[0.8, 1.2], [1.2, 1.6]]},
    }
    event = {"event": 1, "timestamps": [[0.5, 2.5]], "segments": segments}
    test = [("0LtLS9wROrk", "A_0000_0001", 0), ("GoneGoneGo0", "A_0001_0002", 2)]
    videos = {video for video, _, _ in (*train, *test)}
    info = {video: {"E_000000_000002": event, "E_000003_000004": event | {"segments": None}} for video in videos}
    put(root / "finegym_annotation_info_v1.0.json", json.dumps(info))
    for name, elements in (("train_element_v1.0", train), ("val_element", test)):
        lines = [f"{video}_E_000000_000002_{element} {label}" for video, element, label in elements]
        put(root / f"gym99_{name}.txt", "\n".join(lines) + "\n")
    file = write(root.parent / "any.mp4", 100)
    (root / "videos").mkdir()
    for video in videos - {"GoneGoneGo0"}:
        shutil.copy(file, root / "videos" / f"{video}.mp4")
    return FineGym(root=root)
