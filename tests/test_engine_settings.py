"""Settings of the training loop for networks of clips: mixing, groups, frozen batch norm, half precision, compiling."""

from pathlib import Path

import pytest
import torch
from torch import nn

from muybridge.core.errors import RecipeError
from muybridge.core.rng import make_generator
from muybridge.engine.initialize import freeze_batch_norm
from muybridge.engine.journal import Journal
from muybridge.engine.mixing import mix
from muybridge.engine.optim import build_optimizer
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.recipe import SGD, Adam, AdamW, ParameterGroup
from tests.test_train import KillAt, KilledError, assert_equal_weights, weights
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_videos

VIDEO = torch.arange(4.0).reshape(4, 1, 1, 1, 1).expand(4, 2, 3, 8, 8)
CLIPS = {"video": VIDEO, "flow": VIDEO[:, :, :2]}
LABELS = torch.tensor([0, 1, 2, 0])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"), takes=1)


# Mixing


def test_mixup_blends_clips_and_labels_alike():
    for seed in range(20):
        inputs, soft = mix(CLIPS, LABELS, 3, make_generator(seed), mixup=0.8)
        mixed = inputs["video"]
        assert torch.equal(inputs["flow"], mixed[:, :, :2])
        share = float(soft[1, 1])  # of clip 1, whose partner is clip 2 with label 2
        assert soft[1].tolist() == pytest.approx([0, share, 1 - share])
        assert mixed[1].unique().tolist() == pytest.approx([share * 1 + (1 - share) * 2])
        assert soft[0].tolist() == pytest.approx([1, 0, 0])  # its partner has the same label
        torch.testing.assert_close(soft.sum(1), torch.ones(4))


def test_cutmix_puts_one_box_through_all_frames_and_counts_its_area():
    areas = set()
    for seed in range(40):
        inputs, soft = mix(CLIPS, LABELS, 3, make_generator(seed), cutmix=1.0)
        mixed = inputs["video"]
        assert torch.equal(inputs["flow"], mixed[:, :, :2])
        pasted = mixed[1] == 2
        assert torch.equal(pasted, pasted[:1, :1].expand_as(pasted))
        assert float(soft[1, 2]) == pytest.approx(float(pasted.float().mean()), abs=1e-6)
        rows, columns = pasted[0, 0].any(1).nonzero(), pasted[0, 0].any(0).nonzero()
        if len(rows):
            assert pasted[0, 0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        areas.add(int(pasted[0, 0].sum()))
    assert len(areas) > 8


def test_each_batch_uses_either_mixup_or_cutmix():
    mixed = [mix(CLIPS, LABELS, 3, make_generator(seed), mixup=1.0, cutmix=1.0)[0]["video"] for seed in range(100)]
    cut = [len(video[1].unique()) > 1 for video in mixed]
    assert 20 < sum(cut) < 70  # a box without area equals mixup


def test_shares_have_the_requested_distribution():
    shares = torch.tensor(
        [float(mix(CLIPS, LABELS, 3, make_generator("s", n), mixup=0.2)[1][1, 1]) for n in range(500)]
    )
    assert shares.mean() == pytest.approx(0.5, abs=0.06)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.2 + 1)), abs=0.02)


def test_mixing_is_resumed_bit_for_bit(root: Path, tmp_path: Path):
    recipe = tiny_clip_recipe(root, mixup=0.8, cutmix=1.0, label_smoothing=0.1, batch_size=3)
    train(recipe, tmp_path / "whole")
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "killed", report=KillAt(2))
    train(recipe, tmp_path / "killed", resume=True)
    assert_equal_weights(tmp_path / "whole", tmp_path / "killed")
    train(tiny_clip_recipe(root, label_smoothing=0.1, batch_size=3), tmp_path / "unmixed")
    assert any(
        not torch.equal(tensor, weights(tmp_path / "unmixed")[key])
        for key, tensor in weights(tmp_path / "whole").items()
    )


@pytest.mark.parametrize("setting", ["mixup", "cutmix"])
def test_skeletons_are_not_mixed(tmp_path: Path, setting: str):
    with pytest.raises(RecipeError, match=rf"train.{setting} is for video, and model 'sta_lstm' takes skeletons"):
        tiny_recipe(tmp_path).with_settings({f"train.{setting}": 0.5})


# Groups of parameters


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 2)


def test_the_first_group_that_fits_takes_a_parameter():
    net = Net()
    net.stem.weight.requires_grad_(False)
    groups = (
        ParameterGroup(match="norm", decay_mult=0),
        ParameterGroup(match="bias", lr_mult=2, decay_mult=0),
        ParameterGroup(match="head.", lr_mult=5),
    )
    param_groups = build_optimizer(SGD(lr=0.1, weight_decay=0.01), net, groups).param_groups
    groups = [({*map(id, group["params"])}, group["lr_mult"], group["weight_decay"]) for group in param_groups]
    assert groups == [
        ({id(net.norm.weight), id(net.norm.bias)}, 1, 0),
        ({id(net.stem.bias), id(net.head.bias)}, 2, 0),
        ({id(net.head.weight)}, 5, pytest.approx(0.01)),
    ]


def test_a_group_without_parameters_is_refused():
    with pytest.raises(RecipeError, match=r"train.param_groups matches 'haed', .*such as stem.weight"):
        build_optimizer(SGD(), Net(), [ParameterGroup(match="haed")])


def test_groups_scale_the_learning_rate(root: Path, tmp_path: Path):
    recipe = tiny_clip_recipe(
        root, epochs=1, param_groups=[{"match": "trunk.", "lr_mult": 0}], optimizer={"name": "sgd", "lr": 0.1}
    )
    torch.manual_seed(0)
    run = train(recipe, tmp_path / "run")
    still = train(recipe.with_settings({"train.optimizer.lr": 0.0}), tmp_path / "still")
    for key, tensor in weights(run.path).items():
        if key.endswith(("running_mean", "running_var")):
            continue
        assert torch.equal(tensor, weights(still.path)[key]) == (not key.startswith("head.")), key


# Norms, number formats, compiling


def test_frozen_batch_norms_update_neither_weights_nor_statistics(root: Path, tmp_path: Path):
    model = tiny_clip_recipe(root).model.build(2).train()
    freeze_batch_norm(model)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [norm.training for norm in norms] == [True] + [False] * (len(norms) - 1)
    recipe = tiny_clip_recipe(root, partial_bn=True, epochs=2).with_settings({"data.val_groups": ["c"]})
    run = train(recipe, tmp_path / "run")
    means = {key: tensor for key, tensor in weights(run.path).items() if key.endswith("running_mean")}
    assert [key for key, tensor in means.items() if tensor.any()] == ["trunk.stem.norm.running_mean"]


@pytest.mark.filterwarnings("ignore:this processor only emulates bfloat16")
def test_bf16_trains_to_finite_weights_of_full_precision(root: Path, tmp_path: Path):
    run = train(tiny_clip_recipe(root, precision="bf16-mixed"), tmp_path / "run")
    tensors = weights(run.path)
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32, torch.int64}
    first, second = Journal(run.path / "journal.jsonl").rows()
    assert second["train"]["loss"] < first["train"]["loss"] + 1


def test_compile_calls_torch_and_keeps_parameter_names(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    compiled = []
    compile_ = torch.compile

    def eagerly(model: nn.Module, **_: str) -> object:
        compiled.append(type(model).__name__)
        return compile_(model, disable=True)  # type checks of the tests do not compile

    monkeypatch.setattr(torch, "compile", eagerly)
    train(tiny_clip_recipe(root, compile=True, epochs=1), tmp_path / "compiled")
    train(tiny_clip_recipe(root, epochs=1), tmp_path / "plain")
    assert set(compiled) == {"TSN"}
    assert_equal_weights(tmp_path / "compiled", tmp_path / "plain")


@pytest.mark.filterwarnings("ignore:this processor only emulates bfloat16")
@pytest.mark.parametrize("optimizer_config", [SGD(lr=0.1), AdamW(lr=0.1), Adam(lr=0.1)])
def test_fused_steps_on_a_cpu_are_the_plain_ones(optimizer_config: SGD | Adam | AdamW):
    assert Runtime("bf16-mixed", "cpu").fused
    nets, inputs = [], torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for fused in (None, True):
        torch.manual_seed(0)
        net = torch.nn.Conv2d(3, 2, 3)
        optimizer = build_optimizer(optimizer_config, net, fused=fused)
        assert optimizer.defaults["fused"] is fused
        for _ in range(3):
            optimizer.zero_grad()
            net(inputs).square().mean().backward()
            optimizer.step()
        nets.append(net)
    torch.testing.assert_close(nets[1].weight, nets[0].weight)
