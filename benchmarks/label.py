"""`muybridge label` of many short clips, left alone and killed twice: the same table, and how fast it was.

    python benchmarks/label.py RUN [--clips 2000] [--workers 0] [--folder label-benchmark]

RUN is any run of videos, such as that of `muybridge train tsm_moving_shapes`. The clips are generated: moving shapes of
64x64 pixels, 32 frames of H.264. One of them is damaged. The second table is made by three commands, of which two are
killed (SIGKILL): when a third of the rows are there, and after half of the time that the undisturbed one took.
"""

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
from pyarrow import Table

from muybridge.media.synthetic.moving_shapes import MOTIONS, SceneConfig
from muybridge.media.synthetic.videos import write_videos


def main() -> None:
    """Print the seconds, the clips per second, and whether the tables agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder")
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("label-benchmark"))
    args = parser.parse_args()
    scenes = -(-args.clips // len(MOTIONS))
    clips = write_videos(args.folder / "shapes", SceneConfig(64, 64, disturbance=0.5), scenes, 1)[: args.clips]
    broken = args.folder / "shapes" / "broken.mp4"
    broken.write_bytes(clips[0].read_bytes()[:1000])
    source = args.folder / "clips.txt"
    source.write_text("".join(f"{path.resolve()}\n" for path in [*clips[:-1], broken]))

    def command(out: Path) -> list[str]:
        words = [args.run, str(source), "--out", str(out), "--workers", str(args.workers)]
        return [sys.executable, "-m", "muybridge", "label", *words]

    whole, killed = args.folder / "whole", args.folder / "killed"
    started = time.monotonic()
    subprocess.run(command(whole), check=True)
    seconds = time.monotonic() - started
    print(f"undisturbed: {len(clips)} clips in {seconds:.0f} s, {len(clips) / seconds:.1f} clips/s with start and end")
    for count, limit in ((len(clips) // 3, math.inf), (len(clips), seconds / 2)):
        kill_at(command(killed), killed, count, limit)
        print(f"killed with {rows(killed)} rows", flush=True)
    subprocess.run(command(killed), check=True)
    first, second = (pyarrow.parquet.read_table(folder).sort_by("path").combine_chunks() for folder in (whole, killed))
    report(first, second, len(clips))


def kill_at(command: list[str], out: Path, count: int, seconds: float) -> None:
    """Start a command, and kill it as soon as its table has so many rows, or after some seconds."""
    process, started = subprocess.Popen(command), time.monotonic()
    while process.poll() is None and rows(out) < count and time.monotonic() - started < seconds:
        time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def rows(out: Path) -> int:
    """How many rows the partitions of a table have."""
    return sum(pyarrow.parquet.ParquetFile(file).metadata.num_rows for file in out.glob("part-*.parquet"))


def report(first: Table, second: Table, count: int) -> None:
    """Say whether two tables are the same, and stop with an error where they are not."""
    paths = second["path"].to_pylist()
    print(f"{len(paths)} rows, {len(set(paths))} recordings, {count - second['error'].null_count} with an error")
    same = first.equals(second)
    print("the tables are " + ("equal in every value" if same else "DIFFERENT"))
    if not same or len(paths) != count:
        sys.exit(1)


if __name__ == "__main__":
    main()
