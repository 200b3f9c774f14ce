"""Weights learnt on validation: the temperature of scores, and the share of each model in a mean of probabilities.

Legend: N recordings, K classes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

TEMPERATURES = torch.logspace(-1.7, 0.7, 49)
WEIGHTS = torch.linspace(0.05, 0.95, 19)


@dataclass(frozen=True, slots=True)
class Mixture:
    """How a network and a linear model are fused.

    Attributes:
        weight: share of the linear model.
        temperature: of the network's scores.
        top1: accuracy of the mean in percent, on the recordings that it was learnt on.
        loss: mean cross-entropy there.
    """

    weight: float
    temperature: float
    top1: float
    loss: float


def best_temperature(scores: Float[Tensor, "N K"], labels: Int64[Tensor, " N"]) -> float:
    """The temperature with the lowest cross-entropy."""
    losses = torch.stack([F.cross_entropy(scores.float() / value, labels) for value in TEMPERATURES])
    return round(float(TEMPERATURES[losses.argmin()]), 4)


def learn_mixture(network: Float[Tensor, "N K"], linear: Float[Tensor, "N K"], labels: Int64[Tensor, " N"]) -> Mixture:
    """The share of the linear model with the lowest cross-entropy.

    Args:
        network: scores of the network.
        linear: scores of the linear model, over its temperature.
        labels: the true classes.
    """
    temperature = best_temperature(network, labels)
    first, second = (network.float() / temperature).softmax(1), linear.float().softmax(1)
    means = [(1 - weight) * first + weight * second for weight in WEIGHTS]
    losses = torch.stack([F.nll_loss(mean.log(), labels) for mean in means])
    best = int(losses.argmin())
    return Mixture(round(float(WEIGHTS[best]), 2), temperature, accuracy(means[best], labels), float(losses[best]))


def accuracy(scores: Float[Tensor, "N K"], labels: Int64[Tensor, " N"]) -> float:
    """Top-1 in percent."""
    return 100 * float((scores.argmax(1) == labels).float().mean())
