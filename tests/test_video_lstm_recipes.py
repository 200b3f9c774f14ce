"""VideoLSTM's recipes: the paper's training figure by figure, and stages that hand over what they should."""

from pathlib import Path

import pytest
import torch

from muybridge.core.contracts import ClipInput
from muybridge.data.prepare import ClipPreparation, FlowSource
from muybridge.engine.evaluate import evaluate
from muybridge.engine.train import train
from muybridge.engine.weights import read_weights
from muybridge.models import VideoLSTMConfig
from muybridge.recipe import RMSprop, folder_recipe, load_recipe
from tests.tiny import write_videos

PUBLISHED = ["video_lstm_ucf101", "video_lstm_hmdb51"]
SMALL = {
    "model.backbone": "test_efficientnet",
    "model.pretrained": False,
    "model.frames": 3,
    "model.size": 32,
    "model.hidden": 4,
    "model.attention_width": 4,
    "model.head_width": 8,
    "train.num_workers": 0,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_videos(tmp_path_factory.mktemp("videos"), takes=1)


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_trains_and_tests_as_the_paper_does(name: str):
    recipe = load_recipe(name)
    assert recipe.train.optimizer == RMSprop(lr=1e-3, alpha=0.9, eps=1e-6)
    assert (recipe.train.batch_size, recipe.train.clip_grad_norm, recipe.train.schedule.name) == (128, 0, "constant")
    assert [stage.epochs for stage in recipe.stages()] == [300, 300, 400]
    prepare = recipe.preparation(augment=True)
    assert isinstance(prepare, ClipPreparation)
    assert prepare.takes == ClipInput(1, 30, 224, flow=True)
    assert prepare.augment is None
    assert prepare.flow == FlowSource(folder=Path(recipe.data.name) / "flow", method="tvl1", bound=20.0)
    assert prepare.views == 25
    assert prepare.view.resize == (224, 224)
    for stage in recipe.stages():
        model = recipe.stage_model(stage)
        assert isinstance(model, VideoLSTMConfig)
        assert (model.hidden, model.kernel, model.inverse_temperature, model.dropout) == (512, 3, 1.0, 0.7)
        assert not model.rescale_attention


@pytest.mark.parametrize("name", PUBLISHED[:1])
def test_stages_hand_over_layers_and_cnns(name: str, root: Path, tmp_path: Path):
    stages = load_recipe(name).model_dump(mode="json", exclude_none=True)["train"]["stages"]
    data = {"name": "video_folder", "root": str(root), "group": "/([a-z])_", "test_groups": ["d"], "val_fraction": 0.0}
    # With a learning rate of zero, what is handed over stays as it was.
    changed = {
        "data": data,
        "flow": {},
        "view.resize": [32, 32],
        "view.clips": 2,
        "train.stages": [stage | {"epochs": 1} for stage in stages],
        "train.optimizer.lr": 0.0,
    }
    run = train(load_recipe(name, SMALL | changed), tmp_path / "run")
    flow, rgb, joint = (read_weights(run.path / "stages" / f"{one}.safetensors") for one in ("flow", "rgb", "joint"))
    came = {key: flow if key.startswith(("motion.", "recurrent.bottom.")) else rgb for key in joint}
    fresh = {key for key in joint if key not in came[key]}
    assert fresh == {
        "recurrent.bottom.lstm.context_weight",
        *(f"recurrent.bottom.initial.{state}.{kind}" for state in ("hidden", "cell") for kind in ("weight", "bias")),
    }
    counters = {key for key in joint if key.endswith("num_batches_tracked")}
    for key in joint.keys() - fresh - counters:
        assert torch.equal(joint[key], came[key][key]), key
    assert evaluate(run).count == 2


def test_on_a_folder_of_ones_own(root: Path, tmp_path: Path):
    recipe = folder_recipe(
        "video_lstm", root, SMALL | {"train.epochs": 1, "data.test_groups": ["d"], "data.group": "/([a-z])_"}
    )
    run = train(recipe, tmp_path / "run")
    assert evaluate(run).count == 2
