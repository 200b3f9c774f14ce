import numpy as np
import pytest
import torch
from einops import rearrange
from pydantic import ValidationError

from muybridge.core.contracts import ClipInput
from muybridge.core.errors import RunError
from muybridge.engine.convert import load_released
from muybridge.models.selfy import SELFYConfig
from muybridge.models.selfy.block import ConvExtraction, SelfSimilarityBlock, SoftArgmax
from muybridge.models.selfy.similarity import _exportable, normalize_channels, self_similarity
from tests.authors import authors_keys, randomized
from tests.oracles import selfy as oracle

SMALL = {"backbone": "resnet18", "segments": 3, "dropout": 0.0, "size": 64, "window": (3, 5, 5), "hidden": 8}
REGIONS = (((-1, 0, 1), (1, 2)), ((0,), (0, 0)), ((2, -4, 1), (2, 1)), ((-2, -1, 0, 1, 2), (4, 4)))


def features(clips=2, frames=4, height=5, width=6, channels=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(clips, frames, height, width, channels, generator=rng, dtype=torch.float64)


def clips(count=2, frames=3, size=64, seed=0):
    return torch.randn(count, frames, 3, size, size, generator=torch.Generator().manual_seed(seed))


class TestSimilarity:
    @pytest.mark.parametrize(("offsets", "reach"), REGIONS)
    def test_transform_is_the_oracles(self, offsets, reach):
        v = features()
        expected = oracle.self_similarity(v.numpy(), offsets, reach)
        np.testing.assert_allclose(self_similarity(v, offsets, reach), expected, atol=1e-12)
        np.testing.assert_allclose(_exportable(v, offsets, reach), expected, atol=1e-12)

    @pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 7), (4, 2)])
    def test_maps_smaller_than_the_window(self, height, width):
        v = features(1, 2, height, width)
        expected = oracle.self_similarity(v.numpy(), (0, 1), (2, 3))
        np.testing.assert_allclose(self_similarity(v, (0, 1), (2, 3)), expected, atol=1e-12)

    @pytest.mark.parametrize(("offsets", "reach"), REGIONS)
    def test_gradient_is_that_of_the_definition(self, offsets, reach):
        v = features(1, 3, 3, 2, 2).requires_grad_()
        assert torch.autograd.gradcheck(lambda v: self_similarity(v, offsets, reach), v, fast_mode=True)
        cotangent = torch.randn_like(self_similarity(v, offsets, reach))
        ours, definition = (
            torch.autograd.grad(transform(v, offsets, reach), v, cotangent)[0]
            for transform in (self_similarity, _exportable)
        )
        torch.testing.assert_close(ours, definition)

    def test_unit_length_leaves_nothing_at_nothing_and_knows_itself(self):
        x = torch.randn(2, 5, 3, 3)
        x[0, :, 0, 0] = 0
        unit = normalize_channels(x)
        assert (unit[0, :, 0, 0] == 0).all()
        v = rearrange(unit, "(b t) c x y -> b t x y c", t=1)
        same = self_similarity(v, (0,), (1, 1))[0, 0, ..., 0, 1, 1]
        assert same[0, 0] == 0
        torch.testing.assert_close(same.flatten()[1:], torch.ones(8))

    def test_low_precision_stays_close(self):
        v = normalize_channels(torch.randn(2, 32, 6, 6))
        v = rearrange(v, "(b t) c x y -> b t x y c", t=2)
        low = self_similarity(v.bfloat16(), (0, 1), (2, 2))
        torch.testing.assert_close(low.float(), self_similarity(v, (0, 1), (2, 2)), atol=0.02, rtol=0.02)


class TestExtraction:
    @pytest.mark.parametrize("window", [(1, 1), (3, 3), (5, 7), (9, 9), (11, 5), (13, 13)])
    def test_convolutions_end_at_one_position(self, window):
        layer = ConvExtraction(window, (4, 8, 16, 6))
        assert layer(torch.randn(10, 1, *window)).shape == (10, 6)

    def test_strides_of_nine_by_nine_are_the_authors(self):
        layers = [layer.conv for layer in ConvExtraction((9, 9), (4, 16, 64, 64)).layers]
        assert [layer.stride for layer in layers] == [(1, 1), (2, 2), (2, 2), (1, 1)]
        assert [layer.padding for layer in layers] == [(1, 1), (1, 1), (1, 1), (0, 0)]
        assert layers[-1].kernel_size == (3, 3)

    def test_soft_argmax_is_the_oracles(self):
        windows = torch.randn(6, 1, 5, 3)
        expected = [oracle.soft_argmax(window[0].double().numpy(), 0.3) for window in windows]
        np.testing.assert_allclose(SoftArgmax((5, 3), 0.3)(windows), np.stack(expected), atol=1e-5)

    def test_soft_argmax_finds_a_moved_pattern(self):
        torch.manual_seed(0)
        still = torch.randn(1, 16, 12, 12)
        moved = torch.roll(still, (2, -1), dims=(2, 3))  # two rows down, one column left
        v = rearrange(normalize_channels(torch.cat([still, moved])), "t c x y -> 1 t x y c")
        windows = self_similarity(v, (1,), (3, 3))[0, 0, 3:-3, 3:-3]
        motion = SoftArgmax((7, 7), 0.01)(rearrange(windows, "x y 1 u v -> (x y) 1 u v"))
        torch.testing.assert_close(motion, torch.tensor([2.0, -1.0]).expand_as(motion), atol=1e-3, rtol=0)


class TestSELFYNet:
    def test_starts_as_the_trunk_below_it(self):
        torch.manual_seed(0)
        block = SelfSimilarityBlock(16, 3, window=(3, 5, 5), hidden=8)
        x = torch.rand(6, 16, 8, 8)
        torch.testing.assert_close(block(x), x)

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"shift": False},
            {"extraction": "mlp"},
            {"extraction": "soft_argmax", "temperature": 0.1},
            {"integration": "mlp"},
            {"upsample": "bilinear"},
            {"similarity_stages": (2, 3, 4, 5)},
            {"offsets": (1,)},
            {"window": (1, 3, 7)},
        ],
        ids=str,
    )
    def test_every_switch_trains_every_parameter(self, settings):
        torch.manual_seed(0)
        model = randomized(SELFYConfig(**SMALL | settings).build(4)).train()
        model(video=clips()).logits.square().sum().backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == []
        model.eval()
        video = clips()
        plain = model(video=video).logits
        with torch.no_grad():
            torch.testing.assert_close(model(video=video).logits, plain, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("size", [64, 72, 80])
    def test_odd_maps(self, size):
        model = randomized(SELFYConfig(**SMALL | {"similarity_stages": (3, 4, 5), "size": size}).build(4))
        assert torch.isfinite(model(video=clips(size=size)).logits).all()

    def test_sees_motion_without_the_shift(self):
        video = clips().double()
        for stages, sees in (((3,), True), ((), False)):
            model = randomized(SELFYConfig(**SMALL | {"shift": False, "similarity_stages": stages}).build(4)).double()
            same = torch.allclose(model(video=video).logits, model(video=video.flip(1)).logits, atol=1e-9, rtol=0)
            assert same != sees

    def test_samples_do_not_talk(self):
        model = randomized(SELFYConfig(**SMALL).build(4))
        video = clips()
        torch.testing.assert_close(model(video=video).logits[1:], model(video=video[1:]).logits, atol=1e-5, rtol=1e-4)

    def test_draws_the_similarities(self):
        model = randomized(SELFYConfig(**SMALL).build(4))
        model.return_maps = True
        with torch.no_grad():
            maps = model(video=clips()).maps
        assert maps["similarity_res3"].shape == (2, 3, 4, 4, 3, 5, 5)
        assert maps["similarity_res3"].abs().max() < 1 + 1e-4
        assert set(maps) == {"similarity_res3", "class_activation"}

    def test_autocast_trains(self):
        model = SELFYConfig(**SMALL).build(4)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.losses(model(video=clips()), torch.tensor([0, 1]), {})["cross_entropy"]
        loss.backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())

    def test_takes_one_frame_of_each_segment(self):
        assert SELFYConfig(segments=16).takes() == ClipInput(segments=16)

    def test_a_block_behind_the_last_stage_is_refused(self):
        with pytest.raises(ValueError, match="a block after res3, and with stages = 1 the trunk ends at res2"):
            SELFYConfig(stages=1)

    def test_even_windows_are_refused(self):
        with pytest.raises(ValidationError, match=r"window sizes .* are odd"):
            SELFYConfig(window=(5, 8, 9))

    def test_export_gives_the_same_answer(self):
        model = randomized(SELFYConfig(**SMALL).build(4))
        batch = torch.export.Dim("batch", min=1, max=8)
        exported = torch.export.export(model, (), {"video": clips()}, dynamic_shapes={"video": {0: batch}})
        video = clips(3, seed=1)
        torch.testing.assert_close(
            exported.module()(video=video).logits, model(video=video).logits, atol=1e-4, rtol=1e-4
        )

    def test_another_window_in_time_is_refused_in_words(self):
        key_patterns = (
            (r"selfy\.res3\.reduction\.conv", "base_model.selfy.stss_transformation.downsample.0"),
            (r"selfy\.res3\.offset_fusion\.0\.conv", "base_model.selfy.stss_integration.conv3_fuse.1"),
        )
        state = authors_keys(authors_keys(SELFYConfig(**SMALL).build(4).state_dict()), key_patterns)
        with pytest.raises(RunError, match=r"has 3 time offsets\. Expected 5.*window = \[3, 9, 9\]"):
            load_released(SELFYConfig(**SMALL | {"window": (5, 5, 5)}).build(4), state)
