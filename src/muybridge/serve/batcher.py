"""Inputs of different requests gathered into batches for the model.

Legend: R rows of a batch, T frames.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from muybridge.core.types import Output
from muybridge.models.base import Model
from muybridge.predict import Predictor

Inputs = dict[str, Tensor]


@dataclass(eq=False, slots=True)
class _Request:
    """Inputs that wait for the model: ``rows`` of them, which count as ``recordings``."""

    key: tuple[object, ...]
    model: str
    inputs: Inputs
    return_maps: bool
    recordings: int
    answer: Future[Output] = field(default_factory=Future)
    arrived: float = field(default_factory=time.monotonic)

    @property
    def rows(self) -> int:
        """Rows along the batch axis."""
        return len(next(iter(self.inputs.values())))


class Batcher:
    """A thread that computes the outputs of models, those of several requests together.

    Requests of one model that arrive within ``max_delay`` of the first are one batch, as far as they fit.

    Args:
        predictors: by the names of the models.
        batch: recordings that are computed together.
        max_delay: seconds that a request waits at most for others.
        observe: called with the number of recordings in each batch.
    """

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        batch: int = 8,
        max_delay: float = 0.005,
        observe: Callable[[int], None] | None = None,
    ) -> None:
        self.predictors, self.batch, self.max_delay, self.observe = predictors, batch, max_delay, observe
        self._waiting: list[_Request] = []
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(self, model: str, inputs: Inputs, *, return_maps: bool = False) -> Future[Output]:
        """The output for collated inputs, on the CPU, when it is there; a future that is cancelled is not computed.

        The future raises RunError if scores are not finite.
        """
        shapes = tuple((name, tuple(value.shape[2 if name == "joints" else 1 :])) for name, value in inputs.items())
        views = self.predictors[model].prepare.views
        rows = len(next(iter(inputs.values())))
        request = _Request((model, return_maps, shapes), model, inputs, return_maps, max(1, rows // views))
        with self._changed:
            self._waiting.append(request)
            self._changed.notify()
        return request.answer

    def close(self) -> None:
        """Computes what waits, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            batch = [request for request in batch if request.answer.set_running_or_notify_cancel()]
            if not batch:
                continue
            try:
                outputs = self._compute(batch)
            except Exception as problem:  # noqa: BLE001 - each request gets its own error
                self._compute_apart(batch, problem)
                continue
            for request, output in zip(batch, outputs, strict=True):
                request.answer.set_result(output)

    def _compute_apart(self, batch: list[_Request], problem: Exception) -> None:
        """One request after the other, so that one that fails does not fail the others."""
        for request in batch:
            try:
                output = self._compute([request])[0] if len(batch) > 1 else None
            except Exception as own:  # noqa: BLE001 - it belongs to whoever waits for the answer
                problem, output = own, None
            if output is None:
                request.answer.set_exception(problem)
            else:
                request.answer.set_result(output)

    def _next(self) -> list[_Request]:
        """The requests of the next batch; empty at the end."""
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return []
                self._changed.wait()
            first = self._waiting[0]
            deadline = first.arrived + self.max_delay
            while self._recordings_like(first) < self.batch and not self._closed:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            taken: list[_Request] = []
            for request in self._waiting:
                fits = sum(one.recordings for one in taken) + request.recordings <= self.batch
                if request.key == first.key and (fits or not taken):
                    taken.append(request)
            self._waiting = [request for request in self._waiting if request not in taken]
            return taken

    def _recordings_like(self, first: _Request) -> int:
        return sum(request.recordings for request in self._waiting if request.key == first.key)

    def _compute(self, batch: Sequence[_Request]) -> list[Output]:
        predictor = self.predictors[batch[0].model]
        model = predictor.model
        assert isinstance(model, Model)
        model.return_maps = batch[0].return_maps
        output = predictor.forward(merge([one.inputs for one in batch]))
        if self.observe:
            self.observe(sum(request.recordings for request in batch))
        rows = [request.rows for request in batch]
        logits = output.logits.cpu().split(rows)
        maps = {name: value.cpu().split(rows) for name, value in output.maps.items() if batch[0].return_maps}
        return [Output(part, {name: parts[at] for name, parts in maps.items()}) for at, part in enumerate(logits)]


def merge(batches: Sequence[Inputs]) -> Inputs:
    """Collated inputs as one batch; ``joints`` of different length are zero-padded, as collating does."""
    if "joints" in batches[0]:
        frames = max(one["joints"].shape[1] for one in batches)
        batches = [
            one | {"joints": F.pad(one["joints"], (0, 0, 0, 0, 0, 0, 0, frames - one["joints"].shape[1]))}
            for one in batches
        ]
    return {name: torch.cat([one[name] for one in batches]) for name in batches[0]}
