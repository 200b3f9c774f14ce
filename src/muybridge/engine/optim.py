"""Optimizers and learning rates from the recipe's nouns."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from muybridge.core.errors import RecipeError
from muybridge.recipe import SGD, Adam, AnyOptimizer, ParameterGroup, RMSprop, Schedule

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def build_optimizer(
    knobs: AnyOptimizer, model: nn.Module, groups: Sequence[ParameterGroup] = (), fused: bool | None = None
) -> Optimizer:
    """The torch optimizer that the recipe names, over the parameters that learn; each group knows its ``scale``.

    Args:
        knobs: the recipe's noun.
        model: with the parameters.
        groups: see :func:`parameter_groups`.
        fused: make a step in one pass over memory, where the optimizer can; None leaves it to torch.

    Raises:
        RecipeError: a group that no parameter belongs to.
    """
    parameters = parameter_groups(model, groups, knobs.weight_decay)
    match knobs:
        case SGD():
            return torch.optim.SGD(
                parameters,
                knobs.lr,
                knobs.momentum,
                weight_decay=knobs.weight_decay,
                nesterov=knobs.nesterov,
                fused=fused,
            )
        case Adam():
            kind = torch.optim.AdamW if knobs.decoupled else torch.optim.Adam
            return kind(parameters, knobs.lr, knobs.betas, weight_decay=knobs.weight_decay, fused=fused)
        case RMSprop():
            return torch.optim.RMSprop(
                parameters, knobs.lr, alpha=knobs.alpha, eps=knobs.eps, weight_decay=knobs.weight_decay
            )


def parameter_groups(model: nn.Module, groups: Sequence[ParameterGroup], weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that learn, by the first of the groups that each belongs to, as torch's optimizers take them.

    ``scale`` is what the learning rate of the group is multiplied by.
    """
    norms = {id(one) for module in model.modules() if isinstance(module, _NORMS) for one in module.parameters()}

    def belongs(name: str, parameter: nn.Parameter, group: ParameterGroup) -> bool:
        if group.of == "norm":
            return id(parameter) in norms
        if group.of == "bias":
            return name.endswith("bias") and id(parameter) not in norms
        return name.startswith(group.of)

    rest = ParameterGroup(of="")
    members: dict[ParameterGroup, list[nn.Parameter]] = defaultdict(list)
    found: set[ParameterGroup] = set()
    for name, parameter in model.named_parameters():
        group = next((one for one in groups if belongs(name, parameter, one)), rest)
        found.add(group)
        if parameter.requires_grad:
            members[group].append(parameter)
    if idle := [one.of for one in groups if one not in found]:
        raise RecipeError(
            f"train.groups names {idle[0]!r}, and no parameter belongs to it",
            expected=f'"norm", "bias", or the beginning of a name such as {next(iter(model.state_dict()))}',
            hint="correct train.groups; the first group that fits a parameter takes it",
        )
    return [
        {"params": members[group], "weight_decay": weight_decay * group.weight_decay, "scale": group.lr}
        for group in (*groups, rest)
        if group in members
    ]


def rate_factor(schedule: Schedule, epoch: float, epochs: float) -> float:
    """What the learning rate is multiplied by, a pure function of the position, so that a resumed run needs no memory.

    Args:
        schedule: the recipe's noun.
        epoch: position in epochs, with fraction.
        epochs: length of the training in epochs.
    """
    if epoch < schedule.warmup_epochs:
        return max(epoch, 1e-3) / schedule.warmup_epochs
    match schedule.shape:
        case "constant":
            return 1.0
        case "step":
            return schedule.gamma ** sum(epoch >= milestone for milestone in schedule.milestones)
        case "cosine":
            done = (epoch - schedule.warmup_epochs) / max(epochs - schedule.warmup_epochs, 1e-9)
            return schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
