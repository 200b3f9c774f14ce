"""From the features of segments to the class scores of a clip: pool, classify each segment, average the scores.

Legend: N images = B clips x T segments, C channels, H and W positions, K classes.
"""

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn


class Consensus(nn.Module):
    """The logits of a clip are the mean of the logits of its segments (Wang et al., TSN, ECCV 2016, Eq. 1)."""

    def __init__(self, channels: int, num_classes: int, segments: int, dropout: float) -> None:
        super().__init__()
        self.segments = segments
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, features: Float[Tensor, "N C H W"]) -> Float[Tensor, "B K"]:
        """Class scores of each clip, before softmax."""
        pooled = reduce(features, "n c h w -> n c", "mean")
        return reduce(self.classifier(self.dropout(pooled)), "(b t) k -> b k", "mean", t=self.segments)

    def class_activation(
        self, features: Float[Tensor, "N C H W"], logits: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B T H W"]:
        """Class activation map of each segment for the clip's highest-scoring class (Zhou et al., CVPR 2016, Eq. 2)."""
        weights = self.classifier.weight[logits.argmax(1)]
        return torch.einsum("btchw,bc->bthw", rearrange(features, "(b t) c h w -> b t c h w", t=self.segments), weights)
