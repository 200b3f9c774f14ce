"""Commands that list what the package has: models, recipes, joint layouts. None of them imports torch."""

import difflib
import tomllib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muybridge.cli.app import command
from muybridge.cli.options import AsJson
from muybridge.cli.tables import print_json, print_list
from muybridge.core.errors import RecipeError
from muybridge.recipe_schema import find_recipe, shipped_recipes

if TYPE_CHECKING:
    from muybridge.core.skeletons import Layout

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Show details of this one.")]


@command("Look", example="muybridge recipes utd_mhad   or: muybridge recipes tdn_moving_shapes > mine.toml")
def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Print this recipe; or list those whose names contain the word."),
    ] = None,
) -> None:
    """List the recipes that come with the package, and their expected accuracy; or print one."""
    known = shipped_recipes()
    if name in known:
        typer.echo(known[name].read_text(encoding="utf-8"), nl=False)
        return
    chosen = [word for word in known if name is None or name in word]
    if not chosen:
        find_recipe(str(name))  # raises an error that names similar ones
    rows = []
    for word in chosen:
        tree = tomllib.loads(known[word].read_text(encoding="utf-8"))
        rows.append((word, tree.get("title", ""), *_expected(tree.get("expects", {}))))
    print_list(("recipe", "title", "expected %", "minutes"), rows)
    typer.echo("\nPrint a recipe: muybridge recipes NAME   Train it: muybridge train NAME")


@command("Look", example="muybridge layouts kinect25")
def layouts(name: Name = None, as_json: AsJson = False) -> None:
    """List the joint layouts of skeletons, with their joints in order; data.layout takes one of the names."""
    from muybridge.core.skeletons import LAYOUTS

    chosen = [LAYOUTS[_known(name, LAYOUTS, "layout")]] if name is not None else list(LAYOUTS.values())
    if as_json:
        print_json([_describe_layout(layout) for layout in chosen])
        return
    if name is not None:
        _print_layout(chosen[0])
        return
    for layout in chosen:
        typer.echo(f"{layout.name}: {layout.source}")
        print_list((), [("   ", " ".join(f"{index}:{joint}" for index, joint in enumerate(layout.joints)))])
    typer.echo('\nBones and mirror pairs: muybridge layouts NAME\nN joints in any other order: data.layout = "plainN"')


def _known(name: str, names: Iterable[str], kind: str) -> str:
    """The name itself; raises RecipeError with similar ones where there is no such name."""
    names = list(names)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=2)
    raise RecipeError(
        f"no {kind} {name!r}",
        expected=f"one of {', '.join(names)}",
        hint=f"did you mean {' or '.join(near)}?" if near else f"list them with `muybridge {kind}s`",
    )


def _expected(expects: dict[str, Any]) -> tuple[str, str]:
    """Expected accuracy and training time of a recipe."""
    minutes = f"{expects['minutes']:g}" if "minutes" in expects else ""
    if "top1" in expects:
        return f"{expects['top1']:g}", minutes
    return (f"{expects['mean_class_accuracy']:g} (mean class)" if expects else ""), minutes


def _describe_layout(layout: "Layout") -> dict[str, Any]:
    return {
        "name": layout.name,
        "source": layout.source,
        "joints": layout.joints,
        "bones": layout.bones,
        "mirror": layout.mirror,
    }


def _print_layout(layout: "Layout") -> None:
    parents = {child: layout.joints[parent] for parent, child in layout.bones}
    swap = dict(layout.mirror) | {right: left for left, right in layout.mirror}
    typer.echo(f"{layout.name}: {layout.source}")
    rows = [
        (str(index), joint, parents.get(index, ""), layout.joints[swap[index]] if index in swap else "")
        for index, joint in enumerate(layout.joints)
    ]
    print_list(("index", "joint", "bone from", "mirror"), rows)
