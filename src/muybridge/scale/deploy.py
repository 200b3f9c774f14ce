"""The server on a cluster: Ray Serve starts the replicas, spreads requests, replaces replicas one after the other."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.serve
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

from muybridge.core.errors import RecipeError, RunError
from muybridge.predict import Predictor, Reject
from muybridge.scale.cluster import connected, error_inside, without_stderr
from muybridge.scale.config import ReplicaConfig
from muybridge.scale.replica import Replica
from muybridge.scale.snapshot import RunSnapshot
from muybridge.serve import ServeConfig
from muybridge.serve.run import SHUTDOWN_SECONDS, address_of, listen, name_runs

NAME = "muybridge"
"""The name of the application in Ray Serve."""

SPARE = 64
"""Requests beyond those with recordings, such as those for the page, that a replica takes at a time."""

RETRY_SECONDS = 5
ATTEMPTS = 3
"""How often a replica may fail while it starts before the deployment is given up."""

Ready = Callable[[str, str, Mapping[str, Predictor]], None]


def serve(
    runs: Sequence[Path],
    config: ServeConfig | None = None,
    spread: ReplicaConfig | None = None,
    device: str = "auto",
    reject: Reject = None,
    ready: Ready | None = None,
) -> None:
    """Serve runs by several processes; the same call for other runs replaces those that are served.

    With an address it returns as soon as all replicas answer, and they go on without this process. Without one Ray is
    started on this machine, and stopped when the process is interrupted.

    Args:
        runs: run folders, ONNX files or addresses on the hub; the first is the default.
        config: of the server; ``jobs`` and ``queue`` are those of each replica.
        spread: over which machines.
        device: where the models compute.
        reject: the probability below which there is no class, as in ``muybridge.load``.
        ready: called with the address for requests, that of the cluster, and the models, when requests are accepted.

    Raises:
        RecipeError: the address for requests cannot be used, or is not the one that the cluster has already.
        RunError: a run cannot be loaded, the cluster cannot be reached, or has no room.
    """
    config, spread = config or ServeConfig(), spread or ReplicaConfig()
    snapshots = {name: RunSnapshot.take(run.expanduser()) for name, run in name_runs(runs).items()}
    predictors = {name: snapshot.load("cpu", reject) for name, snapshot in snapshots.items()}
    jobs = config.jobs or 1
    with connected(spread.address, 1 + 2 * jobs * (spread.most or spread.replicas)):  # so that all may be replaced
        config = _start(config, spread)
        deploy(snapshots, config, spread, device, reject)
        if ready is not None:
            gcs = spread.address or ray.get_runtime_context().gcs_address
            ready(f"http://{_printed(config.host)}:{config.port}", gcs, predictors)
        if not spread.address:
            _wait_for_interrupt()
            with without_stderr():
                ray.serve.delete(NAME)  # after the requests that there are; the rest ends with Ray


def stop_at(address: str) -> None:
    """End the service on a cluster, after the requests that it has.

    Raises:
        RunError: the cluster cannot be reached, or serves nothing of ours.
    """
    with connected(address, 1):
        if NAME not in ray.serve.status().applications:
            raise RunError(
                "it does not serve anything of muybridge",
                expected="a cluster on which `muybridge serve --ray` was started",
                hint="check --address",
                where=address,
            )
        stop()


def stop() -> None:
    """End the service of the cluster to which this process is connected."""
    with without_stderr():
        ray.serve.delete(NAME)
        if not ray.serve.status().applications:
            ray.serve.shutdown()


def deploy(
    runs: Mapping[str, RunSnapshot], config: ServeConfig, spread: ReplicaConfig, device: str, reject: Reject
) -> None:
    """Start replicas, or replace those that there are one after the other; each stops once it has answered what it has.

    Args:
        runs: by the names that requests use.
        config: of the server.
        spread: over which machines.
        device: where the models compute.
        reject: the threshold, as in ``muybridge.load``.

    Raises:
        RunError: a replica does not start, or not in time.
    """
    gpus = _gpus(spread, device)
    config = replace(config, jobs=config.jobs or 1, alone=False)
    options = _options(config, spread, gpus)
    decorated: Any = ray.serve.deployment(ray.serve.ingress()(Replica))
    deployment = decorated.options(**options)
    where = ("cuda" if device == "auto" else device) if gpus else "cpu"
    _run(deployment.bind(dict(runs), config, where, reject), spread.start_seconds)


def _options(config: ServeConfig, spread: ReplicaConfig, gpus: float) -> dict[str, Any]:
    """What Ray Serve is told of the replicas."""
    capacity = config.workers + config.queue
    options: dict[str, Any] = {
        "name": NAME,
        "max_ongoing_requests": capacity + config.streams + SPARE,  # the replica itself refuses what is too much
        "max_queued_requests": capacity + SPARE,
        "backpressure_config": {"status_code": 429, "retry_after_s": RETRY_SECONDS},
        "max_surge_percent": 1,  # rounded up to one replica, which starts before another one stops
        "graceful_shutdown_timeout_s": SHUTDOWN_SECONDS,
        "max_constructor_retry_count": ATTEMPTS,
        "ray_actor_options": {"num_cpus": config.workers, "num_gpus": gpus},
        "logging_config": {"enable_access_log": False},
    }
    if spread.most > spread.replicas:
        target = 2 * config.workers
        scaling = {"min_replicas": spread.replicas, "max_replicas": spread.most, "target_ongoing_requests": target}
        return options | {"autoscaling_config": scaling}
    return options | {"num_replicas": spread.replicas}


def _gpus(spread: ReplicaConfig, device: str) -> float:
    """The share of a GPU that each replica has."""
    if device == "cpu":
        return 0.0
    available = ray.cluster_resources().get("GPU", 0.0)
    if device == "auto":
        return float(available >= 1) if spread.gpus is None else spread.gpus
    if not available or spread.gpus == 0:
        raise RecipeError(
            f"the device {device}, and replicas without a GPU",
            expected="a cluster with GPUs, and a share of them",
            hint="set --device auto, or --gpus-per-replica",
        )
    return 1.0 if spread.gpus is None else spread.gpus


def _run(application: Any, seconds: float) -> None:
    """Deploys, and waits until all replicas answer."""
    ends = time.monotonic() + seconds
    try:
        with without_stderr():
            target = ray.serve.RunTarget(application, name=NAME, route_prefix="/")
            ray.serve.run_many([target], wait_for_applications_running=False)
            while (state := ray.serve.status().applications[NAME].status) not in ("RUNNING", "DEPLOY_FAILED"):
                if time.monotonic() > ends:
                    break
                time.sleep(0.2)
    except (RuntimeError, ValueError, KeyError, ray.exceptions.RayError) as problem:
        raise error_inside(problem) or _failed(str(problem)) from None
    if state == "DEPLOY_FAILED":
        raise _failed(_status())
    if state != "RUNNING":
        raise RunError(
            f"the replicas do not answer within {seconds:g} s"
            + (f" ({said.splitlines()[-1]})" if (said := _status()) else ""),
            expected="a cluster with room for one replica more than there are",
            hint="use fewer --replicas or --jobs, or add machines; Ray goes on with the deployment",
        )


def _failed(reason: str) -> RunError:
    lines = reason.strip().splitlines() or ["no reason is given"]
    return RunError(
        f"the replicas cannot be started ({re.sub(r'^muybridge[a-z.]*[.]', '', lines[-1])})",
        expected="machines with muybridge[ray,serve] in this version",
        hint="see the files in /tmp/ray/session_latest/logs/serve on them; a run that was served before is served on",
    )


def _status() -> str:
    """What Ray Serve says of the deployment."""
    with suppress(KeyError, ray.exceptions.RayError):
        application = ray.serve.status().applications[NAME]
        messages = [deployment.message for deployment in application.deployments.values()] + [application.message]
        return next((message for message in messages if message.strip()), "").strip()
    return ""


# Where requests arrive


def _start(config: ServeConfig, spread: ReplicaConfig) -> ServeConfig:
    """Starts Ray Serve where it does not run yet, and returns the config with the address at which it listens."""
    there = _listening()
    if there is not None:
        default = ServeConfig()
        if (config.host, config.port) not in ((default.host, default.port), there):
            raise RecipeError(
                f"the address {config.host}:{config.port}, where Ray Serve listens at {there[0]}:{there[1]} already",
                expected="the address of the cluster",
                hint="leave --host and --port out, or end what Ray Serve runs there",
            )
        config = replace(config, host=there[0], port=there[1])  # refuses one without a token that others reach
    elif not spread.address:
        with listen(config) as listener:  # told now, since Ray would try for ever
            config = replace(config, port=int(address_of(listener).rpartition(":")[2]))
    if there is None:
        with without_stderr():
            ray.serve.start(
                proxy_location="EveryNode",
                http_options={"host": config.host, "port": config.port},
                logging_config={"enable_access_log": False},
            )
    names = {node["NodeManagerHostname"].lower() for node in ray.nodes() if node["Alive"]}
    return replace(config, hosts=tuple(sorted({*config.hosts, *names})))


def _listening() -> tuple[str, int] | None:
    """The address of Ray Serve on the cluster; None where it does not run."""
    try:
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        options: Any = ray.get(controller.get_http_config.remote())
    except (ValueError, ray.exceptions.RayError):
        return None
    return options.host, options.port


def _printed(host: str) -> str:
    """A host as it stands in addresses that a browser takes."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _wait_for_interrupt() -> None:
    """Returns when somebody presses Ctrl-C or sends SIGTERM."""
    with _signals() as asked:
        asked.wait()


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that is set by signals to stop."""
    asked = threading.Event()
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
