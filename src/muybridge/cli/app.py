"""The Typer application, the groups of its commands, and the entry point."""

import errno
import functools
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any, Literal, TextIO, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from muybridge import __version__
from muybridge.core.errors import MuybridgeError, MuybridgeWarning, RecipeError
from muybridge.core.files import atomic_write


def _without_type_of_flags(params: list[Any]) -> list[Any]:
    """The parameters, with nothing beside a flag in the help, since it takes no value."""
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_type_of_flags(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_type_of_flags(super().get_params(ctx))


app = typer.Typer(
    name="muybridge",
    cls=_Group,
    help="Recognise actions by their motion, in video and in skeletons.",
    epilog="Start with: muybridge demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Group = Literal["Start", "Data", "Train", "Use", "Look"]
GROUPS = get_args(Group)
RESUMED_BY = {
    name: "; the same command computes what is missing"
    for name in ("flow", "features", "label", "pack", "prepare", "repeat")
} | {"train": "; `muybridge train --run DIR --resume` continues from what was saved last"}
"""What continues a command that was interrupted, for those that keep what is finished."""

Function = Callable[..., None]


def command(group: Group, example: str | None = None) -> Callable[[Function], Function]:
    """Register a function as the command of its name, in a group of ``muybridge --help``.

    In all paths that the command receives ``~`` is the home folder.
    """

    def register(function: Function) -> Function:
        @functools.wraps(function)
        def run(**options: Any) -> None:
            try:
                function(**{name: _expand(value) for name, value in options.items()})
            except KeyboardInterrupt:  # Typer would exit without a word
                typer.echo(f"muybridge: interrupted{RESUMED_BY.get(function.__name__, '')}", err=True)
                raise typer.Exit(130) from None

        app.command(cls=_Command, rich_help_panel=group, epilog=f"Example: {example}" if example else None)(run)
        return function

    return register


def main() -> None:
    """Run the command line.

    An error that a user can fix is printed without a traceback, with exit status 2. A command that is interrupted ends
    with status 130.
    """
    warnings.showwarning = _show_warning
    try:
        app(prog_name="muybridge")
    except MuybridgeError as error:
        if not _is_told_by_launcher(str(error)):
            typer.echo(f"muybridge: {error}", err=True)
        sys.exit(error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("muybridge: interrupted", err=True)
        sys.exit(130)


def _is_told_by_launcher(error: str) -> bool:
    """Whether another process tells an error of this one, as those of `muybridge train --processes N`."""
    if "MUYBRIDGE_LAUNCHED" not in os.environ:
        return False
    from muybridge.engine.launch import write_error

    return write_error(error)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings as one line; those of other packages as Python shows them."""
    del file
    if issubclass(category, MuybridgeWarning):
        typer.echo(f"muybridge: warning: {message}", err=True)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"muybridge {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that stand before a command."""


def shell_command(*words: object) -> str:
    """A command to copy into a shell, with quotes where they are needed."""
    return shlex.join(["muybridge", *map(str, words)])


def expand_user(path: Path) -> Path:
    """A path with the home folder in place of ``~``; raises RecipeError for the home of an unknown user."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise RecipeError(
            "there is no such user", expected="~ for your home folder, or ~NAME", hint="write the path out", where=path
        ) from None


@contextmanager
def writable(path: Path) -> Iterator[None]:
    """A file that the user named cannot be written: a RecipeError that names its folder."""
    try:
        yield
    except OSError as error:
        exists = path.parent.is_dir()
        raise RecipeError(
            f"cannot be written ({error.strerror or error})" if exists else f"there is no folder {path.parent}",
            expected="a file in a folder that exists and can be written",
            hint="choose another place" if exists else "make the folder, or choose another place",
            where=path,
        ) from None


def write_file(path: Path, text: str) -> None:
    """Write a file that the user named, as a whole or not at all; raises RecipeError as :func:`writable`."""
    with writable(path), atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")


def check_writable(path: Path) -> None:
    """Raises RecipeError, before long work, if a file that the user named could not be written after it."""
    with writable(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        with TemporaryFile(dir=path.parent):
            pass


def _expand(value: Any) -> Any:
    """All paths in the value of an option, expanded."""
    if isinstance(value, list):
        return [_expand(item) for item in value]
    return expand_user(value) if isinstance(value, Path) else value
