"""Commands that list what the package has: models, recipes, joint layouts. None of them imports torch."""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from muybridge.cli.app import command
from muybridge.cli.options import AsJson
from muybridge.cli.tables import print_json, print_list
from muybridge.core.errors import RecipeError
from muybridge.recipe_schema import find_recipe, read_recipe, shipped_recipes, starter_models, starter_name

if TYPE_CHECKING:
    from muybridge.core.skeletons import Layout
    from muybridge.models.config import ModelConfig

Name = Annotated[str | None, typer.Argument(metavar="NAME", help="Show details of this one.")]


@command("Look", example="muybridge models tdn")
def models(name: Name = None, as_json: AsJson = False) -> None:
    """List the models, or describe one: its paper, and the differences from the paper."""
    configs = _configs()
    if name is not None:
        config = configs[_known(name, configs, "model")]
        if as_json:
            print_json(_describe_model(config))
        else:
            _print_model(config)
        return
    if as_json:
        print_json([_describe_model(config) for config in configs.values()])
        return
    rows = [
        (spec.name, _input_of(config), spec.title, _venues(spec.paper))
        for config in configs.values()
        for spec in [config.spec]
    ]
    print_list(("model", "input", "title", "published"), rows + _variants(configs))
    typer.echo("\nDetails, and the differences from the paper: muybridge models NAME")


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


def _configs() -> dict[str, type["ModelConfig"]]:
    """The config of every model, by name."""
    from muybridge.models import AnyModel

    return {config.spec.name: config for config in get_args(get_args(AnyModel)[0])}


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


def _input_of(config: type["ModelConfig"]) -> str:
    from muybridge.core.contracts import SkeletonInput

    takes = config().takes()
    if isinstance(takes, SkeletonInput):
        return "skeletons"
    return "video + flow" if takes.flow else "video"


def _venues(paper: str) -> str:
    """Where a paper was published: ``ICCV 2015``."""
    return ", ".join(re.findall(r"\b[A-Z][A-Za-z]+ \d{4}\b", paper))


def _variants(configs: dict[str, type["ModelConfig"]]) -> list[tuple[str, str, str, str]]:
    """Rows of the starting recipes that are variants of a model, such as TSM of TSN."""
    rows = []
    for name in starter_models():
        if name not in configs:
            tree = read_recipe(find_recipe(starter_name(name)))
            base = read_recipe(find_recipe(starter_name(tree["model"]["name"])))["model"]
            settings = ", ".join(f"{key} = {json.dumps(value)}" for key, value in tree["model"].items() - base.items())
            title = tree["title"].partition(" on a folder")[0]
            rows.append((name, _input_of(configs[base["name"]]), f"{title}: {base['name']} with {settings}", ""))
    return rows


def _describe_model(config: type["ModelConfig"]) -> dict[str, Any]:
    spec = config.spec
    return {
        "name": spec.name,
        "title": spec.title,
        "input": _input_of(config),
        "paper": spec.paper,
        "link": spec.link,
        "code": spec.code,
        "differences": spec.differences,
    }


def _print_model(config: type["ModelConfig"]) -> None:
    row = _describe_model(config)
    differences = row.pop("differences")
    print_list((), [(f"{key}:", value) for key, value in row.items() if value])
    typer.echo("\nDifferences from the paper:")
    print_list((), [(f"  {key}:", reason) for key, reason in differences.items()])
    start = row["name"] if row["name"] in starter_models() else "auto"
    typer.echo(f"\nStart with: muybridge train --model {start} --data DIR   (all settings: docs/recipes.md)")


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
