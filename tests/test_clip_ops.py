"""Crops against listed offsets, resizing against Pillow, colors against definitions; one random sample per clip."""

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
    eval_short_side,
    fixed_offsets,
    normalize,
    prepare_clip,
    prepare_views,
    resize,
    resize_short,
    sample_box,
)

RAW = ClipInput(1, 4, size=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
STILL = ClipAugment(crop="center", flip=0.0)


def make_rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def augment_clip(
    source: Clip, label: int, augment: ClipAugment, takes: ClipInput, mirror: dict | None, rng: torch.Generator
) -> tuple[Tensor, int]:
    """Augmented frames without flow."""
    inputs, label = augment_clips({"video": source}, label, augment, takes, mirror, rng)
    return inputs["video"], label


def clip(frames: int = 4, height: int = 48, width: int = 64, channels: int = 3, seed: int = 0) -> Clip:
    coarse = torch.randint(0, 256, (frames, channels, height // 8 + 1, width // 8 + 1), generator=make_rng(seed))
    fine = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, :height, :width].to(torch.uint8)
    return Clip(fine.contiguous(memory_format=torch.channels_last), torch.arange(frames) / 25)


@pytest.mark.parametrize("size", [(20, 31), (96, 100), (48, 64), (7, 64)])
def test_resizing_equals_pillow(size: tuple[int, int]) -> None:
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


def test_the_thirteen_offsets() -> None:
    # 340x256 frame, 224x168 crop: steps of (256-168)/4 = 22 down and (340-224)/4 = 29 across
    assert set(fixed_offsets(256, 340, 168, 224)) == {
        (0, 0), (0, 116), (88, 0), (88, 116), (44, 58),
        (44, 0), (44, 116), (88, 58), (0, 58),
        (22, 29), (22, 87), (66, 29), (66, 87),
    }  # fmt: skip
    assert len(fixed_offsets(256, 340, 168, 224)) == 13


def test_multi_scale_crops_have_the_sides_and_places_of_the_papers() -> None:
    rng = make_rng()
    boxes = {sample_box(256, 340, 224, ClipAugment(), rng) for _ in range(6000)}
    sides = [256, 224, 192, 168]  # int(256 * scale): 256, 224, 192, 168.96
    pairs = {(a, b) for i, a in enumerate(sides) for j, b in enumerate(sides) if abs(i - j) <= 1}
    assert {box[2:] for box in boxes} == pairs
    assert {box[:2] for box in boxes if box[2:] == (168, 192)} == set(fixed_offsets(256, 340, 168, 192))


def test_sides_near_the_final_size_are_taken_at_it() -> None:
    augment = ClipAugment(scales=(1.0, 0.99, 0.5), max_distort=0)
    assert {sample_box(226, 300, 224, augment, make_rng(seed))[2] for seed in range(60)} == {224, 113}
    assert {sample_box(223, 300, 224, augment, make_rng(seed))[2] for seed in range(60)} == {223, 220, 111}


@given(
    st.integers(8, 400),
    st.integers(8, 400),
    st.integers(8, 300),
    st.sampled_from(["multi_scale", "random_resized", "center"]),
    st.integers(0, 99),
)
def test_boxes_lie_within_the_frame(height: int, width: int, size: int, crop: str, seed: int) -> None:
    top, left, box_height, box_width = sample_box(height, width, size, ClipAugment(crop=crop), make_rng(seed))  # pyright: ignore[reportArgumentType]
    assert min(top, left) >= 0
    assert min(box_height, box_width) >= 1
    assert top + box_height <= height
    assert left + box_width <= width


def test_random_resized_crops_keep_to_area_and_aspect() -> None:
    augment = ClipAugment(crop="random_resized", area=(0.2, 0.4))
    boxes = np.array([sample_box(200, 220, 64, augment, make_rng(seed)) for seed in range(300)])
    areas, aspects = boxes[:, 2] * boxes[:, 3] / (200 * 220), boxes[:, 3] / boxes[:, 2]
    assert 0.19 < areas.min() < 0.23 < 0.37 < areas.max() < 0.41
    assert 0.73 < aspects.min() < 0.8 < 1.25 < aspects.max() < 1.36
    assert len(set(map(tuple, boxes[:, :2]))) > 250


def test_test_crops_by_hand() -> None:
    assert crop_boxes(256, 340, 224, "center") == [(16, 58, 224, 224)]
    assert {box[:2] for box in crop_boxes(256, 340, 256, "three")} == {(0, 0), (0, 42), (0, 84)}
    assert {box[:2] for box in crop_boxes(340, 256, 256, "three")} == {(0, 0), (42, 0), (84, 0)}
    assert {box[:2] for box in crop_boxes(256, 340, 224, "ten")} == {(16, 58), (0, 0), (0, 116), (32, 0), (32, 116)}


def test_testing_crops_the_center_from_eight_sevenths() -> None:
    source = clip(2, 64, 96)
    assert eval_short_side(224) == 256
    assert eval_short_side(112) == 128
    expected = crop_frames(resize(source.pixels, 37, 56), (2, 12, 32, 32)).float() / 255
    torch.testing.assert_close(prepare_clip(source, RAW), expected)


def test_testing_may_resize_without_aspect_and_choose_the_short_side() -> None:
    source = clip(2, 64, 96)
    resized = prepare_clip(source, RAW, CropConfig(resize=(32, 32)))
    torch.testing.assert_close(resized, resize(source.pixels, 32, 32).float() / 255)
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


def test_normalization() -> None:
    takes = ClipInput(1, 4, size=32, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    pixels = clip().pixels
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (takes.mean, takes.std))
    expected = (pixels.float() / 255 - mean) / std
    torch.testing.assert_close(normalize(pixels, takes), expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(normalize(pixels.float() / 255, takes), expected, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(normalize(pixels.contiguous(), takes), expected, atol=2e-6, rtol=1e-5)
    gray = normalize(pixels[:, :1], takes)
    torch.testing.assert_close(gray, (pixels[:, :1].float() / 255 - mean.mean()) / std.mean(), atol=2e-6, rtol=1e-5)
    floats = pixels.float()
    normalize(floats, takes)
    assert torch.equal(floats, pixels.float())


def test_without_changes_a_training_clip_is_the_center() -> None:
    video, label = augment_clip(clip(), 3, STILL, RAW, {}, make_rng())
    assert label == 3
    torch.testing.assert_close(video, resize(crop_frames(clip().pixels, (0, 8, 48, 48)), 32, 32).float() / 255)


MIRRORED = resize(crop_frames(clip().pixels, (0, 8, 48, 48)), 32, 32).flip(-1).float() / 255


@pytest.mark.parametrize(("label", "mirror", "labels", "becomes", "flips"), [
    (3, {}, "swap", 3, True), (3, None, "swap", 3, False), (86, {86: 87, 87: 86}, "swap", 87, True),
    (87, {86: 87, 87: 86}, "swap", 86, True), (86, {86: 87, 87: 86}, "skip", 86, False),
    (3, {86: 87, 87: 86}, "skip", 3, True),
])  # fmt: skip
def test_mirroring_changes_the_labels(label: int, mirror: dict | None, labels: str, becomes: int, flips: bool) -> None:
    augment = ClipAugment(crop="center", flip=1.0, flip_labels=labels)  # pyright: ignore[reportArgumentType]
    video, after = augment_clip(clip(), label, augment, RAW, mirror, make_rng())
    assert after == becomes
    torch.testing.assert_close(video, MIRRORED if flips else MIRRORED.flip(-1))


def test_flips_have_the_given_probability() -> None:
    augment = ClipAugment(crop="center", flip=0.3)
    labels = [augment_clip(clip(1, 16, 16), 0, augment, RAW, {0: 1}, make_rng(seed))[1] for seed in range(600)]
    assert 130 < sum(labels) < 230


def repeated_frame() -> Clip:
    return Clip(clip(1).pixels.expand(4, -1, -1, -1), torch.arange(4) / 25)


@pytest.mark.parametrize("crop", ["multi_scale", "random_resized", "random"])
def test_one_sample_for_all_frames_and_the_generator_decides(crop: str) -> None:
    augment = ClipAugment(crop=crop, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2)  # pyright: ignore[reportArgumentType]
    first = augment_clip(repeated_frame(), 0, augment, RAW, {}, make_rng(5))[0]
    assert first.shape == (4, 3, 32, 32)
    assert all(torch.equal(first[0], frame) for frame in first)
    assert torch.equal(first, augment_clip(repeated_frame(), 0, augment, RAW, {}, make_rng(5))[0])
    assert not torch.equal(first, augment_clip(repeated_frame(), 0, augment, RAW, {}, make_rng(6))[0])


def test_training_may_resize_first() -> None:
    video, _ = augment_clip(clip(), 0, ClipAugment(crop="center", flip=0.0, resize=(32, 32)), RAW, {}, make_rng())
    torch.testing.assert_close(video, resize(clip().pixels, 32, 32).float() / 255)


def with_color_changes(augment: ClipAugment, seed: int, source: Clip) -> tuple[Tensor, Tensor]:
    """The same clip without and with color changes, nothing else changed."""
    plain = augment_clip(source, 0, STILL, RAW, {}, make_rng(seed))[0]
    return plain, augment_clip(source, 0, augment, RAW, {}, make_rng(seed))[0]


def mid_range_clip() -> Clip:
    """Colors so far from black and white that nothing is clipped."""
    return Clip((clip().pixels // 4 + 96).to(torch.uint8), clip().seconds)


def luma(frames: Tensor) -> Tensor:
    return (frames * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1)


def test_brightness_is_a_factor() -> None:
    ratios = []
    for seed in range(40):
        plain, changed = with_color_changes(STILL.model_copy(update={"brightness": 0.3}), seed, mid_range_clip())
        ratio = changed / plain
        assert ratio.std() < 1e-4
        ratios.append(float(ratio.mean()))
    assert 0.7 < min(ratios) < 0.8 < 1.2 < max(ratios) < 1.3


def test_contrast_scales_about_the_mean() -> None:
    plain, changed = with_color_changes(STILL.model_copy(update={"contrast": 0.5}), 3, mid_range_clip())
    factor = (changed - changed.mean()).std() / (plain - plain.mean()).std()
    assert abs(factor - 1) > 0.05
    torch.testing.assert_close(luma(changed).mean(), luma(plain).mean(), atol=0.02, rtol=0)


def test_saturation_and_hue_keep_brightness() -> None:
    for setting in ("saturation", "hue"):
        plain, changed = with_color_changes(STILL.model_copy(update={setting: 0.3}), 1, mid_range_clip())
        assert (changed - plain).abs().mean() > 0.005
        torch.testing.assert_close(luma(changed), luma(plain), atol=2e-3, rtol=0)


def test_hue_covers_the_whole_circle() -> None:
    red = Clip(
        torch.tensor([150, 110, 110]).to(torch.uint8).view(1, 3, 1, 1).expand(2, 3, 48, 64), torch.arange(2) / 25
    )
    augment = STILL.model_copy(update={"hue": 0.5})
    pixels = [with_color_changes(augment, seed, red)[1][0, :, 5, 5].tolist() for seed in range(60)]
    hues = sorted(colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels)
    assert max(np.diff([*hues, hues[0] + 1])) < 0.2


def test_grayscale_removes_color() -> None:
    plain, changed = with_color_changes(STILL.model_copy(update={"grayscale": 1.0}), 0, mid_range_clip())
    torch.testing.assert_close(changed[:, 0], luma(plain), atol=1e-4, rtol=0)
    torch.testing.assert_close(changed[:, 0], changed[:, 2], atol=1e-5, rtol=0)


def test_colors_stay_within_bounds() -> None:
    bright = adjust_color(clip().pixels, 3 * torch.eye(3), torch.full((3,), -0.5))
    assert (bright.min(), bright.max()) == (0, 1)


@pytest.mark.parametrize("channels", [1, 2])
def test_other_channels_than_three(channels: int) -> None:
    augment = ClipAugment(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.1, grayscale=0.5)
    video, _ = augment_clip(clip(channels=channels), 0, augment, RAW, {}, make_rng())
    assert video.shape == (4, channels, 32, 32)
    assert prepare_clip(clip(channels=channels), RAW).shape == (4, channels, 32, 32)


@pytest.mark.parametrize(("augment", "message"), [
    ({"area": (0.5, 0.2)}, "area needs the smaller number first"),
    ({"aspect_ratio": (2.0, 0.5)}, "aspect_ratio needs the smaller"),
    ({"scales": (1.2,)}, "shares of the frame"), ({"colour": 1}, "Extra inputs"),
    ({"flip": 2}, "less than or equal to 1"),
])  # fmt: skip
def test_invalid_settings_are_refused(augment: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ClipAugment(**augment)
