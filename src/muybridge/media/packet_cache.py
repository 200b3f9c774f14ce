"""Packet indexes of large files, kept on disk: reading all packets of an hour of video takes seconds, at each opening.

They lie in the user's cache, and may be deleted at any time. Each belongs to a file of one size, time of change, and
content of the first and last 64 KiB.
"""

import hashlib
import zipfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from muybridge.core.files import atomic_write, cache_folder, fingerprint
from muybridge.media.packets import PacketIndex

LARGE = 16 << 20
"""Bytes from which on the index of a file is kept."""

_FORMAT = 1
_ARRAYS = ("seconds", "ticks", "places", "stamps", "keys")


def known_index(path: Path) -> PacketIndex | None:
    """The index of a large file, if it was kept and the file has not changed."""
    file = _file_of(path)
    return _read(file) if file else None


def keep_index(path: Path, index: PacketIndex) -> None:
    """Keep the index of a file if it is large; a cache that cannot be written is no error."""
    file = _file_of(path)
    if file is None or not index.stamped:
        return
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: getattr(index, name) for name in _ARRAYS}
        with atomic_write(file, shared=True, flush=False) as draft, draft.open("wb") as out:
            np.savez(out, duration=index.duration, packets=index.packets, **arrays)


def _file_of(path: Path) -> Path | None:
    """Where the index of a file is kept; None for a small one, or where it cannot be examined."""
    try:
        status = path.stat()
        if status.st_size < LARGE:
            return None
        name = f"{_FORMAT} {path.resolve()} {status.st_size} {status.st_mtime_ns} {fingerprint(path)}"
        digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=16)
        return cache_folder("packets") / f"{digest.hexdigest()}.npz"
    except (OSError, RuntimeError):  # without a home folder there is no cache
        return None


def _read(file: Path) -> PacketIndex | None:
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return _read_whole(file, file.stat().st_mtime_ns)
    return None


@lru_cache(maxsize=16)
def _read_whole(file: Path, changed: int) -> PacketIndex:
    del changed
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as content:
        arrays = {name: content[name] for name in _ARRAYS}
        return PacketIndex(duration=float(content["duration"]), packets=int(content["packets"]), **arrays)
