"""The demo: from generated videos to pictures of a trained run, without a download."""

import importlib
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muybridge.cli.app import command, shell_command

if TYPE_CHECKING:
    from muybridge.engine.journal import Reporter
    from muybridge.recipe import Recipe


@command("Start")
def demo(
    run: Annotated[Path, typer.Option(metavar="DIR", help="Run folder.")] = Path("runs/demo"),
) -> None:
    """Generate small videos, train TDN on them, test, predict an unseen video, draw pictures; no download."""
    started = time.monotonic()
    from muybridge.cli.plan import generate_data
    from muybridge.engine.journal import Reporter
    from muybridge.recipe import load_recipe

    recipe, report = load_recipe("tdn_moving_shapes_demo"), Reporter()
    report.say("1/5  generating videos in which only the movement tells the classes apart")
    imports = threading.Thread(target=_import_rest, daemon=True)  # while other processes generate the videos
    imports.start()
    generate_data(recipe.data, report)
    imports.join()
    _train_and_show(recipe, run, report)
    report.say(f"finished in {time.monotonic() - started:.0f} s; open the pictures in {run / 'pictures'}")
    report.say(f"next: {shell_command('predict', run)} VIDEO, or muybridge train --model tdn --data FOLDER")


def _train_and_show(recipe: "Recipe", run: Path, report: "Reporter") -> None:
    from muybridge.cli.tables import print_scores
    from muybridge.engine.evaluate import evaluate
    from muybridge.engine.train import train
    from muybridge.predict import Predictor
    from muybridge.viz.run_pictures import draw_run

    report.say(f"2/5  training TDN -> {run}")
    folder = train(recipe, run, resume=(run / "run.json").is_file(), report=report)
    report.say("3/5  testing on scenes that were not used in training: other shapes, other backgrounds")
    print_scores(evaluate(folder, report=report), as_json=False)
    unseen = recipe.data.index("test").records[0]
    report.say(f"4/5  predicting one of these videos, {unseen.path}")
    prediction = Predictor(run)(unseen.path, top=3)
    for label, probability in zip(prediction.labels, prediction.scores, strict=True):
        report.say(f"  {probability:7.2%}  {label}")
    report.say("5/5  drawing pictures")
    for path in draw_run(run, sample=unseen.id):
        report.say(f"  {path}")


def _import_rest() -> None:
    """Import what the later parts need, which takes seconds."""
    for module in ("engine.train", "predict", "viz.run_pictures"):
        importlib.import_module(f"muybridge.{module}")
