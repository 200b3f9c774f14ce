"""The command that sends a run to the Hugging Face hub."""

from typing import Annotated

import typer

from muybridge.cli.app import command
from muybridge.cli.options import Run


@command("Use", example="muybridge push runs/mine user/name --license apache-2.0")
def push(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="USER/NAME", help="Of the model on the hub; made where it is not.")],
    private: Annotated[bool, typer.Option("--private", help="A new model is visible to you alone.")] = False,
    license: Annotated[
        str, typer.Option(metavar="NAME", help="Of the weights, as the hub names it, such as apache-2.0.")
    ] = "",
    message: Annotated[str, typer.Option(metavar="TEXT", help="Of the commit.")] = "",
    card: Annotated[bool, typer.Option("--card/--keep-card", help="Write the card, or keep the one there.")] = True,
) -> None:
    """Send a trained run to the Hugging Face hub, with a model card; muybridge.load("hf://USER/NAME") reads it."""
    from muybridge.hub import push as push_run

    typer.echo(push_run(run, name, private=private, license=license, message=message, card=card))
