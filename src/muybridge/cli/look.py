"""Commands that draw."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from muybridge.cli.app import command
from muybridge.cli.options import Run, Split


@command("Look", example="muybridge show runs/mine --sample a01_s02_e01")
def show(
    run: Run,
    sample: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="Record id (of any split) or path of the recording to draw; by default the first."
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Part of the confusion matrix and the recording.")] = "test",
    video: Annotated[Literal["gif", "mp4"], typer.Option(help="Format of the animation.")] = "gif",
    beside: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Another run on videos, whose attention is drawn beside this one's."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the data set is now, if it was moved.")
    ] = None,
) -> None:
    """Draw learning curves, the confusion matrix, and the attention on a recording, into RUN/pictures."""
    from muybridge.viz.run_pictures import draw_run

    for path in draw_run(run, sample, split, video, beside, data):
        typer.echo(path)
