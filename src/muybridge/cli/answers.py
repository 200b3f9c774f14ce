"""Predictions in a file that grows: what is in it already is not asked again."""

import csv
import io
import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from muybridge.core.errors import DataError
from muybridge.core.text import as_utf8, csv_line

if TYPE_CHECKING:
    from muybridge.core.types import Prediction


class AnswerFile:
    """A CSV or JSON Lines file of predictions; a context.

    Each answer is written as soon as it is there. A line that was being written when the process was killed is removed.

    Args:
        path: of the file; it is continued if it exists.
        as_csv: CSV with the columns path, label, score, label2, score2, ...; else lines of JSON.
        top: classes of each answer.
        known: classes that there are.

    Raises:
        DataError: the file holds something else, or cannot be written.
    """

    def __init__(self, path: Path, as_csv: bool, top: int, known: int) -> None:
        self.path, self.as_csv, self.top = path.expanduser(), as_csv, min(top, known)
        self.columns = ["path"] + [
            f"{name}{n if n > 1 else ''}" for n in range(1, top + 1) for name in ("label", "score")
        ]
        self.done: set[str] = set()
        self._file: TextIO

    def __enter__(self) -> Self:
        try:
            kept = self._read() if self.path.exists() else 0
            self._file = self.path.open("a", encoding="utf-8", newline="")
            self._file.truncate(kept)
            if not kept and self.as_csv:
                self._file.write(csv_line(self.columns))
        except OSError as problem:
            raise self._refusal(f"cannot be written ({problem.strerror})") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, answer: "Prediction") -> None:
        """Write an answer; raises DataError if the disk is full."""
        try:
            if self.as_csv:
                pairs = zip(answer.labels, (f"{score:.6f}" for score in answer.scores), strict=True)
                row = [answer.id, *(value for pair in pairs for value in pair)]
                row[1] = answer.label
                self._file.write(csv_line(row + [""] * (len(self.columns) - len(row))))
            else:
                self._file.write(as_utf8(json.dumps(answer.as_dict(), ensure_ascii=False)) + "\n")
            self._file.flush()
        except OSError as problem:
            raise self._refusal(f"cannot be written ({problem.strerror})") from None

    def has(self, path: Path) -> bool:
        """Whether the file has the answer for a recording."""
        return as_utf8(str(path)) in self.done

    def _read(self) -> int:
        """Note what is done; returns the length in bytes of the part of the file that is whole."""
        text = self.path.read_bytes()
        kept = text.rfind(b"\n") + 1
        while self.as_csv and text[:kept].count(b'"') % 2:  # a line end in a quoted file name
            kept = text.rfind(b"\n", 0, kept - 1) + 1
        lines = text[:kept].decode("utf-8", errors="replace")
        first = csv_line(self.columns) if self.as_csv else '{"path": "'
        try:
            if not kept and not first.encode().startswith(text[: len(first)]):
                raise ValueError("its only line is not of this kind")
            if self.as_csv:
                rows = list(csv.reader(io.StringIO(lines)))
                if rows and rows[0] != self.columns:
                    raise ValueError(f"its columns are {','.join(rows[0])}")
                self.done = {row[0] for row in rows[1:]}
            else:
                answers = [json.loads(line) for line in lines.split("\n")[:-1]]
                self.done = {as_utf8(str(answer["path"])) for answer in answers}
                if answers and len(answers[0]["top"]) != self.top:
                    raise ValueError(f"its answers have {len(answers[0]['top'])} classes each, not {self.top}")
        except (ValueError, KeyError, TypeError, IndexError) as problem:
            raise self._refusal(f"holds something else ({problem})") from None
        return kept

    def _refusal(self, problem: str) -> DataError:
        kind = f"CSV with the columns {','.join(self.columns)}" if self.as_csv else "JSON Lines with path in each line"
        return DataError(
            problem,
            expected=f"a new file, or one of an earlier `muybridge predict`: {kind}",
            hint="give another file, the --top of then, or remove this one",
            where=self.path,
        )
