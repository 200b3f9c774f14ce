"""The command that serves runs over HTTP."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from muybridge.cli.app import command, shell_command
from muybridge.cli.failures import printable
from muybridge.cli.options import Device, Reject, is_onnx
from muybridge.cli.predict import announce_calibration
from muybridge.core.errors import RecipeError
from muybridge.core.hub import is_hub_address
from muybridge.engine.run_format import check_run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from muybridge.predict import Predictor
    from muybridge.serve import ServeConfig

_LIMITS = "Limits of a request"
_WORK = "How requests are gathered"
_RAY = "On a cluster"


@command("Use", example="muybridge serve runs/mine")
def serve(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RUN...", help="Run folders, ONNX files, or hf://user/name; the first is the default."),
    ] = None,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond this machine only with a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        str, typer.Option(metavar="TOKEN", envvar="MUYBRIDGE_TOKEN", help="What clients have to send.")
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name under which clients reach the server; may be repeated."),
    ] = None,
    jobs: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, rich_help_panel=_WORK, help="Processes that read recordings; 0: one a core, at most 4."
        ),
    ] = 0,
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=_WORK, help="Recordings that are computed together.")
    ] = 8,
    max_delay_ms: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            min=0,
            max=10_000,
            rich_help_panel=_WORK,
            help="That one waits for others at most; by default 5 on a GPU and 0 on a CPU.",
        ),
    ] = None,
    queue: Annotated[
        int, typer.Option(metavar="N", min=0, rich_help_panel=_WORK, help="Requests that wait; more are refused (429).")
    ] = 32,
    streams: Annotated[
        int, typer.Option(metavar="N", min=0, rich_help_panel=_WORK, help="Clients that send live frames at a time.")
    ] = 4,
    max_bytes: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=_LIMITS, help="Of the body of a request.")
    ] = 512 << 20,
    max_seconds: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, rich_help_panel=_LIMITS, help="Duration of a recording.")
    ] = 10_800.0,
    max_frames: Annotated[
        int, typer.Option(metavar="N", min=1, rich_help_panel=_LIMITS, help="Of a recording.")
    ] = 400_000,
    max_pixels: Annotated[int, typer.Option(metavar="N", min=1, rich_help_panel=_LIMITS, help="Of a frame.")] = 4096
    * 2304,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.001, rich_help_panel=_LIMITS, help="For an answer.")
    ] = 900.0,
    ray: Annotated[
        bool, typer.Option("--ray", rich_help_panel=_RAY, help="Serve by several processes, on Ray Serve.")
    ] = False,
    replicas: Annotated[
        int,
        typer.Option(metavar="N", min=1, rich_help_panel=_RAY, help="Processes with the model, with --jobs each (1)."),
    ] = 1,
    max_replicas: Annotated[
        int,
        typer.Option(metavar="N", min=0, rich_help_panel=_RAY, help="More are started up to here while requests wait."),
    ] = 0,
    gpus_per_replica: Annotated[
        float | None,
        typer.Option(
            metavar="N", min=0, rich_help_panel=_RAY, help="0.25: four share one; by default 1, if there are."
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            rich_help_panel=_RAY,
            help="A Ray cluster, such as ray://host:10001, on which the service goes on and replaces the one before; "
            "by default Ray is started here, and stopped again.",
        ),
    ] = "",
    stop: Annotated[bool, typer.Option("--stop", rich_help_panel=_RAY, help="End the service at --address.")] = False,
    reject: Reject = None,
    device: Device = "auto",
) -> None:
    """Answer requests for predictions and timelines over HTTP, and show a page for them."""
    spread = _Spread(replicas, max_replicas, gpus_per_replica, address)
    _check_words(runs, ray, stop, spread)
    if stop:
        _stop(address)
        return
    assert runs
    for run in runs:
        if not is_onnx(run) and not is_hub_address(run):
            check_run(run)
    from muybridge.serve import Limits, ServeConfig, check_extra

    check_extra()
    limits = Limits(max_bytes, max_seconds, max_frames, max_pixels, answer_seconds=timeout)
    names = tuple(allow_host or ())
    delay = None if max_delay_ms is None else max_delay_ms / 1000
    config = ServeConfig(host, port, token, names, jobs, batch, delay, queue, streams, limits)
    if ray:
        _serve_on_ray(runs, config, spread, device, reject)
        return
    from muybridge.serve.run import serve as run_server

    run_server(runs, config, device, reject, _announce)  # pyright: ignore[reportArgumentType] - parsed by its callback


class _Spread(NamedTuple):
    """The options of a cluster, as ``muybridge.scale.ReplicaConfig`` takes them; without what that imports."""

    replicas: int = 1
    most: int = 0
    gpus: float | None = None
    address: str = ""


def _check_words(runs: list[Path] | None, ray: bool, stop: bool, spread: _Spread) -> None:
    """Refuse options of a cluster that would be ignored, and a command that says nothing."""
    if stop and (runs or not spread.address):
        raise RecipeError(
            "--stop",
            expected="--address of a cluster, and no run",
            hint="run `muybridge serve --ray --address ADDRESS --stop`",
        )
    if not ray and (spread != _Spread() or stop):
        raise RecipeError("options of a cluster without --ray", expected="both", hint="add --ray")
    if not runs and not stop:
        raise RecipeError("no run is given", expected="a run folder, or several", hint="run `muybridge serve RUN`")


def _stop(address: str) -> None:
    from muybridge.scale import check_serve_extra

    check_serve_extra()
    from muybridge.scale.deploy import stop_at

    stop_at(address)
    typer.echo("the service has ended", err=True)


def _serve_on_ray(runs: list[Path], config: "ServeConfig", spread: _Spread, device: str, reject: Reject) -> None:
    from muybridge.scale import ReplicaConfig, check_serve_extra

    check_serve_extra()
    from muybridge.scale.deploy import serve as deploy

    def announce(served: str, cluster: str, predictors: "Mapping[str, Predictor]") -> None:
        _announce_models(predictors)
        many = f"{spread.replicas} to {spread.most}" if spread.most > spread.replicas else str(spread.replicas)
        typer.echo(f"serving at {served} by {many} replicas (HTTP interface: {served}/docs)", err=True)
        typer.echo(f"another run in its place: {shell_command('serve', 'RUN')} --ray --address {cluster}", err=True)
        if not spread.address:
            typer.echo("Ctrl-C ends it", err=True)

    deploy(runs, config, ReplicaConfig(*spread), device, reject, announce)  # pyright: ignore[reportArgumentType]


def _announce(address: str, predictors: "Mapping[str, Predictor]") -> None:
    _announce_models(predictors)
    typer.echo(f"serving at {address} (HTTP interface: {address}/docs); Ctrl-C ends it", err=True)


def _announce_models(predictors: "Mapping[str, Predictor]") -> None:
    for name, predictor in predictors.items():
        typer.echo(f"{printable(name)}: {predictor.recipe.model.name}, {len(predictor.labels)} classes", err=True)
        announce_calibration(predictor)
