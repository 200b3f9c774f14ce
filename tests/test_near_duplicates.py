"""Recordings that are (nearly) the same on both sides of a split: what is reported, and what is not."""

import sys
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from muybridge import cli
from muybridge.baseline import near_duplicates
from muybridge.baseline.descriptors import Descriptors, describe_skeleton
from muybridge.baseline.measure import measure_baselines
from muybridge.baseline.near_duplicates import describe_near_duplicates, find_near_duplicates
from muybridge.core.contracts import SkeletonData
from muybridge.core.skeletons import LAYOUTS, unnamed_layout
from muybridge.core.types import Record
from muybridge.data.datasets import SBU, UTDMHAD, MSRAction3D, VideoFolder
from muybridge.data.skeleton_augment import mirror, resample
from tests.skeletons import figure, figures, sequence

KINECT = SkeletonData(LAYOUTS["kinect20"])


def describe(bodies: Sequence[np.ndarray], holds: SkeletonData = KINECT) -> list[Descriptors]:
    return [describe_skeleton(sequence(body), holds, Record("x", Path("x"), 0, "")) for body in bodies]


def copies(bodies: Sequence[np.ndarray], holds: SkeletonData = KINECT) -> list[tuple[int, ...]]:
    found = find_near_duplicates(describe(bodies, holds), np.arange(len(bodies)), holds)
    return [tuple(pair) for pair in found.copies.tolist()]


def turned(joints: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])


# Skeletons

WAVE = figure("kinect20")
OTHERS = [figure("kinect20", action, person) for action in ("wave left hand", "jump") for person in (2, 3)]


def test_takes_of_others_are_no_copies():
    assert copies([WAVE, figure("kinect20", take=2), *OTHERS]) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda joints: 1000 * joints + [300, 5, -20],
        lambda joints: joints.round(4),
        lambda joints: turned(joints, 40),
        lambda joints: resample(sequence(joints), 0.5).joints[:, 0].numpy(),
        lambda joints: mirror(sequence(joints), KINECT.layout).joints[:, 0].numpy(),
        lambda joints: joints * [-1, 1, 1],
        lambda joints: joints[len(joints) // 3 :],
    ],
    ids=["unit and place", "digits", "turned", "frame rate", "mirrored and relabelled", "mirrored", "cut"],
)
def test_copies_of_a_sequence(change):
    assert copies([WAVE, *OTHERS, change(WAVE)]) == [(0, 5)]


def test_mirrored_pairs_of_people():
    holds = SkeletonData(KINECT.layout, people=2)
    pair = figures("kinect20")
    assert copies([pair, mirror(sequence(pair), KINECT.layout).joints.numpy(), 1.3 * pair[:, ::-1]], holds) == [(0, 1)]


def test_copies_in_two_dimensions_and_without_a_layout():
    holds = SkeletonData(unnamed_layout(20), coordinates=2)
    flat = [joints[..., :2] for joints in (WAVE, *OTHERS)]
    assert copies([*flat, 2 * flat[0] * [-1, 1] + 3], holds) == [(0, 5)]


def test_windows_that_overlap_share_a_source():
    found = find_near_duplicates(describe([WAVE[:24], WAVE[18:], *OTHERS]), np.zeros(6), KINECT)
    assert (found.copies.tolist(), found.pieces.tolist()) == ([], [[0, 1]])


def test_notices_about_skeletons():
    bodies = [WAVE, OTHERS[0], OTHERS[2], WAVE + 1, OTHERS[3]]
    records = [Record(name, Path(name), label, "") for name, label in zip("abcde", (0, 0, 1, 1, 1), strict=True)]
    notices = describe_near_duplicates(records[:3], records[3:], describe(bodies), KINECT)
    assert notices == [
        "1 of 2 test recordings are copies of training recordings, or have frames in common with them, so the test is "
        "too easy: a = d; remove them, or keep those of one source in one part with --group FILE.csv (columns file and "
        "group)",
        "copies are in different classes: a = d; remove those that are wrong",
    ]


def test_too_many_recordings_are_not_compared(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(near_duplicates, "MAX_COMPARED", 1)
    records = [Record("a", Path("a"), 0, ""), Record("b", Path("b"), 0, "")]
    (notice,) = describe_near_duplicates(records[:1], records[1:], describe([WAVE, WAVE]), KINECT)
    assert notice == "recordings were not compared with each other, as there are more than 1"


@pytest.mark.parametrize("config", [MSRAction3D(), SBU(), UTDMHAD()], ids=lambda config: config.name)
def test_published_splits_are_clean(real_data, config):
    """Every fourth recording: people, not recordings, repeat."""
    parts = [config.index(split).records[::4] for split in ("train", "test")]
    described = [describe_skeleton(config.open(record), config.holds(), record) for part in parts for record in part]
    assert describe_near_duplicates(parts[0], parts[1], described, config.holds()) == []


# Videos


def write_clips(root: Path, films: int, clips: int, *, one_place: bool = False) -> Path:
    """Clips of films, ``class/f{film}_{clip}.mp4``; in each film one fixed camera sees a patch that moves about."""
    for film in range(films):
        scene = np.random.default_rng(0 if one_place else film).integers(30, 220, (6, 8)).repeat(8, 0).repeat(8, 1)
        walk = np.random.default_rng(100 + film).integers(0, 36, (clips, 2, 2))
        for clip in range(clips):
            path = root / "ab"[film % 2] / f"f{film}_{clip}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            places = np.linspace(walk[clip][0], walk[clip][1], 12).round().astype(int)
            write_video(path, [with_patch(scene, top, left) for top, left in places])
    return root


def with_patch(scene: np.ndarray, top: int, left: int) -> np.ndarray:
    picture = scene.astype(np.uint8).copy()
    picture[top : top + 12, left : left + 10] = 255
    return picture


def write_video(path: Path, pictures: Sequence[np.ndarray], quality: int = 20) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12, options={"crf": str(quality)})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape, "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray8")))
        container.mux(stream.encode(None))


def notices(data: VideoFolder) -> tuple[str, ...]:
    return measure_baselines(data).notices


def test_clips_cut_from_one_film(tmp_path: Path):
    """Split by the number of the clip, as names suggest, all films are on both sides; by the film, none is."""
    root = write_clips(tmp_path, films=6, clips=3)
    (notice,) = notices(VideoFolder(root=root, group=r"_(\d)", test_groups=("2",), val_fraction=0))
    assert notice.startswith("6 of 6 test recordings show exactly the scene of training recordings, as clips cut from")
    assert "a/f0_0.mp4 = a/f0_2.mp4, " in notice
    assert notice.endswith("keep those of one source in one part with --group FILE.csv (columns file and group)")
    assert notices(VideoFolder(root=root, group=r"(f\d)_", test_groups=("f0", "f1"), val_fraction=0)) == ()


def test_one_place_for_everybody_is_no_film(tmp_path: Path):
    root = write_clips(tmp_path, films=6, clips=2, one_place=True)
    assert notices(VideoFolder(root=root, group=r"_(\d)", test_groups=("1",), val_fraction=0)) == ()


def test_reencoded_copies(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """In another quality and size, in both parts and in two classes; said by the command."""
    root = write_clips(tmp_path, films=6, clips=2, one_place=True)
    with av.open(str(root / "a" / "f0_0.mp4")) as container:
        pictures = [frame.to_ndarray(format="gray8") for frame in container.decode(video=0)]
    write_video(root / "b" / "copy_1.mp4", [picture.repeat(2, 0).repeat(2, 1) for picture in pictures], quality=35)
    monkeypatch.setattr(
        sys, "argv", ["muybridge", "baseline", str(root), "--group", r"_(\d)", "--set", 'data.test_groups=["1"]']
    )
    with pytest.raises(SystemExit):
        cli.main()
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 7 test recordings are copies of training recordings, or have frames in common" in said
    assert "so the test is too easy: a/f0_0.mp4 = b/copy_1.mp4; remove them" in said
    assert "copies are in different classes: a/f0_0.mp4 = b/copy_1.mp4; remove those that are wrong" in said


def test_a_movement_and_its_reverse_are_no_copies(tmp_path: Path):
    scene = np.random.default_rng(0).integers(30, 200, (6, 8)).repeat(8, 0).repeat(8, 1)
    pictures = [with_patch(scene, 2 * step, 20) for step in range(12)]
    for label, order in (("a", 1), ("b", -1)):
        (tmp_path / label).mkdir()
        for take in range(2):
            write_video(tmp_path / label / f"{take}.mp4", pictures[::order], quality=20 + 5 * take)
    data = VideoFolder(root=tmp_path, group=r"(\d)", test_groups=("1",), val_fraction=0)
    (notice,) = notices(data)
    assert notice.startswith("2 of 2 test recordings are copies")
    assert ": a/0.mp4 = a/1.mp4, b/0.mp4 = b/1.mp4; remove" in notice


def test_dark_videos_show_no_scene():
    dark = np.zeros((2, 3, 16, 16), np.float32)
    described = [Descriptors({}, pictures=one, movement=np.zeros(8, np.float32)) for one in dark]
    found = find_near_duplicates(described, np.array([0, 1]), VideoFolder(root=Path("x")).holds())
    assert not len(found.copies)
    assert not len(found.scenes)
