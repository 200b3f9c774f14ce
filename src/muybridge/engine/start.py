"""What is checked before a training starts or is resumed: its folder, its settings, its recordings, its device."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from muybridge.core.errors import DataError, RunError
from muybridge.data.datasets.base import Index, Split
from muybridge.data.datasets.class_folder import ClassFolder
from muybridge.engine.checkpoint import RunFolder, comparable_settings
from muybridge.engine.runtime import Precision, Runtime
from muybridge.engine.saved_split import current_records
from muybridge.recipe import Recipe, SourceRun


def training_precision(recipe: Recipe, folder: str | Path) -> Precision:
    """The number format of a training: that of the run that is resumed, or else that of the recipe."""
    run = RunFolder(folder)
    return run.facts()["precision"] if run.exists else recipe.precision


def check_folder(recipe: Recipe, folder: Path) -> None:
    """Refuse a new run folder among the recordings, where it would become a class.

    Raises:
        RunError: the folder lies in the folder of the class folders.
    """
    if (
        isinstance(recipe.data, ClassFolder)
        and recipe.data.root.is_dir()
        and folder.resolve().is_relative_to(recipe.data.root.resolve())
    ):
        raise RunError(
            f"the run folder lies in the folder of the recordings, {recipe.data.root}",
            expected="another place, as folders there are classes",
            hint="choose another --run folder",
            where=folder,
        )


def check_training_data(recipe: Recipe, indexes: Mapping[Split, Index], world_size: int) -> None:
    """Refuse a training part or a validation part that is too small for what the recipe asks.

    Raises:
        DataError: there are fewer training recordings than processes, or no validation part to choose an epoch by.
    """
    count = len(indexes["train"])
    if count < world_size:
        raise DataError(
            f"{count} training recordings",
            expected=f"at least one for each of {world_size} processes",
            hint="check the data set's folder and its split",
        )
    if recipe.train.checkpoint == "best" and not len(indexes["val"]):
        raise DataError(
            'no validation part for train.checkpoint = "best"',
            expected="recordings in the split val",
            hint='set data.val_groups or data.val_fraction, or train.checkpoint = "last"',
        )


def check_processes(recipe: Recipe, run: RunFolder, indexes: Mapping[Split, Index], runtime: Runtime) -> None:
    """Refuse processes, such as those of several machines, that would not train the same.

    Raises:
        RunError: versions, run folder, recipe or recordings differ.
    """
    if runtime.world_size == 1:
        return
    settings = json.dumps(comparable_settings(recipe), sort_keys=True, default=str)
    records = [(record.id, record.classes, record.span) for index in indexes.values() for record in index.records]
    runtime.require_same(
        {
            "the version of muybridge": version("muybridge"),
            "the version of PyTorch": torch.__version__,
            "the run folder": str(run.path),
            "the checksum of the recipe": hashlib.sha256(settings.encode()).hexdigest()[:12],
            "the checksum of ids and labels of the recordings": hashlib.sha256(repr(records).encode()).hexdigest()[:12],
        }
    )


def check_sources(recipe: Recipe, indexes: Mapping[Split, Index]) -> None:
    """Refuse to test on recordings that the weights to start from were trained on.

    Raises:
        DataError: a test recording is in the training part of a run that ``init_from`` names, by content.
    """
    stages = (recipe.train, *recipe.train.stages)
    sources = [source for stage in stages for source in stage.init_from.values() if isinstance(source, SourceRun)]
    tests = indexes["test"].records if "test" in indexes else ()
    for run in {source.run for source in sources}:
        split = RunFolder(run).split()
        if split and (trained := split.trained_on(tests)):
            raise DataError(
                f"{len(trained)} of {len(tests)} test recordings were trained on by the run that this one starts from, "
                f"{trained[0]} among them",
                expected="weights that have not seen the test part",
                hint="use the same split for both, such as the same data.fold, data.test_groups or data.group",
                where=run,
            )


def check_resume(recipe: Recipe, run: RunFolder, *, resume: bool) -> None:
    """Refuse to train into a run that was started with other settings.

    Raises:
        RunError: it is not to be resumed, or settings differ; the message names them with both values.
    """
    if not resume:
        raise RunError(
            "already contains a run",
            expected="a new folder",
            hint="add --resume to resume it, or choose another --run folder",
            where=run.path,
        )
    if difference := run.different_settings(recipe):
        longer = "epochs" in difference
        raise RunError(
            f"was started with other settings: {difference}",
            expected="the settings that the run was started with",
            hint="resume it without settings, `muybridge train --run DIR --resume`, or choose another --run folder"
            + ("; to train longer, start a new run from its weights with --init-from" if longer else ""),
            where=run.path,
        )


def check_resumed_data(recipe: Recipe, run: RunFolder, indexes: Mapping[Split, Index]) -> None:
    """Refuse to resume with other recordings than the training was started with.

    Raises:
        DataError: recordings are gone, new, changed or of another class; the message names them.
    """
    split = run.split()
    changes = split.changes(recipe.data, current_records(indexes)) if split else None
    if changes:
        raise DataError(
            f"the recordings are not those that the training was started with ({changes})",
            expected="the recordings in split.csv of the run",
            hint="restore them to resume, or start a new run with those that are there",
            where=run.path,
        )


def resume_notes(run: RunFolder, runtime: Runtime) -> list[str]:
    """Why a resumed training will not end with exactly the weights of an uninterrupted one."""
    facts = run.facts()
    device = runtime.device.type
    notes = []
    if facts["torch"] != torch.__version__:
        notes.append(f"started with PyTorch {facts['torch']} and resumed with {torch.__version__}")
    if facts.get("device", device) != device:
        notes.append(f"started on {facts['device']} and resumed on {device}")
    if facts["precision"] != runtime.precision:
        raise RunError(
            f"was started in {facts['precision']}, and this runtime computes in {runtime.precision}",
            expected=f"a runtime of {facts['precision']}",
            hint="leave the runtime out",
            where=run.path,
        )
    return [f"{note}: the weights will not be exactly those of an uninterrupted training" for note in notes]
