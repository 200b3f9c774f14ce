"""The command that says what is happening in front of a camera, in a stream, or in what another program sends."""

import json
import math
import statistics
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from muybridge.cli.app import command
from muybridge.cli.failures import printable
from muybridge.cli.options import Device, Reject, RunOrFile, parse_size
from muybridge.cli.predict import announce_calibration

if TYPE_CHECKING:
    from rich.table import Table

    from muybridge.media.live import LiveSource
    from muybridge.predict import Predictor
    from muybridge.timeline import LiveAnswer, LivePredictor

_BAR = 24  # letters of the bar for a probability of 1


@command("Use", example="muybridge watch runs/mine 0   or: muybridge watch runs/mine rtsp://camera/stream")
def watch(
    run: RunOrFile,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="The number of a camera, the address of a stream (rtsp://, http://), a video file, or - for frames or "
            "joints on standard input.",
        ),
    ],
    window: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0, help="What an answer stands on; 0 is the median of the training recordings."
        ),
    ] = 0.0,
    hop: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="At least so long from an answer to the next; 0 is every frame, which is the default where a state is "
            "carried from frame to frame, and a quarter of the window elsewhere.",
        ),
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Number of classes to show.")] = 5,
    kind: Annotated[
        Literal["table", "jsonl"] | None,
        typer.Option("--format", help="By default a table in a terminal, and lines of JSON elsewhere."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of raw frames on standard input, such as 640x480.")
    ] = None,
    pixels: Annotated[
        Literal["rgb24", "bgr24", "gray"], typer.Option(help="The bytes of raw frames, as FFmpeg names them.")
    ] = "rgb24",
    fps: Annotated[
        float, typer.Option(metavar="N", min=0.001, help="Frames a second on standard input, and of skeletons.")
    ] = 30.0,
    paced: Annotated[
        bool,
        typer.Option(
            "--pace/--no-pace",
            help="Whether a source is followed as it comes, where frames are dropped if the machine is too slow; "
            "otherwise every frame is looked at, however long that takes.",
        ),
    ] = True,
    reject: Reject = None,
    device: Device = "auto",
) -> None:
    """Say what is happening in a live source; Ctrl-C ends it."""
    shape = parse_size(size)

    from muybridge import load
    from muybridge.core.contracts import SkeletonData
    from muybridge.media.live import PipeFormat, open_source
    from muybridge.timeline import LivePredictor

    predictor = load(run, device, reject=reject)  # pyright: ignore[reportArgumentType] - parsed by its callback
    announce_calibration(predictor)
    live = LivePredictor(predictor, window, fps=fps, top=top)
    opened = open_source(
        source,
        sys.stdin.buffer,
        PipeFormat(shape, fps, pixels),
        skeletons=isinstance(live.holds, SkeletonData),
        channels=live.channels,
        paced=paced,
    )
    hop = live.hop if hop is None else hop
    typer.echo(f"watching {printable(opened.name)}: {_describe(live, hop)}; Ctrl-C ends it", err=True)
    answers = _answers(live, opened, hop, paced)
    as_table = kind == "table" or (kind is None and sys.stdout.isatty())
    _summarize(_show(answers, predictor) if as_table else _print_lines(answers))


def _describe(live: "LivePredictor", hop: float) -> str:
    """What the answers stand on, and how often there is one."""
    often = f"every {hop:.2f} s" if hop else "every frame"
    if not live.needs_window:
        return (
            f"a state carried from frame to frame, over the last {live.window / 2:.2f} to {live.window:.2f} s, {often}"
        )
    return f"the last {live.window:.2f} s, {often}, computed as a whole each time ({live.needs_window})"


def _answers(live: "LivePredictor", source: "LiveSource", hop: float, paced: bool) -> "Iterator[LiveAnswer]":
    from muybridge.timeline import answer_in_order, watch

    follow = watch if paced else answer_in_order
    try:
        yield from follow(live, source, hop, lambda message: typer.echo(printable(message), err=True))
    except KeyboardInterrupt:
        return


def _print_lines(answers: "Iterator[LiveAnswer]") -> "Iterator[LiveAnswer]":
    for answer in answers:
        sys.stdout.write(json.dumps(answer.as_dict()) + "\n")
        sys.stdout.flush()
        yield answer


def _show(answers: "Iterator[LiveAnswer]", predictor: "Predictor") -> "Iterator[LiveAnswer]":
    """A table that is drawn over itself."""
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), refresh_per_second=10, transient=False) as live:
        for answer in answers:
            live.update(_table(answer))
            yield answer


def _table(answer: "LiveAnswer") -> "Table":
    from rich.table import Table
    from rich.text import Text

    prediction = answer.prediction
    dropped = f", {answer.dropped} frames dropped" if answer.dropped else ""
    table = Table(
        title=f"{prediction.label}",
        caption=f"at {answer.seconds:.1f} s, {1000 * answer.lag:.0f} ms behind{dropped}",
        show_header=False,
        min_width=48,
    )
    for rank, (label, score) in enumerate(zip(prediction.labels, prediction.scores, strict=True)):
        style = "bold" if rank == 0 and not prediction.rejected else "dim"
        bar = "█" * round(_BAR * score)
        table.add_row(
            Text(label, style), Text(f"{score:6.1%}", style), Text(f"{bar:<{_BAR}}", "green" if rank == 0 else "")
        )
    return table


def _summarize(answers: "Iterator[LiveAnswer]") -> None:
    """Consume all answers, and say how many there were and how far behind."""
    lags, dropped, count = list[float](), 0, 0
    for answer in answers:
        count, dropped = count + 1, answer.dropped
        lags = [*lags[-999:], answer.lag]
    if not lags:
        typer.echo("no answers: nothing was seen, or fewer than two frames", err=True)
        return
    high = sorted(lags)[math.ceil(0.95 * (len(lags) - 1))]
    typer.echo(
        f"{count} answers, {1000 * statistics.median(lags):.0f} ms after their frames (median; 95 % within "
        f"{1000 * high:.0f} ms), {dropped} frames dropped",
        err=True,
    )
