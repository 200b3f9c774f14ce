"""Beyond one machine: many recordings labelled on Ray, which is used here alone."""

from importlib.util import find_spec

from muybridge.core.errors import MissingExtraError
from muybridge.scale.config import LabelConfig, LabelSummary

__all__ = ["LabelConfig", "LabelSummary", "check_extra"]


def check_extra() -> None:
    """Raise MissingExtraError unless Ray Data is installed."""
    for name in ("ray", "pyarrow", "pandas"):
        if find_spec(name) is None:
            raise MissingExtraError(
                f"the package {name} is not installed",
                expected="Ray Data, which spreads the work",
                hint="run pip install 'muybridge[ray]'",
            )
