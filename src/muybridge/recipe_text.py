"""Recipes as text to edit by hand: the starting recipe of a model with settings replaced, its comments kept."""

import functools
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from muybridge.recipe_schema import check_tree, find_recipe, starter_name


def starter(
    model: str, settings: Mapping[str, Any] | None = None, reasons: Mapping[str, tuple[Any, str]] | None = None
) -> str:
    """The text of a commented recipe to start from.

    Args:
        model: as ``muybridge models`` names it.
        settings: values by dotted names, which replace those of the text.
        reasons: values that follow from the recordings by dotted names, each with the reason, which becomes a comment.

    Raises:
        RecipeError: an unknown model or setting, or an impossible value.
    """
    path = find_recipe(starter_name(model))
    text = path.read_text(encoding="utf-8")
    expected = check_tree(tomllib.loads(text), settings or {}, path)
    for name, value in (settings or {}).items():
        text = _edit(text, name, value)
    assert tomllib.loads(text) == expected
    for name, (value, reason) in (reasons or {}).items():
        text = _edit(text, name, value, f"  # {reason}")
    return text


def _edit(text: str, name: str, value: Any, comment: str = "") -> str:
    """The text of a recipe with one setting replaced where it stands, or added to its table.

    Comments stay, but for the one of the setting where another is given.
    """
    table, _, key = name.rpartition(".")
    head, header, body = text.partition(f"[{table}]\n") if table else ("", "", text)
    if not header and table:
        tree = tomllib.loads(text)
        parent = functools.reduce(lambda below, step: below.get(step, {}), table.split("."), tree)
        if parent:
            return _edit(text, table, {**parent, key: value}, comment)
        return f"{text}\n[{table}]\n{key} = {toml_value(value)}{comment}\n"
    end = re.search(r"^\[", body, re.MULTILINE)
    body, rest = (body[: end.start()], body[end.start() :]) if end else (body, "")
    line = re.compile(
        rf"^(?:# )?{re.escape(key)} = (?:\{{.*?\}}|\[.*?\]|'[^']*'|\"[^\"]*\"|[^#\n]*?)(?=\s*(?:#|$))"
        + ("[^\n]*" if comment else ""),
        re.MULTILINE,
    )
    entry = f"{key} = {toml_value(value)}{comment}"
    body = line.sub(lambda _: entry, body, count=1) if line.search(body) else f"{entry}\n{body}"
    return f"{head}{header}{body}{rest}"


def toml_value(value: Any) -> str:
    """A value on one line of TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, str) and "\\" in value and not {"'", "\n"} & set(value):
        return f"'{value}'"  # a regular expression is easier to read without escapes
    return json.dumps(value, ensure_ascii=False)
