"""How fast the optical flow of a set of videos is extracted, beside a plain loop over OpenCV.

Decoding, computing and writing are timed together: H.264 files of 320x240 pixels in, flow_x and flow_y JPEGs out. The
plain loop is what one would write instead: cv2.VideoCapture, cvtColor, calc, clip, imwrite, one video after another,
with OpenCV's own threads left on ("threads") and off ("1 thread"). Workers start before the clock does. Fractions of
linear growth are those of the best of several rounds; say how idle the machine was when you report them. Processor time
a field (workers alone, their start taken off) hardly depends on what else runs: that it stays the same from one worker
to four is what lets wall time shrink in proportion where there are idle cores.

    python benchmarks/flow.py
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from muybridge.core.processes import available_cores
from muybridge.core.types import Record
from muybridge.media.flow import BOUND, Method
from muybridge.media.flow_extract import Progress, extract_flow

HEIGHT, WIDTH = 240, 320
USAGE_OF = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


opencv: Any = cv2  # its stubs lack the contributed modules


def write(path: Path, frames: int, seed: int) -> None:
    """A video of a texture that moves over another one."""
    rng = np.random.default_rng(seed)
    background, patch = (
        opencv.resize(rng.integers(0, 256, (side // 6, side // 6, 3), dtype=np.uint8), (side, side))
        for side in (480, 96)
    )
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for step in range(frames):
            left, top = int(70 + 60 * np.sin(step / 9)), int(60 + 40 * np.cos(step / 7))
            image = background[step % 100 : step % 100 + HEIGHT, 40 : 40 + WIDTH].copy()
            image[top : top + 96, left : left + 96] = patch
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def plain(paths: Sequence[Path], out: Path, method: Method, threads: int) -> float:
    """Fields a second of a plain loop."""
    cv2.setNumThreads(threads)
    solver = (
        opencv.DISOpticalFlow.create(opencv.DISOPTICAL_FLOW_PRESET_MEDIUM)
        if method == "dis"
        else opencv.optflow.DualTVL1OpticalFlow_create()
    )
    fields, start = 0, time.perf_counter()
    for path in paths:
        capture = cv2.VideoCapture(str(path))
        (out / path.stem).mkdir(parents=True)
        before = None
        while True:
            success, frame = capture.read()
            if not success:
                break
            after = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
            if before is not None:
                flow = np.clip(solver.calc(before, after, None), -BOUND, BOUND)
                stored = np.rint((flow + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)
                fields += 1
                for axis, name in enumerate("xy"):
                    cv2.imwrite(str(out / path.stem / f"flow_{name}_{fields:05}.jpg"), stored[..., axis])
            before = after
    return fields / (time.perf_counter() - start)


def ours(paths: Sequence[Path], out: Path, method: Method, workers: int) -> tuple[float, float]:
    """Fields a second of this package, and milliseconds of processor time a field.

    The clock starts when each worker has finished a video, as the first waits for the worker to start. Processor time
    is that of a run which makes all fields, less that of one which finds them there.
    """
    seen: list[Progress] = []
    records = [Record(path.stem, path, 0) for path in paths]
    spent = [processor_seconds()]
    for _ in range(2):
        extract_flow(records, out, method=method, workers=workers, progress=seen.append)
        spent.append(processor_seconds())
    warm, last = seen[workers - 1], seen[len(paths) - 1]
    cost = (spent[1] - spent[0]) - (spent[2] - spent[1])
    return (last.fields - warm.fields) / (last.seconds - warm.seconds), 1000 * cost / last.fields


def processor_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    return sum(part.ru_utime + part.ru_stime for part in map(resource.getrusage, USAGE_OF))


def compare(method: Method, frames: int, videos: int, cores: Sequence[int], rounds: int) -> None:
    """Print fields a second of each way, the best of the rounds, and the share of linear growth."""
    best: dict[str, float] = {}
    cost: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{seed}.mp4" for seed in range(videos * max(cores))]
        for seed, path in enumerate(paths):
            write(path, frames, seed)
        for round_number in range(rounds):
            for title, threads in (("plain loop, 1 thread", 1), (f"plain loop, {os.cpu_count()} threads", -1)):
                fps = plain(paths[:2], folder / f"{round_number}/{title}", method, threads)
                best[title] = max(fps, best.get(title, 0))
            for count in cores:
                fps, spent = ours(paths[: videos * count], folder / f"{round_number}/{count}", method, count)
                title = f"extract_flow, {count} workers"
                best[title] = max(fps, best.get(title, 0))
                cost[count] = min(spent, cost.get(count, spent))
    print(f"{method}, {WIDTH}x{HEIGHT}, {frames} frames a video, best of {rounds}")
    for title, fps in best.items():
        line = f"  {title:<24} {fps:8.2f} fields/s"
        if title.startswith("extract"):
            count = int(title.split()[1])
            share = fps / best[f"extract_flow, {cores[0]} workers"] * cores[0] / count
            line += f"  {share:4.0%} of linear   {cost[count]:7.1f} ms of processor a field"
        print(line, flush=True)


def main() -> None:
    """DIS, then TV-L1 on shorter videos."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=150, help="of each video for DIS")
    parser.add_argument("--skip-tvl1", action="store_true")
    options = parser.parse_args()
    cores = [count for count in (1, 2, 4, 8, 16) if count <= available_cores()]
    print(f"OpenCV {cv2.__version__}, {available_cores()} cores, load {os.getloadavg()[0]:.1f} before the start")
    compare("dis", options.frames, 5, cores, options.rounds)
    if not options.skip_tvl1:
        compare("tvl1", 3, 2, cores, 1)


if __name__ == "__main__":
    main()
