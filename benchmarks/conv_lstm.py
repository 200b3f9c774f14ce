"""Time and memory of the ConvLSTM layer against a plain step-by-step module, forwards and backwards, in one run.

    python benchmarks/conv_lstm.py [--threads 4] [--repeats 9] [--growth 10 30 60]

The plain module is the usual one: at each step one convolution over [x_t, h_{t-1}], differentiated by autograd. The two
take turns within each repetition, so that whatever else the machine does hits both; a ratio is the median over
repetitions of (plain / ours) within the repetition. Float32, kernel 3, 512 channels in and 512 hidden on maps of 7x7,
as VideoLSTM has them over a frozen VGG-16. Memory is the most that tensors take beyond what they take before.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

from muybridge.nn.conv_lstm import ConvLSTM

BATCH, CHANNELS, SIDE, KERNEL = 8, 512, 7, 3


class Plain(nn.Module):
    """A ConvLSTM as it is written down."""

    def __init__(self, inputs: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(inputs + hidden, 4 * hidden, kernel, padding="same")

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """All hidden maps and the last memory."""
        h = c = maps.new_zeros(maps.shape[0], self.hidden, *maps.shape[3:])
        states = []
        for x in maps.unbind(1):
            i, f, g, o = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, 1), c


def modules() -> tuple[Plain, ConvLSTM]:
    """Both with the same parameters."""
    torch.manual_seed(0)
    plain, ours = Plain(CHANNELS, CHANNELS, KERNEL), ConvLSTM(CHANNELS, CHANNELS, KERNEL)
    with torch.no_grad():
        ours.input_weight.copy_(plain.gates.weight[:, :CHANNELS])
        ours.hidden_weight.copy_(plain.gates.weight[:, CHANNELS:])
        ours.bias.copy_(plain.gates.bias)  # pyright: ignore[reportArgumentType]
    return plain, ours


def seconds(module: nn.Module, maps: Tensor, training: bool) -> float:
    """One call, and its way back in training."""
    module.zero_grad(set_to_none=True)
    start = time.perf_counter()
    with torch.set_grad_enabled(training):
        hidden = module(maps)[0]
    if training:
        hidden.sum().backward()
    return time.perf_counter() - start


def peak(module: nn.Module, maps: Tensor) -> float:
    """Megabytes that tensors take at most during a call and its way back."""
    module.zero_grad(set_to_none=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        module(maps)[0].sum().backward()
    held = most = 0
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
            most = max(most, held)
    return most / 1e6


def disagreement(plain: Plain, ours: ConvLSTM, maps: Tensor) -> float:
    """The largest difference of outputs and gradients, relative to the largest number of each."""
    found = []
    for module in (plain, ours):
        module.zero_grad(set_to_none=True)
        hidden = module(maps)[0]
        hidden.square().sum().backward()
        found.append([hidden.detach(), *(one.grad for one in module.parameters())])
    (hidden, weight, bias), (hidden_2, weight_x, weight_h, bias_2) = found
    pairs = [(hidden, hidden_2), (weight, torch.cat([weight_x, weight_h], 1)), (bias, bias_2)]
    return max(((one - other).abs().max() / one.abs().max()).item() for one, other in pairs)


def main() -> None:
    """One table: the stated size first, then its growth with time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--growth", type=int, nargs="*", default=[10, 30, 60])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads, batch {BATCH}, {CHANNELS}x{SIDE}x{SIDE}, float32")
    plain, ours = modules()
    print(f"largest relative difference {disagreement(plain, ours, torch.randn(2, 5, CHANNELS, SIDE, SIDE)):.1e}")
    print("  T  what                plain s   ours s   ratio (quartiles)    plain MB  ours MB")
    for steps, modes in [(30, (True, False)), *((steps, (True,)) for steps in options.growth if steps != 30)]:
        maps = torch.randn(BATCH, steps, CHANNELS, SIDE, SIDE)
        for training in modes:
            times = [[seconds(module, maps, training) for module in (plain, ours)] for _ in range(options.repeats + 1)]
            ratios = [one / other for one, other in times[1:]]  # the first turn warms up
            low, middle, high = statistics.quantiles(ratios, n=4)
            ends = f"{peak(plain, maps):9.0f}{peak(ours, maps):9.0f}" if training else ""
            slow, fast = (statistics.median(column) for column in zip(*times[1:], strict=True))
            what = "forward + backward" if training else "forward"
            print(
                f"{steps:3}  {what:19}{slow:8.2f} {fast:8.2f}   {middle:5.2f} ({low:.2f} to {high:.2f})  {ends}",
                flush=True,
            )


if __name__ == "__main__":
    main()
