"""The network of VideoLSTM: CNNs over frames and flow, and a recurrent network over their feature maps.

Legend: B videos, T frames, C channels, H and W pixels, D features, h and w map size, K classes.
"""

import math
from typing import Any

from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from muybridge.core.errors import DataError
from muybridge.core.types import Output
from muybridge.models.base import CROSS_ENTROPY, Criterion, Model, Parts, Steps, Targets
from muybridge.models.video_lstm import INPUTS, Stream, VideoLSTMConfig
from muybridge.models.video_lstm.recurrent import (
    Attention,
    Head,
    InitialState,
    RecurrentLayer,
    RecurrentNetwork,
    initialize,
)
from muybridge.nn.conv_lstm import ConvLSTM
from muybridge.nn.feature_maps import FeatureMaps, feature_maps

Shape = tuple[int, int, int]
"""Channels, height and width of a feature map."""


class VideoLSTM(Model):
    """Classifies a clip by the scores of all steps; stages refer to ``appearance``, ``motion`` and ``recurrent``."""

    def __init__(self, config: VideoLSTMConfig, num_classes: int, channels: int) -> None:
        super().__init__()
        self.config = config
        self.appearance = self._cnn("appearance", channels)
        self.motion = self._cnn("motion", 2)
        self.shapes: dict[Stream, Shape] = {}
        if self.appearance is not None:
            self.shapes["appearance"] = self.appearance.output_shape(channels, config.size)
        if self.motion is not None:
            self.shapes["motion"] = self.motion.output_shape(2, config.size)
        self.recurrent = _recurrent_network(config, self.shapes, num_classes)

    def _cnn(self, stream: Stream, channels: int) -> FeatureMaps | None:
        config = self.config
        if stream not in config.streams:
            return None
        return feature_maps(
            config.backbone,
            channels,
            out_index=config.out_index,
            vector=config.uses_vector(stream),
            pretrained=config.pretrained,
            average_channels=stream == "motion",
            trainable=config.train_backbone,
        )

    def forward(
        self,
        video: Float[Tensor, "B T C H W"] | None = None,
        flow: Float[Tensor, "B T 2 H W"] | None = None,
        features: Float[Tensor, "B T D h w"] | None = None,
        flow_features: Float[Tensor, "B T D2 h2 w2"] | None = None,
    ) -> Output:
        """Class scores whose softmax is the mean over steps of each step's softmax.

        The maps are ``step_logits`` (``B T K``) and, with attention, ``attention`` (``B T h w``, sums to 1 in a step).

        Args:
            video: frames, for the architectures that take them.
            flow: optical flow of the same frames, likewise.
            features: cached output of ``appearance``, instead of ``video``; vectors are maps of 1x1. Any precision.
            flow_features: cached output of ``motion``, instead of ``flow``.

        Raises:
            DataError: an input of the architecture is missing, or features have another size.
        """
        by_stream = self.maps_by_stream(video, flow, features, flow_features)
        maps = by_stream[self.config.stream]
        assert maps is not None
        step_logits, attention = self.recurrent(maps, by_stream["motion"])
        logits = step_logits.log_softmax(-1).logsumexp(1) - math.log(step_logits.shape[1])
        output_maps = {"step_logits": step_logits}
        if attention is not None:
            output_maps["attention"] = attention
        return Output(logits, output_maps)

    def maps_by_stream(
        self, video: Tensor | None, flow: Tensor | None, features: Tensor | None, flow_features: Tensor | None
    ) -> dict[Stream, Tensor | None]:
        """The feature maps ``B T D h w`` of each stream from the arguments of :meth:`forward`; None of one without."""
        return {
            "appearance": self._feature_maps("appearance", self.appearance, video, features),
            "motion": self._feature_maps("motion", self.motion, flow, flow_features),
        }

    def steps(self) -> "Steps[Any] | None":
        """The network frame by frame; None where the initial state is computed from all frames."""
        from muybridge.models.video_lstm.steps import VideoLSTMSteps

        return None if self.config.needs_whole_recording() else VideoLSTMSteps(self)

    def parts(self) -> Parts:
        """The CNNs over frames and flow, and the recurrent network."""

        def early(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            given = {name: inputs.get(name) for pair in INPUTS.values() for name in pair}
            maps = self.maps_by_stream(**given)
            return {INPUTS[stream][1]: value[:, 0] for stream, value in maps.items() if value is not None}

        return Parts(1, early, lambda features: self(**features))

    def _feature_maps(
        self, stream: Stream, cnn: FeatureMaps | None, frames: Tensor | None, maps: Tensor | None
    ) -> Tensor | None:
        if cnn is None:
            return None
        frames_name, maps_name = INPUTS[stream]
        if maps is None and frames is None:
            raise DataError(
                f"neither {frames_name} nor {maps_name} was given",
                expected=f"one of them, for {self.config.architecture} over {' and '.join(self.config.streams)}",
                hint="pass it, or choose another model.architecture or model.stream",
            )
        if maps is None:
            return cnn(frames)
        if maps.shape[2:] != self.shapes[stream]:
            raise DataError(
                f"{maps_name} of size {'x'.join(map(str, maps.shape[2:]))}",
                expected=f"{'x'.join(map(str, self.shapes[stream]))}, the output of {self.config.backbone} for "
                f"{frames_name}",
                hint="extract the features again for this model, or restore model.backbone, out_index and size",
            )
        return maps.to(self.recurrent.head.classifier.weight.dtype)

    def losses(
        self, output: Output, labels: Targets, inputs: dict[str, Tensor], criterion: Criterion = CROSS_ENTROPY
    ) -> dict[str, Tensor]:
        """The terms of the objective; the second is omitted without attention or with ``attention_lambda = 0``.

        * ``cross_entropy``: that of every step with the clip's label, summed over steps.
        * ``attention``: λ Σ_i (1 - Σ_t α_ti)², so that every position is attended to some time (Sharma et al., 2015).
        """
        step_logits = output.maps["step_logits"]
        pattern = "b -> (b t)" if labels.ndim == 1 else "b k -> (b t) k"
        step_labels = repeat(labels, pattern, t=step_logits.shape[1])
        total = criterion(rearrange(step_logits, "b t k -> (b t) k"), step_labels, reduction="sum")
        terms = {criterion.name: total / len(step_logits)}
        if self.config.has_attention and self.config.attention_lambda:
            penalty = (1 - output.maps["attention"].sum(1)).square().sum((1, 2)).mean()
            terms["attention"] = self.config.attention_lambda * penalty
        return terms


def _recurrent_network(config: VideoLSTMConfig, shapes: dict[Stream, Shape], num_classes: int) -> RecurrentNetwork:
    """The recurrent network of the configured architecture, with initialized parameters."""
    channels, height, width = shapes[config.stream]
    positions = height * width if config.convolutional and not config.head_pool else 1
    bottom = _bottom_layer(config, shapes)
    top = _top_layer(config, channels)
    dropout, input_dropout = (0.7, 0.0) if config.convolutional else (0.5, 0.5)
    head = Head(
        config.hidden * positions,
        config.head_width,
        num_classes,
        input_dropout if config.input_dropout is None else config.input_dropout,
        dropout if config.dropout is None else config.dropout,
        pool=config.head_pool,
    )
    network = RecurrentNetwork(
        bottom,
        top,
        head,
        vector_states=not config.convolutional,
        coupled=config.coupled,
        rescale_attention=config.rescale_attention,
    )
    paper = "uniform" if config.convolutional else "normal"
    initialize(network, paper if config.initialization == "paper" else config.initialization)
    return network


def _bottom_layer(config: VideoLSTMConfig, shapes: dict[Stream, Shape]) -> RecurrentLayer | None:
    """The layer without attention: over flow if it guides the attention, else the classified one, if it has none."""
    if config.motion_guided:
        channels = shapes["motion"][0]
        kernel = config.bottom_kernel if config.convolutional else 1
        context = config.hidden if config.coupled else 0
    elif not config.has_attention:
        channels, kernel, context = shapes[config.stream][0], config.kernel if config.convolutional else 1, 0
    else:
        return None
    lstm = ConvLSTM(channels, config.hidden, kernel, context_channels=context, peephole=config.peephole)
    return RecurrentLayer(lstm, _initial_state(config, channels, kernel))


def _top_layer(config: VideoLSTMConfig, channels: int) -> RecurrentLayer | None:
    """The layer with attention, if there is one."""
    if not config.has_attention:
        return None
    kernel, hidden = config.kernel if config.convolutional else 1, config.hidden
    states = [hidden, hidden] if config.motion_guided and not config.coupled else [hidden]
    attention = Attention(channels, states, config.attention_width, config.attention_kernel, config.inverse_temperature)
    lstm = ConvLSTM(channels, hidden, kernel, peephole=config.peephole)
    return RecurrentLayer(lstm, _initial_state(config, channels, kernel), attention)


def _initial_state(config: VideoLSTMConfig, channels: int, kernel: int) -> InitialState | None:
    return InitialState(channels, config.hidden, kernel) if config.starts_from_mean else None
