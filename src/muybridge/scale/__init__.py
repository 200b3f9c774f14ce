"""Beyond one machine: many recordings labelled on Ray, which is used here alone."""

from muybridge.core import extras
from muybridge.scale.config import LabelConfig, LabelSummary

__all__ = ["LabelConfig", "LabelSummary", "check_extra"]


def check_extra() -> None:
    """Raise MissingExtraError unless Ray Data is installed."""
    extras.check_extra("ray", "ray", "pyarrow", "pandas", purpose="labelling on Ray Data")
