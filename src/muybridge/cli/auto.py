"""``muybridge train --model auto``: the model is chosen by validation."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muybridge.cli.app import shell_command
from muybridge.cli.options import new_run_folder
from muybridge.cli.sources import starter_of
from muybridge.core.errors import RecipeError

if TYPE_CHECKING:
    from muybridge.engine.journal import Reporter
    from muybridge.recipe import Recipe

MINUTES = 10.0


def is_search(folder: Path | None) -> bool:
    """Whether a folder has a search whose answer is not yet chosen."""
    return folder is not None and (folder / "auto.json").is_file() and not (folder / "run.json").is_file()


def train_auto(
    data: Path | None,
    given: Mapping[str, Any],
    run: Path | None,
    minutes: float | None,
    *,
    resume: bool,
    dry_run: bool,
    device: str,
    baseline: bool,
) -> None:
    """Choose and train a model of a folder of recordings; without ``data``, go on with the search in ``run``."""
    from muybridge.cli.plan import measure_floor, open_recordings
    from muybridge.engine.auto import SearchTable, search
    from muybridge.engine.auto.candidates import candidate_recipes
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.journal import Reporter

    earlier = SearchTable.read(run) if run and resume else None
    if data is None and earlier is None:
        raise RecipeError("--model auto without --data", expected="both", hint="give the folder of the recordings")
    settings = earlier.settings | dict(given) if earlier else dict(given)
    root = Path(settings["data.root"])
    folder, report = run or new_run_folder(f"auto_{root.stem if root.is_file() else root.name}"), Reporter()
    starter = starter_of(settings["data.root"])
    (recipe,) = candidate_recipes([starter], root, settings).values()
    report.say(f"auto: the best model of {root} -> {folder}")
    if dry_run or earlier is None:
        _announce(recipe, settings, root, report)
    if dry_run:
        open_recordings(recipe.data, report)
        report.say("nothing was trained (--dry-run)")
        return
    table = measure_floor(recipe, report) if baseline and not RunFolder(folder).exists else None
    limit = minutes or (earlier.minutes if earlier else MINUTES)
    search(
        root,
        folder,
        starter=starter,
        settings=settings,
        minutes=limit,
        resume=resume,
        device=device,
        report=report,
        baselines=table,
    )
    report.say(f"trained; next: {shell_command('test', folder)}   or: {shell_command('show', folder)}")


def _announce(recipe: "Recipe", settings: Mapping[str, Any], root: Path, report: "Reporter") -> None:
    """How many recordings, classes and groups there are, what is probably wrong, and what will be tried."""
    from muybridge.data.summary import summarize
    from muybridge.engine.auto.candidates import candidate_recipes, models_of
    from muybridge.engine.auto.folds import Searched, make_folds

    assert isinstance(recipe.data, Searched)
    recipes = candidate_recipes(models_of(recipe.data), root, settings)
    lengths = {name: candidate.train.epochs for name, candidate in recipes.items()}
    names = ", ".join(f"{name} ({epochs} epochs)" if epochs else name for name, epochs in lengths.items())
    sizes = " and ".join(str(len(fold.val)) for fold in make_folds(recipe.data))
    report.say("\n".join(summarize(recipe.data).lines()))
    report.say(f"to try: linear, {names}; validated inside the training part, on {sizes or 'no'} recordings in turn")
