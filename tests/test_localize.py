"""Attention becomes tubes by rules that small maps worked by hand can check."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from muybridge.core.tubes import Tube, box_iou, tube_iou
from muybridge.localize import linking
from muybridge.localize.linking import (
    Linking,
    _best_path,
    _Candidates,
    _candidates,
    attention_to_tubes,
    average_over_clips,
    centered_tube,
    frame_difference,
    saliency,
    smooth_in_time,
)

STILL = Linking(smoothing=0.0)


def draw_maps(boxes: list[tuple[int, int, int, int]], size: tuple[int, int] = (60, 80), value: float = 1.0) -> Tensor:
    """Maps at the size of the frame that are ``value`` in a box and 0 elsewhere."""
    maps = torch.zeros(len(boxes), *size)
    for frame, (left, top, right, bottom) in zip(maps, boxes, strict=True):
        frame[top:bottom, left:right] = value
    return maps


def test_each_frame_averages_the_clips_that_show_it() -> None:
    maps = torch.arange(6.0).reshape(2, 3, 1, 1)
    # Clips of frames 1, 2, 3 and 3, 4, 4; frame 0 and frames 5, 6 are not shown.
    averaged, places = average_over_clips(zip(maps, torch.tensor([[1, 2, 3], [3, 4, 4]]), strict=True), 7)
    assert averaged.flatten().tolist() == [0, 1, (2 + 3) / 2, (4 + 5) / 2]
    assert averaged[places].flatten().tolist() == [0, 0, 1, (2 + 3) / 2, (4 + 5) / 2, 4.5, 4.5]


def test_a_frame_between_two_shown_ones_takes_the_nearer() -> None:
    maps, places = average_over_clips([(torch.tensor([1.0, 9.0]).reshape(2, 1, 1), torch.tensor([0, 5]))], 6)
    assert maps[places].flatten().tolist() == [1, 1, 1, 9, 9, 9]
    maps, places = average_over_clips([(torch.tensor([1.0, 9.0]).reshape(2, 1, 1), torch.tensor([1, 5]))], 8)
    assert maps[places].flatten().tolist() == [1, 1, 1, 1, 9, 9, 9, 9]  # 3 is as near to 1 as to 5


def test_smoothing_runs_along_time_only() -> None:
    maps = torch.rand(40, 3, 4, generator=torch.Generator().manual_seed(0))
    smooth = smooth_in_time(maps, 5.0)
    for row, column in itertools.product(range(3), range(4)):
        expected = gaussian_filter1d(maps[:, row, column].numpy(), 5.0)
        np.testing.assert_allclose(smooth[:, row, column], expected, atol=1e-6)
    peak = smooth_in_time(torch.eye(41)[20][:, None, None], 5.0)[:, 0, 0]
    assert peak.sum() == pytest.approx(1, abs=1e-3)
    assert (peak[20] / peak[25]).item() == pytest.approx(np.exp(0.5), rel=1e-3)  # one sigma away


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.rand(50, 5, 6, generator=torch.Generator().manual_seed(0))
    for smoothing in (0.0, 1.0, 7.0):  # the Gaussian of 7 frames reaches over several chunks
        several = Linking(smoothing=smoothing, max_tubes=2)
        monkeypatch.setattr(linking, "CHUNK", 1000)
        expected = attention_to_tubes(maps, (90, 120), linking=several)
        for chunk in (1, 8, 49):
            monkeypatch.setattr(linking, "CHUNK", chunk)
            tubes = attention_to_tubes(maps, (90, 120), linking=several)
            assert [tube.score for tube in tubes] == [tube.score for tube in expected]
            for tube, other in zip(tubes, expected, strict=True):
                np.testing.assert_array_equal(tube.boxes, other.boxes)


def test_the_maps_of_hours_take_no_square_of_memory() -> None:
    """Two hours at 30 frames per second; a table of all pairs of frames would take 370 GB."""
    length = 216_000
    starts = torch.arange(0, length - 30, 15_000)
    clips = [(torch.full((2, 1, 1), float(start)), torch.tensor([start, start + 29])) for start in starts.tolist()]
    maps, places = average_over_clips(clips, length)
    assert len(maps) == 2 * len(starts)
    assert maps[places][[0, 7_514, 7_515, 15_000, length - 1]].flatten().tolist() == [0, 0, 15_000, 15_000, 210_000]


def test_saliency_is_bilinear_and_runs_from_0_to_1() -> None:
    maps = torch.tensor([[[1.0, 3.0]], [[5.0, 5.0]]])
    large = saliency(maps, 2, 4)
    # Cells' centers lie at 1/4 and 3/4 of the width, pixels' at 1/8, 3/8, 5/8, 7/8.
    assert large[0].tolist() == [[0, 0.25, 0.75, 1]] * 2
    assert large[1].eq(0).all()


def test_candidates_are_the_pieces_above_each_cut() -> None:
    frame = np.zeros((40, 50), dtype=np.float32)
    frame[5:20, 5:25] = 0.45
    frame[8:14, 10:20] = 1.0
    frame[30:34, 40:48] = 0.65
    frame[0:2, 0:2] = 0.9  # under 1 % of the frame
    candidates = _candidates(frame, STILL)
    assert candidates.boxes.tolist() == [[5, 5, 25, 20], [10, 8, 20, 14], [40, 30, 48, 34]]
    total = np.sqrt((frame**2).sum())
    inside = [0.45 * (300 - 60) + 60, 60, 0.65 * 32]
    np.testing.assert_allclose(
        candidates.scores, [s / total / np.sqrt(a) for s, a in zip(inside, (300, 60, 32), strict=True)], rtol=1e-6
    )


def test_a_box_that_is_all_of_the_map_is_worth_1() -> None:
    assert _candidates(draw_maps([(10, 5, 30, 25)])[0].numpy(), STILL).scores.tolist() == pytest.approx([1])


def test_the_path_is_the_best_of_all() -> None:
    """Viterbi finds what trying every path finds."""
    rng = np.random.default_rng(0)
    for iou_weight in (0.0, 0.5, 3.0):
        frames = []
        for count in (3, 1, 4, 2, 3):
            corner = rng.uniform(0, 20, (count, 2))
            frames.append(_Candidates(np.hstack([corner, corner + rng.uniform(5, 20, (count, 2))]), rng.random(count)))

        def score(path: tuple[int, ...], frames: list[_Candidates] = frames, iou_weight: float = iou_weight) -> float:
            boxes = np.stack([frame.boxes[index] for frame, index in zip(frames, path, strict=True)])
            scores = sum(float(frame.scores[index]) for frame, index in zip(frames, path, strict=True))
            return scores + iou_weight * float(box_iou(boxes[1:], boxes[:-1]).sum())

        best = max(itertools.product(*(range(len(frame.boxes)) for frame in frames)), key=score)
        path, mean = _best_path(frames, iou_weight)
        assert path.tolist() == [frame.boxes[index].tolist() for frame, index in zip(frames, best, strict=True)]
        assert mean == pytest.approx(score(best) / 5)


def test_contrast_draws_boxes_closer_around_peaks() -> None:
    """A smooth peak of deviation s: the best box has sides of 2.8 s, and 2.8 s / sqrt(p) at the power p."""
    along = torch.arange(120.0) + 0.5
    bell = torch.exp(-((along - 60) ** 2) / (2 * 15.0**2))
    maps = (bell[:, None] * bell)[None].repeat(3, 1, 1)
    fine = Linking(smoothing=0.0, thresholds=tuple(np.linspace(0.1, 0.9, 81)))
    for power in (1.0, 2.0, 4.0):
        (tube,) = attention_to_tubes(maps, (120, 120), linking=replace(fine, contrast=power))
        left, top, right, bottom = tube.boxes[0]
        assert right - left == pytest.approx(2.8 * 15 / power**0.5, abs=2.5)
        assert bottom - top == right - left


def test_a_tube_follows_what_moves() -> None:
    boxes = [(5 + 2 * step, 10, 25 + 2 * step, 30) for step in range(20)]
    (tube,) = attention_to_tubes(
        draw_maps(boxes), (60, 80), video="a", label=3, score=0.7, linking=replace(STILL, resolution=80)
    )
    assert (tube.video, tube.label, tube.score, tube.first, len(tube)) == ("a", 3, 0.7, 0, 20)
    np.testing.assert_array_equal(tube.boxes, boxes)


def test_boxes_are_in_pixels_of_the_frame_whatever_the_grid() -> None:
    maps = draw_maps([(20, 10, 40, 30)] * 4)
    (tube,) = attention_to_tubes(maps, (240, 320), linking=STILL)
    np.testing.assert_allclose(tube.boxes, [[80, 40, 160, 120]] * 4, atol=4)
    (tube,) = attention_to_tubes(maps, (240, 320), linking=replace(STILL, resolution=320))
    np.testing.assert_allclose(tube.boxes, [[80, 40, 160, 120]] * 4, atol=2)
    (tube,) = attention_to_tubes(maps, (50, 333))
    assert tube.boxes.min() >= 0
    assert tube.boxes[:, 2].max() <= 333
    assert tube.boxes[:, 3].max() <= 50


def test_coarse_attention_finds_the_actor() -> None:
    """A 7x7 map that is the share of each cell the actor covers, as softmax over cells leaves it."""
    size, boxes = (112, 112), [(20 + step, 40, 60 + step, 84) for step in range(30)]
    covered = torch.nn.functional.adaptive_avg_pool2d(draw_maps(boxes, size)[:, None], 7)[:, 0]
    maps = torch.softmax(4 * covered.flatten(1), dim=1).reshape(30, 7, 7)
    (tube,) = attention_to_tubes(maps, size, linking=Linking(smoothing=2.0))
    assert tube_iou(tube, Tube("", 0, np.array(boxes, dtype=float))) > 0.6


def test_steadiness_passes_over_a_flash() -> None:
    maps = draw_maps([(5, 5, 25, 25)] * 9)
    maps[4] *= 0.8
    maps[4, 35:55, 55:75] = 1.0
    steady, restless = (
        attention_to_tubes(maps, (60, 80), linking=Linking(smoothing=0.0, iou_weight=weight))[0].boxes[4]
        for weight in (1.0, 0.0)
    )
    assert steady.tolist() == [5, 5, 25, 25]
    assert restless.tolist() == [55, 35, 75, 55]


def test_further_tubes_lie_apart_and_are_worth_less() -> None:
    strong, weak = draw_maps([(5, 5, 25, 25)] * 6), draw_maps([(50, 30, 70, 50)] * 6, value=0.6)
    first, second = attention_to_tubes(
        strong + weak, (60, 80), score=0.9, linking=Linking(smoothing=0.0, max_tubes=5)
    )  # pieces inside the two do not make tubes of their own
    assert first.boxes[0].tolist() == [5, 5, 25, 25]
    assert second.boxes[0].tolist() == [50, 30, 70, 50]
    # A box scores the cosine, and each of the five links of six frames 1.
    total = np.sqrt(400 * (1 + 0.36))
    scores = [20 * strength / total + 5 / 6 for strength in (1, 0.6)]
    assert first.score == 0.9
    assert second.score == pytest.approx(0.9 * scores[1] / scores[0])


def test_a_level_map_points_at_the_whole_frame() -> None:
    (tube,) = attention_to_tubes(torch.full((3, 7, 7), 1 / 49), (60, 80), score=0.5)
    assert tube.boxes.tolist() == [[0, 0, 80, 60]] * 3
    assert tube.score == 0.5


def test_a_single_level_frame_does_not_break_the_tube() -> None:
    maps = draw_maps([(5, 5, 45, 45)] * 5)
    maps[2] = 1.0
    (tube,) = attention_to_tubes(maps, (60, 80), linking=STILL)
    assert tube.boxes[[0, 2, 4]].tolist() == [[5, 5, 45, 45], [0, 0, 80, 60], [5, 5, 45, 45]]


def test_the_centred_tube() -> None:
    tube = centered_tube(4, (60, 80), 0.5, video="a", label=1, score=0.3)
    assert tube.boxes.tolist() == [[20, 15, 60, 45]] * 4
    assert (tube.video, tube.label, tube.score) == ("a", 1, 0.3)


def test_frame_differences_find_what_moves_and_not_what_is_bright() -> None:
    pixels = torch.zeros(12, 3, 64, 64, dtype=torch.uint8)
    pixels[:, :, 44:60, 4:20] = 255
    for step in range(12):
        pixels[step, 0, 10:26, 8 + 3 * step : 24 + 3 * step] = 200
    maps = frame_difference(pixels, (16, 16))
    assert maps.shape == (12, 16, 16)
    assert torch.equal(maps[0], maps[1])
    assert maps[:, 11:].eq(0).all()
    # By hand: between the first two frames columns 8 to 11 and 24 to 27 change by 200 in one channel of three.
    assert maps[1, 4, 2].item() == pytest.approx(200 / 3 * 3 / 4)
    assert maps[1, 4, 4].item() == 0
    (tube,) = attention_to_tubes(maps, (64, 64), linking=STILL)
    assert ((tube.boxes[:, 1] >= 4) & (tube.boxes[:, 3] <= 32)).all()
