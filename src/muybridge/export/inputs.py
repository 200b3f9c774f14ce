"""Inputs of a model to trace and to check it with: from recordings of the run, or generated where there are none.

Legend: T frames, C channels, S side of the crop, P people, J joints, D coordinates.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from muybridge.core.contracts import ClipData, Holds, Takes
from muybridge.core.errors import MuybridgeError
from muybridge.core.types import FailedSample
from muybridge.data.datasets.base import Split
from muybridge.data.loader import SampleDataset
from muybridge.data.prepare import ClipPreparation, Preparation, SkeletonPreparation
from muybridge.recipe import Recipe

Inputs = dict[str, Tensor]


def recorded_inputs(recipe: Recipe, split: Split, count: int) -> list[Inputs]:
    """The first view of recordings that are evenly spread over a split; fewer where some cannot be read.

    Args:
        recipe: of the run.
        split: the part of the data.
        count: how many at most.

    Raises:
        MuybridgeError: the data set is not there, or a package that reads it.
    """
    samples = SampleDataset(recipe.data.index(split).records, recipe.data, recipe.preparation(), recipe.train.seed)
    places = np.unique(np.linspace(0, len(samples) - 1, min(count, len(samples))).round().astype(int))
    found = (samples[-1, place] for place in places.tolist())
    return [_first_view(sample[0]) for sample in found if not isinstance(sample, FailedSample)]


def inputs_to_check(recipe: Recipe, count: int) -> tuple[list[Inputs], str]:
    """So many inputs, of recordings of the training part if they can be read, and what they are in words."""
    try:
        recorded = recorded_inputs(recipe, "train", count)
    except MuybridgeError:  # the data is not here, or OpenCV, which computes flow, is not
        recorded = []
    if not recorded:
        return generated_inputs(recipe, range(5, 5 + count)), "generated inputs, since no recording can be read"
    number = len(recorded)
    words = f"{number} recording{'' if number == 1 else 's'} of train"
    return [recorded[place % number] for place in range(count)], words


def generated_inputs(recipe: Recipe, lengths: Sequence[int]) -> list[Inputs]:
    """Random inputs of the right shapes: noise as video, people whose joints drift as skeletons of these lengths."""
    prepare, rng = recipe.preparation(), torch.Generator().manual_seed(0)
    return [_generated(prepare, recipe, length, rng) for length in lengths]


def _generated(prepare: Preparation, recipe: Recipe, length: int, rng: torch.Generator) -> Inputs:
    if isinstance(prepare, SkeletonPreparation):
        holds = prepare.holds
        shape = (holds.people, len(holds.layout), holds.coordinates + prepare.takes.confidence)
        drift = 0.05 * torch.randn(length, *shape, generator=rng).cumsum(0)
        joints = {"joints": torch.randn(1, *shape, generator=rng) + drift} if prepare.takes.positions else {}
        return joints | _statistics(prepare.takes, holds, rng)
    assert isinstance(prepare, ClipPreparation)
    takes, holds = prepare.takes, recipe.data.holds()
    assert isinstance(holds, ClipData)
    size = prepare.view.size or takes.size
    channels = ({"video": holds.channels} if takes.pixels else {}) | ({"flow": 2} if takes.flow else {})
    frames = takes.segments * takes.frames_per_segment
    clips = {name: torch.randn(1, frames, depth, size, size, generator=rng) for name, depth in channels.items()}
    return clips | _statistics(takes, holds, rng)


def _statistics(takes: Takes, holds: Holds, rng: torch.Generator) -> Inputs:
    """Random statistics of a recording, for a model that takes them."""
    size = takes.statistics.size(holds) if takes.statistics else 0
    return {"statistics": torch.randn(1, size, generator=rng)} if size else {}


def _first_view(inputs: Inputs) -> Inputs:
    """Skeletons have a single view; the views of a video are stacked along the first axis."""
    return inputs if "joints" in inputs else {name: value[:1] for name, value in inputs.items()}
