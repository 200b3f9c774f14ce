"""A warm-up gives a training all parameters but the classifier's, is trained once, and is refused in words."""

import shutil
from pathlib import Path
from threading import Thread

import pytest
import torch

from muybridge.core.errors import RecipeError, RunError
from muybridge.data.datasets import MovingShapes, Playback, StickFigures
from muybridge.engine import warm_up
from muybridge.engine.checkpoint import RunFolder
from muybridge.engine.init_from import continued_recipe
from muybridge.engine.initialize import build_model
from muybridge.engine.interrupt import InterruptedTrainingError
from muybridge.engine.journal import Journal, Reporter
from muybridge.engine.locking import one_at_a_time
from muybridge.engine.runtime import Runtime
from muybridge.engine.train import train
from muybridge.engine.warm_up import carried_prefixes, warm_up_recipe, with_warm_up
from muybridge.engine.weights import checksum, read_weights
from muybridge.recipe import Recipe, SourceRun
from tests.test_every_model import KINDS, known
from tests.test_flow_path import flow_recipe
from tests.test_train import KillAt, KilledError, StopAt, assert_equal_weights
from tests.tiny import tiny_clip_recipe, tiny_recipe, write_recordings, write_videos

CPU = Runtime("32-true", "cpu")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"), takes=1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and warm-ups of a few steps on a few recordings."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(warm_up, "SKELETON_STEPS", 4)
    monkeypatch.setattr(warm_up, "CLIP_STEPS", 3)
    monkeypatch.setattr(warm_up, "_FIGURES", {"people": 2, "test_people": 1, "repetitions": 1})
    monkeypatch.setattr(warm_up, "_SCENES", {"scenes": 2, "test_scenes": 1})
    return tmp_path / "cache" / "muybridge" / "warm_up"


class Listener(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def source_of(run: RunFolder) -> dict[str, torch.Tensor]:
    """The weights that a run started from, as its recipe names them."""
    (source,) = set(run.recipe().train.init_from.values())
    tensors = read_weights(source.run / "weights.safetensors")
    assert checksum(tensors) == source.checksum
    return tensors


@pytest.mark.parametrize("kind", ["synthetic", "self"])
@pytest.mark.parametrize("is_video", [False, True])
def test_all_parameters_but_the_classifiers_are_carried_over(
    recordings: Path, videos: Path, tmp_path: Path, kind: str, is_video: bool
):
    recipe = tiny_clip_recipe(videos) if is_video else tiny_recipe(recordings)
    recipe = recipe.with_settings({"train.warm_up": kind, "train.epochs": 1})
    run = train(recipe, tmp_path / "run")
    source, started = source_of(run), build_model(run.recipe(), run.recipe().stages()[0], 0).state_dict()
    fresh = build_model(recipe, recipe.stages()[0], 0).state_dict()
    for name, tensor in started.items():
        assert torch.equal(tensor, fresh[name] if ".classifier." in name else source[name]), name
    assert any(not torch.equal(tensor, fresh[name]) for name, tensor in started.items())
    first = Journal(run.path / "journal.jsonl").rows()[0]
    start = next(iter(run.recipe().train.init_from.values()))
    assert first == {"event": "warm_up", "kind": kind, "run": str(start.run), "checksum": start.checksum}
    assert run.recipe().train.warm_up == kind
    assert RunFolder.open(start.run).recipe().train.stages[0].iterations == (3 if is_video else 4)


def test_the_classifier_alone_is_left_out_of_every_model():
    for kind in KINDS:
        if kind.__name__ in ("EnsembleConfig", "FusedConfig"):  # several models, which are not warmed up together
            continue
        other = {"backbone": "test_efficientnet"} if kind.__name__ == "VideoLSTMConfig" else {}
        names = list(known(kind).config.model_copy(update=other).build(7).state_dict())
        prefixes = carried_prefixes(names)
        left = [name for name in names if not name.startswith(prefixes)]
        assert len(left) == 2, (kind, left)
        assert {name.rpartition(".")[2] for name in left} == {"weight", "bias"}


def test_a_warm_up_is_trained_once_and_says_its_price(recordings: Path, tmp_path: Path, cache: Path):
    recipe = tiny_recipe(recordings, epochs=1, warm_up="self")
    reports = [Listener(), Listener()]
    train(recipe, tmp_path / "one", report=reports[0])
    (folder,) = cache.glob("self-sta_lstm-*[0-9a-f]")
    stamp = (folder / "weights.safetensors").stat().st_mtime_ns
    before, after = [line for line in reports[0].said if line.startswith("warm-up")]
    assert before.startswith("warm-up: 4 steps on which way and how fast the training recordings are played, about 0.")
    assert before.endswith(f" minutes; kept in {folder}")
    assert after == "warm-up: done, 0.0 minutes"
    train(recipe, tmp_path / "other", report=reports[1])
    assert reports[1].said[0] == f"warm-up: the weights in {folder}, which took 0.0 minutes to train"
    assert (folder / "weights.safetensors").stat().st_mtime_ns == stamp
    assert_equal_weights(tmp_path / "one", tmp_path / "other")


def test_what_the_weights_depend_on_has_a_warm_up_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    here = write_recordings(tmp_path / "recordings")

    def name(**settings) -> str:
        recipe = tiny_recipe(here, warm_up="self").with_settings(settings).resolved()
        return warm_up._name(recipe, warm_up_recipe(recipe, CPU))

    first = name()
    assert first == name(**{"train.num_workers": 1, "train.save_seconds": 9.0})  # never change a result
    assert first == name(**{"train.epochs": 2, "train.ema_decay": 0.0, "title": "other"})  # of the training proper
    names = {first, name(**{"train.seed": 1}), name(**{"model.hidden": 9}), name(**{"train.optimizer.lr": 0.02})}
    names |= {name(**{"train.warm_up": "synthetic"}), name(**{"data.val_groups": ["s03"]})}
    with (here / "a01_s01_e01_skeleton3D.txt").open("a") as file:
        file.write("0 0 0 1\n" * 20)
    names.add(name())
    monkeypatch.setattr(warm_up, "VERSION", 0)
    names.add(name())
    assert len(names) == 8


def test_a_killed_warm_up_and_a_killed_training_are_resumed(recordings: Path, tmp_path: Path, cache: Path):
    recipe = tiny_recipe(recordings, epochs=2, warm_up="synthetic")
    train(recipe, tmp_path / "whole")
    whole = source_of(RunFolder.open(tmp_path / "whole"))
    shutil.rmtree(cache)
    with pytest.raises(KilledError):
        train(recipe, tmp_path / "run", report=KillAt(2))
    assert not (tmp_path / "run").exists()
    with pytest.raises(KilledError):  # two steps remain of the warm-up
        train(recipe, tmp_path / "run", report=KillAt(5))
    assert checksum(source_of(RunFolder.open(tmp_path / "run"))) == checksum(whole)
    shutil.rmtree(cache)  # what was taken over is not needed any more
    train(recipe, tmp_path / "run", resume=True)
    assert not cache.exists()
    assert_equal_weights(tmp_path / "whole", tmp_path / "run")
    rows = Journal(tmp_path / "run" / "journal.jsonl").rows()
    assert [row["event"] for row in rows] == ["warm_up", "epoch", "epoch"]


def test_repetitions_in_parallel_train_the_same_warm_up_one_after_the_other(tmp_path: Path):
    fcntl = pytest.importorskip("fcntl")
    folder, report = tmp_path / "warm_up" / "self-tsn-0", Listener()
    with one_at_a_time(folder, report, "trains the same warm-up"), folder.with_suffix(".lock").open() as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        waiting = Thread(
            target=lambda: one_at_a_time(folder, report, "trains the same warm-up").__enter__(), daemon=True
        )
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        assert report.said == [f"waiting for another training, which trains the same warm-up ({folder})"]
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_stopped_warm_up_says_to_repeat_the_command(recordings: Path, tmp_path: Path):
    recipe = tiny_recipe(recordings, epochs=1, warm_up="self")
    with pytest.raises(
        InterruptedTrainingError,
        match=r"the warm-up was stopped: stopped in stage warm_up, step 2 of 4.*[Rr]epeat the ",
    ):
        train(recipe, tmp_path / "run", report=StopAt(2))
    assert train(recipe, tmp_path / "run").finished


def test_another_start_is_another_setting(recordings: Path, tmp_path: Path, cache: Path):
    train(tiny_recipe(recordings, epochs=1), tmp_path / "run")
    with pytest.raises(RunError, match=r"train\.warm_up is '' there and 'self' here"):
        train(tiny_recipe(recordings, epochs=1, warm_up="self"), tmp_path / "run", resume=True)
    assert not cache.exists()
    run = train(tiny_recipe(recordings, epochs=1, warm_up="self"), tmp_path / "warm")
    longer = continued_recipe(run)
    assert (longer.train.warm_up, list(longer.train.init_from)) == ("", [""])


def test_generated_videos_are_of_the_models_size_and_the_data_sets_channels(videos: Path):
    recipe = tiny_clip_recipe(videos, warm_up="synthetic", mixup=0.2).with_settings(
        {"model.size": 48, "view.crops": "ten", "view.clips": 3, "data.mirror_labels": []}
    )
    warm = warm_up_recipe(recipe, CPU)
    assert isinstance(warm.data, MovingShapes)
    assert (warm.data.height, warm.data.width, warm.data.frames, warm.data.channels) == (56, 56, 32, 3)
    assert (warm.model, warm.train.optimizer, warm.train.mixup) == (recipe.model, recipe.train.optimizer, 0.0)
    gray = MovingShapes(scenes=2, test_scenes=1, height=32, width=32, frames=8, channels=1)
    with gray.open(gray.index("test").records[0]) as video:
        assert video.read([0]).pixels.shape == (1, 1, 32, 32)


def test_stick_figures_have_the_joints_people_and_coordinates_of_the_data_set(tmp_path: Path):
    recipe = tiny_recipe(tmp_path).with_settings({"data": {"name": "sbu", "root": str(tmp_path)}})
    warm = warm_up_recipe(recipe.with_settings({"train.warm_up": "synthetic"}), CPU)
    assert isinstance(warm.data, StickFigures)
    assert warm.data.holds() == recipe.data.holds()
    assert warm.augment.skeleton == recipe.augment.skeleton


def test_the_speed_is_not_changed_where_it_is_asked_for(recordings: Path):
    recipe = tiny_recipe(recordings, warm_up="self").with_settings({"augment.skeleton.speed": [0.5, 2.0]})
    warm = warm_up_recipe(recipe, CPU)
    assert isinstance(warm.data, Playback)
    assert warm.augment.skeleton is not None
    assert warm.augment.skeleton.speed == (1.0, 1.0)
    assert warm.augment.skeleton.rotate == 10.0


@pytest.mark.parametrize("kind", ["synthetic", "self"])
def test_models_of_flow_warm_up_with_computed_flow(videos: Path, tmp_path: Path, kind: str):
    recipe = flow_recipe(videos, {"train_backbone": True}, epochs=1, warm_up=kind)
    warm = warm_up_recipe(recipe.with_settings({"flow": {"folder": str(tmp_path), "bound": 9.0}}), CPU)
    assert warm.flow is not None
    assert (warm.flow.folder, warm.flow.bound) == (None, 9.0)
    run = train(recipe, tmp_path / "run")
    assert {prefix.partition(".")[0] for prefix in run.recipe().train.init_from} == {
        "appearance",
        "motion",
        "recurrent",
    }


STAGE = {"name": "A", "epochs": 1}
TAKEN = {"": {"run": "runs/x"}}
REFUSED = [
    ({"train.stages": [STAGE]}, r'warm_up = "self" is for a training without stages; leave it out, or set init_from'),
    ({"train.init_from": TAKEN}, r'warm_up = "self" and init_from both say where the parameters start; leave one'),
    ({"model.pretrained": True}, r"in place of ImageNet weights.* set model\.pretrained = false \(--no-pretrained\)"),
    ({"model": {"name": "fisher_vectors"}}, r"is for networks, and of 'fisher_vectors' only the classifier is trained"),
    (
        {"model": {"name": "video_lstm"}},
        r"'video_lstm' has a part that is never trained.* set model\.train_backbone = true",
    ),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_where_a_warm_up_does_not_apply(videos: Path, settings: dict, message: str):
    with pytest.raises(RecipeError, match=message):
        tiny_clip_recipe(videos).with_settings({"train.warm_up": "self"} | settings)


def test_what_is_refused_for_skeletons(recordings: Path):
    recipe = tiny_recipe(recordings)
    with pytest.raises(RecipeError, match=r"model\.pca mixes them in another way .* set model\.pca = 0, or leave"):
        recipe.with_settings({"model": {"name": "drnn", "pca": 5}, "train.warm_up": "self"})
    source = {"name": "playback", "source": recipe.data.model_dump(mode="json", exclude_none=True)}
    with pytest.raises(RecipeError, match=r"comes before a training on labels, and data set \"playback\" uses none"):
        recipe.with_settings({"data": source, "train.warm_up": "self"})


def test_joints_without_names_are_refused_before_anything_is_trained(tmp_path: Path, cache: Path):
    data = {"name": "skeleton_folder", "root": str(tmp_path), "layout": "plain15", "people": 1, "coordinates": 3}
    recipe = tiny_recipe(tmp_path, warm_up="synthetic").with_settings({"data": data})
    with pytest.raises(
        RecipeError, match=r"the layout 'plain15', whose joints are not named.*train\.warm_up = \"self\""
    ):
        warm_up_recipe(recipe, CPU)
    with pytest.raises(ValueError, match="layout 'plain15' does not name its joints"):
        StickFigures(layout="plain15")
    assert not cache.exists()


def test_a_start_that_is_given_is_kept(recordings: Path, tmp_path: Path):
    start = {"main.lstm.": SourceRun(run=tmp_path, checksum="0" * 64)}
    recipe = Recipe.model_validate(
        tiny_recipe(recordings).model_dump() | {"train": {"warm_up": "self", "init_from": start}}
    )

    def untrained(*_: object) -> RunFolder:
        raise AssertionError("nothing is to be trained")

    assert with_warm_up(recipe, RunFolder(tmp_path / "run"), CPU, Reporter(quiet=True), untrained) is recipe
