"""Several networks in one.

Legend: B recordings, K classes.
"""

import torch
from torch import Tensor, nn

from muybridge.core.contracts import ClipInput, Holds
from muybridge.core.types import Output
from muybridge.models.base import Model
from muybridge.models.ensemble import EnsembleConfig


class Ensemble(Model):
    """The weighted mean of the probabilities of several networks, and the maps of the first that has them."""

    def __init__(self, config: EnsembleConfig, num_classes: int, holds: Holds | None) -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(member.build(num_classes, holds) for member in config.members)
        weights = torch.tensor(config.weights or [1.0] * len(self.members))
        self.register_buffer("log_weights", (weights / weights.sum()).log(), persistent=False)
        self.log_weights: Tensor

    def forward(self, **inputs: Tensor) -> Output:
        """Class scores, the logarithms of mean probabilities; each member is given what it takes."""
        logits: list[Tensor] = []
        maps: dict[str, Tensor] = {}
        temperatures = self.config.temperatures or (1.0,) * len(self.members)
        for member, settings, temperature in zip(self.members, self.config.members, temperatures, strict=True):
            assert isinstance(member, Model)
            member.return_maps = self.return_maps
            takes, own = settings.takes(), dict(inputs)
            if isinstance(takes, ClipInput):
                own = {name: own[name] for name, taken in (("video", takes.pixels), ("flow", takes.flow)) if taken}
            output: Output = member(**own)
            logits.append((output.logits / temperature).log_softmax(1))
            maps = output.maps | maps
        return Output(torch.logsumexp(torch.stack(logits) + self.log_weights[:, None, None], 0), maps)
