"""The workers of the server: processes that read recordings, one job each, restarted when they die."""

import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Literal

import torch

from muybridge.core.errors import RequestError
from muybridge.core.processes import require_main_guard
from muybridge.predict import Predictor
from muybridge.serve.batcher import Batcher
from muybridge.serve.config import Limits
from muybridge.serve.stream_worker import StreamSettings, work_on_stream
from muybridge.serve.worker import BEGUN, Facts, Job, without_model, work

_ATTEMPTS = 3

Stage = Literal["waiting", "opening", "reading", "computing", "done"]


@dataclass(eq=False)
class Task:
    """A job on its way through a worker.

    Attributes:
        job: what is done.
        result: the inputs of the model, or a timeline.
        progress: called with how many windows of a timeline are done, and of how many.
        facts: of the recording, once it is open.
        stage: where it is.
    """

    job: Job
    progress: Callable[[int, int], None] | None = None
    result: "Future[Any]" = field(default_factory=Future)
    facts: Facts | None = None
    stage: Stage = "waiting"
    cancelled: bool = False
    _kill: Callable[[], None] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cancel(self) -> None:
        """Stop: a job that waits is never begun, and the process of one that runs is killed."""
        with self._lock:
            self.cancelled = True
            if not self.result.cancel() and self._kill:
                self._kill()

    @contextmanager
    def running_in(self, kill: Callable[[], None]) -> Iterator[None]:
        """While a worker has it, :meth:`cancel` calls ``kill``.

        Raises:
            CancelledError: it is cancelled already.
        """
        with self._lock:
            if self.cancelled:
                raise CancelledError
            self._kill = kill
        try:
            yield
        finally:
            with self._lock:
                self._kill = None


class Worker:
    """One process and the connection to it.

    Args:
        context: of multiprocessing.
        target: runs in the process, with its end of the connection and the other arguments.
    """

    def __init__(self, context: Any, target: Callable[..., None], *arguments: Any) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        self.process.start()
        theirs.close()

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.kill()
        self.process.join()


class Pool:
    """Worker processes, each with a thread that gives it jobs.

    Args:
        predictors: by the names of the models.
        batcher: which computes outputs.
        workers: how many processes.
        limits: of what is read.

    Raises:
        RunError: the main script would be run again by each process.
    """

    def __init__(self, predictors: Mapping[str, Predictor], batcher: Batcher, workers: int, limits: Limits) -> None:
        require_main_guard("nothing: a server needs processes")
        self.batcher, self.limits = batcher, limits
        self.restarts = 0
        self._predictors = {name: without_model(predictor) for name, predictor in predictors.items()}
        forks = "forkserver" in multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if forks else "spawn")
        if forks:  # a worker that is killed is replaced within a tenth of a second, since torch is imported already
            self._context.set_forkserver_preload(["muybridge.serve.worker", "muybridge.serve.stream_worker"])
        self._tasks: queue.Queue[Task | None] = queue.Queue()
        self._workers: dict[int, Worker] = {}
        self._threads = [threading.Thread(target=self._work, args=(at,), daemon=True) for at in range(workers)]
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job, progress: Callable[[int, int], None] | None = None) -> Task:
        """A job as a task, which a worker takes as soon as one is free."""
        task = Task(job, progress)
        self._tasks.put(task)
        return task

    def start_stream(self, model: str, settings: StreamSettings) -> Worker:
        """A process of its own for the frames that one client sends, beside the workers."""
        return Worker(self._context, work_on_stream, self._predictors[model], settings, self.limits)

    def processes(self) -> list[int]:
        """The process numbers of the workers that run."""
        return [worker.process.pid or 0 for worker in self._workers.values() if worker.process.is_alive()]

    @property
    def is_alive(self) -> bool:
        """Whether jobs are taken; False once no process can be started any more."""
        return any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Finishes what is submitted, and ends all processes."""
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, place: int) -> None:
        self._start(place)
        while (task := self._tasks.get()) is not None:
            if not task.result.set_running_or_notify_cancel():
                continue
            try:
                with task.running_in(lambda: self._workers[place].process.kill()):
                    result = self._run(task, self._begun(task, place))
                task.result.set_result(result)
            except (Exception, CancelledError) as problem:  # noqa: BLE001 - it belongs to whoever waits for the result
                task.result.set_exception(problem)
            task.stage = "done"
            if not self._workers[place].process.is_alive() or task.cancelled:
                self._restart(place)
        self._workers[place].close()

    def _start(self, place: int) -> None:
        self._workers[place] = Worker(self._context, work, self._predictors, self.limits)

    def _restart(self, place: int) -> None:
        self._workers[place].close()
        self.restarts += 1
        self._start(place)

    def _begun(self, task: Task, place: int) -> Worker:
        """The worker of a place, which has taken the job; another one where it was killed between two jobs."""
        for _ in range(_ATTEMPTS):
            if task.cancelled:
                raise CancelledError
            worker = self._workers[place]
            with suppress(EOFError, ConnectionResetError, BrokenPipeError):
                worker.connection.send(task.job)
                if worker.connection.recv() == BEGUN:
                    return worker
            self._restart(place)
        raise died(task.job.name, None)

    def _run(self, task: Task, worker: Worker) -> Any:
        """The result of a job, which the worker computes; outputs of the model are computed for it."""
        connection: Connection = worker.connection
        try:
            task.stage = "opening"
            if not connection.poll(self.limits.opening_seconds):
                worker.process.kill()
                raise too_slow(task.job.name, self.limits.opening_seconds)
            while True:
                kind, content = connection.recv()
                match kind:
                    case "opened":
                        task.facts, task.stage = content, "reading"
                    case "forward":
                        task.stage = "computing"
                        connection.send(self.forward(task.job.model, *content))
                        task.stage = "reading"
                    case "progress":
                        if task.progress:
                            task.progress(*content)
                    case "done":
                        return content
                    case _:
                        raise content
        except (EOFError, ConnectionResetError, BrokenPipeError):
            worker.process.join(5)
            worker.process.kill()  # without its connection it is of no use
            if task.cancelled:
                raise CancelledError from None
            raise died(task.job.name, worker.process.exitcode) from None

    def forward(self, model: str, arrays: dict[str, Any], return_maps: bool) -> Any:
        """The output for the inputs of a worker, or what the model raised."""
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        try:
            output = self.batcher.submit(model, inputs, return_maps=return_maps).result()
        except Exception as problem:  # noqa: BLE001 - the worker raises it where its predictor calls the model
            return problem
        return output.logits.numpy(), {name: value.numpy() for name, value in output.maps.items()}


def too_slow(name: str, seconds: float) -> RequestError:
    """The error for a file on which the reader spends too long."""
    return RequestError(
        f"reading it takes more than {seconds:g} s",
        expected="a recording that common players open at once",
        hint="re-encode it (ffmpeg -i OLD -c:v libx264 -pix_fmt yuv420p NEW.mp4), or send a shorter one",
        where=name,
        status=422,
    )


def died(name: str, exit_code: int | None) -> RequestError:
    """The error for a recording on which the worker died: killed from outside, or by a fault of a decoder."""
    if exit_code is not None and exit_code < 0 and exit_code != -signal.SIGKILL:
        number = -exit_code
        with suppress(ValueError):
            number = signal.Signals(-exit_code).name
        return RequestError(
            f"the decoder crashed on it ({number})",
            expected="an undamaged recording",
            hint="re-encode it (ffmpeg -i OLD -c:v libx264 -pix_fmt yuv420p NEW.mp4)",
            where=name,
            status=422,
        )
    return RequestError(
        f"the process that read it was ended (status {exit_code})",
        expected="a process that runs to its end",
        hint="send it again; if that fails too, the machine may be short of memory",
        where=name,
        status=500 if exit_code and exit_code > 0 else 503,
        retry_after=1,
    )
