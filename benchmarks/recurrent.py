"""Time of a second-order dRNN compared with ``torch.nn.LSTM`` and with the equations step by step.

Run ``python benchmarks/recurrent.py`` on an otherwise idle machine. The three alternate within each repetition; medians
and their ratios to ``torch.nn.LSTM`` are printed. Float32, all cores.
"""

import statistics
from functools import partial

import torch
from measure import time_alternating
from torch import nn

from muybridge.nn.recurrent import DifferentialLSTM

BATCH, INPUT = 32, 60


def compare(frames: int, hidden: int, repetitions: int) -> None:
    """Print one line for the forward pass and one for forward and backward."""
    sequence = torch.randn(BATCH, frames, INPUT)
    modules: dict[str, nn.Module] = {
        "nn.LSTM": nn.LSTM(INPUT, hidden, batch_first=True),
        "dRNN": DifferentialLSTM(INPUT, hidden),
        "step by step": DifferentialLSTM(INPUT, hidden, use_reference=True),
    }

    def forward(module: nn.Module) -> torch.Tensor:
        return module(sequence)[0]

    def forward_backward(module: nn.Module) -> None:
        module.zero_grad()
        forward(module)[:, -1].sum().backward()

    for title, function in (("forward", forward), ("forward+backward", forward_backward)):
        calls = {name: partial(function, module) for name, module in modules.items()}
        series = time_alternating(calls, repetitions, warm_up=3)
        times = {name: statistics.median(values) for name, values in series.items()}
        base = times["nn.LSTM"]
        columns = "   ".join(f"{name} {ms:7.1f} ms ({ms / base:4.1f}x)" for name, ms in times.items())
        print(f"T={frames:<4} H={hidden:<4} {title:<17} {columns}", flush=True)


def main() -> None:
    """Print the paper's size first, then other numbers of frames and hidden units."""
    print(f"batch {BATCH}, input {INPUT}, float32, {torch.get_num_threads()} threads, torch {torch.__version__}")
    compare(60, 300, 30)
    for frames in (30, 120, 240):
        compare(frames, 300, 10)
    for hidden in (100, 600):
        compare(60, hidden, 10)


if __name__ == "__main__":
    main()
