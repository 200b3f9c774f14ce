"""Stored luma and chroma become the RGB of the standards' equations, by the matrix and range that the file states."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

from muybridge.core.errors import DataError
from muybridge.media.video import Decoder, Video
from tests.test_video import DECODERS, as_array
from tests.videos import ffmpeg_frames

# ITU-T H.273, table 4: number of the matrix, and its weights of red and blue.
MATRICES = {
    "bt709": (1, 0.2126, 0.0722),
    "unstated": (2, 0.299, 0.114),
    "bt470bg": (5, 0.299, 0.114),
    "smpte170m": (6, 0.299, 0.114),
    "smpte240m": (7, 0.212, 0.087),
    "bt2020": (9, 0.2627, 0.0593),
}
HEIGHT, WIDTH = 48, 64


def planes(chroma: tuple[int, int], bits: int) -> list[np.ndarray]:
    """Smooth luma and chroma planes, of values that no RGB color exceeds."""
    rng = np.random.default_rng(0)
    result = []
    for (height, width), low, high in (((HEIGHT, WIDTH), 100, 160), (chroma, 112, 144), (chroma, 112, 144)):
        values = np.kron(rng.uniform(low, high, (height // 4, width // 4)), np.ones((4, 4)))
        result.append((values * (1 << (bits - 8))).round().astype(np.uint16 if bits > 8 else np.uint8))
    return result


def store(
    path: Path, layout: str, stored: list[np.ndarray], matrix: int, full_range: bool, codec: str = "ffv1"
) -> Path:
    """A video of two equal frames of these planes; lossless by default."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, layout
        stream.codec_context.thread_count = 1
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full_range else 1
        for index in range(2):
            frame = av.VideoFrame(WIDTH, HEIGHT, layout)
            for plane, values in zip(frame.planes, stored, strict=True):
                rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
                rows[:, : values.shape[1]] = values
                plane.update(rows.tobytes())
            frame.pts, frame.colorspace, frame.color_range = index, matrix, 2 if full_range else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def interpolated(plane: np.ndarray) -> np.ndarray:
    """Chroma at every pixel, from samples that lie on even columns and between each two rows (H.264, figure E-1)."""
    for axis, shift in ((0, 0.5), (1, 0.0)):
        size = plane.shape[axis]
        position = np.clip((np.arange(2 * size) - shift) / 2, 0, size - 1)
        before = np.floor(position).astype(int)
        share = np.expand_dims(position - before, 1 - axis)
        after = np.minimum(before + 1, size - 1)
        plane = plane.take(before, axis) * (1 - share) + plane.take(after, axis) * share
    return plane


def rgb(stored: list[np.ndarray], red: float, blue: float, full_range: bool) -> np.ndarray:
    """ITU-T H.273, equations 38 to 40 and 20 to 31, of planes of one size as 8-bit numbers."""
    luma, chroma_blue, chroma_red = stored
    y = luma / 255 if full_range else (luma - 16) / 219
    u, v = ((chroma - 128) / (255 if full_range else 224) for chroma in (chroma_blue, chroma_red))
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return 255 * np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b], axis=-1)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colors_follow_the_matrix_and_range_of_the_file(
    tmp_path: Path, matrix: str, full_range: bool, decoder: Decoder
) -> None:
    number, red, blue = MATRICES[matrix]
    for layout, bits in (("yuv444p", 8), ("yuv444p10le", 10)):
        stored = planes((HEIGHT, WIDTH), bits)
        truth = rgb([plane / (1 << (bits - 8)) for plane in stored], red, blue, full_range)
        assert 0 <= truth.min() < truth.max() <= 255
        path = store(tmp_path / f"{layout}.mkv", layout, stored, number, full_range)
        with Video(path, decoder=decoder) as video:
            np.testing.assert_allclose(as_array(video.read([1]).pixels)[0], truth, atol=2.0)


@pytest.mark.parametrize("decoder", DECODERS)
def test_shared_chroma_of_10_bits_is_interpolated_where_its_samples_lie(tmp_path: Path, decoder: Decoder) -> None:
    """FFmpeg 5 takes the samples to lie half a pixel further right and down; the mean difference is several levels."""
    number, red, blue = MATRICES["bt2020"]
    stored = planes((HEIGHT // 2, WIDTH // 2), 10)
    path = store(tmp_path / "hdr.mkv", "yuv420p10le", stored, number, full_range=False, codec="libx264")
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))[1].to_ndarray().ravel() / 4
    luma, *chroma = np.split(decoded, [HEIGHT * WIDTH, HEIGHT * WIDTH * 5 // 4])
    chroma = [interpolated(plane.reshape(HEIGHT // 2, WIDTH // 2)) for plane in chroma]
    truth = rgb([luma.reshape(HEIGHT, WIDTH), *chroma], red, blue, full_range=False)
    with Video(path, decoder=decoder) as video:
        assert np.abs(as_array(video.read([1]).pixels)[0] - truth).mean() < 0.5


@pytest.mark.parametrize("matrix", MATRICES)
def test_8_bit_frames_equal_those_of_ffmpeg(tmp_path: Path, matrix: str) -> None:
    path = store(
        tmp_path / "shared.mkv", "yuv420p", planes((HEIGHT // 2, WIDTH // 2), 8), MATRICES[matrix][0], full_range=False
    )
    with Video(path) as video:
        np.testing.assert_array_equal(as_array(video.read([0, 1]).pixels), ffmpeg_frames(path))


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_brightness_is_weighted_as_that_of_images_whatever_the_matrix(
    tmp_path: Path, matrix: str, full_range: bool
) -> None:
    """The luma of ITU-R BT.601 of the RGB colors, from 0 to 255, which Pillow, too, computes."""
    number, red, blue = MATRICES[matrix]
    stored = planes((HEIGHT, WIDTH), 8)
    path = store(tmp_path / "gray.mkv", "yuv444p", stored, number, full_range)
    truth = rgb([plane.astype(float) for plane in stored], red, blue, full_range) @ [0.299, 0.587, 0.114]
    with Video(path, channels=1) as video:
        np.testing.assert_allclose(as_array(video.read([1]).pixels)[0, ..., 0], truth, atol=2.0)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_matrix_that_cannot_be_converted_is_refused(tmp_path: Path, decoder: Decoder) -> None:
    path = store(tmp_path / "ycgco.mkv", "yuv444p", planes((HEIGHT, WIDTH), 8), 8, full_range=False)
    with Video(path, decoder=decoder) as video, pytest.raises(DataError, match=r"matrix with the number 8.*BT\.709"):
        video.read([0])


@pytest.mark.parametrize("size", [(27, 35), (27, 64), (48, 64)])
@pytest.mark.parametrize(
    "layout", ["yuv420p", "yuv422p", "yuv440p", "yuv411p", "yuv444p", "yuv422p10le", "bgr0", "gray"]
)
def test_both_decoders_give_the_same_frames_of_every_layout(tmp_path: Path, layout: str, size: tuple[int, int]) -> None:
    path = tmp_path / "layout.mkv"
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = *size, layout
        for index in range(2):
            frame = av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format=layout)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with Video(path) as pyav, Video(path, decoder="torchcodec") as torchcodec:
        np.testing.assert_array_equal(pyav.read([1]).pixels, torchcodec.read([1]).pixels)
