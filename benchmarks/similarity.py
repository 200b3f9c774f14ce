"""The self-similarity transform compared with two straightforward implementations: all pairs, and unfold.

    python benchmarks/similarity.py [--threads 4] [--repeats 15]

Forward, and forward with backward, of 8 frames of 128 channels; peak memory is that of tensors besides the input.
Every repetition runs all implementations one after the other.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from measure import peak_megabytes, time_alternating
from torch import Tensor

from muybridge.models.selfy.similarity import self_similarity

RADIUS = (4, 4)


def offset_frames(v: Tensor, offset: int) -> Tensor:
    """The frames ``offset`` later; zeros beyond the ends of the clip."""
    return F.pad(v, (0, 0) * 3 + (max(-offset, 0), max(offset, 0)))[:, max(offset, 0) :][:, : v.shape[1]]


def all_pairs(v: Tensor, offsets: tuple[int, ...], radius: tuple[int, int]) -> Tensor:
    """The products of all pairs of positions, of which the wanted ones are gathered."""
    _, _, height, width, _ = v.shape
    rows = torch.arange(height)[:, None] + torch.arange(2 * radius[0] + 1)  # X U, in the padded map
    columns = torch.arange(width)[:, None] + torch.arange(2 * radius[1] + 1)
    index = rows[:, None, :, None] * (width + 2 * radius[1]) + columns[None, :, None, :]
    index = rearrange(index, "x y u v -> (x y) (u v)")
    query = rearrange(v, "b t x y c -> b t (x y) c")
    out = []
    for offset in offsets:
        pairs = query @ rearrange(offset_frames(v, offset), "b t x y c -> b t c (x y)")
        pairs = rearrange(pairs, "b t n (x y) -> b t n x y", x=height)
        pairs = rearrange(F.pad(pairs, (radius[1], radius[1], radius[0], radius[0])), "b t n x y -> b t n (x y)")
        out.append(pairs.gather(3, index.expand(*pairs.shape[:2], *index.shape)))
    stacked = torch.stack(out, 3)
    return rearrange(stacked, "b t (x y) l (u v) -> b t x y l u v", x=height, u=2 * radius[0] + 1)


def unfold(v: Tensor, offsets: tuple[int, ...], radius: tuple[int, int]) -> Tensor:
    """The neighborhood of every position is copied, then multiplied with it."""
    batch, frames, height, width, channels = v.shape
    size = (2 * radius[0] + 1, 2 * radius[1] + 1)
    out = []
    for offset in offsets:
        images = rearrange(offset_frames(v, offset), "b t x y c -> (b t) c x y")
        patches = F.unfold(images, size, padding=radius)
        patches = patches.unflatten(1, (channels, size[0] * size[1]))
        query = rearrange(v, "b t x y c -> (b t) (x y) 1 c")
        out.append((query @ rearrange(patches, "n c w p -> n p c w")).squeeze(2))
    stacked = torch.stack(out, 2)
    shape = {"b": batch, "t": frames, "x": height, "y": width, "u": size[0]}
    return rearrange(stacked, "(b t) (x y) l (u v) -> b t x y l u v", **shape)


IMPLEMENTATIONS: dict[str, Callable[..., Tensor]] = {"ours": self_similarity, "all pairs": all_pairs, "unfold": unfold}


def run(transform: Callable[..., Tensor], v: Tensor, offsets: tuple[int, ...], cotangent: Tensor | None) -> None:
    """One call, with its gradient if there is a cotangent."""
    with torch.set_grad_enabled(cotangent is not None):
        out = transform(v, offsets, RADIUS)
    if cotangent is not None:
        torch.autograd.grad(out, v, cotangent)


def main() -> None:
    """Print one line per map size, window and pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {arguments.threads} threads; median ms and peak MiB, 9x9 displacements")
    for size in (14, 28):
        for frames in (5, 9):
            offsets = tuple(range(-(frames // 2), frames // 2 + 1))
            v = F.normalize(torch.randn(1, 8, size, size, 128), dim=-1).requires_grad_()
            cotangent = torch.randn(1, 8, size, size, frames, 9, 9)
            for title, gradient in (("forward", None), ("forward and backward", cotangent)):
                calls = {name: partial(run, call, v, offsets, gradient) for name, call in IMPLEMENTATIONS.items()}
                times = time_alternating(calls, arguments.repeats)
                figures = ", ".join(
                    f"{name} {statistics.median(series):.1f} ms {peak_megabytes(calls[name]):.0f} MiB"
                    for name, series in times.items()
                )
                print(f"{size}x{size}, L = {frames}, {title}: {figures}", flush=True)


if __name__ == "__main__":
    main()
