"""A timeline of a long recording beside `predict` of each of its windows: equal answers, and how much faster it is.

    OMP_NUM_THREADS=1 python benchmarks/timeline.py [--minutes 10] [--model tdn] [--device auto]

The recording is generated (H.264, 30 frames a second), the network is untrained: TDN-R50 of 8 segments of 5 frames; TSN
or TSM of 8 segments; or a ConvLSTM over a CNN, of 30 consecutive frames. Windows share segments where the hop is a
multiple of their distance: 7 frames of a window of 60 for TDN (--hop 0.46667), 7.5 for TSN and TSM.

The windows of `predict` are parts of the same open video. The two run in alternation, on one part of the recording
after the other, so that other load on the machine affects both; times are those of the clock and, in brackets, of the
processor.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from decoding import write
from measure import machine, untrained_run

from muybridge.media.video import Video
from muybridge.predict import Predictor
from muybridge.timeline import TimelineConfig, TimelinePredictor
from muybridge.timeline.segments import average_windows
from muybridge.timeline.windows import Window, slide

MODELS = {
    "tdn": {"name": "tdn"},
    "tsn": {"name": "tsn"},
    "tsm": {"name": "tsn", "shift": True},
    "video_lstm": {"name": "video_lstm", "architecture": "conv_lstm", "frames": 30, "hidden": 64, "head_pool": True},
}


def main() -> None:
    """Print the seconds of each, the ratio, and the largest difference between two probabilities."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="of the recording")
    parser.add_argument("--window", type=float, default=2.0, help="in seconds")
    parser.add_argument("--hop", type=float, default=0.5, help="in seconds")
    parser.add_argument("--parts", type=int, default=6, help="how often the two take turns")
    parser.add_argument("--model", choices=MODELS, default="tdn")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=224, help="of the network's input in pixels")
    parser.add_argument("--frame", default="340x256", help="width and height of the recording")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    width, height = map(int, args.frame.split("x"))
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write(path, round(60 * args.minutes), height, width)
        model = MODELS[args.model] | {"backbone": args.backbone, "size": args.size, "pretrained": False}
        view = {"mode": "clips"} if args.model == "video_lstm" else None
        predictor = Predictor(untrained_run(Path(folder) / "run", model, view=view), args.device)
        compare(predictor, path, TimelineConfig(window=args.window, hop=args.hop), args.parts)


def compare(predictor: Predictor, path: Path, config: TimelineConfig, parts: int) -> None:
    """Print what both take for all windows of a recording."""
    timelines = TimelinePredictor(predictor, config)
    spent, error, count = {"timeline": np.zeros(2), "predict": np.zeros(2)}, 0.0, 0
    with Video(path) as video:
        predictor(video.slice_frames(0, 2))  # what is done once, at the first call
        for frames in np.array_split(np.arange(len(video)), parts):
            part = video.slice_frames(int(frames[0]), int(frames[-1]) + 1)
            windows = slide(part.seconds.numpy() - float(part.seconds[0]), part.duration, config.window, config.hop)
            began = clocks()
            timeline = timelines(part)
            spent["timeline"] += clocks() - began
            began = clocks()
            alone = each_alone(predictor, part, windows)
            spent["predict"] += clocks() - began
            differences = timeline.probabilities - average_windows(windows, alone, timeline.edges)
            error, count = max(error, float(np.abs(differences).max())), count + len(windows)
    for name, (seconds, busy) in spent.items():
        print(f"{name:>8}: {count} windows in {seconds:.1f} s ({busy:.1f} s)")
    ratio = spent["predict"] / spent["timeline"]
    print(f"the timeline is {ratio[0]:.2f}x ({ratio[1]:.2f}x) as fast; largest difference of probabilities {error:.1e}")


def clocks() -> np.ndarray:
    """Seconds of the clock, and of the processor in this process."""
    return np.array([time.perf_counter(), time.process_time()])


def each_alone(predictor: Predictor, video: Video, windows: list[Window]) -> np.ndarray:
    """The probabilities of all classes, a call for each window."""
    count, rows = len(predictor.labels), []
    for window in windows:
        answer = predictor(video.slice_frames(window.first, window.end), top=count)
        scores = dict(zip(answer.labels, answer.scores, strict=True))
        rows.append([scores[label] for label in predictor.labels])
    return np.array(rows)


if __name__ == "__main__":
    main()
