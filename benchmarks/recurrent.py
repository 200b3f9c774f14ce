"""How long an order-2 dRNN takes beside ``torch.nn.LSTM`` and beside a plain step-by-step module.

Run ``python benchmarks/recurrent.py`` on an otherwise idle machine. The three take turns within each repetition, so
that a disturbance falls on all alike; medians and their ratios are printed. Float32, all cores.
"""

import statistics
from functools import partial

import torch
from measure import in_turns
from torch import nn

from muybridge.nn.recurrent import DifferentialLSTM

BATCH, INPUT = 32, 60


def compare(frames: int, hidden: int, repetitions: int) -> None:
    """Print one line for the forward pass and one for forward and backward."""
    sequence = torch.randn(BATCH, frames, INPUT)
    modules: dict[str, nn.Module] = {
        "nn.LSTM": nn.LSTM(INPUT, hidden, batch_first=True),
        "dRNN": DifferentialLSTM(INPUT, hidden),
        "plain": DifferentialLSTM(INPUT, hidden, plain=True),
    }

    def forward(module: nn.Module) -> torch.Tensor:
        return module(sequence)[0]

    def both(module: nn.Module) -> None:
        module.zero_grad()
        forward(module)[:, -1].sum().backward()

    for title, work in (("forward", forward), ("forward+backward", both)):
        calls = {name: partial(work, module) for name, module in modules.items()}
        times = {name: statistics.median(taken) for name, taken in in_turns(calls, repetitions, warm_up=3).items()}
        base = times["nn.LSTM"]
        told = "   ".join(f"{name} {ms:7.1f} ms ({ms / base:4.1f}x)" for name, ms in times.items())
        print(f"T={frames:<4} H={hidden:<4} {title:<17} {told}", flush=True)


def main() -> None:
    """The size of the promise first, then growth with time and with hidden size."""
    print(f"batch {BATCH}, input {INPUT}, float32, {torch.get_num_threads()} threads, torch {torch.__version__}")
    compare(60, 300, 30)
    for frames in (30, 120, 240):
        compare(frames, 300, 10)
    for hidden in (100, 600):
        compare(60, hidden, 10)


if __name__ == "__main__":
    main()
