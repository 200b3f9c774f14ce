"""Feature maps of what a model does not train, for every frame of a data set, computed once and kept in a store.

The part is a CNN over single frames, or it describes windows of consecutive frames, one beginning at each frame.

Legend: T frames, C channels, H and W pixels.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.utils.data import IterableDataset, get_worker_info

from muybridge.core.contracts import ClipInput, FrozenPart
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.files import cache_folder
from muybridge.core.types import FailedSample, Record
from muybridge.data.datasets import AnyDataset
from muybridge.data.feature_store import PartStore, Precision
from muybridge.data.prepare import ClipPreparation
from muybridge.data.workers import WorkerLoader
from muybridge.engine.init_from import with_checksums
from muybridge.engine.initialize import build_model
from muybridge.engine.interrupt import InterruptedTrainingError, stop_requests
from muybridge.engine.journal import Reporter
from muybridge.engine.locking import one_at_a_time
from muybridge.engine.runtime import Runtime, explained_errors
from muybridge.engine.saved_split import SPLITS
from muybridge.engine.weights import checksum
from muybridge.media.video import Video
from muybridge.models.config import ModelConfig
from muybridge.recipe import Recipe

CHUNK = 32
"""Frames that are decoded and passed through the CNN together."""

MIN_RECORDINGS = 4
"""Recordings from whose maps the size of all is estimated."""


@dataclass(frozen=True, slots=True)
class FeatureExtraction:
    """Result for one part of the model.

    Attributes:
        part: its name.
        extracted: recordings whose maps were computed.
        existing: recordings whose maps existed already.
        frames: that were computed.
        seconds: that it took.
        size: of the maps that were written, in bytes.
    """

    part: str
    extracted: int
    existing: int
    frames: int
    seconds: float
    size: int

    @property
    def fps(self) -> float:
        """Frames per second."""
        return self.frames / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        existing = f", {self.existing} existed" if self.existing else ""
        return (
            f"{self.part}: {self.extracted} recordings{existing}; {self.frames} frames in {self.seconds:.1f} s, "
            f"{self.fps:.1f} per second, {self.size / 1e6:.1f} MB"
        )


def extract_features(
    recipe: Recipe,
    folder: Path,
    *,
    precision: Precision = "float16",
    runtime: Runtime | None = None,
    report: Reporter | None = None,
) -> tuple[FeatureExtraction, ...]:
    """Compute the maps of every frame of all splits of a recipe's data, with the model as its training starts.

    Existing maps are kept if they have the same metadata and come from the same files; so a killed extraction is
    resumed by the same call.

    Args:
        recipe: what will be trained.
        folder: of the store; made if needed.
        precision: of the stored maps; they are computed in float32.
        runtime: device and processes, which share the recordings.
        report: where progress is shown; by default nowhere.

    Raises:
        RecipeError: the model has no frozen part.
        DataError: the store was made with other settings, cannot be written or will not fit on the disk, or recordings
            cannot be read; the maps of all others are kept.
        InterruptedTrainingError: stopped by Ctrl-C or SIGTERM; what is finished is kept.
    """
    runtime, report = runtime or Runtime(), report or Reporter(quiet=True)
    recipe = with_checksums(recipe.resolved())
    cnns = _starting_parts(recipe)
    records = {record.id: record for split in SPLITS for record in recipe.data.index(split).records}
    results = []
    with report, stop_requests() as stop, explained_errors():
        for part, config, cnn in cnns:
            metadata = recipe.feature_metadata(config)[part.name]
            metadata |= {"weights": checksum(cnn.state_dict()), "precision": precision}
            if runtime.is_main_process:
                PartStore.create(folder / part.name, metadata)
            runtime.fabric.barrier()
            store = PartStore.open(folder / part.name, metadata)
            job = _Job(recipe, part, config, cnn.to(runtime.device), store)
            results.append(_extract(job, tuple(records.values()), runtime, report, stop))
            report.say(str(results[-1]))
    return tuple(results)


def with_features(recipe: Recipe, runtime: Runtime, report: Reporter) -> Recipe:
    """The recipe with the feature store in the user's cache that ``view.features = "auto"`` stands for, completed.

    The store is named by all that its maps depend on, and by the folder of the recordings.

    Args:
        recipe: resolved; without "auto" it is returned as it is.
        runtime: device and processes, which share the recordings.
        report: where progress is shown.

    Raises:
        DataError: see :func:`extract_features`.
    """
    if recipe.view is None or not recipe.view.makes_features:
        return recipe
    weights = {part.name: checksum(cnn.state_dict()) for part, _, cnn in _starting_parts(recipe)}
    metadata = [recipe.feature_metadata(recipe.stage_model(stage)) for stage in recipe.stages()]
    facts = json.dumps([metadata, weights, str(getattr(recipe.data, "root", ""))], sort_keys=True)
    name = f"{recipe.data.name}-{recipe.model.name}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"
    folder = cache_folder("features").resolve() / name
    lock = one_at_a_time(folder, report, "makes the same features")
    with lock if runtime.is_main_process else nullcontext():
        runtime.fabric.barrier()
        extract_features(recipe, folder, runtime=runtime, report=report)
    report.say(f"features: {folder}, which may be deleted when nothing is trained on it")
    view = recipe.view.model_copy(update={"features": folder})
    return recipe.model_copy(update={"view": view})


def _starting_parts(recipe: Recipe) -> list[tuple[FrozenPart, ModelConfig, nn.Module]]:
    """Each frozen part with the config and the weights of the first stage that has it."""
    parts: dict[str, tuple[FrozenPart, ModelConfig, nn.Module]] = {}
    for number, stage in enumerate(recipe.stages()):
        config = recipe.stage_model(stage)
        new = [part for part in config.frozen_parts() if part.name not in parts]
        if new:
            model = build_model(recipe, stage, number).eval()
            parts |= {part.name: (part, config, model.get_submodule(part.name)) for part in new}
    if not parts:
        raise RecipeError(
            f"model {recipe.model.name!r} has no part that sees single frames and is not trained",
            expected="a model with a frozen CNN or with hand-crafted descriptors",
            hint='set model.name = "video_lstm" with model.train_backbone = false, or drnn with model.input = "video"',
        )
    return list(parts.values())


@dataclass(frozen=True)
class _Job:
    """Maps of one part to compute."""

    recipe: Recipe
    part: FrozenPart
    config: ModelConfig
    cnn: nn.Module
    store: PartStore

    def preparation(self) -> ClipPreparation:
        """Prepares the input of this part, and nothing else."""
        prepare = self.recipe.preparation(model=self.config)
        assert isinstance(prepare, ClipPreparation)
        assert isinstance(prepare.takes, ClipInput)
        flow = self.part.input == "flow"
        return replace(prepare, takes=replace(prepare.takes, pixels=not flow, flow=flow))


@dataclass
class _Progress:
    """What one process has done, or all of them together."""

    extracted: int = 0
    existing: int = 0
    frames: int = 0
    size: int = 0


def _extract(
    job: _Job, records: Sequence[Record], runtime: Runtime, report: Reporter, stop: Sequence[int]
) -> FeatureExtraction:
    share = records[runtime.rank :: runtime.world_size]
    missing = [record for record in share if not job.store.holds(record)]
    report.begin(f"features of {job.part.name}", len(missing))
    started = time.monotonic()
    progress, failed = _Progress(existing=len(share) - len(missing)), []
    with torch.inference_mode():
        for record, length, maps in _compute_maps(job, missing, runtime.device, failed):
            progress.size += job.store.write(record, maps, length)
            progress.extracted, progress.frames = progress.extracted + 1, progress.frames + len(maps)
            report.step()
            if progress.extracted >= MIN_RECORDINGS:
                remaining = (len(missing) - progress.extracted) * runtime.world_size
                _check_disk_space(job.store.folder, round(progress.size / progress.extracted * remaining))
            if stop:
                raise InterruptedTrainingError(
                    f"stopped; {progress.extracted} of {len(missing)} recordings are done",
                    expected="all of them",
                    hint="resume with the same command; what is finished is kept",
                )
    gathered = runtime.all_gather((progress, failed))
    _raise_on_failure([sample for _, part in gathered for sample in part], len(records))
    total = [sum(getattr(part, name) for part, _ in gathered) for name in ("extracted", "existing", "frames", "size")]
    extracted, existing, frames, size = total
    return FeatureExtraction(job.part.name, extracted, existing, frames, time.monotonic() - started, size)


def _raise_on_failure(failed: Sequence[FailedSample], count: int) -> None:
    if failed:
        raise DataError(
            f"{len(failed)} of {count} recordings cannot be read; {failed[0].id!r}: {failed[0].error.problem}",
            expected="recordings that can be read",
            hint="repair or remove them and repeat the command; the maps of all others are kept",
            where=failed[0].path,
        )


def _check_disk_space(folder: Path, needed: int) -> None:
    """Stop before the disk is full."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{free / 1e9:.1f} GB free on the disk",
            expected=f"{needed / 1e9:.1f} GB for the maps that are missing, estimated from those that exist",
            hint="free some space, or choose another disk with --out; what is finished is kept",
            where=folder,
        )


def _compute_maps(
    job: _Job, records: Sequence[Record], device: torch.device, failed: list[FailedSample]
) -> Iterator[tuple[Record, int, Tensor]]:
    """Each recording as it is finished, with its number of frames and its maps; adds to ``failed``."""
    chunks = _Chunks(records, job.recipe.data, job.preparation(), job.part)
    loader = WorkerLoader(chunks, batch_size=None, num_workers=min(job.recipe.train.num_workers, len(records)))
    unfinished: dict[int, list[Tensor]] = {}
    for chunk in loader:
        if isinstance(chunk, FailedSample):
            failed.append(chunk)
            unfinished = {number: maps for number, maps in unfinished.items() if records[number].id != chunk.id}
            continue
        number, length, expected, images = chunk
        maps = unfinished.setdefault(number, [])
        maps.append(job.cnn(images[None].to(device))[0].cpu())
        if sum(map(len, maps)) == expected:
            yield records[number], length, torch.cat(unfinished.pop(number))


Chunk = tuple[int, int, int, Float32[Tensor, "T C H W"]]
"""Number of the recording, its frames, how many maps it has, and the frames of some of these."""


class _Chunks(IterableDataset["Chunk | FailedSample"]):
    """All frames of all recordings in chunks, in order within a recording; worker processes share the recordings."""

    def __init__(self, records: Sequence[Record], data: AnyDataset, prepare: ClipPreparation, part: FrozenPart) -> None:
        self.records, self.data, self.prepare, self.part = records, data, prepare, part

    def __iter__(self) -> Iterator[Chunk | FailedSample]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in range(first, len(self.records), step):
            record = self.records[number]
            try:
                yield from self._read(number, record)
            except DataError as problem:
                yield FailedSample(record.id, record.path, problem)

    def _read(self, number: int, record: Record) -> Iterator[Chunk]:
        recording = self.data.open(record)
        assert isinstance(recording, Video)
        with recording as video:
            usable, more = self.prepare.usable(video), self.part.window - 1
            maps = max(1, usable - more)
            for start in range(0, maps, CHUNK):
                stop = min(start + CHUNK, maps) + more
                numbers = [min(frame, usable - 1) for frame in range(start, stop)]  # a short video stays at its end
                images: Mapping[str, Tensor] = self.prepare.frames(video, numbers, record.id)
                yield number, len(video), maps, images[self.part.input]
