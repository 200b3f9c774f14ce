"""Optical flow on disk: what it was made from, three ways to keep it, and the refusal of what does not fit.

- frames: a folder of ``flow_x_00001.jpg`` and ``flow_y_00001.jpg`` (also read from sub-folders ``flow_x`` and
  ``flow_y``), as other tools write them, with a ``flow.json`` that they do not write;
- npz: ``flow`` (bytes, fields x 2 x height x width) and the stamp, without loss;
- video: one grey video with x above y, the smallest.

What is written appears whole or not at all.

Legend: N fields, H and W pixels; the axis of 2 is x, y.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange
from einops import rearrange
from PIL import Image

from muybridge.core.errors import DataError
from muybridge.media.flow import BOUND, Fields, Flow, Method
from muybridge.media.frames import FrameFolder
from muybridge.media.npz import NUMPY_PROBLEMS, read_npz
from muybridge.media.video import SUFFIXES, Video

Form = Literal["frames", "npz", "video"]

SUFFIX: dict[Form, str] = {"frames": "", "npz": ".npz", "video": ".mkv"}

_LARGEST = 2**36  # bytes of the fields of a video
_MAKE = "make it with muybridge flow"
_AGAIN = "delete it and make it again with muybridge flow"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What stored flow was made from, and how.

    Attributes:
        frames: of the video; there is one field less.
        height, width: of the video in pixels.
        method: of computing.
        bound: in pixels, beyond which flow was cut off.
    """

    frames: int
    height: int
    width: int
    method: Method
    bound: float


class StoredFlow(Flow):
    """Optical flow in a folder of frames, an ``.npz`` file or a video.

    Flow that other tools made bears no stamp: its bound is then taken to be the one asked for.

    Args:
        path: the folder or file.
        video: what it should be the flow of; None leaves that unchecked and counts seconds by ``fps``.
        bound: in pixels, with which it should have been made.
        method: with which it should have been made; None takes any.
        fps: frames a second, where there is no video.

    Raises:
        DataError: missing, damaged, of another video, or made with another bound or method.
    """

    def __init__(
        self,
        path: Path,
        video: Video | None = None,
        *,
        bound: float = BOUND,
        method: Method | None = None,
        fps: float = 30.0,
    ) -> None:
        self.path, self.bound = path, bound
        self._source = _open(path, fps)
        self.stamp = self._source.stamp
        self.seconds = torch.arange(len(self._source), dtype=torch.float64) / fps
        try:
            self._check(video, bound, method)
        except DataError:
            self.close()
            raise
        if video is not None:
            self.seconds = video.seconds[:-1]

    def close(self) -> None:
        """Gives file handles back."""
        self._source.close()

    def _fields(self, ranks: Sequence[int]) -> Fields:
        return self._source.read(ranks)

    def _check(self, video: Video | None, bound: float, method: Method | None) -> None:
        stamp = self.stamp
        if stamp is not None and len(self) != stamp.frames - 1:
            raise DataError(
                f"it holds {len(self)} of {stamp.frames - 1} flow fields",
                expected="one field less than the video has frames",
                hint=_AGAIN,
                where=self.path,
            )
        if stamp is not None and (stamp.bound != bound or method not in (None, stamp.method)):
            raise DataError(
                f"the flow was made by {stamp.method} with bound {stamp.bound:g}",
                expected=f"{method or stamp.method} with bound {bound:g}",
                hint="ask for what is there, or make it again in another folder",
                where=self.path,
            )
        if video is None:
            return
        height, width = video.size
        found = (stamp.height, stamp.width) if stamp else tuple(self._source.read([0]).shape[2:])
        if len(self) != len(video) - 1 or found != (height, width):
            raise DataError(
                f"the flow is that of {len(self) + 1} frames of {found[1]}x{found[0]} pixels",
                expected=f"that of the {len(video)} frames of {width}x{height} pixels of {video.path.name}",
                hint="make the flow again from this video, or name the folder that belongs to it",
                where=self.path,
            )


def find_flow(folder: Path, name: str) -> Path:
    """Where the flow of the recording called ``name`` lies in a folder of flow.

    Tools that name flow after a video without its ending (``jump.mp4``, ``jump``) are understood.

    Raises:
        DataError: there is none.
    """
    bare = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name
    for called in (name, bare):
        for form in SUFFIX:
            if (path := flow_path(folder, called, form)).exists():
                return path
    raise DataError(
        f"there is no flow of {name}",
        expected=f"{name}, {name}.npz or {name}.mkv",
        hint=f"{_MAKE}, or name the folder that holds it",
        where=folder,
    )


def flow_path(folder: Path, name: str, form: Form) -> Path:
    """Where the flow of a recording is kept, inside the folder whatever its name."""
    inside = os.path.normpath(f"{name}{SUFFIX[form]}")
    return folder / (quote(inside, safe="") if inside.startswith((os.sep, "..")) else inside)


def write_flow(draft: Path, form: Form, chunks: Iterable[Fields], stamp: Stamp) -> None:
    """Flow as a folder or file that nobody reads yet; the caller moves it to its place when it is whole."""
    if form == "frames":
        _write_frames(draft, chunks)
        (draft / "flow.json").write_text(json.dumps(asdict(stamp)))
    elif form == "npz":
        np.savez_compressed(draft, flow=torch.cat(list(chunks)).numpy(), stamp=json.dumps(asdict(stamp)))
    else:
        _write_video(draft, chunks, stamp)


def _write_frames(folder: Path, chunks: Iterable[Fields]) -> None:
    folder.mkdir()
    number = 0
    for fields in chunks:
        for field in fields.numpy():
            number += 1
            for axis, picture in zip("xy", field, strict=True):
                Image.fromarray(picture).save(folder / f"flow_{axis}_{number:05}.jpg", quality=95)


def _write_video(path: Path, chunks: Iterable[Fields], stamp: Stamp) -> None:
    if stamp.frames < 3:
        raise DataError(
            "a video of two frames has a single flow field",
            expected="two or more to make a video of",
            hint="keep its flow as frames or npz, or leave the video out",
            where=path,
        )
    with av.open(str(path), "w", format="matroska") as container:
        # Short groups, so that a clip from the middle is soon decoded.
        options = {"crf": "10", "preset": "veryfast", "g": "16", "bf": "0"}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = 2 * stamp.height, stamp.width, "gray"
        stream.codec_context.color_range = ColorRange.JPEG  # bytes are 0 to 255, not 16 to 235
        stream.codec_context.thread_count = 1
        container.metadata["comment"] = json.dumps(asdict(stamp))
        for fields in chunks:
            for picture in rearrange(fields, "n c h w -> n (c h) w").numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="gray")))
        container.mux(stream.encode(None))


def _open(path: Path, fps: float) -> "_Frames | _Npz | _Film":
    if not path.exists():
        raise DataError(
            "there is no such flow",
            expected="a folder of frames, an .npz file or a video",
            hint=f"{_MAKE}, or correct the path",
            where=path,
        )
    if path.is_dir():
        return _Frames(path, fps)
    return _Npz(path) if path.suffix.lower() == ".npz" else _Film(path)


class _Frames:
    def __init__(self, path: Path, fps: float) -> None:
        self.stamp = _read_stamp(path)
        parted = (path / "flow_x").is_dir()
        self._axes = [
            FrameFolder(path / f"flow_{axis}", 1, fps, None, fewest=1)
            if parted
            else FrameFolder(path, 1, fps, f"flow_{axis}_", fewest=1)
            for axis in "xy"
        ]
        x, y = map(len, self._axes)
        if x != y:
            raise DataError(
                f"it holds {x} fields of x and {y} of y", expected="as many of both", hint=_AGAIN, where=path
            )

    def __len__(self) -> int:
        return len(self._axes[0])

    def read(self, ranks: Sequence[int]) -> Fields:
        x, y = (axis.read(ranks, None) for axis in self._axes)
        return rearrange([x[..., 0], y[..., 0]], "c n h w -> n c h w")

    def close(self) -> None:
        """Nothing is held open."""


class _Npz:
    def __init__(self, path: Path) -> None:
        try:
            arrays, _ = read_npz(path, ("flow", "stamp"), _LARGEST)
            flow = arrays["flow"]
            self.stamp = _parse_stamp(str(arrays["stamp"])) if "stamp" in arrays else None
        except NUMPY_PROBLEMS as problem:
            raise DataError(
                f"not readable as stored flow ({problem})",
                expected="an .npz with the array flow",
                hint=_AGAIN,
                where=path,
            ) from None
        if flow.dtype != np.uint8 or flow.ndim != 4 or flow.shape[1] != 2 or not len(flow):
            raise DataError(
                f"flow is {' x '.join(map(str, flow.shape))} of {flow.dtype}",
                expected="fields x 2 x height x width, of bytes",
                hint="map it with muybridge.media.flow.to_bytes, or make it again with muybridge flow",
                where=path,
            )
        self._flow: Fields = torch.from_numpy(flow)

    def __len__(self) -> int:
        return len(self._flow)

    def read(self, ranks: Sequence[int]) -> Fields:
        return self._flow[list(ranks)]

    def close(self) -> None:
        """Nothing is held open."""


class _Film:
    def __init__(self, path: Path) -> None:
        self._video = Video(path, channels=1)
        with av.open(f"file:{path}") as container:
            comment = container.metadata.get("COMMENT", container.metadata.get("comment", ""))
        self.stamp = _to_stamp(comment, path) if comment.startswith("{") else None
        if self._video.size[0] % 2:
            raise DataError(
                f"its frames are {self._video.size[0]} pixels high",
                expected="x above y, and so an even height",
                hint=_AGAIN,
                where=path,
            )

    def __len__(self) -> int:
        return len(self._video)

    def read(self, ranks: Sequence[int]) -> Fields:
        return rearrange(self._video.read(ranks).pixels, "n 1 (c h) w -> n c h w", c=2)

    def close(self) -> None:
        self._video.close()


def _read_stamp(folder: Path) -> Stamp | None:
    try:
        text = (folder / "flow.json").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    return _to_stamp(text, folder)


def _parse_stamp(text: str) -> Stamp:
    """A stamp from JSON; raises ValueError, TypeError or RecursionError where it is none."""
    stamp = Stamp(**json.loads(text))
    numbers = (stamp.frames, stamp.height, stamp.width)
    if any(type(number) is not int for number in numbers) or not isinstance(stamp.method, str):
        raise TypeError("frames, height and width are whole numbers, and method is a word")
    if type(stamp.bound) not in (int, float):
        raise TypeError("bound is a number")
    return stamp


def _to_stamp(text: str, path: Path) -> Stamp:
    try:
        return _parse_stamp(text)
    except (ValueError, TypeError, RecursionError) as problem:
        raise DataError(
            f"its stamp cannot be read ({problem})",
            expected="frames, height, width, method and bound",
            hint=_AGAIN,
            where=path,
        ) from None
