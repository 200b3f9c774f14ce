"""Results of baselines, as they are printed and kept in a run folder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline and its result.

    Attributes:
        name: short.
        method: what it is.
        top1: accuracy in percent.
        interval: its 95 % confidence interval in percent (Wilson), as if recordings were independent.
        mean_class_accuracy: mean of the accuracies of the classes that occur, in percent.
        validation: accuracy in percent by cross-validation inside the training part; None where there is none.
        choice: description of the recording and penalty that cross-validation chose.
        seconds: to fit and to test.
    """

    name: str
    method: str
    top1: float
    interval: tuple[float, float]
    mean_class_accuracy: float
    validation: float | None
    choice: str
    seconds: float

    @property
    def interval_text(self) -> str:
        """The interval in words."""
        return f"{self.interval[0]:.1f} to {self.interval[1]:.1f}"


@dataclass(frozen=True, slots=True)
class BaselineTable:
    """The baselines of a data set.

    Attributes:
        split: the part that was tested on.
        trained: recordings of the training part.
        count: recordings tested.
        rows: the baselines, from the simplest on.
        seconds: to read the recordings.
        notices: what was left out, and why.
    """

    split: str
    trained: int
    count: int
    rows: tuple[Baseline, ...]
    seconds: float
    notices: tuple[str, ...] = ()

    @property
    def floor(self) -> Baseline:
        """What a network has to exceed: the baseline with the best cross-validation, of equal ones the last."""
        return max(reversed(self.rows), key=lambda row: -1.0 if row.validation is None else row.validation)

    def lines(self) -> list[str]:
        """The table as text, a few lines to print before training."""
        width = max(len(row.name) for row in self.rows)
        head = (
            f"baselines, fitted on {self.trained} recordings, tested on {self.count} (top-1 % with its 95 % interval):"
        )
        rows = (f"  {row.name:<{width}} {row.top1:6.1f}  {row.interval_text}" for row in self.rows)
        return [head, *rows, *(f"note: {notice}" for notice in self.notices)]

    def as_dict(self) -> dict[str, Any]:
        """The table as JSON types."""
        return asdict(self) | {"floor": self.floor.name}

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any]) -> "BaselineTable":
        """The table from :meth:`as_dict`."""
        rows = tuple(Baseline(**{**row, "interval": tuple(row["interval"])}) for row in tree["rows"])
        values = {key: tree[key] for key in ("split", "trained", "count", "seconds")}
        return cls(**values, rows=rows, notices=tuple(tree["notices"]))
