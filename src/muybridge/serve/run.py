"""The server as a program: it loads the runs, listens, and ends cleanly."""

import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import uvicorn
from fastapi import FastAPI

import muybridge
from muybridge.core.errors import RecipeError
from muybridge.core.hub import is_hub_address, parse_hub_address
from muybridge.predict import Predictor, Reject
from muybridge.serve.app import make_app
from muybridge.serve.config import Limits, ServeConfig
from muybridge.serve.patience import patient_protocol

SHUTDOWN_SECONDS = 60
"""How long requests that are in progress may take when the server is asked to end."""


def serve(
    runs: Sequence[Path],
    config: ServeConfig | None = None,
    device: str = "auto",
    reject: Reject = None,
    ready: Callable[[str, dict[str, Predictor]], None] | None = None,
) -> None:
    """Serve runs until the process is interrupted; what is in progress then is finished.

    Args:
        runs: run folders, ONNX files or addresses on the hub; the first is the default.
        config: of the server.
        device: where the models compute.
        reject: the probability below which there is no class, as in ``muybridge.load``.
        ready: called with the address and the models when requests are accepted.

    Raises:
        RecipeError: the address cannot be used.
        RunError: a run cannot be loaded.
    """
    config = config or ServeConfig()
    listener = listen(config)
    with listener:
        predictors = load_all(runs, device, reject)
        app = make_app(predictors, config)
        server = _Server(settings(app, config.limits))
        address = address_of(listener)
        server.on_started = lambda: ready(address, predictors) if ready else None
        with suppress(KeyboardInterrupt):  # uvicorn raises it again once it has ended
            server.run(sockets=[listener])


def settings(app: FastAPI, limits: Limits, log_level: str = "warning") -> uvicorn.Config:
    """How uvicorn runs the application."""
    return uvicorn.Config(
        app,
        log_level=log_level,
        access_log=False,
        http=patient_protocol(limits.header_seconds),
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        server_header=False,
        ws="websockets-sansio",
        ws_max_size=limits.frame_bytes,
        ws_per_message_deflate=False,  # frames are compressed already
    )


class _Server(uvicorn.Server):
    on_started: Callable[[], None] = staticmethod(lambda: None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.on_started()


def load_all(runs: Sequence[Path], device: str = "auto", reject: Reject = None) -> dict[str, Predictor]:
    """The predictors of runs by their names."""
    return {name: muybridge.load(run, device, reject=reject) for name, run in name_runs(runs).items()}


def name_runs(runs: Sequence[Path]) -> dict[str, Path]:
    """Runs by the names of their folders; a name that comes again gets a number."""
    named: dict[str, Path] = {}
    for run in runs:
        stem = _name_of(run)
        names = (stem if count == 1 else f"{stem}-{count}" for count in range(1, len(runs) + 1))
        named[next(name for name in names if name not in named)] = run
    return named


def _name_of(run: Path) -> str:
    if is_hub_address(run):
        return parse_hub_address(run)[0].split("/")[1]
    return run.resolve().stem if run.suffix.lower() == ".onnx" else run.resolve().name


def listen(config: ServeConfig) -> socket.socket:
    """A socket at the address.

    Raises:
        RecipeError: it is in use, or not an address of this machine.
    """
    try:
        family = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0][0]
        with ExitStack() as unless_bound:
            listener = unless_bound.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((config.host, config.port))
            unless_bound.pop_all()
    except OSError as problem:
        raise RecipeError(
            f"cannot listen at {config.host}:{config.port} ({problem.strerror or problem})",
            expected="an address of this machine and a free port",
            hint="choose another --port, or 0 for any that is free",
        ) from None
    return listener


def address_of(listener: socket.socket) -> str:
    """The address of a socket as browsers take it."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(host), str(host))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
