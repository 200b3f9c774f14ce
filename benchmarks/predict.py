"""`predict` of many short files beside the network alone on clips that are decoded and prepared already.

    OMP_NUM_THREADS=1 python benchmarks/predict.py [--files 500] [--jobs 1] [--batch 8]

The files are generated: moving shapes of 128 pixels, 32 frames of H.264. The network is an untrained TDN-R18 of 8
segments of 5 frames at 112 pixels. The two run in alternation, on one tenth of the files after the other; the network
alone has one clip after the other and batches, of which the faster counts.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import machine, untrained_run

from muybridge.core.types import FailedSample
from muybridge.data.prepare import collate_inputs
from muybridge.media.synthetic.moving_shapes import MOTIONS, SceneConfig
from muybridge.media.synthetic.videos import write_videos
from muybridge.predict import Predictor

MODEL = {"name": "tdn", "backbone": "resnet18", "size": 112, "pretrained": False}


def main() -> None:
    """Print the seconds of each, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1, help="threads that read ahead")
    parser.add_argument("--batch", type=int, default=8)
    args = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        scenes = -(-args.files // len(MOTIONS))
        paths = write_videos(Path(folder) / "films", SceneConfig(128, 128), scenes, 1)[: args.files]
        predictor = Predictor(untrained_run(Path(folder) / "run", MODEL))
        compare(predictor, paths, args.batch, args.jobs)


def compare(predictor: Predictor, paths: list[Path], batch: int, jobs: int) -> None:
    """Print what all of them take for the files."""
    names = ("predict", "network alone, one by one", "network alone, batches")
    spent = {name: np.zeros(2) for name in names}
    predictor(paths[0])  # what is done once, at the first call
    for part in np.array_split(np.arange(len(paths)), 10):
        files = [paths[number] for number in part]
        clips = [predictor.prepare(predictor.read(path))[0] for path in files]
        single, together = ([collate_inputs(clips[at : at + n]) for at in range(0, len(clips), n)] for n in (1, batch))
        calls: dict[str, Callable[[], None]] = {
            names[0]: lambda files=files: answer(predictor, files, batch, jobs),
            names[1]: lambda inputs=single: forward(predictor, inputs),
            names[2]: lambda inputs=together: forward(predictor, inputs),
        }
        for name, call in calls.items():
            began = np.array([time.perf_counter(), time.process_time()])
            call()
            spent[name] += np.array([time.perf_counter(), time.process_time()]) - began
    best = np.minimum(spent[names[1]], spent[names[2]])
    for name, (seconds, busy) in spent.items():
        print(f"{name}: {len(paths)} files in {seconds:.1f} s ({busy:.1f} s of the processor)")
    ratio = spent[names[0]] / best
    print(f"predict takes {ratio[0]:.2f}x ({ratio[1]:.2f}x of the processor) the time of the network alone")


def answer(predictor: Predictor, files: list[Path], batch: int, jobs: int) -> None:
    """Every file, of which none may fail."""
    for one in predictor.predict_files(files, batch=batch, jobs=jobs):
        assert not isinstance(one, FailedSample)


def forward(predictor: Predictor, batches: list[dict[str, torch.Tensor]]) -> None:
    """The network alone on batches of clips."""
    with torch.inference_mode():
        for inputs in batches:
            predictor.model(**{name: value.to(predictor.device) for name, value in inputs.items()})


if __name__ == "__main__":
    main()
