"""Rar and 7z archives, read by libarchive where that is installed: ``pip install 'muybridge[prepare]'``."""

import functools
import io
import re
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import IO, Any

SUFFIXES = (".rar", ".7z")

BY_HAND = (
    "run pip install 'muybridge[prepare]', with the system's libarchive (apt install libarchive13, brew install "
    "libarchive), or unpack it by hand: unrar x {name}, or 7z x {name}"
)
"""What to do about an archive that cannot be read."""

_VOLUME = re.compile(r".*(\.part[0-9]+\.rar|\.[rs][0-9]{2}|\.7z\.[0-9]{3})", re.IGNORECASE)
_MIB = 1 << 20


class ForeignArchiveError(Exception):
    """A rar or 7z archive is damaged, encrypted or incomplete."""


def is_foreign(path: Path) -> bool:
    """Whether a file is called like a rar or 7z archive, or one of its volumes."""
    return path.suffix.lower() in SUFFIXES or _VOLUME.fullmatch(path.name) is not None


def can_be_read(path: Path) -> bool:
    """Whether a rar or 7z archive can be read here: libarchive is installed, and it is not in several volumes."""
    return _VOLUME.fullmatch(path.name) is None and _library() is not None


def members(path: Path, progress: Any = None) -> Iterator[tuple[str, str, int, IO[bytes]]]:
    """Name, kind in words (empty for a file), size and content of each member, in the order of the archive.

    Args:
        path: a rar or 7z archive in one file.
        progress: called with how many MiB were unpacked, and of how many there are at least.

    Raises:
        ForeignArchiveError: it cannot be read to its end.
    """
    library = _library()
    assert library is not None, "asked by can_be_read"
    total, done = path.stat().st_size, 0
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            for entry in stack.enter_context(library.fd_reader(file.fileno())):
                content = _Content(entry, library.ArchiveError)
                yield entry.pathname or "", _kind(entry), entry.size or 0, io.BufferedReader(content, _MIB)
                done += content.read_bytes
                if progress:
                    progress(done // _MIB, max(total, done) // _MIB or 1)
        except library.ArchiveError as problem:
            raise ForeignArchiveError(str(problem)) from problem


class _Content(io.RawIOBase):
    """The content of a member; too little of it is an error."""

    def __init__(self, entry: Any, damage: type[Exception]) -> None:
        super().__init__()
        self.read_bytes, self._damage = 0, damage
        self._size, self._blocks, self._rest = entry.size, entry.get_blocks(_MIB), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not self._rest:
            try:
                self._rest = next(self._blocks, b"")
            except self._damage as problem:
                raise ForeignArchiveError(str(problem)) from problem
            if not self._rest and self._size is not None and self.read_bytes != self._size:
                raise ForeignArchiveError(f"a file has {self.read_bytes} of {self._size} bytes")
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        self.read_bytes += count
        return count


def _kind(entry: Any) -> str:
    if entry.isdir:
        return "a folder"
    if entry.issym or entry.islnk:
        return "a link"
    return "" if entry.isreg else "a device or a pipe"


@functools.cache
def _library() -> Any:
    """The package libarchive; None where it or the library of the system is missing."""
    try:
        return import_module("libarchive")
    except (ImportError, OSError, AttributeError, TypeError):  # what it raises without the system's library
        return None
