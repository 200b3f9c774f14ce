"""A server for trained runs: predictions and timelines over HTTP, and a page to look at them.

FastAPI and uvicorn are used here alone. Files that clients send are read in processes of their own.
"""

from muybridge.core import extras
from muybridge.serve.config import Limits, ServeConfig

__all__ = ["Limits", "ServeConfig", "check_extra"]

_PACKAGES = ("fastapi", "prometheus_client", "python_multipart", "uvicorn", "websockets")


def check_extra() -> None:
    """Raise MissingExtraError unless everything that a server needs is installed."""
    extras.check_extra("serve", *_PACKAGES, purpose="a server")
