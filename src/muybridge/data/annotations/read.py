"""Files of annotations of any known form."""

from functools import lru_cache
from pathlib import Path

from muybridge.core.errors import DataError
from muybridge.core.files import read_text
from muybridge.data.annotations.annotation import Annotation
from muybridge.data.annotations.exports import (
    ExportOptions,
    is_activitynet,
    is_label_studio,
    read_activitynet,
    read_cvat,
    read_elan,
    read_label_studio,
)
from muybridge.data.annotations.table import SUFFIXES, load_json, read_table


def is_annotation_file(path: Path) -> bool:
    """Whether a path is that of a file of annotations, by its suffix; it may not exist."""
    return path.suffix.lower() in (*SUFFIXES, ".xml", ".eaf") and not path.is_dir()


def read_annotations(file: Path, options: ExportOptions = ExportOptions()) -> tuple[Annotation, ...]:  # noqa: B008 - immutable
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
    return _read(file, options, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _read(file: Path, options: ExportOptions, changed: int, size: int) -> tuple[Annotation, ...]:
    del changed, size
    found = _parse(file, options)
    if not found:
        raise DataError(
            "it has no labelled segments", expected="one at least", hint="label some, and export again", where=file
        )
    return tuple(found)


def _parse(file: Path, options: ExportOptions) -> list[Annotation]:
    suffix = file.suffix.lower()
    if suffix == ".xml":
        return read_cvat(file, options)
    if suffix == ".eaf":
        return read_elan(file, options)
    if suffix == ".json":
        content = load_json(read_text(file, expected="JSON with recordings", hint="correct the path"), file, "")
        if is_activitynet(content):
            return read_activitynet(content, file)
        if is_label_studio(content):
            return read_label_studio(content, file, options)
    return read_table(file)
