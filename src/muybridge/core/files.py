"""Files: atomic writes, text files with an entry on each line, searching folders, comparing contents."""

import codecs
import functools
import hashlib
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from muybridge.core.errors import DataError, MuybridgeError
from muybridge.core.packed import PackedPath

_Options = ParamSpec("_Options")
_Content = TypeVar("_Content")

SYSTEM_FOLDERS = frozenset(
    name.casefold()
    for name in (
        *("__MACOSX", "__pycache__", "@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", "@tmp"),
        *("$RECYCLE.BIN", "RECYCLER", "System Volume Information", "found.000", "lost+found"),
        *("Network Trash Folder", "Temporary Items", "TheVolumeSettingsFolder"),
    )
)
"""Folders of operating systems, network storage and archive tools, which hold copies and thumbnails; never searched."""

SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"})
"""Files that operating systems leave in folders; neither read nor counted."""

_PROBE_BYTES = 2**16
_SETTLED = 2_000_000_000
"""Nanoseconds after which another change of a file has another time, whatever the clock of the disk counts in."""


def cache_folder(name: str) -> Path:
    """Where generated files of one kind are kept: a folder in the user's cache, ``XDG_CACHE_HOME`` or ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muybridge" / name


@contextmanager
def atomic_write(path: Path, *, shared: bool = False, flush: bool = True) -> Iterator[Path]:
    """A temporary file to write; it is renamed to ``path``, and flushed to the disk, when the block succeeds.

    When the block fails, or the process is killed, the previous file at ``path`` is unchanged. A device or a pipe, such
    as ``/dev/stdout``, is written to directly.

    Args:
        path: the file; its folder exists.
        shared: whether another process may write the same file at the same time. Each process then has its own
            temporary file, which remains if the process is killed; otherwise the next writer overwrites it.
        flush: False leaves it to the system when the content reaches the disk, much faster for many small files
            that can be made again. A power failure may then leave an empty file.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    draft = path.with_name(f".{path.name}-{os.getpid()}" if shared else f"{path.name}.draft")
    try:
        draft.touch()
        mode = draft.stat().st_mode  # some writers leave a file that only its owner may read
        yield draft
        draft.chmod(mode)
        if flush:
            with draft.open("rb") as file:
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


@contextmanager
def lock_folder(folder: Path, taken: MuybridgeError) -> Iterator[None]:
    """Keep other processes that lock a folder out of it; a process that ends, however it ends, gives it back.

    Where the system or the network storage has no such locks, nothing is locked.

    Args:
        folder: it exists.
        taken: raised where another process has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise taken from None
        except OSError:  # a network file system without locks
            pass
        yield
    finally:
        os.close(descriptor)


def read_lines(path: Path, *, expected: str, hint: str) -> list[str]:
    """The lines of a text file that are not blank, without surrounding white space; see :func:`read_numbered_lines`."""
    return [line for _, line in read_numbered_lines(path, expected=expected, hint=hint)]


def read_numbered_lines(path: Path, *, expected: str, hint: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, without surrounding white space, with their numbers from 1.

    Lines end as on Unix, Windows or old Macs. A byte order mark is removed.

    Args:
        path: a file in UTF-8, or in UTF-16 with a byte order mark.
        expected: what it should be, for the error.
        hint: what to do if it is not.

    Raises:
        DataError: it cannot be read, or is not text.
    """
    text = read_text(path, expected=expected, hint=hint)
    # Not str.splitlines, which also splits at characters that may be part of a path.
    lines = re.split(r"\r\n|\n|\r", text)
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_text(path: Path, *, expected: str, hint: str) -> str:
    """The content of a text file in UTF-8, or in UTF-16 with a byte order mark, which is removed.

    Args:
        path: the file.
        expected: what it should be, for the error.
        hint: what to do if it is not.

    Raises:
        DataError: it cannot be read, or is not text; names the line.
    """
    try:
        return _decode(path.read_bytes())
    except UnicodeDecodeError as problem:
        line = len(re.findall(rb"\r\n|\n|\r", problem.object[: problem.start])) + 1
        reason = f"line {line} is not in {problem.encoding.upper()}: {problem.reason}"
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
    raise DataError(f"it cannot be read ({reason})", expected=expected, hint=hint, where=path)


def read_once(
    read: Callable[Concatenate[Path, _Options], _Content],
) -> Callable[Concatenate[Path, _Options], _Content]:
    """A function that reads a file, which remembers what it returned until the file changes.

    Its other arguments are hashable, and nobody changes what it returns. Of 32 files the content is remembered, from
    two seconds after their last change on, since an earlier one may be followed by another at the same time.
    """

    @lru_cache(maxsize=32)
    def remember(file: Path, changed: int, size: int, *options: _Options.args, **named: _Options.kwargs) -> _Content:
        del changed, size
        return read(file, *options, **named)

    @functools.wraps(read)
    def read_unless_known(file: Path, *options: _Options.args, **named: _Options.kwargs) -> _Content:
        try:
            stamp = _stamp(file)
        except OSError:
            return read(file, *options, **named)  # which says what is wrong
        if time.time_ns() - stamp[0] < _SETTLED:
            return read(file, *options, **named)
        return remember(file, *stamp, *options, **named)

    return read_unless_known


def _decode(content: bytes) -> str:
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = content.decode("utf-16" if utf16 else "utf-8-sig")
    if "\0" in text:
        raise ValueError("it contains null characters, so it is not text")
    return text


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key that compares numbers in names by value: ``run 2`` comes before ``run 10``."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts if part)


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """The result of :func:`find_files`.

    Attributes:
        files: the files with the wanted suffixes, sorted.
        unread: how many other entries there are, by suffix (``.txt``), or ``no suffix``, ``dangling links``,
            ``empty folders`` (those named like a wanted file) and ``special files``.
    """

    files: tuple[Path, ...]
    unread: Counter[str] = field(default_factory=Counter)


def is_system_name(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or is left by an operating system or an archive tool."""
    folded = name.casefold()
    return name.startswith((".", "~$")) or folded in SYSTEM_FOLDERS or folded in SYSTEM_FILES


def find_files(folder: Path, suffixes: Collection[str], *, check_names: bool = True) -> FoundFiles:
    """All files below a folder whose suffix, in any case, is among ``suffixes``.

    Hidden files and folders and those of operating systems are ignored at any depth. Links to folders are followed,
    each folder once; links to the folder itself or one above it are not.

    Args:
        folder: the folder.
        suffixes: the wanted suffixes, in lower case.
        check_names: whether names that are not valid UTF-8 are refused; otherwise they are found like others.

    Raises:
        DataError: a folder cannot be read, or the name of a file is not valid UTF-8.
    """
    files: list[Path] = []
    unread: Counter[str] = Counter()
    parents = [parent for parent in folder.resolve().parents if parent.exists()]
    above = {(status.st_dev, status.st_ino) for status in map(Path.stat, parents)}
    _search(folder, frozenset(suffixes), files, unread, above)
    if check_names:
        for file in sorted(files):
            check_name(file)
    return FoundFiles(tuple(sorted(files)), unread)


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _search(
    folder: Path, suffixes: frozenset[str], files: list[Path], unread: Counter[str], visited: set[tuple[int, int]]
) -> None:
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            visible = sorted((entry for entry in entries if not is_system_name(entry.name)), key=lambda e: e.name)
    except OSError as problem:
        raise DataError(
            f"the folder cannot be read ({problem.strerror})",
            expected="a folder that may be searched",
            hint="check its permissions, or move it elsewhere",
            where=folder,
        ) from None
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    folders: list[os.DirEntry[str]] = []
    for entry in visible:
        path, suffix = folder / entry.name, Path(entry.name).suffix.lower()
        if is_folder(entry):
            folders.append(entry)
        elif not _is_file(entry):
            unread["dangling links" if entry.is_symlink() else "special files"] += 1
        elif suffix in suffixes:
            files.append(path)
        else:
            unread[suffix or "no suffix"] += 1
    if not visible and folder.suffix.lower() in suffixes:
        unread["empty folders"] += 1
    # Folders before links to folders, so that a file is found under its own path rather than that of a link.
    for entry in sorted(folders, key=lambda entry: entry.is_symlink()):
        _search(folder / entry.name, suffixes, files, unread, visited)


def check_name(path: Path) -> None:
    """Refuse a file name that is not valid UTF-8, which no table of results could hold.

    Raises:
        DataError: it is not.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(
            "the name of the file is not valid UTF-8",
            expected="a name in UTF-8",
            hint="rename the file or its folder (convmv converts many names at once)",
            where=str(path).encode("utf-8", "backslashreplace").decode("utf-8"),
        ) from None


def describe_unread(unread: Mapping[str, int]) -> str:
    """One line about files that were not read: ``12 files not read: 8 .txt, 4 .docx``; empty if there are none."""
    total = sum(unread.values())
    if not total:
        return ""
    kinds = sorted(unread.items(), key=lambda item: (-item[1], item[0]))
    return f"{total} file{'s'[: total > 1]} not read: " + ", ".join(f"{count} {kind}" for kind, count in kinds)


def fingerprint(path: Path) -> str:
    """A quick hash by which a changed file is noticed: size, first and last 64 KiB; of a folder, names and sizes.

    Raises:
        OSError: the file or folder cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(path, PackedPath):
        digest.update(path.checksum.encode())
        return digest.hexdigest()
    if path.is_dir():
        for name, size in sorted((entry.name, entry.stat().st_size) for entry in os.scandir(path)):
            digest.update(f"{name} {size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        digest.update(f"{size}\n".encode())
        file.seek(0)
        digest.update(file.read(_PROBE_BYTES))
        file.seek(max(0, size - _PROBE_BYTES))
        digest.update(file.read(_PROBE_BYTES))
    return digest.hexdigest()


def find_duplicates(paths: Iterable[Path]) -> list[tuple[Path, ...]]:
    """Files, or folders of files, with equal content, as groups of two or more in the order given.

    Only files of equal size and equal :func:`fingerprint` are read in full. Empty files and files that cannot be read
    are left out.
    """
    groups: list[list[Path]] = [list(dict.fromkeys(paths))]
    for key in (_size, _quick_key, _content_key):
        groups = [group for candidates in groups for group in _group_by(candidates, key)]
    return [tuple(group) for group in groups]


def _group_by(paths: list[Path], key: Callable[[Path], object]) -> list[list[Path]]:
    by_key: dict[object, list[Path]] = defaultdict(list)
    for path in paths:
        with suppress(OSError):
            if value := key(path):
                by_key[value].append(path)
    return [group for group in by_key.values() if len(group) > 1]


def _members(path: Path) -> list[Path]:
    """The file itself, or the files in a folder by name."""
    return sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else [path]


def _size(path: Path) -> tuple[int, ...]:
    """How many files there are, and the sizes of the first and the last; nothing for empty files."""
    members = _members(path)
    sizes = [member.stat().st_size for member in members[:1] + members[-1:]]
    return (len(members), *sizes) if any(sizes) else ()


def _quick_key(path: Path) -> tuple[str, ...]:
    members = _members(path)
    return tuple(fingerprint(member) for member in members[:1] + members[-1:])


def _content_key(path: Path) -> tuple[str, ...]:
    return tuple(_hash_file(member, *_stamp(member)) for member in _members(path))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=1_000_000)
def _hash_file(path: Path, changed: int, size: int) -> str:
    """The hash of a whole file; computed again when the file has changed."""
    del changed, size
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
