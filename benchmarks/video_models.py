"""Time and memory of TSN, TSM, SELFYNet and TDN compared with timm's ResNet-50 on the same 8 frames, in one run.

    python benchmarks/video_models.py [--threads 4] [--repeats 15] [--batch 1] [--mode inference training onnx]
                                      [--device cuda] [--compile]

Every repetition runs all networks one after the other, so that other load on the machine affects all of them; the ratio
is the median over repetitions of (network / ResNet-50) within the repetition. All are channels-last; bfloat16
inference casts the parameters, bfloat16 training is under autocast as the engine runs it. On a GPU a time ends when the
GPU has finished. ``--compile`` passes every network through torch.compile first. The mode ``onnx`` runs our
networks in ONNX Runtime, in float32 and in 8-bit integers, beside the ResNet-50 in PyTorch in both precisions.
"""

import argparse
import copy
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from measure import peak_megabytes, time_alternating
from torch import nn

from muybridge.models.selfy import SELFYConfig
from muybridge.models.tdn import TDNConfig
from muybridge.models.tsn import TSNConfig

SEGMENTS, SIZE, CLASSES = 8, 224, 174


def networks(batch: int, device: str = "cpu") -> dict[str, tuple[Any, torch.Tensor]]:
    """Each network with its input; the ResNet-50 takes the frames of all clips as a batch."""
    torch.manual_seed(0)
    resnet = timm.create_model("resnet50", num_classes=CLASSES).to(memory_format=torch.channels_last)
    image = torch.randn(batch * SEGMENTS, 3, SIZE, SIZE).contiguous(memory_format=torch.channels_last)
    clip = torch.randn(batch, SEGMENTS, 3, SIZE, SIZE)
    pairs = {
        "timm ResNet-50": (resnet, image),
        "TSN": (TSNConfig().build(CLASSES), clip),
        "TSM": (TSNConfig(shift=True).build(CLASSES), clip),
        "SELFYNet": (SELFYConfig().build(CLASSES), clip),
        "TDN": (TDNConfig().build(CLASSES), torch.randn(batch, SEGMENTS * 5, 3, SIZE, SIZE)),
    }
    return {name: (model.to(device), x.to(device)) for name, (model, x) in pairs.items()}


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
    labels = torch.zeros(x.shape[0], dtype=torch.int64, device=x.device)

    def call() -> None:
        optimizer.zero_grad()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bfloat16):
            loss = nn.functional.cross_entropy(logits(model(x)).float(), labels)
        loss.backward()
        optimizer.step()

    return call


def exported(batch: int, folder: Path) -> dict[str, Callable[[], object]]:
    """Our networks in ONNX Runtime, in both formats, after the ResNet-50 in PyTorch in both precisions."""
    from muybridge.export.quantize import quantize
    from muybridge.export.session import OnnxModel, open_session
    from muybridge.export.write import convert

    (name, (resnet, image)), *ours = networks(batch).items()
    calls: dict[str, Callable[[], object]] = {
        f"{name}, bfloat16": inference(copy.deepcopy(resnet), image, True),
        f"{name}, float32": inference(resnet, image, False),
    }
    for name, (model, clip) in ours:
        path, small = folder / f"{name}.onnx", folder / f"{name}-int8.onnx"
        convert(model.eval().requires_grad_(False), {"video": torch.cat([clip, clip])}).save(path)
        quantize(path, small, [{"video": clip}])
        for kind, file in (("float32", path), ("int8", small)):
            calls[f"{name}, {kind}"] = partial(OnnxModel(open_session(file)), video=clip)
    return calls


def vector_units() -> str:
    """What the processor computes with, as torch sees it and as the system lists it."""
    names = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # only Linux has it
        flags = set()
    return " ".join([torch.backends.cpu.get_cpu_capability(), *(name for name in names if name in flags)])


def print_table(title: str, times: dict[str, list[float]], peaks: dict[str, float]) -> None:
    """The rows of one table; the first is what all are compared with."""
    base = next(iter(times.values()))
    print(f"\n{title}: median ms, minimum ms, ratio to {next(iter(times))}{', peak MiB' if peaks else ''}")
    for name, series in times.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(series, base, strict=True))
        peak = f"{peaks[name]:9.0f}" if peaks else ""
        print(f"  {name:25} {statistics.median(series):8.1f} {min(series):8.1f} {ratio:7.2f} {peak}")


def finished(call: Callable[[], None]) -> Callable[[], None]:
    """The call, which then returns once the GPU has finished."""

    def wait() -> None:
        call()
        torch.cuda.synchronize()

    return wait


def peak_on_gpu(call: Callable[[], None]) -> float:
    """Peak memory on the GPU during a call, minus what is allocated before, in MiB."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def main() -> None:
    """Print one table per mode and precision."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--mode", nargs="+", choices=["inference", "training", "onnx"], default=["inference", "training"]
    )
    parser.add_argument("--precision", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true")
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda"
    torch.set_num_threads(arguments.threads)
    where = torch.cuda.get_device_name() if on_gpu else f"{vector_units()}, {arguments.threads} threads"
    print(f"torch {torch.__version__}, {where}, batch {arguments.batch}{', compiled' if arguments.compile else ''}")
    for mode in arguments.mode:
        if mode == "onnx":
            with TemporaryDirectory() as folder:
                times = time_alternating(exported(arguments.batch, Path(folder)), arguments.repeats)
            print_table("ONNX Runtime", times, {})
            continue
        for precision in arguments.precision:
            prepare = inference if mode == "inference" else training
            pairs = networks(arguments.batch, arguments.device)
            if arguments.compile:
                for model, _ in pairs.values():
                    model.compile()
            calls = {name: prepare(model, x, precision == "bfloat16") for name, (model, x) in pairs.items()}
            if on_gpu:
                calls = {name: finished(call) for name, call in calls.items()}
            times = time_alternating(calls, arguments.repeats, warm_up=3)
            peaks = {name: (peak_on_gpu if on_gpu else peak_megabytes)(call) for name, call in calls.items()}
            print_table(f"{mode}, {precision}", times, peaks)


if __name__ == "__main__":
    main()
