"""The configs of all networks, for models that are made of several."""

from typing import Annotated

from pydantic import Field

from muybridge.models.drnn import DRNNConfig
from muybridge.models.fisher_vectors import FisherVectorsConfig
from muybridge.models.selfy import SELFYConfig
from muybridge.models.sta_lstm import STALSTMConfig
from muybridge.models.tdn import TDNConfig
from muybridge.models.tsn import TSNConfig
from muybridge.models.video_lstm import VideoLSTMConfig

AnyNetwork = Annotated[
    DRNNConfig | FisherVectorsConfig | SELFYConfig | STALSTMConfig | TDNConfig | TSNConfig | VideoLSTMConfig,
    Field(discriminator="name"),
]
"""The config of any model that reads recordings by itself; pydantic chooses the class by ``name``."""
