"""Recipes as files: read, checked, written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from muybridge.recipe.own_data import adapted
from muybridge.recipe.recipe import Recipe, dump, recipe_from
from muybridge.recipe_schema import find_recipe, read_recipe, starter_name


def load_recipe(source: str | Path, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read and check a recipe.

    Args:
        source: a TOML file, or the name of a recipe that comes with the package.
        settings: values by dotted names, which replace those of the file, as ``--set`` gives them.

    Raises:
        RecipeError: no such recipe, not TOML, an unknown setting, a wrong value, or a model and a data set that do not
            match.
    """
    path = find_recipe(source)
    return recipe_from(read_recipe(path), settings, path)


def folder_recipe(model: str, root: Path, settings: Mapping[str, Any] | None = None) -> Recipe:
    """The starting recipe of a model for a folder of the user's own, with settings that follow from the recordings.

    Args:
        model: as ``muybridge models`` names it.
        root: the folder, a table, or a pack.
        settings: values by dotted names, which replace those of the recipe and those that follow from the recordings.

    Raises:
        RecipeError: an unknown model or setting, or a wrong value.
        DataError: the recordings cannot be read.
    """
    given = {"data.root": str(root.expanduser().resolve())} | dict(settings or {})
    return adapted(load_recipe(starter_name(model), given), given)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the recipe, complete, as TOML."""
    path.write_text(tomli_w.dumps(dump(recipe)), encoding="utf-8")
