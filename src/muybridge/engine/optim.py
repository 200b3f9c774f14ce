"""Optimizers and learning rates from the recipe's nouns."""

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from muybridge.recipe import SGD, Adam, AnyOptimizer, RMSprop, Schedule


def build_optimizer(knobs: AnyOptimizer, parameters: Iterable[Parameter]) -> Optimizer:
    """The torch optimizer that the recipe names."""
    match knobs:
        case SGD():
            return torch.optim.SGD(
                parameters, knobs.lr, knobs.momentum, weight_decay=knobs.weight_decay, nesterov=knobs.nesterov
            )
        case Adam():
            kind = torch.optim.AdamW if knobs.decoupled else torch.optim.Adam
            return kind(parameters, knobs.lr, knobs.betas, weight_decay=knobs.weight_decay)
        case RMSprop():
            return torch.optim.RMSprop(
                parameters, knobs.lr, alpha=knobs.alpha, eps=knobs.eps, weight_decay=knobs.weight_decay
            )


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
