"""From an opened recording to the tensors that a model's contract asks for."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from muybridge.core.contracts import SkeletonData, SkeletonInput
from muybridge.core.types import SkeletonSequence
from muybridge.data.skeleton_augment import SkeletonAugment, augment_skeleton
from muybridge.data.skeleton_ops import prepare_skeleton


@dataclass(frozen=True, slots=True)
class Preparation:
    """Prepares exactly what the model takes from what the data set holds; training, testing and predicting share it.

    Attributes:
        takes: the model's contract.
        holds: the data set's contract.
        mirror: labels that change in a mirror; None where mirroring is forbidden.
        augment: random changes for training samples; None leaves samples as they are.
    """

    takes: SkeletonInput
    holds: SkeletonData
    mirror: Mapping[int, int] | None = None
    augment: SkeletonAugment | None = None

    def __call__(
        self, recording: SkeletonSequence, label: int = -1, rng: torch.Generator | None = None
    ) -> tuple[dict[str, Tensor], int]:
        """The model's inputs for one recording, without batch axis, and its label.

        Args:
            recording: what the data set opened.
            label: class index; mirroring may change it.
            rng: the dice of this sample; None prepares without augmentation.
        """
        if rng is not None and self.augment is not None:
            recording, label = augment_skeleton(recording, label, self.augment, self.holds, self.mirror, rng)
        return {"joints": prepare_skeleton(recording, self.takes, self.holds)}, label


def stack(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Samples of different length as one batch: ``joints`` zero-padded at the end, ``length`` the valid frames."""
    joints = [sample["joints"] for sample in samples]
    return {
        "joints": torch.nn.utils.rnn.pad_sequence(joints, batch_first=True),
        "length": torch.tensor([len(one) for one in joints]),
    }
