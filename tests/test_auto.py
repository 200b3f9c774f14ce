"""``--model auto``: validation inside the training part, the time limit, resuming, and the answer as a run folder."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import muybridge
from muybridge import cli
from muybridge.core.errors import RecipeError, RunError
from muybridge.core.types import Record
from muybridge.data.datasets import Pack
from muybridge.data.datasets.skeleton_folder import SkeletonFolder
from muybridge.data.shards.write import pack
from muybridge.engine.auto import Attempt, SearchTable, search
from muybridge.engine.auto.folds import make_folds, share_groups, training_records
from muybridge.engine.auto.fusion import Mixture, accuracy, best_temperature, learn_mixture
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.evaluate import evaluate
from muybridge.engine.interrupt import InterruptedTrainingError, TimeUsedUpError
from muybridge.engine.train import train
from muybridge.models import LinearConfig
from tests.tiny import tiny_clip_recipe, write_videos

GROUP = r"_(s\d+)_"
SHORT = {"data.group": GROUP, "train.epochs": 4, "train.precision": "32-true"}
ENGINE = sys.modules["muybridge.engine.auto.search"]


def write_skeletons(root: Path, people: int = 5, takes: int = 2) -> Path:
    """A hand that rises, sinks or rests, of several people, ``class/x_sN_T.npz``."""
    rng = np.random.default_rng(0)
    body = rng.normal(size=(20, 3))
    for way, label in ((1, "rise"), (-1, "sink"), (0, "rest")):
        (root / label).mkdir(parents=True, exist_ok=True)
        for person in range(people):
            for take in range(takes):
                joints = np.repeat(body[None] * (1 + 0.1 * person), 10, axis=0)
                joints[:, 12, 1] += np.linspace(0, 2, 10) * way
                joints += 0.02 * rng.normal(size=joints.shape)
                np.savez(root / label / f"x_s{person}_{take}.npz", joints=joints[:, None].astype(np.float32))
    return root


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_skeletons(tmp_path_factory.mktemp("data") / "recordings")


@pytest.fixture(scope="module")
def finished(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, set[str]]:
    """A search that is done, and the ids of the recordings that were opened in it."""
    opened: set[str] = set()

    def spy(self: SkeletonFolder, record: Record, original: Any = SkeletonFolder.open) -> Any:
        opened.add(record.id)
        return original(self, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SkeletonFolder, "open", spy)
        return find(recordings, tmp_path_factory.mktemp("runs") / "run"), opened


@pytest.fixture
def one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches try one network beside the linear model."""
    monkeypatch.setattr(sys.modules["muybridge.engine.auto.candidates"], "SKELETON_MODELS", ("drnn",))


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["muybridge", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def folder(root: Path, **settings: Any) -> SkeletonFolder:
    return SkeletonFolder.model_validate({"root": root, "layout": "plain20", **settings})


def find(recordings: Path, path: Path, **more: Any) -> RunFolder:
    return search(recordings, path, starter="drnn", settings=SHORT | more.pop("settings", {}), device="cpu", **more)


# Validation inside the training part


@pytest.fixture(scope="module")
def packed(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recordings as a pack, without their groups."""
    place = tmp_path_factory.mktemp("packs") / "pack"
    pack(folder(recordings), place)
    return place


def test_groups_are_held_out_as_a_whole_and_none_that_tests(recordings: Path, tmp_path: Path):
    data = folder(recordings, group=GROUP)
    pack(data, tmp_path / "pack")
    assert make_folds(Pack(root=tmp_path / "pack")) == make_folds(data)
    groups = {record.id: record.group for record in training_records(data)}
    tested = {record.id for record in data.index("test").records}
    folds = make_folds(data)
    assert len(folds) == 3
    for fold in folds:
        assert not {groups[id_] for id_ in fold.train} & {groups[id_] for id_ in fold.val}
        assert not (fold.train | fold.val) & tested
        assert fold.train | fold.val == set(groups)
    assert sorted(id_ for fold in folds for id_ in fold.val) == sorted(groups)


@pytest.mark.parametrize("is_packed", [False, True])
def test_without_groups_a_third_of_each_class_is_held_out(recordings: Path, packed: Path, is_packed: bool):
    data = Pack(root=packed) if is_packed else folder(recordings)
    labels = {record.id: record.label for record in training_records(data)}
    folds = make_folds(data)
    assert len({fold.val for fold in folds}) == 3
    for fold in folds:
        held_out = [labels[id_] for id_ in fold.val]
        assert {held_out.count(label) for label in range(3)} == {held_out.count(0)}
        assert not fold.val & {record.id for record in data.index("test").records}


def test_two_people_validate_each_other(tmp_path: Path):
    data = folder(write_skeletons(tmp_path / "data", people=3), group=GROUP)
    assert [len(fold.val) for fold in make_folds(data)] == [6, 6]


def test_one_person_for_training_leaves_nothing_to_validate_on(tmp_path: Path):
    data = folder(write_skeletons(tmp_path / "data", people=2), group=GROUP)
    assert make_folds(data) == []


def test_folders_of_the_split_are_taken_as_they_are(tmp_path: Path):
    for part in ("train", "val", "test"):
        write_skeletons(tmp_path / "data" / part, people=2)
    (fold,) = make_folds(folder(tmp_path / "data"))
    assert all(id_.startswith("val/") for id_ in fold.val)
    assert all(id_.startswith("train/") for id_ in fold.train)


def test_groups_are_shared_evenly():
    parts = share_groups({"a": 9, "b": 3, "c": 3, "d": 3, "e": 3, "f": 3})
    assert {"a"} in parts
    assert sorted(len(part) for part in parts) == [1, 2, 3]


def test_validation_parts_follow_each_other(recordings: Path):
    def held_out(part: int) -> set[str]:
        data = folder(recordings, group=GROUP, val_fraction=0.2, val_part=part)
        return {record.group for record in data.index("val").records}

    drawn = [held_out(part) for part in range(4)]
    assert set().union(*drawn) == {record.group for record in training_records(folder(recordings, group=GROUP))}
    assert drawn[0] == held_out(4)


# Weights learnt on validation


def test_the_temperature_is_that_of_the_scores():
    rng = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 3, generator=rng)
    labels = torch.multinomial(logits.softmax(1), 1, generator=rng)[:, 0]
    assert best_temperature(logits / 4, labels) == pytest.approx(0.25, rel=0.15)


def test_a_better_model_weighs_more():
    labels = torch.arange(60) % 3
    told = torch.nn.functional.one_hot(labels, 3) * 4.0
    noise = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    mixtures = learn_mixture(noise, told, labels), learn_mixture(told, noise, labels)
    assert mixtures[0].weight > 0.5 > mixtures[1].weight
    assert mixtures[0].top1 == mixtures[1].top1 == accuracy(told, labels) == 100


# The search


def test_the_answer_is_a_run_like_any_other(recordings: Path, finished: tuple[RunFolder, set[str]]):
    run, _ = finished
    table = SearchTable.read(run.path)
    assert table is not None
    kinds = {(attempt.model, attempt.epochs, attempt.part) for attempt in table.attempts}
    assert {("linear", 0, None), ("drnn", 1, 0), ("sta_lstm", 1, 0), ("drnn", 4, 0), ("sta_lstm", 4, 2)} <= kinds
    assert all(attempt.state == "done" for attempt in table.attempts)
    assert table.choice["model"] in ("linear", "drnn", "sta_lstm", "fused")
    assert not (run.path / "candidates").exists()
    split = run.split()
    assert split is not None
    assert split.ids("train") == {record.id for record in training_records(folder(recordings, group=GROUP))}
    assert evaluate(run).count == len(split.ids("test"))
    assert muybridge.load(run.path)(recordings / "rise" / "x_s0_0.npz").labels


def test_the_test_part_is_not_opened(recordings: Path, finished: tuple[RunFolder, set[str]]):
    data = folder(recordings, group=GROUP)
    _, opened = finished
    assert opened == {record.id for record in training_records(data)}
    assert not opened & {record.id for record in data.index("test").records}


def test_the_same_seed_gives_the_same_choice(recordings: Path, tmp_path: Path, finished: tuple[RunFolder, set[str]]):
    first, second = finished[0], find(recordings, tmp_path / "run")
    figures = [
        [(one.model, one.epochs, one.part, one.top1, one.loss) for one in SearchTable.read(run.path).attempts]  # pyright: ignore[reportOptionalMemberAccess]
        for run in (first, second)
    ]
    assert figures[0] == figures[1]
    assert (first.path / "weights.safetensors").read_bytes() == (second.path / "weights.safetensors").read_bytes()


def test_used_up_time_leaves_the_linear_model(packed: Path, tmp_path: Path):
    settings = {"train.epochs": 4, "train.precision": "32-true"}
    run = search(packed, tmp_path / "run", starter="drnn", settings=settings, device="cpu", minutes=1e-6)
    table = SearchTable.read(run.path)
    assert table is not None
    assert table.choice["model"] == "linear"
    assert "no candidate ended within the time limit" in "\n".join(table.lines())
    assert {attempt.state for attempt in table.attempts if attempt.epochs} == {"skipped"}
    assert run.recipe().model.name == "linear"
    assert evaluate(run).top1 > 40


def test_a_training_that_does_not_end_in_time_is_stopped(
    recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(ENGINE._Search, "_limit", lambda *_: 1e-4)
    run = find(recordings, tmp_path / "run", settings={"train.batch_size": 2})
    table = SearchTable.read(run.path)
    assert table is not None
    assert [one.state for one in table.attempts if one.epochs] == ["stopped", "stopped"]
    assert table.choice["model"] == "linear"


def test_a_training_with_a_time_limit_can_be_resumed(tmp_path: Path):
    recipe = tiny_clip_recipe(write_videos(tmp_path / "videos"))
    with pytest.raises(TimeUsedUpError, match="stopped in stage main, step 1 of"):
        train(recipe, tmp_path / "run", seconds=0)
    assert train(recipe, tmp_path / "run", resume=True, seconds=600).finished


def test_a_candidate_that_fails_is_left_out(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(recipe: Any, *args: Any, original: Any = ENGINE.train, **named: Any) -> RunFolder:
        if recipe.model.name == "drnn":
            raise RunError("no memory", expected="some", hint="buy some")
        return original(recipe, *args, **named)

    monkeypatch.setattr(ENGINE, "train", fail)
    table = SearchTable.read(find(recordings, tmp_path / "run").path)
    assert table is not None
    states = {(one.model, one.state) for one in table.attempts if one.model not in ("linear", "fused")}
    assert states == {("drnn", "failed"), ("sta_lstm", "done")}
    assert "failed: no memory" in "\n".join(table.lines())
    assert table.choice["model"] != "drnn"


def test_nothing_to_validate_on_is_said(tmp_path: Path):
    run = find(write_skeletons(tmp_path / "data", people=2), tmp_path / "run")
    table = SearchTable.read(run.path)
    assert table is not None
    assert table.choice == {
        "model": "linear",
        "reason": "linear, as the training part is too small to validate anything else on",
    }


@pytest.mark.usefixtures("one_network")
def test_what_ended_is_not_repeated(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Interrupted in its third training, the search goes on with it, and ends as without an interruption."""
    trained: list[str] = []

    def interrupted(recipe: Any, path: Path, *args: Any, original: Any = ENGINE.train, **named: Any) -> RunFolder:
        if len(trained) == 2:
            trained.append("interrupted")
            raise InterruptedTrainingError("stopped", expected="", hint="")
        trained.append(path.name)
        return original(recipe, path, *args, **named)

    monkeypatch.setattr(ENGINE, "train", interrupted)
    with pytest.raises(InterruptedTrainingError, match=r"Resume with `muybridge train --run .*run --resume`"):
        find(recordings, tmp_path / "run")
    with pytest.raises(RunError, match="already contains a search for a model"):
        find(recordings, tmp_path / "run")
    with pytest.raises(RunError, match=r"started with other settings: train\.seed"):
        find(recordings, tmp_path / "run", resume=True, settings={"train.seed": 1})
    resumed = find(recordings, tmp_path / "run", resume=True)
    assert trained.count("drnn-1-0") == trained.count("drnn-4-0") == 1
    whole = find(recordings, tmp_path / "whole")
    assert (resumed.path / "weights.safetensors").read_bytes() == (whole.path / "weights.safetensors").read_bytes()


def test_a_damaged_table_is_refused(tmp_path: Path):
    table = SearchTable(tmp_path, {}, 10.0, attempts=[Attempt("drnn", 3, 0, "done", 1.0, 50.0, 0.7, 4)])
    table.write()
    read = SearchTable.read(tmp_path)
    assert read == table
    (tmp_path / "auto.json").write_text('{"attempts": 3}')
    with pytest.raises(RunError, match=r"auto\.json: damaged \(TypeError\).*Remove the folder and search again"):
        SearchTable.read(tmp_path)


def test_settings_of_one_model_are_refused(recordings: Path, tmp_path: Path):
    with pytest.raises(RecipeError, match=r"model\.hidden with --model auto.*or name one model"):
        find(recordings, tmp_path / "run", settings={"model.hidden": 8})


# The command


@pytest.mark.usefixtures("one_network")
def test_of_skeletons(call, recordings: Path, tmp_path: Path):
    words = ["train", "--model", "auto", "--data", str(recordings), "--group", GROUP, "--epochs", "4", "--run", "run"]
    code, _, err = call(*words, "--dry-run")
    assert code == 0, err
    assert "to try: linear, drnn (4 epochs); validated inside the training part, on 12 and 6 and 6 recordings" in err
    assert not (tmp_path / "run").exists()
    code, _, err = call(*words)
    assert code == 0, err
    assert "baselines, fitted on" in err
    assert "tried:" in err
    assert "chosen: " in err
    assert (tmp_path / "run" / "baseline.json").is_file()
    code, out, err = call("test", "run", "--json")
    assert code == 0, err
    assert json.loads(out)["baseline"]["name"] == "linear model"
    code, _, err = call("predict", "run", str(recordings / "rise"))
    assert code == 0, err
    code, _, err = call("show", "run")
    assert code == 0, err
    code, _, err = call(*words)
    assert code == 2
    assert "already contains a run" in err
    code, _, err = call("train", "--run", "run", "--resume")
    assert code == 0, err
    assert "this run is trained already" in err


@pytest.mark.usefixtures("one_network")
def test_an_interrupted_search_is_resumed_by_its_folder(
    call, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(*_: Any, **__: Any) -> None:
        raise InterruptedTrainingError("stopped", expected="", hint="")

    original = ENGINE.train
    monkeypatch.setattr(ENGINE, "train", interrupt)
    words = ["--model", "auto", "--data", str(recordings), "--group", GROUP, "--epochs", "2", "--no-baseline"]
    code, _, err = call("train", *words, "--run", "run")
    assert code == 130
    assert "muybridge train --run run --resume" in err
    monkeypatch.setattr(ENGINE, "train", original)
    code, _, err = call("train", "--run", "run", "--resume", "--no-baseline")
    assert code == 0, err
    assert RunFolder(tmp_path / "run").finished


def test_of_videos(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    candidates = sys.modules["muybridge.engine.auto.candidates"]
    monkeypatch.setattr(candidates, "VIDEO_MODELS", ("tsn",))
    monkeypatch.setattr(candidates, "find_spec", lambda _: None)
    root = write_videos(tmp_path / "videos", takes=1)
    words = ["--group", "/([a-z])_", "--no-pretrained", "--size", "32", "--epochs", "1", "--set=train.num_workers=0"]
    code, _, err = call("train", "--model", "auto", "--data", str(root), *words, "--run", "run")
    assert code == 0, err
    table = SearchTable.read(tmp_path / "run")
    assert table is not None
    assert {"linear", "tsn"} <= {attempt.model for attempt in table.attempts if attempt.state == "done"}
    code, _, err = call("predict", "run", str(root / "dawn"))
    assert code == 0, err
    code, _, err = call("show", "run")
    assert code == 0, err


def test_what_is_solved_for_is_a_candidate_and_can_be_fused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    candidates = sys.modules["muybridge.engine.auto.candidates"]
    monkeypatch.setattr(candidates, "VIDEO_MODELS", ("fisher_vectors",))
    root = write_videos(tmp_path / "videos", takes=1)
    settings = {"data.group": "/([a-z])_", "train.epochs": 3, "train.num_workers": 0, "model.size": 32}
    recipes = candidates.candidate_recipes(("fisher_vectors",), root, settings)
    assert recipes["fisher_vectors"].train.epochs == 0
    assert recipes["fisher_vectors"].model.size == 64
    small = {"model.gaussians": 2, "model.pca_components": 4, "model.frames": 12}
    found = {name: recipe.with_settings(small) for name, recipe in recipes.items()}
    monkeypatch.setattr(sys.modules["muybridge.engine.auto.search"], "candidate_recipes", lambda *_: found)
    run = search(root, tmp_path / "run", starter="fisher_vectors", settings=settings, minutes=5)
    table = SearchTable.read(tmp_path / "run")
    assert table is not None
    states = {(one.model, one.epochs, one.part): one.state for one in table.attempts}
    assert set(states.values()) == {"done"}
    assert {("fisher_vectors", 0, 0), ("fisher_vectors", 0, 1), ("fused", 0, None)} <= states.keys()
    # The fused answer has the weights of both, whichever was chosen here.
    mixture = Mixture(weight=0.4, temperature=1.0, top1=0.0, loss=0.0)
    answer = candidates.final_fused(found["fisher_vectors"], 0, LinearConfig(statistics="frames"), mixture)
    fused = train(answer, tmp_path / "fused").model()
    assert fused.network.classifier.weight.abs().max() > 0
    assert fused.linear.classifier.weight.abs().max() > 0
    assert run.finished


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--model", "auto"), "--model auto without --data"),
        (("folder_drnn", "--model", "auto"), "--model auto with a recipe or --init-from"),
        (("--model", "drnn", "--data", ".", "--minutes", "3"), "--minutes without --model auto"),
    ],
)
def test_options_that_do_not_go_together(call, words: tuple[str, ...], problem: str):
    code, _, err = call("train", *words)
    assert code == 2
    assert problem in err
