"""Checkpoints that the authors released, loaded into our models."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from muybridge.core.errors import DataError, RecipeError, RunError
from muybridge.data.datasets.base import Benchmark
from muybridge.data.datasets.lists import read_class_names
from muybridge.engine.checkpoint import RunFolder
from muybridge.recipe import Recipe, load_recipe, recipe_from

_SHOWN = 5
_CLASSIFIERS = ("base_model.fc.weight", "new_fc.weight")


@runtime_checkable
class HasReleasedCheckpoints(Protocol):
    """A model that knows the authors' names of its parameters."""

    def convert_released(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' state dict under our names; raises RunError for that of another network."""
        ...


def load_released(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Loads a state dict of the authors' own code into a model.

    Args:
        model: built with the checkpoint's depth, classes, segments and window.
        state_dict: the authors' names and tensors, with or without the prefix ``module.``; or a complete released
            checkpoint, which has them under ``state_dict``.

    Raises:
        RunError: the model has no released checkpoints; the state belongs to another depth, class count or window;
            something is missing, unexpected or of another shape.
    """
    if not isinstance(model, HasReleasedCheckpoints):
        raise RunError(
            f"{type(model).__name__} has no released checkpoints",
            expected="a TSN, SELFYNet or TDN",
            hint="load a run folder of your own training instead",
        )
    state = model.convert_released(_plain(state_dict))
    own = model.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise RunError(
            "; ".join([*_list("missing", missing), *_list("unexpected", extra)]),
            expected=f"exactly the parameters of {type(model).__name__} as it was built",
            hint="build the model with the options that the checkpoint was trained with",
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise RunError(
                f"{key} has shape {tuple(value.shape)}",
                expected=f"{tuple(own[key].shape)}",
                hint="build the model with the options that the checkpoint was trained with",
            )
    model.load_state_dict(state)


def convert_checkpoint(
    file: Path,
    folder: Path,
    *,
    model: str | None = None,
    recipe: str | None = None,
    labels: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> RunFolder:
    """Make a run folder of a released checkpoint.

    Args:
        file: the checkpoint; nothing in it is unpickled but tensors and numbers.
        folder: where the run goes.
        model: name of the model; its settings are the defaults, which are those of the papers at 8 segments.
        recipe: in place of ``model``, a recipe with the model, its settings and the view. If its data set is a
            benchmark whose files are here, the run has that data set, and can be tested at once.
        labels: class names in label order, one on each line; without it, they are those of the recipe's benchmark, or
            called class 0 and so on.
        settings: of the recipe to replace, by dotted names such as ``model.segments``.

    Raises:
        RunError: the file is no checkpoint, does not belong to the model, or the folder cannot be written.
        RecipeError: neither or both of ``model`` and ``recipe`` are given, or they cannot be read.
        DataError: the file of class names cannot be read, or has another number of them than the checkpoint.
    """
    if (model is None) == (recipe is None):
        raise RecipeError(
            "neither a model nor a recipe" if model is None else "both a model and a recipe",
            expected="one of --model and --recipe",
            hint="see `muybridge convert --help`",
        )
    state = _plain(read_checkpoint(file))
    count = next((len(state[key]) for key in _CLASSIFIERS if key in state), None)
    benchmark = _benchmark_of(recipe, settings, count) if recipe and labels is None else None
    names = list(benchmark.labels()) if benchmark else _names(labels, count)
    listed = {"name": "video_list", "root": ".", "classes": names}
    data = benchmark.model_dump(mode="json", exclude_none=True) if benchmark else listed
    settings = {"data": data, "title": f"converted from {file.name}", **(settings or {})}
    complete: Recipe = load_recipe(recipe, settings) if recipe else recipe_from({"model": {"name": model}}, settings)
    complete = complete.model_copy(update={"view": complete.resolved().view, "expects": None})
    network = complete.model.without_pretrained().build(len(names), complete.data.holds())
    try:
        load_released(network, state)
    except RunError as problem:
        raise RunError(problem.problem, expected=problem.expected, hint=problem.hint, where=file) from None
    if RunFolder(folder).exists:
        raise RunError("already contains a run", expected="a new folder", hint="choose another --run", where=folder)
    run = RunFolder.create(folder, complete, complete.data.labels(), {}, {})
    run.write_weights("weights", network)
    run.clear_state()
    return run


def read_checkpoint(file: Path) -> Mapping[str, Any]:
    """The content of a file of ``torch.save``, which may be tensors and numbers alone.

    Raises:
        RunError: it cannot be read, or contains something else.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem).partition("\n")[0] or type(problem).__name__
        raise RunError(
            f"the checkpoint cannot be read ({reason})",
            expected="a file of torch.save with tensors and numbers alone",
            hint="download it again; if you trust its source and it contains more, keep its tensors alone with "
            "torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW)",
            where=file,
        ) from problem
    if not isinstance(content, Mapping):
        raise RunError(
            f"the checkpoint is a {type(content).__name__}",
            expected="a dictionary of tensors",
            hint="give the released checkpoint itself",
            where=file,
        )
    return content


def _plain(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """The parameters of a checkpoint, without the prefix that parallel training adds to their names."""
    inner = state_dict.get("state_dict", state_dict)
    assert isinstance(inner, Mapping)
    return {key.removeprefix("module."): value for key, value in inner.items()}


def _benchmark_of(recipe: str, settings: Mapping[str, Any] | None, count: int | None) -> Benchmark | None:
    """The benchmark of a recipe, if its files are here, which say what its classes are called.

    Raises:
        DataError: it has another number of classes than the checkpoint.
    """
    try:
        data = load_recipe(recipe, settings).data
        if not isinstance(data, Benchmark):
            return None
        resolved = data.resolved()
        names = resolved.labels()
    except (DataError, RecipeError):  # files that are not here, or the folder of a recipe that names none
        return None
    if count is not None and len(names) != count:
        raise DataError(
            f"the data set of the recipe has {len(names)} classes",
            expected=f"{count}, as the checkpoint scores",
            hint="give the recipe of the data set that the checkpoint was trained on, or its class names with --labels",
            where=data.folder(),
        )
    return resolved


def _names(labels: Path | None, count: int | None) -> list[str]:
    if labels is None:
        return [f"class {label}" for label in range(count or 1)]
    names, _ = read_class_names(labels, hint="correct --labels")
    if count is not None and len(names) != count:
        raise DataError(
            f"it names {len(names)} classes",
            expected=f"{count}, as the checkpoint scores",
            hint="give the class names of the data set that the checkpoint was trained on",
            where=labels,
        )
    return list(names)


def _list(what: str, keys: list[str]) -> list[str]:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return [f"{what}: {', '.join(keys[:_SHOWN])}{more}"] if keys else []
