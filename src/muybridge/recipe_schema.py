"""Which settings a recipe has, known without importing a model, so that a misspelt one is refused in a moment.

``recipe_schema.json`` is the JSON Schema of recipes without descriptions. ``python -m tests.test_docs`` generates it
from the configs, and a test compares the two.
"""

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from muybridge.core.errors import RecipeError
from muybridge.core.packed import is_pack

FILE = Path(__file__).with_suffix(".json")
_SWITCHES = ("true", "false", "t", "f", "yes", "no", "y", "n", "on", "off")
_OTHER_NAMES = {"learning_rate": "lr", "wd": "weight_decay", "bs": "batch_size", "max_epochs": "epochs"}
"""What other toolkits call a setting, where the names are not alike."""


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    package = Path(__file__).parent
    # In a wheel the recipes lie inside the package; in a checkout they lie at its root.
    for folder in (package / "recipes", package.parents[1] / "recipes"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def starter_models() -> list[str]:
    """The models that have a starting recipe for a folder of recordings, by the names that ``--model`` takes."""
    return [name.removeprefix("folder_") for name in shipped_recipes() if name.startswith("folder_")]


def starter_name(model: str) -> str:
    """The name of a model's starting recipe; raises RecipeError for an unknown model."""
    starters = starter_models()
    if model in starters:
        return f"folder_{model}"
    near = difflib.get_close_matches(model.lower().replace("-", "_"), starters, n=1)
    raise RecipeError(
        f"no model {model!r}",
        expected=f"one of {', '.join(starters)}",
        hint=f"did you mean {near[0]}?" if near else "see `muybridge models`",
    )


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe that is given by file or by name.

    Raises:
        RecipeError: there is no such recipe.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        path = shipped_recipes().get(str(source).removesuffix(".toml"), path)
    if path.is_file():
        return path
    if path.is_dir():
        raise RecipeError(
            "a folder, not a recipe",
            expected="a TOML file or the name of a shipped recipe",
            hint=f"train a model on the recordings in it with `muybridge train --model NAME --data {source}`; "
            "for models see `muybridge models`",
            where=source,
        )
    similar = difflib.get_close_matches(path.stem, shipped_recipes(), n=3)
    raise RecipeError(
        "no such recipe",
        expected="a TOML file or the name of a shipped recipe",
        hint=f"did you mean {' or '.join(similar)}?" if similar else "list the shipped ones with `muybridge recipes`",
        where=source,
    )


def read_recipe(path: Path) -> dict[str, Any]:
    """The tables of a recipe file; raises RecipeError if it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise RecipeError(
            "it is not text in UTF-8", expected="a TOML file, which is in UTF-8", hint="save it as UTF-8", where=path
        ) from None
    except tomllib.TOMLDecodeError as problem:
        raise RecipeError(
            f"not readable as TOML ({problem})", expected="a TOML file", hint="fix the file", where=path
        ) from None


def parse_settings(words: Iterable[str]) -> dict[str, Any]:
    """``["train.seed=1", "model.name=drnn"]`` as settings by dotted names; a value is TOML, or else plain text.

    Raises:
        RecipeError: a word is not SETTING=VALUE.
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.strip():
            raise RecipeError(
                f"--set {word}", expected="SETTING=VALUE, such as train.seed=1", hint="write it like this"
            )
        try:
            settings[name.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            settings[name.strip()] = text
    return settings


def merge_settings(tree: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tables of a recipe in which settings, given by dotted names, are replaced."""
    merged = dict(tree)
    for name, value in settings.items():
        head, _, rest = name.partition(".")
        table = merged.get(head)
        merged[head] = merge_settings(table if isinstance(table, Mapping) else {}, {rest: value}) if rest else value
    return merged


def check_recipe(source: str | Path, settings: Mapping[str, Any] | None = None) -> None:
    """Refuse unknown settings and values that cannot be, without building the configs.

    Raises:
        RecipeError: as :func:`muybridge.recipe.load_recipe`, for most mistakes.
    """
    path = find_recipe(source)
    check_tree(read_recipe(path), settings or {}, path)


def check_tree(tree: Mapping[str, Any], settings: Mapping[str, Any], where: str | Path | None) -> dict[str, Any]:
    """The tables of a recipe with settings replaced.

    Args:
        tree: the tables of the file.
        settings: by dotted names.
        where: the file.

    Raises:
        RecipeError: a setting is unknown or has an impossible value; the message names the file or the ``--set`` at
            fault.
    """
    tree = _with_pack(tree, settings)
    merged = merge_settings(tree, settings)
    problems, of_file = list(_problems(merged)), set(_problems(tree))
    own = [problem for problem in problems if problem not in of_file]
    if problems:
        raise refusal(own or problems, settings if own else {}, where)
    return merged


def _with_pack(tree: Mapping[str, Any], settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tables with the data set of kind "pack" where the settings name the folder or address of one.

    Settings of the data set that was packed are in the pack.
    """
    data, root = tree.get("data", {}), settings.get("data.root")
    named = "data.name" in settings or (isinstance(data, Mapping) and data.get("name") == "pack")
    if named or not isinstance(root, str) or not root or not is_pack(root):
        return tree
    return {**tree, "data": {"name": "pack"}}


def refusal(problems: Sequence[str], settings: Mapping[str, Any], where: str | Path | None) -> RecipeError:
    """The error for a recipe; with settings, for those of them that the problems name, and not for its file."""
    named = {name: value for name, value in settings.items() if any(name in problem for problem in problems)}
    words = " ".join(f"--set {name}={_typed(value)}" for name, value in (named or settings).items())
    return RecipeError(
        "; ".join(problems),
        expected="the settings and values of the recipe format",
        hint=("correct the --set" if settings else "fix the recipe") + "; docs/recipes.md lists every setting",
        where=words if settings else where,
    )


@cache
def _schema() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def _resolved(schema: Mapping[str, Any], value: Any) -> Mapping[str, Any] | None:
    """The schema that a value has to follow, behind references, options and unions; None where none of them fits."""
    if "$ref" in schema:
        return _resolved(_schema()["$defs"][schema["$ref"].rpartition("/")[2]], value)
    if "discriminator" in schema:
        name = value.get("name") if isinstance(value, Mapping) else None
        members = schema["discriminator"]["mapping"]
        return _resolved({"$ref": members[name]}, value) if name in members else None
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if _fits(option, value)]
        return _resolved(options[0], value) if len(options) == 1 else None
    return schema


def _fits(option: Mapping[str, Any], value: Any) -> bool:
    """Whether a value is a table, a list or a single value as an option of a setting wants it; null is none of them."""
    table = "$ref" in option or "discriminator" in option or option.get("type") == "object"
    if isinstance(value, Mapping):
        return table
    is_list = isinstance(value, list | tuple)
    return not table and option.get("type") != "null" and (option.get("type") == "array") == is_list


def _problems(
    root: Mapping[str, Any], value: Any = None, schema: Mapping[str, Any] | None = None, path: tuple[str, ...] = ()
) -> Iterator[str]:
    """What is wrong with a recipe or, below it, with the value at a path; what the schema cannot judge passes."""
    value, schema, name = value if path else root, schema or _schema(), ".".join(path)
    members = schema.get("discriminator", {}).get("mapping", {})
    if members and isinstance(value, Mapping) and value.get("name", next(iter(members))) not in members:
        yield f"{name}.name is {value['name']!r}, and not one of {', '.join(members)}"
        return
    if members and isinstance(value, Mapping) and "name" not in value and len(path) == 1 and name in ("model", "data"):
        near = difflib.get_close_matches("name", value, n=1)
        yield f"{name}.name is missing" + (f" (did you mean name for {near[0]}?)" if near else "")
        return
    schema = _resolved(schema, value)
    if schema is None:
        return
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in schema.get("properties", {}):
                yield from _problems(root, inner, schema["properties"][key], (*path, key))
            elif schema.get("additionalProperties") is False:
                kind = f" for {name}.name = {value['name']!r}" if members and "name" in value else ""
                yield _unknown(root, (*path, key), inner, schema, kind)
    elif isinstance(value, list | tuple):
        for inner in value:
            if isinstance(inner, Mapping) and "items" in schema:
                yield from _problems(root, inner, schema["items"], path)
    elif problem := _value_problem(value, schema):
        yield f"{name} is {value!r}, and not {problem}"


def _value_problem(value: Any, schema: Mapping[str, Any]) -> str:
    """What a single value should be and is not; empty where it may pass."""
    choices = schema.get("enum", [])
    if isinstance(value, str) and choices and all(isinstance(choice, str) for choice in choices):
        return "" if value in choices else f"one of {', '.join(choices)}"
    kind = schema.get("type")
    words = {"integer": "an integer", "number": "a number", "boolean": "true or false"}
    if kind in words and isinstance(value, str) and not _is_number(value):
        return words[kind] if value.lower() not in _SWITCHES else ""
    if kind in ("integer", "number") and isinstance(value, int | float):
        bounds = {
            "exclusiveMinimum": ("above", lambda bound: value > bound),
            "minimum": ("at least", lambda bound: value >= bound),
            "exclusiveMaximum": ("below", lambda bound: value < bound),
            "maximum": ("at most", lambda bound: value <= bound),
        }
        for key, (word, holds) in bounds.items():
            if key in schema and not holds(schema[key]):
                return f"{word} {schema[key]:g}"
    return ""


def _unknown(root: Mapping[str, Any], path: tuple[str, ...], value: Any, table: Mapping[str, Any], kind: str) -> str:
    """An unknown setting in a table, with the known one that was probably meant."""
    while isinstance(value, Mapping) and len(value) == 1:  # --set optimizer.lr=1 means the setting, not the table
        ((key, value),) = value.items()
        path = (*path, key)
    meant = _suggestion(root, path, list(table["properties"]), elsewhere=not kind)
    return f"unknown setting {'.'.join(path)}{kind}" + (f" (did you mean {meant}?)" if meant else "")


def _suggestion(root: Mapping[str, Any], path: tuple[str, ...], siblings: Sequence[str], *, elsewhere: bool) -> str:
    """The known settings that are probably meant: of the same name elsewhere, or spelt alike, here before elsewhere."""
    known = list(_names(_schema(), root, ()))
    last = _OTHER_NAMES.get(path[-1], path[-1])
    text = ".".join((*path[:-1], last))
    same = [name for name in known if name.rpartition(".")[2] == last]
    if same:
        closest = [name for name in same if name.endswith(f".{text}")] or same
        return " or ".join(closest[:3])
    if near := difflib.get_close_matches(last, siblings, n=1):
        return ".".join((*path[:-1], near[0]))
    names = [name.rpartition(".")[2] for name in known] if elsewhere else []
    near = difflib.get_close_matches(last, names, n=1, cutoff=0.65)
    return next((name for name in known if near and name.rpartition(".")[2] == near[0]), "")


def _names(schema: Mapping[str, Any], tree: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Dotted names below a table; of a union whose member the tree does not name, those of all members."""
    tables = _tables(schema, tree)
    seen: set[str] = set()
    for table in tables:
        for key, inner in table.get("properties", {}).items():
            if key in seen:
                continue
            seen.add(key)
            yield ".".join((*path, key))
            below = tree.get(key) if isinstance(tree, Mapping) else None
            yield from _names(inner, below, (*path, key))


def _tables(schema: Mapping[str, Any], tree: Any) -> list[Mapping[str, Any]]:
    """The tables that a schema may stand for."""
    if "$ref" in schema:
        return _tables(_schema()["$defs"][schema["$ref"].rpartition("/")[2]], tree)
    if "discriminator" in schema:
        name = tree.get("name") if isinstance(tree, Mapping) else None
        members = schema["discriminator"]["mapping"]
        chosen = [members[name]] if name in members else members.values()
        return [table for member in chosen for table in _tables({"$ref": member}, tree)]
    if "anyOf" in schema:
        return [table for option in schema["anyOf"] for table in _tables(option, tree)]
    return [schema] if "properties" in schema else []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _typed(value: Any) -> str:
    """A value as it is written after ``--set SETTING=``."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
