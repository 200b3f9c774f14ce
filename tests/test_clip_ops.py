"""Crops against the lists they come from, resizing against Pillow, colours against their meaning; one draw a clip."""

import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from torch import Tensor

from muybridge.core.contracts import ClipInput
from muybridge.core.types import Clip
from muybridge.data.clip_ops import (
    ClipAugment,
    CropConfig,
    adjust_color,
    augment_clips,
    crop_boxes,
    crop_frames,
    draw_box,
    eval_short_side,
    fixed_offsets,
    normalize,
    prepare_clip,
    prepare_views,
    resize,
    resize_short,
)

RAW = ClipInput(1, 4, size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
STILL = ClipAugment(crop="center", flip=0.0)


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment_clip(
    source: Clip, label: int, knobs: ClipAugment, takes: ClipInput, mirror: dict | None, rng: torch.Generator
) -> tuple[Tensor, int]:
    """What becomes of frames alone."""
    inputs, label = augment_clips({"video": source}, label, knobs, takes, mirror, rng)
    return inputs["video"], label


def clip(frames: int = 4, height: int = 48, width: int = 64, channels: int = 3, seed: int = 0) -> Clip:
    coarse = torch.randint(0, 256, (frames, channels, height // 8 + 1, width // 8 + 1), generator=dice(seed))
    fine = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :height, :width].to(torch.uint8)
    return Clip(fine.contiguous(memory_format=torch.channels_last), torch.arange(frames) / 25)


@pytest.mark.parametrize("size", [(20, 31), (96, 100), (48, 64), (7, 64)])
def test_resizing_is_pillows(size: tuple[int, int]) -> None:
    pixels = clip().pixels
    resized = resize(pixels, *size)
    for before, after in zip(pixels, resized, strict=True):
        image = Image.fromarray(before.permute(1, 2, 0).numpy())
        expected = np.asarray(image.resize((size[1], size[0]), Image.Resampling.BILINEAR)).astype(int)
        assert abs(after.permute(1, 2, 0).numpy() - expected).max() <= 1


@pytest.mark.parametrize(
    ("height", "width", "scaled"), [(48, 64, (24, 32)), (64, 48, (32, 24)), (24, 24, (24, 24)), (9, 12, (24, 32))]
)
def test_the_shorter_side_decides(height: int, width: int, scaled: tuple[int, int]) -> None:
    assert resize_short(clip(1, height, width).pixels, 24).shape[2:] == scaled


def test_the_thirteen_places() -> None:
    # 340x256 frame, 224x168 crop: steps of (256-168)/4 = 22 down and (340-224)/4 = 29 across
    assert set(fixed_offsets(256, 340, 168, 224)) == {
        (0, 0), (0, 116), (88, 0), (88, 116), (44, 58),
        (44, 0), (44, 116), (88, 58), (0, 58),
        (22, 29), (22, 87), (66, 29), (66, 87),
    }  # fmt: skip
    assert len(fixed_offsets(256, 340, 168, 224)) == 13


def test_multi_scale_crops_have_the_sides_and_places_of_the_papers() -> None:
    rng = dice()
    boxes = {draw_box(256, 340, 224, ClipAugment(), rng) for _ in range(6000)}
    sides = [256, 224, 192, 168]  # int(256 * scale): 256, 224, 192, 168.96
    pairs = {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    assert {box[2:] for box in boxes} == pairs
    assert {box[:2] for box in boxes if box[2:] == (168, 192)} == set(fixed_offsets(256, 340, 168, 192))


def test_sides_near_the_final_size_are_taken_at_it() -> None:
    knobs = ClipAugment(scales=(1.0, 0.99, 0.5), max_distort=0)
    assert {draw_box(226, 300, 224, knobs, dice(seed))[2] for seed in range(60)} == {224, 113}
    assert {draw_box(223, 300, 224, knobs, dice(seed))[2] for seed in range(60)} == {223, 220, 111}


@given(
    st.integers(8, 400),
    st.integers(8, 400),
    st.integers(8, 300),
    st.sampled_from(["multi_scale", "random_resized", "center"]),
    st.integers(0, 99),
)
def test_boxes_lie_within_the_frame(height: int, width: int, size: int, crop: str, seed: int) -> None:
    top, left, tall, wide = draw_box(height, width, size, ClipAugment(crop=crop), dice(seed))  # pyright: ignore[reportArgumentType]
    assert min(top, left) >= 0
    assert min(tall, wide) >= 1
    assert top + tall <= height
    assert left + wide <= width


def test_random_resized_crops_keep_to_area_and_aspect() -> None:
    knobs = ClipAugment(crop="random_resized", area=(0.2, 0.4))
    boxes = np.array([draw_box(200, 220, 64, knobs, dice(seed)) for seed in range(300)])
    areas, aspects = boxes[:, 2] * boxes[:, 3] / (200 * 220), boxes[:, 3] / boxes[:, 2]
    assert 0.19 < areas.min() < 0.23 < 0.37 < areas.max() < 0.41
    assert 0.73 < aspects.min() < 0.8 < 1.25 < aspects.max() < 1.36
    assert len(set(map(tuple, boxes[:, :2]))) > 250


def test_test_crops_by_hand() -> None:
    assert crop_boxes(256, 340, 224, "center") == [(16, 58, 224, 224)]
    assert {box[:2] for box in crop_boxes(256, 340, 256, "three")} == {(0, 0), (0, 42), (0, 84)}
    assert {box[:2] for box in crop_boxes(340, 256, 256, "three")} == {(0, 0), (42, 0), (84, 0)}
    assert {box[:2] for box in crop_boxes(256, 340, 224, "ten")} == {(16, 58), (0, 0), (0, 116), (32, 0), (32, 116)}


def test_testing_cuts_the_centre_from_eight_sevenths() -> None:
    source = clip(2, 64, 96)
    assert eval_short_side(224) == 256
    assert eval_short_side(112) == 128
    expected = crop_frames(resize(source.pixels, 37, 56), (2, 12, 32, 32)).float() / 255
    torch.testing.assert_close(prepare_clip(source, RAW), expected)


def test_testing_may_squash_and_may_choose_the_short_side() -> None:
    source = clip(2, 64, 96)
    squashed = prepare_clip(source, RAW, CropConfig(resize=(32, 32)))
    torch.testing.assert_close(squashed, resize(source.pixels, 32, 32).float() / 255)
    selfy = prepare_clip(source, RAW, CropConfig(resize=(34, 46)))
    torch.testing.assert_close(selfy, crop_frames(resize(source.pixels, 34, 46), (1, 7, 32, 32)).float() / 255)
    tight = prepare_clip(source, RAW, CropConfig(short_side=32))
    torch.testing.assert_close(tight, crop_frames(resize(source.pixels, 32, 48), (0, 8, 32, 32)).float() / 255)
    enlarged = prepare_clip(clip(2, 16, 16), RAW, CropConfig(short_side=16))
    assert enlarged.shape == (2, 3, 32, 32)


def test_ten_crops_are_five_and_their_mirrors() -> None:
    views = prepare_views(clip(2, 64, 96), RAW, CropConfig(crops="ten"))
    assert views.shape == (10, 2, 3, 32, 32)
    assert torch.equal(views[5:], views[:5].flip(-1))
    assert len({tuple(view.flatten()[:50].tolist()) for view in views}) == 10
    assert torch.equal(views[0], prepare_clip(clip(2, 64, 96), RAW))
    assert prepare_views(clip(2, 64, 96), RAW, CropConfig(crops="three")).shape[0] == 3


def test_normalisation() -> None:
    takes = ClipInput(1, 4, size=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    pixels = clip().pixels
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (takes.mean, takes.std))
    expected = (pixels.float() / 255 - mean) / std
    torch.testing.assert_close(normalize(pixels, takes), expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(normalize(pixels.float() / 255, takes), expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(normalize(pixels.contiguous(), takes), expected, atol=2e-6, rtol=1e-5)
    grey = normalize(pixels[:, :1], takes)
    torch.testing.assert_close(grey, (pixels[:, :1].float() / 255 - mean.mean()) / std.mean(), atol=2e-6, rtol=1e-5)
    floats = pixels.float()
    normalize(floats, takes)
    assert torch.equal(floats, pixels.float())


def test_without_changes_a_training_clip_is_the_centre() -> None:
    video, label = augment_clip(clip(), 3, STILL, RAW, {}, dice())
    assert label == 3
    torch.testing.assert_close(video, resize(crop_frames(clip().pixels, (0, 8, 48, 48)), 32, 32).float() / 255)


MIRRORED = resize(crop_frames(clip().pixels, (0, 8, 48, 48)), 32, 32).flip(-1).float() / 255


@pytest.mark.parametrize(("label", "mirror", "labels", "becomes", "flips"), [
    (3, {}, "swap", 3, True), (3, None, "swap", 3, False), (86, {86: 87, 87: 86}, "swap", 87, True),
    (87, {86: 87, 87: 86}, "swap", 86, True), (86, {86: 87, 87: 86}, "skip", 86, False),
    (3, {86: 87, 87: 86}, "skip", 3, True),
])  # fmt: skip
def test_a_mirror_knows_the_labels(label: int, mirror: dict | None, labels: str, becomes: int, flips: bool) -> None:
    knobs = ClipAugment(crop="center", flip=1.0, flip_labels=labels)  # pyright: ignore[reportArgumentType]
    video, after = augment_clip(clip(), label, knobs, RAW, mirror, dice())
    assert after == becomes
    torch.testing.assert_close(video, MIRRORED if flips else MIRRORED.flip(-1))


def test_flips_come_as_often_as_told() -> None:
    knobs = ClipAugment(crop="center", flip=0.3)
    labels = [augment_clip(clip(1, 16, 16), 0, knobs, RAW, {0: 1}, dice(seed))[1] for seed in range(600)]
    assert 130 < sum(labels) < 230


def one_picture_repeated() -> Clip:
    return Clip(clip(1).pixels.expand(4, -1, -1, -1), torch.arange(4) / 25)


@pytest.mark.parametrize("crop", ["multi_scale", "random_resized", "random"])
def test_one_draw_for_all_frames_and_the_dice_decide(crop: str) -> None:
    knobs = ClipAugment(crop=crop, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)  # pyright: ignore[reportArgumentType]
    first = augment_clip(one_picture_repeated(), 0, knobs, RAW, {}, dice(5))[0]
    assert first.shape == (4, 3, 32, 32)
    assert all(torch.equal(first[0], frame) for frame in first)
    assert torch.equal(first, augment_clip(one_picture_repeated(), 0, knobs, RAW, {}, dice(5))[0])
    assert not torch.equal(first, augment_clip(one_picture_repeated(), 0, knobs, RAW, {}, dice(6))[0])


def test_training_may_squash_first() -> None:
    video, _ = augment_clip(clip(), 0, ClipAugment(crop="center", flip=0.0, resize=(32, 32)), RAW, {}, dice())
    torch.testing.assert_close(video, resize(clip().pixels, 32, 32).float() / 255)


def coloured(knobs: ClipAugment, seed: int, source: Clip) -> tuple[Tensor, Tensor]:
    """The same clip without and with changes of colour, nothing else changed."""
    plain = augment_clip(source, 0, STILL, RAW, {}, dice(seed))[0]
    return plain, augment_clip(source, 0, knobs, RAW, {}, dice(seed))[0]


def mild() -> Clip:
    """Colours so far from black and white that nothing is cut off."""
    return Clip((clip().pixels // 4 + 96).to(torch.uint8), clip().seconds)


def luma(frames: Tensor) -> Tensor:
    return (frames * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)


def test_brightness_is_a_factor() -> None:
    ratios = []
    for seed in range(40):
        plain, changed = coloured(STILL.model_copy(update={"brightness": 0.3}), seed, mild())
        ratio = changed / plain
        assert ratio.std() < 1e-4
        ratios.append(float(ratio.mean()))
    assert 0.7 < min(ratios) < 0.8 < 1.2 < max(ratios) < 1.3


def test_contrast_turns_about_the_mean() -> None:
    plain, changed = coloured(STILL.model_copy(update={"contrast": 0.5}), 3, mild())
    factor = (changed - changed.mean()).std() / (plain - plain.mean()).std()
    assert abs(factor - 1) > 0.05
    torch.testing.assert_close(luma(changed).mean(), luma(plain).mean(), atol=0.02, rtol=0)


def test_saturation_and_hue_keep_brightness() -> None:
    for knob in ("saturation", "hue"):
        plain, changed = coloured(STILL.model_copy(update={knob: 0.3}), 1, mild())
        assert (changed - plain).abs().mean() > 0.005
        torch.testing.assert_close(luma(changed), luma(plain), atol=2e-3, rtol=0)


def test_hue_turns_all_the_way_round() -> None:
    red = Clip(
        torch.tensor([150, 110, 110]).to(torch.uint8).view(1, 3, 1, 1).expand(2, 3, 48, 64), torch.arange(2) / 25
    )
    knobs = STILL.model_copy(update={"hue": 0.5})
    pixels = [coloured(knobs, seed, red)[1][0, :, 5, 5].tolist() for seed in range(60)]
    hues = sorted(colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels)
    assert max(np.diff([*hues, hues[0] + 1])) < 0.2


def test_grey_takes_colour_away() -> None:
    plain, changed = coloured(STILL.model_copy(update={"grayscale": 1.0}), 0, mild())
    torch.testing.assert_close(changed[:, 0], luma(plain), atol=1e-4, rtol=0)
    torch.testing.assert_close(changed[:, 0], changed[:, 2], atol=1e-5, rtol=0)


def test_colours_stay_within_bounds() -> None:
    bright = adjust_color(clip().pixels, 3 * torch.eye(3), torch.full((3,), -0.5))
    assert (bright.min(), bright.max()) == (0, 1)


@pytest.mark.parametrize("channels", [1, 2])
def test_other_channels_than_three(channels: int) -> None:
    knobs = ClipAugment(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, grayscale=0.5)
    video, _ = augment_clip(clip(channels=channels), 0, knobs, RAW, {}, dice())
    assert video.shape == (4, channels, 32, 32)
    assert prepare_clip(clip(channels=channels), RAW).shape == (4, channels, 32, 32)


@pytest.mark.parametrize(("knobs", "message"), [
    ({"area": (0.5, 0.2)}, "area needs the smaller number first"),
    ({"aspect_ratio": (2.0, 0.5)}, "aspect_ratio needs the smaller"),
    ({"scales": (1.2,)}, "shares of the frame"), ({"colour": 1}, "Extra inputs"),
    ({"flip": 2}, "less than or equal to 1"),
])  # fmt: skip
def test_knobs_that_make_no_sense(knobs: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ClipAugment(**knobs)
