"""A connection to a Ray cluster, or Ray on this machine for as long as it is needed."""

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import ray

from muybridge.core.errors import MuybridgeError, RunError
from muybridge.core.processes import available_cores

_LOGGERS = ("ray", "ray.data", "ray.serve")


@contextmanager
def connected(address: str, cores: int) -> Iterator[None]:
    """A connection to a cluster while the block lasts; one that the caller has is used.

    Args:
        address: such as ``ray://host:10001``; empty starts Ray on this machine and stops it at the end.
        cores: that Ray started here may give away at least; more than there are is no more than a number to it.

    Raises:
        RunError: the cluster cannot be reached, or Ray cannot be started.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if not address:
        options |= {"num_cpus": max(cores, available_cores()), "include_dashboard": False}
    try:
        _check_reachable(address)
        with without_stderr():  # Ray's core says there what does not concern the user
            ray.init(address or "local", **options)
    except Exception as problem:  # noqa: BLE001 - Ray raises many kinds
        raise RunError(
            f"Ray cannot be {'reached' if address else 'started'} ({str(problem).splitlines()[0]})",
            expected="the address of a cluster, such as ray://host:10001" if address else "a machine for Ray",
            hint="check --address, that `ray status` answers on that machine, and, where the cluster asks for a token, "
            "its token in ~/.ray/auth_token or the variable RAY_AUTH_TOKEN"
            if address
            else "see the files in /tmp/ray/session_latest/logs",
            where=address or None,
        ) from None
    try:
        yield
    finally:
        with without_stderr():
            ray.shutdown()


def error_inside(problem: BaseException) -> MuybridgeError | None:
    """The error of ours that a process of the cluster raised, where there is one."""
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, MuybridgeError):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__
    return None


def _check_reachable(address: str) -> None:
    """Raises OSError where nothing listens at an address with a port, for which Ray would wait for minutes."""
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    if address and parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=10).close()


@contextmanager
def without_stderr() -> Iterator[None]:
    """What is written to stderr, by libraries in C++ too, is not shown."""
    sys.stderr.flush()
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)
