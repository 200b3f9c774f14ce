"""Time and memory of TSN, TSM, SELFYNet and TDN compared with timm's ResNet-50 on the same 8 frames, in one run.

    python benchmarks/video_models.py [--threads 4] [--repeats 15] [--batch 1] [--mode inference training]

Every repetition runs all networks one after the other, so that other load on the machine affects all of them; the ratio
is the median over repetitions of (network / ResNet-50) within the repetition. All are channels-last; bfloat16
inference casts the parameters, bfloat16 training is under autocast as the engine runs it.
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import timm
import torch
from measure import peak_megabytes, time_alternating
from torch import nn

from muybridge.models.selfy import SELFYConfig
from muybridge.models.tdn import TDNConfig
from muybridge.models.tsn import TSNConfig

SEGMENTS, SIZE, CLASSES = 8, 224, 174


def networks(batch: int) -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """Each network with its input; the ResNet-50 takes the frames of all clips as a batch."""
    torch.manual_seed(0)
    resnet = timm.create_model("resnet50", num_classes=CLASSES).to(memory_format=torch.channels_last)
    image = torch.randn(batch * SEGMENTS, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    clip = torch.randn(batch, SEGMENTS, 3, SIZE, SIZE)
    return {
        "timm ResNet-50": (resnet, image),
        "TSN": (TSNConfig().build(CLASSES), clip),
        "TSM": (TSNConfig(shift=True).build(CLASSES), clip),
        "SELFYNet": (SELFYConfig().build(CLASSES), clip),
        "TDN": (TDNConfig().build(CLASSES), torch.randn(batch, SEGMENTS * 5, 3, SIZE, SIZE)),
    }


def logits(output: Any) -> torch.Tensor:
    """The logits of our networks or of timm's."""
    return output if isinstance(output, torch.Tensor) else output.logits


def inference(model: nn.Module, x: torch.Tensor, bfloat16: bool) -> Callable[[], None]:
    """One forward pass in evaluation mode."""
    model.eval()
    if bfloat16:
        model, x = model.bfloat16(), x.bfloat16()

    def call() -> None:
        with torch.no_grad():
            model(x)

    return call


def training(model: nn.Module, x: torch.Tensor, bfloat16: bool) -> Callable[[], None]:
    """Forward, backward and a step of SGD."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    labels = torch.zeros(x.shape[0], dtype=torch.int64)

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = nn.functional.cross_entropy(logits(model(x)).float(), labels)
        loss.backward()
        optimizer.step()

    return call


def main() -> None:
    """Print one table per mode and precision."""
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
            times = time_alternating(calls, arguments.repeats)
            peaks = {name: peak_megabytes(call) for name, call in calls.items()}
            base = times["timm ResNet-50"]
            print(f"\n{mode}, {precision}: median ms, minimum ms, ratio to ResNet-50, peak MiB")
            for name, series in times.items():
                ratio = statistics.median(ours / theirs for ours, theirs in zip(series, base, strict=True))
                median = statistics.median(series)
                print(f"  {name:15} {median:8.1f} {min(series):8.1f} {ratio:7.2f} {peaks[name]:9.0f}")


if __name__ == "__main__":
    main()
