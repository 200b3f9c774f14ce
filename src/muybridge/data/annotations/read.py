"""Files of annotations of any known form."""

from functools import lru_cache
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.data.annotations.annotation import Annotation
from muybridge.data.annotations.table import SUFFIXES, read_table


def is_annotation_file(path: Path) -> bool:
    """Whether a path is that of a file of annotations, by its suffix; it may not exist."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read_annotations(file: Path) -> tuple[Annotation, ...]:
    """The annotations of a file, in its order; kept until the file changes.

    Raises:
        DataError: it does not exist, or is of no known form.
    """
    try:
        status = file.stat()
    except OSError:
        raise DataError(
            "there is no such file",
            expected="a table of recordings",
            hint="correct data.root (or --data)",
            where=file,
        ) from None
    return _read(file, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _read(file: Path, changed: int, size: int) -> tuple[Annotation, ...]:
    del changed, size
    return tuple(read_table(file))
