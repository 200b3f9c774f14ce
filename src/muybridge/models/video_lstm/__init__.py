"""VideoLSTM: recurrent layers over the maps of a CNN that look where the motion is; with its five simpler relatives.

Legend: B videos, T frames, C channels, H and W pixels, D features, h and w map size, K classes.
Source: Li, Gavrilyuk, Gavves, Jain, Snoek, CVIU 2018.
"""

import math
from typing import ClassVar, Literal

import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from muybridge.core.contracts import ClipData, ClipInput, FrozenPart, Holds
from muybridge.core.errors import DataError
from muybridge.core.spec import ModelSpec
from muybridge.core.types import Output
from muybridge.models.base import Model, ModelConfig, Targets
from muybridge.models.video_lstm.recurrent import Attention, Head, Layer, Recurrent, Start, initialise
from muybridge.nn.conv_lstm import ConvLSTM
from muybridge.nn.feature_maps import FeatureMaps, feature_maps

Architecture = Literal["lstm", "alstm", "conv_lstm", "conv_alstm", "motion_alstm", "video_lstm"]
Stream = Literal["appearance", "motion"]
Kernel = Literal[1, 3, 5, 7]

INPUTS: dict[Stream, tuple[str, str]] = {"appearance": ("video", "features"), "motion": ("flow", "flow_features")}
"""What each stream reads, and what stands for it when its CNN was asked beforehand."""

SPEC = ModelSpec(
    name="video_lstm",
    title="Convolutional LSTM over CNN maps with attention led by motion (VideoLSTM), and its simpler relatives",
    paper="Li et al., VideoLSTM Convolves, Attends and Flows for Action Recognition, CVIU 2018",
    link="https://arxiv.org/abs/1607.01794",
    code="https://github.com/zhenyangli/VideoLSTM",
    departures={
        "backbone": "timm's networks with torchvision's ImageNet weights, on RGB of unit deviation, where the authors "
        "feed a VGG-16 of Caffe with BGR; theirs was tuned on UCF101 and never released",
        "clipping": "cross-entropy from logits, which is finite as it is; the authors clip probabilities to 1e-7",
        "bottom_kernel": "1 as in the released script by default, but their initialisation by transfer from a flow "
        "ConvLSTM fits only a bottom layer of kernel 3",
        "vectors": "where a CNN has no fully connected layers, or the bottom layer of motion_alstm reads the same flow "
        "maps as the top one (stream = motion), the mean of the map stands for the vector fc7",
        "head": "weights for every place of the state, as with the authors; head_pool = true takes the mean of places",
    },
)


class VideoLSTMConfig(ModelConfig):
    """The knobs of VideoLSTM; the defaults are those of the authors' code.

    Attributes:
        architecture: lstm and conv_lstm read maps as they are; alstm and conv_alstm attend to them by their own last
            state; motion_alstm and video_lstm attend by the current state of a second layer, which reads optical flow.
            In those without conv, states are vectors.
        stream: whose maps are recognised, those of the frames or those of optical flow.
        backbone: the CNN, by timm's name; each stream has its own.
        level: which of the CNN's maps, -1 is the last (pool5 of VGG-16), -2 the one before, of twice the size.
        pretrained: start the CNN from ImageNet weights; filters are carried over to flow by averaging.
        train_backbone: whether the CNN learns; it is frozen otherwise.
        frames: consecutive frames of a clip.
        size, mean, std: of the frames, see :class:`ClipInput`.
        hidden: channels of every state.
        kernel: of the recurrent layer that is recognised from, where states are maps.
        bottom_kernel: of the layer below that follows motion; 3 for the authors' initialisation by transfer.
        peephole: gates see the memory, one weight a channel.
        start: where first states come from; "paper" is zero without attention and the mean map with it.
        coupled: the layer that follows motion also sees the last state of the one above; otherwise attention does.
        attention_width, attention_kernel: hidden channels and kernel of attention.
        tau: sharpness of attention.
        rescale_attention: multiply attended maps by the number of places, so that even attention changes nothing;
            of use where states are maps.
        attention_lambda: weight of the penalty on places that are never looked at, Σ_i (1 - Σ_t α_ti)².
        head: units of the layer before the class scores.
        head_pool: whether that layer sees the mean over places; the paper's sees each place with weights of its own, of
            which there are many, and which learn where in the frame a class was shown.
        dropout: before the class scores; unless set, 0.7 where states are maps and 0.5 where they are vectors.
        input_dropout: before the head; unless set, 0 where states are maps and 0.5 where they are vectors.
        initialisation: "normal" N(0, 0.1²), "uniform" ±1/sqrt(d); "paper" is uniform where states are maps.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["video_lstm"] = "video_lstm"
    architecture: Architecture = "video_lstm"
    stream: Stream = "appearance"
    backbone: str = "vgg16"
    level: int = Field(default=-1, le=-1)
    pretrained: bool = False
    train_backbone: bool = False
    frames: PositiveInt = 30
    size: PositiveInt = 224
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    hidden: PositiveInt = 512
    kernel: Kernel = 3
    bottom_kernel: Kernel = 1
    peephole: bool = False
    start: Literal["paper", "zero", "mean"] = "paper"
    coupled: bool = True
    attention_width: PositiveInt = 512
    attention_kernel: Kernel = 1
    tau: PositiveFloat = 1.0
    rescale_attention: bool = False
    attention_lambda: NonNegativeFloat = 0.0
    head: PositiveInt = 1024
    head_pool: bool = False
    dropout: float | None = Field(default=None, ge=0, lt=1)
    input_dropout: float | None = Field(default=None, ge=0, lt=1)
    initialisation: Literal["paper", "normal", "uniform"] = "paper"

    @property
    def convolves(self) -> bool:
        """Whether states are maps."""
        return self.architecture in ("conv_lstm", "conv_alstm", "video_lstm")

    @property
    def attends(self) -> bool:
        """Whether there is attention."""
        return self.architecture not in ("lstm", "conv_lstm")

    @property
    def follows_motion(self) -> bool:
        """Whether a second layer leads attention."""
        return self.architecture in ("motion_alstm", "video_lstm")

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What is read."""
        return ("appearance", "motion") if self.follows_motion and self.stream == "appearance" else (self.stream,)

    def vector(self, stream: Stream) -> bool:
        """Whether the CNN of a stream gives the vector of its last hidden layer, where it has one, and no map."""
        return not self.convolves and not (self.attends and stream == self.stream)

    def takes(self) -> ClipInput:
        """Consecutive frames, consecutive flow, or both."""
        return ClipInput(
            segments=1,
            frames_per_segment=self.frames,
            size=self.size,
            mean=self.mean,
            std=self.std,
            pixels="appearance" in self.streams,
            flow="motion" in self.streams,
        )

    def frozen_parts(self) -> tuple[FrozenPart, ...]:
        """The CNN of each stream that is read, unless it learns."""
        return tuple(
            FrozenPart(stream, *INPUTS[stream], settings=self._made(stream))
            for stream in self.streams
            if not self.train_backbone
        )

    def _made(self, stream: Stream) -> dict[str, str | int | bool]:
        # Only a VGG has a vector that is not the mean of its map.
        vector = self.vector(stream) and self.backbone.startswith("vgg")
        read: dict[str, str | int | bool] = {"vector": True} if vector else {"level": self.level}
        return {"backbone": self.backbone, **read}

    def build(self, num_classes: int, holds: Holds | None = None) -> "VideoLSTM":
        """The model for videos of the channels that the data set holds; without one, for RGB."""
        holds = holds or ClipData()
        assert isinstance(holds, ClipData)
        return VideoLSTM(self, num_classes, holds.channels)


class VideoLSTM(Model):
    """Scores a clip by all its steps; ``appearance``, ``motion`` and ``recurrent`` are the parts that stages name."""

    def __init__(self, config: VideoLSTMConfig, num_classes: int, channels: int) -> None:
        super().__init__()
        self.config = config
        self.appearance = self._cnn("appearance", channels)
        self.motion = self._cnn("motion", 2)
        self.shapes: dict[Stream, tuple[int, int, int]] = {}
        if self.appearance is not None:
            self.shapes["appearance"] = self.appearance.shape(channels, config.size)
        if self.motion is not None:
            self.shapes["motion"] = self.motion.shape(2, config.size)
        self.recurrent = _recurrent(config, self.shapes, num_classes)

    def _cnn(self, stream: Stream, channels: int) -> FeatureMaps | None:
        config = self.config
        if stream not in config.streams:
            return None
        return feature_maps(
            config.backbone,
            channels,
            level=config.level,
            vector=config.vector(stream),
            pretrained=config.pretrained,
            average_channels=stream == "motion",
            learns=config.train_backbone,
        )

    def forward(
        self,
        video: Float[Tensor, "B T C H W"] | None = None,
        flow: Float[Tensor, "B T 2 H W"] | None = None,
        features: Float[Tensor, "B T D h w"] | None = None,
        flow_features: Float[Tensor, "B T D2 h2 w2"] | None = None,
    ) -> Output:
        """Scores whose softmax is the mean over steps of each step's softmax.

        The maps are ``step_logits`` (``B T K``) and, with attention, ``attention`` (``B T h w``, sums to 1 a step).

        Args:
            video: frames, for the architectures that read them.
            flow: optical flow of the same moments, likewise.
            features: what ``appearance`` makes of the frames, in their place; vectors are maps of 1x1. Any precision.
            flow_features: what ``motion`` makes of the flow, in its place.

        Raises:
            DataError: what the architecture reads is missing, or features are of another size.
        """
        read = {
            "appearance": self._maps("appearance", self.appearance, video, features),
            "motion": self._maps("motion", self.motion, flow, flow_features),
        }
        maps = read[self.config.stream]
        assert maps is not None
        steps, attention = self.recurrent(maps, read["motion"])
        logits = steps.log_softmax(-1).logsumexp(1) - math.log(steps.shape[1])
        return Output(logits, {"step_logits": steps} | ({} if attention is None else {"attention": attention}))

    def _maps(
        self, stream: Stream, cnn: FeatureMaps | None, frames: Tensor | None, maps: Tensor | None
    ) -> Tensor | None:
        if cnn is None:
            return None
        names = INPUTS[stream]
        if maps is None and frames is None:
            raise DataError(
                f"neither {names[0]} nor {names[1]} came",
                expected=f"one of them, for {self.config.architecture} over {' and '.join(self.config.streams)}",
                hint="give it, or choose another model.architecture or model.stream",
            )
        if maps is None:
            return cnn(frames)
        if maps.shape[2:] != self.shapes[stream]:
            raise DataError(
                f"{names[1]} of {'x'.join(map(str, maps.shape[2:]))}",
                expected=f"{'x'.join(map(str, self.shapes[stream]))}, as {self.config.backbone} makes of {names[0]}",
                hint="compute the features again with this model, or set model.backbone, level and size as they were",
            )
        return maps.to(self.recurrent.head.classify.weight.dtype)

    def losses(self, output: Output, labels: Targets, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the objective; the second is absent without attention or with ``attention_lambda = 0``.

        * ``cross_entropy``: that of every step with the clip's label, summed over steps.
        * ``attention``: λ Σ_i (1 - Σ_t α_ti)², so that every place is looked at some time (Sharma et al., 2015).
        """
        steps = output.maps["step_logits"]
        every = repeat(labels, "b -> (b t)" if labels.ndim == 1 else "b k -> (b t) k", t=steps.shape[1])
        total = F.cross_entropy(rearrange(steps, "b t k -> (b t) k"), every, reduction="sum")
        terms = {"cross_entropy": total / len(steps)}
        if self.config.attends and self.config.attention_lambda:
            ignored = (1 - output.maps["attention"].sum(1)).square().sum((1, 2)).mean()
            terms["attention"] = self.config.attention_lambda * ignored
        return terms


def _recurrent(config: VideoLSTMConfig, shapes: dict[Stream, tuple[int, int, int]], num_classes: int) -> Recurrent:
    channels, height, width = shapes[config.stream]
    places = height * width if config.convolves and not config.head_pool else 1
    kernel = config.kernel if config.convolves else 1
    begins = config.start == "mean" or (config.start == "paper" and config.attends)
    hidden = config.hidden
    bottom = top = None
    if config.follows_motion or not config.attends:
        inputs, size, context = channels, kernel, 0
        if config.follows_motion:
            inputs = shapes["motion"][0]
            size = config.bottom_kernel if config.convolves else 1
            context = hidden if config.coupled else 0
        lstm = ConvLSTM(inputs, hidden, size, context=context, peephole=config.peephole)
        bottom = Layer(lstm, Start(inputs, hidden, size) if begins else None)
    if config.attends:
        states = [hidden] if config.coupled or not config.follows_motion else [hidden, hidden]
        attention = Attention(channels, states, config.attention_width, config.attention_kernel, config.tau)
        lstm = ConvLSTM(channels, hidden, kernel, peephole=config.peephole)
        top = Layer(lstm, Start(channels, hidden, kernel) if begins else None, attention)
    dropout, input_dropout = (0.7, 0.0) if config.convolves else (0.5, 0.5)
    head = Head(
        hidden * places,
        config.head,
        num_classes,
        input_dropout if config.input_dropout is None else config.input_dropout,
        dropout if config.dropout is None else config.dropout,
        pool=config.head_pool,
    )
    recurrent = Recurrent(
        bottom, top, head, pooled=not config.convolves, coupled=config.coupled, rescale=config.rescale_attention
    )
    family = "uniform" if config.convolves else "normal"
    initialise(recurrent, family if config.initialisation == "paper" else config.initialisation)
    return recurrent
