"""Time and memory of TSN, TSM, SELFYNet and TDN against timm's plain ResNet-50 on the same 8 frames, in one run.

    python benchmarks/video_models.py [--threads 4] [--repeats 15] [--batch 1] [--mode inference training]

Every repetition runs all networks one after the other, so that whatever else the machine does hits all of them; the
ratio is the median over repetitions of (network / plain) within the repetition. All are channels-last; bfloat16
inference casts the parameters, bfloat16 training is under autocast as the engine runs it.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import timm
import torch
from measure import in_turns, peak_megabytes
from torch import nn

from muybridge.models.selfy import SELFYConfig
from muybridge.models.tdn import TDNConfig
from muybridge.models.tsn import TSNConfig

SEGMENTS, SIZE, CLASSES = 8, 224, 174


def networks(batch: int) -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """Each network with its input; the plain ResNet-50 sees the frames of all clips as a batch."""
    torch.manual_seed(0)
    plain = timm.create_model("resnet50", num_classes=CLASSES).to(memory_format=torch.channels_last)
    image = torch.randn(batch * SEGMENTS, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    clip = torch.randn(batch, SEGMENTS, 3, SIZE, SIZE)
    return {
        "timm ResNet-50": (plain, image),
        "TSN": (TSNConfig().build(CLASSES), clip),
        "TSM": (TSNConfig(shift=True).build(CLASSES), clip),
        "SELFYNet": (SELFYConfig().build(CLASSES), clip),
        "TDN": (TDNConfig().build(CLASSES), torch.randn(batch, SEGMENTS * 5, 3, SIZE, SIZE)),
    }


def scores(out: Any) -> torch.Tensor:
    """The logits of ours or of timm's."""
    return out if isinstance(out, torch.Tensor) else out.logits


def inference(model: nn.Module, x: torch.Tensor, low: bool) -> Callable[[], None]:
    """One forward pass in evaluation mode."""
    model.eval()
    if low:
        model, x = model.bfloat16(), x.bfloat16()

    def call() -> None:
        with torch.no_grad():
            model(x)

    return call


def training(model: nn.Module, x: torch.Tensor, low: bool) -> Callable[[], None]:
    """Forward, backward and a step of SGD."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    labels = torch.zeros(x.shape[0], dtype=torch.int64)

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            loss = nn.functional.cross_entropy(scores(model(x)).float(), labels)
        loss.backward()
        optimizer.step()

    return call


def main() -> None:
    """Prints one table per kind of call and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--mode", nargs="+", choices=["inference", "training"], default=["inference", "training"])
    parser.add_argument("--precision", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads, batch {arguments.batch}")
    for mode in arguments.mode:
        for precision in arguments.precision:
            prepare = inference if mode == "inference" else training
            pairs = networks(arguments.batch).items()
            calls = {name: prepare(model, x, precision == "bfloat16") for name, (model, x) in pairs}
            times = in_turns(calls, arguments.repeats)
            peaks = {name: peak_megabytes(call) for name, call in calls.items()}
            base = times["timm ResNet-50"]
            print(f"\n{mode}, {precision}: median ms, fastest ms, ratio to plain, peak MiB")
            for name, series in times.items():
                ratio = statistics.median(ours / plain for ours, plain in zip(series, base, strict=True))
                middle = statistics.median(series)
                print(f"  {name:15} {middle:8.1f} {min(series):8.1f} {ratio:7.2f} {peaks[name]:9.0f}")


if __name__ == "__main__":
    main()
