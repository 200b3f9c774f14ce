"""Optical flow equals the rendered motion, bytes map to pixels, stored flow is complete and belongs to its video."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from muybridge.core.errors import DataError, MissingExtraError, RunError
from muybridge.core.types import Record
from muybridge.media.flow import ComputedFlow, FlowSolver, Method, mirror_flow, to_bytes, to_pixels
from muybridge.media.flow_extract import Progress, extract_flow
from muybridge.media.flow_store import Form, StoredFlow, find_flow
from muybridge.media.video import Video
from tests.videos import write

FORMS: list[Form] = ["frames", "npz", "video"]


@pytest.fixture(scope="module")
def video_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("videos") / "video.mp4", frames=9)


@pytest.fixture(scope="module", params=FORMS)
def stored(request: pytest.FixtureRequest, video_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("flow")
    extract_flow([Record("video", video_file, 0)], out, form=request.param, workers=1)
    return find_flow(out, "video")


def gray_video(path: Path) -> Video:
    return Video(path, channels=1)


def records(*paths: Path) -> list[Record]:
    return [Record(f"class/{path.stem}", path, 0) for path in paths]


def moving(x: int, y: int, size: tuple[int, int] = (96, 128)) -> tuple[np.ndarray, np.ndarray]:
    """Two frames of a texture that moves by x pixels to the right and y downwards."""
    texture = np.random.default_rng(0).normal(size=(size[0] + 40, size[1] + 40)).astype(np.float32)
    texture = cv2.GaussianBlur(texture, (0, 0), 2)
    texture = (255 * (texture - texture.min()) / np.ptp(texture)).astype(np.uint8)
    before, after = (texture[20 - dy : 20 - dy + size[0], 20 - dx : 20 - dx + size[1]] for dx, dy in ((0, 0), (x, y)))
    return np.ascontiguousarray(before), np.ascontiguousarray(after)


@pytest.mark.parametrize("method", ["dis", "tvl1"])
@pytest.mark.parametrize(("x", "y"), [(3, -2), (-5, 1)])
def test_flow_is_the_movement_between_the_frames(method: Method, x: int, y: int) -> None:
    flow = FlowSolver(method)(*moving(x, y, (64, 80)))[:, 8:-8, 8:-8]
    assert flow.shape[0] == 2
    np.testing.assert_allclose(np.median(flow, axis=(1, 2)), [x, y], atol=0.1)
    assert np.abs(flow - np.array([x, y])[:, None, None]).mean() < 0.3


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_flow_depends_on_its_two_frames_alone(video_file: Path, method: Method) -> None:
    with gray_video(video_file) as video:
        small = ComputedFlow(video.crop(4, 8, 30, 40), method)
        assert torch.equal(small.read(range(8)).pixels[5:], small.read(range(5, 8)).pixels)


def test_the_number_of_threads_is_left_as_it_was() -> None:
    threads = cv2.getNumThreads()
    FlowSolver()(*moving(1, 1))
    assert cv2.getNumThreads() == threads


def test_bytes_run_linearly_from_minus_to_plus_the_bound() -> None:
    pixels = np.array([-25, -20, -10, 0, 0.1, 10, 20, 99], dtype=np.float32)
    flow = np.broadcast_to(pixels, (2, 1, 8)).copy()
    # round(255 (v + 20) / 40), by hand
    assert to_bytes(flow)[0, 0].tolist() == [0, 0, 64, 128, 128, 191, 255, 255]
    assert to_bytes(flow, bound=10.0)[1, 0].tolist() == [0, 0, 0, 128, 129, 255, 255, 255]


@pytest.mark.parametrize("bound", [15.0, 20.0])
def test_bytes_are_right_to_half_a_step(bound: float) -> None:
    flow = np.random.default_rng(0).uniform(-bound, bound, (2, 30, 40)).astype(np.float32)
    back = to_pixels(torch.from_numpy(to_bytes(flow, bound))[None], bound)[0].numpy()
    assert np.abs(back - flow).max() <= bound / 255 + 1e-5


def test_the_flow_of_a_mirrored_video_is_the_mirrored_flow() -> None:
    before, after = moving(4, -2)
    plain = torch.from_numpy(FlowSolver()(before, after).copy())[None]
    mirrored = torch.from_numpy(FlowSolver()(np.fliplr(before).copy(), np.fliplr(after).copy()).copy())[None]
    assert (mirror_flow(plain) - mirrored)[..., 10:-10, 10:-10].abs().mean() < 0.1
    assert mirrored[:, 0, 20:-20, 20:-20].median() == pytest.approx(-4, abs=0.1)


def test_mirroring_bytes_negates_the_pixels_they_mean() -> None:
    fields = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 2, 5, 7), dtype=np.uint8))
    torch.testing.assert_close(to_pixels(mirror_flow(fields)), mirror_flow(to_pixels(fields)), atol=1e-4, rtol=0)
    assert torch.equal(mirror_flow(mirror_flow(fields)), fields)
    assert torch.equal(mirror_flow(fields)[:, 1], fields[:, 1].flip(-1))


def test_a_video_of_n_frames_has_n_minus_one_fields_in_any_order(video_file: Path) -> None:
    with gray_video(video_file) as video:
        flow = ComputedFlow(video)
        assert len(flow) == 8
        clip = flow.read([5, 0, 5])
        frames = video.read(range(9)).pixels[:, 0].numpy()
        for field, start in zip(clip.pixels.numpy(), (5, 0, 5), strict=True):
            np.testing.assert_array_equal(field, to_bytes(FlowSolver()(frames[start], frames[start + 1])))
        np.testing.assert_allclose(clip.seconds, [0.2, 0.0, 0.2], atol=1e-9)
        with pytest.raises(DataError, match=r"flow field 8 was requested. Expected 0 to 7, as 9 frames"):
            flow.read([8])


def test_scaling_shrinks_the_field_and_not_the_values(video_file: Path) -> None:
    with gray_video(video_file) as video:
        flow = ComputedFlow(video)
        full, small = flow.read([2]).pixels.float(), flow.read([2], short_side=12).pixels.float()
        assert small.shape == (1, 2, 12, 16)
        torch.testing.assert_close(small.mean((2, 3)), full.mean((2, 3)), atol=1.0, rtol=0)
        assert torch.equal(flow.read([2], short_side=500).pixels.float(), full)


def test_stored_flow_is_the_computed_flow(video_file: Path, stored: Path) -> None:
    with gray_video(video_file) as video:
        stored_flow, computed = StoredFlow(stored, video, method="dis"), ComputedFlow(video)
        assert len(stored_flow) == 8
        stored_clip, computed_clip = stored_flow.read([6, 1, 1, 0]), computed.read([6, 1, 1, 0])
        difference = (stored_clip.pixels.float() - computed_clip.pixels.float()).abs()
        assert difference.max() == 0 if stored.suffix == ".npz" else difference.mean() < 1.5
        assert torch.equal(stored_clip.seconds, computed_clip.seconds)
        assert stored_flow.read([3], short_side=12).pixels.shape == (1, 2, 12, 16)
        with pytest.raises(DataError, match="flow field -1 was requested"):
            stored_flow.read([-1])
        stored_flow.close()


def test_without_the_video_seconds_are_counted(stored: Path) -> None:
    flow = StoredFlow(stored, fps=10.0)
    assert flow.read([0, 7]).seconds.tolist() == pytest.approx([0, 0.7])
    flow.close()


@pytest.mark.parametrize("in_subfolders", [False, True])
def test_frames_of_other_tools_are_read_without_metadata(tmp_path: Path, video_file: Path, in_subfolders: bool) -> None:
    fields = np.random.default_rng(0).integers(0, 256, (8, 2, 48, 64), dtype=np.uint8)
    for axis, name in enumerate("xy"):
        for number, field in enumerate(fields[:, axis], 1):
            path = tmp_path / (f"flow_{name}/{number:06}.png" if in_subfolders else f"flow_{name}_{number:05}.png")
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), field)
    with gray_video(video_file) as video:
        flow = StoredFlow(tmp_path, video, bound=15.0)
        assert flow.metadata is None
        np.testing.assert_array_equal(flow.read([7, 2]).pixels, fields[[7, 2]])


def test_flow_of_other_frames_or_another_bound_is_refused(tmp_path: Path, video_file: Path, stored: Path) -> None:
    longer, smaller = write(tmp_path / "longer.mp4", 12), write(tmp_path / "smaller.mp4", 9, size=(32, 64))
    with (
        gray_video(longer) as video,
        pytest.raises(DataError, match=r"that of 9 frames of 64x48.*Expected that of the 12"),
    ):
        StoredFlow(stored, video)
    with (
        gray_video(smaller) as video,
        pytest.raises(DataError, match=r"Expected that of the 9 frames of 64x32 pixels of sma"),
    ):
        StoredFlow(stored, video)
    with pytest.raises(DataError, match=r"made by dis with bound 20. Expected dis with bound 15"):
        StoredFlow(stored, bound=15.0)
    with pytest.raises(DataError, match=r"made by dis with bound 20. Expected tvl1 with bound 20"):
        StoredFlow(stored, method="tvl1")


def test_missing_flow_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no flow of class/a. Expected class/a, class/a.npz or"):
        find_flow(tmp_path, "class/a")
    with pytest.raises(DataError, match="there is no such flow"):
        StoredFlow(tmp_path / "a.npz")


def test_frames_that_lack_a_part_are_refused(tmp_path: Path, video_file: Path) -> None:
    for name in ("a", "b", "c"):
        extract_flow([Record(name, video_file, 0)], tmp_path, workers=1)
    (tmp_path / "a/flow_y_00008.jpg").unlink()
    with pytest.raises(DataError, match="holds 8 fields of x and 7 of y"):
        StoredFlow(tmp_path / "a")
    (tmp_path / "a/flow_x_00008.jpg").unlink()
    with pytest.raises(DataError, match="holds 7 of 8 flow fields"):
        StoredFlow(tmp_path / "a")
    (tmp_path / "b/flow_x_00003.jpg").unlink()
    with pytest.raises(DataError, match="1 of its frames are missing"):
        StoredFlow(tmp_path / "b")
    (tmp_path / "c/flow.json").write_text("{}")
    with pytest.raises(DataError, match="its metadata cannot be read"):
        StoredFlow(tmp_path / "c")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.97])
def test_a_cut_npz_is_refused(tmp_path: Path, video_file: Path, share: float) -> None:
    extract_flow([Record("video", video_file, 0)], tmp_path, form="npz", workers=1)
    content = (tmp_path / "video.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match="not readable as stored flow"):
        StoredFlow(tmp_path / "cut.npz")


@pytest.mark.parametrize(
    "flow", [np.zeros((3, 2, 4, 4)), np.zeros((3, 4, 4), np.uint8), np.zeros((0, 2, 4, 4), np.uint8)]
)
def test_an_npz_of_another_kind_is_refused(tmp_path: Path, flow: np.ndarray) -> None:
    np.savez(tmp_path / "flow.npz", flow=flow)
    with pytest.raises(DataError, match="Expected fields x 2 x height x width, of bytes"):
        StoredFlow(tmp_path / "flow.npz")
    np.savez(tmp_path / "flow.npz", other=flow)
    with pytest.raises(DataError, match="not readable as stored flow"):
        StoredFlow(tmp_path / "flow.npz")


def test_a_video_of_odd_height_holds_no_flow(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"27 pixels high. Expected x above y"):
        StoredFlow(write(tmp_path / "odd.mp4", 5, name="h264_odd.mp4", size=(27, 36)))


def test_a_video_of_two_frames_has_one_field(tmp_path: Path) -> None:
    short = write(tmp_path / "short.mp4", 2)
    for form in ("frames", "npz"):
        assert extract_flow(records(short), tmp_path / form, form=form, workers=1).fields == 1
        with gray_video(short) as video:
            assert StoredFlow(find_flow(tmp_path / form, "class/short"), video).read([0]).pixels.shape == (1, 2, 48, 64)
    ((_, problem, _),) = extract_flow(records(short), tmp_path / "video", form="video", workers=1).failed
    assert "a video of two frames has a single flow field" in problem


def test_extraction_resumes_and_reports_a_damaged_video(tmp_path: Path, video_file: Path) -> None:
    other, broken = write(tmp_path / "other.mp4", 6), tmp_path / "broken.mp4"
    broken.write_bytes(video_file.read_bytes()[:700])
    out, seen = tmp_path / "flow", list[Progress]()
    first = extract_flow(records(video_file, broken, other), out, workers=2, progress=seen.append)
    assert (first.computed, first.existing, first.fields, first.done) == (2, 0, 8 + 5, 3)
    assert first.failed[0][0] == "class/broken"
    assert "broken.mp4" in first.failed[0][1]
    assert [progress.done for progress in seen] == [1, 2, 3]
    assert first.fps == pytest.approx(13 / first.seconds)
    times = {file: file.stat().st_mtime_ns for file in out.rglob("*.jpg")}
    assert len(times) == 2 * 13
    second = extract_flow(records(video_file, broken, other), out, workers=1)
    assert (second.computed, second.existing, len(second.failed)) == (0, 2, 1)
    assert times == {file: file.stat().st_mtime_ns for file in out.rglob("*.jpg")}
    assert sorted(path.name for path in out.iterdir()) == ["class"]


def test_existing_flow_of_other_settings_is_reported(tmp_path: Path, video_file: Path) -> None:
    extract_flow(records(video_file), tmp_path, workers=1)
    ((_, bound, hint),) = extract_flow(records(video_file), tmp_path, bound=15.0, workers=1).failed
    assert "made by dis with bound 20; expected dis with bound 15" in bound
    assert hint == "set flow.method and flow.bound to these, or make it again in another folder"
    longer = write(tmp_path / "video.mp4", 11)
    ((_, frames, _),) = extract_flow(records(longer), tmp_path, workers=1).failed
    assert "that of 9 frames" in frames


def test_extraction_into_a_file_is_refused(tmp_path: Path, video_file: Path) -> None:
    with pytest.raises(DataError, match="the flow cannot be written"):
        extract_flow(records(video_file), video_file)
    (tmp_path / "class").touch()
    ((_, problem, _),) = extract_flow(records(video_file), tmp_path, workers=1).failed
    assert "cannot be written" in problem


def test_a_killed_worker_is_reported(tmp_path: Path, video_file: Path) -> None:
    def kill(_: Progress) -> None:
        for child in multiprocessing.active_children():
            os.kill(child.pid or 0, signal.SIGKILL)

    many = [Record(str(number), video_file, 0) for number in range(30)]
    with pytest.raises(RunError, match="a worker process was killed"):
        extract_flow(many, tmp_path, workers=2, progress=kill)
    assert extract_flow(many, tmp_path, workers=1).done == 30


def test_a_script_that_every_worker_would_run_again(tmp_path: Path, video_file: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "script.py").write_text("extract_flow()\n")
    script = ModuleType("__main__")
    script.__file__ = str(tmp_path / "script.py")
    monkeypatch.setitem(sys.modules, "__main__", script)
    records = [Record(str(number), video_file, 0) for number in range(2)]
    with pytest.raises(RunError, match=r"script\.py: each new process would run this script again.*--jobs 1"):
        extract_flow(records, tmp_path / "flow", workers=2)
    assert extract_flow(records, tmp_path / "flow", workers=1).done == 2


SCRIPT = """
import sys
from pathlib import Path
from muybridge.core.types import Record
from muybridge.media.flow_extract import extract_flow
if __name__ == "__main__":
    source, out, form = sys.argv[1:]
    records = [Record(f"{n:03}", Path(source), 0) for n in range(400)]
    extract_flow(records, Path(out), form=form, workers=2, progress=lambda _: print("done", flush=True))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("form", "how"), [("frames", signal.SIGKILL), ("npz", signal.SIGINT)])
def test_a_killed_extraction_leaves_nothing_half_written(
    tmp_path: Path, video_file: Path, form: Form, how: signal.Signals
) -> None:
    (tmp_path / "run.py").write_text(SCRIPT)
    out = tmp_path / "flow"
    command = [sys.executable, str(tmp_path / "run.py"), str(video_file), str(out), form]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, env=os.environ
    )
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.readline() == b"done\n"
    if how is signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.send_signal(how)
    process.communicate(timeout=60)
    for _ in range(100):  # the workers follow
        if subprocess.run(["pgrep", "-g", str(process.pid)], capture_output=True, check=False).returncode:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("workers are still running")
    complete = [path for path in out.iterdir() if not path.name.startswith(".")]
    assert 5 <= len(complete) < 400
    if how is signal.SIGINT:
        assert len(list(out.iterdir())) == len(complete)
    with gray_video(video_file) as video:
        for path in complete:
            flow = StoredFlow(path, video, method="dis")
            assert flow.read(range(8)).pixels.shape == (8, 2, 48, 64)
    some = [Record(f"{number:03}", video_file, 0) for number in range(len(complete) + 3)]
    resumed = extract_flow(some, out, form=form, workers=1)
    assert resumed.existing + resumed.computed == len(some)
    assert resumed.existing >= len(complete) - 2
    for leftover in out.glob(".drafts-*"):  # deleted once they are old
        os.utime(leftover, (0, 0))
    extract_flow(some, out, form=form, workers=1)
    assert not list(out.glob(".drafts-*"))


def test_a_missing_opencv_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow")
    FlowSolver("dis")
    with pytest.raises(MissingExtraError, match=r"without its contributed modules.*uninstall -y opencv-python"):
        FlowSolver("tvl1")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'muybridge\[flow\]'"):
        FlowSolver()


def test_metadata_describe_how_the_flow_was_computed(video_file: Path, tmp_path: Path) -> None:
    extract_flow(records(video_file), tmp_path, workers=1, bound=15.0)
    metadata = json.loads((tmp_path / "class/video/flow.json").read_text())
    assert metadata == {"frames": 9, "height": 48, "width": 64, "method": "dis", "bound": 15.0, "span": None}


def test_shapes_are_checked() -> None:
    with pytest.raises(TypeCheckError):
        mirror_flow(torch.zeros(3, 3, 4, 4))
