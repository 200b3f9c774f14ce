"""The process that looks at the frames of one client as they come, and says what is happening in them."""

import io
import math
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from muybridge.core.errors import MuybridgeError, RequestError
from muybridge.predict import Predictor
from muybridge.serve.config import Limits
from muybridge.serve.worker import begin_process, is_out_of_memory, too_large
from muybridge.timeline import LivePredictor

NAME = "the stream"


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a stream is answered.

    Attributes:
        window: seconds that an answer stands on; 0 takes the median of training.
        hop: at least so many seconds from an answer to the next; None takes a quarter of the window.
        top: how many classes an answer names.
    """

    window: float = 0.0
    hop: float | None = None
    top: int = 5


def work_on_stream(connection: Connection, predictor: Predictor, settings: StreamSettings, limits: Limits) -> None:
    """Ask for frames, and answer the newest, until the connection is closed.

    Args:
        connection: gives lists of frames and their times when it is asked for the next, and takes messages: ``ready``
            (the window and the hop), ``next``, ``forward`` (inputs of the model), ``answer``, ``notice``, ``failed``.
        predictor: without its model.
        settings: of the stream.
        limits: of what is read.
    """
    begin_process(connection, [predictor], limits)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            _answer_frames(connection, predictor, settings, limits)
        except MuybridgeError as problem:
            connection.send(("failed", problem))
        except (MemoryError, RuntimeError) as problem:
            if not is_out_of_memory(problem):
                raise
            connection.send(("failed", too_large(NAME, limits)))


def _answer_frames(connection: Connection, predictor: Predictor, settings: StreamSettings, limits: Limits) -> None:
    live = LivePredictor(predictor, settings.window, top=settings.top)
    hop = live.hop if settings.hop is None else settings.hop
    connection.send(("ready", (live.window, hop)))
    due = -math.inf
    while True:
        connection.send(("next", None))
        newest = -math.inf
        for data, newest in connection.recv():
            if reason := live.push(read_jpeg(data, limits), newest):
                connection.send(("notice", f"{reason}; what came before is forgotten"))
                due = -math.inf
        if newest >= due - 1e-9 and (answer := live.answer()) is not None:
            due = newest + hop
            connection.send(("answer", answer))


def read_jpeg(data: bytes, limits: Limits) -> UInt8[np.ndarray, "H W 3"]:
    """The pixels of a JPEG image as RGB, turned as its EXIF says.

    Args:
        data: the file.
        limits: of pixels; larger images are refused by the header, before they are decoded.

    Raises:
        RequestError: no JPEG, damaged, or too large.
    """
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            long = max(image.size) > limits.side
            if long or image.width * image.height > limits.pixels:
                most = f"{limits.side} pixels in height and in width" if long else f"{limits.pixels} pixels a frame"
                raise RequestError(
                    f"a frame is {image.width}x{image.height} pixels",
                    expected=f"at most {most}",
                    hint="send smaller frames",
                    where=NAME,
                    status=413,
                )
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except Image.UnidentifiedImageError as problem:
        raise _damaged("a frame is no JPEG image") from problem
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise _damaged(f"a frame cannot be read ({problem})".replace("<_io.BytesIO object", "<")) from problem


def _damaged(problem: str) -> RequestError:
    return RequestError(
        problem, expected="a JPEG image in each binary message", hint="send whole images", where=NAME, status=422
    )
