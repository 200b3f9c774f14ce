"""What a run reports: rows of the journal file, and progress for the person who waits."""

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from muybridge.core.errors import RunError
from muybridge.engine.checkpoint import write_errors
from muybridge.engine.metrics import METRICS


class Journal:
    """``journal.jsonl``: appended row by row, cut back to the last saved state when a run resumes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def cut(self, size: int) -> None:
        """Remove rows that were written after the saved state."""
        if self.size > size:
            with write_errors(self.path), self.path.open("r+b") as file:
                file.truncate(size)

    def write(self, **row: Any) -> None:
        """Append one row; raises RunError if the disk is full."""
        with write_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        """All rows so far, without a last row that a kill cut short; raises RunError if one is not JSON."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
        return [self._parse(number, line) for number, line in enumerate(lines, start=1)]

    def _parse(self, number: int, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            return row
        raise RunError(
            f"line {number} is damaged",
            expected="one JSON object on each line",
            hint="remove the line; the weights do not depend on it",
            where=self.path,
        )


class Reporter:
    """Reports progress to the person who waits: a bar on a terminal, a line now and then in a log, nothing when quiet.

    Both show the time that is left. In a log, lines are at least 5 seconds apart, and up to a minute in long tasks.

    Attributes:
        brief: whether only the progress of tasks is shown, for one training of many.
    """

    brief: bool = False

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("elapsed,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None)
        self._open = 0
        self._description, self._total, self._first, self._done = "", 0, 0, 0
        self._started = self._reported = time.monotonic()

    def __enter__(self) -> Self:
        self._open += 1
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open -= 1
        if not self._open:
            self._bar.stop()

    def begin(self, description: str, total: int = 0, done: int = 0) -> None:
        """Start a task of ``total`` steps, of which some may be done; 0 where :meth:`update` brings the total."""
        self._bar.reset(self._task, total=total or None, completed=done, description=description)
        self._description, self._total, self._first, self._done = description, total, done, done
        self._started = self._reported = time.monotonic()

    def step(self) -> None:
        """One step of the task is done."""
        self.update(self._done + 1, self._total)

    def update(self, done: int, total: int) -> None:
        """So many steps of the task are done, and of so many; for tasks that count by themselves."""
        if not self._total:  # what was done before is known with the first call only
            self._first, self._total = done - 1, total
        self._done = done
        self._bar.update(self._task, completed=done, total=total)
        if done < total and self._due():
            self._report(f"{self._description}: {done} of {total}")

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """One epoch is done: its row of the journal, every one on a terminal, now and then in a log."""
        if self.brief:
            return
        if self.console.is_terminal or row["epoch"] in (1, epochs) or self._due():
            words = [f"{row['stage']} epoch {row['epoch']}/{epochs}", _figures("training", row["train"])]
            if "val" in row:
                words.append(_figures("validation", row["val"]))
            self._report("  ".join([*words, f"{row['seconds']:.0f} s"]))

    def say(self, text: str) -> None:
        """One line."""
        if not self.brief:
            self._print(text)

    def _print(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def _due(self) -> bool:
        """Whether it is time for another line in a log."""
        now = time.monotonic()
        interval = min(max((now - self._started) / 10, 5.0), 60.0)
        return not self.console.is_terminal and now - self._reported >= interval

    def _report(self, text: str) -> None:
        self._reported = time.monotonic()
        done, elapsed = self._done - self._first, self._reported - self._started
        if (
            self.console.is_terminal or not done or self._done == self._total
        ):  # the bar shows the time, or nothing is left
            self._print(text)
        else:
            self._print(f"{text}, {_clock(elapsed / done * (self._total - self._done))} left")


def _figures(part: str, figures: dict[str, float]) -> str:
    scores = [f", {text} {figures[name]:.1f} %" for name, text in METRICS.items() if name in figures]
    return f"{part} loss {figures['loss']:.3f}{''.join(scores)}"


def _clock(seconds: float) -> str:
    """Minutes and seconds, with hours in front where there are any."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
