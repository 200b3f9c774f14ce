"""One paper per package; the union of their configs lists the models.

Each package's ``__init__`` has the config, which does not import torch; ``network`` has the ``nn.Module``.
"""

from typing import Annotated

from pydantic import Field

from muybridge.models.drnn import DRNNConfig
from muybridge.models.ensemble import EnsembleConfig
from muybridge.models.fisher_vectors import FisherVectorsConfig
from muybridge.models.fused import FusedConfig
from muybridge.models.linear import LinearConfig
from muybridge.models.selfy import SELFYConfig
from muybridge.models.sta_lstm import STALSTMConfig
from muybridge.models.tdn import TDNConfig
from muybridge.models.tsn import TSNConfig
from muybridge.models.video_lstm import VideoLSTMConfig

AnyModel = Annotated[
    DRNNConfig
    | EnsembleConfig
    | FisherVectorsConfig
    | FusedConfig
    | LinearConfig
    | SELFYConfig
    | STALSTMConfig
    | TDNConfig
    | TSNConfig
    | VideoLSTMConfig,
    Field(discriminator="name"),
]
"""The config of any model; pydantic chooses the class by ``name``."""

__all__ = [
    "AnyModel",
    "DRNNConfig",
    "EnsembleConfig",
    "FisherVectorsConfig",
    "FusedConfig",
    "LinearConfig",
    "SELFYConfig",
    "STALSTMConfig",
    "TDNConfig",
    "TSNConfig",
    "VideoLSTMConfig",
]
