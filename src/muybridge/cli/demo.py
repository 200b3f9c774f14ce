"""The demo: from generated videos to pictures of a trained run, without a download."""

from pathlib import Path
from typing import Annotated

import typer

from muybridge.cli.app import command


@command("Start")
def demo(
    run: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
) -> None:
    """Generate small videos, train TDN on them, test, predict an unseen video, draw: minutes, no download."""
    from muybridge.cli.tables import print_scores
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
    report.say(f"1/5  generating videos in which only movement decides the class -> {data.folder()}")
    with report:
        report.begin("generating videos", data.scenes)
        data.write(lambda done, total: report.step())
    report.say("2/5  training")
    folder = train_run(recipe, run, resume=(run / "run.json").is_file(), report=report)
    report.say("3/5  testing on scenes that were not in training: other actors, other backdrops")
    print_scores(evaluate(folder), as_json=False)
    unseen = data.index("test").records[0]
    report.say(f"4/5  predicting one unseen video, {unseen.path}")
    answer = Predictor(run)(unseen.path, top=3)
    for label, score in zip(answer.labels, answer.scores, strict=True):
        report.say(f"  {score:7.2%}  {label}")
    report.say("5/5  drawing pictures")
    for path in draw_run(run, sample=unseen.id):
        report.say(f"  {path}")
    report.say(f"next: muybridge predict {run} VIDEO, or train on your own: muybridge train --model tdn --data FOLDER")
