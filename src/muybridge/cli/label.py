"""The command that labels many recordings on Ray."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muybridge.cli.app import command
from muybridge.cli.failures import printable
from muybridge.cli.options import (
    High,
    Hop,
    Ignore,
    Low,
    Reject,
    RunOrFile,
    Shortest,
    SkeletonFps,
    Smoothing,
    Window,
)
from muybridge.core.errors import RecipeError

if TYPE_CHECKING:
    from muybridge.scale import LabelSummary
    from muybridge.timeline import TimelineConfig

_WORKERS = "Workers"


@command("Use", example="muybridge label runs/mine videos/ --out labels")
def label(
    run: RunOrFile,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, a text file with a path on each line, CSV or Parquet with a column path; here or at an "
            "address such as s3://bucket/videos.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the Parquet table, which is continued.")],
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Number of classes to write for each.")] = 5,
    reject: Reject = None,
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Write when actions happen in place of one label for each.")
    ] = False,
    window: Window = 0.0,
    hop: Hop = 0.0,
    fps: SkeletonFps = 0.0,
    smoothing: Smoothing = 0.0,
    high: High = 0.5,
    low: Low = 0.3,
    shortest: Shortest = None,
    ignore: Ignore = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Recordings that are computed together.")] = 8,
    workers: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            rich_help_panel=_WORKERS,
            help="Processes with the model; 0: one a GPU, else one a core.",
        ),
    ] = 0,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            min=0,
            rich_help_panel=_WORKERS,
            help="0.25: four workers share a GPU; 0: none is used. By default 1 where there are GPUs.",
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            rich_help_panel=_WORKERS,
            help="A Ray cluster, such as ray://host:10001; by default Ray is started here, and stopped again.",
        ),
    ] = "",
) -> None:
    """Label millions of recordings on Ray into a Parquet table; the same command goes on after any interruption."""
    from muybridge.scale import LabelConfig, check_extra
    from muybridge.timeline import TimelineConfig

    check_extra()
    segments = TimelineConfig(
        window, hop, smoothing, high, low, -1.0 if shortest is None else shortest, tuple(ignore or ()), fps, batch
    )
    if not timeline:
        _refuse_segments(segments, batch)
    elif reject is not None:
        raise RecipeError("--reject and --timeline", expected="one of them", hint="set --high in place of --reject")
    config = LabelConfig(
        top,
        reject,  # pyright: ignore[reportArgumentType] - parsed by its callback
        segments if timeline else None,
        batch,
        workers,
        gpus_per_worker,
        address,
    )
    from muybridge.engine.journal import Reporter
    from muybridge.scale.label import label as label_recordings

    _announce(label_recordings(run, source, out, config, Reporter()), out)


def _refuse_segments(segments: "TimelineConfig", batch: int) -> None:
    """Options of --timeline without it would be ignored."""
    from muybridge.timeline import TimelineConfig

    if segments != TimelineConfig(batch=batch):
        raise RecipeError(
            "options of segments without --timeline",
            expected="--timeline, which writes segments",
            hint="add --timeline, or leave out --window, --hop, --fps, --smoothing, --high, --low, --shortest and "
            "--ignore",
        )


def _announce(summary: "LabelSummary", out: Path) -> None:
    from muybridge.data.summary import count

    kept = f", {summary.kept} {'was' if summary.kept == 1 else 'were'} there already" if summary.kept else ""
    typer.echo(f"{count(summary.labelled, 'recording')} labelled{kept}: {printable(str(out))}", err=True)
    if summary.warned:
        typer.echo(f"{count(summary.warned, 'recording')} with a warning, in the column warning", err=True)
    if summary.failed:
        typer.echo(f"{count(summary.failed, 'recording')} could not be labelled, see the column error:", err=True)
        for path, error in summary.examples:
            typer.echo(f"  {printable(path)}: {printable(error)}", err=True)
        if summary.failed > len(summary.examples):
            typer.echo("  ...", err=True)
