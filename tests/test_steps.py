"""Recurrent networks frame by frame: after every frame, the answer is that of the network for the frames so far."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from muybridge.core.contracts import ClipData, Holds, SkeletonData
from muybridge.core.skeletons import LAYOUTS
from muybridge.models import DRNNConfig, STALSTMConfig, VideoLSTMConfig
from muybridge.models.base import Model
from muybridge.models.config import ModelConfig
from muybridge.models.drnn.network import SkeletonDRNN
from muybridge.models.video_lstm import Architecture
from muybridge.nn.differential_step import DifferentialSteps
from muybridge.nn.recurrent import DifferentialLSTM

FRAMES, CLASSES = 7, 4
TWO = SkeletonData(LAYOUTS["sbu15"], people=2)
LOCAL = ("position", "angle", "offset", "offset_first", "velocity", "distance", "bone")
SMALL_VIDEO = {
    "initial_state": "zero",
    "backbone": "resnet10",
    "frames": FRAMES,
    "size": 32,
    "hidden": 4,
    "attention_width": 3,
    "head_width": 5,
    "rescale_attention": True,
}


def walk(confidence: bool) -> Tensor:
    """Two recordings of two people; in one the second person is away for two frames, and comes back."""
    rng = torch.Generator().manual_seed(0)
    steps = 0.05 * torch.randn(2, FRAMES, 2, 15, 3, generator=rng).cumsum(1)
    joints = torch.randn(2, 1, 2, 15, 3, generator=rng) + steps
    joints[0, 3:5, 1] = 0
    return torch.cat([joints, torch.rand(2, FRAMES, 2, 15, 1, generator=rng)], -1) if confidence else joints


def built(config: ModelConfig, holds: Holds) -> Model:
    torch.manual_seed(0)
    return config.build(CLASSES, holds).eval().double()


def check(model: Model, inputs: dict[str, Tensor], encoded: bool = False) -> None:
    """One frame at a time, and several at once, are answered as the network answers each prefix."""
    steps, skeletons = model.steps(), "joints" in inputs
    assert steps is not None
    with torch.inference_mode():
        given = steps.encode(inputs) if encoded else inputs
        state = steps.initial_state(given)
        for frame in range(FRAMES):
            state = steps.advance({name: value[:, frame : frame + 1] for name, value in given.items()}, state)
            prefix = {name: value[:, : frame + 1] for name, value in inputs.items()}
            length = {"length": torch.full((2,), frame + 1)} if skeletons else {}
            expected = model(**prefix, **length).logits
            torch.testing.assert_close(steps.answer(state).logits, expected, atol=1e-9, rtol=1e-9)
        whole = model(**inputs, **({"length": torch.full((2,), FRAMES)} if skeletons else {})).logits
        state = steps.initial_state(given)
        for part in (slice(0, 3), slice(3, None)):
            state = steps.advance({name: value[:, part] for name, value in given.items()}, state)
        torch.testing.assert_close(steps.answer(state).logits, whole, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "energy"])
@pytest.mark.parametrize(
    "more",
    [
        {"features": ("movement", "travel")},
        {"features": LOCAL, "confidence": True},
        {"features": ("movement",), "layer_derivatives": ((0, 1), (2,)), "bounded": True},
        {"features": ("offset",), "order": -1},
    ],
    ids=["movement", "local", "deep", "lstm"],
)
def test_drnn(pooling: str, more: dict[str, Any]):
    config = DRNNConfig.model_validate({"hidden": 5, "pooling": pooling, "body_size": "so far", **more})
    check(built(config, TWO), {"joints": walk(config.confidence).double()})


@pytest.mark.parametrize("attention", ["none", "spatial", "temporal", "both"])
@pytest.mark.parametrize(
    "more",
    [
        {"mean_over_time": False},
        {"confidence": True, "rescale_attention": True},
        {"features": ("position", "movement"), "confidence": True, "body_size": "so far"},
        {"features": ("offset_first",), "body_size": "so far"},
    ],
    ids=["sum", "confidence", "movement", "offset_first"],
)
def test_sta_lstm(attention: str, more: dict[str, Any]):
    small = {"hidden": 5, "layers": 2, "attention_size": 3, "init_std": 0.3}
    config = STALSTMConfig.model_validate({"attention": attention, **small, **more})
    check(built(config, TWO), {"joints": walk(config.confidence).double()})


@pytest.mark.parametrize("stream", ["appearance", "motion"])
@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_video_lstm(architecture: str, stream: str):
    # All but the coupled network with peepholes, and from frames themselves, differ in one of these only.
    more = {"coupled": stream == "motion", "peephole": stream == "appearance"}
    config = VideoLSTMConfig.model_validate({"architecture": architecture, "stream": stream, **more, **SMALL_VIDEO})
    rng = torch.Generator().manual_seed(1)
    channels = {"appearance": ("video", 3), "motion": ("flow", 2)}
    inputs = {
        name: torch.randn(2, FRAMES, depth, 32, 32, generator=rng).double()
        for name, depth in (channels[each] for each in config.streams)
    }
    check(built(config, ClipData()), inputs, encoded=stream == "motion")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (DRNNConfig.model_validate({}), 'model.body_size = "recording" measures the body in all frames'),
        (DRNNConfig.model_validate({"input": "video", "features": "hog3d"}), "spread over all of it"),
        (STALSTMConfig(features=("movement",)), 'model.body_size = "recording"'),
        (VideoLSTMConfig(), 'model.initial_state = "paper" computes the first state from the frames of a whole clip'),
    ],
)
def test_why_there_are_no_steps(config: ModelConfig, reason: str):
    assert reason in config.needs_whole_recording()


def test_features_without_unit_are_the_same_for_either_size_of_the_body():
    assert not DRNNConfig.model_validate({"features": ("angle", "bone")}).needs_whole_recording()


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_layer_with_own_derivatives_alone(diagonal: bool):
    torch.manual_seed(0)
    layer, sequence = DifferentialLSTM(3, 4, (0, 2), diagonal=diagonal), torch.randn(2, 5, 3)
    step = DifferentialSteps(layer)
    state = step.initial_state(2)
    outputs = []
    with torch.inference_mode():
        for x in sequence.unbind(1):
            state = step(x, state)
            outputs.append(state.h)
        torch.testing.assert_close(torch.stack(outputs, 1), layer(sequence)[0], atol=1e-6, rtol=1e-6)


def test_the_body_is_measured_in_the_frames_so_far():
    config = DRNNConfig.model_validate({"features": ("position",), "body_size": "so far"})
    model, joints = built(config, TWO), walk(False).double()
    assert isinstance(model, SkeletonDRNN)
    both = model(joints=joints, length=torch.tensor([4, FRAMES])).logits
    alone = model(joints=joints[:1, :4], length=torch.tensor([4])).logits
    torch.testing.assert_close(both[:1], alone)
    changed = joints.clone()
    changed[:, 5:] *= 3  # a body that seems to grow changes nothing of the frames before
    steps = [model.features(each, torch.tensor([FRAMES, FRAMES])) for each in (joints, changed)]
    torch.testing.assert_close(steps[0][:, :5], steps[1][:, :5])
    assert not torch.allclose(steps[0][:, 5:], steps[1][:, 5:])
