"""How long 8 windows of 5 frames take from a file on disk to pixels, beside what one would use instead.

Opening, indexing and decoding are timed together, on one thread, on H.264 files of 340x256 pixels with x264's default
keyframes. decord and torchcodec are measured where they load. Run it on an idle machine:

    OMP_NUM_THREADS=1 python benchmarks/decoding.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import torch

from muybridge.data.sampling import window_indices, window_starts
from muybridge.media.decoders import torchcodec_decoder
from muybridge.media.video import Video

Reader = Callable[[Path, Sequence[int]], object]


def write(path: Path, seconds: int, height: int = 256, width: int = 340) -> None:
    """A textured picture that wanders under a little noise, at 30 frames a second."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (1, 3, height // 8 + 28, width // 8 + 28))).float()
    scene = torch.nn.functional.interpolate(coarse, scale_factor=8, mode="bicubic").clamp(0, 255)[0].permute(1, 2, 0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for step in range(seconds * 30):
            top, left = int(100 + 90 * np.sin(step / 17)), int(100 + 90 * np.cos(step / 23))
            picture = scene[top : top + height, left : left + width].numpy() + rng.integers(-6, 7, (height, width, 1))
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def ours(path: Path, indices: Sequence[int]) -> object:
    """This package through PyAV."""
    with Video(path) as video:
        return video.read(indices).pixels


def ours_small(path: Path, indices: Sequence[int]) -> object:
    """This package through PyAV, scaled to a short side of 128 pixels while converting."""
    with Video(path) as video:
        return video.read(indices, short_side=128).pixels


def ours_torchcodec(path: Path, indices: Sequence[int]) -> object:
    """This package through torchcodec; without it, it would fall back on PyAV."""
    if torchcodec_decoder() is None:
        raise ImportError("torchcodec does not load here")
    with Video(path, decoder="torchcodec") as video:
        return video.read(indices).pixels


def torchcodec(path: Path, indices: Sequence[int]) -> object:
    """torchcodec as its documentation shows it."""
    return torchcodec_decoder()(str(path), num_ffmpeg_threads=1).get_frames_at(list(indices)).data


def sequential(path: Path, indices: Sequence[int]) -> object:
    """PyAV from the first frame to the last one asked for."""
    wanted, frames = set(indices), {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for index, frame in enumerate(container.decode(stream)):
            if index in wanted:
                frames[index] = frame.to_ndarray(format="rgb24", threads=1)
            if len(frames) == len(wanted):
                break
    return np.stack([frames[index] for index in indices])


def decord(path: Path, indices: Sequence[int]) -> object:
    """Decord as the authors' code of TDN reads Kinetics."""
    import decord  # pyright: ignore[reportMissingImports]

    return decord.VideoReader(str(path), num_threads=1).get_batch(list(indices)).asnumpy()


def loads(reader: Reader, path: Path) -> bool:
    """Whether a reader can be measured here."""
    try:
        reader(path, [0])
    except (ImportError, TypeError):
        return False
    return True


def milliseconds(readers: Sequence[Reader], path: Path, draws: Sequence[Sequence[int]]) -> list[list[float]]:
    """Wall time of each reader for each draw, after one uncounted; in turn, so that all meet the same load."""
    times: list[list[float]] = [[] for _ in readers]
    for indices in [draws[0], *draws]:
        for reader, spent in zip(readers, times, strict=True):
            start = time.perf_counter()
            reader(path, indices)
            spent.append(1000 * (time.perf_counter() - start))
    return [spent[1:] for spent in times]


def main() -> None:
    """Prints a table of medians, and ratios to sequential decoding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=15, help="random samplings of each file")
    draws = parser.parse_args().draws
    torch.set_num_threads(1)
    candidates: list[Reader] = [sequential, decord, torchcodec, ours, ours_torchcodec, ours_small]
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (10, 100):
            path = Path(folder) / f"{seconds}.mp4"
            write(path, seconds)
            rng = torch.Generator().manual_seed(0)
            samples = [window_indices(window_starts(seconds * 30, 8, 5, rng), 5, seconds * 30) for _ in range(draws)]
            readers = [reader for reader in candidates if loads(reader, path)]
            times = milliseconds(readers, path, samples)
            base = statistics.median(times[0])
            for reader, spent in zip(readers, times, strict=True):
                median, high = statistics.median(spent), sorted(spent)[int(0.95 * len(spent))]
                print(f"{seconds:4d} s  {reader.__name__:16s} {median:7.1f} ms  p95 {high:7.1f}  x{median / base:.2f}")


if __name__ == "__main__":
    main()
