"""Training clips a second: from H.264 files of 340x256 to augmented, normalized batches of 8 segments of 5 frames.

Ours is beside what one would use instead: torchcodec or decord, torchvision.transforms.v2, and PyTorch's DataLoader.
All read the same frames of the same files and crop to 224 pixels at random, mirror and normalize:

    OMP_NUM_THREADS=1 python benchmarks/loading.py [--workers 1 2] [--rounds 5] [--videos 32]

Each round loads with all of them, one after the other, so that other load on the machine affects all; the ratio is the
median over the rounds of (ours / the other) within the round. What is not installed is left out.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from decoding import write
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from muybridge.core.types import Record
from muybridge.data.clip_ops import ClipAugment
from muybridge.data.datasets.video_folder import VideoFolder
from muybridge.data.loader import BatchPlan, SampleDataset, make_loader
from muybridge.data.prepare import ClipPreparation, ViewConfig
from muybridge.data.sampling import window_indices, window_starts
from muybridge.media.decoders import torchcodec_decoder
from muybridge.models.tdn import TDNConfig

SEGMENTS, FRAMES, SIZE, FPS, BATCH = 8, 5, 224, 30, 4
FILES = 4
"""Different files of each length; they are read again and again, so that they come from the system's memory."""


class Alternative(Dataset[Tensor]):
    """Random windows of a video through another decoder, changed by torchvision's transforms.

    Args:
        paths: of the videos, one for each sample.
        frames: how many each has.
        decode: pixels ``T C H W`` of the frames with these numbers.
    """

    def __init__(self, paths: Sequence[Path], frames: int, decode: Callable[[Path, list[int]], Tensor]) -> None:
        from torchvision.transforms import v2

        self.paths, self.frames, self.decode = paths, frames, decode
        self.transform = v2.Compose(
            [
                v2.RandomResizedCrop(SIZE, scale=(0.43, 1.0), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        rng = torch.Generator().manual_seed(index)
        numbers = window_indices(window_starts(self.frames, SEGMENTS, FRAMES, rng), FRAMES, self.frames)
        return self.transform(self.decode(self.paths[index], numbers))


def torchcodec(path: Path, numbers: list[int]) -> Tensor:
    """As its documentation shows it."""
    return torchcodec_decoder()(str(path), num_ffmpeg_threads=1).get_frames_at(numbers).data


def decord(path: Path, numbers: list[int]) -> Tensor:
    """As the authors' code of TDN reads Kinetics."""
    import decord  # pyright: ignore[reportMissingImports]

    frames = decord.VideoReader(str(path), num_threads=1).get_batch(numbers).asnumpy()
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def ours(paths: Sequence[Path], root: Path, crop: str, workers: int) -> Iterable[object]:
    """The loader of a training of TDN; videos do not stay decoded in memory."""
    records = [Record(str(number), path, 0) for number, path in enumerate(paths)]
    takes = TDNConfig(segments=SEGMENTS, frames_per_segment=FRAMES, size=SIZE).takes()
    augment = ClipAugment.model_validate({"crop": crop, "short_side": 256, "area": (0.43, 1.0)})
    prepare = ClipPreparation(takes, ViewConfig(mode="segments"), mirror={}, augment=augment)
    samples = SampleDataset(records, VideoFolder(root=root), prepare, seed=0)
    samples.keep_videos = False
    return make_loader(samples, BatchPlan(len(paths), BATCH, seed=0), workers)


def loaders(paths: Sequence[Path], root: Path, frames: int, workers: int) -> dict[str, Iterable[object]]:
    """Everything that loads here, by name."""
    found: dict[str, Iterable[object]] = {
        "ours, random resized crops": ours(paths, root, "random_resized", workers),
        "ours, multi-scale crops": ours(paths, root, "multi_scale", workers),
    }
    for name, decode in (("torchcodec + v2", torchcodec), ("decord + v2", decord)):
        try:
            samples = Alternative(paths, frames, decode)
            samples[0]
        except (ImportError, TypeError) as problem:
            print(f"{name} is left out: {problem}")
            continue
        found[name] = DataLoader(
            samples, BATCH, shuffle=True, num_workers=workers, persistent_workers=True, multiprocessing_context="spawn"
        )
    return found


def measure(candidates: dict[str, Iterable[object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of a pass of each loader in each round, after a pass that starts its processes."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(rounds + 1):
        for name, loader in candidates.items():
            start = time.perf_counter()
            for _ in loader:
                pass
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Print videos a second, and the time relative to ours, for each length of files and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", type=int, default=32, help="loaded in each round")
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 100], help="lengths of the files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in args.seconds:
            files = [Path(folder) / "videos" / f"{seconds}_{number}.mp4" for number in range(FILES)]
            files[0].parent.mkdir(exist_ok=True)
            write(files[0], seconds)
            for file in files[1:]:
                file.write_bytes(files[0].read_bytes())
            paths = [files[number % FILES] for number in range(args.videos)]
            for workers in args.workers:
                spent = measure(loaders(paths, Path(folder), seconds * FPS, workers), args.rounds)
                base = next(iter(spent.values()))
                for name, series in spent.items():
                    rate = args.videos / statistics.median(series)
                    ratio = statistics.median(one / first for one, first in zip(series, base, strict=True))
                    print(f"{seconds:4d} s, {workers} workers  {name:27} {rate:7.2f} videos/s  time x{ratio:.2f}")


if __name__ == "__main__":
    main()
