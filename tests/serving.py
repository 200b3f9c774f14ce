"""A server in this process, on a port of its own."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx
import uvicorn

from muybridge.predict import Predictor
from muybridge.serve.app import make_app
from muybridge.serve.config import ServeConfig
from muybridge.serve.run import address_of, listen, settings
from muybridge.serve.service import Service


@contextmanager
def serving(predictors: Mapping[str, Predictor], config: ServeConfig) -> Iterator[tuple[httpx.Client, Service]]:
    """A client of a server that runs until the end of the block, and what computes its answers."""
    app = make_app(predictors, config)
    listener = listen(config)
    server = uvicorn.Server(settings(app, config.limits, "critical"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        with httpx.Client(base_url=address_of(listener), timeout=60) as client:
            yield client, app.state.service
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def wait_until(condition, seconds: float = 5.0) -> None:
    """Returns when a condition holds; fails if it does not in time."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not come true in time"
        time.sleep(0.01)
