"""Recordings that are parts of files: only their frames are read, and no part is taken for another."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from muybridge.core.errors import DataError
from muybridge.core.types import Record, Span
from muybridge.data.datasets import VideoFolder
from muybridge.data.datasets.base import Index
from muybridge.data.feature_store import PartStore
from muybridge.data.summary import summarize
from muybridge.engine.saved_split import SavedSplit
from muybridge.media.flow_extract import extract_flow
from muybridge.media.flow_store import StoredFlow
from muybridge.media.video import Decoder, Video
from tests import videos

FRAMES = 40  # at 25 frames per second


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos.write(tmp_path_factory.mktemp("span") / "long.mp4", FRAMES, name="h264_short_gop.mp4")


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
def test_the_frames_of_a_span_are_those_shown_from_its_start_until_before_its_end(file: Path, decoder: Decoder):
    every = videos.sequential(file)
    with Video(file, span=(0.4, 1.0), decoder=decoder) as video:
        clip = video.read(range(len(video)))
        assert len(video) == 15
        assert video.duration == pytest.approx(0.6)
        assert video.fps == pytest.approx(25)
        assert clip.seconds.tolist() == pytest.approx([number / 25 for number in range(10, 25)])
        for place, number in enumerate(range(10, 25)):
            assert np.array_equal(clip.pixels[place].permute(1, 2, 0).numpy(), every[number])
        with pytest.raises(DataError, match=r"frame 15 was requested.*0 to 14"):
            video.read([15])
        inner = video.slice_frames(3, 6, backwards=True)
        assert torch.equal(inner.read([0]).pixels[0], clip.pixels[5])


@pytest.mark.parametrize("times", [(0.0, 0.48, 0.96, 1.6), (0.0, 0.467, 0.9999, 1.6), (0.0, 0.3996, 0.4804, 1.6)])
def test_spans_that_touch_have_every_frame_once(file: Path, times: tuple[float, ...]):
    shown = []
    for span in itertools.pairwise(times):
        with Video(file, span=span) as video:
            shown += video.seconds.tolist()
    assert shown == Video(file).seconds.tolist()


def test_frames_outside_a_span_may_be_damaged(file: Path, tmp_path: Path):
    content = bytearray(file.read_bytes())
    start = content.index(b"mdat") + 4
    content[start + 900 : start + 1100] = bytes(200)  # in the first frames
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with pytest.raises(DataError, match="damaged"), Video(damaged) as video:
        video.read(range(FRAMES))
    with Video(damaged, span=(0.8, 1.6)) as video, Video(file, span=(0.8, 1.6)) as sound:
        assert video.size == (48, 64)
        assert torch.equal(video.read(range(20)).pixels, sound.read(range(20)).pixels)


@pytest.mark.parametrize(
    ("span", "message"),
    [
        ((1.0, 1.0), r"the span starts at 1 s and ends at 1 s.*0 or more, the start before the end"),
        ((-1.0, 1.0), "the span starts at -1 s"),
        ((0.0, float("nan")), "ends at nan s"),
        ((1.0, 2.5), r"not all inside the video, which ends at 1\.60 s"),
        ((40.0, 80.0), "is outside the video, which ends at .*numbers of frames have to be divided"),
        ((0.41, 0.43), "no frame is shown from 0.41 to 0.43 s"),
        ((0.39, 0.43), "a single frame is shown from"),
    ],
)
def test_spans_that_a_video_does_not_have_are_refused(file: Path, span: Span, message: str):
    with pytest.raises(DataError, match=message) as caught:
        Video(file, span=span)
    assert caught.value.where == file


def test_a_label_may_end_a_little_late(file: Path):
    with Video(file, span=(1.0, 2.0)) as video:
        assert len(video) == 15
        assert video.duration == pytest.approx(0.6)


def test_a_folder_of_frames_has_spans_by_its_frame_rate(tmp_path: Path):
    for number, image in enumerate(videos.images(20)):
        Image.fromarray(image).save(tmp_path / f"{number:03}.png")
    with Video(tmp_path, fps=10.0, span=(0.5, 1.0)) as video, Video(tmp_path, fps=10.0) as whole:
        assert torch.equal(video.read(range(5)).pixels, whole.read(range(5, 10)).pixels)


def record(file: Path, id_: str, span: Span | None, label: int = 0) -> Record:
    return Record(id_, file, label, span=span)


def test_stored_features_of_another_span_are_refused(file: Path, tmp_path: Path):
    store = PartStore.create(tmp_path, {"precision": "float32"})
    first = record(file, "a", (0.0, 0.4))
    store.write(first, torch.rand(10, 4, 1, 1), 10)
    assert store.holds(first)
    for other in (replace(first, span=(0.4, 0.8)), replace(first, span=None)):
        assert not store.holds(other)


def test_stored_flow_of_another_span_is_refused(file: Path, tmp_path: Path):
    part = record(file, "a", (0.4, 0.8))
    progress = extract_flow([part], tmp_path, form="npz", workers=1)
    assert (progress.computed, progress.fields) == (1, 9)
    assert extract_flow([part], tmp_path, form="npz", workers=1).existing == 1
    with Video(file, channels=1, span=(0.4, 0.8)) as video, StoredFlow(tmp_path / "a.npz", video) as flow:
        assert torch.equal(flow.seconds, video.seconds[:-1])
    shifted = extract_flow([replace(part, span=(0.8, 1.2))], tmp_path, form="npz", workers=1)
    assert "the flow is that of the span 0.4 to 0.8 s; expected that of the span 0.8 to 1.2 s" in shifted.failed[0][1]
    with pytest.raises(DataError, match=r"Expected that of the whole video of long\.mp4"):
        StoredFlow(tmp_path / "a.npz", Video(file, channels=1))


class Parts(VideoFolder):
    """Parts of one file in a split."""

    def index(self, split: str) -> Index:  # pyright: ignore[reportIncompatibleMethodOverride]
        file = self.root / "long.mp4"
        parts = {
            "train": [record(file, "a", (0.0, 0.4)), record(file, "b", (0.4, 0.8), 1)],
            "val": [],
            "test": [record(file, "c", (0.7, 1.2), 1), record(file, "d", (1.2, 1.6))],
        }
        return Index(tuple(parts[split]))

    def unread(self) -> dict[str, int]:
        return {}

    def describe_split(self) -> str:
        return "given"

    def notices(self) -> tuple[str, ...]:
        return ()


def test_parts_that_overlap_are_reported_across_the_split_and_others_are_not(file: Path):
    warnings = summarize(Parts(root=file.parent, classes=("x", "y"), split="drawn")).warnings
    assert [text for text in warnings if "equal content" in text] == [
        "equal content in several parts of the split, so the test is too easy (1 pair): b (train) = c (test)"
    ]


def test_a_saved_split_knows_the_spans(file: Path, tmp_path: Path):
    data = Parts(root=file.parent, classes=("x", "y"), split="drawn")
    saved = SavedSplit.of(data, {"train": data.index("train"), "test": data.index("test")})
    saved.write(tmp_path / "split.csv")
    saved = SavedSplit.read(tmp_path / "split.csv")
    assert [row.span for row in saved.records] == ["0-0.4", "0.4-0.8", "0.7-1.2", "1.2-1.6"]
    assert saved.trained_on(data.index("test").records) == ["c"]  # which b overlaps
    assert saved.trained_on([record(file, "e", None)]) == ["e"]
    current = {part.id: part for split in ("train", "test") for part in data.index(split).records}
    assert not saved.changes(data, current)
    moved = current | {"a": replace(current["a"], span=(0.0, 0.36))}
    assert saved.changes(data, moved).changed == ("a",)
