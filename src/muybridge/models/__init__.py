"""One paper per file; the union of their configs says what exists."""

from typing import Annotated

from pydantic import Field

from muybridge.models.sta_lstm import STALSTMConfig

AnyModel = Annotated[STALSTMConfig, Field()]

__all__ = ["AnyModel", "STALSTMConfig"]
