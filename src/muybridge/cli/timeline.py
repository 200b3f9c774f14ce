"""The command that says when actions happen."""

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from muybridge.cli.app import check_writable, command, writable
from muybridge.cli.failures import Failures, printable
from muybridge.cli.options import (
    Device,
    High,
    Hop,
    Ignore,
    Low,
    RunOrFile,
    Shortest,
    SkeletonFps,
    Smoothing,
    Strict,
    Window,
)
from muybridge.cli.predict import announce_calibration
from muybridge.core.errors import DataError, MuybridgeWarning

if TYPE_CHECKING:
    from muybridge.core.types import FailedSample
    from muybridge.engine.journal import Reporter
    from muybridge.timeline import Segment, Timeline, TimelinePredictor


@command("Use", example="muybridge timeline runs/mine long.mp4 --window 2 --hop 0.5")
def timeline(
    run: RunOrFile,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or folders of them.")],
    window: Window = 0.0,
    hop: Hop = 0.0,
    fps: SkeletonFps = 0.0,
    smoothing: Smoothing = 0.0,
    high: High = 0.5,
    low: Low = 0.3,
    shortest: Shortest = None,
    ignore: Ignore = None,
    kind: Annotated[
        Literal["jsonl", "csv", "vtt", "srt", "activitynet"], typer.Option("--format", help="Of the output.")
    ] = "jsonl",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where segments are written; by default they are printed.")
    ] = None,
    pictures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Draw each timeline as a PNG file in this folder.")
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Labelled segments to compare with: a table path,start,end,label, or an export of CVAT, ELAN, ...",
        ),
    ] = None,
    truth_fps: Annotated[
        float | None,
        typer.Option(metavar="N", min=0.001, help="Frames per second of CVAT or Label Studio, in --truth."),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Windows that are computed together.")] = 8,
    strict: Strict = False,
    device: Device = "auto",
) -> None:
    """Say when actions happen in long recordings: segments with start, end, label and score."""
    from muybridge import load
    from muybridge.engine.journal import Reporter
    from muybridge.timeline import (
        FORMATS,
        TimelineConfig,
        TimelinePredictor,
        check_format,
        read_segments,
        write_timelines,
    )

    shortest = -1.0 if shortest is None else shortest
    config = TimelineConfig(window, hop, smoothing, high, low, shortest, tuple(ignore or ()), fps, batch)
    labelled = read_segments(truth, truth_fps) if truth else None
    predictor, report = TimelinePredictor(load(run, device), config), Reporter()
    announce_calibration(predictor.predictor)
    found = list(predictor.predictor.find(paths))
    check_format(kind, len(found))
    if out is not None:
        check_writable(out)
    if labelled is not None:
        _check_labels(labelled, [str(path) for path in found if isinstance(path, Path)], predictor, truth)
    made: list[Timeline] = []
    drawn: Counter[str] = Counter()
    with Failures(strict) as failures:
        for one in failures.apart(_timelines(predictor, found, report)):
            made.append(one)
            if not one.segments:
                _say_none(one, high)
            if pictures is not None:
                typer.echo(printable(str(_draw(one, pictures, drawn))), err=True)
            if out is None and kind == "jsonl":
                typer.echo(FORMATS[kind]([one]), nl=False)
        if out is not None:
            with writable(out):
                write_timelines(out, made, kind)
        elif kind != "jsonl" and made:
            typer.echo(FORMATS[kind](made), nl=False)
        if labelled is not None:
            _compare(made, labelled)


def _timelines(
    predictor: "TimelinePredictor", found: "list[Path | FailedSample]", report: "Reporter"
) -> "Iterator[Timeline | FailedSample]":
    """The timeline of each recording, or why there is none."""
    from muybridge.core.types import FailedSample

    for path in found:
        if isinstance(path, FailedSample):
            yield path
            continue
        try:
            with report:
                report.begin(path.name)
                yield predictor(path, report.update)
        except DataError as problem:
            yield FailedSample(str(path), path, problem)


def _say_none(timeline: "Timeline", high: float) -> None:
    best = timeline.probabilities.max()
    typer.echo(
        f"{printable(timeline.path)}: no segments; the highest probability is {best:.2f}. "
        f"A segment reaches {high:g} (--high) and is not too short (--shortest)",
        err=True,
    )


def _draw(timeline: "Timeline", folder: Path, drawn: Counter[str]) -> Path:
    """The picture of a recording, with a number where another of the same name was drawn before."""
    from muybridge.viz.style import writable
    from muybridge.viz.timeline import draw_timeline

    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    stem = Path(timeline.path).stem
    drawn[stem] += 1
    name = stem if drawn[stem] == 1 else f"{stem}-{drawn[stem]}"
    return draw_timeline(timeline, folder / f"{name}.png")


def _check_labels(
    labelled: "dict[str, list[Segment]]", paths: list[str], predictor: "TimelinePredictor", truth: Path | None
) -> None:
    """Refuse labelled segments of other recordings, and warn about classes that the run does not know."""
    if not any(_name_in(labelled, path) for path in paths):
        raise DataError(
            "no recording is in the table of labelled segments",
            expected="the path or the file name of a recording in the column path",
            hint="correct the column path",
            where=truth,
        )
    labels = {segment.label for segments in labelled.values() for segment in segments}
    if unknown := sorted(labels - set(predictor.predictor.labels)):
        message = f"{truth}: the run has no class {', '.join(map(repr, unknown))}, whose segments count as not found"
        warnings.warn(f"{message}; its classes are {', '.join(predictor.predictor.labels)}", MuybridgeWarning, 2)


def _compare(made: "list[Timeline]", labelled: "dict[str, list[Segment]]") -> None:
    """Print how well the segments agree with the labelled ones, which may name recordings by path or by file name."""
    from muybridge.data.summary import count
    from muybridge.timeline import score_segments

    names = {timeline.path: _name_in(labelled, timeline.path) for timeline in made}
    known = {path: name for path, name in names.items() if name is not None}
    if not known:
        return
    found = {timeline.path: timeline.segments for timeline in made if timeline.path in known}
    durations = {timeline.path: timeline.duration for timeline in made if timeline.path in known}
    scores = score_segments(found, {path: labelled[name] for path, name in known.items()}, durations)
    f1 = ", ".join(f"{value:.1f} at IoU {threshold:g}" for threshold, value in scores.f1.items())
    mean = ", ".join(f"{value:.1f} at IoU {threshold:g}" for threshold, value in scores.map.items())
    typer.echo(f"{count(scores.segments, 'labelled segment')} in {count(scores.recordings, 'recording')}", err=True)
    typer.echo(
        f"  frame accuracy  {scores.frame_accuracy:.1f}\n  segment F1      {f1}\n  mAP             {mean}", err=True
    )


def _name_in(labelled: "dict[str, list[Segment]]", path: str) -> str | None:
    return next((name for name in (path, Path(path).name, Path(path).stem) if name in labelled), None)
