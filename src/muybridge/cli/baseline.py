"""The command that measures simple baselines on a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muybridge.cli.app import command, expand_user
from muybridge.cli.options import AsJson, Group, Settings, Split, parse_options
from muybridge.cli.sources import choose_source
from muybridge.engine.run_format import check_run

if TYPE_CHECKING:
    from muybridge.baseline import BaselineTable
    from muybridge.engine.journal import Reporter
    from muybridge.recipe import Recipe


@command("Train", example="muybridge baseline videos/ --group '_(s\\d+)_'   or: muybridge baseline drnn_utd_mhad")
def baseline(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder of recordings, one folder for each class, or a table of them; a TOML file or the name of a "
            "shipped recipe; or a run folder, whose split is taken and which keeps the result.",
        ),
    ],
    settings: Settings = None,
    group: Group = None,
    split: Annotated[Split, typer.Option(help="Part to test on: val while settings are being chosen.")] = "test",
    fisher_vectors: Annotated[
        bool,
        typer.Option(
            "--fisher-vectors/--no-fisher-vectors",
            help="Of videos, whether Fisher vectors of hand-crafted motion are measured too: the best floor, in "
            "minutes where the others take seconds.",
        ),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Measure simple baselines, such as a linear model, on the split of a data set; no network is trained."""
    folder, given = expand_user(Path(source)), parse_options(settings, group=group)
    is_run = (folder / "run.json").is_file()
    if is_run:
        check_run(folder)
        chosen = None
    else:
        chosen = choose_source(source, given)

    from muybridge.cli.tables import print_baselines, print_json
    from muybridge.engine.baselines import measure_run
    from muybridge.engine.checkpoint import RunFolder
    from muybridge.engine.journal import Reporter

    report = Reporter(quiet=as_json)
    if chosen is None:
        table = measure_run(RunFolder.open(folder), split, report, fisher_vectors)
    else:
        table = _measure(chosen.load(), split, report, fisher_vectors)
    print_json(table.as_dict()) if as_json else print_baselines(table)


def _measure(recipe: "Recipe", split: Split, report: "Reporter", fisher_vectors: bool) -> "BaselineTable":
    from muybridge.cli.plan import generate_data
    from muybridge.engine.baselines import measure

    generate_data(recipe.data, report)
    return measure(recipe.data, split, report=report, fisher_vectors=fisher_vectors)
