"""The last frames of a recording that goes on, and the scores of the window that they are.

Legend: H and W pixels, C channels, P people, J joints, D coordinates, K classes.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from muybridge.core.contracts import ClipData
from muybridge.core.types import SkeletonSequence
from muybridge.media.arrays import sequence_from_array
from muybridge.media.frame_array import ArrayVideo
from muybridge.predict import Predictor
from muybridge.timeline.reuse import SegmentReuse, reuse_of

NAME = "the stream"
"""Of the recording, in predictions and errors."""


class Past(ABC):
    """The frames that an answer stands on.

    Attributes:
        frames: pixels ``H W C`` or joints ``P J D`` of each, oldest first.
        seconds: their times.
    """

    def __init__(self) -> None:
        self.frames: deque[np.ndarray] = deque()
        self.seconds: deque[float] = deque()

    def push(self, frame: np.ndarray, seconds: float) -> None:
        """One more frame; the oldest ones may be forgotten."""
        self.frames.append(frame)
        self.seconds.append(seconds)

    def clear(self) -> None:
        """Forget all frames."""
        self.frames.clear()
        self.seconds.clear()

    def _forget(self, count: int) -> None:
        """Forget the oldest frames."""
        for _ in range(count):
            self.frames.popleft()
            self.seconds.popleft()

    @abstractmethod
    def scores(self) -> Float[Tensor, " K"] | None:
        """The probabilities of the classes for these frames, of which there are two or more; None without anybody."""


class WindowPast(Past):
    """The frames of the last seconds, of which every answer is computed as a whole.

    What a network over clips makes of each segment by itself is computed once (see
    :mod:`~muybridge.timeline.reuse`).

    Args:
        predictor: of the run.
        window: in seconds.
    """

    def __init__(self, predictor: Predictor, window: float) -> None:
        super().__init__()
        self.predictor, self.window = predictor, window
        self._of_frames = isinstance(predictor.recipe.data.holds(), ClipData)
        self._reuse = reuse_of(predictor)
        self._forgotten = 0  # frames before those that are kept

    def push(self, frame: np.ndarray, seconds: float) -> None:
        """See :class:`Past`; forgets what is older than the window."""
        super().push(frame, seconds)
        while seconds - self.seconds[0] >= self.window - 1e-9 and len(self.frames) > 1:
            self._forget(1)
            self._forgotten += 1

    def clear(self) -> None:
        """See :class:`Past`."""
        super().clear()
        if self._reuse is not None:
            self._reuse.clear()

    def scores(self) -> Float[Tensor, " K"] | None:
        """See :class:`Past`."""
        if self._reuse is not None:
            return self._scores_of_segments(self._reuse)
        recording = ArrayVideo(np.stack(self.frames)) if self._of_frames else read_joints(self.frames, self.predictor)
        if recording is None:
            return None
        with self.predictor.open(recording, NAME) as (opened, _):
            inputs = self.predictor.prepare(opened)[0]
        return self.predictor.scores(inputs)

    def _scores_of_segments(self, reuse: SegmentReuse) -> Float[Tensor, " K"]:
        usable = len(self.frames) - reuse.prepare.takes.flow
        plan = reuse.plan([(self._forgotten, usable)])
        inputs = []
        if plan.new[0]:
            inputs.append(reuse.read(ArrayVideo(np.stack(self.frames)), self._forgotten, plan.new[0]))
        return self.predictor.probabilities(reuse.logits(plan, inputs, None))[0].cpu()


def read_joints(
    frames: Sequence[np.ndarray], predictor: Predictor, *, checked: bool = False
) -> SkeletonSequence | None:
    """The recording of these joints, as it is read from an array; None where nobody is seen.

    Args:
        frames: ``P J D`` each, of any number of people; NaN where a joint is missing.
        predictor: of the run, whose recipe says what the numbers mean.
        checked: whether frames before these have shown already that the numbers are joints.

    Raises:
        DataError: the joints do not seem to be joints in this order.
    """
    people = max(map(len, frames))
    joints = np.full((len(frames), people, *frames[0].shape[1:]), np.nan)
    for place, frame in zip(joints, frames, strict=True):
        place[: len(frame)] = frame
    if not np.nan_to_num(joints).any():
        return None
    options = predictor.recipe.data.read_options()
    if checked:
        options = replace(options, axes="TPJC", coordinates=joints.shape[-1])
    elif options.axes:  # the order of files, and not that of frames which come one by one
        options = replace(options, axes="TPJC")
    return sequence_from_array(joints, options=options, where=Path(NAME))
