"""The Typer application, the groups of its commands, and the entry point."""

import sys
from collections.abc import Callable
from typing import Literal, get_args

import typer

from muybridge.core.errors import MuybridgeError

app = typer.Typer(
    name="muybridge",
    help="Recognise actions by their motion, in video and in skeletons.",
    epilog="Start with: muybridge demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Group = Literal["Start", "Data", "Train", "Use", "Look"]
GROUPS = get_args(Group)
Function = Callable[..., None]


def command(group: Group, example: str | None = None) -> Callable[[Function], Function]:
    """Register a function as the command of its name, in a group of ``muybridge --help``."""
    return app.command(rich_help_panel=group, epilog=f"Example: {example}" if example else None)


def main() -> None:
    """Run the command line; an error that a user can fix is printed without a traceback, with exit status 2."""
    try:
        app()
    except MuybridgeError as error:
        typer.echo(f"muybridge: {error}", err=True)
        sys.exit(130 if type(error).__name__ == "InterruptedTrainingError" else 2)
