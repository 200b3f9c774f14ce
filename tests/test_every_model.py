"""What every model of the union guarantees."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
import safetensors.torch
import torch
from einops import rearrange
from torch import Tensor

from muybridge.core.contracts import ClipData, ClipInput, Holds, SkeletonData, SkeletonInput
from muybridge.core.errors import RecipeError
from muybridge.core.skeletons import LAYOUTS, unnamed_layout
from muybridge.core.types import Batch, Output
from muybridge.data.prepare import collate_inputs
from muybridge.export.session import OnnxModel, open_session
from muybridge.export.write import convert
from muybridge.models import AnyModel, DRNNConfig, EnsembleConfig
from muybridge.models.base import Model
from muybridge.models.config import ClipModelConfig, ModelConfig

KINDS = get_args(get_args(AnyModel)[0])
SHALLOW = [config for config in KINDS if issubclass(config, ClipModelConfig)]
CLASSES = 5
SKELETONS = {
    "kinect20": SkeletonData(LAYOUTS["kinect20"]),
    "two people": SkeletonData(LAYOUTS["sbu15"], people=2),
    "2-D": SkeletonData(LAYOUTS["coco17"], coordinates=2),
}
# Members of an ensemble take clips of different kinds; hand-crafted features are of a whole clip.
WITHOUT_PARTS = {"ensemble", "fused", "fisher_vectors"}
VIDEOS = {"RGB": ClipData(3), "grey": ClipData(1)}
# Networks over clips are small here; 64 pixels leave two of each axis where TDN halves its last maps.
SMALL = {
    "backbone": "resnet10",
    "width": 16,
    "segments": 3,
    "frames": 3,
    "size": 64,
    "hidden": 6,
    "attention_width": 5,
    "head_width": 7,
    "train_backbone": True,
    "cell_frames": 1,
    "pca_components": 5,
    "gaussians": 4,
    "steps": 3,
    "pca": 6,
    "hog3d": {"cells": (1, 2, 2), "blocks": 2},
}
ON_VIDEO: dict[str, Any] = {"input": "video", "features": "hog3d"}


@dataclass(frozen=True)
class Kind:
    """A model with the recordings that it takes."""

    config: ModelConfig

    @property
    def takes_clips(self) -> bool:
        return isinstance(self.config.takes(), ClipInput)

    @property
    def holds(self) -> dict[str, Holds]:
        return VIDEOS if self.takes_clips else SKELETONS

    def sample(self, frames: int, seed: int, holds: Holds | None = None) -> dict[str, Tensor]:
        """A recording in which everybody drifts about; a clip has as many frames as the model asks for."""
        rng = torch.Generator().manual_seed(seed)
        holds = holds or next(iter(self.holds.values()))
        if isinstance(holds, ClipData):
            takes = self.config.takes()
            assert isinstance(takes, ClipInput)
            count = takes.segments * takes.frames_per_segment
            channels = ({"video": holds.channels} if takes.pixels else {}) | ({"flow": 2} if takes.flow else {})
            return {
                name: torch.randn(1, count, depth, takes.size, takes.size, generator=rng)
                for name, depth in channels.items()
            }
        takes = self.config.takes()
        assert isinstance(takes, SkeletonInput)
        shape = (holds.people, len(holds.layout), holds.coordinates)
        pose = torch.randn(1, *shape, generator=rng)
        moving = {"joints": pose + (0.1 * torch.randn(frames, *shape, generator=rng)).cumsum(0)}
        size = takes.statistics.size(holds) if takes.statistics else 0
        fixed = {"statistics": torch.randn(1, size, generator=rng)} if size else {}
        return (moving if takes.positions else {}) | fixed

    def build(self, holds: Holds | None = None) -> Model:
        torch.manual_seed(0)
        holds = holds or next(iter(self.holds.values()))
        model = self.config.build(CLASSES, holds)
        inputs = collate_inputs([self.sample(12, seed, holds) for seed in range(20, 24)])
        model.calibrate([inputs])
        model.solve([Batch(inputs, torch.tensor([0, 1, 2, 3]), ("a", "b", "c", "d"))])
        return model.eval()


def known(config: type[ModelConfig], **more: Any) -> Kind:
    if config is EnsembleConfig:
        # Of clips: type checks are on in tests, and torch's scan cannot be exported twice with them.
        small = {"name": "tsn", "backbone": "resnet10", "width": 16, "segments": 3, "size": 64}
        return Kind(EnsembleConfig.model_validate({"members": (small, small | {"shift": True}), "weights": (1, 2)}))
    takes_clips = isinstance(config.model_validate(more).takes(), ClipInput)
    small = {setting: value for setting, value in SMALL.items() if setting in config.model_fields}
    return Kind(config.model_validate(small | more if takes_clips else {}))


@pytest.fixture(
    params=[
        *((config, {}) for config in KINDS),
        *((config, {"stages": 2}) for config in SHALLOW),
        (DRNNConfig, ON_VIDEO),
    ],
    ids=lambda param: " ".join([param[0].spec.name, *map(str, param[1].values())]),
)
def kind(request: pytest.FixtureRequest) -> Kind:
    config, more = request.param
    return known(config, **more)


def with_active_norms(model: Model) -> Model:
    """The model with its norms that begin at zero, and let nothing through, set to one half."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("norm.weight") and not value.any():
                value.fill_(0.5)
    return model


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        pytest.param(kind, holds, id=f"{kind.config.spec.name}-{name}")
        for kind in (*map(known, KINDS), known(DRNNConfig, **ON_VIDEO))
        for name, holds in kind.holds.items()
    ],
)
def test_it_scores_every_class_for_every_kind_of_recording(kind: Kind, holds: Holds):
    batch = collate_inputs([kind.sample(frames, frames, holds) for frames in (9, 1, 6)])
    output = kind.build(holds)(**batch)
    assert isinstance(output, Output)
    assert output.logits.shape == (3, CLASSES)
    assert torch.isfinite(output.logits).all()


def test_a_layout_without_bones_is_served_or_refused_in_words(kind: Kind):
    if kind.takes_clips:
        return
    holds = SkeletonData(unnamed_layout(7))
    try:
        model = kind.build(holds)
    except RecipeError as problem:
        assert "layout" in str(problem)  # noqa: PT017 - either outcome is right
    else:
        assert model(**collate_inputs([kind.sample(5, 0, holds)])).logits.shape == (1, CLASSES)


def test_it_has_steps_or_says_why_not(kind: Kind):
    assert (kind.build().steps() is None) == bool(kind.config.needs_whole_recording())


def test_its_two_parts_are_the_network(kind: Kind):
    model = with_active_norms(kind.build())
    parts = model.parts()
    takes = kind.config.takes()
    if parts is None:
        assert not isinstance(takes, ClipInput) or takes.statistics or kind.config.spec.name in WITHOUT_PARTS
        return
    assert isinstance(takes, ClipInput)
    clips = collate_inputs([kind.sample(0, seed) for seed in (1, 2)])
    units = {name: rearrange(value, "b (s f) ... -> (b s) f ...", f=parts.frames) for name, value in clips.items()}
    with torch.inference_mode():
        one_by_one = [
            parts.early({name: value[[unit]] for name, value in units.items()})
            for unit in range(len(next(iter(units.values()))))
        ]
        features = {name: torch.cat([each[name] for each in one_by_one]) for name in one_by_one[0]}
        late = parts.late({name: rearrange(value, "(b s) ... -> b s ...", b=2) for name, value in features.items()})
        torch.testing.assert_close(late.logits, model(**clips).logits, atol=1e-5, rtol=1e-4)


def test_its_name_is_that_of_its_spec(kind: Kind):
    config = type(kind.config)
    assert config.model_fields["name"].default == config.spec.name
    assert config.spec.title
    assert config.spec.paper


def test_gradient_reaches_every_parameter(kind: Kind):
    model = with_active_norms(kind.build()).train()
    batch = collate_inputs([kind.sample(frames, frames) for frames in (12, 7, 9, 10)])
    terms = model.losses(model(**batch), torch.tensor([0, 1, 2, 3]), batch)
    assert "cross_entropy" in terms
    assert all(term.shape == () for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    silent = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.abs().sum()]
    assert not silent


def test_soft_labels_equal_hard_ones_when_they_are_sure(kind: Kind):
    model = kind.build()
    batch = collate_inputs([kind.sample(8, seed) for seed in (1, 2)])
    output, labels = model(**batch), torch.tensor([4, 0])
    hard = model.losses(output, labels, batch)
    soft = model.losses(output, torch.nn.functional.one_hot(labels, CLASSES).float(), batch)
    for term, value in hard.items():
        torch.testing.assert_close(value, soft[term])


def test_samples_do_not_talk_and_padding_changes_nothing(kind: Kind):
    model = with_active_norms(kind.build())
    samples = [kind.sample(frames, frames) for frames in (9, 4, 12)]
    together = model(**collate_inputs(samples))
    garbage = collate_inputs(samples)
    if "joints" in garbage:
        garbage["joints"][1, 4:] = 1e3
    failed = model(**garbage)
    for index, sample in enumerate(samples):
        alone = model(**collate_inputs([sample]))
        torch.testing.assert_close(together.logits[index], alone.logits[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(failed.logits[index], alone.logits[0], rtol=1e-4, atol=1e-5)
        for name, map_ in alone.maps.items():
            torch.testing.assert_close(together.maps[name][index, : map_.shape[1]], map_[0], rtol=1e-4, atol=1e-5)


def test_configs_load_without_torch():
    """So that `muybridge models` and a mistake in a recipe take less than a second."""
    code = "import sys, muybridge.models; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_eval_mode_is_deterministic(kind: Kind):
    model = kind.build()
    batch = collate_inputs([kind.sample(8, 1)])
    assert torch.equal(model(**batch).logits, model(**batch).logits)


def test_the_same_seed_builds_the_same_model(kind: Kind):
    first, second = kind.build().state_dict(), kind.build().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_round_trip(kind: Kind, tmp_path: Path):
    model = kind.build()
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(tensors, tmp_path / "weights.safetensors")
    torch.manual_seed(1)
    other_model = kind.config.build(CLASSES, next(iter(kind.holds.values()))).eval()
    other_model.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
    batch = collate_inputs([kind.sample(8, 1)])
    assert torch.equal(model(**batch).logits, other_model(**batch).logits)


@pytest.mark.filterwarnings("ignore:.*_flat_weights.*:UserWarning")
def test_it_survives_torch_export(kind: Kind):
    model = with_active_norms(kind.build())
    batch = collate_inputs([kind.sample(frames, frames) for frames in (8, 6)])
    exported = torch.export.export(model, (), kwargs=batch).module()
    torch.testing.assert_close(exported(**batch).logits, model(**batch).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_onnx_gives_the_same_answer_for_any_number_of_recordings_and_frames(kind: Kind, tmp_path: Path):
    if isinstance(getattr(kind.config, "network", kind.config), DRNNConfig):
        pytest.skip("the checks of shapes in this process cannot be traced inside its loop; test_export.py exports it")
    if getattr(kind.config, "stages", 4) < 4:
        pytest.skip("of the stages of a CNN, all are exported")
    model = with_active_norms(kind.build()).requires_grad_(False)
    convert(model, collate_inputs([kind.sample(frames, frames) for frames in (8, 6)])).save(tmp_path / "model.onnx")
    exported = OnnxModel(open_session(tmp_path / "model.onnx"))
    for lengths in ((1, 2), (3, 24, 5), (6,)):
        inputs = collate_inputs([kind.sample(frames, frames) for frames in lengths])
        torch.testing.assert_close(exported(**inputs).logits, model(**inputs).logits, rtol=1e-3, atol=1e-4)
