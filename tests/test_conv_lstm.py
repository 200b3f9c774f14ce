import contextlib
import gc
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from muybridge.nn.conv_lstm import ConvLSTM, SharedConvolution, convolve
from tests.oracles import video_lstm as oracle

BATCH, STEPS, INPUTS, HIDDEN = 2, 4, 3, 5


def layer(kernel=3, peephole=False, dtype=torch.float64):
    torch.manual_seed(0)
    lstm = ConvLSTM(INPUTS, HIDDEN, kernel, peephole=peephole).to(dtype)
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.copy_(0.5 * torch.randn_like(parameter))
    return lstm


def maps(size=(4, 3), dtype=torch.float64, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, STEPS, INPUTS, *size, generator=rng, dtype=torch.float64).to(dtype)


def states(size=(4, 3), dtype=torch.float64):
    rng = torch.Generator().manual_seed(2)
    return tuple(torch.randn(BATCH, HIDDEN, *size, generator=rng, dtype=torch.float64).to(dtype) for _ in range(2))


@contextlib.contextmanager
def step_by_step_path():
    """The code path of torch.export, run eagerly: the equations step by step, differentiated by autograd."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        yield


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("size", [(4, 3), (1, 1)])
@pytest.mark.parametrize("with_initial_state", [False, True])
def test_equals_the_oracle(kernel, peephole, size, with_initial_state):
    lstm, x = layer(kernel, peephole), maps(size)
    first = states(size) if with_initial_state else None
    hidden, memory = lstm(x, first)
    weights = {f"it.{name}": value.numpy() for name, value in lstm.state_dict().items()}
    for row in range(BATCH):
        h, c = (tensor[row].numpy() for tensor in first) if first else (np.zeros((HIDDEN, *size)) for _ in range(2))
        for t in range(STEPS):
            h, c = oracle.lstm_step(weights, "it", x[row, t].numpy(), h, c)
            np.testing.assert_allclose(hidden[row, t].detach(), h, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(memory[row].detach(), c, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("kernel", "size"), [(3, (4, 3)), (1, (2, 2)), (1, (1, 1))])
@pytest.mark.parametrize("peephole", [False, True])
def test_gradients_are_those_of_finite_differences(kernel, size, peephole):
    lstm = layer(kernel, peephole)
    names, parameters = zip(*lstm.named_parameters(), strict=True)
    inputs = [tensor.detach().clone().requires_grad_() for tensor in (maps(size), *states(size), *parameters)]

    def run(x, h, c, *values):
        return torch.func.functional_call(lstm, dict(zip(names, values, strict=True)), (x, (h, c)))

    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kernel", [1, 3])
def test_the_shared_convolution_changes_no_number(dtype, kernel):
    lstm = layer(kernel, dtype=dtype)

    def outputs_and_gradients():
        x, first = maps(dtype=dtype).requires_grad_(), [tensor.requires_grad_() for tensor in states(dtype=dtype)]
        hidden, memory = lstm(x, tuple(first))
        weighed = (hidden * torch.linspace(-1, 1, hidden.numel(), dtype=dtype).view_as(hidden)).sum() + memory.sum()
        return [hidden, memory, *torch.autograd.grad(weighed, [x, *first, *lstm.parameters()])]

    fast = outputs_and_gradients()
    with step_by_step_path():
        reference = outputs_and_gradients()
    tolerance = {torch.float32: 1e-4, torch.float64: 1e-11}[dtype]
    for tensor, expected_tensor in zip(fast, reference, strict=True):
        torch.testing.assert_close(tensor, expected_tensor, rtol=tolerance, atol=tolerance)


def test_maps_of_one_place_are_torchs_lstm():
    lstm = layer(1)
    torch_lstm = nn.LSTM(INPUTS, HIDDEN, batch_first=True).double()
    with torch.no_grad():
        torch_lstm.weight_ih_l0.copy_(lstm.input_weight.flatten(1))
        torch_lstm.weight_hh_l0.copy_(lstm.hidden_weight.flatten(1))
        torch_lstm.bias_ih_l0.copy_(lstm.bias)
        torch_lstm.bias_hh_l0.zero_()
    x = maps((1, 1))
    expected, (_, last) = torch_lstm(x[..., 0, 0])
    hidden, memory = lstm(x)
    torch.testing.assert_close(hidden[..., 0, 0], expected)
    torch.testing.assert_close(memory[..., 0, 0], last[0])
    stepped, remembered = [], lstm.zero_state(x)
    step = lstm.make_step(lstm.hidden_weight)
    for projected in lstm.project_input(x):
        remembered = step(projected, [remembered[0]], remembered[1])
        stepped.append(remembered[0])
    torch.testing.assert_close(torch.stack(stepped, 1), hidden)


class TestSharedConvolution:
    def test_each_backward_pass_gathers_its_own_calls(self):
        weight = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
        x, y = (torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
        shared = SharedConvolution(weight)
        total = shared(x).square().sum() + shared(y).square().sum()
        expected = torch.autograd.grad(
            convolve(x, weight).square().sum() + convolve(y, weight).square().sum(), [weight, x]
        )
        torch.testing.assert_close(torch.autograd.grad(total, [x], retain_graph=True)[0], expected[1])
        for _ in range(2):  # what the pass for x alone left behind is not counted here, nor is the first pass twice
            torch.testing.assert_close(torch.autograd.grad(total, [weight], retain_graph=True)[0], expected[0])

    def test_a_frozen_weight_lets_the_error_through(self):
        weight = torch.randn(2, 3, 3, 3)
        x = torch.randn(1, 3, 4, 4, requires_grad=True)
        SharedConvolution(weight)(x).sum().backward()
        torch.testing.assert_close(x.grad, F.conv_transpose2d(torch.ones(1, 2, 4, 4), weight, padding=1))

    def test_calls_that_reach_no_loss_count_for_nothing(self):
        weight = torch.randn(2, 3, 1, 1, requires_grad=True)
        x = torch.randn(2, 1, 3, 4, 4)
        shared = SharedConvolution(weight)
        shared(x[0])
        shared(x[1]).sum().backward()
        torch.testing.assert_close(weight.grad, x[1].sum((2, 3)).expand(2, 3)[..., None, None])

    @pytest.mark.parametrize("goes_back", [False, True])
    def test_nothing_stays_alive_with_no_one_holding_it(self, goes_back):
        weight = torch.randn(2, 3, 3, 3, requires_grad=True)
        gc.disable()  # a cycle would stay
        try:
            shared = SharedConvolution(weight)
            result = shared(torch.randn(1, 3, 4, 4, requires_grad=True))
            if goes_back:
                result.sum().backward()
            calls = weakref.ref(shared._calls)
            del shared, result
            assert calls() is None
        finally:
            gc.enable()


def test_under_autocast_states_stay_whole_and_gradients_arrive():
    lstm, x = layer(3, dtype=torch.float32), maps(dtype=torch.float32)
    full, _ = lstm(x)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, memory = lstm(x)
    assert memory.dtype == torch.float32
    torch.testing.assert_close(hidden, full, rtol=0, atol=0.05)
    hidden.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in lstm.parameters())
    rough = lstm.hidden_weight.grad.clone()
    lstm.zero_grad()
    lstm(x)[0].sum().backward()
    torch.testing.assert_close(rough, lstm.hidden_weight.grad, rtol=0, atol=0.1 * rough.abs().max().item())


def test_a_layer_with_context_is_its_owners_to_step():
    lstm = ConvLSTM(3, 4, context_channels=2)
    assert lstm.context_weight.shape == (16, 2, 3, 3)
    with pytest.raises(AssertionError, match="stepped by its owner"):
        lstm(torch.zeros(1, 2, 3, 4, 4))
