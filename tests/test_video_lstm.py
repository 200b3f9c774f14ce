import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from muybridge.core.contracts import ClipData, ClipInput
from muybridge.core.errors import DataError, RecipeError
from muybridge.core.types import Output
from muybridge.models.video_lstm import VideoLSTMConfig
from muybridge.nn.feature_maps import FeatureMaps, feature_maps
from tests.oracles import video_lstm as oracle

ARCHITECTURES = ("lstm", "alstm", "conv_lstm", "conv_alstm", "motion_alstm", "video_lstm")
ATTENDING = ("alstm", "conv_alstm", "motion_alstm", "video_lstm")
MOTION_LED = ("motion_alstm", "video_lstm")
CLIPS, FRAMES, SIZE, CLASSES, HIDDEN = 2, 3, 48, 4, 5
SMALL = {
    "backbone": "resnet18",
    "out_index": -2,
    "frames": FRAMES,
    "size": SIZE,
    "hidden": HIDDEN,
    "attention_width": 6,
    "head_width": 7,
}


def build(seed=0, dtype=torch.float64, scale=0.3, **settings):
    """A small model whose parameters are large enough for every path to matter."""
    torch.manual_seed(seed)
    model = VideoLSTMConfig.model_validate(SMALL | settings).build(CLASSES).to(dtype)
    with torch.no_grad():
        for parameter in model.recurrent.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return model.eval()


def features(model, seed=1, dtype=torch.float64):
    """Maps in place of frames and flow, as far as the model reads them."""
    rng = torch.Generator().manual_seed(seed)
    names = {"appearance": "features", "motion": "flow_features"}
    return {
        names[stream]: torch.randn(CLIPS, FRAMES, *shape, generator=rng, dtype=torch.float64).to(dtype)
        for stream, shape in model.shapes.items()
    }


def frames(model, seed=1, count=CLIPS):
    """Frames and flow, as far as the model reads them."""
    rng = torch.Generator().manual_seed(seed)
    inputs = {"appearance": ("video", 3), "motion": ("flow", 2)}
    return {
        name: torch.randn(count, FRAMES, channels, SIZE, SIZE, generator=rng)
        for name, channels in (inputs[stream] for stream in model.config.streams)
    }


def objective(model, inputs, labels):
    return torch.stack(list(model.losses(model(**inputs), labels, inputs).values())).sum()


def test_defaults_are_the_authors():
    config = VideoLSTMConfig()
    assert (config.architecture, config.backbone, config.frames, config.size) == ("video_lstm", "vgg16", 30, 224)
    with torch.device("meta"):
        model = VideoLSTMConfig(architecture="conv_lstm").build(101)
        alstm = VideoLSTMConfig(architecture="alstm").build(101)
        motion_alstm = VideoLSTMConfig(architecture="motion_alstm").build(101)
        video_lstm = config.build(101)
    assert model.shapes == {"appearance": (512, 7, 7)}
    assert motion_alstm.shapes == {"appearance": (512, 7, 7), "motion": (4096, 1, 1)}
    # The specification's count: 18.9 M in the ConvLSTM, 25.7 M in the first layer of the head.
    sizes = {name: value.numel() for name, value in model.recurrent.named_parameters()}
    assert sizes["bottom.lstm.input_weight"] + sizes["bottom.lstm.hidden_weight"] == 8 * 512 * 512 * 9
    assert sizes["head.hidden.weight"] == 25088 * 1024
    assert (model.recurrent.head.dropout.p, model.recurrent.head.input_dropout.p) == (0.7, 0.0)
    assert (alstm.recurrent.head.dropout.p, alstm.recurrent.head.input_dropout.p) == (0.5, 0.5)
    assert alstm.recurrent.top.attention.map_projection.weight.shape == (512, 512, 1, 1)
    assert video_lstm.recurrent.bottom.lstm.context_weight.shape == (2048, 512, 1, 1)
    assert video_lstm.recurrent.bottom.initial.hidden.weight.shape == (512, 512, 1, 1)
    assert video_lstm.recurrent.top.initial.cell.weight.shape == (512, 512, 3, 3)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("stream", ["appearance", "motion"])
def test_the_contract_names_what_is_read(architecture, stream):
    config = VideoLSTMConfig(architecture=architecture, stream=stream, frames=8, size=112)
    flow = stream == "motion" or architecture in MOTION_LED
    assert config.takes() == ClipInput(1, 8, 112, pixels=stream == "appearance", flow=flow)


def test_wrong_settings_are_refused():
    with pytest.raises(ValidationError, match="architecture"):
        VideoLSTMConfig.model_validate({"architecture": "gru"})
    with pytest.raises(ValidationError, match="kernel"):
        VideoLSTMConfig.model_validate({"kernel": 2})
    with pytest.raises(ValidationError, match="atention"):
        VideoLSTMConfig.model_validate({"atention": 1})


VARIANTS = {
    "paper": {},
    "rescaled, sharp, penalised": {"rescale_attention": True, "inverse_temperature": 2.5, "attention_lambda": 0.3},
    "peephole, wide kernels": {"peephole": True, "bottom_kernel": 3, "attention_kernel": 3},
    "uncoupled, from the mean": {"coupled": False, "initial_state": "mean"},
    "flow alone": {"stream": "motion", "initial_state": "zero"},
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_equals_the_oracle(architecture, variant):
    settings = VARIANTS[variant]
    if architecture == "lstm" and {"peephole", "coupled"} & set(settings):
        pytest.skip("the oracle of the plain LSTM is written from its own equations")
    model = build(architecture=architecture, **settings)
    prefix = "recurrent."
    weights = {
        name.removeprefix(prefix): value.numpy()
        for name, value in model.state_dict().items()
        if name.startswith(prefix)
    }
    inputs, labels = features(model), torch.tensor([3, 1])
    output = model(**inputs)
    assert isinstance(output, Output)
    assert set(output.maps) == {"step_logits"} | ({"attention"} if architecture in ATTENDING else set())

    config = model.config
    main = inputs["features" if config.stream == "appearance" else "flow_features"]
    motion = inputs.get("flow_features")
    scores, maps = [], []
    for row in range(CLIPS):
        steps, attention = oracle.forward_one(
            weights,
            architecture,
            main[row].numpy(),
            None if motion is None else motion[row].numpy(),
            hidden=HIDDEN,
            inverse_temperature=config.inverse_temperature,
            rescale=config.rescale_attention,
            coupled=config.coupled,
        )
        np.testing.assert_allclose(output.maps["step_logits"][row].detach(), steps, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(output.logits[row].exp().detach(), oracle.score(steps), rtol=1e-8)
        np.testing.assert_allclose(output.logits[row].softmax(0).detach(), oracle.score(steps), rtol=1e-8)
        scores.append(steps)
        if attention is not None:
            np.testing.assert_allclose(output.maps["attention"][row].detach(), attention, rtol=1e-8)
            maps.append(attention)

    cross_entropy, penalty = oracle.losses(scores, maps, labels.tolist(), config.attention_lambda)
    terms = model.losses(output, labels, inputs)
    assert terms["cross_entropy"].item() == pytest.approx(cross_entropy, rel=1e-8)
    assert set(terms) == {"cross_entropy"} | ({"attention"} if maps and config.attention_lambda else set())
    if "attention" in terms:
        assert terms["attention"].item() == pytest.approx(penalty, rel=1e-8)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_gradient_reaches_every_parameter_and_is_right(architecture):
    model = build(architecture=architecture, peephole=True, attention_lambda=0.1)
    inputs, labels = features(model), torch.tensor([0, 2])
    objective(model, inputs, labels).backward()
    learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert {name.split(".")[0] for name in learning} == {"recurrent"}
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in learning.values())
    rng = torch.Generator().manual_seed(0)
    for parameter in learning.values():
        direction = torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
        change, step = (parameter.grad * direction).sum().item(), 1e-6
        around = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step * direction)
                around.append(objective(model, inputs, labels).item())
                parameter.sub_(sign * step * direction)
        assert (around[0] - around[1]) / (2 * step) == pytest.approx(change, rel=1e-4, abs=1e-7)


def test_soft_labels_equal_hard_ones_when_they_are_sure():
    model = build(architecture="conv_alstm")
    inputs, labels = features(model), torch.tensor([0, 2])
    sure = F.one_hot(labels, CLASSES).double()
    torch.testing.assert_close(objective(model, inputs, labels), objective(model, inputs, sure))
    unsure = (sure + F.one_hot(labels + 1, CLASSES)) / 2
    mean = (objective(model, inputs, labels) + objective(model, inputs, labels + 1)) / 2
    torch.testing.assert_close(objective(model, inputs, unsure), mean)


@pytest.mark.parametrize("architecture", ATTENDING)
def test_attention_is_a_distribution_that_does_not_see_the_future(architecture):
    model = build(
        architecture=architecture, initial_state="zero"
    )  # the mean map would show every frame to the first states
    inputs = features(model)
    before = model(**inputs).maps["attention"]
    torch.testing.assert_close(before.sum((2, 3)), torch.ones(CLIPS, FRAMES, dtype=torch.float64))
    for name in inputs:
        changed = dict(inputs) | {name: inputs[name].clone()}
        changed[name][:, 1] += 1
        moved = (model(**changed).maps["attention"] - before).abs().amax((0, 2, 3))
        assert moved[0] == 0
        assert (moved[1:] > 0).all()


@pytest.mark.parametrize("architecture", ["alstm", "conv_alstm"])
def test_without_motion_attention_is_led_by_the_state_before(architecture):
    model = build(architecture=architecture, initial_state="zero")
    with torch.no_grad():
        model.recurrent.top.attention.map_projection.weight.zero_()
    attention = model(**features(model)).maps["attention"]
    positions = attention.shape[2] * attention.shape[3]
    torch.testing.assert_close(attention[:, 0], torch.full_like(attention[:, 0], 1 / positions))
    if architecture == "conv_alstm":
        assert (attention[:, 1] - 1 / positions).abs().max() > 1e-3
    else:  # one state for the whole map moves all scores alike
        torch.testing.assert_close(attention[:, 1], torch.full_like(attention[:, 1], 1 / positions))


def test_even_attention_rescaled_is_no_attention():
    without_attention = build(architecture="conv_lstm", bottom_kernel=3)
    attending = build(architecture="conv_alstm", initial_state="zero", rescale_attention=True)
    state = {name.replace("bottom", "top"): value for name, value in without_attention.state_dict().items()}
    with torch.no_grad():
        attending.load_state_dict(attending.state_dict() | state)
        attending.recurrent.top.attention.score.weight.zero_()
    inputs = features(without_attention)
    torch.testing.assert_close(attending(**inputs).logits, without_attention(**inputs).logits)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_frames_and_their_features_give_the_same_answer_and_clips_do_not_talk(architecture):
    model = build(architecture=architecture, dtype=torch.float32)
    inputs = frames(model)
    together = model(**inputs)
    assert together.logits.shape == (CLIPS, CLASSES)
    maps = {}
    if "video" in inputs:
        maps["features"] = model.appearance(inputs["video"])
    if "flow" in inputs:
        maps["flow_features"] = model.motion(inputs["flow"])
    torch.testing.assert_close(model(**maps).logits, together.logits)
    assert torch.equal(model(**inputs).logits, together.logits)
    for row in range(CLIPS):
        alone = model(**{name: value[row : row + 1] for name, value in inputs.items()})
        torch.testing.assert_close(alone.logits[0], together.logits[row], rtol=1e-4, atol=1e-5)
        for name, value in alone.maps.items():
            torch.testing.assert_close(value[0], together.maps[name][row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:.*_flat_weights.*:UserWarning")
def test_it_survives_torch_export(architecture):
    model = build(architecture=architecture, dtype=torch.float32)
    inputs = frames(model)
    exported = torch.export.export(model, (), kwargs=inputs).module()
    torch.testing.assert_close(exported(**inputs).logits, model(**inputs).logits, rtol=1e-4, atol=1e-5)


def test_stages_hand_layers_over_by_the_beginning_of_their_names():
    """The authors' start: the bottom from a flow ConvLSTM, all else from an RGB ConvALSTM, cross weights their own."""
    flow = build(1, architecture="conv_lstm", stream="motion").state_dict()
    rgb = build(2, architecture="conv_alstm").state_dict()
    model = build(3, bottom_kernel=3)
    initial = model.state_dict()
    copied = {}
    for prefix, source in {
        "recurrent.bottom.": flow,
        "motion.": flow,
        "recurrent.top.": rgb,
        "recurrent.head.": rgb,
        "appearance.": rgb,
    }.items():
        copied |= {name: value for name, value in source.items() if name.startswith(prefix)}
    assert {name: initial[name].shape for name in copied} == {name: value.shape for name, value in copied.items()}
    remaining = {name.removeprefix("recurrent.bottom.") for name in initial.keys() - copied.keys()}
    starts = {f"initial.{state}.{kind}" for state in ("hidden", "cell") for kind in ("weight", "bias")}
    assert remaining == starts | {"lstm.context_weight"}
    assert sum(name.startswith("recurrent.bottom.") for name in copied) == 3  # the authors' 12, gates stacked
    model.load_state_dict(initial | copied)
    assert torch.equal(model.recurrent.bottom.lstm.input_weight, flow["recurrent.bottom.lstm.input_weight"].double())


@pytest.mark.parametrize(("architecture", "family"), [("alstm", "normal"), ("conv_alstm", "uniform")])
@pytest.mark.parametrize("setting", ["paper", "normal", "uniform"])
def test_parameters_begin_as_the_authors_draw_them(architecture, family, setting):
    torch.manual_seed(0)
    settings = SMALL | {
        "architecture": architecture,
        "hidden": 40,
        "attention_width": 50,
        "head_width": 60,
        "peephole": True,
    }
    model = VideoLSTMConfig.model_validate(settings | {"initialization": setting}).build(CLASSES)
    top, head = model.recurrent.top, model.recurrent.head
    channels = model.shapes["appearance"][0]
    bounds = {  # the authors' d
        top.lstm.input_weight: channels,
        top.lstm.hidden_weight: 40,
        top.attention.map_projection.weight: channels,
        top.attention.state_weights[0]: 40,
        top.attention.score.weight: 1,
        top.initial.cell.weight: channels,
        head.hidden.weight: 60,
        head.classifier.weight: CLASSES,
    }
    for weight, d in bounds.items():
        if (family if setting == "paper" else setting) == "normal":
            assert weight.std().item() == pytest.approx(0.1, rel=0.3)
            assert weight.abs().max() > 0.15
        else:
            assert weight.abs().max() <= d**-0.5
            assert weight.abs().max() > 0.9 * d**-0.5
    assert not any(
        value.any() for value in (top.lstm.bias, top.lstm.peephole, head.hidden.bias, top.initial.hidden.bias)
    )


class TestFeatures:
    def test_a_frozen_network_stays_as_it_was(self):
        model = build(architecture="conv_lstm", dtype=torch.float32).train()
        before = {name: value.clone() for name, value in model.appearance.state_dict().items()}
        inputs = frames(model)
        objective(model, inputs, torch.tensor([0, 1])).backward()
        assert model.training
        assert not model.appearance.trunk.training
        assert all(parameter.grad is None for parameter in model.appearance.parameters())
        assert all(torch.equal(value, before[name]) for name, value in model.appearance.state_dict().items())

    def test_a_learning_network_gets_gradients_and_moves_its_statistics(self):
        model = build(architecture="video_lstm", dtype=torch.float32, train_backbone=True).train()
        before = {name: value.clone() for name, value in model.motion.state_dict().items()}
        objective(model, frames(model), torch.tensor([0, 1])).backward()
        for part in (model.appearance, model.motion):
            assert all(value.grad is not None and value.grad.any() for value in part.parameters())
        assert not torch.equal(model.motion.trunk.stem.norm.running_mean, before["trunk.stem.norm.running_mean"])

    def test_long_clips_go_through_in_pieces(self):
        maps = feature_maps("resnet18", out_index=-3).eval()
        video = torch.randn(1, 40, 3, 32, 32)
        at_once = maps.trunk(video[0])
        torch.testing.assert_close(maps(video)[0], at_once, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("backbone", ["resnet18", "mobilenetv3_small_050"])
    @pytest.mark.parametrize("out_index", [-1, -2])
    def test_its_shape_is_known_before_anything_is_computed(self, backbone, out_index):
        maps = feature_maps(backbone, 1, out_index=out_index).eval()
        assert maps(torch.zeros(1, 1, 1, 64, 64)).shape[2:] == maps.output_shape(1, 64)

    def test_vgg_gives_pool5_or_fc7(self):
        with torch.device("meta"):
            assert feature_maps("vgg16").output_shape(3, 224) == (512, 7, 7)
            assert feature_maps("vgg16", vector=True).output_shape(3, 224) == (4096, 1, 1)
            assert feature_maps("resnet18", vector=True).output_shape(3, 224) == (512, 7, 7)

    @pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "resnet18"])
    def test_filters_of_colours_are_carried_over_to_flow_by_averaging(self, monkeypatch, backbone):
        create, pretrained_filters = timm.create_model, []

        def cached(name, pretrained=False, **options):
            assert pretrained
            net = create(name, **options)
            pretrained_filters.append(
                next(value for value in net.modules() if isinstance(value, nn.Conv2d)).weight.clone()
            )
            return net

        monkeypatch.setattr(timm, "create_model", cached)
        maps = feature_maps(backbone, 2, pretrained=True, average_channels=True)
        first = next(value for value in maps.modules() if isinstance(value, nn.Conv2d))
        assert pretrained_filters[0].shape[1] == 3
        for channel in range(2):
            torch.testing.assert_close(first.weight[:, channel], pretrained_filters[0].mean(1))
        assert maps(torch.zeros(1, 1, 2, 64, 64)).shape[2:] == maps.output_shape(2, 64)

    def test_what_cannot_be_had_is_said(self, monkeypatch):
        with pytest.raises(RecipeError, match=r"timm knows no model 'resnet81'.*Did you mean"):
            feature_maps("resnet81")
        with pytest.raises(RecipeError, match="out_index = -7 of a network with 5 feature maps"):
            feature_maps("mobilenetv3_small_050", out_index=-7)
        with pytest.raises(RecipeError, match="out_index = -5 of a network with 4 feature maps"):
            feature_maps("resnet18", out_index=-5)

        def refuse(name, pretrained=False, **options):
            raise OSError("no route to host")

        monkeypatch.setattr(timm, "create_model", refuse)
        with pytest.raises(RecipeError, match=r"model.pretrained: the ImageNet weights 'vgg16' could not be fetched"):
            feature_maps("vgg16", pretrained=True)

    def test_missing_or_foreign_input_is_refused_in_words(self):
        model = build()
        inputs = features(model)
        with pytest.raises(DataError, match="neither flow nor flow_features was given"):
            model(features=inputs["features"])
        with pytest.raises(DataError, match=r"features of size 256x2x3.*256x3x3, the output of resnet18 for video"):
            model(features=inputs["features"][..., :2, :], flow_features=inputs["flow_features"])

    def test_depth_videos_have_one_channel(self):
        model = VideoLSTMConfig.model_validate(SMALL | {"architecture": "conv_lstm"}).build(CLASSES, ClipData(1)).eval()
        assert model(video=torch.zeros(1, FRAMES, 1, SIZE, SIZE)).logits.shape == (1, CLASSES)


def test_the_maps_of_a_network_are_its_own():
    torch.manual_seed(0)
    maps = feature_maps("resnet18").eval()
    assert isinstance(maps, FeatureMaps)
    torch.manual_seed(0)
    timm_model = timm.create_model("resnet18", num_classes=0, zero_init_last=False).eval()
    frames_ = torch.randn(1, 2, 3, 64, 64)
    torch.testing.assert_close(maps(frames_)[0], timm_model.forward_features(frames_[0]), rtol=1e-4, atol=1e-4)


def test_it_learns_to_tell_a_rising_from_a_falling_sequence():
    """Maps whose order alone decides: averaged over time both classes are the same."""
    torch.manual_seed(0)
    model = VideoLSTMConfig.model_validate(
        SMALL | {"architecture": "conv_lstm", "initialization": "normal", "dropout": 0.0, "frames": 6}
    ).build(2)
    channels, height, width = model.shapes["appearance"]
    ramp = torch.linspace(-1, 1, 6)[:, None, None, None]
    direction = torch.randn(channels, height, width)
    labels = torch.arange(16) % 2
    clips = torch.stack([(1 - 2 * label) * ramp * direction for label in labels.tolist()])
    clips = clips + 0.1 * torch.randn_like(clips)
    optimizer = torch.optim.RMSprop([p for p in model.parameters() if p.requires_grad], lr=1e-3, alpha=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        objective(model, {"features": clips}, labels).backward()
        optimizer.step()
    assert (model.eval()(features=clips).logits.argmax(1) == labels).all()


def test_a_pooled_head_does_not_see_where():
    head = build(architecture="conv_lstm", head_pool=True).recurrent.head
    assert head.hidden.in_features == HIDDEN
    states = torch.randn(2, 3, HIDDEN, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(head(states), head(states.roll((1, 2), (3, 4))))
    torch.testing.assert_close(head(states), head(states.mean((3, 4), keepdim=True)))
