"""Batches in a reproducible order, the same for any number of workers, processes or restarts."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import torch
from torch.utils.data import Dataset, Sampler, get_worker_info

from muybridge.core.errors import DataError
from muybridge.core.rng import make_generator
from muybridge.core.types import Batch, FailedSample, Record, SkeletonSequence
from muybridge.data.balance import ClassBalance
from muybridge.data.decoded import DecodedVideo, decode_short
from muybridge.data.prepare import Preparation, Recording, collate_inputs
from muybridge.data.workers import WorkerLoader
from muybridge.media.video import Video

CACHE_BYTES = 2**30
"""Skeletons, and short videos in training, are cached in memory up to this size; loading processes share it."""

Cached = TypeVar("Cached", SkeletonSequence, DecodedVideo)

SampleKey = tuple[int, ...]
"""Epoch and index of a sample, and the number of its repetition in the epoch where it is not the first.

Its random generator is seeded from these and the seed of the run.
"""


class Source(Protocol):
    """Where recordings are opened: a data set, or a store of its features."""

    def open(self, record: Record) -> Recording:
        """The recording behind a record; raises DataError if it cannot be read."""
        ...


class SampleDataset(Dataset["tuple | FailedSample"]):
    """Opens and prepares records, indexed by :data:`SampleKey`; epoch -1 prepares without augmentation.

    Attributes:
        keep_videos: whether short videos stay decoded in memory, so that only the first epoch decodes them.
        num_classes: of a data set whose recordings may have several labels; None where each has one.
    """

    keep_videos: bool = True

    def __init__(
        self,
        records: Sequence[Record],
        data: Source,
        prepare: Preparation,
        seed: int,
        num_classes: int | None = None,
    ) -> None:
        self.num_classes = num_classes
        self.records, self.data, self.prepare, self.seed = records, data, prepare, seed
        self._cache: dict[int, SkeletonSequence | DecodedVideo] = {}
        self._cached_bytes = 0
        self._uncached: set[int] = set()  # videos that were too large to cache

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: SampleKey) -> tuple | FailedSample:
        """Inputs, label and id of one sample, or why it cannot be read."""
        epoch, index = key[:2]
        record = self.records[index]
        rng = make_generator(self.seed, "sample", *key) if epoch >= 0 else None
        try:
            recording = self._open(index, training=rng is not None)
            try:
                inputs, label = self.prepare(recording, record.label, rng, record.id)
            finally:
                if not isinstance(recording, SkeletonSequence):
                    recording.close()
        except DataError as problem:
            return FailedSample(record.id, record.path, problem)
        if self.num_classes is None:
            return inputs, label, record.id
        there = torch.zeros(self.num_classes)
        there[list(record.labels)] = 1.0
        return inputs, there, record.id

    def _open(self, index: int, training: bool) -> Recording:
        """The recording from memory if it is there, else from its file; then cached if there is room."""
        cached = self._cache.get(index)
        if cached is not None and (training or isinstance(cached, SkeletonSequence)):
            return cached
        recording = self.data.open(self.records[index])
        worker = get_worker_info()
        room = CACHE_BYTES // (worker.num_workers if worker else 1) - self._cached_bytes
        if isinstance(recording, SkeletonSequence) and recording.joints.nbytes <= room:
            self._store(index, recording, recording.joints.nbytes)
        elif self.keep_videos and isinstance(recording, Video) and training and index not in self._uncached:
            decoded = self._decode(recording, room)
            if decoded is None:
                self._uncached.add(index)
            else:
                recording.close()
                recording = self._store(index, decoded, decoded.nbytes)
        return recording

    def _decode(self, video: Video, room: int) -> DecodedVideo | None:
        """All frames for training, which reads them again and again."""
        short_side = self.prepare.decoded_side()
        return None if short_side is None else decode_short(video, short_side, room)

    def _store(self, index: int, recording: Cached, nbytes: int) -> Cached:
        self._cache[index] = recording
        self._cached_bytes += nbytes
        return recording


def collate(samples: list[tuple | FailedSample]) -> Batch:
    """Prepared samples as one batch, which also has the samples that could not be read."""
    failed = tuple(sample for sample in samples if isinstance(sample, FailedSample))
    loaded = [sample for sample in samples if not isinstance(sample, FailedSample)]
    if not loaded:
        return Batch({}, torch.empty(0, dtype=torch.int64), (), failed=failed)
    inputs, labels, ids = zip(*loaded, strict=True)
    stacked = collate_inputs(list(inputs))
    views = len(next(iter(stacked.values()))) // len(ids)
    several = isinstance(labels[0], torch.Tensor)
    return Batch(stacked, torch.stack(labels) if several else torch.tensor(labels), ids, views, failed)


class BatchPlan(Sampler[list[SampleKey]]):
    """The order of training samples: which of them belong to each optimizer step, and this process's share of it.

    Each epoch is shuffled by (seed, epoch) and has every sample once, or as often as a balance of classes draws it; a
    last step with fewer samples than processes is merged with the one before.

    Args:
        count: samples in the index, at least ``world``.
        batch_size: samples of one step, over all processes.
        seed: of the shuffling.
        rank, world: number of this process, and how many there are.
        balance: draws the samples of each epoch; None takes every one once.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        balance: ClassBalance | None = None,
    ) -> None:
        self.count, self.batch_size, self.seed, self.rank, self.world = count, batch_size, seed, rank, world
        self.balance = balance
        self.epoch, self.first_step = 0, 0

    def start_at(self, epoch: int, step: int = 0) -> None:
        """Start the next iteration at a step of an epoch."""
        self.epoch, self.first_step = epoch, step

    def steps(self) -> list[list[SampleKey]]:
        """The samples of every step of the current epoch, over all processes."""
        rng = make_generator(self.seed, "order", self.epoch)
        if self.balance is None:
            order = [(self.epoch, index) for index in torch.randperm(self.count, generator=rng).tolist()]
        else:
            drawn = self.balance.draw(rng)
            order = [(self.epoch, index, time) if time else (self.epoch, index) for index, time in drawn]
        steps: list[list[SampleKey]] = [
            order[start : start + self.batch_size] for start in range(0, self.count, self.batch_size)
        ]
        if len(steps) > 1 and len(steps[-1]) < self.world:
            steps[-2:] = [steps[-2] + steps[-1]]
        return steps

    def __len__(self) -> int:
        return len(self.steps()) - self.first_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for step in self.steps()[self.first_step :]:
            yield step[self.rank :: self.world]


def sequential_plan(count: int, batch_size: int, rank: int = 0, world: int = 1) -> list[list[SampleKey]]:
    """This process's share of every sample, once, in order and without augmentation."""
    share = range(rank, count, world)
    return [[(-1, index) for index in share[start : start + batch_size]] for start in range(0, len(share), batch_size)]


def make_loader(samples: SampleDataset, plan: BatchPlan | list[list[SampleKey]], workers: int = 0) -> WorkerLoader:
    """Load a :class:`Batch` for every step of the plan; samples that cannot be read are in its ``failed``."""
    return WorkerLoader(
        samples, batch_sampler=plan, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0
    )
