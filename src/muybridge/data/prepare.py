"""From an opened recording to the tensors that a model takes.

Legend: V views, T frames, C channels, S side of the crop, B samples, K classes.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Float32
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator
from torch import Tensor

from muybridge.core.contracts import ClipData, ClipInput, Holds, SkeletonData, SkeletonInput, Takes
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.types import Clip, SkeletonSequence
from muybridge.data.balance import Relabelling
from muybridge.data.clip_ops import (
    STREAMS,
    ClipAugment,
    CropConfig,
    Stream,
    augment_clips,
    eval_short_side,
    prepare_clip,
    prepare_views,
)
from muybridge.data.datasets.base import resolve_data_path
from muybridge.data.decoded import DecodedVideo
from muybridge.data.feature_store import StoredFrames
from muybridge.data.sampling import Mode, sample_indices
from muybridge.data.skeleton_augment import SkeletonAugment, augment_skeleton
from muybridge.data.skeleton_ops import prepare_skeleton
from muybridge.data.statistics import read_thumbnails, skeleton_statistics, statistics, thumbnail_streams
from muybridge.media.flow import BOUND, ComputedFlow, Flow, Method, flow_between
from muybridge.media.flow_store import StoredFlow, find_flow
from muybridge.media.video import Video

Recording = SkeletonSequence | Video | DecodedVideo | StoredFrames
"""What a data set, or a feature store made of one, opens; or what is cached of it in memory."""

Read = TypeVar("Read")

Sample = tuple[dict[str, Tensor], int]
"""A model's inputs for one recording, without batch axis, and its label."""


AUTO = Path("auto")
"""In place of the folder of a feature store."""


class ViewConfig(CropConfig):
    """Views of a video: which of its frames are read, and how many views are averaged in testing.

    Attributes:
        mode: "segments" divides the whole video into segments (TSN, TSM, SELFY, TDN); "dense" spreads the segments over
            a window of 64 frames, as for Kinetics; "clips" takes one window of the video;
            "uniform" spreads single frames evenly over the whole video, and "windows" the windows of consecutive frames
            of a model that takes such.
        clips: testing takes the video this many times, at places evenly spread in time; each with every crop, and
            probabilities averaged over all.
        stride: from one frame of a clip, or of a segment's window, to its next; consecutive frames are 1 apart. Flow is
            that from each of these frames to the very next of the video, whatever the stride, unless
            ``flow.between = "frames read"``.
        size: side of the crops of testing; 0 takes the model's. Networks of convolutions may be tested on larger crops
            than they were trained on.
        reverse: testing uses every view backwards too, and moves the score of each label to its reversal; needs a data
            set that defines reversed labels.
        features: a feature store that `muybridge features` made; training and testing read what the model's frozen CNN
            made of the frames from there, and the videos themselves are not opened. With "auto", a training makes one
            in the user's cache, or completes it.
    """

    mode: Mode = "segments"
    clips: int = Field(default=1, ge=1)
    stride: int = Field(default=1, ge=1)
    size: int = Field(default=0, ge=0)
    reverse: bool = False
    features: Path | None = None

    @property
    def makes_features(self) -> bool:
        """Whether a training makes its feature store."""
        return self.features == AUTO

    @property
    def crops_per_clip(self) -> int:
        """Crops of one clip in testing."""
        return {"center": 1, "three": 3, "ten": 10}[self.crops]

    @property
    def views(self) -> int:
        """Inputs that testing makes of one video; those of reversed clips come last."""
        return self.clips * self.crops_per_clip * (2 if self.reverse else 1)

    def resolved(self) -> "ViewConfig":
        """With an absolute path of the feature store, where one is given."""
        features = self.features.expanduser().resolve() if self.features and not self.makes_features else self.features
        return self.model_copy(update={"features": features})


class FlowSource(BaseModel):
    """The source of optical flow, for models that take it.

    Attributes:
        folder: what ``muybridge flow`` or another tool made of the recordings, by their ids. A relative path that does
            not exist is searched under the environment variable MUYBRIDGE_DATA. Without a folder, flow is computed
            whenever it is read.
        method: "dis" is dense inverse search; "tvl1" is TV-L1, the papers' choice, about a hundred times slower.
        bound: in pixels; larger motion is clipped to it. Models take flow as shares of it.
        between: "consecutive frames" of the video, at its own size and in its pixels; or the "frames read", which are
            those of a clip at the size that they are read at: much cheaper, it needs no folder, and the motion of a
            whole recording fits into a clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    folder: Path | None = None
    method: Method = "dis"
    bound: PositiveFloat = BOUND
    between: Literal["consecutive frames", "frames read"] = "consecutive frames"

    @model_validator(mode="after")
    def _check_folder(self) -> "FlowSource":
        if self.folder is not None and self.of_clips:
            raise ValueError(
                'folders hold flow between consecutive frames; leave folder or between = "frames read" out'
            )
        return self

    @property
    def of_clips(self) -> bool:
        """Whether flow is computed between the frames that are read."""
        return self.between == "frames read"

    def resolved(self) -> "FlowSource":
        """With an absolute folder, where one is given."""
        return self.model_copy(update={"folder": resolve_data_path(self.folder).resolve()}) if self.folder else self

    def of(self, video: Video, name: str | None) -> Flow:
        """The flow of a video: the stored one of the recording of this name, where there is a folder; else computed.

        Args:
            video: whose flow is meant; it stays open when the flow is closed.
            name: record id; a recording without one belongs to no data set, and has no stored flow.

        Raises:
            DataError: there is no flow of that name, or it belongs to another video or was made with other settings.
            MissingExtraError: OpenCV is needed and not installed.
        """
        if self.folder is None or name is None:
            return ComputedFlow(video.grayscale(), self.method, self.bound)
        return StoredFlow(find_flow(resolve_data_path(self.folder), name), video, bound=self.bound, method=self.method)


COMPUTED = FlowSource()


class Preparation(ABC, Generic[Read]):
    """Prepares a model's inputs from recordings, in two steps that can be timed separately."""

    __slots__ = ()

    def __call__(
        self, recording: Recording, label: int = -1, rng: torch.Generator | None = None, name: str | None = None
    ) -> Sample:
        """The model's inputs for one recording, and its label.

        Args:
            recording: what the data set, or a feature store made of it, opened.
            label: class index; mirroring may change it.
            rng: random generator of this sample, one view with random changes; None takes the fixed views of testing.
            name: record id, by which stored flow is found; without one flow is computed.
        """
        return self.transform(self.read(recording, rng, name), label, rng)

    @property
    @abstractmethod
    def views(self) -> int:
        """Inputs that testing makes of one recording."""

    @abstractmethod
    def read(self, recording: Recording, rng: torch.Generator | None = None, name: str | None = None) -> Read:
        """The first half of a call: the frames or joints that are used; other frames are not decoded."""

    @abstractmethod
    def transform(self, read: Read, label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The second half of a call: what was read as the model takes it, ``V`` views one after the other."""

    def relabelling(self) -> Relabelling:
        """The random changes of the label in training."""
        return ()

    def decoded_side(self) -> int | None:
        """The shorter side at which training may keep all frames of a short video; None where frames do not suffice."""
        return None

    def undo_reversal(self, scores: Float[Tensor, "B V K"]) -> Float[Tensor, "B V K"]:
        """The scores of each view of testing, those of reversed views moved to the original classes."""
        return scores

    def average_views(self, logits: Float[Tensor, "BV K"], multi_label: bool = False) -> Float32[Tensor, "B K"]:
        """Log-probabilities of each recording's classes from the scores of all its views.

        Probabilities, not scores, are averaged over the views, as TDN's and SELFY's tests do.

        Args:
            logits: the model's scores.
            multi_label: whether each class is there or not for itself, so that its probability is the sigmoid's.
        """
        scores = logits.float()
        scores = F.logsigmoid(scores) if multi_label else scores.log_softmax(1)
        rows = rearrange(scores, "(b v) k -> b v k", v=self.views)
        return self.undo_reversal(rows).logsumexp(1) - math.log(self.views)


@dataclass(frozen=True, slots=True)
class SkeletonPreparation(Preparation[SkeletonSequence]):
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
        """One: a recording of skeletons has a single view."""
        return 1

    def relabelling(self) -> Relabelling:
        """Mirroring, where it changes labels."""
        if self.augment is None or not self.mirror or not self.holds.layout.mirror:
            return ()
        return ((self.augment.mirror, self.mirror),)

    def read(
        self, recording: Recording, rng: torch.Generator | None = None, name: str | None = None
    ) -> SkeletonSequence:
        """The recording itself, which is in memory."""
        del rng, name
        assert isinstance(recording, SkeletonSequence)
        return recording

    def transform(self, read: SkeletonSequence, label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The second half of a call: changes and normalizes."""
        inputs: dict[str, Tensor] = {}
        if self.takes.statistics:
            inputs["statistics"] = skeleton_statistics(read, self.holds, self.takes.statistics)[None]
        if rng is not None and self.augment is not None:
            read, label = augment_skeleton(read, label, self.augment, self.holds, self.mirror, rng)
        if self.takes.positions:
            inputs["joints"] = prepare_skeleton(read, self.takes, self.holds)
        return inputs, label


@dataclass(frozen=True, slots=True)
class ClipPreparation(Preparation[dict[str, Clip]]):
    """Prepares what a model of clips takes from a video: ``video``, ``V T C S S``, a view after the other.

    For models that take it there is ``flow``, ``V T 2 S S``, beside it or in its place: of the same moments, cropped
    and mirrored alike. The last frame of a video, from which there is no flow, is then not used. For models that take
    them there are ``statistics``, ``V N``, the same for every view.

    Attributes:
        takes: the model's contract.
        view: which frames are read, and how often in testing.
        mirror: labels that change in a mirror; None where mirroring is forbidden.
        augment: random changes for training samples; None leaves their frames as in testing.
        flow: where flow comes from.
        reverse: labels that change when a recording is played backwards; None where that is forbidden.

    Raises:
        RecipeError: ten crops, of which five are mirrored, are asked for where a mirror changes a label; or clips are
            to be played backwards where that is forbidden, or where there is flow, which backwards is another one.
    """

    takes: ClipInput
    view: ViewConfig
    mirror: Mapping[int, int] | None = None
    augment: ClipAugment | None = None
    flow: FlowSource = COMPUTED
    reverse: Mapping[int, int] | None = None

    def __post_init__(self) -> None:
        if self.view.crops == "ten" and (self.mirror is None or self.mirror):
            raise RecipeError(
                'view.crops = "ten" mirrors half of the crops, and the data set '
                + ("forbids mirroring" if self.mirror is None else "has classes that a mirror changes"),
                expected="classes that a mirror leaves as they are",
                hint='take view.crops = "three", or set data.mirror_labels = [] where no class has a side',
            )
        backwards = self.view.reverse or (self.augment and self.augment.reverse)
        if backwards and (self.reverse is None or self.takes.flow):
            no_reversal = "the data set does not say what becomes of its classes"
            raise RecipeError(
                f"clips are to be played backwards, and {'the model takes flow' if self.takes.flow else no_reversal}",
                expected="a model of frames, and a data set whose classes are known backwards, such as moving_shapes",
                hint="leave view.reverse and augment.clip.reverse out, or set data.reverse_labels",
            )

    @property
    def views(self) -> int:
        """Inputs that testing makes of one video."""
        return self.view.views

    def read(
        self, recording: Recording, rng: torch.Generator | None = None, name: str | None = None
    ) -> dict[str, Clip]:
        """The first half of a call: chooses frames and decodes them; those of all testing clips are concatenated.

        There is the clip ``thumbnails`` beside them for a model that takes statistics.
        """
        assert isinstance(recording, Video | DecodedVideo)
        # All views at once, so that a frame in several of them is decoded once.
        keep = self.augment.temporal_crop if self.augment else 1.0
        numbers = frame_indices(self.usable(recording), self.takes, self.view, keep, rng)
        training = rng is not None
        count = 1 if training else self.view.clips
        clips: dict[str, Clip] = {**self._decode(recording, numbers, self.short_side(training), name, count)}
        if self.takes.statistics:
            clips["thumbnails"] = read_thumbnails(recording)
        return clips

    def relabelling(self) -> Relabelling:
        """Mirroring and reversing, where they change labels."""
        if self.augment is None:
            return ()
        flip = self.augment.flip if self.augment.flip_labels == "swap" else 0.0
        return (flip, self.mirror or {}), (self.augment.reverse, self.reverse or {})

    def decoded_side(self) -> int | None:
        """See :meth:`Preparation.decoded_side`; flow of a video is not computed from frames that were scaled down."""
        return None if self._reads_flow else self.short_side(training=True)

    def short_side(self, training: bool) -> int:
        """The shorter side at which frames are read for a sample of training, or of testing."""
        if training:
            return self._short_side(self.augment or self.view, self.takes.size)
        return self._short_side(self.view, self._test_input().size)

    def transform(self, read: Mapping[str, Clip], label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The second half of a call: crops, changes and normalizes."""
        streams: dict[Stream, Clip] = {name: read[name] for name in STREAMS if name in read}
        views: dict[str, Tensor] = {}
        if self.takes.statistics:
            values = thumbnail_streams(read["thumbnails"].pixels)[self.takes.statistics.of]
            views["statistics"] = statistics(values, self.takes.statistics.parts).expand(self._count(rng), -1)
        if rng is not None:
            if self.augment is None:
                inputs = {name: prepare_clip(clip, self.takes, self.view, name) for name, clip in streams.items()}
            elif streams:
                inputs, label = augment_clips(streams, label, self.augment, self.takes, self.mirror, rng, self.reverse)
            else:
                inputs = {}
            return views | {name: rearrange(clip, "t c h w -> 1 t c h w") for name, clip in inputs.items()}, label
        for name, clip in streams.items():
            clips = zip(clip.pixels.chunk(self.view.clips), clip.seconds.chunk(self.view.clips), strict=True)
            views[name] = torch.cat([prepare_views(Clip(*part), self._test_input(), self.view, name) for part in clips])
            if self.view.reverse:
                views[name] = torch.cat([views[name], views[name].flip(1)])
        return views, label

    def undo_reversal(self, scores: Float[Tensor, "B V K"]) -> Float[Tensor, "B V K"]:
        """See :meth:`Preparation.undo_reversal`; the score of class k in a reversed view is that of its reversal."""
        if not self.view.reverse:
            return scores
        assert self.reverse is not None
        forwards, backwards = scores.chunk(2, dim=1)
        reversed_labels = [self.reverse.get(label, label) for label in range(scores.shape[2])]
        return torch.cat([forwards, backwards[:, :, reversed_labels]], dim=1)

    def usable(self, recording: Video | DecodedVideo) -> int:
        """How many frames of a video can be used: a video of n frames has n - 1 flow fields between them.

        Raises:
            DataError: there is none.
        """
        if self._reads_flow and len(recording) < 2:
            raise DataError(
                "a video of a single frame has no optical flow",
                expected="two frames or more",
                hint="leave it out, or take a model that reads no flow",
                where=recording.path,
            )
        return len(recording) - self._reads_flow

    def frames(
        self, recording: Video | DecodedVideo, numbers: Sequence[int], name: str | None = None
    ) -> dict[str, Tensor]:
        """The frames with these numbers as testing sees their first crop, ``T C S S`` by the model's arguments."""
        takes = self._test_input()
        clips = self._decode(recording, numbers, self.short_side(training=False), name, 1)
        return {stream: prepare_clip(clip, takes, self.view, stream) for stream, clip in clips.items()}

    @property
    def _reads_flow(self) -> bool:
        """Whether there is flow that belongs to the frames of the video, whichever of them are read."""
        return self.takes.flow and not self.flow.of_clips

    def _decode(
        self, recording: Video | DecodedVideo, numbers: Sequence[int], short_side: int, name: str | None, count: int
    ) -> dict[Stream, Clip]:
        """The frames of ``count`` clips, and their flow."""
        clips: dict[Stream, Clip] = {}
        if self.takes.pixels or self.flow.of_clips:
            clips["video"] = recording.read(numbers, short_side)
        if self.takes.flow and self.flow.of_clips:
            views = clips["video"].pixels.chunk(count)
            flow = torch.cat([flow_between(pixels, self.flow.method, self.flow.bound) for pixels in views])
            clips["flow"] = Clip(flow, clips["video"].seconds)
        elif self.takes.flow:
            assert isinstance(recording, Video)
            with self.flow.of(recording, name) as flow:
                clips["flow"] = flow.read(numbers, short_side)
        if not self.takes.pixels:
            clips.pop("video", None)
        return clips

    def _count(self, rng: torch.Generator | None) -> int:
        """Views of a sample: one of a training sample."""
        return 1 if rng is not None else self.views

    def _test_input(self) -> ClipInput:
        """The contract with the size of test crops."""
        return replace(self.takes, size=self.view.size or self.takes.size)

    def _short_side(self, settings: CropConfig | ClipAugment, size: int) -> int:
        """The shorter side that frames are decoded at, where theirs is larger."""
        # Frames that are then resized to an exact size have both sides at least as long as it needs.
        return max(settings.resize) if settings.resize else settings.short_side or eval_short_side(size)


@dataclass(frozen=True, slots=True)
class FeaturePreparation(Preparation[dict[str, Tensor]]):
    """Reads the features of the frames that :class:`ClipPreparation` would have read.

    Attributes:
        takes: the model's contract.
        view: which frames are read, and how often in testing.
        keep: the smallest share of a training video that frames are chosen from, see :class:`ClipAugment`.
        window: consecutive frames of which each map is made; each window of frames then has the map of its first.
    """

    takes: ClipInput
    view: ViewConfig
    keep: float = 1.0
    window: int = 1

    @property
    def views(self) -> int:
        """Inputs that testing makes of one video."""
        return self.view.clips

    def read(
        self, recording: Recording, rng: torch.Generator | None = None, name: str | None = None
    ) -> dict[str, Tensor]:
        """The first half of a call: chooses frames and reads their maps; those of all views follow each other."""
        del name
        assert isinstance(recording, StoredFrames)
        frames = len(recording) + self.window - 1
        numbers = frame_indices(frames, self.takes, self.view, self.keep, rng)[:: self.window]
        return recording.read([min(number, len(recording) - 1) for number in numbers])

    def transform(self, read: dict[str, Tensor], label: int = -1, rng: torch.Generator | None = None) -> Sample:
        """The second half of a call: one view after the other."""
        views = self.views if rng is None else 1
        return {name: rearrange(maps, "(v t) d h w -> v t d h w", v=views) for name, maps in read.items()}, label


def frame_indices(
    frames: int, takes: ClipInput, view_config: ViewConfig, keep: float, rng: torch.Generator | None = None
) -> list[int]:
    """Which frames of a video are read: with ``rng`` for one view of a random part, else for all views of testing.

    Args:
        frames: of the video that can be used.
        takes: the model's contract.
        view_config: which frames are read, and how many views.
        keep: the smallest share of the video that a training sample is chosen from.
        rng: random generator of a training sample; None for testing.
    """
    mode, clips, stride = view_config.mode, view_config.clips, view_config.stride
    if rng is None:
        per_view = (sample_indices(frames, takes, mode, view=view, views=clips, stride=stride) for view in range(clips))
        return [number for numbers in per_view for number in numbers]
    start, length = random_temporal_crop(frames, keep, rng)
    return [start + number for number in sample_indices(length, takes, mode, rng, stride=stride)]


def random_temporal_crop(frames: int, keep: float, rng: torch.Generator) -> tuple[int, int]:
    """First frame and length of a random part of a video of ``frames``; ``keep`` is the smallest share."""
    if keep == 1:
        return 0, frames
    share, position = torch.rand(2, generator=rng).tolist()
    length = max(1, round(frames * (keep + (1 - keep) * share)))
    return int(position * (frames - length + 1)), length


def preparation(
    takes: Takes,
    holds: Holds,
    view_config: ViewConfig,
    mirror: Mapping[int, int] | None,
    augment: SkeletonAugment | ClipAugment | None = None,
    flow: FlowSource = COMPUTED,
    reverse: Mapping[int, int] | None = None,
) -> SkeletonPreparation | ClipPreparation:
    """Prepares exactly what a model takes from what a data set holds; training, testing and predicting share it."""
    if isinstance(takes, SkeletonInput):
        assert isinstance(holds, SkeletonData)
        assert augment is None or isinstance(augment, SkeletonAugment)
        return SkeletonPreparation(takes, holds, mirror, augment)
    assert isinstance(holds, ClipData)
    assert augment is None or isinstance(augment, ClipAugment)
    return ClipPreparation(takes, view_config, mirror, augment, flow, reverse)


def collate_inputs(samples: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Samples as one batch.

    ``joints`` of different length are zero-padded at the end, and ``length`` says how many frames are valid; the views
    of a video are consecutive, those of the first sample first.
    """
    alike = {name: torch.cat([sample[name] for sample in samples]) for name in samples[0] if name != "joints"}
    if "joints" not in samples[0]:
        return alike
    joints = [sample["joints"] for sample in samples]
    return alike | {
        "joints": torch.nn.utils.rnn.pad_sequence(joints, batch_first=True),
        "length": torch.tensor([len(sequence) for sequence in joints]),
    }
