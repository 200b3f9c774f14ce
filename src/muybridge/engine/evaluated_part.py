"""The recordings that a run is tested on: those of its own split, compared with what the data set holds now."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from muybridge.core.errors import DataError
from muybridge.core.types import Record
from muybridge.data.datasets.base import Index, Split, preview
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.saved_split import SPLITS, SavedSplit, SplitChanges, current_records
from muybridge.recipe import Recipe

Missing = Literal["raise", "exclude"]


@dataclass(frozen=True, slots=True)
class EvaluatedPart:
    """What is tested.

    Attributes:
        records: the recordings, in the order of the run's split.
        excluded: how many recordings of the split are not among them.
        changes: how the data set differs from the one that the run was trained with.
        notes: the same in words, for a report.
    """

    records: tuple[Record, ...]
    excluded: int
    changes: SplitChanges
    notes: tuple[str, ...] = ()


def find_evaluated_part(run: RunFolder, recipe: Recipe, split: Split, missing: Missing = "raise") -> EvaluatedPart:
    """The recordings of a split of a run.

    Args:
        run: what was trained.
        recipe: its recipe, with the folder where the recordings are now.
        split: the part.
        missing: what to do if recordings of it are gone: "raise", or "exclude" and count them.

    Raises:
        DataError: the folder of the recordings, or some of them, are gone, the classes are not those of the run, or the
            recordings were trained on.
    """
    _check_root(run, recipe)
    _check_labels(run, recipe)
    saved = run.split()
    if saved is None:  # nothing was trained here
        index = recipe.data.index(split)
        return EvaluatedPart(index.records, len(index.excluded), SplitChanges())
    indexes = _indexes(recipe, split, saved)
    wanted = [record for record in saved.records if record.split == split]
    current = current_records(indexes)
    changes = saved.changes(recipe.data, current)
    if not wanted:
        return _unsaved_part(run, saved, split, indexes[split])
    gone = [record.id for record in wanted if record.id not in current]
    if gone and missing == "raise":
        reasons = {recording.id: recording.reason for index in indexes.values() for recording in index.excluded}
        named = [f"{id_} ({reasons[id_]})" if id_ in reasons else id_ for id_ in gone]
        raise DataError(
            f"{len(gone)} of the {len(wanted)} recordings of {split} are gone or unusable: {preview(named)}",
            expected="every recording that the split of the run names",
            hint="restore them, or leave them out knowingly with --missing exclude, which counts them",
            where=run.path / "split.csv",
        )
    records = tuple(current[record.id] for record in wanted if record.id in current)
    if not records:
        raise DataError(
            f"all {len(wanted)} recordings of {split} are gone",
            expected="one at least",
            hint="restore them, or give their folder with --data",
            where=run.path / "split.csv",
        )
    return EvaluatedPart(records, run.excluded(split) + len(gone), changes, _notes(changes, gone))


def edited_recipe_note(run: RunFolder, recipe: Recipe) -> tuple[str, ...]:
    """A note where recipe.toml is not what the run was trained with."""
    difference = run.different_settings(recipe)
    return (f"recipe.toml was edited since the training: {difference}",) if difference else ()


def _check_root(run: RunFolder, recipe: Recipe) -> None:
    """Refuse recordings whose folder is gone, with what to do for a run."""
    root = getattr(recipe.data, "root", None)
    root = Path(root) if isinstance(root, str) else root  # an address is not absolute
    if isinstance(root, Path) and root.is_absolute() and not root.exists():
        raise DataError(
            "the recordings of this run are not there any more",
            expected=f"the folder that {run.path / 'recipe.toml'} names",
            hint="give the folder where they are now with --data DIR",
            where=root,
        )


def _indexes(recipe: Recipe, split: Split, saved: SavedSplit) -> dict[Split, Index]:
    """The current index of every split; one that cannot be made is left out, unless it is asked for."""
    indexes: dict[Split, Index] = {}
    needed = not saved.ids(split)
    for name in SPLITS:
        try:
            indexes[name] = recipe.data.index(name)
        except DataError:
            if (name == split and needed) or name == "train":
                raise
    return indexes


def _unsaved_part(run: RunFolder, saved: SavedSplit, split: Split, index: Index) -> EvaluatedPart:
    """A split that was empty when the training started; none of it may have been trained on."""
    if trained := saved.trained_on(index.records):
        raise DataError(
            f"{len(trained)} of the {len(index)} recordings of {split} were trained on: {preview(trained)}",
            expected="recordings that the model has not seen",
            hint="train again with this split",
            where=run.path / "split.csv",
        )
    note = f"the run has no part {split}; that of the data set is taken, none of which was trained on"
    return EvaluatedPart(index.records, len(index.excluded), SplitChanges(), (note,))


def _notes(changes: SplitChanges, gone: list[str]) -> tuple[str, ...]:
    notes = []
    if changes:
        notes.append(f"the data set has changed since the training started: {changes}")
    if changes.added:
        notes.append("the split of the training is kept, so new recordings are not tested")
    if gone:
        notes.append(f"{len(gone)} recordings that are gone are excluded: {preview(gone)}")
    return tuple(notes)


def _check_labels(run: RunFolder, recipe: Recipe) -> None:
    """Refuse a data set of other classes than those of the run, with which of them differ."""
    current, saved = recipe.data.labels(), run.labels()
    if current == saved:
        return
    gone = [label for label in saved if label not in current]
    new = [label for label in current if label not in saved]
    parts = [f"{word} {preview(labels)}" for word, labels in (("without", gone), ("with the new", new)) if labels]
    raise DataError(
        f"the data set has other classes than the run: {', '.join(parts) or 'their order differs'}",
        expected=f"those of the run in their order: {preview(saved)}",
        hint="rename the folder back, or give the folder as it was with --data",
        where=run.path,
    )
