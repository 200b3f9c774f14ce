"""Pictures: what is in the numbers is on the paper, and files are whole or absent."""

import builtins
import errno
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import av
import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from muybridge.core.errors import MissingExtraError, MuybridgeWarning, RunError
from muybridge.core.skeletons import LAYOUTS, unnamed_layout
from muybridge.core.types import SkeletonSequence
from muybridge.media.skeleton import read_skeleton
from muybridge.viz.animation import animate_skeleton
from muybridge.viz.attention import draw_attention_matrix
from muybridge.viz.clip import animate_clip, draw_clip_sheet, heat_overlay
from muybridge.viz.confusion import draw_confusion
from muybridge.viz.curves import draw_curves
from muybridge.viz.skeleton import draw_skeleton_sheet
from muybridge.viz.skeleton_axes import even_shares, make_scene
from muybridge.viz.style import clean_text

KINECT = LAYOUTS["kinect20"]
# (x, y) of a person 1.7 m high, y up, in the order of KINECT.joints.
ARMS = [(-0.2, 1.45), (-0.3, 1.2), (-0.35, 1.0), (-0.36, 0.9), (0.2, 1.45), (0.3, 1.2), (0.35, 1.0), (0.36, 0.9)]
LEGS = [(-0.1, 0.95), (-0.12, 0.5), (-0.12, 0.1), (-0.2, 0), (0.1, 0.95), (0.12, 0.5), (0.12, 0.1), (0.2, 0)]
POSE = torch.tensor([(0, 1.7), (0, 1.5), (0, 1.2), (0, 1.0), *ARMS, *LEGS])
HAND, OTHER_HAND = KINECT.joints.index("right_hand"), KINECT.joints.index("left_hand")


def standing(frames: int = 12, people: int = 1) -> SkeletonSequence:
    joints = torch.zeros(frames, people, 20, 3)
    joints[..., :2] = POSE
    joints[..., 0] += 1.2 * torch.arange(people)[:, None]
    joints[..., 2] = 3.0
    return SkeletonSequence(joints, torch.ones(frames, people, dtype=torch.bool))


def walking(frames: int = 12, people: int = 1) -> SkeletonSequence:
    sequence = standing(frames, people)
    sequence.joints[..., 0] += torch.linspace(0, 0.8, frames)[:, None, None]
    return sequence


def favor(joint: int, frames: int = 12, people: int = 1, share: float = 0.5) -> torch.Tensor:
    alpha = torch.full((frames, people, 20), (1 - share) / (people * 20 - 1))
    alpha[:, 0, joint] = share
    return alpha


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def count_color(image: np.ndarray, color: tuple[int, int, int], tolerance: int = 30) -> int:
    return int((np.abs(image - np.array(color)).max(axis=-1) <= tolerance).sum())


def words(path: Path) -> list[str]:
    return [element.text or "" for element in ElementTree.parse(path).iter() if element.tag.endswith("}text")]


def epoch(number: int, stage: str = "", **train: float) -> dict:
    return {"event": "epoch", "stage": stage, "epoch": number, "lr": 0.01, "train": train}


BLUE, GREEN = (0, 114, 178), (0, 158, 115)


# Learning curves


def test_curves_name_terms_stages_and_last_values(tmp_path: Path) -> None:
    rows: list[dict] = [{"event": "start"}]
    rows += [epoch(e, "A1", loss=2.0 / e, cross_entropy=1.9 / e, weights_l1=0.1 / e, top1=20.0 * e) for e in (1, 2, 3)]
    rows += [epoch(e, "D", loss=0.5, cross_entropy=0.25, weights_l1=0.25, top1=90.0) for e in (1, 2, 3)]
    rows[-1]["val"] = {"loss": 0.75, "top1": 81.25, "count": 40}
    draw_curves(rows, tmp_path / "curves.svg", title="a run")
    text = words(tmp_path / "curves.svg")
    expected = ["a run", "A1", "D", "sum of terms, train  0.5", "sum of terms, val  0.75", "cross entropy, train  0.25"]
    expected += [
        "weights l1, train  0.25",
        "top-1, train  90.0",
        "top-1, val  81.2",
        "loss (log scale)",
        "learning rate",
    ]
    assert set(expected) <= set(text)
    assert not any("count" in word for word in text)


def test_a_lone_loss_term_is_drawn_once_and_from_zero(tmp_path: Path) -> None:
    draw_curves([epoch(e, loss=1.0 / e, cross_entropy=1.0 / e) for e in (1, 2)], tmp_path / "curves.svg")
    text = words(tmp_path / "curves.svg")
    assert [word for word in text if "train" in word] == ["cross entropy, train  0.5"]
    assert "loss" in text
    assert "accuracy in %" not in text


def test_the_later_row_of_a_resumed_epoch_counts(tmp_path: Path) -> None:
    draw_curves([epoch(1, loss=9.0), epoch(2, loss=8.0), epoch(2, loss=7.0)], tmp_path / "twice.png")
    draw_curves([epoch(1, loss=9.0), epoch(2, loss=7.0)], tmp_path / "once.png")
    assert (pixels(tmp_path / "twice.png") == pixels(tmp_path / "once.png")).all()


def test_a_loss_that_is_no_number_leaves_a_gap(tmp_path: Path) -> None:
    draw_curves([epoch(1, loss=3.0), epoch(2, loss=float("nan")), epoch(3, loss=float("inf"))], tmp_path / "curves.svg")
    assert "loss, train  3" in words(tmp_path / "curves.svg")


def test_a_journal_without_an_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished epoch"):
        draw_curves([{"event": "start"}], tmp_path / "curves.png")


# Confusion matrices


def test_confusion_says_percentages_recall_and_accuracy(tmp_path: Path) -> None:
    matrix = np.array([[3, 1, 0], [0, 400, 1], [0, 0, 0]])
    draw_confusion(matrix, ["wave", "jump $5 or $6", "sit"], tmp_path / "confusion.svg", title="test")
    text = words(tmp_path / "confusion.svg")
    assert "test · top-1 99.5 % of 405 samples" in text
    assert {"75", "25", "100", "<1", "75 % of 4", "100 % of 401", "no samples"} <= set(text)
    assert text.count("jump $5 or $6") == 2  # row and column


def test_true_classes_are_rows(tmp_path: Path) -> None:
    upper, lower = np.eye(8, dtype=int) * 10, np.eye(8, dtype=int) * 10
    upper[0, 7] = lower[7, 0] = 30
    names = [f"class {place}" for place in range(8)]
    draw_confusion(upper, names, tmp_path / "upper.png")
    draw_confusion(lower, names, tmp_path / "lower.png")
    orange = mpl.colormaps["Oranges"](0.12 + 0.83 * 0.75)[:3]
    at = np.nonzero(np.abs(pixels(tmp_path / "upper.png") - 255 * np.array(orange)).max(axis=-1) < 12)
    below = np.nonzero(np.abs(pixels(tmp_path / "lower.png") - 255 * np.array(orange)).max(axis=-1) < 12)
    assert np.median(at[0]) < np.median(below[0])
    assert np.median(at[1]) > np.median(below[1])


@pytest.mark.parametrize("classes", [2, 20, 60, 174])
def test_confusion_fits_any_number_of_classes(classes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.poisson(0.5, (classes, classes)) + 20 * np.eye(classes, dtype=int)
    matrix[1, 0] = 50
    figures = collect_figures(monkeypatch)
    draw_confusion(matrix, [f"doing something rather long {place}" for place in range(classes)], tmp_path / "c.png")
    assert_nothing_clipped(figures[-1])
    text = [artist.get_text() for artist in texts(figures[-1])]
    listed = any("doing something rather long 1 (2) → doing something rather long 0 (1)" in word for word in text)
    assert listed == (classes > 30)


def collect_figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (figures.append(self), savefig(self, *a, **k))[1])
    return figures


def texts(figure: Figure) -> list[Text]:
    return [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]


def assert_nothing_clipped(figure: Figure) -> None:
    """Every word lies on the paper."""
    width, height = figure.bbox.width, figure.bbox.height
    for artist in texts(figure):
        if artist.get_text() and artist.get_visible():
            box = artist.get_window_extent()
            inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
            assert inside, (artist.get_text(), box, width, height)


# Skeletons


def test_a_joint_with_more_attention_is_larger_and_darker(tmp_path: Path) -> None:
    def ink_near_hands(joint: int) -> tuple[int, int]:
        draw_skeleton_sheet(standing(1), KINECT, tmp_path / "sheet.png", alpha=favor(joint, 1))
        image = pixels(tmp_path / "sheet.png")
        dark = image.max(axis=-1) < 110
        rows, columns = np.nonzero(np.abs(image - np.array(BLUE)).max(axis=-1) < 25)
        middle = (columns.min() + columns.max()) // 2  # the bones' middle; the key to the right has none of this ink
        left, right = dark[:, columns.min() - 20 : middle], dark[:, middle : columns.max() + 20]
        legs = rows.max() - rows.min()
        band = slice(rows.min() + legs // 3, rows.min() + 2 * legs // 3)
        return int(left[band].sum()), int(right[band].sum())

    left, right = ink_near_hands(HAND)  # the person faces us
    assert left > 2 * right
    left, right = ink_near_hands(OTHER_HAND)
    assert right > 2 * left


def test_disc_area_follows_the_share_and_any_scale_of_attention_draws_the_same() -> None:
    alpha = favor(HAND, 1, share=0.2)
    scene = make_scene(standing(1), KINECT, alpha, None)
    assert scene.shares is not None
    assert scene.shares[0, 0, HAND] == pytest.approx(4.0)  # a fifth among twenty joints
    areas, _ = scene.disc(np.array([1.0, 2.0, 4.0]))
    assert areas[2] / areas[0] == pytest.approx(4.0)
    scaled = make_scene(standing(1), KINECT, alpha * 20, None)
    assert np.allclose(even_shares(alpha.double().numpy()), scaled.shares)  # type: ignore[arg-type]


@pytest.mark.parametrize(("up", "side"), [("y", -1), ("-y", 1), ("z", 1), ("-z", -1)])
def test_the_head_is_on_top_and_the_camera_in_front_whatever_the_axes(up: str, side: int) -> None:
    # Right is ahead x up in right-handed axes: z x y = -x, z x -y = x, y x z = x, y x -z = -x.
    sequence = walking()
    axis, sign = "xyz".index(up[-1]), -1 if up.startswith("-") else 1
    joints = torch.full_like(sequence.joints, 3.0)
    joints[..., 0], joints[..., axis] = sequence.joints[..., 0], sign * sequence.joints[..., 1]
    turned = SkeletonSequence(joints, sequence.present)
    for direction in (None, up):
        points = make_scene(turned, KINECT, None, direction).points
        assert np.allclose(points, sequence.joints[..., :2].numpy() * (side, 1))
    assert np.allclose(
        make_scene(
            SkeletonSequence(-sequence.joints[..., :2], sequence.present), unnamed_layout(20), None, None
        ).points[..., 1],
        sequence.joints[..., 1].numpy(),
    )  # image keypoints count downwards


def test_an_absent_person_is_not_drawn(tmp_path: Path) -> None:
    sequence = walking(8, 2)
    draw_skeleton_sheet(sequence, KINECT, tmp_path / "two.png")
    sequence.joints[:, 1], sequence.present[:, 1] = 0, False
    draw_skeleton_sheet(sequence, KINECT, tmp_path / "one.png")
    two, one = pixels(tmp_path / "two.png"), pixels(tmp_path / "one.png")
    assert count_color(two, GREEN) > 10 * count_color(one, GREEN)  # what is left is its line in the key
    assert count_color(one, BLUE) > 1000
    nobody = SkeletonSequence(torch.zeros(3, 2, 20, 3), torch.zeros(3, 2, dtype=torch.bool))
    draw_skeleton_sheet(nobody, KINECT, tmp_path / "nobody.png")
    assert count_color(pixels(tmp_path / "nobody.png"), BLUE) < 0.1 * count_color(one, BLUE)


@pytest.mark.parametrize(("frames", "people"), [(1, 1), (5, 2), (400, 1)])
def test_sheet_labels_stay_on_the_paper(
    frames: int, people: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = collect_figures(monkeypatch)
    curve = torch.linspace(0, 0.00123, frames)
    draw_skeleton_sheet(
        walking(frames, people),
        KINECT,
        tmp_path / "sheet.png",
        alpha=favor(HAND, frames, people),
        beta=curve,
        derivative=torch.zeros(frames),
        title="a03_s09_e02: horizontal arm wave; predicted: two hand wave (97 %), and some more words to say",
        fps=30.0,
    )
    assert_nothing_clipped(figures[-1])
    text = [artist.get_text() for artist in texts(figures[-1])]
    assert sum(word.startswith("frame ") for word in text) >= min(frames, 4)
    assert any(word.endswith(" s") for word in text)


def test_a_layout_without_bones_draws_points_only(tmp_path: Path) -> None:
    draw_skeleton_sheet(walking(4), unnamed_layout(20), tmp_path / "points.png")
    draw_skeleton_sheet(walking(4), KINECT, tmp_path / "bones.png")
    points = count_color(pixels(tmp_path / "points.png"), BLUE)
    assert 0 < points < 0.5 * count_color(pixels(tmp_path / "bones.png"), BLUE)


def test_frame_attention_drives_the_strip(tmp_path: Path) -> None:
    beta = torch.zeros(40)
    beta[30:] = 1.0
    draw_skeleton_sheet(walking(40), KINECT, tmp_path / "sheet.png", beta=beta)
    image = pixels(tmp_path / "sheet.png")
    gray = np.abs(image - 204).max(axis=-1) < 3  # the filling under the curve
    filled = np.flatnonzero(gray.sum(axis=0) > 40)
    assert len(filled) > 0.1 * image.shape[1]
    assert filled.min() > 0.7 * image.shape[1]


# Videos


def test_a_gif_has_every_frame_at_the_right_speed_and_moves(tmp_path: Path) -> None:
    path = tmp_path / "clip.gif"
    animate_skeleton(
        walking(12, 2), KINECT, path, alpha=favor(HAND, 12, 2), beta=torch.ones(12), fps=30.0, title="walk"
    )
    with Image.open(path) as clip:
        assert clip.n_frames == 12  # type: ignore[attr-defined]
        durations, middles = [], []
        for frame in range(12):
            clip.seek(frame)
            durations.append(clip.info["duration"])
            image = np.asarray(clip.convert("RGB")).astype(int)
            blue = np.abs(image - np.array(BLUE)).max(axis=-1) < 25
            middles.append(np.nonzero(blue[: len(blue) * 3 // 4, : image.shape[1] * 3 // 4])[1].mean())
            assert (image[2, 2] == 255).all()
    assert sum(durations) == 400
    assert (np.diff(middles) < 0).all()  # towards the right hand of people who face us


def test_a_long_title_of_an_animation_is_broken_into_lines(tmp_path: Path) -> None:
    for name, title in (("short.gif", "wave"), ("long.gif", "horizontal arm wave " * 6)):
        animate_skeleton(standing(2), KINECT, tmp_path / name, title=title)
    with Image.open(tmp_path / "short.gif") as short, Image.open(tmp_path / "long.gif") as long:
        assert long.width == short.width
        assert long.height > short.height + 20


def test_a_long_gif_skips_frames_and_keeps_pace(tmp_path: Path) -> None:
    animate_skeleton(walking(301), KINECT, tmp_path / "clip.gif", fps=30.0)
    with Image.open(tmp_path / "clip.gif") as clip:
        assert clip.n_frames == 151  # type: ignore[attr-defined]
        assert clip.info["duration"] == 70


def test_an_mp4_has_every_frame(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    animate_skeleton(walking(9), KINECT, tmp_path / "clip.mp4", fps=15.0)
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in clip.decode(video=0)]
        assert clip.streams.video[0].average_rate == 15
    assert len(frames) == 9
    assert count_color(frames[0], BLUE, 40) > 500
    assert np.abs(frames[0] - frames[-1]).max() > 100


def test_an_mp4_without_pyav_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = builtins.__import__

    def without_av(name: str, *rest: object) -> object:
        if name == "av":
            raise ImportError(name)
        return honest(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(MissingExtraError, match=r"pip install av, or let the file name end in \.gif"):
        animate_skeleton(walking(2), KINECT, tmp_path / "clip.mp4")
    assert not list(tmp_path.iterdir())


def test_a_fast_gif_skips_frames_that_players_would_slow_down(tmp_path: Path) -> None:
    animate_skeleton(standing(24), KINECT, tmp_path / "fast.gif", beta=torch.arange(24.0), fps=120.0)
    with Image.open(tmp_path / "fast.gif") as animation:
        assert animation.n_frames == 8  # type: ignore[attr-defined]
        durations = []
        for frame in range(8):
            animation.seek(frame)
            durations.append(animation.info["duration"])
    assert min(durations) >= 20
    assert sum(durations) == 200


# Names and shapes of any kind

NAMES = ["a$b$", "x_{^", "two\nlines", "\x1b[31mred\x00", "<b>&'", "", "\udcff", "w" * 400, "مشي"]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_class_names_of_any_kind_are_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"confusion.{suffix}"
    draw_confusion(np.eye(len(NAMES), dtype=int), NAMES, path, title="$\n" + "q" * 200)
    assert path.stat().st_size > 5000
    if suffix == "svg":
        expected = {"a$b$", "x_{^", "two lines", "[31mred", "<b>&'", "\N{REPLACEMENT CHARACTER}", "w" * 35 + "…"}
        assert expected <= set(words(path))


def test_characters_without_a_font_are_noticed() -> None:
    with pytest.warns(MuybridgeWarning, match="no installed font has EGYPTIAN characters such as \U00013000"):
        assert clean_text("\U00013000 walk\t fast") == "\U00013000 walk fast"


def test_a_users_matplotlib_settings_change_nothing(tmp_path: Path) -> None:
    draw_confusion(np.eye(2, dtype=int), ["a", "b"], tmp_path / "plain.png")
    with mpl.rc_context({"text.usetex": True, "figure.facecolor": "black", "axes.grid": True, "font.size": 30}):
        draw_confusion(np.eye(2, dtype=int), ["a", "b"], tmp_path / "theirs.png")
    assert (pixels(tmp_path / "plain.png") == pixels(tmp_path / "theirs.png")).all()


@pytest.mark.parametrize(("height", "width"), [(8, 4000), (4000, 8), (33, 47)])
def test_frames_of_any_shape_make_images_of_some_size(tmp_path: Path, height: int, width: int) -> None:
    images, heat = np.zeros((2, height, width, 3), dtype=np.uint8), {"walk": np.ones((2, 3, 3))}
    draw_clip_sheet(images, heat, tmp_path / "sheet.png", title="w" * 300)
    animate_clip(images, heat, tmp_path / "animation.mp4", fps=5.0)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert max(sheet.size) < 1500
    with av.open(str(tmp_path / "animation.mp4")) as animation:
        stream = animation.streams.video[0]
        assert (stream.width % 2, stream.height % 2) == (0, 0)
        assert max(stream.width, stream.height) < 1500


def test_heat_is_bright_where_it_is_highest_and_absent_below_zero() -> None:
    images = np.full((1, 40, 40, 3), 200, dtype=np.uint8)
    overlay = heat_overlay(images, np.array([[[-1.0, 0.0], [0.0, 4.0]]]), 4.0)
    assert overlay[0, 0, 0].tolist() == [150, 150, 150]  # gray, three quarters as bright
    peak = mpl.colormaps["inferno"](1.0)[:3]
    assert overlay[0, -1, -1].tolist() == pytest.approx([0.2 * 150 + 0.8 * 255 * part for part in peak], abs=1)


# The matrix of attention


def test_the_matrix_names_joints_people_and_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = collect_figures(monkeypatch)
    alpha = favor(HAND, 30, 2, share=0.25)
    draw_attention_matrix(alpha, torch.rand(30), KINECT.joints, tmp_path / "matrix.png", title="wave")
    assert_nothing_clipped(figures[-1])
    text = [artist.get_text() for artist in texts(figures[-1])]
    assert {"right hand", "left foot", "person 1", "person 2", "10.0"} <= set(
        text
    )  # a quarter among forty joints is ten shares
    draw_attention_matrix(alpha.roll(1, dims=2), None, KINECT.joints, tmp_path / "rolled.svg")
    assert "frame\nattention β" not in words(tmp_path / "rolled.svg")


# Files and global state

Draw = Callable[[Path], None]
DRAWINGS: dict[str, Draw] = {
    "curves.png": lambda path: draw_curves([epoch(1, loss=1.0)], path),
    "confusion.png": lambda path: draw_confusion(np.eye(3, dtype=int), ["a", "b", "c"], path),
    "sheet.png": lambda path: draw_skeleton_sheet(walking(3), KINECT, path),
    "matrix.png": lambda path: draw_attention_matrix(torch.rand(3, 1, 20), None, KINECT.joints, path),
    "clip.gif": lambda path: animate_skeleton(walking(3), KINECT, path),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_files_are_whole_or_absent(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new folder" / name
    DRAWINGS[name](path)
    assert [file.name for file in path.parent.iterdir()] == [name]
    before = path.read_bytes()

    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match="No space left on device"):
        DRAWINGS[name](path)
    assert [file.name for file in path.parent.iterdir()] == [name]
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", DRAWINGS)
def test_an_unknown_kind_of_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"suffix '\.docx' was requested"):
        DRAWINGS[name](tmp_path / "image.docx")


def test_pyplot_is_never_touched_and_settings_come_back(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    for name, draw in DRAWINGS.items():
        draw(tmp_path / name)
    assert dict(mpl.rcParams) == settings
    modules = "animation, attention, clip, confusion, curves, skeleton"
    code = f"import sys; from muybridge.viz import {modules}; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_real_recordings_stand_upright(real_data: Path) -> None:
    recording = read_skeleton(real_data / "sbu/s01s02/03/001/skeleton_pos.txt")
    points = make_scene(recording, LAYOUTS["sbu15"], None, None).points
    head, foot = points[:, :, 0, 1], points[:, :, 11, 1]
    assert (head > foot).all()
    height, width = np.ptp(points[0, 0], axis=0)[::-1]
    assert height > 2 * width
