"""Documentation that agrees with the code: the list of settings, the differences from the papers, links.

``python -m tests.test_docs`` rewrites the settings list in docs/recipes.md from the code.
"""

import inspect
import json
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from muybridge import recipe_schema
from muybridge.data.clip_ops import ClipAugment
from muybridge.data.datasets import AnyDataset
from muybridge.data.prepare import FlowSource, ViewConfig
from muybridge.data.skeleton_augment import SkeletonAugment
from muybridge.models import AnyModel
from muybridge.models.config import ModelConfig
from muybridge.models.drnn import HOG3DConfig
from muybridge.recipe import (
    SGD,
    Adam,
    AdamW,
    Expects,
    ParameterGroup,
    Recipe,
    RMSprop,
    Schedule,
    SourceRun,
    Stage,
    Train,
)

ROOT = Path(__file__).parents[1]
MARK = "<!-- settings: tests/test_docs.py compares this list with the code -->\n"


def members(union: object) -> tuple[type[BaseModel], ...]:
    inner = get_args(union)[0]
    return get_args(inner) or (inner,)


def settings_list() -> str:
    """Every table of a recipe with its settings, their defaults, and what their docstrings say."""
    tables: list[tuple[str, type[BaseModel]]] = [("train", Train)]
    tables += [(f'train.optimizer, name = "{kind().name}"', kind) for kind in (SGD, Adam, AdamW, RMSprop)]
    tables += [("train.schedule", Schedule), ("train.param_groups", ParameterGroup), ("train.stages", Stage)]
    tables += [("train.init_from", SourceRun)]
    tables += [
        ("view", ViewConfig),
        ("flow", FlowSource),
        ("augment.clip", ClipAugment),
        ("augment.skeleton", SkeletonAugment),
    ]
    tables += [(f'model, name = "{kind.model_fields["name"].default}"', kind) for kind in members(AnyModel)]
    tables += [("model.hog3d", HOG3DConfig)]
    tables += [(f'data, name = "{kind.model_fields["name"].default}"', kind) for kind in members(AnyDataset)]
    tables += [("expects", Expects)]
    text = []
    for title, kind in tables:
        meanings = explained(kind)
        text.append(
            f"\n### `[{title.partition(',')[0]}]`{title.partition(',')[2] and ',' + title.partition(',')[2]}\n\n"
        )
        text.append(f"{inspect.getdoc(kind).splitlines()[0]}\n\n")  # pyright: ignore[reportOptionalMemberAccess]
        for name, field in kind.model_fields.items():
            if name == "name" and kind is not Schedule:
                continue
            default = (
                "required" if field.is_required() else f"`{format_value(field.get_default(call_default_factory=True))}`"
            )
            text.append(f"* `{name}` ({default}): {meanings.get(name, '')}".rstrip(": ") + "\n")
    return "".join(text)


def explained(kind: type[BaseModel]) -> dict[str, str]:
    """What the Attributes sections of a class and its parents say of each setting."""
    meanings: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        section = re.search(r"Attributes:\n(.*?)(\n\n|\Z)", inspect.cleandoc(parent.__doc__ or ""), re.DOTALL)
        if section:
            entries = re.split(r"\n(?=    \w[\w, ]*: )", "\n" + section[1])
            for entry in filter(None, (entry.strip() for entry in entries)):
                names, _, meaning = entry.partition(":")
                meaning = re.sub(r":\w+:`~?(?:\w+\.)*(\w+)`", r"`\1`", " ".join(meaning.split()))
                meanings |= {name.strip(): meaning for name in names.split(",")}
    return meanings


def format_value(value: object) -> str:
    if isinstance(value, ModelConfig):  # its own table lists its settings
        return f'name = "{type(value).model_fields["name"].default}"'
    if isinstance(value, BaseModel):
        return ", ".join(f"{key} = {format_value(inner)}" for key, inner in value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(format_value, value)) + "]"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def test_every_setting_is_documented():
    written = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8").partition(MARK)[2]
    assert written == settings_list(), "run `python -m tests.test_docs` to rewrite the list"


def test_every_setting_is_explained():
    for kind in (
        Train,
        Schedule,
        ParameterGroup,
        Stage,
        SourceRun,
        ViewConfig,
        FlowSource,
        ClipAugment,
        SkeletonAugment,
        HOG3DConfig,
        *members(AnyModel),
        *members(AnyDataset),
    ):
        undocumented = set(kind.model_fields) - set(explained(kind)) - {"name"}
        assert not undocumented, f"{kind.__name__} does not document {undocumented}"


@pytest.mark.parametrize("kind", members(AnyModel))
def test_every_difference_is_explained_on_the_models_page(kind: type[BaseModel]):
    spec = kind.spec  # pyright: ignore[reportAttributeAccessIssue]
    page = (ROOT / "docs" / "papers" / f"{spec.name}.md").read_text(encoding="utf-8")
    for difference, reason in spec.differences.items():
        assert f"- **{difference}**" in page, difference
        assert reason


def test_links_between_documents_lead_somewhere():
    """Pages of the site that are generated when it is built are checked by that build."""
    generated = re.compile(r"(\.\./)?(errors\.md|api/\w+\.md)")
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8")):
            exists = (page.parent / target).exists() or generated.fullmatch(target)
            assert exists, f"{page.name} -> {target}"


def schema() -> str:
    """The JSON Schema of recipes, without descriptions; each setting on a line of its own, so that changes merge."""

    def bare(node: object) -> object:
        if isinstance(node, dict):
            return {key: bare(inner) for key, inner in node.items() if key != "title" or not isinstance(inner, str)}
        return [bare(inner) for inner in node] if isinstance(node, list) else node

    tree = Recipe.model_json_schema()
    for table in (tree, *tree["$defs"].values()):
        table.pop("description", None)
        for field in table.get("properties", {}).values():
            field.pop("default", None)
    return json.dumps(bare(tree), indent=1) + "\n"


def test_the_schema_has_every_setting():
    written = recipe_schema.FILE.read_text(encoding="utf-8")
    assert written == schema(), "run `python -m tests.test_docs` to rewrite the schema"


if __name__ == "__main__":
    recipe_schema.FILE.write_text(schema(), encoding="utf-8")
    page = ROOT / "docs" / "recipes.md"
    page.write_text(page.read_text(encoding="utf-8").partition(MARK)[0] + MARK + settings_list(), encoding="utf-8")
