"""The folder for what clients send, which is gone when the server is, whatever happens to it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PREFIX = "muybridge-serve-"
LOCK = "lock"


@contextmanager
def upload_folder() -> Iterator[Path]:
    """A new folder among the system's temporary files, for its owner alone; removed with its content at the end.

    Folders of servers that were killed are removed too: the system has taken the lock on a file in them away.
    """
    remove_abandoned(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    with (folder / LOCK).open("w") as file:
        _lock(file)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(parent: Path) -> list[Path]:
    """Removes the folders of servers that do not run any more, and returns them."""
    abandoned = []
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError), (folder / LOCK).open("r+") as file:  # of another user, or just being made
            if _lock(file):
                shutil.rmtree(folder, ignore_errors=True)
                abandoned.append(folder)
    return abandoned


def _lock(file: IO[str]) -> bool:
    """Whether this process now has the lock on a file; never on systems without such locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
