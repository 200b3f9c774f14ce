"""A recipe joins a model to data and says how to train: one TOML file is one run."""

from muybridge.recipe.files import folder_recipe, load_recipe, save_recipe
from muybridge.recipe.own_data import adapted
from muybridge.recipe.recipe import Augment, Expects, Recipe, dump, flat_settings, recipe_from
from muybridge.recipe.training import (
    SGD,
    Adam,
    AdamW,
    AnyOptimizer,
    ParameterGroup,
    RMSprop,
    Schedule,
    SourceRun,
    Stage,
    Train,
)
from muybridge.recipe_schema import parse_settings, shipped_recipes

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "AnyOptimizer",
    "Augment",
    "Expects",
    "ParameterGroup",
    "RMSprop",
    "Recipe",
    "Schedule",
    "SourceRun",
    "Stage",
    "Train",
    "adapted",
    "dump",
    "flat_settings",
    "folder_recipe",
    "load_recipe",
    "parse_settings",
    "recipe_from",
    "save_recipe",
    "shipped_recipes",
]
