"""The data types on the way from a file to a prediction.

Legend: B batch, T frames, P people, J joints, D coordinates, C channels, H height, W width, K classes.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.core.skeletons import Layout

NONE_OF_THESE = "none of these"
"""The label of a recording whose highest probability is below the threshold."""


Span = tuple[float, float]
"""Start and end of a part of a recording, in seconds from the start of the file."""

OVERHANG = 0.5
"""Seconds by which a span may end after its recording: labels are rounded, and counted by other players."""

ROUNDING = 1e-3
"""Seconds by which a frame may be shown before the start of a span: times are often written with so few digits."""


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled entry of an index; refers to a recording, contains no data of it.

    Attributes:
        id: unique within its data set, and stable.
        path: the file or folder of frames.
        label: class index from 0; -1 if unknown.
        group: the person or source by which splits are made; empty if unknown.
        backwards: whether the video is played backwards.
        span: start and end in seconds of the part of the file that is the recording; None takes the whole file.
        labels: all its class indices, where recordings may have several, of which ``label`` is the first; else empty.
    """

    id: str
    path: Path
    label: int
    group: str = ""
    backwards: bool = False
    span: Span | None = None
    labels: tuple[int, ...] = ()

    @property
    def classes(self) -> tuple[int, ...]:
        """The class index, or all of them."""
        return self.labels or (self.label,)

    def label_text(self, names: Sequence[str]) -> str:
        """The name of the class; several are joined."""
        return join_labels(names[label] for label in self.classes)


@dataclass(frozen=True, slots=True)
class Clip:
    """Frames of one video in time order, with their presentation times in seconds."""

    pixels: UInt8[Tensor, "T C H W"]
    seconds: Float[Tensor, " T"]

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def __repr__(self) -> str:
        return f"Clip(pixels={tuple(self.pixels.shape)}, seconds={_span(self.seconds)})"


@dataclass(frozen=True, slots=True)
class SkeletonSequence:
    """Joint positions of the people in one recording, in time order.

    Attributes:
        joints: positions in the unit of the recording (meters for Kinect); zeros where a person is absent.
        present: False where a person is absent in a frame.
        scores: how sure the pose estimator was of each joint; 0 where its position is interpolated, or the person
            absent. None where the file does not say it.
        filled: how many joints of present people the file lacks; the reader interpolated them.
        layout: what the joints are, where the file says it; None where it does not.
    """

    joints: Float[Tensor, "T P J D"]
    present: Bool[Tensor, "T P"]
    scores: Float[Tensor, "T P J"] | None = None
    filled: int = 0
    layout: Layout | None = None

    def take_frames(self, frames: slice | Sequence[int] | Int64[Tensor, " _"]) -> "SkeletonSequence":
        """The recording of some of its frames, in this order."""
        scores = None if self.scores is None else self.scores[frames]
        return replace(self, joints=self.joints[frames], present=self.present[frames], scores=scores)

    def take_people(self, people: Sequence[int] | Int64[Tensor, " _"]) -> "SkeletonSequence":
        """The recording of some of its people, in this order."""
        scores = None if self.scores is None else self.scores[:, people]
        return replace(self, joints=self.joints[:, people], present=self.present[:, people], scores=scores)

    def take_joints(self, order: Sequence[int]) -> "SkeletonSequence":
        """The recording with its joints in another order, or some of them; of no stated layout."""
        order = list(order)
        scores = None if self.scores is None else self.scores[:, :, order]
        return replace(self, joints=self.joints[:, :, order], scores=scores, layout=None)

    def __len__(self) -> int:
        return self.joints.shape[0]

    def __repr__(self) -> str:
        frames, people, joints, dims = self.joints.shape
        return f"SkeletonSequence(frames={frames}, people={people}, joints={joints}, coordinates={dims})"


@dataclass(frozen=True, slots=True)
class FailedSample:
    """A requested recording that cannot be read.

    Attributes:
        id: the record id.
        path: the file or folder of frames.
        error: why it cannot be read.
    """

    id: str
    path: Path
    error: DataError


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples collated for a model: ``model(**batch.inputs)``.

    Attributes:
        inputs: tensors by the argument names of the model's ``forward``; empty if no sample could be read.
        labels: class index of each sample; where it may have several, 1 for each class that it has, and 0.
        ids: record id of each sample.
        views: consecutive rows of ``inputs`` per sample; scores are averaged over them.
        failed: requested samples that cannot be read and are not in the batch.
    """

    inputs: dict[str, Tensor]
    labels: Int64[Tensor, " B"] | Float32[Tensor, "B K"]
    ids: tuple[str, ...]
    views: int = 1
    failed: tuple[FailedSample, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def raise_on_failure(self) -> "Batch":
        """This batch, if every requested sample could be read.

        Raises:
            DataError: a sample cannot be read; names the first one.
        """
        if self.failed:
            sample, error = self.failed[0], self.failed[0].error
            raise DataError(
                f"recording {sample.id!r}: {error.problem}",
                expected=error.expected,
                hint=error.hint,
                where=error.where,
            ) from error
        return self


class Output(NamedTuple):
    """The output of a model; a NamedTuple, because ``torch.export`` supports those.

    Attributes:
        logits: class scores before softmax, ``B K``.
        maps: attention, differences, similarities, by name; used by losses, visualization and localization.
    """

    logits: Float[Tensor, "B K"]
    maps: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Prediction:
    """The prediction for one recording.

    Attributes:
        id: the record id, or the path of the file.
        labels: class names, most probable first.
        scores: probabilities (0 to 1) of ``labels``.
        maps: the model's maps for this recording, without the batch axis.
        rejected: whether the highest probability is below the threshold, so that it is none of the classes; None where
            there is no threshold.
        chosen: of a model of several labels, all classes whose probability is not below the threshold, most probable
            first; None of other models.
    """

    id: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]
    maps: dict[str, Tensor]
    rejected: bool | None = None
    chosen: tuple[str, ...] | None = None

    @property
    def label(self) -> str:
        """The most probable class, or "none of these" where it is rejected; of several labels all that are chosen."""
        if self.chosen:
            return join_labels(self.chosen)
        return NONE_OF_THESE if self.rejected else self.labels[0]

    def as_dict(self, top: int | None = None) -> dict[str, Any]:
        """For JSON: ``path``, ``label`` and ``score`` of the best class, ``top`` with the best ``top`` (all) of them.

        Probabilities are rounded to 6 digits. With a threshold there is also ``rejected``, and the ``label`` of what is
        rejected is "none of these". Of a model of several labels there are ``labels``, those that are chosen.
        """
        rows = [
            {"label": label, "score": round(score, 6)}
            for label, score in zip(self.labels[:top], self.scores[:top], strict=True)
        ]
        rejected: dict[str, Any] = {} if self.rejected is None else {"rejected": self.rejected}
        if self.chosen is not None:
            rejected["labels"] = list(self.chosen)
        return {"path": self.id, "label": self.label, "score": rows[0]["score"], **rejected, "top": rows}

    def __repr__(self) -> str:
        best = ", ".join(f"{name} {score:.1%}" for name, score in zip(self.labels[:3], self.scores, strict=False))
        return f"Prediction({self.id}: {f'{NONE_OF_THESE}; ' if self.rejected else ''}{best})"


def join_labels(names: Iterable[str]) -> str:
    """Several class names as one text."""
    return "; ".join(names)


def check_span(span: Span, where: str | Path, place: str = "") -> None:
    """Refuse a start and an end in seconds that are no span of time.

    Args:
        span: start and end.
        where: the file that says so.
        place: which line of it, for the message, such as ``line 3: ``.

    Raises:
        DataError: one of them is no number, the start is negative, or it is not before the end.
    """
    start, end = span
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
        raise DataError(
            f"{place}the span starts at {start:g} s and ends at {end:g} s",
            expected="seconds from the start of the file, 0 or more, the start before the end",
            hint="correct start and end",
            where=where,
        )


def span_text(span: Span | None) -> str:
    """A span as ``1.5-3.25``, to a microsecond; empty for a whole file."""
    return "" if span is None else "-".join(f"{seconds:.6f}".rstrip("0").rstrip(".") for seconds in span)


def spans_overlap(first: Span | None, second: Span | None) -> bool:
    """Whether two parts of one file have time in common; None is the whole file."""
    return first is None or second is None or (first[0] < second[1] and second[0] < first[1])


def _span(seconds: Tensor) -> str:
    return f"{seconds[0]:.2f}..{seconds[-1]:.2f}" if len(seconds) else "none"
