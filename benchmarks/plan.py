"""Hours and money for labelling many clips and for training on large data sets, from measured seconds per clip.

    python benchmarks/plan.py [--gpu-price 3] [--core-price 0.04] [--cores 16] [--megabytes 1] [--gigabits 10]
                              [--egress 0] [--machines 1] [--clips 1e7]

Every machine has one GPU and ``--cores`` cores, or, without a GPU, twice as many cores. Seconds per clip are those of
docs/results.md and docs/scale.md; prices are assumptions of yours.
"""

import argparse
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Job:
    """Work on many clips.

    Attributes:
        name: in words.
        clips: how many times a clip is processed.
        gpu: seconds of a GPU per clip; 0 without one.
        core: seconds of a core per clip, for decoding, and for the network where there is no GPU.
        megabytes: per clip, that are read; None is the option.
    """

    name: str
    clips: float
    gpu: float
    core: float
    megabytes: float | None = None


TSM, SELFY, TDN = 1.65 * 8.8e-3 / 8, 2.49 * 8.8e-3 / 8, 4.00 * 8.8e-3 / 8
"""Inference in bfloat16 on an H100, seconds per clip of 8 segments at 224 pixels, ResNet-50: docs/results.md."""

TSM_STEP, SELFY_STEP, TDN_STEP = 1.28 * 43e-3 / 8, 1.88 * 43e-3 / 8, 3.57 * 43e-3 / 8
"""A training step, likewise."""

TSM_INT8, TDN_INT8 = 95e-3, 147e-3
"""Inference of an exported file in 8-bit integers on one core with VNNI: docs/results.md."""

LOAD, LOAD_WINDOWS, LOAD_SHORT, LOAD_SHORT_WINDOWS = 44e-3, 57e-3, 30e-3, 45e-3
"""Decoding and preparing 8 frames, or 8 windows of 5, from 10 s of H.264 at 340x256 and from 4 s of VP9 at 320x240."""

SOMETHING, KINETICS = 168_913, 240_000
"""Training clips of Something-Something V2, and of Kinetics-400 as far as they still exist."""


def jobs(clips: float) -> list[Job]:
    """What is planned; 90 kB is the mean size of a video of Something-Something V2."""
    count = f"{clips / 1e6:g} million clips"
    return [
        Job(f"label {count}, TSM, GPU", clips, TSM, LOAD),
        Job(f"label {count}, TDN, GPU", clips, TDN, LOAD_WINDOWS),
        Job(f"label {count}, TSM, int8, no GPU", clips, 0, LOAD + TSM_INT8),
        Job(f"label {count}, TDN, int8, no GPU", clips, 0, LOAD_WINDOWS + TDN_INT8),
        Job("train SELFYNet, Something V2, 50 epochs", 50 * SOMETHING, SELFY_STEP, LOAD_SHORT, 0.09),
        Job("train TDN, Something V2, 60 epochs", 60 * SOMETHING, TDN_STEP, LOAD_SHORT_WINDOWS, 0.09),
        Job("train TSM, Kinetics-400, 100 epochs", 100 * KINETICS, TSM_STEP, LOAD),
        Job("train TDN, Kinetics-400, 100 epochs", 100 * KINETICS, TDN_STEP, LOAD_WINDOWS),
    ]


def main() -> None:
    """Print a table in Markdown: hours, money, and what limits the speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=float, default=1e7, help="clips to label")
    parser.add_argument("--machines", type=int, default=1)
    parser.add_argument("--cores", type=int, default=16, help="cores beside each GPU")
    parser.add_argument("--gpu-price", type=float, default=3.0, help="of a machine with a GPU, an hour")
    parser.add_argument("--core-price", type=float, default=0.04, help="of a core without a GPU, an hour")
    parser.add_argument("--megabytes", type=float, default=1.0, help="of a clip of 10 s")
    parser.add_argument("--gigabits", type=float, default=10.0, help="of the network of each machine, a second")
    parser.add_argument("--egress", type=float, default=0.0, help="price of reading a gigabyte")
    args = parser.parse_args()
    print("| job | hours | cost | limited by | then by | Mbit/s |\n|---|---|---|---|---|---|")
    for job in jobs(args.clips):
        print(row(job, args))


def row(job: Job, args: argparse.Namespace) -> str:
    """One line of the table."""
    cores = args.cores if job.gpu else 2 * args.cores
    megabytes = args.megabytes if job.megabytes is None else job.megabytes
    limits = {"GPU": job.gpu, "cores": job.core / cores, "network": megabytes * 8 / (args.gigabits * 1000)}
    (first, seconds), (second, next_seconds), _ = sorted(limits.items(), key=lambda item: -item[1])
    hours = job.clips * seconds / 3600
    price = args.gpu_price if job.gpu else args.core_price * cores
    cost = hours * price + job.clips * megabytes / 1000 * args.egress
    rate = megabytes * 8 / seconds
    ratio = f"{second} ({next_seconds / seconds:.0%})"
    return f"| {job.name} | {hours / args.machines:.1f} | {cost:,.0f} | {first} | {ratio} | {rate:,.0f} |"


if __name__ == "__main__":
    main()
