"""Frame numbers against hand-computed examples, the specs' formulas written out again, and what must always hold."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from muybridge.core.contracts import ClipInput
from muybridge.data.sampling import (
    clip_starts,
    dense_starts,
    sample_indices,
    uniform_indices,
    window_indices,
    window_starts,
)

FRAMES = st.integers(1, 400)
SEGMENTS = st.sampled_from([1, 2, 3, 8, 16])
LENGTHS = st.sampled_from([1, 2, 5, 30])
SEEDS = st.one_of(st.none(), st.integers(0, 1000))


def make_rng(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)


def test_validation_by_hand() -> None:
    # 100 frames, 8 segments, 1 frame: tick 12.5, int(6.25 + 12.5 k)
    assert window_starts(100, 8) == [6, 18, 31, 43, 56, 68, 81, 93]
    # 100 frames, 8 segments, 5 frames: tick 96 / 8 = 12, int(6 + 12 k)
    assert window_starts(100, 8, 5) == [6, 18, 30, 42, 54, 66, 78, 90]
    # TDN: only videos of more than T + 4 frames are cut into pieces; tick 9 / 8
    assert window_starts(13, 8, 5) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert window_starts(12, 8, 5) == [0] * 8
    # SELFY: the first frame for all where there are no more frames than segments
    assert window_starts(8, 8) == [0] * 8
    assert window_starts(9, 8) == [0, 1, 2, 3, 5, 6, 7, 8]


def test_windows_by_hand() -> None:
    assert window_indices([0, 6], 5, 20) == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert window_indices([0, 2], 5, 4) == [0, 1, 2, 3, 3, 2, 3, 3, 3, 3]
    assert window_indices(window_starts(3, 2, 5), 5, 3) == [0, 1, 2, 2, 2, 0, 1, 2, 2, 2]


def test_views_divide_each_segment() -> None:
    # 80 frames, 8 segments: pieces of 10; two views at a quarter and three quarters
    assert window_starts(80, 8, view=0, views=2) == [2, 12, 22, 32, 42, 52, 62, 72]
    assert window_starts(80, 8, view=1, views=2) == [7, 17, 27, 37, 47, 57, 67, 77]
    assert window_starts(80, 8, view=0, views=1) == window_starts(80, 8)


def test_dense_by_hand() -> None:
    # 164 frames leave starts 0..100; ten views at int(linspace(0, 100, 10))
    assert [dense_starts(164, 8, view=view, views=10)[0] for view in range(10)] == [
        0, 11, 22, 33, 44, 55, 66, 77, 88, 100,
    ]  # fmt: skip
    assert dense_starts(164, 8) == [50, 58, 66, 74, 82, 90, 98, 106]
    assert dense_starts(20, 8) == [0, 8, 16, 4, 12, 0, 8, 16]


def test_clips_by_hand() -> None:
    # 130 frames, clips of 30: a = 101 // 25 = 4, starts 2 + 4 j
    assert clip_starts(130, 30, 25) == [2 + 4 * clip for clip in range(25)]
    # 105 frames: a = 76 // 25 = 3, int(1.5 + 3 j)
    assert clip_starts(105, 30, 25)[:4] == [1, 4, 7, 10]
    assert clip_starts(40, 30, 25) == [0] * 25
    assert clip_starts(7, 30, 25) == [0] * 25
    assert window_indices([0], 30, 7) == [0, 1, 2, 3, 4, 5, *[6] * 24]


@given(FRAMES, SEGMENTS, LENGTHS)
def test_validation_is_the_formula_of_the_spec(frames: int, segments: int, length: int) -> None:
    tick = (frames - length + 1) / segments
    split = frames > segments + length - 1
    expected = [int(tick / 2 + tick * k) if split else 0 for k in range(segments)]
    assert window_starts(frames, segments, length) == expected


@given(FRAMES, SEGMENTS, LENGTHS, st.integers(0, 1000))
def test_training_samples_one_window_from_each_segment(frames: int, segments: int, length: int, seed: int) -> None:
    starts, room = window_starts(frames, segments, length, make_rng(seed)), frames - length + 1
    piece = room // segments
    if piece > 0:
        assert all(0 <= start - k * piece < piece for k, start in enumerate(starts))
    elif frames > segments:
        assert starts == sorted(starts)
        assert 0 <= starts[0] <= starts[-1] < max(1, room)
    else:
        assert starts == [0] * segments


def test_training_samples_every_position_of_a_segment_equally() -> None:
    rng = torch.Generator().manual_seed(0)
    starts = np.array([window_starts(44, 8, 5, rng) for _ in range(2000)]) - 5 * np.arange(8)
    counts = np.array([np.bincount(column, minlength=5) for column in starts.T])
    assert counts.shape == (8, 5)
    assert abs(counts - 400).max() < 100


def test_training_of_a_short_video_spreads_over_it() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = {start for _ in range(200) for start in window_starts(10, 8, 5, rng)}
    assert drawn == set(range(6))


def test_dense_training_starts_anywhere_but_at_the_last_position() -> None:
    rng = torch.Generator().manual_seed(0)
    drawn = {dense_starts(74, 8, rng)[0] for _ in range(500)}
    assert drawn == set(range(10))


MODES = st.sampled_from(["segments", "dense", "clips"])
FEW = st.integers(1, 10)


@given(FRAMES, SEGMENTS, LENGTHS, SEEDS, MODES, FEW, FEW, st.data())
def test_invariants_of_sampling(
    frames: int, segments: int, length: int, seed: int | None, mode: str, views: int, stride: int, data: st.DataObject
) -> None:
    view = data.draw(st.integers(0, views - 1))
    takes = ClipInput(segments, length)
    chosen = sample_indices(frames, takes, mode, make_rng(seed), view, views, stride)  # pyright: ignore[reportArgumentType]
    assert len(chosen) == segments * length
    assert all(0 <= index < frames for index in chosen)
    assert all(type(index) is int for index in chosen)
    again = sample_indices(frames, takes, mode, make_rng(seed), view, views, stride)  # pyright: ignore[reportArgumentType]
    assert chosen == again
    for window in np.split(np.array(chosen), 1 if mode == "clips" else segments):
        steps = np.diff(window)
        assert all(
            step == stride or (after == frames - 1 and 0 <= step < stride)
            for step, after in zip(steps, window[1:], strict=True)
        )
    if mode != "dense" or frames >= 64:
        starts = chosen[::length]
        assert starts == sorted(starts)


@pytest.mark.parametrize("mode", ["segments", "dense", "clips"])
def test_views_of_a_long_video_differ(mode: str) -> None:
    takes = ClipInput(8, 1)
    views = {tuple(sample_indices(1000, takes, mode, None, view, 10)) for view in range(10)}  # pyright: ignore[reportArgumentType]
    assert len(views) == 10


def test_a_stride_spreads_clips_and_windows() -> None:
    assert sample_indices(130, ClipInput(1, 30), "clips", stride=2) == list(range(36, 96, 2))
    assert sample_indices(40, ClipInput(1, 30), "clips", stride=2) == [*range(0, 40, 2), *[39] * 10]
    assert sample_indices(100, ClipInput(4, 3), stride=4) == window_indices(window_starts(100, 4, 9), 3, 100, 4)
    last = {sample_indices(100, ClipInput(1, 5), "clips", make_rng(seed), stride=10)[-1] for seed in range(500)}
    assert (min(last), max(last)) == (40, 99)


def test_uniform_by_hand() -> None:
    assert uniform_indices(10, 5) == [1, 3, 5, 7, 9]
    assert uniform_indices(3, 6) == [0, 0, 1, 1, 2, 2]
    assert uniform_indices(1, 4) == [0, 0, 0, 0]
    assert uniform_indices(12, 3, view=0, views=2) == [1, 5, 9]
    assert uniform_indices(12, 3, view=1, views=2) == [3, 7, 11]
    assert sample_indices(10, ClipInput(5, 1), "uniform") == uniform_indices(10, 5)
    assert sample_indices(10, ClipInput(1, 5), "uniform") == uniform_indices(10, 5)


@pytest.mark.parametrize("frames", [3, 32, 100])
def test_uniform_training_takes_one_frame_of_each_part(frames: int) -> None:
    rng, seen = torch.Generator().manual_seed(0), set()
    for _ in range(200):
        numbers = uniform_indices(frames, 8, rng)
        assert numbers == sorted(numbers)
        assert all(int(k * frames / 8) <= number <= (k + 1) * frames / 8 for k, number in enumerate(numbers))
        seen |= set(numbers)
    assert seen == set(range(frames))


def test_sample_indices_uses_the_named_mode() -> None:
    takes = ClipInput(8, 5)
    assert sample_indices(100, takes) == window_indices(window_starts(100, 8, 5), 5, 100)
    assert sample_indices(164, ClipInput(8), "dense", view=9, views=10) == dense_starts(164, 8, view=9, views=10)
    assert sample_indices(130, ClipInput(1, 30), "clips", view=3, views=25) == list(range(14, 44))
    assert sample_indices(130, ClipInput(1, 30), "clips", torch.Generator().manual_seed(1))[0] in range(101)
