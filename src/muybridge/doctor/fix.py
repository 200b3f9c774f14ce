"""A list of the recordings without those that are wrong; the recordings themselves are never touched."""

from pathlib import Path

from muybridge.data.annotations.write import write_table
from muybridge.doctor.findings import Diagnosis


def write_list(diagnosis: Diagnosis, path: Path) -> int:
    """Write a table of the recordings with their split, see :func:`write_table`, and say how many are left out.

    Args:
        diagnosis: of a data set that could be indexed.
        path: of the file; its folder exists.

    Raises:
        OSError: it cannot be written.
    """
    removed = diagnosis.removed
    kept = [(split, record) for split, record in diagnosis.records if record.id not in removed]
    write_table(path, [record for _, record in kept], diagnosis.labels, split=[split for split, _ in kept])
    return len(diagnosis.records) - len(kept)
