"""The network of STA-LSTM: the main network, the spatial gate over joints, the temporal gate over frames.

Legend: B batch, T frames, P people, J joints, D coordinates, V numbers that describe a joint, K = P J joints of all
people, I = K V inputs per frame, H hidden units, C classes. The symbols beside equations are those of Song et al.,
AAAI 2017.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from muybridge.core.contracts import SkeletonData
from muybridge.core.types import Output
from muybridge.models.base import CROSS_ENTROPY, Criterion, Model, Steps, Targets
from muybridge.models.sta_lstm import STALSTMConfig
from muybridge.nn.recurrent import valid_frames
from muybridge.nn.skeleton_features import SkeletonFeatures, split_confidence

States = tuple[Tensor, Tensor]
"""The hidden and cell states of an LSTM after a frame."""


class Carried(NamedTuple):
    """The states of all LSTMs after a frame; None of gates that do not exist, and before the first frame."""

    spatial: States | None = None
    temporal: States | None = None
    main: States | None = None


class Gated(NamedTuple):
    """What the network makes of frames.

    Attributes:
        scores: of each frame, before its weight.
        alpha: weights of the joints; None without the spatial gate.
        beta: weights of the frames; None without the temporal gate.
        carried: the states after the last frame.
    """

    scores: Float[Tensor, "B T C"]
    alpha: Float[Tensor, "B T P J"] | None
    beta: Float[Tensor, "B T"] | None
    carried: Carried


class SpatialAttention(nn.Module):
    """The spatial gate: weights the joints of each frame, given it and an LSTM's state of the previous frames."""

    def __init__(self, config: STALSTMConfig, num_joints: int, inputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, config.hidden, batch_first=True)
        self.input_projection = nn.Linear(inputs, config.attention_size)
        self.state_projection = nn.Linear(config.hidden, config.attention_size, bias=False)
        self.score = nn.Linear(config.attention_size, num_joints)

    def forward(
        self, frames: Float[Tensor, "B T I"], before: States | None = None
    ) -> tuple[Float[Tensor, "B T K"], States | None]:
        """Joint weights, positive, whose sum over the joints of a frame is 1; and the states after the last frame."""
        outputs, after = self.lstm(frames, before)
        state = _delay(outputs, before)
        # s_t = U_s tanh(W_xs x_t + W_hs h_{t-1} + b_s) + b_us
        scores = self.score(torch.tanh(self.input_projection(frames) + self.state_projection(state)))
        return scores.softmax(dim=-1), after


class TemporalAttention(nn.Module):
    """The temporal gate: weights the scores of each frame, given it and an LSTM's state of the previous frames."""

    def __init__(self, config: STALSTMConfig, inputs: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, config.hidden, batch_first=True)
        self.input_projection = nn.Linear(inputs, 1)
        self.state_projection = nn.Linear(config.hidden, 1, bias=False)

    def forward(
        self, frames: Float[Tensor, "B T I"], before: States | None = None
    ) -> tuple[Float[Tensor, "B T"], States | None]:
        """Frame weights, 0 or more, without an upper bound; and the states after the last frame."""
        outputs, after = self.lstm(frames, before)
        weights = F.relu(self.input_projection(frames) + self.state_projection(_delay(outputs, before)))
        return rearrange(weights, "B T 1 -> B T"), after


class MainNetwork(nn.Module):
    """Stacked LSTM layers, and class scores for every frame."""

    def __init__(self, config: STALSTMConfig, inputs: int, num_classes: int) -> None:
        super().__init__()
        between_layers = config.dropout if config.layers > 1 else 0.0
        self.lstm = nn.LSTM(inputs, config.hidden, config.layers, batch_first=True, dropout=between_layers)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.hidden, num_classes)

    def forward(
        self, frames: Float[Tensor, "B T I"], before: States | None = None
    ) -> tuple[Float[Tensor, "B T C"], States | None]:
        """Class scores of each frame, given it and the previous frames; and the states after the last frame."""
        outputs, after = self.lstm(frames, before)
        return self.classifier(self.dropout(outputs)), after


class STALSTM(Model):
    """Main network and two gates; stages of the training refer to ``main``, ``spatial`` and ``temporal``."""

    def __init__(self, config: STALSTMConfig, num_classes: int, holds: SkeletonData) -> None:
        super().__init__()
        self.config = config
        num_joints = holds.people * len(holds.layout)
        inputs = num_joints * (holds.coordinates * max(1, len(config.features)) + config.confidence)
        self.features = self.spatial = self.temporal = None
        if config.features:
            self.features = SkeletonFeatures(
                holds.layout,
                holds.people,
                holds.coordinates,
                config.features,
                scaling="group",
                body_size=config.body_size,
            )
        if config.attention in ("spatial", "both"):
            self.spatial = SpatialAttention(config, num_joints, inputs)
        if config.attention in ("temporal", "both"):
            self.temporal = TemporalAttention(config, inputs)
        self.main = MainNetwork(config, inputs, num_classes)
        self._initialize()

    def forward(self, joints: Float[Tensor, "B T P J D"], length: Int64[Tensor, " B"]) -> Output:
        """Class scores from all valid frames; the values of frames after ``length`` have no effect.

        With ``confidence``, the last of the D numbers of a joint is that.

        The maps are ``alpha`` (``B T P J``, weight of each joint) and ``beta`` (``B T``, weight of each frame), if the
        gates exist; both are 0 in padded frames.
        """
        maps: dict[str, Tensor] = {}
        valid = valid_frames(length, joints.shape[1]).to(joints.dtype)
        vectors = F.dropout(self._joint_vectors(joints, length), self.config.input_dropout, self.training)
        scores, alpha, beta, _ = self.run(vectors)
        if alpha is not None:
            maps["alpha"] = alpha * rearrange(valid, "B T -> B T 1 1")
        frame_weight = valid
        if beta is not None:
            frame_weight = maps["beta"] = beta * valid
        # LSTMs run forwards in time, so padded frames do not affect valid ones: it suffices to give them no weight.
        logits = torch.einsum("btc,bt->bc", scores, frame_weight)  # o = Σ_t β_t z_t
        if self.config.mean_over_time:
            logits = logits / rearrange(length, "B -> B 1")
        return Output(logits, maps)

    def run(self, vectors: Float[Tensor, "B T P J V"], carried: Carried | None = None) -> Gated:
        """The scores and weights of frames that follow those after which the states were carried."""
        before = carried or Carried()
        _, _, people, num_joints, _ = vectors.shape
        frames = rearrange(vectors, "B T P J V -> B T (P J V)")
        weighted, alpha, beta, spatial, temporal = frames, None, None, None, None
        if self.spatial is not None:
            flat, spatial = self.spatial(frames, before.spatial)
            alpha = rearrange(flat, "B T (P J) -> B T P J", P=people)
            if self.config.rescale_attention:
                alpha = alpha * (people * num_joints)
            weighted = rearrange(alpha.unsqueeze(-1) * vectors, "B T P J V -> B T (P J V)")
        if self.temporal is not None:
            beta, temporal = self.temporal(frames, before.temporal)
        scores, main = self.main(weighted, before.main)
        return Gated(scores, alpha, beta, Carried(spatial, temporal, main))

    def steps(self) -> "Steps[Any] | None":
        """The network frame by frame; None where the body is measured in the whole recording."""
        from muybridge.models.sta_lstm.steps import STALSTMSteps

        return None if self.config.needs_whole_recording() else STALSTMSteps(self)

    def _joint_vectors(
        self, joints: Float[Tensor, "B T P J D"], length: Int64[Tensor, " B"]
    ) -> Float[Tensor, "B T P J V"]:
        """What the network sees of each joint: its position or features, and the confidence where it is taken."""
        if self.features is None:
            return joints
        positions, _ = split_confidence(joints, self.config.confidence)
        return self.vectors_of(self.features(positions, length), joints)

    def vectors_of(
        self, features: Float[Tensor, "B T F"], joints: Float[Tensor, "B T P J D"]
    ) -> Float[Tensor, "B T P J V"]:
        """The vectors of joints from the features of their frames, with the confidence where it is taken."""
        _, _, people, num_joints, _ = joints.shape
        parts, number = "B T (N P J D) -> B T P J (N D)", len(self.config.features)
        vectors = rearrange(features, parts, N=number, P=people, J=num_joints)
        _, confidence = split_confidence(joints, self.config.confidence)
        return vectors if confidence is None else torch.cat([vectors, confidence.unsqueeze(-1)], dim=-1)

    def calibrate(self, batches: Iterable[dict[str, Tensor]]) -> None:
        """Fits mean and deviation of the features, where there are any."""
        if self.features is not None:
            self.features.fit(batches, self.config.confidence)

    def losses(
        self, output: Output, labels: Targets, inputs: dict[str, Tensor], criterion: Criterion = CROSS_ENTROPY
    ) -> dict[str, Tensor]:
        """The terms of the objective, each multiplied by its λ; a term without its gate or with λ = 0 is omitted.

        * ``spatial_attention``: λ1 Σ_k (1 - mean_t α_k)², so that no joint is ignored in all frames.
        * ``temporal_attention``: λ2 mean_t |β|, so that frame weights stay bounded.
        * ``weight_l1``: λ3 times the L1 norm of all weight matrices, including those of frozen parts.
        """
        terms = super().losses(output, labels, inputs, criterion)
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

    def _initialize(self) -> None:
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
            nn.init.constant_(self.temporal.input_projection.bias, self.config.temporal_bias)


def _delay(states: Float[Tensor, "B T H"], before: States | None) -> Float[Tensor, "B T H"]:
    """The states of the previous frame; for the first those carried, or zeros."""
    if before is None:
        return F.pad(states[:, :-1], (0, 0, 1, 0))
    return torch.cat([before[0][-1].unsqueeze(1), states[:, :-1]], dim=1)
