"""Folders of numbered images, as data sets such as Something-Something are distributed: img_00001.jpg, img_00002.jpg.

Legend: H and W pixels, C channels, T frames.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import ExifTags, Image, ImageOps

from muybridge.core.errors import DataError
from muybridge.core.files import is_system_name
from muybridge.media.container import IMAGE_SUFFIXES, check_regular_file, check_size
from muybridge.media.decoders import Image as Pixels
from muybridge.media.decoders import Images, another_size, gather, scaled_size
from muybridge.media.orientation import Orientation

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM")
"""Pillow's names of the formats that are read, whatever the suffix says; others might start external programs."""

_NUMBERED = re.compile(r"(.*?)(\d+)")
_EXTRACT_AGAIN = "extract or fetch the frames again, or leave the folder out"
_EXIF = {
    2: Orientation(flip_x=True),
    3: Orientation(flip_x=True, flip_y=True),
    4: Orientation(flip_y=True),
    5: Orientation(True),
    6: Orientation(True, flip_x=True),
    7: Orientation(True, flip_x=True, flip_y=True),
    8: Orientation(True, flip_y=True),
}


class FrameFolder:
    """A folder whose images are the frames of one video; each is read when it is requested.

    Images are turned and mirrored as their EXIF orientation says, and transparency is ignored.

    Args:
        path: the folder.
        channels: 3 for RGB, 1 for brightness.
        fps: frames a second, since a folder stores no times.
        prefix: what the names of the images start with, where a folder contains several series.
        fewest: the least number of images.

    Raises:
        DataError: too few images, several series, numbers missing or repeated.
    """

    def __init__(self, path: Path, channels: int, fps: float, prefix: str | None, fewest: int = 2) -> None:
        self.path, self.channels = path, channels
        self.files = _numbered_files(path, prefix, fewest)
        self.seconds: Float64[np.ndarray, " T"] = np.arange(len(self.files)) / fps
        self.duration = len(self.files) / fps
        self.pixel_aspect = 1.0

    def __len__(self) -> int:
        return len(self.files)

    def close(self) -> None:
        """No file is kept open."""

    def as_channels(self, channels: int) -> "FrameFolder":
        """The same images, read as RGB (3 channels) or gray (1)."""
        twin = copy.copy(self)
        twin.channels = channels
        return twin

    @cached_property
    def orientation(self) -> Orientation:
        """How the first image is turned or mirrored to be shown, as its EXIF says."""
        with _open_image(self.files[0]) as image:
            return _orientation_of(image)

    def read(self, ranks: Sequence[int], short_side: int | None) -> Images:
        """The frames with these rising numbers."""
        return gather(ranks, self._images(ranks, short_side))

    def _images(self, ranks: Sequence[int], short_side: int | None) -> Iterator[tuple[int, Pixels]]:
        for rank in ranks:
            yield rank, self._image(rank, short_side)

    def _image(self, rank: int, short_side: int | None) -> Pixels:
        with _open_image(self.files[rank]) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB" if self.channels == 3 else "L")
        size = upright.height, upright.width
        if size != self.size:
            raise another_size(self.path, rank, size, self.size)
        height, width = scaled_size(*size, short_side)
        if (height, width) != size:
            upright = upright.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(upright).reshape(height, width, self.channels)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the first image as shown, from its header."""
        with _open_image(self.files[0]) as image:
            turned = image.format != "TIFF" and _orientation_of(image).transpose  # Pillow turns TIFF images by itself
            return (image.width, image.height) if turned else (image.height, image.width)


@contextmanager
def _open_image(file: Path) -> Iterator[Image.Image]:
    """An image of 8 bits a channel; what is wrong with it is raised as a DataError, also while it is decoded."""
    check_regular_file(file, "an undamaged image")
    try:
        with file.open("rb") as stream, Image.open(stream, formats=_FORMATS) as image:
            check_size(file, image.height, image.width)
            _check_kind(file, image)
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise DataError(
            f"the frame cannot be read ({reason})", expected="an undamaged image", hint=_EXTRACT_AGAIN, where=file
        ) from problem


def _orientation_of(image: Image.Image) -> Orientation:
    """How an image is turned or mirrored to be shown, as its EXIF says."""
    return _EXIF.get(image.getexif().get(ExifTags.Base.Orientation, 1), Orientation())


def _check_kind(file: Path, image: Image.Image) -> None:
    if image.mode[0] in "IF":  # 16 bits and more: converting would clip, not scale
        raise DataError(
            f"the image has more than 8 bits a channel ({image.mode})",
            expected="8 bits",
            hint="scale the frames to 0..255 and write them as 8-bit images",
            where=file,
        )
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # of which phones write a preview as the second
        raise DataError(
            f"the image is animated or has several pages ({getattr(image, 'n_frames', 0)})",
            expected="an image for each frame",
            hint="extract its frames, or convert it to a video",
            where=file,
        )


def is_numbered(file: Path) -> bool:
    """Whether the name of an image ends in a number, as those of frames do."""
    return _NUMBERED.fullmatch(file.stem) is not None


def _numbered_files(folder: Path, prefix: str | None, fewest: int) -> list[Path]:
    """The images by rising number, without a gap."""
    series = _series(folder, prefix)
    if len(series) > 1:
        names = ", ".join(f"{name}*" for name in list(series)[:4])
        raise DataError(
            f"the folder contains several series of images ({names})",
            expected="one series, or the prefix of the one that is meant",
            hint="move the others elsewhere, or name the prefix",
            where=folder,
        )
    frames = next(iter(series.values()), {})
    if len(frames) < fewest:
        raise _unfit(folder, "it contains a single image" if frames else "it contains no image", "two or more frames")
    missing = sorted(set(range(min(frames), max(frames))) - set(frames))
    if missing:
        names = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise _unfit(folder, f"{len(missing)} of its frames are missing (number {names})", "numbers without a gap")
    return [frames[number] for number in sorted(frames)]


def _series(folder: Path, prefix: str | None) -> dict[str, dict[int, Path]]:
    """The images of a folder by the part of their names before the number, and by the number."""
    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
    except OSError as problem:
        raise DataError(
            f"the folder cannot be read ({problem.strerror})",
            expected="a folder of frames",
            hint="check the path and its permissions",
            where=folder,
        ) from None
    series: dict[str, dict[int, Path]] = {}
    for file in sorted(file for file in files if not is_system_name(file.name)):
        match = _NUMBERED.fullmatch(file.stem)
        if prefix is not None and (match is None or match[1] != prefix):
            continue
        if match is None:
            raise _unfit(folder, f"{file.name} has no number", "names that end in the frame's number")
        frames = series.setdefault(match[1], {})
        if int(match[2]) in frames:
            raise _unfit(folder, f"two images have the number {int(match[2])}", "one image for each number")
        frames[int(match[2])] = file
    return series


def _unfit(folder: Path, problem: str, expected: str) -> DataError:
    return DataError(problem, expected=expected, hint=_EXTRACT_AGAIN, where=folder)
