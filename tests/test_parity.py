"""Our networks against numbers that the authors' own give, with parameters and inputs that both sides can draw."""

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

from muybridge.core.errors import RunError
from muybridge.engine.convert import load_released
from muybridge.models.clips import ClipModel
from muybridge.models.selfy import SELFYConfig
from muybridge.models.selfy.block import SelfSimilarityBlock
from muybridge.models.selfy.network import SELFYNet
from muybridge.models.selfy.similarity import normalize_channels, self_similarity
from muybridge.models.tdn import TDNConfig
from muybridge.models.tdn.long_term import LongTermDifference
from muybridge.models.tdn.network import TDN
from muybridge.models.tsn import TSNConfig
from muybridge.nn.checkpoint_keys import rename_keys
from muybridge.nn.shift import TemporalConv

pytestmark = pytest.mark.data


class Fixtures:
    """The folder of numbers: how to draw parameters and inputs, and what must come out."""

    def __init__(self, root):
        spec = importlib.util.spec_from_file_location("parity_fill", root / "fill.py")
        self.fill = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.fill)
        self.root = root

    def read(self, name):
        return json.loads((self.root / f"{name}.json").read_text())

    def parameters(self, shapes, prefix=""):
        return {key: torch.as_tensor(self.fill.parameter(prefix + key, shape)) for key, shape in shapes.items()}

    def input(self, seed, shape):
        return torch.from_numpy(self.fill.network_input(seed, tuple(shape)))

    def state(self, name):
        shapes = self.read("selfynet_tsm_r50_state_dict_keys" if name != "tdn" else "tdn_r50_state_dict_keys")
        return self.parameters({key: shape for key, shape in shapes.items() if name != "tsm" or "selfy" not in key})


@pytest.fixture(scope="module")
def parity():
    data = os.environ.get("MUYBRIDGE_DATA", "")
    root = Path(os.environ.get("MUYBRIDGE_PARITY") or (Path(data).parent / "parity" if data else ""))
    if not (root / "fill.py").is_file():
        pytest.skip("neither MUYBRIDGE_PARITY nor the folder beside MUYBRIDGE_DATA holds the numbers")
    return Fixtures(root)


def relative(ours, theirs):
    ours, theirs = (torch.as_tensor(np.asarray(x), dtype=torch.float64) for x in (ours, theirs))
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


class TestNetworks:
    CASES = (
        ("tdn_r50_t8", "tdn", TDNConfig()),
        ("tdn_r50_t8_112px_batch2", "tdn", TDNConfig()),
        ("tsm_r50_t8", "tsm", TSNConfig(shift=True)),
        ("selfynet_tsm_r50_t8", "selfy", SELFYConfig()),
    )

    def probes(self, name, model):
        """Theirs by ours: the modules whose outputs were recorded."""
        stages = list(model.trunk.stages)
        if name == "tdn":
            numbered = {f"layer{index + 1}_bak": stage for index, stage in enumerate(stages)}
            return {"resnext_layer1": model.short_term.stages[0], **numbered}
        numbered = {f"layer{index + 1}": stage for index, stage in enumerate(stages)}
        return numbered if name == "tsm" else {"selfy": model.selfy["res3"], **numbered}

    @pytest.mark.parametrize(("file", "name", "config"), CASES, ids=[case[0] for case in CASES])
    def test_logits_and_probes(self, parity, file, name, config):
        expected = parity.read(file)
        model: ClipModel = config.build(expected["num_classes"]).eval()
        load_released(model, {f"module.{key}": value for key, value in parity.state(name).items()})
        probes = {}
        for theirs, module in self.probes(name, model).items():
            module.register_forward_hook(lambda m, i, out, theirs=theirs: probes.update({theirs: out.clone()}))
        shape = expected["input"]["shape"]
        video = rearrange(parity.input(expected["input"]["seed"], shape), "b (t c) h w -> b t c h w", c=3)
        with torch.no_grad():
            logits = model(video=video).logits

        assert relative(logits.flatten()[expected["logits"]["at"]], expected["logits"]["values"]) < 1e-4
        assert logits.mean().item() == pytest.approx(expected["logits"]["mean"], rel=1e-4)
        assert logits.std(correction=0).item() == pytest.approx(expected["logits"]["std"], rel=1e-4)
        assert logits.argmax(1).tolist() == expected["argmax"]
        assert len(probes) >= 4
        for theirs, ours in probes.items():
            probe = expected["probes"][theirs]
            assert list(ours.shape) == probe["shape"]
            assert relative(ours.contiguous().flatten()[probe["at"]], probe["values"]) < 1e-4
            assert ours.mean().item() == pytest.approx(probe["mean"], rel=1e-4)
            assert ours.std(correction=0).item() == pytest.approx(probe["std"], rel=1e-4)

    def test_folded_and_unfolded_normalisation_agree(self, parity):
        model = TDNConfig().build(174).eval()
        load_released(model, parity.state("tdn"))
        video = rearrange(parity.input(7, (1, 120, 112, 112)), "b (t c) h w -> b t c h w", c=3)
        unfolded = model(video=video).logits
        with torch.no_grad():
            folded = model(video=video).logits
        assert relative(folded.detach(), unfolded.detach()) < 1e-5

    def test_another_depth_classes_or_window_is_refused_in_words(self, parity):
        with pytest.raises(RunError, match=r"contains a resnet50\. Expected a resnet101"):
            load_released(TDNConfig(backbone="resnet101").build(174), parity.state("tdn"))
        with pytest.raises(RunError, match=r"has 174 classes\. Expected 400"):
            load_released(TDNConfig().build(400), parity.state("tdn"))
        with pytest.raises(RunError, match=r"has 5 time offsets\. Expected 9"):
            load_released(SELFYConfig(window=(9, 9, 9)).build(174), parity.state("selfy"))
        with pytest.raises(RunError, match=r"unexpected: selfy\.stss"):
            load_released(TSNConfig(shift=True).build(174), parity.state("selfy"))
        with pytest.raises(RunError, match=r"missing: selfy\.res3\.expansion"):
            load_released(SELFYConfig().build(174), parity.state("tsm"))


def with_parameters(module, expected, key_patterns, parity):
    """The module with the recorded parameters, renamed to our keys."""
    state = rename_keys(parity.parameters(expected["parameters"], expected["fill_prefix"]), key_patterns)
    if "expansion.conv.weight" in state:  # a transposed convolution: inputs first
        state["expansion.conv.weight"] = state["expansion.conv.weight"].transpose(0, 1)
    shapes = module.state_dict()
    module.load_state_dict({key: value.reshape(shapes[key].shape) for key, value in state.items()})
    return module.to(memory_format=torch.channels_last)


def differentiated(module, expected, parity):
    """Output and input gradient in training mode; parameter gradients are left in the module."""
    x = parity.input(expected["input"]["seed"], expected["input"]["shape"])
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    out = module.train()(x)
    (out * parity.input(expected["cotangent_seed"], out.shape)).sum().backward()
    return out, x.grad


def assert_gradients(module, expected, key_patterns):
    parameters = dict(module.named_parameters())
    largest = max(expected["parameter_grad_norms"].values())
    for theirs, norm in expected["parameter_grad_norms"].items():
        (ours,) = rename_keys({theirs: torch.zeros(0)}, key_patterns)
        assert parameters[ours].grad.norm().item() == pytest.approx(norm, rel=1e-5, abs=1e-6 * largest), theirs


class TestModules:
    LONG_TERM = tuple(
        ("^" + theirs.removeprefix(r"\.mse\."), ours.removeprefix(".after_conv1.long_term."))
        for theirs, ours in TDN.key_patterns
        if "mse" in theirs
    )

    @pytest.mark.parametrize("name", ["ltdm_a", "ltdm_b"])
    def test_long_term_difference(self, parity, name):
        expected = parity.read("modules")[name]
        module = LongTermDifference(expected["input"]["shape"][1], expected["segments"])
        with_parameters(module, expected, self.LONG_TERM, parity)
        x = parity.input(expected["input"]["seed"], expected["input"]["shape"])
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                out = module.eval()(x).detach()
            if expected["eval_output"]:
                assert relative(out, expected["eval_output"]) < 1e-5
            assert out.sum().item() == pytest.approx(expected["eval_sum"], abs=1e-5 * expected["eval_abs_sum"])
            assert out.abs().sum().item() == pytest.approx(expected["eval_abs_sum"], rel=1e-5)

        out, gradient = differentiated(module, expected, parity)
        assert out.abs().sum().item() == pytest.approx(expected["train_abs_sum"], rel=1e-5)
        assert gradient.abs().sum().item() == pytest.approx(expected["input_grad_abs_sum"], rel=1e-5)
        assert_gradients(module, expected, self.LONG_TERM)
        state = module.state_dict()
        for kind in ("running_mean_after", "running_var_after"):
            for theirs, total in expected[kind].items():
                (ours,) = rename_keys({theirs: torch.zeros(0)}, self.LONG_TERM)
                assert state[ours].sum().item() == pytest.approx(total, rel=1e-5, abs=1e-6)

    def test_initial_temporal_convolution(self, parity):
        expected = parity.read("modules")["temporal_conv_initial"]
        x = parity.input(expected["input"]["seed"], expected["input"]["shape"])
        out = TemporalConv(x.shape[1], expected["segments"])(x)
        assert relative(out.detach(), expected["output"]) < 1e-6

    @pytest.mark.parametrize("name", ["stss_a", "stss_b"])
    def test_similarity_transform(self, parity, name):
        expected = parity.read("modules")[name]
        x = parity.input(expected["input"]["seed"], expected["input"]["shape"])
        features = rearrange(normalize_channels(x), "(b t) c x y -> b t x y c", t=expected["segments"])
        frames, rows, columns = (size // 2 for size in expected["window"])
        out = self_similarity(features, tuple(range(-frames, frames + 1)), (rows, columns))
        out = rearrange(out, "b t x y l u v -> b t x y 1 l u v")
        assert list(out.shape) == expected["shape"]
        assert out.abs().sum().item() == pytest.approx(expected["abs_sum"], rel=1e-5)
        if expected["output"]:
            assert relative(out, expected["output"]) < 1e-5

    def test_selfy_block(self, parity):
        expected = parity.read("modules")["selfy_block"]
        channels = expected["input"]["shape"][1]
        module = SelfSimilarityBlock(
            channels,
            expected["segments"],
            window=tuple(expected["window"]),
            hidden=expected["hidden"],
            widths=tuple(expected["extraction"]),
            integration_width=expected["integration"][0],
        )
        key_patterns = [(r"^stss_", "selfy.stss_"), *SELFYNet.key_patterns, (r"^selfy\.res3\.", "")]
        with_parameters(module, expected, key_patterns, parity)
        x = parity.input(expected["input"]["seed"], expected["input"]["shape"])
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                out = module.eval()(x).detach()
            assert out.sum().item() == pytest.approx(expected["eval_sum"], rel=1e-5)
        out, gradient = differentiated(module, expected, parity)
        assert out.abs().sum().item() == pytest.approx(expected["train_abs_sum"], rel=1e-5)
        assert gradient.abs().sum().item() == pytest.approx(expected["input_grad_abs_sum"], rel=1e-5)
        assert_gradients(module, expected, key_patterns)
