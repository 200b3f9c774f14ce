"""Clips blended with others of their batch, and their labels alike.

Legend: B clips, T frames, H and W pixels, K classes.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor


def mix(
    inputs: Mapping[str, Float[Tensor, "B T _ H W"]],
    labels: Int64[Tensor, " B"],
    num_classes: int,
    rng: torch.Generator,
    *,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> tuple[dict[str, Float[Tensor, "B T _ H W"]], Float[Tensor, "B K"]]:
    """Each clip blended with the one that stands opposite in the batch, with one draw for all, frames and flow alike.

    Args:
        inputs: the clips: their frames, flow, or both.
        labels: class indices.
        num_classes: K.
        rng: the dice.
        mixup: alpha of the Beta distribution of shares (Zhang et al., ICLR 2018); 0 blends nothing.
        cutmix: alpha of that of areas (Yun et al., ICCV 2019); with both, one of the two is drawn.
    """
    ((height, width),) = {one.shape[-2:] for one in inputs.values()}
    sure = F.one_hot(labels, num_classes).to(next(iter(inputs.values())).dtype)
    cuts = cutmix > 0 and (mixup == 0 or bool(torch.rand((), generator=rng) < 0.5))
    share = _beta(cutmix if cuts else mixup, rng)
    if cuts:
        rows, columns = (_span(side, math.sqrt(1 - share), rng) for side in (height, width))
        mixed = {name: one.clone() for name, one in inputs.items()}
        for name, one in inputs.items():
            mixed[name][..., rows, columns] = one.flip(0)[..., rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    else:
        mixed = {name: one.flip(0).lerp(one, share) for name, one in inputs.items()}
    # One clip alone, or the middle one of an odd number, stands opposite itself.
    return mixed, sure.flip(0).lerp(sure, share)


def _beta(alpha: float, rng: torch.Generator) -> float:
    """A throw from Beta(alpha, alpha)."""
    seed = int(torch.randint(2**63 - 1, (), generator=rng))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _span(side: int, share: float, rng: torch.Generator) -> slice:
    """A stretch of about ``share`` of a side about a random middle, cut off at the ends."""
    middle = int(torch.randint(side, (), generator=rng))
    half = side * share / 2
    return slice(max(0, round(middle - half)), min(side, round(middle + half)))
