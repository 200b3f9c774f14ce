"""Dense trajectories against their definition point by point, what is left out, and the motion of the camera."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from typer.testing import CliRunner

from muybridge.cli import app
from muybridge.core.errors import DataError, RecipeError, RunError
from muybridge.engine.evaluate import evaluate
from muybridge.engine.metrics import Scores
from muybridge.engine.train import train
from muybridge.engine.trajectories import as_table, make_trajectories, trajectories_of
from muybridge.export import export_run
from muybridge.media.trajectory_file import TrajectoryTable, read_trajectories, write_trajectories
from muybridge.media.video import Video
from muybridge.models.fisher_vectors import FisherVectorsConfig
from muybridge.models.fisher_vectors.local_features import local_features
from muybridge.nn.camera_motion import estimate_homography
from muybridge.nn.fisher import FisherVector
from muybridge.nn.trajectories import DenseTracker, Trajectories, camera_flow, running_sums, smallest_eigenvalue
from muybridge.nn.trajectory_config import TrajectoryConfig
from muybridge.recipe import Recipe
from tests.oracles import trajectories as oracle
from tests.videos import write

SMALL = TrajectoryConfig(
    steps=6, stride=5, cell_size=4, scales=1, min_deviation=0.3, max_deviation=4.0, max_step=4.0, min_own_step=0.8
)


def clips(seed: int, number: int = 2, frames: int = 9, height: int = 22, width: int = 25) -> tuple[torch.Tensor, ...]:
    """Frames, smooth flow with some jumps, and the camera's part of it."""
    rng = torch.Generator().manual_seed(seed)
    video = torch.rand(number, frames, height, width, generator=rng)
    coarse = torch.randn(number * frames, 2, 3, 3, generator=rng)
    flow = F.interpolate(coarse, size=(height, width), mode="bilinear").unflatten(0, (number, frames))
    flow[:, 3, :, :6, :6] += 7.0
    return video, flow, 0.4 * flow + 0.2


def follow(tracker: DenseTracker, video: torch.Tensor, flow: torch.Tensor, camera: torch.Tensor | None) -> Trajectories:
    parts = [
        tracker.push(video[:, time], flow[:, time], None if camera is None else camera[:, time])
        for time in range(video.shape[1] - 1)
    ]
    return Trajectories.concatenate(parts)


@pytest.mark.parametrize("moving_camera", [False, True])
def test_trajectories_are_those_worked_out_point_by_point(moving_camera: bool):
    video, flow, camera = clips(0)
    found = follow(DenseTracker((22, 25), SMALL, 2), video, flow, camera if moving_camera else None)
    free = flow - camera if moving_camera else flow
    total = 0
    for clip in range(2):
        frames, fields, own_fields = (tensor[clip].double().numpy() for tensor in (video, flow, free))
        expected = oracle.trajectories(frames, fields, own_fields, SMALL, moving_camera)
        own = found.select(found.clip == clip)
        assert len(own) == len(expected)
        total += len(expected)
        expected.sort(key=lambda each: (each[0], *each[1][0]))
        order = sorted(range(len(own)), key=lambda row: (int(own.end[row]), *own.points[row, 0].tolist()))
        for row, (end, points, descriptors) in zip(order, expected, strict=True):
            assert own.end[row] == end
            np.testing.assert_allclose(own.points[row], points, atol=1e-4)
            for value, by_hand in zip(own.descriptors(), descriptors, strict=True):
                np.testing.assert_allclose(value[row], by_hand, atol=2e-4)
    every = SMALL.model_copy(update={"min_deviation": 0.0, "max_deviation": 1e9, "max_step": 1e9})
    unfiltered = follow(DenseTracker((22, 25), every, 2), video, flow, None)
    assert 10 < total < len(unfiltered)  # some are kept, and some are left out


def test_structure_and_sums_are_those_worked_out_pixel_by_pixel():
    rng = torch.Generator().manual_seed(0)
    frame = torch.rand(1, 7, 9, generator=rng)
    expected = [[oracle.smallest_eigenvalue(frame[0].double().numpy(), y, x) for x in range(9)] for y in range(7)]
    np.testing.assert_allclose(smallest_eigenvalue(frame)[0], expected, atol=1e-4)
    values = torch.rand(3, 20, generator=rng)
    for count in (1, 2, 3, 7, 8, 13, 20):
        torch.testing.assert_close(running_sums(values, count, 1), values.unfold(1, count, 1).sum(-1))


def test_smaller_frames_are_followed_as_frames_of_their_own():
    video, flow, _ = clips(1, height=32, width=40)
    config = SMALL.model_copy(update={"scales": 3, "min_deviation": 0.0})
    found = follow(DenseTracker((32, 40), config, 2), video, flow, None)
    assert len(found.scale.unique()) == 3
    small = [
        F.interpolate(each.flatten(0, 1), size=(16, 20), mode="bilinear", antialias=True)
        for each in (video[:, :, None], flow)
    ]
    alone = follow(
        DenseTracker((16, 20), config.model_copy(update={"scales": 1, "max_deviation": 2.0}), 2),
        small[0][:, 0].unflatten(0, video.shape[:2]),
        small[1].unflatten(0, video.shape[:2]) / 2,
        None,
    )
    third = found.select(found.scale == 2)
    assert len(alone) > 20
    torch.testing.assert_close(third.points, 2 * alone.points)
    torch.testing.assert_close(third.hog, alone.hog)


@pytest.mark.parametrize("kind", ["still", "black", "leaves"])
def test_what_does_not_move_or_leaves_the_frame_gives_nothing(kind: str):
    frame = (
        torch.zeros(1, 40, 40) if kind == "black" else torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(0))
    )
    flow = torch.full((1, 2, 40, 40), {"still": 0.0, "black": 1.0, "leaves": 30.0}[kind])
    tracker = DenseTracker((40, 40), TrajectoryConfig(cell_size=8))
    found = Trajectories.concatenate([tracker.push(frame, flow) for _ in range(20)])
    assert len(found) == 0
    assert found.hof.shape == (0, 108)


def test_a_jump_is_left_out_and_the_length_of_a_recording_costs_no_memory():
    frame = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    flow = torch.full((1, 2, 64, 64), 0.3)
    tracker = DenseTracker((64, 64), TrajectoryConfig(cell_size=8, min_deviation=0.5))
    kept, sizes = [], []
    for time in range(60):
        jump = torch.full_like(flow, 21.0) if time == 40 else flow
        kept.append(len(tracker.push(frame, jump)))
        sizes.append(sum(len(level.clip) for level in tracker._levels))
    assert sum(kept[:40]) > 100
    assert sum(kept[40:55]) == 0  # all that were on their way
    assert sum(kept[55:]) > 50
    assert max(sizes[20:]) < 2 * max(sizes[:20])


def test_what_cannot_be_followed_is_refused():
    with pytest.raises(ValueError, match="frames of 30 x 64 pixels are smaller than a patch of 32 x 32"):
        DenseTracker((30, 64), TrajectoryConfig())
    with pytest.raises(ValidationError, match="multiple of 3"):
        TrajectoryConfig(steps=10)
    with pytest.raises(ValidationError, match="a trajectory has 16 frames and 32 pixels a side, a clip only 15 and 64"):
        FisherVectorsConfig(sampling="trajectories", frames=15)
    with pytest.raises(ValidationError, match='cell_frames has no effect with sampling = "trajectories"'):
        FisherVectorsConfig(sampling="trajectories", cell_frames=2)
    with pytest.raises(ValidationError, match='compensate_camera has no effect with sampling = "blocks"'):
        FisherVectorsConfig(compensate_camera=True)


class TestCamera:
    """A textured scene under a known homography, with a part that moves by itself."""

    TURN = np.array([[1.01, 0.02, 3.0], [-0.015, 0.99, -2.0], [1e-5, 0.0, 1.0]])

    def scene(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(0)
        before = cv2.resize(rng.integers(0, 255, (30, 40)).astype(np.uint8), (160, 120), interpolation=cv2.INTER_CUBIC)
        after = cv2.warpPerspective(before, self.TURN, (160, 120), borderMode=cv2.BORDER_REFLECT)
        return before, after, camera_flow(torch.from_numpy(self.TURN), 120, 160).float().numpy()

    def error(self, homography: torch.Tensor) -> float:
        own, right = (camera_flow(each, 120, 160) for each in (homography.double(), torch.from_numpy(self.TURN)))
        return float((own - right).norm(dim=0).max())

    def test_it_is_found_beside_what_moves_by_itself(self):
        before, after, flow = self.scene()
        flow[:, 30:80, 40:100] += np.array([6.0, 3.0], np.float32)[:, None, None]
        assert self.error(estimate_homography(before, after, flow)) < 0.3

    def test_people_are_left_out(self):
        """A person that fills most of the frame is taken for the camera, unless its box is known."""
        before, after, flow = self.scene()
        flow[:, :, 45:] += np.array([6.0, 3.0], np.float32)[:, None, None]
        after[:, 45:] = np.random.default_rng(1).integers(0, 255, (120, 115))
        assert self.error(estimate_homography(before, after, flow)) > 3
        assert self.error(estimate_homography(before, after, flow, [(44.0, 0.0, 160.0, 120.0)])) < 1.5

    def test_too_little_to_go_by_is_a_still_camera(self):
        before, _, flow = self.scene()
        black, rng = np.zeros_like(before), np.random.default_rng(2)
        assert torch.equal(estimate_homography(black, black, flow), torch.eye(3))
        cut = rng.uniform(-20, 20, flow.shape).astype(np.float32)
        assert torch.equal(estimate_homography(before, rng.permuted(before), cut), torch.eye(3))

    def test_each_pixel_moves_as_the_homography_says(self):
        flow = camera_flow(torch.from_numpy(self.TURN), 5, 7)
        x, y, w = self.TURN @ np.array([6.0, 2.0, 1.0])
        np.testing.assert_allclose(flow[:, 2, 6], [x / w - 6, y / w - 2], atol=1e-9)


def moving(number: int, frames: int = 12, size: int = 32) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(number)
    return {
        "video": torch.rand(2, frames, 1, size, size, generator=rng),
        "flow": 0.05 * torch.randn(2, 1, 2, 1, 1, generator=rng).expand(2, frames, 2, size, size),
    }


TINY = FisherVectorsConfig(
    sampling="trajectories",
    frames=12,
    size=32,
    pca_components=4,
    gaussians=2,
    trajectories=TrajectoryConfig(steps=6, cell_size=4, min_deviation=0.2),
)


def test_clips_of_a_batch_do_not_see_each_other():
    both = moving(0)
    together = local_features(**both, config=TINY)
    for clip in range(2):
        alone = local_features(**{name: values[clip : clip + 1] for name, values in both.items()}, config=TINY)
        assert len(alone.of_clip(0)[0]) > 5
        for one, other in zip(together.of_clip(clip), alone.of_clip(0), strict=True):
            torch.testing.assert_close(one, other)
    assert together.positions.abs().max() <= 1


def test_clips_with_different_numbers_of_descriptors():
    encoder, rng = FisherVector(6, 4, 3), torch.Generator().manual_seed(0)
    encoder.means.copy_(torch.randn(3, 7, generator=rng))
    values, positions = torch.randn(2, 9, 6, generator=rng), torch.rand(2, 9, 3, generator=rng)
    present = torch.arange(9) < torch.tensor([9, 5])[:, None]
    padded = encoder(values, positions, present)
    torch.testing.assert_close(padded[0], encoder(values[:1], positions[:1])[0])
    torch.testing.assert_close(padded[1], encoder(values[1:, :5], positions[1:, :5])[0])
    assert (encoder(values, positions, torch.zeros(2, 9, dtype=torch.bool)) == 0).all()


def test_a_clip_without_motion_has_a_defined_answer():
    model = TINY.build(3)
    model.calibrate([moving(0), moving(1)])
    still = {"video": moving(0)["video"], "flow": torch.zeros(2, 12, 2, 32, 32)}
    assert (model.encode(**still) == 0).all()
    torch.testing.assert_close(model(**still).logits, model.classifier.bias.expand(2, -1))
    with pytest.raises(RecipeError, match="0 descriptors of the training clips are too few"):
        TINY.build(3).calibrate([still])


def test_a_camera_that_moves_alone_leaves_nothing():
    frame = F.interpolate(torch.rand(1, 1, 30, 40, generator=torch.Generator().manual_seed(0)), size=(60, 80))
    video = torch.stack([frame.roll((time, 2 * time), (2, 3)) for time in range(12)], dim=1)
    flow = (torch.tensor([2.0, 1.0]) / 20)[None, None, :, None, None].expand(1, 12, 2, 60, 80)
    free = local_features(video, flow, TINY.model_copy(update={"compensate_camera": True}))
    assert len(free.of_clip(0)[0]) == 0
    assert len(local_features(video, flow, TINY).of_clip(0)[0]) > 50


LEARNS = {
    "name": "fisher_vectors",
    "pca_components": 8,
    "gaussians": 8,
    "flow_bound": 8.0,
    "trajectories": {"steps": 6, "stride": 3, "cell_size": 4, "scales": 2, "min_deviation": 0.2, "min_flow": 0.2},
}


def recipe(root: Path, **changes: object) -> Recipe:
    return Recipe.model_validate(
        {
            "title": "tiny",
            "model": TINY.model_dump(exclude_defaults=True)
            | {"name": "fisher_vectors", "gaussians": 8, "flow_bound": 8.0},
            "data": {
                "name": "moving_shapes",
                "root": str(root),
                "height": 32,
                "width": 32,
                "frames": 14,
                "scenes": 6,
                "test_scenes": 3,
                "perturbation": 0.0,
            },
            "view": {"mode": "uniform"},
            "flow": {"between": "frames read", "bound": 8.0},
            "train": {"epochs": 0, "batch_size": 12},
        }
        | changes
    )


def test_flow_that_leads_elsewhere_is_refused(tmp_path: Path):
    for flow in (None, {"bound": 8.0}, {"between": "frames read", "bound": 20.0}):
        with pytest.raises(ValidationError, match=r"needs flow.between = \"frames read\" and flow.bound = 8"):
            recipe(tmp_path, flow=flow)


@pytest.mark.slow
def test_it_learns_how_shapes_move(tmp_path: Path):
    run = train(recipe(tmp_path / "videos"), tmp_path / "run")
    scores = evaluate(run, "test")
    assert isinstance(scores, Scores)
    assert scores.top1 > 25  # three times chance
    with pytest.raises(RunError, match="trajectories are followed in steps that depend on the clip"):
        export_run(run.path, tmp_path / "model.onnx")


class TestFiles:
    """The text format of the original program, and the command that writes it."""

    def table(self) -> TrajectoryTable:
        video, flow, _ = clips(0, number=1)
        return as_table(follow(DenseTracker((22, 25), SMALL), video, flow, None), 9, (22, 25))

    @pytest.mark.parametrize("name", ["tracks.txt", "tracks.txt.gz"])
    def test_what_was_written_is_read(self, tmp_path: Path, name: str):
        table = self.table()
        assert write_trajectories(tmp_path / name, [table, table]) == 2 * len(table)
        read = read_trajectories(tmp_path / name)
        for field in dataclasses.fields(table):
            value = getattr(table, field.name)
            np.testing.assert_allclose(getattr(read, field.name), np.concatenate([value, value]), rtol=1e-4, atol=1e-6)

    def test_a_line_is_that_of_the_original_program(self, tmp_path: Path):
        """Ten numbers, the shape, then histograms whose cells go by time, column, row."""
        table = self.table()
        write_trajectories(tmp_path / "tracks.txt", [table])
        row = np.array((tmp_path / "tracks.txt").read_text().splitlines()[0].split("\t"), float)
        assert len(row) == 10 + 12 + 96 + 108 + 96 + 96
        np.testing.assert_allclose(row[:3], [table.end[0], *table.mean[0]], rtol=1e-5)
        np.testing.assert_allclose(row[7:10], table.position[0], rtol=1e-5)
        time, row_of_cells, column = 2, 0, 1
        at = 22 + (time * 4 + column * 2 + row_of_cells) * 8
        here = (time * 4 + row_of_cells * 2 + column) * 8
        np.testing.assert_allclose(row[at : at + 8], table.hog[0, here : here + 8], rtol=1e-4, atol=1e-6)

    def test_facts_are_those_of_the_points(self):
        video, flow, _ = clips(0, number=1)
        found, table = follow(DenseTracker((22, 25), SMALL), video, flow, None), self.table()
        points = found.points[0].double().numpy()
        np.testing.assert_allclose(table.deviation[0], points.std(0), rtol=1e-4)
        np.testing.assert_allclose(table.length[0], np.linalg.norm(np.diff(points, axis=0), axis=1).sum(), rtol=1e-4)
        middle = (int(found.end[0]) - 3) / 9
        np.testing.assert_allclose(table.position[0], [*(points.mean(0) / [25, 22]), middle], rtol=1e-4)

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("1\t2\n", "2 numbers a line"),
            (("1\t" * 435 + "1\n") + "1\t1\n", "line 2 has 2 numbers, and the first 436"),
            ("a\t" * 436, "line 1: could not convert"),
            (None, "no such file"),
        ],
    )
    def test_other_files_are_refused(self, tmp_path: Path, content: str | None, problem: str):
        path = tmp_path / "tracks.txt"
        if content is not None:
            path.write_text(content)
        with pytest.raises(DataError, match=problem):
            read_trajectories(path)
        cut = tmp_path / "cut.txt.gz"
        write_trajectories(cut, [self.table()])
        cut.write_bytes(cut.read_bytes()[:-20])
        with pytest.raises(DataError, match="cannot be read"):
            read_trajectories(cut)

    def test_a_folder_of_videos(self, tmp_path: Path):
        videos = tmp_path / "videos"
        for name in ("a", "b/c"):
            (videos / name).parent.mkdir(parents=True, exist_ok=True)
            write(videos / f"{name}.mp4", 20)
        (videos / "broken.mp4").write_bytes(b"no video")
        command = [
            "trajectories",
            str(videos),
            "--out",
            str(tmp_path / "out"),
            "--jobs",
            "1",
            "--scales",
            "2",
            "--keep-camera",
        ]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 2
        assert "broken.mp4: " in done.stderr
        made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.gz"))
        names = sorted(
            path.relative_to(videos).as_posix() for path in videos.rglob("*.mp4") if path.name != "broken.mp4"
        )
        assert made == [f"{name}.trajectories.txt.gz" for name in names]
        with Video(videos / names[0], channels=1) as video:
            parts = trajectories_of(video, TrajectoryConfig(scales=2), compensate_camera=False)
            expected = as_table(Trajectories.concatenate(list(parts)), len(video), video.size)
        first = tmp_path / "out" / made[0]
        np.testing.assert_allclose(read_trajectories(first).hof, expected.hof, rtol=1e-4, atol=1e-6)
        assert len(expected) > 10
        before = first.stat().st_mtime_ns
        (tmp_path / "out" / made[1]).unlink()
        assert "of 1 videos" in CliRunner().invoke(app, command).stderr
        assert (tmp_path / "out" / made[1]).exists()
        assert first.stat().st_mtime_ns == before
        notes = tmp_path / "out" / "sources.jsonl"
        lines = [line for line in notes.read_text().splitlines() if names[1] in line]
        notes.write_text(notes.read_text().replace(lines[-1], lines[-1][:-9]))  # as of a process that was killed
        write(videos / names[0], 18)
        done = CliRunner().invoke(app, command)
        assert "of 2 videos" in done.stderr
        assert read_trajectories(first).end.max() < 18
        assert "of 0 videos" in CliRunner().invoke(app, command).stderr
        alone = make_trajectories(videos / "a.mp4", tmp_path / "alone", TrajectoryConfig(scales=1), jobs=1)
        assert (alone.videos, alone.frames) == (1, 18)
        with pytest.raises(DataError, match="there is no such file or folder"):
            make_trajectories(tmp_path / "missing", tmp_path / "none")
        with pytest.raises(RunError, match="made with other settings: scales = 2, compensate_camera = False"):
            make_trajectories(videos, tmp_path / "out")
