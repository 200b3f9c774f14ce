"""Parameters that a training takes over from other runs, by how their names begin."""

from collections.abc import Mapping

from torch import Tensor, nn

from muybridge.core.errors import RecipeError, RunError
from muybridge.engine.checkpoint import RunFolder, checksum, read_weights
from muybridge.recipe import Recipe, SourceRun

Source = str | SourceRun
"""An earlier stage, by its name, or another run."""


def with_checksums(recipe: Recipe) -> Recipe:
    """The recipe with the folder and the checksum of each run that it starts from written out.

    Raises:
        RunError: there is no such run, or its training has not ended.
    """
    train = recipe.train
    stages = tuple(stage.model_copy(update={"init_from": _pinned(stage.init_from)}) for stage in train.stages)
    return recipe.model_copy(
        update={"train": train.model_copy(update={"init_from": _pinned(train.init_from), "stages": stages})}
    )


def load_parameters_from(model: nn.Module, take: Mapping[str, Source]) -> None:
    """Put the parameters of other runs into a model; what comes from earlier stages is not looked at.

    Args:
        model: its parameters that begin with a prefix are replaced, every one of them.
        take: the sources by prefix.

    Raises:
        RecipeError: the model has no parameters that begin with a prefix.
        RunError: there is no such run, its weights have changed, or lack parameters or have others of other shapes.
    """
    own = model.state_dict()
    for prefix, source in take.items():
        if isinstance(source, SourceRun):
            own |= _found(own, prefix, source)
    model.load_state_dict(own)


def _found(own: Mapping[str, Tensor], prefix: str, source: SourceRun) -> dict[str, Tensor]:
    """The tensors for all of the model's names that begin with the prefix."""
    there = prefix if source.prefix is None else source.prefix
    names = {name: there + name.removeprefix(prefix) for name in own if name.startswith(prefix)}
    if not names:
        raise RecipeError(
            f"the model has no parameters that begin with {prefix!r}",
            expected=f"a prefix such as {' or '.join(sorted({_head(name) for name in own}))}",
            hint="correct `take` in the recipe",
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
            f"{len(missing)} of the {len(names)} parameters to be taken are not there, {missing[0]} among them",
            expected=f"{there or 'the'}* for {prefix or 'the'}* here; what is there begins with "
            + ", ".join(sorted({_head(name) for name in theirs})),
            hint="correct `prefix` in the recipe, or give the two models the same backbone",
            where=path,
        )
    fitted = {
        name: _fitted(theirs[other], own[name], average_channels=source.average_channels)
        for name, other in names.items()
    }
    differ = [name for name, one in fitted.items() if one.shape != own[name].shape]
    if differ:
        name = differ[0]
        raise RunError(
            f"{names[name]} is {_shape(theirs[names[name]])} there, and {name} is {_shape(own[name])} here",
            expected="equal shapes",
            hint="give the two models the same backbone and data of as many channels, or set `average_channels = true` "
            "where only the channels of the first convolution differ",
            where=path,
        )
    return fitted


def _fitted(theirs: Tensor, ours: Tensor, *, average_channels: bool) -> Tensor:
    """Filters over other channels, refitted if they may be: each channel takes the mean over theirs."""
    if not average_channels or ours.ndim != 4 or theirs.shape == ours.shape:
        return theirs
    return theirs.mean(1, keepdim=True).expand(-1, ours.shape[1], -1, -1)


def _pinned(take: Mapping[str, Source]) -> dict[str, Source]:
    return {prefix: _pin(source) if isinstance(source, SourceRun) else source for prefix, source in take.items()}


def _pin(source: SourceRun) -> SourceRun:
    if source.checksum:
        return source
    folder = _open(source)
    weights = read_weights(folder.path / "weights.safetensors")
    return source.model_copy(update={"run": folder.path.resolve(), "checksum": checksum(weights)})


def _open(source: SourceRun) -> RunFolder:
    folder = RunFolder.open(source.run.expanduser())
    if not folder.finished:
        raise RunError(
            "its training has not ended",
            expected="a finished run to start from",
            hint=f"go on with it: `muybridge train --run {folder.path} --resume`",
            where=folder.path,
        )
    return folder


def _head(name: str) -> str:
    """The first word of a name, with its dot."""
    return name.partition(".")[0] + "."


def _shape(one: Tensor) -> str:
    return "x".join(map(str, one.shape))
