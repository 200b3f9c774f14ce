"""How a stored frame must be turned or mirrored to be shown, as the display matrix in the file says.

Legend: H and W pixels as stored, h and w pixels as shown, C channels.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from muybridge.core.errors import DataError
from muybridge.media.container import REPAIR

_TOLERANCE = math.sin(math.radians(1.0))  # FFmpeg, too, takes angles within a degree for right ones


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways to place an image on the screen; the default leaves it as it is.

    Attributes:
        transpose: whether rows become columns, before the image is mirrored.
        flip_x: whether left and right are exchanged in what is shown.
        flip_y: whether top and bottom are exchanged in what is shown.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, image: UInt8[np.ndarray, "H W C"]) -> UInt8[np.ndarray, "h w C"]:
        """The image as it is shown, as a view of the same memory."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        return image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


def orientation_of(frame: av.VideoFrame, path: Path) -> Orientation:
    """The orientation in which a decoded frame is shown.

    A point (x, y) of the stored frame is shown at (a x + c y, b x + d y), where a, b, c, d are the entries 0, 1, 3, 4
    of the display matrix (ISO/IEC 14496-12, 6.2.2; FFmpeg's libavutil/display.h).

    Raises:
        DataError: the file asks for a rotation by another angle than a multiple of 90 degrees.
    """
    data = frame.side_data.get("DISPLAYMATRIX") if frame.side_data else None
    if data is None or len(bytes(data)) < 36:
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    largest = max(map(abs, (a, b, c, d)))
    straight, crossed = max(abs(a), abs(d)), max(abs(b), abs(c))
    if min(straight, crossed) > _TOLERANCE * largest:
        raise DataError(
            f"the file asks for a rotation by {math.degrees(math.atan2(b, a)):.1f} degrees",
            expected="a multiple of 90 degrees",
            hint=REPAIR,
            where=path,
        )
    if crossed > straight:
        return Orientation(True, flip_x=c < 0, flip_y=b < 0)
    return Orientation(flip_x=a < 0, flip_y=d < 0)
