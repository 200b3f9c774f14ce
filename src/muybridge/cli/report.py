"""The command that writes a run as a page to send to a colleague."""

from pathlib import Path
from typing import Annotated

import typer

from muybridge.cli.app import command
from muybridge.cli.failures import printable
from muybridge.cli.options import Split


@command("Use", example="muybridge report runs/mine runs/other --out report.html")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders; several are compared.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="By default RUN/report.html.")] = None,
    split: Annotated[Split, typer.Option(help="Part of the data; it is tested first if that was not done.")] = "test",
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the recordings are, if they moved.")] = None,
) -> None:
    """Write one HTML page: scores, classes, mistakes, curves, recipe; of several runs a comparison too."""
    from muybridge.viz.report import collect, write_report

    path = (out or runs[0] / "report.html").expanduser()
    write_report([collect(run, split, data) for run in runs], path)
    typer.echo(printable(str(path)))
