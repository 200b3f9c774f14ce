"""VideoLSTM: recurrent layers over the feature maps of a CNN, with motion-guided attention; and five simpler variants.

Source: Li, Gavrilyuk, Gavves, Jain, Snoek, CVIU 2018.
"""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from muybridge.core.contracts import ClipData, ClipInput, FrozenPart, Holds
from muybridge.core.spec import ModelSpec
from muybridge.models.config import ModelConfig

if TYPE_CHECKING:
    from muybridge.models.video_lstm.network import VideoLSTM

Architecture = Literal["lstm", "alstm", "conv_lstm", "conv_alstm", "motion_alstm", "video_lstm"]
Stream = Literal["appearance", "motion"]
Kernel = Literal[1, 3, 5, 7]

INPUTS: dict[Stream, tuple[str, str]] = {"appearance": ("video", "features"), "motion": ("flow", "flow_features")}
"""The argument of ``forward`` that each stream's CNN processes, and the one for cached features instead."""

SPEC = ModelSpec(
    name="video_lstm",
    title="VideoLSTM: a convolutional LSTM over CNN features with motion-guided attention, and its simpler variants",
    paper="Li et al., VideoLSTM Convolves, Attends and Flows for Action Recognition, CVIU 2018",
    link="https://arxiv.org/abs/1607.01794",
    code="https://github.com/zhenyangli/VideoLSTM",
    differences={
        "backbone": "timm's networks with torchvision's ImageNet weights, on RGB of unit deviation, where the authors "
        "use Caffe's VGG-16 on BGR; theirs was fine-tuned on UCF101 and not released",
        "clipping": "cross-entropy from logits, which is always finite; the authors clip probabilities to 1e-7",
        "bottom_kernel": "1 by default, as in the released script, but their initialization from a flow ConvLSTM "
        "requires a bottom layer of kernel 3",
        "vectors": "if a CNN has no fully connected layers, or the bottom layer of motion_alstm has the same flow maps "
        "as the top one (stream = motion), the mean of the map replaces the vector fc7",
        "head": "separate weights for every position of the state, as in the authors' code; head_pool = true averages "
        "the positions first",
    },
)


class VideoLSTMConfig(ModelConfig):
    """The settings of VideoLSTM; the defaults are those of the authors' code.

    Attributes:
        architecture: lstm and conv_lstm have no attention; alstm and conv_alstm compute it from their own last state;
            motion_alstm and video_lstm from the current state of a second layer, whose input is optical flow. In those
            without conv, states are vectors.
        stream: whether frames or optical flow are classified.
        backbone: the CNN, by timm's name; each stream has its own.
        out_index: which of the CNN's feature maps: -1 is the last (pool5 of VGG-16), -2 the one before, twice as large.
        pretrained: start the CNN from ImageNet weights; for flow, the first filters are averaged over RGB.
        train_backbone: whether the CNN is trained; it is frozen otherwise.
        frames: consecutive frames of a clip.
        size, mean, std: of the frames, see :class:`~muybridge.core.contracts.ClipInput`.
        hidden: channels of every state.
        kernel: kernel size of the classified recurrent layer, if states are maps.
        bottom_kernel: kernel size of the second layer, over flow; 3 for the authors' initialization from a flow
            ConvLSTM.
        peephole: gates take the cell state, with one weight per channel.
        initial_state: zero, or computed from the mean feature map; "paper" is zero without attention, else the mean.
        coupled: the second layer takes the last state of the classified one; otherwise the attention does.
        attention_width, attention_kernel: hidden channels and kernel size of the attention.
        inverse_temperature: factor on the scores before the attention's softmax.
        rescale_attention: multiply attended maps by the number of positions, so that uniform attention changes nothing;
            has an effect if states are maps.
        attention_lambda: weight of the penalty on positions that are never attended to, Σ_i (1 - Σ_t α_ti)².
        head_width: units of the layer before the class scores.
        head_pool: whether that layer takes the mean over positions; the paper's has separate weights for each position,
            which are many, and which learn where in the frame a class appeared.
        dropout: before the class scores; by default 0.7 if states are maps and 0.5 if they are vectors.
        input_dropout: before the head; by default 0 if states are maps and 0.5 if they are vectors.
        initialization: "normal" N(0, 0.1²), "uniform" ±1/sqrt(d); "paper" is uniform if states are maps, else normal.
    """

    spec: ClassVar[ModelSpec] = SPEC
    multi_label: ClassVar[bool] = False
    name: Literal["video_lstm"] = "video_lstm"
    architecture: Architecture = "video_lstm"
    stream: Stream = "appearance"
    backbone: str = "vgg16"
    out_index: int = Field(default=-1, le=-1)
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
    initial_state: Literal["paper", "zero", "mean"] = "paper"
    coupled: bool = True
    attention_width: PositiveInt = 512
    attention_kernel: Kernel = 1
    inverse_temperature: PositiveFloat = 1.0
    rescale_attention: bool = False
    attention_lambda: NonNegativeFloat = 0.0
    head_width: PositiveInt = 1024
    head_pool: bool = False
    dropout: float | None = Field(default=None, ge=0, lt=1)
    input_dropout: float | None = Field(default=None, ge=0, lt=1)
    initialization: Literal["paper", "normal", "uniform"] = "paper"

    @property
    def convolutional(self) -> bool:
        """Whether states are maps."""
        return self.architecture in ("conv_lstm", "conv_alstm", "video_lstm")

    @property
    def has_attention(self) -> bool:
        """Whether the input of the classified layer is weighted by attention."""
        return self.architecture not in ("lstm", "conv_lstm")

    @property
    def motion_guided(self) -> bool:
        """Whether the attention is computed from the state of a second layer, over optical flow."""
        return self.architecture in ("motion_alstm", "video_lstm")

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that the model takes."""
        return ("appearance", "motion") if self.motion_guided and self.stream == "appearance" else (self.stream,)

    @property
    def starts_from_mean(self) -> bool:
        """Whether the state before the first frame is computed from the mean feature map of all of them."""
        return self.initial_state == "mean" or (self.initial_state == "paper" and self.has_attention)

    def needs_whole_recording(self) -> str:
        """Only where the initial state is computed from all frames."""
        if not self.starts_from_mean:
            return ""
        return (
            f'model.initial_state = "{self.initial_state}" computes the first state from the frames of a whole clip; '
            'train with "zero" instead'
        )

    def uses_vector(self, stream: Stream) -> bool:
        """Whether a stream's CNN returns the features of its last hidden layer, if it has one, instead of a map."""
        return not self.convolutional and not (self.has_attention and stream == self.stream)

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
        """The CNN of each stream, unless it is trained."""
        return tuple(
            FrozenPart(stream, *INPUTS[stream], settings=self._feature_settings(stream))
            for stream in self.streams
            if not self.train_backbone
        )

    def _feature_settings(self, stream: Stream) -> dict[str, str | int | bool]:
        # Only a VGG has a vector that is not the mean of its map.
        vector = self.uses_vector(stream) and self.backbone.startswith("vgg")
        output: dict[str, str | int | bool] = {"vector": True} if vector else {"out_index": self.out_index}
        return {"backbone": self.backbone, **output}

    def build(self, num_classes: int, holds: Holds | None = None) -> "VideoLSTM":
        """The network for videos with the data set's number of channels; without ``holds`` for RGB."""
        from muybridge.models.video_lstm.network import VideoLSTM

        holds = holds or ClipData()
        assert isinstance(holds, ClipData)
        return VideoLSTM(self, num_classes, holds.channels)
