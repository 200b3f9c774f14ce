"""Archives beside a data set, unpacked where they lie; nothing in them is written anywhere else.

What an archive holds is written into a hidden folder beside it, and moved into place when the archive is complete, so
that a process that is killed leaves no half a file under its own name.
"""

import gzip
import io
import json
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from muybridge.core.errors import DataError
from muybridge.core.files import atomic_write, is_folder, is_system_name
from muybridge.prepare.foreign import ForeignArchiveError, can_be_read, is_foreign, members
from muybridge.prepare.parts import PartsFile

DONE = ".muybridge-unpacked.json"
"""The file that says which archives of a folder are unpacked."""

_TAR = re.compile(r".*\.(tar|tar\.(gz|bz2|xz)|tgz|tbz2|txz)", re.IGNORECASE)
_PART = re.compile(r"(?P<name>.+)-(?P<number>[0-9]{2})")
_DRAFT = ".unpacking-"
_BLOCK = 1 << 20
_MOST_FOLDERS = 1000
_SPARE = 1 << 30  # bytes that are left free on the disk
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, RuntimeError),  # zip files packed in unknown ways, or with a password
    ForeignArchiveError,
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive.

    Attributes:
        path: the file; of an archive in several parts, the first.
        parts: all of its files, in order.
    """

    path: Path
    parts: tuple[Path, ...]

    @property
    def stamp(self) -> list[list[int]]:
        """Size and time of change of each part."""
        return [[part.stat().st_size, part.stat().st_mtime_ns] for part in self.parts]


def find_archives(root: Path) -> tuple[list[Archive], list[Path]]:
    """The archives in a folder and up to two folders deeper that are not unpacked yet, and those that cannot be.

    Archives are zip and tar files, tar files cut into parts, ``NAME-00``, ``NAME-01`` and so on, and rar and 7z files
    where these can be read. Folders of more than a thousand folders are not searched further.
    """
    archives: list[Archive] = []
    foreign: list[Path] = []
    folders = _folders_in(root)
    for folder in (root, *folders, *(inner for outer in folders for inner in _folders_in(outer))):
        done = _read_done(folder)
        files = _files_in(folder)
        foreign += [path for path in files if is_foreign(path) and not can_be_read(path)]
        whole = [
            Archive(path, (path,)) for path in files if _is_whole(path) or (is_foreign(path) and can_be_read(path))
        ]
        archives += [each for each in (*whole, *_in_parts(files)) if done.get(each.path.name) != each.stamp]
    return archives, foreign


def _folders_in(folder: Path) -> list[Path]:
    """The folders in a folder; none where there are so many that each is a video."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if is_folder(entry) and not is_system_name(entry.name)]
    return [folder / name for name in sorted(names)] if len(names) <= _MOST_FOLDERS else []


def _files_in(folder: Path) -> list[Path]:
    """The files in a folder, sorted."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not is_folder(entry) and not is_system_name(entry.name)]
    return [path for path in map(folder.joinpath, sorted(names)) if _may_be_archive(path) and path.is_file()]


def _may_be_archive(path: Path) -> bool:
    return is_foreign(path) or _is_whole(path) or _PART.fullmatch(path.name) is not None


def unpack(archive: Archive, progress: Progress | None = None) -> int:
    """Unpack an archive where it lies; returns how many files there were. Files that exist with their size are kept.

    Args:
        archive: the archive.
        progress: called with how many of how many MiB of the archive are read.

    Raises:
        DataError: it is damaged or encrypted; it holds a link, a device, or a name that leads elsewhere; a file exists
            with another size; or there is no space.
    """
    folder = archive.path.parent
    draft = folder / f"{_DRAFT}{archive.path.name}"
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with _damage(archive.path):
            count = sum(
                _write(name, size, content, draft, archive) for name, size, content in _members(archive, progress)
            )
        _move_into(draft, folder)
        _write_done(folder, archive)
    except OSError as problem:
        raise DataError(
            f"it cannot be unpacked ({problem.strerror or problem})",
            expected="a folder that can be written, and space for what the archive holds",
            hint="free some space, and repeat the command",
            where=archive.path,
        ) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return count


def _write(name: str, size: int, content: IO[bytes], draft: Path, archive: Archive) -> int:
    """Write a file into the draft unless it was unpacked before; returns 1, for counting."""
    if not _exists(archive.path.parent / name, size, archive.path):
        file = draft / name
        file.parent.mkdir(parents=True, exist_ok=True)
        _check_space(size, file, archive.path)
        with file.open("wb") as out:
            shutil.copyfileobj(content, out, _BLOCK)
    return 1


def _check_space(size: int, file: Path, archive: Path) -> None:
    """Refuse a file that would fill the disk, before it does; some archives claim to hold more than there is."""
    free = shutil.disk_usage(file.parent).free
    if size > free - _SPARE:
        raise DataError(
            f"it holds a file of {size / 1e9:.1f} GB, {file.name}, and {free / 1e9:.1f} GB are free",
            expected="space for what the archive holds, and a gigabyte more",
            hint="free some space, or move the archives to a larger disk",
            where=archive,
        )


def _is_whole(path: Path) -> bool:
    return path.suffix.lower() == ".zip" or _TAR.fullmatch(path.name) is not None


def _in_parts(paths: Sequence[Path]) -> list[Archive]:
    """Tar files that are cut into numbered parts, such as those of Something-Something and Jester."""
    parts: dict[str, list[Path]] = {}
    for path in paths:
        if (match := _PART.fullmatch(path.name)) and not path.suffix:
            parts.setdefault(match["name"], []).append(path)
    archives = []
    for name, files in parts.items():
        if files[0].name != f"{name}-00" or not _is_packed(files[0]):
            continue
        if [file.name for file in files] != [f"{name}-{number:02}" for number in range(len(files))]:
            raise DataError(
                f"of the archive {name} there are the parts {', '.join(file.name[-2:] for file in files)}",
                expected="all parts, from 00 on",
                hint="fetch the missing ones",
                where=files[0].parent,
            )
        archives.append(Archive(files[0], tuple(files)))
    return archives


def _is_packed(path: Path) -> bool:
    """Whether a file begins as a packed tar file does."""
    with path.open("rb") as file:
        return file.read(6).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00"))


def _members(archive: Archive, progress: Progress | None) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, size and content of each file, checked; folders and what systems leave behind are passed over."""
    if is_foreign(archive.path):
        for name, kind, size, content in members(archive.path, progress):
            if name := _checked(archive.path, name, kind):
                yield name, size, content
        return
    with ExitStack() as stack:
        file = stack.enter_context(io.BufferedReader(PartsFile(archive.parts, progress), _BLOCK))
        if archive.path.suffix.lower() == ".zip":
            opened = stack.enter_context(zipfile.ZipFile(file))
            for member in opened.infolist():
                if name := _checked(archive.path, member.filename, _kind_in_zip(member)):
                    with opened.open(member) as content:
                        yield name, member.file_size, content
            return
        # Read from its start to its end, as a file in parts cannot be searched quickly.
        with tarfile.open(fileobj=file, mode="r|*") as opened:
            for member in opened:
                kind = "a folder" if member.isdir() else "" if member.isreg() else _kind_in_tar(member)
                if name := _checked(archive.path, member.name, kind):
                    content = opened.extractfile(member)
                    assert content is not None
                    yield name, member.size, content


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as problem:
        raise DataError(
            f"the archive is damaged, encrypted or incomplete ({problem})",
            expected="an archive without a password, in all its parts",
            hint="fetch it again",
            where=path,
        ) from problem


def _kind_in_zip(member: zipfile.ZipInfo) -> str:
    """What a member is, in words; empty for a file."""
    mode = stat.S_IFMT(member.external_attr >> 16)
    if member.is_dir():
        return "a folder"
    return "" if mode in (0, stat.S_IFREG) else "a link" if mode == stat.S_IFLNK else "a device or a pipe"


def _kind_in_tar(member: tarfile.TarInfo) -> str:
    return "a link" if member.issym() or member.islnk() else "a device or a pipe"


def _checked(archive: Path, name: str, kind: str) -> str:
    """The name of a file below the folder; empty for what is passed over.

    Raises:
        DataError: it is a link or a device, or its name leads elsewhere.
    """
    if kind == "a folder":
        return ""
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part != "."]
    outside = path.is_absolute() or ".." in parts or "\\" in name or "\0" in name or re.match("[A-Za-z]:", name)
    if kind or outside or not parts:
        raise DataError(
            f"it holds {kind or 'a file'} called {name!r}" + ("" if kind else ", which lies outside of the folder"),
            expected="files alone, below the folder that they are unpacked into",
            hint="this is no archive of a data set; do not unpack it",
            where=archive,
        )
    return "" if any(map(is_system_name, parts)) else "/".join(parts)


def _exists(target: Path, size: int, archive: Path) -> bool:
    """Whether a file was unpacked before; raises DataError if there is another one of its name."""
    try:
        status = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if stat.S_ISREG(status.st_mode) and status.st_size == size:
        return True
    raise DataError(
        f"it holds the file {target.name} of {size} bytes, and there is another one of that name",
        expected="the file of the archive, or none",
        hint=f"move {target} elsewhere, and repeat the command",
        where=archive,
    )


def _move_into(draft: Path, folder: Path) -> None:
    """Move what was unpacked into place, whole folders where they are new."""
    if not draft.is_dir():
        return
    for entry in sorted(draft.iterdir()):
        target = folder / entry.name
        if entry.is_dir() and target.is_dir():
            _move_into(entry, target)
        else:
            entry.replace(target)


def _read_done(folder: Path) -> Mapping[str, Any]:
    try:
        content = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_done(folder: Path, archive: Archive) -> None:
    done = {**_read_done(folder), archive.path.name: archive.stamp}
    with atomic_write(folder / DONE) as draft:
        draft.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
