"""Time and memory of the ConvLSTM layer compared with a straightforward module, forward and backward, in one run.

    python benchmarks/conv_lstm.py [--threads 4] [--repeats 9] [--growth 10 30 60]

The straightforward module has one convolution over [x_t, h_{t-1}] at each step, differentiated by autograd. The two
alternate within each repetition, so that other load affects both; a ratio is the median over repetitions of
(baseline / ours) within the repetition. Float32, kernel 3, 512 input and 512 hidden channels on maps of 7x7, as in
VideoLSTM over a frozen VGG-16. Memory is the peak of allocated tensors, minus what is allocated before.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

from muybridge.nn.conv_lstm import ConvLSTM

BATCH, CHANNELS, SIDE, KERNEL = 8, 512, 7, 3


class Baseline(nn.Module):
    """A straightforward ConvLSTM."""

    def __init__(self, in_channels: int, hidden: int, kernel: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates = nn.Conv2d(in_channels + hidden, 4 * hidden, kernel, padding="same")

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """The hidden states of all steps and the last cell state."""
        h = c = maps.new_zeros(maps.shape[0], self.hidden, *maps.shape[3:])
        states = []
        for x in maps.unbind(1):
            i, f, g, o = self.gates(torch.cat([x, h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        return torch.stack(states, 1), c


def build_modules() -> tuple[Baseline, ConvLSTM]:
    """Both modules with the same parameters."""
    torch.manual_seed(0)
    baseline, ours = Baseline(CHANNELS, CHANNELS, KERNEL), ConvLSTM(CHANNELS, CHANNELS, KERNEL)
    with torch.no_grad():
        ours.input_weight.copy_(baseline.gates.weight[:, :CHANNELS])
        ours.hidden_weight.copy_(baseline.gates.weight[:, CHANNELS:])
        ours.bias.copy_(baseline.gates.bias)  # pyright: ignore[reportArgumentType]
    return baseline, ours


def seconds(module: nn.Module, maps: Tensor, training: bool) -> float:
    """Time of the forward pass, and in training of the backward pass too."""
    module.zero_grad(set_to_none=True)
    start = time.perf_counter()
    with torch.set_grad_enabled(training):
        hidden = module(maps)[0]
    if training:
        hidden.sum().backward()
    return time.perf_counter() - start


def peak_megabytes(module: nn.Module, maps: Tensor) -> float:
    """Peak memory of tensors in MB during a forward and backward pass."""
    module.zero_grad(set_to_none=True)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        module(maps)[0].sum().backward()
    allocated = peak = 0
    assert profile.profiler is not None
    assert profile.profiler.kineto_results is not None
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            allocated += event.nbytes()  # pyright: ignore[reportAttributeAccessIssue]
            peak = max(peak, allocated)
    return peak / 1e6


def max_difference(baseline: Baseline, ours: ConvLSTM, maps: Tensor) -> float:
    """The largest difference of outputs and gradients, relative to the largest value of each."""
    results = []
    for module in (baseline, ours):
        module.zero_grad(set_to_none=True)
        hidden = module(maps)[0]
        hidden.square().sum().backward()
        results.append([hidden.detach(), *(parameter.grad for parameter in module.parameters())])
    (hidden, weight, bias), (hidden_2, weight_x, weight_h, bias_2) = results
    pairs = [(hidden, hidden_2), (weight, torch.cat([weight_x, weight_h], 1)), (bias, bias_2)]
    return max(((first - second).abs().max() / first.abs().max()).item() for first, second in pairs)


def print_row(baseline: Baseline, ours: ConvLSTM, steps: int, training: bool, repeats: int) -> None:
    """Measure both modules on sequences of ``steps`` maps and print one row."""
    maps = torch.randn(BATCH, steps, CHANNELS, SIDE, SIDE)
    times = [[seconds(module, maps, training) for module in (baseline, ours)] for _ in range(repeats + 1)]
    times = times[1:]  # the first repetition warms up
    low, middle, high = statistics.quantiles([slow / fast for slow, fast in times], n=4)
    slow, fast = (statistics.median(column) for column in zip(*times, strict=True))
    memory = f"{peak_megabytes(baseline, maps):9.0f}{peak_megabytes(ours, maps):9.0f}" if training else ""
    name = "forward + backward" if training else "forward"
    print(
        f"{steps:3}  {name:19}{slow:10.2f} {fast:8.2f}   {middle:5.2f} ({low:.2f} to {high:.2f})  {memory}", flush=True
    )


def main() -> None:
    """Print one table: the size of VideoLSTM first, then other numbers of steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--growth", type=int, nargs="*", default=[10, 30, 60])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, batch {BATCH}, {CHANNELS}x{SIDE}x{SIDE}, float32")
    baseline, ours = build_modules()
    difference = max_difference(baseline, ours, torch.randn(2, 5, CHANNELS, SIDE, SIDE))
    print(f"largest relative difference {difference:.1e}")
    print("  T  what              baseline s   ours s   ratio (quartiles)  baseline MB  ours MB")
    for steps, modes in [(30, (True, False)), *((steps, (True,)) for steps in arguments.growth if steps != 30)]:
        for training in modes:
            print_row(baseline, ours, steps, training, arguments.repeats)


if __name__ == "__main__":
    main()
