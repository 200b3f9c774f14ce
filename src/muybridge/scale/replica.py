"""What runs in the processes of Ray Serve: the application of ``muybridge.serve``, over runs as they were deployed."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import ray
import ray.exceptions

from muybridge.core.errors import RunError
from muybridge.predict import Reject
from muybridge.scale.snapshot import RunSnapshot
from muybridge.serve import ServeConfig

if TYPE_CHECKING:
    from muybridge.serve.service import Service

NAMESPACE = "muybridge"
RUNS = "muybridge-runs"
"""The name of the process that keeps the runs."""

_START_SECONDS = 60.0


class Runs:
    """A process of the cluster that keeps the runs as they were deployed, for replicas that start later.

    So a run folder may change or vanish, and be on one machine only.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Mapping[str, RunSnapshot]] = {}

    def keep(self, version: str, runs: Mapping[str, RunSnapshot]) -> None:
        """Adds runs, by the names that requests use."""
        self._kept[version] = runs

    def get(self, version: str) -> Mapping[str, RunSnapshot] | None:
        """The runs of a deployment; None if they are not kept any more."""
        return self._kept.get(version)

    def drop_others(self, version: str) -> None:
        """Frees the memory of runs that were replaced."""
        self._kept = {name: runs for name, runs in self._kept.items() if name == version}


class Replica:
    """The application in one process of Ray Serve, which is given to ``ray.serve.ingress``.

    Args:
        version: of the runs that are kept.
        config: of the server.
        device: where the models compute.
        reject: the threshold, as in ``muybridge.load``.
    """

    def __init__(self, version: str, config: ServeConfig, device: str, reject: Reject) -> None:
        self._version, self._config, self._device = version, config, device
        self._reject: Reject = reject
        self._service: Service | None = None

    def __serve_build_asgi_app__(self) -> Any:
        """The application; Ray Serve calls this, and runs what belongs to its start and end."""
        from muybridge.serve.app import make_app

        runs = _fetch(self._version)
        app = make_app({name: run.load(self._device, self._reject) for name, run in runs.items()}, self._config)
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


def _fetch(version: str) -> Mapping[str, RunSnapshot]:
    """The runs that were deployed.

    Raises:
        RunError: the process that keeps them is gone.
    """
    try:
        runs: Any = ray.get(ray.get_actor(RUNS, namespace=NAMESPACE).get.remote(version))
    except (ValueError, ray.exceptions.RayError):
        runs = None
    if runs is None:
        raise RunError(
            "the process that keeps the runs is gone",
            expected="the cluster on which they were deployed",
            hint="deploy them again with `muybridge serve RUN --ray --address ADDRESS`",
        )
    return runs
