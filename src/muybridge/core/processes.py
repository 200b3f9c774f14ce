"""Worker processes: one function over many arguments on all cores, and what the main script needs for that."""

import ast
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import TypeVar

from muybridge.core.errors import RunError

Key = TypeVar("Key", bound=Hashable)
Argument = TypeVar("Argument")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(
    function: Callable[[Argument], Result],
    arguments: Sequence[Argument],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Result]:
    """The result for each argument, in their order, by as many threads as there are cores.

    This is for work that releases the interpreter's lock, such as decoding.

    Args:
        function: called in the threads.
        arguments: one for each result.
        progress: called with how many are done, and of how many.
    """
    with ThreadPoolExecutor(available_cores()) as pool:
        for done, result in enumerate(pool.map(function, arguments), start=1):
            if progress:
                progress(done, len(arguments))
            yield result


def run_parallel(
    function: Callable[[Argument], Result], arguments: Mapping[Key, Argument], workers: int
) -> Iterator[tuple[Key, Result]]:
    """The result for each argument with its key, in the order in which they are finished.

    Args:
        function: of a module, so that worker processes can import it; they import nothing else.
        arguments: by any key.
        workers: processes; at most one for each argument is started, and 1 works in this process. Several need the
            usual ``if __name__ == "__main__":`` around a script's own work.

    Raises:
        RunError: a worker was killed, as systems do when memory runs out; or workers would run the main script again.
    """
    workers = min(workers, len(arguments))
    if workers <= 1:
        yield from ((key, function(argument)) for key, argument in arguments.items())
        return
    require_main_guard("the number of processes to 1 (--jobs 1)")
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _prepare_worker)
    try:
        waiting = {pool.submit(function, argument): key for key, argument in arguments.items()}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool:
        raise RunError(
            "a worker process was killed",
            expected="memory for one video in each worker",
            hint="start it again with fewer workers; finished files are kept",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def require_main_guard(setting: str) -> None:
    """Refuse to start processes from a script that each of them would run again.

    New processes import the main script, as Python's start method "spawn" does; what is not under
    ``if __name__ == "__main__":`` is executed by each of them.

    Args:
        setting: what makes the work run in this process alone, for the message.

    Raises:
        RunError: the main script never compares ``__name__``.
    """
    main = sys.modules["__main__"]
    path = getattr(main, "__file__", None)
    if path is None or getattr(main, "__spec__", None) is not None or parent_process() is not None:
        return
    try:
        script = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    compared = [part for node in ast.walk(script) if isinstance(node, ast.Compare) for part in ast.walk(node)]
    if not any(isinstance(part, ast.Name) and part.id == "__name__" for part in compared):
        raise RunError(
            "each new process would run this script again",
            expected='calls under `if __name__ == "__main__":`, as Python asks for where processes are started',
            hint=f"put them there, or set {setting}",
            where=path,
        )


def _prepare_worker() -> None:
    """An interrupt ends a worker at once and without a traceback; so does the end of the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    end_with_parent()


def end_with_parent() -> None:
    """End this process, which another one started through multiprocessing, as soon as that one has ended."""
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
