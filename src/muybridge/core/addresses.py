"""What lies at addresses: some of its bytes, by HTTP or as fsspec reads it (``s3://`` and others)."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from muybridge.core.errors import DataError

_TIMEOUT = 30.0  # seconds without an answer
_ATTEMPTS = 4  # with 1, 2 and 4 seconds between them
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

Answer = TypeVar("Answer")


class UnreachableError(DataError):
    """What is at an address could not be had this time; the content may be whole."""


def is_address(text: str) -> bool:
    """Whether a text is an address, such as ``https://host/pack`` or ``s3://bucket/pack``, and not a path."""
    return "://" in text and not text.startswith("file://")


def read_range(address: str, start: int, length: int) -> bytes:
    """Some of the bytes of what is at an address.

    What fails for a moment is tried again, with growing pauses.

    Args:
        address: such as ``https://host/pack/train-000000.tar``.
        start: the first byte.
        length: how many.

    Raises:
        DataError: it is not there, cannot be reached, fsspec's package for it is not installed, or the server does not
            give parts of files.
    """
    content = _http_range(address, start, length) if _is_http(address) else _stored(address, start, start + length)
    if len(content) != length:
        raise DataError(
            f"{len(content)} bytes came in place of {length}, from byte {start} on",
            expected="a whole shard",
            hint="copy the shard to the server again",
            where=address,
        )
    return content


def read_address(address: str) -> bytes:
    """All that is at an address; raises DataError as :func:`read_range`."""
    if _is_http(address):
        return _request(address, {"Accept-Encoding": "identity"}, None)[1]
    return _stored(address)


def unreachable(address: str, problem: Exception) -> UnreachableError:
    """The error for what fsspec cannot read."""
    missing = isinstance(problem, ImportError)
    return UnreachableError(
        f"fsspec's package for it is not installed ({problem})"
        if missing
        else f"cannot be read ({type(problem).__name__}: {problem})",
        expected="an address that exists and may be read",
        hint="run pip install s3fs for s3://, gcsfs for gs://, adlfs for az://"
        if missing
        else "check the address, the connection and the credentials, which fsspec takes from the environment",
        where=address,
    )


def _is_http(address: str) -> bool:
    return address.startswith(("http://", "https://"))


def _stored(address: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes from one to another of what fsspec finds at an address."""
    import fsspec

    def read() -> bytes:
        system, name = fsspec.core.url_to_fs(address)
        return bytes(system.cat_file(name, start=start, end=end))

    try:
        return _again(read)
    except Exception as problem:  # noqa: BLE001 - every storage has errors of its own
        raise unreachable(address, problem) from None


def _again(ask: Callable[[], Answer]) -> Answer:
    """What a function returns; called again, with growing pauses, where it fails by what may pass."""
    for attempt in range(_ATTEMPTS):
        try:
            return ask()
        except (OSError, http.client.HTTPException) as problem:
            if attempt == _ATTEMPTS - 1 or not _may_pass(problem):
                raise
            time.sleep(2**attempt)
    raise AssertionError


def _may_pass(problem: Any) -> bool:
    if isinstance(problem, urllib.error.HTTPError):
        return problem.code in (408, 429) or problem.code >= 500
    return not isinstance(problem, _FINAL)


def _http_range(address: str, start: int, length: int) -> bytes:
    headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "identity"}
    status, content = _request(address, headers, length)
    if status != 206 and not (status == 200 and start == 0 and len(content) == length):
        raise DataError(
            f"the server answers {status} to a request for a part of it",
            expected="206, the part that is asked for",
            hint="serve packs by a server that knows ranges, such as nginx or object storage, or copy the pack here",
            where=address,
        )
    return content


def _request(address: str, headers: dict[str, str], length: int | None) -> tuple[int, bytes]:
    """Status and content of the answer; more than ``length`` bytes and one are not read."""

    def ask() -> tuple[int, bytes]:
        request = urllib.request.Request(address, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            return answer.status, answer.read() if length is None else answer.read(length + 1)

    try:
        return _again(ask)
    except (OSError, http.client.HTTPException) as problem:  # HTTPError and time limits are of these
        status = f"{problem.code} " if isinstance(problem, urllib.error.HTTPError) else ""
        raise UnreachableError(
            f"cannot be reached ({status}{getattr(problem, 'reason', None) or problem})",
            expected="an address that answers",
            hint="check the address and the connection",
            where=address,
        ) from None
