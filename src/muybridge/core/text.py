"""Text that any reader takes, whatever the names of files are."""

import csv
import io
from collections.abc import Sequence


def as_utf8(text: str) -> str:
    r"""Text that can be written as UTF-8: bytes of a file name that are not UTF-8 become ``\udcff``, JSON's escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def csv_line(row: Sequence[object]) -> str:
    """A row of a CSV file with its line end, in UTF-8; quoted where a reader of CSV needs quotes."""
    text = io.StringIO()
    quoting = csv.QUOTE_ALL if any("\r" in str(value) for value in row) else csv.QUOTE_MINIMAL
    csv.writer(text, lineterminator="\n", quoting=quoting).writerow(row)
    return as_utf8(text.getvalue())
