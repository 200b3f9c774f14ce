"""The optical flow of all videos of a recipe, or of a folder, computed once and stored."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from muybridge.core.contracts import ClipData
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.processes import available_cores
from muybridge.core.types import Record
from muybridge.data.datasets.base import resolve_data_path
from muybridge.data.prepare import COMPUTED, FlowSource
from muybridge.engine.journal import Reporter
from muybridge.engine.saved_split import SPLITS
from muybridge.media.flow_extract import Progress, extract_flow, open_video
from muybridge.media.flow_store import Form
from muybridge.media.video import Video, videos_in
from muybridge.recipe import load_recipe
from muybridge.recipe_schema import check_tree

OpenRecord = Callable[[Record], Video]


def make_flow(
    source: str | Path,
    out: Path | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    form: Form = "frames",
    jobs: int | None = None,
    report: Reporter | None = None,
) -> tuple[Progress, FlowSource]:
    """Compute the flow of all recordings; existing flow is checked and kept.

    Args:
        source: a recipe, by file or name, or a folder of videos.
        out: the folder of flow; by default ``flow.folder`` of the recipe, or else ``flow/NAME``.
        settings: of the recipe to replace, by dotted names; of a folder, ``flow.method`` and ``flow.bound``.
        form: how flow is stored, see :mod:`muybridge.media.flow_store`.
        jobs: processes; None uses one for each core.
        report: where progress is shown; by default nowhere.

    Returns:
        What was computed, and the table ``[flow]`` of a recipe that reads it.

    Raises:
        RecipeError: no such recipe, or one of skeletons, or a wrong setting.
        DataError: there are no videos, or the flow of some cannot be computed or stored; that of the others is.
        MissingExtraError: OpenCV is not installed, or lacks TV-L1.
    """
    report, folder = report or Reporter(quiet=True), Path(source).expanduser()
    config, records, open_record = _of_folder(folder, settings) if folder.is_dir() else _of_recipe(source, settings)
    target = out or (resolve_data_path(config.folder) if config.folder else Path("flow") / folder.stem)
    if folder.is_dir() and target.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            "the flow would be among the videos",
            expected="another folder, as its images would be taken for videos",
            hint="choose one with --out",
            where=target,
        )
    cores = jobs or available_cores()
    report.say(
        f"flow of {len(records)} videos by {config.method}, bound {config.bound:g}, {cores} processes -> {target}"
    )
    with report:
        report.begin("flow", len(records))
        progress = extract_flow(
            records,
            target,
            method=config.method,
            bound=config.bound,
            form=form,
            workers=cores,
            progress=lambda _: report.step(),
            open_record=open_record,
        )
    _report_result(progress, target, report)
    return progress, config.model_copy(update={"folder": target})


def _report_result(progress: Progress, target: Path, report: Reporter) -> None:
    existing = f", that of {progress.existing} existed" if progress.existing else ""
    report.say(
        f"{progress.fields} fields of {progress.computed} videos in {progress.seconds:.1f} s, "
        f"{progress.fps:.1f} per second{existing}"
    )
    if progress.failed:
        name, problem, hint = progress.failed[0]
        raise DataError(
            f"{len(progress.failed)} of {progress.total} videos get no flow, {name!r} among them ({problem})",
            expected="flow of every video",
            hint=f"{hint}; then repeat the command: what is finished is kept",
            where=target,
        )


def _of_folder(folder: Path, settings: Mapping[str, Any] | None) -> tuple[FlowSource, list[Record], OpenRecord]:
    """The flow settings, and the videos of a folder by the ids that they have in a data set of the user's own."""
    config = FlowSource.model_validate(check_tree({}, settings or {}, None).get("flow", {}))
    records = [Record(path.relative_to(folder).as_posix(), path, -1) for path in videos_in(folder) if path != folder]
    if not records:
        raise DataError(
            "no video in this folder",
            expected="video files, or folders of numbered images",
            hint="check the path",
            where=folder,
        )
    return config, records, open_video


def _of_recipe(source: str | Path, settings: Mapping[str, Any] | None) -> tuple[FlowSource, list[Record], OpenRecord]:
    """The flow settings and the videos of a recipe."""
    recipe = load_recipe(source, settings)
    if not isinstance(recipe.data.holds(), ClipData):
        raise RecipeError(
            f"data set {recipe.data.name!r} contains skeletons",
            expected="videos, which have optical flow",
            hint="choose a recipe of videos, or a folder of them",
        )
    records = [record for split in SPLITS for record in recipe.data.index(split).records]
    return recipe.flow or COMPUTED, records, cast("OpenRecord", recipe.data.open)
