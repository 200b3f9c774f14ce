"""Optical flow on disk: its metadata, three storage formats, and the checks against the video.

- frames: a folder of ``flow_x_00001.jpg`` and ``flow_y_00001.jpg`` (also read from sub-folders ``flow_x`` and
  ``flow_y``), as other tools write them, with a ``flow.json`` that they do not write;
- npz: ``flow`` (bytes, fields x 2 x height x width) and its metadata as JSON (``stamp``), lossless;
- video: one gray video with x above y, the smallest.

Files are written atomically.

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
from muybridge.core.types import Span
from muybridge.media.flow import BOUND, Fields, Flow, Method
from muybridge.media.frames import FrameFolder
from muybridge.media.npz import NUMPY_PROBLEMS, read_npz
from muybridge.media.video import SUFFIXES, Video

Form = Literal["frames", "npz", "video"]

SUFFIX: dict[Form, str] = {"frames": "", "npz": ".npz", "video": ".mkv"}

_LARGEST = 2**36  # bytes of the fields of a video
_MAKE_HINT = "make it with muybridge flow"
_REMAKE_HINT = "delete it and make it again with muybridge flow"


@dataclass(frozen=True, slots=True)
class FlowMetadata:
    """What stored flow was made from, and how.

    Attributes:
        frames: of the video; there is one field fewer.
        height, width: of the video in pixels.
        method: of computing.
        bound: in pixels; larger motion was clipped to it.
        span: of the file, see :class:`Video`; None for the whole file.
    """

    frames: int
    height: int
    width: int
    method: Method
    bound: float
    span: Span | None = None


class StoredFlow(Flow):
    """Optical flow in a folder of frames, an ``.npz`` file or a video.

    Flow of other tools has no metadata: its bound is then taken to be the requested one.

    Args:
        path: the folder or file.
        video: what it should be the flow of; None skips that check, and seconds follow from ``fps``.
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
        self.metadata = self._source.metadata
        self.seconds = torch.arange(len(self._source), dtype=torch.float64) / fps
        try:
            self._check(video, bound, method)
        except DataError:
            self.close()
            raise
        if video is not None:
            self.seconds = video.seconds[:-1]

    def close(self) -> None:
        """Closes the files."""
        self._source.close()

    def _fields(self, numbers: Sequence[int]) -> Fields:
        return self._source.read(numbers)

    def _check(self, video: Video | None, bound: float, method: Method | None) -> None:
        metadata = self.metadata
        if metadata is not None and len(self) != metadata.frames - 1:
            raise DataError(
                f"it holds {len(self)} of {metadata.frames - 1} flow fields",
                expected="one field fewer than the video has frames",
                hint=_REMAKE_HINT,
                where=self.path,
            )
        if metadata is not None and (metadata.bound != bound or method not in (None, metadata.method)):
            raise DataError(
                f"the flow was made by {metadata.method} with bound {metadata.bound:g}",
                expected=f"{method or metadata.method} with bound {bound:g}",
                hint="set flow.method and flow.bound to these, or make it again in another folder",
                where=self.path,
            )
        if video is None:
            return
        if metadata is not None and metadata.span != video.span:
            raise DataError(
                f"the flow is that of {_part(metadata.span)}",
                expected=f"that of {_part(video.span)} of {video.path.name}",
                hint=_REMAKE_HINT,
                where=self.path,
            )
        height, width = video.size
        size = (metadata.height, metadata.width) if metadata else tuple(self._source.read([0]).shape[2:])
        if len(self) != len(video) - 1 or size != (height, width):
            raise DataError(
                f"the flow is that of {len(self) + 1} frames of {size[1]}x{size[0]} pixels",
                expected=f"that of the {len(video)} frames of {width}x{height} pixels of {video.path.name}",
                hint="make the flow again from this video, or name the folder that belongs to it",
                where=self.path,
            )


def _part(span: Span | None) -> str:
    return "the whole video" if span is None else f"the span {span[0]:g} to {span[1]:g} s"


def find_flow(folder: Path, name: str) -> Path:
    """Where the flow of the recording called ``name`` lies in a folder of flow.

    A name without the video's suffix (``jump`` for ``jump.mp4``), as some tools write it, is found too.

    Raises:
        DataError: there is none.
    """
    stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in SUFFIXES else name
    for candidate in (name, stem):
        for form in SUFFIX:
            if (path := flow_path(folder, candidate, form)).exists():
                return path
    raise DataError(
        f"there is no flow of {name}",
        expected=f"{name}, {name}.npz or {name}.mkv",
        hint=f"{_MAKE_HINT}, or name the folder that holds it",
        where=folder,
    )


def flow_path(folder: Path, name: str, form: Form) -> Path:
    """Where the flow of a recording is stored; always inside the folder, whatever its name."""
    relative = os.path.normpath(f"{name}{SUFFIX[form]}")
    return folder / (quote(relative, safe="") if relative.startswith((os.sep, "..")) else relative)


def write_flow(draft: Path, form: Form, chunks: Iterable[Fields], metadata: FlowMetadata) -> None:
    """Write flow to a draft folder or file; the caller moves it into place when it is complete."""
    if form == "frames":
        _write_frames(draft, chunks)
        (draft / "flow.json").write_text(json.dumps(asdict(metadata)))
    elif form == "npz":
        np.savez_compressed(draft, flow=torch.cat(list(chunks)).numpy(), stamp=json.dumps(asdict(metadata)))
    else:
        _write_video(draft, chunks, metadata)


def _write_frames(folder: Path, chunks: Iterable[Fields]) -> None:
    folder.mkdir()
    number = 0
    for fields in chunks:
        for field in fields.numpy():
            number += 1
            for axis, component in zip("xy", field, strict=True):
                Image.fromarray(component).save(folder / f"flow_{axis}_{number:05}.jpg", quality=95)


def _write_video(path: Path, chunks: Iterable[Fields], metadata: FlowMetadata) -> None:
    if metadata.frames < 3:
        raise DataError(
            "a video of two frames has a single flow field",
            expected="two or more to make a video of",
            hint="store its flow as frames or npz, or leave the video out",
            where=path,
        )
    with av.open(str(path), "w", format="matroska") as container:
        # Short groups, so that a clip from the middle is decoded fast.
        options = {"crf": "10", "preset": "veryfast", "g": "16", "bf": "0"}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = 2 * metadata.height, metadata.width, "gray"
        stream.codec_context.color_range = ColorRange.JPEG  # bytes are 0 to 255, not 16 to 235
        stream.codec_context.thread_count = 1
        container.metadata["comment"] = json.dumps(asdict(metadata))
        for fields in chunks:
            for image in rearrange(fields, "n c h w -> n (c h) w").numpy():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        container.mux(stream.encode(None))


def _open(path: Path, fps: float) -> "_FlowFrames | _FlowArray | _FlowVideo":
    if not path.exists():
        raise DataError(
            "there is no such flow",
            expected="a folder of frames, an .npz file or a video",
            hint=f"{_MAKE_HINT}, or correct the path",
            where=path,
        )
    if path.is_dir():
        return _FlowFrames(path, fps)
    return _FlowArray(path) if path.suffix.lower() == ".npz" else _FlowVideo(path)


class _FlowFrames:
    def __init__(self, path: Path, fps: float) -> None:
        self.metadata = _read_metadata(path)
        in_subfolders = (path / "flow_x").is_dir()
        self._axes = [
            FrameFolder(path / f"flow_{axis}", 1, fps, None, fewest=1)
            if in_subfolders
            else FrameFolder(path, 1, fps, f"flow_{axis}_", fewest=1)
            for axis in "xy"
        ]
        x, y = map(len, self._axes)
        if x != y:
            raise DataError(
                f"it holds {x} fields of x and {y} of y", expected="equally many of both", hint=_REMAKE_HINT, where=path
            )

    def __len__(self) -> int:
        return len(self._axes[0])

    def read(self, numbers: Sequence[int]) -> Fields:
        x, y = (axis.read(numbers, None) for axis in self._axes)
        return rearrange([x[..., 0], y[..., 0]], "c n h w -> n c h w")

    def close(self) -> None:
        """Nothing is held open."""


class _FlowArray:
    def __init__(self, path: Path) -> None:
        try:
            arrays, _ = read_npz(path, ("flow", "stamp"), _LARGEST)
            flow = arrays["flow"]
            self.metadata = _parse_metadata(str(arrays["stamp"])) if "stamp" in arrays else None
        except NUMPY_PROBLEMS as problem:
            raise DataError(
                f"not readable as stored flow ({problem})",
                expected="an .npz with the array flow",
                hint=_REMAKE_HINT,
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

    def read(self, numbers: Sequence[int]) -> Fields:
        return self._flow[list(numbers)]

    def close(self) -> None:
        """Nothing is held open."""


class _FlowVideo:
    def __init__(self, path: Path) -> None:
        self._video = Video(path, channels=1)
        with av.open(f"file:{path}") as container:
            comment = container.metadata.get("COMMENT", container.metadata.get("comment", ""))
        self.metadata = _metadata_from_text(comment, path) if comment.startswith("{") else None
        if self._video.size[0] % 2:
            raise DataError(
                f"its frames are {self._video.size[0]} pixels high",
                expected="x above y, and so an even height",
                hint=_REMAKE_HINT,
                where=path,
            )

    def __len__(self) -> int:
        return len(self._video)

    def read(self, numbers: Sequence[int]) -> Fields:
        return rearrange(self._video.read(numbers).pixels, "n 1 (c h) w -> n c h w", c=2)

    def close(self) -> None:
        self._video.close()


def _read_metadata(folder: Path) -> FlowMetadata | None:
    try:
        text = (folder / "flow.json").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    return _metadata_from_text(text, folder)


def _parse_metadata(text: str) -> FlowMetadata:
    """Metadata from JSON; raises ValueError, TypeError or RecursionError where it is invalid."""
    values = json.loads(text)
    if not isinstance(values, dict):
        raise TypeError("metadata are a JSON object")
    if values.get("span") is not None:
        start, end = values["span"]
        values["span"] = float(start), float(end)
    metadata = FlowMetadata(**values)
    numbers = (metadata.frames, metadata.height, metadata.width)
    if any(type(number) is not int for number in numbers) or not isinstance(metadata.method, str):
        raise TypeError("frames, height and width are whole numbers, and method is a word")
    if type(metadata.bound) not in (int, float):
        raise TypeError("bound is a number")
    return metadata


def _metadata_from_text(text: str, path: Path) -> FlowMetadata:
    try:
        return _parse_metadata(text)
    except (ValueError, TypeError, RecursionError) as problem:
        raise DataError(
            f"its metadata cannot be read ({problem})",
            expected="frames, height, width, method and bound",
            hint=_REMAKE_HINT,
            where=path,
        ) from None
