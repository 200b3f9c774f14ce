"""What every recipe that comes with the package promises."""

import re
import tomllib
from functools import partial
from pathlib import Path

import pytest
import torch

from muybridge.core.rng import make_generator
from muybridge.data.datasets.official import OfficialVideos
from muybridge.data.prepare import ClipPreparation
from muybridge.engine.optim import build_optimizer, rate_factor
from muybridge.media.video import Video
from muybridge.recipe import Recipe, load_recipe, shipped_recipes
from tests.official import (
    fabricate_diving48,
    fabricate_finegym,
    fabricate_kinetics,
    fabricate_something_v1,
    fabricate_something_v2,
)

NAMES = sorted(shipped_recipes())
TREES = {name: tomllib.loads(path.read_text(encoding="utf-8")) for name, path in shipped_recipes().items()}
# A folder recipe names no folder that exists; it is tested with one in test_recipe.py.
COMPLETE = [name for name in NAMES if not name.startswith("folder_")]
# Recipes whose promise is a published figure: their data is large, and made up here. See test_video_lstm_recipes.py and
# test_drnn_recipes.py for those of VideoLSTM and dRNN.
PUBLISHED = [
    name
    for name, tree in TREES.items()
    if tree.get("expects", {}).get("source", "").startswith("published")
    and tree["model"]["name"] not in ("video_lstm", "drnn", "sta_lstm")
]


def count_classes(recipe: Recipe) -> int:
    """Of a benchmark whose names are in files that are not here, as many as were published."""
    data = recipe.data
    return data.official_counts()["classes"] if isinstance(data, OfficialVideos) else len(data.labels())


OFFICIAL = {
    "something_v1": partial(fabricate_something_v1, frames=50, train=((1, 86),)),
    "something_v2": partial(fabricate_something_v2, frames=50, train=((1, 86),)),
    "kinetics": partial(fabricate_kinetics, train=("abseiling",)),
    "diving48": partial(fabricate_diving48, train=(("a_00000", 0),)),
    "finegym": partial(fabricate_finegym, train=(("ab_E_123456", "A_0000_0001", 0),)),
}


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
        with torch.device("meta"):  # names are enough, and drawing the largest takes a minute
            model = recipe.stage_model(stage).without_pretrained().build(count_classes(recipe), recipe.data.holds())
        prefixes = {*stage.freeze, *stage.init_from} - {""}
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


@pytest.fixture
def made_up(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe that trains on one video of 50 frames, where its comment says the files belong; label 86."""
    monkeypatch.setenv("MUYBRIDGE_DATA", str(tmp_path))
    recipe = load_recipe(name)
    assert isinstance(recipe.data, OfficialVideos)
    OFFICIAL[recipe.data.name](tmp_path / recipe.data.default_folder_name())
    return recipe


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_reads_lists_where_it_says(name: str, made_up: Recipe):
    """Training samples as the model takes them; what a mirror turns into another class becomes it, or is spared."""
    (record,) = made_up.data.index("train").records
    prepare = made_up.preparation(augment=True)
    assert isinstance(prepare, ClipPreparation)
    takes, labels = prepare.takes, set()
    video = made_up.data.open(record)
    assert isinstance(video, Video)
    with video:
        for draw in range(8):
            inputs, label = prepare(video, record.label, make_generator(draw))
            assert inputs["video"].shape == (1, takes.segments * takes.frames_per_segment, 3, 224, 224)
            labels.add(label)
    assert labels == ({86, 87} if name.startswith("tdn_something") else {record.label})


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_tests_as_the_paper_does(name: str, made_up: Recipe):
    (record,) = made_up.data.index("train").records
    dense = name == "tdn_kinetics400"
    assert made_up.preparation().views == {"tdn_kinetics400": 30, "selfy_diving48": 2}.get(name, 1)
    prepare = made_up.with_settings({"view.clips": 1}).preparation()
    assert isinstance(prepare, ClipPreparation)
    video = made_up.data.open(record)
    assert isinstance(video, Video)
    with video:
        inputs, _ = prepare(video)
    assert inputs["video"].shape[0] == (3 if dense else 1)
    assert inputs["video"].shape[3:] == ((256, 256) if dense else (224, 224))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_recipe_trains_as_the_paper_does(name: str, made_up: Recipe):
    """Rates and weight decay of each group of parameters; the mirror pairs of Something-Something by number."""
    recipe = made_up
    train, promise = recipe.train, recipe.expects
    assert promise is not None
    assert promise.top1 or promise.mean_class_accuracy
    base = 0.02 if name == "tdn_kinetics400" else 0.01
    rates = [base * rate_factor(train.schedule, epoch, train.epochs) for epoch in range(train.epochs)]
    drops = [epoch for epoch in range(1, train.epochs) if rates[epoch] != rates[epoch - 1]]
    steps = {"tdn_kinetics400": [50, 75, 90], "tdn_something_v1": [30, 45, 55], "tdn_something_v2": [30, 45, 55]}
    assert drops == steps.get(name, [30, 40])
    assert rates[-1] == pytest.approx(base * 0.1 ** len(drops))
    model = recipe.model.without_pretrained().build(count_classes(recipe))
    optimizer = build_optimizer(train.optimizer, model, train.param_groups)
    assert isinstance(optimizer, torch.optim.SGD)
    found = {
        (group["lr"] * group["lr_mult"], group["weight_decay"]): len(group["params"])
        for group in optimizer.param_groups
    }
    decay = 1e-4 if name == "tdn_kinetics400" else 5e-4
    if recipe.model.name == "tdn":  # the authors declare groups, and do not use them
        assert found.keys() == {(base, decay)}
    else:  # one bias: the classifier's; two parameters to a norm
        norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
        assert found[base, 0.0] == 2 * norms
        assert found[2 * base, 0.0] == 1
        assert found.keys() == {(base, 0.0), (2 * base, 0.0), (base, decay)}
    mirror = recipe.data.mirror()
    assert mirror == ({86: 87, 87: 86, 93: 94, 94: 93, 166: 167, 167: 166} if "something" in name else {})
