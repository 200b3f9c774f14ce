"""Several files read as one, one after the other, as archives are published in parts."""

import io
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path

_MIB = 1 << 20


class PartsFile(io.RawIOBase):
    """Files that are read as if they were one.

    Args:
        paths: in order; one or more.
        progress: called with how many MiB were read, and of how many.
    """

    def __init__(self, paths: Sequence[Path], progress: Callable[[int, int], None] | None = None) -> None:
        super().__init__()
        self._files = [path.open("rb") for path in paths]
        sizes = [path.stat().st_size for path in paths]
        self._starts = [0, *accumulate(sizes)]
        self._at, self._progress, self._reported = 0, progress, -1

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The place of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another place."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read into a buffer, at most to the end of one of the files; returns how many bytes."""
        place = bisect_right(self._starts, self._at) - 1
        if place >= len(self._files):
            return 0
        file = self._files[place]
        file.seek(self._at - self._starts[place])
        count = file.readinto(buffer) or 0
        self._at += count
        self._report()
        return count

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()
        super().close()

    def _report(self) -> None:
        done = self._at // _MIB
        if self._progress and done != self._reported:
            self._reported = done
            self._progress(done, max(1, self._starts[-1] // _MIB))
