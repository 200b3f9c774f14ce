import copy
import pickle
import socket

import numpy as np
import pytest
import timm
import torch
from einops import rearrange
from torch import nn

from muybridge.core.contracts import ClipData, ClipInput
from muybridge.core.errors import RecipeError, RunError
from muybridge.engine.convert import load_released
from muybridge.models.selfy import SELFYConfig
from muybridge.models.selfy.block import SelfSimilarityBlock
from muybridge.models.tdn import TDNConfig
from muybridge.models.tsn import TSNConfig
from muybridge.nn.backbones import map_size, resnet
from muybridge.nn.checkpoint_keys import rename_keys, resnet_key_patterns
from muybridge.nn.convnorm import ConvNorm, MatrixConvNorm
from muybridge.nn.shift import TemporalConv, TemporalShift, clips_to_images, images_to_clips
from tests.authors import authors_keys, randomized
from tests.oracles import shift as oracle

SMALL = {"backbone": "resnet18", "segments": 3, "dropout": 0.0, "size": 32}


def clips(count=2, frames=3, channels=3, size=32, seed=0, dtype=torch.float32):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, frames, channels, size, size, generator=rng).to(dtype)


class TestShift:
    @pytest.mark.parametrize(("frames", "channels", "part"), [(4, 16, 8), (1, 16, 8), (2, 19, 4), (3, 6, 2)])
    def test_shift_is_the_oracles(self, frames, channels, part):
        x = clips(2, frames, channels, 3)
        out = TemporalShift(frames, part)(rearrange(x, "b t c h w -> (b t) c h w"))
        out = rearrange(out, "(b t) c h w -> b t c h w", t=frames)
        np.testing.assert_array_equal(out, oracle.temporal_shift(x.numpy(), part))

    def test_shift_keeps_channels_last(self):
        x = rearrange(clips(2, 4, 16, 3), "b t c h w -> (b t) c h w").contiguous(memory_format=torch.channels_last)
        assert TemporalShift(4)(x).is_contiguous(memory_format=torch.channels_last)

    def test_temporal_convolution_is_the_oracles(self):
        layer = TemporalConv(16, 4)
        x = clips(2, 4, 16, 3)
        flat = rearrange(x, "b t c h w -> (b t) c h w")
        torch.testing.assert_close(layer(flat), TemporalShift(4)(flat))  # it starts as the shift
        nn.init.normal_(layer.weight)
        expected = oracle.temporal_convolution(x.numpy(), layer.weight[:, 0].detach().numpy())
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                out = images_to_clips(layer(flat), 4).detach()
            np.testing.assert_allclose(rearrange(out, "b t h w c -> b t c h w"), expected, atol=1e-6)

    def test_temporal_convolution_has_the_gradient_of_its_equation(self):
        layer = TemporalConv(4, 3).double()
        nn.init.normal_(layer.weight)
        x = torch.randn(6, 4, 2, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda x, w: torch.func.functional_call(layer, {"weight": w}, x), (x, layer.weight)
        )

    @pytest.mark.parametrize("count", [1, 2])
    def test_temporal_convolution_keeps_channels_last_both_ways(self, count):
        # Else every layer beside it has to rearrange its maps: a third of a training step.
        last = {"memory_format": torch.channels_last}
        x = torch.randn(4 * count, 16, 3, 5).contiguous(**last).requires_grad_()
        strides = []
        between = x * 1
        between.register_hook(lambda g: strides.append(g.is_contiguous(**last)))
        out = TemporalConv(16, 4)(between)
        out.backward(torch.randn(out.shape).contiguous(**last))
        assert out.is_contiguous(**last)
        assert strides == [True]

    def test_by_image_undoes_by_clip(self):
        x = torch.randn(6, 2, 3, 4)
        torch.testing.assert_close(clips_to_images(images_to_clips(x, 3)), x)


class TestConvNorm:
    def layer(self):
        torch.manual_seed(0)
        layer = ConvNorm.make(4, 6, 3, stride=2)
        randomized(layer)
        return layer, torch.randn(2, 4, 7, 7)

    def folded(self, layer, x):
        with torch.no_grad():
            return layer(x)

    def test_folding_changes_nothing(self):
        layer, x = self.layer()
        reference = layer(x)
        assert reference.grad_fn is not None
        torch.testing.assert_close(self.folded(layer, x), reference)

    def test_folded_weights_follow_the_parameters(self):
        layer, x = self.layer()
        before = self.folded(layer, x)
        assert layer._folded is not None
        for change in (
            lambda: layer.conv.weight.mul_(2),
            lambda: layer.norm.running_mean.add_(1),
            lambda: layer.load_state_dict({key: value + 1 for key, value in layer.state_dict().items()}),
            lambda: layer.double().float(),
        ):
            with torch.no_grad():
                change()
            torch.testing.assert_close(self.folded(layer, x), layer(x).detach())
        assert not torch.allclose(self.folded(layer, x), before)

    def test_training_lets_folded_weights_go_and_moves_the_statistics(self):
        layer, x = self.layer()
        self.folded(layer, x)
        mean = layer.norm.running_mean.clone()
        layer.train()
        assert layer._folded is None
        self.folded(layer, x)
        assert not torch.equal(mean, layer.norm.running_mean)

    def test_autocast_folds_in_its_own_type(self):
        layer, x = self.layer()
        wide = self.folded(layer, x)
        with torch.autocast("cpu", torch.bfloat16):
            low = self.folded(layer, x)
        assert low.dtype == torch.bfloat16
        torch.testing.assert_close(low.float(), wide, atol=0.05, rtol=0.02)
        torch.testing.assert_close(self.folded(layer, x), wide)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    @pytest.mark.parametrize("relu", [False, True])
    def test_adds_and_rectifies_as_two_more_steps_would(self, dtype, relu):
        layer, x = self.layer()
        layer, x, residual = layer.to(dtype), x.to(dtype), torch.randn(2, 6, 4, 4, dtype=dtype)
        reference, before = layer(x).detach() + residual, residual.clone()
        reference = reference.relu() if relu else reference
        with torch.no_grad():
            output = layer(x, relu=relu, residual=residual)
        close = {"atol": 0.06, "rtol": 0.02} if dtype == torch.bfloat16 else {}
        torch.testing.assert_close(output, reference, **close)
        torch.testing.assert_close(layer(x, relu=relu, residual=residual).detach(), reference)
        assert torch.equal(residual, before)

    def test_one_layer_takes_images_of_any_size_and_number(self):
        layer, x = self.layer()
        self.folded(layer, x)
        for changed in (torch.randn(5, 4, 20, 31), torch.randn(1, 4, 3, 3)):
            torch.testing.assert_close(self.folded(layer, changed), layer(changed).detach())

    def test_copies_and_files_leave_the_folded_weights_behind(self):
        layer, x = self.layer()
        before = self.folded(layer, x)
        for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            assert copied._folded is None
            torch.testing.assert_close(self.folded(copied, x), before)
        torch.testing.assert_close(self.folded(layer, x), before)


class TestExactNorm:
    """Against torch's own norm in float64; in float32 and channels-last that one is a hundred times further off."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("shape", [(600, 4, 9, 9), (600, 16, 3, 3), (7, 3, 5, 5), (3, 64, 1, 1)])
    def test_output_gradients_and_statistics(self, shape, dtype):
        torch.manual_seed(0)
        layer = ConvNorm.make(1, shape[1], 1, pairwise_sum=True).train()
        nn.init.normal_(layer.norm.weight)
        nn.init.normal_(layer.norm.bias)
        reference = nn.BatchNorm2d(shape[1]).double()
        reference.load_state_dict(layer.norm.state_dict())
        y = (torch.randn(shape) + 0.5).to(dtype, memory_format=torch.channels_last).requires_grad_()
        wide = y.detach().double().requires_grad_()
        cotangent = torch.randn(shape).to(dtype)
        out, expected = layer.normalize(y), reference(wide)
        out.backward(cotangent)
        expected.backward(cotangent.double())
        assert out.is_contiguous(memory_format=torch.channels_last)
        for ours, theirs in (
            (out, expected),
            (y.grad, wide.grad),
            (layer.norm.weight.grad, reference.weight.grad),
            (layer.norm.bias.grad, reference.bias.grad),
            (layer.norm.running_mean, reference.running_mean),
            (layer.norm.running_var, reference.running_var),
        ):
            rounding = 2**-8 if ours.dtype == torch.bfloat16 else 2e-6
            torch.testing.assert_close(ours.double(), theirs, atol=rounding * theirs.abs().max().item(), rtol=0)
        assert (out.dtype, layer.norm.running_mean.dtype) == (dtype, torch.float32)
        assert layer.norm.num_batches_tracked == 1

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_parameters_of_another_kind_are_left_to_torch(self, dtype):
        layer = ConvNorm.make(1, 4, 1, pairwise_sum=True).to(dtype).train()
        reference = nn.BatchNorm2d(4).to(dtype)
        y = torch.randn(6, 4, 5, 5, dtype=dtype)
        assert torch.equal(layer.normalize(y), reference(y))
        assert torch.equal(layer.norm.running_var, reference.running_var)

    @pytest.mark.parametrize(("kernel", "padding", "stride"), [(3, 1, 1), (3, 1, 2), (4, 0, 1)])
    def test_matrix_product_is_the_convolution(self, kernel, padding, stride):
        torch.manual_seed(0)
        matrix = randomized(MatrixConvNorm.make(2, 5, kernel, stride=stride, padding=padding))
        reference = ConvNorm(matrix.conv, matrix.norm)
        x = torch.randn(6, 2, 4, 4, requires_grad=True)
        torch.testing.assert_close(matrix(x), reference(x))
        (ours,), (theirs,) = (torch.autograd.grad(layer(x).square().sum(), x) for layer in (matrix, reference))
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        with torch.no_grad():
            torch.testing.assert_close(matrix(x), reference(x))


class TestBackbone:
    @pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
    @pytest.mark.parametrize("channels", [1, 3, 5])
    def test_trunk_is_timms_network(self, backbone, channels):
        torch.manual_seed(0)
        theirs = timm.create_model(backbone, in_chans=channels, num_classes=0, global_pool="", zero_init_last=False)
        torch.manual_seed(0)
        ours = resnet(backbone, channels, zero_init_last=False).eval()
        x = torch.randn(2, channels, 32, 32)
        with torch.no_grad():
            out = ours.forward_stem(x)
            for stage in ours.stages:
                out = stage(out)
            torch.testing.assert_close(out, theirs.eval()(x), atol=1e-4, rtol=1e-4)
        assert ours.widths[-1] == out.shape[1]

    @pytest.mark.parametrize(("backbone", "zero_init_last"), [("resnet18", True), ("resnet50", False)])
    def test_a_seed_gives_the_weights_that_timms_would(self, backbone, zero_init_last):
        torch.manual_seed(0)
        theirs = timm.create_model(backbone, num_classes=0, zero_init_last=zero_init_last).state_dict()
        torch.manual_seed(0)
        ours = resnet(backbone, zero_init_last=zero_init_last).state_dict()
        renamed = rename_keys({f"base_model.{key}": value for key, value in theirs.items()}, resnet_key_patterns())
        assert {f"trunk.{key}" for key in ours} == renamed.keys()
        assert all(torch.equal(value, renamed[f"trunk.{key}"]) for key, value in ours.items())

    @pytest.mark.parametrize("backbone", ["resnet10", "resnet50"])
    def test_fewer_stages_are_the_first_ones(self, backbone):
        full = resnet(backbone, width=8, zero_init_last=False).eval()
        images, features = torch.randn(2, 3, 45, 64), []
        with torch.no_grad():
            x = full.forward_stem(images)
            for stage in full.stages:
                x = stage(x)
                features.append(x)
        for count, expected in enumerate(features, start=1):
            short = resnet(backbone, stages=count, width=8).eval()
            short.load_state_dict({key: value for key, value in full.state_dict().items() if key in short.state_dict()})
            with torch.no_grad():
                assert torch.equal(short(images), expected)
            assert short.widths == full.widths[: count + 1]
            assert expected.shape[2:] == (map_size(45, count), map_size(64, count))

    def test_a_narrow_trunk_has_its_width_throughout(self):
        assert resnet("resnet18", width=16).widths == (16, 16, 32, 64, 128)
        assert resnet("resnet50", width=16, stages=2).widths == (16, 64, 128)

    @pytest.mark.parametrize("settings", [{"backbone": "resnet10"}, {"width": 32}], ids=str)
    def test_no_pretrained_weights_of_another_width_or_depth(self, settings):
        with pytest.raises(RecipeError, match=r"no ImageNet weights exist for a resnet.*model.pretrained = false"):
            TSNConfig(**SMALL | settings | {"pretrained": True}).build(5)

    def test_a_released_checkpoint_needs_all_stages(self):
        released = TSNConfig(**SMALL | {"width": 8}).build(5).state_dict()
        with pytest.raises(RunError, match=r"unexpected: trunk\.stages\.3.*Build the model with the options"):
            load_released(TSNConfig(**SMALL | {"width": 8, "stages": 3}).build(5), authors_keys(released))

    def test_weights_out_of_reach_are_explained(self, monkeypatch):
        def unreachable(*arguments, **options):
            raise ConnectionError("no route to host")

        monkeypatch.setattr(timm, "create_model", unreachable)
        with pytest.raises(
            RecipeError, match=r"model.pretrained: the ImageNet weights 'resnet50.tv_in1k' could not be"
        ):
            TSNConfig(pretrained=True).build(5)
        with pytest.raises(RecipeError, match="pretrained = false to train without"):
            TDNConfig(pretrained=True).build(5)

    def test_without_a_connection_there_is_one_attempt(self, monkeypatch, tmp_path):
        attempts = []

        def refuse(address, *arguments, **options):
            attempts.append(address)
            raise OSError("no route to host")

        monkeypatch.setattr(socket, "create_connection", refuse)
        monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid:8080")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("urllib.request.getproxies", dict)
        monkeypatch.setattr("muybridge.core.hub.getproxies", dict)
        with pytest.raises(RecipeError, match=r"could not be fetched from http://hub\.invalid:8080/timm/resnet18"):
            TSNConfig(backbone="resnet18", pretrained=True).build(5)
        assert attempts == [("hub.invalid", 8080)]

    def test_pretrained_weights_are_asked_for_and_used(self, monkeypatch):
        calls = []
        create = timm.create_model

        def cached(name, pretrained=False, **options):
            calls.append((name, pretrained))
            model = create(name, pretrained=False, **options)
            nn.init.constant_(model.conv1.weight, 0.25)
            return model

        monkeypatch.setattr(timm, "create_model", cached)
        model = TSNConfig(backbone="resnet18", pretrained=True).build(5)
        assert calls == [("resnet18.tv_in1k", True)]
        assert (model.trunk.stem.conv.weight == 0.25).all()


class TestTSN:
    def test_takes_one_frame_of_each_segment(self):
        assert TSNConfig(segments=5, size=112).takes() == ClipInput(segments=5, size=112)

    def test_scores_are_the_mean_of_the_frames_scores(self):
        model = randomized(TSNConfig(**SMALL).build(4))
        video = clips()
        single = randomized(TSNConfig(**SMALL | {"segments": 1}).build(4))
        frames = torch.stack([single(video=video[:, t : t + 1]).logits for t in range(3)]).mean(0)
        torch.testing.assert_close(model(video=video).logits, frames, atol=1e-5, rtol=1e-4)

    def test_only_the_shift_sees_order(self):
        video = clips()
        for shift in (False, True):
            model = randomized(TSNConfig(**SMALL, shift=shift).build(4))
            forwards, backwards = model(video=video).logits, model(video=video.flip(1)).logits
            assert torch.allclose(forwards, backwards, atol=1e-5) != shift

    @pytest.mark.parametrize("channels", [1, 2])
    def test_any_number_of_channels(self, channels):
        model = TSNConfig(**SMALL, shift=True).build(4, ClipData(channels=channels))
        assert model(video=clips(channels=channels)).logits.shape == (2, 4)

    def test_maps_are_drawn_on_demand_and_explain_the_score(self):
        model = randomized(TSNConfig(**SMALL).build(4))
        video = clips(size=64)
        assert model(video=video).maps == {}
        model.return_maps = True
        logits, maps = model(video=video)
        assert maps["class_activation"].shape == (2, 3, 2, 2)
        best = logits.argmax(1)
        score = maps["class_activation"].mean((1, 2, 3)) + model.head.classifier.bias[best]
        torch.testing.assert_close(score, logits[torch.arange(2), best], atol=1e-5, rtol=1e-4)

    def test_dropout_acts_in_training(self):
        torch.manual_seed(0)
        model = TSNConfig(**SMALL | {"dropout": 0.5}).build(4)
        features = torch.randn(6, 512, 1, 1)
        assert not torch.equal(model.head(features), model.head(features))
        assert torch.equal(model.eval().head(features), model.head(features))

    def test_maps_for_pictures_cost_no_shift_of_the_answer(self):
        model = randomized(TSNConfig(**SMALL, shift=True).build(4))
        video = clips()
        reference = model(video=video).logits
        model.return_maps = True
        torch.testing.assert_close(model(video=video).logits, reference)


class TestCost:
    """Parameters (millions) and multiply-accumulates (thousand millions) of the authors' networks at 174 classes."""

    TABLE = (
        ("tsm_r50", TSNConfig(shift=True), 23.87, 32.70),
        ("tsm_r18", TSNConfig(backbone="resnet18", shift=True), 11.27, 14.51),
        ("selfy_r50", SELFYConfig(), 24.83, 35.99),
        ("selfy_r50_16", SELFYConfig(segments=16, window=(9, 9, 9)), 24.98, 75.68),
        ("selfy_r18", SELFYConfig(backbone="resnet18"), 11.76, 17.07),
        ("tdn_r50", TDNConfig(), 24.42, 35.64),
        ("tdn_r50_16", TDNConfig(segments=16), 24.42, 71.28),
        ("tdn_r101", TDNConfig(backbone="resnet101"), 43.68, 65.84),
        ("tdn_r101_16", TDNConfig(backbone="resnet101", segments=16), 43.68, 131.68),
    )

    @pytest.mark.parametrize(("name", "config", "millions", "giga"), TABLE, ids=[row[0] for row in TABLE])
    def test_cost_is_the_authors(self, name, config, millions, giga):
        with torch.device("meta"):
            model = config.build(174).eval()
            macs = []

            def count(module, inputs, out):
                if isinstance(module, nn.Conv2d | nn.Linear):
                    macs.append(out.numel() * module.weight[0].numel())
                elif isinstance(module, MatrixConvNorm):
                    macs.append(out.numel() * module.conv.weight[0].numel())
                elif isinstance(module, TemporalConv):
                    macs.append(out.numel() * 3)
                else:  # the similarities: one product of the reduced channels for each
                    images, _, height, width = inputs[0].shape
                    window = len(module.offsets) * (2 * module.radius[0] + 1) * (2 * module.radius[1] + 1)
                    macs.append(images * (height // 2) * (width // 2) * window * module.reduction.conv.out_channels)

            counted = nn.Conv2d | nn.Linear | MatrixConvNorm | TemporalConv | SelfSimilarityBlock
            for module in list(model.modules()):
                if isinstance(module, counted):
                    module.register_forward_hook(count)
            takes = config.takes()
            model(video=torch.empty(1, takes.segments * takes.frames_per_segment, 3, 224, 224))
        parameters = sum(parameter.numel() for parameter in model.parameters())
        if name.startswith("tdn"):  # the biases that normalisation removes, and the stem that is never used
            norms = [module for module in model.modules() if isinstance(module, ConvNorm) and module.conv.groups == 1]
            inside = [module for key, module in model.named_modules() if "long_term" in key]
            parameters += sum(norm.conv.out_channels for norm in norms if norm not in inside) + 9408 + 64
            parameters -= model.short_term.stem.conv.out_channels
        assert parameters / 1e6 == pytest.approx(millions, abs=0.006)
        assert sum(macs) / 1e9 == pytest.approx(giga, abs=0.006)


class TestAdopting:
    def test_a_checkpoint_under_the_authors_names_gives_its_logits(self):
        source = randomized(TSNConfig(**SMALL, shift=True).build(4))
        video = clips()
        state = authors_keys(source.state_dict(), prefix="module.")
        wrapped = {key.replace(".conv1.weight", ".conv1.net.weight"): value for key, value in state.items()}
        wrapped = {key.replace("base_model.conv1.net", "base_model.conv1"): value for key, value in wrapped.items()}
        for checkpoint in (state, wrapped, {"epoch": 3, "state_dict": state}):
            model = TSNConfig(**SMALL, shift=True).build(4).eval()
            load_released(model, checkpoint)
            torch.testing.assert_close(model(video=video).logits, source(video=video).logits)

    def test_what_does_not_fit_is_refused_in_words(self):
        model = TSNConfig(**SMALL).build(4)
        state = authors_keys(model.state_dict())
        with pytest.raises(RunError, match=r"contains a resnet18\. Expected a resnet34.*backbone = \"resnet18\""):
            load_released(TSNConfig(backbone="resnet34").build(4), state)
        with pytest.raises(RunError, match=r"has 4 classes\. Expected 7"):
            load_released(TSNConfig(**SMALL).build(7), state)
        with pytest.raises(RunError, match="keys are not those of a ResNet"):
            load_released(model, {"lstm.weight": torch.zeros(1)})
        with pytest.raises(RunError, match=r"missing: head\.classifier\.bias; unexpected: extra\.weight\."):
            load_released(
                model,
                {key: value for key, value in state.items() if key != "new_fc.bias"} | {"extra.weight": torch.zeros(1)},
            )
        with pytest.raises(RunError, match=r"stem\.conv\.weight has shape \(64, 1, 7, 7\)\. Expected \(64, 3, 7, 7\)"):
            load_released(model, state | {"base_model.conv1.weight": torch.zeros(64, 1, 7, 7)})
        with pytest.raises(RunError, match="Linear has no released checkpoints"):
            load_released(nn.Linear(1, 1), state)


@pytest.mark.parametrize("config", [TSNConfig(**SMALL), TSNConfig(**SMALL, shift=True)], ids=["tsn", "tsm"])
def test_export_gives_the_same_answer(config):
    model = randomized(config.build(4))
    exported = torch.export.export(
        model, (), {"video": clips()}, dynamic_shapes={"video": {0: torch.export.Dim("batch", min=1, max=8)}}
    )
    video = clips(3, seed=1)
    torch.testing.assert_close(exported.module()(video=video).logits, model(video=video).logits, atol=1e-5, rtol=1e-4)
