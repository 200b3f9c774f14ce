"""Other tools that show how a training goes: TensorBoard, Weights & Biases, a table; the journal is kept in any case.

What is logged are the numbers of the journal's rows, one for each epoch, under names such as ``train/loss`` and
``val/top1``; the step is the number of the epoch, counted over all stages. A training that is resumed goes on where the
journal does: epochs that are computed again replace those that were logged before.
"""

import csv
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from muybridge.core.extras import import_extra
from muybridge.core.files import atomic_write
from muybridge.engine.checkpoint import RunFolder, write_errors
from muybridge.engine.journal import Journal

LoggerName = Literal["tensorboard", "wandb", "csv"]


class Logger(Protocol):
    """One of the tools."""

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """The numbers of an epoch."""
        ...

    def close(self) -> None:
        """Everything is written."""
        ...


class Loggers:
    """All tools of a training; use it as a context manager, which closes them.

    Args:
        names: which; nothing is logged without any.
        run: the run folder.
        settings: of the recipe, for tools that show them.

    Raises:
        MissingExtraError: a tool is not installed.
    """

    def __init__(self, names: Sequence[LoggerName], run: RunFolder, settings: Mapping[str, Any]) -> None:
        self._journal = Journal(run.path / "journal.jsonl")
        self._step = len(_epochs(self._journal)) if names else 0
        self._loggers: list[Logger] = []
        self._resources = ExitStack()
        for name in dict.fromkeys(names):
            logger = _MAKERS[name](run, settings, self._step)
            self._resources.callback(logger.close)
            self._loggers.append(logger)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Log an epoch whose row is in the journal."""
        self._step += 1
        for logger in self._loggers:
            logger.log(scalars_of(row), self._step)


def scalars_of(row: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a row of the journal by name, such as ``train/loss``."""
    found: dict[str, float] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= scalars_of(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found


def _epochs(journal: Journal) -> list[dict[str, Any]]:
    return [row for row in journal.rows() if "epoch" in row]


class _Table:
    """``metrics.csv`` in the run folder, written again from the journal after each epoch."""

    def __init__(self, run: RunFolder) -> None:
        self.path, self._journal = run.path / "metrics.csv", Journal(run.path / "journal.jsonl")

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """See :class:`Logger`."""
        del scalars, step
        rows = [{"stage": row.get("stage", ""), **scalars_of(row)} for row in _epochs(self._journal)]
        names = list(dict.fromkeys(name for row in rows for name in row))
        with write_errors(self.path), atomic_write(self.path) as draft, draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, names, restval="")
            writer.writeheader()
            writer.writerows(rows)

    def close(self) -> None:
        """See :class:`Logger`."""


class _TensorBoard:
    """Event files in ``tensorboard`` in the run folder, through Fabric's logger."""

    def __init__(self, run: RunFolder, step: int) -> None:
        _require("tensorboard")
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        options: dict[str, Any] = {"purge_step": step + 1} if step else {}
        self._logger = TensorBoardLogger(run.path, name="tensorboard", version="", **options)

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """See :class:`Logger`."""
        self._logger.log_metrics(dict(scalars), step)
        self._logger.save()

    def close(self) -> None:
        """See :class:`Logger`."""
        self._logger.finalize("success")


class _WandB:
    """A run of Weights & Biases, in the project ``muybridge`` or ``WANDB_PROJECT``; resumed with the training."""

    def __init__(self, run: RunFolder, settings: Mapping[str, Any]) -> None:
        wandb = _require("wandb")
        file = run.path / "wandb-run.txt"
        known = file.read_text().strip() if file.exists() else ""
        name = run.path.resolve().name
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "muybridge",
            name=name,
            id=known or None,
            resume="allow" if known else None,
            dir=str(run.path),
            config=dict(settings),
        )
        with write_errors(file):
            file.write_text(f"{self._run.id}\n")

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """See :class:`Logger`."""
        self._run.log(dict(scalars), step=step)

    def close(self) -> None:
        """See :class:`Logger`."""
        self._run.finish()


def _require(package: str) -> Any:
    return import_extra(package, package, "train.loggers, which names it", otherwise="leave it out")


_MAKERS: dict[str, Callable[[RunFolder, Mapping[str, Any], int], Logger]] = {
    "csv": lambda run, settings, step: _Table(run),
    "tensorboard": lambda run, settings, step: _TensorBoard(run, step),
    "wandb": lambda run, settings, step: _WandB(run, settings),
}
