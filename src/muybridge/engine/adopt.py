"""Taking over the parameters that the authors released."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from muybridge.core.errors import RunError

_SHOWN = 5


@runtime_checkable
class Adopting(Protocol):
    """A model that knows the authors' names for its parameters."""

    def from_authors(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The authors' state under our names; refuses another network's in words."""
        ...


def adopt(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Loads a state dict of the authors' own code into a model.

    Args:
        model: built with the checkpoint's depth, classes, segments and window.
        state_dict: the authors' names and tensors, with or without ``module.`` in front; a whole released
            checkpoint, which keeps them under ``state_dict``, will do.

    Raises:
        RunError: the model has no released checkpoints; the state belongs to another depth, class count or window;
            something is missing, left over or of another shape.
    """
    if not isinstance(model, Adopting):
        raise RunError(
            f"{type(model).__name__} has no released checkpoints to adopt",
            expected="a TSN, SELFYNet or TDN",
            cure="load a run folder of your own training instead",
        )
    inner = state_dict.get("state_dict", state_dict)
    assert isinstance(inner, Mapping)
    state = model.from_authors({key.removeprefix("module."): value for key, value in inner.items()})
    own = model.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or extra:
        raise RunError(
            "; ".join([*_list("missing", missing), *_list("left over", extra)]),
            expected=f"exactly the parameters of {type(model).__name__} as it was built",
            cure="build the model with the options that the checkpoint was trained with",
        )
    for key, value in state.items():
        if value.shape != own[key].shape:
            raise RunError(
                f"{key} has shape {tuple(value.shape)}",
                expected=f"{tuple(own[key].shape)}",
                cure="build the model with the options that the checkpoint was trained with",
            )
    model.load_state_dict(state)


def _list(what: str, keys: list[str]) -> list[str]:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return [f"{what}: {', '.join(keys[:_SHOWN])}{more}"] if keys else []
