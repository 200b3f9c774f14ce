"""Training VideoLSTM with the CNN in the loop compared with training it from cached features, in one run.

    python benchmarks/feature_store.py [--threads 4] [--architectures alstm conv_alstm video_lstm] [--folder DIR]

Both are trainings by ``muybridge.engine.train`` on clips of 30 frames of 224x224 pixels, with VGG-16 and all defaults
of VideoLSTM: the same clips, the same batches, from files on disk. Optical flow, where an architecture takes it, is
stored on disk for both. What is compared is the time per clip of an epoch, data and model, by the run's journal, as the
median over epochs; the time of extracting the features, once for all epochs and runs, is printed too.
"""

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

import torch

from muybridge.data.datasets.moving_shapes import MovingShapes
from muybridge.engine.features import extract_features
from muybridge.engine.journal import Journal
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.media.flow_extract import extract_flow
from muybridge.recipe import Recipe

CLASSES = ("move_left", "move_right")


def write_videos(folder: Path, repetitions: int) -> Path:
    """Videos of two classes in two scenes, of which one is for training, at the size that VGG-16 takes."""
    shapes = MovingShapes(
        root=folder / "shapes", scenes=2, test_scenes=1, repetitions=repetitions, height=224, width=224
    )
    shapes.generate()
    for path in sorted(shapes.folder().glob("videos/*/*.mp4")):
        if path.parent.name in CLASSES:
            (folder / "videos" / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / "videos" / path.parent.name / path.name)
    return folder / "videos"


def build_recipe(videos: Path, flow: Path, architecture: str, batch: int) -> Recipe:
    """A recipe with the defaults of VideoLSTM."""
    tree = {
        "model": {"name": "video_lstm", "architecture": architecture},
        "data": {"name": "video_folder", "root": str(videos), "group": "/(s\\d+)", "test_groups": ["s002"]},
        "view": {"mode": "clips", "resize": [224, 224]},
        "train": {"batch_size": batch, "optimizer": {"name": "rmsprop"}, "save_seconds": 1e9},
    }
    recipe = Recipe.model_validate(tree)
    takes_flow = "motion" in [part.name for part in recipe.model.frozen_parts()]
    return recipe.with_settings({"flow.folder": str(flow)}) if takes_flow else recipe


def seconds_per_clip(recipe: Recipe, run: Path, epochs: int) -> float:
    """Median over epochs of the seconds per clip."""
    clips = len(recipe.data.index("train"))
    train(recipe.with_settings({"train.epochs": epochs}), run, runtime=Runtime(device="cpu"))
    rows = Journal(run / "journal.jsonl").rows()
    return statistics.median((row["data_seconds"] + row["model_seconds"]) / clips for row in rows)


def compare(architecture: str, videos: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """Train both ways and print the comparison."""
    recipe = build_recipe(videos, folder / "flow", architecture, arguments.batch)
    if recipe.flow:
        extract_flow([*recipe.data.index("train").records, *recipe.data.index("test").records], folder / "flow")
    in_loop = seconds_per_clip(recipe, folder / f"{architecture}-loop", arguments.epochs[0])
    extractions = extract_features(recipe, folder / architecture, runtime=Runtime(device="cpu"))
    cached = recipe.with_settings({"view.features": str(folder / architecture)})
    from_cache = seconds_per_clip(cached, folder / f"{architecture}-cached", arguments.epochs[1])
    times = f"CNN in the loop {in_loop:7.3f} s per clip, from cached features {from_cache:7.4f} s"
    print(f"{architecture:>12}: {times}: {in_loop / from_cache:.1f}x")
    for extraction in extractions:
        print(f"              extracted once, {extraction}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--architectures", nargs="+", default=["alstm", "conv_alstm", "video_lstm"])
    parser.add_argument("--repetitions", type=int, default=4, help="training videos of each of two classes")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, nargs=2, default=(2, 5), help="with the CNN, and from cached features")
    parser.add_argument("--folder", type=Path, help="working folder; by default a temporary one")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        videos = write_videos(folder, arguments.repetitions)
        clips = f"{arguments.repetitions * 2} training clips of 30 frames of 224x224"
        print(f"{clips}, VGG-16, batch {arguments.batch}, {arguments.threads} threads")
        for architecture in arguments.architectures:
            compare(architecture, videos, folder, arguments)


if __name__ == "__main__":
    main()
