"""Batches in a stated order, the same whatever the number of workers, processes or restarts."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch.utils.data import Dataset, Sampler

from muybridge.core.errors import DataError
from muybridge.core.rng import make_generator
from muybridge.core.types import Batch, FailedSample, Record, SkeletonSequence
from muybridge.data.prepare import Preparation, Recording, collate_inputs
from muybridge.data.workers import WorkerLoader

CACHE_BYTES = 2**30
"""Decoded skeletons are kept in memory up to this size, each process for itself."""

Draw = tuple[int, int]
"""Epoch and index of a sample; its dice depend on these two and the seed."""


class Source(Protocol):
    """Where recordings are opened: a data set, or a store of features made of one."""

    def open(self, record: Record) -> Recording:
        """The recording behind a record; raises DataError if it cannot be read."""
        ...


class SampleDataset(Dataset["tuple | FailedSample"]):
    """Opens and prepares records; asked by (epoch, index), where epoch -1 prepares without augmentation."""

    def __init__(self, records: Sequence[Record], data: Source, prepare: Preparation, seed: int) -> None:
        self.records, self.data, self.prepare, self.seed = records, data, prepare, seed
        self._opened: dict[int, SkeletonSequence] = {}
        self._room = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> tuple | FailedSample:
        """Inputs, label and id of one sample, or why it cannot be read."""
        epoch, index = draw
        record = self.records[index]
        rng = make_generator(self.seed, "sample", epoch, index) if epoch >= 0 else None
        try:
            recording = self._open(index)
            try:
                inputs, label = self.prepare(recording, record.label, rng, record.id)
            finally:
                if not isinstance(recording, SkeletonSequence):
                    recording.close()
        except DataError as problem:
            return FailedSample(record.id, record.path, problem)
        return inputs, label, record.id

    def _open(self, index: int) -> Recording:
        recording: Recording | None = self._opened.get(index)
        if recording is None:
            recording = self.data.open(self.records[index])
            if isinstance(recording, SkeletonSequence) and recording.joints.nbytes <= self._room:
                self._opened[index] = recording
                self._room -= recording.joints.nbytes
        return recording


def collate(samples: list[tuple | FailedSample]) -> Batch:
    """Prepared samples as one batch, which also says what could not be read."""
    failed = tuple(one for one in samples if isinstance(one, FailedSample))
    sound = [one for one in samples if not isinstance(one, FailedSample)]
    if not sound:
        return Batch({}, torch.empty(0, dtype=torch.int64), (), failed=failed)
    inputs, labels, ids = zip(*sound, strict=True)
    stacked = collate_inputs(list(inputs))
    views = len(next(iter(stacked.values()))) // len(ids)
    return Batch(stacked, torch.tensor(labels), ids, views, failed)


class BatchPlan(Sampler[list[Draw]]):
    """The order of training samples: which of them make up each optimizer step, and this process's share of it.

    Each epoch is shuffled anew by (seed, epoch) and sees every sample once; a last step with fewer samples than
    processes is joined to the one before.

    Args:
        count: samples in the index, at least ``world``.
        batch_size: samples of one step, over all processes.
        seed: of the shuffling.
        rank, world: this process and how many there are.
    """

    def __init__(self, count: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.count, self.batch_size, self.seed, self.rank, self.world = count, batch_size, seed, rank, world
        self.epoch, self.first_step = 0, 0

    def start_at(self, epoch: int, step: int = 0) -> None:
        """The next round gives the steps of ``epoch`` from ``step`` on."""
        self.epoch, self.first_step = epoch, step

    def steps(self) -> list[list[int]]:
        """The sample indices of every step of the current epoch, over all processes."""
        order = torch.randperm(self.count, generator=make_generator(self.seed, "order", self.epoch)).tolist()
        steps = [order[start : start + self.batch_size] for start in range(0, self.count, self.batch_size)]
        if len(steps) > 1 and len(steps[-1]) < self.world:
            steps[-2:] = [steps[-2] + steps[-1]]
        return steps

    def __len__(self) -> int:
        return len(self.steps()) - self.first_step

    def __iter__(self) -> Iterator[list[Draw]]:
        for step in self.steps()[self.first_step :]:
            yield [(self.epoch, index) for index in step[self.rank :: self.world]]


def sequential_plan(count: int, batch_size: int, rank: int = 0, world: int = 1) -> list[list[Draw]]:
    """This process's share of every sample, once, in order and without augmentation."""
    mine = range(rank, count, world)
    return [[(-1, index) for index in mine[start : start + batch_size]] for start in range(0, len(mine), batch_size)]


def make_loader(samples: SampleDataset, plan: BatchPlan | list[list[Draw]], workers: int = 0) -> WorkerLoader:
    """Gives a :class:`Batch` for every step of the plan; what cannot be read is in its ``failed``."""
    return WorkerLoader(
        samples, batch_sampler=plan, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0
    )
