"""`muybridge serve` with 8 clients beside `predict` in one process, twice the load it can take, and its memory.

    OMP_NUM_THREADS=1 python benchmarks/serve.py [--requests 200] [--many 2000] [--jobs 2]

The files are generated: moving shapes of 64 pixels, 32 frames of H.264; the network is an untrained TSM-R18.
Throughput: each client sends its next file when it has the answer; `predict` answers the same files. Twice the load:
files are sent at twice that rate, whatever comes back. Memory: that of all processes of the server, in the course of
many requests.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import httpx
import numpy as np
from measure import machine, untrained_run

from muybridge.media.synthetic.moving_shapes import SceneConfig
from muybridge.media.synthetic.videos import write_videos
from muybridge.predict import Predictor

MODEL = {"name": "tsn", "shift": True, "backbone": "resnet18", "size": 64, "pretrained": False}
CLIENTS, QUEUE = 8, 8


def main() -> None:
    """Print requests a second of both, the answers at twice the load, and the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2, help="processes of the server that read, threads of predict")
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        paths = write_videos(Path(folder) / "films", SceneConfig(64, 64), 4, 1)
        run = untrained_run(Path(folder) / "run", MODEL)
        with server(run, args.jobs) as (client, process):
            rate = throughput(Predictor(run), client, paths, args.requests, args.jobs)
            overload(client, paths, 2 * rate, args.requests)
            memory(client, process, paths, args.many)


@contextmanager
def server(run: Path, jobs: int) -> Iterator[tuple[httpx.Client, int]]:
    """The command, and a client of it."""
    words = ["serve", str(run), "--port", "0", "--jobs", str(jobs), "--queue", str(QUEUE)]
    with subprocess.Popen([sys.executable, "-m", "muybridge", *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = next(match[1] for line in process.stderr if (match := re.search(r"serving at (\S+)", line)))
        limits = httpx.Limits(max_connections=None)
        with httpx.Client(base_url=address, timeout=600, limits=limits) as client:
            yield client, process.pid
        process.terminate()


def ask(client: httpx.Client, path: Path) -> tuple[int, float]:
    """Status and seconds of one request."""
    began = time.perf_counter()
    response = client.post("/v1/predict", params={"filename": path.name}, content=path.read_bytes())
    return response.status_code, time.perf_counter() - began


def throughput(predictor: Predictor, client: httpx.Client, paths: list[Path], count: int, jobs: int) -> float:
    """Print both rates, measured in alternation; returns the server's."""
    spent = {"serve": 0.0, "predict": 0.0}
    files = list(islice(cycle(paths), count))
    ask(client, files[0])  # what is done once, at the first call
    predictor(files[0])
    for part in np.array_split(np.arange(count), 5):
        some = [files[number] for number in part]
        began = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            assert {status for status, _ in pool.map(lambda path: ask(client, path), some)} == {200}
        spent["serve"] += time.perf_counter() - began
        began = time.perf_counter()
        answers = predictor.predict_found(iter(some), jobs=jobs)
        assert len(list(answers)) == len(some)
        spent["predict"] += time.perf_counter() - began
    rates = {name: count / seconds for name, seconds in spent.items()}
    print(
        f"{CLIENTS} clients: {rates['serve']:.1f} files/s, predict in one process {rates['predict']:.1f} files/s: ",
        end="",
    )
    print(f"{rates['serve'] / rates['predict']:.2f}x")
    return rates["serve"]


def overload(client: httpx.Client, paths: list[Path], rate: float, count: int) -> None:
    """Print how requests are answered that come at a rate, in files a second."""
    began = time.perf_counter()

    def send(number: int) -> tuple[int, float]:
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        return ask(client, paths[number % len(paths)])

    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(send, range(count)))
    good = [1e3 * seconds for status, seconds in answers if status == 200]
    statuses = Counter(status for status, _ in answers)
    middle, high = np.percentile(good, [50, 95])
    print(
        f"{rate:.1f} files/s sent: {statuses[200]} answered in {middle:.0f} ms (median), {high:.0f} ms (95 %); ", end=""
    )
    print(f"{statuses[429]} of {count} refused (429), {count - statuses[200] - statuses[429]} other answers")


def memory(client: httpx.Client, process: int, paths: list[Path], count: int) -> None:
    """Print the memory of the server after each fifth of many requests."""
    sizes = []
    for part in np.array_split(np.arange(count), 5):
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda number: ask(client, paths[number % len(paths)]), part.tolist()))
        sizes.append(sum(map(megabytes, [process, *descendants(process)])))
    print(f"memory after each fifth of {count} requests: {', '.join(f'{size:.0f}' for size in sizes)} MiB")


def descendants(process: int) -> list[int]:
    """The processes that a process started, and theirs; of Linux alone."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    children = [int(word) for file in tasks for word in file.read_text().split()]
    return [*children, *(further for child in children for further in descendants(child))]


def megabytes(process: int) -> float:
    """The memory of a process in MiB; of what it shares with others, its share."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)
    assert found
    return int(found[1]) / 1024


if __name__ == "__main__":
    main()
