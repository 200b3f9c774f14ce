"""Data sets of poses in a pickle, as pyskl and MMAction2 write them, read without running what a pickle may hold."""

import io
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

from muybridge.core.errors import DataError
from muybridge.media.parsing import read_bytes


class _ArraysOnly(pickle.Unpickler):
    """Loads numbers, texts, lists and NumPy arrays; anything else in a pickle could run code, and is refused."""

    _ALLOWED = frozenset(
        {
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
            *(
                (f"numpy.{core}.{module}", name)
                for core in ("core", "_core")
                for module, name in (
                    ("multiarray", "_reconstruct"),
                    ("multiarray", "scalar"),
                    ("numeric", "_frombuffer"),
                )
            ),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        """The few names that arrays need."""
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is no array")
        return super().find_class(module, name)


def load_plain(content: bytes) -> Any:
    """What a pickle holds of numbers, texts, lists and arrays.

    Raises:
        ValueError: it is damaged, or holds anything else.
    """
    try:
        return _ArraysOnly(io.BytesIO(content)).load()
    except Exception as problem:  # noqa: BLE001 - a damaged pickle raises anything
        raise ValueError(f"a pickle in it is not read ({problem})") from None


def read_annotations(path: Path) -> list[dict[str, Any]]:
    """The recordings of a pickle of pyskl or MMAction2: ``annotations``, or their list alone."""
    try:
        state = path.stat()
    except OSError:
        read_bytes(path)  # which says why
        raise
    return _load(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)  # one data set at a time, whose recordings are asked for one after the other
def _load(path: Path, modified: int, size: int) -> list[dict[str, Any]]:
    del modified, size  # a file that was written since is another one
    try:
        content = _ArraysOnly(io.BytesIO(read_bytes(path))).load()
        entries = content["annotations"] if isinstance(content, dict) else content
        if not isinstance(entries, list) or not all(isinstance(one, dict) and "keypoint" in one for one in entries):
            raise ValueError("it has no annotations with keypoint")
    except DataError:
        raise
    except Exception as problem:  # noqa: BLE001 - a damaged pickle raises anything
        raise DataError(
            f"the pickle is not read ({problem})",
            expected="annotations of pyskl or MMAction2: dictionaries with keypoint and keypoint_score as arrays",
            hint="export the arrays with numpy.savez, if you trust the file",
            where=path,
        ) from None
    return entries
