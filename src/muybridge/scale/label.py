"""Many recordings labelled by Ray Data: file names in, rows of a table out; actors hold the model and decode.

Ray's part is to spread the work and to start workers again that died. Blocks of file names wait in its store, each
worker holds no more than two batches of clips, and the rows that come back are written by this process alone.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import ray
import ray.data
import ray.exceptions

from muybridge.core.errors import RunError
from muybridge.core.text import as_utf8
from muybridge.engine.journal import Reporter
from muybridge.scale.cluster import connected, error_inside
from muybridge.scale.config import LabelConfig, LabelSummary
from muybridge.scale.snapshot import RunSnapshot
from muybridge.scale.source import read_source
from muybridge.scale.table import LabelTable, row_schema
from muybridge.scale.worker import Attempts, Labeller
from muybridge.timeline import TimelinePredictor

BLOCKS = 10_000
"""At most about as many pieces of work: each costs Ray some memory and a millisecond or two."""

_EXAMPLES = 5

_compute: Any = pyarrow.compute  # whose functions are made when it is imported


def label(
    run: str | Path,
    source: str,
    out: str | Path,
    config: LabelConfig = LabelConfig(),  # noqa: B008 - immutable
    report: Reporter | None = None,
) -> LabelSummary:
    """Label the recordings of a source with a run; the same call goes on after any interruption.

    The table in ``out`` has one row for each recording, in Parquet partitions, see ``docs/scale.md``. A recording whose
    row is there is labelled again only if its content changed, or could not be reached before.

    Args:
        run: a run folder, an ONNX file, or the address of a run on the hub.
        source: a recording, a folder or a list of them, see :func:`~muybridge.scale.source.read_source`.
        out: the folder of the table; made if needed.
        config: how.
        report: where progress is shown; by default nowhere.

    Raises:
        DataError: the source has no recordings, ``out`` holds something else, rows of another run or of other options,
            or cannot be written.
        RunError: the run cannot be read or used, changed while it was read, or the cluster cannot be reached.
        RecipeError: ``config`` does not fit the run.
    """
    report, out = report or Reporter(quiet=True), Path(out).expanduser()
    snapshot = RunSnapshot.take(Path(run).expanduser())
    predictor = snapshot.load("cpu", config.reject)
    if config.timeline is not None:
        TimelinePredictor(predictor, config.timeline)  # refuses classes that the run does not have
    paths = read_source(source, predictor.recipe.data.holds())
    del predictor
    facts = {"run": str(snapshot.path.resolve()), "files": snapshot.checksums(), "settings": config.settings()}
    schema = row_schema(config.timeline is not None)
    with LabelTable.open(out, facts, schema, config.save_seconds, config.save_rows) as table:
        work = _plan(paths, table.keys())
        summary = _label_into(table, work, snapshot, config, report)
        _check_complete(paths, table)
    return summary


def _plan(paths: list[str], done: pyarrow.Table) -> pyarrow.Table:
    """What workers are to do: recordings without a row, in order, then those whose row may be out of date."""
    names = pyarrow.array([as_utf8(path) for path in paths], pyarrow.string())
    place = _compute.index_in(names, value_set=done["path"].combine_chunks())
    known = _compute.fill_null(done["key"].take(place), "")
    files = pyarrow.array([os.fsencode(path) for path in paths], pyarrow.binary())
    work = pyarrow.table({"file": files, "known": known})
    new = _compute.is_null(place)
    return pyarrow.concat_tables([work.filter(new), work.filter(_compute.invert(new))])


def _label_into(
    table: LabelTable, work: pyarrow.Table, snapshot: RunSnapshot, config: LabelConfig, report: Reporter
) -> LabelSummary:
    done = labelled = failed = warned = 0
    examples: list[tuple[str, str]] = []
    with connected(config.address, config.workers), report:
        report.begin("labelling", len(work))
        for rows in _stream_from(config.address, work, snapshot, config):
            kept = rows.filter(_compute.is_valid(rows["path"]))  # others have not changed
            table.add(kept)
            broken = kept.filter(_compute.is_valid(kept["error"]))
            wanted = broken.slice(0, _EXAMPLES - len(examples)).select(["path", "error"]).to_pylist()
            examples += [(row["path"], row["error"]) for row in wanted]
            labelled, failed = labelled + len(kept), failed + len(broken)
            warned += len(kept) - kept["warning"].null_count
            done += len(rows)
            if done == len(rows):  # workers have started, and the time that is left can be told
                report.begin("labelling", len(work), done)
            report.update(done, len(work))
        table.save()
    return LabelSummary(len(work), labelled, len(work) - labelled, failed, warned, tuple(examples))


class _Stream:
    """A process of the cluster that runs Ray Data, which cannot be driven through a connection of Ray Client."""

    def __init__(self, work: pyarrow.Table, snapshot: RunSnapshot, config: LabelConfig) -> None:
        self._rows = _stream(work, snapshot, config)

    def next(self) -> pyarrow.Table | None:
        """The rows of the next block; None at the end."""
        return next(self._rows, None)


def _stream_from(
    address: str, work: pyarrow.Table, snapshot: RunSnapshot, config: LabelConfig
) -> Iterator[pyarrow.Table]:
    """The rows as workers finish them, from this process or one of the cluster."""
    if not address.startswith("ray://"):
        yield from _stream(work, snapshot, config)
        return
    actor: Any = ray.remote(_Stream)
    stream = actor.options(num_cpus=0).remote(ray.put(work), ray.put(snapshot), config)
    try:
        while (rows := ray.get(stream.next.remote())) is not None:
            yield rows
    except ray.exceptions.RayError as problem:
        raise _explained(problem) from None


def _stream(work: pyarrow.Table, snapshot: RunSnapshot, config: LabelConfig) -> Iterator[pyarrow.Table]:
    """The rows of the table as workers finish them, a block at a time."""
    workers, cores, gpus = _shares(config)
    shared = (ray.put(snapshot), ray.remote(Attempts).options(num_cpus=0).remote())
    size = _block_size(len(work), config, workers)
    blocks = [work.slice(start, size).combine_chunks() for start in range(0, len(work), size)]
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    dataset = ray.data.from_arrow(blocks).map_batches(
        Labeller,
        fn_constructor_args=(shared, config, "cuda" if gpus else "cpu", cores),
        batch_size=None,  # a block is the work of one call
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=cores,
        num_gpus=gpus,
    )
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
    except ray.exceptions.RayError as problem:
        raise _explained(problem) from None


def _block_size(count: int, config: LabelConfig, workers: int) -> int:
    """Recordings of a block: whole batches, so that the same ones are computed together after an interruption."""
    at_once = config.batch if config.timeline is None else 1
    batches = max(1, min(4, count // (4 * workers * at_once)), -(-count // (BLOCKS * at_once)))
    return batches * at_once


def _shares(config: LabelConfig) -> tuple[int, int, float]:
    """How many workers there are, and the cores and GPUs of each."""
    resources = ray.cluster_resources()
    cores, devices = int(resources.get("CPU", 1)), resources.get("GPU", 0.0)
    gpus = float(devices >= 1) if config.gpus_per_worker is None else config.gpus_per_worker
    workers = config.workers or max(1, int(devices / gpus) if gpus else cores)
    return workers, max(1, cores // workers) if gpus else 1, gpus


def _explained(problem: BaseException) -> BaseException:
    """The error of ours that a worker raised, where there is one."""
    return error_inside(problem) or RunError(
        f"the workers failed ({str(problem).strip().splitlines()[-1]})",
        expected="a cluster whose machines stay",
        hint="give the same command again: what was saved is kept",
    )


def _check_complete(paths: list[str], table: LabelTable) -> None:
    """Refuse to end as if all were done when it is not so."""
    names = pyarrow.array([as_utf8(path) for path in paths], pyarrow.string())
    there = _compute.is_in(names, value_set=table.keys()["path"].combine_chunks())
    if missing := len(names) - (_compute.sum(there).as_py() or 0):
        raise RunError(
            f"{missing} recordings have no row",
            expected="one for each recording",
            hint="give the same command again",
            where=table.folder,
        )
