"""Several processes of one training on this machine, started by torch's own launcher."""

import json
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from muybridge.core.errors import RunError
from muybridge.core.processes import available_cores
from muybridge.engine.runtime import LOST

LAUNCHED = "MUYBRIDGE_LAUNCHED"
"""Set in processes that are started here: only the first of them prints errors, all leave them in a file."""

_INTERRUPTED = 130


def launch(words: Sequence[str], processes: int) -> int:
    """Run a command of Python in several processes, which find each other by torch's environment variables.

    Where one of them ends with an error or is killed, the others are ended.

    Args:
        words: the command, without ``python``.
        processes: how many.

    Returns:
        0, or the exit status of the first process, which has told its error.

    Raises:
        RunError: a process was killed, or ended with an error that only it knows; names it.
    """
    # What it says of processes that end is said below, in words.
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, available_cores() // processes))
    with TemporaryDirectory(prefix="muybridge-launch-") as folder, patch.dict(os.environ):
        os.environ |= {LAUNCHED: "1", "OMP_NUM_THREADS": threads}
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(log_dir=folder),
        )
        try:
            elastic_launch(config, sys.executable)(*words)
        except ChildFailedError as problem:
            failures = list(problem.failures.values())
            return _explain(min(failures, key=_is_consequence), processes)
        except SignalException:
            return _INTERRUPTED
    return 0


def write_error(text: str) -> bool:
    """Leave an error for the launcher; whether this process is one of several, not the first, and must not print it."""
    if LAUNCHED not in os.environ:
        return False
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        content = {"message": {"message": text, "extraInfo": {"timestamp": int(time.time())}}}
        Path(file).write_text(json.dumps(content), encoding="utf-8")
    return os.environ.get("RANK", "0") != "0"


def _is_consequence(failure: ProcessFailure) -> int:
    """0 for a process that was killed, 1 for an error of its own, 2 for what follows from the end of another one."""
    if failure.exitcode < 0:
        return 2 if failure.exitcode == -signal.SIGTERM else 0
    return 2 if LOST in _text(failure) else 1


def _text(failure: ProcessFailure) -> str:
    message: Any = failure.message
    return str(message["message"]) if isinstance(message, dict) else "its traceback is above"


def _explain(failure: ProcessFailure, processes: int) -> int:
    """The exit status for a process that failed; raises RunError where nothing was printed of it."""
    where = f"process {failure.local_rank} (from 0) of {processes}"
    if failure.exitcode < 0:
        name = signal.Signals(-failure.exitcode).name
        raise RunError(
            f"{where} was killed ({name}), and the others were ended",
            expected="all processes, until the end",
            hint="a SIGKILL that is not yours is mostly a lack of memory; a training goes on from what was saved last, "
            "with any number of processes: `muybridge train --run DIR --resume`",
        )
    if failure.local_rank != 0 and failure.exitcode != _INTERRUPTED:
        raise RunError(
            f"{where} ended with an error: {_text(failure).removesuffix('.')}",
            expected="all processes, until the end",
            hint="correct what it says",
        )
    return failure.exitcode
