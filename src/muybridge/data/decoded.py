"""Short videos kept in memory once they are decoded, so that later epochs need not open their files again.

Legend: T frames, C channels, H and W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from einops import rearrange

from muybridge.core.errors import DataError
from muybridge.core.types import Clip
from muybridge.media.video import Video

SHORT_VIDEO_BYTES = 2**21
"""A video counts as short if its decoded frames take no more, at the size at which they are read."""


@dataclass(frozen=True, slots=True)
class DecodedVideo:
    """All frames of a video at one size; read like a :class:`Video`.

    Attributes:
        path: of the file.
        short_side: at which the frames were read.
        clip: all frames.
    """

    path: Path
    short_side: int
    clip: Clip

    def __len__(self) -> int:
        return len(self.clip.pixels)

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.clip.pixels.nbytes

    def read(self, indices: Sequence[int], short_side: int) -> Clip:
        """The frames with these numbers, at the size at which all were decoded."""
        assert short_side == self.short_side, "frames are kept at one size"
        frames = rearrange(self.clip.pixels, "t c h w -> t h w c")[indices]  # stays channels-last in memory
        return Clip(rearrange(frames, "t h w c -> t c h w"), self.clip.seconds[indices])

    def slice_frames(self, first: int, end: int, *, step: int = 1, backwards: bool = False) -> "DecodedVideo":
        """Some of the frames as a video of their own, see :meth:`Video.slice_frames`."""
        numbers = range(first, end, step)
        seconds = self.clip.seconds[first:end:step]
        if backwards:
            numbers, seconds = numbers[::-1], seconds[0] + seconds[-1] - seconds.flip(0)
        pixels = self.read(numbers, self.short_side).pixels
        return DecodedVideo(self.path, self.short_side, Clip(pixels, seconds))

    def close(self) -> None:
        """Nothing to close; the file was closed after decoding."""


def decode_short(video: Video, short_side: int, most_bytes: int) -> DecodedVideo | None:
    """All frames of a video, or None if they take more than this, or if one of them is damaged.

    A damaged frame must not make a recording unreadable whose other frames are all that is asked for.
    """
    most_bytes = min(most_bytes, SHORT_VIDEO_BYTES)
    try:
        if video.read([0], short_side).pixels.nbytes * len(video) > most_bytes:
            return None
        return DecodedVideo(video.path, short_side, video.read(range(len(video)), short_side))
    except DataError:
        return None
