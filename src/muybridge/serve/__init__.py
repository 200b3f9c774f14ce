"""A server for trained runs: predictions and timelines over HTTP, and a page to look at them.

FastAPI and uvicorn are used here alone. Files that clients send are read in processes of their own.
"""

from importlib.util import find_spec

from muybridge.core.errors import MissingExtraError
from muybridge.serve.config import Limits, ServeConfig

__all__ = ["Limits", "ServeConfig", "check_extra"]

_PACKAGES = ("fastapi", "prometheus_client", "python_multipart", "uvicorn", "websockets")


def check_extra() -> None:
    """Raise MissingExtraError unless everything that a server needs is installed."""
    for name in _PACKAGES:
        if find_spec(name) is None:
            raise MissingExtraError(
                f"the package {name} is not installed",
                expected=f"{', '.join(_PACKAGES[:-1])} and {_PACKAGES[-1]}, for a server",
                hint="run pip install 'muybridge[serve]'",
            )
