"""Parameters that a training starts from, taken from other runs by prefixes of their names."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from muybridge.core.errors import RecipeError, RunError
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.weights import checksum, read_weights
from muybridge.recipe import Recipe, SourceRun

Source = str | SourceRun
"""An earlier stage, by its name, or another run."""


def continued_recipe(run: RunFolder) -> Recipe:
    """The recipe of a new training that starts from the weights of a finished run.

    It is the run's recipe, of several stages the last one, with all parameters taken from the run. Optimizer and
    learning rate schedule start anew. So the result is not that of a single longer training, whose learning rate would
    have been another one from the start.

    Raises:
        RunError: the training of the run has not ended.
    """
    recipe = run.recipe()
    source = {"": {"run": str(_open(SourceRun(run=run.path)).path.resolve())}}
    settings: dict[str, Any] = {"train.init_from": source, "train.warm_up": ""}
    if "pretrained" in type(recipe.model).model_fields:
        settings["model.pretrained"] = False
    if recipe.train.stages:
        last = recipe.train.stages[-1].model_dump(mode="json", exclude_none=True)
        settings["train.stages"] = [last | {"init_from": source}]
        settings["train.init_from"] = {}
    return recipe.model_copy(update={"expects": None}).with_settings(settings)


def with_checksums(recipe: Recipe) -> Recipe:
    """The recipe with the folder and the checksum of each run that it starts from written out.

    Raises:
        RunError: there is no such run, or its training has not ended.
    """
    train = recipe.train
    stages = tuple(stage.model_copy(update={"init_from": _resolve_all(stage.init_from)}) for stage in train.stages)
    return recipe.model_copy(
        update={"train": train.model_copy(update={"init_from": _resolve_all(train.init_from), "stages": stages})}
    )


def load_parameters_from(model: nn.Module, sources: Mapping[str, Source]) -> None:
    """Load parameters of other runs into a model; those of earlier stages are not loaded here.

    Args:
        model: all of its parameters whose names begin with a prefix are replaced.
        sources: by prefix.

    Raises:
        RecipeError: the model has no parameters that begin with a prefix.
        RunError: there is no such run, its weights have changed, or lack parameters or have others of other shapes.
    """
    own = model.state_dict()
    for prefix, source in sources.items():
        if isinstance(source, SourceRun):
            own |= _load(own, prefix, source)
    model.load_state_dict(own)


def _load(own: Mapping[str, Tensor], prefix: str, source: SourceRun) -> dict[str, Tensor]:
    """The tensors for all of the model's names that begin with the prefix."""
    source_prefix = prefix if source.prefix is None else source.prefix
    names = {name: source_prefix + name.removeprefix(prefix) for name in own if name.startswith(prefix)}
    if not names:
        raise RecipeError(
            f"the model has no parameters that begin with {prefix!r}",
            expected=f"a prefix such as {' or '.join(sorted({_first_part(name) for name in own}))}",
            hint="correct `init_from` in the recipe",
        )
    path = _open(source).path / "weights.safetensors"
    theirs = read_weights(path)
    if source.checksum not in ("", checksum(theirs)):
        raise RunError(
            "its weights have changed since this training was started",
            expected=f"those with the checksum {source.checksum[:12]}...",
            hint="start a new run from them",
            where=path,
        )
    missing = [name for name in names.values() if name not in theirs]
    if missing:
        raise RunError(
            f"{len(missing)} of the {len(names)} parameters are not in the file, {missing[0]} among them",
            expected=f"{source_prefix or 'the'}* for {prefix or 'the'}* here; the names in the file begin with "
            + ", ".join(sorted({_first_part(name) for name in theirs})),
            hint="correct `prefix` in the recipe, or give the two models the same backbone",
            where=path,
        )
    return _fit_all(own, theirs, names, source, path)


def _fit_all(
    own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], names: Mapping[str, str], source: SourceRun, path: object
) -> dict[str, Tensor]:
    """The tensors of a source by the model's names, if their shapes match."""
    fitted = {
        name: _fit_channels(theirs[other], own[name]) if source.average_channels else theirs[other]
        for name, other in names.items()
    }
    for name, tensor in fitted.items():
        if tensor.shape != own[name].shape:
            raise RunError(
                f"{names[name]} is {_shape(theirs[names[name]])} in the file, and {name} is {_shape(own[name])} here",
                expected="equal shapes",
                hint="give the two models the same backbone and data of as many channels, or set "
                "`average_channels = true` where only the channels of the first convolution differ",
                where=str(path),
            )
    return fitted


def _fit_channels(theirs: Tensor, ours: Tensor) -> Tensor:
    """The filters of a convolution with another number of input channels: each takes the mean over theirs."""
    if ours.ndim != 4 or theirs.shape == ours.shape:
        return theirs
    return theirs.mean(1, keepdim=True).expand(-1, ours.shape[1], -1, -1)


def _resolve_all(sources: Mapping[str, Source]) -> dict[str, Source]:
    return {prefix: _resolve(source) if isinstance(source, SourceRun) else source for prefix, source in sources.items()}


def _resolve(source: SourceRun) -> SourceRun:
    if source.checksum:
        return source
    folder = _open(source)
    weights = read_weights(folder.path / "weights.safetensors")
    return source.model_copy(update={"run": folder.path.resolve(), "checksum": checksum(weights)})


def _open(source: SourceRun) -> RunFolder:
    folder = RunFolder.open(source.run)
    if not folder.finished:
        raise RunError(
            "its training has not ended",
            expected="a finished run to start from",
            hint=f"resume it: `muybridge train --run {folder.path} --resume`",
            where=folder.path,
        )
    return folder


def _first_part(name: str) -> str:
    """The first part of a name, with its dot."""
    return name.partition(".")[0] + "."


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))
