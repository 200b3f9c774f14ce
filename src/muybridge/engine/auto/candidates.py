"""The models that a search tries on a folder of recordings, and the recipes that it trains them with."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import RecipeError
from muybridge.data.datasets.base import DatasetConfig
from muybridge.engine.auto.folds import FINAL
from muybridge.engine.auto.fusion import Mixture
from muybridge.models import FusedConfig, LinearConfig
from muybridge.recipe import Recipe, Stage, Train, dump, folder_recipe, recipe_from

SKELETON_MODELS = ("drnn", "sta_lstm")
VIDEO_MODELS = ("fisher_vectors", "tsn", "tsm", "tdn")
"""In the order of their cost."""

SHORT = 0.25
"""Share of the epochs of the first, short trainings."""

_SHARED = ("model.size", "model.pretrained")


def candidate_recipes(models: Iterable[str], root: Path, settings: Mapping[str, Any]) -> dict[str, Recipe]:
    """The starting recipes of models for a folder, with the settings that apply to each.

    Raises:
        RecipeError: a setting of one model alone is given, or one that no recipe has.
    """
    own = [name for name in settings if name.startswith("model.") and name not in _SHARED]
    if own or "data.name" in settings:
        raise RecipeError(
            f"{own[0] if own else 'data.name'} with --model auto",
            expected="settings of the data and of the training, model.size and model.pretrained",
            hint="leave it out, or name one model",
        )
    return {name: _recipe(name, root, settings) for name in models}


def _recipe(name: str, root: Path, settings: Mapping[str, Any]) -> Recipe:
    plain = {key: value for key, value in settings.items() if not key.startswith("model.")}
    recipe = folder_recipe(name, root, plain)
    if not recipe.model.learns_features:  # it is solved for, and its frames have a size of their own
        return recipe.with_settings({"train.epochs": 0})
    fields = type(recipe.model).model_fields
    more = {key: settings[key] for key in _SHARED if key in settings and key.removeprefix("model.") in fields}
    return folder_recipe(name, root, plain | more) if more else recipe


def models_of(data: DatasetConfig) -> tuple[str, ...]:
    """The names of the models that fit the recordings of a data set, the cheapest first."""
    if isinstance(data.holds(), SkeletonData):
        return SKELETON_MODELS
    return tuple(name for name in VIDEO_MODELS if name != "fisher_vectors" or find_spec("cv2"))


def short_epochs(recipe: Recipe) -> int:
    """Epochs of the first training of a candidate; 0 where weights are solved for."""
    return max(1, round(SHORT * recipe.train.epochs)) if recipe.train.epochs else 0


def attempt_recipe(recipe: Recipe, epochs: int, fold: Mapping[str, Any]) -> Recipe:
    """A recipe for so many epochs, without the recordings of a validation part, which are validated on at the end."""
    return recipe.with_settings({**fold, "train.epochs": epochs, "train.val_interval": max(1, epochs)})


def final_network(recipe: Recipe, epochs: int) -> Recipe:
    """The recipe of a network as the answer, trained on all training recordings."""
    return recipe.with_settings({**FINAL, "train.epochs": epochs, "title": f"auto: {recipe.model.spec.title}"})


def final_linear(recipe: Recipe, config: LinearConfig) -> Recipe:
    """The recipe of the linear model as the answer, with the data of a candidate."""
    data = dump(recipe)["data"] | {name.removeprefix("data."): value for name, value in FINAL.items()}
    train = Train(epochs=0, seed=recipe.train.seed, num_workers=recipe.train.num_workers, precision="32-true")
    return recipe_from(
        {"title": f"auto: {config.spec.title}", "model": config.model_dump(mode="json"), "data": data}
        | {"train": train.model_dump(mode="json", exclude_none=True)}
    )


def can_be_fused(recipe: Recipe) -> bool:
    """Whether a network can be fused with a linear model: trained in one stage, and not tested on reversed videos."""
    train, is_reversed = recipe.train, recipe.view is not None and recipe.view.reverse
    return not (train.stages or train.init_from or train.warm_up or is_reversed)


def final_fused(recipe: Recipe, epochs: int, linear: LinearConfig, mixture: Mixture) -> Recipe:
    """The recipe of both as the answer: the network is trained alone, and the linear model is then solved for."""
    final = final_network(recipe, epochs)
    tree = dump(final)
    network = FusedConfig(
        network=final.model,  # pyright: ignore[reportArgumentType]
        linear=linear,
        weight=mixture.weight,
        temperature=mixture.temperature,
    )
    stages = (
        Stage(name="network", epochs=epochs, model={"weight": 0.0, "temperature": 1.0}),
        Stage(name="fused", epochs=0, init_from={"network.": "network"}),
    )
    groups = [
        group | ({} if group["match"] in ("norm", "bias") else {"match": f"network.{group['match']}"})
        for group in tree["train"].get("param_groups", ())
    ]
    tree["train"] |= {"stages": [stage.model_dump(mode="json", exclude_none=True) for stage in stages]}
    tree["train"]["param_groups"] = groups
    tree["reasons"] = {
        name.replace("model.", "model.network.", 1) if name.startswith("model.") else name: reason
        for name, reason in final.reasons.items()
        if name != "train.epochs"
    }
    title = f"auto: {recipe.model.spec.name} fused with a linear model"
    return recipe_from(tree | {"model": network.model_dump(mode="json"), "title": title})
