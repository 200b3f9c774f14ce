"""The command that makes a benchmark ready for training from its official archives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muybridge.cli.app import check_writable, command, shell_command, write_file
from muybridge.cli.failures import printable
from muybridge.cli.options import Settings, parse_options
from muybridge.core.errors import RecipeError

if TYPE_CHECKING:
    from muybridge.data.datasets.base import Benchmark
    from muybridge.prepare import Prepared
    from muybridge.prepare.reencode import Reencoded

BENCHMARKS = (
    *("diving48", "finegym", "hmdb51", "jester", "kinetics", "kth", "something_v1", "something_v2", "ucf101"),
    *("ntu_rgbd_video", "utd_mhad_arrow", "utd_mhad_depth"),
)
"""The benchmarks of videos."""


@command("Data", example="muybridge prepare something_v2 --root /data/something_v2 --reencode 256")
def prepare(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"A benchmark of videos: {', '.join(BENCHMARKS)}.")],
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The folder of its archives and lists; by default the one under MUYBRIDGE_DATA."
        ),
    ] = None,
    settings: Settings = None,
    reencode: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            min=32,
            help="Write a copy of the data set with videos of this shorter side and a keyframe every 12 frames.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder of the copy; by default ROOT_PIXELS, beside the root."),
    ] = None,
    unpack: Annotated[bool, typer.Option("--unpack/--no-unpack", help="Unpack archives in the folder.")] = True,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes; by default one for each core.")
    ] = None,
    as_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the counts, and all that is missing or broken.")
    ] = None,
) -> None:
    """Unpack a benchmark, compare it with its official lists, index its videos, and copy them smaller.

    Exits with status 0 if every listed video is there and readable (of kinetics and finegym some may be missing), 1 if
    some are not, 2 for a wrong command line.
    """
    if out is not None and reencode is None:
        raise RecipeError(
            "--out is given without --reencode",
            expected="--out for the copy that --reencode PIXELS writes",
            hint="add --reencode 256, or leave --out out",
        )
    if as_json is not None:
        check_writable(as_json)
    data = _benchmark(name, root, settings)

    from muybridge.engine.journal import Reporter
    from muybridge.prepare import copies_of
    from muybridge.prepare import prepare as run

    report = Reporter()

    def begin(task: str) -> Callable[[int, int], None]:
        report.begin(task)
        return report.update

    with report:
        prepared = run(data, unpack_archives=unpack, short_side=reencode, out=out, workers=jobs, begin=begin)
    _print(name, prepared)
    if as_json is not None:
        write_file(as_json, json.dumps(prepared.as_dict(), indent=1) + "\n")
    copies = (out or copies_of(prepared.root, reencode)) if reencode is not None else None
    if prepared.reencoded is not None:
        _print_copies(prepared.reencoded)
    place = copies or (prepared.root if root else None)
    _print_next(name, [f"data.root={place}", *(settings or [])] if place else settings or [])
    if not prepared.inventory.ready or (prepared.reencoded and prepared.reencoded.failed):
        raise typer.Exit(1)


def _benchmark(name: str, root: Path | None, settings: list[str] | None) -> "Benchmark":
    """The benchmark of a name, with settings such as ``data.version``."""
    from muybridge.recipe_schema import check_tree

    given = parse_options(settings) | ({"data.root": str(root.resolve())} if root else {})
    if name not in BENCHMARKS:
        raise RecipeError(
            f"{name!r} is no benchmark of videos",
            expected=f"one of {', '.join(BENCHMARKS)}",
            hint="for your own videos, use `muybridge doctor DIR` and `muybridge train --data DIR`",
        )
    merged = check_tree({"data": {"name": name}}, given, None)

    from pydantic import TypeAdapter, ValidationError

    from muybridge.data.datasets import AnyDataset
    from muybridge.data.datasets.base import Benchmark

    try:
        data = TypeAdapter(AnyDataset).validate_python(merged["data"])
        assert isinstance(data, Benchmark)
        return data
    except ValidationError as problem:
        raise RecipeError(
            f"the settings of {name} do not fit together ({problem.errors()[0]['msg']})",
            expected="settings as docs/recipes.md lists them",
            hint="correct the --set",
        ) from None


def _print(name: str, prepared: "Prepared") -> None:
    from muybridge.prepare.foreign import BY_HAND

    for archive in prepared.unpacked:
        typer.echo(f"unpacked {printable(str(archive))}")
    for archive in prepared.foreign:
        typer.echo(f"not unpacked: {printable(str(archive))}: {printable(BY_HAND.format(name=archive.name))}")
    typer.echo(f"{name} in {printable(str(prepared.root))}")
    for line in prepared.inventory.lines():
        typer.echo(printable(line))
    known = prepared.videos - prepared.probed
    typer.echo(
        f"{prepared.videos:,} videos are indexed, {known:,} of which were known: {printable(str(prepared.index))}"
    )


def _print_copies(copies: "Reencoded") -> None:
    typer.echo(f"{copies.written:,} copies were written, {copies.existing:,} existed, {len(copies.failed):,} failed")
    for path, problem in copies.failed[:5]:
        typer.echo(printable(f"  {path}: {problem}"))


def _print_next(name: str, settings: list[str]) -> None:
    """The commands that examine the data set and train on it, by a shipped recipe where there is one."""
    from muybridge.recipe_schema import read_recipe, shipped_recipes

    recipes = [recipe for recipe, path in shipped_recipes().items() if read_recipe(path)["data"]["name"] == name]
    words = [word for setting in settings for word in ("--set", setting)]
    for command_name in ("doctor", "train"):
        typer.echo(f"next: {shell_command(command_name, recipes[0] if recipes else 'RECIPE', *words)}")
    if recipes[1:]:
        typer.echo(f"other recipes: {', '.join(recipes[1:])}")
