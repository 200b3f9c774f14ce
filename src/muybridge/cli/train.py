"""Commands that train and test."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from muybridge.cli.app import command, shell_command, write_file
from muybridge.cli.auto import is_search, train_auto
from muybridge.cli.options import (
    AsJson,
    ChosenRecipe,
    Data,
    Device,
    Epochs,
    Group,
    Model,
    NoPretrained,
    OptionalRecipe,
    RecipeName,
    RunOrFile,
    Seed,
    Settings,
    Size,
    Split,
    StarterData,
    StarterModel,
    choose_recipe,
    is_onnx,
    new_run_folder,
    parse_options,
)
from muybridge.core.errors import RecipeError
from muybridge.engine.run_format import check_run
from muybridge.recipe_text import starter

Processes = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Processes on this machine, such as one for each GPU, which share the work."),
]


@command("Train", example="muybridge train drnn_msr_action3d --set train.seed=1 --run runs/mine")
def train(
    recipe: OptionalRecipe = None,
    settings: Settings = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Run folder to write; by default runs/RECIPE, RECIPE-2, ...")
    ] = None,
    init_from: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Train on from the weights of a finished run, with its recipe, in a new run."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume the interrupted training in --run.")] = False,
    model: Model = None,
    data: Data = None,
    group: Group = None,
    epochs: Epochs = None,
    size: Size = None,
    seed: Seed = None,
    no_pretrained: NoPretrained = False,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", min=0.0, help="With --model auto: time limit of the search; by default 10."),
    ] = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="On your own recordings: measure no linear model before training.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be trained, and what is probably wrong; train nothing.")
    ] = False,
    device: Device = "auto",
    processes: Processes = 1,
) -> None:
    """Train a recipe, or a model on a folder of your own recordings; --model auto chooses the model by validation."""
    given = parse_options(settings, data, group, epochs, size, seed, no_pretrained)
    unnamed = recipe is None and model is None
    if model == "auto" or (unnamed and resume and is_search(run)):
        if recipe is not None or init_from is not None:
            raise RecipeError(
                "--model auto with a recipe or --init-from",
                expected="--model auto with --data",
                hint="leave the other one out",
            )
        if processes > 1:
            raise RecipeError(
                "--model auto with --processes", expected="one process", hint="leave --processes out, or name a model"
            )
        baseline = not no_baseline
        train_auto(data, given, run, minutes, resume=resume, dry_run=dry_run, device=device, baseline=baseline)
        return
    if minutes is not None:
        raise RecipeError("--minutes without --model auto", expected="both", hint="set --epochs for a single model")
    source, folder = _what_to_train(recipe, model, data, given, run, init_from, resume)
    if processes > 1:
        _launch(processes, *([] if run else ["--run", str(folder)]))  # which each would choose for itself
        return
    _train(source, given, folder, resume, dry_run, device, not no_baseline)


def _launch(processes: int, *more: str) -> None:
    """Run this command in several processes, with further words."""
    if "WORLD_SIZE" in os.environ:
        raise RecipeError(
            "--processes in a process of torchrun or SLURM, which says how many there are",
            expected="one of them",
            hint="leave --processes out",
        )
    from muybridge.engine.launch import launch

    words = _without_option(sys.argv[1:], "--processes")
    if status := launch(["-m", "muybridge", *words, *more], processes):
        raise typer.Exit(status)


def _without_option(words: list[str], option: str) -> list[str]:
    """The words of a command without an option and its value."""
    kept = [word for word in words if not word.startswith(f"{option}=")]
    while option in kept:
        place = kept.index(option)
        del kept[place : place + 2]
    return kept


def _what_to_train(
    recipe: str | None,
    model: str | None,
    data: Path | None,
    given: Mapping[str, Any],
    run: Path | None,
    init_from: Path | None,
    resume: bool,
) -> tuple[ChosenRecipe | Path, Path]:
    """The recipe, or the run whose recipe it is, and the folder to write."""
    if recipe is None and model is None and (init_from is not None or (resume and run is not None)):
        earlier = run if resume and run is not None else init_from
        assert earlier is not None
        check_run(earlier)
        return earlier, run or new_run_folder(earlier.name)
    chosen = choose_recipe(recipe, given, model, data)
    return chosen, run or new_run_folder(chosen.name)


def _train(
    source: ChosenRecipe | Path,
    given: Mapping[str, Any],
    folder: Path,
    resume: bool,
    dry_run: bool,
    device: str,
    baseline: bool,
) -> None:
    from muybridge.cli.plan import announce, measure_floor, open_recordings
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.init_from import continued_recipe
    from muybridge.engine.journal import Reporter
    from muybridge.engine.runtime import Runtime
    from muybridge.engine.start import training_precision
    from muybridge.engine.train import train as train_run

    existing = RunFolder(folder)
    if isinstance(source, ChosenRecipe):
        recipe = source.load(RunFolder.open(folder).recipe() if resume and existing.exists else None)
    elif source == folder:
        recipe = RunFolder.open(folder).recipe().with_settings(given)
    else:
        recipe = continued_recipe(RunFolder.open(source)).with_settings(given)
    runtime, report = Runtime(training_precision(recipe, folder), device, recipe.train.strategy), Reporter()
    report.console.quiet = not runtime.is_main_process
    report.say(f"{recipe.title or recipe.model.spec.title} -> {folder}")
    if runtime.is_main_process:
        announce(recipe, runtime, report, in_full=dry_run or not existing.exists)
    if dry_run:
        open_recordings(recipe.data, report)
        report.say("nothing was trained (--dry-run)")
        return
    finished = existing.finished
    measured = baseline and runtime.is_main_process and not existing.exists
    table = measure_floor(recipe, report) if measured else None
    train_run(recipe, folder, resume=resume, runtime=runtime, report=report, baselines=table)
    state = "this run is trained already" if finished else "trained"
    report.say(f"{state}; next: {shell_command('test', folder)}   or: {shell_command('show', folder)}")


@command("Train", example="muybridge test runs/mine --json")
def test(
    run: RunOrFile,
    split: Annotated[Split, typer.Option(help="Part of the data.")] = "test",
    as_json: AsJson = False,
    device: Device = "auto",
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Read the videos themselves, not the cached features.")
    ] = False,
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the recordings are, if they moved.")] = None,
    missing: Annotated[
        Literal["raise", "exclude"], typer.Option(help="If recordings are gone: refuse, or exclude and count them.")
    ] = "raise",
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="First calibrate the probabilities on the validation part, for all later use."
        ),
    ] = False,
    processes: Processes = 1,
) -> None:
    """Test a trained run: top-1, top-5 and mean class accuracy."""
    if processes > 1:
        if is_onnx(run):
            raise RecipeError("--processes with an ONNX file", expected="a run folder", hint="leave --processes out")
        check_run(run)
        _launch(processes)
        return
    from muybridge.cli.tables import describe_calibration, print_scores
    from muybridge.engine.baselines import read_baselines
    from muybridge.engine.calibrate import calibrate as calibrate_run
    from muybridge.engine.calibrate import refuse_file
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.evaluate import evaluate
    from muybridge.engine.journal import Reporter
    from muybridge.engine.runtime import Runtime

    if is_onnx(run):
        if calibrate:
            raise refuse_file(run)
        from muybridge.export import evaluate_file

        report = Reporter(quiet=as_json)
        print_scores(evaluate_file(run, split, device, report, data=data, missing=missing), as_json)
        return
    folder = RunFolder.open(run)
    runtime = Runtime(folder.recipe().precision, device)
    report = Reporter(quiet=as_json or not runtime.is_main_process)
    if calibrate:
        calibration = calibrate_run(folder, runtime, report, pixels=pixels, data=data, missing=missing)
        for line in describe_calibration(calibration):
            report.say(line)
    scores = evaluate(folder, split, runtime, report, pixels=pixels, data=data, missing=missing)
    if runtime.is_main_process:
        baselines = read_baselines(folder)
        is_comparable = baselines is not None and (baselines.split, baselines.count) == (split, scores.count)
        print_scores(scores, as_json, baselines if is_comparable else None)


@command("Train", example="muybridge repeat sta_lstm_sbu --seeds 0,1,2 --folds all --jobs 4")
def repeat(
    recipe: RecipeName,
    seeds: Annotated[str, typer.Option(metavar="N,N,...", help="Seeds.")] = "0,1,2,3,4",
    folds: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Folds, or all; by default the recipe's own split.")
    ] = None,
    settings: Settings = None,
    run: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the runs; by default runs/RECIPE-repeat.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Part to test on: val while settings are being chosen.")] = "test",
    jobs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Runs in parallel, each on its share of the cores.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Train and test over seeds and folds: mean and standard deviation. Finished runs are not repeated."""
    chosen, numbers = choose_recipe(recipe, parse_options(settings)), _seeds(seeds)
    from dataclasses import asdict

    from muybridge.cli.tables import print_json, print_summary
    from muybridge.engine.repeat import plan
    from muybridge.engine.repeat import repeat as repeat_runs

    folder, loaded = run or Path("runs") / f"{chosen.name}-repeat", chosen.load()
    repetitions = plan(loaded, folder, numbers, folds.split(",") if folds else None)
    summary = repeat_runs(repetitions, folder, split, jobs, quiet=as_json)
    if as_json:
        print_json(asdict(summary))
    else:
        print_summary(summary, loaded)


@command("Train", example="muybridge bench folder_tdn --set data.root=videos --set train.num_workers=4")
def bench(
    recipe: OptionalRecipe = None,
    settings: Settings = None,
    model: Model = None,
    data: Data = None,
    group: Group = None,
    size: Size = None,
    recordings: Annotated[int, typer.Option(metavar="N", min=1, help="Recordings to load one by one.")] = 32,
    steps: Annotated[int, typer.Option(metavar="N", min=1, help="Training steps to time.")] = 8,
    as_json: AsJson = False,
    device: Device = "auto",
) -> None:
    """Profile data loading and training, and report the bottleneck."""
    chosen = choose_recipe(recipe, parse_options(settings, data, group, size=size), model, data)

    from dataclasses import asdict

    from muybridge.cli.tables import print_bench, print_json
    from muybridge.engine.bench import bench as measure
    from muybridge.engine.runtime import Runtime

    loaded = chosen.load()
    result = measure(loaded, recordings, steps, Runtime(loaded.precision, device))
    if as_json:
        print_json(asdict(result), digits=4)
    else:
        print_bench(result)


@command("Train", example="muybridge init mine.toml --model drnn --data my_recordings")
def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The recipe to write.")] = Path("recipe.toml"),
    settings: Settings = None,
    model: StarterModel = None,
    data: StarterData = None,
    group: Group = None,
    epochs: Epochs = None,
    size: Size = None,
    seed: Seed = None,
    no_pretrained: NoPretrained = False,
) -> None:
    """Write a commented recipe to start from."""
    if path.exists():
        raise RecipeError("exists already", expected="a new file", hint="choose another name", where=path)
    if data is not None and model is None:
        raise RecipeError("--data without --model", expected="both", hint="choose one of `muybridge models`")
    given = parse_options(settings, data, group, epochs, size, seed, no_pretrained)
    text = starter(model or "drnn", given, _reasons(model, data, given) if model and data else None)
    write_file(path, text)
    typer.echo(f"wrote {path}; next: {shell_command('train', path)}")


def _reasons(model: str, data: Path, given: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
    """The settings that follow from the recordings, each with its reason; none where there are no recordings yet."""
    if not data.exists():
        return {}
    from muybridge.recipe import flat_settings

    recipe = choose_recipe(None, given, model, data).load()
    values = flat_settings(recipe)
    return {name: (values[name], reason) for name, reason in recipe.reasons.items()}


def _seeds(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise RecipeError(f"--seeds {text}", expected="numbers such as 0,1,2", hint="separate them by commas") from None
