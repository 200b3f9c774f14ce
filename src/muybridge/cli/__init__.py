"""The command line: each command parses its options, calls one library function and prints the result.

A module holds the commands of one topic, and importing it registers them.
Heavy imports stand inside the commands, so that ``muybridge --help`` starts at once.
"""

from muybridge.cli import (  # noqa: F401 - importing registers the commands
    baseline,
    data,
    demo,
    doctor,
    label,
    lists,
    look,
    pack,
    poses,
    predict,
    prepare,
    push,
    report,
    serve,
    split,
    timeline,
    train,
    use,
    watch,
)
from muybridge.cli.app import GROUPS, app, main

__all__ = ["app", "main"]

app.registered_commands.sort(key=lambda command: GROUPS.index(command.rich_help_panel))
