"""How many recordings are labelled, and what came of it; how a service is spread."""

from dataclasses import asdict, dataclass
from typing import Any

from muybridge.core.errors import RecipeError
from muybridge.predict import Reject
from muybridge.timeline import TimelineConfig


@dataclass(frozen=True, slots=True)
class LabelConfig:
    """How recordings are labelled; only ``top``, ``reject``, ``timeline`` and ``batch`` change what the table says.

    Attributes:
        top: how many classes are written for each recording, best first.
        reject: the threshold, see :class:`~muybridge.predict.Predictor`.
        timeline: write segments of this kind in place of one label for each recording.
        batch: recordings that are computed together.
        workers: processes, each with the model; 0 takes one for each GPU, or for each core where there is none.
        gpus_per_worker: 0.25 lets four workers share a GPU, 0 computes on the CPU; None takes 1 where there are GPUs.
        address: of a Ray cluster, such as ``ray://host:10001``; empty starts Ray on this machine and stops it again.
        save_seconds: a kill loses at most what was computed in this time.
        save_rows: a partition has about as many rows at most.
    """

    top: int = 5
    reject: Reject = None
    timeline: TimelineConfig | None = None
    batch: int = 8
    workers: int = 0
    gpus_per_worker: float | None = None
    address: str = ""
    save_seconds: float = 30.0
    save_rows: int = 10_000

    def __post_init__(self) -> None:
        if min(self.top, self.batch, self.save_rows) < 1 or min(self.workers, self.gpus_per_worker or 0) < 0:
            raise RecipeError(
                f"top = {self.top}, batch = {self.batch}, workers = {self.workers}, "
                f"gpus_per_worker = {self.gpus_per_worker}",
                expected="top, batch and save_rows of 1 or more, workers and gpus_per_worker of 0 or more",
                hint="correct it",
            )

    def settings(self) -> dict[str, Any]:
        """What all rows of one table have in common, for JSON."""
        if self.timeline is not None:
            return {"timeline": asdict(self.timeline) | {"ignored": list(self.timeline.ignored)}}
        return {"top": self.top, "reject": self.reject, "batch": self.batch}


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """What a command did.

    Attributes:
        total: recordings of the source; each of them has one row in the table.
        labelled: those that were labelled now.
        kept: those whose row was there already.
        failed: rows with an error, of those that were labelled now.
        warned: rows with a warning, likewise.
        examples: the first failures, as path and error.
    """

    total: int
    labelled: int
    kept: int
    failed: int
    warned: int
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicaConfig:
    """How a service is spread over a cluster.

    Attributes:
        replicas: processes with the models, each with those that read recordings; the fewest where there may be more.
        most: replicas that are started at most where requests wait; 0 keeps their number.
        gpus: of each replica, 0.25 lets four share one, 0 computes on the CPU; None takes 1 where there are GPUs.
        address: of a Ray cluster, such as ``ray://host:10001``; empty starts Ray on this machine.
        start_seconds: for all replicas to answer, the time of waiting for room on the cluster included.
    """

    replicas: int = 1
    most: int = 0
    gpus: float | None = None
    address: str = ""
    start_seconds: float = 900.0

    def __post_init__(self) -> None:
        if self.replicas < 1 or (self.most and self.most < self.replicas) or (self.gpus or 0) < 0:
            raise RecipeError(
                f"{self.replicas} replicas, at most {self.most}, with {self.gpus} GPUs each",
                expected="1 replica or more, at most as many as that or more, GPUs of 0 or more",
                hint="correct --replicas, --max-replicas or --gpus-per-replica",
            )
