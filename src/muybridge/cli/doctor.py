"""The command that says what is wrong with a data set before anything is trained on it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muybridge.cli.app import check_writable, command, writable, write_file
from muybridge.cli.failures import printable
from muybridge.cli.options import Group, Settings, parse_options
from muybridge.cli.sources import choose_source
from muybridge.core.errors import RecipeError

if TYPE_CHECKING:
    from muybridge.doctor import Diagnosis, Finding

_SHOWN = 5
_COLORS = {"error": typer.colors.RED, "warning": typer.colors.YELLOW, "note": typer.colors.BLUE}


@command("Data", example="muybridge doctor videos/ --group '_(s\\d+)_' --page doctor.html --fix clean.csv")
def doctor(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|DIR|TABLE",
            help="A TOML file, the name of a shipped recipe, a folder with class folders, or a table of recordings.",
        ),
    ],
    settings: Settings = None,
    group: Group = None,
    as_json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all findings as JSON.")] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write an HTML page with pictures of what is concerned.")
    ] = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a CSV list without the recordings that are wrong; nothing is deleted."
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Decode every frame, not only those at 24 moments.")] = False,
) -> None:
    """Find what is wrong with a data set: broken files, copies on both sides of the split, shortcuts and more.

    Exits with status 0 if training can start, 1 if it should not (something is an error), 2 for a wrong command line.
    """
    given = parse_options(settings, group=group)
    if fix is not None and fix.suffix.lower() != ".csv":
        raise RecipeError(
            "a list of this kind is not written",
            expected="a name that ends in .csv",
            hint="correct --fix",
            where=fix,
        )
    for file in filter(None, (as_json, page, fix)):
        check_writable(file)
    chosen = choose_source(source, given)

    from muybridge.cli.plan import generate_data
    from muybridge.data.datasets import Pack
    from muybridge.doctor import data_of, examine
    from muybridge.doctor.fix import write_list
    from muybridge.engine.journal import Reporter

    report = Reporter()
    data = data_of(chosen.path, chosen.settings)
    if fix is not None and isinstance(data, Pack):
        raise RecipeError(
            "--fix of a pack, whose recordings are no files of their own",
            expected="the folder or the table that was packed",
            hint="examine and pack that one again, or leave --fix out",
            where=source,
        )
    generate_data(data, report)
    with report:
        report.begin("examining recordings")
        diagnosis = examine(chosen.path, chosen.settings, every_frame=full, progress=report.update)
    _print(diagnosis)
    if as_json is not None:
        write_file(as_json, json.dumps(diagnosis.as_dict(), indent=1) + "\n")
    if page is not None:
        from muybridge.viz.doctor_page import write_diagnosis

        typer.echo(printable(str(write_diagnosis(diagnosis, page))))
    if fix is not None and diagnosis.records:
        with writable(fix):
            fixed = write_list(diagnosis, fix)
        typer.echo(f"{printable(str(fix))}: {fixed.kept} recordings, {fixed.removed} left out")
        for name in fixed.classes:
            typer.echo(f"no training recordings of the class {printable(repr(name))} are left, so it is left out")
    if not diagnosis.ready:
        raise typer.Exit(1)


def _print(diagnosis: "Diagnosis") -> None:
    counts = ", ".join(f"{count} {split}" for split, count in diagnosis.counts.items() if count)
    if counts:
        typer.echo(f"{diagnosis.name}: {len(diagnosis.labels)} classes, {counts} ({diagnosis.seconds:.0f} s)\n")
    for finding in diagnosis.findings:
        _print_finding(finding)
    typer.secho(diagnosis.verdict, bold=True)


def _print_finding(finding: "Finding") -> None:
    """The level and the name, a few recordings, and what to do."""
    number = f" ({len(finding.items)})" if len(finding.items) > 1 else ""
    level = typer.style(f"{finding.level:<8}", fg=_COLORS[finding.level], bold=True)
    typer.echo(f"{level} {finding.check}{number}: {finding.problem}")
    for item in finding.items[:_SHOWN]:
        files = " = ".join(map(str, item.files))
        typer.echo(f"         {printable(f'{files}: {item.detail}' if files else item.detail)}")
    if len(finding.items) > _SHOWN:
        typer.echo(f"         and {len(finding.items) - _SHOWN} more (--json and --page have all)")
    typer.echo(f"         -> {finding.cure}\n")
