"""Options that several commands share, and what they make of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from muybridge.core.errors import RecipeError

if TYPE_CHECKING:
    from muybridge.recipe import Recipe

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SETTING=VALUE", help="Replace a setting of the recipe; may be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")]
Split = Literal["train", "val", "test"]


def chosen_recipe(
    recipe: str | None,
    settings: list[str] | None,
    model: str | None = None,
    data: Path | None = None,
    group: str | None = None,
) -> "Recipe":
    """The recipe of a file or name, or the starting recipe of a model for a folder of recordings."""
    from muybridge.recipe_schema import (
        check_recipe,
        parse_settings,
        starter_name,
    )  # needs no torch, so a slip costs a moment

    parsed = parse_settings(settings or [])
    if recipe is not None and model is None and data is None:
        check_recipe(recipe, parsed)
        from muybridge.recipe import load_recipe

        return load_recipe(recipe, parsed)
    if recipe is None and model is not None and data is not None:
        parsed = ({"data.group": group} if group else {}) | parsed
        check_recipe(starter_name(model), parsed)
        from muybridge.recipe import folder_recipe

        return folder_recipe(model, data, parsed)
    raise RecipeError(
        "no recipe given" if recipe is None else "both a recipe and --model or --data",
        expected="a recipe, or --model and --data together",
        hint="see `muybridge train --help`",
    )


def recipe_name(recipe: str | None, model: str | None = None, data: Path | None = None) -> str:
    """The word that a run folder is named after."""
    return Path(recipe).stem if recipe else f"{model}_{data.resolve().name if data else 'run'}"


def new_run_folder(name: str) -> Path:
    """The first of runs/NAME, runs/NAME-2, ... that does not exist."""
    numbers = (Path("runs") / (name if count == 1 else f"{name}-{count}") for count in range(1, 10_000))
    return next(folder for folder in numbers if not folder.exists())
