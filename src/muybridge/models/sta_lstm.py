"""STA-LSTM: a stacked LSTM that learns which joints to look at in a frame, and which frames to listen to.

Two small networks watch the skeleton beside the main one. The first weighs the joints of every frame, the second
weighs the frame's vote; without one or both of them this is SA-LSTM, TA-LSTM or the plain LSTM of the paper's table.

Legend: B batch, T frames, P people, J joints, D coordinates, K = P J joints of all people, I = K D numbers a frame,
H hidden units, C classes. Source: Song et al., AAAI 2017, in whose symbols the comments beside equations speak.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from muybridge.core.contracts import Center, Holds, SkeletonData, SkeletonInput
from muybridge.core.skeletons import LAYOUTS
from muybridge.core.spec import ModelSpec
from muybridge.core.types import Output
from muybridge.models.base import Model, ModelConfig, Targets
from muybridge.nn.recurrent import valid_frames

SPEC = ModelSpec(
    name="sta_lstm",
    title="LSTM with spatial attention over joints and temporal attention over frames",
    paper="Song et al., An End-to-End Spatio-Temporal Attention Model for Human Action Recognition "
    "from Skeleton Data, AAAI 2017",
    link="https://arxiv.org/abs/1611.06067",
    departures={
        "mean_over_time": "frame votes are averaged over the valid frames, where the paper adds them up, so that the "
        "confidence of an answer does not grow with the length of the recording; mean_over_time = false adds them up",
        "initialisation": "the paper says only 'Gaussian'; fully connected layers start at N(0, 0.01), LSTMs at "
        "torch's default with forget bias 1, and the temporal gate at bias 1, because a ReLU born below 0 never learns",
        "alpha_scale": "an option the paper has not: joint weights times the number of joints, so that uniform "
        "attention leaves the input as it is instead of shrinking it",
        "dropout": "also before the class scores, and for a single layer too; the paper names the rate, not the places",
    },
)


class STALSTMConfig(ModelConfig):
    """The knobs of STA-LSTM; the defaults are the paper's where it gives a value.

    Attributes:
        attention: which gates there are; none is LSTM, spatial SA-LSTM, temporal TA-LSTM, both STA-LSTM.
        hidden: units of every LSTM layer.
        layers: LSTM layers of the main network.
        attention_size: units of the layer under the joint scores.
        alpha_scale: multiply joint weights by the number of joints, so that their mean is 1.
        mean_over_time: average the frames' votes instead of adding them up.
        dropout: after every layer of the main network.
        lambda_spatial, lambda_temporal, lambda_weights: weights of the three penalties of the objective; 0 leaves
            one out.
        init_std: standard deviation of fully connected weights at the start.
        forget_bias, temporal_bias: biases of LSTM forget gates and of the temporal gate at the start.
        smooth, center, face_camera, face_partner, unit_scale, max_frames: see :class:`SkeletonInput`.
    """

    spec: ClassVar[ModelSpec] = SPEC
    name: Literal["sta_lstm"] = "sta_lstm"
    attention: Literal["none", "spatial", "temporal", "both"] = "both"
    hidden: PositiveInt = 100
    layers: PositiveInt = 3
    attention_size: PositiveInt = 100
    alpha_scale: bool = False
    mean_over_time: bool = True
    dropout: float = Field(default=0.5, ge=0, lt=1)
    lambda_spatial: NonNegativeFloat = 1e-3
    lambda_temporal: NonNegativeFloat = 1e-4
    lambda_weights: NonNegativeFloat = 5e-4
    init_std: PositiveFloat = 0.01
    forget_bias: float = 1.0
    temporal_bias: float = 1.0
    smooth: bool = True
    center: Center = "first"
    face_camera: bool = True
    face_partner: bool = False
    unit_scale: bool = False
    max_frames: NonNegativeInt = 0

    def takes(self) -> SkeletonInput:
        """Joint positions of whole recordings, smoothed and brought into the frame the config asks for."""
        return SkeletonInput(
            smooth=self.smooth,
            center=self.center,
            face_camera=self.face_camera,
            face_partner=self.face_partner,
            unit_scale=self.unit_scale,
            max_frames=self.max_frames,
        )

    def build(self, num_classes: int, holds: Holds | None = None) -> "STALSTM":
        """The model for skeletons of the given layout; without one, for one person of 20 joints in 3D."""
        holds = holds or SkeletonData(LAYOUTS["kinect20"])
        assert isinstance(holds, SkeletonData)
        return STALSTM(self, num_classes, num_joints=holds.people * len(holds.layout), coordinates=holds.coordinates)


class SpatialAttention(nn.Module):
    """The spatial gate: weighs the joints of each frame, from it and from a memory of the frames before."""

    def __init__(self, config: STALSTMConfig, num_joints: int, coordinates: int) -> None:
        super().__init__()
        inputs = num_joints * coordinates
        self.lstm = nn.LSTM(inputs, config.hidden, batch_first=True)
        self.from_frame = nn.Linear(inputs, config.attention_size)
        self.from_memory = nn.Linear(config.hidden, config.attention_size, bias=False)
        self.score = nn.Linear(config.attention_size, num_joints)

    def forward(self, frames: Float[Tensor, "B T I"]) -> Float[Tensor, "B T K"]:
        """Joint weights, positive, summing to 1 over the joints of a frame."""
        memory = _one_frame_late(self.lstm(frames)[0])
        # s_t = U_s tanh(W_xs x_t + W_hs h_{t-1} + b_s) + b_us
        scores = self.score(torch.tanh(self.from_frame(frames) + self.from_memory(memory)))
        return scores.softmax(dim=-1)


class TemporalAttention(nn.Module):
    """The temporal gate: weighs each frame's vote, from it and from a memory of the frames before."""

    def __init__(self, config: STALSTMConfig, num_joints: int, coordinates: int) -> None:
        super().__init__()
        inputs = num_joints * coordinates
        self.lstm = nn.LSTM(inputs, config.hidden, batch_first=True)
        self.from_frame = nn.Linear(inputs, 1)
        self.from_memory = nn.Linear(config.hidden, 1, bias=False)

    def forward(self, frames: Float[Tensor, "B T I"]) -> Float[Tensor, "B T"]:
        """Frame weights, 0 or more, without an upper bound."""
        memory = _one_frame_late(self.lstm(frames)[0])
        return rearrange(F.relu(self.from_frame(frames) + self.from_memory(memory)), "B T 1 -> B T")


class MainNetwork(nn.Module):
    """Stacked LSTM layers, and class scores for every frame."""

    def __init__(self, config: STALSTMConfig, inputs: int, num_classes: int) -> None:
        super().__init__()
        between_layers = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(inputs, config.hidden, config.layers, batch_first=True, dropout=between_layers)
        self.dropout = nn.Dropout(config.dropout)
        self.classify = nn.Linear(config.hidden, num_classes)

    def forward(self, frames: Float[Tensor, "B T I"]) -> Float[Tensor, "B T C"]:
        """Class scores of each frame, given it and the frames before."""
        return self.classify(self.dropout(self.lstm(frames)[0]))


class STALSTM(Model):
    """Main network, joint gate and frame gate; ``spatial``, ``temporal`` and ``main`` are the parts stages name."""

    def __init__(self, config: STALSTMConfig, num_classes: int, num_joints: int, coordinates: int) -> None:
        super().__init__()
        self.config = config
        self.spatial = self.temporal = None
        if config.attention in ("spatial", "both"):
            self.spatial = SpatialAttention(config, num_joints, coordinates)
        if config.attention in ("temporal", "both"):
            self.temporal = TemporalAttention(config, num_joints, coordinates)
        self.main = MainNetwork(config, num_joints * coordinates, num_classes)
        self._start()

    def forward(self, joints: Float[Tensor, "B T P J D"], length: Int64[Tensor, " B"]) -> Output:
        """Class scores from every valid frame; what stands in the frames after ``length`` changes nothing.

        The maps are ``alpha`` (``B T P J``, weight of each joint) and ``beta`` (``B T``, weight of each frame), as
        far as the gates exist; both are 0 in padded frames.
        """
        _, num_frames, people, num_joints, _ = joints.shape
        maps: dict[str, Tensor] = {}
        valid = valid_frames(length, num_frames).to(joints.dtype)
        frames = rearrange(joints, "B T P J D -> B T (P J D)")
        if self.spatial is None:
            seen = frames
        else:
            alpha = rearrange(self.spatial(frames), "B T (P J) -> B T P J", P=people)
            if self.config.alpha_scale:
                alpha = alpha * (people * num_joints)
            maps["alpha"] = alpha * rearrange(valid, "B T -> B T 1 1")
            seen = rearrange(alpha.unsqueeze(-1) * joints, "B T P J D -> B T (P J D)")
        vote_weight = valid
        if self.temporal is not None:
            vote_weight = maps["beta"] = self.temporal(frames) * valid
        # LSTMs run forwards in time, so padded frames reach no valid one: leaving out their votes is enough.
        logits = torch.einsum("btc,bt->bc", self.main(seen), vote_weight)  # o = Σ_t β_t z_t
        if self.config.mean_over_time:
            logits = logits / rearrange(length, "B -> B 1")
        return Output(logits, maps)

    def losses(self, output: Output, labels: Targets, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms of the objective, each already times its λ; a term without its gate or with λ = 0 is absent.

        * ``spatial_attention``: λ1 Σ_k (1 - mean_t α_k)², so that no joint is ignored throughout.
        * ``temporal_attention``: λ2 mean_t |β|, so that frame weights stay bounded.
        * ``weight_l1``: λ3 times the sum of magnitudes of all weight matrices, of frozen parts too.
        """
        terms = super().losses(output, labels, inputs)
        length = inputs["length"]
        if self.spatial is not None and self.config.lambda_spatial:
            mean_alpha = output.maps["alpha"].sum(dim=1) / rearrange(length, "B -> B 1 1")
            penalty = (1 - mean_alpha).square().sum(dim=(1, 2)).mean()
            terms["spatial_attention"] = self.config.lambda_spatial * penalty
        if self.temporal is not None and self.config.lambda_temporal:
            penalty = (output.maps["beta"].abs().sum(dim=1) / length).mean()
            terms["temporal_attention"] = self.config.lambda_temporal * penalty
        if self.config.lambda_weights:
            matrices = [weight for weight in self.parameters() if weight.ndim > 1]
            terms["weight_l1"] = self.config.lambda_weights * torch.stack([w.abs().sum() for w in matrices]).sum()
        return terms

    def _start(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=self.config.init_std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LSTM):
                for name, bias in module.named_parameters():
                    if name.startswith("bias"):  # torch adds two biases and orders the gates i f g o
                        nn.init.zeros_(bias)
                    if name.startswith("bias_ih"):
                        nn.init.constant_(bias[self.config.hidden : 2 * self.config.hidden], self.config.forget_bias)
        if self.temporal is not None:
            nn.init.constant_(self.temporal.from_frame.bias, self.config.temporal_bias)


def _one_frame_late(states: Float[Tensor, "B T H"]) -> Float[Tensor, "B T H"]:
    """The state each frame finds: that of the frame before, zeros for the first."""
    return F.pad(states[:, :-1], (0, 0, 1, 0))
