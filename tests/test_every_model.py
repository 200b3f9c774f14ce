"""What every model in the union promises."""

from pathlib import Path
from typing import get_args

import pytest
import safetensors.torch
import torch
from torch import Tensor

from muybridge.core.contracts import SkeletonData
from muybridge.core.errors import RecipeError
from muybridge.core.skeletons import LAYOUTS, plain
from muybridge.core.types import Output
from muybridge.data.prepare import stack
from muybridge.models import AnyModel
from muybridge.models.base import Model, ModelConfig

KINDS = get_args(get_args(AnyModel)[0])
CLASSES = 5
HOLDS = {
    "kinect20": SkeletonData(LAYOUTS["kinect20"]),
    "two people": SkeletonData(LAYOUTS["sbu15"], people=2),
    "2-D": SkeletonData(LAYOUTS["coco17"], coordinates=2),
}


def sample(frames: int, holds: SkeletonData, seed: int) -> dict[str, Tensor]:
    """A recording in which everybody drifts about."""
    rng = torch.Generator().manual_seed(seed)
    pose = torch.randn(1, holds.people, len(holds.layout), holds.coordinates, generator=rng)
    steps = 0.1 * torch.randn(frames, holds.people, len(holds.layout), holds.coordinates, generator=rng)
    return {"joints": pose + steps.cumsum(0)}


def built(kind: type[ModelConfig], holds: SkeletonData = HOLDS["kinect20"]) -> Model:
    torch.manual_seed(0)
    model = kind().build(CLASSES, holds)
    model.calibrate([stack([sample(12, holds, seed) for seed in range(20, 24)])])
    return model.eval()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.spec.name)
def kind(request: pytest.FixtureRequest) -> type[ModelConfig]:
    return request.param


@pytest.mark.parametrize("holds", HOLDS.values(), ids=HOLDS)
def test_it_scores_every_class_for_every_layout(kind: type[ModelConfig], holds: SkeletonData):
    batch = stack([sample(frames, holds, frames) for frames in (9, 1, 6)])
    output = built(kind, holds)(**batch)
    assert isinstance(output, Output)
    assert output.logits.shape == (3, CLASSES)
    assert torch.isfinite(output.logits).all()


def test_a_layout_without_bones_is_served_or_refused_in_words(kind: type[ModelConfig]):
    holds = SkeletonData(plain(7))
    try:
        model = built(kind, holds)
    except RecipeError as problem:
        assert "layout" in str(problem)  # noqa: PT017 - either outcome is right
    else:
        assert model(**stack([sample(5, holds, 0)])).logits.shape == (1, CLASSES)


def test_its_name_is_its_door_plate(kind: type[ModelConfig]):
    assert kind.model_fields["name"].default == kind.spec.name
    assert kind.spec.title
    assert kind.spec.paper


def test_gradient_reaches_every_parameter(kind: type[ModelConfig]):
    model = built(kind).train()
    batch = stack([sample(frames, HOLDS["kinect20"], frames) for frames in (12, 7, 9, 10)])
    terms = model.losses(model(**batch), torch.tensor([0, 1, 2, 3]), batch)
    assert "cross_entropy" in terms
    assert all(term.shape == () for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    silent = [name for name, one in model.named_parameters() if one.grad is None or not one.grad.abs().sum()]
    assert not silent


def test_soft_labels_equal_hard_ones_when_they_are_sure(kind: type[ModelConfig]):
    model = built(kind)
    batch = stack([sample(8, HOLDS["kinect20"], seed) for seed in (1, 2)])
    output, labels = model(**batch), torch.tensor([4, 0])
    hard = model.losses(output, labels, batch)
    soft = model.losses(output, torch.nn.functional.one_hot(labels, CLASSES).float(), batch)
    for term, value in hard.items():
        torch.testing.assert_close(value, soft[term])


def test_samples_do_not_talk_and_padding_changes_nothing(kind: type[ModelConfig]):
    model = built(kind)
    samples = [sample(frames, HOLDS["kinect20"], frames) for frames in (9, 4, 12)]
    together = model(**stack(samples))
    garbage = stack(samples)
    garbage["joints"][1, 4:] = 1e3
    spoiled = model(**garbage)
    for index, one in enumerate(samples):
        alone = model(**stack([one]))
        torch.testing.assert_close(together.logits[index], alone.logits[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(spoiled.logits[index], alone.logits[0], rtol=1e-4, atol=1e-5)
        frames = len(one["joints"])
        for name, map_ in alone.maps.items():
            torch.testing.assert_close(together.maps[name][index, :frames], map_[0], rtol=1e-4, atol=1e-5)


def test_eval_mode_is_deterministic(kind: type[ModelConfig]):
    model = built(kind)
    batch = stack([sample(8, HOLDS["kinect20"], 1)])
    assert torch.equal(model(**batch).logits, model(**batch).logits)


def test_the_same_seed_builds_the_same_model(kind: type[ModelConfig]):
    one, other = built(kind).state_dict(), built(kind).state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_weights_round_trip(kind: type[ModelConfig], tmp_path: Path):
    model = built(kind)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    other = kind().build(CLASSES, HOLDS["kinect20"]).eval()
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    batch = stack([sample(8, HOLDS["kinect20"], 1)])
    assert torch.equal(model(**batch).logits, other(**batch).logits)


@pytest.mark.filterwarnings("ignore:.*_flat_weights.*:UserWarning")
def test_it_survives_torch_export(kind: type[ModelConfig]):
    model = built(kind)
    batch = stack([sample(frames, HOLDS["kinect20"], frames) for frames in (8, 6)])
    exported = torch.export.export(model, (), kwargs=batch).module()
    torch.testing.assert_close(exported(**batch).logits, model(**batch).logits, rtol=1e-4, atol=1e-5)
