"""The diagnosis of a data set as one HTML page with pictures of the recordings that are concerned."""

from html import escape
from pathlib import Path

from muybridge.core.files import atomic_write
from muybridge.core.types import Record
from muybridge.data.datasets.base import DatasetConfig
from muybridge.doctor import Diagnosis, Finding
from muybridge.doctor.findings import LEVELS, Item
from muybridge.viz.report.html import Cell, note, page, section, table
from muybridge.viz.report.thumbnails import thumbnail
from muybridge.viz.style import writable

SHOWN = 24
"""Recordings or pairs of a finding that are shown with pictures."""


def write_diagnosis(diagnosis: Diagnosis, path: Path) -> Path:
    """Write the page.

    Args:
        diagnosis: what was found.
        path: of the HTML file; it needs no other file and no connection.

    Raises:
        RunError: the file cannot be written.
    """
    records = {record.id: record for _, record in diagnosis.records}
    head = f'<p class="{"" if diagnosis.ready else "bad"}">{escape(diagnosis.verdict.capitalize())}.</p>'
    root = getattr(diagnosis.data, "root", None)
    place = note(f"Examined: {root}.") if root else ""
    counts = [[Cell(split), Cell(str(count), count)] for split, count in diagnosis.counts.items()]
    overview = [
        [Cell(finding.level, bad=finding.level == "error"), Cell(finding.check), Cell(str(len(finding.items)))]
        for finding in diagnosis.findings
    ]
    parts = [
        section(
            "overview", "Overview", head, place, table(("level", "check", "recordings"), overview) if overview else ""
        ),
        section("data", "Data", table(("part", "recordings"), counts) if counts else ""),
    ]
    for number, finding in enumerate(diagnosis.findings, start=1):
        parts.append(_section(f"finding{number}", finding, records, diagnosis.data))
    links = [("overview", "overview")] + [
        (f"finding{number}", finding.check)
        for number, finding in enumerate(diagnosis.findings, start=1)
        if finding.level != LEVELS[-1]
    ]
    with writable(path), atomic_write(path) as temporary:
        temporary.write_text(page(f"Data set {diagnosis.name}", links, parts), encoding="utf-8")
    return path


def _section(name: str, finding: Finding, records: dict[str, Record], data: DatasetConfig | None) -> str:
    bad = ' class="bad"' if finding.level == "error" else ""
    words = f"<p><b{bad}>{finding.level}</b>: {escape(finding.problem)}.<br>What to do: {escape(finding.cure)}.</p>"
    with_files = [item for item in finding.items if item.files]
    more = note(f"The first {SHOWN} of {len(with_files)}.") if len(with_files) > SHOWN else ""
    shown = "".join(_item(item, records, data) for item in with_files[:SHOWN])
    plain = "".join(f"<li>{escape(item.detail)}</li>" for item in finding.items if not item.files)
    lists = (f"<ul>{plain}</ul>" if plain else "") + (f"<ul class=wrong>{shown}</ul>" if shown else "")
    return section(name, finding.check.capitalize(), words, more, lists)


def _item(item: Item, records: dict[str, Record], data: DatasetConfig | None) -> str:
    """The pictures of one or two recordings, their files, and what is wrong."""
    pictures = "".join(thumbnail(data, records[id_]) for id_ in item.ids if data and id_ in records)
    names = item.ids or tuple(map(str, item.files))
    paths = " ".join(str(file) for file in item.files)
    lines = "".join(f'<div title="{escape(paths)}">{escape(name)}</div>' for name in names)
    return f"<li>{pictures}{lines}<div>{escape(item.detail)}</div></li>"
