"""What is to be labelled: the recordings of a folder, a list or a table, on this machine or at an address of fsspec."""

import errno
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
import pyarrow
from pyarrow import csv, parquet

from muybridge.core.addresses import UnreachableError, is_address, unreachable
from muybridge.core.contracts import Holds, SkeletonData
from muybridge.core.errors import DataError
from muybridge.core.files import fingerprint
from muybridge.core.types import FailedSample
from muybridge.data.annotations.table import COLUMN_NAMES
from muybridge.media.container import SUFFIXES as VIDEO_SUFFIXES
from muybridge.media.skeleton import SUFFIXES as SKELETON_SUFFIXES
from muybridge.predict import find_recordings

LISTS = (".txt", ".lst", ".csv", ".tsv", ".parquet")
"""Endings of files that name recordings: one on each line, or in a column path."""


def read_source(source: str, holds: Holds) -> list[str]:
    """The absolute paths and addresses of the recordings of a source, each once, in its order.

    Args:
        source: a recording, a folder of them, or a list: a text file with a path on each line, CSV or Parquet with a
            column ``path``. It may be an address that fsspec knows, such as ``s3://bucket/videos``. Relative paths in a
            list count from its folder.
        holds: of the run, whose kind of recordings is looked for in folders.

    Raises:
        DataError: there is nothing, no recording in it, or a list that names parts of recordings.
    """
    remote = is_address(source)
    if Path(source).suffix.lower() in LISTS and (remote or Path(source).expanduser().is_file()):
        named = _read_list(source)
        base = source.rpartition("/")[0] if remote else os.path.dirname(os.path.abspath(os.path.expanduser(source)))
        paths = [_absolute(name, base) for name in named if name]
    elif remote:
        paths = _search(source, SKELETON_SUFFIXES if isinstance(holds, SkeletonData) else VIDEO_SUFFIXES)
    else:
        found = list(find_recordings([source], holds))
        for path in found:
            if isinstance(path, FailedSample):
                raise path.error
        paths = [os.path.abspath(path) for path in found if isinstance(path, Path)]
    if not paths:
        raise DataError(
            "no recording is in it",
            expected="files that the run can read, or a list of them",
            hint="check the path, and that the run is of the right kind",
            where=source,
        )
    return list(dict.fromkeys(paths))


def content_key(path: str) -> str:
    """By what a changed file is noticed, whatever the clocks say; empty where it cannot be read.

    Of a file its size, first and last 64 KiB; at an address what the storage says of it (``ETag`` or time and size).
    """
    try:
        if not is_address(path):
            return fingerprint(Path(path))
        system, name = fsspec.core.url_to_fs(path)
        return hashlib.blake2b(str(system.ukey(name)).encode(), digest_size=16).hexdigest()
    except Exception:  # noqa: BLE001 - every storage has errors of its own; reading the recording says what is wrong
        return ""


@contextmanager
def local_copies() -> Iterator[Any]:
    """A function that makes a path of a path or an address; copies of what is at addresses live as long as the block.

    It raises UnreachableError where an address cannot be read, or the copy not be written.
    """
    with TemporaryDirectory(prefix="muybridge-label-") as folder:

        def fetch(path: str, number: int) -> Path:
            if not is_address(path):
                return Path(path)
            copy = Path(folder, f"{number}{Path(path).suffix}")
            try:
                with fsspec.open(path, "rb") as there, copy.open("wb") as here:
                    shutil.copyfileobj(there, here, 1 << 20)  # pyright: ignore[reportArgumentType]
            except Exception as problem:  # noqa: BLE001 - every storage has errors of its own
                copy.unlink(missing_ok=True)
                raise _no_room(folder) if _is_full(problem) else unreachable(path, problem) from None
            return copy

        yield fetch


def _is_full(problem: Exception) -> bool:
    return isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, errno.EDQUOT)


def _no_room(folder: str) -> UnreachableError:
    return UnreachableError(
        f"there is no room for a copy of it on the worker {socket.gethostname()}",
        expected=f"free space in {os.path.dirname(folder)}, for the recordings of four batches",
        hint="free some space there, or set TMPDIR, and give the same command again",
    )


def _absolute(name: str, base: str) -> str:
    """A path of a list."""
    if is_address(name):
        return name
    name = os.path.expanduser(name.removeprefix("file://"))
    if is_address(base):
        return f"{base}/{name}" if not name.startswith("/") else f"{base.partition('://')[0]}://{name.lstrip('/')}"
    return os.path.abspath(os.path.join(base, name))


def _search(address: str, suffixes: Sequence[str]) -> list[str]:
    """The recordings at or below an address."""
    try:
        system, root = fsspec.core.url_to_fs(address)
        names = system.find(root) if system.isdir(root) else [root] if system.exists(root) else None
    except Exception as problem:  # noqa: BLE001 - every storage has errors of its own
        raise unreachable(address, problem) from None
    if names is None:
        raise unreachable(address, FileNotFoundError("nothing is there"))
    found = sorted(name for name in names if Path(name).suffix.lower() in suffixes)
    return [str(system.unstrip_protocol(name)) for name in found]


def _read_list(source: str) -> list[str]:
    """The paths that a list names, as they stand there."""
    suffix = Path(source).suffix.lower()
    try:
        with fsspec.open(source, "rb") as file:
            if suffix in (".txt", ".lst"):
                return [line.strip() for line in os.fsdecode(file.read()).split("\n")]  # pyright: ignore[reportAttributeAccessIssue]
            if suffix == ".parquet":
                header = parquet.ParquetFile(file).schema_arrow.names
                column = _path_column(header, source)
                table = parquet.read_table(file, columns=[column])
            else:
                table = csv.read_csv(
                    file,
                    parse_options=csv.ParseOptions(
                        delimiter="\t" if suffix == ".tsv" else ",", newlines_in_values=True
                    ),
                    convert_options=csv.ConvertOptions(strings_can_be_null=True),
                )
                column = _path_column(table.column_names, source)
    except DataError:
        raise
    except pyarrow.ArrowInvalid as problem:
        raise DataError(
            f"it cannot be read as a table ({problem})",
            expected="CSV with commas, or Parquet, with a column path",
            hint="correct it, or give a text file with a path on each line",
            where=source,
        ) from None
    except Exception as problem:  # noqa: BLE001 - every storage has errors of its own
        raise unreachable(source, problem) from None
    return [str(name) for name in table[column].to_pylist() if name is not None]


def _path_column(header: Sequence[str], source: str) -> str:
    words = {name.strip().lower(): name for name in header}
    parts = [words[word] for kind in ("start", "end") for word in COLUMN_NAMES[kind] if word in words]
    if parts:
        raise DataError(
            f"the column {parts[0]!r} names parts of recordings",
            expected="a table of whole recordings",
            hint="remove it to label the whole of each, or cut the parts into files of their own",
            where=source,
        )
    for word in COLUMN_NAMES["path"]:
        if word in words:
            return words[word]
    raise DataError(
        f"no column of it names the recordings: {', '.join(header)[:200]}",
        expected="a column path",
        hint="name the column path",
        where=source,
    )
