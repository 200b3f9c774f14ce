"""Recurrent networks on a stream: a state is carried from frame to frame, so that an answer costs a step or few.

The frames that an answer stands on are the stretch since the state was begun. It grows up to the window; then the state
begins anew with the newer half of it, so that an answer stands on between half a window and a whole one.
"""

from abc import abstractmethod
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from muybridge.core.types import SkeletonSequence
from muybridge.data.prepare import ClipPreparation, SkeletonPreparation
from muybridge.data.skeleton_ops import clean_skeleton, place_skeleton
from muybridge.media.frame_array import ArrayVideo
from muybridge.models.base import Model, Steps
from muybridge.predict import Predictor, check_finite
from muybridge.timeline.past import Past, read_joints

SETTLED = 5
"""Frames of a person from which on the smoothing of the first of them is final."""

_CONTEXT = 5  # frames before those that are new, with which these are smoothed as in the whole recording


def needs_window(predictor: Predictor) -> str:
    """Why a run's answers are computed from the whole window each time, in words; empty where a state is carried."""
    if _steps(predictor) is None:
        return (
            predictor.recipe.model.needs_whole_recording()
            or "a network that was exported, or is in another process, takes a window as a whole"
        )
    prepare = predictor.prepare
    if isinstance(prepare, SkeletonPreparation):
        return (
            "model.unit_scale = true divides by the size of the body in all frames" if prepare.takes.unit_scale else ""
        )
    if not isinstance(prepare, ClipPreparation):
        return "features are read from a store"
    view = prepare.view
    if view.mode != "clips":
        return f'view.mode = "{view.mode}" spreads frames over the window; train with "clips" instead'
    if view.crops_per_clip > 1 or view.reverse:
        return "view.crops and view.reverse take every frame several times"
    return 'flow.between = "frames read" depends on where a clip ends' if prepare.flow.of_clips else ""


def carried_past(predictor: Predictor, window: float) -> "CarriedPast | None":
    """The past of a run whose network carries a state; None where it needs the whole window."""
    if needs_window(predictor):
        return None
    steps = _steps(predictor)
    assert steps is not None
    kind = SkeletonPast if isinstance(predictor.prepare, SkeletonPreparation) else ClipPast
    return kind(predictor, steps, window)


def _steps(predictor: Predictor) -> Steps[Any] | None:
    model: object = predictor.model  # of another process there is a stand-in
    return model.steps() if isinstance(model, Model) else None


class CarriedPast(Past):
    """The frames since the state was begun.

    Args:
        predictor: of the run.
        steps: of its network.
        window: the longest that the state goes back, in seconds.
    """

    longest = 0  # frames that the state goes back at most; 0 has no limit
    stride = 1

    def __init__(self, predictor: Predictor, steps: Steps[Any], window: float) -> None:
        super().__init__()
        self.predictor, self.steps, self.window = predictor, steps, window
        self.state: Any = None

    def push(self, frame: np.ndarray, seconds: float) -> None:
        """See :class:`Past`; where the frames have become too many, the state begins anew with the newer half."""
        super().push(frame, seconds)
        if self._too_long(1.0):
            count = 0
            while count < len(self.frames) - 1 and self._too_long(0.5, count):
                count += self.stride
            self.begin_anew(min(count, len(self.frames) - 1))

    def clear(self) -> None:
        """See :class:`Past`."""
        super().clear()
        self.state = None

    @abstractmethod
    def begin_anew(self, count: int) -> None:
        """Forget the oldest frames and the state."""

    def _too_long(self, share: float, count: int = 0) -> bool:
        """Whether the frames after the first ``count`` are more than a share of what there may be."""
        span = self.seconds[-1] - self.seconds[count]
        return span >= share * self.window - 1e-9 or bool(
            self.longest and len(self.frames) - count > share * self.longest
        )

    def _probabilities(self, state: Any) -> Float[Tensor, " K"]:
        logits = self.steps.answer(state).logits
        check_finite(logits, self.predictor.run)
        return self.predictor.probabilities(logits.expand(self.predictor.prepare.views, -1))[0].cpu()


class SkeletonPast(CarriedPast):
    """Joints, of which those are given to the state that no later frame changes any more.

    The others are the last two where joints are smoothed, and those since a joint is missing, as its place is
    interpolated once it is seen again; they are added to the state anew for every answer. A stretch in which the people
    to choose or the direction of the body depend on later frames is computed as a whole.
    """

    def __init__(self, predictor: Predictor, steps: Steps[Any], window: float) -> None:
        super().__init__(predictor, steps, window)
        assert isinstance(predictor.prepare, SkeletonPreparation)
        self._takes, self._holds = predictor.prepare.takes, predictor.prepare.holds
        self.longest = self._takes.max_frames
        self._first: SkeletonSequence | None = None
        self._given = 0
        self._forget_facts()

    def _forget_facts(self) -> None:
        self._complete: list[bool] = []  # of each frame, whether all joints of those seen so far are there
        self._seen = np.zeros(0, dtype=bool)  # of each person, whether they were seen in the stretch
        self._appeared = 0  # the frame in which the last new person came
        self._carries = True

    def push(self, frame: np.ndarray, seconds: float) -> None:
        """See :class:`Past`; nobody at the beginning is left out, as in every recording."""
        if not self.frames and not _found(frame).any():
            return
        self._note(frame)
        super().push(frame, seconds)

    def clear(self) -> None:
        """See :class:`Past`."""
        super().clear()
        self._given, self._first = 0, None
        self._forget_facts()

    def begin_anew(self, count: int) -> None:
        """See :class:`CarriedPast`."""
        kept = list(zip(self.frames, self.seconds, strict=True))[count:]
        self.clear()
        for frame, seconds in kept:
            self.push(frame, seconds)

    def scores(self) -> Float[Tensor, " K"] | None:
        """See :class:`Past`."""
        if not self.frames:
            return None
        with torch.inference_mode():
            final = self._final()
            carried = self.state is not None and self._carries
            joints = self._prepared_after(self._given) if carried else self._prepared()
            state = self.state if carried else self.steps.initial_state({"joints": joints})
            new = final - (self._given if carried else 0)
            state = self._advance(joints[:, :new], state)
            if final:
                self.state, self._given = state, final
            return self._probabilities(self._advance(joints[:, new:], state))

    def _note(self, frame: np.ndarray) -> None:
        """What the frame says about the people in the stretch."""
        found = _found(frame)
        people = max(len(found), len(self._seen))
        found = np.pad(found, ((0, people - len(found)), (0, 0)))
        self._seen = np.pad(self._seen, (0, people - len(self._seen)))
        here = found.any(1)
        if (here & ~self._seen).any():
            self._appeared = len(self._complete)
            if self._takes.face_partner and self._appeared:
                self._carries = False  # the direction of the body is that from then on
        if len(frame) > self._holds.people:
            self._carries = False  # those seen in most frames are chosen
        self._seen = self._seen | here
        self._complete.append(bool(found[self._seen].all() and not (frame == -1).all(2).any()))

    def _final(self) -> int:
        """How many frames no later one changes any more."""
        if not self._carries or not any(self._complete):
            return 0
        until = len(self._complete) - self._complete[::-1].index(True)
        if not self._takes.smooth:
            return until
        return max(0, until - 2 if until - self._appeared >= SETTLED else min(until - 2, self._appeared))

    def _prepared(self) -> Float[Tensor, "1 T P J D"]:
        """All frames, as they are prepared of a recording; keeps the first one."""
        sequence = read_joints(self.frames, self.predictor)
        assert sequence is not None
        cleaned = clean_skeleton(sequence, self._takes, self._holds)
        self._first = cleaned.take_frames(slice(0, 1))
        return self._placed(cleaned)

    def _prepared_after(self, given: int) -> Float[Tensor, "1 T P J D"]:
        """The frames from a number on, prepared from no more than is needed: the first frame, and some before them."""
        assert self._first is not None
        start = next((number for number in range(given - _CONTEXT, 0, -1) if self._complete[number]), 0)
        sequence = read_joints(list(islice(self.frames, start, None)), self.predictor, checked=True)
        assert sequence is not None
        cleaned = clean_skeleton(sequence, self._takes, self._holds)
        joined = replace(
            cleaned,
            joints=torch.cat([self._first.joints, cleaned.joints]),
            present=torch.cat([self._first.present, cleaned.present]),
        )
        return self._placed(joined)[:, 1 + given - start :]

    def _placed(self, sequence: SkeletonSequence) -> Float[Tensor, "1 T P J D"]:
        return place_skeleton(sequence, self._takes, self._holds)[None].to(self.predictor.device)

    def _advance(self, joints: Float[Tensor, "1 T P J D"], state: Any) -> Any:
        return self.steps.advance({"joints": joints}, state) if joints.shape[1] else state


class ClipPast(CarriedPast):
    """Frames of a video, of each of which what a CNN makes of it is kept.

    Flow is from each frame to the next, so that the newest one is not used where the network takes flow.
    """

    def __init__(self, predictor: Predictor, steps: Steps[Any], window: float) -> None:
        super().__init__(predictor, steps, window)
        assert isinstance(predictor.prepare, ClipPreparation)
        self._prepare = predictor.prepare
        self.stride = self._prepare.view.stride
        self.longest = self._prepare.takes.frames_per_segment * self.stride
        self._encoded: list[dict[str, Tensor]] = []

    def clear(self) -> None:
        """See :class:`Past`."""
        super().clear()
        self._encoded = []

    def begin_anew(self, count: int) -> None:
        """See :class:`CarriedPast`."""
        self._forget(count)
        self._encoded = self._encoded[-(-count // self.stride) :]
        self.state = None

    def scores(self) -> Float[Tensor, " K"] | None:
        """See :class:`Past`."""
        with torch.inference_mode():
            known = len(self._encoded) if self.state is not None else 0
            self._encoded += self._encode_new()
            for inputs in self._encoded[known:]:
                state = self.steps.initial_state(inputs) if self.state is None else self.state
                self.state = self.steps.advance(inputs, state)
            return self._probabilities(self.state)

    def _encode_new(self) -> list[dict[str, Tensor]]:
        """What the network carries of each frame that was not looked at yet."""
        first = len(self._encoded) * self.stride
        numbers = range(0, len(self.frames) - self._prepare.takes.flow - first, self.stride)
        if not numbers:
            return []
        frames = list(islice(self.frames, first, None))
        video = ArrayVideo(np.stack([*frames, frames[-1]]))
        inputs = self._prepare.frames(video, list(numbers))
        moved = {name: value[None].to(self.predictor.device) for name, value in inputs.items()}
        encoded = self.steps.encode(moved)
        return [{name: value[:, [t]] for name, value in encoded.items()} for t in range(len(numbers))]


def _found(frame: Float[np.ndarray, "P J D"]) -> Bool[np.ndarray, "P J"]:
    """Which joints have a place; NaN and zero stand for none."""
    return np.asarray(np.isfinite(frame).all(2) & (frame != 0).any(2))
