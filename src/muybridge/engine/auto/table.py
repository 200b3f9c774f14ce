"""What a search tried: ``auto.json`` in its run folder, from which it is resumed and its table is printed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from muybridge.core.errors import RunError
from muybridge.engine.checkpoint import RunFolder

FILE = "auto.json"
State = Literal["done", "failed", "stopped", "skipped"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One model, trained for some epochs and validated.

    Attributes:
        model: as ``--model`` takes it; "linear", or "fused" for the mean of both.
        epochs: passes over the training part; 0 where nothing is trained by gradient descent.
        part: number of the validation part, from 0; None stands for all parts together.
        state: "done"; "failed"; "stopped" or "skipped" by the time limit.
        seconds: it took.
        top1: accuracy on the validation part in percent.
        loss: mean cross-entropy there.
        count: recordings of the validation part.
        note: why it failed or was left out.
    """

    model: str
    epochs: int
    part: int | None
    state: State
    seconds: float = 0.0
    top1: float | None = None
    loss: float | None = None
    count: int = 0
    note: str = ""

    @property
    def folder(self) -> str:
        """Name of the folder of its run."""
        return f"{self.model}-{self.epochs}-{self.part}"


@dataclass
class SearchTable:
    """A search so far.

    Attributes:
        path: the run folder.
        settings: of the recipes that were given, by dotted names.
        minutes: time limit.
        seconds: used so far.
        attempts: in the order in which they ended.
        choice: the answer and its reason; empty before there is one.
    """

    path: Path
    settings: dict[str, Any]
    minutes: float
    seconds: float = 0.0
    attempts: list[Attempt] = field(default_factory=list)
    choice: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def start(cls, path: Path, settings: Mapping[str, Any], minutes: float, *, resume: bool) -> "SearchTable":
        """A new search, or the one in the folder with its finished attempts.

        Raises:
            RunError: the folder has a search that is not to be resumed, or one with other settings; or it is damaged.
        """
        given = json.loads(json.dumps(dict(settings)))
        earlier = cls.read(path)
        if earlier is None:
            return cls(path, given, minutes)
        if not resume:
            raise RunError(
                "already contains a search for a model",
                expected="a new folder",
                hint="add --resume to resume it, or choose another --run folder",
                where=path,
            )
        if earlier.settings != given:
            names = sorted(name for name in earlier.settings | given if earlier.settings.get(name) != given.get(name))
            raise RunError(
                f"the search was started with other settings: {', '.join(names)}",
                expected="the settings that it was started with",
                hint="resume it without settings, `muybridge train --run DIR --resume`, or choose another --run folder",
                where=path,
            )
        ended = [attempt for attempt in earlier.attempts if attempt.state in ("done", "failed")]
        return cls(path, given, minutes, earlier.seconds, ended)

    @classmethod
    def read(cls, path: Path) -> "SearchTable | None":
        """The search in a run folder, if there is one; raises RunError if its file is damaged."""
        file = path / FILE
        if not file.is_file():
            return None
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
            attempts = [Attempt(**row) for row in tree.pop("attempts")]
            return cls(path, attempts=attempts, **tree)
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise RunError(
                f"damaged ({type(problem).__name__})",
                expected="what a search tried so far",
                hint="remove the folder and search again",
                where=file,
            ) from None

    def write(self) -> None:
        """Keep it in the run folder."""
        tree = {name: getattr(self, name) for name in ("settings", "minutes", "seconds", "choice")}
        RunFolder(self.path).write_json(FILE, tree | {"attempts": [asdict(attempt) for attempt in self.attempts]})

    def add(self, attempt: Attempt) -> Attempt:
        """Append an attempt, in place of an earlier one of the same, and keep it."""
        same = (attempt.model, attempt.epochs, attempt.part)
        self.attempts = [one for one in self.attempts if (one.model, one.epochs, one.part) != same]
        self.attempts.append(attempt)
        self.write()
        return attempt

    def find(self, model: str, epochs: int, part: int | None) -> Attempt | None:
        """An attempt that ended."""
        same = (one for one in self.attempts if (one.model, one.epochs, one.part) == (model, epochs, part))
        return next(same, None)

    def lines(self) -> list[str]:
        """The table as text: a row for each attempt, and the answer."""
        head = ("model", "epochs", "validation part", "top-1 %", "seconds", "state")
        rows = [
            (
                attempt.model,
                str(attempt.epochs) if attempt.epochs else "-",
                "all" if attempt.part is None else str(attempt.part + 1),
                "-" if attempt.top1 is None else f"{attempt.top1:.1f}",
                f"{attempt.seconds:.0f}" if attempt.seconds else "-",
                attempt.state + (f": {attempt.note}" if attempt.note else ""),
            )
            for attempt in self.attempts
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        numeric = (False, True, True, True, True, False)
        texts = []
        for row in (head, *rows):
            cells = zip(row, widths, numeric, strict=True)
            texts.append(
                "  " + "  ".join(cell.rjust(w) if right else cell.ljust(w) for cell, w, right in cells).rstrip()
            )
        return ["tried:", *texts, *([f"chosen: {self.choice['reason']}"] if self.choice else [])]
