"""Files that lie inside of a tar archive, as paths: their bytes are read from it, here or by range from an address.

They are made by :mod:`muybridge.data.shards`. What reads a recording gets such a path in place of that of a file.
"""

import functools
import hashlib
import io
import os
import stat
import sys
import tarfile
from collections import OrderedDict
from collections.abc import Generator
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from muybridge.core.addresses import is_address, read_range
from muybridge.core.errors import DataError

PACK_FILE = "pack.json"
"""The file that makes a folder a pack."""

_BLOCK = 2**20
_KEPT = 256 * 2**20  # bytes of what was fetched that each process keeps
_VERIFIED = 1_000_000  # members whose content a process remembers to have compared


def is_pack(root: str | Path) -> bool:
    """Whether a folder, or what is at an address, is a pack; every address is taken for one."""
    return is_address(str(root)) or (Path(root) / PACK_FILE).is_file()


class PackedPath(type(Path())):
    """A recording inside of a tar archive: a file, or a folder of numbered images.

    It reads like any path: with ``open``, ``stat`` and ``iterdir``. Each process compares the content with its checksum
    before it first uses it. Paths that are derived from it, such as its parent, are plain ones.

    Args:
        archive: path of the archive, or its address.
        name: of the file in it.
        offset: of its first byte in the archive.
        length: in bytes; of a folder with the headers between its files.
        checksum: of these bytes, see :func:`checksum_of`; empty compares nothing.
        pack: identifier of the pack, which the archive carries too.
        folder: whether it is a folder.
    """

    # Of derived paths, which Python 3.11 makes without a call of the constructor.
    archive: str = ""
    offset: int = 0
    length: int = 0
    checksum: str = ""
    pack: str = ""
    folder: bool = False

    def __new__(cls, archive: str, name: str, *rest: Any, **named: Any) -> "PackedPath":
        """A path that shows archive and name."""
        del rest, named
        return super().__new__(cls, archive, name)

    def __init__(
        self,
        archive: str,
        name: str,
        offset: int,
        length: int,
        checksum: str = "",
        pack: str = "",
        folder: bool = False,
    ) -> None:
        if sys.version_info >= (3, 12):
            super().__init__(archive, name)
        self.archive, self.offset, self.length = archive, offset, length
        self.checksum, self.pack, self.folder = checksum, pack, folder

    def __reduce__(self) -> tuple[Any, ...]:
        if not self.archive:
            return Path, self.parts
        return PackedPath, (*self._arguments(), self.folder)

    def _arguments(self) -> tuple[str, str, int, int, str, str]:
        return self.archive, self.name, self.offset, self.length, self.checksum, self.pack

    def with_segments(self, *segments: Any) -> Path:
        """A plain path, see the class."""
        return Path(*segments)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size of the file, and what the archive has; at an address nothing is known of the rest."""
        if not self.archive:
            return super().stat(follow_symlinks=follow_symlinks)
        mode = stat.S_IFDIR | 0o555 if self.folder else stat.S_IFREG | 0o444
        if is_address(self.archive):
            return os.stat_result((mode, 0, 0, 1, 0, 0, self.length, 0, 0, 0), {"st_mtime_ns": 0})
        found = os.stat(self.archive)
        return os.stat_result((mode, *found[1:6], self.length, *found[7:10]), {"st_mtime_ns": found.st_mtime_ns})

    def exists(self, *, follow_symlinks: bool = True) -> bool:
        """Whether there is such an archive; of what is at an address it is taken for granted."""
        del follow_symlinks
        return is_address(self.archive) or os.path.exists(self.archive or self)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a file and its archive exists."""
        del follow_symlinks
        return self.exists() and not self.folder if self.archive else os.path.isfile(self)

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Whether it is a folder and its archive exists."""
        del follow_symlinks
        return self.exists() and self.folder if self.archive else os.path.isdir(self)

    def open(self, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        """The content as a file that can be read in binary.

        Raises:
            DataError: see :meth:`on_disk`.
        """
        if not self.archive:
            return super().open(mode, *arguments, **named)
        assert mode == "rb", "packed recordings are read in binary"
        file, offset = self.on_disk()
        return io.BufferedReader(_Section(file, offset, self.length))

    def read_bytes(self) -> bytes:
        """The whole content."""
        with self.open("rb") as file:
            return file.read()

    def iterdir(self) -> Generator[Path, None, None]:
        """The files of a folder, in their order.

        Raises:
            DataError: see :meth:`on_disk`.
        """
        if not self.archive:
            yield from super().iterdir()
            return
        file, start = self.on_disk()
        section = io.BufferedReader(_Section(file, start, self.length))
        with section, tarfile.open(fileobj=section, mode="r:") as archive:
            for entry in archive:
                name = entry.name.partition(".")[2]  # which the number of the recording precedes
                yield PackedPath(str(file), name, start + entry.offset_data, entry.size)

    def on_disk(self) -> tuple[Path, int]:
        """A file on this machine that has the content, and where in it that begins.

        Raises:
            DataError: the archive is missing, too short, cannot be reached, or has another content there.
        """
        if is_address(self.archive):
            return _FETCHED.file_of(self), 0
        if self.checksum:
            try:
                _verify(*self._arguments(), os.stat(self.archive).st_mtime_ns)
            except OSError as problem:
                raise DataError(
                    f"the shard cannot be read ({problem.strerror or problem})",
                    expected="the shards that the index names, beside it",
                    hint="copy this shard again, or delete what is left of it and pack again",
                    where=self.archive,
                ) from None
        return Path(self.archive), self.offset


def checksum_of(content: bytes | Any) -> str:
    """The checksum of some bytes, or of a file from where it stands to its end: 32 digits of BLAKE2b."""
    digest = hashlib.blake2b(content) if isinstance(content, bytes) else hashlib.file_digest(content, "blake2b")
    return digest.hexdigest()[:32]


def another_content(archive: str, name: str, pack: str, carried: str | None) -> DataError:
    """The error for a shard whose content is not what the index says.

    Args:
        archive: the shard.
        name: of the file in it.
        pack: identifier in the index.
        carried: identifier in the shard; None where it has none.
    """
    if pack and carried not in (pack, None):
        return DataError(
            f"the shard belongs to another pack ({carried[:8]}) than the index ({pack[:8]})",  # pyright: ignore[reportOptionalSubscript]
            expected="shards and index of one pack",
            hint="copy both from the same place again",
            where=archive,
        )
    return DataError(
        f"the shard is corrupt: {name} has another checksum than in the index",
        expected="the bytes that were packed",
        hint="copy this shard again, or delete it and pack again; `muybridge pack DIR --verify` checks all shards",
        where=archive,
    )


def shard_comment(pack: str) -> dict[str, str]:
    """The global header of a shard, which tells the pack that it belongs to."""
    return {"comment": f"muybridge pack {pack}"}


def pack_of(head: bytes) -> str | None:
    """The pack that the first bytes of a shard name; None where they name none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(head), mode="r:", errors="replace") as archive:
            comment = archive.pax_headers.get("comment", "")
    except (tarfile.TarError, EOFError, ValueError):
        return None
    return comment.removeprefix("muybridge pack ") if comment.startswith("muybridge pack ") else None


HEAD = 4096
"""Bytes at the start of a shard that tell its pack."""


class _Section(io.RawIOBase):
    """Some of the bytes of a file, as a file that can be read."""

    def __init__(self, file: Path, start: int, length: int) -> None:
        self._file, self._start, self._length, self._at = file.open("rb", buffering=0), start, length, 0
        self._file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        self._file.seek(self._start + self._at)
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)[: max(0, self._length - self._at)]
        count = self._file.readinto(view) or 0 if len(view) else 0
        self._at += count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@functools.lru_cache(maxsize=_VERIFIED)
def _verify(archive: str, name: str, offset: int, length: int, checksum: str, pack: str, changed: int) -> None:
    """Compare the content of a file in an archive on this machine with its checksum, once until the archive changes."""
    del changed
    with io.BufferedReader(_Section(Path(archive), offset, length), _BLOCK) as section:
        found = checksum_of(section)
    if found != checksum:
        with open(archive, "rb") as file:
            raise another_content(archive, name, pack, pack_of(file.read(HEAD)))


class _Fetched:
    """Files that were fetched from addresses, in a temporary folder of this process; the oldest are removed."""

    def __init__(self) -> None:
        self._files: OrderedDict[tuple[str, int, str], Path] = OrderedDict()
        self._bytes, self._folder, self._process = 0, Path(), 0

    def file_of(self, path: PackedPath) -> Path:
        """A file with the content; it stays until others of 256 MiB were fetched."""
        self._begin()
        key = path.archive, path.offset, path.checksum
        if key in self._files:
            self._files.move_to_end(key)
            return self._files[key]
        content = read_range(path.archive, path.offset, path.length)
        if path.checksum and checksum_of(content) != path.checksum:
            raise another_content(path.archive, path.name, path.pack, pack_of(read_range(path.archive, 0, HEAD)))
        file = self._folder / f"{path.offset}-{path.name}"
        number = 0
        while file.exists():  # of another shard
            number += 1
            file = self._folder / f"{path.offset}-{number}-{path.name}"
        file.write_bytes(content)
        self._files[key] = file
        self._bytes += path.length
        while self._bytes > _KEPT and len(self._files) > 1:
            _, oldest = self._files.popitem(last=False)
            self._bytes -= oldest.stat().st_size
            oldest.unlink()
        return file

    def _begin(self) -> None:
        """Make the folder; a process that was forked has one of its own."""
        if self._process != os.getpid():
            self._files, self._bytes, self._process = OrderedDict(), 0, os.getpid()
            self._folder = Path(mkdtemp(prefix="muybridge-pack-"))
            Finalize(None, _remove, args=(self._folder,), exitpriority=0)  # in processes of multiprocessing too


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


_FETCHED = _Fetched()
