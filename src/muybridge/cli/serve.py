"""The command that serves runs over HTTP."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muybridge.cli.app import command
from muybridge.cli.failures import printable
from muybridge.cli.options import Device, Reject, is_onnx
from muybridge.cli.predict import announce_calibration
from muybridge.core.hub import is_hub_address
from muybridge.engine.run_format import check_run

if TYPE_CHECKING:
    from muybridge.predict import Predictor

_LIMITS = "Limits of a request"
_WORK = "How requests are gathered"


@command("Use", example="muybridge serve runs/mine")
def serve(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders, ONNX files, or hf://user/name; the first is the default."),
    ],
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
        float,
        typer.Option(metavar="MS", min=0, max=10_000, rich_help_panel=_WORK, help="That one waits for others at most."),
    ] = 5.0,
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
    reject: Reject = None,
    device: Device = "auto",
) -> None:
    """Answer requests for predictions and timelines over HTTP, and show a page for them."""
    for run in runs:
        if not is_onnx(run) and not is_hub_address(run):
            check_run(run)
    from muybridge.serve import Limits, ServeConfig, check_extra

    check_extra()
    limits = Limits(max_bytes, max_seconds, max_frames, max_pixels, answer_seconds=timeout)
    names = tuple(allow_host or ())
    config = ServeConfig(host, port, token, names, jobs, batch, max_delay_ms / 1000, queue, streams, limits)
    from muybridge.serve.run import serve as run_server

    run_server(runs, config, device, reject, _announce)  # pyright: ignore[reportArgumentType] - parsed by its callback


def _announce(address: str, predictors: "dict[str, Predictor]") -> None:
    for name, predictor in predictors.items():
        typer.echo(f"{printable(name)}: {predictor.recipe.model.name}, {len(predictor.labels)} classes", err=True)
        announce_calibration(predictor)
    typer.echo(f"serving at {address} (HTTP interface: {address}/docs); Ctrl-C ends it", err=True)
