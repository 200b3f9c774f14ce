"""The command line: each command is a few lines that call a library function.

Heavy imports stand inside the commands, so that ``muybridge --help`` opens at once.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from muybridge.core.errors import MuybridgeError, RecipeError

if TYPE_CHECKING:
    from muybridge.engine.bench import BenchResult
    from muybridge.engine.metrics import Scores
    from muybridge.engine.repeat import Summary
    from muybridge.localize import LocalizationBenchmark
    from muybridge.recipe import Recipe

app = typer.Typer(
    name="muybridge",
    help="Recognise actions by their motion, in video and in skeletons.",
    epilog="Start with: muybridge demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KNOB=VALUE", help="Replace a knob of the recipe; may be repeated.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
Split = Literal["train", "val", "test"]


@app.command(epilog="Example: muybridge train drnn_msr_action3d --set train.seed=1 --run runs/mine")
def train(
    recipe: Annotated[str | None, typer.Argument(help="A TOML file or the name of a shipped recipe.")] = None,
    settings: Settings = None,
    run: Annotated[Path | None, typer.Option(help="Run folder; by default runs/RECIPE.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --run.")] = False,
    model: Annotated[
        str | None, typer.Option(help="Without a recipe: the model, as `muybridge models` names it.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Without a recipe: a folder CLASS/FILE of recordings.")] = None,
    group: Annotated[
        str | None, typer.Option(help="With --data: pattern whose bracket finds the person in a file name, 's(\\d+)'.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train a recipe, or a model on a folder of your own."""
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.journal import Reporter
    from muybridge.engine.runtime import Runtime
    from muybridge.engine.train import train as train_run

    if recipe is None and model is None and resume and run is not None:
        loaded = RunFolder.open(run).recipe()
    else:
        loaded = _recipe(recipe, settings, model, data, group)
    folder = run or _new_folder(_name(recipe, model, data))
    runtime, report = Runtime(loaded.train.precision, device), Reporter()
    report.console.quiet = not runtime.is_main_process
    report.say(f"{loaded.title or loaded.model.spec.title} -> {folder}")
    train_run(loaded, folder, resume=resume, runtime=runtime, report=report)
    report.say(f"trained; next: muybridge test {folder}   or: muybridge show {folder}")


@app.command(epilog="Example: muybridge test runs/mine --json")
def test(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    split: Annotated[Split, typer.Option(help="The part of the data.")] = "test",
    as_json: AsJson = False,
    device: Device = "auto",
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Look at the videos themselves, not at the feature store.")
    ] = False,
) -> None:
    """Test a trained run: top-1, top-5, mean class accuracy."""
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.evaluate import evaluate
    from muybridge.engine.journal import Reporter
    from muybridge.engine.runtime import Runtime

    folder = RunFolder.open(run)
    runtime = Runtime(folder.recipe().train.precision, device)
    scores = evaluate(folder, split, runtime, Reporter(quiet=as_json or not runtime.is_main_process), pixels=pixels)
    if runtime.is_main_process:
        _print_scores(scores, as_json)


@app.command(epilog="Example: muybridge flow videos/ --method tvl1   or: muybridge flow video_lstm_ucf101")
def flow(
    source: Annotated[str, typer.Argument(help="A TOML file, the name of a shipped recipe, or a folder of videos.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder of flow; by default flow.folder of the recipe, or flow/NAME.")
    ] = None,
    method: Annotated[
        Literal["dis", "tvl1"] | None, typer.Option(help="By default flow.method of the recipe, or dis.")
    ] = None,
    bound: Annotated[
        float | None, typer.Option(help="In pixels, beyond which flow is cut off; by default the recipe's, or 20.")
    ] = None,
    form: Annotated[
        Literal["frames", "npz", "video"], typer.Option(help="Pictures; arrays without loss; or the smallest, a video.")
    ] = "frames",
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; by default one for each core.")] = None,
    settings: Settings = None,
) -> None:
    """Compute the optical flow of all videos once, on all cores; what is there is kept."""
    from muybridge.engine.flow import make_flow
    from muybridge.engine.journal import Reporter
    from muybridge.recipe import parse_settings

    given = {name: one for name, one in (("flow.method", method), ("flow.bound", bound)) if one is not None}
    report = Reporter()
    _, made = make_flow(
        source, out, settings=parse_settings(settings or []) | given, form=form, jobs=jobs, report=report
    )
    words = f"--set flow.folder={made.folder} --set flow.method={made.method} --set flow.bound={made.bound:g}"
    report.say(
        f"next: muybridge train RECIPE {words}" if Path(source).is_dir() else f"next: muybridge train {source} {words}"
    )


@app.command(epilog="Example: muybridge features video_lstm_moving_shapes --out features/playground")
def features(
    recipe: Annotated[str, typer.Argument(help="A TOML file or the name of a shipped recipe.")],
    out: Annotated[
        Path | None, typer.Option(help="The feature store; by default view.features, or else features/RECIPE.")
    ] = None,
    settings: Settings = None,
    precision: Annotated[
        Literal["float16", "float32"], typer.Option(help="In which the maps are kept; float16 takes half the disk.")
    ] = "float16",
    device: Device = "auto",
) -> None:
    """Compute once what a model's frozen CNN makes of every frame; view.features then trains without the CNN."""
    from muybridge.engine.features import extract_features
    from muybridge.engine.journal import Reporter
    from muybridge.engine.runtime import Runtime

    loaded = _recipe(recipe, settings)
    folder = out or (loaded.view and loaded.view.features) or Path("features") / _name(recipe)
    runtime, report = Runtime(device=device), Reporter()
    report.console.quiet = not runtime.is_main_process
    report.say(f"maps of {loaded.title or loaded.model.spec.title} -> {folder}")
    extract_features(loaded, folder, precision=precision, runtime=runtime, report=report)
    report.say(f"next: muybridge train {recipe} --set view.features={folder}")


@app.command(epilog="Example: muybridge predict runs/mine recording.npz more/ --top 3")
def predict(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    paths: Annotated[list[Path], typer.Argument(help="Recordings, or folders of them.")],
    top: Annotated[int, typer.Option(min=1, help="Classes to name for each.")] = 5,
    as_json: AsJson = False,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to compute.")] = "cpu",
) -> None:
    """Name the action in each file."""
    from muybridge.predict import Predictor

    predictor = Predictor(run, device)
    answers = (predictor(path, top) for path in predictor.find(paths))
    if as_json:
        rows = [{"path": one.id, "labels": one.labels, "scores": one.scores} for one in answers]
        typer.echo(json.dumps(rows, indent=1))
        return
    for one in answers:
        typer.echo(one.id)
        for label, score in zip(one.labels, one.scores, strict=True):
            typer.echo(f"  {score:7.2%}  {label}")


@app.command(epilog="Example: muybridge fuse runs/appearance runs/motion --weights 1,2")
def fuse(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders that were tested on the same recordings; or what another tool says of them, CSV with "
            "the column id and a probability for each class."
        ),
    ],
    weights: Annotated[str | None, typer.Option(help="Of each run, such as 1,2; by default all alike.")] = None,
    split: Annotated[Split, typer.Option(help="The part that they were tested on.")] = "test",
    as_json: AsJson = False,
) -> None:
    """Average what several tested runs said, such as the two streams of a network: late fusion."""
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.fuse import fuse as fuse_runs

    try:
        shares = [float(word) for word in weights.split(",")] if weights else []
    except ValueError:
        raise RecipeError(f"--weights {weights}", expected="numbers such as 1,2", hint="write them so") from None
    sources = [run if run.is_file() else RunFolder.open(run) for run in runs]
    _print_scores(fuse_runs(sources, shares, split), as_json)


@app.command(epilog="Example: muybridge repeat sta_lstm_sbu --seeds 0,1,2 --folds all --jobs 4")
def repeat(
    recipe: Annotated[str, typer.Argument(help="A TOML file or the name of a shipped recipe.")],
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0,1,2.")] = "0,1,2,3,4",
    folds: Annotated[
        str | None, typer.Option(help="Folds, such as 1,2 or all; left out, the recipe's own split.")
    ] = None,
    settings: Settings = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the runs; by default runs/RECIPE-repeat.")] = None,
    split: Annotated[Split, typer.Option(help="test, or val while settings are being chosen.")] = "test",
    jobs: Annotated[int, typer.Option(min=1, help="Runs side by side, each on its share of the cores.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Train and test over seeds and folds: mean and deviation. Runs that exist are not redone."""
    from dataclasses import asdict

    from muybridge.engine.repeat import plan
    from muybridge.engine.repeat import repeat as repeat_runs

    folder = run or Path("runs") / f"{_name(recipe)}-repeat"
    loaded = _recipe(recipe, settings)
    repetitions = plan(loaded, folder, _seeds(seeds), folds.split(",") if folds else None)
    summary = repeat_runs(repetitions, folder, split, jobs, quiet=as_json)
    if as_json:
        typer.echo(json.dumps(asdict(summary), indent=1))
    else:
        _print_summary(summary, loaded)


@app.command(epilog="Example: muybridge show runs/mine --sample a01_s02_e01")
def show(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    sample: Annotated[
        str | None, typer.Option(help="Record id of the recording to draw; by default the first.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Part of the confusion matrix and the recording.")] = "test",
    video: Annotated[Literal["gif", "mp4"], typer.Option(help="Format of the film.")] = "gif",
    beside: Annotated[
        Path | None, typer.Option(help="Another run on videos, whose attention is drawn beside this one's.")
    ] = None,
) -> None:
    """Draw learning curves, the confusion matrix, and what a recording's attention lies on, into RUN/pictures."""
    from muybridge.viz.run_pictures import draw_run

    for path in draw_run(run, sample, split, video, beside):
        typer.echo(path)


@app.command(epilog="Example: muybridge localize runs/mine video.mp4")
def localize(
    run: Annotated[Path, typer.Argument(help="A run folder of a model that says where it looks.")],
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Videos, or folders of them; none takes the run's own data set.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Without videos: the part of the data.")] = "test",
    boxes: Annotated[
        Path | None,
        typer.Option(help="Without videos: true tubes (.json, finalAnnots.mat, ViPER folder), if the data has none."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of what is written; by default RUN/localized.")] = None,
    smoothing: Annotated[float, typer.Option(min=0, help="Deviation of the Gaussian along time, in frames.")] = 5.0,
    contrast: Annotated[float, typer.Option(min=0.1, help="Above 1, boxes lie closer around peaks.")] = 1.0,
    tubes: Annotated[int, typer.Option(min=1, help="At most this many for each video.")] = 1,
    video: Annotated[Literal["gif", "mp4"], typer.Option(help="Format of the films.")] = "mp4",
    as_json: AsJson = False,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to compute.")] = "cpu",
) -> None:
    """Say where the action is: tubes as JSON, films with boxes; for a data set, video-mAP beside two baselines."""
    from muybridge.engine.journal import Reporter
    from muybridge.localize import Linking, Localizer, benchmark
    from muybridge.media.tubes import read_tubes, write_tubes
    from muybridge.viz.tubes import write_localizations

    linking = Linking(smoothing=smoothing, contrast=contrast, tubes=tubes)
    localizer, folder = Localizer(run, device, linking), out or run / "localized"
    folder.mkdir(parents=True, exist_ok=True)
    if paths:
        for path, found in write_localizations(localizer, localizer.predictor.find(paths), folder, video):
            label, score = found.labels[found.label], float(found.scores.max())
            if not as_json:
                typer.echo(f"{found.id}  {score:.2%}  {label}  ->  {path}")
            else:
                typer.echo(json.dumps({"path": found.id, "label": label, "score": score, "boxes": str(path)}))
        return
    truth = read_tubes(boxes) if boxes else None
    told = benchmark(localizer, split, truth, Reporter(quiet=as_json))
    write_tubes(folder / f"{split}.json", told.found)
    _print_localisation(told, folder / f"{split}.json", as_json)


@app.command(epilog="Example: muybridge bench folder_tdn --set data.root=videos --set train.workers=4")
def bench(
    recipe: Annotated[str, typer.Argument(help="A TOML file or the name of a shipped recipe.")],
    settings: Settings = None,
    recordings: Annotated[int, typer.Option(min=1, help="How many are loaded one by one.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Training steps that are timed.")] = 8,
    as_json: AsJson = False,
    device: Device = "auto",
) -> None:
    """Time every hop of a training on your data and your machine, and name the slowest."""
    from dataclasses import asdict

    from muybridge.engine.bench import bench as measure
    from muybridge.engine.runtime import Runtime

    loaded = _recipe(recipe, settings)
    told = measure(loaded, recordings, steps, Runtime(loaded.train.precision, device))
    if as_json:
        typer.echo(json.dumps(asdict(told), indent=1))
    else:
        _print_bench(told)


@app.command(epilog="Example: muybridge convert tdn_sthv1_r50_8.pth --model tdn --labels names.txt --run runs/tdn")
def convert(
    file: Annotated[Path, typer.Argument(help="A checkpoint that the authors released.")],
    run: Annotated[Path, typer.Option(help="Run folder to make.")],
    model: Annotated[str | None, typer.Option(help="As `muybridge models` names it.")] = None,
    recipe: Annotated[
        str | None, typer.Option(help="In place of --model: a recipe with the model and the view.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Class names in label order, one on each line.")] = None,
    settings: Settings = None,
) -> None:
    """Make a run folder of a released checkpoint, ready to test and to predict."""
    from muybridge.engine.convert import convert_checkpoint
    from muybridge.recipe import parse_settings

    convert_checkpoint(file, run, model=model, recipe=recipe, labels=labels, settings=parse_settings(settings or []))
    typer.echo(f"converted; next: muybridge predict {run} VIDEO")


@app.command()
def models() -> None:
    """List the models."""
    from typing import get_args

    from rich.console import Console
    from rich.table import Column, Table

    from muybridge.models import AnyModel

    table = Table(Column("model", no_wrap=True), "what it is", Column("paper", overflow="fold"), "departures")
    for config in get_args(get_args(AnyModel)[0]):
        spec = config.spec
        table.add_row(spec.name, spec.title, f"{spec.paper}\n{spec.link}", ", ".join(spec.departures))
    Console().print(table)


@app.command()
def recipes() -> None:
    """List the recipes that come with the package, and what each promises."""
    import tomllib

    from rich.console import Console
    from rich.table import Column, Table

    from muybridge.recipe import shipped_recipes

    table = Table(Column("recipe", no_wrap=True), "what it is", "top-1", "minutes")
    for name, path in shipped_recipes().items():
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
        promise = tree.get("expects", {})
        table.add_row(
            name,
            tree.get("title", ""),
            f"{promise['mean_class']} (mean class)" if "mean_class" in promise else str(promise.get("top1", "")),
            str(promise.get("minutes", "")),
        )
    Console().print(table)


@app.command(epilog="Example: muybridge init mine.toml --model drnn --data my_recordings")
def init(
    path: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.toml"),
    model: Annotated[str, typer.Option(help="As `muybridge models` names it.")] = "drnn",
    data: Annotated[Path | None, typer.Option(help="A folder CLASS/FILE of recordings.")] = None,
) -> None:
    """Write a commented recipe to start from."""
    from muybridge.recipe import starter

    if path.exists():
        raise RecipeError("exists already", expected="a new file", hint="choose another name", where=path)
    path.write_text(starter(model, data), encoding="utf-8")
    typer.echo(f"wrote {path}; next: muybridge train {path}")


@app.command()
def demo(
    run: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
) -> None:
    """Make a small video playground, train TDN on it, test, predict an unseen video, draw: minutes, no download."""
    from muybridge.data.datasets.moving_shapes import MovingShapes
    from muybridge.engine.evaluate import evaluate
    from muybridge.engine.journal import Reporter
    from muybridge.engine.train import train as train_run
    from muybridge.predict import Predictor
    from muybridge.recipe import load_recipe
    from muybridge.viz.run_pictures import draw_run

    recipe, report = load_recipe("tdn_moving_shapes_demo"), Reporter()
    data = recipe.data
    assert isinstance(data, MovingShapes)
    report.say(f"1/5  making films in which only movement decides the class -> {data.folder()}")
    with report:
        report.begin("making films", data.scenes)
        data.write(lambda done, total: report.step())
    report.say("2/5  training")
    folder = train_run(recipe, run, resume=(run / "run.json").is_file(), report=report)
    report.say("3/5  testing on scenes that were not in training: other actors, other backdrops")
    _print_scores(evaluate(folder), as_json=False)
    unseen = data.index("test").records[0]
    report.say(f"4/5  predicting one unseen video, {unseen.path}")
    for label, score in zip(*_top(Predictor(run)(unseen.path, top=3)), strict=True):
        report.say(f"  {score:7.2%}  {label}")
    report.say("5/5  drawing pictures")
    for path in draw_run(run, sample=unseen.id):
        report.say(f"  {path}")
    report.say(f"next: muybridge predict {run} VIDEO, or train on your own: muybridge train --model tdn --data FOLDER")


def main() -> None:
    """The door: runs a command and tells what went wrong without a traceback."""
    try:
        app()
    except MuybridgeError as error:
        typer.echo(f"muybridge: {error}", err=True)
        sys.exit(130 if type(error).__name__ == "InterruptedTrainingError" else 2)


def _recipe(
    recipe: str | None,
    settings: list[str] | None,
    model: str | None = None,
    data: Path | None = None,
    group: str | None = None,
) -> "Recipe":
    from muybridge.recipe import folder_recipe, load_recipe, parse_settings

    chosen = parse_settings(settings or [])
    if recipe is not None and model is None and data is None:
        return load_recipe(recipe, chosen)
    if recipe is None and model is not None and data is not None:
        return folder_recipe(model, data, ({"data.group": group} if group else {}) | chosen)
    raise RecipeError(
        "nothing to train" if recipe is None else "both a recipe and --model or --data",
        expected="a recipe, or --model and --data together",
        hint="see `muybridge train --help`",
    )


def _name(recipe: str | None, model: str | None = None, data: Path | None = None) -> str:
    return Path(recipe).stem if recipe else f"{model}_{data.resolve().name if data else 'run'}"


def _new_folder(name: str) -> Path:
    """The first of runs/NAME, runs/NAME-2, ... that is not there."""
    numbers = (Path("runs") / (name if count == 1 else f"{name}-{count}") for count in range(1, 10_000))
    return next(folder for folder in numbers if not folder.exists())


def _seeds(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise RecipeError(f"--seeds {text}", expected="numbers such as 0,1,2", hint="write them so") from None


def _top(prediction: Any) -> tuple[tuple[str, ...], tuple[float, ...]]:
    return prediction.labels, prediction.scores


def _print_scores(scores: "Scores", as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        told = {key: value for key, value in asdict(scores).items() if key != "confusion" and value is not None}
        typer.echo(json.dumps(told, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("class", "top-1 %", title=f"top-1 {scores.top1:.2f} %")
    for name, share in scores.per_class.items():
        table.add_row(name, "-" if share is None else f"{share:.1f}")
    console = Console()
    console.print(table)
    broader = "" if scores.superclass is None else f"broader classes {scores.superclass:.2f} %, "
    console.print(
        f"top-5 {scores.top5:.2f} %, mean class {scores.mean_class:.2f} %, {broader}"
        f"{scores.count} recordings, {scores.excluded} left out of the index",
        highlight=False,
    )


def _print_localisation(told: "LocalizationBenchmark", path: Path, as_json: bool) -> None:
    if as_json:
        precision = {name: {str(at): 100 * one for at, one in row.items()} for name, row in told.precision.items()}
        typer.echo(json.dumps({"boxes": str(path), "top1": told.top1, "video_map": precision}, indent=1))
        return
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    if told.precision:
        thresholds = next(iter(told.precision.values()))
        columns = [Column(f"{at:g}", justify="right") for at in thresholds]
        table = Table("video-mAP % at IoU", *columns, title=f"{len(told.found.frames)} videos, top-1 {told.top1:.2f} %")
        for name, row in told.precision.items():
            table.add_row(name, *(f"{100 * one:.1f}" for one in row.values()))
        console.print(table)
    else:
        console.print("the data set knows no true boxes; give them with --boxes to read video-mAP", highlight=False)
    console.print(f"tubes: {path}", highlight=False, markup=False, soft_wrap=True)


def _print_bench(told: "BenchResult") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("hop", "median ms", "95th percentile ms", title="one recording", title_justify="left")
    for hop, timing in told.steps.items():
        table.add_row(hop, f"{timing.median:.2f}", f"{timing.p95:.2f}")
    console = Console()
    console.print(table)
    console.print(
        f"{told.per_second:.1f} recordings/s in training on {told.device}, batches of {told.batch_size}, "
        f"{told.workers} loading processes; the model waits {told.waiting:.0%} of the time",
        highlight=False,
    )
    console.print(f"bottleneck: {told.bottleneck}; {told.advice}", highlight=False, markup=False)


def _print_summary(summary: "Summary", recipe: "Recipe") -> None:
    from rich.console import Console
    from rich.table import Table

    folds = list(dict.fromkeys(row["fold"] for row in summary.runs))
    table = Table(
        "seed", *(f"fold {fold}" if fold else "top-1" for fold in folds), *(["mean"] if len(folds) > 1 else [])
    )
    for seed, mean in summary.by_seed.items():
        mine = [f"{row['top1']:.2f}" for row in summary.runs if row["seed"] == seed]
        table.add_row(str(seed), *mine, *([f"{mean:.2f}"] if len(folds) > 1 else []))
    console = Console()
    console.print(table)
    console.print(f"top-1 {summary.mean:.2f} ± {summary.deviation:.2f} over {len(summary.by_seed)} seeds")
    if summary.superclass:
        console.print("broader classes {:.2f} ± {:.2f}".format(*summary.superclass))
    if recipe.expects and recipe.expects.top1 is not None:
        low, high = recipe.expects.top1 - recipe.expects.tolerance, recipe.expects.top1 + recipe.expects.tolerance
        verdict = "within" if low <= summary.mean <= high else "outside"
        console.print(f"the recipe expects {recipe.expects.top1} ± {recipe.expects.tolerance}: {verdict}")


if __name__ == "__main__":
    main()
