"""Video files and folders of frames give the frames of a plain sequential decode, at the right seconds."""

import gc
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.data.clip_ops import resize
from muybridge.media import decoders
from muybridge.media.decoders import TorchcodecFile, VideoFile, scaled_size, torchcodec_decoder
from muybridge.media.frame_decoder import FrameDecoder
from muybridge.media.video import Decoder, Video
from tests.videos import CODECS, ffmpeg_frames, images, sequential, write

DECODERS = [
    "pyav",
    pytest.param(
        "torchcodec", marks=pytest.mark.skipif(torchcodec_decoder() is None, reason="torchcodec does not load")
    ),
]
ODD = (27, 35)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {name: write(folder / name, name=name, size=ODD if "odd" in name else (48, 64)) for name in CODECS}


def as_array(pixels: Tensor) -> np.ndarray:
    return pixels.permute(0, 2, 3, 1).numpy()


def every_frame(path: Path) -> np.ndarray:
    return np.stack(list(sequential(path).values()))


def samplings(frames: int) -> list[list[int]]:
    rng = np.random.default_rng(frames)
    scattered = [sorted(rng.integers(0, frames, 6).tolist()) for _ in range(4)]
    return [[0], [frames - 1], [frames - 1, 0, 0, frames // 2], list(range(frames // 3, frames // 3 + 5)), *scattered]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", CODECS)
def test_frames_equal_a_sequential_decode(files: dict[str, Path], name: str, decoder: Decoder) -> None:
    truth = every_frame(files[name])
    with Video(files[name], decoder=decoder) as video:
        assert len(video) == len(truth) == 40
        assert video.size == truth.shape[1:3]
        for indices in samplings(len(truth)):
            np.testing.assert_array_equal(as_array(video.read(indices).pixels), truth[indices])


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_real_videos_equal_a_sequential_decode(real_data: Path, decoder: Decoder) -> None:
    files = sorted((real_data / "sample_videos").iterdir())
    assert len(files) == 8
    for file in files:
        with Video(file, decoder=decoder) as video:
            requested = [[0, len(video) - 1], *samplings(len(video))[2:6]]
            truth = sequential(file, {len(video), *(index for indices in requested for index in indices)})
            for indices in requested:
                for index, pixels in zip(indices, as_array(video.read(indices).pixels), strict=True):
                    np.testing.assert_array_equal(pixels, truth[index], err_msg=f"{file}, frame {index}")
            assert len(video) not in truth


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_do_not_change_frames(files: dict[str, Path], threads: int) -> None:
    for name in ("h264.mp4", "h264_short_gop.mp4", "vp9.webm", "hevc.mp4"):
        truth = every_frame(files[name])
        with Video(files[name], threads=threads) as video:
            for indices in samplings(len(truth)):
                np.testing.assert_array_equal(as_array(video.read(indices).pixels), truth[indices])


@pytest.mark.parametrize("name", ["h264.mp4", "h264_b_frames.avi", "mpeg4_b_frames.avi", "palette.gif"])
def test_seconds_of_a_constant_frame_rate(files: dict[str, Path], name: str) -> None:
    with Video(files[name]) as video:
        assert video.fps == pytest.approx(25, rel=1e-6)
        assert video.duration == pytest.approx(1.6)
        np.testing.assert_allclose(video.read([0, 7, 39]).seconds, [0, 0.28, 1.56], atol=1e-9)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", ["h264.mp4", "h264_open_gop.mkv"])
def test_seconds_of_a_variable_frame_rate(tmp_path: Path, name: str, decoder: Decoder) -> None:
    stamps = np.cumsum([0, *np.random.default_rng(1).integers(5, 300, 39)])
    path = write(tmp_path / f"variable{Path(name).suffix}", name=name, stamps=stamps.tolist())
    truth = every_frame(path)
    with Video(path, decoder=decoder) as video:
        clip = video.read([3, 17, 38, 39])
        np.testing.assert_allclose(clip.seconds, stamps[[3, 17, 38, 39]] / 1000, atol=1e-9)
        np.testing.assert_allclose(video.seconds, stamps / 1000, atol=1e-9)
        np.testing.assert_array_equal(as_array(clip.pixels), truth[[3, 17, 38, 39]])
        assert video.duration >= stamps[-1] / 1000
        assert video.fps == pytest.approx(40 / video.duration)


# By EXIF's number: the entries a, b, c, d of the matrix, and how the stored frame is shown.
ORIENTATIONS: dict[int, tuple[tuple[float, ...], Callable[[np.ndarray], np.ndarray]]] = {
    1: ((1, 0, 0, 1), lambda frames: frames),
    2: ((-1, 0, 0, 1), lambda frames: frames[:, :, ::-1]),
    3: ((-1, 0, 0, -1), lambda frames: np.rot90(frames, 2, axes=(1, 2))),
    4: ((1, 0, 0, -1), lambda frames: frames[:, ::-1]),
    5: ((0, 1, 1, 0), lambda frames: frames.swapaxes(1, 2)),
    6: ((0, 1, -1, 0), lambda frames: np.rot90(frames, 3, axes=(1, 2))),
    7: ((0, -1, -1, 0), lambda frames: np.rot90(frames.swapaxes(1, 2), 2, axes=(1, 2))),
    8: ((0, -1, 1, 0), lambda frames: np.rot90(frames, 1, axes=(1, 2))),
}


def with_matrix(source: Path, path: Path, matrix: tuple[float, ...]) -> Path:
    """A copy of an mp4 with these entries a, b, c, d in the display matrix of its track."""
    content = bytearray(source.read_bytes())
    at = content.find(b"tkhd") + 44
    assert struct.unpack(">9i", content[at : at + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    a, b, c, d = (round(65536 * entry) for entry in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("number", ORIENTATIONS)
def test_rotation_and_mirroring_in_the_file_are_applied(
    files: dict[str, Path], tmp_path: Path, number: int, decoder: Decoder
) -> None:
    matrix, show = ORIENTATIONS[number]
    path = with_matrix(files["h264.mp4"], tmp_path / "turned.mp4", matrix)
    truth = show(every_frame(path))
    with Video(path, decoder=decoder) as video:
        np.testing.assert_array_equal(as_array(video.read([4, 30]).pixels), truth[[4, 30]])
        assert video.size == truth.shape[1:3]
        assert video.read([0], short_side=24).pixels.shape[2:] == ((24, 32) if number < 5 else (32, 24))
    with Video(path, channels=1) as video:
        assert video.size == truth.shape[1:3]


@pytest.mark.parametrize("number", ORIENTATIONS)
def test_ffmpeg_shows_rotated_and_mirrored_frames_alike(files: dict[str, Path], tmp_path: Path, number: int) -> None:
    path = with_matrix(files["h264.mp4"], tmp_path / "turned.mp4", ORIENTATIONS[number][0])
    with Video(path) as video:
        np.testing.assert_array_equal(as_array(video.read([0, 30]).pixels), ffmpeg_frames(path)[[0, 30]])


@pytest.mark.parametrize("matrix", [(2, 0, 0, 2), (0.99, 0.01, -0.01, 0.99), (0, 0, 0, 0)])
def test_matrices_that_scale_or_hardly_rotate_leave_frames_upright(
    files: dict[str, Path], tmp_path: Path, matrix: tuple[float, ...]
) -> None:
    path = with_matrix(files["h264.mp4"], tmp_path / "scaled.mp4", matrix)
    with Video(path) as video:
        np.testing.assert_array_equal(as_array(video.read([4]).pixels)[0], sequential(path, {4})[4])


def test_a_rotation_by_an_odd_angle_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = with_matrix(files["h264.mp4"], tmp_path / "tilted.mp4", (0.866, 0.5, -0.5, 0.866))
    with Video(path) as video, pytest.raises(DataError, match=r"rotation by 30\.0 degrees\. Expected a multiple of 90"):
        video.read([0])


@pytest.mark.parametrize("number", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation_of_images_is_applied(tmp_path: Path, number: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    for index, image in enumerate(images(2)):
        Image.fromarray(image).save(tmp_path / f"{index}{suffix}", exif=exif, lossless=True, quality=100, subsampling=0)
    truth = ORIENTATIONS[number][1](np.stack(images(2)))
    with Video(tmp_path) as video:
        assert video.size == truth.shape[1:3]
        difference = np.abs(as_array(video.read([0, 1]).pixels) - truth.astype(int))
        assert difference.mean() < 2 if suffix == ".jpg" else difference.max() == 0


def test_the_frame_count_in_the_header_is_ignored(files: dict[str, Path], tmp_path: Path) -> None:
    content = bytearray(files["mpeg4.avi"].read_bytes())
    frames_field = content.find(b"avih") + 8 + 16
    assert struct.unpack_from("<I", content, frames_field) == (40,)
    struct.pack_into("<I", content, frames_field, 7)
    struct.pack_into("<I", content, content.find(b"strh") + 8 + 32, 7)
    path = tmp_path / "miscounted.avi"
    path.write_bytes(content)
    with Video(path) as video:
        assert len(video) == 40
        np.testing.assert_array_equal(as_array(video.read([39]).pixels)[0], every_frame(path)[39])


def test_only_the_group_of_frames_that_is_read_is_decoded(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[int] = []
    original = FrameDecoder._packets
    monkeypatch.setattr(
        FrameDecoder, "_packets", lambda self, start: (places.append(p) or (p, x) for p, x in original(self, start))
    )
    with Video(files["h264_short_gop.mp4"]) as video:
        video.read([36, 37])
        assert 35 <= min(places) <= max(places) <= 39
        assert len(places) <= 5
        places.clear()
        video.read([1, 2, 22])
    assert max(place for place in places if place < 14) < 7
    assert not any(7 <= place < 21 for place in places)


@pytest.mark.parametrize("arrival", [None, 39])
def test_a_seek_that_misses_costs_time_and_no_frames(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, arrival: int | None
) -> None:
    monkeypatch.setattr(FrameDecoder, "_seek", lambda self, start: (arrival, self._demux()))
    truth = every_frame(files["h264_short_gop.mp4"])
    with Video(files["h264_short_gop.mp4"]) as video:
        np.testing.assert_array_equal(as_array(video.read([20, 33]).pixels), truth[[20, 33]])


@pytest.mark.parametrize("name", ["h264.mp4", "mpeg4_b_frames.avi", "h264_odd.mp4"])
def test_scaling_averages_and_does_not_depend_on_what_else_is_read(files: dict[str, Path], name: str) -> None:
    with Video(files[name]) as video:
        small = video.read([3, 9, 20], short_side=12).pixels
        assert torch.equal(video.read([9], short_side=12).pixels[0], small[1])
        full = video.read([3, 9, 20]).pixels
        assert small.shape[2:] == scaled_size(*video.size, 12)
        assert torch.equal(video.read([3, 9, 20], short_side=500).pixels, full)
    averaged = resize(full.float(), *small.shape[2:])
    skipped = torch.nn.functional.interpolate(full.float(), size=small.shape[2:], mode="nearest")
    assert (small - averaged).abs().mean() < (skipped - averaged).abs().mean() / 4


def test_a_box_of_the_frames_is_a_video(tmp_path: Path) -> None:
    with Video(write(tmp_path / "any.mp4", 12)) as video:
        inside, whole = video.crop(8, 10, 24, 40), video.read([3, 5, 3])
        assert inside.size == (24, 40)
        assert inside.crop(4, 6, 8, 8).size == (8, 8)
        assert torch.equal(inside.read([3, 5, 3]).pixels, whole.pixels[:, :, 8:32, 10:50])
        assert torch.equal(inside.crop(4, 6, 8, 8).read([5]).pixels, whole.pixels[1:2, :, 12:20, 16:24])
        assert torch.equal(inside.slice_frames(2).read([1]).pixels, inside.read([3]).pixels)
        half = inside.read([3], short_side=12).pixels
        assert half.shape == (1, 3, 12, 20)
        assert torch.equal(half, video.read([3], short_side=24).pixels[:, :, 4:16, 5:25])
        with pytest.raises(
            DataError, match=r"a box of 40x24 pixels at \(30, 8\)\. Expected one inside the frame of 64x48"
        ):
            video.crop(8, 30, 24, 40)


@pytest.mark.parametrize(("size", "short_side", "scaled"), [
    ((48, 64), None, (48, 64)), ((48, 64), 24, (24, 32)), ((64, 48), 24, (32, 24)), ((27, 35), 20, (20, 26)),
    ((48, 64), 48, (48, 64)), ((48, 64), 49, (48, 64)),
])  # fmt: skip
def test_scaled_size(size: tuple[int, int], short_side: int | None, scaled: tuple[int, int]) -> None:
    assert scaled_size(*size, short_side) == scaled


def test_brightness_alone(files: dict[str, Path]) -> None:
    with Video(files["h264.mp4"], channels=1) as grey, Video(files["h264.mp4"]) as colour:
        luma = (colour.read([5]).pixels.float() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)
        pixels = grey.read([5]).pixels
        assert pixels.shape == (1, 1, 48, 64)
        assert (pixels[:, 0] - luma).abs().mean() < 2


def test_torchcodec_is_used_where_it_loads_and_otherwise_pyav(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = torchcodec_decoder() is not None
    with Video(files["h264.mp4"], decoder="torchcodec") as video:
        assert isinstance(video._source, TorchcodecFile) is loads
    torchcodec_decoder.cache_clear()
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with Video(files["h264.mp4"], decoder="torchcodec") as video:
        assert type(video._source) is VideoFile
    torchcodec_decoder.cache_clear()


def test_a_file_that_torchcodec_cannot_read_is_read_by_pyav(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(decoders, "torchcodec_decoder", lambda: refuse)
    source = TorchcodecFile(files["h264.mp4"], 3, 1)
    assert source.read([2], None).shape == (1, 48, 64, 3)
    source.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "frames"
    path.mkdir()
    for number, image in enumerate(images(12), start=8):
        Image.fromarray(image).save(path / f"img_{number:05d}.png")
    (path / "notes.txt").write_text("not a frame")
    return path


def test_a_folder_of_frames(folder: Path) -> None:
    truth = np.stack(images(12))
    with Video(folder, fps=10.0) as video:
        assert (len(video), video.fps, video.duration, video.size) == (12, 10, pytest.approx(1.2), (48, 64))
        clip = video.read([11, 0, 3])
        np.testing.assert_array_equal(as_array(clip.pixels), truth[[11, 0, 3]])
        np.testing.assert_allclose(clip.seconds, [1.1, 0, 0.3])
        small = video.read([2], short_side=24).pixels
        expected = resize(torch.from_numpy(truth[[2]]).permute(0, 3, 1, 2).float(), 24, 32)
        assert (small - expected).abs().max() <= 1


def test_frames_are_ordered_by_number_and_series_by_prefix(folder: Path) -> None:
    for file in folder.glob("img_*.png"):
        file.rename(folder / f"img_{int(file.stem[4:])}.png")  # img_8 before img_10
    Image.fromarray(images(1)[0]).save(folder / "flow_x_1.png")
    Image.fromarray(images(1)[0]).save(folder / "flow_x_2.png")
    truth = np.stack(images(12))
    np.testing.assert_array_equal(as_array(Video(folder, prefix="img_").read(range(12)).pixels), truth)
    assert len(Video(folder, prefix="flow_x_", channels=1)) == 2


@pytest.mark.slow
def test_opening_thousands_leaves_memory_and_handles_flat(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.mp4", 2, size=(16, 16))

    def footprint() -> tuple[int, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(os.listdir("/proc/self/fd")), pages * os.sysconf("SC_PAGE_SIZE")

    if not Path("/proc/self/statm").exists():
        pytest.skip("reads memory from /proc")

    def open_and_close(times: int) -> tuple[int, int]:
        for turn in range(times):
            with Video(path) as video:
                if turn % 10 == 0:
                    video.read([1])
        return footprint()

    handles, memory = open_and_close(300)
    later_handles, later_memory = open_and_close(1000)
    assert later_handles == handles
    assert later_memory - memory < 0.8e6  # 800 bytes a video


def test_closing_a_video_closes_its_file(files: dict[str, Path]) -> None:
    video = Video(files["h264.mp4"])
    container = video._source._decoder._container  # pyright: ignore[reportAttributeAccessIssue]
    video.close()
    with pytest.raises(AssertionError):
        next(container.demux())


def test_repr(files: dict[str, Path]) -> None:
    assert repr(Video(files["h264.mp4"])) == "Video(h264.mp4: 40 frames, 1.60 s)"


def test_samples_cut_away_by_an_edit_list_are_not_shown(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "edited.mp4"
    with (
        av.open(str(files["h264.mp4"])) as source,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled", "use_editlist": "1"}) as target,
    ):
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                assert packet.pts is not None
                packet.pts, packet.dts = packet.pts - 10 * 512, packet.dts - 10 * 512
                packet.stream = copy
                target.mux(packet)
    truth = every_frame(path)
    assert len(truth) == 30
    with Video(path) as video:
        assert len(video) == 30
        assert video.seconds[0] == 0
        np.testing.assert_array_equal(as_array(video.read([0, 13, 29]).pixels), truth[[0, 13, 29]])
