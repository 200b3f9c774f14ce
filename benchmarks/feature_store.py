"""Training VideoLSTM with the CNN in the loop against training it from a feature store, in one run.

    python benchmarks/feature_store.py [--threads 4] [--architectures alstm conv_alstm video_lstm] [--folder DIR]

Both ways are real trainings by ``muybridge.engine.train`` on clips of 30 frames of 224x224 pixels, with VGG-16 and all
of VideoLSTM's defaults: the same clips, the same batches, from files on disk. Optical flow, where an architecture reads
it, lies on disk for both. What is compared is the time of an epoch by the run's own journal, data and model, in seconds
a clip, median over epochs; beside it stands what making the store took, once for all epochs and runs.
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


def films(folder: Path, takes: int) -> Path:
    """Films of two classes, in two scenes of which one trains, at the size that VGG-16 takes."""
    shapes = MovingShapes(root=folder / "shapes", scenes=2, test_scenes=1, repetitions=takes, height=224, width=224)
    shapes.generate()
    for path in sorted(shapes.folder().glob("videos/*/*.mp4")):
        if path.parent.name in CLASSES:
            (folder / "films" / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / "films" / path.parent.name / path.name)
    return folder / "films"


def recipe_of(films: Path, flow: Path, architecture: str, batch: int) -> Recipe:
    """The defaults of VideoLSTM."""
    tree = {
        "model": {"name": "video_lstm", "architecture": architecture},
        "data": {"name": "video_folder", "root": str(films), "group": "/(s\\d+)", "test_groups": ["s002"]},
        "view": {"mode": "clips", "resize": [224, 224]},
        "train": {"batch_size": batch, "optimizer": {"name": "rmsprop"}, "save_seconds": 1e9},
    }
    recipe = Recipe.model_validate(tree)
    takes_flow = "motion" in [part.name for part in recipe.model.frozen_parts()]
    return recipe.with_settings({"flow.folder": str(flow)}) if takes_flow else recipe


def epochs(recipe: Recipe, run: Path, count: int) -> list[float]:
    """Seconds a clip of each epoch."""
    clips = len(recipe.data.index("train"))
    train(recipe.with_settings({"train.epochs": count}), run, runtime=Runtime(device="cpu"))
    return [(row["data_seconds"] + row["model_seconds"]) / clips for row in Journal(run / "journal.jsonl").rows()]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--architectures", nargs="+", default=["alstm", "conv_alstm", "video_lstm"])
    parser.add_argument("--takes", type=int, default=4, help="films of each of two classes that train")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--epochs", type=int, nargs=2, default=(2, 5), help="with the CNN, and from the store")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary one")
    knobs = parser.parse_args()
    torch.set_num_threads(knobs.threads)
    with tempfile.TemporaryDirectory(dir=knobs.folder) as name:
        folder = Path(name)
        root = films(folder, knobs.takes)
        clips = f"{knobs.takes * 2} training clips of 30 frames of 224x224"
        print(f"{clips}, VGG-16, batch {knobs.batch}, {knobs.threads} threads")
        for architecture in knobs.architectures:
            recipe = recipe_of(root, folder / "flow", architecture, knobs.batch)
            if recipe.flow:
                extract_flow([*recipe.data.index("train").records, *recipe.data.index("test").records], folder / "flow")
            looped = epochs(recipe, folder / f"{architecture}-loop", knobs.epochs[0])
            made = extract_features(recipe, folder / architecture, runtime=Runtime(device="cpu"))
            stored = recipe.with_settings({"view.features": str(folder / architecture)})
            fast = epochs(stored, folder / f"{architecture}-store", knobs.epochs[1])
            slow, quick = statistics.median(looped), statistics.median(fast)
            told = f"CNN in the loop {slow:7.3f} s a clip, from the store {quick:7.4f} s: {slow / quick:.1f}x"
            print(f"{architecture:>12}: {told}")
            for part in made:
                print(f"              made once, {part}")


if __name__ == "__main__":
    main()
