"""What runs in the processes of Ray Serve: the application of ``muybridge.serve``, over runs as they were deployed."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from muybridge.core.errors import RunError
from muybridge.predict import Reject
from muybridge.scale.snapshot import RunSnapshot
from muybridge.serve import ServeConfig

if TYPE_CHECKING:
    from muybridge.serve.service import Service

_START_SECONDS = 60.0


class Replica:
    """The application in one process of Ray Serve, which is given to ``ray.serve.ingress``.

    Args:
        runs: by the names that requests use; Ray keeps them for replicas that start later.
        config: of the server.
        device: where the models compute.
        reject: the threshold, as in ``muybridge.load``.
    """

    def __init__(self, runs: Mapping[str, RunSnapshot], config: ServeConfig, device: str, reject: Reject) -> None:
        self._runs, self._config, self._device = runs, config, device
        self._reject: Reject = reject
        self._service: Service | None = None

    def __serve_build_asgi_app__(self) -> Any:
        """The application; Ray Serve calls this, and runs what belongs to its start and end."""
        from muybridge.serve.app import make_app

        predictors = {name: run.load(self._device, self._reject) for name, run in self._runs.items()}
        self._runs = {}
        app = make_app(predictors, self._config)
        self._service = app.state.service
        return app

    def check_health(self) -> None:
        """Raises RunError where nothing reads recordings; Ray Serve then replaces this process."""
        assert self._service is not None
        ends = time.monotonic() + _START_SECONDS
        while self._service.is_alive and not self._service.pool.processes() and time.monotonic() < ends:
            time.sleep(0.05)  # they are being started
        if not self._service.is_alive:
            raise RunError(
                "its processes cannot be started",
                expected="processes that read recordings",
                hint="see the files in /tmp/ray/session_latest/logs/serve on its machine",
            )
