"""Folders of numbered pictures, as data sets such as Something-Something hand out: img_00001.jpg, img_00002.jpg, ...

Legend: H and W pixels, C channels, T frames.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image, ImageOps

from muybridge.core.errors import DataError
from muybridge.media.container import check_size
from muybridge.media.decoders import Picture, Pictures, gather, scaled_size

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_NUMBERED = re.compile(r"(.*?)(\d+)")
_REFETCH = "extract or fetch the frames again, or leave the folder out"


class FrameFolder:
    """A folder whose pictures are the frames of one video; each is read when asked for.

    Args:
        path: the folder.
        channels: 3 for RGB, 1 for brightness.
        fps: frames a second, as a folder keeps no clock.
        prefix: what the names of the pictures start with, where a folder holds several series.
        fewest: pictures that there must be.

    Raises:
        DataError: too few pictures, several series, numbers missing or double.
    """

    def __init__(self, path: Path, channels: int, fps: float, prefix: str | None, fewest: int = 2) -> None:
        self.path, self.channels = path, channels
        self.files = _in_order(path, prefix, fewest)
        self.seconds: Float64[np.ndarray, " T"] = np.arange(len(self.files)) / fps
        self.duration = len(self.files) / fps

    def __len__(self) -> int:
        return len(self.files)

    def close(self) -> None:
        """Nothing is held open."""

    def as_channels(self, channels: int) -> "FrameFolder":
        """The same images, read as RGB (3 channels) or gray (1)."""
        twin = copy.copy(self)
        twin.channels = channels
        return twin

    def read(self, ranks: Sequence[int], short_side: int | None) -> Pictures:
        """The frames with these rising numbers."""
        return gather(self.path, ranks, self._pictures(ranks, short_side))

    def _pictures(self, ranks: Sequence[int], short_side: int | None) -> Iterator[tuple[int, Picture]]:
        for rank in ranks:
            yield rank, self._picture(self.files[rank], short_side)

    def _picture(self, file: Path, short_side: int | None) -> Picture:
        try:
            with Image.open(file) as image:
                check_size(file, image.height, image.width)
                if image.mode[0] in "IF":  # 16 bits and more: converting would clip, not scale
                    raise DataError(
                        f"the picture has more than 8 bits a channel ({image.mode})",
                        expected="8 bits",
                        hint="scale the frames to 0..255 and write them as 8-bit pictures",
                        where=file,
                    )
                upright = ImageOps.exif_transpose(image).convert("RGB" if self.channels == 3 else "L")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
            reason = getattr(problem, "strerror", None) or problem
            raise DataError(
                f"the frame cannot be read ({reason})", expected="an undamaged picture", hint=_REFETCH, where=file
            ) from problem
        height, width = scaled_size(upright.height, upright.width, short_side)
        if (height, width) != (upright.height, upright.width):
            upright = upright.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(upright).reshape(height, width, self.channels)


def _in_order(folder: Path, prefix: str | None, fewest: int) -> list[Path]:
    """The pictures by rising number, without a gap."""
    try:
        pictures = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != "."]
    except OSError as problem:
        raise DataError(
            f"the folder cannot be read ({problem.strerror})",
            expected="a folder of frames",
            hint="check the path and its permissions",
            where=folder,
        ) from None
    series: dict[str, dict[int, Path]] = {}
    for file in sorted(pictures):
        match = _NUMBERED.fullmatch(file.stem)
        if prefix is not None and (match is None or match[1] != prefix):
            continue
        if match is None:
            raise _unfit(folder, f"{file.name} has no number", "names that end in the frame's number")
        frames = series.setdefault(match[1], {})
        if int(match[2]) in frames:
            raise _unfit(folder, f"two pictures are number {int(match[2])}", "one picture for each number")
        frames[int(match[2])] = file
    if len(series) > 1:
        names = ", ".join(f"{name}*" for name in list(series)[:4])
        raise DataError(
            f"the folder holds several series of pictures ({names})",
            expected="one series, or the prefix of the one that is meant",
            hint="move the others elsewhere, or name the prefix",
            where=folder,
        )
    frames = next(iter(series.values()), {})
    if len(frames) < fewest:
        raise _unfit(folder, "it holds no picture" if not frames else "it holds a single picture", "two or more frames")
    missing = sorted(set(range(min(frames), max(frames))) - set(frames))
    if missing:
        names = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise _unfit(folder, f"{len(missing)} of its frames are missing (number {names})", "numbers without a gap")
    return [frames[number] for number in sorted(frames)]


def _unfit(folder: Path, came: str, expected: str) -> DataError:
    return DataError(came, expected=expected, hint=_REFETCH, where=folder)
