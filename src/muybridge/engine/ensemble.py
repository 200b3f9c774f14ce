"""A run folder made of several runs: their networks as one model, which predicts like any other run."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError
from torch import nn

from muybridge.core.errors import RunError
from muybridge.engine.checkpoint import RunFolder
from muybridge.models import EnsembleConfig
from muybridge.recipe import Recipe


def make_ensemble(runs: Sequence[RunFolder], out: Path, weights: Sequence[float] = ()) -> RunFolder:
    """Write a run whose probabilities are the weighted mean of those of several runs, and which needs none of them.

    Its recipe has the data, the view and the classes of the first run, and optical flow of the first that reads it.
    Temperatures of calibrated runs are kept.

    Args:
        runs: two or more, trained for the same classes, of networks that read recordings alike.
        out: a new folder.
        weights: one for each run; by default all alike.

    Raises:
        RunError: there is one run alone; two have other classes, read recordings in other ways or have members that
            cannot be combined; or ``out`` is a run already, or cannot be written.
    """
    first, *others = runs
    if not others:
        raise RunError("a single run", expected="two or more", hint="name another run", where=first.path)
    if RunFolder(out).exists:
        raise RunError("already contains a run", expected="a new folder", hint="choose another --out", where=out)
    recipes = [run.recipe() for run in runs]
    for run, recipe in zip(others, recipes[1:], strict=True):
        _check_alike(first, recipes[0], run, recipe)
    temperatures = [calibration.temperature if (calibration := run.calibration()) else 1.0 for run in runs]
    config = _config(first, recipes, weights, temperatures if set(temperatures) != {1.0} else [])
    flow = next((recipe.flow for recipe in recipes if recipe.flow is not None), None)
    view = recipes[0].view.model_copy(update={"features": None}) if recipes[0].view else None
    title = "ensemble of " + ", ".join(recipe.title or recipe.model.spec.title for recipe in recipes)
    changes = {"model": config, "flow": flow, "view": view, "title": title, "expects": None}
    recipe = Recipe.model_validate(recipes[0].model_copy(update=changes).model_dump())
    members = nn.ModuleList(run.model() for run in runs)
    model = config.without_pretrained().build(len(first.labels()), recipe.data.holds())
    model.members.load_state_dict(members.state_dict())
    run = RunFolder.create(out, recipe, first.labels(), {}, {}, first.split())
    run.write_weights("weights", model)
    run.clear_state()
    return run


def _check_alike(first: RunFolder, recipe: Recipe, run: RunFolder, other: Recipe) -> None:
    if run.labels() != first.labels():
        raise RunError(
            "the run has other classes, or in another order",
            expected=f"those of {first.path}",
            hint="combine runs of one data set",
            where=run.path,
        )
    views = [each.view.model_copy(update={"features": None}) if each.view else None for each in (recipe, other)]
    flows = [each.flow for each in (recipe, other) if each.flow is not None]
    for name, unlike in (("view", views[0] != views[1]), ("flow", len(flows) == 2 and flows[0] != flows[1])):
        if unlike:
            raise RunError(
                f"the run has other settings of [{name}], so that it reads recordings in another way",
                expected=f"those of {first.path}",
                hint="combine runs that read the same frames; `muybridge fuse` without --out scores any runs together",
                where=run.path,
            )


def _config(
    first: RunFolder, recipes: Sequence[Recipe], weights: Sequence[float], temperatures: Sequence[float]
) -> EnsembleConfig:
    members = [recipe.model.model_dump() for recipe in recipes]
    try:
        return EnsembleConfig.model_validate(
            {"members": members, "weights": tuple(weights), "temperatures": tuple(temperatures)}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        name = problem["input"].get("name", "") if problem["type"] == "union_tag_invalid" else ""
        raise RunError(
            f"{name} cannot be a member of an ensemble" if name else problem["msg"].removeprefix("Value error, "),
            expected="networks that read recordings alike, such as one recipe with several seeds",
            hint="leave --out away: `muybridge fuse` alone scores any runs together",
            where=first.path,
        ) from None
