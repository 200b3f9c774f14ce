"""Before a training: generated data, and what the training would do, in a few lines."""

import math
from typing import TYPE_CHECKING

from muybridge.cli.failures import Failures
from muybridge.core.errors import DataError
from muybridge.core.processes import available_cores
from muybridge.recipe_text import toml_value

if TYPE_CHECKING:
    from muybridge.baseline import BaselineTable
    from muybridge.core.types import FailedSample, Record
    from muybridge.data.datasets.base import DatasetConfig
    from muybridge.engine.journal import Reporter
    from muybridge.engine.runtime import Runtime
    from muybridge.recipe import Recipe, Stage


def generate_data(data: "DatasetConfig", report: "Reporter") -> None:
    """Make the recordings of a generated data set on all cores, where they do not exist, and show the progress."""
    with report:
        report.begin("generating data")
        data.generate(report.update, available_cores())


def announce(recipe: "Recipe", runtime: "Runtime", report: "Reporter", *, in_full: bool) -> None:
    """Before a training: generate its data where they are generated, and report what would be trained.

    Args:
        recipe: what would be trained.
        runtime: where.
        report: takes the progress and the lines.
        in_full: also how many recordings, classes and groups there are, what is probably wrong, and the main settings.
    """
    from muybridge.data.summary import summarize

    generate_data(recipe.data, report)
    if in_full:
        summary = summarize(recipe.data)
        report.say("\n".join([*summary.lines(), *describe_training(recipe, sum(summary.counts["train"]), runtime)]))


def open_recordings(data: "DatasetConfig", report: "Reporter") -> None:
    """Open every recording of a data set, which decodes no frame; list those that cannot be read.

    Raises:
        typer.Exit: with status 2, if there are any.
    """
    from muybridge.core.types import FailedSample
    from muybridge.data.summary import SPLITS
    from muybridge.media.video import Video

    data = data.resolved()  # so that opening a recording does not search the folder again

    def attempt(record: "Record") -> "Record | FailedSample":
        try:
            recording = data.open(record)
        except DataError as error:
            return FailedSample(record.id, record.path, error)
        if isinstance(recording, Video):
            recording.close()
        return record

    records = [record for split in SPLITS for record in data.index(split).records]
    with Failures(strict=False) as failures, report:
        report.begin("opening recordings", len(records))
        for _ in failures.apart(map(attempt, records)):
            report.step()


def measure_floor(recipe: "Recipe", report: "Reporter") -> "BaselineTable | None":
    """Measure and report the baselines on a user's own recordings; None for benchmarks, and where there is no test."""
    from muybridge.baseline.measure import MAX_OWN
    from muybridge.data.datasets.class_folder import ClassFolder
    from muybridge.data.datasets.video_list import VideoList
    from muybridge.engine.baselines import measure

    if not isinstance(recipe.data, ClassFolder | VideoList) or recipe.data.multi_label():
        return None
    try:
        parts = {split: recipe.data.index(split).records for split in ("train", "test")}
        total = sum(map(len, parts.values()))
        if total > MAX_OWN:
            report.say(f"{total} recordings: baselines are measured only by `muybridge baseline`")
            return None
        table = measure(recipe.data, parts=parts, report=report)
    except DataError as error:
        report.say(f"no baselines: {error}")
        return None
    report.say("\n".join(table.lines()))
    return table


def describe_training(recipe: "Recipe", recordings: int, runtime: "Runtime") -> list[str]:
    """The model, its input, and the main settings of the training.

    Args:
        recipe: what would be trained.
        recordings: of the training part.
        runtime: where.
    """
    from muybridge.engine.warm_up import describe_warm_up

    labels, holds = recipe.data.labels(), recipe.data.holds()
    model = recipe.model.without_pretrained().build(len(labels), holds)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = ", from pretrained weights" if getattr(recipe.model, "pretrained", False) else ""
    lines = [
        f"model: {recipe.model.name}, {parameters / 1e6:.2f} million parameters{weights}",
        f"input: {_describe_input(recipe)}",
    ]
    if recipe.train.warm_up and not recipe.train.init_from:
        lines.append(f"warm-up: {describe_warm_up(recipe, runtime)}")
    for stage in recipe.stages():
        name = f" of stage {stage.name}" if recipe.train.stages else ""
        lines.append(f"training{name}: {_describe_stage(recipe, stage, recordings)}")
    lines += _describe_reasons(recipe)
    precision = f"{runtime.device}, precision {runtime.precision}"
    return [*lines, f"computed on: {precision}, {recipe.train.num_workers} loading processes, seed {recipe.train.seed}"]


def _describe_reasons(recipe: "Recipe") -> list[str]:
    from muybridge.recipe import flat_settings

    values = flat_settings(recipe)
    head = ["settings that follow from the recordings (--set replaces them):"] if recipe.reasons else []
    return head + [f"  {name} = {toml_value(values[name])}: {reason}" for name, reason in recipe.reasons.items()]


def _describe_input(recipe: "Recipe") -> str:
    from muybridge.core.contracts import SkeletonData, SkeletonInput

    takes, holds = recipe.model.takes(), recipe.data.holds()
    statistics = f"statistics ({takes.statistics.name})" if takes.statistics else ""
    if isinstance(takes, SkeletonInput):
        assert isinstance(holds, SkeletonData)
        people = f"{holds.people} {'person' if holds.people == 1 else 'people'}"
        frames = f"at most {takes.max_frames} frames" if takes.max_frames else "all frames"
        joints = f"{people}, {len(holds.layout)} joints ({holds.layout.name}), {holds.coordinates} coordinates"
        sure = "their confidence" if takes.confidence else ""
        return ", ".join(filter(None, [frames if takes.positions else "", joints, sure, statistics]))
    parts = [name for name, read in (("images", takes.pixels), ("optical flow", takes.flow)) if read]
    frames = f"{takes.segments} x {takes.frames_per_segment} frames of {takes.size} x {takes.size} pixels"
    clips = f"{' and '.join(parts)}, {frames} (segments x consecutive frames)" if parts else ""
    return ", ".join(filter(None, [clips, statistics]))


def _describe_stage(recipe: "Recipe", stage: "Stage", recordings: int) -> str:
    from muybridge.data.summary import count

    if stage.epochs == 0:
        return "none by gradient descent, the weights are solved for"
    optimizer, size = stage.optimizer or recipe.train.optimizer, recipe.train.batch_size
    steps = math.ceil(recordings / size)
    epochs = f"{count(stage.epochs or 0, 'epoch')} of {count(steps, 'step')}"
    length = count(stage.iterations, "step") if stage.iterations else epochs
    return f"{length}, batches of {size}, {optimizer.name} with learning rate {optimizer.lr:g}"
