"""The command that says when actions happen."""

import re
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
    videos: Annotated[
        Path | None,
        typer.Option(
            "--video",
            metavar="DIR",
            help="Write each video into this folder, with what happens written into its frames.",
        ),
    ] = None,
    people: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A timeline for each person of one recording: keypoints of a pose estimator, or boxes of a tracker "
            "(MOTChallenge).",
        ),
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
    if people is not None:
        _check_people(paths, truth)
    found = list(predictor.predictor.find([] if people else paths))
    check_format(kind, len(found) or 1)
    if videos is not None:
        _check_videos(predictor, people)
    if out is not None:
        check_writable(out)
    if labelled is not None:
        _check_labels(labelled, [str(path) for path in found if isinstance(path, Path)], predictor, truth)
    made: list[Timeline] = []
    drawn: Counter[str] = Counter()
    filmed: Counter[str] = Counter()
    with Failures(strict) as failures:
        each = _people(predictor, paths[0], people, report) if people else _timelines(predictor, found, report)
        for one in failures.apart(each):
            made.append(one)
            if videos is not None and people is None:
                typer.echo(printable(str(_film([one], videos, filmed))), err=True)
            if not one.segments:
                _say_none(one, high)
            if pictures is not None:
                typer.echo(printable(str(_draw(one, pictures, drawn))), err=True)
            if out is None and kind == "jsonl":
                typer.echo(FORMATS[kind]([one]), nl=False)
        if videos is not None and people is not None and made:
            typer.echo(printable(str(_film(made, videos, filmed, people))), err=True)
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


def _people(
    predictor: "TimelinePredictor", recording: Path, people: Path, report: "Reporter"
) -> "Iterator[Timeline | FailedSample]":
    """The timeline of each person, or why there is none."""
    from muybridge.core.types import FailedSample
    from muybridge.timeline import PeopleTimelines

    timelines = PeopleTimelines(predictor, recording, people)
    for track in timelines.tracks:
        try:
            with report:
                report.begin(f"person {track.name}")
                yield timelines.of(track, report.update)
        except DataError as problem:
            yield FailedSample(f"{recording}, person {track.name}", recording, problem)


def _check_people(paths: list[Path], truth: Path | None) -> None:
    """Refuse what --people cannot go with."""
    if len(paths) != 1:
        raise DataError(
            f"--people with {len(paths)} recordings",
            expected="one recording, whose people the file follows",
            hint="call the command once for each recording",
        )
    if truth is not None:
        raise DataError(
            "--people with --truth",
            expected="one of them, as labelled segments name no people",
            hint="leave --truth out",
        )


def _check_videos(predictor: "TimelinePredictor", people: Path | None) -> None:
    """Refuse films of recordings that have no frames."""
    from muybridge.core.contracts import SkeletonData

    if people is None and isinstance(predictor.predictor.recipe.data.holds(), SkeletonData):
        raise DataError(
            "--video with a model of skeletons",
            expected="a model of videos, or a video and its keypoints with --people",
            hint="leave --video out; `muybridge show` draws skeletons as they move",
        )


def _film(made: "list[Timeline]", folder: Path, filmed: Counter[str], people: Path | None = None) -> Path:
    """The film of a recording, with a number where another of the same name was written before."""
    from muybridge.viz.style import writable
    from muybridge.viz.timeline_film import boxes_of, film_timelines

    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = _free_name(Path(made[0].path).stem, folder, filmed, ".mp4")
    return film_timelines(made, path, boxes_of(made[0].path, people) if people else None)


def _free_name(stem: str, folder: Path, taken: Counter[str], suffix: str) -> Path:
    taken[stem] += 1
    return folder / (f"{stem}{suffix}" if taken[stem] == 1 else f"{stem}-{taken[stem]}{suffix}")


def _say_none(timeline: "Timeline", high: float) -> None:
    best = timeline.probabilities.max()
    who = f", person {timeline.person}" if timeline.person else ""
    typer.echo(
        f"{printable(timeline.path)}{who}: no segments; the highest probability is {best:.2f}. "
        f"A segment reaches {high:g} (--high) and is not too short (--shortest)",
        err=True,
    )


def _draw(timeline: "Timeline", folder: Path, drawn: Counter[str]) -> Path:
    """The picture of a recording, with a number where another of the same name was drawn before."""
    from muybridge.viz.style import writable
    from muybridge.viz.timeline import draw_timeline

    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    person = re.sub(r"\W", "-", timeline.person)
    stem = Path(timeline.path).stem + (f"-person-{person}" if person else "")
    return draw_timeline(timeline, _free_name(stem, folder, drawn, ".png"))


def _check_labels(
    labelled: "dict[str, list[Segment]]", paths: list[str], predictor: "TimelinePredictor", truth: Path | None
) -> None:
    """Refuse labelled segments of other recordings, and warn about classes that the run does not know."""
    missing = [path for path in paths if _name_in(labelled, path) is None]
    if len(missing) == len(paths):
        raise DataError(
            "no recording is in the table of labelled segments",
            expected="the path or the file name of a recording in the column path",
            hint="correct the column path",
            where=truth,
        )
    if missing:
        some = ", ".join(missing[:3]) + (" and others" if len(missing) > 3 else "")
        message = f"{truth} has no labelled segments of {len(missing)} of {len(paths)} recordings ({some})"
        warnings.warn(f"{message}; the scores are those of the others", MuybridgeWarning, 2)
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
