"""Short videos that stay decoded in memory while a training reads them again and again."""

from pathlib import Path

import pytest
import torch

from muybridge.core.errors import DataError
from muybridge.core.types import Record
from muybridge.data import decoded, loader
from muybridge.data.decoded import DecodedVideo, decode_short
from muybridge.data.loader import SampleDataset
from muybridge.engine.evaluate import make_samples
from muybridge.media.video import Video
from tests.tiny import tiny_clip_recipe, write_videos


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"), people="ad", takes=1)


class Counting:
    """A data set that counts how often each recording is opened."""

    def __init__(self, data) -> None:
        self.data, self.opened = data, []

    def open(self, record: Record):
        self.opened.append(record.id)
        return self.data.open(record)


def counted(root: Path, augment: bool = True) -> tuple[SampleDataset, list[str]]:
    samples = make_samples(tiny_clip_recipe(root), "train", augment=augment)
    samples.data = Counting(samples.data)
    return samples, samples.data.opened


def read(samples: SampleDataset, epochs: range) -> list[torch.Tensor]:
    return [samples[epoch, index][0]["video"] for epoch in epochs for index in range(len(samples))]


def test_epochs_read_the_same_samples_and_open_each_file_once(root: Path, monkeypatch: pytest.MonkeyPatch):
    samples, opened = counted(root)
    from_memory = read(samples, range(3))
    assert sorted(opened) == sorted(record.id for record in samples.records)
    monkeypatch.setattr(loader, "CACHE_BYTES", 0)
    samples, opened = counted(root)
    from_files = read(samples, range(3))
    assert len(opened) == 3 * len(samples)
    for one, other in zip(from_memory, from_files, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


def test_testing_keeps_nothing(root: Path):
    samples, opened = counted(root, augment=False)
    read(samples, range(-1, 0))
    read(samples, range(-1, 0))
    assert len(opened) == 2 * len(samples)
    assert not samples._cache


def test_the_room_is_limited_and_what_does_not_fit_is_tried_once(root: Path, monkeypatch: pytest.MonkeyPatch):
    samples, _ = counted(root)
    samples[0, 0]
    one = samples._cached_bytes
    assert one > 0
    monkeypatch.setattr(loader, "CACHE_BYTES", round(1.5 * one))
    tried = []
    monkeypatch.setattr(loader, "decode_short", lambda video, *rest: tried.append(video) or decode_short(video, *rest))
    samples, opened = counted(root)
    read(samples, range(3))
    assert len(samples._cache) == 1
    assert samples._cached_bytes <= 1.5 * one
    assert len(tried) == len(samples)
    assert len(opened) == 1 + 3 * (len(samples) - 1)


def test_a_long_video_is_not_kept(root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decoded, "SHORT_VIDEO_BYTES", 1000)
    samples, _ = counted(root)
    read(samples, range(1))
    assert not samples._cache


def test_frames_are_those_of_the_file(root: Path):
    path = next(root.rglob("*.mp4"))
    with Video(path) as video:
        kept = decode_short(video, 24, 2**20)
        assert isinstance(kept, DecodedVideo)
        assert len(kept) == len(video)
        numbers = [5, 0, 5, 3]
        ours, theirs = kept.read(numbers, 24), video.read(numbers, 24)
    assert torch.equal(ours.pixels, theirs.pixels)
    assert torch.equal(ours.seconds, theirs.seconds)
    assert kept.nbytes == kept.clip.pixels.numel()


def test_a_damaged_frame_that_nobody_asks_for_spoils_nothing(root: Path, monkeypatch: pytest.MonkeyPatch):
    whole = Video.read

    def damaged(self: Video, indices, short_side=None):
        if len(self) - 1 in list(indices):
            raise DataError("a frame is damaged", expected="sound frames", hint="leave it out", where=self.path)
        return whole(self, indices, short_side)

    path = next(root.rglob("*.mp4"))
    monkeypatch.setattr(Video, "read", damaged)
    with Video(path) as video:
        assert decode_short(video, 24, 2**20) is None
        assert len(video.read([0, 1], 24).pixels) == 2
