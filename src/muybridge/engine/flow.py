"""The optical flow of all that a recipe trains and tests on, or of a folder of videos, computed once and kept."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from muybridge.core.processes import available_cores
from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.types import Record
from muybridge.data.datasets.base import Split, resolve_data_path
from muybridge.data.prepare import COMPUTED, FlowSource
from muybridge.engine.journal import Reporter
from muybridge.media.flow_extract import Progress, extract_flow, open_video
from muybridge.media.flow_store import Form
from muybridge.media.video import Video, videos_in
from muybridge.recipe import Recipe, load_recipe

SPLITS: tuple[Split, ...] = ("train", "val", "test")


def make_flow(
    source: str | Path,
    out: Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    form: Form = "frames",
    jobs: int | None = None,
    report: Reporter | None = None,
) -> tuple[Progress, FlowSource]:
    """Compute the flow of all recordings; what is there already is checked and kept.

    Args:
        source: a recipe, by file or name, or a folder of videos.
        out: the folder of flow; by default ``flow.folder`` of the recipe, or else ``flow/NAME``.
        settings: dotted knobs of the recipe to replace; of a folder, ``flow.method`` and ``flow.bound``.
        form: how flow is kept, see :mod:`muybridge.media.flow_store`.
        jobs: processes; None takes one for each core.
        report: where progress is shown; by default nowhere.

    Returns:
        What was done, and the table ``[flow]`` of a recipe that reads it.

    Raises:
        RecipeError: no such recipe, or one of skeletons.
        DataError: there are no videos, or of some the flow cannot be computed or kept; that of the others is.
        MissingExtraError: OpenCV is not installed, or lacks TV-L1.
    """
    report = report or Reporter(quiet=True)
    folder = Path(source)
    if folder.is_dir():
        knobs = FlowSource.model_validate({name.removeprefix("flow."): one for name, one in (settings or {}).items()})
        records, opened, root = _videos_of(folder), open_video, folder
    else:
        recipe = load_recipe(source, settings)
        knobs, records, root = recipe.flow or COMPUTED, _recordings_of(recipe), None
        opened = cast("Callable[[Record], Video]", recipe.data.open)
    target = out or (resolve_data_path(knobs.folder) if knobs.folder else Path("flow") / folder.stem)
    if root is not None and target.resolve().is_relative_to(root.resolve()):
        raise DataError(
            "the flow would lie among the videos",
            expected="another folder, lest its pictures be taken for videos",
            hint="choose one with --out",
            where=target,
        )
    cores = jobs or available_cores()
    report.say(f"flow of {len(records)} videos by {knobs.method}, bound {knobs.bound:g}, {cores} processes -> {target}")
    with report:
        report.begin("flow", len(records))
        told = extract_flow(
            records,
            target,
            method=knobs.method,
            bound=knobs.bound,
            form=form,
            workers=cores,
            progress=lambda _: report.step(),
            open_record=opened,
        )
    there = f", that of {told.kept} was there" if told.kept else ""
    report.say(f"{told.fields} fields of {told.made} videos in {told.seconds:.1f} s, {told.fps:.1f} a second{there}")
    if told.failed:
        name, problem = told.failed[0]
        raise DataError(
            f"{len(told.failed)} of {told.total} videos have no flow, {name!r} among them: {problem}",
            expected="flow of every video",
            hint="mend or remove them and start it again; what is finished is kept",
            where=target,
        )
    return told, knobs.model_copy(update={"folder": target})


def _recordings_of(recipe: Recipe) -> list[Record]:
    if not isinstance(recipe.data.holds(), ClipData):
        raise RecipeError(
            f"data set {recipe.data.name!r} holds skeletons",
            expected="videos, which have optical flow",
            hint="choose a recipe of videos, or a folder of them",
        )
    return [record for split in SPLITS for record in recipe.data.index(split).records]


def _videos_of(folder: Path) -> list[Record]:
    """Videos as records, by the ids that they have in a data set of the user's own."""
    records = [Record(path.relative_to(folder).as_posix(), path, -1) for path in videos_in(folder) if path != folder]
    if not records:
        raise DataError(
            "no video in this folder",
            expected="video files, or folders of numbered pictures",
            hint="check the path",
            where=folder,
        )
    return records
