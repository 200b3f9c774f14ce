"""The command that turns what pose estimators wrote into recordings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muybridge.cli.app import command, expand_user, shell_command
from muybridge.cli.failures import Failures, printable
from muybridge.cli.options import Strict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from muybridge.core.types import FailedSample
    from muybridge.engine.journal import Reporter
    from muybridge.media.poses import Pose


@command("Data", example="muybridge convert-poses openpose/ --out recordings")
def convert_poses(
    sources: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files of a pose estimator, or folders of them.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where a .npz file is written for each recording.")],
    min_score: Annotated[
        float, typer.Option(metavar="S", min=0, help="Joints with less confidence are missing, and interpolated.")
    ] = 0.0,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="Of the images, for tools that give shares of them (Ultralytics, MediaPipe)."),
    ] = None,
    strict: Strict = False,
) -> None:
    """Convert poses of OpenPose, MMPose, AlphaPose, MediaPipe and others to recordings; those up to date stay."""
    from muybridge.cli.options import parse_size
    from muybridge.engine.journal import Reporter
    from muybridge.media.arrays import ReadOptions
    from muybridge.media.poses import find_poses

    shape = parse_size(size)
    folder = expand_user(out)
    found = [pose for source in sources for pose in find_poses(expand_user(source))]
    report = Reporter()
    written = 0
    with Failures(strict) as failures, report:
        report.begin("converting", len(found))
        for _ in failures.apart(_convert(found, folder, ReadOptions(min_score=min_score), shape, report)):
            written += 1
    tools = sorted({pose.tool for pose in found})
    report.say(f"{written} recordings of {', '.join(tools)}: {printable(str(folder))}")
    report.say(f"next: {shell_command('train', '--model', 'sta_lstm', '--data', str(folder))}")


def _convert(
    found: "list[Pose]", folder: Path, options: "object", size: tuple[int, int] | None, report: "Reporter"
) -> "Iterator[Path | FailedSample]":
    """The file of each recording, or why there is none."""
    from muybridge.core.errors import DataError
    from muybridge.core.types import FailedSample
    from muybridge.media.poses import convert

    for pose in found:
        try:
            yield convert(pose, folder, options, size)  # pyright: ignore[reportArgumentType] - ReadOptions
        except DataError as problem:
            yield FailedSample(pose.name, pose.files[0], problem)
        report.step()
