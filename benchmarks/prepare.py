"""How long the index of a data set takes beside opening each file with PyAV alone, and how busy copies keep the cores.

    python -m benchmarks.prepare [--files 10000] [--copies 64]

The files are one clip of ten seconds under many names, as hard links. Both ways of probing use one process for each
core, in alternation.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from muybridge.core.processes import available_cores, run_parallel
from muybridge.media.encode import encode_copy
from muybridge.prepare.reencode import reencode
from muybridge.prepare.video_index import NAME, index_videos

FRAMES, HEIGHT, WIDTH = 250, 240, 320


def write_clip(path: Path) -> Path:
    """Ten seconds of a pattern that moves."""
    texture = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, (WIDTH + FRAMES) // 8 + 1, 3), dtype=np.uint8)
    texture = texture.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for step in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(texture[:, step : step + WIDTH]), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def probe_alone(path: Path) -> tuple[int, int, int]:
    """What a container says of itself."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.frames, stream.codec_context.height, stream.codec_context.width


def probe_part(paths: list[Path]) -> list[tuple[int, int, int]]:
    """What some containers say of themselves."""
    return [probe_alone(path) for path in paths]


def seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def processor(call: Callable[[], object]) -> tuple[float, float]:
    """How long a call takes, and the processor time of it and of the processes that it ended (not on Windows)."""
    import resource

    def used() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in both)

    before = used()
    return seconds(call), used() - before


def measure_index(root: Path, paths: list[Path], rounds: int) -> None:
    """Print the times of both ways of probing, and of a second run; processor time tells more on a busy machine."""
    alone, whole, again, shares = [], [], [], []

    parts = {begin: paths[begin : begin + 64] for begin in range(0, len(paths), 64)}

    def open_all() -> None:
        list(run_parallel(probe_part, parts, available_cores()))

    for _ in range(rounds):
        (root / NAME).unlink(missing_ok=True)
        wall, opened = processor(open_all)
        alone.append(wall)
        wall, indexed = processor(lambda: index_videos(root, paths))
        whole.append(wall)
        shares.append(f"{indexed / opened:.2f}x")
        again.append(seconds(lambda: index_videos(root, paths)))
    print(
        f"{len(paths)} files: PyAV alone {min(alone):.2f} s, index {min(whole):.2f} s "
        f"({min(whole) / min(alone):.2f}x; in processor time {', '.join(shares)}), second run {min(again):.2f} s"
    )


def measure_copies(root: Path, paths: list[Path], out: Path) -> None:
    """Print how many frames are copied a second, on all cores and by one process, and how busy its core was."""
    wall = seconds(lambda: reencode(root, paths, out, short_side=128))
    print(
        f"{len(paths)} copies of {FRAMES} frames in {wall:.1f} s, {len(paths) * FRAMES / wall:.0f} frames a second on "
        f"{available_cores()} cores (with the start of the processes)"
    )
    (busy, waited), few = scheduled(), paths[:16]
    wall = seconds(lambda: [encode_copy(path, out / "one.mp4", 128) for path in few])
    busy, waited = scheduled()[0] - busy, scheduled()[1] - waited
    print(
        f"one process: {len(few) * FRAMES / busy:.0f} frames a second of computing; it computed for "
        f"{busy / (wall - waited):.1%} of the time in which it had a core"
    )


def scheduled() -> tuple[float, float]:
    """Seconds that this thread was computing, and that it waited for a core (Linux)."""
    computing, waiting = Path("/proc/thread-self/schedstat").read_text().split()[:2]
    return int(computing) / 1e9, int(waiting) / 1e9


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--copies", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "data")
        root.mkdir()
        clip = write_clip(Path(folder, "clip.mp4"))
        paths = [root / f"{number:05}.mp4" for number in range(given.files)]
        for path in paths:
            os.link(clip, path)
        measure_index(root, paths, given.rounds)
        measure_copies(root, paths[: given.copies], Path(folder, "copies"))


if __name__ == "__main__":
    main()
