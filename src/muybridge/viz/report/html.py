"""Pieces of HTML: escaped text, tables, pictures inside the page."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what is shown.
        value: what it is sorted by, of numbers; None sorts by the text.
        bad: whether it is marked as bad.
    """

    text: str
    value: int | float | None = None
    bad: bool = False

    def html(self) -> str:
        """The cell as HTML."""
        classes = " ".join(["number"] * (self.value is not None) + ["bad"] * self.bad)
        kind = f' class="{classes}"' if classes else ""
        sorting = f' data-value="{self.value:g}"' if self.value is not None else ""
        return f"<td{kind}{sorting}>{escape(self.text)}</td>"


def number(value: float, digits: int = 1, *, bad: bool = False) -> Cell:
    """A cell with a number."""
    return Cell(f"{value:.{digits}f}", value, bad)


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, sortable: bool = False) -> str:
    """A table; with ``sortable`` a click on a heading sorts it."""
    rows = list(rows)
    numeric = [bool(rows) and rows[0][index].value is not None for index in range(len(columns))]
    heads = "".join(
        f'<th scope="col"{" class=number" if right else ""}>'
        + (f'<button type="button">{escape(name)}</button>' if sortable else escape(name))
        + "</th>"
        for name, right in zip(columns, numeric, strict=True)
    )
    body = "\n".join(f"<tr>{''.join(cell.html() for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def picture(path: Path, description: str, css: str = "figure") -> str:
    """A PNG file as part of the page."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img class="{css}" alt="{escape(description)}" src="data:image/png;base64,{data}">'


def section(name: str, title: str, *parts: str) -> str:
    """A section with a heading; nothing where all parts are empty."""
    content = "\n".join(part for part in parts if part)
    return f'<section id="{name}"><h2>{escape(title)}</h2>\n{content}\n</section>' if content else ""


def note(text: str) -> str:
    """A remark in small type."""
    return f'<p class="note">{escape(text)}</p>'


def page(title: str, links: Iterable[tuple[str, str]], parts: Iterable[str]) -> str:
    """A whole page with its style, which needs no other file.

    Args:
        title: of the page.
        links: to sections, by their names, with the text of each.
        parts: sections; empty ones are left out.
    """
    navigation = "".join(f'<a href="#{name}">{escape(text)}</a> ' for name, text in links)
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("style.css", "sort.js"))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{style}</style></head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n<nav>{navigation}</nav>\n" + "\n".join(filter(None, parts)) + "\n"
        f"<script>\n{script}</script>\n</body></html>\n"
    )
