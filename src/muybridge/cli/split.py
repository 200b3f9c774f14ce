"""The command that divides a data set into parts or folds, once and in a file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muybridge.cli.app import check_writable, command, shell_command, writable
from muybridge.cli.failures import printable
from muybridge.cli.options import Group, Settings, parse_options
from muybridge.cli.sources import choose_source, starter_of
from muybridge.core.errors import RecipeError

if TYPE_CHECKING:
    from muybridge.core.types import Record


@command("Data", example="muybridge split videos/ --group '_(s\\d+)_' --folds 5 --out folds.csv")
def split(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR|TABLE|PACK|RECIPE",
            help="A folder with class folders, a table of recordings, a pack, or a recipe.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The table that is written, .csv; give it as --data, of a pack as --set data.split=FILE.",
        ),
    ],
    settings: Settings = None,
    group: Group = None,
    test: Annotated[float, typer.Option(metavar="SHARE", min=0, max=1, help="Of the recordings that test.")] = 0.25,
    val: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="Of those that validate; 0 for none.")
    ] = 0.1,
    folds: Annotated[
        int, typer.Option(metavar="N", min=0, help="Write so many folds of a cross-validation instead.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw.")] = 0,
) -> None:
    """Divide recordings so that nobody is on both sides and classes have equal shares; the table keeps it."""
    if out.suffix.lower() != ".csv":
        raise RecipeError(
            "a table of this kind is not written", expected="a name that ends in .csv", hint="correct --out", where=out
        )
    check_writable(out)
    chosen = choose_source(source, parse_options(settings, group=group))

    from muybridge.data.annotations.write import write_parts, write_table
    from muybridge.data.datasets import Pack
    from muybridge.data.datasets.base import require_one_label
    from muybridge.data.splitting import draw_folds, draw_split

    data = chosen.load().data
    require_one_label(data, "a split with classes in equal shares")
    if isinstance(data, Pack):
        data = data.model_copy(update={"split": None, "fold": "", "val_groups": (), "val_fraction": None})
    parts = [data.index(part) for part in ("train", "val", "test")]
    records = sorted((record for part in parts for record in part.records), key=lambda one: one.id)
    if folds:
        drawn = {"fold": [str(fold + 1) for fold in draw_folds(records, folds, seed)]}
    else:
        drawn = {"split": [str(part) for part in draw_split(records, test, val, seed)]}
    with writable(out):
        (write_parts if isinstance(data, Pack) else write_table)(out, records, data.labels(), **drawn)
    (column, values), *_ = drawn.items()
    _print(records, column, values, len(data.labels()))
    typer.echo(printable(str(out)))
    if isinstance(data, Pack):
        words = [starter_of(data.root), "--data", data.root, "--set", f"data.split={out}"]
    else:
        words = [starter_of(out), "--data", str(out)]
    words += ["--set", "data.fold=1"] if folds else []
    typer.echo(f"next: {shell_command('train', '--model', *words)}", err=True)


def _print(records: "Sequence[Record]", column: str, values: Sequence[str], classes: int) -> None:
    """How many recordings, groups and classes each part has."""
    order = {"train": "0", "val": "1", "test": "2"}
    for name in sorted(set(values), key=lambda value: (order.get(value, ""), len(value), value)):
        mine = [record for record, value in zip(records, values, strict=True) if value == name]
        labels = Counter(record.label for record in mine)
        groups = len({record.group for record in mine if record.group})
        of_groups = f", {groups} group{'s' * (groups != 1)}" if groups else ""
        lacking = f"; {classes - len(labels)} classes have none" if len(labels) < classes else ""
        shares = f"{min(labels.values())} to {max(labels.values())} a class"
        title = f"fold {name}" if column == "fold" else name
        typer.echo(f"{title:<8} {len(mine):6d} recordings{of_groups}, {shares}{lacking}")
    if not any(record.group for record in records):
        typer.echo(
            "note: no person or source is known (--group), so that the same one may be on both sides; "
            "`muybridge doctor` finds recordings that look alike",
            err=True,
        )
