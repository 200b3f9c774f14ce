"""Optimizers and learning rate schedules from the settings of a recipe."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from muybridge.core.errors import RecipeError
from muybridge.recipe import SGD, Adam, AdamW, AnyOptimizer, ParameterGroup, RMSprop, Schedule

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def build_optimizer(
    config: AnyOptimizer, model: nn.Module, groups: Sequence[ParameterGroup] = (), fused: bool | None = None
) -> Optimizer:
    """The torch optimizer that the recipe names, over the parameters that require gradients.

    Args:
        config: ``train.optimizer`` of the recipe.
        model: with the parameters.
        groups: see :func:`parameter_groups`.
        fused: update all parameters in one pass over memory, where the optimizer can; None leaves it to torch.

    Raises:
        RecipeError: no parameter belongs to one of the groups.
    """
    parameters = parameter_groups(model, groups, config.weight_decay)
    match config:
        case SGD():
            return torch.optim.SGD(
                parameters,
                config.lr,
                config.momentum,
                weight_decay=config.weight_decay,
                nesterov=config.nesterov,
                fused=fused,
            )
        case Adam() | AdamW():
            kind = torch.optim.AdamW if isinstance(config, AdamW) else torch.optim.Adam
            return kind(parameters, config.lr, config.betas, weight_decay=config.weight_decay, fused=fused)
        case RMSprop():
            return torch.optim.RMSprop(
                parameters, config.lr, alpha=config.alpha, eps=config.eps, weight_decay=config.weight_decay
            )


def parameter_groups(model: nn.Module, groups: Sequence[ParameterGroup], weight_decay: float) -> list[dict[str, Any]]:
    """The parameters that require gradients, by the first group that each matches, as torch's optimizers take them.

    ``lr_mult`` is the factor of the learning rate of a group.

    Raises:
        RecipeError: no parameter belongs to one of the groups.
    """
    norms = {
        id(parameter) for module in model.modules() if isinstance(module, _NORMS) for parameter in module.parameters()
    }

    def matches(name: str, parameter: nn.Parameter, group: ParameterGroup) -> bool:
        if group.match == "norm":
            return id(parameter) in norms
        if group.match == "bias":
            return name.endswith("bias") and id(parameter) not in norms
        return name.startswith(group.match)

    rest = ParameterGroup(match="")
    members: dict[ParameterGroup, list[nn.Parameter]] = defaultdict(list)
    used: set[ParameterGroup] = set()
    for name, parameter in model.named_parameters():
        group = next((group for group in groups if matches(name, parameter, group)), rest)
        used.add(group)
        if parameter.requires_grad:
            members[group].append(parameter)
    if unused := [group.match for group in groups if group not in used]:
        raise RecipeError(
            f"train.param_groups matches {unused[0]!r}, and no parameter belongs to it",
            expected=f'"norm", "bias", or the beginning of a name such as {next(iter(model.state_dict()))}',
            hint="correct train.param_groups; a parameter belongs to the first group that matches",
        )
    return [
        {"params": members[group], "weight_decay": weight_decay * group.decay_mult, "lr_mult": group.lr_mult}
        for group in (*groups, rest)
        if group in members
    ]


def rate_factor(schedule: Schedule, epoch: float, epochs: float) -> float:
    """The factor of the learning rate, a pure function of the position, so that resuming needs no scheduler state.

    Args:
        schedule: ``train.schedule`` of the recipe.
        epoch: position in epochs, with fraction.
        epochs: length of the training in epochs.
    """
    if epoch < schedule.warmup_epochs:
        return max(epoch, 1e-3) / schedule.warmup_epochs
    match schedule.name:
        case "constant":
            return 1.0
        case "step":
            return schedule.gamma ** sum(epoch >= milestone for milestone in schedule.milestones)
        case "cosine":
            progress = (epoch - schedule.warmup_epochs) / max(epochs - schedule.warmup_epochs, 1e-9)
            cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
            return schedule.min_factor + (1 - schedule.min_factor) * cosine
