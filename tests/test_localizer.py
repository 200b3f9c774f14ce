"""A run says where the action is: every frame seen, boxes in pixels of the file, scored beside the baselines."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import pytest
import torch
from einops import reduce
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from muybridge import cli
from muybridge.core.contracts import ClipInput
from muybridge.core.errors import DataError, MuybridgeWarning, RunError
from muybridge.core.tubes import Tube, TubeSet, tube_iou
from muybridge.core.types import Output, Record
from muybridge.data.datasets.base import DatasetConfig
from muybridge.data.prepare import ViewConfig
from muybridge.engine.train import train
from muybridge.localize import Linking, Localizer, benchmark
from muybridge.localize.benchmark import _annotated
from muybridge.localize.locate import covering_starts, project_to_frame
from muybridge.media.tubes import read_tubes, write_tubes
from muybridge.media.video import Video
from muybridge.models.base import Model
from muybridge.recipe import Recipe
from muybridge.viz.clip import animate_clip, draw_clip_sheet, drawn_frames
from muybridge.viz.run_pictures import _shortened, draw_run
from muybridge.viz.tubes import write_localizations
from tests.tiny import tiny_recipe, write_recordings

STILL = Linking(smoothing=0.0)
VIDEO_LSTM = {
    "name": "video_lstm",
    "backbone": "resnet18",
    "out_index": -4,
    "size": 32,
    "frames": 6,
    "hidden": 4,
    "attention_width": 4,
    "head_width": 8,
}
SHAPES = {"name": "moving_shapes", "scenes": 2, "test_scenes": 1, "height": 32, "width": 48, "frames": 8}


def make_run(folder: Path, model: dict[str, Any], view: dict[str, Any]) -> Path:
    """A run that trained for one step."""
    data = SHAPES | {"root": str(folder.parent / "videos")}
    settings = {"epochs": 1, "batch_size": 12}
    train(Recipe.model_validate({"model": model, "data": data, "view": view, "train": settings}), folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    whole = {"mode": "clips", "resize": [32, 32]}
    return {
        "motion": make_run(root / "motion", VIDEO_LSTM, whole),
        "frames": make_run(root / "frames", VIDEO_LSTM | {"architecture": "conv_alstm"}, whole),
        "blind": make_run(root / "blind", VIDEO_LSTM | {"architecture": "conv_lstm"}, whole),
        "segments": make_run(
            root / "segments", {"name": "tsn", "backbone": "resnet18", "segments": 3, "size": 32}, {"clips": 2}
        ),
    }


class Bright(Model):
    """Attends to bright regions, on a grid of cells of 4 pixels."""

    def forward(self, video: Tensor) -> Output:
        light = reduce(video, "b t c (h p) (w q) -> b t h w", "mean", p=4, q=4)
        attention = torch.softmax(8 * light.flatten(2), dim=2).unflatten(2, light.shape[2:])
        logits = torch.zeros(len(video), 12)
        logits[:, 5] = 3.0
        return Output(logits, {"attention": attention})


def write_square(path: Path, boxes: np.ndarray, height: int, width: int) -> Path:
    """A white square on black that lies where the boxes say."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for left, top, right, bottom in boxes.astype(int):
            image = np.zeros((height, width, 3), np.uint8)
            image[top:bottom, left:right] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def wandering(frames: int) -> np.ndarray:
    """Boxes of 40x40 that travel through the middle of a frame of 120x180."""
    left = np.linspace(50, 90, frames).round()
    top = np.linspace(20, 70, frames).round()
    return np.stack([left, top, left + 40, top + 40], axis=1)


@pytest.fixture
def bright(runs: dict[str, Path]) -> Localizer:
    localizer = Localizer(runs["frames"], linking=STILL)
    localizer.predictor.model = Bright()
    return localizer


@pytest.mark.parametrize(
    "crop_settings", [{"resize": (32, 32)}, {}, {"short_side": 40}, {"resize": (40, 60)}, {"size": 64}]
)
def test_boxes_lie_where_the_model_looks_in_pixels_of_the_file(bright: Localizer, tmp_path: Path, crop_settings: dict):
    boxes = wandering(20)
    clip = write_square(tmp_path / "clip.mp4", boxes, 120, 180)
    bright.prepare = replace(bright.prepare, view=ViewConfig(mode="clips", **crop_settings))
    result = bright(clip)
    assert (result.id, result.label, len(result.maps), result.fps) == (str(clip), 5, 20, 25)
    assert result.scores.sum().item() == pytest.approx(1)
    (tube,) = result.tubes
    assert tube.score == pytest.approx(result.scores.max().item())
    assert tube.boxes.min() >= 0
    assert tube.boxes[:, 2].max() <= 180
    assert tube.boxes[:, 3].max() <= 120
    truth = Tube(str(clip), 5, boxes)
    assert tube_iou(tube, truth) > 0.5
    middles = ((one.boxes[:, :2] + one.boxes[:, 2:]) / 2 for one in (tube, truth))
    assert np.abs(np.subtract(*middles)).max() < 10


@pytest.mark.filterwarnings("ignore:.*long, the training recordings")
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [2, 5, 6, 7, 40])
def test_every_frame_has_its_map_and_box_whatever_the_length(
    bright: Localizer, tmp_path: Path, frames: int, stride: int
):
    # Shorter than the clip of 6 frames: the last frame stands still.
    boxes = wandering(frames)
    bright.prepare = replace(bright.prepare, view=bright.prepare.view.model_copy(update={"stride": stride}))
    views = list(bright._views(frames))
    assert all(view == [min(view[0] + step * stride, frames - 1) for step in range(6)] for view in views)
    assert (views[0][0], views[-1][-1]) == (0, frames - 1)
    result = bright(write_square(tmp_path / "clip.mp4", boxes, 120, 180))
    assert len(result.maps) == len(result.tubes[0]) == frames
    for seen, box in zip(result.maps[:], boxes, strict=True):
        row, column = divmod(int(seen.argmax()), seen.shape[1])
        slack = (stride - 1) * 180 / seen.shape[1] / 2  # frames between take the map of a neighbour
        assert box[1] <= (row + 0.5) / seen.shape[0] * 120 <= box[3]
        assert box[0] - slack <= (column + 0.5) / seen.shape[1] * 180 <= box[2] + slack


@pytest.mark.parametrize(("frames", "span"), [(1, 30), (30, 30), (31, 30), (32, 30), (100, 30), (101, 7)])
def test_clips_cover_the_video_and_overlap_by_half(frames: int, span: int):
    starts = covering_starts(frames, span)
    seen = {frame for start in starts for frame in range(start, min(start + span, frames))}
    assert seen == set(range(frames))
    assert starts[0] == 0
    assert starts[-1] == max(0, frames - span)
    assert max(np.diff(starts), default=0) <= (span + 1) // 2


def test_maps_of_the_crop_lie_in_the_middle_of_the_frame():
    maps = torch.ones(2, 4, 4)
    takes = ClipInput(1, 6, size=32)
    assert project_to_frame(maps, (120, 180), takes, ViewConfig(resize=(32, 32))) is maps
    # The shorter side becomes 37 pixels, and 32 of 37x56 are seen.
    whole = project_to_frame(maps, (120, 180), takes, ViewConfig())
    assert whole.shape == (2, 18, 28)
    assert whole.sum(dim=(1, 2)).tolist() == [16 * 16] * 2
    rows, columns = whole[0].nonzero().T
    assert (rows.min(), columns.min()) == (1, 6)


def test_models_over_segments_point_with_class_activation(runs: dict[str, Path], tmp_path: Path):
    with pytest.warns(MuybridgeWarning, match=r"only 1x1 cells for a frame of 180x120 pixels.*model\.size \(now 32\)"):
        result = Localizer(runs["segments"])(write_square(tmp_path / "clip.mp4", wandering(9), 120, 180))
    assert len(result.maps) == len(result.tubes[0]) == 9
    assert (result.maps[:] >= 0).all()


def test_models_that_do_not_look_are_refused(runs: dict[str, Path], tmp_path: Path):
    clip = write_square(tmp_path / "clip.mp4", wandering(9), 120, 180)
    with pytest.raises(
        RunError, match=r"model video_lstm conv_lstm has neither attention nor class activation\. .*has attention"
    ):
        Localizer(runs["blind"])(clip)
    skeletons = train(tiny_recipe(write_recordings(tmp_path / "msr"), epochs=1), tmp_path / "run")
    with pytest.raises(RunError, match="the model sta_lstm takes skeletons, whose joints already are the location"):
        Localizer(skeletons.path)


def test_a_split_is_scored_beside_the_baselines(runs: dict[str, Path], tmp_path: Path):
    localizer = Localizer(runs["motion"])
    result = benchmark(localizer, "test")
    records = localizer.predictor.recipe.data.index("test").records
    assert list(result.predicted.frames) == [record.id for record in records]
    assert result.precision.keys() == {"attention", "centered box", "frame differences"}
    assert result.truth is not None
    assert [tube.video for tube in result.truth.tubes] == [record.id for record in records]
    # The same boxes in a file, one video of them not in the data set.
    more = replace(result.truth, frames={**result.truth.frames, "elsewhere": 9})
    write_tubes(tmp_path / "truth.json", more)
    again = benchmark(localizer, "test", read_tubes(tmp_path / "truth.json"))
    assert again.precision["attention"] == pytest.approx(result.precision["attention"])
    assert again.top1 == result.top1


def test_annotations_may_leave_out_the_ending_of_the_file():
    truth = TubeSet(("run",), (), {"run/a": 3, "run/b.avi": 3})
    records = [Record(f"run/{name}.avi", Path(f"x/run/{name}.avi"), 0) for name in "abc"]
    assert [record.id for record in _annotated(records, truth)] == ["run/a.avi", "run/b.avi"]


def test_a_perfect_look_has_a_perfect_score(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    localizer = Localizer(runs["frames"], linking=STILL)
    data = localizer.predictor.recipe.data
    records = {record.id: record for record in data.index("test").records}

    def attention_maps(recording: Video, name: str) -> tuple[Tensor, Tensor]:
        boxes = data.boxes(records[name])
        assert boxes is not None
        maps = torch.zeros(8, 32, 48)
        for one, (left, top, right, bottom) in zip(maps, boxes.int().tolist(), strict=True):
            one[top:bottom, left:right] = 1
        return torch.eye(12)[records[name].label], maps

    monkeypatch.setattr(localizer, "attention_maps", attention_maps)
    result = benchmark(localizer)
    assert result.top1 == 100
    assert set(result.precision["attention"].values()) == {1.0}
    assert result.precision["centered box"][0.5] < 1


def test_annotations_for_other_files_are_refused(runs: dict[str, Path]):
    localizer = Localizer(runs["frames"])
    labels = localizer.predictor.labels
    record = localizer.predictor.recipe.data.index("test").records[0]

    def truth(video: str, box: list[float], frames: int = 8) -> TubeSet:
        return TubeSet(labels, (Tube(video, 0, np.tile(np.array(box, dtype=float), (frames, 1))),), {video: frames})

    with pytest.raises(DataError, match=r"none of the 12 videos is annotated.*there are annotations of other/name"):
        benchmark(localizer, truth=truth("other/name", [0, 0, 9, 9]))
    with pytest.raises(
        DataError, match=r"has the box 0, 0, 90, 20 in frame 0. Expected boxes inside 8 frames of 48x32"
    ):
        benchmark(localizer, truth=truth(record.id, [0, 0, 90, 20]))
    with pytest.raises(DataError, match=r"has the box 0, 0, 9, 9 in frame 8. Expected boxes inside 8 frames"):
        benchmark(localizer, truth=truth(record.id, [0, 0, 9, 9], frames=9))
    # Up to a pixel over the edge is rounding.
    annotated = truth(record.id, [0, 0, 9, 9])
    with patch.object(DatasetConfig, "tubes", return_value=annotated):
        found = benchmark(localizer).truth
        assert found is not None
        assert [tube.video for tube in found.tubes] == [record.id]
    result = benchmark(localizer, truth=truth(record.id, [-0.5, 0, 48.5, 32]))
    assert result.truth is not None
    assert result.truth.tubes[0].boxes[0].tolist() == [0, 0, 48, 32]


def test_videos_leave_boxes_and_animations(runs: dict[str, Path], tmp_path: Path):
    for person in ("a", "b"):
        (tmp_path / person).mkdir()
        write_square(tmp_path / person / "clip.mp4", wandering(7), 120, 180)
    localizer = Localizer(runs["frames"])
    results = list(write_localizations(localizer, localizer.predictor.find([tmp_path]), tmp_path, "gif"))
    wrote = [boxes for boxes, _ in results]  # type: ignore[misc]
    assert [path.name for path in wrote] == ["clip.json", "b-clip.json"]
    content = json.loads((tmp_path / "clip.json").read_text())
    (video,) = content["frames"]
    assert video.endswith("a/clip.mp4")
    assert content["frames"][video] == 7
    assert content["fps"][video] == pytest.approx(25)
    (part,) = content["tubes"]
    assert part["label"] in content["labels"]
    assert len(part["boxes"]) == 7
    assert all(
        (tmp_path / f"{name}.{end}").stat().st_size > 1000 for name in ("clip", "b-clip") for end in ("png", "gif")
    )


def test_four_videos_of_one_name_have_four_results_and_a_broken_one_none(runs: dict[str, Path], tmp_path: Path):
    paths = [tmp_path / name for name in ("a/x.mp4", "b/x.mkv", "b/x.mp4", "c/b/x.mp4")]
    for shift, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_square(path, wandering(7) + 3 * shift, 120, 180)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    words = ["localize", str(runs["frames"]), "--out", str(out), "--video", "gif", "--json", "--device", "cpu"]
    asked = [*paths[:2], tmp_path / "broken.mp4", *paths[2:]]
    result = CliRunner().invoke(cli.app, [*words, *map(str, asked)])
    assert result.exit_code == 2, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["path"] for row in rows] == [str(path) for path in paths]
    assert all(row.keys() == {"path", "label", "score", "top", "boxes"} for row in rows)
    assert "1 of 5 recordings failed" in result.stderr
    assert "broken.mp4: " in result.stderr
    assert len({row["boxes"] for row in rows}) == 4
    for row, path in zip(rows, paths, strict=True):
        (video,) = read_tubes(row["boxes"]).frames
        assert video == str(path)
    assert len(list(out.iterdir())) == 12
    again = CliRunner().invoke(cli.app, [*words, str(paths[3])])
    assert json.loads(again.stdout)["boxes"] == rows[3]["boxes"]  # the same name, also when asked alone


def test_a_folder_that_cannot_be_written_is_named(runs: dict[str, Path], tmp_path: Path):
    clip = write_square(tmp_path / "clip.mp4", wandering(7), 120, 180)
    (tmp_path / "file").touch()
    localizer = Localizer(runs["frames"])
    with pytest.raises(RunError, match=r"file/out: the image cannot be written \(Not a directory\)"):
        list(write_localizations(localizer, [clip], tmp_path / "file" / "out", "gif"))


def test_the_command_line_localises_videos_and_data_sets(runs: dict[str, Path], tmp_path: Path):
    def call(*words: str) -> str:
        result = CliRunner().invoke(cli.app, ["localize", str(runs["frames"]), "--out", str(tmp_path / "out"), *words])
        assert result.exit_code == 0, result.output
        return result.stdout

    clip = write_square(tmp_path / "clip.mp4", wandering(7), 120, 180)
    row = json.loads(call(str(clip), "--video", "gif", "--json"))
    assert row["path"] == str(clip)
    assert len(read_tubes(row["boxes"]).tubes[0]) == 7
    result = json.loads(call("--json", "--smoothing", "0"))
    assert result["video_map"].keys() == {"attention", "centered box", "frame differences"}
    assert result["video_map"]["centered box"].keys() == {"0.05", "0.1", "0.2", "0.3", "0.4", "0.5"}
    assert len(read_tubes(result["boxes"]).tubes) == 12
    write_tubes(tmp_path / "none.json", TubeSet(("wave",), (), {"a": 3}))
    with pytest.raises(DataError, match="none of the 12 videos is annotated"):
        CliRunner().invoke(
            cli.app, ["localize", str(runs["frames"]), "--boxes", str(tmp_path / "none.json")], catch_exceptions=False
        )


def test_show_draws_attention_one_run_beside_another(runs: dict[str, Path]):
    sheet, clip = "approach-s002_t01.png", "approach-s002_t01.gif"
    heights = []
    for beside in (None, runs["frames"]):
        drawn = draw_run(runs["motion"], beside=beside)
        assert [path.name for path in drawn[2:]] == [sheet, clip]
        assert all(path.stat().st_size > 1000 for path in drawn)
        with Image.open(drawn[2]) as image:
            heights.append(image.height)
    assert heights[0] < heights[1]
    with pytest.raises(RunError, match="has neither attention nor class activation"):
        draw_run(runs["motion"], beside=runs["blind"])


def test_a_recording_of_training_and_a_new_one_are_drawn(runs: dict[str, Path], tmp_path: Path):
    training = Localizer(runs["frames"]).predictor.recipe.data.index("train").records[3]
    sheet, _ = draw_run(runs["frames"], training.id)[2:]
    assert sheet.stem == training.id.replace("/", "-")
    clip = write_square(tmp_path / "clip.mp4", wandering(7), 120, 180)
    names = [path.name for path in draw_run(runs["frames"], clip)[2:]]
    assert [re.sub("-[0-9a-f]{8}", "", name) for name in names] == ["clip.png", "clip.gif"]
    with pytest.raises(DataError, match=r"'approach/s9' is no recording.* such as approach/s\d+_t\d+"):
        draw_run(runs["frames"], "approach/s9")


def test_a_long_name_leaves_room_for_the_classes() -> None:
    assert _shortened("approach/s002_t01") == "approach/s002_t01"
    short = _shortened("a" * 40 + "b" * 200 + "c" * 40)
    assert len(short) == 61
    assert (short[:30], short[-30:]) == ("a" * 30, "c" * 30)


def test_long_videos_are_time_lapses() -> None:
    assert drawn_frames(300, 25.0) == (range(300), 25.0, "")
    assert drawn_frames(900, 30.0) == (range(0, 900, 3), 10.0, "")
    assert drawn_frames(60_000, 25.0) == (range(0, 60_000, 200), 10.0, " · 80 times as fast")
    assert drawn_frames(20, 1.0) == (range(20), 1.0, "")  # all that there is


def test_found_boxes_are_yellow_and_true_ones_white(tmp_path: Path):
    frames = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    box = np.array([[0.25, 0.25, 0.75, 0.75]] * 2)
    heat = {"heat": np.full((2, 4, 4), 1e-6)}
    colors = {}
    for name, settings in {"result": {"predicted": {"heat": box}}, "truth": {"truth": box}}.items():
        draw_clip_sheet(frames, heat, tmp_path / f"{name}.png", **settings)
        animate_clip(frames, heat, tmp_path / f"{name}.gif", fps=5.0, **settings)
        colors[name] = 0
        for ending in ("png", "gif"):
            with Image.open(tmp_path / f"{name}.{ending}") as image:
                pixels = np.asarray(image.convert("RGB")).astype(int)
            colors[name] += (np.abs(pixels - (255, 225, 77)).max(axis=2) < 12).sum()
    assert colors["truth"] == 0
    assert colors["result"] > 800
