"""Commands that use trained runs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from muybridge.cli.app import command, shell_command
from muybridge.cli.failures import Failures, printable
from muybridge.cli.options import AsJson, Device, Run, Settings, Split, Strict
from muybridge.core.errors import RecipeError, RunError
from muybridge.recipe_schema import check_recipe, check_tree, parse_settings

if TYPE_CHECKING:
    from muybridge.engine.checkpoint import RunFolder


@command("Use", example="muybridge localize runs/mine video.mp4")
def localize(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run folder of a video model with attention or activation maps.")
    ],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]...", help="Videos, or folders of them; by default the run's own data set."),
    ] = None,
    split: Annotated[Split, typer.Option(help="Without videos: the part of the data.")] = "test",
    boxes: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Without videos: true tubes (.json, finalAnnots.mat, ViPER folder), if the data has none.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Output folder; by default RUN/localized.")] = None,
    smoothing: Annotated[
        float, typer.Option(metavar="FRAMES", min=0, help="Standard deviation of the Gaussian along time, in frames.")
    ] = 5.0,
    contrast: Annotated[
        float, typer.Option(metavar="FACTOR", min=0.1, help="Above 1, boxes lie closer around peaks.")
    ] = 1.0,
    tubes: Annotated[int, typer.Option(metavar="N", min=1, help="At most this many for each video.")] = 1,
    video: Annotated[Literal["gif", "mp4"], typer.Option(help="Format of the videos that are drawn.")] = "mp4",
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Without videos: where the data set is now, if it was moved.")
    ] = None,
    strict: Strict = False,
    as_json: AsJson = False,
    device: Device = "auto",
) -> None:
    """Localize the action: tubes as JSON, videos with boxes; on a data set, video-mAP beside two baselines."""
    from muybridge.cli.tables import print_localization
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.journal import Reporter
    from muybridge.localize import Linking, Localizer, benchmark
    from muybridge.media.tubes import read_tubes, write_tubes
    from muybridge.viz.style import writable
    from muybridge.viz.tubes import write_localizations

    linking = Linking(smoothing=smoothing, contrast=contrast, max_tubes=tubes)
    localizer, folder = Localizer(run, device, linking), (out or run / "localized").expanduser()
    if paths:
        with Failures(strict) as failures:
            for path, result in failures.apart(
                write_localizations(localizer, localizer.predictor.find(paths), folder, video)
            ):
                answer = result.prediction()
                if as_json:
                    typer.echo(json.dumps(answer.as_dict() | {"boxes": str(path)}))
                else:
                    score = f"{answer.scores[0]:.2%}"
                    typer.echo(f"{printable(answer.id)}  {score}  {answer.labels[0]}  ->  {printable(str(path))}")
        return
    truth = read_tubes(boxes.expanduser()) if boxes else None
    dataset = RunFolder.open(run).recipe(data).data
    result = benchmark(localizer, split, truth, Reporter(quiet=as_json), data=dataset)
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    write_tubes(folder / f"{split}.json", result.predicted)
    print_localization(result, folder / f"{split}.json", as_json)


@command("Use", example="muybridge fuse runs/appearance runs/motion --weights 1,2")
def fuse(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders tested on the same recordings; or predictions of another tool, as CSV with the column id "
            "and a probability for each class.",
        ),
    ],
    weights: Annotated[
        str | None, typer.Option(metavar="W,W,...", help="Weight of each run, such as 1,2; by default all equal.")
    ] = None,
    split: Annotated[Split, typer.Option(help="The part that they were tested on.")] = "test",
    learn: Annotated[
        bool,
        typer.Option(
            "--learn", help="Learn the weights on val, on which all of them must have been tested too (--split val)."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also write the runs as one, which predicts, tests and exports like any other."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Late fusion: average the predictions of several tested runs, such as the two streams of a network."""
    try:
        shares = [float(word) for word in weights.split(",")] if weights else []
    except ValueError:
        raise RecipeError(
            f"--weights {weights}", expected="numbers such as 1,2", hint="give one for each run"
        ) from None

    if learn and (weights or split == "val"):
        raise RecipeError(
            "--learn with " + ("--weights" if weights else "--split val"),
            expected="weights that are learnt on val, and the fusion tested on another part",
            hint="leave one of them out",
        )

    from muybridge.cli.tables import print_fusion
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.ensemble import make_ensemble
    from muybridge.engine.fuse import align, learn_weights

    sources = [run if run.is_file() else RunFolder.open(run) for run in runs]
    members = _folders_only(sources) if out is not None else []
    aligned = align(sources, split)
    if learn:
        shares = learn_weights(align(sources, "val"))
    print_fusion([printable(str(run)) for run in runs], shares, aligned, as_json)
    if out is not None:
        make_ensemble(members, out, shares)
        if not as_json:
            typer.echo(f"written as one run; next: {shell_command('predict', out, 'FILE')}")


def _folders_only(sources: "Sequence[RunFolder | Path]") -> "list[RunFolder]":
    """The runs; raises RunError if there are predictions of another tool among them."""
    runs: list[RunFolder] = []
    for source in sources:
        if isinstance(source, Path):
            raise RunError(
                "predictions of another tool, which has no network here",
                expected="run folders, to write them as one run",
                hint="leave --out away",
                where=source,
            )
        runs.append(source)
    return runs


@command("Use", example="muybridge convert tdn_sthv1_r50_8.pth --model tdn --labels names.txt --run runs/tdn")
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint that the authors released.")],
    run: Annotated[Path, typer.Option(metavar="DIR", help="Run folder to make.")],
    model: Annotated[str | None, typer.Option(metavar="NAME", help="As `muybridge models` names it.")] = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="RECIPE", help="In place of --model: a recipe with the model and the view.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Class names in label order; by default those of the recipe's benchmark, if it is here.",
        ),
    ] = None,
    settings: Settings = None,
) -> None:
    """Convert a released checkpoint to a run folder, ready to test and to predict."""
    given = parse_settings(settings or [])
    if recipe is not None:
        check_recipe(recipe, given)
    elif model is not None:
        check_tree({"model": {"name": model}}, given, None)

    from muybridge.engine.convert import convert_checkpoint

    convert_checkpoint(file, run, model=model, recipe=recipe, labels=labels, settings=given)
    typer.echo(f"converted; next: muybridge predict {run} VIDEO")


@command("Use", example="muybridge export runs/mine --out model.onnx")
def export(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file to write; by default RUN/model.onnx.")
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Also a file with convolutions in 8-bit integers, and a table of both.")
    ] = False,
) -> None:
    """Export a run as one ONNX file that describes itself, checked against PyTorch."""
    from muybridge.cli.tables import print_quantized
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.journal import Reporter
    from muybridge.export import export_run, quantize_file

    result = export_run(run, out, Reporter())
    for kind, values in (("input", result.inputs), ("output", result.outputs)):
        for name, axes in values.items():
            typer.echo(f"{kind}  {name}  ({', '.join(map(str, axes))})")
    if calibration := RunFolder.open(run).calibration():
        typer.echo(f"{calibration}; the metadata has it")
    typer.echo(f"equal to PyTorch within {result.difference:.1e} on {result.checked_on}")
    typer.echo(f"wrote {result.path} ({result.path.stat().st_size / 1e6:.1f} MB)")
    if int8:
        print_quantized(quantize_file(run, result.path, Reporter()))
