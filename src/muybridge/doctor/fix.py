"""A list of the recordings without those that are wrong; the recordings themselves are never touched."""

import csv
import io
import os
from pathlib import Path

from muybridge.core.files import atomic_write
from muybridge.doctor.findings import Diagnosis


def write_list(diagnosis: Diagnosis, path: Path) -> int:
    """Write a CSV file with the columns path, label, split, group, start and end, and say how many are left out.

    Paths are relative to the folder of the file where the recordings are below it. Start and end are seconds, and the
    columns are there only where recordings are parts of files.

    Args:
        diagnosis: of a data set that could be indexed.
        path: of the file; its folder exists.

    Raises:
        OSError: it cannot be written.
    """
    removed, folder = diagnosis.removed, path.resolve().parent
    kept = [(split, record) for split, record in diagnosis.records if record.id not in removed]
    spans = any(record.span for _, record in kept)
    columns = ["path", "label", "split", "group", *(("start", "end") if spans else ())]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for split, record in kept:
        source = record.path.resolve()
        place = source.relative_to(folder).as_posix() if source.is_relative_to(folder) else os.fspath(source)
        row = [place, diagnosis.labels[record.label], split, record.group]
        writer.writerow([*row, *(record.span or ("", ""))] if spans else row)
    with atomic_write(path) as draft:
        draft.write_text(text.getvalue(), encoding="utf-8")
    return len(diagnosis.records) - len(kept)
