"""What runs on the workers of a cluster: an actor that holds the model, and reads recordings as prediction does."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow
import ray
import torch

from muybridge.core.addresses import UnreachableError
from muybridge.core.errors import DataError, MuybridgeError, MuybridgeWarning
from muybridge.core.text import as_utf8
from muybridge.core.types import FailedSample, Prediction
from muybridge.predict import Predictor
from muybridge.scale.config import LabelConfig
from muybridge.scale.snapshot import RunSnapshot
from muybridge.scale.source import content_key, local_copies
from muybridge.scale.table import row_schema
from muybridge.timeline import Timeline, TimelinePredictor
from muybridge.timeline.formats import as_rows

ATTEMPTS = 2
"""How often recordings are tried together, and then a recording by itself, before it counts as what ends its worker."""

Row = dict[str, Any]


class Attempts:
    """Counts how often something was begun and not ended: a worker that dies does not come back to end it."""

    def __init__(self) -> None:
        self._begun: dict[str, int] = {}

    def begin(self, name: str) -> int:
        """How often it has been begun before."""
        before = self._begun.get(name, 0)
        self._begun[name] = before + 1
        return before

    def end(self, name: str) -> None:
        """It is done."""
        self._begun.pop(name, None)


class Labeller:
    """Labels recordings, some at a time; Ray Data keeps one in each worker process.

    Args:
        shared: references to the snapshot of the run and to the :class:`Attempts`; in a tuple, since Ray would resolve
            them otherwise, and hold back the restart of a worker.
        config: what is written about each recording.
        device: "cpu" or "cuda".
        threads: of this worker.
    """

    def __init__(self, shared: tuple[Any, Any], config: LabelConfig, device: str, threads: int) -> None:
        self._snapshot, self._attempts = shared
        self.config, self.device, self.threads = config, device, threads
        self.schema = row_schema(config.timeline is not None)
        self._warned: dict[str, str] = {}
        torch.set_num_threads(threads)

    @cached_property
    def predictor(self) -> Predictor:
        """Of the run; made with the first recordings, as Ray retries forever what fails before."""
        snapshot: RunSnapshot = ray.get(self._snapshot)
        return snapshot.load(self.device, self.config.reject)

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """The rows for recordings that are to be labelled, in their order.

        Args:
            table: ``file``, the bytes of a path or address, and ``known``, the content key with which it is labelled
                already, or nothing. Those that have not changed get a row of their key alone, without a path.
        """
        known = {os.fsdecode(row["file"]): row["known"] for row in table.to_pylist()}
        keys = {file: content_key(file) for file in known}
        new = [file for file, key in keys.items() if not key or key != known[file]]
        answers = dict(zip(new, self._answers(new), strict=True))
        rows = [
            {"path": as_utf8(file), "key": key, **answers[file]} if file in answers else {"key": key}
            for file, key in keys.items()
        ]
        return pyarrow.Table.from_pylist(rows, self.schema)

    def _answers(self, files: list[str]) -> list[Row]:
        """What is known of each file afterwards: computed together, or one by one where that ends badly."""
        if not files:
            return []
        name = f"{len(files)} from {files[0]}"
        if self._count("begin", name) < ATTEMPTS:
            try:
                answers = list(self._together(files))
            except MuybridgeError:  # of the run: it is the same for all recordings
                raise
            except Exception:  # noqa: BLE001 - of one of the recordings, which is found below
                answers = None
            if answers is not None:
                self._count("end", name)
                return answers
        answers = [self._alone(file) for file in files]
        self._count("end", name)
        return answers

    def _alone(self, file: str) -> Row:
        """A recording by itself, which may be the one that ends its worker, or for which our own code fails."""
        if self._count("begin", file) >= ATTEMPTS:
            return {"error": _text(_deadly()), "key": ""}
        try:
            [answer] = self._together([file])
        except MuybridgeError:
            raise
        except Exception as problem:  # noqa: BLE001 - it must not keep millions of others from their labels
            answer = {"error": f"{type(problem).__name__}: {problem} (please report this)", "key": ""}
        self._count("end", file)
        return answer

    @contextmanager
    def _collected_warnings(self) -> Iterator[None]:
        """What the predictor warns about is kept by the path that its message begins with."""

        def collect(message: Warning | str, *rest: Any, **named: Any) -> None:
            del rest, named
            path, _, text = str(message).partition(": ")
            self._warned[path] = text

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", MuybridgeWarning)
            warnings.showwarning = collect
            yield

    def _count(self, what: str, name: str) -> Any:
        return ray.get(getattr(self._attempts, what).remote(name))

    def _together(self, files: list[str]) -> Iterator[Row]:
        """What the table says about each file but its name and key."""
        with local_copies() as fetch, self._collected_warnings():
            copies = (_attempt(fetch, file, number) for number, file in enumerate(files))
            for path, answer in self._predict(copies):
                warning = self._warned.pop(str(path), None)
                row = _describe(answer)
                yield row | ({"warning": as_utf8(warning)} if warning and "error" not in row else {})

    def _predict(
        self, copies: Iterator[Path | FailedSample]
    ) -> Iterator[tuple[Path, Prediction | Timeline | FailedSample]]:
        if self.config.timeline is None:
            answers = self.predictor.predict_found(copies, self.config.top, batch=self.config.batch, jobs=self.threads)
            for answer in answers:
                yield Path(answer.id), answer
            return
        timeline = TimelinePredictor(self.predictor, self.config.timeline)
        for path in copies:
            if isinstance(path, FailedSample):
                yield path.path, path
                continue
            try:
                yield path, timeline(path)
            except DataError as problem:
                yield path, FailedSample(str(path), path, problem)


def _attempt(fetch: Callable[[str, int], Path], file: str, number: int) -> Path | FailedSample:
    """The file on this machine, or why there is none."""
    try:
        return fetch(file, number)
    except DataError as problem:
        return FailedSample(file, Path(file), problem)


def _describe(answer: Prediction | Timeline | FailedSample) -> Row:
    """An answer by the names of the columns."""
    if isinstance(answer, FailedSample):
        again = {"key": ""} if isinstance(answer.error, UnreachableError) else {}  # the next command tries it again
        return {"error": _text(answer.error), **again}
    if isinstance(answer, Timeline):
        segments = [{name: value for name, value in row.items() if name != "path"} for row in as_rows(answer)]
        return {"duration": round(answer.duration, 3), "segments": segments}
    values = answer.as_dict()
    return {
        "label": answer.label,
        "score": values["score"],
        "labels": list(answer.labels),
        "scores": [row["score"] for row in values["top"]],
        "rejected": answer.rejected,
    }


def _text(error: DataError) -> str:
    """The error without its path, which may be that of a copy."""
    return as_utf8(str(DataError(error.problem, expected=error.expected, hint=error.hint)))


def _deadly() -> DataError:
    return DataError(
        f"its worker ended {ATTEMPTS} times while it was read",
        expected="a recording that decodes without a crash, in the memory of a worker",
        hint="re-encode it (ffmpeg -i OLD -c:v libx264 -pix_fmt yuv420p NEW.mp4), or use fewer --workers",
    )
