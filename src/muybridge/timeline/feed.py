"""Answers to a live source with bounded lag: a thread reads, the newest frame is answered, older ones are dropped."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Self

from muybridge.core.errors import DataError
from muybridge.media.live import LiveSource, Moment
from muybridge.timeline.live import LiveAnswer, LivePredictor

STALLED = 3.0
"""Seconds without a frame after which it is said that the source has stalled."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before a source that broke is opened again; doubled with each failure, up to the second."""

Notice = Callable[[str], None]
"""Called with what the user should know, such as that a stream broke."""


class Feed:
    """Reads a source in a thread of its own and keeps what was not taken yet, at most that of the last seconds.

    What is older when newer moments come is dropped and counted. A source that should be endless is opened again, after
    pauses that become longer, when it breaks or ends. Use it as a context manager, which ends the thread.

    Args:
        source: what is read.
        keep: seconds; older moments are dropped.
        notice: called from the thread when the source breaks and is opened again.
    """

    def __init__(self, source: LiveSource, keep: float, notice: Notice) -> None:
        self.source, self.keep, self.notice = source, keep, notice
        self.dropped = 0
        self._waiting: deque[Moment] = deque()
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._ended = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=1.0)  # one that waits for a camera or a pipe ends with the process

    def take(self, timeout: float) -> list[Moment] | None:
        """All moments since the last call, oldest first; none after ``timeout`` seconds without any; None at the end.

        Raises:
            DataError: the source broke, and is not opened again.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout)
            taken = list(self._waiting)
            self._waiting.clear()
            if taken or not self._ended:
                return taken
        if self._error is not None:
            raise self._error
        return None

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001 - raised again where the moments are taken
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _read(self) -> None:
        """Read until the source ends; again and again where it should not."""
        pause = FIRST_PAUSE
        while True:
            try:
                for moment in self.source.moments():
                    if self._stop.is_set():
                        return
                    self._put(moment)
                    pause = FIRST_PAUSE
                reason = f"{self.source.name}: the stream ended"
            except DataError as error:
                if not self.source.endless:
                    raise
                reason = str(error)
            if not self.source.endless:
                return
            self.notice(f"{reason} It is opened again in {pause:g} s.")
            if self._stop.wait(pause):
                return
            pause = min(2 * pause, LONGEST_PAUSE)

    def _put(self, moment: Moment) -> None:
        with self._changed:
            self._waiting.append(moment)
            while abs(moment.seconds - self._waiting[0].seconds) > self.keep:
                self._waiting.popleft()
                self.dropped += 1
            self._changed.notify()


def watch(
    predictor: LivePredictor, source: LiveSource, hop: float = 0.0, notice: Notice = lambda message: None
) -> Iterator[LiveAnswer]:
    """What happens in a source, as soon as it can be said, always up to the newest frame.

    Frames that come while an answer is computed are taken together afterwards and answered once, so that the lag stays
    that of one answer however slow the machine is.

    Args:
        predictor: of the run.
        source: what is watched.
        hop: the least time from one answer to the next, in seconds of the source; 0 answers as often as it can.
        notice: called with what the user should know: that the source broke, stalled, or jumped in time.

    Raises:
        DataError: the source cannot be read.
        RunError: the model's scores are not finite.
    """
    due, stalled = -math.inf, False
    with Feed(source, predictor.window, notice) as feed:
        while (moments := feed.take(STALLED)) is not None:
            if not moments:
                if not stalled:
                    notice(f"{source.name}: no frame for {STALLED:g} s")
                stalled = True
                continue
            stalled = False
            for moment in moments:
                if reason := predictor.push(moment.content, moment.seconds):
                    notice(f"{source.name}: {reason}; what came before is forgotten")
                    due = -math.inf
            newest = moments[-1]
            if newest.seconds < due - 1e-9:
                continue
            answer = predictor.answer()
            if answer is not None:
                due = newest.seconds + hop
                yield replace(answer, lag=time.monotonic() - newest.arrived, dropped=feed.dropped)


def answer_in_order(predictor: LivePredictor, source: LiveSource, hop: float, notice: Notice) -> Iterator[LiveAnswer]:
    """Like :func:`watch` in this thread and without hurry: every frame is looked at, every answer that is due is given.

    The answers then depend on the recording alone, and not on how fast the machine is.
    """
    due = -math.inf
    for moment in source.moments():
        if reason := predictor.push(moment.content, moment.seconds):
            notice(f"{source.name}: {reason}; what came before is forgotten")
            due = -math.inf
        if moment.seconds >= due - 1e-9 and (answer := predictor.answer()) is not None:
            due = moment.seconds + hop
            yield replace(answer, lag=time.monotonic() - moment.arrived)
