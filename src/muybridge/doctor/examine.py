"""All checks of one data set."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from muybridge.core.contracts import ClipInput
from muybridge.core.errors import DataError
from muybridge.core.types import Record
from muybridge.data.annotations.read import read_annotations
from muybridge.data.datasets import AnyDataset
from muybridge.data.datasets.base import Benchmark, DatasetConfig, Index, Split, require_one_label
from muybridge.data.datasets.class_folder import ClassFolder
from muybridge.data.datasets.skeleton_folder import SkeletonFolder
from muybridge.data.sampling import window_span
from muybridge.data.summary import SPLITS
from muybridge.doctor.files import check_files, check_videos, describe, unreadable
from muybridge.doctor.findings import Diagnosis, Finding, Item, finding_of, item, ordered
from muybridge.doctor.observe import Observed, observe
from muybridge.doctor.shortcuts import check_shortcuts
from muybridge.doctor.skeletons import check_skeletons
from muybridge.doctor.split import check_classes, check_duplicates, check_groups, check_near_duplicates
from muybridge.media.parsing import NoPersonError
from muybridge.media.skeleton import read_skeleton
from muybridge.recipe import Recipe, load_recipe
from muybridge.recipe_schema import check_tree, find_recipe, read_recipe

Progress = Callable[[int, int], None]


def data_of(source: str | Path, settings: Mapping[str, Any] | None = None) -> DatasetConfig:
    """The data set of a recipe, whose recordings need not be readable.

    Args:
        source: a TOML file, or the name of a recipe that comes with the package.
        settings: values by dotted names, which replace those of the file.

    Raises:
        RecipeError: no such recipe, an unknown setting or a wrong value.
    """
    path = find_recipe(source)
    tree = check_tree(read_recipe(path), settings or {}, path)
    try:
        return TypeAdapter(AnyDataset).validate_python(tree["data"])
    except ValidationError:
        return load_recipe(path, settings).data  # which says what is wrong with which setting


def examine(
    source: str | Path,
    settings: Mapping[str, Any] | None = None,
    *,
    every_frame: bool = False,
    progress: Progress | None = None,
) -> Diagnosis:
    """Look at every recording of a recipe's data set, and say what is wrong.

    Args:
        source: a TOML file, or the name of a recipe that comes with the package; its model says which recordings are
            too short.
        settings: values by dotted names, such as ``{"data.root": "videos"}``.
        every_frame: decode all frames of videos and not only those at 24 moments, which finds damage anywhere.
        progress: called with how many recordings are done, and of how many.

    Raises:
        RecipeError: no such recipe, an unknown setting or a wrong value.
    """
    started, given = time.monotonic(), dict(settings or {})
    data, findings = data_of(source, given), list[Finding]()
    require_one_label(data, "an examination")
    name = data.model_dump().get("name", "")
    try:
        if isinstance(data, ClassFolder):
            excluded, findings = _missing_files(data)
            data = data.model_copy(update={"exclude": (*data.exclude, *excluded)})
        if isinstance(data, SkeletonFolder):
            excluded, broken = _broken_files(data)
            findings += broken
            data = data.model_copy(update={"exclude": (*data.exclude, *excluded)})
        if isinstance(data, ClassFolder) and data.exclude:
            given["data.exclude"] = list(data.exclude)
        recipe = load_recipe(source, given)
        return _examine(recipe, findings, started, every_frame, progress)
    except DataError as error:
        files = (Path(str(error.where)),) if error.where is not None else ()
        items = (Item((), files, describe(error)),)
        findings.append(Finding("layout", "error", "the data set cannot be read as it is", error.hint, items))
        return Diagnosis(name, {}, (), ordered(findings), time.monotonic() - started)


def _examine(
    recipe: Recipe, findings: list[Finding], started: float, every_frame: bool, progress: Progress | None
) -> Diagnosis:
    """All checks of recordings, after those that are given."""
    data = recipe.data
    indexes: dict[Split, Index] = {split: data.index(split) for split in SPLITS}
    labels, holds = data.labels(), data.holds()
    records: list[tuple[Split, Record]] = [(split, one) for split, index in indexes.items() for one in index.records]
    observed = list(observe(data, records, every_frame=every_frame, progress=progress))
    equal = check_duplicates(records, labels)
    findings = [
        *findings,
        *check_files(observed),
        *equal,
        *check_near_duplicates(observed, holds, equal),
        *check_groups(records, official=isinstance(data, Benchmark)),
        *check_classes(records, labels),
        *_too_short(observed, recipe),
        *check_videos(observed),
        *check_skeletons(observed),
        *check_shortcuts(observed, labels),
        *_excluded(indexes),
        *_notices(data),
    ]
    counts = Counter(split for split, _ in records)
    return Diagnosis(
        data.name,
        {split: counts[split] for split in SPLITS},
        labels,
        ordered(findings),
        time.monotonic() - started,
        tuple(records),
        data,
    )


def _missing_files(data: ClassFolder) -> tuple[list[str], list[Finding]]:
    """The recordings of a table that do not exist, and the finding about them; none where all are missing, which is
    refused as a whole."""
    missing = data.missing()
    if not missing or len(missing) == len(read_annotations(data.root)):
        return [], []
    items = [Item((id_,), (path,), f"{place}: there is no such file") for id_, path, place in missing]
    cure = "restore the files, correct the paths, or set data.base (--fix writes a list without them)"
    ids = list(dict.fromkeys(id_ for id_, _, _ in missing))
    return ids, finding_of("missing files", "error", "a training refuses the table", cure, items, ids)


def _broken_files(data: SkeletonFolder) -> tuple[list[str], list[Finding]]:
    """The files that stop a folder of skeletons from being read, and findings about them.

    Those that have another number of joints or coordinates than most are among them.
    """
    data.files()  # which refuses what is no data set
    failed: list[tuple[Item, DataError]] = []
    shapes: dict[str, tuple[int, int]] = {}
    paths = {source.id: source.path for source in data.scan().sources}
    for id_, path in paths.items():
        try:
            joints = read_skeleton(path, data.read_options()).joints
            shapes[id_] = joints.shape[2], joints.shape[3]
        except NoPersonError:
            continue  # which the data set excludes by itself
        except DataError as error:
            failed.append((Item((id_,), (path,), describe(error)), error))
    if shapes:
        joints, coordinates = Counter(shapes.values()).most_common(1)[0][0]
        for id_, shape in shapes.items():
            if shape != (joints, coordinates):
                error = DataError(
                    f"the recording has {shape[0]} joints of {shape[1]} coordinates",
                    expected=f"{joints} joints of {coordinates} coordinates, as in most of the others",
                    hint="keep recordings of one kind of skeleton in the folder",
                    where=paths[id_],
                )
                failed.append((Item((id_,), (paths[id_],), describe(error)), error))
    return [failure.ids[0] for failure, _ in failed], unreadable(failed)


def _too_short(observed: list[Observed], recipe: Recipe) -> list[Finding]:
    """Recordings of fewer frames than the model of a recipe reads."""
    takes, view = recipe.model.takes(), recipe.view
    if isinstance(takes, ClipInput):
        stride = view.stride if view else 1
        if view is not None and view.mode in ("clips", "uniform"):
            fewest = window_span(takes.segments * takes.frames_per_segment, stride)
        elif view is not None and view.mode == "windows":
            fewest = window_span(takes.frames_per_segment, stride)
        else:
            fewest = takes.segments + window_span(takes.frames_per_segment, stride) - 1
    else:
        fewest = 5 if takes.smooth else 2  # the filter takes five frames
    short = []
    for one in observed:
        facts = one.video or one.skeleton
        if facts is not None and facts.frames < fewest:
            short.append(item(one.record, f"{facts.frames} frames"))
    return finding_of(
        "too short",
        "warning",
        f"the model {recipe.model.name} reads {fewest} frames, and repeats those that there are",
        "leave them out, or set fewer segments or frames",
        short,
    )


def _excluded(indexes: dict[Split, Index]) -> list[Finding]:
    items = tuple(Item((one.id,), (one.path,), one.reason) for index in indexes.values() for one in index.excluded)
    return finding_of("excluded", "note", "the data set leaves these recordings out by itself", "nothing", items)


def _notices(data: DatasetConfig) -> list[Finding]:
    """What the data set says of itself."""
    try:
        notices = data.notices()
    except DataError as error:
        notices = (str(error),)
    items = tuple(Item((), (), notice) for notice in notices)
    return finding_of("about the data set", "note", "what reading it shows", "see each", items)
