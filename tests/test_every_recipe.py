"""What every recipe that comes with the package promises."""

import re
import tomllib
from pathlib import Path

import pytest

from muybridge.recipe import Recipe, load_recipe, shipped_recipes

NAMES = sorted(shipped_recipes())
TREES = {name: tomllib.loads(path.read_text(encoding="utf-8")) for name, path in shipped_recipes().items()}
# A folder recipe names no folder that exists; it is tested with one in test_recipe.py.
COMPLETE = [name for name in NAMES if not name.startswith("folder_")]


@pytest.mark.parametrize("name", COMPLETE)
def test_it_loads(name: str):
    recipe = load_recipe(name)
    assert recipe.title
    assert recipe == Recipe.model_validate(TREES[name])


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_with_its_promise(name: str):
    lines = shipped_recipes()[name].read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert lines[0].endswith((".", ":", ",")) or lines[1].startswith("# ")


@pytest.mark.parametrize("name", COMPLETE)
def test_its_model_builds_for_its_data(name: str):
    recipe = load_recipe(name)
    for stage in recipe.stages():
        model = recipe.stage_model(stage).build(len(recipe.data.labels()), recipe.data.holds())
        prefixes = {*stage.freeze, *stage.take} - {""}
        names = [parameter for parameter, _ in model.named_parameters()]
        for prefix in prefixes:
            assert any(parameter.startswith(prefix) for parameter in names), (stage.name, prefix)


@pytest.mark.parametrize("name", NAMES)
def test_no_inheritance_and_no_private_paths(name: str):
    text = shipped_recipes()[name].read_text(encoding="utf-8")
    assert not re.search(r"^\s*(base|inherit|extends)\s*=", text, re.MULTILINE)
    assert not re.search(r'"(/|~|[A-Z]:\\)', text)


def test_every_claim_stands_in_the_results():
    results = (Path(__file__).parents[1] / "docs" / "results.md").read_text(encoding="utf-8")
    for name, tree in TREES.items():
        if "expects" in tree:
            assert f"`{name}`" in results, name
