"""What a model's frozen CNNs make of every frame, computed once for a whole data set and kept in a feature store.

Legend: T frames, C channels, H and W pixels.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from muybridge.core.contracts import ClipInput, FrozenPart
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.types import FailedSample, Record
from muybridge.data.datasets import AnyDataset
from muybridge.data.feature_store import PartStore, Precision
from muybridge.data.prepare import ClipPreparation
from muybridge.engine.checkpoint import checksum
from muybridge.engine.init_from import with_checksums
from muybridge.engine.journal import Reporter
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import InterruptedTrainingError, build_model, stop_requests
from muybridge.media.video import Video
from muybridge.models.base import ModelConfig
from muybridge.recipe import Recipe

AT_ONCE = 32
"""Frames that are decoded and looked at together."""

FIRST = 4
"""Recordings from whose maps the size of all is told."""


@dataclass(frozen=True, slots=True)
class FeatureExtraction:
    """What became of one part of the model.

    Attributes:
        part: its name.
        made: recordings whose maps were computed.
        kept: recordings whose maps were there already.
        frames: that were looked at.
        seconds: that it took.
        size: of the maps that were written, in bytes.
    """

    part: str
    made: int
    kept: int
    frames: int
    seconds: float
    size: int

    @property
    def fps(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        there = f", {self.kept} were there" if self.kept else ""
        return (
            f"{self.part}: {self.made} recordings{there}; {self.frames} frames in {self.seconds:.1f} s, "
            f"{self.fps:.1f} a second, {self.size / 1e6:.1f} MB"
        )


def extract_features(
    recipe: Recipe,
    folder: Path,
    *,
    precision: Precision = "float16",
    runtime: Runtime | None = None,
    report: Reporter | None = None,
) -> tuple[FeatureExtraction, ...]:
    """The maps of every frame of all splits of a recipe's data, as the model makes them when its training starts.

    What is there is kept, if it bears the same stamp and comes from the same files; so an extraction that was killed
    goes on where it stopped.

    Args:
        recipe: what will be trained.
        folder: of the store; made if needed.
        precision: in which the maps are kept; they are computed in float32.
        runtime: device and processes, which share the recordings.
        report: where progress is shown; by default nowhere.

    Raises:
        RecipeError: the model has no frozen part.
        DataError: the store was made otherwise, cannot be written or will not fit on the disk, or recordings cannot be
            read; the maps of all others are kept.
        InterruptedTrainingError: stopped by Ctrl-C or SIGTERM; what is finished is kept.
    """
    runtime, report = runtime or Runtime(), report or Reporter(quiet=True)
    recipe = with_checksums(recipe.resolved())
    cnns = _starting_parts(recipe)
    records = {one.id: one for split in ("train", "val", "test") for one in recipe.data.index(split).records}
    done = []
    with report, stop_requests() as stop:
        for part, config, cnn in cnns:
            stamp = recipe.feature_metadata(config)[part.name] | {"weights": checksum(cnn.state_dict())}
            if runtime.is_main_process:
                PartStore.create(folder / part.name, stamp | {"precision": precision})
            runtime.fabric.barrier()
            store = PartStore.open(folder / part.name, stamp | {"precision": precision})
            work = _Work(recipe, part, config, cnn.to(runtime.device), store)
            done.append(_extract(work, tuple(records.values()), runtime, report, stop))
            report.say(str(done[-1]))
    return tuple(done)


def _starting_parts(recipe: Recipe) -> list[tuple[FrozenPart, ModelConfig, nn.Module]]:
    """Each frozen part with the config and the weights of the first stage that has it."""
    found: dict[str, tuple[FrozenPart, ModelConfig, nn.Module]] = {}
    for number, stage in enumerate(recipe.stages()):
        config = recipe.stage_model(stage)
        new = [part for part in config.frozen_parts() if part.name not in found]
        if new:
            model = build_model(recipe, stage, number).eval()
            found |= {part.name: (part, config, model.get_submodule(part.name)) for part in new}
    if not found:
        raise RecipeError(
            f"model {recipe.model.name!r} has no part that looks at single frames and never learns",
            expected="a model with a frozen CNN",
            hint='take model.name = "video_lstm" with model.train_backbone = false',
        )
    return list(found.values())


@dataclass(frozen=True)
class _Work:
    recipe: Recipe
    part: FrozenPart
    config: ModelConfig
    cnn: nn.Module
    store: PartStore

    def preparation(self) -> ClipPreparation:
        """Prepares what this part reads, and nothing else."""
        prepare = self.recipe.preparation(model=self.config)
        assert isinstance(prepare, ClipPreparation)
        assert isinstance(prepare.takes, ClipInput)
        flow = self.part.input == "flow"
        return replace(prepare, takes=replace(prepare.takes, pixels=not flow, flow=flow))


def _extract(
    work: _Work, records: Sequence[Record], runtime: Runtime, report: Reporter, stop: Sequence[int]
) -> FeatureExtraction:
    missing = [record for record in records[runtime.rank :: runtime.world_size] if not work.store.holds(record)]
    report.begin(f"maps of {work.part.name}", len(missing))
    started = time.monotonic()
    made, frames, size = 0, 0, 0
    failed: list[FailedSample] = []
    with torch.inference_mode():
        for record, length, maps in _mapped(work, missing, runtime.device, failed):
            size += work.store.write(record, maps, length)
            made, frames = made + 1, frames + len(maps)
            report.step()
            if made >= FIRST:
                _check_room(work.store.folder, round(size / made * (len(missing) - made)) * runtime.world_size)
            if stop:
                raise InterruptedTrainingError(
                    f"stopped; {made} of {len(missing)} recordings are done",
                    expected="to be resumed",
                    hint="go on with the same command; what is finished is kept",
                )
    told = runtime.all_gather(
        (made, frames, size, len(records[runtime.rank :: runtime.world_size]) - len(missing), failed)
    )
    failed = [one for *_, some in told for one in some]
    if failed:
        raise DataError(
            f"{len(failed)} of {len(records)} recordings cannot be read; {failed[0].id!r}: {failed[0].problem.problem}",
            expected="recordings that can be read",
            hint="mend or remove them and give the command again; the maps of all others are kept",
            where=failed[0].path,
        )
    made, frames, size, kept = (sum(one[place] for one in told) for place in range(4))
    return FeatureExtraction(work.part.name, made, kept, frames, time.monotonic() - started, size)


def _check_room(folder: Path, needed: int) -> None:
    """Refuse to go on towards a full disk."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{free / 1e9:.1f} GB free on the disk",
            expected=f"{needed / 1e9:.1f} GB for the maps that are missing, by those that are there",
            hint="free some space, or choose another disk with --out; what is finished is kept",
            where=folder,
        )


def _mapped(
    work: _Work, records: Sequence[Record], device: torch.device, failed: list[FailedSample]
) -> Iterator[tuple[Record, int, Tensor]]:
    """Each recording as it is finished, with how many frames it has, and its maps; adds to ``failed``."""
    workers = min(work.recipe.train.num_workers, len(records))
    loader = DataLoader(
        _Pieces(records, work.recipe.data, work.preparation(), work.part.input),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
    )
    begun: dict[int, list[Tensor]] = {}
    for piece in loader:
        if isinstance(piece, FailedSample):
            failed.append(piece)
            begun = {number: maps for number, maps in begun.items() if records[number].id != piece.id}
            continue
        number, length, expected, images = piece
        maps = begun.setdefault(number, [])
        maps.append(work.cnn(images[None].to(device))[0].cpu())
        if sum(map(len, maps)) == expected:
            yield records[number], length, torch.cat(begun.pop(number))


Piece = tuple[int, int, int, Float32[Tensor, "T C H W"]]
"""Number of the recording, its frames, how many of them are looked at, and some of these."""


class _Pieces(IterableDataset["Piece | FailedSample"]):
    """All frames of all recordings, some at a time, in order within a recording; worker processes share the latter."""

    def __init__(self, records: Sequence[Record], data: AnyDataset, prepare: ClipPreparation, reads: str) -> None:
        self.records, self.data, self.prepare, self.reads = records, data, prepare, reads

    def __iter__(self) -> Iterator[Piece | FailedSample]:
        told = get_worker_info()
        first, step = (told.id, told.num_workers) if told else (0, 1)
        for number in range(first, len(self.records), step):
            record = self.records[number]
            try:
                yield from self._of(number, record)
            except DataError as problem:
                yield FailedSample(record.id, record.path, problem)

    def _of(self, number: int, record: Record) -> Iterator[Piece]:
        recording = self.data.open(record)
        assert isinstance(recording, Video)
        with recording as video:
            usable = self.prepare.usable(video)
            for start in range(0, usable, AT_ONCE):
                numbers = range(start, min(start + AT_ONCE, usable))
                images: Mapping[str, Tensor] = self.prepare.frames(video, numbers, record.id)
                yield number, len(video), usable, images[self.reads]
