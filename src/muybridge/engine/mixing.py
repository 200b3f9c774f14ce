"""Mixup and CutMix: clips blended with others of their batch, and their labels alike.

Legend: B clips, T frames, H and W pixels, K classes.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor


def mix(
    inputs: Mapping[str, Float[Tensor, "B T _ H W"]],
    labels: Int64[Tensor, " B"] | Float32[Tensor, "B K"],
    num_classes: int,
    rng: torch.Generator,
    *,
    mixup: float = 0.0,
    cutmix: float = 0.0,
) -> tuple[dict[str, Float[Tensor, "B T _ H W"]], Float[Tensor, "B K"]]:
    """Each clip blended with its partner, with one draw for the batch, frames and flow alike.

    The partners are the batch in reverse order; the middle clip of an odd number, or a single clip, is its own.

    Args:
        inputs: the clips: their frames, flow, or both.
        labels: class indices, or which classes are there.
        num_classes: K.
        rng: random generator of the batch.
        mixup: alpha of the Beta distribution of shares (Zhang et al., ICLR 2018); 0 blends nothing.
        cutmix: alpha of that of areas (Yun et al., ICCV 2019); with both, one of the two is drawn.
    """
    ((height, width),) = {clips.shape[-2:] for clips in inputs.values()}
    one_hot = labels if labels.ndim == 2 else F.one_hot(labels, num_classes)
    one_hot = one_hot.to(next(iter(inputs.values())).dtype)
    use_cutmix = cutmix > 0 and (mixup == 0 or bool(torch.rand((), generator=rng) < 0.5))
    share = _draw_beta(cutmix if use_cutmix else mixup, rng)
    if use_cutmix:
        rows, columns = (_draw_span(side, math.sqrt(1 - share), rng) for side in (height, width))
        mixed = {name: clips.clone() for name, clips in inputs.items()}
        for name, clips in inputs.items():
            mixed[name][..., rows, columns] = clips.flip(0)[..., rows, columns]
        share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    else:
        mixed = {name: clips.flip(0).lerp(clips, share) for name, clips in inputs.items()}
    return mixed, one_hot.flip(0).lerp(one_hot, share)


def _draw_beta(alpha: float, rng: torch.Generator) -> float:
    """A sample of Beta(alpha, alpha)."""
    seed = int(torch.randint(2**63 - 1, (), generator=rng))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _draw_span(side: int, share: float, rng: torch.Generator) -> slice:
    """A span of about ``share`` of a side about a random middle, clipped to the side."""
    middle = int(torch.randint(side, (), generator=rng))
    half = side * share / 2
    return slice(max(0, round(middle - half)), min(side, round(middle + half)))
