"""The optical flow of a whole data set, computed once and stored: on all cores, resumable, safe to interrupt."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from muybridge.core.errors import DataError
from muybridge.core.processes import available_cores, run_parallel
from muybridge.core.types import Record
from muybridge.media.flow import BOUND, ComputedFlow, Fields, FlowSolver, Method
from muybridge.media.flow_store import SUFFIX, FlowMetadata, Form, StoredFlow, flow_path, write_flow
from muybridge.media.video import Video

_DRAFTS = ".drafts-"
_STALE = 24 * 3600  # seconds after which the drafts of a killed run are deleted
_CHUNK_BYTES = 64 << 20  # bytes of frames and fields in memory while one video is processed


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the extraction has come.

    Attributes:
        total: videos there are.
        computed: videos whose flow was computed.
        existing: videos whose flow existed already.
        failed: of each of the others its id, what is wrong, and what to do.
        fields: flow fields computed.
        seconds: since the start.
    """

    total: int
    computed: int = 0
    existing: int = 0
    failed: tuple[tuple[str, str, str], ...] = ()
    fields: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Videos that are processed."""
        return self.computed + self.existing + len(self.failed)

    @property
    def fps(self) -> float:
        """Flow fields computed a second."""
        return self.fields / self.seconds if self.seconds else 0.0


class _Outcome(NamedTuple):
    fields: int = 0
    problem: str = ""
    hint: str = ""


def open_video(record: Record) -> Video:
    """The file or folder of frames behind a record."""
    return Video(record.path, span=record.span)


class _Job(NamedTuple):
    """The flow of one video to compute: its source, its target, and how."""

    record: Record
    open: Callable[[Record], Video]
    target: Path
    drafts: Path
    method: Method
    bound: float
    form: Form


def extract_flow(
    records: Sequence[Record],
    out: Path,
    *,
    method: Method = "dis",
    bound: float = BOUND,
    form: Form = "frames",
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    open_record: Callable[[Record], Video] = open_video,
) -> Progress:
    """The flow of every video, stored as ``out/ID`` (with ``.npz`` or ``.mkv`` for those forms).

    Existing flow is checked against its video and not computed again, so that a run that was killed resumes. Flow is
    written to a draft and moved into place when it is complete. Videos that cannot be read do not stop the others.

    Args:
        records: the videos, of different ids.
        out: a folder of flow alone; created where it does not exist.
        method: "dis" or "tvl1".
        bound: in pixels; larger motion is clipped to it.
        form: see :mod:`muybridge.media.flow_store`.
        workers: processes; None takes one for each core this process may use, 1 works in this process. Several need
            the usual ``if __name__ == "__main__":`` around a script's own work.
        progress: called after each video.
        open_record: how a recording is opened, where it is more than a file: a function that can be sent to workers.

    Raises:
        MissingExtraError: OpenCV is not installed, or lacks TV-L1.
        DataError: ``out`` cannot be written to.
        RunError: a worker was killed, as systems do when memory runs out.
    """
    FlowSolver(method)
    start, state = time.perf_counter(), Progress(len(records))
    with _drafts(out) as drafts:
        jobs = {
            record.id: _Job(record, open_record, flow_path(out, record.id, form), drafts, method, bound, form)
            for record in _longest_first(records)
        }
        for name, outcome in run_parallel(_extract, jobs, workers or available_cores()):
            state = replace(
                state,
                computed=state.computed + bool(outcome.fields),
                existing=state.existing + (not outcome.fields and not outcome.problem),
                failed=(*state.failed, (name, outcome.problem, outcome.hint)) if outcome.problem else state.failed,
                fields=state.fields + outcome.fields,
                seconds=time.perf_counter() - start,
            )
            if progress:
                progress(state)
    return state


def _extract(job: _Job) -> _Outcome:
    """The flow of one video, computed unless it exists; what is wrong with the video is returned, not raised."""
    try:
        with job.open(job.record) as recording, recording.grayscale() as video:
            if job.target.exists():
                StoredFlow(job.target, video, bound=job.bound, method=job.method).close()
                return _Outcome()
            flow = ComputedFlow(video, job.method, job.bound)
            job.target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=job.drafts) as folder:
                draft = Path(folder, f"draft{SUFFIX[job.form]}")
                height, width = video.size
                write_flow(
                    draft,
                    job.form,
                    _chunks(flow, height, width),
                    FlowMetadata(len(video), height, width, job.method, job.bound, video.span),
                )
                draft.rename(job.target)
            return _Outcome(len(flow))
    except DataError as problem:
        where = "" if problem.where is None else f"{problem.where}: "
        return _Outcome(problem=f"{where}{problem.problem}; expected {problem.expected}", hint=problem.hint)
    except OSError as problem:
        return _Outcome(
            problem=f"{job.target}: the flow cannot be written ({problem.strerror})", hint="free some space"
        )


def _chunks(flow: ComputedFlow, height: int, width: int) -> Iterator[Fields]:
    """All fields in order, some at a time."""
    step = max(8, _CHUNK_BYTES // (3 * height * width))
    for begin in range(0, len(flow), step):
        yield flow.read(range(begin, min(begin + step, len(flow)))).pixels


def _longest_first(records: Sequence[Record]) -> list[Record]:
    """By falling size of the file, so that no core is left with a long video at the end."""
    return sorted(records, key=lambda record: -record.path.stat().st_size if record.path.is_file() else 0)


@contextmanager
def _drafts(out: Path) -> Iterator[Path]:
    """A folder for incomplete files, on the same disk; those of runs that were killed are deleted."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for leftover in out.glob(f"{_DRAFTS}*"):
            if time.time() - leftover.stat().st_mtime > _STALE:
                shutil.rmtree(leftover, ignore_errors=True)
        folder = tempfile.TemporaryDirectory(dir=out, prefix=_DRAFTS, ignore_cleanup_errors=True)
    except OSError as problem:
        raise DataError(
            f"the flow cannot be written ({problem.strerror})",
            expected="a folder that can be written to",
            hint="free some space, or choose another folder",
            where=out,
        ) from None
    with folder as name:
        yield Path(name)
