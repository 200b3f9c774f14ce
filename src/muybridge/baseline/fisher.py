"""Fisher vectors of hand-crafted motion as a baseline of videos: what movement tells without learning to see."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from muybridge.core.types import Clip
from muybridge.data.prepare import ClipPreparation, FlowSource, ViewConfig
from muybridge.models.fisher_vectors import FisherVectorsConfig

MAX_VIDEOS = 2000
"""Of larger data sets the Fisher vectors are left out, as their descriptors would fill the memory."""

CONFIG = FisherVectorsConfig()

_BATCH = 16


def has_optical_flow() -> bool:
    """Whether OpenCV is installed."""
    return find_spec("cv2") is not None


def motion_preparation() -> ClipPreparation:
    """Reads frames that are spread evenly over a whole video, and the flow between them."""
    view = ViewConfig(mode="uniform", short_side=CONFIG.size)
    return ClipPreparation(CONFIG.takes(), view, flow=FlowSource(between="frames read"))


def fisher_features(
    motion: Sequence[Mapping[str, Clip]], prepare: ClipPreparation, training: int
) -> Float32[np.ndarray, "N V"]:
    """Fisher vectors of recordings, with mixtures fitted to the first ``training`` of them.

    Args:
        motion: what ``prepare`` read of each.
        prepare: from :func:`motion_preparation`.
        training: how many belong to the training part.

    Raises:
        RecipeError: they have too few blocks to fit the mixtures to.
    """
    model = CONFIG.build(2)
    model.calibrate(_batches(motion[:training], prepare))
    return torch.cat([model.encode(**inputs) for inputs in _batches(motion, prepare)]).numpy()


def _batches(motion: Sequence[Mapping[str, Clip]], prepare: ClipPreparation) -> Iterator[dict[str, Tensor]]:
    for first in range(0, len(motion), _BATCH):
        prepared = [prepare.transform(clips)[0] for clips in motion[first : first + _BATCH]]
        yield {name: torch.cat([inputs[name] for inputs in prepared]) for name in prepared[0]}
