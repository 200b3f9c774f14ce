"""What of a run may leave this machine: no path of a folder, no name of a recording."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from muybridge.engine.checkpoint import comparable_settings
from muybridge.engine.metrics import Scores
from muybridge.recipe import Recipe


def public_recipe(recipe: Recipe) -> Recipe:
    """A recipe whose paths are the last parts of what they were: ``/home/me/clips`` is ``clips``.

    The list of recordings that are left out is empty; groups that the split names stay, as they are its protocol.
    """
    settings = _without_folders(recipe.model_dump(exclude_none=True))
    if "exclude" in settings["data"]:
        settings["data"]["exclude"] = []
    return Recipe.model_validate(settings)


def _without_folders(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_folders(item) for key, item in value.items()}
        case list() | tuple():
            return [_without_folders(item) for item in value]
        case Path():
            return value.name if value.is_absolute() else value.as_posix()
        case str() if Path(value).is_absolute() and Path(value).exists():  # settings that may be a file or a pattern
            return Path(value).name
    return value


def public_facts(facts: dict[str, Any], recipe: Recipe) -> dict[str, Any]:
    """``run.json`` for a public recipe."""
    return facts | {"settings": comparable_settings(recipe), "paths": {}}


def public_scores(path: Path) -> dict[str, Any]:
    """The scores of a test, without what says which recordings changed."""
    saved = json.loads(path.read_text(encoding="utf-8"))
    return {field.name: saved[field.name] for field in fields(Scores) if field.name in saved}
