"""Beyond one machine: many recordings labelled, and requests answered, on Ray, which is used here alone."""

import os
import sys
from pathlib import Path

from muybridge.core import extras
from muybridge.scale.config import LabelConfig, LabelSummary, ReplicaConfig

__all__ = ["LabelConfig", "LabelSummary", "ReplicaConfig", "check_extra", "check_serve_extra"]

_TOKEN = Path.home() / ".ray" / "auth_token"

if "ray" not in sys.modules and (_TOKEN.exists() or {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & {*os.environ}):
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray reads it once, at its import; other clusters do not mind


def check_extra() -> None:
    """Raise MissingExtraError unless Ray Data is installed."""
    extras.check_extra("ray", "ray", "pyarrow", "pandas", purpose="labelling on Ray Data")


def check_serve_extra() -> None:
    """Raise MissingExtraError unless Ray Serve is installed."""
    extras.check_extra("ray", "ray", "grpc_reflection", "smart_open", purpose="serving on Ray Serve")
