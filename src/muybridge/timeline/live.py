"""What is happening now: a trained run on the last seconds of a recording that goes on.

Legend: H and W pixels, C channels, P people, J joints, D coordinates.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from muybridge.core.contracts import ClipData, SkeletonData
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.types import Prediction
from muybridge.data.datasets.base import require_one_label
from muybridge.data.prepare import ClipPreparation
from muybridge.media.frame_array import scale_frame
from muybridge.predict import Predictor
from muybridge.timeline.carry import carried_past, needs_window
from muybridge.timeline.past import NAME, WindowPast
from muybridge.timeline.timeline import DEFAULT_FPS, training_length

GAP = 2.0
"""Seconds without a frame after which what came before is forgotten: movement across such a gap means nothing."""


@dataclass(frozen=True, slots=True)
class LiveAnswer:
    """What happens at a moment.

    Attributes:
        seconds: the time of the newest frame, by the clock of the source.
        window: seconds of the recording that the answer stands on, up to that frame.
        frames: how many frames these are.
        prediction: the classes, and their probabilities.
        lag: seconds from the arrival of the newest frame to the answer; 0 where nobody measured it.
        dropped: frames so far that came and were never looked at, since newer ones were there.
    """

    seconds: float
    window: float
    frames: int
    prediction: Prediction
    lag: float = 0.0
    dropped: int = 0

    def as_dict(self, top: int | None = None) -> dict[str, Any]:
        """For JSON."""
        answer = self.prediction.as_dict(top)
        del answer["path"]
        times = {"seconds": round(self.seconds, 3), "lag": round(self.lag, 4), "dropped": self.dropped}
        return {**times, "window": round(self.window, 3), "frames": self.frames, **answer}


class LivePredictor:
    """A trained run that is given one frame after the other, and says what happens in the last seconds.

    An answer is that of the predictor for the last frames, as if they were a recording of their own. These are all of
    the window; or, where a recurrent network carries a state from one frame to the next, those since that was begun,
    which are between half a window and a whole one (see :mod:`~muybridge.timeline.carry`).

    Args:
        predictor: of the run.
        window: the most seconds that an answer stands on; 0 takes the median length of the training recordings.
        fps: frames a second of skeletons, of whose training recordings only the number of frames is known.
        top: how many classes an answer names.

    Attributes:
        needs_window: why the whole window is computed for every answer, in words; empty where a state is carried.

    Raises:
        RecipeError: the window is negative.
    """

    def __init__(self, predictor: Predictor, window: float = 0.0, *, fps: float = DEFAULT_FPS, top: int = 5) -> None:
        require_one_label(predictor.recipe.data, "a timeline")
        if not 0 <= window < float("inf") or not fps > 0:
            raise RecipeError(
                f"a window of {window:g} seconds at {fps:g} frames a second",
                expected="a window of 0 or more seconds, and more than 0 frames a second",
                hint="correct --window or --fps",
            )
        self.predictor, self.top = predictor, top
        self.window = window or training_length(predictor, fps)
        holds = predictor.recipe.data.holds()
        self.holds = holds
        self.channels: Literal[1, 3] = 1 if isinstance(holds, ClipData) and holds.channels == 1 else 3
        self._of_frames = isinstance(holds, ClipData)
        self._short_side = _short_side(predictor)
        self.needs_window = needs_window(predictor)
        self._past = carried_past(predictor, self.window) or WindowPast(predictor, self.window)
        self._last: tuple[float, tuple[int, ...]] | None = None  # time and shape of the newest frame

    def __len__(self) -> int:
        """How many frames the next answer stands on."""
        return len(self._past.frames)

    @property
    def hop(self) -> float:
        """Seconds from one answer to the next, where nobody chose: a quarter of the window, 0 if a state is carried."""
        return self.window / 4 if self.needs_window else 0.0

    def reset(self) -> None:
        """Forget all frames."""
        self._past.clear()
        self._last = None

    def push(self, content: np.ndarray, seconds: float) -> str:
        """Take the next frame.

        Args:
            content: pixels ``H W C`` of uint8 for a model of videos; joints ``P J D`` for one of skeletons, NaN where
                one is missing, and nobody (``0 J D``) where none is seen.
            seconds: its time, later than that of the frame before.

        Returns:
            Why all earlier frames were forgotten: the time jumped, or frames have another size; empty where they were
            not.

        Raises:
            DataError: the frame is not of the kind that the model was trained on.
        """
        frame = self._checked(content)
        forgotten = ""
        if self._last is not None:
            before, shape = self._last
            if not 0 < seconds - before <= max(GAP, self.window):
                forgotten = f"the time jumps from {before:.2f} to {seconds:.2f} s"
            elif self._of_frames and frame.shape != shape:
                forgotten = "the frames have another size"
        if forgotten:
            self.reset()
        self._past.push(frame, seconds)
        self._last = seconds, frame.shape
        return forgotten

    def answer(self) -> LiveAnswer | None:
        """What happens in the last frames; None with fewer than two, and where nobody is seen.

        Raises:
            RunError: the model's scores are not finite.
        """
        past = self._past
        if len(past.frames) < 2:
            return None
        scores = past.scores()
        if scores is None:
            return None
        prediction = self.predictor.answer(NAME, scores, self.top)
        return LiveAnswer(past.seconds[-1], past.seconds[-1] - past.seconds[0], len(past.frames), prediction)

    def _checked(self, content: np.ndarray) -> np.ndarray:
        """A frame as it is kept."""
        if self._of_frames:
            if content.ndim != 3 or content.dtype != np.uint8:
                raise _unfit("frame", content, "height x width x channels of uint8")
            return scale_frame(content, self.channels, self._short_side)
        assert isinstance(self.holds, SkeletonData)
        expected = (len(self.holds.layout), self.holds.coordinates)
        if content.ndim != 3 or (len(content) and content.shape[1:] != expected):
            raise _unfit("frame", content, f"people x {expected[0]} joints x {expected[1]} coordinates")
        return content.astype(np.float64) if len(content) else np.empty((0, *expected))


def _short_side(predictor: Predictor) -> int | None:
    """At which size frames are kept; None where flow is computed from frames of their own size."""
    prepare = predictor.prepare
    return (
        prepare.short_side(training=False) if isinstance(prepare, ClipPreparation) and not prepare.takes.flow else None
    )


def _unfit(what: str, content: np.ndarray, expected: str) -> DataError:
    shape = "x".join(map(str, content.shape))
    return DataError(
        f"a {what} of {shape} {content.dtype}",
        expected=expected,
        hint="send frames of the kind that the run was trained on",
        where="the stream",
    )
