"""Seconds of `muybridge predict` for one short video, whole process, beside bare imports of its libraries.

    python benchmarks/startup.py RUN VIDEO [--repeats 9]      # for example the run and a video of `muybridge demo`

Whole processes are timed, one after the other in each round; the ratio is the median within the rounds.
"""

import argparse
import statistics
import subprocess
import sys

from measure import time_alternating


def main() -> None:
    """Print the median of each command, and its ratio to the imports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder")
    parser.add_argument("video")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    commands = {
        "import torch, timm, av": ["-c", "import torch, timm, av"],
        "muybridge predict": ["-m", "muybridge", "predict", args.run, args.video],
        "muybridge --help": ["-m", "muybridge", "--help"],
    }

    def start(arguments: list[str]) -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    times = time_alternating({name: lambda given=given: start(given) for name, given in commands.items()}, args.repeats)
    base = next(iter(times.values()))
    for name, series in times.items():
        ratio = statistics.median(one / first for one, first in zip(series, base, strict=True))
        print(f"{name:24} {statistics.median(series) / 1000:6.2f} s  x{ratio:.2f}")


if __name__ == "__main__":
    main()
