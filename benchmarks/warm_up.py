"""Does a warm-up help? The accuracy on held-out people of the training part, with few recordings of each class.

``python benchmarks/warm_up.py drnn_utd_mhad --per-class 5,10 --seeds 0,1,2 --val s7``

Each cell is one training of the recipe on so many recordings of each class, chosen by the seed, without a warm-up, with
either kind, and without one but as many optimizer steps longer as the warm-up takes. The test part is not read.
"""

import argparse
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path

import torch

from muybridge.core.rng import make_generator
from muybridge.data.datasets.base import Benchmark
from muybridge.engine.evaluate import evaluate
from muybridge.engine.metrics import Scores
from muybridge.engine.train import train
from muybridge.engine.warm_up import CLIP_STEPS, SKELETON_STEPS
from muybridge.recipe import Recipe, load_recipe, parse_settings

STARTS = ("none", "longer", "synthetic", "self")


def cut(data: Benchmark, per_class: int, seed: int, folder: Path) -> None:
    """Links to so many training recordings of each class, chosen by the seed, and to all of the validation part."""
    by_class = defaultdict(list)
    for record in data.index("train").records:
        by_class[record.label].append(record.path)
    chosen = [record.path for record in data.index("val").records]
    for label, paths in by_class.items():
        order = torch.randperm(len(paths), generator=make_generator(seed, "cut", label)).tolist()
        chosen += [paths[index] for index in order[: per_class or None]]
    for path in chosen:
        (folder / path.name).symlink_to(path.resolve())


def accuracy(recipe: Recipe, start: str, seed: int, folder: Path) -> float:
    """Top-1 on the validation part after one training."""
    settings: dict[str, object] = {"train.seed": seed, "train.val_interval": 10**6}
    if start == "longer":
        steps = -(-len(recipe.data.index("train")) // recipe.train.batch_size)
        extra = SKELETON_STEPS if recipe.view is None else CLIP_STEPS
        settings["train.epochs"] = recipe.train.epochs + round(extra / steps)
    elif start != "none":
        settings["train.warm_up"] = start
    run = train(recipe.with_settings(settings), folder)
    scores = evaluate(run, "val")
    assert isinstance(scores, Scores)
    return scores.top1


def main() -> None:
    """Train all cells and print them as they are done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--per-class", default="5,10", help="recordings of each class; 0 is all")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--val", default="s7", help="people of the training part who are held out")
    parser.add_argument("--starts", default=",".join(STARTS))
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    held_out = {"data.val_groups": arguments.val.split(",")}
    recipe = load_recipe(arguments.recipe, held_out | parse_settings(arguments.set))
    assert isinstance(recipe.data, Benchmark)
    for per_class in map(int, arguments.per_class.split(",")):
        for start in arguments.starts.split(","):
            scores = []
            for seed in map(int, arguments.seeds.split(",")):
                with tempfile.TemporaryDirectory() as folder:
                    (root := Path(folder) / "data").mkdir()
                    cut(recipe.data, per_class, seed, root)
                    small = recipe.with_settings({"data.root": str(root)})
                    scores.append(accuracy(small, start, seed, Path(folder) / "run"))
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            each = ", ".join(f"{score:.1f}" for score in scores)
            print(
                f"{arguments.recipe}  {per_class or 'all'} a class  {start:9}  {statistics.fmean(scores):.1f} ± "
                f"{spread:.1f}  ({each})",
                flush=True,
            )


if __name__ == "__main__":
    main()
