"""The recipes of dRNN on KTH: the paper's settings, and a training on a miniature in the form of the archives."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from muybridge.core.errors import DataError
from muybridge.data.datasets import KTH
from muybridge.engine.evaluate import evaluate
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.models import DRNNConfig
from muybridge.recipe import Adam, load_recipe
from tests.official import put

KTH_RECIPES = ["drnn_kth1", "drnn_kth2"]
ACTIONS = ("boxing", "handclapping", "handwaving", "jogging", "running", "walking")
SMALL = {
    "model.hidden": 16,
    "model.pca": 24,
    "model.steps": 5,
    "model.truncate": False,
    "train.epochs": 40,
    "train.optimizer.lr": 0.01,
    "train.precision": "32-true",
    "train.save_seconds": 1e9,
}
CPU = Runtime(device="cpu")


def write_kth(root: Path, people: list[int]) -> None:
    """Videos of 30 frames of 160x120 at 25 a second: a figure on gray that sways or walks in the way of its class."""
    lines = ["Training:   person11, 12, 13, 14, 15, 16, 17, 18"]
    rng = np.random.default_rng(0)
    for action in ACTIONS:
        (root / action).mkdir(parents=True)
        for person in people:
            name = f"person{person:02}_{action}_d1"
            lines.append(f"{name}\t\tframes\t1-15, 16-30")
            write_figure(root / action / f"{name}_uncomp.avi", ACTIONS.index(action), rng)
    put(root / "00sequences.txt", "\r\n".join(lines) + "\r\n")


def write_figure(path: Path, action: int, rng: np.random.Generator) -> None:
    place, light = rng.integers(-8, 8, 2), int(rng.integers(150, 250))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuvj420p"
        for time in range(30):
            sway = round(12 * np.sin(time * (0.4, 0.8, 0.4)[action])) if action < 3 else 0
            across = (0, 0, 0, 3, 5, 1)[action] * time + (0, 0, 0, 30, 4, 60)[action]
            picture = np.full((120, 160, 3), 100, np.uint8)
            top = 40 + place[0] + (sway if action == 2 else 0)
            left = (across or 70) + place[1] + (sway if action < 2 else 0)
            picture[top : top + 40, max(0, left) : left + 14] = light
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people of the first split's test part, and four of its training part."""
    root = tmp_path_factory.mktemp("data")
    tested = sorted(KTH(protocol="random")._tested())
    others = [person for person in range(1, 26) if person not in tested]
    write_kth(root / "kth", [*tested[:3], *others[:4]])
    return root


@pytest.mark.parametrize("name", KTH_RECIPES)
def test_the_network_is_the_papers(name: str):
    recipe = load_recipe(name)
    config = recipe.model
    assert isinstance(config, DRNNConfig)
    assert (config.hidden, config.pca, config.order, config.pooling, config.truncate) == (300, 450, 2, "last", "strict")
    assert (recipe.train.optimizer, recipe.train.epochs) == (Adam(lr=1e-4), 50)
    data = recipe.data
    assert isinstance(data, KTH)
    assert (data.recordings, data.protocol) == ("videos" if name.endswith("1") else "sequences", "random")
    assert len(data.folds()) == 5
    assert {len(data.model_copy(update={"fold": fold})._tested()) for fold in range(1, 6)} == {9}
    counts = {
        order: sum(p.numel() for p in config.model_copy(update={"order": order}).build(6).parameters())
        for order in (-1, 1, 2)
    }
    h, d, c = 300, 450, 6
    assert counts == {order: 4 * h * (d + h + 1) + 3 * (order + 1) * h**2 + c * (h + 1) for order in (-1, 1, 2)}
    model = config.build(6)
    assert model.descriptors.mean.shape == (960,)  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", KTH_RECIPES)
def test_one_command_trains_a_miniature(name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MUYBRIDGE_DATA", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = load_recipe(name).with_settings(SMALL)
    people = {split: {record.group for record in recipe.data.index(split).records} for split in ("train", "test")}
    assert (len(people["train"]), len(people["test"])) == (4, 3)
    assert not people["train"] & people["test"]
    run = train(recipe, tmp_path / "run", runtime=CPU)
    scores = evaluate(run, "test", runtime=CPU)
    assert scores.top1 > 60  # chance is 17
    stored = list((tmp_path / "cache").rglob("*.safetensors"))
    assert len(stored) == 42 * (1 if name.endswith("1") else 2)


def test_no_test_descriptor_enters_the_components(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With other recordings in the test part they are the same."""
    monkeypatch.setenv("MUYBRIDGE_DATA", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = load_recipe("drnn_kth2").with_settings(SMALL | {"train.epochs": 0})
    whole = train(recipe, tmp_path / "whole", runtime=CPU).model().state_dict()
    lines = (root / "kth" / "00sequences.txt").read_text().splitlines()
    tested = tuple(f"person{person:02}" for person in sorted(KTH(protocol="random")._tested())[:2])
    fewer = put(tmp_path / "fewer.txt", "\n".join(line for line in lines if not line.startswith(tested)) + "\n")
    other = recipe.with_settings({"data.sequences": str(fewer)})
    assert len(other.data.index("test")) < len(recipe.data.index("test"))
    same = train(other, tmp_path / "other", runtime=CPU).model().state_dict()
    for name in ("descriptors.mean", "descriptors.deviation", "descriptors.basis"):
        assert torch.equal(whole[name], same[name])


def test_a_range_past_the_end_of_its_file_is_named(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The official files have one, which is excluded; any other is a damaged copy."""
    monkeypatch.setenv("MUYBRIDGE_DATA", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    recipe = load_recipe("drnn_kth2").with_settings(SMALL)
    person = recipe.data.index("train").records[0].id.split("_")[0]
    text = (root / "kth" / "00sequences.txt").read_text()
    line = f"{person}_boxing_d1\t\tframes\t1-15, 16-30"
    wrong = put(tmp_path / "wrong.txt", text.replace(line, line.replace("16-30", "16-95")))
    assert wrong.read_text() != text
    with pytest.raises(DataError, match=rf"'{person}_boxing_d1_2': the span 0.6 to 3.8 s is not all inside"):
        train(recipe.with_settings({"data.sequences": str(wrong)}), tmp_path / "run", runtime=CPU)
