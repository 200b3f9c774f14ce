"""The command that writes a data set as a few large files."""

from pathlib import Path
from typing import Annotated

import typer

from muybridge.cli.app import command, shell_command
from muybridge.cli.failures import printable
from muybridge.cli.options import Group, Settings, parse_options
from muybridge.cli.sources import choose_source
from muybridge.core.errors import RecipeError
from muybridge.core.packed import PACK_FILE, is_pack


@command("Data", example="muybridge pack videos/ --group '_(s\\d+)_' --out packs/videos")
def pack(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|DIR|TABLE|PACK",
            help="A TOML file, the name of a shipped recipe, a folder with class folders, or a table of recordings; "
            "with --verify alone, the folder or the address of a pack.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the pack, which is continued.")] = None,
    settings: Settings = None,
    group: Group = None,
    shard_mib: Annotated[
        int, typer.Option("--shard-size", metavar="MIB", min=1, help="A shard ends when it has this size.")
    ] = 256,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first recording that cannot be read, in place of keeping why.")
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all shards and compare their content with the checksums.")
    ] = False,
) -> None:
    """Pack a data set into tar shards with an index: few large files, read at random, here or over HTTP.

    The same command goes on after any interruption. Exits with status 1 if --verify finds a shard that is not whole.
    """
    if out is None and not verify:
        raise RecipeError("no --out", expected="the folder of the pack", hint="add --out DIR, or --verify for a pack")
    if out is None:
        _verify(source)
        return
    given = parse_options(settings, group=group)
    chosen = choose_source(source, given)

    from muybridge.cli.plan import generate_data
    from muybridge.data.shards.write import PackSummary
    from muybridge.data.shards.write import pack as write_pack
    from muybridge.data.summary import count
    from muybridge.engine.journal import Reporter

    data, report = chosen.load().data, Reporter()
    generate_data(data, report)
    with report:
        summary: PackSummary = write_pack(
            data,
            out,
            shard_mib=shard_mib,
            strict=strict,
            begin=lambda total: report.begin("packing", total),
            step=report.step,
        )
    there = f", {summary.shards - summary.written} were there already" if summary.written < summary.shards else ""
    typer.echo(
        f"{count(summary.recordings, 'recording')} in {count(summary.shards, 'shard')}{there}, "
        f"{summary.bytes / 2**20:.1f} MiB: {printable(str(out))}",
        err=True,
    )
    if summary.failed:
        typer.echo(f"{count(summary.failed, 'recording')} cannot be read; the pack keeps why:", err=True)
        for id_, problem in summary.examples:
            typer.echo(f"  {printable(id_)}: {printable(problem)}", err=True)
    if verify:
        _verify(str(out))
    recipe = ["--model", "NAME"] if chosen.is_starter else [source]
    typer.echo(f"next: {shell_command('train', *recipe, '--data', out)}", err=True)


def _verify(place: str) -> None:
    """Print what is wrong with a pack, and end with status 1 if anything is."""
    if not is_pack(Path(place).expanduser() if "://" not in place else place):
        raise RecipeError(
            f"there is no {PACK_FILE} in it",
            expected="a pack, as `muybridge pack DATA --out DIR` makes it",
            hint="correct the folder; an unfinished pack goes on by the command that began it",
            where=place,
        )
    from muybridge.data.shards.verify import verify
    from muybridge.engine.journal import Reporter

    with Reporter() as report:
        wrong = verify(place, lambda total: report.begin("reading shards", total), report.step)
    for name, problem in wrong.items():
        typer.echo(f"{printable(name)}: {printable(problem)}", err=True)
    if wrong:
        typer.echo("copy these shards again, or delete them and give the command again that made the pack", err=True)
        raise typer.Exit(1)
    typer.echo("all shards are whole", err=True)
