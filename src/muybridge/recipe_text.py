"""Recipes as text to edit by hand: the starting recipe of a model with settings replaced, its comments kept."""

import functools
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from muybridge.recipe_schema import check_tree, find_recipe, starter_name


def starter(model: str, settings: Mapping[str, Any] | None = None) -> str:
    """The text of a commented recipe to start from.

    Args:
        model: as ``muybridge models`` names it.
        settings: values by dotted names, which replace those of the text.

    Raises:
        RecipeError: an unknown model or setting, or an impossible value.
    """
    path = find_recipe(starter_name(model))
    text = path.read_text(encoding="utf-8")
    expected = check_tree(tomllib.loads(text), settings or {}, path)
    for name, value in (settings or {}).items():
        text = _edit(text, name, value)
    assert tomllib.loads(text) == expected
    return text


def _edit(text: str, name: str, value: Any) -> str:
    """The text of a recipe with one setting replaced where it stands, or added to its table; comments stay."""
    table, _, key = name.rpartition(".")
    head, header, body = text.partition(f"[{table}]\n") if table else ("", "", text)
    if not header and table:
        tree = tomllib.loads(text)
        parent = functools.reduce(lambda below, step: below.get(step, {}), table.split("."), tree)
        return _edit(text, table, {**parent, key: value}) if parent else f"{text}\n[{table}]\n{key} = {_toml(value)}\n"
    end = re.search(r"^\[", body, re.MULTILINE)
    body, rest = (body[: end.start()], body[end.start() :]) if end else (body, "")
    line = re.compile(
        rf"^(?:# )?{re.escape(key)} = (?:\{{.*?\}}|\[.*?\]|'[^']*'|\"[^\"]*\"|[^#\n]*?)(?=\s*(?:#|$))", re.MULTILINE
    )
    entry = f"{key} = {_toml(value)}"
    body = line.sub(lambda _: entry, body, count=1) if line.search(body) else f"{entry}\n{body}"
    return f"{head}{header}{body}{rest}"


def _toml(value: Any) -> str:
    """A value on one line of TOML."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str) and "\\" in value and not {"'", "\n"} & set(value):
        return f"'{value}'"  # a regular expression is easier to read without escapes
    return json.dumps(value, ensure_ascii=False)
