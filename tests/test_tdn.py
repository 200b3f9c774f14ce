import copy

import numpy as np
import pytest
import torch
from einops import rearrange

from muybridge.core.contracts import ClipData, ClipInput
from muybridge.engine.convert import load_released
from muybridge.models.clips import as_images
from muybridge.models.tdn import TDNConfig, long_term, products
from muybridge.models.tdn.long_term import LongTermDifference
from muybridge.models.tdn.short_term import ShortTermDifference
from muybridge.nn.backbones import resnet
from tests.authors import TDN_KEY_PATTERNS, authors_keys, randomized
from tests.oracles import tdn as oracle

SMALL = {"backbone": "resnet18", "segments": 3, "frames_per_segment": 3, "dropout": 0.0, "size": 32}


def clips(count=2, frames=9, channels=3, size=32, seed=0):
    return torch.randn(count, frames, channels, size, size, generator=torch.Generator().manual_seed(seed))


def norm(layer):
    return tuple(
        value.detach().double().numpy()
        for value in (layer.norm.weight, layer.norm.bias, layer.norm.running_mean, layer.norm.running_var)
    )


def kernel(layer):
    return layer.conv.weight.detach().double().numpy()


class TestShortTerm:
    @pytest.mark.parametrize("size", [32, 36])  # 36: the motion map is not half of the image map
    def test_is_the_oracles(self, size):
        torch.manual_seed(0)
        trunk = resnet("resnet18")
        options = {"image_weight": 0.75, "fusion": "weighted", "upsample": "nearest", "source": "differences"}
        module = randomized(ShortTermDifference(trunk, 3, 1, **options))
        video = rearrange(clips(1, 6, size=size), "b (s f) c h w -> b s f c h w", f=3)
        image = torch.randn(2, 64, size // 4, size // 4)
        with torch.no_grad():
            fused = module.fuse(image, module.forward_stem(module.differences(video)))
        for segment in range(2):
            weights = (kernel(module.stem), norm(module.stem))
            expected = oracle.short_term(video[0, segment].double().numpy(), image[segment].numpy(), weights, 0.75)
            np.testing.assert_allclose(fused[segment], expected, atol=1e-4)

    def test_still_segments_show_no_motion(self):
        module = TDNConfig(**SMALL).build(4).short_term
        still = rearrange(clips(1, 3), "b s c h w -> b s 1 c h w").expand(1, 3, 3, 3, 32, 32)
        assert not module.differences(still).any()

    def test_the_motion_stem_starts_with_the_trunks_grey_filters(self):
        model = TDNConfig(**SMALL).build(4)
        gray = model.trunk.stem.conv.weight.mean(1)
        for channel in range(6):
            torch.testing.assert_close(model.short_term.stem.conv.weight[:, channel], gray)

    def test_the_motion_stages_are_a_copy_that_learns_by_itself(self):
        model = TDNConfig(**SMALL).build(4)
        theirs, ours = model.trunk.stages[0], model.short_term.stages[0]
        for (_, a), (_, b) in zip(theirs.named_parameters(), ours.named_parameters(), strict=True):
            assert torch.equal(a, b)
            assert a is not b


class TestLongTerm:
    @pytest.mark.parametrize(("segments", "size"), [(1, 4), (3, 4), (2, 5)])
    def test_is_the_oracles(self, segments, size):
        module = randomized(LongTermDifference(32, segments, reduction=8))
        x = torch.randn(2 * segments, 32, size, size)
        weights = {"align": module.align.weight.detach().double().numpy()}
        for name in ("squeeze", "fine", "coarse", "expand"):
            weights |= {name: kernel(getattr(module, name)), f"{name}_norm": norm(getattr(module, name))}
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                out = rearrange(module(x), "(b t) c h w -> b t c h w", b=2).detach()
            for clip in range(2):
                frames = x.double().numpy()[clip * segments : (clip + 1) * segments]
                np.testing.assert_allclose(out[clip], oracle.long_term(frames, weights), atol=1e-5)

    def test_gates_stay_within_half(self):
        module = randomized(LongTermDifference(32, 3, reduction=8))
        x = 10 * torch.randn(6, 32, 4, 4)
        assert module.gain(x).abs().max() < 0.5
        module.gate = "sigmoid"
        assert (module.gain(x) > 0).all()

    def test_statistics_see_both_directions(self):
        """The norms of the branches run twice, so that a step of 0.1 leaves 0.81 of the first running variance."""
        module = LongTermDifference(32, 3, reduction=8).train()
        before = {name: module.get_submodule(f"{name}.norm").num_batches_tracked.item() for name in ("fine", "squeeze")}
        module(torch.zeros(6, 32, 4, 4))
        after = {name: module.get_submodule(f"{name}.norm").num_batches_tracked.item() for name in ("fine", "squeeze")}
        assert after["fine"] - before["fine"] == 2
        assert after["squeeze"] - before["squeeze"] == 1
        torch.testing.assert_close(module.fine.norm.running_var, torch.full((4,), 0.81))

    @pytest.mark.parametrize(
        "options", [{}, {"bidirectional": False}, {"multi_scale": False}, {"gate": "sigmoid"}, {"gate": "sum"}], ids=str
    )
    def test_products_train_as_convolutions_and_norms_do(self, options, monkeypatch):
        """Answers, every gradient and running statistics, in float64; pieces of few rows, so that there are several."""
        monkeypatch.setattr(products, "_CHUNK_NUMEL", 32 * 40)
        slow = randomized(LongTermDifference(32, 3, reduction=8, **options)).double().train()
        fast = copy.deepcopy(slow)
        x = torch.randn(6, 32, 5, 4, dtype=torch.float64).contiguous(memory_format=torch.channels_last).requires_grad_()
        upstream = torch.randn(6, 32, 5, 4, dtype=torch.float64)
        results = []
        for module, result in ((slow, False), (fast, True)):
            monkeypatch.setattr(long_term, "use_matmul", lambda _, result=result: result)
            out = module(x)
            results.append([out, *torch.autograd.grad(out, [x, *module.parameters()], upstream), *module.buffers()])
        for tensor, changed in zip(*results, strict=True):
            torch.testing.assert_close(tensor, changed, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize(
        "options", [{"bidirectional": False}, {"source": "features", "bidirectional": False}], ids=str
    )
    def test_one_direction_looks_ahead_only(self, options):
        module = randomized(LongTermDifference(32, 3, reduction=8, **options))
        x = torch.randn(3, 32, 4, 4)
        changed = x.clone()
        changed[0] += 1
        torch.testing.assert_close(module(x)[1:], module(changed)[1:])
        changed = x.clone()
        changed[2] += 1
        assert not torch.allclose(module(x)[1], module(changed)[1])


class TestTDN:
    VARIANTS = (
        {},
        {"backbone": "resnet50"},
        {"short_stages": 0},
        {"short_stages": 1},
        {"short_stages": 3, "long_stages": (4, 5)},
        {"short_source": "frames"},
        {"short_fusion": "sum"},
        {"short_fusion": "attention"},
        {"image_weight": 0.6},
        {"long_stages": (), "temporal_stages": ()},
        {"long_source": "features"},
        {"long_gate": "sigmoid"},
        {"long_gate": "sum"},
        {"multi_scale": False},
        {"bidirectional": False},
        {"upsample": "bilinear"},
        {"frames_per_segment": 2, "segments": 4},
    )

    @pytest.mark.parametrize("options", VARIANTS, ids=str)
    def test_every_switch_trains_every_parameter(self, options):
        torch.manual_seed(0)
        config = TDNConfig(**SMALL | {"size": 64} | options)
        model = randomized(config.build(4)).train()
        takes = config.takes()
        video = clips(frames=takes.segments * takes.frames_per_segment, size=64)
        model(video=video).logits.square().sum().backward()
        idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert idle == []
        model.eval()
        unfolded = model(video=video).logits
        with torch.no_grad():
            torch.testing.assert_close(model(video=video).logits, unfolded, atol=1e-4, rtol=1e-4)

    def test_takes_consecutive_frames(self):
        assert TDNConfig().takes() == ClipInput(segments=8, frames_per_segment=5)

    @pytest.mark.parametrize(
        ("segments", "options", "weight"), [(8, {}, 0.5), (16, {}, 0.75), (8, {"image_weight": 0.9}, 0.9)]
    )
    def test_the_image_weight_depends_on_the_segments(self, segments, options, weight):
        model = TDNConfig(**SMALL | {"segments": segments} | options).build(4)
        assert model.short_term.image_weight == weight

    @pytest.mark.parametrize(
        "options", [{"short_stages": 1}, {}, {"short_stages": 4}, {"upsample": "bilinear"}], ids=str
    )
    def test_an_image_path_without_weight_is_not_computed(self, options):
        """What is computed without it equals the general formula, in which the image path is multiplied by zero."""
        model = randomized(
            TDNConfig(**SMALL | {"image_weight": 0.0, "size": 36, "stages": 3} | options).build(4)
        ).train()
        video, short = clips(size=36), model.short_term
        segments = rearrange(video, "b (s f) c h w -> b s f c h w", f=3)
        motion = short.forward_stem(short.differences(segments))
        x = short.fuse(model.trunk.forward_stem(as_images(segments.flatten(0, 1))), motion)
        for index, stage in enumerate(model.trunk.stages):
            x = stage(x)
            if index < len(short.stages):
                motion = short.stages[index](motion)
                x = short.fuse(x, motion)
        logits = model(video=video).logits
        torch.testing.assert_close(logits, model.head(x), rtol=0, atol=0)
        logits.square().sum().backward()
        without = {name for name, value in model.named_parameters() if value.grad is None}
        frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
        early = ("trunk.stem.", *(f"trunk.stages.{index}." for index in range(len(short.stages))))
        assert without == frozen == {name for name, _ in model.named_parameters() if name.startswith(early)}

    def test_modules_stand_only_in_the_stages_that_are_kept(self):
        model = TDNConfig(**SMALL | {"stages": 2, "width": 8, "short_stages": 3}).build(4)
        assert len(model.trunk.stages) == len(model.short_term.stages) == 2
        assert model.trunk.stages[1][0].after_conv1.long_term.squeeze.conv.out_channels == 1
        with pytest.raises(ValueError, match="short_stages = 4, and with stages = 2 there are the stem and 2 more"):
            TDNConfig(stages=2, short_stages=4)

    def test_both_modules_and_the_temporal_convolution_see_order(self):
        video = clips()
        blind = {"short_stages": 0, "long_stages": (), "temporal_stages": ()}
        segments = rearrange(video, "b (s f) c h w -> b s f c h w", f=3)
        # Two segments change places; merely turning time around would not show: both modules look both ways.
        between = rearrange(segments[:, [1, 0, 2]], "b s f c h w -> b (s f) c h w")
        within = rearrange(segments.flip(2), "b s f c h w -> b (s f) c h w")
        for on, changed, sees in (
            ({}, between, False),
            ({"long_stages": (3,)}, between, True),
            ({"temporal_stages": (3,)}, between, True),
            ({"short_stages": 1}, between, False),
            ({"short_stages": 1}, within, True),
            ({"long_stages": (3,)}, within, False),
        ):
            model = randomized(TDNConfig(**SMALL | blind | on).build(4))
            assert torch.allclose(model(video=video).logits, model(video=changed).logits, atol=1e-5) != sees

    def test_samples_do_not_talk(self):
        model = randomized(TDNConfig(**SMALL).build(4))
        video = clips()
        torch.testing.assert_close(model(video=video).logits[1:], model(video=video[1:]).logits, atol=1e-5, rtol=1e-4)

    def test_draws_differences_and_gates(self):
        model = randomized(TDNConfig(**SMALL).build(4))
        video = clips()
        unfolded = model(video=video)
        model.return_maps = True
        logits, maps = model(video=video)
        torch.testing.assert_close(logits, unfolded.logits)
        assert unfolded.maps == {}
        shapes = {name: tuple(drawn.shape) for name, drawn in maps.items()}
        assert shapes == {
            "differences": (2, 3, 16, 16),
            "gates_res3": (2, 3, 4, 4),
            "gates_res4": (2, 3, 2, 2),
            "gates_res5": (2, 3, 1, 1),
            "class_activation": (2, 3, 1, 1),
        }
        assert maps["gates_res3"].abs().max() < 0.5
        pooled = rearrange(video, "b (s f) c (h p) (w q) -> b s f c h w (p q)", f=3, p=2, q=2).mean(-1)
        torch.testing.assert_close(maps["differences"], pooled.diff(dim=2).abs().mean((2, 3)))

    def test_any_number_of_channels(self):
        model = TDNConfig(**SMALL).build(4, ClipData(channels=1))
        assert model(video=clips(channels=1)).logits.shape == (2, 4)

    def test_autocast_trains(self):
        model = TDNConfig(**SMALL).build(4)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.losses(model(video=clips()), torch.tensor([0, 1]), {})["cross_entropy"]
        loss.backward()
        assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())

    def test_a_checkpoint_with_biases_under_the_authors_names_gives_its_logits(self):
        settings = SMALL | {"backbone": "resnet50"}
        source = randomized(TDNConfig(**settings).build(4))
        state = authors_keys(source.state_dict(), TDN_KEY_PATTERNS)
        # A convolution that adds a constant before its norm, whose mean is larger by it, computes the same.
        for key in [key for key in state if key.endswith("running_mean") and "mse" not in key and "conv1_5" not in key]:
            conv = key.removesuffix(".running_mean").replace("downsample.1", "downsample.0").replace("bn", "conv")
            if f"{conv}.weight" in state:
                state[f"{conv}.bias"] = torch.randn(len(state[key]))
                state[key] += state[f"{conv}.bias"]
        state |= {
            "base_model.conv1_temp.weight": torch.zeros(64, 3, 7, 7),
            "base_model.conv1_temp.bias": torch.zeros(64),
        }
        model = TDNConfig(**settings).build(4).eval()
        load_released(model, {f"module.{key}": value for key, value in state.items()})
        video = clips()
        torch.testing.assert_close(model(video=video).logits, source(video=video).logits, atol=1e-4, rtol=1e-4)

    def test_export_gives_the_same_answer(self):
        model = randomized(TDNConfig(**SMALL).build(4))
        batch = torch.export.Dim("batch", min=1, max=8)
        exported = torch.export.export(model, (), {"video": clips()}, dynamic_shapes={"video": {0: batch}})
        video = clips(3, seed=1)
        torch.testing.assert_close(
            exported.module()(video=video).logits, model(video=video).logits, atol=1e-4, rtol=1e-4
        )
