"""From an opened recording to the tensors that a model's contract asks for.

Legend: V views, T frames, C channels, S side of the crop, B samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import rearrange
from pydantic import Field
from torch import Tensor

from muybridge.core.contracts import ClipData, ClipInput, Holds, SkeletonData, SkeletonInput, Takes
from muybridge.core.errors import RecipeError
from muybridge.core.types import Clip, SkeletonSequence
from muybridge.data.clip_ops import (
    ClipAugment,
    Framing,
    augment_clip,
    eval_short_side,
    prepare_clip,
    prepare_views,
)
from muybridge.data.feature_store import StoredFrames
from muybridge.data.sampling import Mode, choose
from muybridge.data.skeleton_augment import SkeletonAugment, augment_skeleton
from muybridge.data.skeleton_ops import prepare_skeleton
from muybridge.media.video import Video

Recording = SkeletonSequence | Video | StoredFrames
"""What a data set, or a feature store made of one, opens."""

Sample = tuple[dict[str, Tensor], int]
"""A model's inputs for one recording, without batch axis, and its label."""


class Viewing(Framing):
    """How a video is looked at: which of its frames are read, and in testing how often.

    Attributes:
        mode: "segments" cuts the whole video into pieces (TSN, TSM, SELFY, TDN); "dense" spreads the segments over a
            window of 64 frames, as for Kinetics; "clips" takes consecutive frames.
        clips: testing takes the video this many times, at places evenly spread in time; each with every crop, and
            probabilities averaged over all.
        size: side of the crops of testing; 0 takes the model's. Networks of convolutions may look at more than they
            were trained on.
        features: a feature store that `muybridge features` made; training and testing read what the model's frozen CNN
            made of the frames from there, and the videos themselves are not opened.
    """

    mode: Mode = "segments"
    clips: int = Field(default=1, ge=1)
    size: int = Field(default=0, ge=0)
    features: Path | None = None

    @property
    def views(self) -> int:
        """Inputs that testing makes of one video."""
        return self.clips * {"centre": 1, "three": 3, "ten": 10}[self.crops]


@dataclass(frozen=True, slots=True)
class SkeletonPreparation:
    """Prepares what a model of skeletons takes from what the data set holds.

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

    @property
    def views(self) -> int:
        """A recording of skeletons is looked at once."""
        return 1

    def __call__(self, recording: Recording, label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The model's inputs for one recording, and its label.

        Args:
            recording: what the data set opened.
            label: class index; mirroring may change it.
            rng: the dice of this sample; None prepares without augmentation.
        """
        return self.transform(self.read(recording, rng), label, rng)

    def read(self, recording: Recording, rng: torch.Generator | None = None) -> SkeletonSequence:
        """The recording, which is in memory already."""
        del rng
        assert isinstance(recording, SkeletonSequence)
        return recording

    def transform(self, recording: SkeletonSequence, label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The second half of a call: changes and normalises."""
        if rng is not None and self.augment is not None:
            recording, label = augment_skeleton(recording, label, self.augment, self.holds, self.mirror, rng)
        return {"joints": prepare_skeleton(recording, self.takes, self.holds)}, label


@dataclass(frozen=True, slots=True)
class ClipPreparation:
    """Prepares what a model of clips takes from a video: ``video``, ``V T C S S``, a view after the other.

    Attributes:
        takes: the model's contract.
        viewing: which frames are read, and how often in testing.
        mirror: labels that change in a mirror; None where mirroring is forbidden.
        augment: random changes for training samples; None leaves their frames as in testing.

    Raises:
        RecipeError: ten crops, of which five are mirrored, are asked for where a mirror changes a label.
    """

    takes: ClipInput
    viewing: Viewing
    mirror: Mapping[int, int] | None = None
    augment: ClipAugment | None = None

    def __post_init__(self) -> None:
        if self.viewing.crops == "ten" and (self.mirror is None or self.mirror):
            raise RecipeError(
                'view.crops = "ten" mirrors half of the crops, and the data set '
                + ("forbids mirroring" if self.mirror is None else "has classes that a mirror changes"),
                expected="classes that a mirror leaves as they are",
                cure='take view.crops = "three", or set data.mirror_labels = [] where no class has a side',
            )

    @property
    def views(self) -> int:
        """Inputs that testing makes of one video."""
        return self.viewing.views

    def __call__(self, recording: Recording, label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The model's inputs for one video, and its label; only the frames that are needed are decoded.

        Args:
            recording: what the data set opened.
            label: class index; mirroring may change it.
            rng: the dice of this sample, one view of randomly chosen frames; None takes the fixed views of testing.
        """
        return self.transform(self.read(recording, rng), label, rng)

    def read(self, recording: Recording, rng: torch.Generator | None = None) -> Clip:
        """The first half of a call: chooses frames and decodes them; those of all testing clips follow each other."""
        assert isinstance(recording, Video)
        mode, clips = self.viewing.mode, self.viewing.clips
        if rng is None:
            views = [choose(len(recording), self.takes, mode, view=view, views=clips) for view in range(clips)]
            # All at once, so that a frame in several views is decoded once.
            return recording.read(
                [number for view in views for number in view], self._short_side(self.viewing, self._tested().size)
            )
        if self.augment is None:
            numbers = choose(len(recording), self.takes, mode, rng)
            return recording.read(numbers, self._short_side(self.viewing, self.takes.size))
        shown = cropped_in_time(recording, self.augment.keep, rng)
        return shown.read(choose(len(shown), self.takes, mode, rng), self._short_side(self.augment, self.takes.size))

    def transform(self, clip: Clip, label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The second half of a call: crops, changes and normalises."""
        if rng is None:
            length = len(clip) // self.viewing.clips
            cuts = (slice(start, start + length) for start in range(0, len(clip), length))
            each = (Clip(clip.pixels[cut], clip.seconds[cut]) for cut in cuts)
            takes = self._tested()
            return {"video": torch.cat([prepare_views(one, takes, self.viewing) for one in each])}, label
        if self.augment is None:
            video = prepare_clip(clip, self.takes, self.viewing)
        else:
            video, label = augment_clip(clip, label, self.augment, self.takes, self.mirror, rng)
        return {"video": rearrange(video, "t c h w -> 1 t c h w")}, label

    def frames(self, recording: Video, numbers: Sequence[int]) -> dict[str, Tensor]:
        """The frames with these numbers as testing sees their first crop, ``T C S S``."""
        takes = self._tested()
        clip = recording.read(numbers, self._short_side(self.viewing, takes.size))
        return {"video": prepare_clip(clip, takes, self.viewing)}

    def _tested(self) -> ClipInput:
        """The contract with the size of test crops."""
        return replace(self.takes, size=self.viewing.size or self.takes.size)

    def _short_side(self, knobs: Framing | ClipAugment, size: int) -> int:
        """The shorter side that frames are decoded at, where theirs is larger."""
        # Frames that are then squashed to an exact size have both sides at least as long as it needs.
        return max(knobs.exact) if knobs.exact else knobs.short_side or eval_short_side(size)


@dataclass(frozen=True, slots=True)
class FeaturePreparation:
    """Reads what frozen CNNs made of the very frames that :class:`ClipPreparation` would have read.

    Attributes:
        takes: the model's contract.
        viewing: which frames are read, and how often in testing.
        keep: the smallest share of a training video that frames are chosen from, see :class:`ClipAugment`.
    """

    takes: ClipInput
    viewing: Viewing
    keep: float = 1.0

    @property
    def views(self) -> int:
        """Inputs that testing makes of one video."""
        return self.viewing.clips

    def __call__(self, recording: Recording, label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The maps of one recording, ``V T D h w`` by the model's arguments, and its label.

        Args:
            recording: what the feature store opened.
            label: class index.
            rng: the dice of this sample, one view of randomly chosen frames; None takes the fixed views of testing.
        """
        return self.transform(self.read(recording, rng), label, rng)

    def read(self, recording: Recording, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """The first half of a call: chooses frames and reads their maps; those of all views follow each other."""
        assert isinstance(recording, StoredFrames)
        mode, clips = self.viewing.mode, self.viewing.clips
        if rng is not None:
            start, kept = part_in_time(len(recording), self.keep, rng)
            return recording.read([start + number for number in choose(kept, self.takes, mode, rng)])
        views = [choose(len(recording), self.takes, mode, view=view, views=clips) for view in range(clips)]
        return recording.read([number for view in views for number in view])

    def transform(self, maps: dict[str, Tensor], label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The second half of a call: one view after the other."""
        views = self.views if rng is None else 1
        return {name: rearrange(one, "(v t) d h w -> v t d h w", v=views) for name, one in maps.items()}, label


def cropped_in_time(recording: Video, keep: float, rng: torch.Generator) -> Video:
    """A random part of a video, of its whole length down to the share ``keep`` of it."""
    start, kept = part_in_time(len(recording), keep, rng)
    return recording if kept == len(recording) else recording.part(start, start + kept)


def part_in_time(frames: int, keep: float, rng: torch.Generator) -> tuple[int, int]:
    """First frame and length of a random part of a video of ``frames``; ``keep`` is the smallest share."""
    if keep == 1:
        return 0, frames
    length, place = torch.rand(2, generator=rng).tolist()
    kept = max(1, round(frames * (keep + (1 - keep) * length)))
    return int(place * (frames - kept + 1)), kept


Preparation = SkeletonPreparation | ClipPreparation | FeaturePreparation


def preparation(
    takes: Takes,
    holds: Holds,
    viewing: Viewing,
    mirror: Mapping[int, int] | None,
    augment: SkeletonAugment | ClipAugment | None = None,
) -> Preparation:
    """Prepares exactly what a model takes from what a data set holds; training, testing and predicting share it."""
    if isinstance(takes, SkeletonInput):
        assert isinstance(holds, SkeletonData)
        assert augment is None or isinstance(augment, SkeletonAugment)
        return SkeletonPreparation(takes, holds, mirror, augment)
    assert isinstance(holds, ClipData)
    assert augment is None or isinstance(augment, ClipAugment)
    return ClipPreparation(takes, viewing, mirror, augment)


def stack(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Samples as one batch.

    ``joints`` of different length are zero-padded at the end, and ``length`` says how many frames are valid; the views
    of a video lie one after the other, those of the first sample first.
    """
    if "joints" not in samples[0]:
        return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}
    joints = [sample["joints"] for sample in samples]
    return {
        "joints": torch.nn.utils.rnn.pad_sequence(joints, batch_first=True),
        "length": torch.tensor([len(one) for one in joints]),
    }
