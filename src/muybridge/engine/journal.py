"""What a run tells: rows for the journal file, progress for the person who waits."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Journal:
    """``journal.jsonl``: appended row by row, cut back to the last saved state when a run resumes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Forget rows that were written after the saved state."""
        if self.size > size:
            with self.path.open("r+b") as file:
                file.truncate(size)

    def write(self, **row: Any) -> None:
        """Append one row."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All rows so far; a last row that a kill cut short is left out."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]


class Reporter:
    """Shows how far the work is: a bar on a terminal, a line now and then in a log, nothing when quiet."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)
        self._said_at = -1.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """A new piece of work of ``total`` steps."""
        self._bar.reset(self._task, total=total, completed=done, description=what)
        self._said_at = -1.0

    def step(self) -> None:
        """One step is done."""
        self._bar.advance(self._task)

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """One epoch is done: its figures, every one on a terminal, at most one in five seconds in a log."""
        last = row["epoch"] == epochs
        if not self.console.is_terminal and not last and row["seconds"] - self._said_at < 5 and self._said_at >= 0:
            return
        self._said_at = row["seconds"]
        train, val = row["train"], row.get("val")
        words = [
            f"{row['stage']} epoch {row['epoch']}/{epochs}",
            f"loss {train['loss']:.3f}",
            f"top1 {train['top1']:.1f}",
        ]
        if val:
            words.append(f"val loss {val['loss']:.3f}  top1 {val['top1']:.1f}")
        words.append(f"{row['seconds']:.0f} s")
        self.say("  ".join(words))

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False, soft_wrap=True)
