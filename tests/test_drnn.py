"""dRNN: the scan against its equations and against torch, its gradients, and the whole model."""

import numpy as np
import pytest
import torch
from torch import nn

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import RecipeError
from muybridge.core.skeletons import LAYOUTS
from muybridge.models.drnn import DRNNConfig
from muybridge.models.drnn.network import DRNN
from muybridge.nn import differential_scan
from muybridge.nn.recurrent import (
    DifferentialLSTM,
    energy_peaks,
    last_valid,
    max_valid,
    mean_valid,
    peak_valid,
)
from tests.oracles import drnn as oracle

ORDERS = [(), (0,), (1,), (0, 1), (0, 1, 2), (0, 2, 3)]
LENGTH = torch.tensor([5, 2, 7, 1])


def layer(derivatives, size=6, **settings) -> DifferentialLSTM:
    torch.manual_seed(0)
    lstm = DifferentialLSTM(3, size, derivatives, forget_bias=0.5, **settings).double()
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.mul_(2)  # away from the straight part of the gates
    return lstm


def sequence(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def outcome(lstm: DifferentialLSTM, x: torch.Tensor, length) -> list[torch.Tensor]:
    """h, s, and the gradients of a random sum of both by the input and by every parameter."""
    x = x.clone().requires_grad_()
    h, s = lstm(x, length)
    rng = torch.Generator().manual_seed(2)
    loss = sum((tensor * torch.randn(tensor.shape, generator=rng).to(tensor)).sum() for tensor in (h, s))
    return [h, s, *torch.autograd.grad(loss, [x, *lstm.parameters()])]


@pytest.mark.parametrize("use_reference", [True, False])
@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("derivatives", ORDERS)
def test_the_scan_agrees_with_the_oracle(derivatives, bounded: bool, diagonal: bool, use_reference: bool):
    lstm = layer(derivatives, bounded=bounded, diagonal=diagonal, use_reference=use_reference)
    x = sequence(4, 7, 3)
    h, s = lstm(x, LENGTH)
    weights = {name: tensor.detach().numpy() for name, tensor in lstm.named_parameters()}
    for index, length in enumerate(LENGTH.tolist()):
        expected_h, expected_s = oracle.scan(weights, x[index, :length].numpy(), derivatives, bounded)
        np.testing.assert_allclose(h[index, :length].detach(), expected_h, atol=1e-12)
        np.testing.assert_allclose(s[index, :length].detach(), expected_s, atol=1e-12)
        for frozen, last in ((h, expected_h), (s, expected_s)):
            np.testing.assert_allclose(frozen[index, length:].detach(), np.tile(last[-1], (7 - length, 1)), atol=1e-12)


def test_without_derivatives_it_is_torchs_lstm():
    ours, theirs = DifferentialLSTM(5, 8, ()), nn.LSTM(5, 8, batch_first=True)
    with torch.no_grad():
        theirs.weight_ih_l0.copy_(ours.input_weight)
        theirs.weight_hh_l0.copy_(ours.hidden_weight)
        theirs.bias_ih_l0.copy_(ours.bias)
        theirs.bias_hh_l0.zero_()
    x = torch.randn(3, 11, 5)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0])


@pytest.mark.parametrize("length", [None, LENGTH])
@pytest.mark.parametrize("truncate", [False, "soft", "strict"])
@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("bounded", [True, False])
@pytest.mark.parametrize("derivatives", ORDERS)
def test_both_ways_of_scanning_agree_in_values_and_gradients(derivatives, bounded, diagonal: bool, truncate, length):
    lstm = layer(derivatives, bounded=bounded, diagonal=diagonal, truncate=truncate)
    x = sequence(4, 7, 3)
    fast = outcome(lstm, x, length)
    lstm.use_reference = True
    for ours, equations in zip(fast, outcome(lstm, x, length), strict=True):
        torch.testing.assert_close(ours, equations)


def test_the_products_of_single_precision_agree_too(monkeypatch: pytest.MonkeyPatch):
    lstm, x = layer((0, 1, 2), size=40).float(), sequence(4, 7, 3).float()
    fast = outcome(lstm, x, LENGTH)
    monkeypatch.setattr(differential_scan, "_use_onednn", lambda _: False)
    elsewhere = outcome(lstm, x, LENGTH)
    lstm.use_reference = True
    for ours, reference, equations in zip(fast, elsewhere, outcome(lstm, x, LENGTH), strict=True):
        torch.testing.assert_close(ours, equations, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(reference, equations, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [None, torch.tensor([3, 1, 4])])
@pytest.mark.parametrize("derivatives", [(), (0,), (0, 1, 2), (1, 3)])
def test_gradients_are_those_of_the_function(derivatives, length):
    lstm = layer(derivatives, size=3)
    names = [name for name, _ in lstm.named_parameters()]

    def scan(x, *parameters):
        return torch.func.functional_call(lstm, dict(zip(names, parameters, strict=True)), (x, length))

    assert torch.autograd.gradcheck(scan, (sequence(3, 4, 3).requires_grad_(), *lstm.parameters()))


def test_truncated_errors_stay_on_the_memory():
    """One cell, two frames, by hand: what reaches the first input through the memory, and through nothing else."""
    x = torch.tensor([[[0.7], [-0.4]]], dtype=torch.float64)
    lstm = DifferentialLSTM(1, 1, (0, 1)).double()
    reached = {}
    for truncate in (False, "soft", "strict"):
        lstm.truncate = truncate
        inputs = x.clone().requires_grad_()
        h, s = lstm(inputs)
        (reached[truncate],) = torch.autograd.grad(h[0, 1, 0], inputs)
    w_x, w_h, b = lstm.input_weight[:, 0], lstm.hidden_weight[:, 0], lstm.bias
    v = lstm.state_weight[:, :, 0, 0]
    h, s = (tensor[0, :, 0] for tensor in lstm(x))
    first = w_x * x[0, 0] + b
    i1, c1 = first[0].sigmoid(), first[2].tanh()
    d_s1 = i1 * (1 - i1) * w_x[0] * c1 + i1 * (1 - c1**2) * w_x[2]
    second = w_x * x[0, 1] + w_h * h[0] + b
    f2 = (second[1] + (v[0, 1] + v[1, 1]) * s[0]).sigmoid()
    o2 = (second[3] + v[0, 2] * s[1] + v[1, 2] * (s[1] - s[0])).sigmoid()
    along_memory = o2 * (1 - s[1].tanh() ** 2) * f2 * d_s1
    through_o = o2 * (1 - o2) * s[1].tanh() * (v[0, 2] + v[1, 2]) * f2 * d_s1
    torch.testing.assert_close(reached["strict"][0, 0, 0], along_memory)
    torch.testing.assert_close(reached["soft"][0, 0, 0], along_memory + through_o)
    assert (reached[False][0, 0, 0] - reached["soft"][0, 0, 0]).abs() > 1e-6


def test_each_order_must_be_given_once():
    for wrong in ((0, 0), (-1,)):
        with pytest.raises(RecipeError, match=r"derivatives = .*each order once"):
            DifferentialLSTM(2, 2, wrong)


def test_readouts_see_valid_frames_only():
    values = torch.tensor([[[1.0], [5.0], [-3.0]], [[-2.0], [-4.0], [9.0]]])
    length = torch.tensor([3, 2])
    assert last_valid(values, length).tolist() == [[-3], [-4]]
    assert mean_valid(values, length).tolist() == [[1], [-3]]
    assert max_valid(values, length).tolist() == [[5], [-2]]


def test_energy_peaks_by_hand():
    energy = torch.tensor([[1.0, 3, 3, 2, 5, 9], [0, 0, 0, 7, 8, 9], [4, 2, 3, 1, 2, 9], [1, 9, 9, 9, 9, 9]])
    length = torch.tensor([5, 3, 5, 1])
    peaks = [row.nonzero().flatten().tolist() for row in energy_peaks(energy, length)]
    # A plateau at its end, a sequence that never moves at its last frame, rises at the end and falls at the start.
    assert peaks == [[2, 4], [2], [0, 2, 4], [0]]
    pooled = peak_valid(torch.arange(24.0).reshape(4, 6, 1), energy, length)
    assert pooled.flatten().tolist() == [3, 8, 14, 18]


def test_dropped_weights_are_dropped_for_all_frames_and_in_training_alone():
    lstm, x = layer((0, 1), weight_dropout=0.5), sequence(4, 7, 3)
    assert not torch.equal(lstm(x)[0], lstm(x)[0])
    assert torch.equal(lstm.eval()(x)[0], lstm(x)[0])
    torch.manual_seed(5)
    h, _ = lstm.train()(x)
    torch.manual_seed(5)
    lstm.use_reference = True
    torch.testing.assert_close(lstm(x)[0], h)


def test_each_layer_takes_its_own_derivatives():
    model = built(layer_derivatives=((1,), (2,), ()))
    assert model.recurrent.derivatives == (1,)
    assert [layer.derivatives for layer in model.deeper] == [(2,), ()]
    batch = motion(9, 4)
    h, _ = model.recurrent(model.features(**batch), batch["length"])
    for layer in model.deeper:
        h, _ = layer(h, batch["length"])
    expected = model.classifier(last_valid(h, batch["length"]))
    torch.testing.assert_close(model(**batch).logits, expected)


def motion(*lengths: int) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    steps = 0.05 * torch.randn(len(lengths), max(lengths), 1, 20, 3, generator=rng)
    joints = torch.randn(1, 1, 1, 20, 3, generator=rng) + steps.cumsum(1)
    length = torch.tensor(lengths)
    valid = torch.arange(max(lengths)) < length[:, None]
    return {"joints": joints * valid[..., None, None, None], "length": length}


def built(**settings) -> DRNN:
    torch.manual_seed(0)
    model = DRNNConfig(hidden=16, **settings).build(num_classes=20)
    model.calibrate([motion(12, 9, 10)])
    return model.eval()


@pytest.mark.parametrize("order", [-1, 0, 1, 2, 3])
def test_the_model_has_as_many_parameters_as_the_paper_counts(order: int):
    model = DRNNConfig(order=order, hidden=30).build(num_classes=20)
    d, h, c = model.features.size, 30, 20
    count = sum(tensor.numel() for tensor in model.parameters())
    assert count == 4 * h * (d + h + 1) + 3 * (order + 1) * h**2 + c * (h + 1)


def test_the_papers_net_is_the_default():
    model = DRNNConfig(hidden=300).build(num_classes=20)
    assert model.recurrent.derivatives == (0, 1, 2)
    assert model.classifier.weight.shape == (20, 300)
    assert DRNNConfig(derivatives=(1,)).build(20).recurrent.derivatives == (1,)


def test_the_derivatives_are_said_once():
    for settings in ({"order": 2, "derivatives": (1,)}, {"order": -1, "layer_derivatives": ((1,),)}):
        with pytest.raises(ValueError, match=r"order = .* both say which derivatives the gates take; leave one out"):
            DRNNConfig(**settings)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "energy"])
def test_batch_mates_and_padding_change_nothing(pooling: str):
    model, batch = built(pooling=pooling), motion(9, 4, 12, 1)
    together = model(**batch)
    for index, length in enumerate(batch["length"].tolist()):
        alone = model(batch["joints"][index : index + 1, :length], batch["length"][index : index + 1])
        torch.testing.assert_close(together.logits[index], alone.logits[0], atol=1e-5, rtol=1e-4)
        norms = together.maps["derivative_norm"][index]
        torch.testing.assert_close(norms[:length], alone.maps["derivative_norm"][0], atol=1e-5, rtol=1e-4)
        assert not norms[length:].any()


def test_with_frame_targets_the_loss_is_the_mean_over_the_valid_frames():
    model, batch = built(frame_targets=True).train(), motion(6, 4)
    labels = torch.tensor([3, 17])
    loss = model.losses(model(**batch), labels, batch)["cross_entropy"]
    h, _ = model.recurrent(model.features(**batch), batch["length"])
    scores = model.classifier(h).log_softmax(-1)
    torch.testing.assert_close(loss, -(scores[0, :6, 3].sum() + scores[1, :4, 17].sum()) / 10)
    assert set(model.eval()(**batch).maps) == {"derivative_norm"}


def test_the_map_is_the_size_of_the_highest_derivative():
    model, batch = built(order=1), motion(6)
    norms = model(**batch).maps["derivative_norm"][0]
    _, s = model.recurrent(model.features(**batch), batch["length"])
    torch.testing.assert_close(norms[0], s[0, 0].norm())
    torch.testing.assert_close(norms[4], (s[0, 4] - s[0, 3]).norm())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"order": -1},
        {"derivatives": (1,)},
        {"diagonal": True},
        {"pca": 20},
        {"pooling": "max"},
        {"pooling": "energy", "bounded": True},
        {"layer_derivatives": ((1,), (2,))},
    ],
    ids=str,
)
def test_the_exported_model_answers_the_same(settings: dict):
    model, batch = built(**settings), motion(8, 5)
    exported = torch.export.export(model, (), kwargs=batch).module()
    ours, theirs = model(**batch), exported(**batch)
    torch.testing.assert_close(theirs.logits, ours.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(theirs.maps, ours.maps, atol=1e-4, rtol=1e-4)


def test_dropout_is_for_training():
    model, batch = built(dropout=0.5, input_dropout=0.5), motion(8)
    assert torch.equal(model(**batch).logits, model(**batch).logits)
    model.train()
    assert not torch.equal(model(**batch).logits, model(**batch).logits)


def test_two_people_in_the_plane():
    holds = SkeletonData(LAYOUTS["coco17"], people=2, coordinates=2)
    model = DRNNConfig(hidden=8).build(num_classes=3, holds=holds)
    joints = torch.randn(2, 5, 2, 17, 2)
    joints[:, :, 1] = 0
    assert torch.isfinite(model(joints, torch.tensor([5, 3])).logits).all()


def test_low_precision_keeps_the_memory_in_single():
    lstm = DifferentialLSTM(3, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h, s = lstm(torch.randn(2, 5, 3).bfloat16())
    assert h.dtype == s.dtype == torch.float32


def test_it_learns_to_tell_movements_apart():
    """Up or down, from a random start at a random speed: one pose tells nothing, the direction of change everything."""
    torch.manual_seed(0)
    model = DRNNConfig(order=2, hidden=16, features=("position", "offset")).build(num_classes=2)
    labels = torch.arange(2).repeat(32)
    travel = torch.linspace(0, 1, 10)[None, :, None, None, None] * (0.2 + torch.rand(64, 1, 1, 1, 1))
    joints = torch.randn(20, 3).expand(64, 10, 1, 20, 3).clone()
    joints[:, :, :, 5:6, 1:2] += torch.randn(64, 1, 1, 1, 1) + travel * (2 * labels - 1).reshape(64, 1, 1, 1, 1)
    batch = {"joints": joints, "length": torch.full((64,), 10)}
    model.calibrate([batch])
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        loss = model.losses(model(**batch), labels, batch)["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(**batch).logits.argmax(1) == labels).all()
