"""Commands that compute something from recordings once, before training."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from muybridge.cli.app import command, expand_user, shell_command
from muybridge.cli.failures import Failures
from muybridge.cli.options import Device, RecipeName, Settings, choose_recipe
from muybridge.recipe_schema import check_recipe, check_tree, parse_settings


@command("Data", example="muybridge flow videos/ --method tvl1   or: muybridge flow video_lstm_ucf101")
def flow(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="A TOML file, the name of a shipped recipe, or a folder of videos.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output folder; by default flow.folder of the recipe, or flow/NAME."),
    ] = None,
    method: Annotated[
        Literal["dis", "tvl1"] | None, typer.Option(help="By default flow.method of the recipe, or dis.")
    ] = None,
    bound: Annotated[
        float | None,
        typer.Option(metavar="PIXELS", help="Clip flow beyond this; by default flow.bound of the recipe, or 20."),
    ] = None,
    form: Annotated[
        Literal["frames", "npz", "video"],
        typer.Option(help="Files to write: JPEG images, lossless arrays, or (the smallest) videos."),
    ] = "frames",
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes; by default one for each core.")
    ] = None,
    settings: Settings = None,
) -> None:
    """Compute the optical flow of all videos, on all cores; existing files are kept."""
    options = {"flow.method": method, "flow.bound": bound}
    given = parse_settings(settings or []) | {name: value for name, value in options.items() if value is not None}
    folder = expand_user(Path(source))
    if folder.is_dir():
        source = str(folder)
        check_tree({}, given, None)
    else:
        check_recipe(source, given)

    from muybridge.engine.flow import make_flow
    from muybridge.engine.journal import Reporter

    report = Reporter()
    _, flow = make_flow(source, out, settings=given, form=form, jobs=jobs, report=report)
    chosen = {
        "flow.folder": flow.folder,
        "flow.method": flow.method,
        "flow.bound": f"{flow.bound:g}",
    }
    words = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
    report.say(f"next: {shell_command('train', 'RECIPE' if folder.is_dir() else source, *words)}")


@command("Data", example="muybridge trajectories videos --out trajectories")
def trajectories(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A video, or a folder of videos.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Output folder.")] = Path("trajectories"),
    method: Annotated[Literal["dis", "tvl1"], typer.Option(help="Of optical flow; TV-L1 is very slow.")] = "dis",
    keep_camera: Annotated[
        bool, typer.Option("--keep-camera", help="Do not take the motion of the camera out.")
    ] = False,
    stride: Annotated[int, typer.Option(metavar="PIXELS", min=1, help="Between points.")] = 5,
    scales: Annotated[int, typer.Option(metavar="N", min=1, help="Sizes of the frames to follow points in.")] = 8,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes; by default one for each core.")
    ] = None,
) -> None:
    """Write improved dense trajectories of all videos as text, on all cores; those of the same videos are kept."""
    from muybridge.engine.journal import Reporter
    from muybridge.engine.trajectories import make_trajectories
    from muybridge.nn.trajectory_config import TrajectoryConfig

    report, begin = Reporter(), time.perf_counter()
    config = TrajectoryConfig(stride=stride, scales=scales)
    with Failures(strict=False) as failures:
        count = make_trajectories(
            source, out, config, method=method, compensate_camera=not keep_camera, jobs=jobs, report=report
        )
        failures.samples.extend(count.failed)
        failures.answered = count.videos + count.existing
        rate = count.frames / max(time.perf_counter() - begin, 1e-9)
        existing = f"; {count.existing} existed" if count.existing else ""
        report.say(
            f"{count.trajectories} trajectories of {count.videos} videos, {rate:.1f} frames a second{existing} -> {out}"
        )


@command("Data", example="muybridge features video_lstm_moving_shapes --out features/moving_shapes")
def features(
    recipe: RecipeName,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output folder; by default view.features of the recipe, or features/RECIPE."),
    ] = None,
    settings: Settings = None,
    precision: Annotated[
        Literal["float16", "float32"], typer.Option(help="Number format on disk; float16 needs half the space.")
    ] = "float16",
    device: Device = "auto",
) -> None:
    """Extract and cache what a model does not train (a CNN, HOG3D); training with view.features then skips it."""
    chosen = choose_recipe(recipe, parse_settings(settings or []))

    from muybridge.engine.features import extract_features
    from muybridge.engine.journal import Reporter
    from muybridge.engine.runtime import Runtime

    loaded = chosen.load()
    named = loaded.view.features if loaded.view and not loaded.view.makes_features else None
    folder = out or named or Path("features") / chosen.name
    runtime, report = Runtime(device=device), Reporter()
    report.console.quiet = not runtime.is_main_process
    report.say(f"features of {loaded.title or loaded.model.spec.title} -> {folder}")
    extract_features(loaded, folder, precision=precision, runtime=runtime, report=report)
    report.say(f"next: {shell_command('train', recipe, '--set', f'view.features={folder}')}")
