"""The command that predicts actions in files."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muybridge.cli.answers import AnswerFile
from muybridge.cli.app import command
from muybridge.cli.failures import Failures, printable
from muybridge.cli.options import AsJsonLines, Device, Reject, RunOrFile, Strict
from muybridge.core.errors import RecipeError

if TYPE_CHECKING:
    from muybridge.core.types import FailedSample, Prediction
    from muybridge.predict import Predictor

    Ask = Callable[[Iterable[Path]], Iterator[Prediction | FailedSample]]


@command("Use", example="muybridge predict runs/mine videos/ --csv answers.csv")
def predict(
    run: RunOrFile,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Recordings, or folders of them.")],
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Number of classes to print for each.")] = 5,
    strict: Strict = False,
    as_json: AsJsonLines = False,
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a CSV file instead; what is in it already is not asked again."),
    ] = None,
    jsonl: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a line of JSON each instead; what is in it already is not asked again."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, help="Recordings that are computed together.")] = 8,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Threads that read ahead; by default one for each core.")
    ] = None,
    reject: Reject = None,
    device: Device = "auto",
) -> None:
    """Predict the action in each file."""
    from muybridge import load
    from muybridge.core.processes import available_cores
    from muybridge.core.types import NONE_OF_THESE

    if csv is not None and jsonl is not None:
        raise RecipeError("--csv and --jsonl", expected="one of them", hint="run the command twice for both")
    predictor = load(run, device, reject=reject)  # pyright: ignore[reportArgumentType] - parsed by its callback
    announce_calibration(predictor)
    ask = partial(predictor.predict_files, top=top, batch=batch, jobs=jobs or available_cores())
    with Failures(strict) as failures:
        if file := csv or jsonl:
            with AnswerFile(file, csv is not None, top, len(predictor.labels)) as answers:
                _predict_into(answers, list(predictor.find(paths)), ask, failures)
            return
        for answer in failures.apart(ask(paths)):
            if as_json:
                typer.echo(json.dumps(answer.as_dict()))
                continue
            typer.echo(printable(answer.id))
            if answer.rejected:
                typer.echo(f"  {NONE_OF_THESE} (below {predictor.reject:.2%})")
            for label, score in zip(answer.labels, answer.scores, strict=True):
                there = "  *" if label in (answer.chosen or ()) else ""
                typer.echo(f"  {score:7.2%}  {label}{there}")


def announce_calibration(predictor: "Predictor") -> None:
    """Say that the probabilities are calibrated, and the threshold, where there is one."""
    if predictor.calibration:
        typer.echo(str(predictor.calibration), err=True)
    if predictor.multi_label:
        typer.echo(f"each recording may have several labels, those of {predictor.reject:.2%} or more (*)", err=True)
    elif predictor.reject is not None:
        typer.echo(f"none of these: below {predictor.reject:.2%}", err=True)


def _predict_into(answers: AnswerFile, found: "Sequence[Path | FailedSample]", ask: "Ask", failures: Failures) -> None:
    """Predict what is not yet in a file, and show how far it is."""
    from muybridge.core.types import FailedSample
    from muybridge.data.summary import count
    from muybridge.engine.journal import Reporter

    missing = [path for path in found if isinstance(path, FailedSample)]
    paths = [path for path in found if not isinstance(path, FailedSample)]
    new = [path for path in paths if not answers.has(path)]
    with Reporter() as report:
        report.begin("predicting", len(paths), len(paths) - len(new))
        for answer in failures.apart(chain(missing, _counted(ask(new), report.step))):
            answers.add(answer)
    there = len(paths) - len(new)
    kept = f", {there} {'was' if there == 1 else 'were'} there already" if there else ""
    report.say(f"{count(len(new), 'recording')} asked{kept}: {printable(str(answers.path))}")


def _counted(
    answers: "Iterable[Prediction | FailedSample]", step: Callable[[], None]
) -> "Iterator[Prediction | FailedSample]":
    for answer in answers:
        step()
        yield answer
