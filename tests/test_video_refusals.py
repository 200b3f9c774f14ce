"""What cannot be read as frames is refused with the reason: codecs, images, arrays."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from muybridge.core.errors import DataError
from muybridge.media.frame_array import ArrayVideo
from muybridge.media.video import Video
from tests.videos import images, write


def test_an_unknown_codec(tmp_path: Path) -> None:
    path = write(tmp_path / "odd.avi", 3, name="mjpeg.avi")
    path.write_bytes(path.read_bytes().replace(b"MJPG", b"QQQQ"))
    with pytest.raises(DataError, match=r"no decoder for its video codec is available\. Expected a common codec"):
        Video(path)


def test_a_gif_without_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.gif", 3, name="palette.gif")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match="cut off: it ends without the byte that ends a GIF"):
        Video(path)


def test_an_avi_that_is_shorter_than_it_states(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.avi", 8, name="mjpeg.avi")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size - 100])
    with pytest.raises(DataError, match=rf"cut off: it ends at byte {size - 100} of \d+"):
        Video(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_one_image_of_a_folder(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(images(1)[0]).save(tmp_path / f"img_1{suffix}")
    with pytest.raises(DataError, match=r"it is a single image\. .*Name the folder instead"):
        Video(tmp_path / f"img_1{suffix}")


def test_an_animated_image_in_a_folder_of_frames(tmp_path: Path) -> None:
    first, *others = map(Image.fromarray, images(3))
    for number in (1, 2):
        first.save(tmp_path / f"{number}.tif", save_all=True, append_images=others)
    with Video(tmp_path) as video, pytest.raises(DataError, match=r"animated or has several pages \(3\)"):
        video.read([0])


@pytest.mark.parametrize(
    ("array", "problem", "hint"),
    [
        (np.zeros((4, 16, 16, 4), np.uint8), "4 x 16 x 16 x 4", r"array\[\.\.\., :3\]"),
        (np.zeros((4, 3, 16, 16), np.uint8), "4 x 3 x 16 x 16", r"transpose\(0, 2, 3, 1\)"),
        (np.zeros((3, 4, 16, 16), np.uint8), "3 x 4 x 16 x 16", r"transpose\(1, 2, 3, 0\)"),
        (np.zeros((1, 4, 16, 16, 3), np.uint8), "1 x 4 x 16 x 16 x 3", r"array\[0\]"),
        (np.zeros((4, 16, 16), np.uint8), "4 x 16 x 16", r"array\[\.\.\., None\]"),
        (np.zeros((16, 16, 3), np.uint8), "16 x 16 x 3", r"numpy\.stack"),
        (np.zeros((4, 16, 16, 3), np.float32), "the array is of float32", r"255 \* array"),
        (np.zeros((1, 16, 16, 3), np.uint8), "the array has a single frame", "whole recording"),
        (np.zeros((0, 16, 16, 3), np.uint8), "the array has no frame", "whole recording"),
        (np.zeros((4, 4, 16, 3), np.uint8), "its frames are 16x4 pixels", "smaller"),
    ],
)
def test_arrays_that_are_not_frames(array: np.ndarray, problem: str, hint: str) -> None:
    for frames in (array, torch.from_numpy(array)):
        with pytest.raises(DataError, match=rf"(?is){problem}.*{hint}"):
            ArrayVideo(frames)
