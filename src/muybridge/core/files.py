"""Files that appear whole or not at all, and lists with an entry on each line."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from muybridge.core.errors import DataError


@contextmanager
def atomic_write(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A draft to write; it takes the name ``path`` when the block ends well, and is on the disk then.

    Whatever ends the block early, what was at ``path`` before is still there.

    Args:
        path: of the file; its folder exists.
        shared: another process may write the same file at the same moment; each then has a draft of its own, which a
            killed process leaves behind. Otherwise the next draft takes the place of the one that was left.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    draft = path.with_name(f".{path.name}-{os.getpid()}" if shared else f"{path.name}.draft")
    try:
        draft.touch()
        mode = draft.stat().st_mode  # some writers leave a file that only its owner may read
        yield draft
        draft.chmod(mode)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def read_lines(path: Path, *, expected: str, hint: str) -> list[str]:
    """The lines of a text file that are not blank, without the white space around them.

    Args:
        path: of the file, in UTF-8.
        expected: what it should be, for the error.
        cure: what to do where it is not.

    Raises:
        DataError: it cannot be read, or is no text.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise DataError(f"it cannot be read ({reason})", expected=expected, hint=hint, where=path) from None
    return [line.strip() for line in lines if line.strip()]
