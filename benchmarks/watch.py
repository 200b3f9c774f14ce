"""A step of dRNN beside `torch.nn.LSTMCell`, and the lag of `muybridge watch` with frames that come 30 times a second.

    OMP_NUM_THREADS=1 python benchmarks/watch.py [--frames 300]

The cells have the size of `drnn_utd_mhad`, and joints are smoothed as there. An answer of `watch` costs a step for a
new frame, two for the last ones, which later frames still change, and one for the end; beside it there is the time of
the same answers where the body is measured in the whole window, which is then computed anew each time. For the lag,
frames come from a thread with a clock of its own, and each is answered if there is time for it.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from measure import machine, time_alternating, untrained_run
from torch import nn

from muybridge.media.live import Moment
from muybridge.nn.differential_step import DifferentialSteps
from muybridge.nn.recurrent import DifferentialLSTM
from muybridge.predict import Predictor
from muybridge.timeline import LivePredictor, watch

FPS, JOINTS, HIDDEN, INPUT = 30, 20, 128, 120
MODEL = {
    "name": "drnn",
    "order": 2,
    "hidden": HIDDEN,
    "pooling": "mean",
    "features": ["movement", "travel"],
    "smooth": True,
}
WINDOW = 2.0


@dataclass(slots=True)
class Walk:
    """Joints that wander at random, as a source of so many frames that keeps to its clock."""

    frames: int
    paced: bool = True
    name: str = "a walk"
    endless: bool = False

    def moments(self) -> Iterator[Moment]:
        """Each frame when its time has come."""
        rng, began = np.random.default_rng(0), time.monotonic()
        joints = rng.normal(size=(1, JOINTS, 3))
        for number in range(self.frames):
            if self.paced:
                time.sleep(max(0.0, began + number / FPS - time.monotonic()))
            joints = joints + rng.normal(scale=0.01, size=joints.shape)
            yield Moment(joints, number / FPS)


def compare_steps(repeats: int) -> None:
    """Print the time of one step of each cell, for one sequence."""
    lstm, drnn, frame = nn.LSTMCell(INPUT, HIDDEN), DifferentialLSTM(INPUT, HIDDEN), torch.randn(1, INPUT)
    state, steps = (torch.zeros(1, HIDDEN), torch.zeros(1, HIDDEN)), DifferentialSteps(drnn)
    before = steps.initial_state(1)
    with torch.inference_mode():
        calls = {"nn.LSTMCell": lambda: lstm(frame, state), "dRNN": lambda: steps(frame, before)}
        times = {name: statistics.median(each) for name, each in time_alternating(calls, repeats, 50).items()}
    ratio = times["dRNN"] / times["nn.LSTMCell"]
    print(", ".join(f"{name} {1e3 * each:.0f} us" for name, each in times.items()), f"a step: {ratio:.1f}x")


def compare_answers(carried: Predictor, window: Predictor, frames: int) -> None:
    """Print the time of an answer where a state is carried, and where the window is computed as a whole."""
    streams = {"carried": LivePredictor(carried, WINDOW), "window": LivePredictor(window, WINDOW)}
    moments = iter([moment for _ in range(2) for moment in Walk(frames, paced=False).moments()])
    times = {name: list[float]() for name in streams}
    for number, moment in enumerate(moments):
        for name, live in streams.items():
            began = time.perf_counter()
            live.push(moment.content, number / FPS)
            live.answer()
            times[name].append(1e3 * (time.perf_counter() - began))
    settled = {name: each[int(WINDOW * FPS) :] for name, each in times.items()}
    middle = {name: statistics.median(each) for name, each in settled.items()}
    highest = np.percentile(settled["carried"], 99)
    print(
        f"an answer: {middle['carried']:.2f} ms with a state that is carried (99 %: {highest:.2f} ms), "
        f"{middle['window']:.2f} ms for the whole window, {middle['window'] / middle['carried']:.1f}x"
    )


def measure_lag(predictor: Predictor, frames: int) -> None:
    """Print the lag of the answers to frames as they come, in milliseconds and in frames."""
    live = LivePredictor(predictor, WINDOW)
    lags = [1e3 * answer.lag for answer in watch(live, Walk(frames))]
    middle, high = np.percentile(lags, [50, 95])
    print(
        f"watch: {len(lags)} answers to {frames} frames, lag {middle:.1f} ms (median), {high:.1f} ms (95 %), "
        f"{max(lags):.1f} ms (highest), which are {middle * FPS / 1e3:.2f}, {high * FPS / 1e3:.2f} and "
        f"{max(lags) * FPS / 1e3:.2f} frames"
    )


def main() -> None:
    """Print the time of a step, and the lag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=2000)
    args = parser.parse_args()
    print(machine())
    compare_steps(args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        data = {"name": "msr_action3d", "root": folder}
        window = Predictor(untrained_run(Path(folder) / "window", MODEL, data), "cpu")
        carried = Predictor(untrained_run(Path(folder) / "carried", MODEL | {"body_size": "so far"}, data), "cpu")
        compare_answers(carried, window, args.frames)
        measure_lag(carried, args.frames)


if __name__ == "__main__":
    main()
