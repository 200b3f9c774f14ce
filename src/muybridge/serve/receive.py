"""The body of a request as a temporary file: raw or as a form, counted while it arrives."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from fastapi import Request

from muybridge.core.errors import RequestError
from muybridge.media.skeleton import SUFFIXES as SKELETON_SUFFIXES
from muybridge.media.video import SUFFIXES as VIDEO_SUFFIXES
from muybridge.serve.config import Limits

TYPES = {
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "video/x-matroska": ".mkv",
    "video/x-msvideo": ".avi",
    "video/mpeg": ".mpg",
    "video/mp2t": ".ts",
    "video/ogg": ".ogv",
    "image/gif": ".gif",
    "application/json": ".json",
    "text/csv": ".csv",
    "text/plain": ".txt",
}
"""The suffix of a file that comes without a name, by the content type of the body."""

ANY_TYPES = ("", "application/octet-stream", "application/x-hdf", "application/zip", "binary/octet-stream")
"""Content types that say nothing of the content."""

NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Upload:
    """A body that arrived whole.

    Attributes:
        path: of the temporary file.
        name: what the client calls it; never a path on this machine.
        bytes: its size.
    """

    path: Path
    name: str
    bytes: int


@asynccontextmanager
async def received(request: Request, folder: Path, limits: Limits, *, skeletons: bool) -> AsyncIterator[Upload]:
    """The body of a request as a temporary file in a folder, which is removed at the end whatever happens.

    A body of type ``multipart/form-data`` has one file; any other is the file itself, whose name may be in the query as
    ``filename``. Of the name only the ending counts, and only one of those that are known.

    Args:
        request: not read yet.
        folder: for temporary files.
        limits: of the size and the time.
        skeletons: whether the model takes skeletons.

    Raises:
        RequestError: too large, too slow, of a wrong type, without a file, or cut off.
    """
    content_type, options = _content_type(request.headers.get("content-type", ""))
    _check_length(request.headers.get("content-length"), limits)
    body = _Body(folder, limits, skeletons)
    try:
        if content_type == "multipart/form-data":
            await _read_form(request, body, options.get("boundary", ""), limits)
        else:
            body.begin(request.query_params.get("filename", ""), content_type)
            async for chunk in _chunks(request, limits):
                body.write(chunk)
        yield body.finish()
    finally:
        body.remove()


class _Body:
    """The temporary file of one request."""

    def __init__(self, folder: Path, limits: Limits, skeletons: bool) -> None:
        self.folder, self.limits, self.skeletons = folder, limits, skeletons
        self.name, self.size = "", 0
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def begin(self, name: str, content_type: str) -> None:
        """Opens the file; raises RequestError for a name or a type that is not of the model's kind."""
        if self._path is not None:
            raise _refused("several files", "one file in a request", "send one after the other")
        self.name = clean_name(name) or "recording"
        suffix = choose_suffix(name, content_type, skeletons=self.skeletons)
        self._path = self.folder / f"{secrets.token_hex(8)}{suffix}"
        self._file = self._path.open("xb")

    def write(self, chunk: bytes) -> None:
        """Appends; raises RequestError at the first byte too much."""
        self.size += len(chunk)
        if self.size > self.limits.bytes:
            raise too_large(self.limits)
        if self._file is not None:
            self._file.write(chunk)

    def finish(self) -> Upload:
        """The whole file; raises RequestError if there is none, or an empty one."""
        if self._path is None or self._file is None:
            raise _refused("no file in the form", "a form with one file", "send the file as a field of the form")
        self._file.close()
        if not self.size:
            raise _refused("an empty body", "a recording", "send the file as the body, or as a field of a form")
        return Upload(self._path, self.name, self.size)

    def remove(self) -> None:
        """Removes the file."""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


async def _chunks(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The parts of the body as they arrive; raises RequestError where they do not."""
    ends = time.monotonic() + limits.upload_seconds
    more = True
    while more:
        patience = min(limits.idle_seconds, ends - time.monotonic())
        try:
            message = await asyncio.wait_for(request.receive(), max(patience, 0))
        except TimeoutError:
            raise RequestError(
                "the body stopped, or arrives too slowly",
                expected=f"a part every {limits.idle_seconds:g} s, and all within {limits.upload_seconds:g} s",
                hint="send it again",
                status=408,
            ) from None
        if message["type"] == "http.disconnect":
            raise _refused("the body was cut off", "the whole body", "send it again")
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def _read_form(request: Request, body: _Body, boundary: str, limits: Limits) -> None:
    """Writes the file of a form; its other fields are ignored."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    if not boundary:
        raise _refused("a form without a boundary", "multipart/form-data; boundary=...", "let a library make the form")
    fields = _FormFields(body)
    try:
        parser = MultipartParser(boundary, fields.callbacks())
        async for chunk in _chunks(request, limits):
            body.size += 0 if fields.in_file else len(chunk)  # what is around the file counts roughly
            body.write(b"")
            parser.write(chunk)
        parser.finalize()
    except FormParserError as problem:
        raise _refused(f"the form is damaged ({problem})", "a complete form", "let a library make the form") from None
    if not fields.ended:
        raise _refused("the form is cut off", "the whole form", "send it again")


class _FormFields:
    """What the parser of a form reports: headers of each field, and the content of the one that is a file."""

    def __init__(self, body: _Body) -> None:
        self.body, self.in_file, self.ended = body, False, False
        self._headers: dict[str, str] = {}
        self._name, self._value = b"", b""

    def callbacks(self) -> Any:
        """By the names of the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._open,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers, self.in_file = {}, False

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = self._value.decode("utf-8", "replace")
        self._name, self._value = b"", b""

    def _open(self) -> None:
        _, options = _content_type(self._headers.get("content-disposition", ""))
        if "filename" in options:
            self.in_file = True
            self.body.begin(options["filename"], _content_type(self._headers.get("content-type", ""))[0])

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self.in_file:
            self.body.write(data[start:end])

    def _end(self) -> None:
        self.in_file = False

    def _finish(self) -> None:
        self.ended = True


def _content_type(value: str) -> tuple[str, dict[str, str]]:
    """The first word of a header such as ``multipart/form-data; boundary=x``, and its parameters."""
    message = Message()
    message["content-type"] = value
    words = message.get_params(failobj=[("", "")])
    return words[0][0].lower().strip(), {name.lower(): text for name, text in words[1:]}


def _check_length(stated: str | None, limits: Limits) -> None:
    """Refuses a body by its stated length, before any of it is read."""
    if stated is not None and stated.isdigit() and int(stated) > limits.bytes + 4096:
        raise too_large(limits)


def clean_name(name: str) -> str:
    """The last part of a file name, without characters that do not show, for messages."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\ud800-\udfff]", "", last)[:NAME_LENGTH].strip()


def choose_suffix(name: str, content_type: str, *, skeletons: bool) -> str:
    """The suffix of the temporary file: one that the readers know, or none for a video whose content decides.

    Raises:
        RequestError: the name or the type is that of something else.
    """
    known = SKELETON_SUFFIXES if skeletons else VIDEO_SUFFIXES
    suffix = PurePosixPath(clean_name(name)).suffix.lower()
    by_type = TYPES.get(content_type, "")
    if suffix in known:
        return suffix
    if not suffix and by_type in known:
        return by_type
    if not suffix and not skeletons and (content_type in ANY_TYPES or content_type.startswith("video/")):
        return ""
    given = f"a file that ends in {suffix}" if suffix else f"a body of type {content_type or 'unknown'}"
    raise RequestError(
        given if suffix or content_type not in ANY_TYPES else "a file of skeletons without its name",
        expected=f"{'skeletons' if skeletons else 'a video'}: {', '.join(known)}",
        hint="give the name of the file, with its ending, as ?filename= or in the form",
        status=415,
    )


def too_large(limits: Limits) -> RequestError:
    """The error for a body with too many bytes."""
    return RequestError(
        f"the body has more than {limits.bytes} bytes",
        expected=f"at most {limits.bytes} bytes",
        hint="send a shorter or smaller recording",
        status=413,
    )


def _refused(problem: str, expected: str, hint: str) -> RequestError:
    return RequestError(problem, expected=expected, hint=hint, status=400)
