"""One paper per file; the union of their configs says what exists."""

from typing import Annotated

from pydantic import Field

from muybridge.models.drnn import DRNNConfig
from muybridge.models.sta_lstm import STALSTMConfig

AnyModel = Annotated[DRNNConfig | STALSTMConfig, Field(discriminator="name")]

__all__ = ["AnyModel", "DRNNConfig", "STALSTMConfig"]
