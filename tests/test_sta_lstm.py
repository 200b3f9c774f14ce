import warnings

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from muybridge.core.contracts import SkeletonData, SkeletonInput
from muybridge.core.skeletons import unnamed_layout
from muybridge.core.types import Output
from muybridge.models.sta_lstm import STALSTMConfig
from tests.oracles import sta_lstm as oracle

VARIANTS = ("none", "spatial", "temporal", "both")
GATES = {"none": set(), "spatial": {"alpha"}, "temporal": {"beta"}, "both": {"alpha", "beta"}}
PEOPLE, JOINTS, COORDINATES, CLASSES = 2, 4, 3, 5
HOLDS = SkeletonData(unnamed_layout(JOINTS), PEOPLE, COORDINATES)
LENGTHS = (6, 1, 4)


def build(seed=0, dtype=torch.float64, **settings):
    """A small model whose parameters are large enough for every path to matter."""
    torch.manual_seed(seed)
    settings = {"hidden": 7, "attention_size": 6, "layers": 2, "init_std": 0.5, "lambda_spatial": 0.3} | settings
    model = STALSTMConfig.model_validate(settings).build(CLASSES, HOLDS).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def sample(seed=0, lengths=LENGTHS, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    joints = torch.randn(len(lengths), max(lengths), PEOPLE, JOINTS, COORDINATES, generator=rng, dtype=dtype)
    length = torch.tensor(lengths)
    for row, frames in enumerate(lengths):
        joints[row, frames:] = 0
    return {"joints": joints, "length": length}


def objective(model, inputs, labels):
    return torch.stack(list(model.losses(model(**inputs), labels, inputs).values())).sum()


def test_defaults_are_the_papers():
    config = STALSTMConfig()
    model = config.build(8)
    assert (config.hidden, config.layers, config.attention, config.rescale_attention) == (100, 3, "both", False)
    assert (config.lambda_spatial, config.lambda_temporal, config.lambda_weights) == (1e-3, 1e-4, 5e-4)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"spatial", "temporal", "main"}
    assert model.state_dict()["spatial.score.weight"].shape == (20, 100)
    assert model(torch.zeros(2, 3, 1, 20, 3), torch.tensor([3, 2])).logits.shape == (2, 8)


def test_settings_reach_the_contract_and_wrong_ones_are_refused():
    settings = {"smooth": False, "center": "people", "face_camera": False, "face_partner": True}
    config = STALSTMConfig.model_validate(settings | {"unit_scale": True, "max_frames": 40})
    assert config.takes() == SkeletonInput(**settings, unit_scale=True, max_frames=40)
    with pytest.raises(ValidationError, match="atention"):
        STALSTMConfig.model_validate({"atention": "both"})
    with pytest.raises(ValidationError, match="dropout"):
        STALSTMConfig(dropout=1.0)


@pytest.mark.parametrize("attention", VARIANTS)
@pytest.mark.parametrize(("rescale_attention", "mean_over_time"), [(False, True), (True, False)])
def test_equals_the_oracle(attention, rescale_attention, mean_over_time):
    model = build(attention=attention, rescale_attention=rescale_attention, mean_over_time=mean_over_time)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    inputs = sample()
    labels = torch.tensor([1, 4, 2])
    output = model(**inputs)
    assert set(output.maps) == GATES[attention]

    expected = []
    for row, frames in enumerate(LENGTHS):
        joints = inputs["joints"][row, :frames].reshape(frames, PEOPLE * JOINTS, COORDINATES).numpy()
        scores, alpha, beta = oracle.forward_one(weights, joints, 2, rescale_attention, mean_over_time)
        expected.append((scores, alpha, beta))
        np.testing.assert_allclose(output.logits[row].detach(), scores, rtol=1e-10, atol=1e-12)
        if alpha is not None:
            ours = output.maps["alpha"][row, :frames].detach().reshape(frames, -1)
            np.testing.assert_allclose(ours, alpha, rtol=1e-10)
        if beta is not None:
            np.testing.assert_allclose(output.maps["beta"][row, :frames].detach(), beta, rtol=1e-10, atol=1e-12)

    config = model.config
    expected = oracle.losses(
        weights, expected, labels.tolist(), config.lambda_spatial, config.lambda_temporal, config.lambda_weights
    )
    terms = model.losses(output, labels, inputs)
    assert set(terms) == set(expected)
    for name, value in terms.items():
        assert value.item() == pytest.approx(expected[name], rel=1e-10), name


@pytest.mark.parametrize("rescale_attention", [False, True])
def test_attention_is_a_distribution_over_joints_and_nowhere_in_padding(rescale_attention):
    inputs = sample()
    maps = build(rescale_attention=rescale_attention)(**inputs).maps
    total = PEOPLE * JOINTS if rescale_attention else 1
    valid = torch.arange(6) < inputs["length"][:, None]
    torch.testing.assert_close(maps["alpha"].sum(dim=(2, 3)), valid.double() * total)
    assert (maps["alpha"][valid] > 0).all()
    assert (maps["beta"] >= 0).all()
    assert (maps["beta"][~valid] == 0).all()


@pytest.mark.parametrize("attention", VARIANTS)
def test_padding_and_batch_mates_change_nothing(attention):
    model = build(attention=attention)
    inputs = sample()
    labels = torch.tensor([1, 4, 2])
    together = model(**inputs)
    for row, frames in enumerate(LENGTHS):
        alone = model(inputs["joints"][row : row + 1, :frames], inputs["length"][row : row + 1])
        torch.testing.assert_close(alone.logits[0], together.logits[row])
    rubbish = inputs["joints"].clone()
    for row, frames in enumerate(LENGTHS):
        rubbish[row, frames:] = 1e3
    padded = {"joints": torch.cat([rubbish, 9 * rubbish], dim=1), "length": inputs["length"]}
    again = model(**padded)
    torch.testing.assert_close(again.logits, together.logits)
    for name, value in model.losses(again, labels, padded).items():
        torch.testing.assert_close(value, model.losses(together, labels, inputs)[name])


def test_gates_read_the_frame_and_the_memory_before_it():
    model = build(temporal_bias=50)  # far from where the ReLU would hide a change
    inputs = sample(lengths=(6,))
    before = model(**inputs).maps
    changed = inputs["joints"].clone()
    changed[0, 3] += 1
    after = model(changed, inputs["length"]).maps
    for name in ("alpha", "beta"):
        moved = (after[name] - before[name]).abs().reshape(6, -1).amax(dim=1)
        assert (moved[:3] == 0).all(), "a gate saw a frame that had not come yet"
        assert (moved[3:] > 0).all(), "a gate missed the frame itself or forgot it afterwards"

    # Without the direct path a frame reaches its own gate only through a state that already contains it.
    for name, parameter in model.named_parameters():
        if name.endswith("input_projection.weight"):
            torch.nn.init.zeros_(parameter)
    before, after = model(**inputs).maps, model(changed, inputs["length"]).maps
    for name in ("alpha", "beta"):
        moved = (after[name] - before[name]).abs().reshape(6, -1).amax(dim=1)
        assert (moved[:4] == 0).all(), "the gate read the state of its own frame"
        assert moved[4] > 0


def test_penalties_by_hand():
    model = build(lambda_spatial=0.5, lambda_temporal=0.25, lambda_weights=0)
    count = PEOPLE * JOINTS
    inputs = {"joints": torch.zeros(2, 3, PEOPLE, JOINTS, 3), "length": torch.tensor([3, 2])}
    alpha = torch.full((2, 3, PEOPLE, JOINTS), 1 / count)
    alpha[1, 2] = 0
    beta = torch.tensor([[1.0, 2.0, 3.0], [5.0, 1.0, 0.0]])
    uniform = Output(torch.zeros(2, CLASSES), {"alpha": alpha, "beta": beta})
    terms = model.losses(uniform, torch.tensor([0, 1]), inputs)
    assert set(terms) == {"cross_entropy", "spatial_attention", "temporal_attention"}
    assert terms["cross_entropy"].item() == pytest.approx(np.log(CLASSES))
    assert terms["spatial_attention"].item() == pytest.approx(0.5 * count * (1 - 1 / count) ** 2)
    assert terms["temporal_attention"].item() == pytest.approx(0.25 * (2 + 3) / 2)

    staring = torch.zeros(2, 3, PEOPLE, JOINTS)
    staring[:, :, 0, 0] = 1
    staring[1, 2] = 0
    terms = model.losses(Output(uniform.logits, {"alpha": staring, "beta": beta}), torch.tensor([0, 1]), inputs)
    assert terms["spatial_attention"].item() == pytest.approx(0.5 * (count - 1))


def test_weight_l1_counts_every_matrix_and_no_bias():
    model = build(attention="none", layers=1, lambda_weights=0.1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(100.0 if "bias" in name else -2.0)
    inputs = sample()
    terms = model.losses(model(**inputs), torch.tensor([0, 1, 2]), inputs)
    matrices = 4 * 7 * (PEOPLE * JOINTS * COORDINATES) + 4 * 7 * 7 + 7 * CLASSES
    assert terms["weight_l1"].item() == pytest.approx(0.1 * 2 * matrices)


def test_penalties_of_weight_zero_are_absent():
    model = build(lambda_spatial=0, lambda_temporal=0, lambda_weights=0)
    inputs = sample()
    assert set(model.losses(model(**inputs), torch.tensor([0, 1, 2]), inputs)) == {"cross_entropy"}


@pytest.mark.parametrize("attention", VARIANTS)
def test_gradient_reaches_every_parameter(attention):
    model = build(attention=attention, lambda_weights=0, dropout=0).train()
    inputs = sample()
    objective(model, inputs, torch.tensor([0, 1, 2])).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_starts_awake_and_even():
    torch.manual_seed(0)
    model = STALSTMConfig(temporal_bias=1, rescale_attention=True, dropout=0).build(CLASSES, HOLDS)
    maps = model(**sample(dtype=torch.float32)).maps
    torch.testing.assert_close(maps["beta"][0], torch.ones(6), atol=0.3, rtol=0)
    torch.testing.assert_close(maps["alpha"][0], torch.ones(6, PEOPLE, JOINTS), atol=0.1, rtol=0)
    for name, bias in model.main.lstm.named_parameters():
        if "bias" in name:
            forget = bias[100:200]
            assert (forget == (1 if "bias_ih" in name else 0)).all()
            assert bias.sum() == forget.sum()


def test_freezing_a_part_leaves_the_others_free():
    model = build()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith("spatial."))
    inputs = sample()
    objective(model, inputs, torch.tensor([0, 1, 2])).backward()
    still = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is None}
    moving = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert (still, moving) == ({"spatial"}, {"temporal", "main"})


def test_a_gate_learned_with_one_layer_fits_beside_three():
    shallow = build(attention="spatial", layers=1)
    deep = build(seed=1, attention="both", layers=3)
    part = {name: value for name, value in shallow.state_dict().items() if name.startswith("spatial.")}
    outcome = deep.load_state_dict(part, strict=False)
    assert not outcome.unexpected_keys
    assert not [name for name in outcome.missing_keys if name.startswith("spatial.")]
    inputs = sample()
    torch.testing.assert_close(deep(**inputs).maps["alpha"], shallow(**inputs).maps["alpha"])


def test_dropout_acts_in_training_only():
    model = build(layers=1)
    inputs = sample()
    torch.testing.assert_close(model(**inputs).logits, model(**inputs).logits, rtol=0, atol=0)
    model.train()
    assert not torch.equal(model(**inputs).logits, model(**inputs).logits)


def test_survives_export():
    model = build(dtype=torch.float32)
    inputs = sample(dtype=torch.float32)
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*_flat_weights.*")
        program = torch.export.export(
            model, (), inputs, dynamic_shapes={"joints": {0: batch}, "length": {0: batch}}, strict=False
        )
    other = sample(seed=5, lengths=(6, 2, 3, 5), dtype=torch.float32)
    exported, eager = program.module()(**other), model(**other)
    torch.testing.assert_close(exported.logits, eager.logits)
    torch.testing.assert_close(exported.maps["alpha"], eager.maps["alpha"])


def test_learns_an_order_that_no_single_frame_shows():
    """Two classes that differ in the direction of time only, at every length."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    rise = torch.linspace(-1, 1, 8).reshape(1, 8, 1, 1, 1) + 0.1 * torch.randn(
        32, 8, PEOPLE, JOINTS, COORDINATES, generator=rng
    )
    joints = torch.cat([rise, rise.flip(1)])
    labels = torch.arange(64) // 32
    inputs = {"joints": joints, "length": torch.full((64,), 8)}
    model = STALSTMConfig(hidden=16, layers=2, attention_size=8, dropout=0.1, lambda_weights=1e-5).build(2, HOLDS)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        objective(model, inputs, labels).backward()
        optimizer.step()
    assert (model.eval()(**inputs).logits.argmax(dim=1) == labels).float().mean() > 0.95
