"""A start that is not ImageNet: a short training on generated movement, or on the recordings without their labels.

It is an ordinary run in the user's cache, named by a hash of all that its weights depend on. So it is resumed where it
was interrupted, trained once, and taken by later trainings like any other run that ``train.init_from`` names.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from muybridge.core.contracts import ClipData, ClipInput, SkeletonData
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.files import cache_folder
from muybridge.core.skeletons import LAYOUTS
from muybridge.data.clip_ops import eval_short_side
from muybridge.data.datasets import AnyDataset, MovingShapes, Playback, StickFigures
from muybridge.data.datasets.base import Split
from muybridge.engine.bench import bench
from muybridge.engine.checkpoint import RunFolder, comparable_settings
from muybridge.engine.interrupt import InterruptedTrainingError
from muybridge.engine.journal import Journal, Reporter
from muybridge.engine.locking import one_at_a_time
from muybridge.engine.runtime import Runtime
from muybridge.engine.saved_split import SavedSplit
from muybridge.engine.start import check_training_data
from muybridge.engine.weights import checksum, read_weights
from muybridge.media.synthetic import stick_figures, videos
from muybridge.recipe import Recipe, SourceRun

VERSION = 1
"""Increased with every change of what a warm-up trains, so that weights of an older version are not used."""

SKELETON_STEPS = 400
CLIP_STEPS = 400
"""Optimizer steps: a minute or two on two cores with batches of 16 to 32 skeletons, a few minutes with batches of 8
clips of 64 to 112 pixels; about as long as the training proper of a hundred recordings."""

_SEED = 1000  # of the generated data; no shipped recipe tests on data of this seed
_LARGEST = 128  # pixels; larger frames are enlarged from it, as the movement is the same and generating takes minutes
_FIGURES = {"people": 20, "test_people": 1, "repetitions": 5}
# One large shape before a still background; in so few steps, smaller ones among others are not learned.
_SCENES = {"scenes": 60, "test_scenes": 1, "distractors": 0, "perturbation": 0.0, "radius": (0.15, 0.35)}

TrainRun = Callable[[Recipe, Path, bool], RunFolder]
"""Trains a recipe into a folder; with True it resumes the run there."""


def with_warm_up(recipe: Recipe, run: RunFolder, runtime: Runtime, report: Reporter, train: TrainRun) -> Recipe:
    """The recipe with the parameters that its warm-up gives as ``train.init_from``; trains it where the cache lacks it.

    Args:
        recipe: resolved; without ``train.warm_up``, or with its parameters named already, it is returned as it is.
        run: of the training proper; if it was started, its parameters were those that it names.
        runtime: device and processes.
        report: says what the warm-up costs, before and after.
        train: trains the warm-up.

    Raises:
        RecipeError: the warm-up does not apply to the recordings.
        InterruptedTrainingError: stopped; the same command goes on with the warm-up.
    """
    if not recipe.train.warm_up or recipe.train.init_from:
        return recipe
    if run.exists:
        return _starting_from(recipe, run.recipe().train.init_from)
    splits: tuple[Split, ...] = ("train", "val")
    check_training_data(recipe, {split: recipe.data.index(split) for split in splits}, runtime.world_size)
    warm = warm_up_recipe(recipe, runtime)
    folder = cache_folder("warm_up").resolve() / _name(recipe, warm)
    with one_at_a_time(folder, report, "trains the same warm-up") if runtime.is_main_process else nullcontext():
        runtime.fabric.barrier()
        source = RunFolder(folder)
        if source.finished:
            report.say(f"warm-up: the weights in {folder}, which took {_minutes(source)} to train")
        else:
            _train(warm, source, runtime, report, train)
    weights = read_weights(folder / "weights.safetensors")
    start = SourceRun(run=folder, checksum=checksum(weights))
    return _starting_from(recipe, dict.fromkeys(carried_prefixes(weights), start))


def warm_up_recipe(recipe: Recipe, runtime: Runtime) -> Recipe:
    """What the warm-up of a recipe trains: the same model with the same optimizer, on other data, for a fixed time.

    Raises:
        RecipeError: the joints of the recordings are not named, so that figures cannot have them.
    """
    is_video = isinstance(recipe.model.takes(), ClipInput)
    data = Playback(source=recipe.data) if recipe.train.warm_up == "self" else _generated(recipe)  # pyright: ignore[reportArgumentType]
    steps = CLIP_STEPS if is_video else SKELETON_STEPS
    settings: dict[str, Any] = {
        "title": f"Warm-up of {recipe.model.name} ({recipe.train.warm_up})",
        "data": data.model_dump(mode="json", exclude_none=True),
        "train.warm_up": "",
        "train.epochs": 1,  # without meaning beside stages; another number is no other warm-up
        "train.stages": [{"name": "warm_up", "iterations": steps}],
        "train.schedule": {"name": "cosine", "warmup_epochs": 1},
        "train.precision": runtime.precision,
        "train.checkpoint": "last",
        "train.val_interval": steps,  # at the end alone
    }
    settings |= dict.fromkeys(("train.mixup", "train.cutmix", "train.focal_gamma"), 0.0)
    settings |= {"train.partial_bn": False, "train.balance": ""}  # its classes are even
    if is_video:
        settings |= {"view.clips": 1, "view.crops": "center", "view.size": 0, "view.reverse": False}
    if recipe.flow is not None:  # stored flow is that of the recordings as they are
        settings["flow"] = {"bound": recipe.flow.bound}
    if recipe.augment.skeleton is not None and recipe.train.warm_up == "self":
        settings["augment.skeleton.speed"] = (1.0, 1.0)  # the speed is what is asked for
    return recipe.model_copy(update={"expects": None}).with_settings(settings).resolved()


def carried_prefixes(names: Iterable[str]) -> tuple[str, ...]:
    """The shortest prefixes of the names of parameters that cover all but those of the classifier."""
    return tuple(_prefixes(sorted(names), ""))


def _prefixes(names: list[str], above: str) -> Iterator[str]:
    children: dict[str, list[str]] = defaultdict(list)
    for name in names:
        head, dot, _ = name.removeprefix(above).partition(".")
        children[f"{above}{head}{dot}"].append(name)
    for prefix, inside in children.items():
        if not any(name.split(".")[-2:-1] == ["classifier"] for name in inside):
            yield prefix
        elif not prefix.endswith("classifier."):
            yield from _prefixes(inside, prefix)


def _generated(recipe: Recipe) -> AnyDataset:
    """Generated recordings of the kind that the data set holds."""
    holds, takes = recipe.data.holds(), recipe.model.takes()
    if isinstance(holds, SkeletonData):
        if holds.layout.name not in LAYOUTS:
            raise RecipeError(
                f'train.warm_up = "synthetic" for the layout {holds.layout.name!r}, whose joints are not named',
                expected="a layout that says which joint is which, so that stick figures can have the same",
                hint='set data.layout (`muybridge layouts` lists all), or train.warm_up = "self"',
            )
        body = {"layout": holds.layout.name, "coordinates": holds.coordinates, "bodies": holds.people}
        return StickFigures.model_validate({**_FIGURES, "seed": _SEED, **body})
    assert isinstance(holds, ClipData)
    assert isinstance(takes, ClipInput)
    side = min(_LARGEST, max(32, 2 * round(eval_short_side(takes.size) / 2)))
    frames = min(64, max(32, takes.segments * takes.frames_per_segment))
    frame = {"height": side, "width": side, "frames": frames, "channels": holds.channels}
    return MovingShapes.model_validate({**_SCENES, "seed": _SEED, **frame})


def _name(recipe: Recipe, warm: Recipe) -> str:
    """The name of the warm-up's folder: its kind, the model, and a hash of all that its weights depend on."""
    records = []
    if recipe.train.warm_up == "self":
        split = SavedSplit.of(warm.data, {"train": warm.data.index("train")})
        records = [(record.id, record.fingerprint, record.span) for record in split.records]
    versions = version("muybridge"), VERSION, stick_figures.VERSION, videos.VERSION
    facts = json.dumps([comparable_settings(warm), records, versions], sort_keys=True)
    return f"{recipe.train.warm_up}-{recipe.model.name}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def _train(warm: Recipe, source: RunFolder, runtime: Runtime, report: Reporter, train: TrainRun) -> None:
    """Train the warm-up or the rest of it, and say what that costs before and after."""
    if runtime.is_main_process:
        with report:
            report.begin("generating recordings for the warm-up")
            warm.data.generate(report.update)
    runtime.fabric.barrier()
    price = "of which the rest" if source.exists else _expected_minutes(warm, runtime)
    report.say(f"warm-up: {_describe(warm)}, {price}; kept in {source.path}")
    try:
        train(warm, source.path, source.exists)
    except InterruptedTrainingError as stopped:
        raise InterruptedTrainingError(
            f"the warm-up was stopped: {stopped.problem}",
            expected="all steps of the warm-up, then those of the training",
            hint="repeat the same command, which goes on where it stopped",
        ) from None
    report.say(f"warm-up: done, {_minutes(source)}")


def describe_warm_up(recipe: Recipe, runtime: Runtime) -> str:
    """What the warm-up of a recipe would train, in words; raises RecipeError as :func:`warm_up_recipe`."""
    return _describe(warm_up_recipe(recipe, runtime))


def _describe(warm: Recipe) -> str:
    (stage,), kinds = warm.train.stages, {StickFigures: "generated stick figures", MovingShapes: "generated videos"}
    subject = kinds.get(type(warm.data), "which way and how fast the training recordings are played")
    return f"{stage.iterations} steps on {subject}"


def _expected_minutes(warm: Recipe, runtime: Runtime) -> str:
    """The price of a warm-up in words, from a few steps that are timed."""
    try:
        speed = bench(warm, recordings=1, steps=2, runtime=runtime).per_second * runtime.world_size
    except DataError:  # a recording that cannot be read, which the training skips or names
        return "at an unknown price"
    (stage,) = warm.train.stages
    return f"about {(stage.iterations or 0) * warm.train.batch_size / speed / 60:.1f} minutes"


def _minutes(source: RunFolder) -> str:
    rows = Journal(source.path / "journal.jsonl").rows()
    return f"{rows[-1]['seconds'] / 60:.1f} minutes"


def _starting_from(recipe: Recipe, sources: dict[str, SourceRun]) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"init_from": sources})})
